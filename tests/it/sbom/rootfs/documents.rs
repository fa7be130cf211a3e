//! The documents that are written about an operating system: both formats, sound, alike, and the same bytes each time.

use debvisor::release::attest::sbom::Format;
use debvisor::release::collect::sbom::Source;
use debvisor::release::evidence::sbom::{compare, read};
use tempfile::TempDir;

use super::{debian, run, sbom};

#[test]
fn both_formats_are_sound_and_say_the_same_of_a_root_and_of_a_disk() {
    let dir = TempDir::new().unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", &debian().display().to_string(), "root.ext4", "16m"], dir.path());
    for source in [Source::RootFilesystem(debian().to_owned()), Source::Disk(dir.path().join("root.ext4"))] {
        let made = sbom(&source);
        let documents: Vec<_> = Format::ALL
            .iter()
            .map(|format| {
                let bytes = format.write(&made);
                assert_eq!(bytes, format.write(&sbom(&source)), "the same bytes");
                let document = read(bytes.as_ref()).unwrap();
                assert!(document.findings.errors.is_empty(), "{:#?}", document.findings.errors);
                assert_eq!(document.sbom.components.len(), 3);
                document
            })
            .collect();
        let comparison = compare::compare(&documents[0].sbom, &documents[1].sbom);
        assert!(comparison.reasons.is_empty(), "{:#?}", comparison.reasons);
    }
}
