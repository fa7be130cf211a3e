//! Decisions written down and read back, through the real binary.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use serde_json::Value;

fn debvisor(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("DEBVISOR_KEY_PASSWORD", "password")
        .output()
        .unwrap()
}

fn run(home: &Path, line: &str) -> Output {
    debvisor(home, &line.split_whitespace().collect::<Vec<_>>())
}

fn done(home: &Path, line: &str) {
    let output = run(home, line);
    assert!(output.status.success(), "{line}: {output:?}");
}

/// The exit code and the codes of the reasons.
fn answer(home: &Path, line: &str) -> (Option<i32>, Vec<String>) {
    let output = run(home, &format!("{line} --format json"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"));
    let codes = report["reasons"].as_array().unwrap().iter();
    (output.status.code(), codes.map(|reason| reason["code"].as_str().unwrap().to_owned()).collect())
}

fn predicates(path: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(path).unwrap();
    lines
        .lines()
        .map(|line| {
            let bundle: Value = serde_json::from_str(line).unwrap();
            let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
            let payload = base64::engine::general_purpose::STANDARD.decode(payload).unwrap();
            serde_json::from_slice::<Value>(&payload).unwrap()["predicate"].clone()
        })
        .collect()
}

/// A publisher's key and a verifier's, two images, and the publisher's signature over one of them.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let path = home.path();
    fs::write(path.join("a.iso"), "a").unwrap();
    fs::write(path.join("b.iso"), "b").unwrap();
    done(path, "key generate --out publisher");
    done(path, "key generate --out verifier");
    done(path, "sign a.iso --key publisher.key --bundle a.json");
    home
}

const WRITE: &str = "verify a.iso --bundle a.json --key publisher.pub --vsa-out a.vsa --vsa-key verifier.key";

#[test]
fn a_decision_is_kept_and_relied_on() {
    let home = home();
    let home = home.path();
    assert_eq!(answer(home, &format!("{WRITE} --vsa-verifier-id https://acme.example/v")), (Some(0), vec![]));
    let predicate = &predicates(&home.join("a.vsa"))[0];
    assert_eq!(predicate["verificationResult"], "PASSED");
    let digest = format!("sha256:{}", predicate["policy"]["digest"]["sha256"].as_str().unwrap());
    let read = "verify a.iso --bundle a.vsa --key verifier.pub";
    assert_eq!(answer(home, read), (Some(0), vec![]));
    assert_eq!(answer(home, &format!("{read} --policy admission")), (Some(0), vec![]));
    let asked = format!("{read} --expect-verifier-id https://acme.example/v --expect-policy-digest {digest}");
    assert_eq!(answer(home, &asked), (Some(0), vec![]));
    let list: Value = serde_json::from_slice(&run(home, "policy list --format json").stdout).unwrap();
    assert_eq!(list[0]["digest"], digest.as_str());
}

#[test]
fn a_summary_of_another_policy_or_verifier_is_a_no() {
    let home = home();
    let home = home.path();
    done(home, WRITE);
    let read = "verify a.iso --bundle a.vsa --key verifier.pub";
    let other = format!("--expect-policy-digest sha256:{}", "0".repeat(64));
    assert_eq!(answer(home, &format!("{read} {other}")), (Some(1), vec!["decision-policy".to_owned()]));
    let other = "--expect-verifier-id https://mallory.example";
    assert_eq!(answer(home, &format!("{read} {other}")), (Some(1), vec!["decision-policy".to_owned()]));
}

#[test]
fn a_summary_is_about_its_own_subject_and_by_its_own_key() {
    let home = home();
    let home = home.path();
    done(home, WRITE);
    assert_eq!(
        answer(home, "verify b.iso --bundle a.vsa --key verifier.pub"),
        (Some(1), vec!["subject-mismatch".to_owned()])
    );
    let (exit, codes) = answer(home, "verify a.iso --bundle a.vsa --key publisher.pub");
    assert_eq!(exit, Some(1), "{codes:?}");
    assert!(codes.iter().all(|code| ["key-mismatch", "signature-invalid"].contains(&code.as_str())), "{codes:?}");
}

#[test]
fn a_no_is_recorded_and_replaces_an_older_yes() {
    let home = home();
    let home = home.path();
    done(home, WRITE);
    fs::write(home.join("a.iso"), "changed").unwrap();
    let (exit, _) = answer(home, WRITE);
    assert_eq!(exit, Some(1));
    assert_eq!(predicates(&home.join("a.vsa"))[0]["verificationResult"], "FAILED");
    let (exit, codes) = answer(home, "verify a.iso --bundle a.vsa --key verifier.pub");
    assert_eq!((exit, codes), (Some(1), vec!["decision-denied".to_owned()]));
}

#[test]
fn an_open_question_is_recorded_as_a_no() {
    let home = home();
    let home = home.path();
    let (exit, _) = answer(home, "verify a.iso --key publisher.pub --vsa-out a.vsa --vsa-key verifier.key");
    assert_ne!(exit, Some(0));
    assert_eq!(predicates(&home.join("a.vsa"))[0]["verificationResult"], "FAILED");
}

#[test]
fn a_policy_that_cannot_be_read_leaves_no_older_yes() {
    let home = home();
    let home = home.path();
    done(home, WRITE);
    assert_eq!(answer(home, &format!("{WRITE} --policy ./none.rego")), (Some(1), vec!["policy-unreadable".to_owned()]));
    assert_eq!(fs::read(home.join("a.vsa")).unwrap(), b"");
}

#[test]
fn an_expired_decision_is_a_no() {
    let home = home();
    let home = home.path();
    done(home, &format!("{WRITE} --vsa-expires 1s"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(
        answer(home, "verify a.iso --bundle a.vsa --key verifier.pub"),
        (Some(1), vec!["decision-expired".to_owned()])
    );
}

#[test]
fn passing_a_summary_on_does_not_prolong_it() {
    let home = home();
    let home = home.path();
    done(home, &format!("{WRITE} --vsa-expires 1h"));
    done(
        home,
        "verify a.iso --bundle a.vsa --key verifier.pub --vsa-out b.vsa --vsa-key verifier.key --vsa-expires 8w",
    );
    let expiry = |name: &str| predicates(&home.join(name))[0]["https://debvisor.dev/summary/v1/expiresAt"].clone();
    assert_eq!(expiry("a.vsa"), expiry("b.vsa"));
}

#[test]
fn of_several_subjects_each_has_its_own_summary() {
    let home = home();
    let home = home.path();
    let line = "verify a.iso b.iso --bundle a.json --key publisher.pub --vsa-out all.vsa --vsa-key verifier.key";
    let (exit, _) = answer(home, line);
    assert_eq!(exit, Some(1));
    let results: Vec<Value> =
        predicates(&home.join("all.vsa")).iter().map(|predicate| predicate["verificationResult"].clone()).collect();
    assert_eq!(results, ["PASSED", "FAILED"]);
}

#[test]
fn a_summary_cannot_be_written_without_a_key_or_a_sound_time() {
    let home = home();
    let home = home.path();
    for line in [
        "verify a.iso --bundle a.json --key publisher.pub --vsa-out a.vsa",
        "verify a.iso --bundle a.json --key publisher.pub --vsa-key verifier.key",
        "verify a.iso --bundle a.json --key publisher.pub --vsa-out a.vsa --vsa-key none.key",
        "verify a.iso --bundle a.json --key publisher.pub --vsa-out a.vsa --vsa-key verifier.key --vsa-expires 0d",
        "verify a.iso --bundle a.json --key publisher.pub --vsa-out a.vsa --vsa-key verifier.key --vsa-expires 9999999w",
    ] {
        assert_eq!(run(home, line).status.code(), Some(64), "{line}");
    }
    assert!(!home.join("a.vsa").exists());
}
