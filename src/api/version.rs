//! The version of the interface, and which endpoints are on their way out: from when on, until when, and what takes
//! their place. Every answer of such an endpoint says so in header fields that programs understand.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;

use super::access::described;

/// The version: the first part of every address. Adding to it does not change it.
pub(super) const API: &str = "1";

/// An endpoint that is on its way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deprecation {
    /// Its method.
    pub(super) method: &'static str,
    /// Its address.
    pub(super) path: &'static str,
    /// Since when nobody should begin to use it, in seconds since 1970.
    pub(super) since: i64,
    /// When it will go, in seconds since 1970.
    pub(super) sunset: i64,
    /// The page that says what takes its place.
    pub(super) page: &'static str,
}

/// Those that there are.
pub(super) const DEPRECATED: &[Deprecation] = &[];

/// Whether this endpoint is one.
pub(super) fn deprecation_of(method: &str, path: &str) -> Option<Deprecation> {
    found(DEPRECATED, method, path)
}

fn found(table: &[Deprecation], method: &str, path: &str) -> Option<Deprecation> {
    table.iter().find(|one| one.method.eq_ignore_ascii_case(method) && one.path == path).copied()
}

/// Says of an endpoint that is on its way out that it is.
pub(super) async fn announce(
    State(table): State<&'static [Deprecation]>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let leaving = found(table, described(request.method()), path.as_str());
    let mut answer = next.run(request).await;
    if let Some(leaving) = leaving {
        let fields = answer.headers_mut();
        // A date of structured fields (RFC 9745 section 2.1), and one of HTTP (RFC 8594 section 3).
        let since = (HeaderName::from_static("deprecation"), format!("@{}", leaving.since));
        let sunset = (HeaderName::from_static("sunset"), http_date(leaving.sunset));
        let link = (header::LINK, format!("<{}>; rel=\"deprecation\"; type=\"text/html\"", leaving.page));
        for (name, value) in [since, sunset, link] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                fields.append(name, value);
            }
        }
    }
    answer
}

fn http_date(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use tower::ServiceExt as _;

    use super::*;

    const TABLE: &[Deprecation] = &[Deprecation {
        method: "GET",
        path: "/v1/old/{id}",
        since: 1_767_225_600,
        sunset: 1_798_761_600,
        page: "https://debvisor.dev/docs/old",
    }];

    #[tokio::test]
    async fn an_endpoint_on_its_way_out_says_since_when_until_when_and_what_instead() {
        let router: Router = Router::new()
            .route("/v1/old/{id}", get(async || "old").post(async || "new"))
            .route_layer(middleware::from_fn_with_state(TABLE, announce));
        let ask = async |method: &str| {
            let request = Request::builder().method(method).uri("/v1/old/7").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().headers().clone()
        };
        for method in ["GET", "HEAD"] {
            let fields = ask(method).await;
            assert_eq!(fields["deprecation"], "@1767225600");
            assert_eq!(fields["sunset"], "Fri, 01 Jan 2027 00:00:00 GMT");
            assert_eq!(fields["link"], "<https://debvisor.dev/docs/old>; rel=\"deprecation\"; type=\"text/html\"");
        }
        assert!(!ask("POST").await.contains_key("deprecation"), "its other methods stay");
    }
}
