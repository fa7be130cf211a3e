//! docs/reference/policy-input.md against the types that make the document.

use std::collections::BTreeSet;

use debvisor::release::policy::PolicyInput;
use debvisor::release::policy::input::{Expected, InputSubject, InputTrustRoot};
use serde_json::Value;

fn paths(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    if let Value::Object(members) = value {
        for (name, member) in members {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            paths(&path, member, found);
            found.insert(path);
        }
    }
}

#[test]
fn the_reference_names_every_member_of_the_input_and_no_other() {
    let input = PolicyInput {
        subject: InputSubject::default(),
        expected: Expected::default(),
        facts: debvisor::release::verify::Facts::default().to_json(),
        trust_root: Some(InputTrustRoot { digest: String::new(), age_days: None }),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let mut members = BTreeSet::new();
    paths("", &input.into_json(), &mut members);
    let page = include_str!("../../../docs/reference/policy-input.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(path, _)| path.to_owned())
        .filter(|path| !path.contains("[]") && !path.ends_with(".ALGORITHM"))
        .collect();
    assert_eq!(documented, members);
}
