//! `debvisor key generate`, as a user and a script meet it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use debvisor::release::attest::key::PrivateKey;
use debvisor::release::evidence::key::PublicKey;

fn generate(dir: &Path, password: Option<(&str, &str)>, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    command.args(["key", "generate", "--out", "release"]).args(more).current_dir(dir).env_clear().stdin(Stdio::null());
    if let Some((name, value)) = password {
        command.env(name, value);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_pair_is_written_encrypted_and_for_its_owner_only() {
    for variable in ["DEBVISOR_KEY_PASSWORD", "COSIGN_PASSWORD"] {
        let dir = tempfile::tempdir().unwrap();
        let output = generate(dir.path(), Some((variable, "pass word")), &["--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let private = fs::read(dir.path().join("release.key")).unwrap();
        let key = PrivateKey::load(&private, Some(b"pass word")).unwrap();
        let public = PublicKey::from_pem(&fs::read(dir.path().join("release.pub")).unwrap()).unwrap();
        assert_eq!(key.public(), &public);
        assert_eq!(printed["fingerprint"], public.fingerprint().to_string());
        assert_eq!(printed["private_key"], "release.key");
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("release.key"), 0o600);
        assert_eq!(mode("release.pub") & 0o022, 0);
    }
}

#[test]
fn no_file_is_ever_overwritten_not_even_through_a_link() {
    for taken in ["release.key", "release.pub"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(taken), "precious").unwrap();
        let output = generate(dir.path(), Some(("COSIGN_PASSWORD", "x")), &[]);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains("never overwritten"), "{}", stderr(&output));
        assert_eq!(fs::read(dir.path().join(taken)).unwrap(), b"precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else was left behind");
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.path().join("release.key")).unwrap();
    assert_eq!(generate(dir.path(), Some(("COSIGN_PASSWORD", "x")), &[]).status.code(), Some(64));
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn without_a_password_and_a_terminal_there_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let output = generate(dir.path(), None, &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("DEBVISOR_KEY_PASSWORD"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_empty_password_is_taken_where_it_is_asked_for_and_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let output = generate(dir.path(), Some(("COSIGN_PASSWORD", "")), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: the password is empty"));
    PrivateKey::load(&fs::read(dir.path().join("release.key")).unwrap(), Some(b"")).unwrap();
}
