//! TUF root metadata that somebody means to start from. What is accepted was signed to its own threshold, so only the
//! seed is.
#![no_main]

use debvisor::release::trust::{embedded_tuf_root, tuf::check_bootstrap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(version) = check_bootstrap(bytes) else { return };
    // Unsigned parts and spacing may differ; the version is signed, and nobody here can sign.
    assert_eq!(Ok(version), check_bootstrap(embedded_tuf_root()).map_err(|_| ()));
});
