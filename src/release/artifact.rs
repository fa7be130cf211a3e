//! Artifacts: a path or a digest in, the digests out. A file is streamed once, whatever needs its bytes.
//! Invariant: this file opens what it is told to open and nothing else; it judges nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::types::{Digest, DigestAlgorithm};

/// What the user wants proved: a file, or the digest of one that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A file on disk.
    Path(PathBuf),
    /// A digest alone.
    Digest(Digest),
}

impl Subject {
    /// Reads a SUBJECT argument: what exists on disk is a path, and only what does not may be a digest.
    pub fn parse(text: &str) -> Self {
        let path = Path::new(text);
        if let Ok(digest) = text.parse::<Digest>()
            && digest.algorithm() != DigestAlgorithm::Sha384
            && path.symlink_metadata().is_err()
        {
            return Self::Digest(digest);
        }
        Self::Path(path.to_owned())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// An artifact's name and what is known of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The name as the user or the release gave it.
    pub name: String,
    digests: BTreeMap<DigestAlgorithm, Digest>,
    /// The bytes themselves, kept only where a signature scheme signs them and not their digest.
    pub bytes: Option<Vec<u8>>,
}

impl Artifact {
    /// An artifact of which these digests are known. A later digest of the same algorithm replaces an earlier one.
    pub fn new(name: impl Into<String>, digests: impl IntoIterator<Item = Digest>) -> Self {
        let digests = digests.into_iter().map(|digest| (digest.algorithm(), digest)).collect();
        Self { name: name.into(), digests, bytes: None }
    }

    /// An artifact that is in memory.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        let digests = [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];
        let mut artifact = Self::new(name, digests.map(|algorithm| algorithm.hash(bytes)));
        artifact.bytes = Some(bytes.to_vec());
        artifact
    }

    /// The digest of this algorithm, where it is known.
    pub fn digest(&self, algorithm: DigestAlgorithm) -> Option<&Digest> {
        self.digests.get(&algorithm)
    }

    /// Every known digest.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digests.values()
    }

    /// Algorithm name to lower-case hex, as in-toto writes a digest set.
    pub fn digest_set(&self) -> BTreeMap<String, String> {
        self.digests.values().map(|digest| (digest.algorithm().name().to_owned(), digest.to_hex())).collect()
    }
}

/// Something that wants to see an artifact's bytes go by, once and in order.
pub trait Sink {
    /// The next bytes.
    fn update(&mut self, bytes: &[u8]);
}

/// Hashes a stream under several algorithms at once.
#[derive(Default)]
pub struct Hasher {
    sha256: Option<sha2::Sha256>,
    sha384: Option<sha2::Sha384>,
    sha512: Option<sha2::Sha512>,
}

impl Hasher {
    /// A hasher for these algorithms.
    pub fn new(algorithms: &[DigestAlgorithm]) -> Self {
        let mut hasher = Self::default();
        for algorithm in algorithms {
            match algorithm {
                DigestAlgorithm::Sha256 => hasher.sha256 = Some(sha2::Sha256::default()),
                DigestAlgorithm::Sha384 => hasher.sha384 = Some(sha2::Sha384::default()),
                DigestAlgorithm::Sha512 => hasher.sha512 = Some(sha2::Sha512::default()),
            }
        }
        hasher
    }

    /// The digests of everything seen.
    pub fn finish(self) -> Vec<Digest> {
        use sha2::Digest as _;
        let finished = [
            self.sha256.map(|state| (DigestAlgorithm::Sha256, state.finalize().to_vec())),
            self.sha384.map(|state| (DigestAlgorithm::Sha384, state.finalize().to_vec())),
            self.sha512.map(|state| (DigestAlgorithm::Sha512, state.finalize().to_vec())),
        ];
        finished.into_iter().flatten().filter_map(|(algorithm, bytes)| Digest::new(algorithm, &bytes).ok()).collect()
    }
}

impl Sink for Hasher {
    fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        if let Some(state) = &mut self.sha256 {
            state.update(bytes);
        }
        if let Some(state) = &mut self.sha384 {
            state.update(bytes);
        }
        if let Some(state) = &mut self.sha512 {
            state.update(bytes);
        }
    }
}

/// How much of a file is read at a time, in bytes: large enough to make system calls rare, small enough for a cache.
const CHUNK_BYTES: usize = 256 * 1024;
/// How much of it is tried first, in bytes.
const FIRST_CHUNK_BYTES: usize = 8 * 1024;

/// Streams a reader through the sinks, once. Returns its length in bytes.
///
/// # Errors
/// Whatever the reader says.
pub fn stream(mut reader: impl Read, sinks: &mut [&mut dyn Sink]) -> io::Result<u64> {
    // It grows with what comes: to clear a whole chunk takes longer than to hash a small file.
    let mut chunk = vec![0; FIRST_CHUNK_BYTES];
    let mut length = 0_u64;
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(bytes) = chunk.get(..count) else { return Err(io::Error::other("a reader gave more than asked")) };
        for sink in &mut *sinks {
            sink.update(bytes);
        }
        length = length.saturating_add(count as u64);
        if count == chunk.len() && count < CHUNK_BYTES {
            chunk.resize(CHUNK_BYTES, 0);
        }
    }
}

/// Hashes the regular file at `path`, streamed once. `seen` is told the bytes read so far, for progress.
///
/// # Errors
/// Where the file cannot be opened or read, or is no regular file.
pub fn hash_file(path: &Path, algorithms: &[DigestAlgorithm], seen: &(dyn Fn(u64) + Sync)) -> io::Result<Vec<Digest>> {
    let mut hasher = Hasher::new(algorithms);
    let mut progress = Progress(seen);
    stream(open_regular(path)?, &mut [&mut hasher, &mut progress])?;
    Ok(hasher.finish())
}

/// Opens a regular file for reading; a directory, pipe or device is refused before anything blocks on it.
///
/// # Errors
/// Where it cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open(path, OFlags::empty()).map(|(file, _)| file)
}

/// As [`open_regular`], and a link is refused.
///
/// # Errors
/// As [`open_regular`].
pub fn open_unlinked(path: &Path) -> io::Result<File> {
    open(path, OFlags::NOFOLLOW).map(|(file, _)| file)
}

/// The file, and the length that it has in this moment.
fn open(path: &Path, more: OFlags) -> io::Result<(File, u64)> {
    // What was opened is what is asked, so that nothing takes its place in between. Without NONBLOCK, to open a pipe is
    // to wait for who writes to it. A regular file knows the flag only where somebody holds a lease on it to write
    // (fcntl(2)): that is an error then, and no wait.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata.len()))
}

/// Reads a whole regular file of at most `limit` bytes. One that is larger yields `FileTooLarge`.
///
/// # Errors
/// As [`open_regular`], and [`io::ErrorKind::FileTooLarge`].
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(open(path, OFlags::empty())?, limit)
}

/// As [`read_bounded`], and a link is refused.
///
/// # Errors
/// As [`read_bounded`].
pub fn read_bounded_unlinked(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(open(path, OFlags::NOFOLLOW)?, limit)
}

fn read((file, length): (File, u64), limit: u64) -> io::Result<Vec<u8>> {
    // Room for what it says it has, so that it is read in one piece; what it has is counted below.
    let room = length.min(limit).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

struct Progress<'a>(&'a (dyn Fn(u64) + Sync));

impl Sink for Progress<'_> {
    fn update(&mut self, bytes: &[u8]) {
        (self.0)(bytes.len() as u64);
    }
}

/// A sink that keeps everything, up to a bound; past it, it keeps nothing and says so.
pub struct Keep {
    bytes: Option<Vec<u8>>,
    limit: u64,
}

impl Keep {
    /// Keeps at most `limit` bytes.
    pub const fn new(limit: u64) -> Self {
        Self { bytes: Some(Vec::new()), limit }
    }

    /// The bytes, unless there were more than the limit.
    pub fn finish(self) -> Option<Vec<u8>> {
        self.bytes
    }
}

impl Sink for Keep {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.bytes {
            if kept.len().saturating_add(bytes.len()) as u64 > self.limit {
                self.bytes = None;
            } else {
                kept.extend_from_slice(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    /// Opened as a file is by default, the pipe would hold this test up for ever.
    #[test]
    fn nothing_but_a_regular_file_is_read_and_a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "four").unwrap();

        for refused in [at("pipe"), at("folder"), "/dev/null".into()] {
            assert_eq!(
                open_regular(&refused).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{}",
                refused.display()
            );
        }
        assert!(open_regular(&at("socket")).is_err());
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_bounded(&at("link"), 4).unwrap(), b"four");
        assert!(read_bounded_unlinked(&at("link"), 4).is_err() && open_unlinked(&at("link")).is_err());
        assert_eq!(read_bounded_unlinked(&at("file"), 4).unwrap(), b"four");
        assert_eq!(read_bounded(&at("file"), 4).unwrap(), b"four");
        assert_eq!(read_bounded(&at("file"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_a_whole_sha256_or_sha512_is_read_as_a_digest() {
        let digest = |algorithm: &str, digits: usize| Subject::parse(&format!("{algorithm}:{}", "ab".repeat(digits)));
        assert!(matches!(digest("sha256", 32), Subject::Digest(_)));
        assert!(matches!(digest("sha512", 64), Subject::Digest(_)));
        assert!(matches!(digest("sha256", 1), Subject::Path(_)));
        assert!(matches!(digest("sha384", 48), Subject::Path(_)));
    }
}
