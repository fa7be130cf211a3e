//! Detached OpenPGP signatures, binary and armored.
#![no_main]

use debvisor::release::evidence::openpgp::{ArtifactHasher, DetachedSignatures};
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(signatures) = DetachedSignatures::parse(bytes) else { return };
    assert!((1..=limits::OPENPGP_SIGNATURES).contains(&signatures.count()));
    assert!(!signatures.digest_algorithms().is_empty());
    let _ = ArtifactHasher::new([&signatures]).finish();
});
