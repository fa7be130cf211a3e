//! An SPDX 2.x document as JSON in, the neutral model and what its references have against them out.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::findings::Findings;
use super::super::json::{list, text};
use super::super::model::{
    Acknowledgement, Component, ComponentKind, CustomLicense, ExternalReference, Family, Format, Hash, HashAlgorithm,
    Identifier, License, Metadata, Property, Sbom, Scope, Tool,
};
use super::super::purl::Purl;
use super::{is_told, license, party};
use crate::types::Code;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";

/// Reads a document that says of itself that it is SPDX 2.
pub(in super::super) fn read(document: &Value, findings: &mut Findings) -> Sbom {
    let version = text(document, "spdxVersion").unwrap_or_default();
    let mut sbom = Sbom {
        format: Some(Format {
            family: Family::Spdx,
            version: version.strip_prefix("SPDX-").unwrap_or(version).to_owned(),
        }),
        serial: text(document, "documentNamespace").map(str::to_owned),
        name: text(document, "name").map(str::to_owned),
        metadata: metadata(document),
        ..Sbom::default()
    };
    for license in list(document, "hasExtractedLicensingInfos") {
        let Some(id) = text(license, "licenseId") else { continue };
        let custom = CustomLicense {
            name: text(license, "name").filter(|name| is_told(name)).map(str::to_owned),
            text: text(license, "extractedText").map(str::to_owned),
        };
        sbom.custom_licenses.insert(id.to_owned(), custom);
    }
    let mut components: Vec<Component> =
        list(document, "packages").enumerate().map(|(index, value)| package(value, index, findings)).collect();
    components.extend(list(document, "files").enumerate().map(|(index, value)| file(value, index)));

    let document_id = text(document, "SPDXID").unwrap_or(DOCUMENT);
    let graph = graph(document, document_id, findings);
    for (of, on) in graph.dependencies {
        let entry = sbom.dependencies.entry(of.to_owned()).or_default();
        entry.extend(on.map(str::to_owned));
    }
    for (outer, inner) in graph.contains {
        sbom.add_part(outer, inner);
    }
    for component in components {
        let scope = graph.scopes.get(component.id.as_str()).copied();
        let component = Component { scope, ..component };
        if graph.described.contains(component.id.as_str()) {
            sbom.described.push(component);
        } else {
            sbom.components.push(component);
        }
    }
    sbom
}

fn owned(value: &Value, member: &str) -> Option<String> {
    text(value, member).filter(|text| is_told(text)).map(str::to_owned)
}

fn metadata(document: &Value) -> Metadata {
    let mut metadata = Metadata { data_license: owned(document, "dataLicense"), ..Metadata::default() };
    let Some(creation) = document.get("creationInfo") else { return metadata };
    metadata.timestamp = text(creation, "created").and_then(|text| text.parse().ok());
    for creator in list(creation, "creators").filter_map(Value::as_str) {
        match creator.split_once(':') {
            Some(("Tool", name)) => {
                metadata.tools.push(Tool { vendor: None, name: name.trim().to_owned(), version: None });
            }
            _ => metadata.authors.extend(party(creator)),
        }
    }
    metadata
}

fn package(value: &Value, index: usize, findings: &mut Findings) -> Component {
    let id = text(value, "SPDXID").map_or_else(|| format!("#/packages/{index}"), str::to_owned);
    let kind = match text(value, "primaryPackagePurpose").map(|purpose| purpose.replace('_', "-")) {
        Some(purpose) => ComponentKind::from_name(&purpose.to_ascii_lowercase()).unwrap_or_default(),
        None => ComponentKind::default(),
    };
    // A package is never counted as one of its files.
    let kind = if kind == ComponentKind::File { ComponentKind::Data } else { kind };
    let mut component = Component::new(kind, id, text(value, "name").unwrap_or_default());
    component.version = owned(value, "versionInfo");
    component.hashes = hashes(value);
    component.licenses = licenses(value);
    component.supplier = text(value, "supplier").and_then(party);
    component.authors.extend(text(value, "originator").and_then(party));
    component.copyright = owned(value, "copyrightText");
    component.description = owned(value, "description").or_else(|| owned(value, "summary"));
    let mut refer = |kind: &str, url: Option<String>| {
        component.references.extend(url.map(|url| ExternalReference { kind: kind.to_owned(), url }));
    };
    match owned(value, "downloadLocation") {
        Some(url) if url.starts_with("git") => refer("vcs", Some(url)),
        url => refer("distribution", url),
    }
    refer("website", owned(value, "homepage"));
    if let Some(name) = owned(value, "packageFileName") {
        component.properties.push(Property { name: "bsi:component:filename".to_owned(), value: name });
    }
    for reference in list(value, "externalRefs") {
        let (Some(kind), Some(locator)) = (text(reference, "referenceType"), text(reference, "referenceLocator"))
        else {
            continue;
        };
        match kind {
            "purl" if component.purl.is_none() => component.purl = Some(locator.to_owned()),
            "purl" => {
                // One package that names itself as two would be found under either name, whichever is looked for.
                let first = component.purl.as_deref().and_then(Purl::parse);
                if Purl::parse(locator) != first {
                    let message = format!("{} has a second package URL: {locator}", component.label());
                    findings.warning(Code::SbomDuplicate, message, format!("/packages/{index}/externalRefs"));
                }
                component.identifiers.push(Identifier { kind: "purl".to_owned(), value: locator.to_owned() });
            }
            "cpe22Type" | "cpe23Type" => {
                component.identifiers.push(Identifier { kind: "cpe".to_owned(), value: locator.to_owned() });
            }
            kind => {
                component.identifiers.push(Identifier { kind: kind.to_owned(), value: locator.to_owned() });
            }
        }
    }
    component
}

fn file(value: &Value, index: usize) -> Component {
    let id = text(value, "SPDXID").map_or_else(|| format!("#/files/{index}"), str::to_owned);
    let mut component = Component::new(ComponentKind::File, id, text(value, "fileName").unwrap_or_default());
    component.hashes = hashes(value);
    component.licenses = licenses(value);
    component.copyright = owned(value, "copyrightText");
    component
}

fn hashes(value: &Value) -> Vec<Hash> {
    list(value, "checksums")
        .filter_map(|hash| {
            Some(Hash::new(HashAlgorithm::from_name(text(hash, "algorithm")?), text(hash, "checksumValue")?))
        })
        .collect()
}

fn licenses(value: &Value) -> Vec<License> {
    [("licenseDeclared", Acknowledgement::Declared), ("licenseConcluded", Acknowledgement::Concluded)]
        .into_iter()
        .filter_map(|(member, whose)| license(whose, text(value, member)?))
        .collect()
}

/// What the relationships of a document say.
#[derive(Default)]
struct Graph<'a> {
    described: HashSet<&'a str>,
    /// Who depends on whom, or on nothing.
    dependencies: Vec<(&'a str, Option<&'a str>)>,
    contains: Vec<(&'a str, &'a str)>,
    scopes: HashMap<&'a str, Scope>,
}

fn graph<'a>(document: &'a Value, document_id: &'a str, findings: &mut Findings) -> Graph<'a> {
    let known = ids(document, document_id, findings);
    let external: HashSet<&str> =
        list(document, "externalDocumentRefs").filter_map(|reference| text(reference, "externalDocumentId")).collect();
    // A relationship that neither describes nor depends adds nothing to what is relied on, and published documents
    // have such ones that lead nowhere: there it is an error only where `--strict` asks.
    let mut refer = |target: &str, place: String, relied_on: bool| {
        let elsewhere = target.split_once(':').is_some_and(|(document, _)| external.contains(document));
        if known.contains(target) || elsewhere || !is_told(target) {
            return;
        }
        let message = format!("`{target}` is the id of nothing");
        if relied_on {
            findings.error(Code::SbomReference, message, place);
        } else {
            findings.warning(Code::SbomReference, message, place);
        }
    };
    let mut graph = Graph::default();
    for (index, target) in list(document, "documentDescribes").enumerate() {
        let Some(target) = target.as_str() else { continue };
        refer(target, format!("/documentDescribes/{index}"), true);
        graph.described.insert(target);
    }
    for (index, package) in list(document, "packages").enumerate() {
        for (number, target) in list(package, "hasFiles").enumerate() {
            let Some(target) = target.as_str() else { continue };
            refer(target, format!("/packages/{index}/hasFiles/{number}"), false);
            if let Some(id) = text(package, "SPDXID") {
                graph.contains.push((id, target));
            }
        }
    }
    for (index, relationship) in list(document, "relationships").enumerate() {
        let (Some(from), Some(kind), Some(to)) = (
            text(relationship, "spdxElementId"),
            text(relationship, "relationshipType"),
            text(relationship, "relatedSpdxElement"),
        ) else {
            continue;
        };
        let relied_on = matches!(kind, "DESCRIBES" | "DESCRIBED_BY" | "DEPENDS_ON" | "DYNAMIC_LINK" | "STATIC_LINK")
            || kind.ends_with("DEPENDENCY_OF");
        refer(from, format!("/relationships/{index}/spdxElementId"), relied_on);
        refer(to, format!("/relationships/{index}/relatedSpdxElement"), relied_on);
        graph.add(from, kind, to, document_id);
    }
    graph
}

impl<'a> Graph<'a> {
    fn add(&mut self, from: &'a str, kind: &str, to: &'a str, document_id: &str) {
        match kind {
            "DESCRIBES" if from == document_id => _ = self.described.insert(to),
            "DESCRIBED_BY" if to == document_id => _ = self.described.insert(from),
            "DEPENDS_ON" | "DYNAMIC_LINK" | "STATIC_LINK" => match to {
                "NONE" => self.dependencies.push((from, None)),
                "NOASSERTION" => {}
                to => self.dependencies.push((from, Some(to))),
            },
            "DEPENDENCY_OF"
            | "RUNTIME_DEPENDENCY_OF"
            | "PROVIDED_DEPENDENCY_OF"
            | "BUILD_DEPENDENCY_OF"
            | "OPTIONAL_DEPENDENCY_OF"
            | "DEV_DEPENDENCY_OF"
            | "TEST_DEPENDENCY_OF" => {
                self.dependencies.push((to, Some(from)));
                let scope = match kind {
                    "BUILD_DEPENDENCY_OF" | "DEV_DEPENDENCY_OF" | "TEST_DEPENDENCY_OF" => Some(Scope::Excluded),
                    "OPTIONAL_DEPENDENCY_OF" => Some(Scope::Optional),
                    _ => None,
                };
                if let Some(scope) = scope {
                    self.scopes.insert(from, scope);
                }
            }
            "CONTAINS" if is_told(to) && from != document_id => self.contains.push((from, to)),
            "CONTAINED_BY" if is_told(to) && to != document_id => self.contains.push((to, from)),
            _ => {}
        }
    }
}

/// The ids of the document and all its elements; each may stand once.
fn ids<'a>(document: &'a Value, document_id: &'a str, findings: &mut Findings) -> HashSet<&'a str> {
    let mut known = HashSet::from([document_id]);
    for member in ["packages", "files", "snippets"] {
        for (index, element) in list(document, member).enumerate() {
            let Some(id) = text(element, "SPDXID") else { continue };
            if !known.insert(id) {
                findings.error(
                    Code::SbomDuplicate,
                    format!("two elements have the id `{id}`"),
                    format!("/{member}/{index}"),
                );
            }
        }
    }
    known
}
