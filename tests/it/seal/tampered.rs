//! One byte changed in each kind of file of a sealed release: refused, each with the code that says what it was.

use super::{ALL, Desk, codes};

/// A file of a sealed release, a text in it, what one byte of it becomes, and the code that must be among the reasons.
const CHANGES: &[(&str, &str, &str, &str)] = &[
    ("app.bin", "built", "bui1t", "checksum-mismatch"),
    ("doc/notes.txt", "new", "now", "checksum-mismatch"),
    ("app.bin.cdx.json", "\"debvisor\"", "\"debviser\"", "checksum-mismatch"),
    ("app.bin.cdx.json", "\"bomFormat\"", "\"bomFornat\"", "document-malformed"),
    ("app.bin.spdx.json", "SPDXRef-DOCUMENT", "SPDXRef-DOCUMEMT", "checksum-mismatch"),
    ("app.bin.vex.json", "no scanner", "ao scanner", "checksum-mismatch"),
    ("app.bin.sigstore.json", "\"signature\":\"ME", "\"signature\":\"MF", "signature-invalid"),
    ("app.bin.attestations.jsonl", "\"sig\":\"ME", "\"sig\":\"MF", "signature-invalid"),
    ("app.bin.attestations.jsonl", "\"payload\":\"eyJ", "\"payload\":\"eyK", "signature-invalid"),
    ("release.manifest.json", "\"role\": \"artifact\"", "\"role\": \"artifict\"", "manifest-mismatch"),
    ("release.manifest.json", "\"origin\": \"made\"", "\"origin\": \"mode\"", "manifest-malformed"),
    ("release.manifest.json", "\"tool\": \"debvisor", "\"tool\": \"debviser", "checksum-mismatch"),
    ("SHA256SUMS", "  app.bin\n", "  app.bim\n", "file-missing"),
    ("SHA256SUMS.sigstore.json", "\"signature\":\"ME", "\"signature\":\"MF", "signature-invalid"),
];

#[test]
fn one_changed_byte_in_any_kind_of_file_is_refused_with_its_code() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    let kinds: std::collections::BTreeSet<&str> = CHANGES.iter().map(|(name, ..)| *name).collect();
    for name in desk.names().iter().filter(|name| name.starts_with("app.bin") || !name.contains('/')) {
        assert!(kinds.contains(name.as_str()), "no change of {name} is tried");
    }
    for (name, text, becomes, code) in CHANGES.iter().filter(|(_, _, becomes, _)| !becomes.is_empty()) {
        let path = format!("work/release/{name}");
        let sound = desk.read(&path);
        let whole = String::from_utf8(sound.clone()).unwrap();
        assert!(whole.contains(text), "{name} has no {text}");
        assert_eq!((text.len(), text.bytes().zip(becomes.bytes()).filter(|(a, b)| a != b).count()), (becomes.len(), 1));
        desk.write(&path, whole.replacen(text, becomes, 1).as_bytes());
        let ran = desk.gate(&["--require", ALL]);
        assert_eq!(ran.exit, 1, "{name}: {text}");
        assert!(codes(&ran).contains(*code), "{name}: {text}: {:?}", codes(&ran));
        desk.write(&path, &sound);
    }
    desk.is_sealed();
}

#[test]
fn every_digest_of_the_list_and_the_manifest_counts() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    for (name, code) in [("SHA256SUMS", "checksum-mismatch"), ("release.manifest.json", "manifest-mismatch")] {
        let path = format!("work/release/{name}");
        let sound = desk.read(&path);
        let digest = debvisor::types::Digest::sha256(b"what was built\n").to_hex();
        let other = format!("{}{}", if digest.starts_with('0') { "1" } else { "0" }, &digest[1..]);
        desk.write(&path, String::from_utf8(sound.clone()).unwrap().replacen(&digest, &other, 1).as_bytes());
        let ran = desk.gate(&[]);
        assert_eq!((ran.exit, codes(&ran).contains(code)), (1, true), "{name}: {ran:?}");
        desk.write(&path, &sound);
    }
}

#[test]
fn a_file_added_or_taken_away_is_refused() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    for name in desk.names() {
        let path = format!("work/release/{name}");
        let sound = desk.read(&path);
        std::fs::remove_file(desk.path(&path)).unwrap();
        let ran = desk.gate(&["--require", ALL]);
        assert_eq!(ran.exit, 1, "without {name}");
        let expected = match name.as_str() {
            "SHA256SUMS" => "checksum-missing",
            "SHA256SUMS.sigstore.json" => "signature-required",
            _ => "file-missing",
        };
        assert!(codes(&ran).contains(expected), "without {name}: {:?}", codes(&ran));
        desk.write(&path, &sound);
    }
    desk.write("work/release/install.sh", b"run me\n");
    let ran = desk.gate(&[]);
    assert_eq!(ran.exit, 1);
    assert!(codes(&ran).is_superset(&["file-unlisted".to_owned(), "manifest-mismatch".to_owned()].into()), "{ran:?}");
}

#[test]
fn a_manifest_that_names_a_foreign_file_takes_nothing_away() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    // It calls two artifacts files of its own making, about one that is not there.
    let mut manifest = desk.json("work/release/release.manifest.json");
    for entry in manifest["files"].as_array_mut().unwrap() {
        if matches!(entry["name"].as_str().unwrap(), "app.bin" | "doc/notes.txt") {
            entry["origin"] = "made".into();
            entry["about"] = "gone".into();
        }
    }
    desk.write("work/release/release.manifest.json", manifest.to_string().as_bytes());
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    assert_eq!(desk.read("work/release/app.bin"), b"what was built\n");
    assert_eq!(desk.read("work/release/doc/notes.txt"), b"what is new\n");
}
