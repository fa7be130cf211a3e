//! `/v1/nodes`: which nodes there are, how they run machines, and why so.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Json, Path, Tagged};
use super::{App, Page, Problem};
use crate::control::{Caller, Control, OpError};
use crate::types::step::NodeFacts;

/// A node, and whether it knows what must not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// As it describes itself.
    #[serde(flatten)]
    pub facts: NodeFacts,
    /// Whether it does not go by the newest rules yet: quarantines, releases and overrides. Nothing is started on it
    /// until it does.
    #[serde(default)]
    pub rules_behind: bool,
}

/// Every node.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes",
    responses((status = 200, body = Page<NodeView>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Caller, State(app): State<App>) -> Result<Json<Page<NodeView>>, Problem> {
    Ok(Json(Page { items: views(&app.control).await?, next: None }))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{node}", tag = "nodes", params(("node" = String, Path)),
    responses((status = 200, body = NodeView), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<NodeView>, Problem> {
    let found = views(&app.control).await?.into_iter().find(|node| node.facts.name == name);
    found.map(Tagged::new).ok_or_else(|| Problem::unknown(format!("there is no node {name:?}")))
}

async fn views(control: &Control) -> Result<Vec<NodeView>, OpError> {
    let behind = control.nodes_behind();
    let nodes = control.store().nodes().await?.into_iter();
    Ok(nodes.map(|facts| NodeView { rules_behind: behind.contains(&facts.name), facts }).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::{Value, json};
    use tokio::sync::watch;
    use tower::ServiceExt as _;

    use super::*;
    use crate::api::{Conduct, Ending, router};
    use crate::control::silent::{self, Silent};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_forbids_something_is_told_which_nodes_do_not_know_yet() {
        let dir = tempfile::tempdir().unwrap();
        let deaf = Arc::new(Silent::named("deaf"));
        let control = silent::over(dir.path(), vec![Arc::new(Silent::named("home")), deaf.clone()]).await;
        control.come_up().await.unwrap();
        let (_stopping, stop) = watch::channel(false);
        let (_held, holder) = watch::channel(());
        let conduct = Conduct { drain: Duration::ZERO, least_disk_bytes: 0, metrics_allow: Vec::new() };
        let router = router(App::new(control.clone(), Ending { stop, _held: holder }, conduct));
        let ask = async |method: &str, path: &str, body: Option<Value>| -> Value {
            let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
            request = request.extension(Caller::system());
            let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
            let answer = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
            serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap()
        };
        let behind = async || {
            let nodes = ask("GET", "/v1/nodes", None).await;
            let nodes = nodes["items"].as_array().unwrap().clone();
            nodes.iter().map(|node| (node["name"].clone(), node["rules_behind"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(behind().await, [(json!("deaf"), json!(false)), (json!("home"), json!(false))]);
        deaf.hear(false);
        let wanted = json!({ "target": format!("sha256:{}", "1".repeat(64)), "why": "test" });
        let added = ask("POST", "/v1/quarantines", Some(wanted)).await;
        assert_eq!(added["nodes_behind"], json!(["deaf"]), "{added}");
        assert_eq!(behind().await, [(json!("deaf"), json!(true)), (json!("home"), json!(false))]);
        assert_eq!(ask("GET", "/v1/nodes/deaf", None).await["rules_behind"], json!(true));
    }
}
