//! What runs machines: a [`BootPermit`] and a [`Launch`] in, a running machine out; later its events and its state.
//!
//! There are two implementations: [`qemu`], which drives real QEMU processes, and [`fake`], which keeps machines in
//! memory and fails where it is told to. Both put whatever enters a machine to [`gate`] first.
//!
//! Invariant: no artifact enters a machine that the permit does not cover, by no path. A caller that mixes up its
//! artifacts gets a refusal with a code, not a machine.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::release::admit::BootPermit;
use crate::types::vm::{Nic, VmId};
use crate::types::{Code, Reason};

pub mod fake;
pub mod gate;
pub mod launch;
pub mod observed;
pub mod qemu;
pub mod simulated;

pub use launch::{BlockSource, ImageFormat, Launch, SealedArtifact};
pub use observed::{
    AcceleratorChoice, Artifact, EventKind, Exit, HostFirmware, MachineEvent, MigrationReport, Observed, Snapshot,
    SnapshotName, Waiting,
};

/// Runs the machines of one node.
///
/// Every method but [`Self::start`], [`Self::restore`] and [`Self::migrate_in`] is about a machine that is known
/// already. A method returns when the thing has happened, not when it was asked for. Each may be called again after an
/// error or a crash: what is done already stays done.
pub trait Hypervisor: Send + Sync + 'static {
    /// Starts a machine. What it keeps between two runs (overlays, variables, the machine type) is made the first time.
    ///
    /// # Errors
    /// [`HypervisorError::Refused`] where the permit does not cover the launch, or the machine runs already.
    fn start(&self, permit: BootPermit, launch: Launch) -> impl Future<Output = Answer<Observed>> + Send;

    /// Every machine that this node has something of, found by what is on disk and in the process table: it answers
    /// the same after the agent was restarted, and takes up again what runs.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the state directory cannot be read.
    fn observe(&self) -> impl Future<Output = Answer<Vec<Observed>>> + Send;

    /// Asks the guest to switch itself off, waits for `grace`, then switches it off. A stopped machine stays stopped.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the process survives even SIGKILL.
    fn stop(&self, vm: VmId, grace: Duration) -> impl Future<Output = Answer<()>> + Send;

    /// Switches the machine off at once.
    ///
    /// # Errors
    /// As [`Self::stop`].
    fn kill(&self, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// Halts the processors.
    ///
    /// # Errors
    /// A refusal where the machine does not run.
    fn pause(&self, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// Lets the processors run again.
    ///
    /// # Errors
    /// A refusal where the machine does not run, or waits for [`Self::reset`].
    fn resume(&self, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// Resets the machine. A guest that resets itself stands still with [`Waiting::Reset`] until this is called: no
    /// firmware runs a second time on the first permit.
    ///
    /// # Errors
    /// A refusal where the permit does not cover everything that is in the machine.
    fn reset(&self, permit: BootPermit, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// Plugs a disk into the next free slot `disk<N>`, which the source must name.
    ///
    /// # Errors
    /// A refusal where the permit does not cover it, or the slot is taken.
    fn attach_disk(
        &self,
        permit: BootPermit,
        vm: VmId,
        source: BlockSource,
        read_only: bool,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Puts an ISO image into the drive `iso<N>` that the source names.
    ///
    /// # Errors
    /// As [`Self::attach_disk`].
    fn attach_iso(&self, permit: BootPermit, vm: VmId, source: BlockSource) -> impl Future<Output = Answer<()>> + Send;

    /// Plugs in the card `nic<index>`, with its option ROM where it has one.
    ///
    /// # Errors
    /// As [`Self::attach_disk`].
    fn attach_nic(
        &self,
        permit: BootPermit,
        vm: VmId,
        index: usize,
        nic: Nic,
        option_rom: Option<SealedArtifact>,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Takes out what is in a slot: `disk1`, `iso0`, `nic1`. An empty slot stays empty.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the guest does not let go of it.
    fn detach(&self, vm: VmId, slot: &str) -> impl Future<Output = Answer<()>> + Send;

    /// Keeps memory, devices and disks of a running machine under a name.
    ///
    /// # Errors
    /// A refusal where the name is taken.
    fn snapshot_create(&self, vm: VmId, name: SnapshotName) -> impl Future<Output = Answer<Snapshot>> + Send;

    /// Goes back to a snapshot. The machine must run or be paused, and is afterwards what it was then.
    ///
    /// # Errors
    /// A refusal where the permit does not cover everything that was in the machine then, or something is in it now
    /// that was not.
    fn snapshot_revert(
        &self,
        permit: BootPermit,
        vm: VmId,
        name: SnapshotName,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Forgets a snapshot.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the overlay cannot be written.
    fn snapshot_delete(&self, vm: VmId, name: SnapshotName) -> impl Future<Output = Answer<()>> + Send;

    /// The snapshots of a machine, oldest first.
    ///
    /// # Errors
    /// A refusal where there is no such machine.
    fn snapshot_list(&self, vm: VmId) -> impl Future<Output = Answer<Vec<Snapshot>>> + Send;

    /// Writes memory and devices to the machine's state directory and stops it.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the disk is full; the machine then runs on.
    fn save(&self, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// Starts a saved machine where it was.
    ///
    /// # Errors
    /// As [`Self::start`]; and a refusal where the launch is of other artifacts than the machine that was saved.
    fn restore(&self, permit: BootPermit, launch: Launch) -> impl Future<Output = Answer<Observed>> + Send;

    /// Sends memory, devices and the overlays of a machine's disks to where [`Self::migrate_in`] waits for it.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the other side goes away; the machine then runs on here.
    fn migrate_out(&self, vm: VmId, peer: MigrationSockets) -> impl Future<Output = Answer<MigrationReport>> + Send;

    /// Makes room for a machine that another node sends, and says where to send it. It runs when it has arrived.
    ///
    /// # Errors
    /// As [`Self::start`].
    fn migrate_in(&self, permit: BootPermit, launch: Launch) -> impl Future<Output = Answer<MigrationSockets>> + Send;

    /// Changes the limits of a running machine. `None` takes a limit away.
    ///
    /// # Errors
    /// A refusal where the node has no cgroups to limit by.
    fn limit(&self, vm: VmId, limits: Limits) -> impl Future<Output = Answer<()>> + Send;

    /// Takes the links of every network card down, or up again.
    ///
    /// # Errors
    /// A refusal where the machine does not run.
    fn links(&self, vm: VmId, up: bool) -> impl Future<Output = Answer<()>> + Send;

    /// Asks the guest's balloon to leave the guest this much memory.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the machine does not answer.
    fn balloon(&self, vm: VmId, memory_mib: u64) -> impl Future<Output = Answer<()>> + Send;

    /// Speaks with the guest's agent.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where the guest has none, or it does not answer in time.
    fn guest(&self, vm: VmId, request: GuestRequest) -> impl Future<Output = Answer<()>> + Send;

    /// The Unix socket of the serial console, one client at a time.
    ///
    /// # Errors
    /// A refusal where the machine does not run.
    fn console(&self, vm: VmId) -> impl Future<Output = Answer<PathBuf>> + Send;

    /// The last bytes of the serial console, at most `limit`, whether the machine runs or not.
    ///
    /// # Errors
    /// A refusal where there is no such machine.
    fn console_log(&self, vm: VmId, limit: usize) -> impl Future<Output = Answer<Vec<u8>>> + Send;

    /// The Unix socket of the VNC console.
    ///
    /// # Errors
    /// A refusal where the machine does not run.
    fn vnc(&self, vm: VmId) -> impl Future<Output = Answer<PathBuf>> + Send;

    /// Where the sockets of this machine's block servers shall be: a directory that the machine's user can pass, and in
    /// which it can change nothing. It is made where it is not there.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] where it cannot be made.
    fn socket_dir(&self, vm: VmId) -> impl Future<Output = Answer<PathBuf>> + Send;

    /// User and group that the machines run as, where they are others than the node's: who must be able to connect to
    /// those sockets.
    fn socket_owner(&self) -> Option<(u32, u32)>;

    /// Removes everything that was kept of a stopped machine, its overlays too.
    ///
    /// # Errors
    /// A refusal where it runs.
    fn forget(&self, vm: VmId) -> impl Future<Output = Answer<()>> + Send;

    /// What happens from now on. A receiver that is too slow misses some, is told so, and calls [`Self::observe`].
    fn events(&self) -> broadcast::Receiver<MachineEvent>;
}

/// What a hypervisor answers.
pub type Answer<T> = Result<T, HypervisorError>;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// A "no": it is not allowed, or not in this state.
    #[error("{0}")]
    Refused(Box<Reason>),
    /// It was allowed and did not work.
    #[error("cannot {act} machine {vm}")]
    Failed {
        /// What was tried, as `start` or `read the record of`.
        act: &'static str,
        /// The machine.
        vm: VmId,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node itself cannot do it.
    #[error("cannot {act}")]
    Node {
        /// What was tried.
        act: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HypervisorError {
    /// A refusal with this reason.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Reason::new(code, message)))
    }

    /// A failure of `act` on `vm`, with its cause.
    pub fn failed(act: &'static str, vm: VmId, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { act, vm, source: source.into() }
    }

    /// The reason, where it is a refusal.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Failed { .. } | Self::Node { .. } => None,
        }
    }
}

/// The limits of a machine on its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Hundredths of one processor.
    pub cpu_percent: Option<u32>,
    /// Memory of the whole process in bytes: the guest's, and what QEMU needs itself.
    pub memory_bytes: Option<u64>,
}

/// What can be asked of the guest's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestRequest {
    /// Whether it is there.
    Ping,
    /// Switch off.
    Shutdown,
    /// Flush the file systems and hold all writes.
    FsFreeze,
    /// Let writes go on.
    FsThaw,
}

/// Where a machine is waited for. Whoever carries the bytes between two nodes connects to these on one, and offers the
/// like on the other, to be connected to by the machine's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSockets {
    /// Memory and devices.
    pub state: PathBuf,
    /// Overlays of the disks, by NBD; not used by a machine without disks.
    pub disks: PathBuf,
}
