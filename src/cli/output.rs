//! Files that verbs write: whole or not at all.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::UsageError;

/// Replaces the file at `path` in one step: a reader finds the old one or the new one, whole, and a failure leaves
/// the old one. The umask applies as to any new file.
///
/// # Errors
/// A usage error where no file can be made there; otherwise where it cannot be written, synced or moved into place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = beside(path)?;
    file.write_all(bytes).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// Sees that a file can be made at `path`, for verbs that do something on the way to it that cannot be undone.
///
/// # Errors
/// A usage error where it cannot.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        let message = format!("cannot write {}: it is a directory", path.display());
        return Err(UsageError::new(message, "name a file in it").into());
    }
    beside(path).map(drop)
}

/// A new file in the same folder, which goes away unless it is moved into place.
fn beside(path: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let mode = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().permissions(mode).tempfile_in(folder_of(path)).map_err(|error| {
        // The temporary file's own name, which the error carries, would only puzzle.
        let why = io::Error::from(error.kind());
        let message = format!("cannot write {}: {why}", path.display());
        UsageError::new(message, "is its folder there, and yours to write to?").into()
    })
}

/// The folder that a file is in, as a path that can be opened.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes to the file where one is named, else to stdout.
///
/// # Errors
/// As [`write`].
pub(super) fn write_or_print(path: Option<&Path>, bytes: &[u8]) -> anyhow::Result<()> {
    match path {
        Some(path) => write(path, bytes),
        None => match io::stdout().lock().write_all(bytes) {
            // A reader that has seen enough is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.context("cannot write to stdout"),
        },
    }
}
