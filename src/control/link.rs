//! What the control plane asks of a node, and what it is answered: the one seam between the two houses.
//!
//! In one process the agent is behind it; on many hosts a connection will be. Nothing here shares memory with the
//! other side: what goes over is owned, bounded and of [`crate::types`] or [`crate::release::admit`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::release::admit::quarantine::Entry;
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::step::{
    Ended, EvidenceFile, ImageFacts, ImageVerdict, NodeFacts, Observed, Order, Passage, Upload, UploadRequest,
};
use crate::types::vm::{BootPath, VmId, VmSpec};
use crate::types::{Digest, Reason};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The images that a node can vouch for, and the digests of those that it has and cannot.
pub type ImageList = (Vec<ImageFacts>, Vec<Digest>);

/// One node, as the control plane reaches it.
pub trait Link: Send + Sync + 'static {
    /// Who it is and what it offers.
    fn facts(&self) -> Pending<'_, NodeFacts>;

    /// Every machine that it has something of.
    fn observe(&self) -> Pending<'_, Result<Vec<(VmId, Observed)>, String>>;

    /// Takes a step. Returns when it has ended.
    fn act(&self, order: Order) -> Pending<'_, Ended>;

    /// What the gate would say now; nothing is started.
    fn ask(&self, vm: VmId, generation: u64, path: BootPath, spec: VmSpec) -> Pending<'_, Passage>;

    /// What must not run, and the overrides that people signed, from its answer on. Nothing passes its gate before the
    /// first of them. Whoever no longer waits for the answer takes back what the node has not begun with.
    fn rules(&self, quarantine: Vec<Entry>, overrides: Vec<Vec<u8>>) -> Pending<'_, Result<(), String>>;

    /// Whether these bytes are an override that its own pins believe: the machine it is for, and its end.
    fn override_check(&self, document: Vec<u8>) -> Pending<'_, Result<(VmId, Timestamp), Reason>>;

    /// Begins an upload.
    fn upload_begin(&self, request: UploadRequest) -> Pending<'_, Result<Upload, Reason>>;

    /// How far an upload is.
    fn upload_state(&self, id: Uuid) -> Pending<'_, Result<Upload, Reason>>;

    /// Adds a piece, which must begin where the upload stands.
    fn upload_append(&self, id: Uuid, offset: u64, piece: Vec<u8>) -> Pending<'_, Result<Upload, Reason>>;

    /// Makes an image of the upload and keeps the evidence beside it.
    fn upload_finish(&self, id: Uuid, evidence: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>>;

    /// Gives an upload up.
    fn upload_abort(&self, id: Uuid) -> Pending<'_, Result<(), Reason>>;

    /// Keeps more evidence beside an image.
    fn evidence_put(&self, digest: Digest, evidence: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>>;

    /// Every image that it has and can vouch for; and the digests of those that it has and cannot.
    fn images(&self) -> Pending<'_, Result<ImageList, Reason>>;

    /// What it decides about an image now; `whole` reads all of its bytes first.
    fn image_judge(&self, digest: Digest, whole: bool) -> Pending<'_, Result<ImageVerdict, Reason>>;

    /// What it would decide about an image with these bytes; nothing is started.
    fn admit_image(&self, question: ImageQuestion) -> Pending<'_, ImageAnswer>;

    /// What it decides about an image in a registry, with what is attached to it there; nothing is fetched to be run.
    fn admit_container(&self, reference: String, within: Duration) -> Pending<'_, ImageAnswer>;

    /// Removes an image that no machine reads from.
    fn image_delete(&self, digest: Digest) -> Pending<'_, Result<(), Reason>>;

    /// The serial console of a machine: what is written goes in, what is read came out.
    fn console(&self, vm: VmId) -> Pending<'_, Result<UnixStream, String>>;

    /// The end of what came out of the serial console.
    fn console_log(&self, vm: VmId, limit: usize) -> Pending<'_, Result<Vec<u8>, String>>;
}
