//! Trust bundles, as they travel and as they are installed.
#![no_main]

use debvisor::release::trust::bundle::{SignedBundle, read_installed};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = SignedBundle::parse(bytes) {
        let written = bundle.to_json().expect("what was read can be written");
        let again = SignedBundle::parse(&written).expect("what was written can be read");
        assert_eq!(again.contents(), bundle.contents());
        assert_eq!(again.message(), bundle.message(), "signatures are over the bytes that were signed");
    }
    if let Ok((signers, bundle)) = read_installed(bytes) {
        let (version, now) = (bundle.contents().version, Timestamp::from_second(1_770_000_000).expect("a time"));
        if bundle.clone().verify(&signers, None, now).is_ok() {
            assert!(bundle.contents().expires_at > now);
            assert!(bundle.clone().verify(&signers, version.checked_add(1), now).is_err(), "a rollback");
            assert!(bundle.verify(&signers, None, Timestamp::MAX).is_err(), "nothing is valid for ever");
        }
    }
});
