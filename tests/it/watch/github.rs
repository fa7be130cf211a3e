//! A stand-in of GitHub's REST API on loopback: releases, assets, tags, attestations, issues and comments, with its
//! pages, entity tags and rate limits. It keeps what it is told, and a test may change what is there under its hands.
//!
//! Its answers have the members of GitHub's own that are used; `recorded.rs` holds them against answers that GitHub
//! really gave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use serde_json::{Value, json};

/// What is behind the interface.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// By `owner/repo`, then tag.
    pub(crate) releases: BTreeMap<String, BTreeMap<String, Published>>,
    /// By `owner/repo` and digest: bundles.
    pub(crate) attestations: BTreeMap<(String, String), Vec<Value>>,
    pub(crate) issues: Vec<Value>,
    pub(crate) comments: Vec<(u64, Value)>,
    /// Every request: method, path with query, status.
    pub(crate) log: Vec<(String, String, u16)>,
    /// Asset bytes that were sent.
    pub(crate) sent_bytes: u64,
    /// The next requests whose path contains the text are answered so, that many times.
    pub(crate) troubles: Vec<Trouble>,
    /// The connection breaks after so many bytes of an asset, once for each entry.
    pub(crate) cut_after: Vec<usize>,
    /// Assets of so many zeros, by their numbers: what nobody holds in memory.
    pub(crate) huge: BTreeMap<u64, u64>,
    /// Bytes of files are sent no faster than a piece each so many milliseconds.
    pub(crate) slow_ms: u64,
    /// The host that assets are redirected to.
    pub(crate) asset_host: String,
    next_id: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) path: String,
    pub(crate) times: usize,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    pub(crate) commit: String,
    /// By name: the asset's number and its bytes.
    pub(crate) assets: BTreeMap<String, (u64, Bytes)>,
}

#[derive(Clone)]
struct Api {
    hub: Arc<Mutex<Hub>>,
}

/// A running stand-in; it ends with the test's process.
#[derive(Clone)]
pub(crate) struct Github {
    hub: Arc<Mutex<Hub>>,
    address: SocketAddr,
}

pub(crate) const TOKEN: &str = "ghs_secret";

impl Github {
    pub(crate) fn start() -> Self {
        let hub = Arc::new(Mutex::new(Hub { next_id: 1, ..Hub::default() }));
        let api = serve(router(Api { hub: Arc::clone(&hub) }));
        let files = serve(Router::new().route("/files/{id}", get(file)).with_state(Api { hub: Arc::clone(&hub) }));
        hub.lock().unwrap().asset_host = format!("http://{files}");
        Self { hub, address: api }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap()
    }

    /// Publishes a release of these files.
    pub(crate) fn publish(&self, repository: &str, tag: &str, files: &[(String, Vec<u8>)]) {
        let mut hub = self.hub();
        let mut published = Published { commit: format!("{:040x}", tag.len()), ..Published::default() };
        for (name, bytes) in files {
            let id = hub.new_id();
            published.assets.insert(name.clone(), (id, Bytes::from(bytes.clone())));
        }
        hub.releases.entry(repository.to_owned()).or_default().insert(tag.to_owned(), published);
    }

    /// The open issues' titles.
    pub(crate) fn open_issues(&self) -> Vec<String> {
        let hub = self.hub();
        let open = hub.issues.iter().filter(|issue| issue["state"] == "open");
        open.map(|issue| issue["title"].as_str().unwrap().to_owned()).collect()
    }
}

impl Hub {
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn release(&mut self, repository: &str, tag: &str) -> &mut Published {
        self.releases.get_mut(repository).unwrap().get_mut(tag).unwrap()
    }

    /// Puts other bytes in the place of an asset, as an upload of the same name does.
    pub(crate) fn replace(&mut self, repository: &str, tag: &str, name: &str, bytes: &[u8]) {
        let id = self.new_id();
        self.release(repository, tag).assets.insert(name.to_owned(), (id, Bytes::copy_from_slice(bytes)));
    }
}

fn serve(router: Router) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    address
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/repos/{owner}/{repo}/releases", get(release_list))
        .route("/repos/{owner}/{repo}/releases/tags/{tag}", get(release_by_tag))
        .route("/repos/{owner}/{repo}/releases/{id}/assets", get(asset_list))
        .route("/repos/{owner}/{repo}/releases/assets/{id}", get(asset))
        .route("/repos/{owner}/{repo}/git/ref/tags/{tag}", get(reference))
        .route("/repos/{owner}/{repo}/git/tags/{sha}", get(annotated))
        .route("/repos/{owner}/{repo}/attestations/{digest}", get(attestations))
        .route("/repos/{owner}/{repo}/issues", get(issue_list).post(issue_create))
        .route("/repos/{owner}/{repo}/issues/{number}", patch(issue_update))
        .route("/repos/{owner}/{repo}/issues/{number}/comments", get(comment_list).post(comment_create))
        .route("/repos/{owner}/{repo}/issues/comments/{id}", patch(comment_update))
        .route("/hook", post(|| async { StatusCode::NO_CONTENT }))
        .layer(from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// What stands around every answer: troubles, the token, entity tags, the log.
async fn around(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().to_string());
    let headers = request.headers().clone();
    let trouble = {
        let mut hub = api.hub.lock().unwrap();
        let found = hub.troubles.iter_mut().find(|trouble| trouble.times > 0 && path.contains(&trouble.path));
        found.map(|trouble| {
            trouble.times -= 1;
            trouble.clone()
        })
    };
    let response = if let Some(trouble) = trouble {
        let mut response = (StatusCode::from_u16(trouble.status).unwrap(), trouble.body).into_response();
        for (name, value) in trouble.headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    } else if headers.get("authorization").is_some_and(|value| value != &format!("Bearer {TOKEN}")) {
        (StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "Bad credentials"}))).into_response()
    } else if method != Method::GET && headers.get("authorization").is_none() {
        (StatusCode::FORBIDDEN, axum::Json(json!({"message": "Resource not accessible by integration"})))
            .into_response()
    } else {
        tagged(next.run(request).await, &method, &headers).await
    };
    api.hub.lock().unwrap().log.push((method.to_string(), path, response.status().as_u16()));
    response
}

/// Answers a conditional request as GitHub does: 304 where nothing changed.
async fn tagged(response: Response, method: &Method, headers: &HeaderMap) -> Response {
    if method != Method::GET || response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let link = head.headers.get("link").map(|link| link.to_str().unwrap().to_owned()).unwrap_or_default();
    let tag = format!("\"{}\"", debvisor::types::Digest::sha256(&[&body, link.as_bytes()].concat()).to_hex());
    if headers.get("if-none-match").is_some_and(|known| *known == tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    head.headers.insert(header::ETAG, tag.parse().unwrap());
    Response::from_parts(head, Body::from(body))
}

type Repo = (String, String);

fn missing() -> Response {
    (StatusCode::NOT_FOUND, axum::Json(json!({"message": "Not Found", "status": "404"}))).into_response()
}

/// One page of a list, with the `Link` that leads on.
fn page(items: Vec<Value>, query: &BTreeMap<String, String>) -> Response {
    let number = |name: &str, default: usize| query.get(name).map_or(default, |text| text.parse().unwrap());
    let (size, index) = (number("per_page", 30), number("page", 1));
    let more = items.len() > size * index;
    let items: Vec<Value> = items.into_iter().skip(size * (index - 1)).take(size).collect();
    let mut response = axum::Json(items).into_response();
    if more {
        let link = format!("<https://api.github.com/next?page={}>; rel=\"next\"", index + 1);
        response.headers_mut().insert("link", link.parse().unwrap());
    }
    response
}

fn asset_json(name: &str, id: u64, bytes: &Bytes, huge: &BTreeMap<u64, u64>) -> Value {
    if let Some(size) = huge.get(&id) {
        return json!({"id": id, "name": name, "size": size, "state": "uploaded", "updated_at": "2026-01-01T00:00:00Z"});
    }
    let digest = debvisor::types::Digest::sha256(bytes).to_string();
    json!({
        "id": id, "name": name, "size": bytes.len(), "state": "uploaded", "digest": digest,
        "content_type": "application/octet-stream", "updated_at": format!("2026-01-01T00:00:00Z#{id}"),
    })
}

fn release_json(tag: &str, published: &Published, huge: &BTreeMap<u64, u64>) -> Value {
    let assets: Vec<Value> =
        published.assets.iter().map(|(name, (id, bytes))| asset_json(name, *id, bytes, huge)).collect();
    // As GitHub does, a release shows its first assets only.
    let shown: Vec<Value> = assets.into_iter().take(100).collect();
    let id = published.assets.values().map(|(id, _)| *id).min().unwrap_or(1);
    json!({
        "id": id, "tag_name": tag, "name": tag, "draft": false, "prerelease": false,
        "html_url": format!("https://github.com/x/releases/tag/{tag}"), "assets": shown,
    })
}

async fn release_list(
    State(api): State<Api>,
    Path((owner, repo)): Path<Repo>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let hub = api.hub.lock().unwrap();
    let Some(releases) = hub.releases.get(&format!("{owner}/{repo}")) else { return missing() };
    page(releases.iter().map(|(tag, published)| release_json(tag, published, &hub.huge)).collect(), &query)
}

async fn release_by_tag(State(api): State<Api>, Path((owner, repo, tag)): Path<(String, String, String)>) -> Response {
    let hub = api.hub.lock().unwrap();
    let published = hub.releases.get(&format!("{owner}/{repo}")).and_then(|releases| releases.get(&tag));
    published.map_or_else(missing, |published| axum::Json(release_json(&tag, published, &hub.huge)).into_response())
}

async fn asset_list(
    State(api): State<Api>,
    Path((owner, repo, id)): Path<(String, String, u64)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let hub = api.hub.lock().unwrap();
    let releases = hub.releases.get(&format!("{owner}/{repo}")).into_iter().flat_map(BTreeMap::values);
    let found = releases.into_iter().find(|published| published.assets.values().map(|(id, _)| *id).min() == Some(id));
    found.map_or_else(missing, |published| {
        page(
            published.assets.iter().map(|(name, (id, bytes))| asset_json(name, *id, bytes, &hub.huge)).collect(),
            &query,
        )
    })
}

/// GitHub keeps no file at its API: it sends the client to a host of files, with a signed address.
async fn asset(State(api): State<Api>, Path((_, _, id)): Path<(String, String, u64)>) -> Response {
    let hub = api.hub.lock().unwrap();
    let place = format!("{}/files/{id}?signature=abc", hub.asset_host);
    (StatusCode::FOUND, [(header::LOCATION, place)]).into_response()
}

async fn file(State(api): State<Api>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let mut hub = api.hub.lock().unwrap();
    // A token that comes along has leaked.
    if headers.contains_key("authorization") {
        hub.log.push(("LEAK".to_owned(), format!("/files/{id}"), 400));
        return StatusCode::BAD_REQUEST.into_response();
    }
    let found = hub.releases.values().flat_map(BTreeMap::values).flat_map(|published| published.assets.values());
    let Some(bytes) = found.into_iter().find(|(asset, _)| *asset == id).map(|(_, bytes)| bytes.clone()) else {
        return missing();
    };
    let from = headers.get("range").and_then(|range| range.to_str().ok());
    let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    hub.log.push(("GET".to_owned(), format!("/files/{id}"), status.as_u16()));
    if let Some(size) = hub.huge.get(&id).copied() {
        return zeros(size - from.unwrap_or(0) as u64, status, hub.slow_ms, Arc::clone(&api.hub));
    }
    let rest = bytes.slice(from.unwrap_or(0).min(bytes.len())..);
    let cut = if hub.cut_after.is_empty() { None } else { Some(hub.cut_after.remove(0)) };
    let cut = cut.filter(|cut| *cut < rest.len());
    hub.sent_bytes += cut.unwrap_or(rest.len()) as u64;
    let length = rest.len().to_string();
    let body = match cut {
        None => Body::from(rest),
        Some(cut) => {
            let pieces = futures_util::stream::unfold(Some(rest.slice(..cut)), |piece| async move {
                if let Some(piece) = piece {
                    return Some((Ok(piece), None));
                }
                // What was sent is on its way before the connection breaks.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Some((Err(std::io::Error::other("the connection broke")), None))
            });
            Body::from_stream(pieces)
        }
    };
    (status, [(header::CONTENT_LENGTH, length)], body).into_response()
}

/// So many zeros, in pieces of a mebibyte; what was sent is counted.
fn zeros(size: u64, status: StatusCode, slow_ms: u64, hub: Arc<Mutex<Hub>>) -> Response {
    const PIECE: usize = 1024 * 1024;
    let piece = Bytes::from(vec![0; PIECE]);
    let pieces = futures_util::stream::unfold(size, move |left| {
        let (piece, hub) = (piece.clone(), Arc::clone(&hub));
        async move {
            if left == 0 {
                return None;
            }
            if slow_ms > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(slow_ms)).await;
            }
            let next = piece.slice(..usize::try_from(left.min(PIECE as u64)).unwrap());
            hub.lock().unwrap().sent_bytes += next.len() as u64;
            let left = left - next.len() as u64;
            Some((Ok::<_, std::io::Error>(next), left))
        }
    });
    (status, [(header::CONTENT_LENGTH, size.to_string())], Body::from_stream(pieces)).into_response()
}

async fn reference(State(api): State<Api>, Path((owner, repo, tag)): Path<(String, String, String)>) -> Response {
    let hub = api.hub.lock().unwrap();
    let published = hub.releases.get(&format!("{owner}/{repo}")).and_then(|releases| releases.get(&tag));
    // Annotated tags: the reference leads to a tag, and that to the commit.
    published.map_or_else(missing, |published| {
        axum::Json(json!({"ref": format!("refs/tags/{tag}"), "object": {"sha": format!("tag{}", published.commit), "type": "tag"}}))
            .into_response()
    })
}

async fn annotated(Path((_, _, sha)): Path<(String, String, String)>) -> Response {
    let commit = sha.strip_prefix("tag").unwrap();
    axum::Json(json!({"sha": sha, "object": {"sha": commit, "type": "commit"}})).into_response()
}

async fn attestations(State(api): State<Api>, Path((owner, repo, digest)): Path<(String, String, String)>) -> Response {
    let hub = api.hub.lock().unwrap();
    match hub.attestations.get(&(format!("{owner}/{repo}"), digest)) {
        None => missing(),
        Some(bundles) => {
            let list: Vec<Value> = bundles.iter().map(|bundle| json!({"bundle": bundle, "repository_id": 1})).collect();
            axum::Json(json!({"attestations": list})).into_response()
        }
    }
}

async fn issue_list(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let hub = api.hub.lock().unwrap();
    let label = query.get("labels");
    let wanted = |issue: &&Value| {
        label.is_none_or(|label| issue["labels"].as_array().unwrap().iter().any(|known| known["name"] == **label))
    };
    page(hub.issues.iter().rev().filter(wanted).cloned().collect(), &query)
}

fn labels(value: &Value) -> Value {
    let names = value["labels"].as_array().cloned().unwrap_or_default();
    names.into_iter().map(|name| json!({"name": name})).collect()
}

async fn issue_create(State(api): State<Api>, axum::Json(new): axum::Json<Value>) -> Response {
    let mut hub = api.hub.lock().unwrap();
    let number = hub.issues.len() as u64 + 1;
    let issue = json!({
        "number": number, "title": new["title"], "body": new["body"], "state": "open", "labels": labels(&new),
        "html_url": format!("https://github.com/o/r/issues/{number}"),
    });
    hub.issues.push(issue.clone());
    (StatusCode::CREATED, axum::Json(issue)).into_response()
}

async fn issue_update(
    State(api): State<Api>,
    Path((_, _, number)): Path<(String, String, u64)>,
    axum::Json(change): axum::Json<Value>,
) -> Response {
    let mut hub = api.hub.lock().unwrap();
    let Some(issue) = hub.issues.iter_mut().find(|issue| issue["number"] == number) else { return missing() };
    for name in ["title", "body", "state", "state_reason"] {
        if !change[name].is_null() {
            issue[name] = change[name].clone();
        }
    }
    if !change["labels"].is_null() {
        issue["labels"] = labels(&change);
    }
    axum::Json(issue.clone()).into_response()
}

async fn comment_list(
    State(api): State<Api>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let hub = api.hub.lock().unwrap();
    let found = hub.comments.iter().filter(|(of, _)| *of == number).map(|(_, comment)| comment.clone());
    page(found.collect(), &query)
}

async fn comment_create(
    State(api): State<Api>,
    Path((_, _, number)): Path<(String, String, u64)>,
    axum::Json(new): axum::Json<Value>,
) -> Response {
    let mut hub = api.hub.lock().unwrap();
    let comment = json!({"id": hub.new_id(), "body": new["body"]});
    hub.comments.push((number, comment.clone()));
    (StatusCode::CREATED, axum::Json(comment)).into_response()
}

async fn comment_update(
    State(api): State<Api>,
    Path((_, _, id)): Path<(String, String, u64)>,
    axum::Json(change): axum::Json<Value>,
) -> Response {
    let mut hub = api.hub.lock().unwrap();
    let Some((_, comment)) = hub.comments.iter_mut().find(|(_, comment)| comment["id"] == id) else { return missing() };
    comment["body"] = change["body"].clone();
    axum::Json(comment.clone()).into_response()
}
