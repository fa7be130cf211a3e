//! What a control plane and the agent of a node say to each other: steps go out, outcomes and observations come back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::vm::{Accelerator, ArtifactKind, BootPath, Disk, Nic, ObservedPower, VerifiedReadTier, VmId, VmSpec};
use super::{Digest, Reason};

/// One thing that a node does to one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Start it, by this path through the gate.
    Start {
        /// Why it is started: `Start`, `Autostart`, `Restart`, `Netboot`, `Restore` or `IncomingMigration`.
        path: BootPath,
    },
    /// Switch it off.
    Stop {
        /// Without asking the guest first.
        force: bool,
    },
    /// Halt its processors.
    Pause,
    /// Let its processors run.
    Resume,
    /// Reset it, because its guest asked for that and stands still until the gate has said yes.
    Reset,
    /// Take every network card's link down.
    Isolate,
    /// Take the links up again.
    Reconnect,
    /// Do something else to it, once.
    Act {
        /// The operation that asked.
        operation: Uuid,
        /// What is done.
        action: Action,
    },
    /// Remove what it left on the node: overlays, snapshots, logs.
    Forget,
}

impl Step {
    /// The word in events and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset => "reset",
            Self::Isolate => "isolate",
            Self::Reconnect => "reconnect",
            Self::Act { action, .. } => action.name(),
            Self::Forget => "forget",
        }
    }

    /// Whether nothing runs after it that did not run before: what may be done whatever the rules are by now.
    pub const fn is_stilling(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Pause | Self::Isolate | Self::Forget)
    }
}

/// What is done to a machine besides changing its power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Reset it, as its button would.
    Reset,
    /// Put an ISO image into a drive.
    AttachIso {
        /// The drive: `iso0`, `iso1`, …
        #[schema(max_length = 16, pattern = "^iso[0-9]{1,2}$")]
        slot: String,
        /// The image.
        image: Digest,
    },
    /// Plug a disk in.
    AttachDisk {
        /// Where: `disk1`, `disk2`, …
        #[schema(max_length = 16, pattern = "^disk[0-9]{1,2}$")]
        slot: String,
        /// The disk.
        disk: Disk,
    },
    /// Plug a network card in.
    AttachNic {
        /// Where: `nic1`, `nic2`, …
        #[schema(max_length = 16, pattern = "^nic[0-9]{1,2}$")]
        slot: String,
        /// The card.
        nic: Nic,
    },
    /// Take out what is in a slot.
    Detach {
        /// The slot.
        #[schema(max_length = 16, pattern = "^(iso|disk|nic)[0-9]{1,2}$")]
        slot: String,
    },
    /// Keep memory and disks as they are, under this name.
    CreateSnapshot {
        /// The name.
        #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9][a-z0-9-]*$")]
        name: String,
    },
    /// Go back to a snapshot, through the gate.
    RevertSnapshot {
        /// The name.
        #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9][a-z0-9-]*$")]
        name: String,
    },
    /// Forget a snapshot.
    DeleteSnapshot {
        /// The name.
        #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9][a-z0-9-]*$")]
        name: String,
    },
    /// Write its memory down and switch it off; its next start goes on from there.
    Save,
}

impl Action {
    /// The word on the command line and in events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::AttachIso { .. } => "attach-iso",
            Self::AttachDisk { .. } => "attach-disk",
            Self::AttachNic { .. } => "attach-nic",
            Self::Detach { .. } => "detach",
            Self::CreateSnapshot { .. } => "create-snapshot",
            Self::RevertSnapshot { .. } => "revert-snapshot",
            Self::DeleteSnapshot { .. } => "delete-snapshot",
            Self::Save => "save",
        }
    }

    /// Whether doing it a second time, because nobody knows whether it was done, is as doing it once.
    ///
    /// A reset or a revert is not: the guest may have worked on since, and would lose that.
    pub const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Reset | Self::RevertSnapshot { .. } | Self::Save)
    }
}

/// A step for one machine, with all that the node needs to take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The machine.
    pub vm: VmId,
    /// The generation of the description that follows.
    pub generation: u64,
    /// The machine's description.
    pub spec: VmSpec,
    /// What is done.
    pub step: Step,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was taken, or there was nothing left to do.
    Done,
    /// The gate said no.
    Refused {
        /// Why, with codes.
        reasons: Vec<Reason>,
    },
    /// It could not be done.
    Failed {
        /// What stood in the way, in a sentence.
        message: String,
    },
}

/// A machine as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observed {
    /// Its power.
    pub power: ObservedPower,
    /// Whether its links were taken down.
    #[serde(default)]
    pub isolated: bool,
    /// Whether its memory was written down, so that its next start goes on from there.
    #[serde(default)]
    pub saved: bool,
    /// Whether its guest reset itself and waits for the gate.
    #[serde(default)]
    pub awaits_reset: bool,
    /// How its processors are run, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// What runs in it, and how it is proved when it is read.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// Its snapshots, by name.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// The hypervisor's process, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What is worth knowing beyond that, in sentences: why it failed, what a tier does not cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Observed {
    /// A machine of which nothing is there.
    pub const fn nothing() -> Self {
        Self {
            power: ObservedPower::Stopped,
            isolated: false,
            saved: false,
            awaits_reset: false,
            accelerator: None,
            slots: Vec::new(),
            snapshots: Vec::new(),
            pid: None,
            note: None,
        }
    }

    /// The same in another power state.
    #[must_use]
    pub fn with_power(mut self, power: ObservedPower) -> Self {
        self.power = power;
        self
    }
}

/// One artifact in a running machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    /// Its place: `kernel`, `disk0`, …
    pub slot: String,
    /// What it is to the machine.
    pub kind: ArtifactKind,
    /// Its bytes.
    pub digest: Digest,
    /// How reading it is held against that; nothing for what was copied into sealed memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<VerifiedReadTier>,
    /// Why by no better tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_reason: Option<String>,
}

/// One tier of verified reading on a node, or the one by which an image is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierState {
    /// Which.
    pub tier: VerifiedReadTier,
    /// Of a node's tier, why it is not used there; of the one by which an image is read, why no better one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// What a node tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
pub enum News {
    /// A machine changed by itself, or was found changed.
    Seen {
        /// The machine.
        vm: VmId,
        /// The machine now.
        observed: Observed,
    },
    /// A block of an image is not what its tree says: the bytes in the store were altered.
    Altered {
        /// The image.
        digest: Digest,
        /// The machine that read it, where one did.
        vm: Option<VmId>,
        /// Where and what, in a sentence.
        message: String,
    },
}

/// A node as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// How machines' processors are run on it.
    pub accelerator: Option<Accelerator>,
    /// Why that one, in a sentence.
    pub accelerator_reason: String,
    /// The hypervisor and its version.
    pub hypervisor: String,
    /// The tiers of verified reading that it has, the best first.
    pub tiers: Vec<VerifiedReadTier>,
    /// The others, with why each of them is not used.
    #[serde(default)]
    pub tiers_absent: Vec<TierState>,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Changes whenever the host comes up anew.
    pub boot_id: String,
    /// The digest of the admission policy that it holds machines against.
    pub policy: String,
    /// When it said so.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Timestamp,
}

/// An image as a node's store has it: what it is, never its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageFacts {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// What it is to a machine.
    pub kind: ArtifactKind,
    /// The name that it was given; the newest image of a name is the one that a name means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How its bytes are laid out: `raw`, `qcow2`, `iso`, …
    pub format: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The size that a machine sees, for a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// Root of the Merkle tree over its blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_root: Option<Digest>,
    /// SHA-512 of its bytes, where it was taken at import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Digest>,
    /// How its blocks are proved when they are read; nothing for what is copied into sealed memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<TierState>,
    /// Names of the evidence that is kept beside it.
    pub evidence: Vec<String>,
    /// When it came in.
    #[schema(value_type = String, format = DateTime)]
    pub imported_at: Timestamp,
}

/// What the gate of a node answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The way in.
    pub path: BootPath,
    /// Every reason against it; none where it may pass.
    pub reasons: Vec<Reason>,
    /// The ticket and its end, where it may.
    pub ticket: Option<(String, Timestamp)>,
    /// What will run and who vouches for it (as `release::admit` writes it).
    pub running: Option<serde_json::Value>,
    /// Two people let something run that the gate would have refused.
    pub overridden_by: Vec<String>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Whether it was taken.
    pub outcome: Outcome,
    /// The machine afterwards.
    pub observed: Observed,
    /// What the gate said, where the step leads through it.
    pub passage: Option<Passage>,
}

/// What whoever brings an image says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// What it is to a machine.
    pub kind: ArtifactKind,
    /// What it is called.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^/\\x00-\\x1f\\x7f]+$", example = "debian-12.raw")]
    pub name: String,
    /// The digest that it must have.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The length that it must have, in bytes; where it is known, the space is reserved at once.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 8_796_093_022_208u64)]
    pub bytes: Option<u64>,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// Its identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// What was said of it.
    pub request: UploadRequest,
    /// The bytes that have arrived: where the next piece begins.
    pub offset: u64,
}

/// A file of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// An image as a node has it, with what it decides about it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageVerdict {
    /// The image.
    pub facts: ImageFacts,
    /// `allow`, `deny` or `undecided`.
    pub decision: String,
    /// Why it is not `allow`.
    pub reasons: Vec<Reason>,
    /// Who vouches for it.
    pub signers: Vec<String>,
}

/// What happens to a running machine when something in it is quarantined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineAction {
    /// Its processors are halted; its memory stays for who investigates.
    #[default]
    Pause,
    /// Its links are taken down; it runs on.
    Isolate,
    /// It is switched off.
    Stop,
}
