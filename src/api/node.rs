//! `/v1/nodes`: which nodes there are, how they run machines, and why so.

use axum::extract::State;

use super::extract::{Json, Path, Tagged};
use super::{App, Page, Problem};
use crate::control::Caller;
use crate::types::step::NodeFacts;

/// Every node.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes",
    responses((status = 200, body = Page<NodeFacts>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Caller, State(app): State<App>) -> Result<Json<Page<NodeFacts>>, Problem> {
    let items = app.control.store().nodes().await.map_err(crate::control::OpError::from)?;
    Ok(Json(Page { items, next: None }))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{node}", tag = "nodes", params(("node" = String, Path)),
    responses((status = 200, body = NodeFacts), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<NodeFacts>, Problem> {
    let nodes = app.control.store().nodes().await.map_err(crate::control::OpError::from)?;
    let found = nodes.into_iter().find(|node| node.name == name);
    found.map(Tagged).ok_or_else(|| Problem::unknown(format!("there is no node {name:?}")))
}
