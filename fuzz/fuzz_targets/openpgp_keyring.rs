//! OpenPGP keyrings, binary and armored.
#![no_main]

use debvisor::release::evidence::openpgp::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(keyring) = Keyring::parse(bytes) else { return };
    assert!(keyring.count() > 0, "an empty keyring is no keyring");
    assert_eq!(keyring.fingerprints().count(), keyring.count());
});
