//! One machine of the node: its record, and its process and monitor where it runs. Whoever works on it takes turns.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{MutexGuard, broadcast, watch};
use tokio::time::{Instant, timeout};

use super::cgroup::Cgroup;
use super::network::tap_remove;
use super::process::{Process, last_line};
use super::qmp::{Event, Qmp};
use super::record::{Folder, Phase, Record};
use super::{Inner, watch as watcher};
use crate::node::hypervisor::observed::{EventKind, Exit, Observed, Waiting};
use crate::node::hypervisor::{Answer, HypervisorError};
use crate::types::Code;
use crate::types::vm::{ObservedPower, VmId};

/// How long a monitor may take to greet.
pub(super) const GREETING: Duration = Duration::from_secs(20);

/// How long the lock of a machine that does not run is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How soon after a permitted reset the firmware makes its own.
const SETTLING: Duration = Duration::from_secs(10);

/// A machine, running or not.
#[derive(Debug)]
pub(super) struct Machine {
    vm: VmId,
    folder: Folder,
    turn: tokio::sync::Mutex<()>,
    live: Mutex<Option<Arc<Live>>>,
    record: Mutex<Option<Record>>,
}

/// What there is of a machine while it runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) vm: VmId,
    pub(super) process: Process,
    pub(super) qmp: Qmp,
    /// QEMU's events, for whoever waits for one.
    pub(super) heard: broadcast::Sender<Event>,
    /// Turns true when the process is gone and everything is cleared away.
    pub(super) ended: watch::Sender<bool>,
    waiting: Mutex<Option<Waiting>>,
    /// Since when the firmware may reset the machine once more.
    settling: Mutex<Option<Instant>>,
    numbers: AtomicU32,
}

impl Machine {
    pub(super) fn new(vm: VmId, folder: Folder) -> Self {
        let (turn, live, record) = (tokio::sync::Mutex::new(()), Mutex::default(), Mutex::default());
        Self { vm, folder, turn, live, record }
    }

    pub(super) const fn vm(&self) -> VmId {
        self.vm
    }

    pub(super) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Waits for its turn.
    pub(super) async fn work(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_live(&self, live: Option<Arc<Live>>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// The machine, where it runs; else a refusal.
    pub(super) async fn running(&self, inner: &Arc<Inner>) -> Answer<Arc<Live>> {
        self.take_up(inner).await?;
        self.live().ok_or_else(|| {
            let (code, what) = if self.folder.exists() {
                (Code::MachineState, "does not run")
            } else {
                (Code::MachineUnknown, "is not known to this node")
            };
            HypervisorError::refused(code, format!("machine {} {what}", self.vm))
        })
    }

    /// What is known of it.
    pub(super) fn record(&self) -> Answer<Record> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = record.as_ref() {
            return Ok(record.clone());
        }
        if !self.folder.exists() {
            return Err(HypervisorError::refused(
                Code::MachineUnknown,
                format!("machine {} is not known to this node", self.vm),
            ));
        }
        let read = self.folder.read().map_err(|error| HypervisorError::failed("read the record of", self.vm, error))?;
        *record = Some(read.clone());
        Ok(read)
    }

    /// Replaces what is known of it, on the disk first.
    pub(super) fn set_record(&self, new: Record) -> Answer<()> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.folder.write(&new).map_err(|error| HypervisorError::failed("write the record of", self.vm, error))?;
        *record = Some(new);
        Ok(())
    }

    /// Changes what is known of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut Record)) -> Answer<()> {
        let mut record = self.record()?;
        change(&mut record);
        self.set_record(record)
    }

    /// Writes down how it is about to end, unless that is known already.
    pub(super) fn ending(&self, exit: Exit) -> Answer<()> {
        self.update(|record| {
            if !matches!(record.phase, Phase::Stopping { .. }) {
                record.phase = Phase::Stopping { exit };
            }
        })
    }

    pub(super) fn forget(&self) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes up a machine that runs although nobody here knows: after the agent was restarted.
    pub(super) async fn take_up(&self, inner: &Arc<Inner>) -> Answer<()> {
        if self.live().is_some() || !self.folder.exists() {
            return Ok(());
        }
        let failed = |act| move |error: std::io::Error| HypervisorError::failed(act, self.vm, error);
        if self.folder.lock().map_err(failed("look at the lock of"))?.is_some() {
            // It does not run, and it is written down how it ended.
            self.settle(inner, None).await;
            return Ok(());
        }
        let record = self.record()?;
        let known = match record.phase {
            Phase::Running { pid, started } => Some(Process { pid, started }).filter(|process| process.lives()),
            Phase::Starting | Phase::Stopping { .. } | Phase::Stopped { .. } => None,
        };
        let Some(process) = known.or_else(|| Process::find(self.vm)) else {
            // The lock is held by a process that is about to become QEMU, or to end.
            return Ok(());
        };
        let (qmp, events) = match Qmp::connect(&self.folder.socket("qmp"), GREETING).await {
            Ok(connected) => connected,
            Err(_) if !process.lives() => return Ok(()),
            Err(error) => return Err(HypervisorError::failed("take up", self.vm, error)),
        };
        let live = Arc::new(Live::new(self.vm, process, qmp));
        let status = live.status().await?;
        let unborn = matches!(status.as_str(), "prelaunch" | "inmigrate") && !record.paused;
        self.set_live(Some(Arc::clone(&live)));
        watcher::spawn(inner, inner.machine(self.vm), Arc::clone(&live), events, None);
        match record.phase {
            // Nothing of it ever ran, or it was being ended.
            Phase::Starting | Phase::Stopping { .. } => self.take_down(&live).await,
            _ if unborn => {
                self.ending(Exit::Died { detail: "the agent ended while it was starting".to_owned() })?;
                self.take_down(&live).await
            }
            // The guest switched itself off while nobody listened.
            _ if status == "shutdown" => {
                self.ending(Exit::Guest)?;
                inner.emit(self.vm, EventKind::GuestShutdown);
                self.take_down(&live).await
            }
            _ => {
                self.update(|record| {
                    record.phase = Phase::Running { pid: process.pid, started: process.started };
                })?;
                inner.emit(self.vm, EventKind::Reattached);
                Ok(())
            }
        }
    }

    /// The machine's lock, or nothing where it runs. Whoever died a moment ago, or is about to become QEMU, may hold the
    /// lock a little longer: that is waited for, and what comes up meanwhile is taken up.
    pub(super) async fn lock_soon(&self, inner: &Arc<Inner>) -> Answer<Option<File>> {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            self.take_up(inner).await?;
            if self.live().is_some() {
                return Ok(None);
            }
            let lock =
                self.folder.lock().map_err(|error| HypervisorError::failed("look at the lock of", self.vm, error))?;
            if lock.is_some() || Instant::now() >= until {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn take_down(&self, live: &Live) -> Answer<()> {
        live.process.kill().map_err(|error| HypervisorError::failed("take down", self.vm, error))?;
        live.ended_within(super::END).await;
        Ok(())
    }

    /// Clears away what a machine that ended leaves, and writes down how it ended.
    pub(super) async fn settle(&self, inner: &Arc<Inner>, detail: Option<String>) {
        let Ok(record) = self.record() else { return };
        let exit = match &record.phase {
            Phase::Stopped { .. } => return,
            Phase::Stopping { exit } => exit.clone(),
            Phase::Starting | Phase::Running { .. } => Exit::Died {
                detail: detail.unwrap_or_else(|| format!("found dead: {}", last_line(&self.folder.log()))),
            },
        };
        for tap in record.nics.iter().filter_map(|nic| nic.tap.as_deref()) {
            if let Err(error) = tap_remove(tap, inner.netns()).await {
                tracing::warn!(vm = %self.vm, tap, %error, "the tap device {tap} of machine {} stays", self.vm);
            }
        }
        if let Some(cgroup) = Cgroup::of(self.vm) {
            cgroup.remove();
        }
        for socket in ["qmp", "serial", "agent"] {
            remove(&self.folder.socket(socket));
        }
        remove(&self.folder.vnc());
        self.set_live(None);
        let stopped = self.update(|record| record.phase = Phase::Stopped { exit: Some(exit.clone()) });
        if let Err(error) = stopped {
            tracing::error!(vm = %self.vm, %error, "the end of machine {} cannot be written down", self.vm);
        }
        inner.emit(self.vm, EventKind::Exited { exit });
    }

    /// As it is.
    async fn seen(&self, inner: &Arc<Inner>) -> Answer<Option<Observed>> {
        let turn = self.turn.try_lock();
        let busy = turn.is_err();
        if !busy {
            self.take_up(inner).await?;
        }
        let record = match self.record() {
            Ok(record) => record,
            Err(HypervisorError::Refused(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let live = self.live();
        let (power, waiting) = match &live {
            Some(live) => live.power().await,
            None if busy => (ObservedPower::Starting, None),
            None => match &record.phase {
                Phase::Stopped { exit: Some(Exit::Died { .. }) } => (ObservedPower::Failed, None),
                Phase::Stopped { .. } => (ObservedPower::Stopped, None),
                Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => (ObservedPower::Starting, None),
            },
        };
        let exit = match record.phase {
            Phase::Stopped { exit } => exit,
            Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => None,
        };
        Ok(Some(Observed {
            vm: self.vm,
            name: record.spec.name,
            power,
            waiting,
            artifacts: record.artifacts,
            host_firmware: record.host_firmware,
            accelerator: Some(record.accelerator),
            machine_type: Some(record.machine_type),
            pid: live.map(|live| live.process.pid),
            exit,
        }))
    }
}

/// As a machine is that is known.
pub(super) async fn observed(inner: &Arc<Inner>, machine: &Machine) -> Answer<Observed> {
    let record = machine.record()?;
    let Some(live) = machine.live() else {
        return Err(HypervisorError::failed("start", machine.vm, last_line(&machine.folder.log())));
    };
    let (power, waiting) = live.power().await;
    let _ = inner;
    Ok(Observed {
        vm: machine.vm,
        name: record.spec.name,
        power,
        waiting,
        artifacts: record.artifacts,
        host_firmware: record.host_firmware,
        accelerator: Some(record.accelerator),
        machine_type: Some(record.machine_type),
        pid: Some(live.process.pid),
        exit: None,
    })
}

/// Every machine that has a folder.
pub(super) async fn observe(inner: &Arc<Inner>) -> Answer<Vec<Observed>> {
    let failed =
        |error: std::io::Error| HypervisorError::Node { act: "read the state directory", source: error.into() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&inner.settings.state).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(vm) = name.to_str().and_then(|name| name.parse::<VmId>().ok()) else { continue };
        if let Some(observed) = inner.machine(vm).seen(inner).await? {
            found.push(observed);
        }
    }
    found.sort_by_key(|observed| observed.vm);
    Ok(found)
}

impl Live {
    pub(super) fn new(vm: VmId, process: Process, qmp: Qmp) -> Self {
        let (heard, _) = broadcast::channel(256);
        let (ended, _) = watch::channel(false);
        Self {
            vm,
            process,
            qmp,
            heard,
            ended,
            waiting: Mutex::default(),
            settling: Mutex::default(),
            numbers: AtomicU32::new(1),
        }
    }

    /// Asks the monitor on behalf of the machine.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Answer<Value> {
        let answer = self.qmp.execute(command, arguments).await;
        answer.map_err(|error| HypervisorError::failed("drive", self.vm, error))
    }

    pub(super) fn wait_for(&self, what: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    pub(super) fn waits_for(&self) -> Option<Waiting> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A refusal where it waits for something that needs a permit.
    pub(super) fn may_go_on(&self) -> Answer<()> {
        let what = match self.waits_for() {
            None | Some(Waiting::Storage) => return Ok(()),
            Some(Waiting::Reset) => "reset itself; reset it with a permit",
            Some(Waiting::Migration) => "has not arrived yet",
        };
        Err(HypervisorError::refused(Code::MachineState, format!("machine {} {what}", self.vm)))
    }

    /// A number that was not used before.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// QEMU's word for the state.
    pub(super) async fn status(&self) -> Answer<String> {
        let answer = self.execute("query-status", json!({})).await?;
        Ok(answer.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Whether its processors run.
    pub(super) async fn runs(&self) -> bool {
        self.status().await.is_ok_and(|status| status == "running")
    }

    async fn power(&self) -> (ObservedPower, Option<Waiting>) {
        let waiting = self.waits_for();
        match self.status().await.as_deref() {
            Ok("running") => (ObservedPower::Running, None),
            Ok("io-error") => (ObservedPower::Paused, Some(Waiting::Storage)),
            Ok("inmigrate") => (ObservedPower::Paused, Some(Waiting::Migration)),
            Ok(_) => (ObservedPower::Paused, waiting),
            Err(_) => (ObservedPower::Starting, waiting),
        }
    }

    /// Waits until it is gone and cleared away.
    pub(super) async fn ended_within(&self, within: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        timeout(within, ended.wait_for(|ended| *ended)).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Whether a reset that the guest just made belongs to the one that was permitted. SeaBIOS begins a warm start with
    /// a reset of its own, to have its memory as new; so the first one after a permit is taken for that, where it comes
    /// at once, and no second is.
    pub(super) fn is_settling(&self) -> bool {
        let since = self.settling.lock().unwrap_or_else(PoisonError::into_inner).take();
        since.is_some_and(|since| since.elapsed() < SETTLING)
    }

    /// Resets it by a permit.
    pub(super) async fn reset(&self) -> Answer<()> {
        let goes_on = self.runs().await || self.waits_for() == Some(Waiting::Reset);
        *self.settling.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.reset_once(goes_on).await
    }

    /// Resets it and lets it run, where it ran or waited for that. Its processors stand still meanwhile, so that the
    /// guest cannot reset itself in the moment in which that would be done at once.
    pub(super) async fn reset_once(&self, goes_on: bool) -> Answer<()> {
        self.execute("stop", json!({})).await?;
        let mut heard = self.heard.subscribe();
        self.execute("set-action", json!({ "reboot": "reset" })).await?;
        let asked = self.execute("system_reset", json!({})).await;
        let done = async {
            while let Ok(event) = heard.recv().await {
                if event.event == "RESET" {
                    return true;
                }
            }
            false
        };
        let done = asked.is_ok() && timeout(super::END, done).await.unwrap_or_default();
        self.execute("set-action", json!({ "reboot": "shutdown" })).await?;
        asked?;
        if !done {
            return Err(HypervisorError::failed("reset", self.vm, "QEMU does not say that it did"));
        }
        self.wait_for(None);
        if goes_on {
            self.execute("cont", json!({})).await?;
        }
        Ok(())
    }
}

fn remove(path: &Path) {
    // It may never have been there.
    let _ = std::fs::remove_file(path);
}
