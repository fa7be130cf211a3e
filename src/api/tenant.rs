//! `/v1/tenants` and `/v1/projects`: who has machines of their own, how much they may take, and how much they do.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Cursor, Guards, Json, Path, Query, Tagged, tag};
use super::{App, Page, Problem};
use crate::control::authz::Resource;
use crate::control::{Caller, OpError};
use crate::store::{Amended, Project, Quota, Tenant, Usage};
use crate::types::access::Permission;

/// A tenant, and what its projects take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Its name, which nobody else has and which it keeps.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What its projects may take together.
    pub quota: Quota,
    /// What they take.
    pub usage: Usage,
    /// Grows with every change; the ETag.
    pub generation: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A project, and what its machines take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Its name, which no other project of any tenant has, and which it keeps.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is.
    pub description: String,
    /// What its machines may take together; its tenant's quota counts as well.
    pub quota: Quota,
    /// What they take.
    pub usage: Usage,
    /// Grows with every change; the ETag.
    pub generation: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A new tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    /// Its name: lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub name: String,
    /// What it is.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What its projects may take together; what is not named is not limited.
    #[serde(default)]
    pub quota: Quota,
}

/// A new project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRequest {
    /// Its name: lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub name: String,
    /// Whose it is.
    #[schema(min_length = 1, max_length = 63)]
    pub tenant: String,
    /// What it is.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What its machines may take together; what is not named is not limited.
    #[serde(default)]
    pub quota: Quota,
}

/// Another description and another quota; both are replaced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmendRequest {
    /// What it is.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What may be taken; what is not named is not limited.
    #[serde(default)]
    pub quota: Quota,
}

/// The tenants that the caller may see, by name.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(Cursor),
    responses((status = 200, body = Page<TenantView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<TenantView>>, Problem> {
    let names = app.control.tenants_in_sight(&caller).await?;
    let found = app.control.store().tenants(names.only(), &cursor.after, cursor.limit()).await;
    let items = found.map_err(OpError::from)?.into_iter().map(|(tenant, usage)| TenantView::new(tenant, usage));
    Ok(Json(Page::new(items.collect(), cursor.limit(), |view| view.name.clone())))
}

/// Makes a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = TenantRequest,
    responses((status = 201, body = TenantView), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<TenantRequest>,
) -> Result<Tagged<TenantView>, Problem> {
    let TenantRequest { name, description, quota } = request;
    let made = app.control.tenant_create(&caller, name, description, quota).await?;
    Ok(tag(StatusCode::CREATED, 1, TenantView::new(made, Usage::default())))
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 200, body = TenantView), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<TenantView>, Problem> {
    let (tenant, usage) = app.control.tenant_find(&name).await?;
    Ok(tag(StatusCode::OK, tenant.generation, TenantView::new(tenant, usage)))
}

/// Replaces a tenant's description and quota. What is taken already stays.
#[utoipa::path(put, path = "/v1/tenants/{tenant}", tag = "tenants", request_body = AmendRequest,
    params(("tenant" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = TenantView), (status = "default", body = Problem)))]
pub(super) async fn update(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
    guards: Guards,
    Json(request): Json<AmendRequest>,
) -> Result<Tagged<TenantView>, Problem> {
    app.control.tenant_update(&caller, &name, amended(request, &guards)).await?;
    let (tenant, usage) = app.control.tenant_find(&name).await?;
    Ok(tag(StatusCode::OK, tenant.generation, TenantView::new(tenant, usage)))
}

/// Removes a tenant that has no projects, and what was granted on it.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.tenant_delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The projects that the caller may see, by name.
#[utoipa::path(get, path = "/v1/projects", tag = "tenants", params(Cursor),
    responses((status = 200, body = Page<ProjectView>), (status = "default", body = Problem)))]
pub(super) async fn projects(
    caller: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<ProjectView>>, Problem> {
    let names = app.control.projects_in_sight(&caller).await?;
    let found = app.control.store().projects(names.only(), &cursor.after, cursor.limit()).await;
    let items = found.map_err(OpError::from)?.into_iter().map(|(project, usage)| ProjectView::new(project, usage));
    Ok(Json(Page::new(items.collect(), cursor.limit(), |view| view.name.clone())))
}

/// Makes a project of a tenant.
#[utoipa::path(post, path = "/v1/projects", tag = "tenants", request_body = ProjectRequest,
    responses((status = 201, body = ProjectView), (status = "default", body = Problem)))]
pub(super) async fn project_create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<ProjectRequest>,
) -> Result<Tagged<ProjectView>, Problem> {
    let ProjectRequest { name, tenant, description, quota } = request;
    app.control.authorize(&caller, Permission::TenantWrite, &Resource::Tenant(tenant.clone())).await?;
    let made = app.control.project_create(&caller, tenant, name, description, quota).await?;
    Ok(tag(StatusCode::CREATED, 1, ProjectView::new(made, Usage::default())))
}

/// One project.
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "tenants", params(("project" = String, Path)),
    responses((status = 200, body = ProjectView), (status = "default", body = Problem)))]
pub(super) async fn project_show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<ProjectView>, Problem> {
    let (project, usage) = app.control.project_find(&name).await?;
    Ok(tag(StatusCode::OK, project.generation, ProjectView::new(project, usage)))
}

/// Replaces a project's description and quota. What is taken already stays.
#[utoipa::path(put, path = "/v1/projects/{project}", tag = "tenants", request_body = AmendRequest,
    params(("project" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = ProjectView), (status = "default", body = Problem)))]
pub(super) async fn project_update(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
    guards: Guards,
    Json(request): Json<AmendRequest>,
) -> Result<Tagged<ProjectView>, Problem> {
    app.control.project_update(&caller, &name, amended(request, &guards)).await?;
    let (project, usage) = app.control.project_find(&name).await?;
    Ok(tag(StatusCode::OK, project.generation, ProjectView::new(project, usage)))
}

/// Removes a project that has no machines, and what was granted on it.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "tenants", params(("project" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn project_delete(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.project_delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn amended(request: AmendRequest, guards: &Guards) -> Amended {
    Amended { if_generation: guards.generation, description: request.description, quota: request.quota }
}

impl TenantView {
    fn new(tenant: Tenant, usage: Usage) -> Self {
        let Tenant { name, description, quota, generation, created_at, created_by } = tenant;
        Self { name, description, quota, usage, generation, created_at, created_by }
    }
}

impl ProjectView {
    fn new(project: Project, usage: Usage) -> Self {
        let Project { name, tenant, description, quota, generation, created_at, created_by } = project;
        Self { name, tenant, description, quota, usage, generation, created_at, created_by }
    }
}
