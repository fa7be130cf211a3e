//! `/v1/events/live`: the event table after a cursor, as it grows. One text message an event, with its number; between
//! them `{"cursor":N}`, so that who reads a part of it moves on.
//!
//! Invariant: numbers only grow within a connection, and who connects again after the last one is told the next one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::SinkExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::recent::{Recent, Told};
use super::{BEAT, Credential, End, SILENT_BEATS, SLOW, Seat, Standing, Upgrade, farewell, send, stopping};
use crate::api::extract::{LiveQuery, Query};
use crate::api::{App, Problem};
use crate::control::Caller;
use crate::control::authz::Resource;
use crate::store::{Event, Sight, Store};
use crate::types::access::Permission;
use crate::types::{Code, Reason, limits};

/// How often who reads a part of the events is told how far it is, while others happen.
const MARK: Duration = Duration::from_secs(1);

/// Kinds of events after which what somebody may do can be another.
const ABOUT_ACCESS: &[&str] =
    &["grant.", "role.", "user.", "session.", "key.", "service.", "tenant.", "project.", "group.", "login."];

/// Events after the cursor and from now on, by WebSocket, of what the caller may see: an `Event` a text message, and `{"cursor":N}` between them.
///
/// Closed with 1012 where the server ends, 1013 where the reader is too slow, 4001 where it may no longer read, 4008
/// where it gives no sign. After each, connecting again after the last number loses nothing and repeats nothing.
#[utoipa::path(get, path = "/v1/events/live", tag = "events", params(LiveQuery),
    responses((status = 101, description = "The WebSocket is open."), (status = "default", body = Problem)))]
pub(in crate::api) async fn follow(
    caller: Caller,
    State(app): State<App>,
    Query(wanted): Query<LiveQuery>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let newest = *app.control.store().events().borrow();
    let cursor = match (wanted.after, wanted.last) {
        (_, Some(last)) => (newest - i64::from(last)).max(0),
        (Some(after), None) => after.max(0),
        (None, None) => newest,
    };
    if cursor > newest {
        let told = format!("there is no event {cursor} yet, the newest is {newest}: this is another log");
        return Err(Problem::of(StatusCode::GONE, &Reason::new(Code::CursorUnknown, told)));
    }
    let seat = app.seats.take(&caller)?;
    let (kind, subject) = (wanted.kind, wanted.subject);
    Ok(upgrade.go(limits::LIVE_MESSAGE_BYTES, move |socket, credential| {
        follow_on(app, caller, credential, Reader { cursor, kind, subject, told: cursor }, seat, socket)
    }))
}

async fn follow_on(app: App, caller: Caller, credential: Credential, reader: Reader, seat: Seat, socket: WebSocket) {
    let standing = Standing::new(app.clone(), caller, credential, Permission::EventRead, Resource::Somewhere);
    let mut socket = socket;
    let store = app.control.store().clone();
    let source = Source { store, recent: app.recent.clone(), stop: app.ending.stop.clone() };
    let end = reader.run(&mut socket, source, standing).await;
    farewell(socket, &end).await;
    drop(seat);
}

/// Where events come from, and what ends it.
pub(super) struct Source {
    pub(super) store: Store,
    pub(super) recent: Arc<Recent>,
    pub(super) stop: watch::Receiver<bool>,
}

/// One who follows: what they want, and how far they are.
pub(super) struct Reader {
    /// Everything up to here was told, or is not wanted.
    pub(super) cursor: i64,
    pub(super) kind: String,
    pub(super) subject: String,
    /// The last number that the other end knows.
    pub(super) told: i64,
}

/// What one look finds.
struct Look {
    events: Vec<Arc<Told>>,
    /// Everything up to here was looked at.
    to: i64,
    /// There may be more at once.
    more: bool,
    /// Something among it may change who may see what.
    about_access: bool,
}

impl Reader {
    /// Tells until it ends.
    pub(super) async fn run(mut self, socket: &mut WebSocket, mut source: Source, mut standing: Standing) -> End {
        match self.tell(socket, &mut source, &mut standing).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn tell(&mut self, socket: &mut WebSocket, source: &mut Source, standing: &mut Standing) -> Result<End, End> {
        let mut newest = source.store.events();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        let mut silent = 0;
        // Whoever connects knows at once where they are.
        self.mark(socket).await?;
        let mut marked = Instant::now();
        let mut saw: Option<Sight> = None;
        loop {
            let seen = *newest.borrow_and_update();
            // Anew each time: what was granted may be taken away meanwhile.
            let sight = standing.sight().await?;
            let look = self.look(source, seen, &sight).await?;
            standing.holds(look.about_access || saw.as_ref().is_some_and(|saw| *saw != sight)).await?;
            saw = Some(sight);
            self.send(socket, &look).await?;
            if self.told < self.cursor && (!look.more && marked.elapsed() >= MARK) {
                self.mark(socket).await?;
                marked = Instant::now();
            }
            if *source.stop.borrow() {
                return Ok(End::Restart);
            }
            if look.more {
                continue;
            }
            let owed = self.told < self.cursor;
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return Ok(End::Restart) },
                () = stopping(&mut source.stop) => return Ok(End::Restart),
                () = tokio::time::sleep_until(marked + MARK), if owed => {}
                _ = beat.tick() => {
                    if silent >= SILENT_BEATS {
                        return Ok(End::Silent);
                    }
                    silent += 1;
                    standing.holds(false).await?;
                    send(socket, Message::Ping(axum::body::Bytes::new())).await?;
                    self.mark(socket).await?;
                }
                heard = socket.recv() => match heard {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(End::Gone),
                    // Nothing that is said here is asked for; that it is said is a sign of life.
                    Some(Ok(_)) => silent = 0,
                },
            }
        }
    }

    async fn look(&self, source: &Source, seen: i64, sight: &Sight) -> Result<Look, End> {
        let failed = |error| {
            tracing::error!(error = &error as &dyn std::error::Error, "events cannot be read");
            End::Failed
        };
        let limit = limits::LIVE_PAGE_EVENTS;
        let recent = match sight {
            Sight::All => source.recent.after(&source.store, self.cursor, seen, limit).await.map_err(failed)?,
            Sight::Only { .. } => None,
        };
        if let Some(found) = recent {
            let more = found.len() >= limit as usize;
            let last = found.last().map_or(self.cursor, |told| told.event.id);
            let to = if more { last } else { last.max(seen) };
            let about_access = found.iter().any(|told| is_about_access(&told.event));
            let events = found.into_iter().filter(|told| self.wants(&told.event)).collect();
            return Ok(Look { events, to, more, about_access });
        }
        let found = source.store.events_after(self.cursor, &self.kind, &self.subject, sight, limit).await;
        let found = found.map_err(failed)?;
        let more = found.len() >= limit as usize;
        let last = found.last().map_or(self.cursor, |event| event.id);
        let to = if more { last } else { last.max(seen) };
        let events = found.into_iter().map(|event| Arc::new(Told::new(event))).collect();
        // What was changed long ago holds already.
        Ok(Look { events, to, more, about_access: false })
    }

    fn wants(&self, event: &Event) -> bool {
        event.kind.starts_with(&self.kind) && event.subject.starts_with(&self.subject)
    }

    /// Sends what was found. All of it within the time that a reader has.
    async fn send(&mut self, socket: &mut WebSocket, look: &Look) -> Result<(), End> {
        if let Some(last) = look.events.last() {
            let all = async {
                for told in &look.events {
                    socket.feed(Message::Text(told.text.clone())).await?;
                }
                socket.flush().await
            };
            match timeout(SLOW, all).await {
                Ok(Ok(())) => self.told = last.event.id,
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => return Err(End::Slow),
            }
        }
        self.cursor = self.cursor.max(look.to);
        Ok(())
    }

    async fn mark(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let text = serde_json::json!({ "cursor": self.cursor }).to_string();
        send(socket, Message::Text(text.into())).await?;
        self.told = self.cursor;
        Ok(())
    }
}

fn is_about_access(event: &Event) -> bool {
    ABOUT_ACCESS.iter().any(|kind| event.kind.starts_with(kind))
}
