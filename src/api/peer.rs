//! Who is at the other end of the socket: the kernel's word, never the request's.

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::error::Problem;
use crate::control::Caller;

/// The user of the process that opened the connection (SO_PEERCRED).
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid);
        // A connection without a user is nobody's, and nobody may ask.
        let unnamed = || Problem::malformed(axum::http::StatusCode::FORBIDDEN, "the connection has no user");
        let uid = peer.ok_or_else(unnamed)?;
        let why = parts.headers.get("debvisor-why").and_then(|why| why.to_str().ok());
        let why = why.map(|why| why.chars().take(1000).collect());
        Ok(Self { actor: format!("uid:{uid}"), origin: "socket", why })
    }
}
