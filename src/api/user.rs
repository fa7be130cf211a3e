//! `/v1/users`: people, as administrators make, change and remove them.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{Cursor, Guards, Json, Path, Query, Tagged, tag};
use super::{App, Page, Problem};
use crate::control::ops::user::{NewUser, UserPatch};
use crate::control::{Caller, OpError};
use crate::store::{Session, User};
use crate::types::Secret;
use crate::types::access::BuiltinRole;

/// Somebody who shall be able to log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserRequest {
    /// The name: letters, digits and `. _ - @ +`.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// A built-in role on everything.
    #[serde(default)]
    role: Option<BuiltinRole>,
    /// The password, of 12 to 128 characters; without one they come by an identity provider.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password, write_only, max_length = 1024)]
    password: Option<Secret>,
    /// They have to choose another password before anything else.
    #[serde(default)]
    must_change: bool,
}

/// What shall be otherwise; what is not named stays as it is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatchRequest {
    /// A built-in role on everything; `null` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<BuiltinRole>)]
    pub role: Option<Option<BuiltinRole>>,
    /// Whether they are kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Whether they have to choose another password before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_change: Option<bool>,
}

/// A value that is there, were it `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Another password for somebody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordRequest {
    /// The password, of 12 to 128 characters.
    #[schema(value_type = String, format = Password, write_only, max_length = 1024)]
    password: Secret,
    /// They have to choose another one before anything else.
    #[serde(default)]
    must_change: bool,
}

/// Users, in the order in which they were made known.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(Cursor),
    responses((status = 200, body = Page<User>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<User>>, Problem> {
    let after = after(&cursor)?;
    let items = app.control.store().users(&after, cursor.limit()).await.map_err(OpError::from)?;
    Ok(Json(Page::new(items, cursor.limit(), |user: &User| user.id.to_string())))
}

/// Makes somebody known.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = UserRequest,
    responses((status = 201, body = User), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<UserRequest>,
) -> Result<Tagged<User>, Problem> {
    let UserRequest { name, role, password, must_change } = request;
    let user = app.control.user_create(&caller, NewUser { name, role, password, must_change }).await?;
    Ok(tag(StatusCode::CREATED, user.generation, user))
}

/// One user, by identity or name.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
) -> Result<Tagged<User>, Problem> {
    Ok(tagged(app.control.user_find(&reference).await?))
}

/// Keeps somebody out, lets them in again, gives them another role. Who is kept out or has another role is logged out.
#[utoipa::path(patch, path = "/v1/users/{user}", tag = "users", request_body = UserPatchRequest,
    params(("user" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
pub(super) async fn update(
    caller: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
    guards: Guards,
    Json(request): Json<UserPatchRequest>,
) -> Result<Tagged<User>, Problem> {
    let UserPatchRequest { role, disabled, must_change } = request;
    let patch = UserPatch { role, disabled, must_change };
    Ok(tagged(app.control.user_change(&caller, &reference, patch, guards.generation).await?))
}

/// Removes somebody; their sessions end.
#[utoipa::path(delete, path = "/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.user_delete(&caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives somebody another password; their sessions end.
#[utoipa::path(put, path = "/v1/users/{user}/password", tag = "users", request_body = PasswordRequest,
    params(("user" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
pub(super) async fn password(
    caller: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
    Json(request): Json<PasswordRequest>,
) -> Result<Tagged<User>, Problem> {
    let PasswordRequest { password, must_change } = &request;
    Ok(tagged(app.control.user_password(&caller, &reference, password, *must_change).await?))
}

/// Somebody lost what makes their one-time codes: none are asked for any more, and their sessions end.
#[utoipa::path(delete, path = "/v1/users/{user}/totp", tag = "users", params(("user" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
pub(super) async fn totp_remove(
    caller: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
) -> Result<Tagged<User>, Problem> {
    Ok(tagged(app.control.user_totp_remove(&caller, &reference).await?))
}

/// The sessions of somebody, the oldest first.
#[utoipa::path(get, path = "/v1/users/{user}/sessions", tag = "users", params(("user" = String, Path), Cursor),
    responses((status = 200, body = Page<Session>), (status = "default", body = Problem)))]
pub(super) async fn sessions(
    _: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<Session>>, Problem> {
    let after = after(&cursor)?;
    let items = app.control.user_sessions(&reference, &after, cursor.limit()).await?;
    Ok(Json(Page::new(items, cursor.limit(), |session: &Session| session.id.to_string())))
}

/// Logs somebody out everywhere.
#[utoipa::path(delete, path = "/v1/users/{user}/sessions", tag = "users", params(("user" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn sessions_close(
    caller: Caller,
    State(app): State<App>,
    Path(reference): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = app.control.user_find(&reference).await?;
    app.control.sessions_close(&caller, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The cursor, which is an identity.
pub(super) fn after(cursor: &Cursor) -> Result<String, Problem> {
    let bad = |_| Problem::malformed(StatusCode::BAD_REQUEST, "`after` is no cursor of this list");
    if cursor.after.is_empty() {
        Ok(String::new())
    } else {
        cursor.after.parse::<Uuid>().map(|id| id.to_string()).map_err(bad)
    }
}

fn tagged(user: User) -> Tagged<User> {
    tag(StatusCode::OK, user.generation, user)
}
