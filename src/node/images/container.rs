//! A container image in, a root disk of it in the store out: an ext4 file system with the files of its layers.
//!
//! The file system is made by e2fsprogs, without root and without mounting anything: mke2fs copies what was laid out in
//! a folder of the store, and debugfs gives each file its owner and mode. A machine boots it with a kernel of its own
//! and `root=/dev/vda`; the container image has none. Devices are left out: the machine's kernel makes them.
//! Invariant: no name of the image leads out of the folder, and a half-made disk is never an image.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;

use super::{Expected, ImageStore, Imported, failed, files};
use crate::release::collect::sbom::tree::{Entry, EntryKind};
use crate::release::collect::sbom::{RootFilesystem, Source};
use crate::release::evidence::archive::Rights;
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Reason};

/// Room that a disk has besides its files, where nobody says how large it is to be.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;
/// What one file costs on a disk besides its bytes: an inode, and the rest of its last block.
const FILE_BYTES: u64 = 4096 + 512;
const MEBIBYTE: u64 = 1024 * 1024;

impl ImageStore {
    /// Makes a root disk of a container image, an OCI layout or a tar of one, and imports it. Its length is what its
    /// files need and a little more, or `bytes` where that is given, rounded up to whole MiB.
    ///
    /// # Errors
    /// What the container image's parts have against being one image; `machine-unsupported` where e2fsprogs is not
    /// installed; `image-kind` where the files do not fit or cannot be named on a disk; as [`Self::import`].
    pub fn import_container(
        &self,
        source: &Path,
        bytes: Option<u64>,
        name: &str,
        now: Timestamp,
    ) -> Result<Imported, Reason> {
        let root = RootFilesystem::open(&Source::of_path(source)?)?;
        let entries = root.entries()?;
        let unmade = |error: io::Error| failed("the root disk cannot be made", &error);
        // Without an upload.json it is removed when the store is opened, should the process die meanwhile.
        let folder =
            tempfile::Builder::new().prefix("root-disk-").tempdir_in(self.root().join("uploads")).map_err(unmade)?;
        let files = folder.path().join("files");
        files::folder(&files).map_err(unmade)?;
        lay_out(&root, &entries, &files)?;

        let content =
            entries.iter().fold(0_u64, |sum, (entry, _)| sum.saturating_add(entry.bytes).saturating_add(FILE_BYTES));
        let needed = content.saturating_add(content / 8).saturating_add(SPARE_BYTES);
        let mebibytes = bytes.unwrap_or(needed).div_ceil(MEBIBYTE);
        let disk = folder.path().join("disk");
        make(&disk, &files, mebibytes)?;
        own(&disk, &entries, folder.path())?;
        let file = files::open(&disk).map_err(unmade)?;
        let said = Expected {
            kind: ArtifactKind::Disk,
            name: name.to_owned(),
            digest: None,
            bytes: Some(mebibytes.saturating_mul(MEBIBYTE)),
        };
        self.import(file, said, now, &|_| ())
    }
}

/// Writes the files where mke2fs finds them, readable by the node alone whatever their modes say.
fn lay_out(root: &RootFilesystem, entries: &[(Entry, Rights)], folder: &Path) -> Result<(), Reason> {
    let mut folders = BTreeSet::from([""]);
    for (entry, _) in entries {
        let path = entry.path.as_str();
        let unwritten = |error: io::Error| failed(&format!("{path} of the container image cannot be written"), &error);
        // What is below something else than a folder of this very loop would be written through it.
        let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain || !folders.contains(entry.folder()) || path.contains(['"', '\n', '\r', '\0']) {
            let message = format!("{path:?} is a name that cannot be put on a disk");
            return Err(Reason::new(Code::ImageKind, message));
        }
        let place = folder.join(path);
        match &entry.kind {
            EntryKind::Directory => {
                files::folder(&place).map_err(unwritten)?;
                folders.insert(path);
            }
            EntryKind::File => {
                let mut content = root.file(path)?;
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place).map_err(unwritten)?;
                io::copy(&mut content, &mut file).map_err(unwritten)?;
            }
            EntryKind::Link(target) => std::os::unix::fs::symlink(target, &place).map_err(unwritten)?,
            EntryKind::Special => {}
        }
    }
    Ok(())
}

fn make(disk: &Path, files: &Path, mebibytes: u64) -> Result<(), Reason> {
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-L",
        "root",
        "-E",
        "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
    ]);
    // A reserve for root would be room that nobody asked for.
    mke2fs.args(["-m", "0", "-d"]).arg(files).arg(disk).arg(format!("{mebibytes}M"));
    let output = run(mke2fs)?;
    if output.status.success() {
        return Ok(());
    }
    let message = format!("no disk of {mebibytes} MiB can be made of it: {}", last_line(&output));
    Err(Reason::new(Code::ImageKind, message).hint("say how large the disk is to be"))
}

/// Gives each file its owner and mode, which nobody but root could give to a file of the host.
fn own(disk: &Path, entries: &[(Entry, Rights)], folder: &Path) -> Result<(), Reason> {
    let unmade = |error: io::Error| failed("the root disk cannot be made", &error);
    let mut script = String::from("sif / mode 040755\n");
    for (entry, rights) in entries {
        let kind = match entry.kind {
            EntryKind::Directory => 0o04_0000,
            EntryKind::File => 0o10_0000,
            EntryKind::Link(_) => 0o12_0000,
            EntryKind::Special => continue,
        };
        let mode = if kind == 0o12_0000 { 0o777 } else { u32::from(rights.mode) };
        let (path, mode, user, group) = (&entry.path, kind | mode, rights.user, rights.group);
        let _ = writeln!(script, "sif \"/{path}\" mode 0{mode:o}");
        let _ = writeln!(script, "sif \"/{path}\" uid {user}\nsif \"/{path}\" gid {group}");
    }
    let path = folder.join("owners");
    fs::write(&path, script).map_err(unmade)?;
    let mut debugfs = Command::new("debugfs");
    debugfs.args(["-w", "-f"]).arg(&path).arg(disk);
    let output = run(debugfs)?;
    // It ends well whatever happened, and says what did not; its first line there is its version.
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.lines().all(|line| line.starts_with("debugfs ")) {
        return Ok(());
    }
    Err(Reason::new(Code::ImageKind, format!("owners and modes cannot be put on the disk: {}", last_line(&output))))
}

fn run(mut program: Command) -> Result<Output, Reason> {
    let name = program.get_program().to_string_lossy().into_owned();
    // Debian keeps both outside of a plain user's path.
    program.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").env("LC_ALL", "C").stdin(Stdio::null());
    program.output().map_err(|error| {
        let message = format!("{name} cannot be run: {error}");
        Reason::new(Code::MachineUnsupported, message).hint("install e2fsprogs")
    })
}

fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
