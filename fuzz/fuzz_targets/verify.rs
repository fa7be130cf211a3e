//! A trust root, a NUL, and a bundle: the whole verification, chains, SCTs, checkpoints and timestamps included.
//! The artifact is not what any seed signed, so nothing may ever be proved about it.
#![no_main]

use std::sync::LazyLock;

use debvisor::release::artifact::Artifact;
use debvisor::release::evidence::bundle::Bundle;
use debvisor::release::trust::root::TrustRoot;
use debvisor::release::verify::{Expectations, Offered, Pattern, Verifier};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// What the seeds sign, and what they do not.
static ARTIFACTS: LazyLock<[Artifact; 2]> =
    LazyLock::new(|| [Artifact::from_bytes("seed", b"artifact"), Artifact::from_bytes("other", b"something else")]);
static EXPECTATIONS: LazyLock<Expectations> = LazyLock::new(|| Expectations {
    identity: Some(Pattern::regexp(".*").expect("it compiles")),
    issuer: Some(Pattern::regexp(".*").expect("it compiles")),
    ..Expectations::default()
});

fuzz_target!(|bytes: &[u8]| {
    let Some(nul) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(root), Ok(bundle)) = (TrustRoot::parse(&bytes[..nul]), Bundle::parse(&bytes[nul + 1..])) else { return };
    let now = Timestamp::from_second(1_770_000_000).expect("a time");
    let offered = Offered::new("bundle", bundle);
    let verifier = Verifier::new(&root, &EXPECTATIONS, now);
    for (position, artifact) in ARTIFACTS.iter().enumerate() {
        let (facts, reasons) = verifier.judge(artifact, &[&offered]);
        assert!(facts.signatures().is_empty() != reasons.is_empty(), "proved or refused, never both or neither");
        assert!(position == 0 || facts.signatures().is_empty(), "proved for what nobody signed");
    }
});
