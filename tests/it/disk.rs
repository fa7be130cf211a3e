//! Headers of disk images, over images that QEMU's own qemu-img makes: what may be opened, and what must not be.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use debvisor::release::evidence::disk::{Compression, DiskHeader, Format, Limits, inspect};
use debvisor::types::Code;
use proptest::prelude::*;
use tempfile::TempDir;

#[track_caller]
pub(crate) fn qemu_img(dir: &Path, arguments: &[&str]) {
    let mut output = Command::new("qemu-img").current_dir(dir).args(arguments).output().unwrap();
    // To derive a key it times itself, and gives up where the clock did not move meanwhile.
    for _ in 0..20 {
        if !String::from_utf8_lossy(&output.stderr).contains("accurate CPU usage") {
            break;
        }
        output = Command::new("qemu-img").current_dir(dir).args(arguments).output().unwrap();
    }
    assert!(output.status.success(), "qemu-img {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn judge(path: &Path) -> Result<DiskHeader, Code> {
    inspect(&mut File::open(path).unwrap(), &Limits::default()).map_err(|reason| reason.code.known().unwrap())
}

fn judge_bytes(bytes: &[u8]) -> Result<DiskHeader, Code> {
    inspect(&mut Cursor::new(bytes), &Limits::default()).map_err(|reason| reason.code.known().unwrap())
}

/// The header's answer about an image that `qemu-img create` makes with these arguments.
#[track_caller]
fn created(arguments: &[&str]) -> Result<DiskHeader, Code> {
    let dir = TempDir::new().unwrap();
    qemu_img(dir.path(), &[&["create", "-q", "-f", "qcow2"], arguments].concat());
    judge(&dir.path().join("disk.qcow2"))
}

/// A small sound image of each version, for the properties and the fuzz target. Only its first bytes say anything.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let dir = TempDir::new().unwrap();
    for (name, options) in [
        ("v2", "compat=0.10,cluster_size=512"),
        ("v3", "compat=1.1,cluster_size=512"),
        ("zstd", "compat=1.1,cluster_size=16k,compression_type=zstd,extended_l2=on"),
    ] {
        qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-o", options, name, "64k"]);
    }
    ["v2", "v3", "zstd"]
        .map(|name| {
            let bytes = fs::read(dir.path().join(name)).unwrap();
            judge_bytes(&bytes).unwrap();
            bytes
        })
        .into()
}

#[test]
fn versions_and_features_that_qemu_img_writes_are_read() {
    let header = created(&["-o", "compat=0.10", "disk.qcow2", "20G"]).unwrap();
    let qcow2 = header.qcow2.unwrap();
    assert_eq!((header.format, header.virtual_bytes, qcow2.version), (Format::Qcow2, 20 << 30, 2));
    assert_eq!((header.format.driver(), qcow2.cluster_bytes, qcow2.l1_entries), ("qcow2", 65_536, 40));

    let header = created(&["disk.qcow2", "1T"]).unwrap();
    assert_eq!((header.virtual_bytes, header.qcow2.unwrap().version), (1 << 40, 3));

    let rich = "compression_type=zstd,extended_l2=on,lazy_refcounts=on,cluster_size=2M,refcount_bits=64";
    let qcow2 = created(&["-o", rich, "disk.qcow2", "1G"]).unwrap().qcow2.unwrap();
    assert_eq!((qcow2.compression, qcow2.extended_l2, qcow2.cluster_bytes), (Compression::Zstd, true, 2 << 20));

    assert_eq!(created(&["disk.qcow2", "0"]).unwrap().virtual_bytes, 0);
    created(&["-o", "preallocation=metadata,compat=0.10", "disk.qcow2", "256M"]).unwrap();
}

#[test]
fn what_qemu_img_info_says_is_what_the_header_says() {
    let dir = TempDir::new().unwrap();
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "disk.qcow2", "123456789"]);
    qemu_img(dir.path(), &["snapshot", "-c", "one", "disk.qcow2"]);
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "disk.qcow2"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let header = judge(&dir.path().join("disk.qcow2")).unwrap();
    assert_eq!(Some(header.virtual_bytes), info["virtual-size"].as_u64());
    assert_eq!(Some(header.qcow2.unwrap().cluster_bytes), info["cluster-size"].as_u64());
    assert_eq!(
        Some(u64::from(header.qcow2.unwrap().snapshots)),
        info["snapshots"].as_array().map(|all| all.len() as u64)
    );
}

#[test]
fn a_backing_file_is_refused_in_every_version_and_form() {
    let dir = TempDir::new().unwrap();
    qemu_img(dir.path(), &["create", "-q", "-f", "raw", "base.raw", "1M"]);
    for compat in ["compat=0.10", "compat=1.1"] {
        let overlay = ["create", "-q", "-f", "qcow2", "-o", compat, "-b", "base.raw", "-F", "raw", "disk.qcow2"];
        qemu_img(dir.path(), &overlay);
        assert_eq!(judge(&dir.path().join("disk.qcow2")), Err(Code::DiskBackingFile));
    }
    // Not even a name that leads nowhere, or one of no length, is looked up.
    for name in ["/etc/shadow", "json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}", "nbd://127.0.0.1/x"] {
        let unsafe_overlay = ["create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", "disk.qcow2", "1M"];
        qemu_img(dir.path(), &unsafe_overlay);
        assert_eq!(judge(&dir.path().join("disk.qcow2")), Err(Code::DiskBackingFile), "{name}");
    }
    let mut bytes = fs::read(dir.path().join("disk.qcow2")).unwrap();
    bytes[16..20].fill(0);
    assert_eq!(judge_bytes(&bytes), Err(Code::DiskBackingFile));
}

#[test]
fn a_flattened_overlay_is_allowed() {
    let dir = TempDir::new().unwrap();
    qemu_img(dir.path(), &["create", "-q", "-f", "raw", "base.raw", "1M"]);
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "overlay.qcow2"]);
    qemu_img(dir.path(), &["convert", "-O", "qcow2", "overlay.qcow2", "disk.qcow2"]);
    assert_eq!(judge(&dir.path().join("disk.qcow2")).unwrap().virtual_bytes, 1 << 20);
}

#[test]
fn an_external_data_file_is_refused_by_its_bit_and_by_its_name() {
    for options in ["data_file=data.raw", "data_file=data.raw,data_file_raw=on"] {
        assert_eq!(created(&["-o", options, "disk.qcow2", "1M"]), Err(Code::DiskExternalData));
    }
    let dir = TempDir::new().unwrap();
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "disk.qcow2", "1M"]);
    let with_both = fs::read(dir.path().join("disk.qcow2")).unwrap();
    let mut name_alone = with_both.clone();
    name_alone[72..80].fill(0);
    assert_eq!(judge_bytes(&name_alone), Err(Code::DiskExternalData));
    let mut bit_alone = with_both;
    bit_alone[112..120].fill(0);
    assert_eq!(judge_bytes(&bit_alone), Err(Code::DiskExternalData));
}

#[test]
fn an_encrypted_image_is_refused() {
    for format in ["luks", "aes"] {
        let options = format!("encrypt.format={format},encrypt.key-secret=key");
        let secret = ["--object", "secret,id=key,data=a secret", "-o", &options, "disk.qcow2", "1M"];
        // Version 2 of the format has no LUKS; qemu-img may have been built without the older method.
        if format == "luks" {
            assert_eq!(created(&secret), Err(Code::DiskEncrypted));
        }
    }
    let mut bytes = seeds().remove(0);
    bytes[32..36].copy_from_slice(&1_u32.to_be_bytes());
    assert_eq!(judge_bytes(&bytes), Err(Code::DiskEncrypted));
}

#[test]
fn a_size_that_costs_its_maker_nothing_is_refused() {
    assert_eq!(created(&["-o", "cluster_size=2M", "disk.qcow2", "1P"]), Err(Code::DiskOversized));
    let [version_2, version_3, _] = <[Vec<u8>; 3]>::try_from(seeds()).unwrap();
    for sound in [version_2, version_3] {
        // The disk grows, its L1 table does not.
        let mut bytes = sound.clone();
        bytes[24..32].copy_from_slice(&(1_u64 << 40).to_be_bytes());
        assert_eq!(judge_bytes(&bytes), Err(Code::DiskMalformed));
        let mut bytes = sound.clone();
        bytes[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(judge_bytes(&bytes), Err(Code::DiskOversized));
        let mut bytes = sound.clone();
        bytes[56..60].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(judge_bytes(&bytes), Err(Code::DiskOversized));
        for table in [40, 48] {
            for offset in [u64::MAX, u64::MAX - 511, 1 << 40, 513, 0] {
                let mut bytes = sound.clone();
                bytes[table..table + 8].copy_from_slice(&offset.to_be_bytes());
                assert_eq!(judge_bytes(&bytes), Err(Code::DiskMalformed), "table at {offset}");
            }
        }
    }
}

#[test]
fn an_image_that_is_cut_short_anywhere_in_its_tables_is_refused() {
    for sound in seeds() {
        for length in (4..104).chain([sound.len() / 2]) {
            assert_eq!(judge_bytes(&sound[..length]), Err(Code::DiskMalformed), "{length} bytes");
        }
        assert_eq!(judge_bytes(b"QF").unwrap().format, Format::Raw);
    }
}

#[test]
fn unknown_versions_and_features_are_refused_and_unknown_extensions_are_not() {
    let sound = seeds().remove(1);
    for (at, value, answer) in [
        (7, 1, Err(Code::DiskUnsupported)),
        (7, 4, Err(Code::DiskUnsupported)),
        (79, 1 << 5, Err(Code::DiskUnsupported)),
        (72, 1 << 7, Err(Code::DiskUnsupported)),
        (79, 1 << 0, Err(Code::DiskMalformed)),
        (79, 1 << 1, Err(Code::DiskMalformed)),
        (79, 1 << 3, Err(Code::DiskMalformed)),
        (23, 8, Err(Code::DiskMalformed)),
        (23, 22, Err(Code::DiskMalformed)),
        (99, 7, Err(Code::DiskMalformed)),
        (103, 96, Err(Code::DiskMalformed)),
        (103, 109, Err(Code::DiskMalformed)),
        // Compatible and autoclear features may be ignored; so may an extension that nobody knows.
        (87, 1 << 7, Ok(())),
        (95, 1 << 7, Ok(())),
        (112, 0x12, Ok(())),
    ] {
        let mut bytes = sound.clone();
        bytes[at] = value;
        assert_eq!(judge_bytes(&bytes).map(|_| ()), answer, "byte {at} is {value}");
    }
}

#[test]
fn images_of_other_programs_are_not_taken_for_raw_disks() {
    let dir = TempDir::new().unwrap();
    for format in ["vmdk", "vdi", "vpc", "vhdx", "qed", "parallels", "qcow"] {
        qemu_img(dir.path(), &["create", "-q", "-f", format, format, "1M"]);
        assert_eq!(judge(&dir.path().join(format)), Err(Code::DiskUnsupported), "{format}");
    }
    qemu_img(dir.path(), &["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "flat", "1M"]);
    assert_eq!(judge(&dir.path().join("flat")), Err(Code::DiskUnsupported));
    qemu_img(dir.path(), &["create", "-q", "-f", "raw", "raw", "1M"]);
    assert_eq!(judge(&dir.path().join("raw")).unwrap().format, Format::Raw);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200), is_qcow2: bool) {
        let _ = judge_bytes(&[if is_qcow2 { b"QFI\xfb\0\0\0\x03".as_slice() } else { b"" }, &bytes].concat());
    }

    #[test]
    fn what_is_accepted_names_no_other_file_and_lies_inside_of_itself(
        version in 0_usize..3,
        changes in prop::collection::vec((0_usize..160, any::<u8>()), 1..6),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|seeds| seeds[version].clone());
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(DiskHeader { qcow2: Some(qcow2), virtual_bytes, .. }) = judge_bytes(&bytes) {
            let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            prop_assert_eq!(number(8), 0, "a backing file");
            prop_assert_eq!(&bytes[32..36], &[0; 4], "encryption");
            prop_assert!(number(40) + u64::from(qcow2.l1_entries) * 8 <= bytes.len() as u64);
            prop_assert!(virtual_bytes <= u64::from(qcow2.l1_entries) * qcow2.cluster_bytes * qcow2.cluster_bytes / 8);
            if qcow2.version == 3 {
                prop_assert_eq!(number(72) & !(1 << 3 | 1 << 4), 0, "a feature that must be refused");
            }
        }
    }
}
