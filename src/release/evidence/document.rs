//! SBOM and VEX documents that ship with a release: the bytes of one in, its kind and what it says it is about out.
//!
//! This is as much as a gate needs to know whether a document speaks of an artifact. Whether an SBOM is complete and
//! sound in itself is another question.
//! Invariant: no I/O. A weak digest binds nothing, and a digest on a dependency says nothing about the whole.

use serde_json::Value;

use super::{image, json};
use crate::types::{Code, Digest, DigestAlgorithm, Reason};

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A software bill of materials.
    Sbom,
    /// A statement about vulnerabilities.
    Vex,
}

/// A document, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is for.
    pub kind: Kind,
    /// Its format and version, as `CycloneDX 1.6`.
    pub format: String,
    /// Strong digests of what it describes.
    pub digests: Vec<Digest>,
    /// Whether it gives any digest of what it describes, weak ones among them.
    pub declares_digest: bool,
}

impl Document {
    /// Reads a document of this kind: CycloneDX or SPDX as an SBOM; OpenVEX, CycloneDX or CSAF as VEX.
    ///
    /// # Errors
    /// The reasons of strict JSON, and `document-malformed` for anything that is none of these.
    pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, Reason> {
        let value = json::parse_value(bytes)?;
        let (format, described) = match kind {
            Kind::Sbom => cyclonedx(&value).or_else(|| spdx(&value)),
            Kind::Vex => openvex(&value).or_else(|| cyclonedx_vex(&value)).or_else(|| csaf(&value)),
        }
        .ok_or_else(|| {
            let known = match kind {
                Kind::Sbom => "neither CycloneDX nor SPDX in JSON",
                Kind::Vex => "neither OpenVEX nor CycloneDX nor CSAF in JSON",
            };
            Reason::new(Code::DocumentMalformed, format!("the document is {known}"))
        })?;
        let digests = described.iter().filter_map(|hash| strong(hash)).collect();
        Ok(Self { kind, format, digests, declares_digest: !described.is_empty() })
    }

    /// A document that is attached to an image.
    ///
    /// # Errors
    /// As [`Document::parse`], with its place.
    pub fn attached(attached: &image::Attached) -> Result<Self, Reason> {
        let kind = if attached.kind == image::Kind::Vex { Kind::Vex } else { Kind::Sbom };
        Self::parse(kind, &attached.bytes).map_err(|reason| reason.evidence(&attached.name))
    }
}

/// A digest as a document writes it: the algorithm's name there, and hexadecimal text.
struct Hash<'a> {
    algorithm: &'a str,
    hex: &'a str,
}

/// The digest, if its algorithm binds; `SHA-256`, `SHA256` and `sha-256` are one.
fn strong(hash: &Hash<'_>) -> Option<Digest> {
    let name = hash.algorithm.to_ascii_lowercase().replace('-', "");
    Digest::from_hex(DigestAlgorithm::from_name(&name)?, hash.hex).ok()
}

type Described<'a> = Option<(String, Vec<Hash<'a>>)>;

/// CycloneDX 1.2 and later: `metadata.component` is what the document is about.
fn cyclonedx(value: &Value) -> Described<'_> {
    if text(value, "bomFormat")? != "CycloneDX" {
        return None;
    }
    let version = text(value, "specVersion")?;
    let hashes = elements(value.pointer("/metadata/component/hashes"));
    let hashes =
        hashes.filter_map(|hash| Some(Hash { algorithm: text(hash, "alg")?, hex: text(hash, "content")? })).collect();
    Some((format!("CycloneDX {version}"), hashes))
}

fn cyclonedx_vex(value: &Value) -> Described<'_> {
    value.get("vulnerabilities").and_then(Value::as_array)?;
    cyclonedx(value)
}

/// SPDX 2: the packages and files that the document `DESCRIBES`. SPDX 3 keeps these in a graph; nothing is read of it.
fn spdx(value: &Value) -> Described<'_> {
    if value.get("@graph").is_some_and(Value::is_array) && context(value).contains("spdx.org/rdf/3") {
        return Some(("SPDX 3".to_owned(), Vec::new()));
    }
    let version = text(value, "spdxVersion")?.strip_prefix("SPDX-")?;
    let related = elements(value.get("relationships"))
        .filter(|relation| {
            text(relation, "spdxElementId") == Some("SPDXRef-DOCUMENT")
                && text(relation, "relationshipType") == Some("DESCRIBES")
        })
        .filter_map(|relation| text(relation, "relatedSpdxElement"));
    let described: Vec<&str> =
        elements(value.get("documentDescribes")).filter_map(Value::as_str).chain(related).collect();
    let hashes = elements(value.get("packages"))
        .chain(elements(value.get("files")))
        .filter(|element| text(element, "SPDXID").is_some_and(|id| described.contains(&id)))
        .flat_map(|element| elements(element.get("checksums")))
        .filter_map(|hash| Some(Hash { algorithm: text(hash, "algorithm")?, hex: text(hash, "checksumValue")? }))
        .collect();
    Some((format!("SPDX {version}"), hashes))
}

/// OpenVEX: the products of its statements.
fn openvex(value: &Value) -> Described<'_> {
    let context = context(value);
    let version = context.strip_prefix("https://openvex.dev/ns")?;
    let statements = value.get("statements").and_then(Value::as_array)?;
    let hashes = statements
        .iter()
        .flat_map(|statement| elements(statement.get("products")))
        .filter_map(|product| product.get("hashes").and_then(Value::as_object))
        .flatten()
        .filter_map(|(algorithm, hex)| Some(Hash { algorithm, hex: hex.as_str()? }))
        .collect();
    Some((format!("OpenVEX {}", version.trim_start_matches('/')).trim_end().to_owned(), hashes))
}

/// CSAF's VEX profile names its products by identifiers alone.
fn csaf(value: &Value) -> Described<'_> {
    let version = value.pointer("/document/csaf_version").and_then(Value::as_str)?;
    let category = value.pointer("/document/category").and_then(Value::as_str)?;
    (category == "csaf_vex").then(|| (format!("CSAF {version}"), Vec::new()))
}

/// The first context of a JSON-LD document.
fn context(value: &Value) -> &str {
    match value.get("@context") {
        Some(Value::Array(contexts)) => contexts.first().and_then(Value::as_str),
        Some(context) => context.as_str(),
        None => None,
    }
    .unwrap_or_default()
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

fn elements(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Document, Kind};
    use crate::types::{Code, Digest};

    fn parse(kind: Kind, value: &serde_json::Value) -> Result<Document, Code> {
        Document::parse(kind, value.to_string().as_bytes()).map_err(|reason| reason.code.known().unwrap())
    }

    #[test]
    fn a_document_says_what_it_is_about_by_its_own_component_and_no_dependency() {
        let main = Digest::sha256(b"main");
        let other = Digest::sha256(b"other");
        let cyclonedx = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6",
            "metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": main.to_hex()}]}},
            "components": [{"hashes": [{"alg": "SHA-256", "content": other.to_hex()}]}],
        });
        let spdx = json!({
            "spdxVersion": "SPDX-2.3",
            "relationships": [{
                "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-a",
            }],
            "packages": [
                {"SPDXID": "SPDXRef-a", "checksums": [{"algorithm": "SHA256", "checksumValue": main.to_hex()}]},
                {"SPDXID": "SPDXRef-b", "checksums": [{"algorithm": "SHA256", "checksumValue": other.to_hex()}]},
            ],
        });
        for (document, format) in [(cyclonedx, "CycloneDX 1.6"), (spdx, "SPDX 2.3")] {
            let document = parse(Kind::Sbom, &document).unwrap();
            assert_eq!(document.format, format);
            assert_eq!(document.digests, vec![main.clone()]);
        }
    }

    #[test]
    fn a_weak_digest_is_seen_and_binds_nothing() {
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6",
            "metadata": {"component": {"hashes": [{"alg": "SHA-1", "content": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}]}},
        });
        let document = parse(Kind::Sbom, &document).unwrap();
        assert!(document.digests.is_empty());
        assert!(document.declares_digest);
    }

    #[test]
    fn openvex_products_are_what_it_is_about() {
        let main = Digest::sha256(b"main");
        let document = json!({
            "@context": "https://openvex.dev/ns/v0.2.0",
            "statements": [{"products": [{"@id": "pkg:generic/a", "hashes": {"sha-256": main.to_hex()}}]}],
        });
        let document = parse(Kind::Vex, &document).unwrap();
        assert_eq!(document.format, "OpenVEX v0.2.0");
        assert_eq!(document.digests, vec![main]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for kind in [Kind::Sbom, Kind::Vex] {
            assert_eq!(parse(kind, &json!({})), Err(Code::DocumentMalformed));
            assert_eq!(parse(kind, &json!([1])), Err(Code::DocumentMalformed));
        }
        let bom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6"});
        assert_eq!(parse(Kind::Vex, &bom), Err(Code::DocumentMalformed), "an SBOM without vulnerabilities is no VEX");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_crash(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Document::parse(Kind::Sbom, &bytes);
            let _ = Document::parse(Kind::Vex, &bytes);
        }
    }
}
