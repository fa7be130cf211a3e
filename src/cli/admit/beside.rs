//! An image's path in; the files beside it that may speak for it, out. Nothing is read and nothing is searched: each
//! name is one that the reference lists, so that a folder of a million files costs no more than one of two.

use std::path::{Path, PathBuf};

/// What an image's own name is continued with.
const SUFFIXES: [&str; 22] = [
    ".sigstore.json",
    ".sigstore",
    ".bundle",
    ".att.sigstore.json",
    ".attestations.jsonl",
    ".intoto.jsonl",
    ".vsa",
    ".vsa.json",
    ".vsa.jsonl",
    ".asc",
    ".sig",
    ".gpg",
    ".sign",
    ".cdx.json",
    ".spdx.json",
    ".openvex.json",
    ".vex.json",
    ".sha256",
    ".sha384",
    ".sha512",
    ".sha256sum",
    ".sha512sum",
];

/// Checksum lists over a whole folder.
const LISTS: [&str; 8] = [
    "SHA256SUMS",
    "SHA384SUMS",
    "SHA512SUMS",
    "SHA256SUMS.txt",
    "SHA512SUMS.txt",
    "sha256sums.txt",
    "sha512sums.txt",
    "checksums.txt",
];

/// What the name of a list or document is continued with where it is signed itself.
const OF_COMPANIONS: [&str; 6] = [".asc", ".sig", ".gpg", ".sign", ".sigstore.json", ".sigstore"];

/// The files that are there, in order of their names.
pub(super) fn found(image: &Path) -> Vec<PathBuf> {
    let Some(name) = image.file_name() else { return Vec::new() };
    let named = |name: &std::ffi::OsStr, suffix: &str| {
        let mut name = name.to_owned();
        name.push(suffix);
        image.with_file_name(name)
    };
    let own = SUFFIXES.iter().map(|suffix| named(name, suffix));
    let lists = LISTS.iter().map(|list| image.with_file_name(list));
    let first: Vec<PathBuf> = own.chain(lists).filter(|path| path != image && is_there(path)).collect();
    let is_companion = |path: &Path| {
        let name = path.to_string_lossy();
        let suffixes = [".cdx.json", ".spdx.json", ".openvex.json", ".vex.json", ".sha256", ".sha384", ".sha512"];
        LISTS.iter().any(|list| path.file_name().is_some_and(|name| name == *list))
            || suffixes.iter().any(|suffix| name.ends_with(suffix))
            || name.ends_with("sum")
    };
    let signed = first.iter().filter(|path| is_companion(path)).filter_map(|path| path.file_name());
    let second = signed.flat_map(|name| OF_COMPANIONS.iter().map(move |suffix| named(name, suffix)));
    let mut all: Vec<PathBuf> = second.filter(|path| is_there(path)).collect();
    all.extend(first);
    all.sort();
    all.dedup();
    all
}

/// Whether anything has that name; what it is, whoever reads it finds out.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_found_by_name_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let expected = [
            "SHA256SUMS",
            "SHA256SUMS.asc",
            "disk.img.att.sigstore.json",
            "disk.img.cdx.json",
            "disk.img.cdx.json.sigstore.json",
            "disk.img.sigstore.json",
            "disk.img.vsa.jsonl",
        ];
        let others = ["disk.img", "disk.img.bak", "other.img.sigstore.json", "disk.sigstore.json", "SHA512SUMS.asc"];
        for name in expected.iter().chain(&others) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = found(&folder.path().join("disk.img"))
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn an_image_is_no_evidence_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("SHA256SUMS");
        std::fs::write(&image, "").unwrap();
        assert!(found(&image).is_empty());
    }
}
