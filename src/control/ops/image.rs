//! Images: bytes go to the node that shall have them; what is kept here is what they are.

use uuid::Uuid;

use super::super::{Caller, Control, Deed, OpError};
use crate::store::Change;
use crate::types::step::{EvidenceFile, ImageFacts, ImageVerdict, Upload, UploadRequest};
use crate::types::{Code, Digest, Reason};

impl Control {
    /// The image with this digest, or the newest of this name.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn image_find(&self, text: &str) -> Result<ImageFacts, OpError> {
        let found = match text.parse::<Digest>() {
            Ok(digest) => self.store().image(&digest).await?,
            Err(_) => self.store().image_by_name(text).await?,
        };
        found.ok_or_else(|| OpError::NotFound(format!("there is no image {text:?}")))
    }

    /// Begins an upload. Nothing is written down yet: what never arrives is no image.
    ///
    /// # Errors
    /// The node's reason, as a refusal; so with the next three.
    pub async fn upload_begin(&self, request: UploadRequest) -> Result<Upload, OpError> {
        self.link().upload_begin(request).await.map_err(answer)
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// As [`Self::upload_begin`].
    pub async fn upload_state(&self, id: Uuid) -> Result<Upload, OpError> {
        self.link().upload_state(id).await.map_err(answer)
    }

    /// Adds a piece to an upload.
    ///
    /// # Errors
    /// As [`Self::upload_begin`].
    pub async fn upload_append(&self, id: Uuid, offset: u64, piece: Vec<u8>) -> Result<Upload, OpError> {
        self.link().upload_append(id, offset, piece).await.map_err(answer)
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// As [`Self::upload_begin`].
    pub async fn upload_abort(&self, id: Uuid) -> Result<(), OpError> {
        self.link().upload_abort(id).await.map_err(answer)
    }

    /// Makes an image of an upload, with the evidence that came along. One that is there already stays as it is, and
    /// gets the evidence.
    ///
    /// # Errors
    /// The node's reason, written down as a refusal.
    pub async fn upload_finish(
        &self,
        caller: &Caller,
        id: Uuid,
        evidence: Vec<EvidenceFile>,
    ) -> Result<ImageVerdict, OpError> {
        match self.link().upload_finish(id, evidence).await {
            Ok(verdict) => {
                self.image_kept(caller, "image.import", "image.imported", &verdict).await?;
                Ok(verdict)
            }
            Err(reason) => {
                let reasons = [reason.clone()];
                let deed = Deed::refused("image.import", format!("upload/{id}"), "image.refused", &reasons);
                self.record(caller, deed, Vec::new()).await?;
                Err(answer(reason))
            }
        }
    }

    /// Keeps more evidence beside an image.
    ///
    /// # Errors
    /// The node's reason.
    pub async fn evidence_put(
        &self,
        caller: &Caller,
        digest: Digest,
        evidence: Vec<EvidenceFile>,
    ) -> Result<ImageVerdict, OpError> {
        let verdict = self.link().evidence_put(digest, evidence).await.map_err(answer)?;
        self.image_kept(caller, "image.evidence", "image.evidence", &verdict).await?;
        Ok(verdict)
    }

    /// What the node decides about an image now; `whole` reads all of its bytes first. Bytes that were altered are an
    /// event and a quarantine.
    ///
    /// # Errors
    /// The node's reason.
    pub async fn image_judge(&self, digest: Digest, whole: bool) -> Result<ImageVerdict, OpError> {
        let verdict = self.link().image_judge(digest.clone(), whole).await;
        if let Err(reason) = &verdict
            && reason.code.known() == Some(Code::ImageChanged)
        {
            self.image_altered(&digest, None, &reason.message).await?;
        }
        verdict.map_err(answer)
    }

    /// Removes an image that no machine is made of.
    ///
    /// # Errors
    /// [`OpError::Conflict`] where one is, the node's reason otherwise.
    pub async fn image_delete(&self, caller: &Caller, digest: Digest) -> Result<(), OpError> {
        if let Some(vm) = self.store().vms_made_of(&digest).await?.first() {
            let message = format!("virtual machine {:?} is made of {digest}", vm.spec.name);
            return Err(OpError::Refused(vec![Reason::new(Code::ImageInUse, message)]));
        }
        match self.link().image_delete(digest.clone()).await {
            Err(reason) if reason.code.known() != Some(Code::ImageUnknown) => return Err(answer(reason)),
            _ => {}
        }
        let deed = Deed::done("image.delete", format!("image/{digest}"), "image.deleted", serde_json::json!({}));
        self.record(caller, deed, vec![Change::ImageDeleted(digest)]).await?;
        Ok(())
    }

    /// Writes down the images that the node has and this side does not know, and forgets those that it has no more (one that is
    /// damaged is still there, and refused): an import or a deletion may have ended when this side could not see it.
    ///
    /// # Errors
    /// Where either side cannot be read.
    pub async fn images_learn(&self) -> Result<(), OpError> {
        let (there, damaged) = self.link().images().await.map_err(answer)?;
        let caller = Caller::node(&self.node().name);
        for facts in &there {
            if self.store().image(&facts.digest).await?.is_none() {
                let object = format!("image/{}", facts.digest);
                let deed = Deed::done("image.import", object, "image.found", serde_json::json!({ "image": facts }));
                self.record(&caller, deed, vec![Change::ImagePut(Box::new(facts.clone()), self.node().name.clone())])
                    .await?;
            }
        }
        let mut cursor = String::new();
        loop {
            let page = self.store().images(&cursor, 1000).await?;
            let Some(last) = page.last() else { break };
            cursor = last.digest.to_string();
            let is_there = |kept: &&ImageFacts| {
                damaged.contains(&kept.digest) || there.iter().any(|facts| facts.digest == kept.digest)
            };
            for gone in page.iter().filter(|kept| !is_there(kept)) {
                let object = format!("image/{}", gone.digest);
                let deed = Deed::done("image.delete", object, "image.lost", serde_json::json!({}));
                self.record(&caller, deed, vec![Change::ImageDeleted(gone.digest.clone())]).await?;
            }
        }
        Ok(())
    }

    async fn image_kept(
        &self,
        caller: &Caller,
        action: &str,
        event: &str,
        verdict: &ImageVerdict,
    ) -> Result<(), OpError> {
        let data = serde_json::json!({
            "kind": verdict.facts.kind,
            "name": verdict.facts.name,
            "bytes": verdict.facts.bytes,
            "evidence": verdict.facts.evidence,
            "decision": verdict.decision,
            "signers": verdict.signers,
            "reasons": verdict.reasons,
        });
        let deed = Deed::done(action, format!("image/{}", verdict.facts.digest), event, data);
        let change = Change::ImagePut(Box::new(verdict.facts.clone()), self.node().name.clone());
        self.record(caller, deed, vec![change]).await?;
        Ok(())
    }
}

fn answer(reason: Reason) -> OpError {
    match reason.code.known() {
        Some(Code::ImageUnknown | Code::UploadUnknown) => OpError::NotFound(reason.message),
        Some(Code::UploadOffset) => OpError::Conflict(reason.message),
        _ => OpError::Refused(vec![reason]),
    }
}
