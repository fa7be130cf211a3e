//! What must not run, as it is kept, in; the list that gates ask, and the machines that it concerns, out.

use std::borrow::Borrow;
use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::OpError;
use crate::release::admit::quarantine::{Entry, QuarantineList, Running, affected};
use crate::release::admit::two_people::{Approved, Person, Proposal};
use crate::release::trust::revocation::Revocations;
use crate::store::{Approval, OverrideRow, Quarantine, Store, Vm};
use crate::types::Reason;
use crate::types::vm::VmId;

/// The rules that hold.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Counts how often they changed since this process began.
    pub generation: u64,
    /// What is in quarantine, with what two people released of it.
    pub entries: Vec<Entry>,
    /// What two people signed.
    pub overrides: Vec<OverrideRow>,
    list: QuarantineList,
}

impl Rules {
    /// Reads them from the store.
    ///
    /// # Errors
    /// Where the store cannot be read, or holds an entry that cannot be understood.
    pub async fn load(store: &Store) -> Result<Self, OpError> {
        let approvals = store.approvals().await?;
        let mut entries = Vec::new();
        for quarantine in store.quarantines().await? {
            entries.push(entry(&quarantine, &approvals)?);
        }
        let list = entries.iter().cloned().collect();
        Ok(Self { generation: 0, entries, overrides: store.overrides().await?, list })
    }

    /// The machines that something in quarantine or something revoked concerns now, with the reasons: by what they
    /// run, and by what they are made of.
    pub fn concerned<V: Borrow<Vm>>(
        &self,
        machines: &[V],
        revoked: &Revocations,
        now: Timestamp,
    ) -> HashMap<VmId, Vec<Reason>> {
        if self.entries.is_empty() && revoked.is_empty() {
            return HashMap::new();
        }
        let running: Vec<Running> =
            machines.iter().filter_map(|vm| serde_json::from_value(vm.borrow().running.clone()?).ok()).collect();
        let mut found: HashMap<VmId, Vec<Reason>> = HashMap::new();
        for machine in affected(&self.list, revoked, &running, now) {
            found.entry(machine.vm).or_default().extend(machine.reasons);
        }
        for vm in machines.iter().map(Borrow::borrow) {
            let artifacts = vm.spec.artifacts();
            let by_digest = artifacts.iter().flat_map(|(_, _, digest)| {
                self.list.check_digest(digest, now).into_iter().chain(revoked.check_digest(digest))
            });
            let reasons: Vec<Reason> = by_digest.collect();
            if !reasons.is_empty() {
                let all = found.entry(vm.id).or_default();
                all.extend(reasons);
                all.sort();
                all.dedup();
            }
        }
        found
    }

    /// When the next release or override ends: then the rules are other ones.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let releases = self.entries.iter().filter_map(|entry| entry.release.as_ref().map(Approved::expires_at));
        releases.filter(|end| *end > now).min()
    }
}

/// The longest that a kept release can be: the limit was applied when it was asked for.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);

fn entry(quarantine: &Quarantine, approvals: &[Approval]) -> Result<Entry, OpError> {
    let unreadable = |what: &str| OpError::Node(format!("quarantine {}: {what}", quarantine.id));
    // The newest release counts, if any.
    let release = approvals
        .iter()
        .rev()
        .find_map(|approval| if approval.quarantine == quarantine.id { release(approval) } else { None });
    Ok(Entry {
        id: quarantine.id,
        target: quarantine.target.parse().map_err(|_| unreadable("its target cannot be read"))?,
        why: quarantine.why.clone(),
        by: quarantine.by.parse().map_err(|_| unreadable("its author cannot be read"))?,
        since: quarantine.since,
        release,
    })
}

/// The release that two people agreed to; what does not hold as one is none.
fn release(approval: &Approval) -> Option<Approved<Uuid>> {
    let asked: Person = approval.requested_by.parse().ok()?;
    let approver: Person = approval.approved_by.as_ref()?.parse().ok()?;
    Proposal::new(
        approval.quarantine,
        approval.reason.clone(),
        asked,
        approval.requested_at,
        approval.expires_at,
        LONGEST,
    )
    .ok()?
    .approve(approver, approval.approved_at?)
    .ok()
}
