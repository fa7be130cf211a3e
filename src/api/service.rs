//! `/v1/services`: which services there are, and what their certificates are known by.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Cursor, Json, Path, Query};
use super::{App, Page, Problem};
use crate::control::Caller;
use crate::store::Service;

/// A service that shall be known.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// Its name: lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub name: String,
    /// What its certificate is known by, any of these: `spki:sha256:…`, `uri:…`, `dns:…`.
    #[schema(min_items = 1, max_items = 32)]
    pub marks: BTreeSet<String>,
}

/// Services by name.
#[utoipa::path(get, path = "/v1/services", tag = "services", params(Cursor),
    responses((status = 200, body = Page<Service>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<Service>>, Problem> {
    let items = app.control.service_list(&cursor.after, cursor.limit()).await?;
    Ok(Json(Page::new(items, cursor.limit(), |service| service.name.clone())))
}

/// Registers a service. What it may do, grants say.
#[utoipa::path(post, path = "/v1/services", tag = "services", request_body = ServiceRequest,
    responses((status = 201, body = Service), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<ServiceRequest>,
) -> Result<(StatusCode, Json<Service>), Problem> {
    let service = app.control.service_create(&caller, &request.name, request.marks).await?;
    Ok((StatusCode::CREATED, Json(service)))
}

/// One service.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "services", params(("service" = String, Path)),
    responses((status = 200, body = Service), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Service>, Problem> {
    Ok(Json(app.control.service_find(&name).await?))
}

/// Removes a service: its certificates open nothing from now on.
#[utoipa::path(delete, path = "/v1/services/{service}", tag = "services", params(("service" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.service_delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
