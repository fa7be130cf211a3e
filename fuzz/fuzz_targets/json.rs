//! Strict JSON. What is sound here is sound to serde_json, and written again it is sound still.
#![no_main]

use debvisor::release::evidence::json::{check, parse_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if check(bytes).is_err() {
        assert!(parse_value(bytes).is_err());
        return;
    }
    // Numbers past every float are the one thing that is well formed and has no value.
    let Ok(value) = parse_value(bytes) else { return };
    let text = serde_json::to_vec(&value).expect("a value can be written");
    assert_eq!(parse_value(&text).expect("it can be read again"), value);
});
