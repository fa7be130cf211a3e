//! Certificates in DER, with their extensions and certificate timestamps.
#![no_main]

use debvisor::release::evidence::certificate::Certificate;
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    assert_eq!(certificate.der, bytes, "nothing stands behind a certificate");
    assert!(certificate.timestamps.len() <= limits::SCTS);
    assert!(certificate.identities.len() <= certificate.names);
    let _ = certificate.is_signed_by(&certificate);
    let _ = certificate.is_valid_at(certificate.not_before);
});
