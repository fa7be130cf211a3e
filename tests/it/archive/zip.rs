//! The threats in zip archives.

use debvisor::types::Code;

use super::make::{ZipMember as Member, zip, zip_with};
use super::{allowed, refused};

fn file(name: &str) -> Member {
    Member::deflated(name, b"content, content, content")
}

#[test]
fn escape_by_dotdot_absolute_name_drive_letter_or_backslash_is_refused() {
    for name in ["../a", "a/../../b", "/a", "C:\\a", "c:a", "a\\b", "..\\a", "\\a"] {
        assert_eq!(refused(&zip(&[file("sound"), file(name)])), [Code::ArchiveEscape], "{name:?}");
    }
}

#[test]
fn symbolic_links_are_read_from_their_content() {
    let link = |target: &str| zip(&[file("d/a"), Member::stored("d/l", target.as_bytes()).mode(0o12_0777)]);
    assert_eq!(allowed(&link("a")).links, 1);
    for target in ["/etc/passwd", "../../a", "..\\a", "C:\\a"] {
        assert_eq!(refused(&link(target)), [Code::ArchiveEscape], "{target}");
    }
    let through = [Member::stored("l", b"d").mode(0o12_0777), file("l/evil")];
    assert_eq!(refused(&zip(&through)), [Code::ArchiveEscape]);
}

#[test]
fn devices_sockets_and_pipes_are_refused() {
    for mode in [0o02_0644, 0o06_0644, 0o01_0644, 0o14_0644] {
        assert_eq!(refused(&zip(&[Member::stored("d", b"").mode(mode)])), [Code::ArchiveSpecial], "{mode:o}");
    }
}

#[test]
fn a_member_twice_is_refused() {
    for (one, other) in [("a", "a"), ("a", "./a"), ("A", "a"), ("caf\u{e9}", "cafe\u{301}"), ("a", "a."), ("a/b", "a")]
    {
        assert_eq!(refused(&zip(&[file(one), file(other)])), [Code::ArchiveCollision], "{one:?} and {other:?}");
    }
}

#[test]
fn a_bomb_is_refused_by_the_bytes_that_come_out() {
    let bomb = Member::deflated("zeros", &vec![0; 9 * 1024 * 1024]);
    assert_eq!(refused(&zip(std::slice::from_ref(&bomb))), [Code::ArchiveTooLarge]);
    let modest = bomb.with(|member| member.size = 1);
    assert_eq!(refused(&zip(&[modest])), [Code::ArchiveTooLarge], "a header that says less does not help");
}

#[test]
fn members_that_share_their_data_are_refused() {
    // The second entry of the central directory points at the first member.
    let bytes = zip(&[file("a"), file("b")]);
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let second = directory + 46 + 1;
    let mut overlapping = bytes.clone();
    overlapping[second + 42..second + 46].fill(0);
    assert_eq!(refused(&overlapping), [Code::ArchiveMalformed]);
    // The first member's length reaches into the second.
    let mut long = bytes;
    let compressed = u32::from_le_bytes(long[18..22].try_into().unwrap()) + 10;
    long[18..22].copy_from_slice(&compressed.to_le_bytes());
    long[directory + 20..directory + 24].copy_from_slice(&compressed.to_le_bytes());
    assert_eq!(refused(&long), [Code::ArchiveMalformed]);
}

#[test]
fn a_local_header_that_disagrees_with_the_directory_is_refused() {
    let cases = [
        ("name", file("a").with(|member| member.local_name = Some(b"b".to_vec()))),
        ("traversal only locally", file("a").with(|member| member.local_name = Some(b"../a".to_vec()))),
        ("size", file("a").with(|member| member.local_size = Some(1))),
    ];
    for (what, member) in cases {
        assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed], "{what}");
    }
    for (what, offset) in [("flags", 6), ("method", 8), ("crc", 14), ("compressed size", 18), ("size", 22)] {
        let mut bytes = zip(&[file("a")]);
        bytes[offset] ^= 8;
        assert_eq!(refused(&bytes), [Code::ArchiveMalformed], "{what}");
    }
}

#[test]
fn another_name_in_an_extra_field_is_refused() {
    let extra = |name: &[u8]| {
        let length = u16::try_from(name.len() + 5).unwrap().to_le_bytes();
        [b"\x75\x70".as_slice(), &length, &[1, 0, 0, 0, 0], name].concat()
    };
    assert_eq!(refused(&zip(&[file("a").with(|member| member.extra = extra(b"../a"))])), [Code::ArchiveMalformed]);
    allowed(&zip(&[file("a").with(|member| member.extra = extra(b"a"))]));
    let broken = file("a").with(|member| member.extra = b"\x01\0\xff\xff\0".to_vec());
    assert_eq!(refused(&zip(&[broken])), [Code::ArchiveMalformed]);
}

#[test]
fn content_that_is_not_what_was_announced_is_refused() {
    for (what, member) in [
        ("crc", file("a").with(|member| member.crc ^= 1)),
        ("size", file("a").with(|member| member.size += 1)),
        ("data behind the data", file("a").with(|member| member.data.push(0))),
        ("cut data", file("a").with(|member| member.data.truncate(3))),
        ("stored with another size", Member::stored("a", b"content").with(|member| member.size = 3)),
        ("broken data", file("a").with(|member| member.data.fill(0xff))),
    ] {
        assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed], "{what}");
    }
}

#[test]
fn encrypted_members_and_unknown_methods_are_refused() {
    for flags in [1, 1 | 1 << 6, 1 << 13] {
        let member = file("a").with(|member| member.flags |= flags);
        assert_eq!(refused(&zip(&[member, file("b")])), [Code::ArchiveMalformed]);
    }
    for method in [1, 6, 9, 12, 14, 95, 98, 99] {
        let member = file("a").with(|member| member.method = method);
        assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed]);
    }
    // Their names are judged all the same.
    let member = file("../a").with(|member| member.flags |= 1);
    assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed, Code::ArchiveEscape]);
}

#[test]
fn zstandard_members_pass() {
    let content = b"content, content, content";
    let member = Member { data: super::make::zstd(content), method: 93, ..Member::stored("a", content) };
    assert_eq!(allowed(&zip(&[member])).unpacked_bytes, content.len() as u64);
}

#[test]
fn streamed_members_pass_and_lying_descriptors_are_refused() {
    let both = [file("a").streamed(), Member::stored("b", b"content").streamed()];
    assert_eq!(allowed(&zip(&both)).members, 2);
    let bare = file("a").streamed().with(|member| member.behind = member.behind.split_off(4));
    allowed(&zip(&[bare]));
    for position in [0, 4, 8, 12] {
        let lying = file("a").streamed().with(|member| member.behind[position] ^= 1);
        assert_eq!(refused(&zip(&[lying])), [Code::ArchiveMalformed]);
    }
    let missing = file("a").streamed().with(|member| member.behind.clear());
    assert_eq!(refused(&zip(&[missing])), [Code::ArchiveMalformed]);
}

#[test]
fn bytes_that_belong_to_no_member_are_refused() {
    let sound = zip(&[file("a"), file("b")]);
    assert_eq!(refused(&[sound.clone(), b"x".to_vec()].concat()), [Code::ArchiveMalformed], "behind the end");
    let between = zip(&[file("a").with(|member| member.behind = b"hidden".to_vec()), file("b")]);
    assert_eq!(refused(&between), [Code::ArchiveMalformed]);
    let before_directory = zip(&[file("a").with(|member| member.behind = b"hidden".to_vec())]);
    assert_eq!(refused(&before_directory), [Code::ArchiveMalformed]);
    let unlisted = zip_with(&[file("a"), file("b")], b"", |end| (end[2], end[3]) = (1, 1));
    assert_eq!(refused(&unlisted), [Code::ArchiveMalformed], "an entry that is not counted");
    let stub = [b"PK\x03\x04 self-extracting stub ".to_vec(), sound].concat();
    assert_eq!(refused(&stub), [Code::ArchiveMalformed]);
}

#[test]
fn a_second_end_record_in_the_comment_is_refused() {
    let evil = zip(&[file("../evil")]);
    let end = &evil[evil.len() - 22..];
    assert_eq!(refused(&zip_with(&[file("a")], end, |_| ())), [Code::ArchiveMalformed]);
    allowed(&zip_with(&[file("a")], b"an honest comment", |_| ()));
}

#[test]
fn parts_of_several_disks_are_refused() {
    for field in 0..3 {
        let bytes = zip_with(&[file("a")], b"", |end| end[field] += 1);
        assert_eq!(refused(&bytes), [Code::ArchiveMalformed], "field {field}");
    }
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_ends() {
    let whole = zip(&[file("a"), file("b").streamed(), Member::stored("c", b"content")]);
    for length in 4..whole.len() {
        assert_eq!(refused(&whole[..length]), [Code::ArchiveMalformed], "cut to {length}");
    }
}

#[test]
fn a_directory_by_name_or_mode_alone_is_refused() {
    allowed(&zip(&[Member::stored("d/", b"").mode(0o04_0755), file("d/a")]));
    allowed(&zip(&[Member::stored("d/", b"").mode(0), file("d/a")]));
    for member in [
        Member::stored("d/", b"").mode(0o10_0644).mode(0o12_0644),
        Member::stored("d", b"").mode(0o04_0755),
        Member::stored("d/", b"content").mode(0o04_0755),
    ] {
        assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed]);
    }
}

#[test]
fn names_that_are_not_utf_8_are_refused() {
    let member = file("a").with(|member| member.name = b"caf\xe9".to_vec());
    assert_eq!(refused(&zip(&[member])), [Code::ArchiveMalformed]);
}
