//! The few acts on files that the store is made of: each is whole on the disk when it returns, or did not happen.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::IFlags;

use crate::kill::{self, KillPoint};
/// A link, or anything that is no regular file, is refused; a document has at most so many bytes.
pub(super) use crate::release::artifact::{open_unlinked as open, read_bounded_unlinked as read};

/// What half-written documents are called until they have their names.
pub(super) const TEMPORARY: &str = ".new-";

/// Makes a folder that the node's user alone may enter; nothing happens where it is there.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes a new file for writing.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a document under its name, at once and for good; an earlier one is replaced.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o444))?;
    file.as_file().sync_all()?;
    kill::here(KillPoint::ImageNoteWritten);
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    sync(folder)
}

/// Brings a folder's own entries to the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a file unchangeable, its owner included, where the file system and our rights allow it. Says whether it is.
pub(super) fn freeze(file: &File) -> bool {
    rustix::fs::ioctl_getflags(file).is_ok_and(|flags| {
        flags.contains(IFlags::IMMUTABLE) || rustix::fs::ioctl_setflags(file, flags | IFlags::IMMUTABLE).is_ok()
    })
}

/// Takes that back.
fn thaw(path: &Path) {
    if let Ok(file) = open(path)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        // Where it fails, removing the file fails next and says why.
        let _ = rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
    }
}

/// Removes the documents of a folder that never got their names.
pub(super) fn remove_temporary(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder and what is in it, frozen files included. Nothing happens where it is not there.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            thaw(&entry.path());
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(folder)
}
