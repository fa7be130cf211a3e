//! Manifests of sealed releases.
#![no_main]

use debvisor::release::evidence::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert_eq!(Manifest::parse(&manifest.to_bytes()).as_ref(), Ok(&manifest), "writing and reading again changes it");
    let files = manifest.files.iter().map(|entry| (entry.name.as_str(), "artifact", None));
    assert!(manifest.judge("m", files, |_| false).len() <= manifest.files.len());
});
