//! What is kept, as the rest of the house sees it: rows that go in and out, and the changes that are made to them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AccessChange, CredentialChange, UserChange};
use crate::types::step::{Action, ImageFacts, NodeFacts, Observed};
use crate::types::vm::{BootPath, DesiredPower, VmId, VmSpec};
use crate::types::{Code, Digest, Reason};

/// A machine: what shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its identity.
    pub id: VmId,
    /// The node that has it.
    pub node: String,
    /// The project that it belongs to.
    pub project: String,
    /// What it is made of.
    pub spec: VmSpec,
    /// The state in which it shall be.
    pub power: DesiredPower,
    /// By which path it is started next.
    pub start_path: BootPath,
    /// Grows with every change that its owner makes: the ETag.
    pub generation: u64,
    /// Why it is not started although it shall run, until somebody asks again.
    pub hold: Option<Hold>,
    /// Not started before: the pause after a death.
    pub not_before: Option<Timestamp>,
    /// How often it died in a row.
    pub failures: u32,
    /// It is on its way out.
    pub deleting: bool,
    /// What it runs and who vouched for that, as its last permit said: by it a quarantine finds it.
    pub running: Option<serde_json::Value>,
    /// When it was described first.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// As its node saw it last.
    pub observed: Option<Observed>,
    /// When that was.
    pub seen_at: Option<Timestamp>,
}

impl Vm {
    /// One that was just described: it shall not run, and nobody has seen it.
    pub fn described(id: VmId, node: &str, project: &str, spec: VmSpec, at: Timestamp, by: &str) -> Self {
        Self {
            id,
            node: node.to_owned(),
            project: project.to_owned(),
            spec,
            power: DesiredPower::Stopped,
            start_path: BootPath::Start,
            generation: 1,
            hold: None,
            not_before: None,
            failures: 0,
            deleting: false,
            running: None,
            created_at: at,
            created_by: by.to_owned(),
            observed: None,
            seen_at: None,
        }
    }

    /// Whether its state was restored from a backup and nobody has started it since: another host may run it.
    pub fn is_fenced(&self) -> bool {
        let codes = self.hold.iter().flat_map(|hold| &hold.reasons).filter_map(|reason| reason.code.known());
        codes.into_iter().any(|code| code == Code::StateRestored)
    }
}

/// Why a machine that shall run is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// What happened, in a sentence.
    pub message: String,
    /// The gate's reasons, where it was a refusal.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// It is written down; nothing was done yet.
    Pending,
    /// It was handed to the node; how it ended is not known yet.
    Dispatched,
    /// It was done.
    Done,
    /// The gate said no.
    Refused,
    /// It could not be done.
    Failed,
    /// Another operation took its place before it was done.
    Superseded,
    /// The process died while it was under way, and doing it twice could harm: whether it was done is not known.
    Interrupted,
}

impl OperationState {
    /// Whether nothing will come any more.
    pub const fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Dispatched)
    }
}

/// Something that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its identity; of version 7, so that they sort by time.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The machine that it is about.
    pub vm: VmId,
    /// `create`, `start`, `stop`, `pause`, `resume`, `delete`, or the name of an action.
    pub kind: String,
    /// What is done, where it is more than a change of power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// How it stands.
    pub state: OperationState,
    /// The gate's reasons, where it was refused.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// What stood in the way, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// An answer of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// The machine.
    pub vm: VmId,
    /// The node that was asked.
    pub node: String,
    /// The way in.
    pub path: BootPath,
    /// The answer.
    pub allowed: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// The signed ticket, where one was issued, and its end.
    pub ticket: Option<(String, Timestamp)>,
    /// When.
    pub at: Timestamp,
}

/// Something that may not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantine {
    /// Its identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// What may not: a digest, `key:…`, `identity:…`, `openpgp:…` or `policy:…`.
    pub target: String,
    /// Why.
    pub why: String,
    /// By whom.
    pub by: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// An act that one person asked for and another one approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Its identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The quarantine that it would release for a while.
    #[schema(value_type = String, format = "uuid")]
    pub quarantine: Uuid,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// Who approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub approved_at: Option<Timestamp>,
    /// When it ends, approved or not.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// What two people signed so that a machine may run although the gate says no. Its node believes the signatures,
/// not this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideRow {
    /// Its identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The machine.
    pub vm: VmId,
    /// The signed document.
    pub document: String,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Who brought it.
    pub added_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
}

/// Something that happened. Its number is the cursor that readers go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number; each is larger than the one before.
    pub id: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What, as `vm.started`.
    pub kind: String,
    /// To what, as `vm/0190…` or `image/sha256:…`.
    pub subject: String,
    /// By whom.
    pub actor: String,
    /// What else is to be said.
    pub data: serde_json::Value,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place, from 0, without gaps.
    pub seq: u64,
    /// The record, as canonical JSON.
    pub record: String,
    /// RFC 6962 leaf hash of the record.
    pub leaf: Vec<u8>,
    /// SHA-256 of the chain before it and the leaf.
    pub chain: Vec<u8>,
}

/// Who did what to which object, why, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who: `uid:0 (root)`, `node:name`, `system`.
    pub actor: String,
    /// From where: `socket`, `node`, `tls 192.0.2.7`.
    pub origin: String,
    /// What, as `vm.start`.
    pub action: String,
    /// To what, as `vm/0190…`.
    pub object: String,
    /// `done`, `refused` or `failed`.
    pub outcome: String,
    /// Why: what the person said, or the reason codes of a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What else is to be said.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// An answer that was given to a request with this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Who asked.
    pub actor: String,
    /// The key that they chose.
    pub key: String,
    /// SHA-256 over method, path and body: the same key for another request is a mistake.
    pub fingerprint: String,
    /// What was made, as `operation/0190…`.
    pub resource: String,
}

/// A change of a machine's row; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmChange {
    /// Only if the generation is still this one.
    pub if_generation: Option<u64>,
    /// An owner's change: the generation grows.
    pub bump: bool,
    /// Another description.
    pub spec: Option<VmSpec>,
    /// Another state in which it shall be.
    pub power: Option<DesiredPower>,
    /// The path of the next start.
    pub start_path: Option<BootPath>,
    /// A hold, or the end of one.
    pub hold: Option<Option<Hold>>,
    /// A pause before the next start, or the end of one.
    pub not_before: Option<Option<Timestamp>>,
    /// How often it died in a row.
    pub failures: Option<u32>,
    /// It goes.
    pub deleting: bool,
    /// What it runs, as its permit said.
    pub running: Option<serde_json::Value>,
}

/// One change to what is kept. A write takes several, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A node said who it is.
    NodeSeen(Box<NodeFacts>),
    /// A user, or a session.
    User(Box<UserChange>),
    /// Who may what is another one.
    Access(Box<AccessChange>),
    /// A machine is described. Its name must be free, and its project must have room for it.
    VmCreated(Box<Vm>),
    /// A machine's row changes. It must be there, and of the generation that is asked for.
    VmChanged(VmId, Box<VmChange>),
    /// A node saw a machine.
    VmObserved(VmId, Box<Observed>, Timestamp),
    /// A machine is gone, and its node has nothing left of it.
    VmDeleted(VmId),
    /// A node has an image.
    ImagePut(Box<ImageFacts>, String),
    /// No node has it any more.
    ImageDeleted(Digest),
    /// The gate answered.
    Decided(Box<DecisionRow>),
    /// Somebody asked for something.
    OperationPut(Box<Operation>),
    /// It goes on or ends. It must not have ended.
    OperationMoved {
        /// Which.
        id: Uuid,
        /// To which state.
        state: OperationState,
        /// The gate's reasons.
        reasons: Vec<Reason>,
        /// What stood in the way.
        message: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The answer to a request with a key. The key must be new to this actor.
    Idempotent(Box<Idempotency>, Timestamp),
    /// Something may not run. It must not be in quarantine already.
    QuarantineAdded(Box<Quarantine>),
    /// Somebody asks for what needs two.
    ApprovalAsked(Box<Approval>),
    /// Another one approves. It must be open.
    ApprovalGiven {
        /// Which.
        id: Uuid,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Two people signed an override.
    OverridePut(Box<OverrideRow>),
    /// The state was restored: every machine is held so, generations move on, and what was under way has ended.
    Fenced(Box<Hold>),
    /// Keys, identities at providers or services change.
    Credential(Box<CredentialChange>),
}

impl Change {
    /// Whether a credential that was looked up before it may be another one, or none, after it.
    pub(super) fn is_of_credentials(&self) -> bool {
        match self {
            Self::User(change) => change.is_of_credentials(),
            Self::Credential(change) => change.is_of_credentials(),
            _ => false,
        }
    }

    /// Whether who may what is another one after it.
    pub(super) fn is_of_access(&self) -> bool {
        match self {
            Self::Access(_) => true,
            Self::User(change) => {
                matches!(**change, UserChange::Created(..) | UserChange::Changed { .. } | UserChange::Deleted(_))
            }
            _ => false,
        }
    }
}

/// What happened, before it has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What.
    pub kind: String,
    /// To what.
    pub subject: String,
    /// What else is to be said.
    pub data: serde_json::Value,
}
