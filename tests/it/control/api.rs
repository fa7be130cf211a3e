//! The interface and the verbs, with machines that are simulated.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::server::{Server, images};

/// One request, as any client would send it.
pub(super) fn ask(
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (StatusCode, String, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().unix_socket(server.socket()).build().unwrap();
        let mut request = client.request(method, format!("http://debvisor{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let tag = answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned()).unwrap_or_default();
        (answer.status(), tag, answer.json().await.unwrap_or(Value::Null))
    })
}

fn with_a_machine() -> Server {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw", "--nic", "user"]);
    server
}

#[test]
fn a_machine_goes_through_its_life() {
    let mut server = with_a_machine();
    server.ok(&["vm", "start", "web"]);
    let web = server.vm("web");
    assert_eq!(web["observed"]["power"], "running");
    assert_eq!(web["observed"]["slots"][1]["tier"], "block-server", "{web}");
    server.ok(&["vm", "pause", "web"]);
    assert_eq!(server.power("web"), "paused");
    server.ok(&["vm", "resume", "web"]);
    server.ok(&["vm", "snapshot", "create", "web", "before"]);
    server.ok(&["vm", "snapshot", "revert", "web", "before"]);
    server.ok(&["vm", "reset", "web"]);
    server.import(&[("other.raw", "disk"), ("cd.iso", "iso")]);
    server.ok(&["vm", "attach", "web", "--disk", "other.raw"]);
    server.ok(&["vm", "attach", "web", "--iso", "cd.iso"]);
    let web = server.vm("web");
    assert_eq!(web["spec"]["disks"].as_array().unwrap().len(), 2, "what was plugged in is part of the description");
    server.ok(&["vm", "detach", "web", "disk1"]);
    server.ok(&["vm", "save", "web"]);
    assert_eq!(server.power("web"), "stopped");

    // A clean end, and the next process finds everything as it was.
    assert_eq!(server.terminate(), Some(0));
    server.up(None);
    server.ok(&["vm", "start", "web"]);
    assert_eq!(server.power("web"), "running");
    assert_eq!(server.terminate(), Some(0));
    server.up(None);
    assert_eq!(server.power("web"), "running", "it ran on without the control plane");
    server.ok(&["vm", "delete", "web"]);
    assert_eq!(server.json(&["vm", "list"]), json!([]));
    let images: Vec<_> = std::fs::read_dir(server.state().join("machines")).unwrap().collect();
    assert!(images.is_empty(), "nothing is left of it: {images:?}");
    server.ok(&["image", "delete", "disk.raw"]);
    server.ok(&["audit", "verify"]);
}

#[test]
fn what_nobody_vouches_for_is_refused_when_it_is_described() {
    let server = with_a_machine();
    server.import(&[("stranger.raw", "disk")]);
    server.refused(&["vm", "create", "bad", "--disk", "stranger.raw"], "evidence-missing");
    assert_eq!(server.events("vm.refused").len(), 1);
    let list = server.ok(&["audit", "list"]);
    assert!(list.contains("refused"), "{list}");
    // As somebody who imported a kernel as a disk.
    server.refused(&["vm", "create", "bad", "--disk", "kernel"], "image-kind");
}

#[test]
fn bytes_that_changed_in_the_store_do_not_start_and_the_machine_says_why() {
    let server = with_a_machine();
    server.flip("kernel", 4711);
    server.refused(&["vm", "start", "web"], "image-changed");
    let web = server.vm("web");
    assert_eq!(web["hold"]["reasons"][0]["code"], "image-changed", "{web}");
    assert_eq!(server.power("web"), "stopped");
}

#[test]
fn two_who_saw_the_same_generation_do_not_both_change_it() {
    let server = with_a_machine();
    let (_, tag, web) = ask(&server, Method::GET, "/v1/vms/web", &[], None);
    assert!(tag.starts_with("\"1."), "the generation comes first: {tag}");
    let mut spec = web["spec"].clone();
    spec["cpus"] = 2.into();
    let put = |spec: &Value| ask(&server, Method::PUT, "/v1/vms/web", &[("if-match", &tag)], Some(spec.clone()));
    let (status, new, _) = put(&spec);
    assert!(status == StatusCode::OK && new.starts_with("\"2."), "{status} {new}");
    let (status, _, problem) = put(&spec);
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(problem["code"], "resource-stale");
}

#[test]
fn a_request_that_is_repeated_under_its_key_is_done_once() {
    let server = with_a_machine();
    let key = [("idempotency-key", "k1")];
    let start = || ask(&server, Method::POST, "/v1/vms/web/power", &key, Some(json!({ "power": "start" })));
    let (first, _, one) = start();
    let (_, _, two) = start();
    assert_eq!(first, StatusCode::ACCEPTED);
    assert_eq!(one["id"], two["id"]);
    let other = ask(&server, Method::POST, "/v1/vms/web/power", &key, Some(json!({ "power": "pause" })));
    assert_eq!(other.2["code"], "idempotency-key-reused");
    assert_eq!(server.json(&["vm", "operations", "web"]).as_array().unwrap().len(), 1);
}

#[test]
fn every_no_is_a_problem_document_with_a_code() {
    let server = with_a_machine();
    let spec = json!({ "name": "web", "memory_mib": 64, "disks": [] });
    let cases: [(Method, &str, Option<Value>, u16, &str); 8] = [
        (Method::GET, "/v1/vms/nobody", None, 404, "resource-unknown"),
        (Method::GET, "/v1/nothing", None, 404, "resource-unknown"),
        (Method::PATCH, "/v1/vms/web", None, 405, "request-malformed"),
        (Method::POST, "/v1/vms", Some(json!({ "name": "x" })), 422, "request-malformed"),
        (Method::POST, "/v1/vms", Some(json!({ "name": "Web!", "memory_mib": 1 })), 422, "request-malformed"),
        (Method::POST, "/v1/vms", Some(spec), 422, "machine-malformed"),
        (Method::GET, "/v1/vms?limit=x", None, 400, "request-malformed"),
        (Method::POST, "/v1/vms/web/actions", Some(json!({ "action": "reset" })), 409, "resource-conflict"),
    ];
    for (method, path, body, status, code) in cases {
        let (found, _, problem) = ask(&server, method.clone(), path, &[], body);
        assert_eq!(found.as_u16(), status, "{method} {path}: {problem}");
        assert_eq!(problem["code"], code, "{method} {path}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{problem}");
    }
}

#[test]
fn events_after_a_cursor_are_waited_for_and_told_once() {
    let server = with_a_machine();
    let (_, _, page) = ask(&server, Method::GET, "/v1/events?limit=1000", &[], None);
    let next = page["next"].as_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        let server = &server;
        let waiting = scope.spawn(move || {
            ask(server, Method::GET, &format!("/v1/events?after={next}&wait=30&kind=vm.started"), &[], None)
        });
        std::thread::sleep(Duration::from_millis(200));
        server.ok(&["vm", "start", "web"]);
        let (_, _, page) = waiting.join().unwrap();
        let kinds: Vec<&str> =
            page["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["vm.started"]);
    });
}

#[test]
fn an_upload_goes_on_where_it_stood_also_after_the_server_died() {
    let mut server = Server::simulated();
    let bytes = std::fs::read(images().join("disk.raw")).unwrap();
    let request = json!({ "kind": "disk", "name": "disk.raw", "bytes": bytes.len() });
    let (status, _, upload) = ask(&server, Method::POST, "/v1/images/uploads", &[], Some(request));
    assert_eq!(status, StatusCode::CREATED, "{upload}");
    let id = upload["id"].as_str().unwrap().to_owned();
    let send = |server: &Server, offset: usize, piece: &[u8]| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().unix_socket(server.socket()).build().unwrap();
            let request = client.patch(format!("http://debvisor/v1/images/uploads/{id}"));
            let request = request.header("upload-offset", offset.to_string()).body(piece.to_vec());
            request.send().await.unwrap().status()
        })
    };
    assert_eq!(send(&server, 0, &bytes[..50_000]), StatusCode::OK);
    assert_eq!(send(&server, 10, &bytes[..50]), StatusCode::CONFLICT, "a piece that does not continue is none");
    server.kill();
    server.up(None);
    server.ok(&["image", "import", "disk.raw", "--kind", "disk", "--resume", &id]);
    assert_eq!(server.json(&["image", "show", "disk.raw"])["decision"], "allow");
}

#[test]
fn what_is_to_start_with_its_node_is_started_by_that_path() {
    let mut server = with_a_machine();
    server.ok(&["vm", "create", "daemon", "--kernel", "kernel", "--autostart"]);
    server.ok(&["vm", "start", "web"]);
    server.kill();
    // The host comes up anew: nothing that ran is there any more.
    std::fs::remove_dir_all(server.state().join("machines")).unwrap();
    server.configure("kind = \"simulated\"\nboot-id = \"second\"", "");
    server.up(None);
    server.until("daemon", "running", Duration::from_secs(10));
    assert_eq!(server.power("web"), "stopped", "it did not ask for that");
    assert_eq!(server.events("vm.autostart").len(), 1);
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_a_wrong_configuration_names_its_line() {
    let server = Server::simulated();
    let config = server.dir.path().join("config.toml");
    let state = server.state();
    let second = |config: &std::path::Path| {
        server.cli(&["up", "--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()])
    };
    let output = second(&config);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another debvisor is up"));
    let wrong = server.dir.path().join("wrong.toml");
    std::fs::write(&wrong, "node = \"a\"\n[hypervisor]\nkind = \"xen\"\n").unwrap();
    let output = second(&wrong);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains(":3: hypervisor.kind: "), "{output:?}");
}

#[test]
fn where_nobody_answers_the_verb_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["vm", "list", "--socket", socket.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no control plane answers") && told.contains("debvisor up"), "{told}");
}

#[test]
fn lists_are_narrowed_and_every_page_goes_on_where_the_one_before_ended() {
    let server = with_a_machine();
    for name in ["web-2", "db", "web-3"] {
        server.ok(&["vm", "create", name, "--kernel", "kernel"]);
    }
    server.ok(&["vm", "start", "web"]);
    server.import(&[("stranger.raw", "disk")]);
    let all = |path: &str, name: &str| {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let (status, _, page) = ask(&server, Method::GET, &format!("{path}{sign}limit=1&after={after}"), &[], None);
            assert_eq!(status, StatusCode::OK, "{path}: {page}");
            for item in page["items"].as_array().unwrap() {
                let value = item.pointer(name).unwrap();
                found.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return found,
            }
        }
    };
    assert_eq!(all("/v1/vms?name=web", "/name"), ["web", "web-2", "web-3"]);
    assert_eq!(all("/v1/vms?power=running", "/name"), ["web"]);
    assert_eq!(all("/v1/vms?power=stopped&name=d", "/name"), ["db"]);
    assert!(all("/v1/vms?node=elsewhere", "/name").is_empty());
    assert_eq!(all("/v1/images?kind=kernel", "/name"), ["kernel"]);
    assert_eq!(all("/v1/images?decision=allow", "/name").len(), 2);
    assert_eq!(all("/v1/images?decision=allow&kind=disk", "/name"), ["disk.raw"]);
    assert_eq!(all("/v1/vms/web/operations?state=done", "/kind"), ["start"]);
    assert!(all("/v1/vms/web/operations?state=failed", "/kind").is_empty());
    assert_eq!(all("/v1/audit?action=vm.create", "/action").len(), 4);
    let own = format!("uid:{}", rustix::process::geteuid().as_raw());
    assert!(all(&format!("/v1/audit?action=vm.&actor={own}"), "/action").len() > 4);
    assert!(all("/v1/audit?until=2020-01-01T00:00:00Z", "/action").is_empty());
    assert!(!all("/v1/audit?since=2020-01-01T00:00:00Z&outcome=done", "/action").is_empty());
    for wrong in ["/v1/vms?power=on", "/v1/images?decision=maybe", "/v1/audit?since=yesterday", "/v1/vms?nam=web"] {
        assert_eq!(ask(&server, Method::GET, wrong, &[], None).0, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
