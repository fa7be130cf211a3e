//! What every answer has, whatever it is: the version, header fields that keep browsers from misusing it, an end in
//! time, and a problem document where nothing else came out of a handler.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::access::TABLE;
use super::error::{PROBLEM, Problem};
use super::peer::Peer;
use super::version;
use crate::types::{Code, Reason, limits};

/// The header fields of every answer that does not say otherwise itself.
const FIELDS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("debvisor-api-version"), version::API),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds what every answer has.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let wanted = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path().to_owned();
    let over_tls = matches!(request.extensions().get(), Some(Peer::Remote(_)));
    let answer = next.run(request).await;
    let mut answer = if reads { unless_known(answer, &wanted) } else { answer };
    let status = answer.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let ours = |kind: &HeaderValue| kind == PROBLEM || kind == "application/json";
    if is_error && !answer.headers().get(header::CONTENT_TYPE).is_some_and(ours) {
        // Said by a library, in its own words.
        let text = status.canonical_reason().unwrap_or("it is refused");
        answer = Problem::malformed(status, text).into_response();
    }
    let fields = answer.headers_mut();
    for (name, value) in FIELDS {
        fields.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if over_tls {
        // Browsers keep to TLS from then on (RFC 6797); elsewhere the field has no meaning.
        fields.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            fields.entry(header::WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer realm=\"debvisor\""));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            if let Ok(allowed) = HeaderValue::from_str(&methods_of(&path)) {
                fields.insert(header::ALLOW, allowed);
            }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            fields.entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
        }
        _ => {}
    }
    answer
}

/// An answer that the caller has already (RFC 9110 section 13.1.2) goes without its body.
fn unless_known(answer: Response, wanted: &[HeaderValue]) -> Response {
    let Some(tag) = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return answer };
    let same = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag;
    let mut lists = wanted.iter().filter_map(|list| list.to_str().ok());
    if answer.status() != StatusCode::OK || !lists.any(|list| list.split(',').map(str::trim).any(same)) {
        return answer;
    }
    let mut fields = HeaderMap::new();
    fields.extend(answer.headers().get(header::ETAG).map(|tag| (header::ETAG, tag.clone())));
    (StatusCode::NOT_MODIFIED, fields).into_response()
}

/// The methods that an address knows.
fn methods_of(path: &str) -> String {
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let asked = parts(path);
    // A part that is written out is meant before one that has a name.
    let fits = |known: &str| {
        let known = parts(known);
        let same = known.len() == asked.len()
            && known.iter().zip(&asked).all(|(known, asked)| known == asked || known.starts_with('{'));
        same.then(|| known.iter().filter(|part| part.starts_with('{')).count())
    };
    let nearest = TABLE.iter().filter_map(|(_, known, _)| fits(known)).min();
    let mut methods: Vec<&str> = TABLE
        .iter()
        .filter(|(_, known, _)| nearest.is_some() && fits(known) == nearest)
        .flat_map(|(method, ..)| if *method == "GET" { vec!["GET", "HEAD"] } else { vec![*method] })
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// Reads what is left of a request that was refused, as far as it is short: a client that is still sending when the
/// connection closes never sees why.
pub(super) async fn hear_out(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // What is said over a WebSocket is not the body of the request that opened it.
    if body.is_end_stream() || parts.method == Method::CONNECT {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let said = Arc::new(Mutex::new(body.into_data_stream()));
    let next_piece = |said: &Mutex<BodyDataStream>, context: &mut task::Context<'_>| {
        said.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    };
    let lent = Arc::clone(&said);
    let lent = Body::from_stream(stream::poll_fn(move |context| next_piece(&lent, context)));
    let answer = next.run(Request::from_parts(parts, lent)).await;
    if answer.status().is_client_error() {
        let mut rest = stream::poll_fn(move |context| next_piece(&said, context));
        let read = async {
            let mut left = limits::API_HEARD_OUT_BYTES;
            while let Some(Ok(piece)) = rest.next().await {
                left = left.saturating_sub(piece.len());
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(limits::API_HEARD_OUT_MS), read).await;
    }
    answer
}

/// What reads a whole image, the whole log or the whole state.
const LONG: &[&str] = &["/v1/audit/", "/v1/images/", "/v1/state/"];

/// Ends what takes too long.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let long = LONG.iter().any(|begin| path.starts_with(begin));
    let seconds = if long { limits::API_LONG_REQUEST_SECONDS } else { limits::API_REQUEST_SECONDS };
    match tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("the request took longer than {seconds} s and was given up");
            Problem::of(StatusCode::SERVICE_UNAVAILABLE, &Reason::new(Code::RequestTimeout, message)).into_response()
        }
    }
}

/// A panic as a problem, under a number that the log has too. The process goes on.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response<Body> {
    let id = Uuid::now_v7();
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(%id, cause = text.unwrap_or("unknown"), "a handler panicked");
    let reason = Reason::new(Code::InternalError, format!("a fault of the control plane; its log has more under {id}"));
    let mut problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR, &reason);
    problem.instance = Some(format!("urn:uuid:{id}"));
    problem.into_response()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Router, middleware};
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn body_of(answer: Response) -> serde_json::Value {
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_with_a_number_and_the_next_request_is_answered() {
        let router: Router = Router::new()
            .route("/panics", get(async || -> &'static str { panic!("secret of the process") }))
            .route("/works", get(async || "yes"))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn(dress));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        let answer = ask("/panics").await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let problem = body_of(answer).await;
        assert!(problem["instance"].as_str().unwrap().starts_with("urn:uuid:"), "{problem}");
        assert!(!problem.to_string().contains("secret"), "what was said in the panic is for the log: {problem}");
        assert_eq!(ask("/works").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn what_the_caller_has_is_not_sent_again() {
        let tagged = async || ([(header::ETAG, "\"a\"")], "body");
        let router: Router = Router::new().route("/", get(tagged)).layer(middleware::from_fn(dress));
        for (wanted, status) in [("\"a\"", 304), ("\"b\", W/\"a\"", 304), ("*", 304), ("\"b\"", 200), ("a", 200)] {
            let request = Request::builder().uri("/").header("if-none-match", wanted).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{wanted}");
            assert_eq!(answer.headers()[header::ETAG], "\"a\"");
        }
    }

    #[test]
    fn an_address_knows_the_methods_that_the_table_has_for_it() {
        assert_eq!(methods_of("/v1/vms/web"), "DELETE, GET, HEAD, PUT");
        assert_eq!(methods_of("/v1/images/uploads"), "POST");
        assert_eq!(methods_of("/v1/nothing"), "");
    }
}
