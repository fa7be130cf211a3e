//! House 2, the control plane: what shall be, compared with what is, becomes steps.
//!
//! Callers change the desired state by an operation ([`ops`]); [`crate::store`] keeps it; a planner without any input or
//! output ([`plan`]) says which steps are missing; [`reconcile`] hands them to a node behind a [`link`], and writes down
//! what came of them.
//!
//! **Invariant: nothing is done that was not written down before, and nothing is believed done that its node did not
//! say.** Who dies in between finds, at the next start, an intent without an end, and plans again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};

use crate::backup::write::Sources;
use crate::release::trust::revocation::Known;
use crate::store::{AuditRecord, Change, NewEvent, Store, StoreError, Write, Written};
use crate::types::access::{Permission, Subject};
use crate::types::step::{NodeFacts, QuarantineAction};
use crate::types::vm::VmId;
use crate::types::{Clock, Code, Reason};

pub mod audit;
pub mod authn;
pub mod authz;
pub mod correlation;
pub mod health;
pub mod link;
pub mod ops;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod reconcile;
#[cfg(test)]
mod reconcile_tests;
pub mod rules;
#[cfg(test)]
pub(crate) mod silent;
pub mod state;
mod telling;
pub mod vitals;

pub use link::Link;

/// The control plane of its nodes.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Every node that is connected, by name.
    nodes: BTreeMap<String, Host>,
    /// The node whose image store is the control plane's own; in one process, the one in it.
    home: Host,
    clock: Clock,
    settings: Settings,
    authn: authn::Authn,
    /// Machines that a step is under way for.
    busy: Mutex<HashSet<VmId>>,
    /// Wakes the reconciler.
    wake: Notify,
    rules: watch::Sender<Arc<rules::Rules>>,
    /// One reads them at a time.
    ruling: tokio::sync::Mutex<()>,
    /// What was answered about images in registries a moment ago.
    admissions: Mutex<ops::admission::Remembered>,
    /// Who may what, as it was read last.
    grants: watch::Sender<Arc<authz::Grants>>,
    /// One reads them at a time.
    granting: tokio::sync::Mutex<()>,
    /// What the trust bundle revokes, as it is now.
    revoked: watch::Receiver<Arc<Known>>,
    vitals: vitals::Vitals,
}

/// A node that is connected: how it is reached, how it described itself when it came up, and which rules it goes by.
#[derive(Clone)]
struct Host {
    link: Arc<dyn Link>,
    facts: NodeFacts,
    heard: Arc<telling::Heard>,
}

/// What the configuration says of how the control plane decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How people and programs prove who they are.
    pub authn: authn::Settings,
    /// What happens to machines that run what is put into quarantine.
    pub on_quarantine: QuarantineAction,
    /// How long a release from quarantine holds at most.
    pub release_validity: jiff::SignedDuration,
    /// What signs checkpoints of the audit log.
    pub audit: audit::Notary,
    /// What a backup of the state consists of.
    pub state: Sources,
}

/// Who asks, as the interface knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As whom.
    pub subject: Subject,
    /// The name that the audit log gives them: `uid:1000`, `user:alice`, `key:ci`, `service:deploy`, `node:NAME`,
    /// `system`.
    pub actor: String,
    /// From where: `socket`, `tls`, `node`, `system`.
    pub origin: &'static str,
    /// The address of the other end, where there is one.
    pub address: Option<IpAddr>,
    /// What the credential is limited to, whatever its holder may; nothing where it is not limited.
    pub scopes: Option<BTreeSet<Permission>>,
    /// What the caller said of why.
    pub why: Option<String>,
}

impl Caller {
    /// What the control plane does by itself.
    pub fn system() -> Self {
        Self::inside(Subject::System, "system".to_owned(), "system")
    }

    /// What a node says of itself.
    pub fn node(name: &str) -> Self {
        Self::inside(Subject::Node(name.to_owned()), format!("node:{name}"), "node")
    }

    /// A user of the host, at the socket.
    pub fn host(uid: u32, why: Option<String>) -> Self {
        Self { why, ..Self::inside(Subject::Host { uid }, format!("uid:{uid}"), "socket") }
    }

    /// From where, as the audit log has it: with the address, where there is one.
    pub fn whence(&self) -> String {
        self.address.map_or_else(|| self.origin.to_owned(), |address| format!("{} {address}", self.origin))
    }

    /// The person behind it, where an act takes two of them: whoever has a key of theirs is still one.
    pub fn person(&self) -> String {
        match &self.subject {
            Subject::Key { owner, .. } => format!("user:{owner}"),
            _ => self.actor.clone(),
        }
    }

    const fn inside(subject: Subject, actor: String, origin: &'static str) -> Self {
        Self { subject, actor, origin, address: None, scopes: None, why: None }
    }
}

/// Why an operation was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// The one who asks saw another generation.
    #[error("{0}")]
    Stale(String),
    /// What was asked for is not of the form that it must have.
    #[error("{}", .0.message)]
    Invalid(Box<Reason>),
    /// The gate, or a rule, says no.
    #[error("refused")]
    Refused(Vec<Reason>),
    /// Nobody says who asks, or what says it is not believed.
    #[error("{}", .0.message)]
    Unauthenticated(Box<Reason>),
    /// Who asks may not.
    #[error("{}", .0.message)]
    Forbidden(Box<Reason>),
    /// They asked too often.
    #[error("{}", .reason.message)]
    TooMany {
        /// Why.
        reason: Box<Reason>,
        /// How long to wait.
        wait_ms: u64,
    },
    /// What is kept could not be read or written.
    #[error("the state cannot be read or written")]
    Store(#[source] StoreError),
    /// Somebody else does not answer who would have to.
    #[error("{}", .0.message)]
    Unavailable(Box<Reason>),
    /// The node does not answer.
    #[error("the node failed: {0}")]
    Node(String),
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(what) => Self::Conflict(what),
            StoreError::Missing(what) => Self::NotFound(what),
            StoreError::Quota(what) => Self::Refused(vec![Reason::new(Code::QuotaExceeded, what)]),
            other => Self::Store(other),
        }
    }
}

impl Control {
    /// The control plane over this store and these nodes, the first of which is at home here.
    ///
    /// # Errors
    /// Where there is no node, two have the same name, or the rules that hold cannot be read from the store.
    pub async fn new(
        store: Store,
        links: Vec<Arc<dyn Link>>,
        clock: Clock,
        settings: Settings,
        revoked: watch::Receiver<Arc<Known>>,
    ) -> Result<Self, OpError> {
        let mut nodes = BTreeMap::new();
        let mut home = None;
        for link in links {
            let host = Host { facts: link.facts().await, link, heard: Arc::default() };
            home.get_or_insert_with(|| host.clone());
            let name = host.facts.name.clone();
            if nodes.insert(name.clone(), host).is_some() {
                return Err(OpError::Conflict(format!("two nodes are named {name:?}")));
            }
        }
        let home = home.ok_or_else(|| OpError::NotFound("there is no node".to_owned()))?;
        let rules = rules::Rules::load(&store).await?;
        let grants = authz::Grants::load(&store).await?;
        let authn = authn::Authn::new(settings.authn.clone())?;
        let inner = Inner {
            store,
            authn,
            nodes,
            home,
            clock,
            settings,
            busy: Mutex::default(),
            wake: Notify::new(),
            rules: watch::channel(Arc::new(rules)).0,
            ruling: tokio::sync::Mutex::default(),
            admissions: Mutex::default(),
            grants: watch::channel(Arc::new(grants)).0,
            granting: tokio::sync::Mutex::default(),
            revoked,
            vitals: vitals::Vitals::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is kept.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The node at home here.
    pub fn link(&self) -> &dyn Link {
        &*self.inner.home.link
    }

    /// The node at home here, as it described itself when it came up.
    pub fn node(&self) -> &NodeFacts {
        &self.inner.home.facts
    }

    /// The node of this name.
    ///
    /// # Errors
    /// [`OpError::Node`] where it is not connected.
    pub fn link_of(&self, node: &str) -> Result<&dyn Link, OpError> {
        let host = self.inner.nodes.get(node);
        host.map(|host| &*host.link).ok_or_else(|| OpError::Node(format!("node {node:?} is not connected")))
    }

    /// What it did so far, in figures.
    pub fn vitals(&self) -> &vitals::Vitals {
        &self.inner.vitals
    }

    /// The time.
    pub fn now(&self) -> jiff::Timestamp {
        self.inner.clock.now()
    }

    /// Lets the reconciler look at once.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// What the trust bundle revokes, as it is now.
    fn revoked(&self) -> Arc<Known> {
        self.inner.revoked.borrow().clone()
    }

    /// Writes what a caller did; the reconciler looks at once.
    async fn record(&self, caller: &Caller, deed: Deed<'_>, changes: Vec<Change>) -> Result<Written, OpError> {
        let written = self.inner.store.write(deed.by(caller, self.now(), changes)).await?;
        self.wake();
        Ok(written)
    }
}

/// What was done to what, and how it ended: the audit record and the event are made of it, so that they agree.
struct Deed<'a> {
    /// What, as `vm.start`.
    action: &'a str,
    /// To what, as `vm/0190…`.
    object: String,
    /// `done`, `refused` or `failed`.
    outcome: &'a str,
    /// The event's kind, as `vm.started`.
    event: String,
    /// Why: reason codes.
    why: Vec<String>,
    /// What else is to be said.
    data: serde_json::Value,
}

impl<'a> Deed<'a> {
    fn done(action: &'a str, object: String, event: impl Into<String>, data: serde_json::Value) -> Self {
        Self { action, object, outcome: "done", event: event.into(), why: Vec::new(), data }
    }

    fn refused(action: &'a str, object: String, event: impl Into<String>, reasons: &[Reason]) -> Self {
        Self {
            action,
            object,
            outcome: "refused",
            event: event.into(),
            why: reasons.iter().map(|reason| reason.code.as_str().to_owned()).collect(),
            data: serde_json::json!({ "reasons": reasons }),
        }
    }

    fn failed(action: &'a str, object: String, event: impl Into<String>, message: &str) -> Self {
        Self {
            action,
            object,
            outcome: "failed",
            event: event.into(),
            why: Vec::new(),
            data: serde_json::json!({ "message": message }),
        }
    }

    fn by(self, caller: &Caller, at: jiff::Timestamp, changes: Vec<Change>) -> Write {
        let mut why = self.why;
        why.extend(caller.why.clone());
        Write {
            changes,
            audit: AuditRecord {
                at,
                actor: caller.actor.clone(),
                origin: caller.whence(),
                action: self.action.to_owned(),
                object: self.object.clone(),
                outcome: self.outcome.to_owned(),
                why,
                data: correlation::noted(self.data.clone()),
            },
            event: NewEvent { kind: self.event, subject: self.object, data: self.data },
        }
    }
}
