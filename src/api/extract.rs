//! What handlers take out of a request, so that a request of the wrong form is a problem document as well.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::contract::Operation;
use super::error::Problem;
use crate::control::OpError;
use crate::control::ops::vm::{Once, fingerprint};
use crate::release::evidence::json;
use crate::types::vm::VmId;
use crate::types::{Code, Digest, Reason, limits};

/// A body of JSON: strict, as the document describes it, and of its type.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let operation = request.extensions().get::<Arc<Operation>>().cloned();
        let headers = request.headers().clone();
        let Body(bytes) = Body::from_request(request, state).await?;
        let bad = |status, reason: &Reason| {
            let place = reason.location.as_deref().unwrap_or("the body");
            Problem::malformed(status, format!("{place}: {}", reason.message))
        };
        // A member that is there twice is read one way here and another way elsewhere.
        let value = json::parse_value(&bytes).map_err(|reason| bad(StatusCode::BAD_REQUEST, &reason))?;
        if let Some(operation) = operation {
            operation.body(&headers, &value)?;
        }
        let parsed = json::parse_checked(&bytes, Code::RequestMalformed);
        parsed.map(Self).map_err(|reason| bad(StatusCode::UNPROCESSABLE_ENTITY, &reason))
    }
}

/// A body of bytes.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let read = Bytes::from_request(request, state).await;
        let bytes = read.map_err(|rejection| Problem::malformed(rejection.status(), rejection.body_text()))?;
        // A body of no bytes is one where its type is told.
        if bytes.is_empty() && !typed {
            return Err(Problem::malformed(StatusCode::BAD_REQUEST, "the body is missing"));
        }
        Ok(Self(bytes))
    }
}

/// The media type of an answer.
const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// A body. Into a vector: axum's own writer grows byte by byte, which a long list feels.
fn written<T: Serialize>(body: &T) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|error| Problem::from(OpError::Node(error.to_string())))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        written(&self.0).map(|bytes| (JSON, bytes)).into_response()
    }
}

/// What stands behind the question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// What stands in the address.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.status(), rejection.body_text())
    }
}

/// A part of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page of these items; a full one has a next.
    pub(super) fn new(items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let full = items.len() >= limit as usize;
        let next = items.last().filter(|_| full).map(cursor);
        Self { items, next }
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Cursor {
    /// Where the page begins: `next` of the one before.
    #[serde(default)]
    #[param(max_length = 255, pattern = "^[\\x21-\\x7e]*$")]
    pub(super) after: String,
    /// How many items at most.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1000)]
    limit: u32,
}

const fn hundred() -> u32 {
    100
}

/// The machine that the address names, as the guard found and allowed it: a name that means another machine by now
/// does not lead to that one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine(pub(super) VmId);

impl<S: Send + Sync> FromRequestParts<S> for Machine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| Problem::unknown("there is no virtual machine here"))
    }
}

/// Where a machine shall belong.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct InProject {
    /// The project.
    #[serde(default = "default_project")]
    #[param(default = "default", max_length = 63)]
    pub(super) project: String,
}

fn default_project() -> String {
    "default".to_owned()
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for its end, at most 60; it is answered as it stands then.
    #[serde(default)]
    #[param(minimum = 0, maximum = 60)]
    pub(super) wait: u64,
}

/// How much, and whether more.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsoleQuery {
    /// Go on with what comes out from now on.
    #[serde(default)]
    pub(super) follow: bool,
    /// Bytes of what came out before, at most 1 MiB; ignored where it is followed.
    #[serde(default)]
    #[param(minimum = 0, maximum = 1_048_576)]
    pub(super) last: Option<usize>,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Those with a larger number than this.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807i64)]
    pub(super) after: i64,
    /// Only the newest so many, whatever the cursor says.
    #[serde(default)]
    #[param(minimum = 0, maximum = 4_294_967_295u64)]
    pub(super) last: Option<u32>,
    /// Seconds to wait for one, at most 60.
    #[serde(default)]
    #[param(minimum = 0, maximum = 60)]
    pub(super) wait: u64,
    /// How many at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// Those whose kind begins so: `vm.`, `image.altered`.
    #[serde(default)]
    #[param(max_length = 255)]
    pub(super) kind: String,
    /// Those whose subject begins so: `vm/0190…`.
    #[serde(default)]
    #[param(max_length = 255)]
    pub(super) subject: String,
}

/// Which events, as they happen.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LiveQuery {
    /// Those with a larger number than this; without it, those from now on.
    #[serde(default)]
    #[param(minimum = 0)]
    pub(super) after: Option<i64>,
    /// Only the newest so many before those from now on, whatever the cursor says.
    #[serde(default)]
    pub(super) last: Option<u32>,
    /// Those whose kind begins so: `vm.`, `image.altered`.
    #[serde(default)]
    pub(super) kind: String,
    /// Those whose subject begins so: `vm/0190…`.
    #[serde(default)]
    pub(super) subject: String,
}

/// How much of a console that is followed was said before.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsoleLiveQuery {
    /// Bytes of what came out before, at most 64 KiB; without it, all of these.
    #[serde(default)]
    pub(super) last: Option<usize>,
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Where the page begins: `next` of the one before.
    #[serde(default)]
    #[param(pattern = "^[0-9]{0,19}$")]
    pub(super) after: String,
    /// How many records at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// Who, in full: `uid:0`, `user:alice`.
    #[serde(default)]
    pub(super) actor: Option<String>,
    /// What, by how it begins: `vm.`, `vm.start`.
    #[serde(default)]
    pub(super) action: Option<String>,
    /// To what, by how it begins: `vm/0190…`.
    #[serde(default)]
    pub(super) object: Option<String>,
    /// `done`, `refused` or `failed`.
    #[serde(default)]
    pub(super) outcome: Option<String>,
    /// A clause, as `soc2:CC6.1`, or a framework: `gdpr`, `hipaa`, `soc2`.
    #[serde(default)]
    pub(super) tag: Option<String>,
    /// Not before this time.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    pub(super) since: Option<Timestamp>,
    /// Before this time.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    pub(super) until: Option<Timestamp>,
}

/// Which record, in which tree.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct InclusionQuery {
    /// The record's place, from 0.
    #[param(maximum = 9223372036854775807_u64)]
    pub(super) seq: u64,
    /// Among so many records; without it, among those of a signed checkpoint.
    #[serde(default)]
    #[param(minimum = 1, maximum = 9223372036854775807_u64)]
    pub(super) size: Option<u64>,
}

/// Which two trees.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// Records of the older tree.
    #[param(minimum = 1, maximum = 9223372036854775807_u64)]
    pub(super) from: u64,
    /// Records of the newer tree.
    #[param(minimum = 1, maximum = 9223372036854775807_u64)]
    pub(super) to: u64,
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct KeyQuery {
    /// Whose, by identity or name; `*` for everybody's; the caller's own where nothing is said.
    #[serde(default)]
    #[param(max_length = 64)]
    pub(super) user: Option<String>,
}

/// For which program a browser logs in; all three of them, or none where it is for the browser itself.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// The port of 127.0.0.1 at which the program waits.
    #[serde(default)]
    #[param(minimum = 1, maximum = 65_535)]
    pub(super) port: Option<u16>,
    /// What the program gets back unchanged.
    #[serde(default)]
    #[param(min_length = 16, max_length = 128)]
    pub(super) state: Option<String>,
    /// The SHA-256 of the program's verifier, in base64url (RFC 7636, S256).
    #[serde(default)]
    #[param(min_length = 43, max_length = 43)]
    pub(super) challenge: Option<String>,
}

/// What the provider sends a browser back with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReturnedQuery {
    /// The code, where the provider said yes.
    #[serde(default)]
    #[param(max_length = 4096)]
    pub(super) code: Option<String>,
    /// What it was given.
    #[serde(default)]
    #[param(max_length = 256)]
    pub(super) state: Option<String>,
    /// Its error code, where it said no.
    #[serde(default)]
    #[param(max_length = 256)]
    pub(super) error: Option<String>,
    /// Who it says to be (RFC 9207).
    #[serde(default)]
    #[param(max_length = 2048)]
    pub(super) iss: Option<String>,
}

impl Cursor {
    pub(super) fn limit(&self) -> u32 {
        self.limit.clamp(1, limits::API_PAGE_ITEMS)
    }
}

/// How long Kubernetes waits.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// The webhook's `timeoutSeconds`, as Kubernetes sends it along.
    #[serde(default)]
    #[param(pattern = "^[1-9][0-9]?s$", max_length = 3, example = "10s")]
    timeout: Option<String>,
}

impl Patience {
    /// How long may be asked about, so that there is time to write a "no" down and to answer.
    pub(super) fn within(&self) -> Duration {
        let seconds = self.timeout.as_deref().and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
        let seconds = seconds.unwrap_or(limits::ADMISSION_WEBHOOK_SECONDS).min(limits::ADMISSION_WEBHOOK_SECONDS);
        Duration::from_secs(seconds) * 4 / 5
    }
}

/// The header fields that make a change safe: `If-Match` and `Idempotency-Key`.
pub(super) struct Guards {
    /// The generation that the caller saw.
    pub(super) generation: Option<u64>,
    key: Option<String>,
}

impl Guards {
    /// The key, bound to this request.
    pub(super) fn once<T: Serialize>(&self, what: &str, body: &T) -> Option<Once> {
        let key = self.key.clone()?;
        let body = serde_json::to_vec(body).unwrap_or_default();
        Some(Once { key, fingerprint: fingerprint(&[what.as_bytes(), &body]) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Guards {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let bad = |what: &str| Problem::malformed(StatusCode::BAD_REQUEST, what);
        let generation = match text(&parts.headers, "if-match")? {
            None | Some("*") => None,
            // A list of nothing is met by nothing (RFC 9110 section 13.1.1).
            Some("") => Some(0),
            Some(tag) => {
                let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
                // Behind the point stands what nobody but the node changes.
                let number = number.split('.').next().unwrap_or_default();
                Some(number.parse().map_err(|_| bad("If-Match is no ETag of ours"))?)
            }
        };
        let key = text(&parts.headers, "idempotency-key")?.map(str::to_owned);
        if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > limits::API_KEY_BYTES) {
            return Err(bad("an idempotency key has 1 to 255 bytes"));
        }
        Ok(Self { generation, key })
    }
}

/// An answer with its ETag: the generation of what it shows, which `If-Match` looks at, and what stands for all that is
/// told of it, as `If-None-Match` wants it.
pub(super) fn tag<T>(status: StatusCode, generation: u64, body: T) -> Tagged<T> {
    Tagged { status, generation: Some(generation), ..Tagged::new(body) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let bad = |_| Problem::malformed(StatusCode::BAD_REQUEST, format!("{name} is not plain text"));
    value.to_str().map(Some).map_err(bad)
}

/// An ETag over what is answered.
pub(super) fn tag_of(bytes: &[u8]) -> String {
    let hex = Digest::sha256(bytes).to_hex();
    format!("\"{}\"", hex.get(..32).unwrap_or_default())
}

/// An answer with an ETag over what it says.
pub(super) struct Tagged<T> {
    status: StatusCode,
    generation: Option<u64>,
    place: Option<String>,
    body: T,
}

impl<T> Tagged<T> {
    /// One about what has no generation.
    pub(super) const fn new(body: T) -> Self {
        Self { status: StatusCode::OK, generation: None, place: None, body }
    }

    /// The same about what is from now on at this address.
    pub(super) fn at(self, place: String) -> Self {
        Self { place: Some(place), ..self }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let bytes = match written(&self.body) {
            Ok(bytes) => bytes,
            Err(problem) => return problem.into_response(),
        };
        let whole = tag_of(&bytes);
        let tag = match self.generation {
            Some(generation) => format!("\"{generation}.{}\"", whole.trim_matches('"')),
            None => whole,
        };
        let place = self.place.map(|place| [(header::LOCATION, place)]);
        (self.status, [(header::ETAG, tag)], place, JSON, bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_ends_before_kubernetes_gives_up() {
        let within = |timeout: Option<&str>| Patience { timeout: timeout.map(str::to_owned) }.within();
        assert_eq!(within(Some("3s")), Duration::from_millis(2_400));
        assert_eq!(within(Some("30s")), Duration::from_secs(8), "no longer than our own limit");
        assert_eq!(within(None), Duration::from_secs(8));
    }
}
