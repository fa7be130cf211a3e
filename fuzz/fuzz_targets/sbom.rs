//! Bills of materials, and everything that is done with one.
#![no_main]

use debvisor::release::evidence::sbom::{self, compare, diff, licenses, score, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = sbom::read(bytes) else { return };
    let _ = validate::distinct(&document.sbom);
    let _ = licenses::statements(&document.sbom);
    let score = score::score(&document);
    assert!((0.0..=100.0).contains(&score.score), "a score out of range");
    assert!(diff::diff(&document.sbom, &document.sbom).is_empty(), "a document unlike itself");
    let comparison = compare::compare(&document.sbom, &document.sbom);
    assert!(comparison.reasons.is_empty(), "a document that disagrees with itself");
});
