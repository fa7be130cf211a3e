//! A CycloneDX document of 1.2 to 1.7 as JSON in, the neutral model and what its references have against them out.
//!
//! The schema is checked elsewhere. This reader takes whatever has the right form and leaves the rest, so that a
//! document with one fault can still be reported on as a whole.

use std::collections::HashMap;

use serde_json::Value;

use super::findings::Findings;
use super::json::{list, members, text};
use super::model::{
    Acknowledgement, Component, ComponentKind, CustomLicense, EnvelopedSignature, ExternalReference, Family, Format,
    Hash, HashAlgorithm, Identifier, License, LicenseTerm, Metadata, Party, PartyKind, Property, Sbom, Scope, Tool,
};
use crate::types::Code;

/// Reads a document that says of itself that it is CycloneDX.
pub(super) fn read(document: &Value, findings: &mut Findings) -> Sbom {
    let mut reader = Reader { sbom: Sbom::default() };
    reader.sbom.format = Some(Format {
        family: Family::CycloneDx,
        version: text(document, "specVersion").unwrap_or_default().to_owned(),
    });
    reader.sbom.serial = text(document, "serialNumber").map(str::to_owned);
    reader.sbom.revision = document.get("version").and_then(Value::as_u64);
    reader.sbom.signature = document.get("signature").map(signature);
    if let Some(metadata) = document.get("metadata") {
        reader.sbom.metadata = self::metadata(metadata);
        if let Some(component) = metadata.get("component") {
            let described = reader.component(component, "/metadata/component");
            reader.sbom.name = Some(described.name.clone());
            reader.sbom.described.push(described);
        }
    }
    reader.components(document, "", None);
    for entry in list(document, "dependencies") {
        let Some(of) = text(entry, "ref") else { continue };
        reader.sbom.dependencies.entry(of.to_owned()).or_default();
        for on in list(entry, "dependsOn").filter_map(Value::as_str) {
            reader.sbom.add_dependency(of, on);
        }
    }
    references(document, findings);
    reader.sbom
}

struct Reader {
    sbom: Sbom,
}

impl Reader {
    /// Adds the components below `parent`, and those below them. Depth is bounded by the JSON reader.
    fn components(&mut self, parent: &Value, place: &str, outer: Option<&str>) {
        for (index, value) in list(parent, "components").enumerate() {
            let component = self.component(value, &format!("{place}/components/{index}"));
            if let Some(outer) = outer {
                self.sbom.add_part(outer, &component.id);
            }
            self.sbom.components.push(component);
        }
    }

    /// One component; what is nested in it goes to the flat list.
    fn component(&mut self, value: &Value, place: &str) -> Component {
        // No reference can begin with `#/` and mean a component: references name `bom-ref`s, and this one has none.
        let id = text(value, "bom-ref").map_or_else(|| format!("#{place}"), str::to_owned);
        self.components(value, place, Some(&id));
        let kind = text(value, "type").and_then(ComponentKind::from_name).unwrap_or_default();
        let mut component = Component::new(kind, id, text(value, "name").unwrap_or_default());
        component.group = owned(value, "group");
        component.version = owned(value, "version");
        component.purl = owned(value, "purl");
        component.description = owned(value, "description");
        component.copyright = owned(value, "copyright");
        component.scope = match text(value, "scope") {
            Some("required") => Some(Scope::Required),
            Some("optional") => Some(Scope::Optional),
            Some("excluded") => Some(Scope::Excluded),
            _ => None,
        };
        component.identifiers = identifiers(value);
        component.hashes = hashes(value);
        component.licenses = self.licenses(value);
        component.supplier = value.get("supplier").map(organization).filter(Party::is_told);
        component.authors = authors(value);
        component.references = list(value, "externalReferences")
            .filter_map(|reference| {
                Some(ExternalReference { kind: owned(reference, "type")?, url: owned(reference, "url")? })
            })
            .collect();
        component.properties = list(value, "properties")
            .filter_map(|property| {
                Some(Property {
                    name: owned(property, "name")?,
                    value: text(property, "value").unwrap_or_default().to_owned(),
                })
            })
            .collect();
        component
    }

    fn licenses(&mut self, value: &Value) -> Vec<License> {
        list(value, "licenses")
            .filter_map(|choice| {
                if let Some(expression) = owned(choice, "expression") {
                    let acknowledgement = acknowledgement(choice);
                    return Some(License { acknowledgement, term: LicenseTerm::Expression(expression) });
                }
                let license = choice.get("license")?;
                let acknowledgement = acknowledgement(license);
                if let Some(id) = owned(license, "id") {
                    return Some(License { acknowledgement, term: LicenseTerm::Expression(id) });
                }
                let name = owned(license, "name")?;
                let content = license.get("text").and_then(|text| self::text(text, "content"));
                if let Some(content) = content {
                    let custom = CustomLicense { name: Some(name.clone()), text: Some(content.to_owned()) };
                    self.sbom.custom_licenses.insert(name.clone(), custom);
                }
                Some(License { acknowledgement, term: LicenseTerm::Name(name) })
            })
            .collect()
    }
}

fn owned(value: &Value, member: &str) -> Option<String> {
    text(value, member).map(str::to_owned)
}

fn acknowledgement(value: &Value) -> Acknowledgement {
    match text(value, "acknowledgement") {
        Some("declared") => Acknowledgement::Declared,
        Some("concluded") => Acknowledgement::Concluded,
        _ => Acknowledgement::Unstated,
    }
}

fn metadata(value: &Value) -> Metadata {
    let tools = match value.get("tools") {
        // Up to 1.4 a list of tools; since 1.5 also components and services.
        Some(Value::Array(tools)) => tools.iter().filter_map(|tool| self::tool(tool, "vendor")).collect(),
        Some(tools @ Value::Object(_)) => list(tools, "components")
            .filter_map(|tool| self::tool(tool, "publisher").or_else(|| self::tool(tool, "group")))
            .chain(list(tools, "services").filter_map(|tool| self::tool(tool, "provider")))
            .collect(),
        _ => Vec::new(),
    };
    let manufacturer = ["manufacturer", "manufacture"].iter().filter_map(|member| value.get(member)).map(organization);
    Metadata {
        timestamp: text(value, "timestamp").and_then(|text| text.parse().ok()),
        authors: list(value, "authors").map(person).chain(manufacturer).filter(Party::is_told).collect(),
        tools,
        supplier: value.get("supplier").map(organization).filter(Party::is_told),
        data_license: list(value, "licenses")
            .find_map(|choice| owned(choice, "expression").or_else(|| owned(choice.get("license")?, "id"))),
        lifecycles: list(value, "lifecycles")
            .filter_map(|phase| owned(phase, "phase").or_else(|| owned(phase, "name")))
            .collect(),
    }
}

fn tool(value: &Value, vendor: &str) -> Option<Tool> {
    let vendor = match value.get(vendor) {
        Some(organization @ Value::Object(_)) => owned(organization, "name"),
        _ => owned(value, vendor),
    };
    Some(Tool { vendor, name: owned(value, "name")?, version: owned(value, "version") })
}

fn person(value: &Value) -> Party {
    Party { kind: PartyKind::Person, name: owned(value, "name"), email: owned(value, "email"), url: None }
}

fn organization(value: &Value) -> Party {
    let contact = list(value, "contact").find_map(|contact| owned(contact, "email"));
    Party {
        kind: PartyKind::Organization,
        name: owned(value, "name"),
        email: contact.or_else(|| owned(value, "email")),
        url: list(value, "url").find_map(|url| url.as_str().map(str::to_owned)),
    }
}

fn authors(value: &Value) -> Vec<Party> {
    let named = |member: &str, kind: PartyKind| {
        owned(value, member).map(|name| Party { kind, name: Some(name), ..Party::default() })
    };
    value
        .get("manufacturer")
        .map(organization)
        .into_iter()
        .chain(list(value, "authors").map(person))
        .chain(named("author", PartyKind::Person))
        .chain(named("publisher", PartyKind::Organization))
        .filter(Party::is_told)
        .collect()
}

fn identifiers(value: &Value) -> Vec<Identifier> {
    let mut found = Vec::new();
    let mut add = |kind: &str, value: Option<&str>| {
        found.extend(value.map(|value| Identifier { kind: kind.to_owned(), value: value.to_owned() }));
    };
    add("cpe", text(value, "cpe"));
    add("swid", value.get("swid").and_then(|swid| text(swid, "tagId")));
    for (member, kind) in [("omniborId", "gitoid"), ("swhid", "swhid")] {
        for name in list(value, member) {
            add(kind, name.as_str());
        }
    }
    found
}

fn hashes(value: &Value) -> Vec<Hash> {
    list(value, "hashes")
        .filter_map(|hash| Some(Hash::new(HashAlgorithm::from_name(text(hash, "alg")?), text(hash, "content")?)))
        .collect()
}

/// Looks at the form of a JSF signature: one signer, several, or a chain of them.
fn signature(value: &Value) -> EnvelopedSignature {
    let many: Vec<&Value> = list(value, "signers").chain(list(value, "chain")).collect();
    let signers = if many.is_empty() { vec![value] } else { many };
    let has = |signer: &&&Value, wanted: &[&str]| wanted.iter().all(|member| signer.get(member).is_some());
    EnvelopedSignature {
        signatures: signers.len(),
        with_value: signers.iter().filter(|signer| has(signer, &["algorithm", "value"])).count(),
        with_key: signers
            .iter()
            .filter(|signer| has(signer, &["publicKey"]) || has(signer, &["certificatePath"]))
            .count(),
    }
}

/// Every `bom-ref` must be the only one of its name, and whatever refers must refer to one of them.
fn references(document: &Value, findings: &mut Findings) {
    let mut known: HashMap<&str, String> = HashMap::new();
    collect(document, &mut String::new(), &mut known, findings);
    let mut refer = |target: &Value, place: String| {
        let Some(target) = target.as_str() else { return };
        // A BOM-Link names something in another document (CycloneDX, linking).
        if !known.contains_key(target) && !target.starts_with("urn:cdx:") {
            findings.error(Code::SbomReference, format!("`{target}` is the `bom-ref` of nothing"), place);
        }
    };
    for (index, entry) in list(document, "dependencies").enumerate() {
        let place = format!("/dependencies/{index}");
        for (member, target) in members(entry, &["ref"]) {
            refer(target, format!("{place}/{member}"));
        }
        for member in ["dependsOn", "provides"] {
            for (number, target) in list(entry, member).enumerate() {
                refer(target, format!("{place}/{member}/{number}"));
            }
        }
    }
    for (index, entry) in list(document, "compositions").enumerate() {
        for member in ["assemblies", "dependencies", "vulnerabilities"] {
            for (number, target) in list(entry, member).enumerate() {
                refer(target, format!("/compositions/{index}/{member}/{number}"));
            }
        }
    }
    for (index, entry) in list(document, "vulnerabilities").enumerate() {
        for (number, affected) in list(entry, "affects").enumerate() {
            if let Some(target) = affected.get("ref") {
                refer(target, format!("/vulnerabilities/{index}/affects/{number}/ref"));
            }
        }
    }
    for (index, entry) in list(document, "annotations").enumerate() {
        for (number, target) in list(entry, "subjects").enumerate() {
            refer(target, format!("/annotations/{index}/subjects/{number}"));
        }
    }
}

/// Walks the whole document for `bom-ref`s. The JSON reader has bounded its depth.
fn collect<'a>(value: &'a Value, place: &mut String, known: &mut HashMap<&'a str, String>, findings: &mut Findings) {
    let length = place.len();
    match value {
        Value::Object(object) => {
            if let Some(name) = object.get("bom-ref").and_then(Value::as_str)
                && let Some(first) = known.insert(name, place.clone())
            {
                let message = format!("two elements have the `bom-ref` `{name}`; the other is at {first}");
                // How something was made refers by name to what it was made from, and the specification's own examples
                // of formulations repeat their names. Nothing outside them can be meant by such a name.
                if place.starts_with("/formulation") || first.starts_with("/formulation") {
                    findings.warning(Code::SbomDuplicate, message, place.clone());
                } else {
                    findings.error(Code::SbomDuplicate, message, place.clone());
                }
            }
            for (member, below) in object {
                place.push('/');
                place.push_str(member);
                collect(below, place, known, findings);
                place.truncate(length);
            }
        }
        Value::Array(array) => {
            for (index, below) in array.iter().enumerate() {
                place.push('/');
                place.push_str(&index.to_string());
                collect(below, place, known, findings);
                place.truncate(length);
            }
        }
        _ => {}
    }
}
