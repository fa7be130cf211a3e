//! Any document as the input of the release policy. What is not a proved fact is never enough for a yes.
#![no_main]

use std::sync::LazyLock;

use debvisor::release::evidence::json::parse_value;
use debvisor::release::policy::PolicySet;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<PolicySet> = LazyLock::new(|| PolicySet::builtin("release").expect("it is embedded"));

fuzz_target!(|bytes: &[u8]| {
    debvisor_fuzz::survive_caught_panics();
    let Ok(input) = parse_value(bytes) else { return };
    let _ = POLICY.evaluate(&input);
});
