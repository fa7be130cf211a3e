//! `debvisor trust show` and `debvisor trust check`.

use std::fs;

use super::{allowed, codes, debvisor, refused, report};

#[test]
fn the_embedded_root_is_shown_where_no_other_is() {
    let home = tempfile::tempdir().unwrap();
    let shown = allowed(home.path(), &["trust", "show"]);
    assert_eq!(shown["facts"]["origin"], "the embedded public-good root");
    assert_eq!(shown["facts"]["fetched_at"], "2026-10-23T00:00:00Z");
    let roles: Vec<&str> =
        shown["facts"]["entries"].as_array().unwrap().iter().map(|entry| entry["role"].as_str().unwrap()).collect();
    for role in ["certificate-authority", "certificate-log", "transparency-log", "timestamp-authority"] {
        assert!(roles.contains(&role), "{role}");
    }
    let text = String::from_utf8(debvisor(home.path(), &["trust", "show"]).stdout).unwrap();
    assert!(text.contains("transparency log") && text.contains("https://rekor.sigstore.dev"), "{text}");
}

#[test]
fn a_trust_root_older_than_allowed_is_undecided() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root.json");
    // Not a byte-for-byte copy of the embedded root, so its own date counts.
    let mut json = debvisor::release::trust::embedded().json.to_vec();
    json.push(b'\n');
    fs::write(&root, json).unwrap();
    let aged = |days: u64| {
        #[expect(clippy::disallowed_methods, reason = "the binary under test reads the real clock")]
        let now = std::time::SystemTime::now();
        let time = now - std::time::Duration::from_secs(days * 86_400 + 60);
        fs::File::options().write(true).open(&root).unwrap().set_modified(time).unwrap();
    };
    let check = ["trust", "check", "--trusted-root", "root.json", "--max-trust-root-age", "30"];
    aged(30);
    assert_eq!(allowed(home.path(), &check)["trust_root"]["age_days"], 30);
    aged(31);
    let message = refused(home.path(), &check, 2, "trust-root-too-old");
    assert_eq!(message, "the trust root is 31 days old, and at most 30 are allowed");
    // Nobody asked for an age.
    allowed(home.path(), &check[..4]);
}

#[test]
fn a_trust_root_from_the_future_has_no_age() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root.json");
    fs::write(&root, [debvisor::release::trust::embedded().json, b"\n"].concat()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the binary under test reads the real clock")]
    let now = std::time::SystemTime::now();
    let time = now + std::time::Duration::from_secs(3 * 86_400);
    fs::File::options().write(true).open(&root).unwrap().set_modified(time).unwrap();
    let check = ["trust", "check", "--trusted-root", "root.json", "--max-trust-root-age", "30"];
    assert!(refused(home.path(), &check, 2, "trust-root-too-old").contains("future"));
}

#[test]
fn a_copy_of_the_embedded_root_is_as_old_as_that_whatever_its_file_says() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("copy.json"), debvisor::release::trust::embedded().json).unwrap();
    let shown = allowed(home.path(), &["trust", "show", "--trusted-root", "copy.json"]);
    assert_eq!(shown["facts"]["fetched_at"], "2026-10-23T00:00:00Z");
}

#[test]
fn a_trust_root_that_cannot_be_read_is_undecided_and_never_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let installed = home.path().join(".config/debvisor/trust");
    fs::create_dir_all(&installed).unwrap();
    for (name, bytes) in [
        ("absent.json", None),
        ("empty.json", Some("")),
        ("other.json", Some("{}")),
        ("twice.json", Some("{\"a\":1,\"a\":1}")),
    ] {
        if let Some(bytes) = bytes {
            fs::write(home.path().join(name), bytes).unwrap();
            fs::write(installed.join("trusted_root.json"), bytes).unwrap();
            refused(home.path(), &["trust", "check"], 2, "trust-root-unreadable");
        }
        for verb in ["show", "check"] {
            refused(home.path(), &["trust", verb, "--trusted-root", name], 2, "trust-root-unreadable");
        }
    }
    fs::remove_file(installed.join("trusted_root.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", installed.join("trusted_root.json")).unwrap();
    refused(home.path(), &["trust", "check"], 2, "trust-root-unreadable");
}

#[test]
fn names_in_a_trust_root_cannot_steer_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let json = String::from_utf8(debvisor::release::trust::embedded().json.to_vec()).unwrap();
    fs::write(home.path().join("root.json"), json.replace("https://rekor.sigstore.dev", "a\\u001b[2Jb")).unwrap();
    let output = debvisor(home.path(), &["trust", "show", "--trusted-root", "root.json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stdout.contains(&0x1b));
    let (exit, report) = report(home.path(), &["trust", "check", "--trusted-root", "root.json"]);
    assert_eq!((exit, codes(&report).len()), (0, 0));
}
