//! cosign's signatures without bundles: the payload, then its four annotations, with NUL between them.
#![no_main]

use debvisor::release::evidence::simple_signing::{self, Annotations};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 4] = [
    "dev.cosignproject.cosign/signature",
    "dev.sigstore.cosign/certificate",
    "dev.sigstore.cosign/bundle",
    "dev.sigstore.cosign/rfc3161timestamp",
];

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0);
    let payload = parts.next().unwrap_or_default();
    let texts = parts.filter_map(|part| std::str::from_utf8(part).ok()).map(str::to_owned);
    let annotations: Annotations = NAMES.map(str::to_owned).into_iter().zip(texts).collect();
    if let Ok((payload, bundle)) = simple_signing::signature(payload, &annotations) {
        assert!(!bundle.signature().is_empty(), "a signature of nothing");
        assert_eq!(payload.digest.to_string().parse().as_ref(), Ok(&payload.digest));
        assert!(bundle.entries.iter().all(|entry| entry.signed_entry_timestamp.is_some()), "nobody's word for an entry");
    }
    let _ = simple_signing::attestation(payload, &annotations);
});
