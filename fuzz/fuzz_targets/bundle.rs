//! Sigstore bundles, one or many lines, and every document inside them.
#![no_main]

use debvisor::release::evidence::bundle::{Content, Material, parse_file};
use debvisor::release::evidence::certificate::Certificate;
use debvisor::release::evidence::checkpoint::Checkpoint;
use debvisor::release::evidence::log_entry::LoggedBody;
use debvisor::release::evidence::statement::Statement;
use debvisor::release::evidence::timestamp::SignedTimestamp;
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundles) = parse_file(bytes) else { return };
    assert!(!bundles.is_empty());
    for (_, bundle) in bundles {
        assert!(bundle.entries.len() <= limits::LOG_ENTRIES && bundle.timestamps.len() <= limits::TIMESTAMPS);
        assert!(!bundle.signature().is_empty(), "an empty signature is none");
        if let Material::Certificate { leaf, .. } = &bundle.material {
            let _ = Certificate::parse(leaf);
        }
        for entry in &bundle.entries {
            let _ = LoggedBody::parse(entry);
            if let Some(proof) = &entry.proof {
                assert!(proof.hashes.len() <= limits::PROOF_HASHES);
                let _ = proof.checkpoint.as_deref().map(Checkpoint::parse);
            }
        }
        for timestamp in &bundle.timestamps {
            let _ = SignedTimestamp::parse(timestamp);
        }
        if let Content::Envelope(envelope) = &bundle.content {
            assert!(envelope.pre_authentication_encoding().ends_with(&envelope.payload));
            let _ = Statement::parse(&envelope.payload);
        }
    }
});
