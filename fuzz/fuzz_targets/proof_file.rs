//! Proofs in JSON. What holds is a sound document with an index inside the tree.
#![no_main]

use debvisor::release::evidence::merkle::proof_file::{check_consistency, check_inclusion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proved) = check_inclusion(bytes) {
        assert!(proved.index < proved.size);
        assert_eq!((proved.root.len(), proved.leaf_hash.len()), (64, 64));
    }
    if let Ok(proved) = check_consistency(bytes) {
        assert!(proved.size1 < proved.size2 || proved.root1 == proved.root2);
    }
});
