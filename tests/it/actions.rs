//! `debvisor actions audit` through the real binary: one flaw a workflow, and what is told of it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CHECKOUT: &str = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn audit(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let output = command.args(["actions", "audit"]).args(arguments).current_dir(dir).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

/// A workflow of one job with these lines in it, audited; exit code, and the reasons as `code location`.
fn judged(job: &str) -> (i32, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(".github/workflows")).unwrap();
    let text = format!("on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n{job}");
    std::fs::write(dir.path().join(".github/workflows/ci.yml"), text).unwrap();
    let (exit, told) = audit(dir.path(), &["--format", "json"]);
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("no report: {told}"));
    let reasons = report["reasons"].as_array().unwrap().iter();
    let told = |reason: &Value| {
        assert_eq!(reason["evidence"], ".github/workflows/ci.yml");
        format!("{} {}", reason["code"].as_str().unwrap(), reason["location"].as_str().unwrap_or("-"))
    };
    (exit, reasons.map(told).collect())
}

fn step(uses: &str) -> (i32, Vec<String>) {
    judged(&format!("    steps:\n      - run: true\n      - name: x\n        uses: {uses}\n"))
}

#[test]
fn pins_with_a_true_comment_and_what_is_local_pass() {
    for uses in [
        &format!("{CHECKOUT} # v7.0.1"),
        &format!("\"{CHECKOUT}\" # v7"),
        &format!("{CHECKOUT} # tag=v7.0.1"),
        // Newer than the table, and nobody the table knows: nothing speaks against them.
        "actions/checkout@0000000000000000000000000000000000000001 # v99.0.0",
        "somebody/else@0000000000000000000000000000000000000001 # v1.0.0",
        "./.github/actions/own",
        "$/.github/workflows/own.yml",
        &format!("docker://alpine@{DIGEST}"),
    ] {
        assert_eq!(step(uses), (0, vec![]), "{uses}");
    }
}

#[test]
fn what_its_owner_can_point_elsewhere_is_unpinned() {
    for uses in [
        "actions/checkout@v7",
        "actions/checkout@main",
        "actions/checkout",
        "actions/checkout@3d3c42e",
        "o/r/.github/workflows/x.yml@v1",
        "docker://alpine:3",
        "docker://alpine@sha256:12",
    ] {
        assert_eq!(step(uses), (1, vec!["action-unpinned line 8".to_owned()]), "{uses}");
    }
}

#[test]
fn a_comment_that_is_missing_or_lies_is_told() {
    for uses in [
        CHECKOUT.to_owned(),
        format!("{CHECKOUT} # the usual one"),
        format!("{CHECKOUT} # v6.0.0"),
        // Somebody else's commit under the version's name.
        "actions/checkout@0000000000000000000000000000000000000001 # v7.0.1".to_owned(),
    ] {
        assert_eq!(step(&uses), (1, vec!["action-comment line 8".to_owned()]), "{uses}");
    }
}

#[test]
fn an_older_pin_is_outdated_also_for_an_action_in_a_folder() {
    let commit = "0000000000000000000000000000000000000001";
    for uses in [
        format!("actions/checkout@{commit} # v4.2.2"),
        format!("Actions/Checkout@{commit} # 6.9"),
        format!("github/codeql-action/resolve-environment@{commit} # v4.9.0"),
    ] {
        assert_eq!(step(&uses), (1, vec!["action-outdated line 8".to_owned()]), "{uses}");
    }
}

#[test]
fn containers_services_and_reusable_workflows_are_looked_at_too() {
    let (exit, reasons) = judged(
        "    container: node:22\n    services:\n      db:\n        ports: [\"5432:5432\"]\n        image: postgres:17\n",
    );
    assert_eq!((exit, reasons), (1, vec!["action-unpinned line 5".into(), "action-unpinned line 9".into()]));
    let (_, reasons) = judged("    container: {image: \"${{ matrix.image }}\"}\n");
    assert_eq!(reasons, ["action-unpinned line 5"]);
    let (_, reasons) = judged("    uses: o/r/.github/workflows/x.yml@main\n");
    assert_eq!(reasons, ["action-unpinned line 5"]);
    assert_eq!(judged(&format!("    container: {{image: \"node@{DIGEST}\"}}\n")), (0, vec![]));
}

#[test]
fn an_anchor_does_not_hide_a_step() {
    let (exit, reasons) = judged("    steps: &steps\n      - uses: a/b@v1\n  other:\n    steps: *steps\n");
    assert_eq!((exit, reasons), (1, vec!["action-unpinned line 6".to_owned()]));
}

#[test]
fn what_is_no_workflow_is_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let twice = "jobs:\n  a:\n    steps:\n      - uses: ./x\n        uses: evil/x@v1\n";
    let mut bomb = String::from("jobs: {}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    for text in ["", "- a\n- b\n", "name: x\n", "jobs: [\n", twice, "jobs:\n  a:\n    steps: yes\n", &bomb, "\u{0}"] {
        std::fs::write(dir.path().join("x.yml"), text).unwrap();
        let (exit, told) = audit(dir.path(), &["x.yml"]);
        assert_eq!(exit, 1, "{text}: {told}");
        assert!(told.contains("workflow-malformed"), "{told}");
    }
    std::fs::write(dir.path().join("x.yml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(audit(dir.path(), &["x.yml"]).1.contains("input-too-large"));
    assert_eq!(audit(dir.path(), &["y.yml"]).0, 2, "a file that is not there");
    assert_eq!(audit(dir.path(), &[]).0, 2, "nothing at all");
}

#[test]
fn the_description_of_an_action_is_audited_and_every_format_tells_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = "runs:\n  using: composite\n  steps:\n    - uses: a/b@v1\n";
    std::fs::write(dir.path().join("action.yml"), text).unwrap();
    let (exit, log) = audit(dir.path(), &["--format", "sarif"]);
    assert_eq!(exit, 1);
    assert_eq!(crate::report::sarif_errors(&log), Vec::<String>::new());
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log.pointer("/runs/0/results/0/locations/0/physicalLocation/region/startLine"), Some(&4.into()));
    assert!(audit(dir.path(), &["--format", "github"]).1.contains("::error file=action.yml,line=4"));
    assert!(audit(dir.path(), &[]).1.contains("action-unpinned"));
    std::fs::write(dir.path().join("action.yml"), "runs:\n  using: docker\n  image: Dockerfile\n").unwrap();
    assert_eq!(audit(dir.path(), &[]).0, 0);
    std::fs::write(dir.path().join("action.yml"), "runs:\n  using: docker\n  image: docker://a/b:1\n").unwrap();
    assert_eq!(audit(dir.path(), &[]).0, 1);
}

#[test]
fn a_table_of_ones_own_replaces_ours_and_a_wrong_one_is_a_wrong_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = "jobs:\n  a:\n    steps:\n      - uses: o/r@0000000000000000000000000000000000000001 # v1\n";
    std::fs::write(dir.path().join("x.yml"), text).unwrap();
    let table =
        r#"{"actions": [{"action": "o/r", "commit": "0000000000000000000000000000000000000002", "version": "v2.0"}]}"#;
    std::fs::write(dir.path().join("table.json"), table).unwrap();
    let (exit, told) = audit(dir.path(), &["x.yml", "--table", "table.json"]);
    assert!(
        exit == 1
            && told.contains("action-outdated")
            && told.contains("o/r@0000000000000000000000000000000000000002 # v2.0"),
        "{told}"
    );
    assert_eq!(audit(dir.path(), &["x.yml"]).0, 0);
    for wrong in ["{", "{}", &table.replace("0002", "02"), &table.replace("v2.0", "latest")] {
        std::fs::write(dir.path().join("table.json"), wrong).unwrap();
        assert_eq!(audit(dir.path(), &["x.yml", "--table", "table.json"]).0, 64, "{wrong}");
    }
}

#[test]
fn our_own_workflows_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places: Vec<&str> = ["workflows", ".github/workflows", "action.yml"]
        .into_iter()
        .filter(|place| root.join(place).exists())
        .collect();
    if !places.is_empty() {
        let (exit, told) = audit(root, &places);
        assert_eq!(exit, 0, "{told}");
    }
}
