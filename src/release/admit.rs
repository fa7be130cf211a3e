//! Decisions and image digests in, a [`BootPermit`] out: the one place where the engine and the hypervisor touch.
//!
//! The control plane asks early, for a friendly refusal; the node asks again over the very bytes that are about to
//! boot, and only that answer starts anything. A permit's fields are private and only this room makes one, so that
//! starting a machine without the check does not compile.
//!
//!
//! ```text
//! image + evidence + trust ── judge ──→ Judged ──┐
//! request, the store's measure ──────────────────┤
//! the server's bytes ── SignedTicket ──→ Ticket ─┼── permit ──→ BootPermit
//! two people's bytes ──────────────→ Override ───┤
//! the list of what must not run ─────────────────┘
//! ```
//!
//! Invariant: no I/O and no clock; callers pass bytes, keys and `now`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::types::Digest;
use crate::types::vm::{ArtifactKind, BootPath, VmId};

pub mod break_glass;
pub mod evidence;
pub mod judge;
pub mod permit;
pub mod quarantine;
pub mod ticket;
pub mod trust;
pub mod two_people;

#[cfg(test)]
mod permit_tests;

pub use break_glass::{Override, OverrideTerms};
pub use evidence::{Evidence, EvidenceFile};
pub use judge::{Judged, Presented, judge};
pub use permit::{BootRequest, IssueError, Measured, Standing, issue, permit};
pub use quarantine::{Affected, QuarantineAction, QuarantineList, Running, SignerId, affected};
pub use ticket::{SignedTicket, Ticket, TicketTerms};
pub use trust::{AdmissionTrust, TrustFault};
pub use two_people::{Approved, Person, Proposal};

/// One artifact of a machine: where it goes, what it is, and which bytes it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootArtifact {
    /// Its place in the machine: `kernel`, `initrd`, `firmware`, `firmware-vars`, `disk0`, `iso0`, `nic0`.
    pub slot: String,
    /// What it is to the machine.
    pub kind: ArtifactKind,
    /// SHA-256 of its bytes: what the decision is about.
    pub digest: Digest,
    /// Root of the Merkle tree over its blocks, for what is read block by block: what reading is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_root: Option<Digest>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The permission to run exactly these artifacts in this machine, on this node, by this path, until then.
#[derive(Debug)]
pub struct BootPermit {
    vm: VmId,
    node: String,
    path: BootPath,
    artifacts: Vec<BootArtifact>,
    /// Every digest that they are known by.
    digests: Vec<Digest>,
    expires_at: Timestamp,
    signers: Vec<SignerId>,
    policy: Digest,
    overridden_by: Vec<Person>,
}

impl BootPermit {
    /// The machine.
    pub const fn vm(&self) -> VmId {
        self.vm
    }

    /// The node that may run it.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The path that was asked for.
    pub const fn path(&self) -> BootPath {
        self.path
    }

    /// Everything that may go into the machine by this permit.
    pub fn artifacts(&self) -> &[BootArtifact] {
        &self.artifacts
    }

    /// The artifact that may go into this slot, where it is of this kind and has these bytes.
    pub fn covers(&self, slot: &str, kind: ArtifactKind, digest: &Digest) -> Option<&BootArtifact> {
        let fits =
            |artifact: &&BootArtifact| artifact.slot == slot && artifact.kind == kind && artifact.digest == *digest;
        self.artifacts.iter().find(fits)
    }

    /// When the permission ends; a machine that runs by then keeps running, one that is to start is asked for again.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Everybody who vouches for what runs by it.
    pub fn signers(&self) -> &[SignerId] {
        &self.signers
    }

    /// The policy that allowed it.
    pub const fn policy(&self) -> &Digest {
        &self.policy
    }

    /// Whether two people let something run that no policy allows.
    pub fn is_override(&self) -> bool {
        !self.overridden_by.is_empty()
    }

    /// Those two, where they did.
    pub fn overridden_by(&self) -> &[Person] {
        &self.overridden_by
    }

    /// What has to be kept of the machine while it runs, so that a quarantine finds it.
    pub fn running(&self) -> Running {
        Running {
            vm: self.vm,
            digests: self.digests.clone(),
            signers: self.signers.clone(),
            policy: self.policy.clone(),
        }
    }

    /// A permit for tests of what stands behind the gate.
    #[cfg(test)]
    pub(crate) fn for_tests(vm: VmId, path: BootPath, artifacts: Vec<BootArtifact>) -> Self {
        Self {
            vm,
            node: "test".to_owned(),
            path,
            digests: artifacts.iter().map(|artifact| artifact.digest.clone()).collect(),
            artifacts,
            expires_at: Timestamp::MAX,
            signers: Vec::new(),
            policy: Digest::sha256(b"policy"),
            overridden_by: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_covers_a_slot_with_these_bytes_and_no_other() {
        let digest = Digest::sha256(b"kernel");
        let kind = ArtifactKind::Kernel;
        let artifact =
            BootArtifact { slot: "kernel".to_owned(), kind, digest: digest.clone(), tree_root: None, bytes: 6 };
        let vm = VmId::new(uuid::Uuid::nil());
        let permit = BootPermit::for_tests(vm, BootPath::Start, vec![artifact]);
        assert!(permit.covers("kernel", kind, &digest).is_some());
        assert!(permit.covers("initrd", kind, &digest).is_none());
        assert!(permit.covers("kernel", ArtifactKind::Initrd, &digest).is_none());
        assert!(permit.covers("kernel", kind, &Digest::sha256(b"other")).is_none());
    }
}
