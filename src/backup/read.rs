//! A backup in, its manifest out, once every byte of it was held against that; and its files below a folder, where one is
//! named. Memory does not grow with what is in it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use age::secrecy::SecretString;
use sha2::Digest as _;

use super::{BackupError, DATABASE, Entry, FORMAT, MANIFEST, Manifest};
use crate::types::{Code, limits};

/// What opens a backup.
pub enum Keys {
    /// Identities of age.
    Identities(Vec<age::x25519::Identity>),
    /// The passphrase that it was made with.
    Passphrase(SecretString),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Reads a file of identities as `age-keygen` writes it.
    ///
    /// # Errors
    /// `backup-key` where it has none.
    pub fn identities(text: &str) -> Result<Self, BackupError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line: &str| {
            // What the line says stays out of the message: it is a secret, or meant to be one.
            let wrong =
                |_| BackupError::refused(Code::BackupKey, "a line of the identity file is no AGE-SECRET-KEY-1…");
            line.parse::<age::x25519::Identity>().map_err(wrong)
        };
        let found: Vec<_> = lines.map(parse).collect::<Result<_, _>>()?;
        if found.is_empty() {
            return Err(BackupError::refused(Code::BackupKey, "the identity file has no identity"));
        }
        Ok(Self::Identities(found))
    }

    fn open<R: io::BufRead>(&self, input: R) -> Result<age::stream::StreamReader<R>, BackupError> {
        let decryptor = age::Decryptor::new_buffered(input).map_err(|error| unopened(&error))?;
        let opened = match self {
            Self::Identities(identities) => {
                decryptor.decrypt(identities.iter().map(|identity| identity as &dyn age::Identity))
            }
            Self::Passphrase(passphrase) => {
                let identity = age::scrypt::Identity::new(passphrase.clone());
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        opened.map_err(|error| unopened(&error))
    }
}

fn unopened(error: &age::DecryptError) -> BackupError {
    use age::DecryptError::{DecryptionFailed, ExcessiveWork, KeyDecryptionFailed, NoMatchingKeys};
    match error {
        DecryptionFailed | ExcessiveWork { .. } | KeyDecryptionFailed | NoMatchingKeys => {
            BackupError::refused(Code::BackupKey, "what was given does not open the backup")
        }
        other => BackupError::malformed(format!("the backup is not in the age format: {other}")),
    }
}

/// Reads a backup to its very end and holds everything against its manifest; where `into` is a folder, the files are
/// unpacked below it.
///
/// # Errors
/// The first thing that is not as it must be; what is in the folder is then worth nothing.
pub fn read(input: impl Read, keys: &Keys, into: Option<&Path>) -> Result<Manifest, BackupError> {
    let cut = |error: io::Error| BackupError::malformed(format!("the backup is damaged or was cut off: {error}"));
    let opened = keys.open(BufReader::new(input))?;
    let mut unpacked = zstd::Decoder::new(opened).map_err(cut)?;
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    let mut manifest: Option<Manifest> = None;
    {
        let mut archive = tar::Archive::new(&mut unpacked);
        for entry in archive.entries().map_err(cut)? {
            let mut entry = entry.map_err(cut)?;
            let name = name(&entry)?;
            if manifest.is_some() {
                return Err(BackupError::malformed(format!("{name} stands behind the manifest")));
            }
            if name == MANIFEST {
                let mut text = Vec::new();
                entry.by_ref().take(limits::EVIDENCE_BYTES + 1).read_to_end(&mut text).map_err(cut)?;
                if text.len() as u64 > limits::EVIDENCE_BYTES {
                    return Err(BackupError::malformed("the manifest is too large"));
                }
                let read: Manifest = serde_json::from_slice(&text)
                    .map_err(|error| BackupError::malformed(format!("the manifest cannot be read: {error}")))?;
                manifest = Some(read);
                continue;
            }
            if found.len() >= limits::BACKUP_FILES {
                return Err(BackupError::malformed(format!("it has more than {} files", limits::BACKUP_FILES)));
            }
            let taken = take(&mut entry, &name, into)?;
            if found.insert(name.clone(), taken).is_some() {
                return Err(BackupError::malformed(format!("{name} is in it twice")));
            }
        }
    }
    // To the end of both: what was cut off behind the last file is seen as well.
    io::copy(&mut unpacked, &mut io::sink()).map_err(cut)?;
    let manifest = manifest.ok_or_else(|| BackupError::malformed("it has no manifest"))?;
    compare(&manifest, &found)?;
    Ok(manifest)
}

/// The name of an entry, which is a plain file below the folder and nothing else.
fn name<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, BackupError> {
    let path = entry.path().map_err(|_| BackupError::malformed("a name in it cannot be read"))?.into_owned();
    let shown = path.display().to_string();
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if entry.header().entry_type() != tar::EntryType::Regular || !plain || shown.is_empty() {
        return Err(BackupError::malformed(format!("{shown:?} in it is no plain file below the state directory")));
    }
    match path.to_str() {
        Some(text) if text.len() <= limits::ARCHIVE_NAME_BYTES => Ok(text.to_owned()),
        _ => Err(BackupError::malformed("a name in it is too long or not UTF-8")),
    }
}

fn take<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str, into: Option<&Path>) -> Result<Entry, BackupError> {
    // Whatever the archive says, nobody else reads keys; images go by their own bits.
    let bits = if name.starts_with("images/") { 0o777 } else { 0o700 };
    let mode = entry.header().mode().unwrap_or(0o600) & bits;
    let mut file = match into {
        None => None,
        Some(folder) => {
            let path = folder.join(name);
            let failed = || BackupError::io(format!("cannot write {}", path.display()));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed())?;
            }
            let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(failed())?;
            Some((made, path))
        }
    };
    let mut hasher = sha2::Sha256::new();
    let mut size = 0_u64;
    let mut piece = vec![0; 256 * 1024];
    loop {
        let count = entry
            .read(&mut piece)
            .map_err(|error| BackupError::malformed(format!("the backup is damaged or was cut off: {error}")))?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size += count as u64;
        if let Some((file, path)) = &mut file {
            file.write_all(bytes).map_err(BackupError::io(format!("cannot write {}", path.display())))?;
        }
    }
    if let Some((file, path)) = &file {
        file.sync_all().map_err(BackupError::io(format!("cannot write {}", path.display())))?;
    }
    Ok(Entry { name: name.to_owned(), size, sha256: hex::encode(hasher.finalize()) })
}

fn compare(manifest: &Manifest, found: &BTreeMap<String, Entry>) -> Result<(), BackupError> {
    if manifest.format != FORMAT {
        let message = format!("the backup has the form {}, and this debvisor knows {FORMAT}", manifest.format);
        return Err(BackupError::malformed(message));
    }
    for entry in &manifest.files {
        match found.get(&entry.name) {
            None => return Err(BackupError::malformed(format!("{} is not in it", entry.name))),
            Some(there) if there != entry => {
                let message = format!("{} is not what was backed up", entry.name);
                return Err(BackupError::refused(Code::BackupDigest, message));
            }
            Some(_) => {}
        }
    }
    if manifest.files.len() != found.len() || !found.contains_key(DATABASE) {
        return Err(BackupError::malformed("it has other files than its manifest names"));
    }
    Ok(())
}
