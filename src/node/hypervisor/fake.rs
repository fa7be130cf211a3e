//! The hypervisor that keeps machines in memory: the same gate and the same answers as the real one, no process.
//!
//! It is for what is about machines and not about QEMU: the reconciler's property tests, and a thousand nodes in one
//! process. It fails, hangs and loses answers where a plan of faults says so, and nothing in it is left to chance.
//! Invariant: what a [`Fake`] holds outlives it: [`Fake::reborn`] is an agent that was restarted on the same host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::gate::{Gate, STARTS, nic_form};
use super::launch::{BlockSource, Launch, SealedArtifact};
use super::observed::{
    AcceleratorChoice, Artifact, EventKind, Exit, MachineEvent, MigrationReport, Observed, Snapshot, SnapshotName,
    Waiting,
};
use super::{Answer, GuestRequest, Hypervisor, HypervisorError, Limits, MigrationSockets};
use crate::release::admit::BootPermit;
use crate::types::vm::{Accelerator, ArtifactKind, BootPath, Nic, ObservedPower, VmId};
use crate::types::{Code, limits};

/// Machines in memory. Clones are the same agent.
#[derive(Clone)]
pub struct Fake {
    node: Arc<str>,
    now: fn() -> Timestamp,
    world: Arc<World>,
    events: broadcast::Sender<MachineEvent>,
}

/// What outlives an agent.
struct World {
    machines: Mutex<BTreeMap<VmId, Machine>>,
    faults: Mutex<Arc<Plan>>,
    calls: AtomicU64,
    starts: AtomicU64,
}

/// Which call fails, and how.
type Plan = dyn Fn(&Call) -> Fault + Send + Sync;

/// A call of the trait, as a plan of faults sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The method's name.
    pub act: &'static str,
    /// The machine; none where the call is about all.
    pub vm: Option<VmId>,
    /// How many calls there were before, on this host.
    pub number: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is wrong with it.
    None,
    /// It takes this long.
    Slow(Duration),
    /// It fails, and nothing happened.
    Fail,
    /// It happens, and the answer is a failure: the connection broke, or the agent died.
    Lost,
    /// It never returns, and nothing happened.
    Hang,
}

struct Machine {
    observed: Observed,
    snapshots: Vec<Snapshot>,
    nics: Vec<usize>,
    saved: bool,
}

impl Fake {
    /// A host without machines.
    pub fn new(node: &str, now: fn() -> Timestamp) -> Self {
        let world = World {
            machines: Mutex::default(),
            faults: Mutex::new(Arc::new(|_: &Call| Fault::None)),
            calls: AtomicU64::new(0),
            starts: AtomicU64::new(0),
        };
        Self { node: node.into(), now, world: Arc::new(world), events: broadcast::channel(4096).0 }
    }

    /// A new agent on the same host; machines ran on.
    #[must_use]
    pub fn reborn(&self) -> Self {
        Self { events: broadcast::channel(4096).0, ..self.clone() }
    }

    /// Replaces the plan of faults.
    pub fn faults(&self, plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        *self.world.faults.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// How many machines were really started so far: each is a process that there would have been.
    pub fn starts(&self) -> u64 {
        self.world.starts.load(Ordering::Relaxed)
    }

    /// The machine's process dies.
    pub fn die(&self, vm: VmId) {
        self.end(vm, Exit::Died { detail: "killed".to_owned() });
    }

    /// The guest switches itself off.
    pub fn guest_shutdown(&self, vm: VmId) {
        if self.is_on(vm) {
            self.emit(vm, EventKind::GuestShutdown);
            self.end(vm, Exit::Guest);
        }
    }

    /// The guest resets itself.
    pub fn guest_reset(&self, vm: VmId) {
        let mut machines = self.machines();
        if let Some(machine) = machines.get_mut(&vm).filter(|machine| machine.is_on()) {
            machine.observed.power = ObservedPower::Paused;
            machine.observed.waiting = Some(Waiting::Reset);
            self.emit(vm, EventKind::GuestReset);
        }
    }

    /// A block of a disk cannot be proved.
    pub fn block_error(&self, vm: VmId, slot: &str) {
        if self.is_on(vm) {
            let (operation, reason) = ("read".to_owned(), "Input/output error".to_owned());
            self.emit(vm, EventKind::BlockIoError { slot: slot.to_owned(), operation, reason });
        }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<VmId, Machine>> {
        self.world.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self, vm: VmId) -> bool {
        self.machines().get(&vm).is_some_and(Machine::is_on)
    }

    fn gate(&self) -> Gate<'_> {
        Gate { node: &self.node, now: (self.now)() }
    }

    fn emit(&self, vm: VmId, kind: EventKind) {
        // Nobody may listen.
        let _ = self.events.send(MachineEvent { vm, kind });
    }

    fn end(&self, vm: VmId, exit: Exit) {
        let mut machines = self.machines();
        if let Some(machine) = machines.get_mut(&vm).filter(|machine| machine.is_on()) {
            machine.observed.power = match exit {
                Exit::Died { .. } => ObservedPower::Failed,
                _ => ObservedPower::Stopped,
            };
            machine.observed.waiting = None;
            machine.observed.pid = None;
            machine.observed.exit = Some(exit.clone());
            self.emit(vm, EventKind::Exited { exit });
        }
    }

    /// Lets the plan of faults have its way with a call, then does it.
    async fn call<T>(&self, act: &'static str, vm: Option<VmId>, deed: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let number = self.world.calls.fetch_add(1, Ordering::Relaxed);
        let plan = Arc::clone(&self.world.faults.lock().unwrap_or_else(PoisonError::into_inner));
        let broken = || match vm {
            Some(vm) => HypervisorError::failed(act, vm, "a fault of the plan"),
            None => HypervisorError::Node { act, source: "a fault of the plan".into() },
        };
        match plan(&Call { act, vm, number }) {
            Fault::None => deed(),
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                deed()
            }
            Fault::Fail => Err(broken()),
            Fault::Lost => {
                deed()?;
                Err(broken())
            }
            Fault::Hang => std::future::pending().await,
        }
    }

    /// A call about a machine that is on.
    async fn with<T>(&self, act: &'static str, vm: VmId, deed: impl FnOnce(&mut Machine) -> Answer<T>) -> Answer<T> {
        self.call(act, Some(vm), || {
            let mut machines = self.machines();
            let machine = machines.get_mut(&vm).ok_or_else(|| unknown(vm))?;
            if !machine.is_on() {
                return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} does not run")));
            }
            deed(machine)
        })
        .await
    }

    fn bring_up(
        &self,
        permit: &BootPermit,
        launch: &Launch,
        paths: &[BootPath],
        power: ObservedPower,
    ) -> Answer<Observed> {
        let vm = launch.vm;
        let artifacts = self.gate().launch(permit, launch, paths)?;
        let mut machines = self.machines();
        let earlier = machines.get(&vm);
        if earlier.is_some_and(Machine::is_on) {
            return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} runs already")));
        }
        if paths == [BootPath::Restore] && !earlier.is_some_and(|machine| machine.saved) {
            return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} was not saved")));
        }
        let number = self.world.starts.fetch_add(1, Ordering::Relaxed);
        let observed = Observed {
            vm,
            name: launch.spec.name.clone(),
            power: if launch.paused { ObservedPower::Paused } else { power },
            waiting: (paths == [BootPath::IncomingMigration]).then_some(Waiting::Migration),
            artifacts,
            host_firmware: Vec::new(),
            accelerator: Some(AcceleratorChoice {
                accelerator: Accelerator::Tcg,
                reason: "a machine in memory has no processors".to_owned(),
            }),
            machine_type: Some("fake".to_owned()),
            pid: u32::try_from(number + 2).ok(),
            exit: None,
        };
        let snapshots = machines.remove(&vm).map(|machine| machine.snapshots).unwrap_or_default();
        let nics = (0..launch.spec.nics.len()).collect();
        machines.insert(vm, Machine { observed: observed.clone(), snapshots, nics, saved: false });
        self.emit(vm, EventKind::Started);
        Ok(observed)
    }
}

impl Machine {
    fn is_on(&self) -> bool {
        !matches!(self.observed.power, ObservedPower::Stopped | ObservedPower::Failed)
    }

    fn put(&mut self, slot: &str, kind: ArtifactKind, digest: &crate::types::Digest) -> Answer<()> {
        if self.observed.artifacts.iter().any(|artifact| artifact.slot == slot) {
            return Err(taken(self.observed.vm, slot));
        }
        self.observed.artifacts.push(Artifact { slot: slot.to_owned(), kind, digest: digest.clone() });
        Ok(())
    }
}

impl Hypervisor for Fake {
    async fn start(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        let deed = || self.bring_up(&permit, &launch, STARTS, ObservedPower::Running);
        self.call("start", Some(launch.vm), deed).await
    }

    async fn observe(&self) -> Answer<Vec<Observed>> {
        let deed = || Ok(self.machines().values().map(|machine| machine.observed.clone()).collect());
        self.call("observe", None, deed).await
    }

    async fn stop(&self, vm: VmId, _grace: Duration) -> Answer<()> {
        self.call("stop", Some(vm), || {
            self.end(vm, Exit::Asked);
            Ok(())
        })
        .await
    }

    async fn kill(&self, vm: VmId) -> Answer<()> {
        self.call("kill", Some(vm), || {
            self.end(vm, Exit::Asked);
            Ok(())
        })
        .await
    }

    async fn pause(&self, vm: VmId) -> Answer<()> {
        self.with("pause", vm, |machine| {
            machine.observed.power = ObservedPower::Paused;
            self.emit(vm, EventKind::Paused);
            Ok(())
        })
        .await
    }

    async fn resume(&self, vm: VmId) -> Answer<()> {
        self.with("resume", vm, |machine| {
            if machine.observed.waiting.is_some_and(|waiting| waiting != Waiting::Storage) {
                let message = format!("machine {vm} waits for a permit or for its memory");
                return Err(HypervisorError::refused(Code::MachineState, message));
            }
            machine.observed.power = ObservedPower::Running;
            machine.observed.waiting = None;
            self.emit(vm, EventKind::Resumed);
            Ok(())
        })
        .await
    }

    async fn reset(&self, permit: BootPermit, vm: VmId) -> Answer<()> {
        self.with("reset", vm, |machine| {
            self.gate().again(&permit, vm, &[BootPath::Reset], &machine.observed.artifacts)?;
            if machine.observed.waiting.take() == Some(Waiting::Reset) {
                machine.observed.power = ObservedPower::Running;
            }
            self.emit(vm, EventKind::Reset);
            Ok(())
        })
        .await
    }

    async fn attach_disk(&self, permit: BootPermit, vm: VmId, source: BlockSource, _read_only: bool) -> Answer<()> {
        self.with("attach_disk", vm, |machine| {
            self.gate().block(&permit, vm, BootPath::AttachDisk, &source)?;
            machine.put(&source.slot, source.kind, &source.digest)
        })
        .await
    }

    async fn attach_iso(&self, permit: BootPermit, vm: VmId, source: BlockSource) -> Answer<()> {
        self.with("attach_iso", vm, |machine| {
            self.gate().block(&permit, vm, BootPath::AttachIso, &source)?;
            machine.put(&source.slot, source.kind, &source.digest)
        })
        .await
    }

    async fn attach_nic(
        &self,
        permit: BootPermit,
        vm: VmId,
        index: usize,
        nic: Nic,
        option_rom: Option<SealedArtifact>,
    ) -> Answer<()> {
        self.with("attach_nic", vm, |machine| {
            self.gate().nic(&permit, vm, option_rom.as_ref())?;
            nic_form(&nic)?;
            if index >= limits::MACHINE_NICS || nic.option_rom.as_ref() != option_rom.as_ref().map(|rom| rom.digest()) {
                let message = format!("the card for `nic{index}` names another option ROM than the one at hand");
                return Err(HypervisorError::refused(Code::BootIncomplete, message));
            }
            if machine.nics.contains(&index) {
                return Err(taken(vm, &format!("nic{index}")));
            }
            if let Some(rom) = &option_rom {
                machine.put(rom.slot(), rom.kind(), rom.digest())?;
            }
            machine.nics.push(index);
            Ok(())
        })
        .await
    }

    async fn detach(&self, vm: VmId, slot: &str) -> Answer<()> {
        self.with("detach", vm, |machine| {
            machine.observed.artifacts.retain(|artifact| artifact.slot != slot);
            machine.nics.retain(|index| format!("nic{index}") != slot);
            self.emit(vm, EventKind::Detached { slot: slot.to_owned() });
            Ok(())
        })
        .await
    }

    async fn snapshot_create(&self, vm: VmId, name: SnapshotName) -> Answer<Snapshot> {
        self.with("snapshot_create", vm, |machine| {
            if machine.snapshots.iter().any(|snapshot| snapshot.name == name) {
                let message = format!("machine {vm} has a snapshot `{name}` already");
                return Err(HypervisorError::refused(Code::MachineState, message));
            }
            let artifacts = machine.observed.artifacts.clone();
            let snapshot = Snapshot { name, taken_at: (self.now)(), artifacts };
            machine.snapshots.push(snapshot.clone());
            Ok(snapshot)
        })
        .await
    }

    async fn snapshot_revert(&self, permit: BootPermit, vm: VmId, name: SnapshotName) -> Answer<()> {
        self.with("snapshot_revert", vm, |machine| {
            let Some(snapshot) = machine.snapshots.iter().find(|snapshot| snapshot.name == name) else {
                return Err(unknown(vm));
            };
            self.gate().again(&permit, vm, &[BootPath::RevertSnapshot], &snapshot.artifacts)?;
            let same = |one: &[Artifact], other: &[Artifact]| one.iter().all(|artifact| other.contains(artifact));
            let (then, now) = (&snapshot.artifacts, &machine.observed.artifacts);
            if !same(then, now) || !same(now, then) {
                let message = format!("other artifacts are in machine {vm} than when `{name}` was taken");
                return Err(HypervisorError::refused(Code::MachineState, message));
            }
            if machine.observed.waiting.take().is_some() {
                machine.observed.power = ObservedPower::Running;
            }
            Ok(())
        })
        .await
    }

    async fn snapshot_delete(&self, vm: VmId, name: SnapshotName) -> Answer<()> {
        self.call("snapshot_delete", Some(vm), || {
            let mut machines = self.machines();
            let machine = machines.get_mut(&vm).ok_or_else(|| unknown(vm))?;
            let before = machine.snapshots.len();
            machine.snapshots.retain(|snapshot| snapshot.name != name);
            if machine.snapshots.len() == before { Err(unknown(vm)) } else { Ok(()) }
        })
        .await
    }

    async fn snapshot_list(&self, vm: VmId) -> Answer<Vec<Snapshot>> {
        let deed = || Ok(self.machines().get(&vm).ok_or_else(|| unknown(vm))?.snapshots.clone());
        self.call("snapshot_list", Some(vm), deed).await
    }

    async fn save(&self, vm: VmId) -> Answer<()> {
        self.with("save", vm, |machine| {
            machine.saved = true;
            Ok(())
        })
        .await?;
        self.end(vm, Exit::Saved);
        Ok(())
    }

    async fn restore(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        let deed = || self.bring_up(&permit, &launch, &[BootPath::Restore], ObservedPower::Running);
        self.call("restore", Some(launch.vm), deed).await
    }

    async fn migrate_out(&self, vm: VmId, _peer: MigrationSockets) -> Answer<MigrationReport> {
        self.with("migrate_out", vm, |_| Ok(())).await?;
        self.end(vm, Exit::Migrated);
        Ok(MigrationReport { total_ms: 1, downtime_ms: 1, bytes: 0 })
    }

    async fn migrate_in(&self, permit: BootPermit, launch: Launch) -> Answer<MigrationSockets> {
        let deed = || self.bring_up(&permit, &launch, &[BootPath::IncomingMigration], ObservedPower::Paused);
        self.call("migrate_in", Some(launch.vm), deed).await?;
        let at = PathBuf::from("/fake").join(launch.vm.to_string());
        Ok(MigrationSockets { state: at.join("migration.sock"), disks: at.join("mirror.sock") })
    }

    async fn limit(&self, vm: VmId, _limits: Limits) -> Answer<()> {
        self.with("limit", vm, |_| Ok(())).await
    }

    async fn links(&self, vm: VmId, _up: bool) -> Answer<()> {
        self.with("links", vm, |_| Ok(())).await
    }

    async fn balloon(&self, vm: VmId, _memory_mib: u64) -> Answer<()> {
        self.with("balloon", vm, |_| Ok(())).await
    }

    async fn guest(&self, vm: VmId, request: GuestRequest) -> Answer<()> {
        self.with("guest", vm, |_| Ok(())).await?;
        if request == GuestRequest::Shutdown {
            self.guest_shutdown(vm);
        }
        Ok(())
    }

    async fn console(&self, vm: VmId) -> Answer<PathBuf> {
        self.with("console", vm, |_| Ok(PathBuf::from("/fake").join(vm.to_string()).join("serial.sock"))).await
    }

    async fn console_log(&self, vm: VmId, limit: usize) -> Answer<Vec<u8>> {
        self.call("console_log", Some(vm), || {
            let machines = self.machines();
            let machine = machines.get(&vm).ok_or_else(|| unknown(vm))?;
            let mut text = format!("machine {} is in memory\n", machine.observed.name).into_bytes();
            text.truncate(limit);
            Ok(text)
        })
        .await
    }

    async fn vnc(&self, vm: VmId) -> Answer<PathBuf> {
        self.with("vnc", vm, |_| Ok(PathBuf::from("/fake").join(vm.to_string()).join("vnc.sock"))).await
    }

    async fn socket_dir(&self, vm: VmId) -> Answer<PathBuf> {
        Ok(PathBuf::from("/fake").join(vm.to_string()))
    }

    fn socket_owner(&self) -> Option<(u32, u32)> {
        None
    }

    async fn forget(&self, vm: VmId) -> Answer<()> {
        self.call("forget", Some(vm), || {
            let mut machines = self.machines();
            if machines.get(&vm).is_some_and(Machine::is_on) {
                return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} runs; stop it first")));
            }
            machines.remove(&vm);
            Ok(())
        })
        .await
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }
}

fn unknown(vm: VmId) -> HypervisorError {
    HypervisorError::refused(Code::MachineUnknown, format!("machine {vm} or its snapshot is not known to this node"))
}

fn taken(vm: VmId, slot: &str) -> HypervisorError {
    HypervisorError::refused(Code::MachineState, format!("something is in `{slot}` of machine {vm} already"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::hypervisor::gate::needed;
    use crate::release::admit::BootArtifact;
    use crate::types::vm::{DirectKernel, RestartPolicy, VmSpec};

    fn vm(number: u128) -> VmId {
        VmId::new(uuid::Uuid::from_u128(number))
    }

    fn launch(vm: VmId, kernel: &[u8]) -> Launch {
        let kernel = SealedArtifact::copy("kernel", ArtifactKind::Kernel, kernel, 1024).unwrap();
        let direct = DirectKernel { kernel: kernel.digest().clone(), initrd: None, cmdline: String::new() };
        let spec = VmSpec {
            name: "one".to_owned(),
            cpus: 1,
            memory_mib: 64,
            kernel: Some(direct),
            firmware: None,
            disks: Vec::new(),
            isos: Vec::new(),
            nics: Vec::new(),
            vtpm: false,
            autostart: false,
            restart: RestartPolicy::Never,
            cpu_limit_percent: None,
            netboot: false,
        };
        Launch { vm, spec, sealed: vec![kernel], blocks: Vec::new(), paused: false }
    }

    fn permit(launch: &Launch, path: BootPath) -> BootPermit {
        let covered = needed(&launch.spec).into_iter().map(|artifact| BootArtifact {
            slot: artifact.slot,
            kind: artifact.kind,
            digest: artifact.digest,
            tree_root: None,
            bytes: 0,
        });
        BootPermit::for_tests(launch.vm, path, covered.collect())
    }

    fn fake() -> Fake {
        Fake::new("test", || Timestamp::UNIX_EPOCH)
    }

    fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Code {
        answer.unwrap_err().reason().unwrap().code.known().unwrap()
    }

    #[tokio::test]
    async fn only_what_is_permitted_starts_and_only_once() {
        let fake = fake();
        let sound = launch(vm(1), b"kernel");
        let other = launch(vm(1), b"another kernel");
        assert_eq!(code(fake.start(permit(&other, BootPath::Start), sound.clone()).await), Code::BootUncovered);
        assert_eq!(code(fake.start(permit(&sound, BootPath::Reset), sound.clone()).await), Code::BootPermitMismatch);
        assert_eq!(fake.starts(), 0);
        fake.start(permit(&sound, BootPath::Start), sound.clone()).await.unwrap();
        assert_eq!(code(fake.start(permit(&sound, BootPath::Start), sound.clone()).await), Code::MachineState);
        assert_eq!(fake.starts(), 1);

        // A new agent finds it, and a reset of the guest's own is asked for again.
        let later = fake.reborn();
        later.guest_reset(vm(1));
        assert_eq!(code(later.resume(vm(1)).await), Code::MachineState);
        later.reset(permit(&sound, BootPath::Reset), vm(1)).await.unwrap();
        assert_eq!(later.observe().await.unwrap()[0].power, ObservedPower::Running);
    }

    #[tokio::test]
    async fn faults_come_where_they_are_planned() {
        let fake = fake();
        let one = launch(vm(1), b"kernel");
        fake.faults(|call| match call.number {
            0 => Fault::Fail,
            1 => Fault::Lost,
            _ => Fault::None,
        });
        assert!(fake.start(permit(&one, BootPath::Start), one.clone()).await.is_err());
        assert_eq!(fake.starts(), 0, "it failed before anything happened");
        assert!(fake.start(permit(&one, BootPath::Start), one.clone()).await.is_err());
        assert_eq!(fake.starts(), 1, "it happened, and the answer was lost");
        assert_eq!(fake.observe().await.unwrap().len(), 1);
        let mut events = fake.events();
        fake.die(vm(1));
        assert!(matches!(events.try_recv().unwrap().kind, EventKind::Exited { exit: Exit::Died { .. } }));
        assert_eq!(fake.observe().await.unwrap()[0].power, ObservedPower::Failed);
    }
}
