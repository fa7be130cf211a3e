//! `debvisor context`: which servers there are, how they are recognised, and as whom they are asked.

use std::path::PathBuf;

use super::client::print_list;
use super::client::server::entry;
use super::client::tls::Pin;
use super::{Context, Ended, Format, UsageError};

pub(super) mod file;

use file::{Contexts, Entry, Files, Kept, name_check};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the contexts; a star stands before the current one
    List {
        /// Only the names
        #[arg(long)]
        names: bool,
    },
    /// Make a context the current one
    Use {
        /// The context
        name: String,
    },
    /// Show a context; no secret is shown
    Show {
        /// The context; without it the current one
        name: Option<String>,
    },
    /// Make a context, or change what is named of one
    Set(Box<SetArgs>),
    /// Forget a context and its credential
    Delete {
        /// The context
        name: String,
    },
    /// Give a context another name
    Rename {
        /// The context
        from: String,
        /// Its new name
        to: String,
    },
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The context
    name: String,
    /// The server: https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The authorities that vouch for the server, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The server's own public key: sha256: and the digest of its SubjectPublicKeyInfo; repeatable
    #[arg(long, value_name = "PIN")]
    pin: Vec<Pin>,
    /// The file that an API key is in
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The certificate to show to the server, in PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The project that is meant where none is named
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Make it the current one
    #[arg(long = "use")]
    now: bool,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let files = Files::of(context)?;
    match args.command {
        Command::List { names: true } => files.contexts()?.contexts.keys().for_each(|name| println!("{name}")),
        Command::List { names: false } => list(&files.contexts()?, context)?,
        Command::Use { name } => files.change(|contexts, _| {
            entry(contexts, &name)?;
            contexts.current = Some(name.clone());
            Ok(())
        })?,
        Command::Show { name } => show(&files, name, context)?,
        Command::Set(args) => set(&files, *args)?,
        Command::Delete { name } => files.change(|contexts, _| {
            entry(contexts, &name)?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.take().filter(|current| *current != name);
            Ok(())
        })?,
        Command::Rename { from, to } => files.change(|contexts, credentials| {
            name_check(&to)?;
            entry(contexts, &from)?;
            if contexts.contexts.contains_key(&to) {
                let message = format!("there is a context {to:?} already");
                return Err(UsageError::new(message, "delete it first, or choose another name").into());
            }
            if let Some(entry) = contexts.contexts.remove(&from) {
                contexts.contexts.insert(to.clone(), entry);
            }
            if let Some(kept) = credentials.remove(&from) {
                credentials.insert(to.clone(), kept);
            }
            if contexts.current.as_ref() == Some(&from) {
                contexts.current = Some(to.clone());
            }
            Ok(())
        })?,
    }
    Ok(Ended::Done)
}

/// What a context says, for people and programs; no secret is in it.
#[derive(Debug, serde::Serialize)]
struct Told<'a> {
    name: &'a str,
    current: bool,
    #[serde(flatten)]
    entry: &'a Entry,
    /// As what the server is asked.
    credential: &'static str,
}

fn told<'a>(contexts: &'a Contexts, name: &'a str, entry: &'a Entry, kept: bool) -> Told<'a> {
    let credential = match (entry, kept) {
        (Entry { api_key_file: Some(_), .. }, _) => "api-key",
        (_, true) => "token",
        (Entry { certificate: Some(_), .. }, _) => "certificate",
        (Entry { server, .. }, _) if server.starts_with("unix:") => "host-user",
        _ => "none",
    };
    Told { name, current: contexts.current.as_deref() == Some(name), entry, credential }
}

fn list(contexts: &Contexts, context: &Context) -> anyhow::Result<()> {
    let files = Files::of(context)?;
    let credentials = files.credentials()?;
    let all: Vec<Told<'_>> = contexts
        .contexts
        .iter()
        .map(|(name, entry)| told(contexts, name, entry, credentials.contains_key(name)))
        .collect();
    print_list(context, &all, ["", "NAME", "SERVER", "USER", "CREDENTIAL", "PROJECT"], |told| {
        [
            if told.current { "*" } else { "" }.to_owned(),
            told.name.to_owned(),
            told.entry.server.clone(),
            told.entry.user.clone().unwrap_or_default(),
            told.credential.to_owned(),
            told.entry.project.clone().unwrap_or_default(),
        ]
    })
}

fn show(files: &Files, name: Option<String>, context: &Context) -> anyhow::Result<()> {
    let contexts = files.contexts()?;
    let none = || UsageError::new("there is no current context", "debvisor login URL, or debvisor context use NAME");
    let name = name.or_else(|| contexts.current.clone()).ok_or_else(none)?;
    let entry = entry(&contexts, &name)?;
    let told = told(&contexts, &name, entry, files.credentials()?.contains_key(&name));
    if context.format != Format::Text {
        return super::client::print_json(&told);
    }
    let line = |what: &str, value: &str| {
        if !value.is_empty() {
            println!("{what:12} {value}");
        }
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    line("name", &name);
    line("current", if told.current { "yes" } else { "no" });
    line("server", &entry.server);
    line("ca", &path(&entry.ca));
    entry.pins.iter().for_each(|pin| line("pin", pin));
    line("user", entry.user.as_deref().unwrap_or_default());
    line("oidc", entry.oidc.as_deref().unwrap_or_default());
    line("credential", told.credential);
    line("api key", &path(&entry.api_key_file));
    line("certificate", &path(&entry.certificate));
    line("key", &path(&entry.key));
    line("project", entry.project.as_deref().unwrap_or_default());
    Ok(())
}

fn set(files: &Files, args: SetArgs) -> anyhow::Result<()> {
    name_check(&args.name)?;
    let whole = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
    let (ca, api_key_file) = (whole(args.ca)?, whole(args.api_key_file)?);
    let (certificate, key) = (whole(args.certificate)?, whole(args.key)?);
    files.change(|contexts, credentials| {
        let mut entry = contexts.contexts.get(&args.name).cloned().unwrap_or_default();
        if let Some(server) = args.server {
            if entry.server != server {
                // What one server was shown is not shown to another, nor is one recognised as the other.
                credentials.remove(&args.name);
                (entry.ca, entry.pins, entry.user, entry.oidc) = (None, Vec::new(), None, None);
            }
            entry.server = server;
        }
        if entry.server.is_empty() {
            return Err(UsageError::new("a new context needs a server", "--server https://HOST:PORT").into());
        }
        if !args.pin.is_empty() {
            entry.pins = args.pin.iter().map(ToString::to_string).collect();
        }
        entry.ca = ca.or(entry.ca);
        entry.api_key_file = api_key_file.or(entry.api_key_file);
        entry.certificate = certificate.or(entry.certificate);
        entry.key = key.or(entry.key);
        entry.project = args.project.or(entry.project);
        entry.place()?;
        contexts.contexts.insert(args.name.clone(), entry);
        if args.now || contexts.current.is_none() {
            contexts.current = Some(args.name.clone());
        }
        Ok(())
    })
}

/// Keeps who logged in, where; it becomes the current context.
pub(super) fn keep(files: &Files, name: &str, entry: Entry, token: Option<String>) -> anyhow::Result<()> {
    files.change(|contexts, credentials| {
        contexts.contexts.insert(name.to_owned(), entry);
        contexts.current = Some(name.to_owned());
        match token {
            Some(token) => credentials.insert(name.to_owned(), Kept { token }),
            None => credentials.remove(name),
        };
        Ok(())
    })
}
