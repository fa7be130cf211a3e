//! A configuration's text, the environment and the flags in; what holds, with where each value comes from, out, or
//! every fault of it at once, each with its file, line and key.
//! Invariant: nothing is opened but the files that the configuration names, and those only to see that they can be.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize as _, Serialize};
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::keys::{Form, KEYS, Key, nearest};
use super::{OidcConfig, ServerConfig};

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, the variable or the flag that says it.
    pub place: String,
    /// The line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Which key, as `listen.address`; empty where the text is no TOML.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// This line of the file.
    File(usize),
    /// This variable of the environment.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

/// One key, and what holds.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its value; none where nobody said anything and there is no default.
    pub value: Option<Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Setting {
    /// The value as a file would say it; what is secret is not shown.
    pub fn shown(&self) -> String {
        match &self.value {
            Some(_) if self.key.form == Form::Secret => "(set, and not shown)".to_owned(),
            Some(Value::String(text)) if self.key.form == Form::Url => {
                Value::String(without_password(text)).to_string()
            }
            Some(Value::Array(items)) => {
                format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }
}

fn without_password(address: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else { return address.to_owned() };
    if url.password().is_none() || url.set_password(Some("hidden")).is_err() {
        return address.to_owned();
    }
    url.to_string()
}

/// What holds.
#[derive(Debug)]
pub struct Effective {
    /// As it is used.
    pub config: ServerConfig,
    /// Key by key.
    pub settings: Vec<Setting>,
}

/// A value of a flag, which outweighs the environment, which outweighs the file.
pub type Flag = (&'static str, &'static str, String);

/// Reads the file, if there is one, and what is said over it.
///
/// # Errors
/// Every fault, those of the file in the order of its lines.
pub fn read(
    file: Option<(&Path, &str)>,
    environment: &BTreeMap<&'static str, String>,
    flags: &[Flag],
) -> Result<Effective, Vec<Fault>> {
    let mut reader = Reader::default();
    if let Some((path, text)) = file {
        reader.file(path, text);
    }
    for (path, said) in environment {
        if let Some(key) = key(path)
            && let Some(variable) = key.variable()
        {
            reader.said(key, said, &variable.clone(), Source::Environment(variable));
        }
    }
    for (path, flag, said) in flags {
        if let Some(key) = key(path) {
            reader.said(key, said, flag, Source::Flag(flag));
        }
    }
    reader.together();
    reader.end()
}

#[derive(Default)]
struct Reader {
    /// How faults name the file.
    name: String,
    found: BTreeMap<&'static str, (Value, Source)>,
    faults: Vec<Fault>,
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str) {
        self.name = path.display().to_string();
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            let fault = Fault {
                place: self.name.clone(),
                line: Some(line),
                key: String::new(),
                message: error.message().to_owned(),
                hint: None,
            };
            self.faults.push(fault);
        }
        self.table(document.get_ref(), "", &At { text, folder });
        self.faults.sort_by_key(|fault| fault.line);
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str, at: &At<'_>) {
        for (name, value) in table {
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let line = line_of(at.text, name.span().start);
            match (key(&path), value.get_ref()) {
                (Some(key), _) if key.form == Form::Elsewhere => {}
                (Some(key), DeValue::Array(items)) if key.form == Form::Section => {
                    let wrong: Vec<(usize, String)> =
                        items.iter().filter_map(|item| fault_of(key, item, at.text)).collect();
                    for (line, message) in wrong {
                        self.fault(Some(line), key.path, message, None);
                    }
                    let outcome = plain(value.get_ref());
                    self.keep(key, outcome, Some(line), &self.name.clone(), Source::File(line));
                }
                (Some(key), value) => {
                    let outcome = plain(value).and_then(|value| checked(key.form, value, at.folder));
                    self.keep(key, outcome, Some(line), &self.name.clone(), Source::File(line));
                }
                (None, DeValue::Table(inner)) if is_table(&path) => self.table(inner, &path, at),
                (None, _) if is_table(&path) => {
                    self.fault(Some(line), &path, "this is a table".to_owned(), Some(format!("write [{path}]")));
                }
                (None, _) => {
                    // Among its neighbours first: a table's name may be right.
                    let beside = KEYS.iter().map(|key| key.path).filter(|other| other.starts_with(prefix));
                    let near = nearest(&path, beside).or_else(|| nearest(&path, tables()));
                    let hint = near.map(|near| format!("is `{near}` meant?"));
                    self.fault(Some(line), &path, "there is no such key".to_owned(), hint);
                }
            }
        }
    }

    fn said(&mut self, key: &'static Key, said: &str, place: &str, source: Source) {
        let value = match key.form {
            Form::Number(..) => said.trim().parse().map(Value::Integer).map_err(|_| not("a whole number")),
            Form::Texts | Form::Networks => {
                let words = said.split(',').map(str::trim).filter(|word| !word.is_empty());
                Ok(Value::Array(words.map(|word| Value::String(word.to_owned())).collect()))
            }
            _ => Ok(Value::String(said.to_owned())),
        };
        let here = std::path::absolute(".").unwrap_or_default();
        let outcome = value.and_then(|value| checked(key.form, value, &here));
        self.keep(key, outcome, None, place, source);
    }

    fn keep(
        &mut self,
        key: &'static Key,
        outcome: Result<Value, Wrong>,
        line: Option<usize>,
        place: &str,
        source: Source,
    ) {
        match outcome {
            Ok(value) => {
                self.found.insert(key.path, (value, source));
            }
            Err((message, hint)) => {
                let (place, path) = (place.to_owned(), key.path.to_owned());
                self.faults.push(Fault { place, line, key: path, message, hint });
            }
        }
    }

    /// What holds between keys.
    fn together(&mut self) {
        for (one, other) in [("listen.certificate", "listen.key"), ("listen.key", "listen.certificate")] {
            let named = |path: &str| self.found.contains_key(path) || self.faults.iter().any(|fault| fault.key == path);
            if named(one) && !named(other) {
                let line = match self.found.get(one) {
                    Some((_, Source::File(line))) => Some(*line),
                    _ => None,
                };
                let hint = Some(format!("name `{other}` too, or neither"));
                self.fault(line, one, format!("it is of no use without `{other}`"), hint);
            }
        }
    }

    fn fault(&mut self, line: Option<usize>, key: &str, message: String, hint: Option<String>) {
        let place = if line.is_some() { self.name.clone() } else { "the configuration".to_owned() };
        self.faults.push(Fault { place, line, key: key.to_owned(), message, hint });
    }

    fn end(mut self) -> Result<Effective, Vec<Fault>> {
        let mut tree = toml::Table::new();
        let mut settings = Vec::new();
        for key in KEYS.iter().filter(|key| key.form != Form::Elsewhere) {
            let (value, source) = match self.found.remove(key.path) {
                Some((value, source)) => (Some(value), source),
                None => (default(key), Source::Default),
            };
            if let Some(value) = &value {
                plant(&mut tree, key.path, value.clone());
            }
            settings.push(Setting { key, value, source });
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        match ServerConfig::deserialize(Value::Table(tree)) {
            Ok(config) => Ok(Effective { config, settings }),
            // A section's own type says what is wrong with it.
            Err(error) => {
                let section = settings.iter().find_map(|setting| match (setting.key.form, &setting.source) {
                    (Form::Section, Source::File(line)) => Some((setting.key.path, *line)),
                    _ => None,
                });
                let (path, line) = section.map_or(("", None), |(path, line)| (path, Some(line)));
                self.fault(line, path, error.to_string().trim().to_owned(), None);
                Err(self.faults)
            }
        }
    }
}

/// Where the text is, and what names in it are relative to.
struct At<'a> {
    text: &'a str,
    folder: &'a Path,
}

/// What is wrong with a value, and what would be right.
type Wrong = (String, Option<String>);

fn not(what: &str) -> Wrong {
    (format!("this is not {what}"), None)
}

fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The tables that keys are in.
fn tables() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|key| key.path.rsplit_once('.')).map(|(table, _)| table)
}

fn is_table(path: &str) -> bool {
    tables().any(|table| table == path || table.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// What is wrong with one of a list of tables, and in which line: its own type says so.
fn fault_of(key: &Key, item: &Spanned<DeValue<'_>>, text: &str) -> Option<(usize, String)> {
    let read = ValueDeserializer::from(item.clone());
    let error = match key.path {
        "oidc" => OidcConfig::deserialize(read).err()?,
        _ => return None,
    };
    let at = error.span().unwrap_or_else(|| item.span()).start;
    Some((line_of(text, at), error.message().to_owned()))
}

/// A value without its places.
fn plain(value: &DeValue<'_>) -> Result<Value, Wrong> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.map_err(|_| not("a number that fits"))?)
        }
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| plain(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(name, value)| Ok((name.get_ref().to_string(), plain(value.get_ref())?)))
                .collect::<Result<_, Wrong>>()?,
        ),
        DeValue::Float(_) | DeValue::Datetime(_) => return Err(not("a value of this key's form")),
    })
}

/// The value, where it is of the form; names of files are made absolute.
fn checked(form: Form, value: Value, folder: &Path) -> Result<Value, Wrong> {
    let text = |what: &str| match &value {
        Value::String(text) if text.is_empty() => Err(("it is empty".to_owned(), Some("leave the key out".to_owned()))),
        Value::String(text) if text.len() > 4096 || text.chars().any(char::is_control) => Err(not(what)),
        Value::String(text) => Ok(text.clone()),
        _ => Err((format!("this is not {what}"), Some("write it in quotes".to_owned()))),
    };
    match form {
        Form::Section | Form::Elsewhere => {}
        Form::Text | Form::Secret => {
            text("a text")?;
        }
        Form::Choice(words) => {
            let said = text("a word")?;
            if !words.contains(&said.as_str()) {
                let near = nearest(&said, words.iter().copied());
                let hint = near.map_or_else(|| words.join(", "), |near| format!("is `{near}` meant?"));
                return Err((format!("{said:?} is none of the words that it may be"), Some(hint)));
            }
        }
        Form::Number(least, most) => match value {
            Value::Integer(number) if (least..=most).contains(&number) => {}
            Value::Integer(number) => {
                return Err((format!("{number} is out of range"), Some(format!("from {least} to {most}"))));
            }
            _ => return Err((not("a whole number").0, Some(format!("from {least} to {most}")))),
        },
        Form::Address => {
            let said = text("an address")?;
            let hint = || Some("write it as 127.0.0.1:8443 or [::1]:8443".to_owned());
            said.parse::<SocketAddr>().map_err(|_| (format!("{said:?} is not an address and a port"), hint()))?;
        }
        Form::Url => {
            let said = text("an address of the web")?;
            let hint = || Some("write it as http://HOST:PORT/PATH".to_owned());
            let url = url::Url::parse(&said).map_err(|error| (format!("{said:?}: {error}"), hint()))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err((format!("{said:?} is no address of HTTP"), hint()));
            }
        }
        Form::Filter => {
            let said = text("a filter")?;
            tracing_subscriber::EnvFilter::try_new(&said)
                .map_err(|error| (format!("{said:?}: {error}"), Some("write it as warn,debvisor=info".to_owned())))?;
        }
        Form::Texts => {
            each(&value, |said| Some(Value::String(said.to_owned())), "a list of texts", "[\"one\", \"another\"]")?;
        }
        Form::Networks => {
            let network = |said: &str| Some(Value::String(network(said)?.to_string()));
            return each(&value, network, "a list of addresses and networks", "[\"192.0.2.1\", \"192.0.2.0/24\"]");
        }
        Form::File | Form::PrivateFile | Form::Program => {
            let path = folder.join(text("the name of a file")?);
            readable(&path, form == Form::PrivateFile)?;
            return Ok(Value::String(path.display().to_string()));
        }
    }
    Ok(value)
}

fn each(value: &Value, of: impl Fn(&str) -> Option<Value>, what: &str, example: &str) -> Result<Value, Wrong> {
    let wrong = |message: String| (message, Some(format!("write it as {example}")));
    let Value::Array(items) = value else { return Err(wrong(not(what).0)) };
    let one = |item: &Value| {
        let said = item.as_str().filter(|said| !said.is_empty());
        said.and_then(&of).ok_or_else(|| wrong(format!("{item} does not belong into {what}")))
    };
    items.iter().map(one).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// A network, or an address alone.
fn network(said: &str) -> Option<IpNet> {
    said.parse().ok().or_else(|| said.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether the file can be read; and, where it is private, by nobody else.
fn readable(path: &Path, private: bool) -> Result<(), Wrong> {
    let name = path.display();
    let file = File::open(path).map_err(|error| (format!("cannot read {name}: {error}"), None))?;
    let found = file.metadata().map_err(|error| (format!("cannot read {name}: {error}"), None))?;
    if !found.is_file() {
        return Err((format!("{name} is not a file"), None));
    }
    let mode = found.permissions().mode() & 0o777;
    if private && mode & 0o027 != 0 {
        return Err((
            format!("{name} has the mode {mode:03o}: others may read or change it"),
            Some(format!("chmod 600 {name}")),
        ));
    }
    Ok(())
}

fn default(key: &Key) -> Option<Value> {
    match key.form {
        _ if key.default.is_empty() => None,
        Form::Number(..) => key.default.parse().ok().map(Value::Integer),
        Form::Texts | Form::Networks => Some(Value::Array(Vec::new())),
        _ => Some(Value::String(key.default.to_owned())),
    }
}

/// Puts the value at its place in the tree.
fn plant(tree: &mut toml::Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            tree.insert(path.to_owned(), value);
        }
        Some((table, rest)) => {
            let inner = tree.entry(table).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(inner) = inner {
                plant(inner, rest, value);
            }
        }
    }
}

/// Where the configuration of a state directory is, when nobody names another.
pub fn usual(state: &Path) -> PathBuf {
    state.join("debvisor.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let file = Path::new("/nowhere/debvisor.toml");
        let read = read(Some((file, text)), &BTreeMap::new(), &[]);
        read.map(|_| Vec::new()).unwrap_or_else(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_fault_is_told_at_once_each_with_its_line() {
        let told = faults(
            "nod = \"x\"\n[listen]\naddress = 8443\nconnections = 0\nadress = \"x\"\nkey = \"gone\"\n\
             [log]\nformat = \"jsn\"\nfilter = \"a=b=c\"\n[metrics]\nallow = [\"10.0.0.0/99\"]\n\
             [telemetry]\notlp-endpoint = \"ftp://x\"\n[servr]\ndrain-seconds = 3\n",
        );
        for (line, key, says) in [
            (1, "nod", "`node`"),
            (3, "listen.address", "quotes"),
            (4, "listen.connections", "from 1 to"),
            (5, "listen.adress", "`listen.address`"),
            (6, "listen.key", "cannot read /nowhere/gone"),
            (8, "log.format", "`json`"),
            (9, "log.filter", "warn,debvisor=info"),
            (11, "metrics.allow", "10.0.0.0/99"),
            (13, "telemetry.otlp-endpoint", "http://"),
            (14, "servr", "`server`"),
        ] {
            let at = format!("/nowhere/debvisor.toml:{line}: {key}: ");
            assert!(told.iter().any(|fault| fault.starts_with(&at) && fault.contains(says)), "{at} {told:#?}");
        }
        // And a key without its certificate.
        assert!(told.iter().any(|fault| fault.contains("without `listen.certificate`")), "{told:#?}");
        assert_eq!(told.len(), 11, "{told:#?}");
    }

    #[test]
    fn each_fault_of_a_list_of_tables_is_told_with_the_line_of_its_own() {
        let table = |name: &str, more: &str| {
            format!(
                "[[oidc]]\nname = \"{name}\"\nissuer = \"https://id.example\"\nclient-id = \"d\"\n\
                 redirect-url = \"https://d.example/v1/oidc/{name}/callback\"\n{more}\n"
            )
        };
        let text = [
            table("good", "roles = { ops = \"night-watch\", staff = \"viewer\" }"),
            table("one", "roles = { ops = \"Night Watch\" }"),
            table("other", "scope = [\"email\"]"),
        ]
        .concat();
        let told = faults(&text);
        assert!(
            told[0].starts_with("/nowhere/debvisor.toml:12: oidc: \"Night Watch\" is no name for a role"),
            "{told:?}"
        );
        assert!(told[1].starts_with("/nowhere/debvisor.toml:18: oidc: ") && told[1].contains("`scope`"), "{told:?}");
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line_beside_the_other_faults() {
        let told = faults("node = \"a\"\nnode = \"b\"\n[listen]\nconnections = 0\n");
        assert!(told.iter().any(|fault| fault.starts_with("/nowhere/debvisor.toml:2: ")), "{told:?}");
        assert!(told.iter().any(|fault| fault.contains(":4: listen.connections")), "{told:?}");
    }

    #[test]
    fn a_flag_outweighs_the_environment_and_the_environment_the_file() {
        let text = "[server]\ndrain-seconds = 3\n[listen]\nconnections = 7\naddress = \"127.0.0.1:1\"\n";
        let environment = [
            ("listen.connections", "8".to_owned()),
            ("listen.address", "127.0.0.1:2".to_owned()),
            ("metrics.allow", "10.0.0.1, 2001:db8::/32".to_owned()),
        ];
        let flags = [("listen.address", "--listen", "127.0.0.1:3".to_owned())];
        let read = read(Some((Path::new("/x"), text)), &environment.into(), &flags).unwrap();
        let config = &read.config;
        assert_eq!((config.server.drain_seconds, config.listen.connections), (3, 8));
        assert_eq!(config.listen.address.unwrap().port(), 3);
        assert_eq!(
            config.metrics.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1/32", "2001:db8::/32"]
        );
        let of = |path: &str| read.settings.iter().find(|setting| setting.key.path == path).unwrap();
        assert_eq!(of("server.drain-seconds").source, Source::File(2));
        assert_eq!(of("listen.connections").source, Source::Environment("DEBVISOR_LISTEN_CONNECTIONS".to_owned()));
        assert_eq!(of("listen.address").source, Source::Flag("--listen"));
        assert_eq!((&of("log.format").source, of("log.format").shown()), (&Source::Default, "\"text\"".to_owned()));
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let text = "[telemetry]\notlp-endpoint = \"https://me:hunter2@collector:4318/v1/traces\"\n";
        let read = read(Some((Path::new("/x"), text)), &BTreeMap::new(), &[]).unwrap();
        let of = |path: &str| read.settings.iter().find(|setting| setting.key.path == path).unwrap();
        let shown = of("telemetry.otlp-endpoint").shown();
        assert!(shown.contains("collector:4318") && !shown.contains("hunter2"), "{shown}");
        const KEY: Key = Key { path: "x.password", form: Form::Secret, default: "", meaning: "" };
        let secret = Setting { key: &KEY, value: Some(Value::String("hunter2".to_owned())), source: Source::Default };
        assert!(!secret.shown().contains("hunter2"));
        // Only who uses it sees it.
        assert_eq!(read.config.telemetry.otlp_endpoint.as_deref(), Some("https://me:hunter2@collector:4318/v1/traces"));
    }

    #[test]
    fn a_fault_of_a_variable_names_the_variable() {
        let environment = [("listen.connections", "many".to_owned())];
        let faults = read(None, &environment.into(), &[]).unwrap_err();
        assert!(faults[0].to_string().starts_with("DEBVISOR_LISTEN_CONNECTIONS: listen.connections: "), "{faults:?}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_and_one_of_the_group_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["server.crt", "server.key"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let text = "[listen]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n";
        let read = |mode: u32| {
            let key = dir.path().join("server.key");
            std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
            read(Some((&dir.path().join("debvisor.toml"), text)), &BTreeMap::new(), &[])
        };
        for mode in [0o644, 0o604, 0o660] {
            let faults = read(mode).unwrap_err();
            assert!(faults[0].message.contains(&format!("{mode:03o}")) && faults[0].line == Some(3), "{faults:?}");
        }
        let config = read(0o640).unwrap().config;
        assert_eq!(config.listen.key, Some(dir.path().join("server.key")));
    }

    #[test]
    fn what_nobody_said_is_as_the_table_says() {
        let read = read(None, &BTreeMap::new(), &[]).unwrap();
        assert_eq!(read.config.server.drain_seconds, 30);
        assert_eq!(read.settings.len(), KEYS.iter().filter(|key| key.form != Form::Elsewhere).count());
    }
}
