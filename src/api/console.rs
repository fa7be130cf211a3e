//! `/v1/vms/{vm}/console`: the serial console. What comes out is one long answer; what goes in is posted.
//! One reader at a time: two would each get half of what is said.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use super::extract::{ConsoleQuery, Machine, Query};
use super::{App, Ending, Problem};
use crate::control::{Caller, OpError};
use crate::types::limits;
use crate::types::vm::VmId;

/// The consoles that somebody reads, with the ends that are written to.
pub(super) type Consoles = Mutex<HashMap<VmId, Arc<Mutex<OwnedWriteHalf>>>>;

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
    let mut consoles = app.consoles.lock().await;
    // A reader that is gone has dropped its half of the end that is kept here.
    if consoles.get(&id).is_some_and(|writer| Arc::strong_count(writer) > 1) {
        return Err(OpError::Conflict(format!("somebody reads the console of {id} already")).into());
    }
    let stream = app.control.link_of(&machine.node)?.console(id).await.map_err(OpError::Conflict)?;
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(Mutex::new(writer));
    consoles.insert(id, writer.clone());
    drop(consoles);
    let body =
        Body::from_stream(futures_util::stream::unfold(Reading { reader, _writer: writer, ending: app.ending }, next));
    Ok((media_type, body).into_response())
}

/// Types into the serial console that the caller reads.
#[utoipa::path(post, path = "/v1/vms/{vm}/console", tag = "vms", params(("vm" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn write(
    _: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    typed: Bytes,
) -> Result<StatusCode, Problem> {
    let writer = app.consoles.lock().await.get(&id).cloned();
    let nobody = || OpError::Conflict(format!("nobody reads the console of {id}"));
    let writer = writer.ok_or_else(nobody)?;
    let mut writer = writer.lock().await;
    writer.write_all(&typed).await.map_err(|error| OpError::Node(format!("the console is closed: {error}")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// One reader; as long as it lives, its other end is in use.
struct Reading {
    reader: OwnedReadHalf,
    _writer: Arc<Mutex<OwnedWriteHalf>>,
    ending: Ending,
}

async fn next(mut reading: Reading) -> Option<(std::io::Result<Bytes>, Reading)> {
    let mut piece = vec![0; 16 * 1024];
    let read = tokio::select! {
        read = reading.reader.read(&mut piece) => read,
        () = reading.ending.begun() => return None,
    };
    match read {
        Ok(0) => None,
        Ok(count) => {
            piece.truncate(count);
            Some((Ok(piece.into()), reading))
        }
        Err(error) => Some((Err(error), reading)),
    }
}
