//! What a request carries in, who asks out.
//! Invariant: what is carried and not believed is refused, also where nothing had to be carried.
//!
//! A credential that is sent goes before the user whom the kernel names: at the socket too it can only narrow what its
//! sender may do. A cookie alone is not enough for what changes something: another site could have had it sent.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};

use super::peer::Peer;
use super::{App, Problem};
use crate::control::authn::{Credential, Identified, Origin};
use crate::control::{Caller, OpError};
use crate::store::Session;
use crate::types::{Code, Reason, Secret, limits};

/// Browsers take a cookie of such a name only with `Secure`, for `/`, and for this host alone.
const COOKIE: &str = "__Host-debvisor";
/// What a browser's unsafe requests carry as well.
const CSRF: &str = "x-csrf-token";

/// Who asks, as far as the request says.
pub(super) async fn identify(
    app: &App,
    peer: &Peer,
    head: &Head<'_>,
    public: bool,
) -> Result<Option<Identified>, Problem> {
    let from = origin(peer, head.headers);
    let shown = || peer.certificate().map(Credential::Certificate);
    let Some(credential) = carried(head.headers)?.or_else(shown) else {
        let host = peer.uid().map(|uid| Caller::host(uid, from.why));
        return Ok(host.map(|caller| Identified { caller, session: None, csrf: None, must_change: false }));
    };
    let identified = match app.control.identify(&credential, &from).await {
        Ok(identified) => believed(identified, head),
        Err(error) => Err(Problem::from(error)),
    };
    match (identified, credential) {
        (Ok(identified), _) => Ok(Some(identified)),
        // What asks nobody who they are has no use for a browser's cookie or a certificate, which cannot be left out.
        (Err(_), Credential::Cookie(_) | Credential::Certificate(_)) if public => Ok(None),
        (Err(problem), _) => Err(problem),
    }
}

/// A request without its body.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
}

/// The credential that a request carries. The first that is there counts, and no other is tried after it.
fn carried(headers: &HeaderMap) -> Result<Option<Credential>, Problem> {
    let mut named = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = named.next() {
        let refused = |detail: &str| {
            let reason = Reason::new(Code::CredentialInvalid, detail);
            Problem::from(OpError::Unauthenticated(Box::new(reason)))
        };
        if named.next().is_some() {
            return Err(refused("there is more than one Authorization"));
        }
        let text = value.to_str().map_err(|_| refused("Authorization is not plain text"))?;
        // RFC 9110 section 11.1: the scheme's letter case does not matter.
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("Authorization is of another scheme than Bearer"));
        }
        return Ok(Some(Credential::Bearer(Secret::new(token.trim().to_owned()))));
    }
    Ok(cookie(headers).map(Credential::Cookie))
}

/// The token in the browser's cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let jar = CookieJar::from_headers(headers);
    jar.get(COOKIE).map(|cookie| Secret::new(cookie.value().to_owned()))
}

/// A cookie is believed with a request of this site, and where it changes something, with the session's token.
fn believed(identified: Identified, head: &Head<'_>) -> Result<Identified, Problem> {
    let Some(csrf) = &identified.csrf else { return Ok(identified) };
    same_site(head)?;
    if head.method.is_safe() {
        return Ok(identified);
    }
    let sent = head.headers.get(CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
    match aws_lc_rs::constant_time::verify_slices_are_equal(sent, csrf.reveal().as_bytes()) {
        Ok(()) => Ok(identified),
        Err(_) => Err(csrf_refused("x-csrf-token is missing, or another session's")),
    }
}

/// Refuses what a page of another site had sent. Browsers say so in `Sec-Fetch-Site` and `Origin`, which no page can
/// change; who sends neither is no browser.
pub(super) fn same_site(head: &Head<'_>) -> Result<(), Problem> {
    if let Some(site) = head.headers.get("sec-fetch-site")
        && !(site == "same-origin" || site == "none")
    {
        return Err(csrf_refused("another site sent this request"));
    }
    let Some(origin) = head.headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned).or(authority);
    let own = host.map(|host| format!("https://{host}"));
    match (origin.to_str().ok(), own) {
        (Some(origin), Some(own)) if origin.eq_ignore_ascii_case(&own) => Ok(()),
        _ => Err(csrf_refused("a page of another origin sent this request")),
    }
}

fn csrf_refused(detail: &str) -> Problem {
    Problem::from(OpError::Forbidden(Box::new(Reason::new(Code::CsrfRefused, detail))))
}

/// Where a request comes from.
pub(super) fn origin(peer: &Peer, headers: &HeaderMap) -> Origin {
    let said = |name: &str, most: usize| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(|text| text.chars().take(most).collect::<String>())
    };
    Origin {
        origin: peer.origin(),
        address: peer.address(),
        agent: said("user-agent", limits::USER_AGENT_CHARS),
        why: said("debvisor-why", 1000),
    }
}

/// `Set-Cookie` with a session's token.
pub(super) fn set_cookie(token: &Secret) -> (header::HeaderName, String) {
    (header::SET_COOKIE, built(token.reveal().to_owned()).to_string())
}

/// `Set-Cookie` that has the browser forget it.
pub(super) fn clear_cookie() -> (header::HeaderName, String) {
    let mut gone = built(String::new());
    gone.make_removal();
    (header::SET_COOKIE, gone.to_string())
}

fn built(value: String) -> Cookie<'static> {
    Cookie::build((COOKIE, value)).path("/").secure(true).http_only(true).same_site(SameSite::Strict).build()
}

/// Where the request comes from, for handlers.
pub(super) struct From(pub(super) Origin);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let unknown = || Problem::malformed(StatusCode::FORBIDDEN, "the connection has no other end");
        parts.extensions.get::<Origin>().cloned().map(Self).ok_or_else(unknown)
    }
}

/// The session whose token the request carries, for handlers that are about it.
pub(super) struct Current(pub(super) Session, pub(super) Option<Secret>);

/// What [`identify`] leaves of the session in the request.
#[derive(Clone)]
pub(super) struct Carried(pub(super) Session, pub(super) Option<Secret>);

/// They have to choose another password before anything else.
#[derive(Clone, Copy)]
pub(super) struct MustChange;

impl<S: Send + Sync> FromRequestParts<S> for Current {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(Carried(session, csrf)) = parts.extensions.get::<Carried>().cloned() else {
            let reason = Reason::new(Code::LoginRequired, "the request carries no session");
            return Err(Problem::from(OpError::Forbidden(Box::new(reason))));
        };
        Ok(Self(session, csrf))
    }
}

/// Refuses who has to choose another password first, for handlers that the guard lets everybody reach.
pub(super) struct Settled;

impl<S: Send + Sync> FromRequestParts<S> for Settled {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if parts.extensions.get::<MustChange>().is_none() {
            return Ok(Self);
        }
        let reason = Reason::new(Code::PasswordChangeRequired, "another password has to be chosen first");
        Err(Problem::from(OpError::Forbidden(Box::new(reason))))
    }
}
