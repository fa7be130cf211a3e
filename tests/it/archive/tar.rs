//! The threats in tar archives.

use debvisor::types::{Code, limits};

use super::make::{TarMember as Member, gzip, tar, zstd};
use super::{allowed, refused};

fn file(name: &str) -> Member {
    Member::file(name, b"content")
}

#[test]
fn escape_by_dotdot_absolute_name_drive_letter_or_backslash_is_refused() {
    for name in [
        "../a",
        "a/../../b",
        "a/..",
        "..",
        "/a",
        "//a",
        "C:\\a",
        "c:a",
        "a\\b",
        "..\\a",
        "\\\\host\\share",
        "... /a",
        "./../a",
        ".. /a",
        "\u{feff}..\u{200d}/a",
    ] {
        let expected = [Code::ArchiveEscape];
        assert_eq!(refused(&tar(&[file("sound"), file(name)])), expected, "{name:?}");
        assert_eq!(refused(&gzip(&tar(&[file(name)]))), expected, "{name:?} under gzip");
        let long = Member::new(b'L', "././@LongLink", format!("{name}\0").as_bytes()).gnu();
        assert_eq!(refused(&tar(&[long, file("sound").gnu()])), expected, "{name:?} as GNU's long name");
        let pax = Member::pax(&[("path", name)]);
        assert_eq!(refused(&tar(&[pax, file("sound")])), expected, "{name:?} as pax path");
    }
    let prefix = file("a").field(345, b"..");
    assert_eq!(refused(&tar(&[prefix])), [Code::ArchiveEscape]);
}

#[test]
fn a_symbolic_link_that_leaves_is_refused() {
    for (name, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../a"),
        ("d/l", "../../a"),
        ("l", "a/../../b"),
        ("l", "C:\\a"),
        ("l", "..\\a"),
        ("l", "./.././a"),
        ("l", ".. /a"),
    ] {
        assert_eq!(refused(&tar(&[Member::symbolic_link(name, target)])), [Code::ArchiveEscape], "{name} -> {target}");
    }
    assert_eq!(refused(&tar(&[Member::symbolic_link("l", "")])), [Code::ArchiveMalformed]);
}

#[test]
fn a_symbolic_link_that_stays_inside_passes() {
    let members = [
        file("d/e/f"),
        Member::symbolic_link("d/e/l", "../../g"),
        Member::symbolic_link("l", "d/e/f"),
        Member::symbolic_link("m", "d//./e/../e"),
        Member::symbolic_link("n", "m/../../l"),
        Member::symbolic_link("nowhere", "not/there/../here"),
    ];
    let summary = allowed(&tar(&members));
    assert_eq!((summary.members, summary.files, summary.links), (6, 1, 5));
}

#[test]
fn links_through_links_are_followed_as_a_kernel_would() {
    // By its letters `a/l/..` is `a`; through the link it is the parent of the root.
    let up = [
        Member::directory("a/b"),
        Member::symbolic_link("a/b/l", ".."),
        Member::symbolic_link("out", "a/b/l/../.."),
        Member::symbolic_link("fine", "a/b/l/.."),
    ];
    assert_eq!(refused(&tar(&up)), [Code::ArchiveEscape]);
    // The order does not matter, nor how a careless file system spells the name.
    let folded = [Member::symbolic_link("out", "A/B/L/../.."), up[0].clone(), up[1].clone()];
    assert_eq!(refused(&tar(&folded)), [Code::ArchiveEscape]);
    let circle = [Member::symbolic_link("a", "b"), Member::symbolic_link("b", "a")];
    assert_eq!(refused(&tar(&circle)), [Code::ArchiveEscape, Code::ArchiveEscape]);
}

#[test]
fn links_that_make_endless_work_are_refused_in_time() {
    // Each link leads through forty others with long targets.
    let mut members = vec![Member::directory("d")];
    let target = "d/../".repeat(18) + "l0";
    for n in 0..500 {
        let next = if n == 0 { "d".to_owned() } else { "d/../".repeat(18) + &format!("l{}", n - 1) };
        members.push(Member::symbolic_link(&format!("l{n}"), &next));
    }
    members.push(Member::symbolic_link("last", &target));
    assert!(refused(&tar(&members)).contains(&Code::ArchiveEscape));
}

#[test]
fn a_member_written_through_a_link_is_refused_in_any_order() {
    let link = Member::symbolic_link("l", "d");
    let through = file("l/evil");
    for members in [[link.clone(), through.clone()], [through, link.clone()]] {
        assert_eq!(refused(&tar(&members)), [Code::ArchiveEscape]);
    }
    assert_eq!(refused(&tar(&[link, Member::directory("L")])), [Code::ArchiveCollision]);
}

#[test]
fn a_hard_link_to_anything_but_an_earlier_file_is_refused() {
    assert_eq!(allowed(&tar(&[file("d/a"), Member::hard_link("b", "./d/a")])).files, 2);
    for target in ["/etc/passwd", "../a", "later", "d", "s", "s/a", "d/a/x", "nowhere", "", "d\\a", "C:a"] {
        let members = [file("d/a"), Member::symbolic_link("s", "d"), Member::hard_link("h", target), file("later")];
        assert_eq!(refused(&tar(&members)), [Code::ArchiveEscape], "{target:?}");
    }
    let content = Member::hard_link("h", "a").size(512);
    assert_eq!(refused(&tar(&[file("a"), content])), [Code::ArchiveMalformed], "some readers skip it, some do not");
}

#[test]
fn devices_pipes_and_unknown_types_are_refused() {
    for kind in [b'3', b'4', b'6'] {
        assert_eq!(refused(&tar(&[Member::new(kind, "d", b"")])), [Code::ArchiveSpecial]);
    }
    for kind in [b'8', b'A', b'D', b'M', b'N', b'V', b'X', b'Z', 0xff] {
        assert_eq!(refused(&tar(&[Member::new(kind, "d", b"")])), [Code::ArchiveMalformed]);
    }
}

#[test]
fn a_member_twice_is_refused() {
    for (one, other) in [
        ("a", "a"),
        ("a", "./a"),
        ("d/a", "d//a"),
        ("README", "readme"),
        ("a", "a."),
        ("a", "a "),
        ("caf\u{e9}", "cafe\u{301}"),
        ("stra\u{df}e", "STRASSE"),
        ("a", "a\u{200d}"),
        ("\u{212a}", "k"),
        ("D/a", "d/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/B/c", "a/b"),
    ] {
        assert_eq!(refused(&tar(&[file(one), file(other)])), [Code::ArchiveCollision], "{one:?} and {other:?}");
    }
    let directory = Member::directory("d/");
    assert_eq!(refused(&tar(&[directory.clone(), directory.clone()])), [Code::ArchiveCollision]);
    assert_eq!(refused(&tar(&[directory.clone(), file("d")])), [Code::ArchiveCollision]);
    assert_eq!(allowed(&tar(&[file("d/a"), directory, file("d/b"), Member::directory("./")])).members, 4);
}

#[test]
fn a_bomb_is_refused_by_the_bytes_that_come_out() {
    let bomb = tar(&[Member::file("zeros", &vec![0; 9 * 1024 * 1024])]);
    for bytes in [bomb.clone(), gzip(&bomb), zstd(&bomb)] {
        assert_eq!(refused(&bytes), [Code::ArchiveTooLarge]);
    }
    // In many small members.
    let member = vec![0; 1024 * 1024];
    let many: Vec<_> = (0..9).map(|n| Member::file(&format!("f{n}"), &member)).collect();
    assert_eq!(refused(&zstd(&tar(&many))), [Code::ArchiveTooLarge]);
    // In what is no content at all.
    let mut padded = tar(&[file("a")]);
    padded.resize(padded.len() + 9 * 1024 * 1024, 0);
    assert_eq!(refused(&zstd(&padded)), [Code::ArchiveTooLarge]);
    let long = Member::new(b'L', "././@LongLink", &vec![b'a'; 2 * 1024 * 1024]).gnu();
    assert_eq!(refused(&zstd(&tar(&[long, file("a").gnu()]))), [Code::InputTooLarge]);
}

#[test]
fn headers_that_lie_about_sizes_do_not_help_a_bomb() {
    for size in [1 << 40, 0o777_7777_7777] {
        assert_eq!(refused(&tar(&[Member::file("a", b"").size(size)])), [Code::ArchiveMalformed], "it is cut short");
    }
    let base256 = Member::file("a", b"").field(124, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(refused(&tar(&[base256])), [Code::ArchiveMalformed]);
    let negative = Member::file("a", b"").field(124, &[0xff; 12]);
    assert_eq!(refused(&tar(&[negative])), [Code::ArchiveMalformed]);
    let words = Member::file("a", b"").field(124, b"0x000000010\0");
    assert_eq!(refused(&tar(&[words])), [Code::ArchiveMalformed]);
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_ends() {
    let whole = tar(&[Member::pax(&[("path", "d/a")]), file("a"), Member::file("b", &[7; 1500])]);
    allowed(&whole);
    for length in (0..whole.len() - 1024).step_by(97).chain([whole.len() - 512, whole.len() - 1024]) {
        assert_eq!(refused(&whole[..length]), [Code::ArchiveMalformed], "cut to {length}");
    }
    for packed in [gzip(&whole), zstd(&whole)] {
        for length in 4..packed.len() {
            assert_eq!(refused(&packed[..length]), [Code::ArchiveMalformed], "packed, cut to {length}");
        }
    }
}

#[test]
fn data_behind_the_end_is_refused() {
    let sound = tar(&[file("a")]);
    let second = tar(&[file("../evil")]);
    for trailing in [b"x".to_vec(), second.clone(), vec![0, 0, 0, 1]] {
        let both = [sound.clone(), trailing].concat();
        for bytes in [both.clone(), gzip(&both), zstd(&both)] {
            assert_eq!(refused(&bytes), [Code::ArchiveMalformed]);
        }
    }
    for (packed, hidden) in [(gzip(&sound), gzip(&second)), (zstd(&sound), zstd(&second))] {
        assert_eq!(refused(&[packed.clone(), b"x".to_vec()].concat()), [Code::ArchiveMalformed]);
        assert_eq!(refused(&[packed, hidden].concat()), [Code::ArchiveMalformed], "a second stream holds another");
    }
    // One stream in several parts is what pigz and zstd make of large files.
    let (head, tail) = sound.split_at(700);
    assert_eq!(allowed(&[gzip(head), gzip(tail)].concat()).members, 1);
    assert_eq!(allowed(&[zstd(head), zstd(tail)].concat()).members, 1);
    assert_eq!(allowed(&[sound, vec![0; 9000]].concat()).members, 1, "tapes are filled up with zeros");
}

#[test]
fn a_header_whose_checksum_does_not_fit_is_refused() {
    let mut bytes = tar(&[file("a"), file("b")]);
    bytes[1024] ^= 1;
    assert_eq!(refused(&bytes), [Code::ArchiveMalformed]);
}

#[test]
fn what_two_readers_would_read_differently_is_refused() {
    let pax = |records: &[(&str, &str)]| Member::pax(records);
    let long = |kind, text: &str| Member::new(kind, "././@LongLink", text.as_bytes()).gnu();
    let old = |member: Member| member.field(257, &[0; 8]);
    let malformed: Vec<(&str, Vec<Member>)> = vec![
        ("two sizes", vec![pax(&[("size", "512")]), file("a")]),
        ("a size twice", vec![pax(&[("size", "7"), ("size", "7")]), file("a")]),
        ("a path twice", vec![pax(&[("path", "b"), ("path", "c")]), file("a")]),
        ("two pax headers", vec![pax(&[("path", "b")]), pax(&[("path", "c")]), file("a")]),
        ("two long names", vec![long(b'L', "b\0"), long(b'L', "c\0"), file("a").gnu()]),
        ("a long name and a pax path", vec![long(b'L', "b\0"), pax(&[("path", "c")]), file("a")]),
        ("two targets", vec![long(b'K', "b\0"), pax(&[("linkpath", "c")]), Member::symbolic_link("l", "d")]),
        ("a global path", vec![Member { ..pax(&[("path", "b")]) }.field(156, b"g"), file("a")]),
        ("a global size", vec![Member { ..pax(&[("size", "0")]) }.field(156, b"g"), file("a")]),
        ("a pax header for nothing", vec![pax(&[("path", "b")])]),
        ("a long name with a NUL", vec![long(b'L', "a\0b\0"), file("a").gnu()]),
        ("a pax path with a NUL", vec![pax(&[("path", "a\0b")]), file("a")]),
        ("a name that is not UTF-8", vec![file("a").field(1, b"\xff")]),
        ("a directory with content", vec![Member::new(b'5', "d", b"content")]),
        ("a link with content", vec![Member::new(b'2', "l", b"content").field(157, b"a")]),
        ("a file whose name is a directory's", vec![file("a/")]),
        ("an extension without magic", vec![old(long(b'L', "b\0")), file("a")]),
        ("an unknown magic", vec![file("a").field(257, b"ustarxx\0")]),
        ("an unknown version", vec![file("a").field(257, b"ustar\x0015")]),
        ("no version", vec![Member::new(b'x', "pax", b"9 path=b\n").field(257, b"ustar\0\0\0"), file("a")]),
        (
            "a global header in between",
            vec![pax(&[("path", "b")]), pax(&[("comment", "c")]).field(156, b"g"), file("a")],
        ),
        ("a sparse link", vec![sparse_records("s", "0"), Member::symbolic_link("l", "d")]),
        ("a sparse file of both dialects", vec![sparse_records("s", "0"), Member::new(b'S', "s", b"").gnu()]),
        ("a record in a value", vec![pax(&[("comment", "x\n11 path=bc"), ("path", "b")]), file("a")]),
        ("a name of two lines", vec![pax(&[("path", "b\nc")]), file("a")]),
        ("a name behind an empty line", vec![pax(&[("comment", "x\n"), ("path", "b")]), file("a")]),
        ("a size behind lines", vec![pax(&[("comment", "x\ny"), ("size", "7")]), file("a").size(0)]),
        ("a size of no digits", vec![Member::new(b'5', "d", b"").field(124, &[0; 12])]),
        ("a size of spaces", vec![Member::new(b'5', "d", b"").field(124, &[b' '; 12])]),
        ("a size behind a NUL", vec![Member::new(b'5', "d", b"").field(124, b"\x000000000000")]),
        ("star's prefix", vec![file("a").field(508, b"tar\0")]),
        ("no name", vec![file("")]),
        ("a broken record", vec![Member::new(b'x', "pax", b"9 path=b\n\n"), file("a")]),
        ("a record without length", vec![Member::new(b'x', "pax", b"path=b\n"), file("a")]),
        ("a record past the end", vec![Member::new(b'x', "pax", b"99 path=b\n"), file("a")]),
        ("a record of nothing", vec![Member::new(b'x', "pax", b"0 "), file("a")]),
    ];
    for (what, members) in malformed {
        assert_eq!(refused(&tar(&members)), [Code::ArchiveMalformed], "{what}");
    }
    let mut checksum = tar(&[file("a")]);
    allowed(&checksum);
    let sum = u16::from_str_radix(str::from_utf8(&checksum[148..154]).unwrap(), 8).unwrap().to_be_bytes();
    checksum[148..156].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, sum[0], sum[1]]);
    assert_eq!(refused(&checksum), [Code::ArchiveMalformed]);
    // Lines in a value beside which every reader finds the same.
    allowed(&tar(&[pax(&[("SCHILY.xattr.user.x", "a\nb"), ("path", "b")]), file("a")]));
}

#[test]
fn long_names_of_both_dialects_and_version_7_pass() {
    let name = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let members = [
        Member::new(b'L', "././@LongLink", format!("{name}\0").as_bytes()).gnu(),
        file("cut").gnu(),
        Member::pax(&[("mtime", "1.5"), ("path", &name.replace('f', "g")), ("size", "7")]),
        file("cut"),
        Member::new(b'g', "pax_global_header", &super::make::pax_records(&[("comment", "a commit")])),
        file("name").field(345, b"prefix"),
        file("old").field(257, &[0; 8]).field(156, b"\0"),
        Member::file("olddir/", b"").field(257, &[0; 8]).field(156, b"\0"),
        Member::new(b'7', "contiguous", b"content"),
    ];
    let summary = allowed(&tar(&members));
    assert_eq!((summary.members, summary.files, summary.directories), (6, 5, 1));
    assert_eq!(summary.unpacked_bytes, 5 * 7);
}

#[test]
fn names_past_their_bounds_are_refused() {
    let pax = |name: &str| tar(&[Member::pax(&[("path", name)]), file("a")]);
    assert_eq!(refused(&pax(&"a".repeat(limits::ARCHIVE_NAME_BYTES + 1))), [Code::InputTooLarge]);
    assert_eq!(refused(&pax(&"a/".repeat(limits::ARCHIVE_DEPTH).add_file())), [Code::InputTooDeep]);
    allowed(&pax(&"a/".repeat(limits::ARCHIVE_DEPTH - 1).add_file()));
}

trait AddFile {
    fn add_file(self) -> String;
}

impl AddFile for String {
    fn add_file(self) -> String {
        self + "f"
    }
}

/// A sparse file of GNU's 1.0 form: a map of runs, then what they hold.
fn sparse(map: &str, data: &[u8], real: &str) -> Vec<u8> {
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content.extend_from_slice(data);
    tar(&[sparse_records("s", real), Member::file("GNUSparseFile.0/s", &content)])
}

/// The header of such a file.
fn sparse_records(name: &str, real: &str) -> Member {
    Member::pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", real),
    ])
}

#[test]
fn sparse_members_count_with_their_holes() {
    let sound = allowed(&sparse("2\n0\n512\n1048576\n3\n", &[1; 515], "1048579"));
    assert_eq!((sound.members, sound.unpacked_bytes), (1, 1_048_579));
    let bomb = format!("1\n{}\n3\n", 1_u64 << 40);
    assert_eq!(refused(&sparse(&bomb, b"abc", "1099511627779")), [Code::ArchiveTooLarge]);
    for (what, map, data, real) in [
        ("more data than the map has", "1\n0\n3\n", b"abcd".as_slice(), "10"),
        ("less data than the map has", "1\n0\n5\n", b"abcd", "10"),
        ("a run past the end", "1\n8\n3\n", b"abc", "10"),
        ("runs that overlap", "2\n0\n2\n1\n1\n", b"abc", "10"),
        ("runs past every file", "2\n18446744073709551615\n1\n0\n2\n", b"abc", "10"),
        ("runs that share a block", "2\n0\n3\n10\n3\n", b"abcdef", "13"),
        ("no number", "one\n", b"abc", "10"),
        ("no end", "99999\n0\n1\n", b"a", "10"),
    ] {
        assert_eq!(refused(&sparse(map, data, real)), [Code::ArchiveMalformed], "{what}");
    }
    let named = |name: &str| tar(&[sparse_records(name, "0"), Member::file("sound", b"0\n")]);
    assert_eq!(refused(&named("../evil")), [Code::ArchiveEscape], "the name stands at a third place");
    let obsolete = tar(&[Member::pax(&[("GNU.sparse.size", "99"), ("GNU.sparse.offset", "0")]), file("a")]);
    assert_eq!(refused(&obsolete), [Code::ArchiveMalformed]);
}

#[test]
fn sparse_members_in_headers_count_with_their_holes() {
    let number = |n: u64| format!("{n:011o}\0").into_bytes();
    let ending = |offset, length, end, real| {
        tar(&[Member::new(b'S', "s", b"abc")
            .gnu()
            .field(386, &number(offset))
            .field(398, &number(length))
            .field(410, &number(end))
            .field(422, &number(0))
            .field(483, &number(real))])
    };
    let header = |offset, length, real| ending(offset, length, real, real);
    assert_eq!(allowed(&header(4096, 3, 5000)).unpacked_bytes, 5000);
    assert_eq!(refused(&header(4096, 3, 1 << 32)), [Code::ArchiveTooLarge]);
    assert_eq!(refused(&header(4096, 4, 5000)), [Code::ArchiveMalformed]);
    assert_eq!(refused(&header(4999, 3, 5000)), [Code::ArchiveMalformed]);
    // What stands behind the map's end, readers disagree about.
    assert_eq!(refused(&ending(4096, 3, 4999, 5000)), [Code::ArchiveMalformed]);
    let continued = Member::new(b'S', "s", b"").gnu().field(482, b"2").field(483, &number(0));
    assert_eq!(refused(&tar(&[continued])), [Code::ArchiveMalformed]);
    let ustar = tar(&[Member::new(b'S', "s", b"abc")]);
    assert_eq!(refused(&ustar), [Code::ArchiveMalformed]);
}
