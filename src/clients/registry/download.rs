//! A layer on its way to a file: as long as it may be, in as many parts as the connection breaks into, and moved into
//! its place only when its digest is the one that was asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, SHA384, SHA512};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};

use super::auth::Access;
use super::exchange::Ask;
use super::{RegistryError, Repository};
use crate::types::{Digest, DigestAlgorithm, limits};

/// Connections that one blob may take in one run.
const CONNECTIONS: u32 = 20;

impl Repository {
    /// Fetches a blob of `size` bytes into a file. What an earlier run left in `PATH.part` is gone on from; a file that
    /// is there with the right digest is kept. Returns how many bytes came over the wire.
    ///
    /// # Errors
    /// [`RegistryError`]; what has come so far stays in `PATH.part`, unless it is not what was asked for.
    pub async fn download(&self, digest: &Digest, size: u64, path: &Path) -> Result<u64, RegistryError> {
        let what = self.what(&digest.to_string());
        if size > limits::IMAGE_BLOB_BYTES {
            return Err(RegistryError::TooLarge { what, limit: limits::IMAGE_BLOB_BYTES });
        }
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |cause| RegistryError::Disk { path: path.clone(), cause }
        };
        if path.is_file() {
            let mut seen = Seen::new(digest.algorithm());
            seen.read(&mut File::open(path).map_err(disk(path))?).map_err(disk(path))?;
            if seen.finish(digest.algorithm()).as_ref() == Some(digest) {
                return Ok(0);
            }
        }
        let part = part_of(path);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part);
        let file = file.as_mut().map_err(|error| RegistryError::Disk { path: part.clone(), cause: kind(error) })?;
        let mut seen = Seen::new(digest.algorithm());
        seen.read(file).map_err(disk(&part))?;
        if seen.bytes > size {
            seen = start_over(file, digest.algorithm()).map_err(disk(&part))?;
        }
        let mut came = 0;
        let mut connections = 0;
        while seen.bytes < size {
            let before = seen.bytes;
            connections += 1;
            match self.more(&what, digest, size, file, &mut seen, &part).await {
                // One that brings nothing will bring nothing the next time.
                Err(error @ RegistryError::Unreachable { .. })
                    if seen.bytes <= before || connections >= CONNECTIONS =>
                {
                    return Err(error);
                }
                Ok(()) if seen.bytes < size && connections >= CONNECTIONS => {
                    return Err(RegistryError::Malformed {
                        what,
                        message: "it gives other parts than asked".to_owned(),
                    });
                }
                Ok(()) | Err(RegistryError::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
            came += seen.bytes.saturating_sub(before);
        }
        let found = seen.finish(digest.algorithm());
        if found.as_ref() != Some(digest) {
            // Going on from wrong bytes would never end well.
            fs::remove_file(&part).map_err(disk(&part))?;
            let found = found.unwrap_or_else(|| Digest::sha256(&[]));
            return Err(RegistryError::OtherDigest { what, found });
        }
        file.sync_all().map_err(disk(&part))?;
        fs::rename(&part, path).map_err(disk(path))?;
        Ok(came)
    }

    /// What one connection brings of the rest.
    async fn more(
        &self,
        what: &str,
        digest: &Digest,
        size: u64,
        file: &mut File,
        seen: &mut Seen,
        part: &Path,
    ) -> Result<(), RegistryError> {
        let disk = |cause| RegistryError::Disk { path: part.to_owned(), cause };
        let mut ask = Ask::get(self.url(&["blobs", &digest.to_string()]), Access::Pull);
        ask.timed = false;
        if seen.bytes > 0 {
            ask.headers.push((RANGE, format!("bytes={}-", seen.bytes)));
        }
        let mut response = self.wire.send(what, &ask, &self.base, &self.auth, &self.repository).await?;
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&format!("bytes {}-", seen.bytes)));
        if seen.bytes > 0 && !goes_on {
            // It knows no ranges, or gives another one: from the beginning.
            *seen = start_over(file, digest.algorithm()).map_err(disk)?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Ok(());
            }
        }
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.wire.unreachable(cause))? {
            if seen.bytes.saturating_add(chunk.len() as u64) > size {
                return Err(RegistryError::TooLarge { what: what.to_owned(), limit: size });
            }
            file.write_all(&chunk).map_err(disk)?;
            seen.update(&chunk);
        }
        if seen.bytes < size {
            let message = format!("it ends after {} of {size} bytes", seen.bytes);
            return Err(RegistryError::Malformed { what: what.to_owned(), message });
        }
        Ok(())
    }
}

/// The name beside `path` under which an unfinished file is kept.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn kind(error: &io::Error) -> io::Error {
    io::Error::from(error.kind())
}

fn start_over(file: &mut File, algorithm: DigestAlgorithm) -> io::Result<Seen> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Seen::new(algorithm))
}

/// What has come so far, and its running digest.
struct Seen {
    bytes: u64,
    hash: Context,
}

impl Seen {
    fn new(algorithm: DigestAlgorithm) -> Self {
        let algorithm = match algorithm {
            DigestAlgorithm::Sha256 => &SHA256,
            DigestAlgorithm::Sha384 => &SHA384,
            DigestAlgorithm::Sha512 => &SHA512,
        };
        Self { bytes: 0, hash: Context::new(algorithm) }
    }

    fn update(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
    }

    fn read(&mut self, file: &mut File) -> io::Result<()> {
        let mut chunk = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.update(bytes);
        }
    }

    fn finish(self, algorithm: DigestAlgorithm) -> Option<Digest> {
        Digest::new(algorithm, self.hash.finish().as_ref()).ok()
    }
}
