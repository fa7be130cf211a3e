//! Keyless signing: an identity token and services in, bundles that we and another verifier accept out.

use serde_json::{Value, json};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::Bundle;
use sigstore_verify::{VerificationPolicy, Verifier};

use super::services::{ISSUER, JOB_SECRET, REPOSITORY, Services, TAG, WHO, claims, token};
use super::{ARTIFACT, Desk};
use crate::world::World;
use crate::world::ca::GITHUB_ISSUER;

/// The artifact's bundle passes `verify`, and the `sigstore-verify` crate, for this identity, and for no other.
#[track_caller]
pub(super) fn accepted(desk: &Desk, bundle: &str, identity: &str, issuer: &str) {
    let verify = |identity: &str| {
        desk.run(&[
            "verify",
            "app",
            "--bundle",
            bundle,
            "--trusted-root",
            "root.json",
            "--certificate-identity",
            identity,
            "--certificate-oidc-issuer",
            issuer,
            "--format",
            "json",
        ])
    };
    let ran = verify(identity).succeeds();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["decision"], "allow");
    let stranger = verify("somebody@example.net");
    assert_eq!(stranger.exit, 1, "{}", stranger.stdout);
    assert!(stranger.stdout.contains("identity-mismatch"), "{}", stranger.stdout);

    let root = TrustedRoot::from_json(&World::shared().trusted_root().to_string()).unwrap();
    let bundle = Bundle::from_json(std::str::from_utf8(&desk.read(bundle)).unwrap()).unwrap();
    let policy = VerificationPolicy::new(identity, issuer);
    let verdict = Verifier::new(&root).unwrap().verify(ARTIFACT, &bundle, &policy);
    assert!(verdict.is_ok(), "sigstore-verify: {}", verdict.unwrap_err());
}

/// The services as flags: the log of version 1.
pub(crate) fn flags(services: &Services) -> Vec<String> {
    ["--fulcio-url", &services.fulcio, "--rekor-url", &services.rekor, "--trusted-root", "root.json"]
        .map(str::to_owned)
        .into()
}

/// The services as flags: the log of version 2, with the clock that it needs.
pub(crate) fn flags2(services: &Services) -> Vec<String> {
    let tsa = format!("{}/api/v1/timestamp", services.tsa);
    [
        "--fulcio-url",
        &services.fulcio,
        "--rekor-url",
        &services.rekor2,
        "--rekor-version",
        "2",
        "--timestamp-server-url",
        &tsa,
        "--trusted-root",
        "root.json",
    ]
    .map(str::to_owned)
    .into()
}

pub(crate) fn joined<'a>(first: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

fn entries(bundle: &Value) -> &Vec<Value> {
    bundle["verificationMaterial"]["tlogEntries"].as_array().unwrap()
}

#[test]
fn a_signature_goes_into_a_log_of_version_1() {
    let (desk, services) = (Desk::new(), Services::honest());
    let token = token(&claims());
    let ran = desk.run(&joined(&["sign", "app", "--identity-token", &token], &flags(&services))).succeeds();
    assert_eq!(ran.stderr, "wrote app.sigstore.json\n");
    assert_eq!(services.asked(), ["fulcio", "rekor"]);
    let bundle = desk.json("app.sigstore.json");
    assert_eq!(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(entries(&bundle)[0]["kindVersion"], json!({"kind": "hashedrekord", "version": "0.0.1"}));
    accepted(&desk, "app.sigstore.json", WHO, ISSUER);
}

#[test]
fn an_attestation_goes_into_a_log_of_version_1() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("notes", b"what is new\n");
    let token = token(&claims());
    let attest = ["attest", "app", "notes", "--predicate", "predicate.json", "--type", "test-result"];
    let flags = [flags(&services), vec!["--identity-token".to_owned(), token]].concat();
    desk.run(&joined(&attest, &flags)).succeeds();
    let bundle = desk.json("app.att.sigstore.json");
    assert_eq!(entries(&bundle)[0]["kindVersion"], json!({"kind": "dsse", "version": "0.0.1"}));
    accepted(&desk, "app.att.sigstore.json", WHO, ISSUER);
    let of_notes = desk.run(&[
        "verify",
        "notes",
        "--bundle",
        "app.att.sigstore.json",
        "--trusted-root",
        "root.json",
        "--certificate-identity",
        WHO,
        "--certificate-oidc-issuer",
        ISSUER,
        "--predicate-type",
        "https://in-toto.io/attestation/test-result/v0.1",
    ]);
    of_notes.succeeds();
}

#[test]
fn a_log_of_version_2_and_a_clock_by_flags_and_by_signing_configuration() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("signing.json", services.config().to_string().as_bytes());
    let token = token(&claims());
    let by_flags = flags2(&services);
    let by_config = ["--signing-config", "signing.json", "--trusted-root", "root.json"].map(str::to_owned).to_vec();
    for (round, flags) in [by_flags, by_config].iter().enumerate() {
        let sign = ["sign", "app", "--identity-token", &token, "--bundle", "signed.json"];
        desk.run(&joined(&sign, flags)).succeeds();
        let attest = [
            "attest",
            "app",
            "--predicate",
            "predicate.json",
            "--type",
            "custom",
            "--bundle",
            "attested.json",
            "--identity-token",
            &token,
        ];
        desk.run(&joined(&attest, flags)).succeeds();
        for name in ["signed.json", "attested.json"] {
            let bundle = desk.json(name);
            assert_eq!(entries(&bundle)[0]["kindVersion"], json!({"kind": "hashedrekord", "version": "0.0.2"}));
            assert!(
                entries(&bundle)[0].get("inclusionPromise").is_none()
                    && entries(&bundle)[0].get("integratedTime").is_none()
            );
            accepted(&desk, name, WHO, ISSUER);
        }
        // The clock comes first: the log is believed at its time.
        assert_eq!(services.asked()[round * 6..][..3], ["fulcio", "tsa", "rekor2"]);
    }
}

#[test]
fn a_job_in_github_actions_asks_for_its_token() {
    let (desk, services) = (Desk::new(), Services::honest());
    let url = format!("{}/token?api-version=2.0", services.github);
    let job = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", JOB_SECRET),
    ];
    desk.run_with(&joined(&["sign", "app"], &flags(&services)), &job).succeeds();
    assert_eq!(services.asked(), ["github", "fulcio", "rekor"]);
    let workflow = format!("https://github.com/{REPOSITORY}/.github/workflows/release.yml@{TAG}");
    accepted(&desk, "app.sigstore.json", &workflow, GITHUB_ISSUER);
}

#[test]
fn the_token_is_a_value_or_a_file_or_in_the_environment() {
    let (desk, services) = (Desk::new(), Services::honest());
    let token = token(&claims());
    desk.write("token", format!("{token}\n").as_bytes());
    let flags = flags(&services);
    desk.run(&joined(&["sign", "app", "--identity-token", "token"], &flags)).succeeds();
    accepted(&desk, "app.sigstore.json", WHO, ISSUER);
    desk.run_with(&joined(&["sign", "app"], &flags), &[("SIGSTORE_ID_TOKEN", &token)]).succeeds();
    accepted(&desk, "app.sigstore.json", WHO, ISSUER);
    let asked = services.asked().len();
    for wrong in ["no-such-file", "a.b", "..", "a b.c.d"] {
        desk.run(&joined(&["sign", "app", "--identity-token", wrong], &flags)).fails(64, "neither a file nor a token");
    }
    desk.run(&joined(&["sign", "app"], &flags)).fails(64, "nobody is named who signs");
    assert_eq!(services.asked().len(), asked, "what is no token is sent nowhere");
}

#[test]
fn several_files_share_one_certificate() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("notes", b"what is new\n");
    let token = token(&claims());
    desk.run(&joined(&["sign", "app", "notes", "--identity-token", &token], &flags(&services))).succeeds();
    assert_eq!(services.asked(), ["fulcio", "rekor", "rekor"]);
    accepted(&desk, "app.sigstore.json", WHO, ISSUER);
    assert!(desk.path("notes.sigstore.json").exists());
}
