//! The files that speak for one image in; what each is, parsed, out.
//!
//! A file's name and first bytes decide which parser reads it and what it is over, and never make anything trusted:
//! `SHA256SUMS.asc` is over `SHA256SUMS` where that is among the files, every other signature over the image itself.
//! What does not parse is a reason, and a no: evidence that is there and damaged is not passed over.

use std::collections::BTreeSet;

use crate::release::artifact::{Artifact, Sink as _};
use crate::release::evidence::bundle;
use crate::release::evidence::checksums::ChecksumList;
use crate::release::evidence::document::{self, Document};
use crate::release::evidence::openpgp::{ArtifactHasher, ArtifactHashes, DetachedSignatures};
use crate::release::verify::Offered;
use crate::types::{Code, DigestAlgorithm, Reason, limits};

/// One file of evidence, as it is kept beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Everything that speaks for one image, parsed before the image is hashed: it says how that must be done.
#[derive(Debug, Default)]
pub struct Evidence {
    pub(super) offers: Vec<Offered>,
    /// Over the image itself.
    pub(super) signatures: Vec<NamedSignatures>,
    pub(super) lists: Vec<Companion<ChecksumList>>,
    pub(super) documents: Vec<Companion<Document>>,
    /// What is wrong with the files themselves.
    pub(super) refused: Vec<Reason>,
    /// Signature files and bundles that cannot be read: a no to whoever believes evidence of that kind.
    pub(super) damaged_signatures: Vec<Reason>,
    pub(super) damaged_bundles: Vec<Reason>,
    files: usize,
}

/// A detached signature file.
#[derive(Debug)]
pub(super) struct NamedSignatures {
    pub(super) name: String,
    pub(super) signatures: DetachedSignatures,
}

/// A file beside the image that is signed itself.
#[derive(Debug)]
pub(super) struct Companion<T> {
    pub(super) artifact: Artifact,
    /// What its signatures are over: the file itself, or the manifest that holds it in a registry.
    pub(super) signed: Artifact,
    pub(super) parsed: T,
    pub(super) signatures: Vec<NamedSignatures>,
    pub(super) hashes: ArtifactHashes,
}

const SIGNATURE_SUFFIXES: [&str; 4] = [".asc", ".sig", ".gpg", ".sign"];
const BUNDLE_SUFFIXES: [&str; 5] = [".json", ".jsonl", ".sigstore", ".bundle", ".vsa"];
const SBOM_SUFFIXES: [&str; 2] = [".cdx.json", ".spdx.json"];
const VEX_SUFFIXES: [&str; 2] = [".openvex.json", ".vex.json"];

impl Evidence {
    /// Reads the files.
    pub fn parse(files: &[EvidenceFile]) -> Self {
        let mut evidence = Self { files: files.len(), ..Self::default() };
        if files.len() > limits::ADMISSION_EVIDENCE_FILES {
            let message = format!("an image has at most {} files of evidence", limits::ADMISSION_EVIDENCE_FILES);
            evidence.refused.push(Reason::new(Code::InputTooLarge, message));
            return evidence;
        }
        let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let mut over_companions: Vec<(&str, NamedSignatures)> = Vec::new();
        for file in files {
            let kind = kind(file);
            let outcome = match kind {
                Kind::Signature => {
                    signature(file).map(|signatures| match stem(&file.name).filter(|stem| names.contains(stem)) {
                        Some(over) => over_companions.push((over, signatures)),
                        None => evidence.signatures.push(signatures),
                    })
                }
                Kind::Bundles => offers(file).map(|offers| evidence.offers.extend(offers)),
                Kind::Document(kind) => within(file, limits::EVIDENCE_BYTES)
                    .and_then(|()| Document::parse(kind, &file.bytes))
                    .map(|parsed| evidence.documents.push(companion(file, parsed))),
                Kind::List => match ChecksumList::parse(&file.bytes, &file.name) {
                    Ok(parsed) => {
                        evidence.lists.push(companion(file, parsed));
                        Ok(())
                    }
                    Err(reasons) => {
                        evidence.refused.extend(reasons);
                        Ok(())
                    }
                },
            };
            let refused = match kind {
                Kind::Signature => &mut evidence.damaged_signatures,
                Kind::Bundles => &mut evidence.damaged_bundles,
                Kind::Document(_) | Kind::List => &mut evidence.refused,
            };
            refused.extend(outcome.err().map(|reason| reason.evidence(&file.name)));
        }
        for (over, signatures) in over_companions {
            evidence.sign_companion(over, signatures, files);
        }
        evidence
    }

    /// Takes in what is attached to an image in a registry: bundles, and what speaks against any of it.
    pub fn attach(&mut self, offers: Vec<Offered>, refused: Vec<Reason>) {
        self.files += offers.len();
        self.offers.extend(offers);
        self.refused.extend(refused);
    }

    /// Takes in a document that is attached to an image in a registry, with the manifest that its signatures are over.
    pub fn attach_document(&mut self, file: Artifact, parsed: Document, holder: Artifact, offers: Vec<Offered>) {
        let hashes = ArtifactHasher::new([]).finish();
        let signatures = Vec::new();
        self.documents.push(Companion { artifact: file, signed: holder, parsed, signatures, hashes });
        self.attach(offers, Vec::new());
    }

    /// Whether there is nothing at all.
    pub const fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// How an image of this name must be hashed; SHA-256 is always among them.
    pub fn algorithms(&self, name: &str) -> Vec<DigestAlgorithm> {
        let offered = self.offers.iter().flat_map(Offered::digest_algorithms);
        let listed = self.lists.iter().flat_map(|list| list.parsed.algorithms(name));
        let described = self.documents.iter().flat_map(|document| &document.parsed.digests);
        let described = described.map(crate::types::Digest::algorithm);
        let all: BTreeSet<_> = offered.chain(listed).chain(described).chain([DigestAlgorithm::Sha256]).collect();
        all.into_iter().collect()
    }

    /// What else must see the image's bytes go by, where OpenPGP signatures are over the image itself.
    pub fn openpgp_hasher(&self) -> Option<ArtifactHasher> {
        let over_image = !self.signatures.is_empty();
        over_image.then(|| ArtifactHasher::new(self.signatures.iter().map(|file| &file.signatures)))
    }

    /// Whether any bundle signs the image itself and not a statement about it.
    pub fn signs_image(&self) -> bool {
        self.offers.iter().any(Offered::is_message)
    }

    fn sign_companion(&mut self, over: &str, signatures: NamedSignatures, files: &[EvidenceFile]) {
        let bytes = files.iter().find(|file| file.name == over).map(|file| file.bytes.as_slice()).unwrap_or_default();
        let list = self.lists.iter_mut().find(|list| list.artifact.name == over);
        let held = match list {
            Some(list) => Some((&mut list.signatures, &mut list.hashes)),
            None => {
                let document = self.documents.iter_mut().find(|document| document.artifact.name == over);
                document.map(|document| (&mut document.signatures, &mut document.hashes))
            }
        };
        // A signature over other evidence, or over a list that was refused, is over nothing that is judged.
        let Some((held, hashes)) = held else { return };
        held.push(signatures);
        let mut hasher = ArtifactHasher::new(held.iter().map(|file| &file.signatures));
        hasher.update(bytes);
        *hashes = hasher.finish();
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Signature,
    Bundles,
    Document(document::Kind),
    List,
}

fn kind(file: &EvidenceFile) -> Kind {
    let ends_with = |suffixes: &[&str]| suffixes.iter().any(|suffix| file.name.ends_with(suffix));
    if ends_with(&SIGNATURE_SUFFIXES) {
        Kind::Signature
    } else if ends_with(&VEX_SUFFIXES) {
        Kind::Document(document::Kind::Vex)
    } else if ends_with(&SBOM_SUFFIXES) {
        Kind::Document(document::Kind::Sbom)
    } else if matches!(file.bytes.trim_ascii_start().first(), Some(b'{' | b'[')) || ends_with(&BUNDLE_SUFFIXES) {
        Kind::Bundles
    } else {
        Kind::List
    }
}

fn stem(name: &str) -> Option<&str> {
    SIGNATURE_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))
}

fn signature(file: &EvidenceFile) -> Result<NamedSignatures, Reason> {
    Ok(NamedSignatures { name: file.name.clone(), signatures: DetachedSignatures::parse(&file.bytes)? })
}

fn offers(file: &EvidenceFile) -> Result<Vec<Offered>, Reason> {
    within(file, limits::EVIDENCE_BYTES)?;
    let bundles = bundle::parse_file(&file.bytes)?;
    let alone = bundles.len() == 1;
    let name = |line| if alone { file.name.clone() } else { format!("{}:{line}", file.name) };
    Ok(bundles.into_iter().map(|(line, bundle)| Offered::new(name(line), bundle)).collect())
}

fn companion<T>(file: &EvidenceFile, parsed: T) -> Companion<T> {
    let artifact = Artifact::from_bytes(&file.name, &file.bytes);
    let signed = artifact.clone();
    Companion { artifact, signed, parsed, signatures: Vec::new(), hashes: ArtifactHasher::new([]).finish() }
}

fn within(file: &EvidenceFile, limit: u64) -> Result<(), Reason> {
    if file.bytes.len() as u64 > limit {
        return Err(Reason::new(Code::InputTooLarge, format!("a file of evidence has at most {limit} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> EvidenceFile {
        EvidenceFile { name: name.to_owned(), bytes: bytes.to_vec() }
    }

    fn codes(files: &[EvidenceFile]) -> Vec<Option<Code>> {
        let Evidence { refused, damaged_signatures, damaged_bundles, .. } = Evidence::parse(files);
        let all = [refused, damaged_signatures, damaged_bundles].concat();
        all.iter().map(|reason| reason.code.known()).collect()
    }

    #[test]
    fn what_is_damaged_is_a_reason_and_never_passed_over() {
        for (name, bytes, code) in [
            ("disk.img.sigstore.json", b"{".as_slice(), Code::MalformedJson),
            ("disk.img.sigstore.json", b"", Code::MalformedJson),
            ("disk.img.asc", b"hello", Code::OpenpgpMalformed),
            ("SHA256SUMS", b"hello", Code::ChecksumListMalformed),
            ("disk.img.cdx.json", b"{", Code::MalformedJson),
        ] {
            let found = codes(&[file(name, bytes)]);
            assert_eq!(found, [Some(code)], "{name}");
        }
        let many: Vec<_> = (0..=limits::ADMISSION_EVIDENCE_FILES).map(|n| file(&format!("{n}"), b"")).collect();
        assert_eq!(codes(&many), [Some(Code::InputTooLarge)]);
    }

    #[test]
    fn the_image_is_hashed_as_a_list_that_names_it_wants() {
        let list = format!("{}  disk.img\n", "0".repeat(128));
        let evidence = Evidence::parse(&[file("SHA512SUMS", list.as_bytes())]);
        assert_eq!(evidence.algorithms("disk.img"), [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512]);
        assert_eq!(evidence.algorithms("other.img"), [DigestAlgorithm::Sha256]);
    }
}
