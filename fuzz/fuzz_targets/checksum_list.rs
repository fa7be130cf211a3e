//! Checksum lists. What is read has safe names, and can be written and read again without a change.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Component, Path};

use debvisor::release::evidence::checksums::{ChecksumList, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for file_name in ["SHA256SUMS", "checksums.txt"] {
        let Ok(list) = ChecksumList::parse(bytes, file_name) else { continue };
        for name in list.names() {
            let is_normal = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            assert!(is_normal && !name.contains('\0'), "{name:?} leaves the directory");
            assert!(!name.split('\\').any(|part| part == ".."), "{name:?} leaves a directory elsewhere");
        }
        // One entry a name and one algorithm a list is what the GNU form can say.
        let entries: Vec<_> = list.entries().collect();
        let algorithm = entries[0].digest.algorithm();
        if entries.iter().any(|entry| entry.digest.algorithm() != algorithm) {
            continue;
        }
        let text = render(entries.iter().map(|entry| (entry.name.as_str(), &entry.digest))).expect("it can be written");
        let again = ChecksumList::parse(text.as_bytes(), "list").expect("it can be read again");
        let map = |list: &ChecksumList| -> BTreeMap<_, _> {
            list.entries().map(|entry| (entry.name.clone(), entry.digest.clone())).collect()
        };
        assert_eq!(map(&list), map(&again));
    }
});
