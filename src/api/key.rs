//! `/v1/keys`: API keys. The key itself is in the answer to the request that made it, and nowhere else.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::authn::Settled;
use super::extract::{Cursor, Json, KeyQuery, Path, Query};
use super::{App, Page, Problem};
use crate::control::authn::key::{NewKey, ShownKey};
use crate::control::authz::Resource;
use crate::control::{Caller, OpError};
use crate::store::ApiKey;
use crate::types::access::{Permission, Subject};
use crate::types::{Code, Reason};

/// A key that is wanted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What it is called: letters, digits, dots, hyphens and underscores.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// Whose it is, by identity or name; the caller's own where nothing is said. Another's takes `user.write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub user: Option<String>,
    /// What it may be used for, as far as its owner may.
    #[schema(min_items = 1, max_items = 64)]
    pub scopes: BTreeSet<Permission>,
    /// From where it may be used, as `192.0.2.0/24`; anywhere where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 32)]
    pub addresses: Vec<IpNet>,
    /// How many seconds it lasts; as long as is allowed where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 7_776_000)]
    pub lasts_seconds: Option<u64>,
}

/// How a key is rotated.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// For how many seconds the old key stays valid; a day where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800)]
    pub overlap_seconds: Option<u64>,
}

/// A key, with the key itself: it is shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyShown {
    /// What is kept of it.
    #[serde(flatten)]
    pub key: ApiKey,
    /// The key itself, as it is sent in `Authorization: Bearer`.
    #[schema(pattern = "^dvk_[0-9a-f]{32}_[0-9a-f]{72}$")]
    pub token: String,
}

/// How long a rotated key stays valid where nobody says.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// Answers with a key in them are nobody's to keep.
const NOT_KEPT: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

/// API keys: one's own, or with `user.read` anybody's.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", params(KeyQuery, Cursor),
    responses((status = 200, body = Page<ApiKey>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    _: Settled,
    State(app): State<App>,
    Query(which): Query<KeyQuery>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<ApiKey>>, Problem> {
    let user = match which.user.as_deref() {
        Some("*") => {
            app.control.authorize(&caller, Permission::UserRead, &Resource::Everything).await?;
            None
        }
        named => Some(owner(&app, &caller, named, Permission::UserRead).await?),
    };
    let items = app.control.key_list(user, &cursor.after, cursor.limit()).await?;
    Ok(Json(Page::new(items, cursor.limit(), |key| key.id.to_string())))
}

/// Makes an API key. It is shown in this answer and never again.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = KeyRequest,
    responses((status = 201, body = KeyShown), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    _: Settled,
    State(app): State<App>,
    Json(request): Json<KeyRequest>,
) -> Result<Response, Problem> {
    let owner = owner(&app, &caller, request.user.as_deref(), Permission::UserWrite).await?;
    on_behalf(&app, &caller, owner).await?;
    let wanted = NewKey {
        name: request.name,
        scopes: request.scopes,
        addresses: request.addresses,
        lasts: request.lasts_seconds.map(seconds),
    };
    Ok(shown(app.control.key_create(&caller, owner, wanted).await?))
}

/// One API key.
#[utoipa::path(get, path = "/v1/keys/{key}", tag = "keys", params(("key" = String, Path, format = "uuid")),
    responses((status = 200, body = ApiKey), (status = "default", body = Problem)))]
pub(super) async fn show(
    caller: Caller,
    _: Settled,
    State(app): State<App>,
    Path(id): Path<Uuid>,
) -> Result<Json<ApiKey>, Problem> {
    Ok(Json(reachable(&app, &caller, id, Permission::UserRead).await?))
}

/// Makes a key that takes this one's place; this one stays valid for the overlap.
#[utoipa::path(post, path = "/v1/keys/{key}/rotate", tag = "keys", params(("key" = String, Path, format = "uuid")),
    request_body = RotateRequest,
    responses((status = 201, body = KeyShown), (status = "default", body = Problem)))]
pub(super) async fn rotate(
    caller: Caller,
    _: Settled,
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Json(request): Json<RotateRequest>,
) -> Result<Response, Problem> {
    let key = reachable(&app, &caller, id, Permission::UserWrite).await?;
    on_behalf(&app, &caller, key.user).await?;
    let overlap = request.overlap_seconds.map_or(OVERLAP, seconds);
    Ok(shown(app.control.key_rotate(&caller, id, overlap).await?))
}

/// Revokes an API key: it opens nothing from now on.
#[utoipa::path(delete, path = "/v1/keys/{key}", tag = "keys", params(("key" = String, Path, format = "uuid")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn revoke(
    caller: Caller,
    _: Settled,
    State(app): State<App>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    reachable(&app, &caller, id, Permission::UserWrite).await?;
    app.control.key_revoke(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The user that the request is about: the caller, or somebody else where the caller may.
async fn owner(app: &App, caller: &Caller, named: Option<&str>, permission: Permission) -> Result<Uuid, Problem> {
    let own = user_of(caller);
    match (named, own) {
        (None, Some(own)) => Ok(own),
        (None, None) => {
            let reason = Reason::new(Code::CredentialMalformed, "the caller is no user; name one in user")
                .hint("whose key shall it be? debvisor token create NAME --user USER");
            Err(OpError::Invalid(Box::new(reason)).into())
        }
        (Some(named), own) => {
            let found = app.control.user_find(named).await;
            // Who may not see users does not learn from the answer which there are.
            if !found.as_ref().is_ok_and(|user| Some(user.id) == own) {
                app.control.authorize(caller, permission, &Resource::Everything).await?;
            }
            Ok(found?.id)
        }
    }
}

/// Who gets a key of somebody else can ask as them: that takes what giving them a role takes.
async fn on_behalf(app: &App, caller: &Caller, owner: Uuid) -> Result<(), Problem> {
    if user_of(caller) != Some(owner) {
        app.control.authorize(caller, Permission::AccessWrite, &Resource::Everything).await?;
    }
    Ok(())
}

/// The key, where it is the caller's own or the caller may; where not, there is none.
async fn reachable(app: &App, caller: &Caller, id: Uuid, permission: Permission) -> Result<ApiKey, Problem> {
    let found = app.control.key_find(id).await;
    let own = user_of(caller);
    if !found.as_ref().is_ok_and(|key| Some(key.user) == own) {
        app.control.authorize(caller, permission, &Resource::Everything).await?;
    }
    Ok(found?)
}

fn user_of(caller: &Caller) -> Option<Uuid> {
    match &caller.subject {
        Subject::User(user) | Subject::Key { user, .. } => Some(*user),
        _ => None,
    }
}

fn shown(shown: ShownKey) -> Response {
    let body = KeyShown { key: shown.key, token: shown.token.to_string() };
    (StatusCode::CREATED, NOT_KEPT, Json(body)).into_response()
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}
