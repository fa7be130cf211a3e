//! Merkle proofs: two sizes, then hashes. A proof that holds stops holding when anything about it changes.
#![no_main]

use debvisor::release::evidence::merkle::{Hash, root_from_inclusion, verify_consistency, verify_inclusion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((second, rest)) = rest.split_first_chunk::<8>() else { return };
    let (first, second) = (u64::from_le_bytes(*first), u64::from_le_bytes(*second));
    let hashes: &[Hash] = rest.as_chunks().0;
    let [leaf, proof @ ..] = hashes else { return };

    if let Ok(root) = root_from_inclusion(leaf, first, second, proof) {
        assert!(first < second && proof.len() <= 64);
        verify_inclusion(leaf, first, second, proof, &root).expect("the root that the proof leads to");
        let mut other = root;
        other[31] ^= 1;
        assert!(verify_inclusion(leaf, first, second, proof, &other).is_err());
        assert!(verify_inclusion(&other, first, second, proof, &root).is_err());
        let longer = [proof, &[root]].concat();
        assert!(verify_inclusion(leaf, first, second, &longer, &root).is_err());
        if let [_, shorter @ ..] = proof {
            assert!(verify_inclusion(leaf, first, second, shorter, &root).is_err());
        }
    }
    if let [root1, root2, proof @ ..] = hashes
        && verify_consistency(first, second, root1, root2, proof).is_ok()
    {
        assert!(first <= second);
        let mut other = *root2;
        other[0] ^= 1;
        assert!(verify_consistency(first, second, root1, &other, proof).is_err());
        assert!(verify_consistency(first, second, &other, root2, proof).is_err());
    }
});
