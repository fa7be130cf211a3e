//! The hypervisor that is real: QEMU, driven over its monitor, without libvirt.
//!
//! ```text
//! gate ─→ record ─→ overlays, sockets, TPM, taps ─→ process ─→ monitor ─→ limits ─→ go
//! ```
//!
//! The agent may die at any of these steps. QEMU lives on, and holds the machine's lock; whoever comes after sees by the
//! lock what runs, by the record as what, and takes it up again. What had not come up yet is taken down.
//! Invariant: no artifact's path reaches QEMU; see [`args`].

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use super::gate::Gate;
use super::launch::{BlockSource, Launch, SealedArtifact};
use super::observed::{EventKind, Exit, MachineEvent, MigrationReport, Observed, Snapshot, SnapshotName};
use super::{Answer, GuestRequest, Hypervisor, HypervisorError, Limits, MigrationSockets};
use crate::kill::{self, KillPoint};
use crate::release::admit::BootPermit;
use crate::types::Code;
use crate::types::vm::{BootPath, Nic, VmId};

mod accelerator;
pub mod args;
mod cgroup;
mod device;
mod machine;
mod migrate;
mod network;
mod process;
pub mod qmp;
mod record;
mod roms;
mod snapshot;
mod start;
mod tpm;
mod watch;

/// The same against a real QEMU: here because only the gate's own crate makes permits without a ticket.
#[cfg(test)]
#[path = "../../../../tests/vm/mod.rs"]
mod vm;

use machine::Machine;
use record::Folder;
use roms::Roms;

/// Events that wait for a slow receiver.
const EVENTS: usize = 4096;
/// How long a process may take to end after it was told to.
const END: Duration = Duration::from_secs(10);

/// How the driver is set up.
#[derive(Clone)]
pub struct Settings {
    /// Where machines are kept; the driver owns it.
    pub state: PathBuf,
    /// This node's name: a permit for another one is refused.
    pub node: String,
    /// The clock, to hold permits against.
    pub now: fn() -> Timestamp,
    /// The program; without it `qemu-system-x86_64` of the usual folders.
    pub program: Option<PathBuf>,
    /// Which accelerator is wanted.
    pub accelerator: AcceleratorWish,
    /// How long a kernel may take to prove KVM.
    pub kvm_deadline: Duration,
    /// User and group of machines where this process is root.
    pub user: UserWish,
    /// The network namespace that machines and bridges are in, where it is not this process's own.
    pub netns: Option<PathBuf>,
    /// Stops at a point for ever, as if killed there: for tests of what a crash leaves.
    pub halt_at: Option<KillPoint>,
}

/// Which accelerator is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceleratorWish {
    /// KVM where it was proved, else TCG.
    Auto,
    /// KVM, or no machine.
    Kvm,
    /// TCG.
    Tcg,
}

/// The user of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserWish {
    /// `debvisor-qemu` where there is one, else a number that nobody has.
    Default,
    /// These.
    Ids(u32, u32),
}

/// A user that no package of Debian's has, where `debvisor-qemu` was not made.
const NOBODY_ELSE: (u32, u32) = (64_937, 64_937);

impl Settings {
    /// The usual ones.
    pub fn new(state: PathBuf, node: String, now: fn() -> Timestamp) -> Self {
        Self {
            state,
            node,
            now,
            program: None,
            accelerator: AcceleratorWish::Auto,
            kvm_deadline: Duration::from_secs(10),
            user: UserWish::Default,
            netns: None,
            halt_at: None,
        }
    }
}

/// The driver. Clones are the same driver.
#[derive(Clone)]
pub struct Qemu {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    program: PathBuf,
    version: (u64, u64),
    roms: Roms,
    owner: Option<(u32, u32)>,
    machines: Mutex<HashMap<VmId, Arc<Machine>>>,
    events: broadcast::Sender<MachineEvent>,
}

impl Qemu {
    /// Looks at the host and makes the state directory. Machines that run are taken up by [`Hypervisor::observe`].
    ///
    /// # Errors
    /// A refusal with `machine-unsupported` where QEMU is not there or of an unknown version.
    pub async fn open(settings: Settings) -> Answer<Self> {
        let node = |act| move |error: io::Error| HypervisorError::Node { act, source: error.into() };
        let Some(program) = settings.program.clone().or_else(|| process::program("qemu-system-x86_64")) else {
            return Err(HypervisorError::refused(Code::MachineUnsupported, "qemu-system-x86_64 is not installed"));
        };
        let words = process::host_program(&program.display().to_string(), &["-version"], None)
            .await
            .map_err(node("ask QEMU for its version"))?;
        let version =
            version(&String::from_utf8_lossy(&words)).filter(|version| args::machine_type(*version).is_some());
        let Some(version) = version else {
            return Err(HypervisorError::refused(
                Code::MachineUnsupported,
                format!("{} is of a version that no machine type is known for", program.display()),
            ));
        };
        fs::create_dir_all(&settings.state).map_err(node("make the state directory"))?;
        // The machines' user passes through to its own folders, and cannot list them.
        fs::set_permissions(&settings.state, std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .map_err(node("protect the state directory"))?;
        let roms = Roms::seal(&settings.state).map_err(node("seal the helpers of QEMU"))?;
        let owner = rustix::process::geteuid().is_root().then(|| match settings.user {
            UserWish::Ids(user, group) => (user, group),
            UserWish::Default => user_of("debvisor-qemu").unwrap_or(NOBODY_ELSE),
        });
        let (events, _) = broadcast::channel(EVENTS);
        let machines = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { settings, program, version, roms, owner, machines, events }) })
    }

    /// QEMU's version, major and minor.
    pub fn version(&self) -> (u64, u64) {
        self.inner.version
    }

    /// Which accelerator machines of this node get, and why: as it is known now, without trying.
    ///
    /// # Errors
    /// [`HypervisorError::Node`] where the host cannot be looked at.
    pub async fn accelerator(&self) -> Answer<super::AcceleratorChoice> {
        self.inner.accelerator(None).await
    }
}

impl Inner {
    fn gate(&self) -> Gate<'_> {
        Gate { node: &self.settings.node, now: (self.settings.now)() }
    }

    fn folder(&self, vm: VmId) -> Folder {
        Folder::new(&self.settings.state, vm)
    }

    /// The machine, known or not.
    fn machine(&self, vm: VmId) -> Arc<Machine> {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(machines.entry(vm).or_insert_with(|| Arc::new(Machine::new(vm, self.folder(vm)))))
    }

    fn emit(&self, vm: VmId, kind: EventKind) {
        // Nobody may listen.
        let _ = self.events.send(MachineEvent { vm, kind });
    }

    /// Where a crash is played, everything stops here.
    async fn step(&self, step: KillPoint) {
        kill::here(step);
        if self.settings.halt_at == Some(step) {
            std::future::pending::<()>().await;
        }
    }

    fn netns(&self) -> Option<&Path> {
        self.settings.netns.as_deref()
    }
}

impl Hypervisor for Qemu {
    async fn start(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        start::start(&self.inner, permit, launch, start::Mode::Fresh).await
    }

    async fn observe(&self) -> Answer<Vec<Observed>> {
        machine::observe(&self.inner).await
    }

    async fn stop(&self, vm: VmId, grace: Duration) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        machine.take_up(&self.inner).await?;
        let Some(live) = machine.live() else { return Ok(()) };
        machine.ending(Exit::Asked)?;
        self.inner.step(KillPoint::MachineStopRecorded).await;
        let runs = live.runs().await;
        if !grace.is_zero() && runs {
            live.qmp.execute("system_powerdown", json!({})).await.ok();
            if live.ended_within(grace).await {
                return Ok(());
            }
        }
        // A QEMU that hears no more is killed below.
        live.qmp.execute("quit", json!({})).await.ok();
        if live.ended_within(END).await {
            return Ok(());
        }
        live.process.kill().map_err(|error| HypervisorError::failed("kill", vm, error))?;
        if live.ended_within(END).await {
            return Ok(());
        }
        Err(HypervisorError::failed("stop", vm, "its process does not end"))
    }

    async fn kill(&self, vm: VmId) -> Answer<()> {
        let machine = self.inner.machine(vm);
        // Not in turn: what holds the turn may be what has to be ended.
        machine.take_up(&self.inner).await?;
        let Some(live) = machine.live() else { return Ok(()) };
        machine.ending(Exit::Asked)?;
        self.inner.step(KillPoint::MachineStopRecorded).await;
        live.process.kill().map_err(|error| HypervisorError::failed("kill", vm, error))?;
        if live.ended_within(END).await {
            return Ok(());
        }
        Err(HypervisorError::failed("kill", vm, "its process does not end"))
    }

    async fn pause(&self, vm: VmId) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        let live = machine.running(&self.inner).await?;
        live.execute("stop", json!({})).await?;
        self.inner.emit(vm, EventKind::Paused);
        Ok(())
    }

    async fn resume(&self, vm: VmId) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        let live = machine.running(&self.inner).await?;
        live.may_go_on()?;
        live.execute("cont", json!({})).await?;
        live.wait_for(None);
        self.inner.emit(vm, EventKind::Resumed);
        Ok(())
    }

    async fn reset(&self, permit: BootPermit, vm: VmId) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        let live = machine.running(&self.inner).await?;
        let record = machine.record()?;
        self.inner.gate().again(&permit, vm, &[BootPath::Reset], &record.artifacts)?;
        live.reset().await?;
        self.inner.emit(vm, EventKind::Reset);
        Ok(())
    }

    async fn attach_disk(&self, permit: BootPermit, vm: VmId, source: BlockSource, read_only: bool) -> Answer<()> {
        device::attach_block(&self.inner, permit, vm, source, BootPath::AttachDisk, !read_only).await
    }

    async fn attach_iso(&self, permit: BootPermit, vm: VmId, source: BlockSource) -> Answer<()> {
        device::attach_block(&self.inner, permit, vm, source, BootPath::AttachIso, false).await
    }

    async fn attach_nic(
        &self,
        permit: BootPermit,
        vm: VmId,
        index: usize,
        nic: Nic,
        option_rom: Option<SealedArtifact>,
    ) -> Answer<()> {
        device::attach_nic(&self.inner, permit, vm, index, nic, option_rom).await
    }

    async fn detach(&self, vm: VmId, slot: &str) -> Answer<()> {
        device::detach(&self.inner, vm, slot).await
    }

    async fn snapshot_create(&self, vm: VmId, name: SnapshotName) -> Answer<Snapshot> {
        snapshot::create(&self.inner, vm, name).await
    }

    async fn snapshot_revert(&self, permit: BootPermit, vm: VmId, name: SnapshotName) -> Answer<()> {
        snapshot::revert(&self.inner, permit, vm, name).await
    }

    async fn snapshot_delete(&self, vm: VmId, name: SnapshotName) -> Answer<()> {
        snapshot::delete(&self.inner, vm, name).await
    }

    async fn snapshot_list(&self, vm: VmId) -> Answer<Vec<Snapshot>> {
        Ok(self.inner.machine(vm).record()?.snapshots)
    }

    async fn save(&self, vm: VmId) -> Answer<()> {
        migrate::save(&self.inner, vm).await
    }

    async fn restore(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        start::start(&self.inner, permit, launch, start::Mode::Restore).await
    }

    async fn migrate_out(&self, vm: VmId, peer: MigrationSockets) -> Answer<MigrationReport> {
        migrate::out(&self.inner, vm, peer).await
    }

    async fn migrate_in(&self, permit: BootPermit, launch: Launch) -> Answer<MigrationSockets> {
        let vm = launch.vm;
        start::start(&self.inner, permit, launch, start::Mode::Incoming).await?;
        Ok(migrate::sockets(&self.inner.folder(vm)))
    }

    async fn limit(&self, vm: VmId, limits: Limits) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        let live = machine.running(&self.inner).await?;
        start::limit(vm, live.process.pid, limits)
    }

    async fn links(&self, vm: VmId, up: bool) -> Answer<()> {
        let live = self.inner.machine(vm).running(&self.inner).await?;
        for index in 0..crate::types::limits::MACHINE_NICS {
            let set = live.execute("set_link", json!({ "name": format!("nic{index}"), "up": up })).await;
            // The cards are numbered without gaps, but for those that were taken out.
            if let Err(error) = set
                && !format!("{error:?}").contains("DeviceNotFound")
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn balloon(&self, vm: VmId, memory_mib: u64) -> Answer<()> {
        let live = self.inner.machine(vm).running(&self.inner).await?;
        live.execute("balloon", json!({ "value": memory_mib.saturating_mul(1024 * 1024) })).await.map(|_| ())
    }

    async fn guest(&self, vm: VmId, request: GuestRequest) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let live = machine.running(&self.inner).await?;
        let (command, within) = match request {
            GuestRequest::Ping => ("guest-ping", Duration::from_secs(5)),
            GuestRequest::Shutdown => ("guest-shutdown", Duration::from_secs(5)),
            GuestRequest::FsFreeze => ("guest-fsfreeze-freeze", Duration::from_secs(60)),
            GuestRequest::FsThaw => ("guest-fsfreeze-thaw", Duration::from_secs(60)),
        };
        let number = live.number();
        match qmp::guest_agent(&self.inner.folder(vm).socket("agent"), command, within, number).await {
            // The agent of a guest that switches off says nothing any more.
            Err(qmp::QmpError::Late(_) | qmp::QmpError::Gone) if request == GuestRequest::Shutdown => Ok(()),
            Ok(_) => Ok(()),
            Err(error) => Err(HypervisorError::failed("ask the guest agent of", vm, error)),
        }
    }

    async fn console(&self, vm: VmId) -> Answer<PathBuf> {
        self.inner.machine(vm).running(&self.inner).await?;
        Ok(self.inner.folder(vm).socket("serial"))
    }

    async fn console_log(&self, vm: VmId, limit: usize) -> Answer<Vec<u8>> {
        let folder = self.inner.folder(vm);
        self.inner.machine(vm).record()?;
        let mut bytes = process::tail(&folder.serial_log_old(), limit).unwrap_or_default();
        bytes.extend(process::tail(&folder.serial_log(), limit).unwrap_or_default());
        let surplus = bytes.len().saturating_sub(limit);
        bytes.drain(..surplus);
        Ok(bytes)
    }

    async fn vnc(&self, vm: VmId) -> Answer<PathBuf> {
        self.inner.machine(vm).running(&self.inner).await?;
        Ok(self.inner.folder(vm).vnc())
    }

    async fn socket_dir(&self, vm: VmId) -> Answer<PathBuf> {
        let folder = self.inner.folder(vm);
        folder.make(self.inner.owner).map_err(|error| HypervisorError::failed("make the folder of", vm, error))?;
        Ok(folder.blocks())
    }

    fn socket_owner(&self) -> Option<(u32, u32)> {
        self.inner.owner
    }

    async fn forget(&self, vm: VmId) -> Answer<()> {
        let machine = self.inner.machine(vm);
        let _work = machine.work().await;
        let folder = self.inner.folder(vm);
        if folder.there() {
            let failed = |error| HypervisorError::failed("forget", vm, error);
            let Some(_lock) = machine.lock_soon(&self.inner).await? else {
                return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} runs; stop it first")));
            };
            machine.settle(&self.inner, None).await;
            folder.remove().map_err(failed)?;
            machine.forget();
        }
        // Of one that never ran as well: asking for it made an entry.
        self.inner.machines.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm);
        Ok(())
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.inner.events.subscribe()
    }
}

/// Major and minor number out of `QEMU emulator version 10.0.2 (…)`.
fn version(words: &str) -> Option<(u64, u64)> {
    let number = words.split("version ").nth(1)?;
    let mut parts = number.split(|sign: char| !sign.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// User and group of this name, in the host's own list.
fn user_of(name: &str) -> Option<(u32, u32)> {
    let list = fs::read_to_string("/etc/passwd").ok()?;
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_qemu_prints_them() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some((10, 0)));
        assert_eq!(version("QEMU emulator version 7.2.18"), Some((7, 2)));
        assert_eq!(version("no emulator"), None);
    }
}
