//! `debvisor trust`, as a user and a script meet it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod bundle;
mod repository;
mod root;
mod server;
mod update;
mod use_of_bundle;

/// Runs the binary with its configuration below `home`.
fn debvisor(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("DEBVISOR_KEY_PASSWORD", "")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The exit code and the report of a run with `--format json`.
#[track_caller]
fn report(home: &Path, arguments: &[&str]) -> (i32, Value) {
    let mut all = arguments.to_vec();
    all.extend(["--format", "json"]);
    let output = debvisor(home, &all);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stderr}{}", String::from_utf8_lossy(&output.stdout)));
    (output.status.code().unwrap(), report)
}

/// The codes of a report's reasons.
fn codes(report: &Value) -> Vec<&str> {
    report["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

/// Runs and expects a "no" for one reason alone.
#[track_caller]
fn refused(home: &Path, arguments: &[&str], exit: i32, code: &str) -> String {
    let (found, report) = report(home, arguments);
    assert_eq!((found, codes(&report)), (exit, vec![code]), "{report:#}");
    report["reasons"][0]["message"].as_str().unwrap().to_owned()
}

/// Runs and expects a "yes".
#[track_caller]
fn allowed(home: &Path, arguments: &[&str]) -> Value {
    let (found, report) = report(home, arguments);
    assert_eq!((found, report["decision"].as_str()), (0, Some("allow")), "{report:#}");
    report
}
