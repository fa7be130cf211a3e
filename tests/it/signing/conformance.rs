//! `sign-bundle` and `verify-bundle`, as sigstore-conformance's command-line protocol drives them.

use super::services::{ISSUER, Services, WHO, claims, token};
use super::{ARTIFACT, Desk};
use crate::world::statement;

/// Signs and verifies with the arguments in the order that the protocol gives them in.
#[test]
fn a_client_of_the_protocol_signs_and_verifies() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("signing.json", services.config().to_string().as_bytes());
    let token = token(&claims());
    let sign = [
        "sign-bundle",
        "--identity-token",
        &token,
        "--bundle",
        "a.sigstore.json",
        "--trusted-root",
        "root.json",
        "--signing-config",
        "signing.json",
        "app",
    ];
    desk.run(&sign).succeeds();
    let verify = |identity: &str, subject: &str| {
        desk.run(&[
            "verify-bundle",
            "--bundle",
            "a.sigstore.json",
            "--certificate-identity",
            identity,
            "--certificate-oidc-issuer",
            ISSUER,
            "--trusted-root",
            "root.json",
            subject,
        ])
    };
    verify(WHO, "app").succeeds();
    verify(WHO, &format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(ARTIFACT)))).succeeds();
    assert_eq!(verify("somebody@example.net", "app").exit, 1);
    desk.write("app", b"something else\n");
    assert_eq!(verify(WHO, "app").exit, 1);
}

#[test]
fn a_statement_is_signed_as_it_is() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("signing.json", services.config().to_string().as_bytes());
    let made = statement::statement(
        statement::STATEMENT_V1,
        &[statement::subject("app", ARTIFACT)],
        "https://example.org/predicate",
        &serde_json::json!({}),
    );
    // Its own spacing stays, since the signature is over the bytes.
    let text = serde_json::to_string_pretty(&made).unwrap();
    desk.write("statement.json", text.as_bytes());
    let token = token(&claims());
    let sign = [
        "sign-bundle",
        "--in-toto",
        "--identity-token",
        &token,
        "--bundle",
        "a.sigstore.json",
        "--trusted-root",
        "root.json",
        "--signing-config",
        "signing.json",
    ];
    desk.run(&[&sign[..], &["statement.json"]].concat()).succeeds();
    let payload = desk.json("a.sigstore.json")["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
    use base64::Engine as _;
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(payload).unwrap(), text.as_bytes());
    super::keyless::accepted(&desk, "a.sigstore.json", WHO, ISSUER);
    let before = desk.files();
    desk.run(&[&sign[..], &["predicate.json"]].concat()).fails(64, "predicate.json");
    assert_eq!(desk.files(), before);
}

#[test]
fn the_staging_instance_is_the_one_that_is_named() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("signing.json", services.config().to_string().as_bytes());
    let token = token(&claims());
    let sign = ["sign-bundle", "--staging", "--identity-token", &token, "--bundle", "a.json"];
    let bare = desk.run(&[&sign[..], &["app"]].concat());
    assert_eq!(bare.exit, 64, "{}", bare.stderr);
    let named = ["--trusted-root", "root.json", "--signing-config", "signing.json", "app"];
    desk.run(&[&sign[..], &named].concat()).succeeds();
    let verify = [
        "verify-bundle",
        "--staging",
        "--bundle",
        "a.json",
        "--certificate-identity",
        WHO,
        "--certificate-oidc-issuer",
        ISSUER,
    ];
    assert_eq!(desk.run(&[&verify[..], &["app"]].concat()).exit, 64);
    desk.run(&[&verify[..], &["--trusted-root", "root.json", "app"]].concat()).succeeds();
}
