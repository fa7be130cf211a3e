//! A permit and a launch in, a machine out: from nothing, from its saved memory, or waiting for another node's.
//!
//! Each step leaves something that the next look understands: the record is written before the process is there, the
//! process is halted until the record has it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::accelerator::Finder;
use super::args::{self, BlockPlan, Overlay, Plan};
use super::cgroup::Cgroup;
use super::machine::{GREETING, Live, Machine, observed};
use super::process::{Handover, Process, Spawn, host_program, last_line};
use super::qmp::{Qmp, QmpError};
use super::record::{BlockRecord, Folder, NicRecord, Phase, Record};
use super::{AcceleratorWish, Inner, migrate, network, tpm, watch};
use crate::kill::KillPoint;
use crate::node::hypervisor::gate::STARTS;
use crate::node::hypervisor::launch::{Launch, SealedArtifact};
use crate::node::hypervisor::observed::{AcceleratorChoice, Artifact, EventKind, Observed, Waiting};
use crate::node::hypervisor::{Answer, HypervisorError, Limits};
use crate::release::admit::BootPermit;
use crate::types::vm::{Accelerator, BootPath, Network, VmId};
use crate::types::{Code, Digest};

/// What a machine begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its firmware.
    Fresh,
    /// The memory that was saved.
    Restore,
    /// What another node sends.
    Incoming,
}

impl Mode {
    const fn paths(self) -> &'static [BootPath] {
        match self {
            Self::Fresh => STARTS,
            Self::Restore => &[BootPath::Restore],
            Self::Incoming => &[BootPath::IncomingMigration],
        }
    }
}

/// Starts a machine.
pub(super) async fn start(inner: &Arc<Inner>, permit: BootPermit, launch: Launch, mode: Mode) -> Answer<Observed> {
    let vm = launch.vm;
    let artifacts = inner.gate().launch(&permit, &launch, mode.paths())?;
    inner.step(KillPoint::MachineStartAdmitted).await;
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let folder = machine.folder();
    let failed = |error: io::Error| HypervisorError::failed("start", vm, error);
    folder.make(inner.owner).map_err(failed)?;
    let Some(lock) = machine.lock_soon(inner).await? else {
        return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} runs already")));
    };
    let earlier = folder.exists().then(|| machine.record()).transpose()?;
    let record = plan_record(inner, &launch, artifacts, earlier, mode).await?;
    machine.set_record(record.clone())?;
    inner.step(KillPoint::MachineStartRecorded).await;
    let started = bring_up(inner, &machine, &launch, &record, lock, mode).await;
    if let Err(error) = started {
        let detail = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        // Its watcher has cleared away if there was a process; else there is only this.
        if let Some(live) = machine.live() {
            live.process.kill().map_err(failed)?;
            live.ended_within(super::END).await;
        }
        machine.settle(inner, Some(detail)).await;
        return Err(error);
    }
    observed(inner, &machine).await
}

/// What is to be started, as it is written down before.
async fn plan_record(
    inner: &Inner,
    launch: &Launch,
    artifacts: Vec<Artifact>,
    earlier: Option<Record>,
    mode: Mode,
) -> Answer<Record> {
    let vm = launch.vm;
    let (machine_type, snapshots) = match &earlier {
        Some(record) => (record.machine_type.clone(), record.snapshots.clone()),
        None => {
            let newest = args::machine_type(inner.version).unwrap_or("q35").to_owned();
            (newest, Vec::new())
        }
    };
    let accelerator = match (mode, &earlier) {
        (Mode::Restore, Some(record)) if record.saved => {
            if record.artifacts != artifacts {
                return Err(HypervisorError::refused(
                    Code::BootIncomplete,
                    format!("machine {vm} was saved with other artifacts in it than those of this launch"),
                ));
            }
            record.accelerator.clone()
        }
        (Mode::Restore, _) => {
            return Err(HypervisorError::refused(Code::MachineState, format!("machine {vm} was not saved")));
        }
        _ => inner.accelerator(launch.sealed("kernel")).await?,
    };
    let mut blocks = Vec::new();
    for source in &launch.blocks {
        let index = args::index_of(&source.slot);
        let disk = source.slot.starts_with("disk").then(|| launch.spec.disks.get(index)).flatten();
        let block = BlockRecord {
            slot: source.slot.clone(),
            digest: source.digest.clone(),
            socket: source.socket.clone(),
            format: source.format,
            overlay: disk.filter(|disk| !disk.read_only).map(|_| overlay_name(&source.slot, &source.digest)),
            overlay_bytes: disk.and_then(|disk| disk.size_bytes).unwrap_or_default().max(source.virtual_bytes),
        };
        blocks.push(block);
    }
    let nics = launch.spec.nics.iter().enumerate().map(|(index, nic)| NicRecord {
        index,
        mac: nic.mac.clone().unwrap_or_else(|| args::mac_of(vm, index)),
        tap: matches!(nic.network, Network::Bridge { .. }).then(|| network::tap_name(vm, index)),
        nic: nic.clone(),
    });
    Ok(Record {
        vm,
        spec: launch.spec.clone(),
        machine_type,
        accelerator,
        artifacts,
        host_firmware: inner.roms.shown(launch.spec.firmware.is_some()),
        blocks,
        nics: nics.collect(),
        snapshots,
        phase: Phase::Starting,
        saved: mode == Mode::Restore,
        paused: launch.paused,
    })
}

/// Everything from the first overlay to the first instruction.
async fn bring_up(
    inner: &Arc<Inner>,
    machine: &Arc<Machine>,
    launch: &Launch,
    record: &Record,
    lock: File,
    mode: Mode,
) -> Answer<()> {
    let vm = launch.vm;
    let folder = machine.folder();
    let failed = |error: io::Error| HypervisorError::failed("start", vm, error);
    let vars = overlays(inner, folder, launch, record).await.map_err(failed)?;
    inner.step(KillPoint::MachineStartOverlays).await;

    let mut handover = Handover::default();
    let roms_fd = inner.roms.hand_over(&mut handover).map_err(failed)?;
    handover.add(lock.into());
    let sealed = launch
        .sealed
        .iter()
        .map(|artifact| Ok((artifact.slot().to_owned(), handover.add(artifact.fd().try_clone()?))))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    let mut listen = |name: &str| -> io::Result<i32> { Ok(handover.add(listener(&folder.socket(name))?)) };
    let (qmp_fd, serial_fd, agent_fd) =
        (listen("qmp").map_err(failed)?, listen("serial").map_err(failed)?, listen("agent").map_err(failed)?);
    let serial_log_fd = handover.add(append(&folder.serial_log()).map_err(failed)?);
    let mut overlay = |name: &str, image: &str| open_overlay(&mut handover, name, &folder.image(image));
    let state = overlay("state", "state").map_err(failed)?;
    let vars = vars.map(|image| overlay("firmware-vars", &image)).transpose().map_err(failed)?;
    let mut blocks = Vec::new();
    for block in &record.blocks {
        let overlay = block.overlay.as_deref().map(|image| overlay(&block.slot, image)).transpose().map_err(failed)?;
        blocks.push(BlockPlan {
            slot: block.slot.clone(),
            socket: block.socket.clone(),
            format: block.format,
            overlay,
        });
    }
    let tpm = match launch.spec.vtpm {
        true => Some(tpm::start(folder, inner.owner).await.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                HypervisorError::refused(Code::MachineUnsupported, format!("machine {vm} has a TPM, and {error}"))
            } else {
                failed(error)
            }
        })?),
        false => None,
    };
    for nic in &record.nics {
        if let (Network::Bridge { bridge }, Some(tap)) = (&nic.nic.network, &nic.tap) {
            self::tap(inner, vm, tap, bridge, &nic.mac).await?;
        }
    }
    inner.step(KillPoint::MachineStartResources).await;

    let vnc = folder.vnc();
    // A socket that a QEMU that was killed left behind is in the way of the next.
    let _ = fs::remove_file(&vnc);
    let plan = Plan {
        vm,
        spec: &launch.spec,
        machine_type: &record.machine_type,
        accelerator: record.accelerator.accelerator,
        qmp_fd,
        serial_fd,
        agent_fd,
        serial_log_fd,
        roms_fd,
        sealed,
        vars,
        state,
        blocks,
        taps: record.nics.iter().filter_map(|nic| Some((nic.index, nic.tap.clone()?))).collect(),
        tpm: tpm.as_deref(),
        vnc: &vnc,
        incoming: mode != Mode::Fresh,
    };
    let live = spawn(inner, machine, args::arguments(&plan), handover, record).await?;
    machine.update(|record| {
        record.phase = Phase::Running { pid: live.process.pid, started: live.process.started };
    })?;
    inner.step(KillPoint::MachineStartIdentified).await;
    if let Some(percent) = launch.spec.cpu_limit_percent {
        limit(vm, live.process.pid, Limits { cpu_percent: Some(percent), memory_bytes: None })?;
    }
    match mode {
        Mode::Fresh => {}
        Mode::Restore => {
            migrate::restore(machine, &live).await?;
            machine.update(|record| record.saved = false)?;
            let _ = fs::remove_file(folder.saved_state());
        }
        Mode::Incoming => {
            live.wait_for(Some(Waiting::Migration));
            return migrate::listen(machine, &live, inner.owner).await;
        }
    }
    if !launch.paused {
        live.execute("cont", json!({})).await?;
    }
    inner.step(KillPoint::MachineStartRunning).await;
    inner.emit(vm, EventKind::Started);
    Ok(())
}

/// The process, and its monitor.
async fn spawn(
    inner: &Arc<Inner>,
    machine: &Arc<Machine>,
    arguments: Vec<OsString>,
    handover: Handover,
    record: &Record,
) -> Answer<Arc<Live>> {
    let vm = record.vm;
    let folder = machine.folder();
    let failed = |error: io::Error| HypervisorError::failed("start", vm, error);
    // With KVM a machine's user is in the group that may open it.
    let owner = match (inner.owner, record.accelerator.accelerator) {
        (Some((user, _)), Accelerator::Kvm) => {
            let group = fs::metadata("/dev/kvm").map(|metadata| std::os::unix::fs::MetadataExt::gid(&metadata));
            Some((user, group.map_err(failed)?))
        }
        (owner, _) => owner,
    };
    let log = folder.log();
    let spawn = Spawn { program: &inner.program, arguments, handover, owner, netns: inner.netns(), log: &log };
    let mut child = spawn.run().map_err(failed)?;
    let process = child.id().and_then(Process::of);
    inner.step(KillPoint::MachineStartSpawned).await;
    let connected = match process {
        Some(process) => Qmp::connect(&folder.socket("qmp"), GREETING).await.map(|connected| (process, connected)),
        None => Err(QmpError::Gone),
    };
    let (process, (qmp, events)) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let _ = child.start_kill();
            let _ = child.wait().await;
            let line = last_line(&log);
            let why: Box<dyn std::error::Error + Send + Sync> =
                if line.is_empty() { error.into() } else { line.into() };
            return Err(HypervisorError::failed("start", vm, why));
        }
    };
    let live = Arc::new(Live::new(vm, process, qmp));
    machine.set_live(Some(Arc::clone(&live)));
    watch::spawn(inner, Arc::clone(machine), Arc::clone(&live), events, Some(child));
    live.execute("migrate-set-capabilities", json!({ "capabilities": [{ "capability": "events", "state": true }] }))
        .await?;
    Ok(live)
}

/// Makes the images of the machine's own that are not there yet; gives the name of the one of the variables.
async fn overlays(inner: &Inner, folder: &Folder, launch: &Launch, record: &Record) -> io::Result<Option<String>> {
    let state = folder.image("state");
    if !state.exists() {
        let empty = inner.settings.state.join("empty.qcow2");
        if !empty.exists() {
            create_overlay(&empty, 1024 * 1024).await?;
        }
        fs::copy(&empty, state.with_extension("new"))?;
        fs::rename(state.with_extension("new"), &state)?;
    }
    for block in &record.blocks {
        if let Some(image) = &block.overlay {
            create_overlay(&folder.image(image), block.overlay_bytes).await?;
        }
    }
    match launch.sealed("firmware-vars") {
        Some(template) => vars(folder, template).await.map(Some),
        None => Ok(None),
    }
}

/// An overlay that records no backing file: what is below it is said when it is opened, and only then.
pub(super) async fn create_overlay(path: &Path, bytes: u64) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let new = path.with_extension("new");
    let bytes = bytes.next_multiple_of(512).to_string();
    host_program("qemu-img", &["create", "-q", "-f", "qcow2", &new.display().to_string(), &bytes], None).await?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(new, path)
}

/// The machine's copy of the firmware's variables, in the format that snapshots need.
async fn vars(folder: &Folder, template: &SealedArtifact) -> io::Result<String> {
    let name = overlay_name("firmware-vars", template.digest());
    let path = folder.image(&name);
    if path.exists() {
        return Ok(name);
    }
    let (raw, new) = (path.with_extension("raw"), path.with_extension("new"));
    let memory = File::from(template.fd().try_clone()?);
    let mut bytes = vec![0; usize::try_from(memory.metadata()?.len()).map_err(io::Error::other)?];
    memory.read_exact_at(&mut bytes, 0)?;
    fs::write(&raw, bytes)?;
    let (from, to) = (raw.display().to_string(), new.display().to_string());
    host_program("qemu-img", &["convert", "-q", "-f", "raw", "-O", "qcow2", &from, &to], None).await?;
    fs::remove_file(raw)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(new, path)?;
    Ok(name)
}

/// An overlay belongs to the image that is below it: another image has another overlay.
pub(super) fn overlay_name(slot: &str, digest: &Digest) -> String {
    let hex = digest.to_string();
    let hex = hex.rsplit(':').next().unwrap_or_default();
    format!("{slot}-{}", hex.get(..16).unwrap_or_default())
}

/// Opens an image twice, to write by and to read by, and hands both over.
fn open_overlay(handover: &mut Handover, name: &str, path: &Path) -> io::Result<Overlay> {
    let write_fd = handover.add(OpenOptions::new().read(true).write(true).open(path)?.into());
    let read_fd = handover.add(File::open(path)?.into());
    Ok(Overlay { set: args::set_of(name), write_fd, read_fd })
}

fn listener(path: &Path) -> io::Result<OwnedFd> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

fn append(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.into())
}

/// A tap device on the bridge that a card is to be on.
pub(super) async fn tap(inner: &Inner, vm: VmId, tap: &str, bridge: &str, mac: &str) -> Answer<()> {
    let unsupported = |what: String| HypervisorError::refused(Code::MachineUnsupported, what);
    if let Some((user, _)) = inner.owner
        && user != 0
        && fs::metadata("/dev/net/tun").is_ok_and(|metadata| metadata.permissions().mode() & 0o006 != 0o006)
    {
        return Err(unsupported(format!(
            "machine {vm} is to be on a bridge, and its user may not open /dev/net/tun; its mode is usually 0666"
        )));
    }
    for program in ["ip", "nft"] {
        if super::process::program(program).is_none() {
            return Err(unsupported(format!("machine {vm} is to be on a bridge, and `{program}` is not installed")));
        }
    }
    let made = network::tap_make(tap, bridge, mac, inner.owner, inner.netns()).await;
    made.map_err(|error| HypervisorError::failed("put on its bridge", vm, error))
}

/// Puts a process under limits.
pub(super) fn limit(vm: VmId, pid: u32, limits: Limits) -> Answer<()> {
    let Some(cgroup) = Cgroup::of(vm) else {
        return Err(HypervisorError::refused(
            Code::MachineUnsupported,
            format!("machine {vm} is to be limited, and this host has no control groups for that"),
        ));
    };
    cgroup.limit(pid, limits).map_err(|error| HypervisorError::failed("limit", vm, error))
}

impl Inner {
    /// The accelerator for a machine with this kernel.
    pub(super) async fn accelerator(&self, kernel: Option<&SealedArtifact>) -> Answer<AcceleratorChoice> {
        if self.settings.accelerator == AcceleratorWish::Tcg {
            return Ok(AcceleratorChoice { accelerator: Accelerator::Tcg, reason: "as configured".to_owned() });
        }
        let finder = Finder {
            program: &self.program,
            state: &self.settings.state,
            version: self.version,
            roms: &self.roms,
            owner: self.owner,
            deadline: self.settings.kvm_deadline,
        };
        let found = finder.find(kernel).await;
        let choice =
            found.map_err(|error| HypervisorError::Node { act: "find the accelerator", source: error.into() })?;
        if self.settings.accelerator == AcceleratorWish::Kvm && choice.accelerator != Accelerator::Kvm {
            return Err(HypervisorError::refused(
                Code::MachineUnsupported,
                format!("KVM is wanted and was not proved: {}", choice.reason),
            ));
        }
        Ok(choice)
    }
}
