//! Every "no" and every failure as a problem document (RFC 9457): the status, the code, what happened, and a hint.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::{OpError, correlation};
use crate::types::{Code, Reason};

/// The media type of a problem (RFC 9457 section 6.1).
pub(super) const PROBLEM: &str = "application/problem+json";

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: an address that ends in the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status of the answer.
    pub status: u16,
    /// What the code means.
    pub title: String,
    /// What happened here.
    pub detail: String,
    /// The reason code; `debvisor explain` tells more.
    pub code: String,
    /// What would mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Under which number the log has more, where it was a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Every reason, where the gate or a rule said no.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Seconds to wait before it is asked again; told in the header field.
    #[serde(skip)]
    retry_after: Option<u64>,
    /// The name of the request: what the log, the audit log and traces call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Problem {
    /// There is no such thing.
    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Self::of(StatusCode::NOT_FOUND, &Reason::new(Code::ResourceUnknown, detail))
    }

    /// The request is not of the form that it must have.
    pub(super) fn malformed(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::of(status, &Reason::new(Code::RequestMalformed, detail))
    }

    /// The address does not know this method.
    pub(super) fn method() -> Self {
        Self::malformed(StatusCode::METHOD_NOT_ALLOWED, "this address does not know this method")
    }

    /// This status, for this reason.
    pub(super) fn of(status: StatusCode, reason: &Reason) -> Self {
        let code = reason.code.as_str();
        Self {
            kind: format!("https://debvisor.dev/problems/{code}"),
            status: status.as_u16(),
            title: reason.code.known().map_or_else(|| code.to_owned(), |code| code.info().meaning.to_owned()),
            detail: reason.message.clone(),
            code: code.to_owned(),
            hint: reason.hint.clone(),
            instance: None,
            reasons: Vec::new(),
            retry_after: None,
            request: None,
        }
    }

    fn refused(reasons: Vec<Reason>) -> Self {
        let fallback = Reason::new(Code::InternalError, "it was refused without a reason");
        let first = reasons.first().unwrap_or(&fallback);
        let full = first.code.known() == Some(Code::StoreFull);
        let status = if full { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::UNPROCESSABLE_ENTITY };
        let forbidden = [Code::SecondPersonRequired, Code::AccessEscalation, Code::QuotaExceeded];
        let forbids = first.code.known().is_some_and(|code| forbidden.contains(&code));
        let status = if forbids { StatusCode::FORBIDDEN } else { status };
        let problem = Self::of(status, first);
        Self { reasons, ..problem }
    }
}

impl From<OpError> for Problem {
    fn from(error: OpError) -> Self {
        match error {
            OpError::NotFound(detail) => Self::unknown(detail),
            OpError::Conflict(detail) => Self::of(StatusCode::CONFLICT, &Reason::new(Code::ResourceConflict, detail)),
            OpError::Stale(detail) => {
                Self::of(StatusCode::PRECONDITION_FAILED, &Reason::new(Code::ResourceStale, detail))
            }
            OpError::Invalid(reason) => Self::of(StatusCode::UNPROCESSABLE_ENTITY, &reason),
            OpError::Refused(reasons) => Self::refused(reasons),
            OpError::Unauthenticated(reason) => Self::of(StatusCode::UNAUTHORIZED, &reason),
            OpError::Forbidden(reason) => Self::of(StatusCode::FORBIDDEN, &reason),
            OpError::Unavailable(reason) => Self::of(StatusCode::SERVICE_UNAVAILABLE, &reason),
            OpError::TooMany { reason, wait_ms } => {
                let retry_after = Some(wait_ms.div_ceil(1_000).max(1));
                Self { retry_after, ..Self::of(StatusCode::TOO_MANY_REQUESTS, &reason) }
            }
            // Told to the log in full, and to the caller that it is so.
            OpError::Store(cause) => {
                tracing::error!(error = &cause as &dyn std::error::Error, "the state could not be read or written");
                let reason = Reason::new(Code::InternalError, "the state could not be read or written");
                Self::of(StatusCode::INTERNAL_SERVER_ERROR, &reason)
            }
            OpError::Node(detail) => {
                tracing::error!(%detail, "the node failed");
                Self::of(StatusCode::BAD_GATEWAY, &Reason::new(Code::InternalError, detail))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request = correlation::current().map(|id| id.to_string());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = [(header::CONTENT_TYPE, PROBLEM)];
        let wait = self.retry_after.map(|seconds| [(header::RETRY_AFTER, seconds.to_string())]);
        // RFC 9110 section 15.5.2: who is told 401 is told how to say who they are.
        let challenge = (status == StatusCode::UNAUTHORIZED).then_some([(header::WWW_AUTHENTICATE, "Bearer")]);
        let headers = AppendHeaders(wait.into_iter().flatten());
        let challenge = AppendHeaders(challenge.into_iter().flatten());
        (status, media_type, headers, challenge, Json(self)).into_response()
    }
}
