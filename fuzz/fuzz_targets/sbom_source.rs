//! Files that bills of materials are made of: the first byte chooses the name of the file that the rest is.
#![no_main]

use std::collections::BTreeMap;

use debvisor::release::attest::sbom::Format;
use debvisor::release::collect::sbom::tree::InMemory;
use debvisor::release::collect::sbom::{Options, Scan, View, describe};
use debvisor::release::evidence::sbom;
use debvisor::release::evidence::sbom::model::{Component, ComponentKind};
use libfuzzer_sys::fuzz_target;

/// The same list as that of tests/it/sbom/generate/hostile.rs, which makes the seeds.
const NAMES: [&str; 15] = [
    "Cargo.lock",
    "Cargo.toml",
    "package-lock.json",
    "package.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "requirements.txt",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "pyproject.toml",
    "a.dist-info/METADATA",
    "go.mod",
    "pom.xml",
    "program",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((number, content)) = bytes.split_first() else { return };
    let Some(name) = NAMES.get(usize::from(*number)) else { return };
    let tree = InMemory::new(BTreeMap::from([((*name).to_owned(), content.to_vec())]));
    let scan = Scan::new(&tree, View::Source, &[]).expect("a tree in memory has a list");
    let subject = Component::new(ComponentKind::File, "", "source");
    let Ok(made) = describe(&scan, subject, &Options::default()) else { return };
    for format in Format::ALL {
        let document = sbom::read(&format.write(&made)).expect("what is written can be read");
        assert!(document.findings.errors.is_empty(), "{format}: {:?}", document.findings.errors);
        assert_eq!(document.sbom.all().count(), made.all().count(), "{format}");
    }
});
