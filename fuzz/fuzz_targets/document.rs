//! SBOM and VEX documents as far as a gate reads them.
#![no_main]

use debvisor::release::evidence::document::{Document, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Sbom, Kind::Vex] {
        let Ok(document) = Document::parse(kind, bytes) else { continue };
        assert_eq!(document.kind, kind);
        assert!(document.declares_digest || document.digests.is_empty(), "a digest out of nowhere");
    }
});
