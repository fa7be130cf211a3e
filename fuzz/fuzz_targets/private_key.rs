//! Private key files: cosign's encrypted form under an empty password, and PKCS #8.
#![no_main]

use debvisor::release::attest::key::PrivateKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = PrivateKey::load(bytes, Some(b"")) {
        let signature = key.sign(b"message").expect("a key that was read signs");
        assert!(key.public().verify(b"message", &signature).is_ok());
    }
    let _ = PrivateKey::from_pkcs8(bytes);
});
