//! Who is at the other end of a connection: the word of the kernel or of a handshake, never the request's.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::error::Problem;
use crate::control::Caller;

/// The other end of a connection. Every request carries it in its extensions.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A process of this host, at the unix socket.
    Host {
        /// The user that it runs as (SO_PEERCRED).
        uid: Option<u32>,
    },
    /// Somebody over TLS.
    Remote(Remote),
}

/// Somebody over TLS.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    /// Where they are.
    pub(super) address: IpAddr,
    /// The certificate that they showed, in DER: of an authority of `[listen] client-ca`, and theirs by a signature
    /// over this handshake. Whose it is, the list of services says.
    #[expect(dead_code, reason = "who knows services by their certificates takes this line away")]
    pub(super) certificate: Option<Arc<[u8]>>,
}

impl Peer {
    /// Where the other end is, where it is not this host.
    #[expect(dead_code, reason = "the first who counts by addresses takes this line away")]
    pub(super) const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Host { .. } => None,
            Self::Remote(remote) => Some(remote.address),
        }
    }
}

/// Says who asks, where the connection tells: handlers and the guard find a [`Caller`] in the request.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    if let Some(Peer::Host { uid: Some(uid) }) = request.extensions().get::<Peer>() {
        let why = request.headers().get("debvisor-why").and_then(|why| why.to_str().ok());
        let why = why.map(|why| why.chars().take(1000).collect());
        let caller = Caller::host(*uid, why);
        request.extensions_mut().insert(caller);
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
