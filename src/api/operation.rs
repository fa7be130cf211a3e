//! `/v1/operations`: how something that was asked for stands, and waiting for its end.

use std::time::Duration;

use axum::extract::State;

use super::extract::{Path, Query, Tagged, Wait};
use super::{App, Problem};
use crate::control::Caller;
use crate::store::Operation;
use crate::types::limits;

/// One operation.
#[utoipa::path(get, path = "/v1/operations/{operation}", tag = "operations", params(("operation" = String, Path), Wait),
    responses((status = 200, body = Operation), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Tagged<Operation>, Problem> {
    let seconds = wait.wait.min(limits::API_WAIT_SECONDS);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut events = app.control.store().events();
    loop {
        events.mark_unchanged();
        let operation = app.control.operation_find(&id).await?;
        if operation.state.has_ended() {
            return Ok(Tagged::new(operation));
        }
        let changed = tokio::select! {
            changed = tokio::time::timeout_at(deadline, events.changed()) => matches!(changed, Ok(Ok(()))),
            () = app.ending.begun() => false,
        };
        if !changed {
            return Ok(Tagged::new(app.control.operation_find(&id).await?));
        }
    }
}
