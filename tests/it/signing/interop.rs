//! Our keyless bundles before clients that are not ours, sigstore-python and @sigstore/verify, and theirs before us.
//! `scripts/needs.sh test` installs both, by scripts/sigstore-clients.sh; the services are stand-ins on loopback.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::Desk;
use super::keyless::{accepted, flags, flags2, joined};
use super::services::{ISSUER, Services, WHO, claims, token};
use crate::world::World;

fn tools() -> PathBuf {
    root().join("target/tools/interop")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script of tests/interop in its own Python.
fn python(script: &str, arguments: &[&str]) {
    let program = tools().join("python/bin/python");
    let output = Command::new(&program)
        .arg(root().join("tests/interop").join(script))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run `scripts/needs.sh test`", program.display()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{script}: {printed}");
    assert!(output.status.success(), "{script}: {printed}");
}

#[test]
fn we_accept_what_another_client_signs_by_the_same_services() {
    let (desk, services) = (Desk::new(), Services::honest());
    let mut first = services.config();
    first["rekorTlogUrls"].as_array_mut().unwrap().remove(0);
    first.as_object_mut().unwrap().remove("tsaUrls");
    first.as_object_mut().unwrap().remove("tsaConfig");
    for (version, signing) in [("v1", first), ("v2", services.config())] {
        let config = json!({
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": World::shared().trusted_root(),
            "signingConfig": signing,
        });
        desk.write("config.json", config.to_string().as_bytes());
        let folder = desk.home.path().to_str().unwrap();
        python("sign.py", &[folder, &token(&claims()), "config.json", version]);
        for kind in ["signed", "attested"] {
            accepted(&desk, &format!("{version}-{kind}.json"), WHO, ISSUER);
        }
    }
}

#[test]
fn cosigns_key_form_is_read_and_written_by_code_that_is_not_ours() {
    let desk = Desk::new();
    let password = [("COSIGN_PASSWORD", "pass word")];
    desk.run_with(&["key", "generate", "--out", "release"], &password).succeeds();
    python("cosign_key.py", &[desk.home.path().to_str().unwrap(), "pass word"]);
    desk.run_with(&["sign", "app", "--key", "other.key"], &password).succeeds();
    desk.run(&["verify", "app", "--bundle", "app.sigstore.json", "--key", "other.pub", "--offline"]).succeeds();
}

#[test]
fn other_clients_accept_our_keyless_bundles() {
    let (desk, services) = (Desk::new(), Services::honest());
    let token = token(&claims());
    for (version, flags) in [("v1", flags(&services)), ("v2", flags2(&services))] {
        let (signed, attested) = (format!("signed-{version}.json"), format!("attested-{version}.json"));
        let sign = ["sign", "app", "--identity-token", &token, "--bundle", &signed];
        desk.run(&joined(&sign, &flags)).succeeds();
        let attest = [
            "attest",
            "app",
            "--identity-token",
            &token,
            "--predicate",
            "predicate.json",
            "--type",
            "test-result",
            "--bundle",
            &attested,
        ];
        desk.run(&joined(&attest, &flags)).succeeds();
        for name in [&signed, &attested] {
            accepted(&desk, name, WHO, ISSUER);
        }
    }
    // Each prints a line a bundle, `accepts NAME` or `refuses NAME: why`, for what is honest and for what is changed.
    let python = (tools().join("python/bin/python"), root().join("tests/interop/verify.py"));
    let node = (PathBuf::from("node"), root().join("tests/interop/verify.mjs"));
    let mut said = String::new();
    for (program, script) in [python, node] {
        let output = Command::new(&program)
            .arg(&script)
            .arg(desk.home.path())
            .args([WHO, ISSUER])
            .env("NODE_PATH", tools().join("node/node_modules"))
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; run `scripts/needs.sh test`", program.display()));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        println!("{}:\n{printed}", script.display());
        assert!(output.status.success(), "{}: {printed}", script.display());
        said.push_str(&printed);
    }
    assert_eq!(said.matches("accepts ").count(), 8, "{said}");
}
