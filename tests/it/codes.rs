//! The reason codes: unique, kebab-case, documented.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use debvisor::types::{Code, ReasonCode};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_code_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
}

#[test]
fn every_code_is_kebab_case_and_found_by_its_name() {
    for code in Code::ALL {
        assert!(ReasonCode::from_policy(code.name()).is_some(), "{} is not kebab-case", code.name());
        assert_eq!(Code::from_name(code.name()), Some(*code));
    }
}

#[test]
fn every_code_says_what_it_means_where_it_comes_from_and_how_it_is_mended() {
    for code in Code::ALL {
        let info = code.info();
        for text in [info.meaning, info.source, info.fix] {
            assert!(text.len() > 5, "{} says too little: {text:?}", info.name);
        }
        assert!(info.meaning.ends_with('.'), "the meaning of {} is a sentence", info.name);
        assert!(!info.fix.ends_with('.'), "the fix of {} is a hint without a full stop", info.name);
    }
}

#[test]
fn the_page_of_reason_codes_is_what_the_table_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor")).args(["explain", "--reference"]).output().unwrap();
    assert!(output.status.success());
    let page = std::fs::read(Path::new(REPOSITORY).join("docs/reference/reason-codes.md")).unwrap();
    assert!(
        output.stdout == page,
        "docs/reference/reason-codes.md is stale: debvisor explain --reference > docs/reference/reason-codes.md"
    );
}

#[test]
fn explain_tells_each_code_and_suggests_the_nearest_for_a_wrong_one() {
    let told = Command::new(env!("CARGO_BIN_EXE_debvisor")).args(["explain", "file-unlisted"]).output().unwrap();
    assert!(String::from_utf8(told.stdout).unwrap().contains("A file is there that nobody listed."));
    let wrong = Command::new(env!("CARGO_BIN_EXE_debvisor")).args(["explain", "file-unlistd"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("did you mean"));
}

/// Codes that no rule gives yet, each with the reason why the table has it already.
const RESERVED: &[(Code, &str)] = &[
    (Code::KeyMismatch, "no verifier tells another key from a broken signature yet: both are signature-invalid"),
    (Code::TrustRootUnmatched, "one run has one trust root yet; an unknown log or authority has a code of its own"),
];

#[test]
fn every_code_is_given_by_some_rule_or_reserved_with_a_reason() {
    let mut text = String::new();
    for (folder, extension) in [("src", "rs"), ("policies", "rego")] {
        read_below(&Path::new(REPOSITORY).join(folder), extension, &mut text);
    }
    let words: BTreeSet<&str> =
        text.split(|character: char| !(character.is_ascii_alphanumeric() || "-:_".contains(character))).collect();
    let is_given = |code: &Code| {
        let path = format!("Code::{code:?}");
        words.contains(code.name()) || words.iter().any(|word| *word == path || word.ends_with(&format!("::{path}")))
    };
    let unused: Vec<&str> = Code::ALL
        .iter()
        .filter(|code| !is_given(code) && !RESERVED.iter().any(|(reserved, _)| reserved == *code))
        .map(|code| code.name())
        .collect();
    assert!(unused.is_empty(), "codes that nothing gives: {unused:#?}");
}

/// Appends every file of this extension but the table of codes itself.
fn read_below(folder: &Path, extension: &str, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, extension, text);
        } else if path.extension().is_some_and(|found| found == extension) && !path.ends_with("types/code.rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
            text.push('\n');
        }
    }
}
