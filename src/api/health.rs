//! `/health`: whether the process lives, and whether it can do its work. For everybody, and so without a word about
//! what is wrong but the name of it; whoever says who they are is told more.
//!
//! However often it is asked, it looks once in a while and tells that: asking is no way to keep it busy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::{App, extract::Json};
use crate::control::Caller;
use crate::control::health::Check;

/// How long one look is told.
const FRESH: Duration = Duration::from_secs(1);

/// The last look, and when it was.
pub(super) type Looked = Arc<Mutex<Option<(Instant, Vec<Check>)>>>;

/// The process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Liveness {
    /// `alive`.
    status: String,
}

/// Whether the service can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready`, `not-ready` or `ending`.
    status: String,
    /// Everything that it depends on.
    checks: Vec<Check>,
}

/// The process lives and answers.
#[utoipa::path(get, path = "/health/live", tag = "service", responses((status = 200, body = Liveness)), security(()))]
pub(super) async fn live() -> Json<Liveness> {
    Json(Liveness { status: "alive".to_owned() })
}

/// The service can do its work: the database takes writes, the node answers, the reconciler looks, and so on.
#[utoipa::path(get, path = "/health/ready", tag = "service", security(()), responses(
    (status = 200, body = Readiness),
    (status = 503, body = Readiness, description = "Something that it depends on is not as it must be, or it ends.")))]
pub(super) async fn ready(State(app): State<App>, caller: Option<Extension<Caller>>) -> Response {
    let mut checks = look(&app).await;
    if caller.is_none() {
        checks.iter_mut().for_each(|check| check.detail = None);
    }
    let ok = checks.iter().all(|check| check.ok);
    let (status, word) = match (app.ending.has_begun(), ok) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        (false, true) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not-ready"),
    };
    (status, Json(Readiness { status: word.to_owned(), checks })).into_response()
}

/// What was found a moment ago, or is found now. Whoever comes meanwhile waits for the same look.
async fn look(app: &App) -> Vec<Check> {
    let mut looked = app.looked.lock().await;
    if let Some((_, checks)) = looked.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return checks.clone();
    }
    let checks = app.control.health(app.conduct.least_disk_bytes).await;
    for check in checks.iter().filter(|check| !check.ok) {
        tracing::warn!(check = check.name, detail = check.detail, "not ready: {}", check.name);
    }
    *looked = Some((Instant::now(), checks.clone()));
    checks
}
