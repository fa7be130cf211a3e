//! What is known of servers: `contexts.toml` says where they are and how they are recognised, `credentials` beside it
//! what is shown to them. Both are for their owner alone, and are replaced whole or not at all.
//!
//! Invariant: no secret is in `contexts.toml`, and none is taken from a file that others may read.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::UsageError;
use crate::types::limits;

/// Every context, and which of them is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(in crate::cli) struct Contexts {
    /// The one that is used where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) current: Option<String>,
    /// By name.
    pub(in crate::cli) contexts: BTreeMap<String, Entry>,
}

/// One server, and as whom it is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(in crate::cli) struct Entry {
    /// `https://HOST:PORT`, or `unix:PATH`.
    pub(in crate::cli) server: String,
    /// The authorities that vouch for the server, in PEM; the system's where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) ca: Option<PathBuf>,
    /// The server's own public keys: `sha256:` and the digest of a SubjectPublicKeyInfo.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) pins: Vec<String>,
    /// Who logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) user: Option<String>,
    /// By which OpenID provider, where it was by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) oidc: Option<String>,
    /// A file with an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// The certificate that is shown to the server, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) key: Option<PathBuf>,
    /// The project that is meant where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) project: Option<String>,
}

/// What is shown to servers, by the name of the context.
pub(in crate::cli) type Credentials = BTreeMap<String, Kept>;

/// What is shown to one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::cli) struct Kept {
    /// A session's token or an API key.
    pub(in crate::cli) token: String,
}

/// The two files.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Those of this user.
    pub(in crate::cli) fn of(context: &super::super::Context) -> anyhow::Result<Self> {
        let folder = context.environment.config_dir.clone();
        let nowhere = || UsageError::new("there is no home to keep contexts in", "set HOME or XDG_CONFIG_HOME");
        Ok(Self { folder: folder.ok_or_else(nowhere)? })
    }

    pub(in crate::cli) fn contexts(&self) -> anyhow::Result<Contexts> {
        read(&self.folder.join("contexts.toml"), false)
    }

    pub(in crate::cli) fn credentials(&self) -> anyhow::Result<Credentials> {
        read(&self.folder.join("credentials"), true)
    }

    /// Changes both, with nobody else in between.
    pub(in crate::cli) fn change<T>(
        &self,
        change: impl FnOnce(&mut Contexts, &mut Credentials) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let folder = &self.folder;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let lock =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(folder.join("contexts.lock"));
        let lock = lock.with_context(|| format!("cannot write to {}", folder.display()))?;
        lock.lock().context("cannot lock the contexts")?;
        let (mut contexts, mut credentials) = (self.contexts()?, self.credentials()?);
        let before = (contexts.clone(), credentials.clone());
        let answer = change(&mut contexts, &mut credentials)?;
        // A credential without its context would be shown to nobody; a context without one says so when it is used.
        credentials.retain(|name, _| contexts.contexts.contains_key(name));
        if before.1 != credentials {
            write(&folder.join("credentials"), &credentials)?;
        }
        if before.0 != contexts {
            write(&folder.join("contexts.toml"), &contexts)?;
        }
        Ok(answer)
    }
}

/// Whether a context may have this name: what a shell does not turn into something else.
pub(in crate::cli) fn name_check(name: &str) -> anyhow::Result<()> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "._-@".contains(letter);
    if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.chars().all(good) {
        let hint = "1 to 64 letters, digits, dots, dashes, underscores and @";
        return Err(UsageError::new(format!("{name:?} is no name for a context"), hint).into());
    }
    Ok(())
}

fn read<T: DeserializeOwned + Default>(path: &Path, secret: bool) -> anyhow::Result<T> {
    let told = || format!("cannot read {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error).with_context(told),
    };
    let found = file.metadata().with_context(told)?;
    if secret && found.mode() & 0o077 != 0 {
        let message = format!("{} may be read by others, so nothing is taken from it", path.display());
        return Err(UsageError::new(message, format!("chmod 600 {}", path.display())).into());
    }
    let bytes = crate::release::artifact::read_bounded(path, limits::CONFIG_BYTES).with_context(told)?;
    let text = String::from_utf8(bytes).with_context(told)?;
    toml::from_str(&text).map_err(|error| {
        let line =
            text.bytes().take(error.span().map_or(0, |span| span.start)).filter(|byte| *byte == b'\n').count() + 1;
        // What stands there may be a secret, so that it is not shown.
        let what = if secret { "this is not what debvisor login writes" } else { error.message() };
        let message = format!("{}: line {line}: {what}", path.display());
        UsageError::new(message, "mend it, or remove the file and log in again").into()
    })
}

fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    let text = toml::to_string_pretty(value).with_context(told)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder).with_context(told)?;
    file.write_all(text.as_bytes()).with_context(told)?;
    file.as_file().sync_all().with_context(told)?;
    file.persist(path).with_context(told)?;
    Ok(())
}
