//! RFC 3161 timestamps in DER.
#![no_main]

use debvisor::release::evidence::certificate::Certificate;
use debvisor::release::evidence::timestamp::SignedTimestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(timestamp) = SignedTimestamp::parse(bytes) else { return };
    assert!(!timestamp.signature.is_empty() && !timestamp.signed_attributes.is_empty());
    let _ = timestamp.covers(b"message");
    for certificate in &timestamp.certificates {
        let _ = Certificate::parse(certificate);
    }
});
