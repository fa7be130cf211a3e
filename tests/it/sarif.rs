//! `debvisor sarif` through the real binary: what pylint and clippy write, as code scanning reads it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn convert(dir: &Path, verb: &str, bytes: impl AsRef<[u8]>) -> (i32, String) {
    std::fs::write(dir.join("results.json"), bytes).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let output = command.args(["sarif", verb, "results.json"]).current_dir(dir).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The results of a log that is valid, as `rule level file line:column-line:column`.
fn results(log: &str) -> Vec<String> {
    assert_eq!(crate::report::sarif_errors(log), Vec::<String>::new());
    let log: Value = serde_json::from_str(log).unwrap();
    let rules = log.pointer("/runs/0/tool/driver/rules").unwrap().as_array().unwrap();
    let told = |result: &Value| {
        assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]), "{result} has no rule");
        let place = result.pointer("/locations/0/physicalLocation").unwrap();
        let number = |name: &str| place["region"][name].as_u64().map_or("-".to_owned(), |number| number.to_string());
        format!(
            "{} {} {} {}:{}-{}:{}",
            result["ruleId"].as_str().unwrap(),
            result["level"].as_str().unwrap(),
            place["artifactLocation"]["uri"].as_str().unwrap(),
            number("startLine"),
            number("startColumn"),
            number("endLine"),
            number("endColumn"),
        )
    };
    log.pointer("/runs/0/results").unwrap().as_array().unwrap().iter().map(told).collect()
}

#[test]
fn what_pylint_itself_writes_becomes_valid_sarif() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\"\"\"A module.\"\"\"\nimport os\n\n\ndef f():\n    \"\"\"Does it.\"\"\"\n    return undefined\n";
    std::fs::write(dir.path().join("a b.py"), text).unwrap();
    let run = Command::new("pylint")
        .args(["--output-format=json", "--disable=all", "--enable=E0602,W0611,C0103", "a b.py"])
        .current_dir(&dir)
        .env("PYLINTHOME", dir.path())
        .output()
        .expect("pylint is installed (scripts/needs.sh test)");
    let (exit, log) = convert(dir.path(), "from-pylint", &run.stdout);
    assert_eq!(exit, 0, "{}", String::from_utf8_lossy(&run.stderr));
    let found = results(&log);
    assert!(found.contains(&"E0602/undefined-variable error a%20b.py 7:12-7:21".to_owned()), "{found:#?}");
    assert!(found.contains(&"W0611/unused-import warning a%20b.py 2:1-2:10".to_owned()), "{found:#?}");
}

#[test]
fn both_forms_of_pylint_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let message = |id: &str| {
        json!({"type": "convention", "module": "a", "obj": "", "line": 1, "column": 0, "endLine": null,
            "endColumn": null, "path": "a.py", "symbol": "x", "message": "[a](b) {0}", id: "C0001"})
    };
    let expected = ["C0001/x note a.py 1:1--:-"];
    assert_eq!(results(&convert(dir.path(), "from-pylint", json!([message("message-id")]).to_string()).1), expected);
    let second = json!({"messages": [message("messageId"), message("messageId")], "statistics": {}}).to_string();
    let log = convert(dir.path(), "from-pylint", second).1;
    assert_eq!(results(&log), expected, "and what is told twice once");
    assert!(log.contains(r"\\[a\\](b) {{0}}"), "a link in a message is shown and not followed: {log}");
    assert!(results(&convert(dir.path(), "from-pylint", "[]").1).is_empty());
}

#[test]
fn what_cargo_writes_of_clippy_becomes_valid_sarif() {
    let dir = tempfile::tempdir().unwrap();
    let span = json!({"file_name": "src/lib.rs", "line_start": 3, "line_end": 4, "column_start": 5, "column_end": 9, "is_primary": true, "label": null});
    let line = |level: &str, code: Value, spans: Value| {
        json!({"reason": "compiler-message", "package_id": "a", "message": {"message": "do not", "code": code, "level": level,
            "spans": spans, "children": [{"message": "do it so", "level": "help", "spans": []}], "rendered": ""}})
    };
    let lines = [
        json!({"reason": "compiler-artifact", "message": null}),
        line("warning", json!({"code": "clippy::needless_return", "explanation": null}), json!([span])),
        line("warning", json!({"code": "clippy::needless_return", "explanation": null}), json!([span])),
        line("error", json!({"code": "E0308", "explanation": "long"}), json!([span])),
        line("error", Value::Null, json!([span])),
        line("warning", Value::Null, json!([])),
        json!({"reason": "build-finished", "success": true}),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    let (exit, log) = convert(dir.path(), "from-clippy", text);
    assert_eq!(exit, 0);
    let place = "src/lib.rs 3:5-4:9";
    let expected =
        ["E0308 error", "clippy::needless_return warning", "rustc error"].map(|one| format!("{one} {place}"));
    assert_eq!(results(&log), expected);
    assert!(log.contains("do not\\nHelp: do it so"), "{log}");
}

#[test]
fn what_is_no_result_is_a_refusal_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (verb, bytes) in [
        ("from-pylint", "{"),
        ("from-pylint", "{}"),
        ("from-pylint", "[{\"type\": \"error\"}]"),
        ("from-clippy", "warning: unused\n"),
        ("from-clippy", "{\"reason\": \"compiler-message\", \"message\": {}}"),
    ] {
        let (exit, told) = convert(dir.path(), verb, bytes);
        assert!(exit == 1 && told.contains("malformed-json"), "{verb} {bytes}: {exit} {told}");
    }
    let one = json!({"type": "error", "line": 1, "column": 0, "path": "a.py", "symbol": "x", "message": "m", "message-id": "E1"});
    let many: Vec<Value> = (0..25_001)
        .map(|line| {
            let mut one = one.clone();
            one["line"] = json!(line + 1);
            one
        })
        .collect();
    let (exit, told) = convert(dir.path(), "from-pylint", Value::from(many).to_string());
    assert!(exit == 1 && told.contains("input-too-large"), "{exit}");
}
