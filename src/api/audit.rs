//! `/v1/audit`: who did what, and whether the log is whole.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Cursor, Json, Query};
use super::{App, Page, Problem};
use crate::control::audit::AuditVerdict;
use crate::control::{Caller, OpError};
use crate::store::{AuditRecord, AuditRow};

/// A record with its place and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct AuditView {
    /// Its place, from 0.
    seq: u64,
    /// The RFC 6962 leaf hash of the record, in hex.
    leaf: String,
    /// What it says.
    #[serde(flatten)]
    record: AuditRecord,
}

/// Audit records, the oldest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Cursor),
    responses((status = 200, body = Page<AuditView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<AuditView>>, Problem> {
    let bad = |_| Problem::malformed(axum::http::StatusCode::BAD_REQUEST, "`after` is no place in the log");
    let from = if cursor.after.is_empty() { 0 } else { cursor.after.parse::<u64>().map_err(bad)? + 1 };
    let rows = app.control.store().audit_from(from, cursor.limit()).await.map_err(OpError::from)?;
    let items: Vec<AuditView> = rows.iter().filter_map(view).collect();
    Ok(Json(Page::new(items, cursor.limit(), |view| view.seq.to_string())))
}

/// Checks every record against its hash and the chain.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerdict), (status = "default", body = Problem)))]
pub(super) async fn verify(_: Caller, State(app): State<App>) -> Result<Json<AuditVerdict>, Problem> {
    Ok(Json(app.control.audit_verify().await?))
}

/// A record that cannot be read is left out here, and named by the check.
fn view(row: &AuditRow) -> Option<AuditView> {
    let record = serde_json::from_str(&row.record).ok()?;
    Some(AuditView { seq: row.seq, leaf: hex::encode(&row.leaf), record })
}
