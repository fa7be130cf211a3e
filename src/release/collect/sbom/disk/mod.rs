//! A disk image in, the tree of the operating system on it out: without a mount, and without being root.
//!
//! The image's header is judged before anything opens it ([`evidence::disk`](crate::release::evidence::disk)), the
//! partitions are found, and the one ext4 file system that holds an operating system is the root.
//! Invariant: the image is opened once, for reading; no other file that it may name is opened at all.

mod blocks;
mod ext4;
mod partitions;

use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use super::tree::{Tree as _, unreadable};
use crate::release::evidence::disk::{self, Limits};
use crate::types::{Code, Reason};
use blocks::Blocks;
use ext4::Ext4;
use partitions::Partition;

/// The root file system of a disk image.
pub(super) struct Disk {
    /// Its tree.
    pub(super) root: Ext4,
}

impl Disk {
    /// Opens an image and finds the root on it.
    ///
    /// # Errors
    /// What [`disk::inspect`] refuses; `disk-unsupported` where no ext4 file system holds an operating system, or more
    /// than one does; `disk-malformed`; `subject-unreadable`.
    pub(super) fn open(path: &Path) -> Result<Self, Reason> {
        let shown = path.display().to_string();
        let mut file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
        let header = disk::inspect(&mut file, &Limits::default())?;
        let blocks = Rc::new(Blocks::open(file, &header)?);
        let mut roots = Vec::new();
        let mut others = Vec::new();
        for partition in partitions::list(&blocks)? {
            if !ext4::is_ext(&blocks, &partition)? {
                others.push(format!("{partition}: {}", what_else(&blocks, &partition)?));
                continue;
            }
            let tree = Ext4::open(&blocks, &partition)?;
            if ROOT_MARKS.iter().any(|path| tree.leads_to_file(path)) {
                roots.push((partition, tree));
            } else if APART_MARKS.iter().any(|path| tree.open(path).is_ok()) {
                let message = format!("{partition} holds a package database apart from the root file system");
                return Err(Reason::new(Code::DiskUnsupported, message).hint("one file system with all of it is read"));
            } else {
                others.push(format!("{partition}: ext4 without an operating system"));
            }
        }
        match (roots.pop(), roots.len()) {
            (Some((_, root)), 0) => Ok(Self { root }),
            (Some(_), more) => {
                let message = format!("{} file systems on the disk hold an operating system each", more + 1);
                Err(Reason::new(Code::DiskUnsupported, message).hint("export the partition that is meant as an image"))
            }
            (None, _) => {
                let there = if others.is_empty() { "nothing".to_owned() } else { others.join("; ") };
                let message = format!("no ext4 file system on the disk holds an operating system; there is {there}");
                Err(Reason::new(Code::DiskUnsupported, message))
            }
        }
    }
}

/// What only a root file system has.
const ROOT_MARKS: [&str; 4] = ["etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "lib/apk/db/installed"];
/// What a `/var` of its own would have.
const APART_MARKS: [&str; 4] = ["lib/dpkg/status", "lib/rpm/rpmdb.sqlite", "lib/rpm/Packages", "lib/rpm/Packages.db"];

/// Other file systems by their signatures, so that a refusal can name what is there.
fn what_else(blocks: &Blocks, partition: &Partition) -> Result<&'static str, Reason> {
    const SIGNATURES: &[(u64, &[u8], &str)] = &[
        (0, b"XFSB", "XFS"),
        (65_536 + 64, b"_BHRfS_M", "Btrfs"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (512, b"LABELONE", "an LVM volume"),
        (0, b"hsqs", "SquashFS"),
        (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "EROFS"),
        (82, b"FAT32", "FAT"),
        (54, b"FAT1", "FAT"),
        (4086, b"SWAPSPACE2", "swap"),
    ];
    for (at, signature, name) in SIGNATURES {
        let mut bytes = vec![0; signature.len()];
        if at + (signature.len() as u64) <= partition.bytes {
            blocks.read_at(partition.start + at, &mut bytes)?;
            if bytes == *signature {
                return Ok(name);
            }
        }
    }
    Ok("no known file system")
}
