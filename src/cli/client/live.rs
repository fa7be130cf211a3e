//! What goes on, by WebSocket: events after a cursor, connected again for as long as it takes, and a console.
//! Invariant: an event is handed on once, and none is left out, however often the connection is lost.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::super::Failure;
use super::Client;
use crate::release::decision::Decision;
use crate::store::Event;

/// The largest message that is taken from a server.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// A server says something every 15 seconds; one that does not for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// An open WebSocket.
pub(in crate::cli) struct Live(WebSocketStream<reqwest::Upgraded>);

/// What the other side says.
#[derive(Debug)]
pub(in crate::cli) enum Heard {
    Text(String),
    Bytes(Bytes),
    /// It ends, with a code and a reason.
    Closed(u16, String),
    /// The connection is gone.
    Lost,
}

impl Live {
    pub(in crate::cli) async fn open(client: &Client, path: &str) -> anyhow::Result<Self> {
        let key = generate_key();
        let request = client
            .request(Method::GET, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = client.answered(request, |status| status == StatusCode::SWITCHING_PROTOCOLS).await?;
        let accepted = response
            .headers()
            .get(SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|accept| accept.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes());
        anyhow::ensure!(accepted, "the server does not speak WebSocket (RFC 6455 section 4.1)");
        let upgraded = response.upgrade().await.context("the connection does not go on as a WebSocket")?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
        Ok(Self(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await))
    }

    pub(in crate::cli) async fn hear(&mut self) -> Heard {
        loop {
            match timeout(SILENCE, self.0.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Heard::Text(text.to_string()),
                Ok(Some(Ok(Message::Binary(bytes)))) => return Heard::Bytes(bytes),
                Ok(Some(Ok(Message::Close(Some(frame))))) => {
                    return Heard::Closed(frame.code.into(), frame.reason.to_string());
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
                Ok(Some(Ok(Message::Close(None)) | Err(_)) | None) | Err(_) => return Heard::Lost,
            }
        }
    }

    pub(in crate::cli) async fn say(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.0.send(Message::Binary(bytes.into())).await.context("the connection is gone")
    }

    pub(in crate::cli) async fn leave(mut self) {
        let _ = timeout(Duration::from_secs(1), self.0.close(None)).await;
    }
}

/// Events, from a cursor on.
pub(in crate::cli) struct Events<'a> {
    client: &'a Client,
    /// What else is asked for, as it stands behind the question mark.
    narrowed: String,
    /// Where it goes on; none before anything was heard.
    from: String,
    live: Option<Live>,
    /// Whether it was open once.
    started: bool,
    /// Whether it is lost, and that was said.
    lost: bool,
    pause: Duration,
}

/// What there is to know next.
#[derive(Debug)]
pub(in crate::cli) enum Next {
    Event(Box<Event>),
    /// Everything up to here is known, and none of it was wanted.
    Nothing,
    /// The connection was lost, and is open again where it was.
    Again,
}

impl<'a> Events<'a> {
    /// Those of `kind` about `subject`, both as they begin; `from` is `after=N` or `last=N`, or nothing: from now on.
    pub(in crate::cli) fn new(client: &'a Client, from: &str, kind: &str, subject: &str) -> Self {
        let encoded = |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
        let narrowed = format!("kind={}&subject={}", encoded(kind), encoded(subject));
        let from = from.to_owned();
        Self { client, narrowed, from, live: None, started: false, lost: false, pause: Duration::ZERO }
    }

    /// The next one, however long it takes. Who follows from now on is told where that is first.
    ///
    /// # Errors
    /// Where the server refuses it: a lost connection is none.
    pub(in crate::cli) async fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            if self.live.is_none() {
                self.connect().await?;
                if self.live.is_some() && std::mem::take(&mut self.lost) {
                    self.client.say("the connection is open again");
                    return Ok(Next::Again);
                }
            }
            let Some(live) = &mut self.live else { continue };
            match live.hear().await {
                Heard::Text(text) => {
                    self.pause = Duration::ZERO;
                    let value: serde_json::Value =
                        serde_json::from_str(&text).context("what the server says is no JSON")?;
                    if let Some(cursor) = value.get("cursor").and_then(serde_json::Value::as_i64) {
                        self.from = format!("after={cursor}");
                        return Ok(Next::Nothing);
                    }
                    let event: Event = serde_json::from_value(value).context("what the server says is no event")?;
                    self.from = format!("after={}", event.id);
                    return Ok(Next::Event(Box::new(event)));
                }
                Heard::Closed(4001, why) => {
                    let hint = self.client.server().login();
                    return Err(Failure::new(Decision::Deny, format!("the server ended it: {why}"), hint).into());
                }
                Heard::Closed(code, why) => self.lose(&format!("the server closed the connection ({code}: {why})")),
                Heard::Lost => self.lose("the connection is lost"),
                Heard::Bytes(_) => {}
            }
        }
    }

    /// It is opened again, for as long as that takes; whoever looks on is told so once.
    fn lose(&mut self, why: &str) {
        self.live = None;
        if !std::mem::replace(&mut self.lost, true) {
            self.client.say(&format!("{why}; it is opened again"));
        }
    }

    /// The next one, where it comes before `until`.
    pub(in crate::cli) async fn next_until(&mut self, until: Instant) -> anyhow::Result<Option<Next>> {
        match tokio::time::timeout_at(until, self.next()).await {
            Ok(next) => next.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        sleep(self.pause).await;
        let path = format!("/v1/events/live?{}&{}", self.from, self.narrowed);
        match Live::open(self.client, &path).await {
            Ok(live) => {
                self.live = Some(live);
                self.started = true;
                self.pause = Duration::from_millis(200);
                Ok(())
            }
            // A server that is not there may come back; one that was never there is an error at once, and so is a no.
            Err(error) if self.started && is_absence(&error) => {
                tracing::info!(%error, "the connection is lost; it is tried again");
                self.pause = (self.pause * 2).clamp(Duration::from_millis(200), PAUSE);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether nobody answered who could have said no.
pub(in crate::cli) fn is_absence(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.decision == Decision::Undecided)
}
