//! Which accelerator this host really has: found by running a kernel, remembered for this kernel and this QEMU.
//!
//! That `/dev/kvm` opens and answers proves nothing: there are hosts on which it does and no stock kernel gets to its
//! first process. So KVM is believed when a kernel has reached a marker within a deadline, and not before.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::process::{Handover, Spawn, last_line};
use super::roms::Roms;
use crate::node::hypervisor::launch::SealedArtifact;
use crate::node::hypervisor::observed::AcceleratorChoice;
use crate::types::vm::Accelerator;

/// What a kernel says on its console once it got through all of its own start: its first process, or that it has no
/// root file system to find one on.
const MARKERS: [&[u8]; 2] = [b"Run /", b"Unable to mount root fs"];

/// An answer that was found, and for which host.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    kernel: String,
    qemu: String,
    choice: AcceleratorChoice,
}

/// Where answers come from and go to.
pub(super) struct Finder<'a> {
    pub(super) program: &'a Path,
    pub(super) state: &'a Path,
    pub(super) version: (u64, u64),
    pub(super) roms: &'a Roms,
    /// User and group of machines.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) deadline: Duration,
}

impl Finder<'_> {
    /// The answer: the remembered one, or the one that running this kernel gives. Without a kernel to try there is none
    /// to remember.
    pub(super) async fn find(&self, kernel: Option<&SealedArtifact>) -> io::Result<AcceleratorChoice> {
        let tcg = |reason: String| AcceleratorChoice { accelerator: Accelerator::Tcg, reason };
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Ok(tcg(format!("/dev/kvm does not open: {error}")));
        }
        // A machine's user gets the group of the device, and nothing else that root has.
        let metadata = fs::metadata("/dev/kvm")?;
        let owner = self.owner.map(|(user, _)| (user, metadata.gid()));
        let mode = metadata.permissions().mode();
        let may = mode & 0o060 == 0o060 || mode & 0o006 == 0o006;
        if owner.is_some_and(|(user, _)| user != metadata.uid()) && !may {
            return Ok(tcg(format!(
                "/dev/kvm may not be opened by the user of machines: its mode is {:04o}",
                mode & 0o7777
            )));
        }
        let host = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let qemu = format!("{}.{}", self.version.0, self.version.1);
        let path = self.state.join("accelerator.json");
        if let Ok(remembered) = read(&path)
            && remembered.kernel == host
            && remembered.qemu == qemu
        {
            return Ok(remembered.choice);
        }
        let Some(kernel) = kernel else {
            return Ok(tcg("no kernel has proved KVM on this host yet".to_owned()));
        };
        let choice = match self.run(kernel, owner).await? {
            Ok(()) => AcceleratorChoice {
                accelerator: Accelerator::Kvm,
                reason: format!("a kernel booted with KVM on {host}"),
            },
            Err(why) => tcg(format!("/dev/kvm opens, yet a kernel that was started with it {why}")),
        };
        let remembered = Remembered { kernel: host, qemu, choice: choice.clone() };
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(&remembered).map_err(io::Error::other)?)?;
        fs::rename(new, path)?;
        Ok(choice)
    }

    /// Runs the kernel alone, without a disk or network, until it says a marker or the deadline passes.
    async fn run(&self, kernel: &SealedArtifact, owner: Option<(u32, u32)>) -> io::Result<Result<(), String>> {
        let mut handover = Handover::default();
        let roms = self.roms.hand_over(&mut handover)?;
        let image = handover.add(kernel.fd().try_clone()?);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let serial = handover.add(theirs.into());
        let log = self.state.join("accelerator.log");
        let words = [
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            super::args::machine_type(self.version).unwrap_or("q35"),
            "-accel",
            "kvm",
            "-m",
            "256",
            "-append",
            "console=ttyS0 panic=-1",
            "-device",
            "isa-serial,chardev=serial",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ];
        let mut arguments: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        let own = [
            ("-L", super::args::descriptor(roms)),
            ("-kernel", super::args::descriptor(image)),
            ("-chardev", format!("socket,id=serial,fd={serial}")),
        ];
        for (name, value) in own {
            arguments.push(name.into());
            arguments.push(value.into());
        }
        let spawn = Spawn { program: self.program, arguments, handover, owner, netns: None, log: &log };
        let mut child = spawn.run()?;
        ours.set_nonblocking(true)?;
        let mut console = tokio::net::UnixStream::from_std(ours)?;
        let mut seen = Vec::new();
        let reading = async {
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = console.read(&mut block).await {
                seen.extend_from_slice(block.get(..count).unwrap_or_default());
                if MARKERS.iter().any(|marker| seen.windows(marker.len()).any(|window| window == *marker)) {
                    return true;
                }
                // A kernel that talks and never gets there is no proof either.
                let surplus = seen.len().saturating_sub(64 * 1024);
                seen.drain(..surplus);
            }
            false
        };
        let answer = match tokio::time::timeout(self.deadline, reading).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("ended without a marker: {}", last_line(&log))),
            Err(_) => Err(format!("reached no marker within {} s", self.deadline.as_secs())),
        };
        let _ = child.start_kill();
        let _ = child.wait().await;
        Ok(answer)
    }
}

fn read(path: &PathBuf) -> io::Result<Remembered> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}
