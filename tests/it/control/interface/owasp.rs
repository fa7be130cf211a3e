//! The OWASP API Security Top 10 of 2023, one part each: what an attacker would try, and that it is refused.
//! Who may do what is a golden file of its own; here stands that the door is the one that the file is about.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::super::server::Server;
use super::{ask, description, raw};

/// Every operation: method, address, description.
fn operations() -> Vec<(String, String, Value)> {
    let document = description();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

/// An address with something in the place of each name.
fn filled(path: &str, with: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { with } else { part }).collect::<Vec<_>>().join("/")
}

#[test]
fn api1_an_identity_that_one_does_not_know_tells_nothing_of_what_there_is() {
    let server = Server::simulated();
    for (method, path, _) in operations().into_iter().filter(|(method, path, _)| path.contains('{') && method == "GET")
    {
        for guess in ["00000000-0000-7000-8000-000000000000", "0", "..", "%2e%2e%2fsecret"] {
            let answer = ask(&server, &method, &filled(&path, guess), &[], None);
            assert!(matches!(answer.status, 400 | 404 | 409 | 422 | 426), "{method} {path} {guess}: {}", answer.status);
        }
    }
    // Every operation says which permission it asks for, on what its address names.
    for (method, path, operation) in operations() {
        let is_open = operation["security"] == json!([]);
        let about_oneself = operation.get("x-permission").is_none();
        assert!(is_open || about_oneself || operation["x-permission"].is_string(), "{method} {path}");
    }
}

#[test]
fn api2_who_cannot_open_the_socket_cannot_ask_and_no_header_makes_somebody_of_nobody() {
    let server = Server::simulated();
    // A user who is neither the server's nor of its group.
    let script =
        format!("import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})", server.socket().to_str().unwrap());
    if rustix::process::geteuid().is_root() {
        let output = Command::new("/usr/bin/python3").args(["-c", &script]).uid(65_534).gid(65_534).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("PermissionError"), "{output:?}");
    }
    // What a header says of who asks changes nothing of what the log says.
    let forged = [("x-forwarded-user", "admin"), ("x-remote-user", "root"), ("forwarded", "for=10.0.0.1")];
    let target = json!({ "target": format!("sha256:{}", "a".repeat(64)), "why": "a test" });
    let answer = ask(&server, "POST", "/v1/quarantines", &forged, Some(&target));
    assert_eq!(answer.status, 201, "{}", answer.json());
    let by = answer.json()["by"].as_str().unwrap().to_owned();
    assert!(by.starts_with("uid:"), "the kernel's word: {by}");
}

#[test]
fn api3_members_that_are_not_the_callers_to_set_are_refused_and_no_secret_comes_back() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel"]);
    let sound = ask(&server, "GET", "/v1/vms/web", &[], None).json()["spec"].clone();
    for (member, value) in [
        ("id", json!("00000000-0000-7000-8000-000000000000")),
        ("generation", json!(7)),
        ("created_by", json!("uid:0")),
        ("node", json!("other")),
        ("hold", Value::Null),
        ("power", json!("running")),
        ("__proto__", json!({})),
    ] {
        let mut spec = sound.clone();
        spec[member] = value;
        ask(&server, "PUT", "/v1/vms/web", &[], Some(&spec)).is(422, "request-malformed");
    }
    ask(&server, "POST", "/v1/vms/web/power", &[], Some(&json!({ "power": "start", "by": "root" })))
        .is(422, "request-malformed");
    assert_eq!(server.vm("web")["generation"], 1, "nothing of it was done");
    // Nothing of the server's keys is in any answer.
    let pem = std::fs::read_to_string(server.state().join("server.key")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    for (method, path, _) in operations()
        .into_iter()
        .filter(|(method, path, _)| method == "GET" && !path.contains("/live") && !path.contains("websocket"))
    {
        let answer = ask(&server, &method, &filled(&path, "web"), &[], None);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY"), "{method} {path}");
    }
}

#[test]
fn api4_what_a_request_may_take_has_a_bound() {
    let server = Server::simulated();
    for path in ["/v1/vms?limit=1001", "/v1/vms?limit=0", "/v1/events?wait=61", "/v1/events?limit=100000000000"] {
        ask(&server, "GET", path, &[], None).is(400, "request-malformed");
    }
    let long = json!({ "name": "a".repeat(2 * 1024 * 1024) });
    assert_eq!(ask(&server, "POST", "/v1/vms", &[], Some(&long)).status, 413);
    let spec = json!({ "name": "a", "memory_mib": u64::MAX, "netboot": true });
    ask(&server, "POST", "/v1/vms", &[], Some(&spec)).is(422, "request-malformed");
    let many: Vec<Value> = vec![json!({ "image": format!("sha256:{}", "a".repeat(64)) }); 9];
    let spec = json!({ "name": "a", "memory_mib": 64, "disks": many });
    ask(&server, "POST", "/v1/vms", &[], Some(&spec)).is(422, "request-malformed");
}

#[test]
fn api5_every_function_asks_for_a_permission_and_the_open_ones_are_known() {
    let open: BTreeSet<String> = operations()
        .into_iter()
        .filter(|(_, _, operation)| operation["security"] == json!([]))
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    for operation in &open {
        let known = ["/v1/openapi.json", "/v1/session", "/v1/oidc", "/v1/login", "/health"];
        let is_known = known.iter().any(|known| operation.split(' ').nth(1).unwrap().starts_with(known));
        assert!(is_known, "{operation} is open to everybody, and nobody meant that");
    }
    assert!(open.contains("GET /v1/openapi.json"), "{open:?}");
}

#[test]
fn api6_what_takes_two_people_is_not_done_by_one_who_asks_twice() {
    let server = Server::simulated();
    let target = json!({ "target": format!("sha256:{}", "a".repeat(64)), "why": "a test" });
    let put = ask(&server, "POST", "/v1/quarantines", &[], Some(&target)).json();
    let release = format!("/v1/quarantines/{}/release", put["id"].as_str().unwrap());
    let asked = ask(&server, "POST", &release, &[], Some(&json!({ "why": "a test", "lasts_seconds": 60 })));
    assert_eq!(asked.status, 201, "{}", asked.json());
    let approve = format!("/v1/approvals/{}/approve", asked.json()["id"].as_str().unwrap());
    for _ in 0..3 {
        ask(&server, "POST", &approve, &[], None).is(403, "second-person-required");
    }
    assert_eq!(ask(&server, "GET", "/v1/quarantines", &[], None).json()["items"][0]["in_force"], true);
}

#[test]
fn api7_no_request_makes_the_server_fetch_from_an_address_of_the_callers_choice() {
    let server = Server::simulated();
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let host = trap.local_addr().unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = format!("{host}/a@{digest}");
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": { "group": "", "version": "v1", "kind": "Pod" }, "operation": "CREATE",
            "object": { "spec": { "containers": [{ "image": image }] } },
        },
    });
    let answer = ask(&server, "POST", "/v1/admissions/kubernetes", &[], Some(&review)).json();
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("registry-not-allowed"), "{message}");
    // A name is a name here: what looks like an address or a path is none.
    for name in ["http://127.0.0.1/", "file:///etc/passwd", "../../etc/passwd", "oci://127.0.0.1/a"] {
        let upload = json!({ "kind": "disk", "name": name });
        ask(&server, "POST", "/v1/images/uploads", &[], Some(&upload)).is(422, "request-malformed");
    }
    assert!(trap.accept().is_err(), "somebody was asked");
}

#[test]
fn api8_answers_carry_what_keeps_browsers_safe_and_faults_tell_nothing_of_the_inside() {
    let server = Server::simulated();
    for (path, status) in [("/v1/vms", 200), ("/v1/nothing", 404), ("/v1/vms/none", 404), ("/v1/vms?x=1", 400)] {
        let answer = ask(&server, "GET", path, &[("origin", "https://attacker.example")], None);
        assert_eq!(answer.status, status);
        assert_eq!(answer.fields["x-content-type-options"], "nosniff");
        assert_eq!(answer.fields["cache-control"], "no-store");
        assert!(answer.fields["content-security-policy"].starts_with("default-src 'none'"));
        assert_eq!(answer.fields["debvisor-api-version"], "1");
        assert!(!answer.fields.contains_key("server"), "which program and version is nobody's concern");
        assert!(!answer.fields.contains_key("access-control-allow-origin"), "no other site may read it");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        for inside in ["sqlx", "SELECT", "src/", ".rs:", "panicked", "state.db"] {
            assert!(!text.contains(inside), "{path}: {text}");
        }
    }
    for method in ["TRACE", "OPTIONS", "PATCH", "BREW"] {
        let answer = ask(&server, method, "/v1/vms", &[], None);
        answer.is(405, "request-malformed");
        assert_eq!(answer.fields["allow"], "GET, HEAD, POST");
    }
    ask(&server, "GET", "/v1/vms", &[("accept", "text/html")], None).is(406, "request-malformed");
    let text = b"POST /v1/vms HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    raw(&server, text).unwrap().is(415, "request-malformed");
}

#[test]
fn api9_what_is_served_is_what_is_described_and_nothing_else_answers() {
    let server = Server::simulated();
    let served = ask(&server, "GET", "/v1/openapi.json", &[], None);
    assert_eq!(served.json(), description(), "the document is the one that was kept");
    let again = ask(&server, "GET", "/v1/openapi.json", &[("if-none-match", &served.fields["etag"])], None);
    assert_eq!((again.status, again.body.len()), (304, 0));
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v0/vms",
        "/v2/vms",
        "/vms",
        "/v1/debug",
        "/v1/admin",
        "/debug/pprof",
        "/.env",
        "/actuator",
        "/swagger.json",
        "/v1/vms/",
        "/v1//vms",
        "/graphql",
        "/v1/openapi.yaml",
    ] {
        ask(&server, "GET", path, &[], None).is(404, "resource-unknown");
    }
    // Every address knows the methods that are described, and says so to others.
    for (_, path, _) in operations() {
        let answer = ask(&server, "BREW", &filled(&path, "web"), &[], None);
        assert_eq!(answer.status, 405, "{path}");
        let allowed: BTreeSet<String> =
            answer.fields["allow"].split(", ").filter(|method| *method != "HEAD").map(str::to_owned).collect();
        let described: BTreeSet<String> =
            operations().into_iter().filter(|(_, at, _)| *at == path).map(|(method, ..)| method).collect();
        assert_eq!(allowed, described, "{path}");
    }
}

#[test]
fn api10_a_registry_that_answers_without_end_is_bounded_and_a_no() {
    use std::io::{Read as _, Write as _};
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = registry.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in registry.incoming().flatten() {
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                let _ = client.read(&mut asked);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\r\n";
                let _ = client.write_all(head.as_bytes());
                while client.write_all(&[b'{'; 65_536]).is_ok() {}
            });
        }
    });
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    let path = server.dir.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}\n[registries]\nallowed = [{host:?}]\n")).unwrap();
    server.up(None);
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": { "group": "", "version": "v1", "kind": "Pod" }, "operation": "CREATE",
            "object": { "spec": { "containers": [{ "image": format!("{host}/a@sha256:{}", "0".repeat(64)) }] } },
        },
    });
    let answer = ask(&server, "POST", "/v1/admissions/kubernetes?timeout=5s", &[], Some(&review)).json();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    let bounded =
        ["input-too-large", "registry-unreachable", "admission-timeout", "image-malformed", "registry-digest"];
    assert!(bounded.iter().any(|code| message.contains(code)), "{message}");
    assert!(!server.has_died());
}
