//! schemathesis, which nobody of us wrote, asks the real binary over TLS, as an administrator, whatever its description
//! allows and forbids: examples, the edges of every schema, and thousands of others; with every check that it has.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::super::tls::listening;
use super::super::users::{PASSWORD, create};
use super::ask;

/// Nobody is told to wait: what is tried here is what requests mean, and not how many there may be.
const LIMITS: &str = "connections-per-address = 4096\n[limits]\nrequests-per-second-per-address = 1000000\nrequests-per-second-per-user = 1000000\n\
    logins-per-minute-per-address = 1000000";

#[test]
fn the_interface_keeps_to_its_description() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "scripts/needs.sh test brings schemathesis");
    let (mut server, address) = listening(LIMITS, &[]);
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw"]);
    server.ok(&["vm", "start", "web"]);
    create(&server, "tester", &["--role", "admin"]);
    let token = || {
        let login = json!({ "user": "tester", "password": PASSWORD, "kind": "token" });
        ask(&server, "POST", "/v1/session", &[], Some(&login)).json()["token"].as_str().unwrap().to_owned()
    };
    let (token, leaving) = (token(), token());
    let output = Command::new(program)
        .arg("--config-file")
        .arg(root.join("tests/it/control/interface/schemathesis.toml"))
        .args(["run", &format!("https://{address}/v1/openapi.json"), "--checks", "all", "--seed", "1"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "10"])
        .args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off", "--no-color"])
        .env("AUTHORITY", server.state().join("tls/ca.crt"))
        .env("TOKEN", token)
        .env("LEAVING", leaving)
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    assert!(told.contains("Fuzzing") && told.contains("Stateful"), "it ran: {told}");
    assert!(!server.has_died(), "{}", server.log());
    // Much of it got past the door: otherwise this looked at the door alone.
    let done = ask(&server, "GET", "/v1/audit?actor=user:tester&outcome=done&limit=1000", &[], None).json();
    let done: BTreeSet<&str> =
        done["items"].as_array().unwrap().iter().filter_map(|record| record["action"].as_str()).collect();
    assert!(done.len() >= 5 && done.contains("tenant.create"), "hardly anything was done: {done:?}");
    server.ok(&["audit", "verify"]);
}
