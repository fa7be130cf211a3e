//! `debvisor trust bundle`: what is taken, and each flaw that is not.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use debvisor::release::attest::key::PrivateKey;
use debvisor::release::trust::bundle::{Contents, Item, SCHEMA, SignedBundle, SignersWire};
use serde_json::Value;

use super::repository::in_days;
use super::{allowed, codes, debvisor, refused, report};

/// A user's home with a few signers' keys in it.
struct Home {
    dir: tempfile::TempDir,
    keys: Vec<(&'static str, PrivateKey)>,
}

const NAMES: [&str; 4] = ["ann", "bob", "cem", "dee"];

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for name in NAMES {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
            let key = PrivateKey::from_pkcs8(pkcs8.as_ref()).unwrap();
            let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, pkcs8.as_ref()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), pem).unwrap();
            fs::write(dir.path().join(format!("{name}.pub")), key.public().to_pem()).unwrap();
            keys.push((name, key));
        }
        fs::write(dir.path().join("root.json"), debvisor::release::trust::embedded().json).unwrap();
        Self { dir, keys }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn key(&self, name: &str) -> &PrivateKey {
        &self.keys.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn state(&self) -> PathBuf {
        self.path().join(".config/debvisor/trust/bundle.json")
    }

    /// Writes a bundle that `signers` signed.
    fn write(&self, file: &str, contents: Contents, signers: &[&str]) {
        let mut bundle = SignedBundle::new(contents).unwrap();
        for signer in signers {
            let key = self.key(signer);
            bundle.add_signature(key.public(), key.sign(&bundle.message()).unwrap()).unwrap();
        }
        fs::write(self.path().join(file), bundle.to_json().unwrap()).unwrap();
    }

    fn successors(&self, threshold: usize, names: &[&str]) -> SignersWire {
        SignersWire { threshold, keys: names.iter().map(|name| self.key(name).public().to_pem()).collect() }
    }

    #[track_caller]
    fn installs(&self, file: &str) -> Value {
        allowed(self.path(), &["trust", "bundle", "install", file])
    }

    #[track_caller]
    fn pins(&self, file: &str) -> Value {
        let mut arguments = vec!["trust", "bundle", "install", file];
        arguments.extend(TWO_OF_THREE);
        allowed(self.path(), &arguments)
    }

    /// Expects that `file` is not installed, and that what is stays as it is.
    #[track_caller]
    fn keeps_out(&self, file: &str, code: &str) -> String {
        let before = fs::read(self.state()).ok();
        let message = refused(self.path(), &["trust", "bundle", "install", file], 1, code);
        assert_eq!(fs::read(self.state()).ok(), before, "the installed bundle was touched");
        message
    }

    /// Expects that `file` does not verify for two of three.
    #[track_caller]
    fn rejects(&self, file: &str, code: &str) -> String {
        refused(self.path(), &[&["trust", "bundle", "verify", file], &TWO_OF_THREE[..]].concat(), 1, code)
    }

    #[track_caller]
    fn verifies(&self, file: &str) -> Value {
        allowed(self.path(), &[&["trust", "bundle", "verify", file], &TWO_OF_THREE[..]].concat())
    }
}

const TWO_OF_THREE: [&str; 8] =
    ["--signer", "ann.pub", "--signer", "bob.pub", "--signer", "cem.pub", "--threshold", "2"];

fn contents(version: u64) -> Contents {
    Contents {
        schema: SCHEMA,
        version,
        created_at: in_days(-1),
        expires_at: in_days(30),
        signers: None,
        roots: vec![Item { name: "main".to_owned(), content: debvisor::release::trust::embedded().json.to_vec() }],
        policies: Vec::new(),
        keys: Vec::new(),
        openpgp_keyrings: Vec::new(),
        revocations: Vec::new(),
    }
}

/// The file as JSON, changed, and written back.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = debvisor(home.path(), arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_bundle_is_made_signed_in_any_order_verified_and_installed() {
    let home = Home::new();
    fs::write(home.path().join("release.rego"), "package release\n").unwrap();
    let create = [
        "trust",
        "bundle",
        "create",
        "--out",
        "trust.bundle",
        "--root",
        "main=root.json",
        "--policy",
        "release.rego",
        "--key",
        "dee.pub",
        "--openpgp-keyring",
        "team=root.json",
        "--revoke",
        "identity:mallory@example.com",
        "--revoke",
        "key:dee.pub",
        "--revoke-reason",
        "leaked",
        "--version",
        "3",
        "--expires",
        "90d",
    ];
    assert_eq!(run(&home, &create).0, Some(0));
    home.rejects("trust.bundle", "trust-bundle-invalid");
    for (at, key) in ["cem.key", "ann.key"].iter().enumerate() {
        if at == 1 {
            home.rejects("trust.bundle", "trust-bundle-invalid");
        }
        assert_eq!(run(&home, &["trust", "bundle", "sign", "trust.bundle", "--key", key]).0, Some(0));
    }
    home.verifies("trust.bundle");
    let installed = home.pins("trust.bundle");
    let facts = &installed["facts"];
    assert_eq!(facts["version"], 3);
    assert_eq!(facts["policies"], serde_json::json!(["release"]));
    assert_eq!(facts["keys"], serde_json::json!(["dee"]));
    assert_eq!(facts["revocations"], 2);
    assert_eq!(facts["changed"], true);

    let shown = allowed(home.path(), &["trust", "show"]);
    assert_eq!(shown["facts"]["origin"], "the installed trust bundle, root `main`");
    assert_eq!(shown["trust_root"]["age_days"], 0);
    allowed(home.path(), &["trust", "check", "--trusted-root", "bundle:main"]);
    refused(home.path(), &["trust", "check", "--trusted-root", "bundle:other"], 2, "trust-root-unreadable");
    assert_eq!(home.installs("trust.bundle")["facts"]["changed"], false);
}

#[test]
fn the_same_inputs_and_the_same_time_make_the_same_bundle() {
    let home = Home::new();
    let mut made = Vec::new();
    for out in ["a", "b"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_debvisor"))
            .args([
                "trust",
                "bundle",
                "create",
                "--root",
                "root.json",
                "--version",
                "1",
                "--expires",
                "1d",
                "--out",
                out,
            ])
            .current_dir(home.path())
            .env("SOURCE_DATE_EPOCH", "1790000000")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        made.push(fs::read(home.path().join(out)).unwrap());
    }
    assert_eq!(made[0], made[1]);
}

#[test]
fn one_signer_twice_counts_once() {
    let home = Home::new();
    home.write("b", contents(1), &["ann"]);
    // The verb replaces a signer's own signature; the second one is put there by hand, and is as good as the first.
    assert_eq!(run(&home, &["trust", "bundle", "sign", "b", "--key", "ann.key"]).0, Some(0));
    home.write("other", contents(1), &["ann"]);
    let other: Value = serde_json::from_slice(&fs::read(home.path().join("other")).unwrap()).unwrap();
    edit(&home.path().join("b"), |value| {
        let signatures = value["signatures"].as_array_mut().unwrap();
        assert_eq!(signatures.len(), 1);
        let twice = signatures[0].clone();
        signatures.push(twice);
        signatures.push(other["signatures"][0].clone());
    });
    let message = home.rejects("b", "trust-bundle-invalid");
    assert!(message.contains("1 of the 3 signers signed it, and 2 must"), "{message}");
}

#[test]
fn a_strangers_signature_beside_enough_good_ones_changes_nothing() {
    let home = Home::new();
    home.write("b", contents(1), &["dee", "ann", "cem"]);
    home.verifies("b");
    home.write("c", contents(1), &["dee", "ann"]);
    home.rejects("c", "trust-bundle-invalid");
}

#[test]
fn a_signature_under_a_signers_id_that_does_not_fit_is_refused_even_beside_enough_good_ones() {
    let home = Home::new();
    home.write("b", contents(1), &["ann", "bob", "cem"]);
    edit(&home.path().join("b"), |value| {
        let signatures = value["signatures"].as_array_mut().unwrap();
        signatures[2]["sig"] = signatures[1]["sig"].clone();
    });
    assert!(home.rejects("b", "trust-bundle-invalid").contains("does not fit"));
}

#[test]
fn a_changed_bundle_is_refused_whatever_was_changed() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let home = Home::new();
    let path = home.path().join("b");
    let payload = |value: &mut Value, change: &dyn Fn(String) -> String| {
        let text = String::from_utf8(STANDARD.decode(value["payload"].as_str().unwrap()).unwrap()).unwrap();
        value["payload"] = STANDARD.encode(change(text)).into();
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, &str); 8] = [
        (&|value| payload(value, &|text| text.replace("\"version\":1", "\"version\":2")), "trust-bundle-invalid"),
        (
            &|value| payload(value, &|text| text.replace("\"version\":1", "\"version\":1,\"version\":1")),
            "duplicate-key",
        ),
        (
            &|value| payload(value, &|text| text.replace("\"version\":1", "\"version\":1,\"extra\":1")),
            "trust-bundle-invalid",
        ),
        (&|value| payload(value, &|text| text.replace("\"schema\":1", "\"schema\":2")), "trust-bundle-invalid"),
        (&|value| payload(value, &|text| text + " x"), "malformed-json"),
        (&|value| value["payloadType"] = "application/vnd.in-toto+json".into(), "trust-bundle-invalid"),
        (&|value| value["signatures"] = serde_json::json!([]), "trust-bundle-invalid"),
        (&|value| value["more"] = 1.into(), "trust-bundle-invalid"),
    ];
    for (at, (change, code)) in cases.into_iter().enumerate() {
        home.write("b", contents(1), &["ann", "bob"]);
        home.verifies("b");
        edit(&path, change);
        let (exit, report) = report(home.path(), &[&["trust", "bundle", "verify", "b"], &TWO_OF_THREE[..]].concat());
        assert_eq!((exit, codes(&report)), (1, vec![code]), "case {at}");
    }
}

#[test]
fn a_bundle_that_expired_or_is_from_the_future_is_refused() {
    let home = Home::new();
    home.write("old", Contents { created_at: in_days(-9), expires_at: in_days(-1), ..contents(1) }, &["ann", "bob"]);
    assert!(home.rejects("old", "trust-bundle-invalid").contains("expired"));
    home.write("young", Contents { created_at: in_days(2), ..contents(1) }, &["ann", "bob"]);
    assert!(home.rejects("young", "trust-bundle-invalid").contains("future"));
}

#[test]
fn an_older_bundle_is_a_rollback() {
    let home = Home::new();
    home.write("two", contents(2), &["ann", "bob"]);
    home.pins("two");
    home.write("one", contents(1), &["ann", "bob", "cem"]);
    assert!(home.keeps_out("one", "trust-bundle-rollback").contains("version 1"));
    // The same version with other words is another story about it.
    home.write("again", Contents { expires_at: in_days(90), ..contents(2) }, &["ann", "bob", "cem"]);
    home.keeps_out("again", "trust-bundle-rollback");
    home.write("three", contents(3), &["bob", "cem"]);
    home.installs("three");
    home.keeps_out("two", "trust-bundle-rollback");
    let verify = [&["trust", "bundle", "verify", "three", "--min-version", "4"], &TWO_OF_THREE[..]].concat();
    refused(home.path(), &verify, 1, "trust-bundle-rollback");
}

#[test]
fn signers_change_only_by_the_threshold_of_the_old_and_of_the_new() {
    let home = Home::new();
    home.write("one", contents(1), &["ann", "bob"]);
    home.pins("one");
    let next = |version| Contents { signers: Some(home.successors(2, &["cem", "dee"])), ..contents(version) };
    home.write("by-old", next(2), &["ann", "bob"]);
    home.keeps_out("by-old", "trust-bundle-invalid");
    home.write("by-new", next(2), &["cem", "dee"]);
    home.keeps_out("by-new", "trust-bundle-invalid");
    // One of the new is one of the old and counts for both.
    home.write("by-both", next(2), &["ann", "cem", "dee"]);
    assert_eq!(home.installs("by-both")["facts"]["threshold"], 2);
    home.write("three-by-old", contents(3), &["ann", "bob"]);
    home.keeps_out("three-by-old", "trust-bundle-invalid");
    home.write("three", contents(3), &["cem", "dee"]);
    home.installs("three");
    allowed(home.path(), &["trust", "bundle", "verify", "three"]);
}

#[test]
fn the_first_installation_pins_the_signers() {
    let home = Home::new();
    home.write("one", contents(1), &["ann", "bob"]);
    assert_eq!(run(&home, &["trust", "bundle", "install", "one"]).0, Some(64), "nobody said who signs");
    assert_eq!(run(&home, &["trust", "bundle", "verify", "one"]).0, Some(64));
    home.pins("one");
    home.write("two", contents(2), &["dee"]);
    let (exit, stderr) = run(&home, &["trust", "bundle", "install", "two", "--signer", "dee.pub"]);
    assert_eq!(exit, Some(64));
    assert!(stderr.contains("other signers are pinned already"), "{stderr}");
    home.keeps_out("two", "trust-bundle-invalid");
}

#[test]
fn thresholds_that_nobody_can_meet_or_that_are_nothing_are_usage_errors() {
    let home = Home::new();
    home.write("one", contents(1), &["ann", "bob"]);
    for more in [
        vec!["--signer", "ann.pub", "--threshold", "0"],
        vec!["--signer", "ann.pub", "--threshold", "2"],
        vec!["--signer", "ann.pub", "--signer", "ann.pub", "--threshold", "2"],
        vec!["--threshold", "1"],
    ] {
        let arguments = [&["trust", "bundle", "verify", "one"], more.as_slice()].concat();
        assert_eq!(run(&home, &arguments).0, Some(64), "{more:?}");
    }
}

#[test]
fn an_installed_bundle_that_does_not_verify_any_more_stops_every_run() {
    let home = Home::new();
    home.write("one", contents(1), &["ann", "bob"]);
    home.pins("one");
    let kept = fs::read(home.state()).unwrap();
    let check = ["trust", "check", "--trusted-root", "root.json"];
    allowed(home.path(), &check);
    fs::write(home.state(), &kept[..kept.len() / 2]).unwrap();
    refused(home.path(), &check, 1, "malformed-json");
    home.keeps_out("one", "malformed-json");
    edit_kept(&home, &kept, "\"threshold\": 2", "\"threshold\": 3");
    refused(home.path(), &check, 1, "trust-bundle-invalid");
    fs::remove_file(home.state()).unwrap();
    std::os::unix::fs::symlink("nowhere", home.state()).unwrap();
    refused(home.path(), &check, 1, "trust-bundle-invalid");
    fs::remove_file(home.state()).unwrap();
    allowed(home.path(), &check);
}

fn edit_kept(home: &Home, kept: &[u8], from: &str, to: &str) {
    let text = String::from_utf8(kept.to_vec()).unwrap();
    assert!(text.contains(from));
    fs::write(home.state(), text.replace(from, to)).unwrap();
}

#[test]
fn what_cannot_be_a_bundle_is_not_made() {
    let home = Home::new();
    fs::write(home.path().join("no-root.json"), "{}").unwrap();
    let create = |more: &[&str]| {
        let base = ["trust", "bundle", "create", "--out", "b", "--version", "1", "--expires", "1d"];
        run(&home, &[&base, more].concat())
    };
    for more in [
        &["--root", "no-root.json"][..],
        &["--root", "absent.json"],
        &["--root", "../x=root.json"],
        &["--root", "a=root.json", "--root", "a=root.json"],
        &["--key", "root.json"],
        &["--revoke", "mallory"],
        &["--revoke", "sha256:00"],
        &["--signer", "ann.pub", "--threshold", "2"],
        &["--signer", "ann.pub"],
    ] {
        let (exit, stderr) = create(more);
        assert_eq!(exit, Some(64), "{more:?}: {stderr}");
        assert!(!home.path().join("b").exists());
    }
    for expires in ["0d", "90", "-1d", "d", "9999999999d"] {
        let arguments = ["trust", "bundle", "create", "--out", "b", "--version", "1", "--expires", expires];
        assert_eq!(run(&home, &arguments).0, Some(64), "{expires}");
    }
    assert_eq!(create(&["--root", "root.json"]).0, Some(0));
    assert_eq!(create(&["--root", "root.json"]).0, Some(64), "no file is overwritten");
}

#[test]
fn a_bundle_that_cannot_be_read_is_undecided() {
    let home = Home::new();
    refused(
        home.path(),
        &[&["trust", "bundle", "verify", "absent"], &TWO_OF_THREE[..]].concat(),
        2,
        "evidence-unreadable",
    );
}
