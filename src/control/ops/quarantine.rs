//! Quarantine: what must not run is written down, and whatever runs it is stilled at once. Letting it run again takes
//! two people and ends by itself; so does an override of the gate.
//!
//! Who a person is, the kernel says (the user at the other end of the socket). Two names for one user are one person.

use std::collections::HashMap;

use jiff::SignedDuration;
use uuid::Uuid;

use super::super::{Caller, Control, Deed, OpError};
use crate::release::admit::quarantine::Target;
use crate::release::admit::two_people::{Person, Proposal};
use crate::store::{Approval, Change, OverrideRow, Quarantine, Vm};
use crate::types::vm::VmId;
use crate::types::{Code, Digest, Reason};

impl Control {
    /// Puts something into quarantine.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where the target names nothing, [`OpError::Conflict`] where it is in already.
    pub async fn quarantine_add(&self, caller: &Caller, target: &str, why: &str) -> Result<Quarantine, OpError> {
        let parsed: Target = target.parse().map_err(|error| invalid(Code::MachineMalformed, format!("{error}")))?;
        let quarantine = Quarantine {
            id: Uuid::now_v7(),
            target: parsed.to_string(),
            why: why.to_owned(),
            by: person(&caller.person())?.as_str().to_owned(),
            since: self.now(),
        };
        let data = serde_json::json!({ "target": quarantine.target, "why": why });
        let deed = Deed::done("quarantine.add", format!("quarantine/{}", quarantine.id), "quarantine.added", data);
        self.record(caller, deed, vec![Change::QuarantineAdded(Box::new(quarantine.clone()))]).await?;
        self.rules_changed().await?;
        Ok(quarantine)
    }

    /// An image's bytes are not what they were: an event, and the digest goes into quarantine.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub async fn image_altered(&self, digest: &Digest, vm: Option<VmId>, message: &str) -> Result<(), OpError> {
        let caller = Caller { actor: "debvisor".to_owned(), ..Caller::node(&self.node().name) };
        let data = serde_json::json!({ "vm": vm, "message": message });
        let deed = Deed::failed("image.altered", format!("image/{digest}"), "image.altered", message);
        self.record(&caller, Deed { data, ..deed }, Vec::new()).await?;
        match self.quarantine_add(&caller, &digest.to_string(), message).await {
            // Its second bad block.
            Ok(_) | Err(OpError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One person asks that a quarantine be released for a while.
    ///
    /// # Errors
    /// [`OpError::NotFound`]; [`OpError::Invalid`] where the time is none or too long.
    pub async fn release_ask(
        &self,
        caller: &Caller,
        quarantine: Uuid,
        reason: &str,
        lasts: SignedDuration,
    ) -> Result<Approval, OpError> {
        let found = self.store().quarantine(quarantine).await?;
        let found = found.ok_or_else(|| OpError::NotFound(format!("there is no quarantine {quarantine}")))?;
        let now = self.now();
        let until = now.checked_add(lasts).unwrap_or(jiff::Timestamp::MAX);
        let by = person(&caller.person())?;
        let longest = self.inner.settings.release_validity;
        Proposal::new(quarantine, reason, by.clone(), now, until, longest)
            .map_err(|reason| OpError::Invalid(Box::new(reason)))?;
        let approval = Approval {
            id: Uuid::now_v7(),
            quarantine,
            reason: reason.to_owned(),
            requested_by: by.as_str().to_owned(),
            requested_at: now,
            approved_by: None,
            approved_at: None,
            expires_at: until,
        };
        let data =
            serde_json::json!({ "approval": approval.id, "target": found.target, "until": until, "why": reason });
        let object = format!("quarantine/{quarantine}");
        let deed = Deed::done("quarantine.release", object, "quarantine.release.requested", data);
        self.record(caller, deed, vec![Change::ApprovalAsked(Box::new(approval.clone()))]).await?;
        Ok(approval)
    }

    /// Another person agrees.
    ///
    /// # Errors
    /// [`OpError::Refused`] where it is the same person or the time is over, [`OpError::Conflict`] where somebody
    /// agreed already.
    pub async fn release_approve(&self, caller: &Caller, approval: Uuid) -> Result<Approval, OpError> {
        let missing = || OpError::NotFound(format!("nobody asked for {approval}"));
        let asked = self.store().approval(approval).await?.ok_or_else(missing)?;
        let now = self.now();
        let by = person(&caller.person())?;
        let object = format!("quarantine/{}", asked.quarantine);
        let proposal = Proposal::new(
            asked.quarantine,
            asked.reason.clone(),
            person(&asked.requested_by)?,
            asked.requested_at,
            asked.expires_at,
            SignedDuration::MAX,
        );
        if let Err(reason) = proposal.and_then(|proposal| proposal.approve(by.clone(), now)) {
            let reasons = vec![reason];
            let deed = Deed::refused("quarantine.approve", object, "quarantine.refused", &reasons);
            self.record(caller, deed, Vec::new()).await?;
            return Err(OpError::Refused(reasons));
        }
        let data = serde_json::json!({
            "approval": approval,
            "people": [asked.requested_by, by.as_str()],
            "until": asked.expires_at,
            "why": asked.reason,
        });
        let deed = Deed::done("quarantine.approve", object, "quarantine.released", data);
        let change = Change::ApprovalGiven { id: approval, by: by.as_str().to_owned(), at: now };
        self.record(caller, deed, vec![change]).await?;
        self.rules_changed().await?;
        self.store().approval(approval).await?.ok_or_else(missing)
    }

    /// Takes an override that two people signed. Its node believes their signatures, not the one who brings it.
    ///
    /// # Errors
    /// [`OpError::Refused`] with the node's reason.
    pub async fn override_put(&self, caller: &Caller, document: Vec<u8>) -> Result<OverrideRow, OpError> {
        let checked = self.link().override_check(document.clone()).await;
        let (vm, expires_at) = match checked {
            Ok(said) => said,
            Err(reason) => {
                let reasons = vec![reason];
                let deed = Deed::refused("vm.override", "override".to_owned(), "vm.override.refused", &reasons);
                self.record(caller, deed, Vec::new()).await?;
                return Err(OpError::Refused(reasons));
            }
        };
        let row = OverrideRow {
            id: Uuid::now_v7(),
            vm,
            document: String::from_utf8_lossy(&document).into_owned(),
            expires_at,
            added_by: caller.actor.clone(),
            added_at: self.now(),
        };
        let data = serde_json::json!({ "override": row.id, "until": expires_at, "document": row.document });
        let deed = Deed::done("vm.override", format!("vm/{vm}"), "vm.overridden", data);
        self.record(caller, deed, vec![Change::OverridePut(Box::new(row.clone()))]).await?;
        self.rules_changed().await?;
        Ok(row)
    }

    /// Which of these machines may not run now, and why.
    pub fn quarantined(&self, machines: &[Vm]) -> HashMap<VmId, Vec<Reason>> {
        self.inner.rules.borrow().concerned(machines, &self.revoked().revoked, self.now())
    }
}

fn person(actor: &str) -> Result<Person, OpError> {
    actor.parse().map_err(|error| invalid(Code::MachineMalformed, format!("{error}")))
}

fn invalid(code: Code, message: String) -> OpError {
    OpError::Invalid(Box::new(Reason::new(code, message)))
}
