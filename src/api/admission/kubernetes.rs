//! `/v1/admissions/kubernetes`: a validating webhook for Kubernetes, which asks before it runs a workload.
//!
//! Every image that a pod, or a template of pods, names must be named by digest and be vouched for; what is not known
//! in time is a no. A kind of object that is none of these is a no as well: the webhook's rules are wider than what it
//! can judge. Source: kubernetes.io, "Dynamic Admission Control", `admission.k8s.io/v1`.

use std::collections::BTreeSet;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::super::extract::{Json, Patience, Query};
use super::super::{App, Problem};
use crate::control::Caller;
use crate::types::admission::ImageAnswer;
use crate::types::{Code, Reason, limits};

/// Where a pod's description stands in what has one.
const PODS: &[(&str, &str, &str)] = &[
    ("", "Pod", "/spec"),
    ("", "PodTemplate", "/template/spec"),
    ("", "ReplicationController", "/spec/template/spec"),
    ("apps", "DaemonSet", "/spec/template/spec"),
    ("apps", "Deployment", "/spec/template/spec"),
    ("apps", "ReplicaSet", "/spec/template/spec"),
    ("apps", "StatefulSet", "/spec/template/spec"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template/spec"),
    ("batch", "Job", "/spec/template/spec"),
];

/// What Kubernetes asks. Members that are not described here are not looked at.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(in crate::api) struct AdmissionReview {
    /// The version of the exchange.
    #[serde(rename = "apiVersion")]
    #[schema(pattern = "^admission\\.k8s\\.io/v1$", max_length = 32, example = "admission.k8s.io/v1")]
    api_version: String,
    /// `AdmissionReview`.
    #[schema(pattern = "^AdmissionReview$", max_length = 32, example = "AdmissionReview")]
    kind: String,
    /// The question.
    request: ReviewRequest,
}

/// One question of Kubernetes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(in crate::api) struct ReviewRequest {
    /// Its identity, which the answer repeats.
    #[schema(min_length = 1, max_length = 255, example = "705ab4f5-6393-11e8-b7cc-42010a800002")]
    uid: String,
    /// What is asked about.
    kind: GroupVersionKind,
    /// What is done to it.
    operation: ReviewOperation,
    /// The object as it would be; absent where it is deleted.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    object: Option<Value>,
}

/// The kind of a Kubernetes object.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(in crate::api) struct GroupVersionKind {
    /// `apps`, `batch`; empty for pods.
    #[schema(max_length = 253, example = "apps")]
    group: String,
    /// `v1`.
    #[schema(max_length = 63, example = "v1")]
    version: String,
    /// `Deployment`.
    #[schema(min_length = 1, max_length = 63, example = "Deployment")]
    kind: String,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::api) enum ReviewOperation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It goes: nothing runs by that.
    Delete,
    /// Somebody connects to it: nothing new runs by that.
    Connect,
}

/// The answer to Kubernetes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct ReviewAnswer {
    /// As it was asked.
    #[serde(rename = "apiVersion")]
    api_version: String,
    /// As it was asked.
    kind: String,
    /// The answer.
    response: ReviewResponse,
}

/// One answer to Kubernetes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct ReviewResponse {
    /// The question's.
    uid: String,
    /// Whether it may be.
    allowed: bool,
    /// Why not: `code` is the status, `message` has the reason codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    status: Option<Value>,
    /// What is shown to whoever asked Kubernetes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// What Kubernetes writes into its own audit log.
    #[serde(rename = "auditAnnotations", skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    annotations: Map<String, Value>,
}

/// Decides about the images of a Kubernetes workload, as a validating webhook.
#[utoipa::path(post, path = "/v1/admissions/kubernetes", tag = "admissions", params(Patience),
    request_body = AdmissionReview,
    responses((status = 200, body = ReviewAnswer), (status = "default", body = Problem)))]
pub(in crate::api) async fn review(
    caller: Caller,
    State(app): State<App>,
    Query(patience): Query<Patience>,
    Json(review): Json<AdmissionReview>,
) -> Result<Json<ReviewAnswer>, Problem> {
    let AdmissionReview { api_version, kind, request } = review;
    let judged = match images(&request) {
        Err(reason) => vec![ImageAnswer::without(request.kind.kind.clone(), "deny", reason)],
        Ok(images) => {
            let images: Vec<String> = images.into_iter().collect();
            app.control.admit_containers(&caller, &images, patience.within()).await?
        }
    };
    let response = response(request.uid, &judged);
    Ok(Json(ReviewAnswer { api_version, kind, response }))
}

/// The images that the object would run.
fn images(request: &ReviewRequest) -> Result<BTreeSet<String>, Reason> {
    if matches!(request.operation, ReviewOperation::Delete | ReviewOperation::Connect) {
        return Ok(BTreeSet::new());
    }
    let GroupVersionKind { group, version, kind } = &request.kind;
    let malformed = |message: String| Reason::new(Code::WorkloadUnknown, message);
    let place = PODS.iter().find(|(of, is, _)| of == group && is == kind).map(|(_, _, place)| *place);
    let place =
        place.ok_or_else(|| malformed(format!("{group}/{version} {kind} is nothing whose images are known")))?;
    let pod = request.object.as_ref().and_then(|object| object.pointer(place));
    let pod = pod.ok_or_else(|| malformed(format!("the {kind} has no description of a pod at {place}")))?;
    let mut found = BTreeSet::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(pod, list).map_err(&malformed)? {
            found.insert(named(container, "/image").ok_or_else(|| malformed(format!("one of {list} has no image")))?);
        }
    }
    for volume in items(pod, "volumes").map_err(&malformed)? {
        // A volume may be an image too (KEP-4639).
        if volume.get("image").is_some_and(|image| !image.is_null()) {
            let image = named(volume, "/image/reference");
            found.insert(image.ok_or_else(|| malformed("a volume's image has no reference".to_owned()))?);
        }
    }
    if found.is_empty() {
        return Err(malformed(format!("the {kind} names no image")));
    }
    if found.len() > limits::ADMISSION_WEBHOOK_IMAGES {
        let message = format!("{} images, and {} is the limit", found.len(), limits::ADMISSION_WEBHOOK_IMAGES);
        return Err(Reason::new(Code::InputTooLarge, message));
    }
    Ok(found)
}

fn items<'a>(pod: &'a Value, list: &str) -> Result<&'a [Value], String> {
    match pod.get(list) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("{list} is no list")),
    }
}

fn named(holder: &Value, place: &str) -> Option<String> {
    let name = holder.pointer(place)?.as_str()?;
    (!name.is_empty() && name.len() <= limits::IMAGE_REFERENCE_BYTES).then(|| name.to_owned())
}

fn response(uid: String, judged: &[ImageAnswer]) -> ReviewResponse {
    let allowed = judged.iter().all(ImageAnswer::is_allowed);
    let told = |image: &ImageAnswer, reason: &Reason| {
        let text = format!("{}: {reason}", image.image);
        text.chars().take(MESSAGE_CHARS).collect::<String>()
    };
    let against: Vec<String> = judged
        .iter()
        .filter(|image| !image.is_allowed())
        .flat_map(|image| image.reasons.iter().map(|reason| told(image, reason)))
        .take(REASONS)
        .collect();
    let warnings = judged.iter().flat_map(|image| image.warnings.iter().map(|reason| told(image, reason)));
    let warnings = warnings.take(REASONS).collect();
    let status = (!allowed)
        .then(|| json!({ "status": "Failure", "code": 403, "reason": "Forbidden", "message": against.join("\n") }));
    let mut annotations = Map::new();
    let decisions = judged.iter().map(|image| format!("{}={}", image.image, image.decision));
    annotations.insert("decisions".to_owned(), json!(decisions.collect::<Vec<_>>().join(" ")));
    ReviewResponse { uid, allowed, status, warnings, annotations }
}

/// What is told of one reason; Kubernetes cuts a warning at 256 characters of its own.
const MESSAGE_CHARS: usize = 500;
/// Reasons that are told.
const REASONS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: &Value, operation: &str, object: &Value) -> ReviewRequest {
        let request = json!({ "uid": "u", "kind": kind, "operation": operation, "object": object });
        serde_json::from_value(request).unwrap()
    }

    fn kind(group: &str, kind: &str) -> Value {
        json!({ "group": group, "version": "v1", "kind": kind })
    }

    #[test]
    fn every_image_of_every_kind_of_workload_is_found() {
        let pod = json!({
            "initContainers": [{ "image": "a" }], "containers": [{ "image": "b" }, { "image": "b" }],
            "ephemeralContainers": [{ "image": "c" }],
            "volumes": [{ "emptyDir": {} }, { "image": { "reference": "d" } }],
        });
        for (group, name, place) in PODS {
            let mut object = pod.clone();
            for part in place.rsplit('/').filter(|part| !part.is_empty()) {
                object = json!({ part: object });
            }
            let found = images(&request(&kind(group, name), "CREATE", &object)).unwrap();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let cases = [
            (kind("", "Service"), json!({ "spec": {} })),
            (kind("evil.example", "Pod"), json!({ "spec": { "containers": [{ "image": "a" }] } })),
            (kind("", "Pod"), Value::Null),
            (kind("", "Pod"), json!({ "spec": { "containers": "a" } })),
            (kind("", "Pod"), json!({ "spec": { "containers": [{}] } })),
            (kind("", "Pod"), json!({ "spec": { "containers": [] } })),
            (kind("", "Pod"), json!({ "spec": { "containers": [{ "image": 7 }] } })),
        ];
        for (kind, object) in cases {
            let reason = images(&request(&kind, "UPDATE", &object)).unwrap_err();
            assert_eq!(reason.code, Code::WorkloadUnknown.into(), "{kind}");
        }
        let many: Vec<Value> =
            (0..=limits::ADMISSION_WEBHOOK_IMAGES).map(|at| json!({ "image": at.to_string() })).collect();
        let crowd = request(&kind("", "Pod"), "CREATE", &json!({ "spec": { "containers": many } }));
        assert_eq!(images(&crowd).unwrap_err().code, Code::InputTooLarge.into());
        assert!(images(&request(&kind("", "Pod"), "DELETE", &Value::Null)).unwrap().is_empty());
    }
}
