//! `/v1/session`, `/v1/sessions`: logging in and out. A browser's token goes into a cookie that no script can read; a
//! program's is answered once.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::authn::{self, Current, From, Head};
use super::extract::{Cursor, Json, Path, Query};
use super::user::after;
use super::{App, Page, Problem};
use crate::control::Caller;
use crate::control::authn::Attempt;
use crate::store::{Session, SessionKind, User};
use crate::types::Secret;

/// Somebody says who they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    /// The name.
    #[schema(max_length = 64)]
    user: String,
    /// The password.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    password: Secret,
    /// A one-time code, or a recovery code, where one is asked for.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only, max_length = 64)]
    code: Option<Secret>,
    /// Where the session's token will be carried; in a cookie where nothing is said.
    #[serde(default = "browser")]
    kind: SessionKind,
}

const fn browser() -> SessionKind {
    SessionKind::Browser
}

/// A session, and whose it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// Whose it is.
    pub user: User,
    /// A browser's requests that change something carry this in `x-csrf-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// A program's token, for `Authorization: Bearer`; it is told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Logs in.
///
/// `login-refused` says that something is wrong and not what; `totp-required` that the password is right and a code is
/// asked for.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = LoginRequest,
    responses((status = 201, body = SessionView), (status = "default", body = Problem)))]
pub(super) async fn login(
    From(from): From,
    State(app): State<App>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response, Problem> {
    let kind = request.kind;
    if kind == SessionKind::Browser {
        // Another site could log somebody in as its own user, and see what they then do.
        authn::same_site(&Head { method: &method, uri: &uri, headers: &headers })?;
    }
    let before = authn::cookie(&headers).filter(|_| kind == SessionKind::Browser);
    let LoginRequest { user, password, code, kind } = request;
    let opened = app.control.login(&Attempt { user, password, code, kind, before }, &from).await?;
    let cookie = (kind == SessionKind::Browser).then(|| authn::set_cookie(&opened.token));
    let token = (kind == SessionKind::Token).then(|| opened.token.reveal().to_owned());
    let csrf = opened.csrf.map(|csrf| csrf.reveal().to_owned());
    let view = SessionView { session: opened.session, user: opened.user, csrf, token };
    Ok((StatusCode::CREATED, secret(), AppendHeaders(cookie), Json(view)).into_response())
}

/// The session that the request carries.
#[utoipa::path(get, path = "/v1/session", tag = "session",
    responses((status = 200, body = SessionView), (status = "default", body = Problem)))]
pub(super) async fn show(
    caller: Caller,
    Current(session, csrf): Current,
    State(app): State<App>,
) -> Result<Response, Problem> {
    let user = app.control.me(&caller).await?;
    let view = SessionView { session, user, csrf: csrf.map(|csrf| csrf.reveal().to_owned()), token: None };
    Ok((secret(), Json(view)).into_response())
}

/// Logs out.
#[utoipa::path(delete, path = "/v1/session", tag = "session",
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn logout(
    caller: Caller,
    Current(session, _): Current,
    State(app): State<App>,
) -> Result<Response, Problem> {
    app.control.session_close(&caller, session.id).await?;
    let cookie = (session.kind == SessionKind::Browser).then(authn::clear_cookie);
    Ok((StatusCode::NO_CONTENT, AppendHeaders(cookie)).into_response())
}

/// The sessions of the user who asks, the oldest first.
#[utoipa::path(get, path = "/v1/sessions", tag = "session", params(Cursor),
    responses((status = 200, body = Page<Session>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<Session>>, Problem> {
    let after = after(&cursor)?;
    let items = app.control.me_sessions(&caller, &after, cursor.limit()).await?;
    Ok(Json(Page::new(items, cursor.limit(), |session: &Session| session.id.to_string())))
}

/// Ends one of the sessions of the user who asks.
#[utoipa::path(delete, path = "/v1/sessions/{session}", tag = "session",
    params(("session" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn revoke(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    app.control.session_close(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// No cache keeps an answer that tells a secret.
pub(super) fn secret() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
