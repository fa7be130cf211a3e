//! `/v1/me`: who asks, and what they do about themselves.

use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authn::{self, Current, From};
use super::extract::Json;
use super::session::secret;
use super::{App, Problem};
use crate::control::authn::Rotated;
use crate::control::{Caller, OpError};
use crate::store::{SessionKind, User};
use crate::types::Secret;
use crate::types::access::{Permission, Subject};

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// As the audit log names them: `user:alice`, `uid:1000`, `key:ci`.
    pub actor: String,
    /// From where: `socket` or `tls`.
    pub origin: String,
    /// The user, where they are one or act for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What the credential is limited to, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Permission>>,
}

/// Another password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    /// The one that there is.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    present: Secret,
    /// The one that there shall be, of 12 to 128 characters.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    new: Secret,
}

/// The password again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TotpBeginRequest {
    /// The password.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    password: Secret,
}

/// A code of the new seed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TotpConfirmRequest {
    /// The six digits.
    #[schema(value_type = String, write_only, max_length = 64)]
    code: Secret,
}

/// The password and a code, for the last time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TotpRemoveRequest {
    /// The password.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    password: Secret,
    /// A one-time code, or a recovery code.
    #[serde(default)]
    #[schema(value_type = String, write_only, max_length = 64)]
    code: Secret,
}

/// What makes one-time codes. It is told this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TotpView {
    /// For a QR code.
    pub uri: String,
    /// For who has to type it.
    pub seed: String,
}

/// How the session goes on: under another token, and as the only one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RotatedView {
    /// A browser's requests carry this in `x-csrf-token` from now on; the cookie has changed as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// A program's new token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Each lets its holder in once without a one-time code. They are told this once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery_codes: Vec<String>,
}

/// Who asks.
#[utoipa::path(get, path = "/v1/me", tag = "me",
    responses((status = 200, body = MeView), (status = "default", body = Problem)))]
pub(super) async fn show(caller: Caller, State(app): State<App>) -> Result<Json<MeView>, Problem> {
    let user = match &caller.subject {
        Subject::User(id) | Subject::Key { user: id, .. } => {
            app.control.store().user(*id).await.map_err(OpError::from)?
        }
        _ => None,
    };
    let Caller { actor, origin, scopes, .. } = caller;
    let scopes = scopes.map(|scopes| scopes.into_iter().collect());
    Ok(Json(MeView { actor, origin: origin.to_owned(), user, scopes }))
}

/// Chooses another password. Every other session of the user ends.
#[utoipa::path(put, path = "/v1/me/password", tag = "me", request_body = PasswordChange,
    responses((status = 200, body = RotatedView), (status = "default", body = Problem)))]
pub(super) async fn password(
    caller: Caller,
    From(from): From,
    Current(session, _): Current,
    State(app): State<App>,
    Json(request): Json<PasswordChange>,
) -> Result<Response, Problem> {
    let rotated = app.control.me_password(&caller, &session, &request.present, &request.new, &from).await?;
    Ok(answer(session.kind, &rotated))
}

/// Begins to use one-time codes. Nothing changes before one is confirmed.
#[utoipa::path(post, path = "/v1/me/totp", tag = "me", request_body = TotpBeginRequest,
    responses((status = 200, body = TotpView), (status = "default", body = Problem)))]
pub(super) async fn totp_begin(
    caller: Caller,
    From(from): From,
    State(app): State<App>,
    Json(request): Json<TotpBeginRequest>,
) -> Result<Response, Problem> {
    let begun = app.control.me_totp_begin(&caller, &request.password, &from).await?;
    let view = TotpView { uri: begun.uri.reveal().to_owned(), seed: begun.seed.reveal().to_owned() };
    Ok((secret(), Json(view)).into_response())
}

/// Confirms the first code; from now on one is asked for. Answers the recovery codes.
#[utoipa::path(post, path = "/v1/me/totp/confirm", tag = "me", request_body = TotpConfirmRequest,
    responses((status = 200, body = RotatedView), (status = "default", body = Problem)))]
pub(super) async fn totp_confirm(
    caller: Caller,
    From(from): From,
    Current(session, _): Current,
    State(app): State<App>,
    Json(request): Json<TotpConfirmRequest>,
) -> Result<Response, Problem> {
    let rotated = app.control.me_totp_confirm(&caller, &session, &request.code, &from).await?;
    Ok(answer(session.kind, &rotated))
}

/// One-time codes are no longer asked for.
#[utoipa::path(post, path = "/v1/me/totp/remove", tag = "me", request_body = TotpRemoveRequest,
    responses((status = 200, body = RotatedView), (status = "default", body = Problem)))]
pub(super) async fn totp_remove(
    caller: Caller,
    From(from): From,
    Current(session, _): Current,
    State(app): State<App>,
    Json(request): Json<TotpRemoveRequest>,
) -> Result<Response, Problem> {
    let TotpRemoveRequest { password, code } = &request;
    let rotated = app.control.me_totp_remove(&caller, &session, password, code, &from).await?;
    Ok(answer(session.kind, &rotated))
}

fn answer(kind: SessionKind, rotated: &Rotated) -> Response {
    let browser = kind == SessionKind::Browser;
    let view = RotatedView {
        csrf: rotated.csrf.as_ref().map(|csrf| csrf.reveal().to_owned()),
        token: (!browser).then(|| rotated.token.reveal().to_owned()),
        recovery_codes: rotated.recovery.iter().map(|code| code.reveal().to_owned()).collect(),
    };
    let cookie = browser.then(|| authn::set_cookie(&rotated.token));
    (secret(), AppendHeaders(cookie), Json(view)).into_response()
}
