//! A TUF repository, over HTTP or in a directory: the name of a file in, its bytes out.
//! Never a judgment: signatures, versions and lengths are checked by `release::trust::tuf`. A reader stops one byte past
//! the bound it is given, so that whoever judges sees that there was more, and no mirror can fill the memory.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use reqwest::StatusCode;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, Repository, Result};
use url::Url;

/// Where a TUF repository is read from. Opening one does nothing but parse; no socket is opened before a fetch.
#[derive(Debug, Clone)]
pub enum Mirror {
    /// An HTTP server: metadata at the base, targets below `targets/`. Plain HTTP is sound, as TUF signs everything.
    Http {
        /// Ends in a slash.
        base: Url,
        /// The client.
        client: reqwest::Client,
    },
    /// A directory of the same layout, or with the metadata in `metadata/`, as python-tuf writes it.
    Directory {
        /// Where the metadata is.
        metadata: PathBuf,
        /// Where the targets are.
        targets: PathBuf,
    },
}

/// Why a text names no repository.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A URL of another scheme than http and https.
    #[error("`{0}` is neither a directory nor an http or https URL")]
    Scheme(String),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

impl Mirror {
    /// A URL where the text has the form of one, else a directory.
    ///
    /// # Errors
    /// [`MirrorError`]; a directory that is not there shows at the first fetch.
    pub fn open(text: &str) -> std::result::Result<Self, MirrorError> {
        if !text.contains("://") {
            return Ok(Self::directory(Path::new(text)));
        }
        let scheme = || MirrorError::Scheme(text.to_owned());
        let mut base = Url::parse(text).map_err(|_| scheme())?;
        match base.scheme() {
            "http" | "https" => {}
            "file" => return base.to_file_path().map(|path| Self::directory(&path)).map_err(|()| scheme()),
            _ => return Err(scheme()),
        }
        // Without it the last segment would be taken for a file and be replaced by what is joined.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self::Http { base, client: super::http()? })
    }

    fn directory(root: &Path) -> Self {
        let metadata = root.join("metadata");
        let metadata = if metadata.is_dir() { metadata } else { root.to_owned() };
        Self::Directory { metadata, targets: root.join("targets") }
    }

    /// Whether reading it opens a socket.
    pub const fn needs_network(&self) -> bool {
        matches!(self, Self::Http { .. })
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            match self {
                Self::Http { base, client } => get(client, base, name, max_length).await,
                Self::Directory { metadata, .. } => read(metadata, name, max_length),
            }
        })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            match self {
                Self::Http { base, client } => get(client, base, &format!("targets/{path}"), max_length).await,
                Self::Directory { targets, .. } => read(targets, path, max_length),
            }
        })
    }
}

/// Names come out of metadata, so a mirror could try to lead a reader elsewhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

async fn get(client: &reqwest::Client, base: &Url, name: &str, max_length: u64) -> Result<Option<Vec<u8>>> {
    let url = base.join(name).ok().filter(|url| is_plain(name) && url.as_str().starts_with(base.as_str()));
    let url = url.ok_or_else(|| Error::transport(format!("`{name}` leads out of the repository")))?;
    let failed = |error: reqwest::Error| Error::transport_with_source(format!("GET {url}"), error.without_url());
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    match response.status() {
        // Object stores answer 403 for what is not there.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Ok(None),
        status if !status.is_success() => return Err(Error::transport(format!("GET {url}: {status}"))),
        _ => {}
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        let room = max_length.saturating_add(1).saturating_sub(bytes.len() as u64);
        bytes.extend(chunk.iter().take(usize::try_from(room).unwrap_or(usize::MAX)));
        if bytes.len() as u64 > max_length {
            break;
        }
    }
    Ok(Some(bytes))
}

fn read(directory: &Path, name: &str, max_length: u64) -> Result<Option<Vec<u8>>> {
    if !is_plain(name) {
        return Err(Error::transport(format!("`{name}` leads out of the repository")));
    }
    let path = directory.join(name);
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    // Looked at before it is opened: opening a pipe would wait for its writer.
    match path.metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(Error::transport(format!("{} is no regular file", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(max_length.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(Some(bytes))
}
