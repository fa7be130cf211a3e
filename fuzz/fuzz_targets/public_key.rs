//! Public keys: PEM, SPKI and PKCS #1. A key that is read is the bytes that it was read from.
#![no_main]

use debvisor::release::evidence::key::PublicKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = PublicKey::from_spki(bytes) {
        assert_eq!(key.spki(), bytes);
    }
    for key in [PublicKey::from_spki(bytes), PublicKey::from_pkcs1(bytes), PublicKey::from_pem(bytes)] {
        let Ok(key) = key else { continue };
        assert!(key.verify(b"message", bytes).is_err(), "no file is a signature by itself");
        let again = PublicKey::from_spki(key.spki()).expect("it can be read again");
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
});
