//! `trusted_root.json`.
#![no_main]

use debvisor::release::trust::root::TrustRoot;
use debvisor::types::{Code, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match TrustRoot::parse(bytes) {
    Ok(root) => {
        assert!(root.logs.len() <= limits::TRUST_ROOT_AUTHORITIES);
        for log in &root.logs {
            assert_eq!(root.log(&log.id).map(|found| &found.id), Some(&log.id));
            assert!(log.id.is_empty() || root.log(&log.id[1..]).is_none_or(|found| found.id != log.id));
        }
    }
    Err(reason) => assert_eq!(reason.code.known(), Some(Code::TrustRootUnreadable)),
});
