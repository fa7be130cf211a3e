//! What the kernel can do for reads: a file or a device in, sealed so that the kernel proves each page that is read of
//! it, and later the proof that it is still the one that was sealed.
//!
//! fs-verity: `fsverity enable` builds a tree beside the file's own blocks, and from then on the file cannot be written
//! and a page that does not fit is EIO. dm-verity: `veritysetup format` writes a tree into a file of its own,
//! `veritysetup open` makes a device behind which each block is checked. These programs are Debian's: the system calls
//! below them cannot be made without `unsafe`, which this code forbids. Whether they work here is found out by doing
//! all of it once with a small file of the store.
//! Invariant: parameters come from here and the digest from the receipt; nothing that lies in a file is believed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use uuid::Uuid;

use super::files;
use crate::types::Digest;

/// The tree of dm-verity, beside an image's bytes.
pub(super) const HASHES: &str = "verity";
/// Both kinds check so many bytes at a time.
const BLOCK_BYTES: u64 = 4096;
/// What is tried out with: of one block there is no tree.
const PROBE: [u8; 8192] = [1; 8192];
const PROBE_BYTES: u64 = PROBE.len() as u64;
/// Where the kernel shows its mapped devices, and where they can be opened.
const DEVICES: &str = "/sys/block";
const MAPPED: &str = "/dev/mapper";
/// Another process that was started at this moment may hold a copy of a descriptor until it has become its program.
const TRIES: u32 = 20;

/// What the kernel offers for the files of one store.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// Whether files can be sealed, else why not.
    pub(super) files: Result<(), String>,
    /// Whether devices can be mapped, else why not.
    pub(super) devices: Result<(), String>,
    /// What the names of this store's mapped devices begin with.
    prefix: String,
}

impl Kernel {
    /// Tries both out in `folder`, whose file system is the store's, and takes away the devices that an earlier process
    /// left. `node` tells this node from others on the same kernel.
    pub(super) fn look(folder: &Path, node: &Digest) -> Self {
        let prefix = format!("debvisor-{}-", node.to_hex().get(..16).unwrap_or_default());
        close_all(&prefix);
        let mut found = Self { files: Ok(()), devices: Ok(()), prefix };
        found.files = can_seal_files(folder);
        found.devices = match &found.files {
            // The better of the two is there; a device for each image is not needed.
            Ok(()) => Err("fs-verity is there and needs no device".to_owned()),
            Err(_) => found.can_map_devices(folder),
        };
        found
    }

    fn can_map_devices(&self, folder: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mapping devices needs root".to_owned());
        }
        if !Path::new(MAPPED).join("control").exists() && !Path::new("/sys/class/misc/device-mapper").exists() {
            return Err("this kernel has no device mapper".to_owned());
        }
        program("veritysetup").ok_or("veritysetup is not installed (Debian: cryptsetup-bin)")?;
        program("losetup").ok_or("losetup is not installed (Debian: mount)")?;
        with_probe(folder, |content| {
            let hashes = content.with_extension("hashes");
            let root = map_format(content, &hashes, PROBE_BYTES)?;
            // As it is with an image that the store has frozen.
            for path in [content, &hashes] {
                files::freeze(&File::open(path)?);
            }
            let mapping = self.map(content, &hashes, PROBE_BYTES, &root)?;
            File::open(mapping.path())?.read_exact(&mut [0; PROBE.len()])
        })
        .map_err(|error| format!("a device cannot be mapped: {error}"))
    }

    /// Maps a device over an image's bytes, behind which each block is checked against the root.
    pub(super) fn map(&self, content: &Path, hashes: &Path, bytes: u64, root: &Digest) -> io::Result<Mapping> {
        let name = format!("{}{}", self.prefix, Uuid::now_v7().simple());
        let blocks = format!("--data-blocks={}", bytes / BLOCK_BYTES);
        // Both go by themselves when the mapping does: they are given back as soon as it holds them.
        let (content, hashes) = (Loop::over(content)?, Loop::over(hashes)?);
        let mut command = command("veritysetup")?;
        command.arg("open").args(PARAMETERS).arg(blocks).arg(&content.0).arg(&name).arg(&hashes.0).arg(root.to_hex());
        ran(&mut command)?;
        Ok(Mapping { name })
    }
}

/// A loop device over a file, read-only: what the store froze can be opened in no other way, and veritysetup's own
/// would be tried for writing first. Dropped while somebody has it open, it goes when that ends.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> io::Result<Self> {
        let mut command = command("losetup")?;
        let said = ran(command.args(["--find", "--show", "--read-only"]).arg(file))?;
        Ok(Self(said.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = command("losetup").and_then(|mut command| ran(command.args(["--detach", &self.0])));
        if let Err(error) = detached {
            tracing::warn!("{} could not be given back: {error}", self.0);
        }
    }
}

/// A mapped device; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
}

impl Mapping {
    /// Where it can be opened.
    pub(super) fn path(&self) -> PathBuf {
        Path::new(MAPPED).join(&self.name)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        close(&self.name);
    }
}

/// Seals a file that nobody has open for writing, for good. Returns what it measures.
pub(super) fn seal(path: &Path) -> io::Result<Digest> {
    let mut tries = 0;
    loop {
        let mut command = command("fsverity")?;
        command.args(["enable", "--hash-alg=sha256", "--block-size=4096"]).arg(path);
        match ran(&mut command) {
            Ok(_) => break,
            Err(error) if tries == TRIES || !error.to_string().contains("busy") => return Err(error),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
        tries += 1;
    }
    measure(&files::open(path)?)?.ok_or_else(|| io::Error::other("it was sealed, and is not"))
}

/// What the kernel says of this very file: the digest that every page of it is held against; nothing where it is not
/// sealed.
pub(super) fn measure(file: &File) -> io::Result<Option<Digest>> {
    if !is_sealed(file) {
        return Ok(None);
    }
    // The program opens the inode behind the descriptor, whatever the path has become meanwhile.
    let mut command = command("fsverity")?;
    command.args(["measure", "/proc/self/fd/0"]).stdin(Stdio::from(file.try_clone()?));
    let said = ran(&mut command)?;
    let digest = said.split_whitespace().next().and_then(|word| word.parse().ok());
    digest.map(Some).ok_or_else(|| io::Error::other(format!("fsverity says {said:?}")))
}

/// Whether the kernel checks this file's pages.
pub(super) fn is_sealed(file: &File) -> bool {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::VERITY))
}

/// Writes the tree of dm-verity over these bytes. Returns its root.
pub(super) fn map_format(content: &Path, hashes: &Path, bytes: u64) -> io::Result<Digest> {
    if bytes < PROBE_BYTES || !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(io::Error::other(format!("{bytes} bytes are not two or more whole blocks of {BLOCK_BYTES}")));
    }
    let blocks = format!("--data-blocks={}", bytes / BLOCK_BYTES);
    let mut command = command("veritysetup")?;
    command.arg("format").args(PARAMETERS).arg(blocks).arg(content).arg(hashes);
    let said = ran(&mut command)?;
    let root = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
    root.and_then(|root| format!("sha256:{}", root.trim()).parse().ok())
        .ok_or_else(|| io::Error::other(format!("veritysetup says {said:?}")))
}

/// No superblock: what it would say, an attacker could write.
const PARAMETERS: [&str; 5] =
    ["--no-superblock", "--salt=-", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"];

fn can_seal_files(folder: &Path) -> Result<(), String> {
    let offered = |name: &str| Path::new("/sys/fs").join(name).join("features/verity").exists();
    if !["ext4", "f2fs", "btrfs"].into_iter().any(offered) {
        return Err("no file system of this kernel has fs-verity".to_owned());
    }
    program("fsverity").ok_or("fsverity is not installed (Debian: fsverity)")?;
    with_probe(folder, |content| seal(content).map(drop)).map_err(|error| {
        // The program names the file, which is of no interest.
        let said = error.to_string();
        format!("a file of the store cannot be sealed: {}", said.rsplit(": ").next().unwrap_or(&said))
    })
}

/// Has something done with a small file of the store, and removes all of it.
fn with_probe(folder: &Path, act: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = folder.join(format!("probe-{}", Uuid::now_v7()));
    files::folder(&folder)?;
    let content = folder.join("content");
    let acted = files::create(&content).and_then(|mut file| {
        file.write_all(&PROBE)?;
        file.sync_all()?;
        drop(file);
        act(&content)
    });
    acted.and(files::remove(&folder))
}

/// Takes away every mapped device whose name begins so. What is still in use goes when it no longer is.
fn close_all(prefix: &str) {
    for entry in fs::read_dir(DEVICES).into_iter().flatten().flatten() {
        let name = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
        if name.trim_end().starts_with(prefix) {
            close(name.trim_end());
        }
    }
}

fn close(name: &str) {
    let closed = command("veritysetup").and_then(|mut command| ran(command.args(["close", "--deferred", name])));
    if let Err(error) = closed {
        tracing::warn!("the mapped device {name} could not be taken away: {error}");
    }
}

/// Where a program of the system's lies; the search path of whoever started the node is not asked.
fn program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn command(name: &str) -> io::Result<Command> {
    let path = program(name).ok_or_else(|| io::Error::other(format!("{name} is not installed")))?;
    let mut command = Command::new(path);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    Ok(command)
}

/// What a program printed, or what it complained of.
fn ran(command: &mut Command) -> io::Result<String> {
    let done = command.output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(io::Error::other(last.trim().chars().take(300).collect::<String>()))
}
