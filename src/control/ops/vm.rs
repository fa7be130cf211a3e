//! Machines: a description or a wish in, an operation that is written down out.
//!
//! A description is put to the node's gate before it is kept, so that who asks for what cannot run is told at once.
//! That answer starts nothing: the gate is asked again, over the very bytes, whenever something is about to.

use jiff::Timestamp;
use uuid::Uuid;

use super::super::{Caller, Control, Deed, OpError};
use crate::store::{Change, DecisionRow, Idempotency, Operation, OperationState, Vm, VmChange, Written};
use crate::types::grant::is_label;
use crate::types::step::{Action, Passage};
use crate::types::vm::{BootPath, DesiredPower, Iso, VmId, VmSpec};
use crate::types::{Code, Digest, Reason};

/// What somebody wishes of a machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// On.
    Start,
    /// Off; at once, where it is forced.
    Stop {
        /// Without asking the guest.
        force: bool,
    },
    /// Halted.
    Pause,
    /// Running again.
    Resume,
    /// Sent here by another node, running.
    Receive,
}

impl Wish {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop { force: false } => "stop",
            Self::Stop { force: true } => "stop-force",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Receive => "receive",
        }
    }

    const fn power(self) -> DesiredPower {
        match self {
            Self::Start | Self::Resume | Self::Receive => DesiredPower::Running,
            Self::Stop { .. } => DesiredPower::Stopped,
            Self::Pause => DesiredPower::Paused,
        }
    }
}

/// The key under which a caller may repeat a request, and what the request was.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key.
    pub key: String,
    /// SHA-256 over the request.
    pub fingerprint: String,
}

impl Control {
    /// The machine with this identity or name.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn vm_find(&self, text: &str) -> Result<Vm, OpError> {
        let found = match text.parse::<VmId>() {
            Ok(id) => self.store().vm(id).await?,
            Err(_) => self.store().vm_by_name(text).await?,
        };
        found.ok_or_else(|| OpError::NotFound(format!("there is no virtual machine {text:?}")))
    }

    /// Describes a machine.
    ///
    /// # Errors
    /// [`OpError::Invalid`], [`OpError::Refused`] by the gate or a quota, [`OpError::Conflict`] where the name is taken,
    /// [`OpError::NotFound`] where there is no such project.
    pub async fn vm_create(
        &self,
        caller: &Caller,
        project: &str,
        spec: VmSpec,
        once: Option<Once>,
    ) -> Result<Vm, OpError> {
        check(&spec)?;
        let once = match self.repeated(caller, once).await? {
            Repeated::Before(resource) => return self.vm_find(resource.trim_start_matches("vm/")).await,
            Repeated::First(once) => once,
        };
        let now = self.now();
        let id = VmId::new(Uuid::now_v7());
        let passage = self.link().ask(id, 1, BootPath::Create, spec.clone()).await;
        let object = format!("vm/{id}");
        let decided = decided(id, &self.node().name, &passage, now);
        if !passage.reasons.is_empty() {
            let deed = Deed::refused("vm.create", object, "vm.refused", &passage.reasons);
            self.record(caller, deed, vec![decided]).await?;
            return Err(OpError::Refused(passage.reasons));
        }
        let vm = Vm::described(id, &self.node().name, project, spec, now, &caller.actor);
        let data = serde_json::json!({ "name": vm.spec.name, "spec": vm.spec });
        let mut changes = vec![Change::VmCreated(Box::new(vm.clone())), decided];
        changes.extend(once_row(caller, once, &object, now));
        let deed = Deed::done("vm.create", object.clone(), "vm.created", data);
        self.unless_full(caller, "vm.create", object, self.record(caller, deed, changes).await).await?;
        Ok(vm)
    }

    /// Replaces a machine's description; one that runs keeps what it runs until it is started again.
    ///
    /// # Errors
    /// As [`Self::vm_create`], and [`OpError::Stale`] where `if_generation` is not the machine's.
    pub async fn vm_update(
        &self,
        caller: &Caller,
        id: VmId,
        spec: VmSpec,
        if_generation: Option<u64>,
    ) -> Result<Vm, OpError> {
        check(&spec)?;
        let vm = self.vm_find(&id.to_string()).await?;
        fresh(&vm, if_generation)?;
        let passage = self.link_of(&vm.node)?.ask(id, vm.generation + 1, BootPath::Create, spec.clone()).await;
        let object = format!("vm/{id}");
        let decided = decided(id, &vm.node, &passage, self.now());
        if !passage.reasons.is_empty() {
            let deed = Deed::refused("vm.update", object, "vm.refused", &passage.reasons);
            self.record(caller, deed, vec![decided]).await?;
            return Err(OpError::Refused(passage.reasons));
        }
        let data = serde_json::json!({ "name": spec.name, "spec": spec });
        let change = VmChange {
            if_generation: Some(vm.generation),
            bump: true,
            spec: Some(spec),
            hold: Some(None),
            ..VmChange::default()
        };
        let changes = vec![Change::VmChanged(id, Box::new(change)), decided];
        let deed = Deed::done("vm.update", object.clone(), "vm.updated", data);
        let written = self.record(caller, deed, changes).await;
        let written = self.unless_full(caller, "vm.update", object, written).await;
        match written {
            // Somebody was quicker between the look and the write.
            Err(OpError::Conflict(what)) if what.contains("meanwhile") => Err(OpError::Stale(what)),
            Err(error) => Err(error),
            Ok(_) => self.vm_find(&id.to_string()).await,
        }
    }

    /// Wishes a machine on, off, halted or running again.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Stale`], [`OpError::Refused`] where it is in quarantine.
    pub async fn vm_wish(
        &self,
        caller: &Caller,
        id: VmId,
        wish: Wish,
        if_generation: Option<u64>,
        once: Option<Once>,
    ) -> Result<Operation, OpError> {
        let once = match self.repeated(caller, once).await? {
            Repeated::Before(resource) => return self.operation_find(&resource).await,
            Repeated::First(once) => once,
        };
        let vm = self.vm_find(&id.to_string()).await?;
        fresh(&vm, if_generation)?;
        let now = self.now();
        let object = format!("vm/{id}");
        let action = format!("vm.{}", wish.name());
        if wish.power() == DesiredPower::Running {
            self.unless_quarantined(caller, &vm, &action).await?;
        }
        let operation = operation(id, wish.name(), None, caller, now);
        let mut changes = vec![Change::VmChanged(
            id,
            Box::new(VmChange {
                if_generation,
                bump: true,
                power: Some(wish.power()),
                start_path: Some(match wish {
                    Wish::Receive => BootPath::IncomingMigration,
                    _ if vm.spec.netboot => BootPath::Netboot,
                    _ => BootPath::Start,
                }),
                hold: Some(None),
                not_before: Some(None),
                failures: Some(0),
                ..VmChange::default()
            }),
        )];
        // What was wished before and has not come true is no longer wished.
        for earlier in self.store().operations_open_of(id).await? {
            if earlier.action.is_none() && earlier.kind != "delete" {
                changes.push(superseded(earlier.id, now));
            }
        }
        changes.push(Change::OperationPut(Box::new(operation.clone())));
        changes.extend(once_row(caller, once, &format!("operation/{}", operation.id), now));
        let data = serde_json::json!({ "operation": operation.id, "name": vm.spec.name });
        let event = format!("{action}.requested");
        self.record(caller, Deed::done(&action, object, event, data), changes).await?;
        Ok(operation)
    }

    /// Asks for something else to be done to a running machine.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Conflict`] where it does not run, [`OpError::Refused`] in quarantine.
    pub async fn vm_act(
        &self,
        caller: &Caller,
        id: VmId,
        action: Action,
        once: Option<Once>,
    ) -> Result<Operation, OpError> {
        let once = match self.repeated(caller, once).await? {
            Repeated::Before(resource) => return self.operation_find(&resource).await,
            Repeated::First(once) => once,
        };
        let vm = self.vm_find(&id.to_string()).await?;
        let name = format!("vm.{}", action.name());
        self.unless_quarantined(caller, &vm, &name).await?;
        let up = vm.observed.as_ref().is_some_and(|seen| super::super::plan::is_up(seen.power));
        if !up || vm.power == DesiredPower::Stopped || vm.deleting {
            let message = format!("virtual machine {:?} does not run, so nothing can be done to it", vm.spec.name);
            return Err(OpError::Conflict(message));
        }
        let now = self.now();
        let operation = operation(id, action.name(), Some(action), caller, now);
        let mut changes = vec![Change::OperationPut(Box::new(operation.clone()))];
        changes.extend(once_row(caller, once, &format!("operation/{}", operation.id), now));
        let data = serde_json::json!({ "operation": operation.id, "name": vm.spec.name, "action": operation.action });
        let event = format!("{name}.requested");
        self.record(caller, Deed::done(&name, format!("vm/{id}"), event, data), changes).await?;
        Ok(operation)
    }

    /// Removes a machine and what its node has of it, running or not.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Stale`].
    pub async fn vm_delete(&self, caller: &Caller, id: VmId, if_generation: Option<u64>) -> Result<Operation, OpError> {
        let vm = self.vm_find(&id.to_string()).await?;
        fresh(&vm, if_generation)?;
        let now = self.now();
        let open = self.store().operations_open_of(id).await?;
        if let Some(already) = open.iter().find(|operation| operation.kind == "delete") {
            return Ok(already.clone());
        }
        let operation = operation(id, "delete", None, caller, now);
        let change = VmChange { if_generation, bump: true, deleting: true, hold: Some(None), ..VmChange::default() };
        let mut changes = vec![Change::VmChanged(id, Box::new(change))];
        changes.extend(open.iter().map(|earlier| superseded(earlier.id, now)));
        changes.push(Change::OperationPut(Box::new(operation.clone())));
        let data = serde_json::json!({ "operation": operation.id, "name": vm.spec.name });
        let deed = Deed::done("vm.delete", format!("vm/{id}"), "vm.delete.requested", data);
        self.record(caller, deed, changes).await?;
        Ok(operation)
    }

    /// One operation, by `operation/ID` or its identity alone.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn operation_find(&self, text: &str) -> Result<Operation, OpError> {
        let missing = || OpError::NotFound(format!("there is no operation {text:?}"));
        let id = text.trim_start_matches("operation/").parse::<Uuid>().map_err(|_| missing())?;
        self.store().operation(id).await?.ok_or_else(missing)
    }

    /// What is in quarantine is not even wished to run.
    async fn unless_quarantined(&self, caller: &Caller, vm: &Vm, action: &str) -> Result<(), OpError> {
        let rules = self.inner.rules.borrow().clone();
        let mut concerned = rules.concerned(std::slice::from_ref(vm), &self.revoked().revoked, self.now());
        let Some(reasons) = concerned.remove(&vm.id) else { return Ok(()) };
        let deed = Deed::refused(action, format!("vm/{}", vm.id), "vm.refused", &reasons);
        self.record(caller, deed, Vec::new()).await?;
        Err(OpError::Refused(reasons))
    }

    /// What a quota had no room for is a refusal, and written down as one.
    pub(in crate::control) async fn unless_full(
        &self,
        caller: &Caller,
        action: &str,
        object: String,
        written: Result<Written, OpError>,
    ) -> Result<Written, OpError> {
        if let Err(OpError::Refused(reasons)) = &written {
            self.record(caller, Deed::refused(action, object, "vm.refused", reasons), Vec::new()).await?;
        }
        written
    }

    /// Whether this caller's key was used before, and for the same request.
    async fn repeated(&self, caller: &Caller, once: Option<Once>) -> Result<Repeated, OpError> {
        let Some(once) = once else { return Ok(Repeated::First(None)) };
        match self.store().idempotent(&caller.actor, &once.key).await? {
            None => Ok(Repeated::First(Some(once))),
            Some(before) if before.fingerprint == once.fingerprint => Ok(Repeated::Before(before.resource)),
            Some(_) => Err(OpError::Invalid(Box::new(Reason::new(
                Code::IdempotencyKeyReused,
                format!("the idempotency key {:?} was used for another request", once.key),
            )))),
        }
    }
}

enum Repeated {
    Before(String),
    First(Option<Once>),
}

/// A row of what the gate said.
pub(in crate::control) fn decided(vm: VmId, node: &str, passage: &Passage, at: Timestamp) -> Change {
    Change::Decided(Box::new(DecisionRow {
        vm,
        node: node.to_owned(),
        path: passage.path,
        allowed: passage.reasons.is_empty(),
        reasons: passage.reasons.clone(),
        ticket: passage.ticket.clone(),
        at,
    }))
}

fn operation(vm: VmId, kind: &str, action: Option<Action>, caller: &Caller, now: Timestamp) -> Operation {
    Operation {
        id: Uuid::now_v7(),
        vm,
        kind: kind.to_owned(),
        action,
        state: OperationState::Pending,
        reasons: Vec::new(),
        message: None,
        created_at: now,
        created_by: caller.actor.clone(),
        ended_at: None,
    }
}

fn superseded(id: Uuid, at: Timestamp) -> Change {
    let message = Some("another operation took its place".to_owned());
    Change::OperationMoved { id, state: OperationState::Superseded, reasons: Vec::new(), message, at }
}

fn once_row(caller: &Caller, once: Option<Once>, resource: &str, at: Timestamp) -> Option<Change> {
    let once = once?;
    let row = Idempotency {
        actor: caller.actor.clone(),
        key: once.key,
        fingerprint: once.fingerprint,
        resource: resource.to_owned(),
    };
    Some(Change::Idempotent(Box::new(row), at))
}

fn fresh(vm: &Vm, if_generation: Option<u64>) -> Result<(), OpError> {
    match if_generation {
        Some(seen) if seen != vm.generation => Err(OpError::Stale(format!(
            "virtual machine {:?} has generation {}, and you saw {seen}",
            vm.spec.name, vm.generation
        ))),
        _ => Ok(()),
    }
}

/// What a description must be, whatever its node can do.
pub(super) fn check(spec: &VmSpec) -> Result<(), OpError> {
    let malformed = |message: String| {
        Err(OpError::Invalid(Box::new(Reason::new(Code::MachineMalformed, message).hint(
            "a name has 1 to 63 lower-case letters, digits and hyphens, and begins and ends with none of the last",
        ))))
    };
    let name = &spec.name;
    if !is_label(name) || name.parse::<VmId>().is_ok() {
        return malformed(format!("{name:?} is no name for a machine"));
    }
    if spec.kernel.is_none() && spec.disks.is_empty() && spec.isos.is_empty() && !spec.netboot {
        return Err(OpError::Invalid(Box::new(
            Reason::new(Code::MachineMalformed, format!("machine {name:?} has nothing to boot from"))
                .hint("give it a disk, an ISO image or a kernel"),
        )));
    }
    Ok(())
}

/// The description once the action is done, where it changes it; nothing where the slot is not the next free one.
pub fn spec_with(spec: &VmSpec, action: &Action) -> Option<VmSpec> {
    let mut changed = spec.clone();
    match action {
        Action::AttachIso { slot, image } => {
            let at = index_of(slot, "iso")?;
            let iso = Iso { image: image.clone() };
            let free = at == changed.isos.len();
            match changed.isos.get_mut(at) {
                Some(there) => *there = iso,
                None if free => changed.isos.push(iso),
                None => return None,
            }
        }
        Action::AttachDisk { slot, disk } => {
            (index_of(slot, "disk")? == changed.disks.len()).then(|| changed.disks.push(disk.clone()))?;
        }
        Action::AttachNic { slot, nic } => {
            (index_of(slot, "nic")? == changed.nics.len()).then(|| changed.nics.push(nic.clone()))?;
        }
        // Only the last of a kind can go: the others would get other places.
        Action::Detach { slot } => {
            if let Some(at) = index_of(slot, "disk") {
                (at + 1 == changed.disks.len()).then(|| changed.disks.pop())?;
            } else if let Some(at) = index_of(slot, "iso") {
                (at + 1 == changed.isos.len()).then(|| changed.isos.pop())?;
            } else {
                (index_of(slot, "nic")? + 1 == changed.nics.len()).then(|| changed.nics.pop())?;
            }
        }
        _ => return None,
    }
    Some(changed)
}

fn index_of(slot: &str, kind: &str) -> Option<usize> {
    slot.strip_prefix(kind)?.parse().ok()
}

/// The digest over a request that an idempotency key stands for.
pub fn fingerprint(parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    Digest::sha256(&all).to_string()
}
