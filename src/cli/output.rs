//! Files that verbs write: whole or not at all.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Replaces the file at `path` in one step: a reader finds the old one or the new one, whole, and a failure leaves
/// the old one. The umask applies as to any new file.
///
/// # Errors
/// Where the file cannot be made, written, synced or moved into place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let parent = folder_of(path);
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(parent).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
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
