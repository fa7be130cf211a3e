//! What is seen of machines: their state, what is in them, and what happened. Facts only, no judgment.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::types::Digest;
use crate::types::vm::{Accelerator, ArtifactKind, ObservedPower, VmId};

/// One machine as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observed {
    /// The machine.
    pub vm: VmId,
    /// The name it had when it was started last.
    pub name: String,
    /// Its state.
    pub power: ObservedPower,
    /// What it waits for, where it stands still by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Everything that is in it, as admitted; kept after it stopped, until its next start.
    pub artifacts: Vec<Artifact>,
    /// Firmware of the host's own that it runs, where the description names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_firmware: Vec<HostFirmware>,
    /// How its processors are run, and why so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<AcceleratorChoice>,
    /// The machine type, pinned at its first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How it ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// What a machine that stands still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// It reset itself, and a permit for that is to be asked for.
    Reset,
    /// It waits for another node to send it.
    Migration,
    /// A write failed, as on a full disk.
    Storage,
}

/// Something that was admitted into a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its place.
    pub slot: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A file of the host's QEMU packages that runs inside machines; it is part of the host and shown, not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostFirmware {
    /// Its name, as `bios-256k.bin`.
    pub name: String,
    /// SHA-256 of the bytes that were sealed.
    pub digest: Digest,
}

/// How processors are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceleratorChoice {
    /// Which one.
    pub accelerator: Accelerator,
    /// Why, in a sentence.
    pub reason: String,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Exit {
    /// The guest switched itself off.
    Guest,
    /// It was asked to.
    Asked,
    /// It was saved, and can be restored.
    Saved,
    /// It was sent to another node.
    Migrated,
    /// The process died.
    Died {
        /// What is known: a signal, a status, the last line of its log.
        detail: String,
    },
}

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineEvent {
    /// The machine.
    pub vm: VmId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// Its processors run for the first time.
    Started,
    /// Found running after the agent was restarted.
    Reattached,
    /// Its processors were halted.
    Paused,
    /// Its processors run again.
    Resumed,
    /// The guest switched itself off.
    GuestShutdown,
    /// The guest reset itself; it stands still until [`super::Hypervisor::reset`].
    GuestReset,
    /// It was reset by a permit.
    Reset,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// A disk answered with an error: an altered block, where it is a verified one.
    BlockIoError {
        /// The slot.
        slot: String,
        /// `read` or `write`.
        operation: String,
        /// The system's words.
        reason: String,
    },
    /// A device is gone that was to be taken out.
    Detached {
        /// The slot.
        slot: String,
    },
    /// It ended.
    Exited {
        /// How.
        exit: Exit,
    },
}

/// A snapshot's name: lower-case letters, digits and hyphens, at most 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl SnapshotName {
    /// The name, unless the text is none.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (!text.is_empty() && text.len() <= 63 && text.bytes().all(fits) && !text.starts_with('-'))
            .then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("a snapshot's name has 1 to 63 lower-case letters, digits and hyphens")
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A snapshot, and what was in the machine when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What was in the machine: what a revert is admitted for.
    pub artifacts: Vec<Artifact>,
}

/// How a migration went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationReport {
    /// From its start to its end.
    pub total_ms: u64,
    /// How long the machine stood still.
    pub downtime_ms: u64,
    /// Bytes of memory and devices that were sent.
    pub bytes: u64,
}
