//! What the user wants a bill of materials of, in words, in; what kind of thing it is, out.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::layers;
use super::tree::unreadable;
use crate::types::Reason;

/// Something that a bill of materials can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `dir:PATH`, a source tree, or a root file system where it looks like one.
    Directory(PathBuf),
    /// `rootfs:PATH`, a root file system whatever it looks like.
    RootFilesystem(PathBuf),
    /// `file:PATH`, one file: a binary, a lock file.
    File(PathBuf),
    /// `tar:PATH`, a source tree in a tar, or a root file system where it looks like one; also under gzip or Zstandard.
    Archive(PathBuf),
    /// `oci-dir:PATH`, an OCI image layout.
    OciDirectory(PathBuf),
    /// `oci-archive:PATH` or `docker-archive:PATH`, an image in a tar file.
    ImageArchive(PathBuf),
    /// `oci://REFERENCE` or `registry:REFERENCE`, an image in a registry.
    Registry(String),
    /// `disk:PATH`, a disk image of a virtual machine.
    Disk(PathBuf),
}

impl Source {
    /// Reads a SOURCE argument. Without a known prefix it is a path, and what is there says what it is.
    ///
    /// # Errors
    /// `subject-unreadable` where nothing is there.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if let Some(reference) = text.strip_prefix("oci://") {
            return Ok(Self::Registry(reference.to_owned()));
        }
        if let Some((prefix, rest)) = text.split_once(':') {
            let path = || PathBuf::from(rest);
            match prefix {
                "dir" => return Ok(Self::Directory(path())),
                "rootfs" => return Ok(Self::RootFilesystem(path())),
                "file" => return Ok(Self::File(path())),
                "tar" => return Ok(Self::Archive(path())),
                "oci-dir" => return Ok(Self::OciDirectory(path())),
                "oci-archive" | "docker-archive" => return Ok(Self::ImageArchive(path())),
                "registry" => return Ok(Self::Registry(rest.to_owned())),
                "disk" => return Ok(Self::Disk(path())),
                _ => {}
            }
        }
        Self::of_path(Path::new(text))
    }

    /// What is at this path, by its content.
    ///
    /// # Errors
    /// `subject-unreadable`.
    pub fn of_path(path: &Path) -> Result<Self, Reason> {
        let failed = |error: std::io::Error| unreadable(&path.display().to_string(), &error);
        if path.metadata().map_err(failed)?.is_dir() {
            let is_layout = path.join("oci-layout").is_file() && path.join("index.json").is_file();
            return Ok(if is_layout { Self::OciDirectory(path.into()) } else { Self::Directory(path.into()) });
        }
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start)).map_err(failed)?;
        if let Some(unpacked) = unpacked_start(path, &start) {
            start = unpacked;
            if !is_tar(&start) {
                return Ok(Self::File(path.into()));
            }
        }
        Ok(if is_disk(&start) {
            Self::Disk(path.into())
        } else if is_image_archive(&start) {
            Self::ImageArchive(path.into())
        } else if is_tar(&start) {
            Self::Archive(path.into())
        } else {
            Self::File(path.into())
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path)
            | Self::RootFilesystem(path)
            | Self::File(path)
            | Self::Archive(path)
            | Self::OciDirectory(path)
            | Self::ImageArchive(path)
            | Self::Disk(path) => write!(f, "{}", path.display()),
            Self::Registry(reference) => write!(f, "oci://{reference}"),
        }
    }
}

/// As much of a file as tells what it is: a superblock of ext4 begins at 1024.
const START_BYTES: u64 = 2048;

fn at(start: &[u8], offset: usize, wanted: &[u8]) -> bool {
    start.get(offset..).is_some_and(|rest| rest.starts_with(wanted))
}

/// What a file under gzip or Zstandard begins with when it is unpacked; nothing where it is under neither, or damaged.
fn unpacked_start(path: &Path, start: &[u8]) -> Option<Vec<u8>> {
    let file = || Some(BufReader::new(File::open(path).ok()?));
    let mut unpacked = Vec::new();
    if at(start, 0, &layers::GZIP) {
        flate2::bufread::MultiGzDecoder::new(file()?).take(START_BYTES).read_to_end(&mut unpacked).ok()?;
    } else if at(start, 0, &layers::ZSTD) {
        layers::zstd_decoder(file()?).ok()?.take(START_BYTES).read_to_end(&mut unpacked).ok()?;
    } else {
        return None;
    }
    Some(unpacked)
}

/// A tar of anything else.
fn is_tar(start: &[u8]) -> bool {
    at(start, 257, b"ustar")
}

/// qcow2, a GUID partition table, or a bare ext4 file system. A boot sector alone is no proof of a disk.
fn is_disk(start: &[u8]) -> bool {
    at(start, 0, b"QFI\xfb") || at(start, 512, b"EFI PART") || at(start, 1024 + 56, &[0x53, 0xef])
}

/// A tar file whose first member is one that image archives begin with.
fn is_image_archive(start: &[u8]) -> bool {
    let first = ["oci-layout", "./oci-layout", "index.json", "blobs/", "manifest.json", "repositories"];
    at(start, 257, b"ustar") && first.iter().any(|name| at(start, 0, name.as_bytes()))
}
