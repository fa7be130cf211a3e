//! Archives: every line of the threat model that is about them, over archives that are made here.

use std::io::{self, Cursor, Read, Seek};

use debvisor::release::evidence::archive::{Form, Limits, Summary, check};
use debvisor::types::{Code, Reason, limits};

pub(crate) mod make;

mod binary;
mod peers;
mod properties;
mod tar;
mod zip;

/// Enough for everything here that is no bomb.
const UNPACKED_BYTES: u64 = 8 * 1024 * 1024;

fn judge(bytes: &[u8]) -> Result<Summary, Vec<Reason>> {
    check(Cursor::new(bytes), &Limits { unpacked_bytes: UNPACKED_BYTES })
}

/// The summary of an archive that must be allowed.
#[track_caller]
fn allowed(bytes: &[u8]) -> Summary {
    judge(bytes).unwrap_or_else(|reasons| panic!("refused: {reasons:?}"))
}

/// The codes of an archive that must be refused; every reason says something.
#[track_caller]
fn refused(bytes: &[u8]) -> Vec<Code> {
    match judge(bytes) {
        Ok(summary) => panic!("allowed: {summary:?}"),
        Err(reasons) => reasons
            .iter()
            .map(|reason| {
                assert!(!reason.message.is_empty());
                reason.code.known().unwrap()
            })
            .collect(),
    }
}

#[test]
fn the_form_is_known_by_content() {
    let plain = make::tar(&[make::TarMember::file("a", b"b")]);
    for (bytes, form) in [
        (plain.clone(), Form::Tar),
        (make::gzip(&plain), Form::TarGzip),
        (make::zstd(&plain), Form::TarZstd),
        (make::zip(&[make::ZipMember::stored("a", b"b")]), Form::Zip),
    ] {
        let summary = allowed(&bytes);
        assert_eq!((summary.form, summary.members, summary.files, summary.unpacked_bytes), (form, 1, 1, 1));
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [
        b"".as_slice(),
        b"PK",
        b"hello, world, I am no archive at all",
        b"\xfd7zXZ\0",
        b"BZh91AY",
        b"7z\xbc\xaf\x27\x1c",
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
        b"PK\x05\x06",
        &make::gzip(b"only text"),
        &make::gzip(b""),
        &make::zstd(b"only text"),
        &[0; 511],
        &[1; 4096],
    ] {
        assert_eq!(refused(bytes), [Code::ArchiveMalformed], "{:?}", bytes.escape_ascii().to_string());
    }
}

#[test]
fn a_reader_that_fails_leaves_the_question_open() {
    struct Broken(Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.position() > 1000 { Err(io::Error::other("the disk is gone")) } else { self.0.read(buffer) }
        }
    }
    impl Seek for Broken {
        fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(position)
        }
    }
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let bytes = make::tar(&[make::TarMember::file("a", &noise)]);
    for bytes in [bytes.clone(), make::gzip(&bytes), make::zstd(&bytes)] {
        let reasons = check(Broken(Cursor::new(bytes)), &Limits::default()).unwrap_err();
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[0].code.known(), Some(Code::EvidenceUnreadable));
    }
}

#[test]
fn reasons_name_their_members_and_are_bounded() {
    let members: Vec<_> = (0..500).map(|n| make::TarMember::file(&format!("../{n}"), b"")).collect();
    let reasons = judge(&make::tar(&members)).unwrap_err();
    assert_eq!(reasons.len(), limits::REASONS_PER_FILE);
    assert_eq!(reasons[0].location.as_deref(), Some("../0"));
    assert!(reasons.last().unwrap().message.ends_with("(and 400 more reasons)"));
    let hostile = make::tar(&[make::TarMember::file("../\u{1b}[31m\nred", b"")]);
    let reasons = judge(&hostile).unwrap_err();
    assert!(!format!("{}{}", reasons[0].message, reasons[0].location.clone().unwrap()).contains(char::is_control));
}
