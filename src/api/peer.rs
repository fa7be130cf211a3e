//! Who is at the other end of the socket: the kernel's word, never the request's.

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
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

/// Says who asks, where the connection tells: handlers and the guard find a [`Caller`] in the request.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid);
    if let Some(uid) = peer {
        let why = request.headers().get("debvisor-why").and_then(|why| why.to_str().ok());
        let why = why.map(|why| why.chars().take(1000).collect());
        request.extensions_mut().insert(Caller::host(uid, why));
    }
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The guard has refused before whoever is nobody.
        let unnamed = || Problem::malformed(axum::http::StatusCode::FORBIDDEN, "the connection has no user");
        parts.extensions.get::<Self>().cloned().ok_or_else(unnamed)
    }
}
