//! Manifests, indexes and lists of referrers of registries.
#![no_main]

use debvisor::release::evidence::image::{Manifest, Parts};
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for served_as in ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"] {
        let Ok(manifest) = Manifest::parse(bytes, served_as) else { continue };
        let parts = match &manifest.parts {
            Parts::Index(manifests) => manifests,
            Parts::Image { layers, .. } => layers,
        };
        assert!(parts.len() <= limits::IMAGE_PARTS);
        assert!(manifest.platforms().iter().all(|platform| !platform.starts_with("unknown/")));
    }
});
