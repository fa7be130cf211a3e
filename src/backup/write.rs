//! A state in, a stream of ciphertext out. Memory does not grow with what is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use sha2::Digest as _;

use super::{BackupError, DATABASE, Entry, FORMAT, MANIFEST, Manifest};
use crate::types::{Code, Reason, limits};

/// How hard zstd tries: its own default, which keeps up with a disk.
const LEVEL: i32 = 3;

/// What is not a part of the state: what a process holds while it is up, what is made anew, what machines write.
const LEFT_OUT: &[&str] =
    &["state.db", "state.db-wal", "state.db-shm", "lock", "machines", "images", super::restore::SCRATCH];

/// Who can open a backup.
pub enum Lock {
    /// Whoever has one of these identities.
    Recipients(Vec<age::x25519::Recipient>),
    /// Whoever knows this passphrase.
    Passphrase(SecretString),
}

impl Lock {
    /// Under a passphrase.
    pub fn passphrase(text: String) -> Self {
        Self::Passphrase(SecretString::from(text))
    }

    /// Reads recipients as `age-keygen` prints them.
    ///
    /// # Errors
    /// `request-malformed` where one is none, or there are none or too many.
    pub fn recipients(texts: &[String]) -> Result<Self, Reason> {
        let refuse = |message: String| Reason::new(Code::RequestMalformed, message);
        if texts.is_empty() || texts.len() > limits::BACKUP_RECIPIENTS {
            return Err(refuse(format!("a backup is for 1 to {} recipients", limits::BACKUP_RECIPIENTS)));
        }
        let parse = |text: &String| {
            let wrong = |_| refuse(format!("{:?} is no recipient of age: they begin with age1", shortened(text)));
            text.trim().parse::<age::x25519::Recipient>().map_err(wrong)
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self::Recipients)
    }

    fn encryptor(&self) -> Result<age::Encryptor, BackupError> {
        match self {
            Self::Passphrase(passphrase) => Ok(age::Encryptor::with_user_passphrase(passphrase.clone())),
            Self::Recipients(recipients) => {
                age::Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as &dyn age::Recipient))
                    // Of what can go wrong, this alone is possible with such recipients. (The words of age's own error
                    // differ from one compilation to the next, and with them the program: docs/adr/0001.)
                    .map_err(|_| BackupError::refused(Code::RequestMalformed, "a backup is for one recipient at least"))
            }
        }
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock(…)")
    }
}

/// Where the parts of the state are.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The state directory.
    pub state: PathBuf,
    /// Files elsewhere, with their names in the backup: the configuration, what it names, and the trust bundle.
    pub elsewhere: Vec<(String, PathBuf)>,
}

/// What the manifest says of the whole.
#[derive(Debug, Clone)]
pub struct About {
    /// When it is made.
    pub made_at: jiff::Timestamp,
    /// Whether images are in it.
    pub with_images: bool,
    /// The key that checkpoints are signed with.
    pub key: String,
    /// A checkpoint that the snapshot contains.
    pub checkpoint: Option<String>,
}

/// Writes the backup; `snapshot` is a copy of the database that nobody writes to.
///
/// # Errors
/// Where something of the state cannot be read, or `out` cannot be written to: then what was written is no backup.
pub fn write<W: Write>(
    out: W,
    lock: &Lock,
    sources: &Sources,
    snapshot: &Path,
    about: About,
) -> Result<W, BackupError> {
    let failed = || BackupError::io("the backup could not be written");
    let sealed = lock.encryptor()?.wrap_output(out).map_err(failed())?;
    let packed = zstd::Encoder::new(sealed, LEVEL).map_err(failed())?;
    let mut archive = tar::Builder::new(packed);
    let mut files = vec![add(&mut archive, DATABASE, snapshot)?];
    for (name, path) in parts(sources, about.with_images)? {
        files.push(add(&mut archive, &name, &path)?);
    }
    let manifest = Manifest {
        format: FORMAT,
        made_at: about.made_at,
        debvisor: env!("CARGO_PKG_VERSION").to_owned(),
        with_images: about.with_images,
        key: about.key,
        checkpoint: about.checkpoint,
        files,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed()(error.into()))?;
    let mut header = header(text.len() as u64, 0o600);
    archive.append_data(&mut header, MANIFEST, text.as_slice()).map_err(failed())?;
    let packed = archive.into_inner().map_err(failed())?;
    packed.finish().and_then(age::stream::StreamWriter::finish).map_err(failed())
}

/// Every file that belongs to the state, but for the database, with its name in the archive.
fn parts(sources: &Sources, with_images: bool) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), sources.state.clone())];
    if with_images && sources.state.join("images/sha256").is_dir() {
        folders.push(("images/sha256/".to_owned(), sources.state.join("images/sha256")));
    }
    while let Some((prefix, folder)) = folders.pop() {
        let failed = || BackupError::io(format!("cannot read {}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let kind = entry.file_type().map_err(failed())?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_passing = name.starts_with('.') || name.ends_with(".new");
            if is_passing || (prefix.is_empty() && LEFT_OUT.contains(&name.as_str())) {
                continue;
            }
            if kind.is_dir() {
                folders.push((format!("{prefix}{name}/"), entry.path()));
            } else if kind.is_file() {
                found.push((format!("{prefix}{name}"), entry.path()));
            }
            if found.len() > limits::BACKUP_FILES {
                return Err(BackupError::refused(
                    Code::InputTooLarge,
                    format!("a backup has at most {} files", limits::BACKUP_FILES),
                ));
            }
        }
    }
    found.extend(sources.elsewhere.iter().filter(|(_, path)| path.is_file()).cloned());
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found)
}

fn add<W: Write>(archive: &mut tar::Builder<W>, name: &str, path: &Path) -> Result<Entry, BackupError> {
    let failed = || BackupError::io(format!("cannot back up {}", path.display()));
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(failed())?;
    let found = file.metadata().map_err(failed())?;
    let mut header = header(found.len(), found.mode() & 0o777);
    let mut hashing = Hashing { file: file.take(found.len()), hasher: sha2::Sha256::new(), size: 0 };
    archive.append_data(&mut header, name, &mut hashing).map_err(failed())?;
    if hashing.size != found.len() {
        let cause = io::Error::other("it became shorter while it was read");
        return Err(failed()(cause));
    }
    Ok(Entry { name: name.to_owned(), size: hashing.size, sha256: hex::encode(hashing.hasher.finalize()) })
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// What is read of a file, hashed on its way.
struct Hashing {
    file: io::Take<File>,
    hasher: sha2::Sha256,
    size: u64,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_for_nobody_is_refused_in_words_of_our_own() {
        let BackupError::Refused(reason) = Lock::Recipients(Vec::new()).encryptor().err().unwrap() else {
            panic!("refused")
        };
        assert_eq!(*reason, Reason::new(Code::RequestMalformed, "a backup is for one recipient at least"));
    }
}
