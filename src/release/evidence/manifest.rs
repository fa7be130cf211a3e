//! The manifest of a sealed release: its bytes in, one entry for each file out; or the entries in, its bytes out.
//!
//! The form is our own (docs/reference/release-layout.md). It says what each file is for and what it is about, so that
//! nobody has to guess it from names. Nothing is trusted because a manifest says so: it is one more file that a signed
//! list covers, and what it says is held against the release.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// The form that is written and read.
pub const SCHEMA: &str = "https://debvisor.dev/release-manifest/v1";

/// A release's files, in order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// What is released.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Which version of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// When anything of the release was last sealed.
    pub sealed_at: Timestamp,
    /// The program that did, with its version.
    pub tool: String,
    /// Every file but this one, the checksum list and the signatures over that.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name below the release's directory.
    pub name: String,
    /// What it is for: `artifact`, `signature`, `attestations`, `sbom`, `vex`, `checksums`.
    pub role: String,
    /// The file that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub about: Option<String>,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Algorithm name to lower-case hex, as in-toto writes it; `sha256` is always there.
    pub digest: BTreeMap<String, String>,
    /// Who brought it.
    pub origin: Origin,
    /// Of an artifact: when the documents about it were made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed_at: Option<Timestamp>,
}

/// Where a file of a release comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was there before anything was sealed, or was handed in.
    Given,
    /// Sealing made it, and may make it again.
    Made,
}

impl Entry {
    /// The SHA-256 digest.
    pub fn sha256(&self) -> Option<Digest> {
        let hex = self.digest.get(DigestAlgorithm::Sha256.name())?;
        Digest::from_hex(DigestAlgorithm::Sha256, hex).ok()
    }
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What strict JSON refuses, `manifest-malformed`, or `input-too-large` past [`limits::RELEASE_FILES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let manifest: Self = json::parse(bytes, Code::ManifestMalformed)?;
        let malformed = |message: String| Reason::new(Code::ManifestMalformed, message);
        if manifest.schema != SCHEMA {
            return Err(malformed(format!("its schema is `{}`", manifest.schema)).location("schema"));
        }
        if manifest.files.len() > limits::RELEASE_FILES {
            let message = format!("a manifest names at most {} files", limits::RELEASE_FILES);
            return Err(Reason::new(Code::InputTooLarge, message).location("files"));
        }
        let mut names = BTreeSet::new();
        for (position, entry) in manifest.files.iter().enumerate() {
            let place = format!("files[{position}]");
            if !names.insert(entry.name.as_str()) {
                return Err(malformed(format!("`{}` is there twice", entry.name)).location(place));
            }
            if entry.sha256().is_none() {
                return Err(malformed(format!("`{}` has no SHA-256 digest", entry.name)).location(place));
            }
        }
        Ok(manifest)
    }

    /// Its bytes; equal manifests are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Text keys and whole numbers always have a JSON form.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text.into_bytes()
    }

    /// What it says of a file.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.name == name)
    }

    /// Holds it against the release: each file by its name, with its role's word and its SHA-256. `exempt` are the names
    /// that a manifest cannot have: its own, the list's, and those of what is signed over the list.
    pub fn judge<'a>(
        &self,
        file_name: &str,
        files: impl IntoIterator<Item = (&'a str, &'static str, Option<&'a Digest>)>,
        exempt: impl Fn(&str) -> bool,
    ) -> Vec<Reason> {
        let mut told: BTreeMap<&str, &Entry> = self.files.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let mut reasons = Vec::new();
        let mut refuse = |name: &str, message: String| {
            reasons.push(Reason::new(Code::ManifestMismatch, message).evidence(file_name).subject(name));
        };
        for (name, role, digest) in files {
            match told.remove(name) {
                None if exempt(name) => {}
                None => refuse(name, format!("the manifest does not know `{name}`")),
                Some(entry) if entry.role != role => {
                    refuse(
                        name,
                        format!("the manifest calls `{name}` a file for `{}`, and it is one for `{role}`", entry.role),
                    );
                }
                // A file that could not be hashed has its own reason.
                Some(entry) if digest.is_some_and(|digest| entry.sha256().as_ref() != Some(digest)) => {
                    refuse(name, format!("the manifest knows `{name}` with another digest"));
                }
                Some(_) => {}
            }
        }
        for name in told.keys() {
            refuse(name, format!("the manifest knows `{name}`, and it is not there"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, content: &[u8]) -> Entry {
        Entry {
            name: name.to_owned(),
            role: "artifact".to_owned(),
            about: None,
            bytes: content.len() as u64,
            digest: [("sha256".to_owned(), Digest::sha256(content).to_hex())].into(),
            origin: Origin::Given,
            sealed_at: None,
        }
    }

    fn manifest(files: Vec<Entry>) -> Manifest {
        let sealed_at = "2026-01-01T00:00:00Z".parse().unwrap();
        Manifest { schema: SCHEMA.to_owned(), name: None, version: None, sealed_at, tool: "t".to_owned(), files }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = manifest(vec![entry("a", b"a"), entry("b", b"b")]);
        assert_eq!(Manifest::parse(&written.to_bytes()).unwrap(), written);
    }

    #[test]
    fn a_name_twice_another_schema_and_a_missing_digest_are_refused() {
        let twice = manifest(vec![entry("a", b"a"), entry("a", b"b")]);
        let other = Manifest { schema: "https://example.org".to_owned(), ..manifest(Vec::new()) };
        let mut bare = manifest(vec![entry("a", b"a")]);
        bare.files[0].digest.clear();
        for refused in [twice, other, bare] {
            let reason = Manifest::parse(&refused.to_bytes()).unwrap_err();
            assert_eq!(reason.code, Code::ManifestMalformed.into(), "{reason}");
        }
    }

    #[test]
    fn every_disagreement_with_the_release_is_a_reason() {
        let told = manifest(vec![entry("a", b"a"), entry("b", b"b")]);
        let (a, b, other) = (Digest::sha256(b"a"), Digest::sha256(b"b"), Digest::sha256(b"other"));
        let judge = |files: &[(&'static str, &'static str, Option<&Digest>)]| {
            let judged = told.judge("m", files.iter().copied(), |name| name == "SHA256SUMS");
            judged.into_iter().map(|reason| reason.subject.unwrap()).collect::<Vec<_>>()
        };
        let sound = [("SHA256SUMS", "checksums", None), ("a", "artifact", Some(&a)), ("b", "artifact", Some(&b))];
        assert!(judge(&sound).is_empty());
        assert_eq!(judge(&sound[..2]), ["b"]);
        assert_eq!(judge(&[("a", "artifact", Some(&other)), sound[2]]), ["a"]);
        assert_eq!(judge(&[("a", "sbom", Some(&a)), sound[2]]), ["a"]);
        assert_eq!(judge(&[sound[1], sound[2], ("c", "artifact", Some(&other))]), ["c"]);
    }
}
