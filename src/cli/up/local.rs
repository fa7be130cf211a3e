//! The node that is in the same process: what the control plane asks goes to the agent, and nothing is lost between.

use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::control::Link;
use crate::control::link::{ImageList, Pending};
use crate::node::agent::Agent;
use crate::node::hypervisor::Hypervisor;
use crate::release::admit::quarantine::Entry;
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::step::{
    Ended, EvidenceFile, ImageVerdict, NodeFacts, Observed, Order, Passage, Upload, UploadRequest,
};
use crate::types::vm::{BootPath, VmId, VmSpec};
use crate::types::{Digest, Reason};

/// The agent in this process.
#[derive(Debug)]
pub struct Local<H>(pub Agent<H>);

impl<H: Hypervisor> Link for Local<H> {
    fn facts(&self) -> Pending<'_, NodeFacts> {
        Box::pin(async { self.0.facts() })
    }

    fn observe(&self) -> Pending<'_, Result<Vec<(VmId, Observed)>, String>> {
        Box::pin(self.0.observe())
    }

    fn act(&self, order: Order) -> Pending<'_, Ended> {
        Box::pin(self.0.act(order))
    }

    fn ask(&self, vm: VmId, generation: u64, path: BootPath, spec: VmSpec) -> Pending<'_, Passage> {
        Box::pin(self.0.ask(vm, generation, path, spec))
    }

    fn rules(&self, quarantine: Vec<Entry>, overrides: Vec<Vec<u8>>) -> Pending<'_, Result<(), String>> {
        Box::pin(async {
            self.0.rules(quarantine, overrides).await;
            Ok(())
        })
    }

    fn override_check(&self, document: Vec<u8>) -> Pending<'_, Result<(VmId, Timestamp), Reason>> {
        Box::pin(self.0.override_check(document))
    }

    fn upload_begin(&self, request: UploadRequest) -> Pending<'_, Result<Upload, Reason>> {
        Box::pin(self.0.upload_begin(request))
    }

    fn upload_state(&self, id: Uuid) -> Pending<'_, Result<Upload, Reason>> {
        Box::pin(self.0.upload_state(id))
    }

    fn upload_append(&self, id: Uuid, offset: u64, piece: Vec<u8>) -> Pending<'_, Result<Upload, Reason>> {
        Box::pin(self.0.upload_append(id, offset, piece))
    }

    fn upload_finish(&self, id: Uuid, evidence: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>> {
        Box::pin(self.0.upload_finish(id, evidence))
    }

    fn upload_abort(&self, id: Uuid) -> Pending<'_, Result<(), Reason>> {
        Box::pin(self.0.upload_abort(id))
    }

    fn evidence_put(&self, digest: Digest, evidence: Vec<EvidenceFile>) -> Pending<'_, Result<ImageVerdict, Reason>> {
        Box::pin(self.0.evidence_put(digest, evidence))
    }

    fn images(&self) -> Pending<'_, Result<ImageList, Reason>> {
        Box::pin(self.0.images())
    }

    fn image_judge(&self, digest: Digest, whole: bool) -> Pending<'_, Result<ImageVerdict, Reason>> {
        Box::pin(self.0.image_judge(digest, whole))
    }

    fn admit_image(&self, question: ImageQuestion) -> Pending<'_, ImageAnswer> {
        Box::pin(self.0.admit_image(question))
    }

    fn admit_container(&self, reference: String, within: Duration) -> Pending<'_, ImageAnswer> {
        Box::pin(self.0.admit_container(reference, within))
    }

    fn image_delete(&self, digest: Digest) -> Pending<'_, Result<(), Reason>> {
        Box::pin(self.0.image_delete(digest))
    }

    fn console(&self, vm: VmId) -> Pending<'_, Result<UnixStream, String>> {
        Box::pin(self.0.console(vm))
    }

    fn console_log(&self, vm: VmId, limit: usize) -> Pending<'_, Result<Vec<u8>, String>> {
        Box::pin(self.0.console_log(vm, limit))
    }
}
