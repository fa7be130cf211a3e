//! Virtual machines as their owners describe them: what one is made of, and in which state it shall be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Digest;

/// A virtual machine's identity for all time; a name may be given again, this may not. A UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "uuid")]
pub struct VmId(Uuid);

impl VmId {
    /// The identity with this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VmId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What an artifact is to a machine. Each is code, or brings code, that the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// A disk image, raw or qcow2.
    Disk,
    /// An ISO 9660 image in a virtual drive.
    Iso,
    /// A kernel that the hypervisor loads itself.
    Kernel,
    /// The initial root file system of such a kernel.
    Initrd,
    /// The machine's firmware.
    Firmware,
    /// The firmware of one device, as a network card's that boots from the network.
    OptionRom,
}

impl ArtifactKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Disk, Self::Iso, Self::Kernel, Self::Initrd, Self::Firmware, Self::OptionRom];

    /// The word on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Iso => "iso",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Firmware => "firmware",
            Self::OptionRom => "option-rom",
        }
    }

    /// Whether it is read block by block while the machine runs, instead of being copied into sealed memory at start.
    pub const fn is_block_device(self) -> bool {
        matches!(self, Self::Disk | Self::Iso)
    }
}

/// Every way by which an artifact comes into a machine. There is one gate for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootPath {
    /// A machine is described.
    Create,
    /// Somebody starts it.
    Start,
    /// The node starts it after the node itself came up.
    Autostart,
    /// It is started again after it died.
    Restart,
    /// It is reset while it runs.
    Reset,
    /// An ISO image is put into its drive.
    AttachIso,
    /// A disk is plugged in while it runs.
    AttachDisk,
    /// A network card is plugged in while it runs; its option ROM is code.
    AttachNic,
    /// It goes back to a snapshot.
    RevertSnapshot,
    /// It is restored from a saved state or a backup.
    Restore,
    /// It arrives from another node, running.
    IncomingMigration,
    /// It boots from the network, by its card's option ROM and what that loads.
    Netboot,
}

impl BootPath {
    /// Every path: the rows of the table that `tests/vm` tampers with, cell by cell.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Start,
        Self::Autostart,
        Self::Restart,
        Self::Reset,
        Self::AttachIso,
        Self::AttachDisk,
        Self::AttachNic,
        Self::RevertSnapshot,
        Self::Restore,
        Self::IncomingMigration,
        Self::Netboot,
    ];
}

/// A machine's description. What it is made of is named by digest alone: no path of a host is ever among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// The name: lower-case letters, digits and hyphens, at most 63, as a DNS label (RFC 1123 section 2.1).
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length = 63, example = "web")]
    pub name: String,
    /// Virtual processors.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 255)]
    pub cpus: u32,
    /// Memory in MiB.
    #[schema(minimum = 1, maximum = 4_194_304, example = 512)]
    pub memory_mib: u64,
    /// A kernel that is loaded directly, where the machine does not boot from a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<DirectKernel>,
    /// Firmware other than the machine type's own; OVMF for UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Disks, in the order in which the machine sees them.
    #[serde(default)]
    #[schema(max_items = 8)]
    pub disks: Vec<Disk>,
    /// ISO images in drives.
    #[serde(default)]
    #[schema(max_items = 4)]
    pub isos: Vec<Iso>,
    /// Network cards.
    #[serde(default)]
    #[schema(max_items = 8)]
    pub nics: Vec<Nic>,
    /// A virtual TPM 2.0, by swtpm.
    #[serde(default)]
    pub vtpm: bool,
    /// Start it when the node comes up.
    #[serde(default)]
    pub autostart: bool,
    /// What happens after it dies.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// At most this many hundredths of one processor; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 25_500)]
    pub cpu_limit_percent: Option<u32>,
    /// Boot from the network first, by the first card that has an option ROM.
    #[serde(default)]
    pub netboot: bool,
}

const fn one() -> u32 {
    1
}

impl VmSpec {
    /// Everything that it is made of: the slot, what it is there, and its bytes.
    pub fn artifacts(&self) -> Vec<(String, ArtifactKind, &Digest)> {
        let mut found = Vec::new();
        if let Some(direct) = &self.kernel {
            found.push(("kernel".to_owned(), ArtifactKind::Kernel, &direct.kernel));
            if let Some(initrd) = &direct.initrd {
                found.push(("initrd".to_owned(), ArtifactKind::Initrd, initrd));
            }
        }
        if let Some(firmware) = &self.firmware {
            found.push(("firmware".to_owned(), ArtifactKind::Firmware, &firmware.code));
            if let Some(vars) = &firmware.vars_template {
                found.push(("firmware-vars".to_owned(), ArtifactKind::Firmware, vars));
            }
        }
        let numbered = |slot: &str, at: usize| format!("{slot}{at}");
        for (at, disk) in self.disks.iter().enumerate() {
            found.push((numbered("disk", at), ArtifactKind::Disk, &disk.image));
        }
        for (at, iso) in self.isos.iter().enumerate() {
            found.push((numbered("iso", at), ArtifactKind::Iso, &iso.image));
        }
        for (at, nic) in self.nics.iter().enumerate() {
            if let Some(rom) = &nic.option_rom {
                found.push((numbered("nic", at), ArtifactKind::OptionRom, rom));
            }
        }
        found
    }
}

/// A kernel that the hypervisor loads. Under Secure Boot the firmware does not check it: its decision does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: Digest,
    /// Its initial root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Digest>,
    /// Its command line.
    #[serde(default)]
    #[schema(max_length = 2_047)]
    pub cmdline: String,
}

/// UEFI firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The code.
    pub code: Digest,
    /// The template of its variables, copied for each machine; a template with enrolled keys turns Secure Boot on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vars_template: Option<Digest>,
    /// Whether Secure Boot is asked for; then the machine type gets SMM, and the template must have keys.
    #[serde(default)]
    pub secure_boot: bool,
}

/// A disk: an image that is never written, and above it an overlay that is the machine's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The image.
    pub image: Digest,
    /// The size that the machine sees, where it is larger than the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 70_368_744_177_664u64)]
    pub size_bytes: Option<u64>,
    /// Without an overlay: every write is an error.
    #[serde(default)]
    pub read_only: bool,
}

/// An ISO image in a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Iso {
    /// The image.
    pub image: Digest,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// What it is plugged into.
    #[serde(default)]
    pub network: Network,
    /// Its address; made from the machine's identity where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$", max_length = 17, example = "52:54:00:12:34:56")]
    pub mac: Option<String>,
    /// The card's firmware. Without one the card has none, and QEMU's own is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_rom: Option<Digest>,
}

/// What a network card is plugged into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// QEMU's user-mode network: out, not in, and nothing to set up.
    #[default]
    User,
    /// A tap device on this bridge of the host, with a filter that lets out the card's own address alone.
    Bridge {
        /// The bridge's name.
        #[schema(min_length = 1, max_length = 15)]
        bridge: String,
    },
}

/// What happens after a machine dies by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays stopped.
    #[default]
    Never,
    /// It is started again when it failed, through the gate, with a growing pause.
    OnFailure,
    /// It is started again also when it switched itself off.
    Always,
}

/// The state in which a machine shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DesiredPower {
    /// Off.
    Stopped,
    /// On.
    Running,
    /// On, with its processors halted.
    Paused,
}

/// The state in which a machine was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedPower {
    /// No process of it is there.
    Stopped,
    /// Its processors run.
    Running,
    /// Its processors are halted.
    Paused,
    /// The hypervisor was started and does not answer yet.
    Starting,
    /// It died without being asked to.
    Failed,
}

/// How a block device's bytes are proved when they are read. The best that the host offers is taken and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerifiedReadTier {
    /// The kernel checks each page of the file (fs-verity).
    FsVerity,
    /// The kernel checks each block of a device (dm-verity).
    DmVerity,
    /// DebVisor's own block server checks each block against the Merkle tree.
    BlockServer,
}

/// How a machine's processors are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the host's, through KVM: a real kernel has booted with it on this host.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}
