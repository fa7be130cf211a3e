//! The real binary's report of one refused release in every format.

use super::release::Release;
use crate::report::{assert_golden, sarif_errors};

/// One changed file, one that nobody listed with a hostile name.
fn refused() -> Release {
    let release = Release::good();
    release.write("app.tar.gz", b"evil");
    release.write("a|b\n::error::c", b"x");
    release
}

fn run(release: &Release, format: &str, environment: &[(&str, &str)]) -> String {
    let mut command = release.command(&release.expected());
    let output = command.args(["--format", format]).envs(environment.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    stable(&String::from_utf8(output.stdout).unwrap())
}

/// Without the clock and the policy's digest, which change by themselves.
fn stable(text: &str) -> String {
    let day = regex::Regex::new(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap();
    let policy =
        regex::Regex::new(r"(release \(|release&#40;|release &#40;|\x22digest\x22: \x22)sha256(:|&#58;)[0-9a-f]{64}")
            .unwrap();
    let key = regex::Regex::new("[0-9A-F]{40}").unwrap();
    let text = key.replace_all(text, "FINGERPRINT");
    policy.replace_all(&day.replace_all(&text, "2026-01-01T00:00:00Z"), "${1}POLICY").into_owned()
}

#[test]
fn text_is_what_was_kept() {
    assert_golden("gate.txt", &run(&refused(), "text", &[]));
}

#[test]
fn json_is_what_was_kept() {
    assert_golden("gate.json", &run(&refused(), "json", &[]));
}

#[test]
fn sarif_is_what_was_kept() {
    let log = run(&refused(), "sarif", &[]);
    assert_golden("gate.sarif", &log);
    assert_eq!(sarif_errors(&log), Vec::<String>::new());
}

#[test]
fn github_annotations_summary_and_outputs_are_what_was_kept() {
    let release = refused();
    let (summary, outputs) = (release.home().join("summary.md"), release.home().join("outputs"));
    std::fs::write(&outputs, "earlier=1\n").unwrap();
    let environment =
        [("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()), ("GITHUB_OUTPUT", outputs.to_str().unwrap())];
    assert_golden("gate.github", &run(&release, "github", &environment));
    assert_golden("gate.summary.md", &stable(&std::fs::read_to_string(summary).unwrap()));
    let outputs = std::fs::read_to_string(outputs).unwrap();
    let delimiter = regex::Regex::new("debvisor_[0-9a-f]{32}").unwrap();
    assert_eq!(delimiter.find_iter(&outputs).count(), 2, "{outputs}");
    assert_golden("gate.outputs", &delimiter.replace_all(&outputs, "DELIMITER"));
}

#[test]
fn a_reader_that_stops_reading_leaves_the_exit_code_alone() {
    use std::process::Stdio;
    let release = refused();
    let mut child = release.command(&release.expected()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
