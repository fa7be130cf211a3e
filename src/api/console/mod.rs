//! `/v1/vms/{vm}/console`: the serial console. What comes out is one long answer; what goes in is posted.
//! The same both ways in one connection is [`live`]; whoever reads, however they do, is at the same console ([`hub`]).

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::extract::{self, ConsoleQuery, Machine, Query};
use super::{App, Ending, Problem};
use crate::control::{Caller, OpError};
use crate::types::limits;

mod hub;
pub(super) mod live;

pub(super) use hub::Consoles;

/// What came out of the serial console, or what comes out of it from now on.
#[utoipa::path(get, path = "/v1/vms/{vm}/console", tag = "vms", params(("vm" = String, Path), ConsoleQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = "default", body = Problem)))]
pub(super) async fn read(
    _: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    Query(wanted): Query<ConsoleQuery>,
) -> Result<Response, Problem> {
    let machine = app.control.vm_find(&id.to_string()).await?;
    let media_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    if !wanted.follow {
        let last = wanted.last.unwrap_or(limits::API_CONSOLE_BYTES).min(limits::API_CONSOLE_BYTES);
        let log = app.control.link_of(&machine.node)?.console_log(id, last).await.map_err(OpError::Conflict)?;
        return Ok((media_type, log).into_response());
    }
    let attached = app.consoles.attach(&app.control, &machine).await?;
    let body = Body::from_stream(futures_util::stream::unfold((attached, app.ending), next));
    Ok((media_type, body).into_response())
}

/// Types into a serial console that somebody reads.
#[utoipa::path(post, path = "/v1/vms/{vm}/console", tag = "vms", params(("vm" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn write(
    _: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    extract::Body(typed): extract::Body,
) -> Result<StatusCode, Problem> {
    let nobody = || OpError::Conflict(format!("nobody reads the console of {id}"));
    let keys = app.consoles.keys(id).await.ok_or_else(nobody)?;
    keys.send(typed).await.map_err(|_| OpError::Node("the console is closed".to_owned()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The next piece; a reader that missed one is at its end, with an error.
async fn next(
    (mut attached, ending): (hub::Attached, Ending),
) -> Option<(std::io::Result<Bytes>, (hub::Attached, Ending))> {
    use tokio::sync::broadcast::error::RecvError;
    let said = tokio::select! {
        said = attached.said.recv() => said,
        () = ending.begun() => return None,
    };
    match said {
        Ok(piece) => Some((Ok(piece), (attached, ending))),
        Err(RecvError::Closed) => None,
        Err(RecvError::Lagged(_)) => Some((Err(std::io::Error::other("too slow")), (attached, ending))),
    }
}
