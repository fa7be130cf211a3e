//! The names of a release's files in; what each file is for out (docs/reference/release-layout.md).
//! Names decide only which parser reads a file and what it is held against. They never make anything trusted: a file
//! that calls itself a list or a signature is believed for what is proved of it, as any other.

use std::collections::{BTreeMap, BTreeSet};

/// What a file of a release is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// What the release is made for.
    Artifact,
    /// A checksum list over the files of its directory, the release's top.
    ChecksumList,
    /// Detached OpenPGP signatures over another file.
    OpenpgpSignature {
        /// The signed file's name.
        over: String,
    },
    /// A Sigstore bundle, or JSON Lines of them, over another file.
    Bundle {
        /// The signed file's name.
        over: String,
    },
    /// Attestations that name their subjects by digest.
    Attestations,
    /// A software bill of materials.
    Sbom,
    /// A statement about vulnerabilities.
    Vex,
    /// What sealing a release wrote down of all its files.
    Manifest,
}

impl Role {
    /// Whether the file speaks for others and is proved by what it says, instead of needing somebody's word itself.
    pub const fn is_evidence(&self) -> bool {
        matches!(self, Self::ChecksumList | Self::OpenpgpSignature { .. } | Self::Bundle { .. } | Self::Attestations)
    }

    /// The word for it in a manifest.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::ChecksumList => "checksums",
            Self::OpenpgpSignature { .. } | Self::Bundle { .. } => "signature",
            Self::Attestations => "attestations",
            Self::Sbom => "sbom",
            Self::Vex => "vex",
            Self::Manifest => "manifest",
        }
    }
}

/// The manifest of a sealed release, at its top.
pub const MANIFEST: &str = "release.manifest.json";

const OPENPGP_SUFFIXES: [&str; 3] = [".asc", ".sig", ".gpg"];
const BUNDLE_SUFFIXES: [&str; 3] = [".sigstore.json", ".sigstore", ".bundle"];
const ATTESTATION_SUFFIXES: [&str; 3] = [".intoto.jsonl", ".att.sigstore.json", ".attestations.jsonl"];
const SBOM_SUFFIXES: [&str; 2] = [".cdx.json", ".spdx.json"];
const VEX_SUFFIXES: [&str; 2] = [".openvex.json", ".vex.json"];
const LIST_SUFFIXES: [&str; 6] = [".sha256", ".sha384", ".sha512", ".sha256sum", ".sha384sum", ".sha512sum"];
const LIST_NAMES: [&str; 7] =
    ["sha256sums", "sha384sums", "sha512sums", "sha256sums.txt", "sha384sums.txt", "sha512sums.txt", "checksums.txt"];

/// The roles of a release's files, by name.
///
/// A signature or bundle is one only where the file it is named after is there; otherwise it is an artifact like any
/// other, and nothing about it is taken for granted.
pub fn roles<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Role> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    names.iter().map(|name| ((*name).to_owned(), role(name, &names))).collect()
}

fn role(name: &str, names: &BTreeSet<&str>) -> Role {
    let file = name.rsplit('/').next().unwrap_or(name);
    if ATTESTATION_SUFFIXES.iter().any(|suffix| file.ends_with(suffix)) || file == "attestations.jsonl" {
        return Role::Attestations;
    }
    let over = |suffixes: &[&str]| {
        let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        names.contains(stem).then(|| stem.to_owned())
    };
    if let Some(over) = over(&BUNDLE_SUFFIXES) {
        return Role::Bundle { over };
    }
    if let Some(over) = over(&OPENPGP_SUFFIXES) {
        return Role::OpenpgpSignature { over };
    }
    if name == MANIFEST {
        return Role::Manifest;
    }
    if VEX_SUFFIXES.iter().any(|suffix| file.ends_with(suffix)) {
        return Role::Vex;
    }
    if SBOM_SUFFIXES.iter().any(|suffix| file.ends_with(suffix)) || file == "bom.json" {
        return Role::Sbom;
    }
    if is_list(name) { Role::ChecksumList } else { Role::Artifact }
}

/// Lists stand at the top: their names are relative to it. One further down is a file to be listed like any other.
fn is_list(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !name.contains('/')
        && (LIST_NAMES.contains(&lower.as_str())
            || lower.ends_with("_checksums.txt")
            || LIST_SUFFIXES.iter().any(|suffix| lower.ends_with(suffix)))
}

/// The file of the release that a bundle or a file of attestations is named after, where there is one.
pub fn over<'a>(name: &'a str, roles: &'a BTreeMap<String, Role>) -> Option<&'a str> {
    match roles.get(name)? {
        Role::Bundle { over } | Role::OpenpgpSignature { over } => Some(over),
        Role::Attestations => {
            let stem = ATTESTATION_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
            roles.contains_key(stem).then_some(stem)
        }
        Role::Artifact | Role::ChecksumList | Role::Sbom | Role::Vex | Role::Manifest => None,
    }
}

/// The artifact that a companion document is named after: `app.tar.gz.cdx.json` is about `app.tar.gz`.
pub fn named_after(name: &str) -> Option<&str> {
    SBOM_SUFFIXES.iter().chain(&VEX_SUFFIXES).find_map(|suffix| name.strip_suffix(suffix))
}

#[cfg(test)]
mod tests {
    use super::{Role, roles};

    #[test]
    fn each_name_of_the_documented_layout_has_its_role() {
        let names = [
            "app.tar.gz",
            "app.tar.gz.asc",
            "app.tar.gz.sigstore.json",
            "app.tar.gz.cdx.json",
            "app.tar.gz.intoto.jsonl",
            "attestations.jsonl",
            "SHA256SUMS",
            "SHA256SUMS.sig",
            "app.openvex.json",
            "bom.json",
            "sub/SHA256SUMS",
            "KEYS.asc",
            "release.manifest.json",
            "sub/release.manifest.json",
        ];
        let found = roles(names);
        let over = |over: &str| over.to_owned();
        let expected = [
            Role::Artifact,
            Role::OpenpgpSignature { over: over("app.tar.gz") },
            Role::Bundle { over: over("app.tar.gz") },
            Role::Sbom,
            Role::Attestations,
            Role::Attestations,
            Role::ChecksumList,
            Role::OpenpgpSignature { over: over("SHA256SUMS") },
            Role::Vex,
            Role::Sbom,
            Role::Artifact,
            Role::Artifact,
            Role::Manifest,
            Role::Artifact,
        ];
        for (name, expected) in names.iter().zip(expected) {
            assert_eq!(found.get(*name), Some(&expected), "{name}");
        }
    }

    #[test]
    fn a_signature_of_a_signature_is_over_that_signature() {
        let found = roles(["a", "a.asc", "a.asc.asc"]);
        assert_eq!(found.get("a.asc.asc"), Some(&Role::OpenpgpSignature { over: "a.asc".to_owned() }));
    }
}
