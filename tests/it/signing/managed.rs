//! Managed keys: with a log and without one, of every kind that signs.

use serde_json::Value;

use super::Desk;
use super::services::{Flaw, Services};

const PASSWORD: [(&str, &str); 1] = [("COSIGN_PASSWORD", "pass word")];

/// A desk with a key of `debvisor key generate`.
fn with_key() -> Desk {
    let desk = Desk::new();
    desk.run_with(&["key", "generate", "--out", "release"], &PASSWORD).succeeds();
    desk
}

#[track_caller]
fn accepted(desk: &Desk, bundle: &str, key: &str) {
    let ran =
        desk.run(&["verify", "app", "--bundle", bundle, "--key", key, "--offline", "--format", "json"]).succeeds();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["decision"], "allow");
}

#[test]
fn a_key_signs_and_attests_without_any_service() {
    let desk = with_key();
    desk.run_with(&["sign", "app", "--key", "release.key", "--offline"], &PASSWORD).succeeds();
    let attest = ["attest", "app", "--predicate", "predicate.json", "--type", "custom", "--key", "release.key"];
    desk.run_with(&attest, &PASSWORD).succeeds();
    for name in ["app.sigstore.json", "app.att.sigstore.json"] {
        assert!(desk.json(name)["verificationMaterial"].get("tlogEntries").is_none());
        accepted(&desk, name, "release.pub");
    }
    desk.write("app", b"something else\n");
    let ran = desk.run(&["verify", "app", "--bundle", "app.sigstore.json", "--key", "release.pub", "--offline"]);
    assert_eq!(ran.exit, 1, "{}", ran.stdout);
}

#[test]
fn a_key_goes_into_either_log() {
    let (desk, services) = (with_key(), Services::honest());
    let tsa = format!("{}/api/v1/timestamp", services.tsa);
    let first = ["--rekor-url", services.rekor.as_str()];
    let second = ["--rekor-url", &services.rekor2, "--rekor-version", "2", "--timestamp-server-url", &tsa];
    for log in [&first[..], &second] {
        let more = [&["--key", "release.key", "--trusted-root", "root.json"], log].concat();
        desk.run_with(&[&["sign", "app"], &more[..]].concat(), &PASSWORD).succeeds();
        let attest = ["attest", "app", "--predicate", "predicate.json", "--type", "custom"];
        desk.run_with(&[&attest, &more[..]].concat(), &PASSWORD).succeeds();
        for name in ["app.sigstore.json", "app.att.sigstore.json"] {
            // With --trusted-root the log is demanded.
            desk.run(&["verify", "app", "--bundle", name, "--key", "release.pub", "--trusted-root", "root.json"])
                .succeeds();
        }
    }
    assert!(!services.asked().contains(&"fulcio".to_owned()), "a key needs no certificate");
}

#[test]
fn a_key_and_a_clock_need_no_log() {
    let (desk, services) = (with_key(), Services::honest());
    let tsa = format!("{}/api/v1/timestamp", services.tsa);
    let sign = ["sign", "app", "--key", "release.key", "--timestamp-server-url", &tsa, "--trusted-root", "root.json"];
    desk.run_with(&sign, &PASSWORD).succeeds();
    assert_eq!(services.asked(), ["tsa"]);
}

#[test]
fn a_log_that_has_the_entry_already_gives_it_again() {
    // RSA signs the same bytes in the same way each time, so that the log sees the same entry.
    let (desk, services) = (Desk::new(), Services::honest());
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    use aws_lc_rs::encoding::AsDer as _;
    let pkcs8 = pair.as_der().unwrap();
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, pkcs8.as_ref()).unwrap();
    desk.write("rsa.key", pem.as_bytes());
    let sign = ["sign", "app", "--key", "rsa.key", "--rekor-url", &services.rekor, "--trusted-root", "root.json"];
    desk.run(&sign).succeeds();
    let first = desk.json("app.sigstore.json");
    desk.run(&sign).succeeds();
    assert_eq!(desk.json("app.sigstore.json")["verificationMaterial"], first["verificationMaterial"]);
    assert_eq!(services.asked(), ["rekor", "rekor", "rekor"]);
}

#[test]
fn a_key_of_a_kind_that_the_log_does_not_take_is_told_so() {
    let (desk, services) = (Desk::new(), Services::honest());
    let pkcs8 = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, pkcs8.as_ref()).unwrap();
    desk.write("ed25519.key", pem.as_bytes());
    let before = desk.files();
    let tsa = format!("{}/api/v1/timestamp", services.tsa);
    let sign = ["sign", "app", "--key", "ed25519.key", "--trusted-root", "root.json", "--timestamp-server-url", &tsa];
    let second = [&sign[..], &["--rekor-url", &services.rekor2, "--rekor-version", "2"]].concat();
    desk.run(&second).fails(64, "Ed25519");
    desk.run(&[&sign[..], &["--rekor-url", &services.rekor]].concat()).fails(1, "400");
    assert_eq!(desk.files(), before);
    // Without a log it signs.
    desk.run(&["sign", "app", "--key", "ed25519.key", "--offline"]).succeeds();
}

#[test]
fn a_log_that_is_down_leaves_nothing_of_a_managed_signature() {
    let desk = with_key();
    let services = Services::with(&[("rekor", Flaw::Down)]);
    desk.write("app.sigstore.json", b"an earlier bundle");
    let before = desk.files();
    let sign = ["sign", "app", "--key", "release.key", "--rekor-url", &services.rekor, "--trusted-root", "root.json"];
    desk.run_with(&sign, &PASSWORD).fails(2, "cannot reach");
    assert_eq!(desk.files(), before);
}

#[test]
fn a_wrong_password_or_a_missing_file_signs_nothing_of_several() {
    let desk = with_key();
    let before = desk.files();
    let sign = ["sign", "app", "no-such-file", "--key", "release.key"];
    desk.run_with(&sign, &PASSWORD).fails(64, "no-such-file");
    desk.run_with(&["sign", "app", "--key", "release.key"], &[("COSIGN_PASSWORD", "wrong")]).fails(64, "password");
    desk.run(&["sign", "app", "--key", "release.key"]).fails(64, "password");
    assert_eq!(desk.files(), before);
}
