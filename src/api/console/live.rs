//! `/v1/vms/{vm}/console/live`: the serial console, both ways. Binary messages; many may watch, and all may type.
//! It begins with what was said last, and ends when the machine does, with the reason.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::hub::Attached;
use crate::api::extract::{ConsoleLiveQuery, Machine, Query};
use crate::api::live::{BEAT, End, SILENT_BEATS, Seat, Standing, Upgrade, farewell, send, stopping};
use crate::api::{App, Problem};
use crate::control::Caller;
use crate::control::authz::Resource;
use crate::types::access::Permission;
use crate::types::limits;
use crate::types::vm::{ObservedPower, VmId};

/// How long the end of a machine may take to be known after its console closed.
const END_KNOWN: Duration = Duration::from_secs(3);
/// How often it is seen whether whoever is attached still may be.
const RECHECK: Duration = Duration::from_secs(1);

/// A machine's serial console, by WebSocket: what it says comes as binary messages, and what is sent is typed.
///
/// Closed with 1000 where the machine ends, 1012 where the server does, 1013 where the reader is too slow, 4001 where
/// it may no longer.
#[utoipa::path(get, path = "/v1/vms/{vm}/console/live", tag = "vms", params(("vm" = String, Path), ConsoleLiveQuery),
    responses((status = 101, description = "The WebSocket is open."), (status = "default", body = Problem)))]
pub(in crate::api) async fn attach(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    Query(wanted): Query<ConsoleLiveQuery>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let machine = app.control.vm_find(&id.to_string()).await?;
    let seat = app.seats.take(&caller)?;
    let mut attached = app.consoles.attach(&app.control, &machine).await?;
    let last = wanted.last.unwrap_or(limits::CONSOLE_REPLAY_BYTES);
    let surplus = attached.before.len().saturating_sub(last);
    attached.before = attached.before.slice(surplus..);
    Ok(upgrade.go(limits::LIVE_CONSOLE_BYTES, async move |mut socket, credential| {
        let resource = Resource::Vm(id.to_string());
        let mut standing = Standing::new(app.clone(), caller, credential, Permission::VmConsole, resource);
        let end = match converse(&mut socket, &app, id, attached, &mut standing).await {
            Ok(end) | Err(end) => end,
        };
        farewell(socket, &end).await;
        drop::<Seat>(seat);
    }))
}

async fn converse(
    socket: &mut WebSocket,
    app: &App,
    vm: VmId,
    mut attached: Attached,
    standing: &mut Standing,
) -> Result<End, End> {
    let mut stop = app.ending.stop.clone();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    let mut recheck = interval(RECHECK);
    let mut silent = 0;
    let before = std::mem::take(&mut attached.before);
    if !before.is_empty() {
        send(socket, Message::Binary(before)).await?;
    }
    let keys = attached.keys().clone();
    // What was typed and has no place yet: nothing more is taken from this one until it has.
    let mut waiting: Option<Bytes> = None;
    loop {
        tokio::select! {
            piece = attached.said.recv() => match piece {
                Ok(piece) => send(socket, Message::Binary(piece)).await?,
                Err(RecvError::Lagged(_)) => return Ok(End::Slow),
                Err(RecvError::Closed) => return Ok(End::Over(why(app, vm).await)),
            },
            place = keys.reserve(), if waiting.is_some() => match (place, waiting.take()) {
                (Ok(place), Some(typed)) => place.send(typed),
                _ => return Ok(End::Over(why(app, vm).await)),
            },
            heard = socket.recv(), if waiting.is_none() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(End::Gone),
                Some(Ok(Message::Binary(typed))) => (silent, waiting) = (0, Some(typed)),
                Some(Ok(Message::Text(typed))) => (silent, waiting) = (0, Some(typed.into())),
                Some(Ok(_)) => silent = 0,
            },
            () = stopping(&mut stop) => return Ok(End::Restart),
            _ = recheck.tick() => standing.holds(false).await?,
            _ = beat.tick() => {
                if silent >= SILENT_BEATS {
                    return Ok(End::Silent);
                }
                silent += 1;
                send(socket, Message::Ping(Bytes::new())).await?;
            }
        }
    }
}

/// Why a console closed: how its machine is by then.
async fn why(app: &App, vm: VmId) -> String {
    let mut events = app.control.store().events();
    let ended = async {
        loop {
            events.mark_unchanged();
            let Ok(found) = app.control.store().vm(vm).await else { return None };
            let Some(found) = found else { return Some("the machine was removed".to_owned()) };
            let name = &found.spec.name;
            let power = found.observed.as_ref().map_or(ObservedPower::Stopped, |seen| seen.power);
            if power == ObservedPower::Stopped {
                let note = found.observed.and_then(|seen| seen.note).map(|note| format!(": {note}"));
                return Some(format!("machine {name} has ended{}", note.unwrap_or_default()));
            }
            if events.changed().await.is_err() {
                return None;
            }
        }
    };
    let known = timeout(END_KNOWN, ended).await.ok().flatten();
    known.unwrap_or_else(|| "the console was closed".to_owned())
}
