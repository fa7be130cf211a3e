//! Requests that nobody meant: whatever comes in, no answer is a fault of the server (5xx), and the process lives.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::super::server::Server;
use super::super::users::{PASSWORD, create};
use super::{ask, description, key_of, raw, raw_within};

/// Requests of one run; each is a connection of its own.
const REQUESTS: u32 = 4_000;
/// How long the rest of a request that has none is waited for.
const PATIENCE: Duration = Duration::from_millis(150);

#[test]
fn no_request_whatsoever_is_answered_with_a_fault_and_the_process_lives() {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    // Nobody is told to wait: what is tried here is what requests mean.
    server.configure_more("[limits]\nrequests-per-second-per-user = 1000000\n");
    server.up(None);
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw"]);
    server.ok(&["tenant", "create", "acme"]);
    server.ok(&["project", "create", "blue", "--tenant", "acme"]);
    // Of somebody who may everything, of somebody who may little, and of nobody: the host's word counts then.
    let keys = [key_of(&server, "root", Some("admin")), key_of(&server, "vera", Some("viewer"))];
    create(&server, "alice", &["--role", "admin"]);
    let login = json!({ "user": "alice", "password": PASSWORD, "kind": "token" });
    let session = ask(&server, "POST", "/v1/session", &[], Some(&login)).json();
    let session = format!("Bearer {}", session["token"].as_str().unwrap());
    let credentials: Vec<String> = keys.into_iter().chain([session]).collect();
    let things = things(&server);
    let config = Config { cases: REQUESTS, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let statuses = RefCell::new(std::collections::BTreeMap::<u16, u32>::new());
    let outcome = TestRunner::new_with_rng(config, rng).run(&request(&things, &credentials), |bytes| {
        // Where the bytes are no HTTP the connection may end without a word.
        if let Some(answer) = raw_within(&server, &bytes, PATIENCE) {
            *statuses.borrow_mut().entry(answer.status).or_default() += 1;
            prop_assert!(answer.status < 500, "{} {:?}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    assert!(!server.has_died(), "{}", server.log());
    assert_eq!(ask(&server, "GET", "/v1/vms", &[], None).status, 200);
    // Otherwise this looked at one door alone.
    let statuses = statuses.into_inner();
    for status in [200, 201, 202, 204, 400, 401, 403, 404, 405, 406, 409, 415, 422] {
        assert!(statuses.contains_key(&status), "no request came as far as {status}: {statuses:?}");
    }
    server.ok(&["audit", "verify"]);
}

#[test]
fn who_is_refused_while_still_sending_is_heard_out_and_the_next_request_is_answered() {
    let server = Server::simulated();
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let head = b"POST /v1/vms HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(&[b'a'; 100_000]).unwrap();
    stream.write_all(b"GET /v1/vms HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 415") && told.contains("HTTP/1.1 200"), "{told}");
}

#[test]
fn nesting_doubles_and_bytes_that_are_no_text_are_refused_with_their_place() {
    let server = Server::simulated();
    let post = |body: &[u8]| {
        let mut request = format!(
            "POST /v1/vms HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        raw(&server, &request).unwrap()
    };
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    post(&deep).is(400, "request-malformed");
    let doubled = br#"{"name": "a", "memory_mib": 64, "netboot": true, "name": "b"}"#;
    let answer = post(doubled);
    answer.is(400, "request-malformed");
    assert!(answer.json()["detail"].as_str().unwrap().contains("line 1"), "{}", answer.json());
    // A member twice inside of what has a tag, where serde alone would take the last.
    post(br#"{"name": "a", "memory_mib": 64, "nics": [{"network": {"kind": "user", "kind": "user"}}]}"#)
        .is(400, "request-malformed");
    post(b"{\"name\": \"\xff\xfe\", \"memory_mib\": 1}").is(400, "request-malformed");
    post(br#"{"name": "a", "memory_mib": 1e400}"#).is(400, "request-malformed");
    post(br#"{"name": "a", "memory_mib": 64, "netboot": true, "admin": true}"#).is(422, "request-malformed");
    let huge = format!("{{\"name\": \"{}\"}}", "a".repeat(2 * 1024 * 1024));
    post(huge.as_bytes()).is(413, "request-malformed");
    let long = format!("GET /v1/vms?name={} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(20_000));
    raw(&server, long.as_bytes()).unwrap().is(431, "request-malformed");
}

/// What an address may name and a body may speak of, with what is there.
fn things(server: &Server) -> Vec<String> {
    let id = |path: &str, at: &str| {
        let answer = ask(server, "GET", path, &[], None).json();
        answer.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {answer}")).to_owned()
    };
    let mut found = ["web", "acme", "blue", "vera", "viewer", "default", "test", "kernel"].map(str::to_owned).to_vec();
    found.push(id("/v1/vms/web", "/id"));
    found.push(id("/v1/images", "/items/0/digest"));
    found.push(id("/v1/users", "/items/1/id"));
    found.push(id("/v1/keys?user=vera", "/items/0/id"));
    found
}

/// A request: sound, almost sound, or noise.
fn request(things: &[String], credentials: &[String]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let document = description();
    let mut paths: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    paths.extend(["/", "/v1", "/v1/", "/v2/vms", "/v1/vms/web/../web", "//v1/vms", "*", "/%"].map(str::to_owned));
    let method = prop_oneof![
        8 => prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
            .prop_map(str::to_owned),
        1 => "[A-Z]{1,12}",
    ];
    let part = prop_oneof![
        3 => prop::sample::select(things.to_vec()),
        1 => "[ -~]{0,40}".prop_map(|text| percent(text.as_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| percent(&bytes)),
        1 => Just("00000000-0000-7000-8000-000000000000".to_owned()),
        1 => Just(format!("sha256:{}", "0".repeat(64))),
    ];
    let path = (prop::sample::select(paths), prop::collection::vec(part, 3)).prop_map(|(path, parts)| {
        let mut parts = parts.into_iter();
        let named = |part: &str| if part.starts_with('{') { parts.next().unwrap_or_default() } else { part.to_owned() };
        path.split('/').map(named).collect::<Vec<_>>().join("/")
    });
    let query = prop_oneof![
        3 => Just(String::new()),
        2 => (prop::sample::select(vec!["after", "limit", "last", "kind", "follow", "name", "timeout"]), "[ -~]{0,20}")
            .prop_map(|(name, value)| format!("?{name}={}", percent(value.as_bytes()))),
        1 => "[!-~]{0,60}".prop_map(|text| format!("?{}", text.replace('#', ""))),
        1 => Just("?limit=1&limit=2".to_owned()),
    ];
    let credentials = prop::sample::select(credentials.to_vec());
    let field = prop_oneof![
        credentials.clone().prop_map(|credential| format!("authorization: {credential}").into_bytes()),
        Just(b"content-type: application/json".to_vec()),
        Just(b"content-type: application/octet-stream".to_vec()),
        Just(b"accept: text/html;q=x, */*;q=0".to_vec()),
        Just(b"if-match: \"1\", \"2\"".to_vec()),
        Just(b"if-none-match: *".to_vec()),
        Just(b"upload-offset: 18446744073709551616".to_vec()),
        Just(b"idempotency-key: k".to_vec()),
        Just(b"authorization: Bearer \xff\xfe".to_vec()),
        Just(b"cookie: a=b; a=c; =; ;".to_vec()),
        Just(b"transfer-encoding: chunked".to_vec()),
        Just(b"content-length: 18446744073709551615".to_vec()),
        Just(b"expect: 100-continue".to_vec()),
        Just(
            b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: x".to_vec()
        ),
        prop::collection::vec(0x20_u8..=0xff, 0..200).prop_map(|bytes| [b"debvisor-why: ".to_vec(), bytes].concat()),
        ("[a-z-]{1,20}", "[ -~]{0,40}").prop_map(|(name, value)| format!("{name}: {value}").into_bytes()),
    ];
    let body = prop_oneof![
        2 => Just(Vec::new()),
        2 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..400),
        1 => (1_usize..2_000).prop_map(|depth| [vec![b'['; depth], vec![b']'; depth]].concat()),
        1 => Just(b"4\r\n{\"a\"\r\n2\r\n:1\r\n1\r\n}\r\n0\r\n\r\n".to_vec()),
        1 => Just(br#"{"power":"start","power":"stop"}"#.to_vec()),
        1 => Just(br#"{"power":"pause"}"#.to_vec()),
        1 => Just(br#"{"name":"n","memory_mib":64,"netboot":true,"nics":[{}]}"#.to_vec()),
    ];
    let sound = (method, path, query, prop::collection::vec(field, 0..5), body, any::<bool>());
    let made = sound.prop_map(|(method, path, query, fields, body, measured)| {
        let mut request = format!("{method} {path}{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").into_bytes();
        for field in fields {
            request.extend(field);
            request.extend(b"\r\n");
        }
        if measured {
            request.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
        }
        request.extend(b"\r\n");
        request.extend(body);
        request
    });
    prop_oneof![
        5 => made,
        3 => meant(&document, things, credentials.clone()),
        3 => almost(things, credentials),
        1 => prop::collection::vec(any::<u8>(), 0..600),
    ]
}

/// A request to an operation that there is, by somebody, with a body of the right type and of any content.
fn meant<C: Strategy<Value = String>>(
    document: &Value,
    things: &[String],
    credentials: C,
) -> impl Strategy<Value = Vec<u8>> + use<C> {
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let operations: Vec<(String, String)> = operations.collect();
    let named = prop::sample::select(things.to_vec());
    (prop::sample::select(operations), named, value(), credentials).prop_map(|((method, path), named, value, who)| {
        let address = |part: &str| if part.starts_with('{') { named.clone() } else { part.to_owned() };
        let address = path.split('/').map(address).collect::<Vec<_>>().join("/");
        sent(&format!("{method} {address}"), &who, &value.to_string())
    })
}

/// A request that would be sound, but for one member.
fn almost<C: Strategy<Value = String>>(things: &[String], credentials: C) -> impl Strategy<Value = Vec<u8>> + use<C> {
    let digest = things.iter().find(|thing| thing.starts_with("sha256:")).unwrap().clone();
    let spec =
        json!({ "name": "new", "memory_mib": 64, "kernel": { "kernel": digest }, "disks": [{ "image": digest }] });
    let lasting = json!({ "target": digest, "why": "a test", "lasts_seconds": 60 });
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": format!("127.0.0.1:1/a@{digest}") }] } });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": { "group": "", "version": "v1", "kind": "Pod" }, "operation": "CREATE", "object": pod,
        },
    });
    let sound = vec![
        ("POST /v1/vms", spec.clone()),
        ("PUT /v1/vms/web", spec.clone()),
        ("POST /v1/vms/web/power", json!({ "power": "start" })),
        ("POST /v1/vms/web/actions", json!({ "action": "attach-disk", "disk": { "image": digest } })),
        ("POST /v1/vms/web/actions", json!({ "action": "create-snapshot", "name": "one" })),
        ("POST /v1/admissions", json!({ "images": [{ "digest": digest, "kind": "kernel" }] })),
        ("POST /v1/admissions", json!({ "vm": spec })),
        ("POST /v1/admissions/kubernetes", review),
        ("POST /v1/images/uploads", json!({ "kind": "disk", "name": "new.raw", "bytes": 1 })),
        ("POST /v1/quarantines", lasting),
        ("POST /v1/tenants", json!({ "name": "new", "description": "", "quota": { "vms": 1 } })),
        ("PUT /v1/projects/blue", json!({ "description": "", "quota": {} })),
        ("POST /v1/roles", json!({ "name": "new", "permissions": ["vm.read"] })),
        ("POST /v1/grants", json!({ "holder": "user:vera", "role": "viewer", "scope": "project:blue" })),
        ("POST /v1/users", json!({ "name": "new", "role": "viewer" })),
        ("PATCH /v1/users/vera", json!({ "must_change": false })),
        ("POST /v1/keys", json!({ "name": "new", "user": "vera", "scopes": ["vm.read"] })),
        ("POST /v1/services", json!({ "name": "new", "marks": ["dns:new.example"] })),
        ("POST /v1/session", json!({ "user": "vera", "password": "a", "kind": "token" })),
        ("POST /v1/me/totp/confirm", json!({ "code": "123456" })),
    ];
    let change = (any::<prop::sample::Index>(), any::<bool>(), value());
    (prop::sample::select(sound), change, credentials).prop_map(|((operation, mut body), (at, gone, other), who)| {
        let members = body.as_object_mut().unwrap();
        let name = at.get(&members.keys().cloned().collect::<Vec<_>>()).clone();
        if gone {
            members.remove(&name);
        } else {
            members.insert(name, other);
        }
        sent(operation, &who, &body.to_string())
    })
}

fn sent(operation: &str, who: &str, body: &str) -> Vec<u8> {
    let head = "host: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let length = body.len();
    format!("{operation} HTTP/1.1\r\n{head}authorization: {who}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// A document out of the words that the interface knows, and others.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "\\PC{0,30}".prop_map(Value::from),
        Just(json!(format!("sha256:{}", "a".repeat(64)))),
        prop::sample::select(vec!["start", "disk", "reset", "CREATE", "Pod", "admission.k8s.io/v1"])
            .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "name",
        "memory_mib",
        "disks",
        "kernel",
        "image",
        "power",
        "action",
        "slot",
        "images",
        "digest",
        "kind",
        "vm",
        "evidence",
        "base64",
        "apiVersion",
        "request",
        "uid",
        "operation",
        "object",
        "spec",
        "containers",
        "target",
        "why",
        "lasts_seconds",
        "nics",
        "network",
        "",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}
