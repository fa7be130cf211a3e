//! Checkpoints: signed notes with origin, size and root.
#![no_main]

use debvisor::release::evidence::checkpoint::Checkpoint;
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(checkpoint) = Checkpoint::parse(text) else { return };
    assert!(text.starts_with(&checkpoint.signed_text), "what is signed is what stands there");
    assert!(checkpoint.signed_text.starts_with(&format!("{}\n{}\n", checkpoint.origin, checkpoint.size)));
    assert!((1..=limits::CHECKPOINT_SIGNATURES).contains(&checkpoint.signatures.len()));
    assert!(checkpoint.signatures.iter().all(|signature| !signature.signature.is_empty()));
});
