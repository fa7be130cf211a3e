//! Every key of the configuration, with its form, its default and its meaning: what a file may say, what the
//! environment may say instead, and what docs/reference/configuration.md tells.
//!
//! A key that is not here does not exist: whoever adds a field to [`super::ServerConfig`] adds its row, with its default.
//! What is not of a plain form, as a list of tables, is one row of the form [`Form::Section`]; its field is left to serde,
//! with `#[serde(default)]` where it may be missing.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its place, as `listen.client-ca`.
    pub path: &'static str,
    /// Its form.
    pub form: Form,
    /// What holds where nobody says anything, as it is written; empty where nothing does.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text that is not empty.
    Text,
    /// A text that nobody is shown.
    Secret,
    /// Texts that are not empty.
    Texts,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, from and to.
    Number(i64, i64),
    /// An address and a port.
    Address,
    /// Addresses and networks, as `192.0.2.0/24`.
    Networks,
    /// An address of the web.
    Url,
    /// A filter of the log, as `tracing` writes it.
    Filter,
    /// A file that can be read.
    File,
    /// A file that can be read, and that nobody else can.
    PrivateFile,
    /// A program.
    Program,
    /// A table, or a list of them, whose form its own type knows.
    Section,
    /// A table that another room reads, with its own faults.
    Elsewhere,
}

use Form::*;

/// Every key, by its place.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    Key { path: "admission", form: Elsewhere, default: "", meaning: "who may vouch for what boots: [admission.md](admission.md)" },
    Key { path: "hypervisor.accelerator", form: Choice(&["auto", "kvm", "tcg"]), default: "auto", meaning: "KVM where a kernel has really booted with it, else TCG; or one of them" },
    Key { path: "hypervisor.boot-id", form: Text, default: "", meaning: "what stands for the host's boot identity; for tests" },
    Key { path: "hypervisor.kind", form: Choice(&["qemu", "simulated"]), default: "qemu", meaning: "what runs machines; `simulated` runs nothing, for tests" },
    Key { path: "hypervisor.program", form: Program, default: "", meaning: "QEMU, where it is not at its usual place" },
    Key { path: "keys.longest-days", form: Number(1, 90), default: "90", meaning: "days that an API key lasts at most" },
    Key { path: "limits.logins-per-minute-per-address", form: Number(1, 1_000_000), default: "10", meaning: "logins from one address, in any minute" },
    Key { path: "limits.requests-per-second-per-address", form: Number(1, 1_000_000), default: "100", meaning: "requests from one address, in any second" },
    Key { path: "limits.requests-per-second-per-user", form: Number(1, 1_000_000), default: "100", meaning: "requests of one user, with their keys, in any second" },
    Key { path: "listen.address", form: Address, default: "", meaning: "an address and port at which the interface listens besides its socket, over TLS 1.3" },
    Key { path: "listen.certificate", form: File, default: "", meaning: "the certificate and those above it, in PEM; without it one of an authority of its own" },
    Key { path: "listen.client-ca", form: File, default: "", meaning: "who vouches for the certificates of services, in PEM" },
    Key { path: "listen.connections", form: Number(1, 1_000_000), default: "4096", meaning: "connections at once" },
    Key { path: "listen.connections-per-address", form: Number(1, 1_000_000), default: "512", meaning: "connections at once of one address; of IPv6 a network of 64 bits is one" },
    Key { path: "listen.key", form: PrivateFile, default: "", meaning: "the certificate's key, in PEM" },
    Key { path: "listen.names", form: Texts, default: "[]", meaning: "names and addresses that the certificate of its own authority is for, besides those of the host" },
    Key { path: "log.filter", form: Filter, default: "warn", meaning: "what is logged: `info`, `warn,debvisor=debug`" },
    Key { path: "log.format", form: Choice(&["text", "json"]), default: "text", meaning: "a line for people, or a JSON object a line" },
    Key { path: "metrics.allow", form: Networks, default: "[]", meaning: "addresses that may read `/metrics` without a credential" },
    Key { path: "node", form: Text, default: "", meaning: "the node's name; the host's where none is given" },
    Key { path: "oidc", form: Section, default: "", meaning: "OpenID providers by which people log in: [keys.md](../how-to/keys.md)" },
    Key { path: "registries.allowed", form: Texts, default: "[]", meaning: "registries, as `registry.example:5000`, that questions about container images may lead to: [kubernetes.md](../how-to/kubernetes.md)" },
    Key { path: "server.drain-seconds", form: Number(0, 600), default: "30", meaning: "how long requests that are under way are waited for at the end" },
    Key { path: "server.least-disk-mib", form: Number(0, 1_000_000_000), default: "256", meaning: "with less space than this in the state directory it is not ready" },
    Key { path: "telemetry.otlp-endpoint", form: Url, default: "", meaning: "where traces go, by OTLP over HTTP: `http://collector:4318/v1/traces`" },
    Key { path: "telemetry.service-name", form: Text, default: "debvisor", meaning: "the name of this service in traces" },
];

impl Form {
    /// The form in words.
    pub fn told(self) -> String {
        match self {
            Text => "text".to_owned(),
            Secret => "text, never shown".to_owned(),
            Texts => "list of texts".to_owned(),
            Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Number(least, most) => format!("{least} to {most}"),
            Address => "address and port".to_owned(),
            Networks => "list of addresses and networks".to_owned(),
            Url => "address of HTTP".to_owned(),
            Filter => "filter".to_owned(),
            File => "file".to_owned(),
            PrivateFile => "file that others may not read".to_owned(),
            Program => "program".to_owned(),
            Section | Elsewhere => "table".to_owned(),
        }
    }
}

impl Key {
    /// The variable of the environment that says it instead.
    pub fn variable(&self) -> Option<String> {
        match (self.path, self.form) {
            (_, Section | Elsewhere) => None,
            ("listen.address", _) => Some("DEBVISOR_LISTEN".to_owned()),
            ("log.filter", _) => Some("DEBVISOR_LOG".to_owned()),
            (path, _) => Some(format!("DEBVISOR_{}", path.replace(['.', '-'], "_").to_uppercase())),
        }
    }
}

/// The known word that is nearest to this one, where one is near.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|other| (distance(word, other), other)).min_by_key(|(distance, _)| *distance)?;
    (near.0 <= 1 + word.chars().count() / 4).then_some(near.1)
}

/// How many letters must be put in, taken out or exchanged (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut next = vec![at + 1];
        for ((above, before), against) in row.iter().skip(1).zip(&row).zip(&other) {
            let left = next.last().copied().unwrap_or(0);
            next.push((before + usize::from(letter != *against)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_order_and_once_with_variables_of_their_own() {
        assert!(KEYS.windows(2).all(|pair| pair[0].path < pair[1].path));
        let variables: std::collections::BTreeSet<String> = KEYS.iter().filter_map(Key::variable).collect();
        assert_eq!(variables.len(), KEYS.iter().filter(|key| !matches!(key.form, Section | Elsewhere)).count());
    }

    #[test]
    fn a_word_that_is_nearly_right_is_recognised_and_one_that_is_not_is_not() {
        let known = || KEYS.iter().map(|key| key.path);
        assert_eq!(nearest("listen.adress", known()), Some("listen.address"));
        assert_eq!(nearest("lisen.client_ca", known()), Some("listen.client-ca"));
        assert_eq!(nearest("colour", known()), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("same", "same")), (3, 3, 0));
    }
}
