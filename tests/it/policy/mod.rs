//! The built-in policies against their fixtures, users' policies through the real binary, and what they may not do.

mod cli;
mod hostile;
mod input;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use debvisor::release::policy::{PolicySet, builtin};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The codes that a policy's text can give.
fn codes_of(text: &str) -> BTreeSet<String> {
    let pattern = regex::Regex::new(r#""code": "([a-z0-9-]+)""#).unwrap();
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn fixtures(part: &str, code: &str) -> Vec<(String, serde_json::Value)> {
    let folder = root().join("fixtures/policy").join(part).join(code);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn every_rule_of_a_builtin_policy_has_a_passing_and_a_failing_fixture() {
    for part in builtin::PARTS.iter().filter(|part| part.name != "builders-always") {
        let set = PolicySet::builtin(match part.name {
            name @ ("admission" | "sbom" | "licenses" | "vex") => name,
            _ => "release",
        })
        .unwrap();
        let text = fs::read_to_string(root().join("policies").join(format!("{}.rego", part.name))).unwrap();
        let codes = codes_of(&text);
        assert!(!codes.is_empty());
        let folders: BTreeSet<String> = fs::read_dir(root().join("fixtures/policy").join(part.name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(folders, codes, "fixtures/policy/{} and the codes of {}.rego", part.name, part.name);
        for code in &codes {
            let (mut passing, mut failing) = (0, 0);
            for (name, input) in fixtures(part.name, code) {
                // A rule that only other lists than the shipped ones can set off brings its lists along.
                let set = match input.get("data") {
                    None => set.clone(),
                    Some(data) => with_data(part.name, data),
                };
                let verdicts = set.evaluate(&input);
                let given: Vec<&str> = verdicts.denials.iter().map(|reason| reason.code.as_str()).collect();
                if name.starts_with("pass") {
                    passing += 1;
                    assert!(given.is_empty(), "{}/{code}/{name}: {:#?}", part.name, verdicts.denials);
                } else {
                    failing += 1;
                    assert!(given.contains(&code.as_str()), "{}/{code}/{name}: {:#?}", part.name, verdicts.denials);
                }
            }
            assert!(passing > 0 && failing > 0, "{}/{code} needs a passing and a failing fixture", part.name);
        }
    }
}

/// A built-in policy with other data than it ships with.
fn with_data(part: &str, data: &serde_json::Value) -> PolicySet {
    let rules = builtin::part_files(part).into_iter().filter(|(name, _)| !name.ends_with(".json"));
    let data = (format!("{part}.json"), data.to_string());
    PolicySet::from_sources(part, rules.chain([data]).collect()).unwrap()
}

#[test]
fn no_builtin_policy_allows_an_input_that_says_nothing() {
    for builtin in builtin::BUILTINS {
        let set = PolicySet::builtin(builtin.name).unwrap();
        for input in [
            "null",
            "{}",
            "[]",
            "1",
            "\"x\"",
            r#"{"facts":{}}"#,
            r#"{"facts":{"signatures":[]}}"#,
            r#"{"facts":{"signatures":{}},"expected":null}"#,
            r#"{"facts":{"signatures":[null]},"expected":{}}"#,
            r#"{"facts":{"signatures":[{"signer":{"kind":"certificate"}}]},"expected":{}}"#,
        ] {
            let verdicts = set.evaluate(&serde_json::from_str(input).unwrap());
            assert!(!verdicts.denials.is_empty(), "{} allows {input}", builtin.name);
        }
    }
}

#[test]
fn every_code_of_a_builtin_policy_is_in_the_table() {
    for part in builtin::PARTS {
        for (file, text) in part.files {
            for code in codes_of(text) {
                assert!(debvisor::types::Code::from_name(&code).is_some(), "{file}: {code}");
            }
        }
    }
}

#[test]
fn the_builders_policy_asks_for_a_builder_even_where_a_signer_was_named() {
    let (release, builders) = (PolicySet::builtin("release").unwrap(), PolicySet::builtin("builders").unwrap());
    let (_, named) = fixtures("release", "identity-required").into_iter().find(|(name, _)| name == "pass").unwrap();
    assert!(release.evaluate(&named).denials.is_empty());
    let codes: Vec<String> =
        builders.evaluate(&named).denials.iter().map(|reason| reason.code.as_str().to_owned()).collect();
    assert_eq!(codes, ["provenance-missing"]);
    let (_, built) = fixtures("builders", "builder-untrusted").into_iter().find(|(name, _)| name == "pass").unwrap();
    assert!(builders.evaluate(&built).denials.is_empty());
}
