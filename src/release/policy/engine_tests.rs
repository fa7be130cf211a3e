//! Unit tests of the evaluator: what users write, and what must not get through.

use serde_json::json;

use super::{PolicySet, Verdicts};
use crate::types::{Code, limits};

fn set(text: &str) -> PolicySet {
    PolicySet::from_sources("test", vec![("test.rego".to_owned(), text.to_owned())]).unwrap()
}

fn refused(files: &[(&str, &str)]) -> String {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let reason = PolicySet::from_sources("test", files).unwrap_err();
    reason.code.as_str().to_owned()
}

fn codes(verdicts: &Verdicts) -> Vec<&str> {
    verdicts.denials.iter().map(|reason| reason.code.as_str()).collect()
}

fn messages(verdicts: &Verdicts) -> Vec<&str> {
    verdicts.denials.iter().map(|reason| reason.message.as_str()).collect()
}

#[test]
fn every_way_of_writing_a_rule_is_understood() {
    let ways = [
        ("v1", "package main\ndeny contains msg if { input.bad; msg := \"bad\" }"),
        ("import", "package main\nimport rego.v1\ndeny contains msg if { input.bad; msg := \"bad\" }"),
        ("v0 set", "package main\ndeny[msg] { input.bad; msg := \"bad\" }"),
        ("v0 equals", "package main\ndeny[msg] { input.bad; msg = \"bad\" }"),
        ("v0 future", "package main\nimport future.keywords\ndeny contains msg if { input.bad; msg := \"bad\" }"),
        ("violation", "package main\nviolation[{\"msg\": msg}] { input.bad; msg := \"bad\" }"),
        ("prefix", "package main\ndeny_something contains \"bad\" if input.bad"),
        ("violation prefix", "package main\nviolation_x contains {\"msg\": \"bad\"} if input.bad"),
        ("complete string", "package main\ndeny := \"bad\" if input.bad"),
        ("complete array", "package main\ndeny := [\"bad\"] if input.bad"),
        ("complete object", "package main\ndeny := {\"msg\": \"bad\"} if input.bad"),
        ("partial object", "package main\ndeny[\"why\"] := \"bad\" if input.bad"),
        ("other package", "package a.b.c\ndeny contains \"bad\" if input.bad"),
        ("odd package", "package a[\"b.c d\"]\ndeny contains \"bad\" if input.bad"),
    ];
    for (name, text) in ways {
        let set = set(text);
        assert_eq!(messages(&set.evaluate(&json!({"bad": true}))), ["bad"], "{name}");
        assert_eq!(set.evaluate(&json!({"bad": false})), Verdicts::default(), "{name}");
    }
}

#[test]
fn a_truth_value_denies_and_allow_must_be_true() {
    let deny = set("package main\ndeny if input.bad");
    assert_eq!(codes(&deny.evaluate(&json!({"bad": true}))), ["policy-denied"]);
    assert!(deny.evaluate(&json!({})).denials.is_empty());
    for text in [
        "package main\ndefault allow := false\nallow if input.good == true",
        "package main\nallow if input.good == true",
        "package main\ndefault allow = false\nallow { input.good == true }",
    ] {
        let allow = set(text);
        assert!(allow.evaluate(&json!({"good": true})).denials.is_empty());
        assert_eq!(codes(&allow.evaluate(&json!({"good": 1}))), ["policy-denied"]);
        assert_eq!(codes(&allow.evaluate(&json!({}))), ["policy-denied"]);
        assert_eq!(codes(&allow.evaluate(&json!(null))), ["policy-denied"]);
    }
    let word = set("package main\nallow := \"true\"");
    assert_eq!(codes(&word.evaluate(&json!({}))), ["policy-denied"]);
}

#[test]
fn objects_carry_code_evidence_location_and_hint() {
    let set = set(
        "package main\ndeny contains {\"msg\": \"m\", \"code\": \"licence-forbidden\", \"evidence\": \"e\", \"location\": \"l\", \"hint\": \"h\"}",
    );
    let verdicts = set.evaluate(&json!({}));
    let reason = verdicts.denials.first().unwrap();
    assert_eq!(reason.code.as_str(), "licence-forbidden");
    assert_eq!(
        (reason.evidence.as_deref(), reason.location.as_deref(), reason.hint.as_deref()),
        (Some("e"), Some("l"), Some("h"))
    );
}

#[test]
fn a_code_that_is_no_code_becomes_policy_denied() {
    let set = set("package main\ndeny contains {\"msg\": \"m\", \"code\": \"No Code\"}");
    let verdicts = set.evaluate(&json!({}));
    assert_eq!(codes(&verdicts), ["policy-denied"]);
    assert_eq!(verdicts.denials[0].evidence.as_deref(), Some("test.rego"));
    assert_eq!(verdicts.denials[0].location.as_deref(), Some("main.deny"));
}

#[test]
fn warnings_decide_nothing() {
    let set =
        set("package main\ndeny contains \"d\" if input.bad\nwarn contains \"w\"\nwarn_more contains {\"msg\": \"x\"}");
    let verdicts = set.evaluate(&json!({}));
    assert!(verdicts.denials.is_empty());
    assert_eq!(verdicts.warnings.len(), 2);
}

#[test]
fn exceptions_turn_denials_into_warnings() {
    let set = set(
        "package main\nimport rego.v1\ndeny_root contains \"root\"\ndeny_net contains \"net\"\nexception contains rules if { input.name == \"known\"; rules := [\"root\"] }",
    );
    let verdicts = set.evaluate(&json!({"name": "known"}));
    assert_eq!(messages(&verdicts), ["net"]);
    assert_eq!(verdicts.warnings.len(), 1);
    assert_eq!(set.evaluate(&json!({"name": "other"})).denials.len(), 2);
}

#[test]
fn admission_no_policy_matches_is_a_no() {
    for text in
        ["package main\nx := 1", "package main", "package main\nwarn contains \"w\"", "package main\ndeny(x) := x"]
    {
        assert_eq!(refused(&[("a.rego", text)]), "policy-unmatched", "{text}");
    }
}

#[test]
fn admission_empty_policy_set_is_a_no() {
    assert_eq!(refused(&[]), "policy-unmatched");
    assert_eq!(refused(&[("data.json", "{}")]), "policy-unmatched");
    assert_eq!(refused(&[("a_test.rego", "package main\ndeny contains \"x\"")]), "policy-unmatched");
}

#[test]
fn admission_evaluator_failure_is_a_no() {
    for text in [
        "package main\ndeny contains msg if { msg := http.send({\"method\": \"get\", \"url\": \"http://localhost\"}) }",
        "package main\ndeny contains msg if { msg := no_such_function(1) }",
        "package main\ndeny contains \"x\" if to_number(\"x\") > 1",
        "package main\ndeny contains \"x\" if input.a / 0 == 1",
        "package main\ndeny contains 1",
        "package main\ndeny contains null",
        "package main\ndeny contains [\"x\"]",
        "package main\ndeny contains {\"message\": \"x\"}",
        "package main\ndeny := 3",
        "package main\ndeny := null",
        "package main\nallow if input.a\nwarn contains 3",
        "package main\nx := 1\nx := 2 if input.a\ndeny contains \"no\" if x == 3",
        "package main\ndeny contains \"late\" if time.now_ns() > 0",
    ] {
        let verdicts = match PolicySet::from_sources("test", vec![("test.rego".to_owned(), text.to_owned())]) {
            Ok(set) => set.evaluate(&json!({"a": 1})),
            Err(reason) => Verdicts::denied(reason),
        };
        assert!(!verdicts.denials.is_empty(), "{text}");
        assert!(
            codes(&verdicts).iter().any(|code| ["policy-failed", "policy-unreadable"].contains(code)),
            "{text}: {:?}",
            verdicts.denials
        );
    }
}

#[test]
fn what_does_not_parse_is_unreadable() {
    for text in [
        "",
        "deny contains \"x\"",
        "package main\ndeny contains",
        "package main\ndeny contains msg if { msg := }",
        "package main\ndeny contains msg if { msg := \"x\" ",
        "package main\nimport rego.v1\ndeny[msg] { msg := \"x\" }",
        "package debvisor_entry\ndeny contains \"x\"",
        "package debvisor_entry.more\ndeny contains \"x\"",
    ] {
        assert_eq!(refused(&[("a.rego", text)]), "policy-unreadable", "{text}");
    }
    assert_eq!(refused(&[("a.rego", "package main\ndeny contains \"x\""), ("a.txt", "")]), "policy-unreadable");
}

#[test]
fn a_v1_file_with_a_mistake_is_not_read_as_v0() {
    let text =
        "package main\ndeny contains msg if {\n  input.bad\n  msg := sprintf(\"x\", [])\n}\nallow[x] { x := 1 }\n";
    assert_eq!(refused(&[("a.rego", text)]), "policy-unreadable");
}

#[test]
fn data_serves_rules_and_never_replaces_them() {
    let files = |data: &str| {
        vec![
            (
                "a.rego".to_owned(),
                "package main\nimport rego.v1\ndeny contains \"no\" if not input.name in data.names".to_owned(),
            ),
            ("b.json".to_owned(), data.to_owned()),
        ]
    };
    let set = PolicySet::from_sources("test", files("{\"names\": [\"a\"]}")).unwrap();
    assert!(set.evaluate(&json!({"name": "a"})).denials.is_empty());
    assert_eq!(set.evaluate(&json!({"name": "b"})).denials.len(), 1);
    for data in
        ["{\"main\": {\"deny\": []}}", "{\"main\": {}}", "{\"debvisor_entry\": {}}", "[]", "{", "{\"a\":1,\"a\":2}"]
    {
        let reason = PolicySet::from_sources("test", files(data)).unwrap_err();
        assert_eq!(reason.code, Code::PolicyUnreadable.into(), "{data}");
    }
}

#[test]
fn now_is_the_inputs_own() {
    let set = set(
        "package main\nimport rego.v1\ndeny contains \"late\" if time.now_ns() > time.parse_rfc3339_ns(\"2026-01-01T00:00:00Z\")",
    );
    assert!(set.evaluate(&json!({"now": "2025-12-31T23:59:59Z"})).denials.is_empty());
    assert_eq!(messages(&set.evaluate(&json!({"now": "2026-01-01T00:00:01Z"}))), ["late"]);
}

#[test]
fn ranges_are_bounded() {
    let small = set(
        "package main\nimport rego.v1\ndeny contains \"no\" if numbers.range(1, 3) != [1, 2, 3]\ndeny contains \"step\" if numbers.range_step(5, 1, 2) != [5, 3, 1]",
    );
    assert_eq!(small.evaluate(&json!({})), Verdicts::default());
    for range in ["numbers.range(0, 1000000000000)", "numbers.range(0, 9223372036854775807)", "numbers.range(0, 1e300)"]
    {
        let set = set(&format!("package main\nimport rego.v1\ndeny contains \"no\" if count({range}) == 0"));
        assert_eq!(codes(&set.evaluate(&json!({}))), ["policy-failed"], "{range}");
    }
}

#[test]
fn reasons_and_messages_are_bounded() {
    let set = set(
        "package main\nimport rego.v1\ndeny contains sprintf(\"%d\", [n]) if some n in numbers.range(1, 5000)\nwarn contains concat(\"\", [\"long\" | some _ in numbers.range(1, 5000)])",
    );
    let verdicts = set.evaluate(&json!({}));
    assert_eq!(verdicts.denials.len(), 1001);
    let verdicts = self::set("package main\nimport rego.v1\ndeny contains concat(\"\", [s | some n in numbers.range(1, 5000); s := sprintf(\"%d \", [n])])").evaluate(&json!({}));
    assert!(verdicts.denials[0].message.chars().count() <= 4097);
}

#[test]
fn one_set_serves_many_threads() {
    let set = set("package main\nimport rego.v1\ndeny contains sprintf(\"%d\", [input.n]) if input.n % 2 == 0");
    std::thread::scope(|scope| {
        for n in 0..16_u64 {
            let set = &set;
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(set.evaluate(&json!({"n": n})).denials.len(), usize::from(n % 2 == 0));
                }
            });
        }
    });
}

#[test]
fn a_baseline_still_denies() {
    let mine = set("package main\ndeny contains \"mine\" if input.mine");
    let base = set("package base\ndeny contains \"base\" if input.base");
    let both = mine.clone().with_baseline(&base);
    assert_eq!(messages(&both.evaluate(&json!({"mine": 1, "base": 1}))), ["mine", "base"]);
    assert_eq!(messages(&both.evaluate(&json!({"base": 1}))), ["base"]);
    assert_ne!(both.reference().digest, mine.reference().digest);
}

#[test]
fn the_digest_is_over_what_decides() {
    let with = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        PolicySet::from_sources("test", files).unwrap().reference().digest
    };
    let rule = "package main\ndeny contains \"x\"";
    let one = with(&[("a.rego", rule)]);
    assert_eq!(one, with(&[("a.rego", rule), ("a_test.rego", "package main_test")]));
    assert_ne!(one, with(&[("a.rego", rule), ("b.json", "{}")]));
    assert_ne!(one, with(&[("b.rego", rule)]));
    assert_eq!(with(&[("a.rego", rule), ("b.json", "{}")]), with(&[("b.json", "{}"), ("a.rego", rule)]));
}

/// A set whose rules or functions call each other in a chain, each call nested as deeply as the parser lets it be.
fn chain(links: usize, nested: usize, function: bool) -> String {
    let argument = if function { "(x)" } else { "" };
    let call = if function { "(1)" } else { "" };
    let mut text = format!("package main\nimport rego.v1\ndeny contains \"end\" if r0{call} == 1\n");
    for n in 0..links {
        let (open, close) = ("abs(".repeat(nested), ")".repeat(nested));
        text.push_str(&format!("r{n}{argument} := y if {{ y := {open}r{}{call}{close} }}\n", n + 1));
    }
    text.push_str(&format!("r{links}{argument} := 1\n"));
    text
}

#[test]
fn the_deepest_chain_that_is_allowed_does_not_break_the_stack() {
    for function in [false, true] {
        let set = set(&chain(limits::POLICY_CALL_DEPTH - 2, 28, function));
        assert_eq!(messages(&set.evaluate(&json!({}))), ["end"]);
    }
}

#[test]
fn a_longer_chain_is_refused() {
    for function in [false, true] {
        assert_eq!(refused(&[("a.rego", &chain(limits::POLICY_CALL_DEPTH, 0, function))]), "input-too-deep");
        assert_eq!(refused(&[("a.rego", &chain(4_900, 0, function))]), "input-too-deep");
    }
}

#[test]
fn recursion_is_refused() {
    for text in [
        "package main\ndeny contains \"x\" if a\na if b\nb if a",
        "package main\ndeny contains \"x\" if f(1)\nf(x) := f(x)",
        "package main\ndeny contains \"x\" if f(1)\nf(x) := data.main.g(x)\ng(x) := f(x)",
        "package main\ndeny contains \"x\" if f(1)\nf(x) := data[\"main\"].g(x)\ng(x) := data.main[\"f\"](x)",
        "package main\nimport data.main as m\ndeny contains \"x\" if f(1)\nf(x) := m.f(x)",
        "package main\ndeny contains \"x\" if f(1)\nf(x) := y if { y := g(x) with g as f }\ng(x) := x",
        "package main\ndeny contains \"x\" if f(1)\nf(x) := y if { y := r }\nr := f(1)",
        "package main\nimport rego.v1\ndeny contains \"x\" if f(1)\nf(x) := x if x == 2\nelse := f(x)",
    ] {
        let denied = match PolicySet::from_sources("test", vec![("test.rego".to_owned(), text.to_owned())]) {
            Ok(set) => set.evaluate(&json!({})).denials,
            Err(reason) => vec![reason],
        };
        assert!(!denied.is_empty(), "{text}");
        assert!(["policy-unreadable", "policy-failed"].contains(&denied[0].code.as_str()), "{text}: {denied:?}");
    }
}

#[test]
fn names_that_only_look_alike_are_no_recursion() {
    for text in [
        "package main\ndeny contains \"x\" if f(1) == 2\nf(x) := data.lib.f(x)",
        "package main\nimport data.lib as f\ndeny contains \"x\" if f.f(1) == 2",
        "package main\ndeny contains \"x\" if { some f; input[f] == 1 }\ncount_of(x) := count(x)",
    ] {
        let lib = ("lib.rego".to_owned(), "package lib\nf(x) := x + 1".to_owned());
        let files = vec![("test.rego".to_owned(), text.to_owned()), lib];
        let set = PolicySet::from_sources("test", files).unwrap();
        assert_eq!(messages(&set.evaluate(&json!({"a": 1}))), ["x"], "{text}");
    }
}

#[test]
fn an_endless_policy_is_ended() {
    // Ten nested loops over a thousand numbers each would take longer than the universe has.
    let loops: String = (0..10).map(|n| format!("some x{n} in numbers.range(1, 1000); ")).collect();
    let text = format!("package main\nimport rego.v1\ndeny contains \"never\" if {{ {loops} x0 + x9 == 0 }}");
    let start = std::time::Instant::now();
    let verdicts = set(&text).evaluate(&json!({}));
    assert_eq!(codes(&verdicts), ["policy-failed"]);
    assert!(start.elapsed() < super::engine::time_limit() * 2);
}

#[test]
fn brackets_are_nested_within_bounds() {
    let text = |levels: usize| {
        format!(
            "package main\n# [[[[[[[[[[[[[[[[[[[[\ndeny contains x if {{ x := `[[[[[[[[[[[[[[[[[[[[`; \"[[[[\\\"[[[[[[[[[[[[[\" != {}1{} }}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert_eq!(set(&text(8)).evaluate(&json!({})).denials.len(), 1);
    assert_eq!(refused(&[("a.rego", &text(limits::POLICY_NESTING))]), "input-too-deep");
    assert_eq!(refused(&[("a.rego", &text(100_000))]), "input-too-deep");
}
