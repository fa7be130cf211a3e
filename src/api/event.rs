//! `/v1/events`: what happened after a cursor. Reconnecting and connecting are one path: nothing is lost or told twice.

use std::time::Duration;

use axum::extract::State;

use super::extract::{EventQuery, Json, Query};
use super::{App, Page, Problem};
use crate::control::{Caller, OpError};
use crate::store::Event;
use crate::types::access::Permission;
use crate::types::limits;

/// Events after the cursor, the oldest first; whoever may see some machines sees what happened to those. `next` is the cursor to go on from, also where there are none.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Page<Event>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(wanted): Query<EventQuery>,
) -> Result<Json<Page<Event>>, Problem> {
    let limit = wanted.limit.unwrap_or(100).clamp(1, limits::API_PAGE_ITEMS);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wanted.wait.min(limits::API_WAIT_SECONDS));
    let store = app.control.store();
    let mut newest = store.events();
    let mut after = wanted.after;
    if let Some(last) = wanted.last {
        after = (*newest.borrow() - i64::from(last)).max(0);
    }
    loop {
        let seen = *newest.borrow_and_update();
        // Anew each time: what was granted may be taken away while it waits.
        let sight = app.control.sight(&caller, Permission::EventRead).await?;
        let found = store.events_after(after, &wanted.kind, &wanted.subject, &sight, limit).await;
        let found = found.map_err(OpError::from)?;
        if let Some(last) = found.last() {
            let next = Some(last.id.to_string());
            return Ok(Json(Page { items: found, next }));
        }
        // Nothing up to here is wanted: it need not be looked through again.
        after = after.max(seen);
        let changed = tokio::select! {
            changed = tokio::time::timeout_at(deadline, newest.changed()) => matches!(changed, Ok(Ok(()))),
            () = app.ending.begun() => false,
        };
        if !changed {
            return Ok(Json(Page { items: Vec::new(), next: Some(after.to_string()) }));
        }
    }
}
