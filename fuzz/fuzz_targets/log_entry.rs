//! Bodies of log entries. The first byte chooses the kind that the bundle speaks of.
#![no_main]

use debvisor::release::evidence::bundle::LogEntry;
use debvisor::release::evidence::log_entry::LoggedBody;
use libfuzzer_sys::fuzz_target;

const KINDS: [(&str, &str); 6] = [
    ("hashedrekord", "0.0.1"),
    ("hashedrekord", "0.0.2"),
    ("dsse", "0.0.1"),
    ("dsse", "0.0.2"),
    ("intoto", "0.0.1"),
    ("intoto", "0.0.2"),
];

fuzz_target!(|bytes: &[u8]| {
    let [choice, body @ ..] = bytes else { return };
    let (kind, version) = KINDS[usize::from(*choice) % KINDS.len()];
    let entry = LogEntry {
        index: 0,
        log_id: Vec::new(),
        kind: kind.to_owned(),
        version: version.to_owned(),
        integrated_time: None,
        signed_entry_timestamp: None,
        proof: None,
        body: body.to_vec(),
    };
    let Ok(body) = LoggedBody::parse(&entry) else { return };
    assert!(!body.signatures.is_empty(), "a body without a signature vouches for nothing");
});
