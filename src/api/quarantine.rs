//! `/v1/quarantines`, `/v1/approvals`, `/v1/overrides`: what must not run, and what takes two people.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{Body, Json, Path, Query};
use super::filter::{QuarantineFilter, begins, is};
use super::{App, Page, Problem};
use crate::control::{Caller, OpError};
use crate::store::{Approval, OverrideRow, Quarantine};

/// What shall not run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    /// A digest, `key:sha256:…`, `identity:…`, `openpgp:…` or `policy:sha256:…`.
    #[schema(min_length = 1, max_length = 1_024)]
    pub target: String,
    /// Why.
    #[schema(min_length = 1, max_length = 1_000)]
    pub why: String,
}

/// A quarantine, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineView {
    /// What was put in.
    #[serde(flatten)]
    pub quarantine: Quarantine,
    /// Whether it holds now.
    pub in_force: bool,
    /// Until when two people let it run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub released_until: Option<jiff::Timestamp>,
}

/// What was put into quarantine, and where nobody knows yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedView {
    /// What was put in.
    #[serde(flatten)]
    pub quarantine: Quarantine,
    /// Nodes that do not go by it yet. Nothing is started on them until they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_behind: Vec<String>,
}

/// What one person asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Why.
    #[schema(min_length = 1, max_length = 1_000)]
    pub why: String,
    /// For how long, in seconds.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub lasts_seconds: u64,
}

/// Everything that was put into quarantine.
#[utoipa::path(get, path = "/v1/quarantines", tag = "quarantine", params(QuarantineFilter),
    responses((status = 200, body = Page<QuarantineView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(filter): Query<QuarantineFilter>,
) -> Result<Json<Page<QuarantineView>>, Problem> {
    let now = app.control.now();
    let rules = crate::control::rules::Rules::load(app.control.store()).await?;
    let mut items = Vec::new();
    for quarantine in app.control.store().quarantines().await.map_err(OpError::from)? {
        let entry = rules.entries.iter().find(|entry| entry.id == quarantine.id);
        let in_force = entry.is_none_or(|entry| entry.is_in_force(now));
        let released_until = entry.and_then(|entry| entry.release.as_ref()).map(|release| release.expires_at());
        if !begins(&quarantine.target, filter.target.as_ref()) || !is(&in_force, filter.in_force.as_ref()) {
            continue;
        }
        items.push(QuarantineView { quarantine, in_force, released_until: released_until.filter(|_| !in_force) });
    }
    Ok(Json(Page { items, next: None }))
}

/// Puts something into quarantine; machines that run it are stilled at once.
#[utoipa::path(post, path = "/v1/quarantines", tag = "quarantine", request_body = QuarantineRequest,
    responses((status = 201, body = AddedView), (status = "default", body = Problem)))]
pub(super) async fn add(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<QuarantineRequest>,
) -> Result<(StatusCode, Json<AddedView>), Problem> {
    let quarantine = app.control.quarantine_add(&caller, &request.target, &request.why).await?;
    Ok((StatusCode::CREATED, Json(AddedView { quarantine, nodes_behind: app.control.nodes_behind() })))
}

/// Asks that a quarantine be released for a while; another person must approve.
#[utoipa::path(post, path = "/v1/quarantines/{quarantine}/release", tag = "quarantine",
    params(("quarantine" = String, Path)), request_body = ReleaseRequest,
    responses((status = 201, body = Approval), (status = "default", body = Problem)))]
pub(super) async fn release(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Json(request): Json<ReleaseRequest>,
) -> Result<(StatusCode, Json<Approval>), Problem> {
    let lasts = SignedDuration::from_secs(i64::try_from(request.lasts_seconds).unwrap_or(i64::MAX));
    let asked = app.control.release_ask(&caller, id, &request.why, lasts).await?;
    Ok((StatusCode::CREATED, Json(asked)))
}

/// What was asked for, approved or not.
#[utoipa::path(get, path = "/v1/approvals", tag = "quarantine",
    responses((status = 200, body = Page<Approval>), (status = "default", body = Problem)))]
pub(super) async fn approvals(_: Caller, State(app): State<App>) -> Result<Json<Page<Approval>>, Problem> {
    let items = app.control.store().approvals().await.map_err(OpError::from)?;
    Ok(Json(Page { items, next: None }))
}

/// Agrees to what another person asked for.
#[utoipa::path(post, path = "/v1/approvals/{approval}/approve", tag = "quarantine",
    params(("approval" = String, Path)),
    responses((status = 200, body = Approval), (status = "default", body = Problem)))]
pub(super) async fn approve(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
) -> Result<Json<Approval>, Problem> {
    Ok(Json(app.control.release_approve(&caller, id).await?))
}

/// Brings an override that two people signed: a machine may run although the gate says no, for a while.
#[utoipa::path(post, path = "/v1/overrides", tag = "quarantine",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 201, body = OverrideRow), (status = "default", body = Problem)))]
pub(super) async fn override_put(
    caller: Caller,
    State(app): State<App>,
    Body(document): Body,
) -> Result<(StatusCode, Json<OverrideRow>), Problem> {
    Ok((StatusCode::CREATED, Json(app.control.override_put(&caller, document.to_vec()).await?)))
}
