//! `/v1/admissions`: whether images may boot, or a machine may be started, without starting anything.
//! A "no" is an answer here: the status is 200, and the decision stands in the body.

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Json;
use super::image::{EvidenceUpload, files};
use super::{App, Problem};
use crate::control::Caller;
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::vm::{ArtifactKind, VmSpec};
use crate::types::{Digest, Reason};

pub(super) mod kubernetes;

/// What is asked about: images, or a machine.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AdmissionRequest {
    /// Images by digest.
    Images(ImagesQuestion),
    /// A machine by its description.
    Machine(Box<MachineQuestion>),
}

/// Images that are asked about.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImagesQuestion {
    /// The images.
    #[schema(min_items = 1, max_items = 64)]
    images: Vec<AskedImage>,
}

/// One image that is asked about.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedImage {
    /// SHA-256 of its bytes; they need not be here.
    digest: Digest,
    /// What it would be to a machine.
    kind: ArtifactKind,
    /// What speaks for it, besides what is kept beside it.
    #[serde(default)]
    #[schema(max_items = 64)]
    evidence: Vec<EvidenceUpload>,
}

/// A machine that is asked about.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MachineQuestion {
    /// Its description.
    vm: VmSpec,
}

/// What was decided.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct AdmissionAnswer {
    /// `allow`, `deny` or `undecided`; of several images the worst.
    #[schema(pattern = "^(allow|deny|undecided)$")]
    decision: String,
    /// Every reason against it; a machine's name the slot as their subject, images' the image.
    reasons: Vec<Reason>,
    /// Each image, in the order in which it was asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<ImageAnswer>,
    /// The signed ticket that the gate would give a machine like this one, where it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    /// When that ticket ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The digest of the policy that decided.
    policy: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    decided_at: Timestamp,
}

/// Decides about images or a machine; nothing is started, and a "no" is an answer.
#[utoipa::path(post, path = "/v1/admissions", tag = "admissions", request_body = AdmissionRequest,
    responses((status = 200, body = AdmissionAnswer), (status = "default", body = Problem)))]
pub(super) async fn decide(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<AdmissionRequest>,
) -> Result<Json<AdmissionAnswer>, Problem> {
    let policy = app.control.node().policy.clone();
    let decided_at = app.control.now();
    let answer = match request {
        AdmissionRequest::Images(asked) => {
            let question = |image: AskedImage| {
                let evidence = files(image.evidence)?;
                Ok(ImageQuestion { digest: image.digest, kind: image.kind, evidence })
            };
            let questions: Result<Vec<_>, Problem> = asked.images.into_iter().map(question).collect();
            let images = app.control.admit_images(&caller, questions?).await?;
            let named = |image: &ImageAnswer| {
                let name = image.image.clone();
                image.reasons.iter().map(move |reason| reason.clone().subject(&name)).collect::<Vec<_>>()
            };
            let reasons = images.iter().flat_map(named).collect();
            AdmissionAnswer {
                decision: worst(&images).to_owned(),
                reasons,
                images,
                ticket: None,
                expires_at: None,
                policy,
                decided_at,
            }
        }
        AdmissionRequest::Machine(asked) => {
            let (decision, passage) = app.control.admit_machine(&caller, asked.vm).await?;
            let decision = decision.name().to_owned();
            let (ticket, expires_at) = passage.ticket.unzip();
            let reasons = passage.reasons;
            AdmissionAnswer { decision, reasons, images: Vec::new(), ticket, expires_at, policy, decided_at }
        }
    };
    Ok(Json(answer))
}

/// One "no" outweighs any number of open questions.
fn worst(images: &[ImageAnswer]) -> &'static str {
    let has = |decision: &str| images.iter().any(|image| image.decision == decision);
    if has("deny") {
        "deny"
    } else if images.is_empty() || images.iter().any(|image| !image.is_allowed()) {
        "undecided"
    } else {
        "allow"
    }
}
