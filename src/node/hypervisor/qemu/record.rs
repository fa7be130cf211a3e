//! What the node keeps of a machine: one folder, one record in it, and a lock that the machine's own process holds.
//!
//! ```text
//! STATE/VM/record.json   what was started, as what, and how it ended; replaced by a rename, never written over
//!          lock          held by the QEMU process itself for as long as it lives, whatever happens to the agent
//!          disks/        overlays, the firmware's variables, memory of snapshots and of a saved machine
//!          blocks/       sockets of block servers
//!          serial.log    what the guest wrote on its console, and before that serial.log.old
//!          qmp.sock serial.sock agent.sock
//!          run/          the only folder that the machine's user may write to: VNC, TPM, migration
//! ```
//!
//! Invariant: a machine whose lock is held runs, one whose lock is free does not. No record decides that.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::node::hypervisor::launch::ImageFormat;
use crate::node::hypervisor::observed::{AcceleratorChoice, Artifact, Exit, HostFirmware, Snapshot};
use crate::types::Digest;
use crate::types::vm::{Nic, VmId, VmSpec};

/// What is known of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The machine.
    pub(super) vm: VmId,
    /// Its description at its last start.
    pub(super) spec: VmSpec,
    /// Its machine type, which never changes.
    pub(super) machine_type: String,
    /// How its processors are run.
    pub(super) accelerator: AcceleratorChoice,
    /// Everything that was admitted into it.
    pub(super) artifacts: Vec<Artifact>,
    /// QEMU's own helpers that it runs.
    pub(super) host_firmware: Vec<HostFirmware>,
    /// Its block devices.
    pub(super) blocks: Vec<BlockRecord>,
    /// Its cards, those plugged in later too.
    pub(super) nics: Vec<NicRecord>,
    /// Its snapshots.
    pub(super) snapshots: Vec<Snapshot>,
    /// How far it is.
    pub(super) phase: Phase,
    /// Whether its memory was saved, and it can be restored.
    pub(super) saved: bool,
    /// Whether it was to stay halted when it was started.
    pub(super) paused: bool,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockRecord {
    pub(super) slot: String,
    pub(super) digest: Digest,
    pub(super) socket: PathBuf,
    pub(super) format: ImageFormat,
    /// The name of the image that writes go to, where it can be written.
    pub(super) overlay: Option<String>,
    pub(super) overlay_bytes: u64,
}

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NicRecord {
    pub(super) index: usize,
    pub(super) nic: Nic,
    pub(super) mac: String,
    pub(super) tap: Option<String>,
}

/// How far a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Its process is being started; whether it came to that is known by the lock.
    Starting,
    /// Its process was there.
    Running {
        /// The process.
        pid: u32,
        /// When it was started, in the kernel's ticks since boot: a number that is given again is another process.
        started: u64,
    },
    /// It is to end: what the lock says later is as was asked.
    Stopping {
        /// How it will have ended.
        exit: Exit,
    },
    /// It has ended.
    Stopped {
        /// How, unless it never ran.
        exit: Option<Exit>,
    },
}

/// The folder of one machine.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(state: &Path, vm: VmId) -> Self {
        Self { path: state.join(vm.to_string()) }
    }

    /// Makes what is not there. The machine's user may pass through, and enter `run` alone.
    pub(super) fn make(&self, owner: Option<(u32, u32)>) -> io::Result<()> {
        for (path, mode) in
            [(self.path.clone(), 0o711), (self.disks(), 0o700), (self.blocks(), 0o711), (self.run(), 0o700)]
        {
            DirBuilder::new().recursive(true).mode(mode).create(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(self.run(), Some(user), Some(group))?;
        }
        Ok(())
    }

    /// Whether there is a folder at all.
    pub(super) fn there(&self) -> bool {
        self.path.exists()
    }

    /// Whether there is a machine in it.
    pub(super) fn exists(&self) -> bool {
        self.record_path().exists()
    }

    pub(super) fn disks(&self) -> PathBuf {
        self.path.join("disks")
    }

    /// The overlay of a disk, or another image of the machine's own.
    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.disks().join(format!("{name}.qcow2"))
    }

    pub(super) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Where block servers listen. The machine's user connects, and can put nothing in their place.
    pub(super) fn blocks(&self) -> PathBuf {
        self.path.join("blocks")
    }

    pub(super) fn tpm(&self) -> PathBuf {
        self.run().join("tpm")
    }

    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.sock"))
    }

    pub(super) fn vnc(&self) -> PathBuf {
        self.run().join("vnc.sock")
    }

    pub(super) fn serial_log(&self) -> PathBuf {
        self.path.join("serial.log")
    }

    pub(super) fn serial_log_old(&self) -> PathBuf {
        self.path.join("serial.log.old")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    pub(super) fn saved_state(&self) -> PathBuf {
        self.disks().join("saved")
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// Takes the lock, or says that somebody has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.path.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn read(&self) -> io::Result<Record> {
        serde_json::from_slice(&fs::read(self.record_path())?).map_err(io::Error::other)
    }

    /// Replaces the record. What is read afterwards is the old one or the new one, never a part.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let new = self.path.join("record.json.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, self.record_path())?;
        File::open(&self.path)?.sync_all()
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        // The record goes first: a folder without one is nothing, and is cleared away by the next look.
        match fs::remove_file(self.record_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir_all(&self.path)
    }
}
