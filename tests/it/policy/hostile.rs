//! Policies and inputs that mean harm: none ends the process, hangs it, or is taken for a yes.

use debvisor::release::policy::{PolicySet, testing};
use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON of any shape, with the names that the built-in policies look for.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "certificate",
            "key",
            "openpgp",
            "PASSED",
            "2026-01-01T00:00:00Z",
            "a@refs/tags/v1.0.0"
        ])
        .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "facts",
        "signatures",
        "signer",
        "kind",
        "identity",
        "issuer",
        "claims",
        "attestation",
        "provenance",
        "summary",
        "builder_id",
        "expected",
        "source_uri",
        "require",
        "checksums",
        "signed",
        "now",
        "expires_at",
        "predicate_type",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn builtin_policies_answer_any_input(input in any_json(), signatures in any_json(), expected in any_json()) {
        for name in ["release", "builders", "admission"] {
            let set = PolicySet::builtin(name).unwrap();
            // Nobody is named: whatever else the facts say, that is no yes.
            prop_assert!(!set.evaluate(&input).denials.is_empty() || names_somebody(&input));
            let shaped = json!({"facts": {"signatures": signatures}, "expected": expected, "now": "2026-01-01T00:00:00Z"});
            prop_assert!(!set.evaluate(&shaped).denials.is_empty() || names_somebody(&shaped));
        }
    }

    #[test]
    fn any_text_is_a_policy_or_a_reason(text in "\\PC{0,200}") {
        let _ = load(&text);
    }

    #[test]
    fn damaged_policies_are_policies_or_reasons(at in any::<prop::sample::Index>(), with in "[ -~\n]{0,8}", cut in 0_usize..40) {
        let mut text = include_str!("../../../policies/builders.rego").to_owned();
        let from = at.index(text.len());
        text.replace_range(from..(from + cut).min(text.len()), &with);
        if let Some(set) = load(&text) {
            let _ = set.evaluate(&json!({"facts": {"signatures": []}}));
        }
    }
}

/// Whether an input names a signer or has a signed list, by the policies' own words.
fn names_somebody(input: &Value) -> bool {
    let expected = &input["expected"];
    let signed =
        input["facts"]["checksums"].as_array().is_some_and(|list| list.iter().any(|entry| entry["signed"] == true));
    signed || expected.as_object().is_some_and(|expected| !expected.is_empty())
}

fn load(text: &str) -> Option<PolicySet> {
    PolicySet::from_sources("hostile", vec![("hostile.rego".to_owned(), text.to_owned())]).ok()
}

#[test]
fn huge_and_deep_policies_are_refused_or_evaluated() {
    let nested = format!("package main\ndeny contains {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let lines = format!("package main\n{}", "x := 1\n".repeat(20_000));
    let long = format!("package main\ndeny contains \"{}\"", "x".repeat(1_000_000));
    let large = format!("package main\n# {}\ndeny contains 1", "x".repeat(5 * 1024 * 1024));
    let operators = format!("package main\ndeny contains \"x\" if {}1", "1 + ".repeat(10_000));
    let parts = format!("package {}", "a.".repeat(10_000));
    for text in [nested, lines, long, large, operators, parts] {
        if let Some(set) = load(&text) {
            assert!(!set.evaluate(&json!({})).denials.is_empty());
        }
    }
}

#[test]
fn patterns_that_explode_elsewhere_end() {
    let text = "package main\nimport rego.v1\ndeny contains \"matched\" if regex.match(`^(a+)+$`, input.text)\n\
                deny contains \"always\"\n";
    let set = load(text).unwrap();
    assert_eq!(set.evaluate(&json!({"text": format!("{}!", "a".repeat(50_000))})).denials.len(), 1);
}

#[test]
fn deep_inputs_are_answered() {
    let mut deep = json!(1);
    for _ in 0..120 {
        deep = json!([deep]);
    }
    let set = load("package main\nimport rego.v1\ndeny contains \"walked\" if { some path, _ in walk(input); count(path) > 100 }\ndeny contains \"w\" if { walk(input, [p, _]); count(p) > 100 }").unwrap();
    assert!(!set.evaluate(&deep).denials.is_empty());
}

#[test]
fn tests_of_a_policy_are_bounded_as_well() {
    let files = |test: &str| {
        vec![
            ("p.rego".to_owned(), "package main\ndeny contains \"x\" if input.x".to_owned()),
            ("p_test.rego".to_owned(), format!("package main_test\nimport rego.v1\n{test}")),
        ]
    };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let reason = testing::run("p", files("test_x if f(1)\nf(x) := f(x)"), now).unwrap_err();
    assert_eq!(reason.code.as_str(), "policy-unreadable");
    let run = testing::run("p", files("test_x if time.now_ns() == 1767225600000000000"), now).unwrap();
    assert_eq!(run.reasons(), []);
}
