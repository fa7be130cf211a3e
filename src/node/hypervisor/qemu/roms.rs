//! QEMU's own helpers in, sealed copies with digests out: SeaBIOS, the VGA BIOS, the loader of `-kernel`.
//!
//! They are code that runs inside every machine and come with the host's packages, so they are part of the host: they
//! are not admitted, but measured once, sealed, and shown with each machine that runs them. What QEMU finds is a folder
//! of links to descriptors, handed over as a descriptor itself; a file that is replaced later is not seen.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::process::Handover;
use crate::node::hypervisor::launch::SealedArtifact;
use crate::node::hypervisor::observed::HostFirmware;
use crate::types::vm::ArtifactKind;

/// The helpers that a machine of ours makes QEMU load, and whether a machine with firmware of its own does too.
const NAMES: &[(&str, bool)] = &[
    ("bios-256k.bin", false),
    ("kvmvapic.bin", true),
    ("linuxboot_dma.bin", true),
    ("linuxboot.bin", true),
    ("pvh.bin", true),
    ("vgabios-stdvga.bin", true),
];

/// Where Debian's packages and QEMU's own installation put them.
const FOLDERS: &[&str] = &["/usr/share/seabios", "/usr/share/qemu", "/usr/share/vgabios", "/usr/local/share/qemu"];

/// Firmware is a few MiB at most.
const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// The sealed helpers of this host.
#[derive(Debug)]
pub(super) struct Roms {
    folder: PathBuf,
    sealed: Vec<SealedArtifact>,
}

impl Roms {
    /// Seals what is there.
    pub(super) fn seal(state: &Path) -> io::Result<Self> {
        let mut sealed = Vec::new();
        for (name, _) in NAMES {
            let Some(path) = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
            else {
                continue;
            };
            sealed.push(SealedArtifact::copy(*name, ArtifactKind::Firmware, File::open(path)?, LIMIT_BYTES)?);
        }
        Ok(Self { folder: state.join("helpers"), sealed })
    }

    /// Hands them to a machine: the number of the folder, under which each name leads to a descriptor of the same
    /// process.
    pub(super) fn hand_over(&self, to: &mut Handover) -> io::Result<i32> {
        let mut links = Vec::new();
        for artifact in &self.sealed {
            links.push((artifact.slot().to_owned(), to.add(artifact.fd().try_clone()?)));
        }
        // The numbers are the same for each machine, so one folder serves all of them.
        let name = links.iter().map(|(_, fd)| fd.to_string()).collect::<Vec<_>>().join("-");
        let folder = self.folder.join(format!("fd-{name}"));
        if !folder.is_dir() {
            let unfinished = self.folder.join(format!("new-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(&unfinished)?;
            for (name, fd) in &links {
                std::os::unix::fs::symlink(super::args::descriptor(*fd), unfinished.join(name))?;
            }
            if let Err(error) = fs::rename(&unfinished, &folder)
                && !folder.is_dir()
            {
                return Err(error);
            }
        }
        Ok(to.add(OwnedFd::from(File::open(folder)?)))
    }

    /// Which of them a machine runs.
    pub(super) fn shown(&self, own_firmware: bool) -> Vec<HostFirmware> {
        self.sealed
            .iter()
            .filter(|artifact| {
                NAMES.iter().any(|(name, always)| *name == artifact.slot() && (*always || !own_firmware))
            })
            .map(|artifact| HostFirmware { name: artifact.slot().to_owned(), digest: artifact.digest().clone() })
            .collect()
    }
}
