//! `debvisor policy` through the real binary: what it prints and how it exits.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DENIES_BAD: &str = "package main\nimport rego.v1\ndeny contains \"it is bad\" if input.bad\n";

fn debvisor(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("XDG_CONFIG_HOME", home.join("config"))
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn codes(report: &Value) -> Vec<&str> {
    report["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

/// A home with files in it.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

#[test]
fn eval_allows_and_denies() {
    let home = home(&[("p.rego", DENIES_BAD), ("good.json", "{}"), ("bad.json", "{\"bad\": true}")]);
    let run = |inputs: &[&str]| {
        let mut arguments = vec!["policy", "eval", "./p.rego", "--format", "json"];
        for input in inputs {
            arguments.extend(["--input", input]);
        }
        debvisor(home.path(), &arguments)
    };
    let good = run(&["good.json"]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(json(&good)["decision"], "allow");
    assert_eq!(json(&good)["policy"]["name"], "./p.rego");
    let bad = run(&["bad.json"]);
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(codes(&json(&bad)), ["policy-denied"]);
    assert_eq!(json(&bad)["reasons"][0]["evidence"], "p.rego");
    let both = run(&["good.json", "bad.json"]);
    assert_eq!(both.status.code(), Some(1));
    let decisions: Vec<Value> =
        json(&both)["subjects"].as_array().unwrap().iter().map(|subject| subject["decision"].clone()).collect();
    assert_eq!(decisions, ["allow", "deny"]);
}

#[test]
fn eval_takes_data_beside_the_policy() {
    let home = home(&[
        ("p.rego", "package main\nimport rego.v1\ndeny contains input.name if not input.name in data.names\n"),
        ("data.yaml", "names: [a]\n"),
        ("a.json", "{\"name\": \"a\"}"),
        ("b.json", "{\"name\": \"b\"}"),
    ]);
    let run = |input| {
        debvisor(home.path(), &["policy", "eval", "./p.rego", "--data", "data.yaml", "--input", input]).status.code()
    };
    assert_eq!((run("a.json"), run("b.json")), (Some(0), Some(1)));
}

#[test]
fn eval_refuses_what_it_cannot_evaluate() {
    let home = home(&[
        ("p.rego", DENIES_BAD),
        ("empty/README", ""),
        ("warns.rego", "package main\nwarn contains \"w\"\n"),
        ("broken.rego", "package main\ndeny contains {"),
        ("fails.rego", "package main\ndeny contains \"x\" if to_number(input.x) > 1\n"),
        ("in.json", "{\"x\": \"y\"}"),
        ("twice.json", "{\"bad\": true, \"bad\": false}"),
        ("broken.json", "{"),
    ]);
    for (policy, input, code, exit) in [
        ("./missing.rego", "in.json", "policy-unreadable", 1),
        ("no-such-policy", "in.json", "policy-unreadable", 1),
        ("./broken.rego", "in.json", "policy-unreadable", 1),
        ("./empty", "in.json", "policy-unmatched", 1),
        ("./warns.rego", "in.json", "policy-unmatched", 1),
        ("./fails.rego", "in.json", "policy-failed", 1),
        ("./p.rego", "broken.json", "malformed-json", 1),
        ("./p.rego", "twice.json", "duplicate-key", 1),
        ("./p.rego", "missing.json", "evidence-unreadable", 2),
    ] {
        let output = debvisor(home.path(), &["policy", "eval", policy, "--input", input, "--format", "json"]);
        assert_eq!(output.status.code(), Some(exit), "{policy} {input}");
        assert_eq!(codes(&json(&output)), [code], "{policy} {input}");
    }
}

#[test]
fn eval_without_an_input_is_a_usage_error() {
    let home = home(&[("p.rego", DENIES_BAD)]);
    assert_eq!(debvisor(home.path(), &["policy", "eval", "./p.rego"]).status.code(), Some(64));
}

#[test]
fn a_name_never_means_a_file_of_the_working_directory() {
    let lax = "package main\nallow := true\n";
    let home = home(&[("release", lax), ("release.rego", lax), ("mine.rego", lax), ("in.json", "{}")]);
    let run = |policy| debvisor(home.path(), &["policy", "eval", policy, "--input", "in.json", "--format", "json"]);
    assert_eq!(run("release").status.code(), Some(1));
    assert_eq!(codes(&json(&run("mine"))), ["policy-unreadable"]);
    assert_eq!(run("./mine.rego").status.code(), Some(0));
}

#[test]
fn the_users_own_policies_have_names_and_override() {
    let home = home(&[
        ("config/debvisor/policies/mine.rego", DENIES_BAD),
        ("config/debvisor/policies/mine_test.rego", "package mine_test\ntest_true if true\n"),
        ("config/debvisor/policies/folder/a.rego", DENIES_BAD),
        ("other/release.rego", "package debvisor.release\nimport rego.v1\ndeny contains \"never\"\n"),
        ("in.json", "{}"),
    ]);
    let list = json(&debvisor(home.path(), &["policy", "list", "--format", "json"]));
    let names: Vec<(&str, &str)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| (policy["name"].as_str().unwrap(), policy["origin"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("release", "builtin"),
            ("builders", "builtin"),
            ("admission", "builtin"),
            ("sbom", "builtin"),
            ("licenses", "builtin"),
            ("vex", "builtin"),
            ("folder", "user"),
            ("mine", "user")
        ]
    );
    for policy in ["mine", "folder"] {
        let output = debvisor(home.path(), &["policy", "eval", policy, "--input", "in.json"]);
        assert_eq!(output.status.code(), Some(0), "{policy}");
    }
    let arguments = ["policy", "eval", "release", "--policy-dir", "other", "--input", "in.json", "--format", "json"];
    let report = json(&debvisor(home.path(), &arguments));
    assert!(report["reasons"].as_array().unwrap().iter().any(|reason| reason["message"] == "never"));
    let list = json(&debvisor(home.path(), &["policy", "list", "--policy-dir", "other", "--format", "json"]));
    assert_eq!(list[0]["origin"], "overridden");
}

#[test]
fn the_tests_of_the_builtin_policies_pass_and_reach_every_line() {
    let home = home(&[]);
    let output = debvisor(home.path(), &["policy", "test", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for subject in json(&output)["subjects"].as_array().unwrap() {
        for file in subject["facts"]["coverage"].as_array().unwrap() {
            assert_eq!(file["not_covered"], serde_json::json!([]), "{}", file["file"]);
        }
    }
    let text = debvisor(home.path(), &["policy", "test", "release"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("PASS debvisor.release_test.test_no_signature"), "{text}");
    assert!(text.contains("0 failed; 100.0 % of the policy's lines"), "{text}");
}

#[test]
fn a_failing_test_is_a_no() {
    let test = |body: &str| format!("package main_test\nimport rego.v1\nimport data.main\n{body}\n");
    let home = home(&[
        ("p/p.rego", DENIES_BAD),
        (
            "p/p_test.rego",
            &test("test_bad if count(main.deny) == 1 with input as {\"bad\": true}\ntodo_test_later if false"),
        ),
        ("false/p.rego", DENIES_BAD),
        ("false/p_test.rego", &test("test_bad if count(main.deny) == 1 with input as {}")),
        ("error/p.rego", DENIES_BAD),
        ("error/p_test.rego", &test("test_bad if to_number(\"x\") == 1")),
        ("twice/p.rego", DENIES_BAD),
        ("twice/p_test.rego", &test("test_bad if false\ntest_bad if true")),
        ("value/p.rego", DENIES_BAD),
        ("value/p_test.rego", &test("test_bad := 1")),
        ("none/p.rego", DENIES_BAD),
        ("broken/p.rego", DENIES_BAD),
        ("broken/p_test.rego", &test("test_bad if {")),
    ]);
    for (policy, code) in [
        ("./p", None),
        ("./false", Some("policy-test-failed")),
        ("./error", Some("policy-test-failed")),
        ("./twice", Some("policy-test-failed")),
        ("./value", Some("policy-test-failed")),
        ("./none", Some("policy-unmatched")),
        ("./broken", Some("policy-unreadable")),
        ("./missing", Some("policy-unreadable")),
    ] {
        let output = debvisor(home.path(), &["policy", "test", policy, "--format", "json"]);
        assert_eq!(output.status.code(), Some(i32::from(code.is_some())), "{policy}");
        assert_eq!(codes(&json(&output)), code.into_iter().collect::<Vec<_>>(), "{policy}");
    }
    let text = String::from_utf8(debvisor(home.path(), &["policy", "test", "./false", "./p"]).stdout).unwrap();
    assert!(text.contains("FAIL main_test.test_bad (line 4)"), "{text}");
    assert!(text.contains("SKIP main_test.todo_test_later"), "{text}");
    assert!(text.contains("./p: 1 passed, 0 failed; 100.0 % of the policy's lines"), "{text}");
}
