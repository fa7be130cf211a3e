//! Hostile bytes: no archive makes the reader panic, and what it allows is read alike by others.

use std::io::Cursor;

use debvisor::release::evidence::archive::{Limits, check};
use proptest::prelude::*;

use super::judge;
use super::make::{TarMember, ZipMember, gzip, tar, zip, zstd};

fn limits() -> Limits {
    Limits { unpacked_bytes: 1024 * 1024 }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in 0_usize..6) {
        let magics: [&[u8]; 6] = [b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06", b"\x50\x2a\x4d\x18"];
        let _ = check(Cursor::new([magics[magic], &bytes].concat()), &limits());
    }

    #[test]
    fn no_header_panics(
        members in prop::collection::vec((0_u8..=255, "[a-c./\\\\:]{0,8}", 0_u64..2000, any::<[u8; 40]>(), 100_usize..460), 1..6),
    ) {
        let members: Vec<TarMember> = members
            .into_iter()
            .map(|(kind, name, size, noise, at)| {
                let kind = b"0123456789xgLKSVM\0"[usize::from(kind) % 18];
                TarMember::new(kind, &name, &vec![b'1'; 600]).size(size).field(at, &noise)
            })
            .collect();
        let _ = check(Cursor::new(tar(&members)), &limits());
    }

    #[test]
    fn a_changed_byte_never_makes_an_unsafe_zip_safe(position in any::<prop::sample::Index>(), value: u8) {
        let mut bytes = zip(&[ZipMember::deflated("a", b"content, content"), ZipMember::stored("../../b", b"").streamed()]);
        let position = position.index(bytes.len());
        bytes[position] = value;
        if let Ok(summary) = judge(&bytes) {
            let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
            prop_assert_eq!(archive.len() as u64, summary.members);
            for position in 0..archive.len() {
                let member = archive.by_index_raw(position).unwrap();
                prop_assert!(member.enclosed_name().is_some(), "{:?}", member.name());
            }
        }
    }

    #[test]
    fn sound_trees_pass_in_every_form(
        names in prop::collection::btree_set("[a-z]{1,8}(/[a-z]{1,8}){0,4}", 1..20), content in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        // A name that is another's directory is a collision, and so left out.
        let names: Vec<&String> =
            names.iter().filter(|name| !names.iter().any(|other| other.starts_with(&format!("{name}/")))).collect();
        let archive = tar(&names.iter().map(|name| TarMember::file(name, &content)).collect::<Vec<_>>());
        let zipped = zip(&names.iter().map(|name| ZipMember::deflated(name, &content)).collect::<Vec<_>>());
        for bytes in [archive.clone(), gzip(&archive), zstd(&archive), zipped] {
            let summary = judge(&bytes).unwrap();
            prop_assert_eq!(summary.members, names.len() as u64);
            prop_assert_eq!(summary.unpacked_bytes, (names.len() * content.len()) as u64);
        }
    }
}
