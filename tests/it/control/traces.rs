//! Traces, against a collector that reads what it is sent; and the name of a request, wherever it must stand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;

use super::server::Server;
use super::tls::Remote;

/// A collector at a port of its own; what it was sent comes out.
fn collector() -> (String, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (told, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (told, stream) = (told.clone(), stream.unwrap());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(body) = posted(&mut reader) {
                    let _ = told.send(ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (endpoint, heard)
}

/// The body of one request, which must be a POST of protobuf.
fn posted(reader: &mut BufReader<std::net::TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
    let (mut length, mut protobuf) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let lower = line.trim().to_lowercase();
        if lower.is_empty() {
            break;
        }
        protobuf |= lower == "content-type: application/x-protobuf";
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
    }
    assert!(protobuf);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some(body)
}

fn word(span: &Span, key: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()).and_then(|value| value.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

#[test]
fn a_trace_that_a_client_began_goes_on_here_and_reaches_the_collector() {
    let (endpoint, heard) = collector();
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.configure_more(&format!("[telemetry]\notlp-endpoint = \"{endpoint}\"\nservice-name = \"lab\""));
    server.up(None);
    let client = Remote::at_socket(&server);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers =
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("x-request-id", "asked-1")];
    assert_eq!(client.send("GET", "/v1/vms/nobody", &headers).unwrap().status, 404);
    let until = Instant::now() + Duration::from_secs(20);
    let span = loop {
        assert!(Instant::now() < until, "the span does not come: {}", server.log());
        let Ok(request) = heard.recv_timeout(Duration::from_secs(20)) else { continue };
        let of = &request.resource_spans[0];
        let service = of.resource.as_ref().unwrap().attributes.iter().find(|attribute| attribute.key == "service.name");
        assert!(format!("{service:?}").contains("lab"));
        let mut spans = of.scope_spans.iter().flat_map(|scope| &scope.spans);
        if let Some(span) = spans.find(|span| hex::encode(&span.trace_id) == trace) {
            break span.clone();
        }
    };
    assert_eq!(hex::encode(&span.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(span.name, "GET /v1/vms/{vm}");
    assert_eq!(word(&span, "id"), "asked-1");
    assert_eq!(word(&span, "http.route"), "/v1/vms/{vm}");
    assert_eq!(word(&span, "http.response.status_code"), "404");
    assert_eq!(server.terminate(), Some(0));
}

/// Somebody whom the server asks; the `traceparent` of each request comes out, and each is answered with 404.
fn asked() -> (String, Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (told, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut first = [0];
            // Whoever tries TLS first is told by the end of the connection that there is none.
            if stream.peek(&mut first).unwrap() == 0 || first == [0x16] {
                continue;
            }
            let mut reader = BufReader::new(stream);
            let (mut line, mut parent) = (String::new(), None);
            while reader.read_line(&mut line).unwrap() > 2 {
                let field = line.trim().to_lowercase();
                parent = field.strip_prefix("traceparent:").map(|value| value.trim().to_owned()).or(parent);
                line.clear();
            }
            told.send(parent).unwrap();
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
        }
    });
    (base, heard)
}

/// A server at which people log in by these providers, all of which are the same one.
fn with_providers(issuer: &str, names: &[&str]) -> Server {
    let server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    for name in names {
        server.configure_more(&format!(
            "[[oidc]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nclient-id = \"debvisor\"\n\
             redirect-url = \"https://debvisor.test/v1/oidc/{name}/callback\"\n"
        ));
    }
    server
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn whom_the_server_asks_for_a_client_is_told_the_trace_and_the_span_that_asks() {
    let (endpoint, spans) = collector();
    let (issuer, heard) = asked();
    let mut server = with_providers(&issuer, &["one"]);
    server.configure_more(&format!("[telemetry]\notlp-endpoint = \"{endpoint}\""));
    server.up(None);
    let client = Remote::at_socket(&server);
    let answer = client.send("GET", "/v1/oidc/one/start", &[("traceparent", PARENT)]).unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("oidc-unreachable")));
    let told = heard.recv_timeout(Duration::from_secs(20)).unwrap().expect("a traceparent");
    let parts: Vec<&str> = told.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{told}");
    assert_eq!(server.terminate(), Some(0));
    let all: Vec<Span> = spans
        .try_iter()
        .flat_map(|request| request.resource_spans)
        .flat_map(|of| of.scope_spans)
        .flat_map(|of| of.spans)
        .collect();
    let span = all.iter().find(|span| hex::encode(&span.span_id) == parts[2]);
    let span = span.unwrap_or_else(|| panic!("{told} names none of {all:?}"));
    assert_eq!((span.name.as_str(), hex::encode(&span.trace_id)), ("GET /v1/oidc/{provider}/start", TRACE.to_owned()));
}

#[test]
fn a_registry_that_is_asked_for_a_review_is_told_the_trace() {
    let (registry, heard) = asked();
    let host = registry.strip_prefix("http://").unwrap();
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.configure_more(&format!("[registries]\nallowed = [\"{host}\"]\n"));
    server.up(None);
    let image = format!("{host}/a@sha256:{}", "0".repeat(64));
    let review = serde_json::json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "object": { "spec": { "containers": [{ "name": "a", "image": image }] } },
        },
    });
    let client = Remote::at_socket(&server);
    let answer = client.post("/v1/admissions/kubernetes?timeout=5s", &[("traceparent", PARENT)], &review);
    assert_eq!((answer.status, &answer.json()["response"]["allowed"]), (200, &Value::Bool(false)), "{}", answer.body);
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)).unwrap().as_deref(), Some(PARENT));
}

#[test]
fn without_a_collector_a_trace_is_passed_on_as_it_came_and_none_is_made_up() {
    let (issuer, heard) = asked();
    let mut server = with_providers(&issuer, &["one", "other", "third"]);
    server.up(None);
    let client = Remote::at_socket(&server);
    let told = |name: &str, headers: &[(&str, &str)]| {
        assert_eq!(client.send("GET", &format!("/v1/oidc/{name}/start"), headers).unwrap().status, 503);
        heard.recv_timeout(Duration::from_secs(20)).unwrap()
    };
    assert_eq!(told("one", &[("traceparent", PARENT)]).as_deref(), Some(PARENT));
    assert_eq!(told("other", &[("traceparent", "00-none-of-these-01")]), None, "what is none goes nowhere");
    assert_eq!(told("third", &[]), None);
}

#[test]
fn a_collector_that_is_gone_or_never_answers_keeps_no_request_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server
        .environment
        .push(("DEBVISOR_TELEMETRY_OTLP_ENDPOINT", format!("http://{}/v1/traces", silent.local_addr().unwrap())));
    server.up(None);
    let client = Remote::at_socket(&server);
    let began = Instant::now();
    for _ in 0..3_000 {
        assert_eq!(client.get("/health/live").unwrap().status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn the_name_of_a_request_stands_in_the_answer_the_problem_the_log_and_the_audit_log() {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.environment.push(("DEBVISOR_LOG", "info".to_owned()));
    server.configure_more("[log]\nformat = \"json\"");
    server.up(None);
    let client = Remote::at_socket(&server);
    let answer = client.send("GET", "/v1/vms/nobody", &[("x-request-id", "mine-1.x_Y")]).unwrap();
    assert_eq!(answer.headers["x-request-id"], "mine-1.x_Y");
    assert_eq!(answer.json()["request"], "mine-1.x_Y");
    // A name that is none is not taken over: it could forge a line, or fill the log.
    for strange in ["two words", "quote\"d", &"x".repeat(129), "new\u{a7}line"] {
        let answer = client.send("GET", "/v1/vms/nobody", &[("x-request-id", strange)]).unwrap();
        let ours = answer.headers["x-request-id"].to_str().unwrap();
        assert!(uuid::Uuid::parse_str(ours).is_ok(), "{strange}: {ours}");
        assert_eq!(answer.json()["request"], ours);
    }
    let quarantined = client.post(
        "/v1/quarantines",
        &[("x-request-id", "mine-2")],
        &serde_json::json!({
            "target": format!("sha256:{}", "ab".repeat(32)), "why": "a test",
        }),
    );
    assert!((200..300).contains(&quarantined.status), "{}", quarantined.body);
    let records = client.get("/v1/audit?limit=1000").unwrap().json();
    let named = records["items"].as_array().unwrap().iter().filter(|record| record["data"]["request"] == "mine-2");
    assert!(named.count() >= 1, "{records}");
    assert_eq!(client.get("/v1/audit/verify").unwrap().json()["sound"], true);
    // Every line of the log is a document, and the request's own names it.
    let log = server.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let line = lines.iter().find(|line| line["span"]["id"] == "mine-1.x_Y").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((line["status"].as_u64(), line["route"].as_str()), (Some(404), Some("/v1/vms/{vm}")), "{line}");
}
