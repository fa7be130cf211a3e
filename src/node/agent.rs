//! The agent of a node: a step in; what it took, or every reason why not, out; and news of what happened by itself.
//!
//! A step that brings code into a machine goes through the one gate ([`super::admission`]) first, whatever its path.
//! The agent keeps nothing that it could not find out again: after a restart it looks at what runs, serves the blocks
//! of those machines at the same sockets, and goes on. Two steps for one machine are never under way together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::admission::{Admission, Passed};
use super::hypervisor::gate::needed;
use super::hypervisor::{
    self, Artifact, BlockSource, EventKind, Exit, Hypervisor, HypervisorError, Launch, SnapshotName, Waiting,
};
use super::images::{Alarm, BlockServer, Expected, ImageFormat, ImageRecord, ImageStore, SocketAt, UploadState};
use crate::kill::{self, KillPoint};
use crate::release::admit::quarantine::{Entry, Target};
use crate::release::decision::Decision;
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::step::{
    Action, Ended, EvidenceFile, ImageFacts, ImageVerdict, News, NodeFacts, Observed, Order, Outcome, Passage, Slot,
    Step, Upload, UploadRequest,
};
use crate::types::vm::{ArtifactKind, BootPath, ObservedPower, VmId, VmSpec};
use crate::types::{Clock, Code, Digest, Reason};

/// How long a guest may take to switch itself off when it is asked to.
const GRACE: Duration = Duration::from_secs(20);
/// News that wait for a slow reader; then the agent waits too.
const NEWS: usize = 1024;

/// The agent. Clones are the same agent.
#[derive(Debug)]
pub struct Agent<H> {
    inner: Arc<Inner<H>>,
}

impl<H> Clone for Agent<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<H> {
    hypervisor: H,
    admission: Admission,
    images: ImageStore,
    facts: NodeFacts,
    clock: Clock,
    machines: Machines,
    /// Rules are taken one after the other, with the marks that they leave in the store.
    ruling: Mutex<()>,
    alarms: mpsc::Sender<Alarm>,
    news: mpsc::Sender<News>,
}

/// What the agent holds for a machine: its turn, and its block servers.
#[derive(Debug, Default)]
struct Machine {
    turn: tokio::sync::Mutex<()>,
    servers: Mutex<HashMap<String, BlockServer>>,
}

/// What is held of which machine: of those that are up, and of those that somebody is at work on.
#[derive(Debug, Default)]
struct Machines(Mutex<HashMap<VmId, Arc<Machine>>>);

impl Machines {
    fn held(&self) -> MutexGuard<'_, HashMap<VmId, Arc<Machine>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held for this machine, from now on where nothing was.
    fn of(&self, vm: VmId) -> Arc<Machine> {
        Arc::clone(self.held().entry(vm).or_default())
    }

    /// The machine that this block server is for.
    fn served_at(&self, socket: &Path) -> Option<VmId> {
        let serves = |machine: &Machine| machine.servers().values().any(|server| server.socket() == socket);
        self.held().iter().find(|(_, machine)| serves(machine)).map(|(vm, _)| *vm)
    }

    /// Somebody is done with it. It is held no longer where nothing is served and nobody else is at work: two who
    /// hold it have one turn, and one who comes later begins anew.
    fn let_go(&self, vm: VmId, machine: Arc<Machine>) {
        let mut held = self.held();
        // While the list is locked: of two who are done at once, one is the last.
        drop(machine);
        let is_idle = |machine: &Arc<Machine>| Arc::strong_count(machine) == 1 && machine.servers().is_empty();
        if held.get(&vm).is_some_and(is_idle) {
            held.remove(&vm);
        }
    }
}

/// What comes out of a step that was not taken.
enum Stopped {
    Refused(Vec<Reason>),
    Failed(String),
}

impl From<HypervisorError> for Stopped {
    fn from(error: HypervisorError) -> Self {
        match error.reason() {
            Some(reason) => Self::Refused(vec![reason.clone()]),
            None => Self::Failed(chain(&error)),
        }
    }
}

type Taken = Result<(), Stopped>;

impl<H: Hypervisor> Agent<H> {
    /// The agent over this hypervisor and this store, with the news that it will tell; it takes up what runs already.
    ///
    /// # Errors
    /// Where the hypervisor cannot say what runs.
    pub async fn start(
        hypervisor: H,
        admission: Admission,
        images: ImageStore,
        facts: NodeFacts,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, mpsc::Receiver<News>), String> {
        let (alarms, alarmed) = mpsc::channel(NEWS);
        let (news, told) = mpsc::channel(NEWS);
        let events = hypervisor.events();
        let inner = Inner {
            hypervisor,
            admission,
            images,
            facts,
            clock,
            machines: Machines::default(),
            ruling: Mutex::default(),
            alarms,
            news,
        };
        let agent = Self { inner: Arc::new(inner) };
        for seen in agent.inner.hypervisor.observe().await.map_err(|error| chain(&error))? {
            if is_up(seen.power) {
                agent.serve_again(&seen).await;
            }
        }
        tokio::spawn(agent.clone().listen(events, stop.clone()));
        tokio::spawn(agent.clone().hear(alarmed, stop));
        Ok((agent, told))
    }

    /// The node.
    pub fn facts(&self) -> NodeFacts {
        self.inner.facts.clone()
    }

    /// Every machine that the node has something of.
    ///
    /// # Errors
    /// Where the hypervisor cannot say.
    pub async fn observe(&self) -> Result<Vec<(VmId, Observed)>, String> {
        let seen = self.inner.hypervisor.observe().await.map_err(|error| chain(&error))?;
        let mut all = Vec::with_capacity(seen.len());
        for machine in seen {
            all.push((machine.vm, self.observed(machine).await));
        }
        Ok(all)
    }

    /// Takes a step.
    pub async fn act(&self, order: Order) -> Ended {
        let machine = self.inner.machines.of(order.vm);
        let turn = machine.turn.lock().await;
        let mut passage = None;
        let taken = self.take(&order, &machine, &mut passage).await;
        let outcome = match taken {
            Ok(()) => Outcome::Done,
            Err(Stopped::Refused(reasons)) => Outcome::Refused { reasons },
            Err(Stopped::Failed(message)) => Outcome::Failed { message },
        };
        let observed = self.look_at(order.vm).await;
        if !is_up(observed.power) {
            machine.servers().clear();
        }
        drop(turn);
        self.inner.machines.let_go(order.vm, machine);
        Ended { outcome, observed, passage }
    }

    /// What the gate would say now.
    pub async fn ask(&self, vm: VmId, generation: u64, path: BootPath, spec: VmSpec) -> Passage {
        match self.pass(vm, generation, path, needed(&spec)).await {
            Ok(passed) => passed.passage,
            Err(passage) => *passage,
        }
    }

    /// What must not run from now on, and what people signed. A digest is marked in the store as well, so that nothing
    /// starts from it even where nobody tells the node.
    pub async fn rules(&self, entries: Vec<Entry>, overrides: Vec<Vec<u8>>) {
        let now = self.inner.clock.now();
        let digests: Vec<(Digest, String, bool)> = entries
            .iter()
            .filter_map(|entry| match &entry.target {
                Target::Digest(digest) => Some((digest.clone(), entry.why.clone(), entry.is_in_force(now))),
                _ => None,
            })
            .collect();
        self.blocking(move |inner| {
            // It guards nothing that a panic could leave half done.
            let _one = inner.ruling.lock().unwrap_or_else(PoisonError::into_inner);
            inner.admission.rules(entries, &overrides);
            for (digest, why, in_force) in digests {
                let mark = |image: &Digest| {
                    if in_force { inner.images.quarantine(image, &why) } else { inner.images.release(image) }
                };
                let marked = inner.images.having(&digest).and_then(|images| images.iter().try_for_each(mark));
                if let Err(reason) = marked
                    && reason.code.known() != Some(Code::ImageUnknown)
                {
                    tracing::warn!(%digest, %reason, "the mark of a quarantine could not be set in the store");
                }
            }
        })
        .await;
    }

    /// Whether these bytes are an override that the node's pins believe.
    ///
    /// # Errors
    /// Why not.
    pub async fn override_check(&self, document: Vec<u8>) -> Result<(VmId, Timestamp), Reason> {
        self.blocking(move |inner| inner.admission.override_check(&document)).await
    }

    async fn take(&self, order: &Order, machine: &Machine, passage: &mut Option<Passage>) -> Taken {
        let vm = order.vm;
        let hypervisor = &self.inner.hypervisor;
        match &order.step {
            Step::Start { path } => {
                let passed = self.through(order, *path, needed(&order.spec), passage).await?;
                self.launch(order, *path, passed, machine).await
            }
            Step::Stop { force } => {
                let ended = if *force { hypervisor.kill(vm).await } else { hypervisor.stop(vm, GRACE).await };
                unless_unknown(ended)
            }
            Step::Pause => Ok(hypervisor.pause(vm).await?),
            Step::Resume => Ok(hypervisor.resume(vm).await?),
            Step::Isolate => {
                hypervisor.links(vm, false).await?;
                self.mark_isolated(vm, true).await
            }
            Step::Reconnect => {
                hypervisor.links(vm, true).await?;
                self.mark_isolated(vm, false).await
            }
            Step::Reset => self.reset(order, passage).await,
            Step::Forget => {
                machine.servers().clear();
                unless_unknown(hypervisor.forget(vm).await)
            }
            Step::Act { action, .. } => self.do_action(order, action, machine, passage).await,
        }
    }

    async fn launch(&self, order: &Order, path: BootPath, passed: Passed, machine: &Machine) -> Taken {
        let Passed { permit, sealed, blocks, .. } = passed;
        machine.servers().clear();
        self.mark_isolated(order.vm, false).await?;
        let mut sources = Vec::new();
        for (slot, record) in blocks {
            sources.push(self.serve(order.vm, &slot, &record, machine).await?);
        }
        let launch = Launch { vm: order.vm, spec: order.spec.clone(), sealed, blocks: sources, paused: false };
        kill::here(KillPoint::StartPermitted);
        let hypervisor = &self.inner.hypervisor;
        match path {
            BootPath::Restore => drop(hypervisor.restore(permit, launch).await?),
            BootPath::IncomingMigration => drop(hypervisor.migrate_in(permit, launch).await?),
            _ => drop(hypervisor.start(permit, launch).await?),
        }
        Ok(())
    }

    async fn reset(&self, order: &Order, passage: &mut Option<Passage>) -> Taken {
        let inside = self.inside(order.vm).await?;
        let passed = self.through(order, BootPath::Reset, inside, passage).await?;
        Ok(self.inner.hypervisor.reset(passed.permit, order.vm).await?)
    }

    async fn do_action(
        &self,
        order: &Order,
        action: &Action,
        machine: &Machine,
        passage: &mut Option<Passage>,
    ) -> Taken {
        let vm = order.vm;
        let hypervisor = &self.inner.hypervisor;
        let snapshot = |name: &str| {
            SnapshotName::new(name).ok_or_else(|| {
                let message = format!("{name:?} is no name for a snapshot");
                Stopped::Refused(vec![Reason::new(Code::MachineMalformed, message)])
            })
        };
        match action {
            Action::Reset => self.reset(order, passage).await,
            Action::AttachIso { slot, image } => {
                let wanted = Artifact { slot: slot.clone(), kind: ArtifactKind::Iso, digest: image.clone() };
                let (permit, source) = self.attach_block(order, BootPath::AttachIso, wanted, machine, passage).await?;
                Ok(hypervisor.attach_iso(permit, vm, source).await?)
            }
            Action::AttachDisk { slot, disk } => {
                let wanted = Artifact { slot: slot.clone(), kind: ArtifactKind::Disk, digest: disk.image.clone() };
                if self.inside(vm).await?.contains(&wanted) {
                    return Ok(());
                }
                let (permit, source) = self.attach_block(order, BootPath::AttachDisk, wanted, machine, passage).await?;
                Ok(hypervisor.attach_disk(permit, vm, source, disk.read_only).await?)
            }
            Action::AttachNic { slot, nic } => {
                let index = slot.strip_prefix("nic").and_then(|index| index.parse().ok()).ok_or_else(|| {
                    let message = format!("{slot:?} is no place for a network card");
                    Stopped::Refused(vec![Reason::new(Code::MachineMalformed, message)])
                })?;
                let mut inside = self.inside(vm).await?;
                if let Some(rom) = &nic.option_rom {
                    replace(
                        &mut inside,
                        Artifact { slot: slot.clone(), kind: ArtifactKind::OptionRom, digest: rom.clone() },
                    );
                }
                let passed = self.through(order, BootPath::AttachNic, inside, passage).await?;
                let rom = passed.sealed.into_iter().find(|sealed| sealed.slot() == slot);
                Ok(hypervisor.attach_nic(passed.permit, vm, index, nic.clone(), rom).await?)
            }
            Action::Detach { slot } => {
                hypervisor.detach(vm, slot).await?;
                machine.servers().remove(slot);
                Ok(())
            }
            Action::CreateSnapshot { name } => {
                let name = snapshot(name)?;
                // Taken before, by a process that died before it could say so.
                if hypervisor.snapshot_list(vm).await?.iter().any(|there| there.name == name) {
                    return Ok(());
                }
                hypervisor.snapshot_create(vm, name).await?;
                Ok(())
            }
            Action::RevertSnapshot { name } => {
                let name = snapshot(name)?;
                let all = hypervisor.snapshot_list(vm).await?;
                let there = all.into_iter().find(|there| there.name == name).ok_or_else(|| {
                    let message = format!("machine {vm} has no snapshot {name}");
                    Stopped::Refused(vec![Reason::new(Code::MachineUnknown, message)])
                })?;
                let passed = self.through(order, BootPath::RevertSnapshot, there.artifacts, passage).await?;
                Ok(hypervisor.snapshot_revert(passed.permit, vm, name).await?)
            }
            Action::DeleteSnapshot { name } => {
                let name = snapshot(name)?;
                if hypervisor.snapshot_list(vm).await?.iter().all(|there| there.name != name) {
                    return Ok(());
                }
                Ok(hypervisor.snapshot_delete(vm, name).await?)
            }
            Action::Save => Ok(hypervisor.save(vm).await?),
        }
    }

    async fn attach_block(
        &self,
        order: &Order,
        path: BootPath,
        wanted: Artifact,
        machine: &Machine,
        passage: &mut Option<Passage>,
    ) -> Result<(crate::release::admit::BootPermit, BlockSource), Stopped> {
        let slot = wanted.slot.clone();
        let mut inside = self.inside(order.vm).await?;
        replace(&mut inside, wanted);
        let passed = self.through(order, path, inside, passage).await?;
        let record = passed.blocks.iter().find(|(place, _)| *place == slot).map(|(_, record)| record.clone());
        let record = record.ok_or_else(|| Stopped::Failed(format!("nothing passed the gate for {slot}")))?;
        // The one that is in the drive is let go of when the new one is in.
        let source = self.serve(order.vm, &slot, &record, machine).await?;
        Ok((passed.permit, source))
    }

    /// The gate, with what it said kept for whoever writes it down.
    async fn through(
        &self,
        order: &Order,
        path: BootPath,
        wanted: Vec<Artifact>,
        passage: &mut Option<Passage>,
    ) -> Result<Passed, Stopped> {
        match self.pass(order.vm, order.generation, path, wanted).await {
            Ok(passed) => {
                *passage = Some(passed.passage.clone());
                Ok(passed)
            }
            Err(refused) => {
                let reasons = refused.reasons.clone();
                *passage = Some(*refused);
                Err(Stopped::Refused(reasons))
            }
        }
    }

    async fn pass(
        &self,
        vm: VmId,
        generation: u64,
        path: BootPath,
        wanted: Vec<Artifact>,
    ) -> Result<Passed, Box<Passage>> {
        self.blocking(move |inner| inner.admission.pass(vm, generation, path, &wanted)).await
    }

    /// What is in a machine that runs, as it was admitted.
    async fn inside(&self, vm: VmId) -> Result<Vec<Artifact>, Stopped> {
        let all = self.inner.hypervisor.observe().await?;
        let found = all.into_iter().find(|seen| seen.vm == vm);
        Ok(found.map(|seen| seen.artifacts).unwrap_or_default())
    }

    /// Begins to serve an image to a machine.
    async fn serve(
        &self,
        vm: VmId,
        slot: &str,
        record: &ImageRecord,
        machine: &Machine,
    ) -> Result<BlockSource, Stopped> {
        let folder = self.inner.hypervisor.socket_dir(vm).await?;
        let at = SocketAt { path: folder.join(format!("{slot}.nbd")), owner: self.inner.hypervisor.socket_owner() };
        let socket = at.path.clone();
        let server = self.serve_at(record, at).await.map_err(|reason| Stopped::Refused(vec![reason.subject(slot)]))?;
        machine.servers().insert(slot.to_owned(), server);
        Ok(BlockSource {
            slot: slot.to_owned(),
            kind: record.kind,
            digest: record.digest.clone(),
            tree_root: Some(record.tree_root.clone()),
            bytes: record.bytes,
            virtual_bytes: record.virtual_bytes,
            format: match record.format {
                ImageFormat::Raw => hypervisor::ImageFormat::Raw,
                ImageFormat::Qcow2 => hypervisor::ImageFormat::Qcow2,
            },
            socket,
        })
    }

    async fn serve_at(&self, record: &ImageRecord, at: SocketAt) -> Result<BlockServer, Reason> {
        let (digest, root) = (record.digest.clone(), record.tree_root.clone());
        self.blocking(move |inner| inner.images.serve(&digest, &root, &at, inner.alarms.clone())).await
    }

    /// Serves the disks of a machine that was found running, where it looks for them.
    async fn serve_again(&self, seen: &hypervisor::Observed) {
        let machine = self.inner.machines.of(seen.vm);
        for artifact in seen.artifacts.iter().filter(|artifact| artifact.kind.is_block_device()) {
            let digest = artifact.digest.clone();
            let record = self.blocking(move |inner| inner.images.record(&digest)).await;
            let served = match record {
                Ok(record) => self.serve(seen.vm, &artifact.slot, &record, &machine).await.map(drop),
                Err(reason) => Err(Stopped::Refused(vec![reason])),
            };
            if let Err(stopped) = served {
                let (vm, slot) = (seen.vm, &artifact.slot);
                tracing::error!("{slot} of machine {vm} is not served, and its reads will fail: {}", stopped.tell());
            }
        }
    }

    /// Passes on what happens to machines.
    async fn listen(
        self,
        mut events: tokio::sync::broadcast::Receiver<hypervisor::MachineEvent>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = stop.changed() => return,
            };
            match event {
                Ok(event) => self.happened(event).await,
                // Some were missed: everything is looked at.
                Err(RecvError::Lagged(_)) => {
                    for (vm, observed) in self.observe().await.unwrap_or_default() {
                        let _ = self.inner.news.send(News::Seen { vm, observed }).await;
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn happened(&self, event: hypervisor::MachineEvent) {
        let machine = self.inner.machines.of(event.vm);
        let mut observed = self.look_at(event.vm).await;
        if let EventKind::BlockIoError { slot, operation, reason } = &event.kind {
            observed.note = Some(format!("{slot}: {operation} failed: {reason}"));
        }
        // While a step is under way, the step sees to the servers and its end tells the rest.
        if let Ok(_turn) = machine.turn.try_lock()
            && !is_up(observed.power)
        {
            machine.servers().clear();
        }
        self.inner.machines.let_go(event.vm, machine);
        let _ = self.inner.news.send(News::Seen { vm: event.vm, observed }).await;
    }

    /// Passes on that a block is not what it was.
    async fn hear(self, mut alarms: mpsc::Receiver<Alarm>, mut stop: watch::Receiver<bool>) {
        loop {
            let alarm = tokio::select! {
                Some(alarm) = alarms.recv() => alarm,
                _ = stop.changed() => return,
            };
            let vm = self.inner.machines.served_at(&alarm.socket);
            let message = format!("block {} at byte {}: {}", alarm.block, alarm.offset, alarm.reason.message);
            let news = if alarm.reason.code.known() == Some(Code::ImageChanged) {
                News::Altered { digest: alarm.digest, vm, message }
            } else {
                let Some(vm) = vm else { continue };
                let mut observed = self.look_at(vm).await;
                observed.note = Some(message);
                News::Seen { vm, observed }
            };
            let _ = self.inner.news.send(news).await;
        }
    }

    async fn look_at(&self, vm: VmId) -> Observed {
        match self.inner.hypervisor.observe().await {
            Ok(all) => match all.into_iter().find(|seen| seen.vm == vm) {
                Some(seen) => self.observed(seen).await,
                None => Observed::nothing(),
            },
            Err(error) => {
                Observed { note: Some(chain(&error)), ..Observed::nothing().with_power(ObservedPower::Failed) }
            }
        }
    }

    async fn observed(&self, seen: hypervisor::Observed) -> Observed {
        let up = is_up(seen.power);
        let isolated = up && self.isolation(seen.vm).await.is_some_and(|mark| mark.exists());
        let snapshots = self.inner.hypervisor.snapshot_list(seen.vm).await.unwrap_or_default();
        let machine = self.inner.machines.of(seen.vm);
        let servers = machine.servers();
        let slots = seen.artifacts.into_iter().map(|artifact| Slot {
            tier: servers.get(&artifact.slot).map(BlockServer::tier),
            tier_reason: servers.get(&artifact.slot).and_then(BlockServer::absent).map(str::to_owned),
            slot: artifact.slot,
            kind: artifact.kind,
            digest: artifact.digest,
        });
        let slots = if up { slots.collect() } else { Vec::new() };
        drop(servers);
        self.inner.machines.let_go(seen.vm, machine);
        let note = match &seen.exit {
            Some(Exit::Died { detail }) if !up => Some(detail.clone()),
            _ => None,
        };
        Observed {
            power: seen.power,
            isolated,
            saved: !up && matches!(seen.exit, Some(Exit::Saved)),
            awaits_reset: up && seen.waiting == Some(Waiting::Reset),
            accelerator: seen.accelerator.filter(|_| up).map(|choice| choice.accelerator),
            slots,
            snapshots: snapshots.iter().map(|snapshot| snapshot.name.to_string()).collect(),
            pid: seen.pid.filter(|_| up),
            note,
        }
    }

    /// The file that says that a machine's links are down: the hypervisor does not remember, and the agent may die.
    async fn isolation(&self, vm: VmId) -> Option<PathBuf> {
        self.inner.hypervisor.socket_dir(vm).await.ok().map(|folder| folder.join("isolated"))
    }

    async fn mark_isolated(&self, vm: VmId, isolated: bool) -> Taken {
        let folder = self.inner.hypervisor.socket_dir(vm).await?;
        let mark = folder.join("isolated");
        let marked = if isolated { std::fs::write(&mark, b"") } else { std::fs::remove_file(&mark) };
        match marked {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Stopped::Failed(format!("{}: {error}", mark.display())))
            }
            _ => Ok(()),
        }
    }

    /// Runs what blocks on a thread of its own.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner<H>) -> T + Send + 'static) -> T {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            // It is only ever joined, never cancelled: a panic goes on.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Images: what is asked of the store, on threads of its own.
impl<H: Hypervisor> Agent<H> {
    /// Begins an upload.
    ///
    /// # Errors
    /// The store's reason; so with the others.
    pub async fn upload_begin(&self, request: UploadRequest) -> Result<Upload, Reason> {
        let expected =
            Expected { kind: request.kind, name: request.name, digest: request.digest, bytes: request.bytes };
        self.blocking(move |inner| inner.images.upload_begin(expected).map(upload)).await
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn upload_state(&self, id: Uuid) -> Result<Upload, Reason> {
        self.blocking(move |inner| inner.images.upload_state(id).map(upload)).await
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn upload_append(&self, id: Uuid, offset: u64, piece: Vec<u8>) -> Result<Upload, Reason> {
        self.blocking(move |inner| inner.images.upload_append(id, offset, &piece).map(upload)).await
    }

    /// Makes an image of an upload and keeps the evidence beside it.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn upload_finish(&self, id: Uuid, evidence: Vec<EvidenceFile>) -> Result<ImageVerdict, Reason> {
        self.blocking(move |inner| {
            let imported = inner.images.upload_finish(id, inner.clock.now())?;
            inner.keep(&imported.record.digest, &evidence)
        })
        .await
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn upload_abort(&self, id: Uuid) -> Result<(), Reason> {
        self.blocking(move |inner| inner.images.upload_abort(id)).await
    }

    /// Keeps more evidence beside an image.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn evidence_put(&self, digest: Digest, evidence: Vec<EvidenceFile>) -> Result<ImageVerdict, Reason> {
        self.blocking(move |inner| inner.keep(&digest, &evidence)).await
    }

    /// Every image whose receipt is sound; and the digests of those whose is not.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn images(&self) -> Result<(Vec<ImageFacts>, Vec<Digest>), Reason> {
        self.blocking(|inner| {
            let listed = inner.images.list()?;
            let records = listed.iter().filter_map(|listed| listed.record.as_ref());
            let sound = records.map(|record| inner.admission.facts(record)).collect::<Result<_, _>>()?;
            let damaged = listed.iter().filter(|listed| listed.record.is_none());
            Ok((sound, damaged.map(|listed| listed.digest.clone()).collect()))
        })
        .await
    }

    /// What is decided about an image now; `whole` reads all of it first.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn image_judge(&self, digest: Digest, whole: bool) -> Result<ImageVerdict, Reason> {
        self.blocking(move |inner| {
            if whole {
                inner.images.verify(&digest, &|_| {})?;
            }
            inner.admission.verdict(&digest)
        })
        .await
    }

    /// What would be decided about an image with these bytes.
    pub async fn admit_image(&self, question: ImageQuestion) -> ImageAnswer {
        self.blocking(move |inner| inner.admission.asked(&question)).await
    }

    /// What is decided about an image in a registry.
    pub async fn admit_container(&self, reference: String, within: Duration) -> ImageAnswer {
        match self.inner.admission.registries().find(&reference, within).await {
            Ok((artifact, evidence)) => {
                self.blocking(move |inner| inner.admission.asked_of_registry(reference, &artifact, &evidence)).await
            }
            Err(reason) => {
                let decision = Decision::from_reasons([&reason]).name();
                ImageAnswer::without(reference, decision, reason)
            }
        }
    }

    /// Removes an image.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn image_delete(&self, digest: Digest) -> Result<(), Reason> {
        self.blocking(move |inner| inner.images.delete(&digest)).await
    }

    /// The serial console.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn console(&self, vm: VmId) -> Result<UnixStream, String> {
        let socket: PathBuf = self.inner.hypervisor.console(vm).await.map_err(|error| chain(&error))?;
        UnixStream::connect(&socket).await.map_err(|error| format!("the console cannot be opened: {error}"))
    }

    /// The end of what came out of the serial console.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn console_log(&self, vm: VmId, limit: usize) -> Result<Vec<u8>, String> {
        self.inner.hypervisor.console_log(vm, limit).await.map_err(|error| chain(&error))
    }
}

impl<H> Inner<H> {
    fn keep(&self, digest: &Digest, evidence: &[EvidenceFile]) -> Result<ImageVerdict, Reason> {
        for file in evidence {
            self.images.evidence_put(digest, &file.name, &file.bytes)?;
        }
        let verdict = self.admission.verdict(digest)?;
        let document = serde_json::to_vec(&verdict).unwrap_or_default();
        self.images.decision_put(digest, &document)?;
        Ok(verdict)
    }
}

impl Machine {
    fn servers(&self) -> MutexGuard<'_, HashMap<String, BlockServer>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stopped {
    fn tell(&self) -> String {
        match self {
            Self::Refused(reasons) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Self::Failed(message) => message.clone(),
        }
    }
}

/// Whether a process of it is there.
const fn is_up(power: ObservedPower) -> bool {
    matches!(power, ObservedPower::Running | ObservedPower::Paused | ObservedPower::Starting)
}

/// What is not there is stopped and forgotten already.
fn unless_unknown(outcome: Result<(), HypervisorError>) -> Taken {
    match outcome {
        Err(error) if error.reason().is_some_and(|reason| reason.code.known() == Some(Code::MachineUnknown)) => Ok(()),
        other => Ok(other?),
    }
}

fn replace(inside: &mut Vec<Artifact>, artifact: Artifact) {
    inside.retain(|there| there.slot != artifact.slot);
    inside.push(artifact);
}

fn upload(state: UploadState) -> Upload {
    let Expected { kind, name, digest, bytes } = state.expected;
    Upload { id: state.id, request: UploadRequest { kind, name, digest, bytes }, offset: state.received_bytes }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_held_as_long_as_somebody_is_at_work_and_has_one_turn_meanwhile() {
        let machines = Machines::default();
        let vm = VmId::new(Uuid::from_u128(1));
        let (one, other) = (machines.of(vm), machines.of(vm));
        let turn = one.turn.try_lock().unwrap();
        assert!(other.turn.try_lock().is_err());
        drop(turn);
        machines.let_go(vm, one);
        assert!(Arc::ptr_eq(&other, &machines.of(vm)), "the other one is still at work");
        machines.let_go(vm, other);
        assert!(machines.held().is_empty());
    }
}
