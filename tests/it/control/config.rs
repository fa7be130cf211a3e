//! The configuration, through the verbs that check and show it, and through the server that goes by it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn config(args: &[&str], file: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    command.arg("config").args(args).arg(file).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn every_fault_is_told_with_file_line_and_hint_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("debvisor.toml");
    let text = "[listen]\nadress = \"x\"\nconnections = 0\n[admission]\non-quarantine = \"explode\"\n\
                [[admission.signers]]\nname = \"a\"\nkey = \"gone.pub\"\n[log]\nformat = \"jsn\"\n";
    fs::write(&file, text).unwrap();
    let expected = [
        ":2: listen.adress: there is no such key (is `listen.address` meant?)",
        ":3: listen.connections: 0 is out of range (from 1 to 1000000)",
        ":5: admission: ",
        ":10: log.format: ",
    ];
    let output = config(&["check"], &file, &[("DEBVISOR_SERVER_DRAIN_SECONDS", "soon")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    for fault in expected {
        assert!(told.contains(&format!("{}{fault}", file.display())), "{fault}: {told}");
    }
    assert!(told.contains("DEBVISOR_SERVER_DRAIN_SECONDS: server.drain-seconds: this is not a whole number"), "{told}");
    // The server says the same, and has made nothing.
    let state = dir.path().join("state");
    let mut up = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let up = up.arg("up").arg("--state-dir").arg(&state).arg("--config").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&up.stderr);
    assert_eq!(up.status.code(), Some(64), "{told}");
    assert!(expected.iter().all(|fault| told.contains(fault)), "{told}");
    assert!(!state.exists());
    // For programs.
    let output = config(&["check", "--format", "json"], &file, &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines: Vec<u64> =
        report["faults"].as_array().unwrap().iter().filter_map(|fault| fault["line"].as_u64()).collect();
    assert!([2, 3, 5, 10].iter().all(|line| lines.contains(line)), "{report}");
}

#[test]
fn what_holds_is_shown_with_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("debvisor.toml");
    fs::write(&file, "node = \"one\"\n[server]\ndrain-seconds = 3\n").unwrap();
    assert!(config(&["check"], &file, &[]).status.success());
    let output = config(&["show", "--format", "json"], &file, &[("DEBVISOR_LISTEN", "[::1]:8443")]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].as_str().unwrap_or("none").to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("node"), ("\"one\"".to_owned(), format!("{}:1", file.display())));
    assert_eq!(of("server.drain-seconds"), ("3".to_owned(), format!("{}:3", file.display())));
    assert_eq!(of("listen.address"), ("\"[::1]:8443\"".to_owned(), "DEBVISOR_LISTEN".to_owned()));
    assert_eq!(of("log.format"), ("\"text\"".to_owned(), "default".to_owned()));
    assert_eq!(of("listen.key").0, "none");
    let text = String::from_utf8(config(&["show"], &file, &[]).stdout).unwrap();
    assert!(text.lines().any(|line| line.split_whitespace().take(2).eq(["server.drain-seconds", "3"])), "{text}");
}
