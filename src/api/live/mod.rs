//! What goes on: WebSockets (RFC 6455) of events and of consoles, and what both have in common.
//!
//! In: a handshake of somebody who may, from our own pages or from no page at all. Out: messages until one side ends
//! it, and then a close code with a reason. Never: a reader that is waited for, a buffer without a bound, a stream that
//! outlives the permission it was opened with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{App, Problem};
use crate::control::authz::Resource;
use crate::control::{Caller, OpError};
use crate::store::Sight;
use crate::types::access::Permission;
use crate::types::{Code, Reason, limits};

pub(super) mod event;
mod recent;
#[cfg(test)]
mod tests;

pub(super) use recent::Recent;

/// How often the other end is asked whether it is there, and told how far it is.
pub(super) const BEAT: Duration = Duration::from_secs(15);
/// Beats without any sign of the other end, after which it counts as gone.
pub(super) const SILENT_BEATS: u32 = 3;
/// How long a reader may take for what it was sent.
const SLOW: Duration = Duration::from_secs(limits::LIVE_SLOW_SECONDS);
/// How long an end is tried to be told to somebody who may not be reading.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often the permission is asked for again where nothing hints at a change of it.
const RECHECK: Duration = Duration::from_secs(5);

/// Everything that is open, counted.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<HashMap<String, usize>>,
    all: watch::Sender<usize>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { taken: Mutex::default(), all: watch::channel(0).0 }
    }
}

impl Seats {
    /// A seat for this caller, where one is free. It is free again when it is dropped.
    pub(super) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Seat, Problem> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.get(&caller.actor).copied().unwrap_or_default();
        let all = *self.all.borrow();
        let full = |what: String| Problem::of(StatusCode::TOO_MANY_REQUESTS, &Reason::new(Code::LiveConnections, what));
        if mine >= limits::LIVE_CONNECTIONS_OF_ONE {
            return Err(full(format!("{} has {mine} live connections open, and may have no more", caller.actor)));
        }
        if all >= limits::LIVE_CONNECTIONS {
            return Err(full(format!("{all} live connections are open, and there may be no more")));
        }
        taken.insert(caller.actor.clone(), mine + 1);
        self.all.send_modify(|all| *all += 1);
        Ok(Seat { seats: self.clone(), actor: caller.actor.clone() })
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    actor: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = taken.get_mut(&self.actor) {
            *mine -= 1;
            if *mine == 0 {
                taken.remove(&self.actor);
            }
        }
        self.seats.all.send_modify(|all| *all -= 1);
    }
}

/// A handshake, from our own pages or from no page.
pub(super) struct Upgrade {
    upgrade: WebSocketUpgrade,
    credential: Credential,
}

/// What a request said of who asks, to be asked again later.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    parts: Arc<Parts>,
}

impl Upgrade {
    /// Goes on as a WebSocket that takes messages of at most so many bytes.
    pub(super) fn go<F>(
        self,
        message_bytes: usize,
        work: impl FnOnce(WebSocket, Credential) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade, credential } = self;
        upgrade
            .max_message_size(message_bytes)
            .max_frame_size(message_bytes)
            .write_buffer_size(limits::LIVE_BUFFER_BYTES)
            .on_upgrade(move |socket| work(socket, credential))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        own_page(&parts.headers, parts.uri.host())?;
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await.map_err(|rejection| {
            let status = match rejection {
                // RFC 9110 section 15.5.22: the protocol that would be right is named.
                WebSocketUpgradeRejection::InvalidConnectionHeader(_)
                | WebSocketUpgradeRejection::InvalidUpgradeHeader(_)
                | WebSocketUpgradeRejection::ConnectionNotUpgradable(_) => StatusCode::UPGRADE_REQUIRED,
                _ => StatusCode::BAD_REQUEST,
            };
            Problem::malformed(status, format!("this address speaks WebSocket: {}", rejection.body_text()))
        })?;
        Ok(Self { upgrade, credential: Credential::of(parts) })
    }
}

impl Credential {
    fn of(parts: &Parts) -> Self {
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        *request.extensions_mut() = parts.extensions.clone();
        Self { parts: Arc::new(request.into_parts().0) }
    }
}

/// Refuses a page of somebody else's: its script would use the cookie of whoever looks at it, and WebSockets know no
/// same-origin policy (RFC 6455 section 10.2).
fn own_page(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Problem> {
    let foreign = |what: String| Problem::of(StatusCode::FORBIDDEN, &Reason::new(Code::OriginForeign, what));
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Browsers always say it; who shows a cookie and no origin is no browser of ours.
        if headers.contains_key(header::COOKIE) && !headers.contains_key(header::AUTHORIZATION) {
            return Err(foreign("a cookie comes without the origin of the page that sends it".to_owned()));
        }
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(authority).unwrap_or_default();
    let page = origin.to_str().unwrap_or_default();
    let page_host = page.split_once("://").map(|(_, host)| host).unwrap_or_default();
    if host.is_empty() || !page_host.eq_ignore_ascii_case(host) {
        return Err(foreign(format!("a page of {page:?} may not open a live connection to {host:?}")));
    }
    Ok(())
}

/// Who has opened a connection, and whether they still may.
pub(super) struct Standing {
    asks: Asks,
    next: tokio::time::Instant,
}

/// Whom it is asked of.
enum Asks {
    /// The control plane.
    Control { app: App, caller: Box<Caller>, credential: Credential, permission: Permission, resource: Resource },
    /// What a test says to a hint.
    #[cfg(test)]
    Test(fn(bool) -> Result<(), End>),
}

impl Standing {
    pub(super) fn new(
        app: App,
        caller: Caller,
        credential: Credential,
        permission: Permission,
        resource: Resource,
    ) -> Self {
        let caller = Box::new(caller);
        let asks = Asks::Control { app, caller, credential, permission, resource };
        Self { asks, next: tokio::time::Instant::now() + RECHECK }
    }

    /// Asks again, where it is time to, or where something hints at a change.
    pub(super) async fn holds(&mut self, hint: bool) -> Result<(), End> {
        let now = tokio::time::Instant::now();
        if !hint && now < self.next {
            return Ok(());
        }
        self.next = now + RECHECK;
        match &self.asks {
            Asks::Control { app, caller, credential, permission, resource } => {
                let asked = async {
                    super::peer::again(app, &credential.parts, caller).await?;
                    app.control.authorize(caller, *permission, resource).await.map(drop)
                };
                match asked.await {
                    Ok(()) => Ok(()),
                    Err(OpError::Unauthenticated(reason) | OpError::Forbidden(reason)) => {
                        Err(End::NoLonger(reason.message))
                    }
                    Err(OpError::NotFound(what)) => Err(End::NoLonger(what)),
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "whether a reader still may is not known"
                        );
                        Err(End::Failed)
                    }
                }
            }
            #[cfg(test)]
            Asks::Test(answer) => answer(hint),
        }
    }

    /// What they may see.
    pub(super) async fn sight(&self) -> Result<Sight, End> {
        match &self.asks {
            Asks::Control { app, caller, permission, .. } => {
                app.control.sight(caller, *permission).await.map_err(|error| {
                    tracing::error!(error = &error as &dyn std::error::Error, "what a reader may see is not known");
                    End::Failed
                })
            }
            #[cfg(test)]
            Asks::Test(_) => Ok(Sight::All),
        }
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The other end is gone, or said so.
    Gone,
    /// The process ends.
    Restart,
    /// It does not take what it is sent.
    Slow,
    /// It gives no sign.
    Silent,
    /// The credential has ended, or the permission was taken away.
    NoLonger(String),
    /// There is nothing more to tell.
    Over(String),
    /// What is kept could not be read.
    Failed,
}

impl End {
    /// The code (RFC 6455 section 7.4; those from 4000 on are ours) and the reason.
    fn close(&self) -> Option<(u16, String)> {
        let told = match self {
            Self::Gone => return None,
            Self::Restart => (1012, "the server ends; connect again after the last number".to_owned()),
            Self::Slow => (1013, "too slow: connect again after the last number".to_owned()),
            Self::Silent => (4008, "no answer to pings".to_owned()),
            Self::NoLonger(why) => (4001, why.clone()),
            Self::Over(why) => (1000, why.clone()),
            Self::Failed => (1011, "the state could not be read".to_owned()),
        };
        Some(told)
    }
}

/// Says why it ends, and waits a little for the other end to take it.
pub(super) async fn farewell(mut socket: WebSocket, end: &End) {
    let Some((code, reason)) = end.close() else { return };
    let frame = CloseFrame { code, reason: cut(reason).into() };
    let _ = timeout(FAREWELL, async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    })
    .await;
}

/// A control frame has at most 125 bytes, two of which are the code (RFC 6455 section 5.5).
fn cut(mut reason: String) -> String {
    let mut at = reason.len().min(123);
    while !reason.is_char_boundary(at) {
        at -= 1;
    }
    reason.truncate(at);
    reason
}

/// Returns once the process ends. A sender that is gone says the same.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sends, where the other end takes it in time.
pub(super) async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(SLOW, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}
