//! The OWASP API Security Top 10 of 2023, one part each: what an attacker would try, and that it is refused.
//! Who may do what is a golden file of its own; here stands that the door is the one that the file is about.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::super::server::Server;
use super::super::tls::{self, Remote, listening};
use super::super::users::create;
use super::{ask, description, key_of, raw};

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
fn api1_what_is_somebody_elses_cannot_be_named_by_any_operation_and_looks_as_if_it_were_not_there() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    for (tenant, project) in [("acme", "blue"), ("umbrella", "red")] {
        server.ok(&["tenant", "create", tenant]);
        server.ok(&["project", "create", project, "--tenant", tenant]);
    }
    for (name, project) in [("app", "blue"), ("mine", "red")] {
        server.ok(&["vm", "create", name, "--kernel", "kernel", "--project", project]);
        server.ok(&["vm", "start", name]);
    }
    let alice = key_of(&server, "alice", None);
    let bob = key_of(&server, "bob", None);
    let hers = server.json(&["grant", "create", "user:alice", "admin", "--project", "blue"]);
    server.ok(&["grant", "create", "user:bob", "admin", "--tenant", "umbrella"]);
    let before = server.vm("app");
    let operations_of = ask(&server, "GET", "/v1/vms/app/operations", &[], None).json();
    let named = |name: &str| match name {
        "vm" => Some((before["id"].clone(), "00000000-0000-7000-8000-000000000000")),
        "operation" => Some((operations_of["items"][0]["id"].clone(), "00000000-0000-7000-8000-000000000000")),
        "grant" => Some((hers["id"].clone(), "00000000-0000-7000-8000-000000000000")),
        "project" => Some((json!("blue"), "nothing")),
        "tenant" => Some((json!("acme"), "nothing")),
        _ => None,
    };
    let mut tried = 0;
    for (method, path, operation) in operations() {
        let name = path.split(['{', '}']).nth(1).unwrap_or_default();
        let Some((there, missing)) = named(name).filter(|_| operation["x-permission"].is_string()) else { continue };
        let body = operation.get("requestBody").map(|_| json!({}));
        let with = |what: &str, key: &str| {
            ask(&server, &method, &filled(&path, what), &[("authorization", key)], body.as_ref())
        };
        let there = there.as_str().unwrap();
        let (found, none) = (with(there, &bob), with(missing, &bob));
        assert!(matches!(found.status, 403 | 404), "{method} {path}: {}", found.status);
        let told = |answer: &super::Answer| (answer.status, answer.json()["code"].clone());
        assert_eq!(told(&found), told(&none), "{method} {path}: whether it is there can be seen");
        tried += 1;
    }
    assert!(tried >= 15, "only {tried} operations were tried");
    // The machine by its name, its neighbour in a list, and what may be seen: otherwise all of this proved nothing.
    let get = |path: &str, key: &str| ask(&server, "GET", path, &[("authorization", key)], None);
    assert_eq!(get("/v1/vms/app", &bob).status, 404);
    assert_eq!((get("/v1/vms/mine", &bob).status, get("/v1/vms/app", &alice).status), (200, 200));
    let list = get("/v1/vms", &bob).json();
    let names: Vec<&str> = list["items"].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mine"]);
    assert_eq!(server.vm("app")["generation"], before["generation"], "nothing of it was done");
    assert_eq!(server.power("app"), "running");
}

#[test]
fn api2_nobody_is_made_somebody_by_a_header_an_invented_credential_or_by_guessing() {
    let (server, address) = listening("", &[]);
    create(&server, "alice", &["--role", "admin"]);
    let client = Remote::new(&server, address);
    // A user of the host who is neither the server's nor of its group.
    let script =
        format!("import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})", server.socket().to_str().unwrap());
    if rustix::process::geteuid().is_root() {
        let output = Command::new("/usr/bin/python3").args(["-c", &script]).uid(65_534).gid(65_534).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("PermissionError"), "{output:?}");
    }
    let zeros = ["0".repeat(32), "0".repeat(72)].join("_");
    for credential in [
        ("x-forwarded-user", "admin".to_owned()),
        ("x-remote-user", "root".to_owned()),
        ("forwarded", "for=127.0.0.1;by=unix".to_owned()),
        ("x-debvisor-uid", "0".to_owned()),
        ("authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5".to_owned()),
        ("authorization", "Bearer".to_owned()),
        ("authorization", format!("Bearer dvk_{zeros}")),
        ("authorization", format!("Bearer dvs_{}", "A".repeat(43))),
        // No signature, and whoever it names: `{"alg":"none"}`, `{"sub":"alice"}`.
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.".to_owned()),
        ("cookie", format!("__Host-debvisor=dvs_{}", "A".repeat(43))),
    ] {
        for path in ["/v1/vms", "/v1/users", "/v1/me"] {
            let answer = client.send("GET", path, &[(credential.0, &credential.1)]).unwrap();
            assert_eq!(answer.status, 401, "{credential:?} {path}: {}", answer.body);
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
    }
    // Guessing: somebody who is there and somebody who is not are told the same, and soon neither is told anything.
    let guess = |user: &str, more: &[(&str, &str)]| {
        client.post("/v1/session", more, &json!({ "user": user, "password": "not the password", "kind": "token" }))
    };
    let told = |answer: &tls::Answer| (answer.status, answer.json()["code"].as_str().unwrap().to_owned());
    assert_eq!(told(&guess("alice", &[])), (401, "login-refused".to_owned()));
    assert_eq!(told(&guess("nobody", &[])), (401, "login-refused".to_owned()));
    // Saying that one is somewhere else does not begin the count anew.
    let last = (0..20).map(|at| guess("alice", &[("x-forwarded-for", &format!("192.0.2.{at}"))]));
    let refused = last.into_iter().find(|answer| answer.status == 429).expect("one may guess for ever");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
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
    // Nobody gives themselves a role, and a role is no member of what one may say of oneself.
    let eve = key_of(&server, "eve", Some("viewer"));
    let as_eve = [("authorization", eve.as_str())];
    for (method, path, body) in [
        ("PATCH", "/v1/users/eve", json!({ "role": "admin" })),
        ("PUT", "/v1/me/password", json!({ "present": "x", "new": "correct horse battery", "role": "admin" })),
        ("POST", "/v1/grants", json!({ "holder": "user:eve", "role": "admin", "scope": "everything" })),
        ("PUT", "/v1/roles/viewer", json!({ "permissions": ["user.write"] })),
    ] {
        let answer = ask(&server, method, path, &as_eve, Some(&body));
        assert!(matches!(answer.status, 403 | 422), "{method} {path}: {}", answer.json());
    }
    assert_eq!(ask(&server, "GET", "/v1/users/eve", &[], None).json()["role"], "viewer");
    // Nothing of the server's keys is in any answer, and nothing that a password or a key could be guessed from.
    let pem = std::fs::read_to_string(server.state().join("server.key")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    let reads = operations().into_iter().filter(|(method, path, _)| method == "GET" && !path.ends_with("/live"));
    for path in reads.flat_map(|(_, path, _)| [filled(&path, "web"), filled(&path, "eve")]) {
        let answer = ask(&server, "GET", &path, &[], None);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY"), "{path}");
        assert!(!text.contains("$argon2") && !text.contains("dvk_0"), "{path}");
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
    // Who asks without end is told to wait, and everybody else is answered.
    let (limited, address) = listening("[limits]\nrequests-per-second-per-address = 5", &[]);
    let client = Remote::new(&limited, address);
    let answers: Vec<tls::Answer> = (0..40).map(|_| client.get("/v1/openapi.json").unwrap()).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one may ask without end");
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert_eq!(ask(&limited, "GET", "/v1/vms", &[], None).status, 200);
}

#[test]
fn api5_no_function_works_for_whom_it_is_not_meant() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel"]);
    let (viewer, nobody) = (key_of(&server, "vera", Some("viewer")), key_of(&server, "norbert", None));
    let held = ask(&server, "GET", "/v1/roles/viewer", &[], None).json()["permissions"].as_array().unwrap().clone();
    let mut open = BTreeSet::new();
    let mut tried = 0;
    for (method, path, operation) in operations() {
        if operation["security"] == json!([]) {
            open.insert(path.clone());
        }
        let Some(permission) = operation.get("x-permission") else { continue };
        let body = operation.get("requestBody").map(|_| json!({}));
        for (key, may) in [(&viewer, held.contains(permission)), (&nobody, false)] {
            if may {
                continue;
            }
            let answer = ask(&server, &method, &filled(&path, "web"), &[("authorization", key)], body.as_ref());
            // What cannot be seen is not there; all else is refused by its name.
            let expected = if answer.status == 404 { "resource-unknown" } else { "access-denied" };
            assert!(matches!(answer.status, 403 | 404), "{method} {path}: {}\n{}", answer.status, server.log());
            assert_eq!(answer.json()["code"], expected, "{method} {path}");
            assert!(answer.status == 403 || path.contains('{'), "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried > 80, "only {tried} requests were made");
    assert_eq!(server.vm("web")["generation"], 1, "nothing of it was done");
    let refusals = ask(&server, "GET", "/v1/audit?outcome=refused&action=access.&limit=1000", &[], None).json();
    assert!(!refusals["items"].as_array().unwrap().is_empty(), "each is written down: {refusals}");
    let meant = [
        "/health/live",
        "/health/ready",
        "/v1/oidc",
        "/v1/oidc/{provider}/callback",
        "/v1/oidc/{provider}/code",
        "/v1/oidc/{provider}/start",
        "/v1/oidc/{provider}/token",
        "/v1/openapi.json",
        "/v1/session",
    ];
    assert_eq!(open, meant.map(str::to_owned).into(), "open to everybody, and nobody meant that");
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
    let endless = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let sent = endless.clone();
    std::thread::spawn(move || {
        for mut client in registry.incoming().flatten() {
            let sent = sent.clone();
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                let _ = client.read(&mut asked);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\r\n";
                let _ = client.write_all(head.as_bytes());
                while client.write_all(&[b'{'; 65_536]).is_ok() {
                    sent.fetch_add(65_536, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.configure_more(&format!("[registries]\nallowed = [{host:?}]\n"));
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
    let sent = endless.load(std::sync::atomic::Ordering::SeqCst);
    assert!(sent > 0, "nobody asked the registry, and nothing was bounded: {message}");
    assert!(!server.has_died());
}
