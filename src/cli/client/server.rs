//! Where the control plane is, and as whom it is asked: the command line, then the environment, then the context.
//! Invariant: a credential goes to the server that it is of, through TLS, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use url::Url;

use super::super::context::file::{Contexts, Entry, Files};
use super::super::{Context, UsageError};
use super::Connection;
use super::tls::{self, Pin, Trust};
use crate::config::Secret;
use crate::types::limits;

/// A server, and what it is shown.
#[derive(Debug)]
pub(in crate::cli) struct Server {
    pub(in crate::cli) place: Place,
    /// The context that says so.
    pub(in crate::cli) context: Option<String>,
    pub(in crate::cli) token: Option<Secret>,
    /// The project that is meant where none is named.
    pub(in crate::cli) project: Option<String>,
    /// By which OpenID provider whoever uses it logged in.
    pub(in crate::cli) oidc: Option<String>,
}

/// Where a server is.
#[derive(Debug)]
pub(in crate::cli) enum Place {
    /// On this host.
    Socket(PathBuf),
    /// Anywhere.
    Https { url: Url, trust: Trust },
}

impl Server {
    /// The server that this command line is about.
    pub(super) fn find(connection: &Connection, context: &Context) -> anyhow::Result<Self> {
        let environment = &context.environment;
        let token = environment.token.clone();
        if let Some(socket) = &connection.socket {
            return Ok(Self::at(Place::Socket(socket.clone())));
        }
        if let Some(name) = &connection.context {
            return Self::named(context, name, token);
        }
        if let Some(server) = &environment.server {
            let entry = Entry { server: server.clone(), ca: environment.ca.clone(), ..Entry::default() };
            return Ok(Self { token, ..Self::at(entry.place()?) });
        }
        if let Some(socket) = &environment.socket {
            return Ok(Self::at(Place::Socket(socket.clone())));
        }
        if let Some(name) = &environment.context {
            return Self::named(context, name, token);
        }
        if let Some(name) = current(context)? {
            return Self::named(context, &name, token);
        }
        let socket = environment.state_dir.as_ref().map(|dir| dir.join("api.sock"));
        let nowhere = || UsageError::new("no server is named", "debvisor login URL, or give --socket or --context");
        Ok(Self::at(Place::Socket(socket.ok_or_else(nowhere)?)))
    }

    const fn at(place: Place) -> Self {
        Self { place, context: None, token: None, project: None, oidc: None }
    }

    fn named(context: &Context, name: &str, token: Option<Secret>) -> anyhow::Result<Self> {
        let files = Files::of(context)?;
        let contexts = files.contexts()?;
        let entry = entry(&contexts, name)?;
        let token = match (token, &entry.api_key_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(secret_of(path)?),
            (None, None) => files.credentials()?.remove(name).map(|kept| Secret::new(kept.token)),
        };
        let (project, oidc) = (entry.project.clone(), entry.oidc.clone());
        Ok(Self { place: entry.place()?, context: Some(name.to_owned()), token, project, oidc })
    }

    /// As people know it.
    pub(in crate::cli) fn told(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Https { url, .. } => url.as_str().trim_end_matches('/').to_owned(),
        }
    }

    /// How somebody logs in to it.
    pub(in crate::cli) fn login(&self) -> String {
        match (&self.context, &self.oidc) {
            (Some(context), Some(provider)) => format!("debvisor login --oidc={provider} --context {context}"),
            (Some(context), None) => format!("debvisor login {} --context {context}", self.told()),
            (None, _) => format!("debvisor login {}", self.told()),
        }
    }
}

impl Entry {
    /// Where its server is, and how that is recognised.
    pub(in crate::cli) fn place(&self) -> anyhow::Result<Place> {
        if let Some(path) = self.server.strip_prefix("unix:") {
            return Ok(Place::Socket(PathBuf::from(path.strip_prefix("//").unwrap_or(path))));
        }
        let url = address(&self.server)?;
        let pins = self.pins.iter().map(|text| text.parse::<Pin>()).collect::<Result<Vec<_>, _>>();
        let pins = pins.map_err(|mistake| UsageError::new(mistake, "sha256: and 64 hex digits"))?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => {
                let message = "a client certificate and its key belong together, and one of them is missing";
                return Err(UsageError::new(message, "debvisor context set NAME --certificate FILE --key FILE").into());
            }
        };
        Ok(Place::Https { url, trust: Trust { ca: self.ca.clone(), pins, identity } })
    }
}

/// The address of a server. What is sent there is secret, so that it is https.
pub(in crate::cli) fn address(text: &str) -> anyhow::Result<Url> {
    let wrong =
        |why: String| UsageError::new(format!("{text:?} is no address of a server: {why}"), "https://HOST:PORT");
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() != "https" {
        return Err(wrong("a credential is sent through TLS only".to_owned()).into());
    }
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if url.host().is_none() || !plain || url.path() != "/" {
        return Err(wrong("it is more than a host and a port".to_owned()).into());
    }
    Ok(url)
}

/// The context with this name.
pub(in crate::cli) fn entry<'a>(contexts: &'a Contexts, name: &str) -> anyhow::Result<&'a Entry> {
    let unknown = || UsageError::new(format!("there is no context {name:?}"), "debvisor context list");
    Ok(contexts.contexts.get(name).ok_or_else(unknown)?)
}

/// The context that is used, where none is named.
pub(in crate::cli) fn current(context: &Context) -> anyhow::Result<Option<String>> {
    if context.environment.config_dir.is_none() {
        return Ok(None);
    }
    Ok(Files::of(context)?.contexts()?.current)
}

/// A secret that is alone in a file.
fn secret_of(path: &Path) -> anyhow::Result<Secret> {
    use std::os::unix::fs::MetadataExt as _;
    let told = || format!("cannot read {}", path.display());
    let found = fs::metadata(path).with_context(told)?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        let message = format!("{} may be read by others, so no key is taken from it", path.display());
        return Err(UsageError::new(message, format!("chmod 600 {}", path.display())).into());
    }
    let bytes = crate::release::artifact::read_bounded(path, limits::CONFIG_BYTES).with_context(told)?;
    let text = String::from_utf8(bytes).with_context(told)?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// A client that speaks with this server.
pub(super) fn http(place: &Place) -> anyhow::Result<reqwest::Client> {
    match place {
        Place::Socket(path) => {
            // Nobody's certificate is looked at here: a host without a store of authorities is as good as any.
            let builder = reqwest::Client::builder().unix_socket(path.as_path()).no_proxy().http1_only();
            builder.tls_certs_only([]).build().context("cannot start")
        }
        Place::Https { trust, .. } => tls::client(trust),
    }
}
