//! `vex generate`, `filter`, `merge`, `validate` and `check`, as a release meets them: a scanner's findings in, decisions
//! with their reasons, and a refusal of what nobody explained, out.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const TRIAGE: &str = r#"
[[decision]]
vulnerability = "CVE-2026-1"
component = "pkg:deb/debian/tar@1.34"
status = "not_affected"
justification = "vulnerable_code_not_in_execute_path"
impact = "nothing here unpacks foreign archives"
expires = 2026-12-31

[[decision]]
vulnerability = "CVE-2026-2"
status = "affected"
action = "update to 3.0.13"
"#;

/// A folder in which the program runs.
struct Desk {
    home: tempfile::TempDir,
}

struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// The reason codes of a report, in order.
    #[track_caller]
    fn codes(&self) -> Vec<String> {
        let report = self.json();
        let reasons = report["reasons"].as_array().unwrap();
        reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        desk.write("triage.toml", TRIAGE);
        desk.write("trivy.json", &trivy().to_string());
        desk.write("results.sarif", &sarif().to_string());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs `vex` on this day, at noon, as far as what is written goes.
    fn on(&self, day: &str, arguments: &[&str]) -> Ran {
        let noon: jiff::Timestamp = format!("{day}T12:00:00Z").parse().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
            .arg("vex")
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("SOURCE_DATE_EPOCH", noon.as_second().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { exit: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.on("2026-06-01", arguments)
    }

    /// Writes a document and returns it.
    #[track_caller]
    fn generate(&self, day: &str, name: &str, more: &[&str]) -> Value {
        let generate = ["generate", "trivy.json", "--author", "Acme <security@example.org>", "--output", name];
        let ran = self.on(day, &[&generate[..], more].concat());
        assert_eq!((ran.exit, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
        assert_eq!(self.run(&["validate", name]).exit, 0);
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Three findings, two of them critical.
fn trivy() -> Value {
    let finding = |name: &str, package: &str, version: &str, severity: &str| {
        json!({
            "VulnerabilityID": name, "PkgName": package, "InstalledVersion": version,
            "PkgIdentifier": {"PURL": format!("pkg:deb/debian/{package}@{version}")}, "Severity": severity,
        })
    };
    json!({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [
        finding("CVE-2026-1", "tar", "1.34", "CRITICAL"),
        finding("CVE-2026-2", "openssl", "3.0.11", "CRITICAL"),
        finding("CVE-2026-3", "bash", "5.2", "LOW"),
    ]}]})
}

fn sarif() -> Value {
    let result = |rule: &str| json!({"ruleId": rule, "level": "error", "message": {"text": rule}});
    json!({"version": "2.1.0", "runs": [{
        "tool": {"driver": {"name": "scanner", "rules": []}},
        "results": [result("CVE-2026-1-tar"), result("CVE-2026-1"), result("CVE-2026-2-openssl"), result("CVE-2026-10")],
    }]})
}

/// The statuses by vulnerability.
fn statuses(document: &Value) -> Vec<(&str, &str)> {
    document["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|statement| (statement["vulnerability"]["name"].as_str().unwrap(), statement["status"].as_str().unwrap()))
        .collect()
}

#[test]
fn findings_and_decisions_become_a_document() {
    let desk = Desk::new();
    let made =
        desk.generate("2026-06-01", "a.json", &["--triage", "triage.toml", "--product", "pkg:oci/hyperdeck@sha256:aa"]);
    assert_eq!(made["@context"], "https://openvex.dev/ns/v0.2.0");
    assert_eq!(made["author"], "Acme <security@example.org>");
    assert_eq!(made["timestamp"], "2026-06-01T12:00:00Z");
    assert_eq!(
        statuses(&made),
        [("CVE-2026-1", "not_affected"), ("CVE-2026-2", "affected"), ("CVE-2026-3", "under_investigation")]
    );
    let first = &made["statements"][0];
    assert_eq!(first["justification"], "vulnerable_code_not_in_execute_path");
    assert_eq!(first["products"][0]["@id"], "pkg:oci/hyperdeck@sha256:aa");
    assert_eq!(first["products"][0]["subcomponents"][0]["@id"], "pkg:deb/debian/tar@1.34");
    assert_eq!(made["statements"][1]["action_statement"], "update to 3.0.13");
    let again =
        desk.generate("2026-06-01", "b.json", &["--triage", "triage.toml", "--product", "pkg:oci/hyperdeck@sha256:aa"]);
    assert_eq!(again, made, "the same findings and decisions give the same document");
}

#[test]
fn an_expired_decision_is_open_again_also_where_it_was_inherited() {
    let desk = Desk::new();
    let status = |document: &Value| document["statements"][0]["status"].as_str().unwrap().to_owned();
    desk.generate("2026-12-31", "first.json", &["--triage", "triage.toml"]);
    let expired = desk.generate("2027-01-01", "b.json", &["--triage", "triage.toml"]);
    assert_eq!(status(&expired), "under_investigation");
    let inherited = desk.generate("2026-12-31", "second.json", &["--previous", "first.json"]);
    assert_eq!(status(&inherited), "not_affected");
    for previous in ["first.json", "second.json"] {
        let late = desk.generate("2027-01-01", "c.json", &["--previous", previous]);
        assert_eq!(status(&late), "under_investigation");
    }
}

#[test]
fn a_decision_is_inherited_only_by_the_same_version_of_the_component() {
    let desk = Desk::new();
    desk.generate("2026-06-01", "last.json", &["--triage", "triage.toml"]);
    desk.write("trivy.json", &trivy().to_string().replace("1.34", "1.35"));
    let made = desk.generate("2026-07-01", "next.json", &["--previous", "last.json"]);
    assert_eq!(
        statuses(&made),
        [("CVE-2026-1", "under_investigation"), ("CVE-2026-2", "affected"), ("CVE-2026-3", "under_investigation")]
    );
}

#[test]
fn an_unexplained_critical_finding_is_a_no() {
    let desk = Desk::new();
    let check = |more: &[&str]| desk.run(&[&["check", "trivy.json", "--format", "json"], more].concat());
    let bare = check(&[]);
    assert_eq!((bare.exit, bare.codes()), (1, vec!["vex-unexplained".to_owned(); 2]));
    desk.generate("2026-06-01", "vex.json", &["--triage", "triage.toml"]);
    // `affected` admits the finding; it explains nothing away.
    let explained = check(&["--vex", "vex.json"]);
    assert_eq!((explained.exit, explained.codes()), (1, vec!["vex-unexplained".to_owned()]));
    assert!(explained.json()["reasons"][0]["message"].as_str().unwrap().contains("CVE-2026-2"));
    desk.write("triage.toml", &TRIAGE.replace("status = \"affected\"", "status = \"fixed\""));
    desk.generate("2026-06-02", "later.json", &["--triage", "triage.toml"]);
    let both = check(&["--vex", "vex.json", "--vex", "later.json"]);
    assert_eq!((both.exit, both.json()["decision"].clone()), (0, json!("allow")));
    // The newest statement counts, in whatever order the documents are given.
    assert_eq!(check(&["--vex", "later.json", "--vex", "vex.json"]).exit, 0);
    let any = check(&["--vex", "later.json", "--severity", "any"]);
    assert_eq!((any.exit, any.codes()), (1, vec!["vex-unexplained".to_owned()]));
}

#[test]
fn a_statement_about_another_version_explains_nothing() {
    let desk = Desk::new();
    desk.generate("2026-06-01", "vex.json", &["--triage", "triage.toml"]);
    desk.write("trivy.json", &trivy().to_string().replace("1.34", "1.35"));
    let ran = desk.run(&["check", "trivy.json", "--vex", "vex.json", "--format", "json"]);
    assert_eq!((ran.exit, ran.codes()), (1, vec!["vex-unexplained".to_owned(); 2]));
}

#[test]
fn what_is_explained_leaves_the_sarif_file_and_nothing_else_does() {
    let desk = Desk::new();
    desk.generate("2026-06-01", "vex.json", &["--triage", "triage.toml"]);
    let ran = desk.run(&["filter", "--vex", "vex.json", "results.sarif"]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let mut expected = sarif();
    expected["runs"][0]["results"].as_array_mut().unwrap().drain(..2);
    // CVE-2026-10 only begins like CVE-2026-1; CVE-2026-2 is admitted, not explained.
    assert_eq!(ran.json(), expected);
    let elsewhere = desk.run(&["filter", "--vex", "vex.json", "--product", "pkg:deb/debian/gzip@1", "results.sarif"]);
    assert_eq!(elsewhere.json(), sarif());
}

#[test]
fn merged_documents_keep_every_statement_and_its_time() {
    let desk = Desk::new();
    desk.generate("2026-06-01", "a.json", &[]);
    desk.generate("2026-06-02", "b.json", &["--triage", "triage.toml"]);
    let ran = desk.on("2026-06-03", &["merge", "b.json", "a.json", "a.json", "--author", "acme"]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let merged = ran.json();
    let times: Vec<&str> =
        merged["statements"].as_array().unwrap().iter().map(|one| one["timestamp"].as_str().unwrap()).collect();
    assert_eq!(times, [["2026-06-01T12:00:00Z"; 3], ["2026-06-02T12:00:00Z"; 3]].concat());
    desk.write("merged.json", &ran.stdout);
    assert_eq!(desk.run(&["validate", "merged.json"]).exit, 0);
}

#[test]
fn a_document_that_is_not_valid_is_used_by_nothing() {
    let desk = Desk::new();
    let mut broken = desk.generate("2026-06-01", "vex.json", &["--triage", "triage.toml"]);
    broken["statements"][0]["status"] = json!("harmless");
    desk.write("broken.json", &broken.to_string());
    let validate = desk.run(&["validate", "broken.json", "--format", "json"]);
    assert_eq!((validate.exit, validate.codes()[0].as_str()), (1, "vex-invalid"));
    for verb in [
        &["filter", "--vex", "broken.json", "results.sarif"][..],
        &["merge", "vex.json", "broken.json"],
        &["check", "trivy.json", "--vex", "broken.json"],
        &["generate", "trivy.json", "--previous", "broken.json"],
    ] {
        let ran = desk.run(&[verb, &["--format", "json"]].concat());
        assert_eq!(ran.exit, 1, "{verb:?}: {}", ran.stderr);
        assert_eq!(ran.json()["decision"], "deny");
        assert_eq!(ran.json()["reasons"][0]["evidence"], "broken.json");
    }
}

#[test]
fn results_that_are_none_are_a_no_and_missing_ones_are_undecided() {
    let desk = Desk::new();
    desk.write("none.json", "{}");
    desk.write("nameless.json", &trivy().to_string().replace("VulnerabilityID", "ID"));
    desk.write("cut.json", "{\"SchemaVersion\": 2, \"Results\": [");
    for verb in [&["generate"][..], &["check"]] {
        for (name, exit) in [("none.json", 1), ("nameless.json", 1), ("cut.json", 1), ("no-such.json", 2)] {
            let ran = desk.run(&[verb, &[name, "--format", "json"]].concat());
            assert_eq!(ran.exit, exit, "{verb:?} {name}: {}{}", ran.stdout, ran.stderr);
            assert!(!ran.codes().is_empty());
        }
    }
    let ran = desk.run(&["filter", "--vex", "no-such.json", "results.sarif", "--format", "json"]);
    assert_eq!((ran.exit, ran.codes()), (2, vec!["evidence-unreadable".to_owned()]));
}

#[test]
fn a_triage_file_says_which_decision_is_wrong() {
    let desk = Desk::new();
    for (triage, message) in [
        ("[[decision]]\nvulnerability = \"CVE-1\"\nstatus = \"not_affected\"\n", "decision 1 (CVE-1)"),
        ("[[decision]]\nvulnerability = \"CVE-1\"\nstatus = \"affected\"\n", "needs an action"),
        ("[[decision]]\nvulnerability = \"CVE-1\"\nstatus = \"fine\"\n", "fine"),
        ("[[decision]]\nvulnerability = \"CVE-1\"\nstatus = \"fixed\"\nexpire = 2026-01-01\n", "expire"),
        ("[[decision]]\nvulnerability = \"CVE-1\"\nstatus = \"fixed\"\nexpires = 2026-02-30\n", "line 4"),
    ] {
        desk.write("triage.toml", triage);
        let ran = desk.run(&["generate", "trivy.json", "--triage", "triage.toml", "--output", "vex.json"]);
        assert_eq!(ran.exit, 64, "{}", ran.stderr);
        assert!(ran.stderr.contains(message) && ran.stderr.contains("\nhint: "), "{message}: {}", ran.stderr);
        assert!(!desk.path("vex.json").exists());
    }
}
