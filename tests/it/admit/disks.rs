//! Images that must not be opened, whoever signed them; and what is an image of which kind.

use super::{Folder, NAMED, image, publisher};

/// A qcow2 header, version 2 (QEMU docs/interop/qcow2), with what a test changes.
fn qcow2(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4 * 65_536];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes()); // clusters of 64 KiB
    put(24, &(1_u64 << 20).to_be_bytes()); // 1 MiB
    put(36, &1_u32.to_be_bytes()); // one L1 entry
    put(40, &(3_u64 * 65_536).to_be_bytes());
    put(48, &65_536_u64.to_be_bytes()); // refcount table
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes()); // 16-bit refcounts
    put(100, &104_u32.to_be_bytes());
    change(&mut bytes);
    bytes
}

fn signed(bytes: &[u8]) -> Folder {
    let folder = Folder::new();
    folder.write("disk.qcow2", bytes);
    folder.sign("disk.qcow2", &publisher());
    folder
}

#[test]
fn a_qcow2_that_stands_alone_is_admitted() {
    signed(&qcow2(|_| {})).admit(&format!("disk.qcow2 {NAMED}")).allows();
}

#[test]
fn a_qcow2_with_a_backing_file_is_refused_whoever_signed_it() {
    let backed = qcow2(|bytes| {
        bytes[8..16].copy_from_slice(&512_u64.to_be_bytes());
        bytes[16..20].copy_from_slice(&11_u32.to_be_bytes());
        bytes[512..523].copy_from_slice(b"/etc/shadow");
    });
    signed(&backed).admit(&format!("disk.qcow2 {NAMED}")).says(1, &["disk-backing-file"]);
    signed(&backed).admit(&format!("disk.qcow2 {NAMED} --kind disk")).says(1, &["disk-backing-file"]);
}

#[test]
fn a_qcow2_with_an_external_data_file_is_refused_whoever_signed_it() {
    let external = qcow2(|bytes| bytes[72..80].copy_from_slice(&4_u64.to_be_bytes()));
    signed(&external).admit(&format!("disk.qcow2 {NAMED}")).says(1, &["disk-external-data"]);
}

#[test]
fn a_qcow2_is_no_iso_image() {
    signed(&qcow2(|_| {})).admit(&format!("disk.qcow2 {NAMED} --kind iso")).says(1, &["disk-unsupported"]);
}

#[test]
fn a_policy_sees_what_an_image_is_to_a_machine() {
    let folder = Folder::signed();
    folder.write(
        "kinds.rego",
        "package kinds\nimport rego.v1\ndeny contains {\"code\": \"kind-not-admitted\", \"msg\": sprintf(\"%s\", [input.subject.kind])}\n",
    );
    for (flags, kind) in [("", "disk"), ("--kind kernel", "kernel"), ("--kind option-rom", "option-rom")] {
        let answer = folder.admit(&format!("disk.img {NAMED} --policy ./kinds.rego {flags}"));
        answer.says(1, &["kind-not-admitted"]);
        assert_eq!(answer.report["reasons"][0]["message"], kind);
    }
}

#[test]
fn a_policy_of_ones_own_does_not_switch_off_the_question_who_signed() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    folder.write("yes.rego", "package yes\nimport rego.v1\nallow := true\n");
    folder.sign("disk.img", &publisher());
    let output = folder.debvisor(&format!("admit disk.img {NAMED} --policy ./yes.rego"));
    assert_eq!(output.status.code(), Some(0));
    let other = "--trusted-root root.json --certificate-oidc-issuer https://accounts.example.org";
    let answer = folder.admit(&format!("disk.img {other} --policy ./yes.rego"));
    answer.says(1, &["identity-required", "signature-required"]);
}
