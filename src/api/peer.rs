//! Who is at the other end of a connection: the word of the kernel or of a handshake, never the request's.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::authn::{self, Carried, Head, MustChange};
use super::limit::Standings;
use super::{App, Problem, access};
use crate::control::authn::Identified;
use crate::control::{Caller, OpError};
use crate::types::{Code, Reason};

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
    pub(super) certificate: Option<Arc<[u8]>>,
}

impl Peer {
    /// Where the other end is, where it is not this host.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Host { .. } => None,
            Self::Remote(remote) => Some(remote.address),
        }
    }

    /// The certificate that the other end showed.
    pub(super) fn certificate(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Host { .. } => None,
            Self::Remote(remote) => remote.certificate.clone(),
        }
    }

    /// The user of the host.
    pub(super) const fn uid(&self) -> Option<u32> {
        match self {
            Self::Host { uid } => *uid,
            Self::Remote(_) => None,
        }
    }

    /// As the audit log calls it.
    pub(super) const fn origin(&self) -> &'static str {
        match self {
            Self::Host { .. } => "socket",
            Self::Remote(_) => "tls",
        }
    }
}

/// Says who asks: handlers and the guard find a [`Caller`] in the request. Whoever asks too often is told so before
/// anything is looked up.
pub(super) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let mut standings = Standings::default();
    let mut response = match told(&app, &mut request, &mut standings).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    standings.tell(&mut response);
    response
}

async fn told(app: &App, request: &mut Request, standings: &mut Standings) -> Result<(), Problem> {
    // A connection that says nothing of its other end is nobody's.
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Host { uid: None });
    if let Some(address) = peer.address() {
        standings.note("address", app.control.address_standing(address))?;
    }
    let path = request.extensions().get::<MatchedPath>();
    let public = path.is_some_and(|path| access::is_public(request.method(), path.as_str()));
    let head = Head { method: request.method(), uri: request.uri(), headers: request.headers() };
    let origin = authn::origin(&peer, request.headers());
    let identified = authn::identify(app, &peer, &head, public).await?;
    request.extensions_mut().insert(origin);
    let Some(Identified { caller, session, csrf, must_change }) = identified else { return Ok(()) };
    if let Some(standing) = app.control.subject_standing(&caller.subject) {
        standings.note("user", standing)?;
    }
    let extensions = request.extensions_mut();
    if let Some(session) = session {
        extensions.insert(Carried(session, csrf));
    }
    if must_change {
        extensions.insert(MustChange);
    }
    extensions.insert(caller);
    Ok(())
}

/// Whether whoever asked so is still who they were: for what goes on long after it was asked for.
///
/// # Errors
/// [`OpError::Unauthenticated`] where the credential has ended.
pub(super) async fn again(app: &App, parts: &Parts, caller: &Caller) -> Result<(), OpError> {
    let ended = |what: String| OpError::Unauthenticated(Box::new(Reason::new(Code::CredentialInvalid, what)));
    let peer = parts.extensions.get::<Peer>().cloned().unwrap_or(Peer::Host { uid: None });
    let head = Head { method: &parts.method, uri: &parts.uri, headers: &parts.headers };
    match authn::identify(app, &peer, &head, false).await {
        Ok(Some(found)) if found.caller.subject == caller.subject => Ok(()),
        Ok(_) => Err(ended("the credential is of somebody else by now".to_owned())),
        Err(problem) if problem.status >= 500 => Err(OpError::Node(problem.detail)),
        Err(problem) => Err(ended(problem.detail)),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The guard has refused before whoever is nobody.
        let unnamed = || Problem::malformed(axum::http::StatusCode::FORBIDDEN, "the connection has no user");
        parts.extensions.get::<Self>().cloned().ok_or_else(unnamed)
    }
}
