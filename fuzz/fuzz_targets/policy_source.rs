//! Rego text of a user, compiled and evaluated over a small input. The answer is a verdict, whatever the text does.
#![no_main]

use debvisor::release::policy::PolicySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    debvisor_fuzz::survive_caught_panics();
    let files = vec![("policy.rego".to_owned(), text.to_owned())];
    let Ok(set) = PolicySet::from_sources("fuzz", files) else { return };
    assert!(!set.rules().is_empty(), "a set without a deciding rule is refused");
    let input = serde_json::json!({"subject": {"name": "a"}, "facts": {}, "now": "2026-01-01T00:00:00Z"});
    let _ = set.evaluate(&input);
});
