//! The image store: what arrives is whole or not there, what was changed is refused, and what is read was proved.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use debvisor::node::images::{Expected, ImageError, ImageRecord, ImageStore, Imported};
use debvisor::node::key::NodeKey;
use debvisor::types::vm::ArtifactKind;
use debvisor::types::{Code, Digest, Reason};
use jiff::Timestamp;
use rustix::fs::IFlags;
use tempfile::TempDir;

mod clients;
mod container;
mod hostile;
mod import;
mod kernel;
mod kill;
mod tamper;

/// A node's folder with its key and its store; it goes when the test ends, frozen files included.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self) -> ImageStore {
        open(self.path())
    }

    fn image_file(&self, digest: &Digest, name: &str) -> PathBuf {
        let hex = digest.to_hex();
        self.path().join("images/sha256").join(&hex[..2]).join(&hex).join(name)
    }

    /// Changes one bit of a file of an image, as somebody with every right on the host would.
    fn flip(&self, digest: &Digest, name: &str, at: u64) {
        let path = self.image_file(digest, name);
        thaw(&path);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    /// Puts other bytes in a file's place.
    fn replace(&self, digest: &Digest, name: &str, bytes: &[u8]) {
        let path = self.image_file(digest, name);
        thaw(&path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        thaw_all(self.path());
    }
}

/// Opens the store. A child that another test starts at this moment holds a copy of the lock that was just let go, until
/// it has become its program.
fn open(folder: &Path) -> ImageStore {
    let key = || NodeKey::open(&folder.join("node.key")).unwrap();
    for _ in 0..100 {
        match ImageStore::open(&folder.join("images"), key()) {
            Err(ImageError::Busy { .. }) => std::thread::sleep(std::time::Duration::from_millis(20)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the lock of {} is never let go", folder.display());
}

fn thaw(path: &Path) {
    if let Ok(file) = File::open(path)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE).unwrap();
    }
}

fn thaw_all(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            thaw_all(&entry.path());
        } else if entry.file_type().unwrap().is_file() {
            thaw(&entry.path());
        }
    }
}

/// Bytes that no compressor likes, with a long run of zeros in the middle, the same in every run.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut made: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes.div_ceil(8))
    .flatten()
    .collect();
    made.truncate(bytes);
    if bytes > 1 << 20 {
        made[bytes / 3..bytes / 3 + 400_000].fill(0);
    }
    made
}

fn expected(kind: ArtifactKind) -> Expected {
    Expected { kind, name: "test.img".to_owned(), digest: None, bytes: None }
}

fn import(store: &ImageStore, kind: ArtifactKind, bytes: &[u8]) -> Result<Imported, Reason> {
    store.import(bytes, expected(kind), Timestamp::UNIX_EPOCH, &|_| ())
}

/// A disk of these bytes in the store.
fn disk(store: &ImageStore, bytes: &[u8]) -> ImageRecord {
    import(store, ArtifactKind::Disk, bytes).unwrap().record
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Reason>) -> Code {
    result.unwrap_err().code.known().unwrap()
}

/// Runs a program that must be there.
fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[track_caller]
fn ran(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    // nbdinfo prints whatever `file` makes of the content, also where there is no `file`.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that lies below a folder, for a look at what an act left behind.
fn files_below(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), root, found);
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
