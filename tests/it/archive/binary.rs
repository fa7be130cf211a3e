//! `debvisor archive check`: exit codes and reports.

use std::fs;
use std::process::{Command, Output};

use super::make::{TarMember, gzip, tar};

fn run(args: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["archive", "check", "--format", "json"])
        .args(args)
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[test]
fn the_exit_code_says_the_decision_and_the_report_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("release.bin");
    fs::write(&sound, gzip(&tar(&[TarMember::file("a", &[7; 5000])]))).unwrap();
    let sound = sound.to_str().unwrap();

    let (code, report) = run(&[sound]);
    assert_eq!((code, report["decision"].as_str()), (Some(0), Some("allow")));
    assert_eq!(report["facts"]["archive"]["form"], "tar-gzip");
    assert_eq!(report["facts"]["archive"]["unpacked_bytes"], 5000);

    let (code, report) = run(&[sound, "--max-unpacked-size", "4KiB"]);
    assert_eq!((code, report["reasons"][0]["code"].as_str()), (Some(1), Some("archive-too-large")));
    assert_eq!(report["reasons"][0]["evidence"], sound);

    let (code, report) = run(&["/nonexistent.tar"]);
    assert_eq!((code, report["reasons"][0]["code"].as_str()), (Some(2), Some("subject-unreadable")));
    assert_eq!(run(&[sound, "--max-unpacked-size", "lots"]).0, Some(64));
    assert_eq!(run(&[]).0, Some(64));
}
