//! `/v1/roles`: the built-in roles, and those that somebody made.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Guards, Json, Path, Tagged, tag};
use super::{App, Page, Problem};
use crate::control::authz::role::{BUILT_IN, BuiltIn, built_in};
use crate::control::{Caller, OpError};
use crate::store::Role;
use crate::types::access::Permission;

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// It is there without anybody making it, and nobody can change it.
    pub built_in: bool,
    /// What it lets its holders do.
    pub permissions: Vec<Permission>,
    /// Grows with every change; the ETag. 0 of a built-in one.
    pub generation: u64,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// A new role.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// Its name: lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What it lets its holders do; nothing that the caller does not hold on everything.
    #[schema(max_items = 64)]
    pub permissions: Vec<Permission>,
}

/// Another description and other permissions; both are replaced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleAmendRequest {
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What it lets its holders do.
    #[schema(max_items = 64)]
    pub permissions: Vec<Permission>,
}

/// Every role: the built-in ones first.
#[utoipa::path(get, path = "/v1/roles", tag = "access",
    responses((status = 200, body = Page<RoleView>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Caller, State(app): State<App>) -> Result<Json<Page<RoleView>>, Problem> {
    // At most as many as there may be, and each is small.
    let mut made = app.control.store().access().await.map_err(OpError::from)?.roles;
    made.sort_by(|a, b| a.name.cmp(&b.name));
    let items = BUILT_IN.iter().map(RoleView::built_in).chain(made.into_iter().map(RoleView::made)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Makes a role.
#[utoipa::path(post, path = "/v1/roles", tag = "access", request_body = RoleRequest,
    responses((status = 201, body = RoleView), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<RoleRequest>,
) -> Result<Tagged<RoleView>, Problem> {
    let RoleRequest { name, description, permissions } = request;
    let made = app.control.role_create(&caller, name, description, permissions).await?;
    Ok(tag(StatusCode::CREATED, made.generation, RoleView::made(made)))
}

/// One role.
#[utoipa::path(get, path = "/v1/roles/{role}", tag = "access", params(("role" = String, Path)),
    responses((status = 200, body = RoleView), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<RoleView>, Problem> {
    let view = match built_in(&name) {
        Some(role) => RoleView::built_in(role),
        None => RoleView::made(app.control.role_find(&name).await?),
    };
    Ok(tag(StatusCode::OK, view.generation, view))
}

/// Replaces a role's description and permissions; whoever has it may what it says from now on.
#[utoipa::path(put, path = "/v1/roles/{role}", tag = "access", request_body = RoleAmendRequest,
    params(("role" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = RoleView), (status = "default", body = Problem)))]
pub(super) async fn update(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
    guards: Guards,
    Json(request): Json<RoleAmendRequest>,
) -> Result<Tagged<RoleView>, Problem> {
    let RoleAmendRequest { description, permissions } = request;
    let role = app.control.role_update(&caller, &name, description, permissions, guards.generation).await?;
    Ok(tag(StatusCode::OK, role.generation, RoleView::made(role)))
}

/// Removes a role that nobody has.
#[utoipa::path(delete, path = "/v1/roles/{role}", tag = "access", params(("role" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.role_delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl RoleView {
    fn built_in(role: &BuiltIn) -> Self {
        Self {
            name: role.name.to_owned(),
            description: role.description.to_owned(),
            built_in: true,
            permissions: role.permissions.to_vec(),
            generation: 0,
            created_at: None,
            created_by: None,
        }
    }

    fn made(role: Role) -> Self {
        Self {
            name: role.name,
            description: role.description,
            built_in: false,
            permissions: role.permissions,
            generation: role.generation,
            created_at: Some(role.created_at),
            created_by: Some(role.created_by),
        }
    }
}
