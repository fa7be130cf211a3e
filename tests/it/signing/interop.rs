//! Our keyless bundles before clients that are not ours: sigstore-python and @sigstore/verify. `make interop` installs
//! both and runs this; the plain tests do not, since they take nothing from the network.

use std::path::PathBuf;
use std::process::Command;

use super::Desk;
use super::keyless::{accepted, flags, flags2, joined};
use super::services::{ISSUER, Services, WHO, claims, token};

#[test]
#[ignore = "needs the clients that `make interop` installs"]
fn other_clients_accept_our_keyless_bundles() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("target/tools/interop");
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
    let python = (tools.join("python/bin/python"), root.join("tests/interop/verify.py"));
    let node = (PathBuf::from("node"), root.join("tests/interop/verify.mjs"));
    let mut said = String::new();
    for (program, script) in [python, node] {
        let output = Command::new(&program)
            .arg(&script)
            .arg(desk.home.path())
            .args([WHO, ISSUER])
            .env("NODE_PATH", tools.join("node/node_modules"))
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; run `make interop`", program.display()));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        println!("{}:\n{printed}", script.display());
        assert!(output.status.success(), "{}: {printed}", script.display());
        said.push_str(&printed);
    }
    assert_eq!(said.matches("accepts ").count(), 8, "{said}");
}
