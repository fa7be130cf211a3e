//! Disks of virtual machines: the root that dpkg made on an ext4, in a partition, in a qcow2, by the system's own tools.

use std::fs;
use std::path::{Path, PathBuf};

use debvisor::release::collect::sbom::{Options, Source, generate};
use debvisor::types::Code;
use tempfile::TempDir;

use super::image::hex;
use super::{BASE, SYSTEM, TOOL, debian, ids, needs, refused, refused_by, run, sbom, set, write};
use crate::disk::qemu_img;

/// An ext4 of this size with a directory's files.
fn ext4(dir: &Path, name: &str, root: &Path, options: &[&str]) {
    let root = root.display().to_string();
    let fixed = ["-q", "-F", "-t", "ext4", "-d", &root];
    run("mke2fs", &[fixed.as_slice(), options, &[name, "16m"]].concat(), dir);
}

/// A disk with a table of this kind; `parts` are sizes in MiB, and what is in them where there is something.
fn disk(dir: &Path, name: &str, table: &str, parts: &[(u64, Option<&str>)]) -> PathBuf {
    let path = dir.join(name);
    let mut script = format!("label: {table}\n");
    let mut start = 1;
    let mut filled = Vec::new();
    for (size, content) in parts {
        script.push_str(&format!("start={}MiB, size={size}MiB, type=L\n", start));
        filled.extend(content.map(|content| (start, content)));
        start += size;
    }
    fs::File::create(&path).unwrap().set_len((start + 2) << 20).unwrap();
    write(dir, "table", &script);
    run("sh", &["-c", "sfdisk --quiet \"$1\" < table", "sh", name], dir);
    for (start, content) in filled {
        run(
            "dd",
            &[
                &format!("if={content}"),
                &format!("of={name}"),
                "bs=1M",
                &format!("seek={start}"),
                "conv=notrunc",
                "status=none",
            ],
            dir,
        );
    }
    path
}

#[track_caller]
fn check(path: &Path) {
    let source = Source::Disk(path.to_owned());
    let made = sbom(&source);
    assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
    assert_eq!(needs(&made, TOOL), set([BASE]));
    assert_eq!(made.described[0].hashes[0].value, hex(&fs::read(path).unwrap()), "the image itself is described");
    let again = sbom(&source);
    assert_eq!(serde_json::to_vec(&made).unwrap(), serde_json::to_vec(&again).unwrap());
}

#[test]
fn a_file_system_without_a_table_in_every_shape_that_mke2fs_makes() {
    let dir = TempDir::new().unwrap();
    for options in [
        [].as_slice(),
        &["-b", "1024"],
        &["-b", "4096", "-O", "^64bit"],
        &["-O", "^metadata_csum"],
        &["-O", "^has_journal"],
        &["-O", "^extent,^64bit"],
    ] {
        ext4(dir.path(), "root.ext4", debian(), options);
        check(&dir.path().join("root.ext4"));
        fs::remove_file(dir.path().join("root.ext4")).unwrap();
    }
    ext4(dir.path(), "root.ext4", debian(), &[]);
    assert!(matches!(Source::of_path(&dir.path().join("root.ext4")).unwrap(), Source::Disk(_)));
}

#[test]
fn a_partition_of_either_table_and_a_logical_one() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &[]);
    check(&disk(dir.path(), "gpt.raw", "gpt", &[(2, None), (16, Some("root.ext4")), (1, None)]));
    check(&disk(dir.path(), "dos.raw", "dos", &[(2, None), (16, Some("root.ext4"))]));

    let name = "logical.raw";
    fs::File::create(dir.path().join(name)).unwrap().set_len(32 << 20).unwrap();
    let script = "label: dos\nstart=1MiB, size=2MiB, type=83\nstart=4MiB, size=26MiB, type=5\nstart=5MiB, size=2MiB, type=83\n\
                  start=8MiB, size=16MiB, type=83\n";
    write(dir.path(), "table", script);
    run("sh", &["-c", "sfdisk --quiet logical.raw < table"], dir.path());
    run("dd", &["if=root.ext4", "of=logical.raw", "bs=1M", "seek=8", "conv=notrunc", "status=none"], dir.path());
    check(&dir.path().join(name));
}

#[test]
fn a_qcow2_plain_compressed_and_of_the_older_version() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &[]);
    disk(dir.path(), "disk.raw", "gpt", &[(2, None), (16, Some("root.ext4"))]);
    for options in
        [[].as_slice(), &["-c"], &["-o", "compat=0.10"], &["-o", "cluster_size=512"], &["-o", "cluster_size=2M"]]
    {
        let convert =
            [["convert", "-f", "raw", "-O", "qcow2"].as_slice(), options, &["disk.raw", "disk.qcow2"]].concat();
        qemu_img(dir.path(), &convert);
        assert!(matches!(Source::of_path(&dir.path().join("disk.qcow2")).unwrap(), Source::Disk(_)));
        check(&dir.path().join("disk.qcow2"));
    }
    for options in ["compression_type=zstd", "extended_l2=on"] {
        qemu_img(dir.path(), &["convert", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", "disk.qcow2"]);
        assert_eq!(refused_by(&Source::Disk(dir.path().join("disk.qcow2"))), Code::DiskUnsupported, "{options}");
    }
}

#[test]
fn a_backing_file_is_refused_before_anything_opens_it() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &[]);
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-b", "root.ext4", "-F", "raw", "disk.qcow2"]);
    let reasons = refused(&Source::Disk(dir.path().join("disk.qcow2")));
    assert_eq!(reasons[0].code.known(), Some(Code::DiskBackingFile));
    assert!(reasons[0].evidence.as_deref().unwrap().ends_with("disk.qcow2"));
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "disk.qcow2", "16M"]);
    assert_eq!(refused_by(&Source::Disk(dir.path().join("disk.qcow2"))), Code::DiskExternalData);
}

#[test]
fn two_roots_none_and_one_whose_database_is_apart_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &[]);
    let two = disk(dir.path(), "two.raw", "gpt", &[(16, Some("root.ext4")), (16, Some("root.ext4"))]);
    assert_eq!(refused_by(&Source::Disk(two)), Code::DiskUnsupported);

    let data = dir.path().join("data");
    write(&data, "home/x", "x");
    ext4(dir.path(), "data.ext4", &data, &[]);
    let none = disk(dir.path(), "none.raw", "gpt", &[(16, Some("data.ext4")), (1, None)]);
    let reasons = refused(&Source::Disk(none));
    assert_eq!(reasons[0].code.known(), Some(Code::DiskUnsupported));
    assert!(reasons[0].message.contains("partition 1: ext4 without"), "{}", reasons[0].message);
    check(&disk(dir.path(), "both.raw", "gpt", &[(16, Some("data.ext4")), (16, Some("root.ext4"))]));

    let var = dir.path().join("var");
    write(&var, "lib/dpkg/status", "Package: a\nVersion: 1\n");
    ext4(dir.path(), "var.ext4", &var, &[]);
    let apart = disk(dir.path(), "apart.raw", "gpt", &[(16, Some("root.ext4")), (16, Some("var.ext4"))]);
    assert!(refused(&Source::Disk(apart))[0].message.contains("apart"));
}

#[test]
fn what_does_not_end_by_itself_or_lies_outside_is_refused() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &["-O", "^metadata_csum"]);
    let sound = fs::read(dir.path().join("root.ext4")).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut disk = sound.clone();
        disk[1024 + at..1024 + at + bytes.len()].copy_from_slice(bytes);
        let path = dir.path().join("changed.ext4");
        fs::write(&path, disk).unwrap();
        refused_by(&Source::Disk(path))
    };
    assert_eq!(with(4, &u32::MAX.to_le_bytes()), Code::DiskMalformed, "blocks");
    assert_eq!(with(0x20, &0_u32.to_le_bytes()), Code::DiskMalformed, "blocks in a group");
    assert_eq!(with(0x18, &40_u32.to_le_bytes()), Code::DiskMalformed, "size of a block");
    let mut features = u32::from_le_bytes(sound[1024 + 0x60..1024 + 0x64].try_into().unwrap());
    assert_eq!(with(0x60, &(features | 0x4).to_le_bytes()), Code::DiskUnsupported, "not unmounted");
    features |= 1 << 30;
    assert_eq!(with(0x60, &features.to_le_bytes()), Code::DiskUnsupported, "an unknown feature");

    let gpt = disk(dir.path(), "gpt.raw", "gpt", &[(16, Some("root.ext4"))]);
    let table = fs::read(&gpt).unwrap();
    for (at, value) in [(512 + 80, 0xff), (512 + 84, 0xff), (1024 + 40, 0xff), (512 + 16, 0xff)] {
        let mut disk = table.clone();
        disk[at] ^= value;
        fs::write(&gpt, disk).unwrap();
        assert_eq!(refused_by(&Source::Disk(gpt.clone())), Code::DiskMalformed, "byte {at}");
    }
}

#[test]
fn a_chain_of_logical_partitions_that_goes_round_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut disk = vec![0_u8; 4 << 20];
    let record = |kind: u8, start: u32, size: u32| {
        let mut record = [0_u8; 16];
        record[4] = kind;
        record[8..12].copy_from_slice(&start.to_le_bytes());
        record[12..16].copy_from_slice(&size.to_le_bytes());
        record
    };
    disk[446..462].copy_from_slice(&record(5, 1, 4000));
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[512 + 462..512 + 478].copy_from_slice(&record(5, 1, 100));
    disk[1024 + 462..1024 + 478].copy_from_slice(&record(5, 1, 100));
    let path = dir.path().join("disk.raw");
    fs::write(&path, disk).unwrap();
    let reasons = refused(&Source::Disk(path));
    assert_eq!(reasons[0].code.known(), Some(Code::DiskMalformed), "{}", reasons[0].message);
}

#[test]
fn a_disk_that_is_damaged_anywhere_never_panics_or_hangs() {
    let dir = TempDir::new().unwrap();
    ext4(dir.path(), "root.ext4", debian(), &["-O", "^metadata_csum", "-b", "1024"]);
    qemu_img(dir.path(), &["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "root.ext4", "root.qcow2"]);
    for name in ["root.ext4", "root.qcow2"] {
        let sound = fs::read(dir.path().join(name)).unwrap();
        // Structures are where bytes are; most of the disk is empty.
        let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
        let path = dir.path().join("damaged");
        for step in 0..60 {
            let mut bytes = sound.clone();
            for near in 0..4 {
                bytes[used[(step * used.len() / 60 + near * 7) % used.len()]] ^=
                    0x5b_u8.rotate_left(u32::try_from(near).unwrap());
            }
            fs::write(&path, bytes).unwrap();
            if let Err(reasons) = generate(&Source::Disk(path.clone()), &Options::default()) {
                assert!(!reasons.is_empty());
            }
        }
        for length in [0, 1, 512, 1500, sound.len() / 2] {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(generate(&Source::Disk(path.clone()), &Options::default()).is_err(), "{name} cut to {length}");
        }
        // What is missing at the end may be something that nobody reads; it is never read as nothing.
        fs::write(&path, &sound[..sound.len() - 4097]).unwrap();
        if let Ok(made) = generate(&Source::Disk(path.clone()), &Options::default()) {
            assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
        }
    }
}
