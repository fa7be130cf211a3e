//! `trusted_root.json`, as it is used and as it is shown.
#![no_main]

use debvisor::release::trust::listing;
use debvisor::release::trust::root::TrustRoot;
use debvisor::types::{Code, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match TrustRoot::parse(bytes) {
        Ok(root) => {
            assert!(root.logs.len() <= limits::TRUST_ROOT_AUTHORITIES);
            for log in &root.logs {
                assert_eq!(root.log(&log.id).map(|found| &found.id), Some(&log.id));
            }
        }
        Err(reason) => assert_eq!(reason.code.known(), Some(Code::TrustRootUnreadable)),
    }
    match listing::parse(bytes) {
        Ok(listing) => assert!(!listing.entries.is_empty()),
        Err(reason) => assert_eq!(reason.code.known(), Some(Code::TrustRootUnreadable)),
    }
});
