//! `/v1/audit`: who did what, whether the log is whole, and proofs for those who do not take our word for it.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::extract::{AuditQuery, ConsistencyQuery, Cursor, InclusionQuery, Json, Query};
use super::{App, Page, Problem};
use crate::control::audit::{AuditFilter, AuditVerdict, AuditView, ConsistencyProof, InclusionProof};
use crate::control::{Caller, Control, OpError};
use crate::store::CheckpointRow;
use crate::types::limits;

/// Records that are read at a time for an export.
const PAGE: u32 = 1_000;

/// Audit records, the oldest first. A narrowed page may be short, or empty, and still have a next.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Page<AuditView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(wanted): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, Problem> {
    let from = place(&wanted.after)?;
    let limit = wanted.limit.unwrap_or(100).clamp(1, limits::API_PAGE_ITEMS);
    let filter = AuditFilter {
        actor: wanted.actor,
        action: wanted.action,
        object: wanted.object,
        outcome: wanted.outcome,
        tag: wanted.tag,
        since: wanted.since,
        until: wanted.until,
    };
    let (items, next) = app.control.audit_list(from, limit, &filter).await?;
    Ok(Json(Page { items, next: next.map(|seq| seq.to_string()) }))
}

/// Checks every record against its hash, the chain and every checkpoint.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerdict), (status = "default", body = Problem)))]
pub(super) async fn verify(_: Caller, State(app): State<App>) -> Result<Json<AuditVerdict>, Problem> {
    Ok(Json(app.control.audit_verify().await?))
}

/// The newest checkpoint: a signed note (C2SP tlog-checkpoint).
#[utoipa::path(get, path = "/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = Problem)))]
pub(super) async fn checkpoint(_: Caller, State(app): State<App>) -> Result<String, Problem> {
    let latest = app.control.store().checkpoint_latest().await.map_err(OpError::from)?;
    Ok(latest.ok_or_else(|| Problem::unknown("no checkpoint was signed yet"))?.note)
}

/// The key that checkpoints are signed with, as readers of notes know it: `NAME+HINT+KEY`.
#[utoipa::path(get, path = "/v1/audit/key", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = Problem)))]
pub(super) async fn key(_: Caller, State(app): State<App>) -> String {
    format!("{}\n", app.control.audit_key())
}

/// Every checkpoint, the oldest first.
#[utoipa::path(get, path = "/v1/audit/checkpoints", tag = "audit", params(Cursor),
    responses((status = 200, body = Page<CheckpointRow>), (status = "default", body = Problem)))]
pub(super) async fn checkpoints(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<CheckpointRow>>, Problem> {
    let after = place(&cursor.after)?.saturating_sub(1);
    let items = app.control.store().checkpoints(after, cursor.limit()).await.map_err(OpError::from)?;
    Ok(Json(Page::new(items, cursor.limit(), |row| row.size.to_string())))
}

/// Signs a checkpoint over everything that is written by now; the newest, where it covers it already.
#[utoipa::path(post, path = "/v1/audit/checkpoints", tag = "audit",
    responses((status = 200, body = CheckpointRow), (status = "default", body = Problem)))]
pub(super) async fn sign(_: Caller, State(app): State<App>) -> Result<Json<CheckpointRow>, Problem> {
    Ok(Json(app.control.checkpoint().await?))
}

/// Proves that a record is in the log.
#[utoipa::path(get, path = "/v1/audit/proof/inclusion", tag = "audit", params(InclusionQuery),
    responses((status = 200, body = InclusionProof), (status = "default", body = Problem)))]
pub(super) async fn inclusion(
    _: Caller,
    State(app): State<App>,
    Query(wanted): Query<InclusionQuery>,
) -> Result<Json<InclusionProof>, Problem> {
    Ok(Json(app.control.audit_inclusion(wanted.seq, wanted.size).await?))
}

/// Proves that the log only grew between two sizes.
#[utoipa::path(get, path = "/v1/audit/proof/consistency", tag = "audit", params(ConsistencyQuery),
    responses((status = 200, body = ConsistencyProof), (status = "default", body = Problem)))]
pub(super) async fn consistency(
    _: Caller,
    State(app): State<App>,
    Query(wanted): Query<ConsistencyQuery>,
) -> Result<Json<ConsistencyProof>, Problem> {
    Ok(Json(app.control.audit_consistency(wanted.from, wanted.to).await?))
}

/// One line of an export: a record, the very text that its leaf hash is over.
#[derive(Serialize)]
struct ExportLine<'a> {
    seq: u64,
    leaf: String,
    chain: String,
    record: &'a str,
}

/// Everything up to a checkpoint that is signed now, as JSON Lines: a record a line, and the checkpoint last.
#[utoipa::path(get, path = "/v1/audit/export", tag = "audit",
    responses((status = 200, body = String, content_type = "application/jsonl"), (status = "default", body = Problem)))]
pub(super) async fn export(_: Caller, State(app): State<App>) -> Result<Response, Problem> {
    // A log that is broken is exported as it is: who looks into it needs it most. Its checkpoint is the last that was
    // signed, and what came after stands behind.
    let checkpoint = match app.control.checkpoint().await {
        Err(OpError::Refused(_)) => app.control.store().checkpoint_latest().await.map_err(OpError::from)?,
        other => Some(other?),
    };
    let end = app.control.store().audit_head().size;
    let body = Exporting { control: app.control, at: 0, end, checkpoint, over: false };
    let stream = futures_util::stream::unfold(body, next);
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(stream)).into_response())
}

struct Exporting {
    control: Control,
    at: u64,
    end: u64,
    checkpoint: Option<CheckpointRow>,
    over: bool,
}

async fn next(mut body: Exporting) -> Option<(std::io::Result<Bytes>, Exporting)> {
    if body.over {
        return None;
    }
    // Up to the checkpoint first, so that it stands behind the last record that it covers.
    let until = body.checkpoint.as_ref().map_or(body.end, |row| row.size.max(body.at).min(body.end));
    let left = u32::try_from(until - body.at).unwrap_or(u32::MAX).min(PAGE);
    let rows = match body.control.store().audit_from(body.at, left).await {
        Ok(rows) => rows,
        // The reader sees an answer that is cut off, and no end that looks like one.
        Err(error) => {
            body.over = true;
            return Some((Err(std::io::Error::other(error)), body));
        }
    };
    let mut text = Vec::new();
    for row in rows.iter().filter(|row| row.seq < until) {
        body.at = row.seq + 1;
        let line = ExportLine {
            seq: row.seq,
            leaf: hex::encode(&row.leaf),
            chain: hex::encode(&row.chain),
            record: &row.record,
        };
        let _ = serde_json::to_writer(&mut text, &line);
        text.push(b'\n');
    }
    if text.is_empty() {
        body.at = until;
        match body.checkpoint.take() {
            Some(row) => {
                let _ = serde_json::to_writer(&mut text, &serde_json::json!({ "checkpoint": row.note }));
                text.push(b'\n');
                body.over = body.at >= body.end;
            }
            None => return None,
        }
    }
    Some((Ok(text.into()), body))
}

fn place(after: &str) -> Result<u64, Problem> {
    let bad = || Problem::malformed(StatusCode::BAD_REQUEST, "`after` is no place in the log");
    if after.is_empty() {
        return Ok(0);
    }
    let seq = after.parse::<u64>().ok().filter(|seq| *seq < i64::MAX.unsigned_abs());
    seq.map(|seq| seq + 1).ok_or_else(bad)
}
