//! Bills of materials through the real binary: every line of the threat model, every format, and what each verb says.

mod generate;
mod hostile;
mod maker;
mod rootfs;
mod threats;
mod verbs;

pub(crate) use generate::seeds as source_seeds;

/// A sound document of each format, for the fuzz target.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let documents = [maker::cyclonedx(b"a"), maker::spdx(b"a"), maker::spdx3(b"a")];
    documents
        .map(|document| {
            let bytes = document.to_string().into_bytes();
            assert!(debvisor::release::evidence::sbom::read(&bytes).unwrap().findings.errors.is_empty());
            bytes
        })
        .into()
}
