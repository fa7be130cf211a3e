//! Nodes without machines, and a control plane over them: for tests of what the control plane decides by itself.
//! Invariant: a node that is not told otherwise refuses everything; whatever was allowed ends there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::Timestamp;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::audit::Notary;
use super::authn::{self, Rate, SealingKey};
use super::link::{ImageList, Link, Pending};
use super::{Caller, Control, Deed, Settings};
use crate::backup::write::Sources;
use crate::release::admit::quarantine::Entry;
use crate::release::attest::key::PrivateKey;
use crate::release::attest::note::NoteSigner;
use crate::store::{Change, Hidden, Store, User, UserChange};
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::step::{
    Ended, EvidenceFile, ImageVerdict, NodeFacts, Observed, Order, Outcome, Passage, QuarantineAction, Step, Upload,
    UploadRequest,
};
use crate::types::vm::{BootPath, ObservedPower, VmId, VmSpec};
use crate::types::{Clock, Code, Digest, Reason};

/// The time in these tests: a Wednesday, at noon.
pub(crate) fn noon() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

/// A control plane with a database in this folder, over a node that refuses everything.
pub(crate) async fn control(dir: &Path) -> Control {
    over(dir, vec![Arc::new(Silent::named("node"))]).await
}

/// The same over these nodes.
pub(crate) async fn over(dir: &Path, nodes: Vec<Arc<dyn Link>>) -> Control {
    let store = Store::open(&dir.join("state.db")).await.unwrap();
    // Notes are signed with Ed25519; an ephemeral key is another one.
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = PrivateKey::from_pkcs8(key.as_ref()).unwrap();
    let rate = Rate { limit: 10_000, window_ms: 1_000 };
    let settings = Settings {
        authn: authn::Settings {
            key: SealingKey::open(&dir.join("secrets.key")).unwrap(),
            limits: authn::Limits { address: rate, subject: rate, login: rate },
            keys: authn::key::KeySettings::default(),
            providers: Arc::new(authn::oidc::Providers::new(Vec::new()).unwrap()),
        },
        on_quarantine: QuarantineAction::Pause,
        release_validity: jiff::SignedDuration::from_hours(24),
        audit: Notary::new(NoteSigner::new("debvisor/test/audit", Arc::new(key)).unwrap()),
        state: Sources::default(),
    };
    let (_, revoked) = watch::channel(Arc::default());
    Control::new(store, nodes, Clock::new(noon), settings, revoked).await.unwrap()
}

/// Somebody who may nothing by themselves.
pub(crate) fn user(id: Uuid, name: &str) -> User {
    User {
        id,
        name: name.to_owned(),
        role: None,
        has_password: false,
        must_change: false,
        disabled: false,
        totp: false,
        generation: 1,
        created_at: noon(),
        created_by: "system".to_owned(),
        login_at: None,
    }
}

/// Such a one, known to this control plane.
pub(crate) async fn known(control: &Control, name: &str) -> Uuid {
    known_with(control, name, None).await
}

/// Such a one, with a password of this hash.
pub(crate) async fn known_with(control: &Control, name: &str, hash: Option<Hidden<String>>) -> Uuid {
    let id = Uuid::now_v7();
    let change = Change::User(Box::new(UserChange::Created(Box::new(user(id, name)), hash)));
    let deed = Deed::done("test", "test".to_owned(), "test", serde_json::json!({}));
    control.record(&Caller::system(), deed, vec![change]).await.unwrap();
    id
}

/// A node that has nothing.
pub(crate) struct Silent {
    name: &'static str,
    /// The orders that came here.
    orders: Mutex<Vec<Order>>,
    /// Where it obeys: each order is answered when there is a permit, as one that was taken.
    answers: Option<Semaphore>,
    /// How many quarantines it was told of, each time.
    told: Mutex<Vec<usize>>,
    hears: AtomicBool,
    /// How often it was asked about a container image.
    containers: AtomicUsize,
}

impl Silent {
    /// A node of this name that refuses everything.
    pub(crate) fn named(name: &'static str) -> Self {
        Self {
            name,
            orders: Mutex::default(),
            answers: None,
            told: Mutex::default(),
            hears: AtomicBool::new(true),
            containers: AtomicUsize::new(0),
        }
    }

    /// A node that takes steps and says no to containers, as often as it was let by [`Self::answer`].
    pub(crate) fn obedient(name: &'static str) -> Self {
        Self { answers: Some(Semaphore::new(0)), ..Self::named(name) }
    }

    /// Lets so many steps end.
    pub(crate) fn answer(&self, steps: usize) {
        self.answers.as_ref().unwrap().add_permits(steps);
    }

    /// From now on it says nothing to rules, or something again.
    pub(crate) fn hear(&self, hears: bool) {
        self.hears.store(hears, Ordering::SeqCst);
    }

    /// How many quarantines it was told of last.
    pub(crate) fn heard(&self) -> Option<usize> {
        self.told.lock().unwrap().last().copied()
    }

    /// How often it was asked about a container image.
    pub(crate) fn asked_about_containers(&self) -> usize {
        self.containers.load(Ordering::SeqCst)
    }

    /// The orders that came here.
    pub(crate) fn orders(&self) -> Vec<Order> {
        self.orders.lock().unwrap().clone()
    }
}

fn no<T: Send + 'static>() -> Pending<'static, Result<T, Reason>> {
    Box::pin(async { Err(Reason::new(Code::UploadUnknown, "this node has nothing")) })
}

fn never<T: Send + 'static>() -> Pending<'static, Result<T, String>> {
    Box::pin(async { Err("this node does nothing".to_owned()) })
}

impl Link for Silent {
    fn facts(&self) -> Pending<'_, NodeFacts> {
        Box::pin(async {
            NodeFacts {
                name: self.name.to_owned(),
                accelerator: None,
                accelerator_reason: String::new(),
                hypervisor: "none".to_owned(),
                tiers: Vec::new(),
                tiers_absent: Vec::new(),
                cpus: 1,
                memory_mib: 1,
                boot_id: "first".to_owned(),
                policy: String::new(),
                seen_at: noon(),
            }
        })
    }

    fn observe(&self) -> Pending<'_, Result<Vec<(VmId, Observed)>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn act(&self, order: Order) -> Pending<'_, Ended> {
        self.orders.lock().unwrap().push(order.clone());
        Box::pin(async move {
            let Some(answers) = &self.answers else {
                let outcome = Outcome::Failed { message: "this node does nothing".to_owned() };
                return Ended { outcome, observed: Observed::nothing(), passage: None };
            };
            answers.acquire().await.unwrap().forget();
            let power = match order.step {
                Step::Stop { .. } | Step::Forget => ObservedPower::Stopped,
                Step::Pause => ObservedPower::Paused,
                _ => ObservedPower::Running,
            };
            Ended { outcome: Outcome::Done, observed: Observed::nothing().with_power(power), passage: None }
        })
    }

    /// Nothing is refused by the gate: what is refused was not allowed, or no quota had room for it.
    fn ask(&self, _: VmId, _: u64, path: BootPath, _: VmSpec) -> Pending<'_, Passage> {
        Box::pin(async move {
            Passage { path, reasons: Vec::new(), ticket: None, running: None, overridden_by: Vec::new() }
        })
    }

    fn rules(&self, entries: Vec<Entry>, _: Vec<Vec<u8>>) -> Pending<'_, Result<(), String>> {
        Box::pin(async move {
            if !self.hears.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            self.told.lock().unwrap().push(entries.len());
            Ok(())
        })
    }

    fn override_check(&self, _: Vec<u8>) -> Pending<'_, Result<(VmId, Timestamp), Reason>> {
        no()
    }

    fn upload_begin(&self, _: UploadRequest) -> Pending<'_, Result<Upload, Reason>> {
        no()
    }

    fn upload_state(&self, _: Uuid) -> Pending<'_, Result<Upload, Reason>> {
        no()
    }

    fn upload_append(&self, _: Uuid, _: u64, _: Vec<u8>) -> Pending<'_, Result<Upload, Reason>> {
        no()
    }

    fn upload_finish(&self, _: Uuid, _: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>> {
        no()
    }

    fn upload_abort(&self, _: Uuid) -> Pending<'_, Result<(), Reason>> {
        no()
    }

    fn evidence_put(&self, _: Digest, _: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>> {
        no()
    }

    fn images(&self) -> Pending<'_, Result<ImageList, Reason>> {
        Box::pin(async { Ok((Vec::new(), Vec::new())) })
    }

    fn image_judge(&self, _: Digest, _: bool) -> Pending<'_, Result<ImageVerdict, Reason>> {
        no()
    }

    fn admit_image(&self, question: ImageQuestion) -> Pending<'_, ImageAnswer> {
        Box::pin(std::future::ready(unanswered(question.digest.to_string())))
    }

    fn admit_container(&self, reference: String, _: Duration) -> Pending<'_, ImageAnswer> {
        self.containers.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let Some(answers) = &self.answers else { return unanswered(reference) };
            answers.acquire().await.unwrap().forget();
            let reason = Reason::new(Code::RegistryNotAllowed, "this node allows no image");
            ImageAnswer::without(reference, "deny", reason)
        })
    }

    fn image_delete(&self, _: Digest) -> Pending<'_, Result<(), Reason>> {
        no()
    }

    fn console(&self, _: VmId) -> Pending<'_, Result<UnixStream, String>> {
        never()
    }

    fn console_log(&self, _: VmId, _: usize) -> Pending<'_, Result<Vec<u8>, String>> {
        never()
    }
}

fn unanswered(image: String) -> ImageAnswer {
    ImageAnswer::without(image, "undecided", Reason::new(Code::InternalError, "the node says nothing"))
}
