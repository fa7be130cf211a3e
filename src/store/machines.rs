//! Machines in memory, as the last commit left them: they are read far more often than they change.
//!
//! Before anybody is told that a write is on the disk, the machines that it touched are marked; who reads next reads
//! those rows again, and only those. So a reader sees every write that was acknowledged before it asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::AccessChange;
use super::{Change, Store, StoreError, Vm};
use crate::types::vm::VmId;

/// Machines by identity, which is the order in which they were described.
pub type Fleet = BTreeMap<VmId, Arc<Vm>>;

/// What is known of the machines, and of which of them it is out of date.
#[derive(Debug, Default)]
pub(super) struct Machines {
    known: tokio::sync::Mutex<Arc<Fleet>>,
    stale: Mutex<Stale>,
}

/// The machines that must be read again.
#[derive(Debug, Default)]
enum Stale {
    /// All: nothing was read yet, or a reading failed.
    #[default]
    All,
    /// These.
    Some(BTreeSet<VmId>),
}

impl Machines {
    /// Marks the machines that these changes touch.
    pub(super) fn touch(&self, changes: &[Change]) {
        let mut stale = self.stale();
        if let Stale::Some(stale) = &mut *stale {
            stale.extend(changes.iter().filter_map(touched));
        }
    }

    fn stale(&self) -> MutexGuard<'_, Stale> {
        // A set of identities is whole whatever panicked while it was held.
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine that a change is about.
const fn touched(change: &Change) -> Option<VmId> {
    match change {
        Change::VmCreated(vm) => Some(vm.id),
        Change::VmChanged(id, _) | Change::VmObserved(id, ..) | Change::VmDeleted(id) => Some(*id),
        Change::Access(change) => match &**change {
            AccessChange::VmMoved(id, _) => Some(*id),
            _ => None,
        },
        _ => None,
    }
}

impl Store {
    /// Every machine.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn fleet(&self) -> Result<Arc<Fleet>, StoreError> {
        let mut known = self.machines.known.lock().await;
        let taken = Taken::take(&self.machines);
        let renewed = match &taken.stale {
            Some(Stale::Some(stale)) if stale.is_empty() => return Ok(known.clone()),
            Some(Stale::Some(stale)) => {
                let again = self.vms_read(stale).await?;
                let mut fleet = Fleet::clone(&known);
                fleet.retain(|id, _| !stale.contains(id));
                fleet.extend(again.into_iter().map(|vm| (vm.id, Arc::new(vm))));
                fleet
            }
            _ => self.vms_read_all().await?.into_iter().map(|vm| (vm.id, Arc::new(vm))).collect(),
        };
        *known = Arc::new(renewed);
        taken.done();
        Ok(known.clone())
    }
}

/// What is being read again. Whoever gives up half way, as a request that nobody waits for any more does, leaves it to
/// the next one.
struct Taken<'a> {
    machines: &'a Machines,
    stale: Option<Stale>,
}

impl<'a> Taken<'a> {
    fn take(machines: &'a Machines) -> Self {
        let stale = std::mem::replace(&mut *machines.stale(), Stale::Some(BTreeSet::new()));
        Self { machines, stale: Some(stale) }
    }

    fn done(mut self) {
        self.stale = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(taken) = self.stale.take() else { return };
        let mut stale = self.machines.stale();
        match (&mut *stale, taken) {
            (Stale::Some(stale), Stale::Some(taken)) => stale.extend(taken),
            (stale, _) => *stale = Stale::All,
        }
    }
}
