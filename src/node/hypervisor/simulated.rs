//! Machines that are files: everything behind the gate happens, but for running anything. For tests of what stands
//! before a hypervisor, and for counting on a laptop what ten thousand machines would do.
//!
//! What "runs" is in a file, so that it outlives the process as a real machine does. A machine that would be started a
//! second time is refused, and leaves a mark that a test finds.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

use super::gate::{self, Gate};
use super::launch::{BlockSource, Launch, SealedArtifact};
use super::observed::{
    AcceleratorChoice, Artifact, EventKind, Exit, MachineEvent, MigrationReport, Observed, Snapshot, SnapshotName,
};
use super::{Answer, GuestRequest, Hypervisor, HypervisorError, Limits, MigrationSockets};
use crate::kill::{self, KillPoint};
use crate::release::admit::BootPermit;
use crate::types::vm::{Accelerator, ArtifactKind, BootPath, Nic, ObservedPower, VmId};
use crate::types::{Clock, Code};

/// Machines that are files below a folder.
#[derive(Debug)]
pub struct Simulated {
    folder: PathBuf,
    node: String,
    clock: Clock,
    events: broadcast::Sender<MachineEvent>,
    /// The machines whose consoles are open.
    consoles: Arc<Mutex<HashSet<VmId>>>,
}

/// A machine's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    observed: Observed,
    snapshots: Vec<Snapshot>,
    /// How often it was started.
    starts: u64,
}

impl Simulated {
    /// The machines below this folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn open(folder: PathBuf, node: String, clock: Clock) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, node, clock, events: broadcast::channel(1024).0, consoles: Arc::default() })
    }

    fn gate(&self) -> Gate<'_> {
        Gate { node: &self.node, now: self.clock.now() }
    }

    fn path(&self, vm: VmId) -> PathBuf {
        self.folder.join(format!("{vm}.json"))
    }

    fn read(&self, vm: VmId) -> Answer<Option<File>> {
        match fs::read(self.path(vm)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| HypervisorError::failed("read the record of", vm, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HypervisorError::failed("read the record of", vm, error)),
        }
    }

    fn write(&self, vm: VmId, file: &File) -> Answer<()> {
        let failed = |error: io::Error| HypervisorError::failed("write the record of", vm, error);
        let bytes = serde_json::to_vec(file).map_err(|error| failed(error.into()))?;
        let beside = self.path(vm).with_extension("new");
        fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, self.path(vm))).map_err(failed)
    }

    /// The file of a machine that runs.
    fn up(&self, vm: VmId) -> Answer<File> {
        match self.read(vm)? {
            Some(file) if is_up(&file) => Ok(file),
            Some(_) => Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} does not run"))),
            None => Err(HypervisorError::refused(Code::MachineUnknown, format!("there is no machine {vm}"))),
        }
    }

    fn change(&self, vm: VmId, change: impl FnOnce(&mut File)) -> Answer<()> {
        let mut file = self.up(vm)?;
        change(&mut file);
        self.write(vm, &file)
    }

    fn begin(&self, permit: &BootPermit, launch: &Launch, paths: &[BootPath]) -> Answer<Observed> {
        let artifacts = self.gate().launch(permit, launch, paths)?;
        let before = self.read(launch.vm)?;
        if before.as_ref().is_some_and(is_up) {
            // The disaster that tests look for.
            let _ = fs::write(self.folder.join(format!("{}.twice", launch.vm)), b"");
            let message = format!("machine {} runs already", launch.vm);
            return Err(HypervisorError::refused(Code::MachineState, message));
        }
        let observed = Observed {
            vm: launch.vm,
            name: launch.spec.name.clone(),
            power: if launch.paused { ObservedPower::Paused } else { ObservedPower::Running },
            waiting: None,
            artifacts,
            host_firmware: Vec::new(),
            accelerator: Some(AcceleratorChoice {
                accelerator: Accelerator::Tcg,
                reason: "the machine is simulated".to_owned(),
            }),
            machine_type: None,
            pid: None,
            exit: None,
        };
        let (snapshots, starts) = before.map_or_else(Default::default, |file| (file.snapshots, file.starts));
        self.write(launch.vm, &File { observed: observed.clone(), snapshots, starts: starts + 1 })?;
        kill::here(KillPoint::SimulatedStarted);
        self.emit(launch.vm, EventKind::Started);
        Ok(observed)
    }

    fn end(&self, vm: VmId, exit: Exit) -> Answer<()> {
        let Some(mut file) = self.read(vm)? else { return Ok(()) };
        if is_up(&file) {
            file.observed.power = ObservedPower::Stopped;
            file.observed.exit = Some(exit.clone());
            self.write(vm, &file)?;
            kill::here(KillPoint::SimulatedStopped);
            self.emit(vm, EventKind::Exited { exit });
        }
        Ok(())
    }

    fn emit(&self, vm: VmId, kind: EventKind) {
        // Nobody may listen.
        let _ = self.events.send(MachineEvent { vm, kind });
    }

    fn unsupported<T>(what: &str) -> Answer<T> {
        Err(HypervisorError::refused(Code::MachineUnsupported, format!("a simulated machine has no {what}")))
    }
}

impl Hypervisor for Simulated {
    async fn start(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        self.begin(&permit, &launch, gate::STARTS)
    }

    async fn observe(&self) -> Answer<Vec<Observed>> {
        let node = |error: io::Error| HypervisorError::Node { act: "read the machines", source: error.into() };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(node)? {
            let path = entry.map_err(node)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(node)?;
            let file: File = serde_json::from_slice(&bytes).map_err(|error| node(error.into()))?;
            all.push(file.observed);
        }
        all.sort_by_key(|observed| observed.vm);
        Ok(all)
    }

    async fn stop(&self, vm: VmId, _: Duration) -> Answer<()> {
        self.end(vm, Exit::Asked)
    }

    async fn kill(&self, vm: VmId) -> Answer<()> {
        self.end(vm, Exit::Asked)
    }

    async fn pause(&self, vm: VmId) -> Answer<()> {
        self.change(vm, |file| file.observed.power = ObservedPower::Paused)
    }

    async fn resume(&self, vm: VmId) -> Answer<()> {
        self.change(vm, |file| file.observed.power = ObservedPower::Running)
    }

    async fn reset(&self, permit: BootPermit, vm: VmId) -> Answer<()> {
        let file = self.up(vm)?;
        self.gate().again(&permit, vm, &[BootPath::Reset], &file.observed.artifacts)
    }

    async fn attach_disk(&self, permit: BootPermit, vm: VmId, source: BlockSource, _: bool) -> Answer<()> {
        self.gate().block(&permit, vm, BootPath::AttachDisk, &source)?;
        self.change(vm, |file| put(file, &source.slot, source.kind, &source))
    }

    async fn attach_iso(&self, permit: BootPermit, vm: VmId, source: BlockSource) -> Answer<()> {
        self.gate().block(&permit, vm, BootPath::AttachIso, &source)?;
        self.change(vm, |file| put(file, &source.slot, source.kind, &source))
    }

    async fn attach_nic(
        &self,
        permit: BootPermit,
        vm: VmId,
        _: usize,
        _: Nic,
        option_rom: Option<SealedArtifact>,
    ) -> Answer<()> {
        self.gate().nic(&permit, vm, option_rom.as_ref())?;
        self.up(vm).map(drop)
    }

    async fn detach(&self, vm: VmId, slot: &str) -> Answer<()> {
        self.change(vm, |file| file.observed.artifacts.retain(|artifact| artifact.slot != slot))
    }

    async fn snapshot_create(&self, vm: VmId, name: SnapshotName) -> Answer<Snapshot> {
        let mut file = self.up(vm)?;
        if file.snapshots.iter().any(|there| there.name == name) {
            return Err(HypervisorError::refused(Code::MachineState, format!("there is a snapshot {name} already")));
        }
        let snapshot = Snapshot { name, taken_at: self.clock.now(), artifacts: file.observed.artifacts.clone() };
        file.snapshots.push(snapshot.clone());
        self.write(vm, &file)?;
        kill::here(KillPoint::SimulatedSnapshot);
        Ok(snapshot)
    }

    async fn snapshot_revert(&self, permit: BootPermit, vm: VmId, name: SnapshotName) -> Answer<()> {
        let file = self.up(vm)?;
        let unknown = || HypervisorError::refused(Code::MachineUnknown, format!("there is no snapshot {name}"));
        let snapshot = file.snapshots.iter().find(|there| there.name == name).ok_or_else(unknown)?;
        self.gate().again(&permit, vm, &[BootPath::RevertSnapshot], &snapshot.artifacts)
    }

    async fn snapshot_delete(&self, vm: VmId, name: SnapshotName) -> Answer<()> {
        self.change(vm, |file| file.snapshots.retain(|there| there.name != name))
    }

    async fn snapshot_list(&self, vm: VmId) -> Answer<Vec<Snapshot>> {
        Ok(self.read(vm)?.map(|file| file.snapshots).unwrap_or_default())
    }

    async fn save(&self, vm: VmId) -> Answer<()> {
        self.up(vm)?;
        self.end(vm, Exit::Saved)
    }

    async fn restore(&self, permit: BootPermit, launch: Launch) -> Answer<Observed> {
        self.begin(&permit, &launch, &[BootPath::Restore])
    }

    async fn migrate_out(&self, _: VmId, _: MigrationSockets) -> Answer<MigrationReport> {
        Self::unsupported("migration")
    }

    async fn migrate_in(&self, permit: BootPermit, launch: Launch) -> Answer<MigrationSockets> {
        self.gate().launch(&permit, &launch, &[BootPath::IncomingMigration])?;
        Self::unsupported("migration")
    }

    async fn limit(&self, vm: VmId, _: Limits) -> Answer<()> {
        self.up(vm).map(drop)
    }

    async fn links(&self, vm: VmId, _: bool) -> Answer<()> {
        self.up(vm).map(drop)
    }

    async fn balloon(&self, vm: VmId, _: u64) -> Answer<()> {
        self.up(vm).map(drop)
    }

    async fn guest(&self, _: VmId, _: GuestRequest) -> Answer<()> {
        Self::unsupported("guest agent")
    }

    async fn console(&self, vm: VmId) -> Answer<PathBuf> {
        let file = self.up(vm)?;
        let folder = self.socket_dir(vm).await?;
        let socket = folder.join("serial.sock");
        if self.consoles.lock().unwrap_or_else(PoisonError::into_inner).insert(vm) {
            let failed = |error: io::Error| HypervisorError::failed("open the console of", vm, error);
            gone(fs::remove_file(&socket)).map_err(failed)?;
            let listener = UnixListener::bind(&socket).map_err(failed)?;
            let log = folder.join(CONSOLE_LOG);
            say(&log, format!("{} is simulated: what is typed comes back\r\n", file.observed.name).as_bytes());
            let (events, consoles) = (self.events.subscribe(), self.consoles.clone());
            tokio::spawn(async move {
                echo(listener, &log, vm, events).await;
                consoles.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm);
            });
        }
        Ok(socket)
    }

    async fn console_log(&self, vm: VmId, limit: usize) -> Answer<Vec<u8>> {
        let mut log = fs::read(self.folder.join(vm.to_string()).join(CONSOLE_LOG)).unwrap_or_default();
        let surplus = log.len().saturating_sub(limit);
        Ok(log.split_off(surplus))
    }

    async fn vnc(&self, _: VmId) -> Answer<PathBuf> {
        Self::unsupported("VNC console")
    }

    async fn socket_dir(&self, vm: VmId) -> Answer<PathBuf> {
        let folder = self.folder.join(vm.to_string());
        fs::create_dir_all(&folder).map_err(|error| HypervisorError::failed("make the folder of", vm, error))?;
        Ok(folder)
    }

    fn socket_owner(&self) -> Option<(u32, u32)> {
        None
    }

    async fn forget(&self, vm: VmId) -> Answer<()> {
        if self.read(vm)?.as_ref().is_some_and(is_up) {
            return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} runs")));
        }
        let failed = |error: io::Error| HypervisorError::failed("forget", vm, error);
        gone(fs::remove_dir_all(self.folder.join(vm.to_string()))).map_err(failed)?;
        gone(fs::remove_file(self.path(vm))).map_err(failed)
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }
}

/// What came out of a machine's console, in its folder.
const CONSOLE_LOG: &str = "serial.log";

/// A console on which what is typed comes back, for one client at a time, until its machine ends.
async fn echo(listener: UnixListener, log: &Path, vm: VmId, mut events: broadcast::Receiver<MachineEvent>) {
    let ended = async {
        // Who missed some events has seen enough: the next who comes opens it anew.
        while let Ok(event) = events.recv().await {
            if event.vm == vm && matches!(event.kind, EventKind::Exited { .. }) {
                return;
            }
        }
    };
    let clients = async {
        while let Ok((client, _)) = listener.accept().await {
            let _ = answer(client, log).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = clients => {}
    }
}

async fn answer(mut client: UnixStream, log: &Path) -> io::Result<()> {
    let mut typed = [0; 4096];
    loop {
        let count = client.read(&mut typed).await?;
        let Some(said) = typed.get(..count).filter(|said| !said.is_empty()) else { return Ok(()) };
        say(log, said);
        client.write_all(said).await?;
    }
}

fn say(log: &Path, said: &[u8]) {
    let written = fs::File::options().create(true).append(true).open(log).and_then(|mut log| log.write_all(said));
    if let Err(error) = written {
        tracing::warn!(%error, "what a simulated console says is not written down");
    }
}

const fn is_up(file: &File) -> bool {
    matches!(file.observed.power, ObservedPower::Running | ObservedPower::Paused | ObservedPower::Starting)
}

fn put(file: &mut File, slot: &str, kind: ArtifactKind, source: &BlockSource) {
    file.observed.artifacts.retain(|artifact| artifact.slot != slot);
    file.observed.artifacts.push(Artifact { slot: slot.to_owned(), kind, digest: source.digest.clone() });
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
