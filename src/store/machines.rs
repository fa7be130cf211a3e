//! Machines in memory, as the last commit left them: they are read far more often than they change.
//!
//! Before anybody is told that a write is on the disk, the machines that it touched are marked; who reads next reads
//! those rows again, and only those. So a reader sees every write that was acknowledged before it asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::AccessChange;
use super::{Change, Store, StoreError, Vm};
use crate::types::vm::VmId;

/// Every machine, found by identity and by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    by_id: BTreeMap<VmId, Arc<Vm>>,
    by_name: HashMap<String, VmId>,
}

impl Fleet {
    /// The machine with this identity.
    #[must_use]
    pub fn get(&self, id: VmId) -> Option<&Arc<Vm>> {
        self.by_id.get(&id)
    }

    /// The machine with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Vm>> {
        self.get(*self.by_name.get(name)?)
    }

    /// All of them behind this one, in the order in which they were described.
    pub fn after(&self, id: Option<VmId>) -> impl Iterator<Item = &Arc<Vm>> {
        let begin = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((begin, Bound::Unbounded)).map(|(_, vm)| vm)
    }

    /// These were read again; one that was not found is gone.
    fn renew(&mut self, stale: &BTreeSet<VmId>, again: Vec<Vm>) {
        // First all that are out of date: one may have the name that another had a moment ago.
        stale.iter().for_each(|id| self.remove(*id));
        again.into_iter().for_each(|vm| self.insert(vm));
    }

    fn insert(&mut self, vm: Vm) {
        self.by_name.insert(vm.spec.name.clone(), vm.id);
        self.by_id.insert(vm.id, Arc::new(vm));
    }

    fn remove(&mut self, id: VmId) {
        let Some(vm) = self.by_id.remove(&id) else { return };
        // Its name may be another's by now.
        if self.by_name.get(&vm.spec.name) == Some(&id) {
            self.by_name.remove(&vm.spec.name);
        }
    }
}

impl FromIterator<Vm> for Fleet {
    fn from_iter<I: IntoIterator<Item = Vm>>(machines: I) -> Self {
        let mut fleet = Self::default();
        machines.into_iter().for_each(|vm| fleet.insert(vm));
        fleet
    }
}

/// What is known of the machines, and of which of them it is out of date.
#[derive(Debug, Default)]
pub(super) struct Machines {
    known: tokio::sync::Mutex<Fleet>,
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
    /// What `look` takes from the fleet. Nobody else looks meanwhile, so it takes little and returns soon.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn fleet<T>(&self, look: impl FnOnce(&Fleet) -> T) -> Result<T, StoreError> {
        let mut known = self.machines.known.lock().await;
        let taken = Taken::take(&self.machines);
        match &taken.stale {
            Some(Stale::Some(stale)) if stale.is_empty() => {}
            Some(Stale::Some(stale)) => {
                let again = self.vms_read(stale).await?;
                known.renew(stale, again);
            }
            _ => *known = self.vms_read_all().await?.into_iter().collect(),
        }
        taken.done();
        Ok(look(&known))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn id(number: u8) -> VmId {
        VmId::new(Uuid::from_u128(number.into()))
    }

    fn vm(number: u8, name: u8) -> Vm {
        let spec = serde_json::json!({ "name": format!("vm-{name}"), "memory_mib": 64 });
        Vm::described(
            id(number),
            "node",
            "default",
            serde_json::from_value(spec).unwrap(),
            jiff::Timestamp::UNIX_EPOCH,
            "uid:0",
        )
    }

    proptest! {
        /// Machines come, go, and are renamed, also to names that others of them have given up, several between two
        /// readings.
        #[test]
        fn a_fleet_that_is_renewed_is_as_one_that_is_read_anew(
            rounds in prop::collection::vec(prop::collection::btree_map(0..8_u8, prop::option::of(0..10_u8), 0..6), 0..12)
        ) {
            let mut kept: BTreeMap<u8, u8> = BTreeMap::new();
            let mut fleet = Fleet::default();
            for round in rounds {
                let mut next = kept.clone();
                for (number, name) in &round {
                    match name {
                        Some(name) => next.insert(*number, *name),
                        None => next.remove(number),
                    };
                }
                let names: BTreeSet<&u8> = next.values().collect();
                // The database has one machine of each name.
                if names.len() < next.len() {
                    continue;
                }
                let stale: BTreeSet<VmId> = round.keys().map(|number| id(*number)).collect();
                let again = next.iter().filter(|(number, _)| round.contains_key(number));
                fleet.renew(&stale, again.map(|(number, name)| vm(*number, *name)).collect());
                kept = next;
                prop_assert_eq!(&fleet, &kept.iter().map(|(number, name)| vm(*number, *name)).collect::<Fleet>());
                for name in 0..10 {
                    let wanted = kept.iter().find(|(_, of)| **of == name).map(|(number, _)| id(*number));
                    prop_assert_eq!(fleet.named(&format!("vm-{name}")).map(|vm| vm.id), wanted);
                }
            }
        }
    }
}
