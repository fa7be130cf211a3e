//! Looks at what shall be and what is, hands out the steps that are missing, and writes down what came of them.
//!
//! It takes no input: whatever wakes it (a change, the clock, news of a node), it reads everything again. So nothing
//! is lost with a message, and there is one path for the first look after a start and for every other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;
use uuid::Uuid;

use super::ops::vm::decided;
use super::plan::{self, Desired};
use super::{Caller, Control, Deed, Host, OpError};
use crate::kill::{self, KillPoint};
use crate::store::{Change, Hold, Operation, OperationState, Vm, VmChange};
use crate::types::step::{Action, Ended, News, NodeFacts, Observed, Order, Outcome, Step};
use crate::types::vm::{BootPath, DesiredPower, ObservedPower, RestartPolicy, VmId, VmSpec};

/// How often it looks although nothing woke it.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the end of a step is tried to be written down, where requests come in between.
const LOOKS_AT_AN_END: usize = 16;
/// Nodes that are asked at the same time what they have, when the control plane comes up.
const NODES_AT_ONCE: usize = 32;
/// Machines whose state is written down at the same time then.
const MACHINES_AT_ONCE: usize = 256;
/// The pause after a first death; each further one doubles it.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// It grows no longer than this.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// A machine that ran so long before it died begins to count anew.
const HEALTHY: SignedDuration = SignedDuration::from_mins(10);

impl Control {
    /// Brings what is kept into line with what the nodes have, once, before the first look: what happened while this
    /// process was not there. A node that does not answer keeps what was seen of it last.
    ///
    /// # Errors
    /// Where what is kept cannot be read or written, or the node at home here does not answer.
    pub async fn come_up(&self) -> Result<(), OpError> {
        let before: HashMap<String, NodeFacts> =
            self.store().nodes().await?.into_iter().map(|node| (node.name.clone(), node)).collect();
        self.rules_changed().await?;
        self.operations_again().await?;
        let mut machines: HashMap<String, Vec<Arc<Vm>>> = HashMap::new();
        for vm in self.machines().await? {
            machines.entry(vm.node.clone()).or_default().push(vm);
        }
        let nodes = self.inner.nodes.values().map(|host| {
            let name = &host.facts.name;
            self.node_comes_up(host, before.get(name), machines.remove(name).unwrap_or_default())
        });
        let mut coming = futures_util::stream::iter(nodes.collect::<Vec<_>>()).buffer_unordered(NODES_AT_ONCE);
        while let Some(outcome) = coming.next().await {
            outcome?;
        }
        self.images_learn().await
    }

    async fn node_comes_up(
        &self,
        host: &Host,
        before: Option<&NodeFacts>,
        machines: Vec<Arc<Vm>>,
    ) -> Result<(), OpError> {
        let caller = Caller::node(&host.facts.name);
        let object = format!("node/{}", host.facts.name);
        let host_came_up = before.is_none_or(|node| node.boot_id != host.facts.boot_id);
        let seen: HashMap<VmId, Observed> = match host.link.observe().await {
            Ok(seen) => seen.into_iter().collect(),
            Err(message) if host.facts.name == self.node().name => return Err(OpError::Node(message)),
            Err(message) => {
                let deed = Deed::failed("node.up", object, "node.unreachable", &message);
                self.record(&caller, deed, Vec::new()).await?;
                return Ok(());
            }
        };
        let nothing = Observed::nothing();
        let found = machines.iter().map(|vm| async {
            let now_seen = seen.get(&vm.id).unwrap_or(&nothing).clone();
            if host_came_up {
                self.after_boot(vm, now_seen).await
            } else if vm.observed.as_ref().unwrap_or(&nothing) != &now_seen {
                self.seen(vm.id, now_seen).await
            } else {
                Ok(())
            }
        });
        // Many at once: their records share a commit.
        let mut found = futures_util::stream::iter(found.collect::<Vec<_>>()).buffer_unordered(MACHINES_AT_ONCE);
        while let Some(outcome) = found.next().await {
            outcome?;
        }
        let data = serde_json::json!({ "node": host.facts });
        let deed = Deed::done("node.up", object, "node.up", data);
        self.record(&caller, deed, vec![Change::NodeSeen(Box::new(host.facts.clone()))]).await?;
        Ok(())
    }

    /// Every machine.
    async fn machines(&self) -> Result<Vec<Arc<Vm>>, OpError> {
        Ok(self.store().fleet(|fleet| fleet.after(None).cloned().collect()).await?)
    }

    /// Looks again and again until `stop` says so; lets the steps that are under way end.
    pub async fn reconcile(self, mut news: mpsc::Receiver<News>, mut stop: watch::Receiver<bool>) {
        let mut revoked = self.inner.revoked.clone();
        loop {
            let began = Instant::now();
            match self.look().await {
                Ok(_) => self.vitals().looked(began.elapsed()),
                Err(error) => tracing::error!(%error, "a look at the machines failed; the next one follows"),
            }
            let pause = self.until_next();
            tokio::select! {
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Ok(()) = revoked.changed() => {}
                Some(told) = news.recv() => self.told(told).await,
                _ = stop.changed() => break,
            }
        }
    }

    /// One look: every machine that needs a step, and has none under way, gets one.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn look(&self) -> Result<usize, OpError> {
        let now = self.now();
        // Taken before anything is read: a step that ends meanwhile makes what is read here old, and a plan of what is
        // old would do it a second time.
        let under_way = lock(&self.inner.busy).clone();
        let machines = self.machines().await?;
        let mut open: HashMap<VmId, Vec<Operation>> = HashMap::new();
        for operation in self.store().operations_open().await? {
            open.entry(operation.vm).or_default().push(operation);
        }
        self.tell_again();
        let rules = self.inner.rules.borrow().clone();
        let concerned = rules.concerned(&machines, &self.revoked().revoked, now);
        let mut steps = Vec::new();
        for vm in machines.iter().filter(|vm| !under_way.contains(&vm.id)) {
            let Some(host) = self.inner.nodes.get(&vm.node) else { continue };
            let operations = open.get(&vm.id).map(Vec::as_slice).unwrap_or_default();
            let quarantine = concerned.contains_key(&vm.id).then_some(self.inner.settings.on_quarantine);
            let desired = desired(vm, operations, quarantine);
            let nothing = Observed::nothing();
            match plan::next(&desired, vm.observed.as_ref().unwrap_or(&nothing), now) {
                // It might let run what must not: first the node has the rules.
                Some(step) if host.heard.is_behind(rules.generation) && !step.is_stilling() => {}
                Some(step) => steps.push((vm, step)),
                // What is wished is so already: the operations that wished it have ended.
                None => self.settle(vm, operations).await?,
            }
        }
        let count = steps.len();
        for (vm, step) in steps {
            if !lock(&self.inner.busy).insert(vm.id) {
                continue;
            }
            let order = Order { vm: vm.id, generation: vm.generation, spec: vm.spec.clone(), step };
            let control = self.clone();
            let node = vm.node.clone();
            let span =
                tracing::info_span!(target: "debvisor::request", "step", vm = %order.vm, step = order.step.name());
            let taken = async move {
                let vm = order.vm;
                let name = order.step.name();
                if let Err(error) = control.take(&node, order).await {
                    tracing::error!(%error, "what became of {name} of virtual machine {vm} could not be written down");
                }
                lock(&control.inner.busy).remove(&vm);
                control.wake();
            };
            tokio::spawn(taken.instrument(span));
        }
        Ok(count)
    }

    /// Hands a step to the node and writes down how it ended.
    async fn take(&self, node: &str, order: Order) -> Result<(), OpError> {
        kill::here(KillPoint::StepBegun);
        if let Step::Act { operation, .. } = &order.step {
            let moved = moved(*operation, OperationState::Dispatched, self.now());
            let data = serde_json::json!({ "operation": operation });
            let deed = Deed::done("vm.act", format!("vm/{}", order.vm), "operation.dispatched", data);
            match self.record(&Caller::node(node), deed, vec![moved]).await {
                // It ended meanwhile, as a delete ends everything.
                Err(OpError::Conflict(_)) => return Ok(()),
                outcome => outcome?,
            };
        }
        let ended = self.link_of(node)?.act(order.clone()).await;
        kill::here(KillPoint::StepTaken);
        // What became of a step is written down whatever becomes of who asked for it: where another request took an
        // operation's place between the look at what is open and the commit, there is another look.
        for _ in 0..LOOKS_AT_AN_END {
            match self.ended(&order, &ended).await {
                Err(OpError::Conflict(_)) => {}
                outcome => return outcome,
            }
        }
        self.ended(&order, &ended).await
    }

    /// Writes down how a step ended, in one transaction with what follows from it.
    async fn ended(&self, order: &Order, ended: &Ended) -> Result<(), OpError> {
        let Some(vm) = self.store().vm(order.vm).await? else { return Ok(()) };
        let now = self.now();
        let object = format!("vm/{}", order.vm);
        let step = order.step.name();
        self.vitals().stepped(step, ended);
        let open = self.store().operations_open_of(order.vm).await?;
        let mut change = VmChange::default();
        let mut changes = vec![Change::VmObserved(order.vm, Box::new(ended.observed.clone()), now)];
        if let Some(passage) = &ended.passage {
            changes.push(decided(order.vm, &vm.node, passage, now));
            if passage.reasons.is_empty() && matches!(ended.outcome, Outcome::Done) {
                change.running.clone_from(&passage.running);
            }
        }
        let action = format!("vm.{step}");
        let deed = match &ended.outcome {
            Outcome::Done => {
                let mut data = serde_json::json!({ "name": vm.spec.name, "observed": ended.observed });
                if let Some(by) =
                    ended.passage.as_ref().map(|passage| &passage.overridden_by).filter(|by| !by.is_empty())
                    && let Some(map) = data.as_object_mut()
                {
                    map.insert("overridden_by".to_owned(), serde_json::json!(by));
                }
                self.done(order, &vm, &ended.observed, &open, &mut change, &mut changes, now);
                Deed::done(&action, object, format!("vm.{}", past(&order.step)), data)
            }
            Outcome::Refused { reasons } => {
                let hold =
                    Hold { message: format!("the gate refused to {step} it"), reasons: reasons.clone(), at: now };
                hold_back(order, &open, hold, OperationState::Refused, &mut change, &mut changes, now);
                Deed::refused(&action, object, "vm.refused", reasons)
            }
            Outcome::Failed { message } => {
                self.failed(order, &vm, &open, message, &mut change, &mut changes, now);
                Deed::failed(&action, object, "vm.failed", message)
            }
        };
        if matches!(&order.step, Step::Forget) && ended.outcome == Outcome::Done {
            changes.retain(|change| !matches!(change, Change::VmObserved(..)));
            changes.push(Change::VmDeleted(order.vm));
        } else if change != VmChange::default() {
            changes.push(Change::VmChanged(order.vm, Box::new(change)));
        }
        self.record(&Caller::node(&vm.node), deed, changes).await?;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what one transaction is made of")]
    fn done(
        &self,
        order: &Order,
        vm: &Vm,
        observed: &Observed,
        open: &[Operation],
        change: &mut VmChange,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) {
        match &order.step {
            Step::Act { operation, action } => {
                changes.extend(is_open(open, *operation).then(|| moved(*operation, OperationState::Done, now)));
                if *action == Action::Save {
                    change.power = Some(DesiredPower::Stopped);
                }
                if let Some(spec) = with(&vm.spec, action) {
                    change.spec = Some(spec);
                    change.bump = true;
                }
            }
            Step::Start { .. } => {
                change.hold = Some(None);
                change.not_before = Some(None);
            }
            Step::Forget => {
                changes.extend(open.iter().map(|operation| moved(operation.id, OperationState::Done, now)));
            }
            _ => {}
        }
        if !matches!(order.step, Step::Forget) {
            let come_true = open.iter().filter(|operation| has_come_true(operation, observed));
            changes.extend(come_true.map(|operation| moved(operation.id, OperationState::Done, now)));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what one transaction is made of")]
    fn failed(
        &self,
        order: &Order,
        vm: &Vm,
        open: &[Operation],
        message: &str,
        change: &mut VmChange,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) {
        if matches!(order.step, Step::Start { .. }) && vm.spec.restart != RestartPolicy::Never {
            let failures = vm.failures.saturating_add(1);
            change.failures = Some(failures);
            change.not_before = Some(Some(after_pause(now, failures)));
            let waiting = open.iter().filter(|operation| operation.action.is_none() && operation.kind != "delete");
            changes.extend(waiting.map(|operation| ended_badly(operation.id, OperationState::Failed, message, now)));
            return;
        }
        let hold = Hold { message: format!("{}: {message}", order.step.name()), reasons: Vec::new(), at: now };
        hold_back(order, open, hold, OperationState::Failed, change, changes, now);
    }

    /// News of the node.
    async fn told(&self, news: News) {
        let outcome = match news {
            News::Seen { vm, observed } => self.seen(vm, observed).await,
            News::Altered { digest, vm, message } => self.image_altered(&digest, vm, &message).await,
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "news of the node could not be written down");
        }
    }

    /// A machine was seen otherwise than it was left: it changed by itself.
    async fn seen(&self, id: VmId, observed: Observed) -> Result<(), OpError> {
        let Some(vm) = self.store().vm(id).await? else { return Ok(()) };
        // While a step is under way, its own end tells.
        if lock(&self.inner.busy).contains(&id) || vm.observed.as_ref() == Some(&observed) {
            return Ok(());
        }
        let now = self.now();
        let was_up = vm.observed.as_ref().is_some_and(|before| plan::is_up(before.power));
        let mut changes = vec![Change::VmObserved(id, Box::new(observed.clone()), now)];
        let mut event = "vm.changed";
        if was_up && !plan::is_up(observed.power) {
            let died = observed.power == ObservedPower::Failed;
            event = if died { "vm.died" } else { "vm.ended" };
            if vm.power != DesiredPower::Stopped && !vm.deleting {
                changes.push(Change::VmChanged(id, Box::new(after_end(&vm, died, now))));
            }
        }
        let data = serde_json::json!({ "name": vm.spec.name, "observed": observed });
        let deed = Deed::done("vm.observe", format!("vm/{id}"), event, data);
        self.record(&Caller::node(&vm.node), deed, changes).await?;
        Ok(())
    }

    /// The host came up anew: nothing runs; what shall run by itself is started, by a path of its own.
    async fn after_boot(&self, vm: &Vm, observed: Observed) -> Result<(), OpError> {
        if plan::is_up(observed.power) || vm.deleting {
            return self.seen(vm.id, observed).await;
        }
        // Another host may still have it. It starts when somebody says so, and not because a host came up.
        if vm.is_fenced() {
            return self.seen(vm.id, observed).await;
        }
        let mut changes = vec![Change::VmObserved(vm.id, Box::new(observed), self.now())];
        let (event, power) = if vm.spec.autostart {
            ("vm.autostart", DesiredPower::Running)
        } else {
            ("vm.stays-stopped", DesiredPower::Stopped)
        };
        if vm.spec.autostart || vm.power != DesiredPower::Stopped {
            changes.push(Change::VmChanged(
                vm.id,
                Box::new(VmChange {
                    power: Some(power),
                    start_path: Some(BootPath::Autostart),
                    hold: Some(None),
                    not_before: Some(None),
                    failures: Some(0),
                    ..VmChange::default()
                }),
            ));
        }
        let deed = Deed::done("vm.boot", format!("vm/{}", vm.id), event, serde_json::json!({ "name": vm.spec.name }));
        self.record(&Caller::node(&vm.node), deed, changes).await?;
        Ok(())
    }

    /// What was handed out before this process began is handed out again, unless doing it twice could harm.
    async fn operations_again(&self) -> Result<(), OpError> {
        for operation in self.store().operations_open().await? {
            if operation.state != OperationState::Dispatched {
                continue;
            }
            let again = operation.action.as_ref().is_some_and(Action::is_repeatable);
            let change = if again {
                moved(operation.id, OperationState::Pending, self.now())
            } else {
                let message = "the process died while it was under way; whether it was done is not known";
                ended_badly(operation.id, OperationState::Interrupted, message, self.now())
            };
            let event = if again { "operation.again" } else { "operation.interrupted" };
            let data = serde_json::json!({ "operation": operation.id, "kind": operation.kind });
            let deed = Deed::done("vm.act", format!("vm/{}", operation.vm), event, data);
            self.record(&Caller::system(), deed, vec![change]).await?;
        }
        Ok(())
    }

    /// Ends the operations whose wish has come true without a step.
    async fn settle(&self, vm: &Vm, open: &[Operation]) -> Result<(), OpError> {
        let nothing = Observed::nothing();
        let observed = vm.observed.as_ref().unwrap_or(&nothing);
        for operation in open.iter().filter(|operation| has_come_true(operation, observed)) {
            let data = serde_json::json!({ "operation": operation.id, "name": vm.spec.name });
            let deed = Deed::done("vm.settle", format!("vm/{}", vm.id), "operation.done", data);
            match self
                .record(&Caller::node(&vm.node), deed, vec![moved(operation.id, OperationState::Done, self.now())])
                .await
            {
                Err(OpError::Conflict(_)) => {}
                outcome => {
                    outcome?;
                }
            }
        }
        Ok(())
    }

    /// How long nothing needs to be looked at.
    fn until_next(&self) -> Duration {
        let now = self.now();
        let end = self.inner.rules.borrow().next_end(now);
        let until = end.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
        // A little later than the end, so that it is over by then.
        until.map_or(INTERVAL, |until| INTERVAL.min(until + Duration::from_millis(10))).min(INTERVAL)
    }
}

/// A machine as the planner sees it.
fn desired(vm: &Vm, open: &[Operation], quarantine: Option<crate::types::step::QuarantineAction>) -> Desired {
    let action = open.iter().find_map(|operation| {
        let action = operation.action.clone()?;
        (operation.state == OperationState::Pending).then_some((operation.id, action))
    });
    let force_stop = open.iter().any(|operation| operation.kind == "stop-force");
    Desired {
        vm: vm.id,
        power: vm.power,
        start_path: vm.start_path,
        quarantine,
        held: vm.hold.is_some(),
        not_before: vm.not_before,
        deleting: vm.deleting,
        force_stop,
        action,
    }
}

/// Whether somebody still waits for it: a delete ends whatever was asked for before.
fn is_open(open: &[Operation], id: Uuid) -> bool {
    open.iter().any(|operation| operation.id == id)
}

/// Whether what the operation wished is so.
fn has_come_true(operation: &Operation, observed: &Observed) -> bool {
    match operation.kind.as_str() {
        "start" | "resume" => observed.power == ObservedPower::Running && !observed.awaits_reset,
        "stop" | "stop-force" => !plan::is_up(observed.power),
        "receive" => plan::is_up(observed.power),
        "pause" => observed.power == ObservedPower::Paused,
        _ => false,
    }
}

/// A step ended badly: what asked for it ends too, and the machine is left alone where it would be tried for ever.
fn hold_back(
    order: &Order,
    open: &[Operation],
    hold: Hold,
    state: OperationState,
    change: &mut VmChange,
    changes: &mut Vec<Change>,
    now: Timestamp,
) {
    let ended = |id: Uuid| Change::OperationMoved {
        id,
        state,
        reasons: hold.reasons.clone(),
        message: Some(hold.message.clone()),
        at: now,
    };
    if let Step::Act { operation, .. } = &order.step {
        changes.extend(is_open(open, *operation).then(|| ended(*operation)));
        return;
    }
    let wished = open.iter().filter(|operation| operation.action.is_none() && operation.kind != "delete");
    changes.extend(wished.map(|operation| ended(operation.id)));
    if matches!(order.step, Step::Start { .. } | Step::Reset | Step::Resume | Step::Pause | Step::Reconnect) {
        change.hold = Some(Some(hold));
    }
}

/// What follows from a machine's end by itself.
fn after_end(vm: &Vm, died: bool, now: Timestamp) -> VmChange {
    let again = match vm.spec.restart {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => died,
        RestartPolicy::Always => true,
    };
    if !again {
        return VmChange { power: Some(DesiredPower::Stopped), ..VmChange::default() };
    }
    let ran = vm.seen_at.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    let failures = if ran >= HEALTHY { 1 } else { vm.failures.saturating_add(1) };
    VmChange {
        power: Some(DesiredPower::Running),
        start_path: Some(BootPath::Restart),
        not_before: Some(Some(after_pause(now, failures))),
        failures: Some(failures),
        ..VmChange::default()
    }
}

fn after_pause(now: Timestamp, failures: u32) -> Timestamp {
    let doubled = FIRST_PAUSE.as_secs().saturating_mul(1_i64 << failures.saturating_sub(1).min(20));
    let pause = SignedDuration::from_secs(doubled).min(LONGEST_PAUSE);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// The description once the action is done, where it changes it.
fn with(spec: &VmSpec, action: &Action) -> Option<VmSpec> {
    super::ops::vm::spec_with(spec, action)
}

fn moved(id: Uuid, state: OperationState, at: Timestamp) -> Change {
    Change::OperationMoved { id, state, reasons: Vec::new(), message: None, at }
}

fn ended_badly(id: Uuid, state: OperationState, message: &str, at: Timestamp) -> Change {
    Change::OperationMoved { id, state, reasons: Vec::new(), message: Some(message.to_owned()), at }
}

/// The word for a step that was taken.
const fn past(step: &Step) -> &'static str {
    match step {
        Step::Start { .. } => "started",
        Step::Stop { .. } => "stopped",
        Step::Pause => "paused",
        Step::Resume => "resumed",
        Step::Isolate => "isolated",
        Step::Reconnect => "reconnected",
        Step::Reset => "reset",
        Step::Forget => "deleted",
        Step::Act { action, .. } => match action {
            Action::Reset => "reset",
            Action::AttachIso { .. } | Action::AttachDisk { .. } | Action::AttachNic { .. } => "attached",
            Action::Detach { .. } => "detached",
            Action::CreateSnapshot { .. } => "snapshot-created",
            Action::RevertSnapshot { .. } => "snapshot-reverted",
            Action::DeleteSnapshot { .. } => "snapshot-deleted",
            Action::Save => "saved",
        },
    }
}

fn lock(busy: &std::sync::Mutex<HashSet<VmId>>) -> std::sync::MutexGuard<'_, HashSet<VmId>> {
    // A set of identities is whole whatever panicked while it was held.
    busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
