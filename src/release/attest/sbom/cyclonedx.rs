//! The neutral model in, a CycloneDX 1.6 document in JSON out (ECMA-424).
//!
//! What the model says that the schema has no place for, as a digest by SHA-224, is left out; nothing is added.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{first_of, term_of, to_json};
use crate::release::evidence::sbom::knows_license;
use crate::release::evidence::sbom::model::{
    Acknowledgement, Component, LicenseTerm, Metadata, Party, PartyKind, Property, Sbom, Scope, Tool,
};

/// Writes the document.
pub fn write(sbom: &Sbom) -> Vec<u8> {
    let mut nesting = Nesting::new(sbom);
    let described = sbom.described.first().map(|component| self::component(component, sbom));
    // Only one component can be what the document is about; what else is described stands among the others.
    let others = sbom.described.iter().skip(1).chain(&sbom.components);
    let components = others
        .filter(|component| nesting.is_at_top(&component.id))
        .map(|component| component.id.as_str())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|id| nesting.take(id))
        .collect();
    to_json(&Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: sbom.serial.as_deref(),
        version: sbom.revision.unwrap_or(1),
        metadata: metadata(&sbom.metadata, described),
        components,
        dependencies: sbom
            .dependencies
            .iter()
            .map(|(of, on)| Dependency { of, depends_on: on.iter().collect() })
            .collect(),
    })
}

/// What is inside what, as a tree: CycloneDX nests components.
struct Nesting<'a> {
    sbom: &'a Sbom,
    by_id: HashMap<&'a str, &'a Component>,
    /// Of each component the one that it is written in: the first of those that contain it.
    outer: HashMap<&'a str, &'a str>,
    inner: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Nesting<'a> {
    fn new(sbom: &'a Sbom) -> Self {
        let described: BTreeSet<&str> = sbom.described.iter().take(1).map(|component| component.id.as_str()).collect();
        let others = sbom.described.iter().skip(1).chain(&sbom.components);
        let by_id: HashMap<&str, &Component> = others.map(|component| (component.id.as_str(), component)).collect();
        let mut nesting = Self { sbom, by_id, outer: HashMap::new(), inner: BTreeMap::new() };
        for (outer, inner) in &sbom.contains {
            // That everything is inside what the document is about need not be said.
            if described.contains(outer.as_str()) || !nesting.by_id.contains_key(outer.as_str()) {
                continue;
            }
            for inner in inner {
                let is_known = nesting.by_id.contains_key(inner.as_str());
                if is_known && !nesting.outer.contains_key(inner.as_str()) && !nesting.is_around(inner, outer) {
                    nesting.outer.insert(inner, outer);
                    nesting.inner.entry(outer).or_default().push(inner);
                }
            }
        }
        nesting
    }

    /// Whether `inner` would be written in itself if it were written in `outer`, or too deep for a reader.
    fn is_around(&self, inner: &str, outer: &str) -> bool {
        let mut at = outer;
        for _ in 0..NESTING {
            if at == inner {
                return true;
            }
            match self.outer.get(at) {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    }

    fn is_at_top(&self, id: &str) -> bool {
        !self.outer.contains_key(id)
    }

    /// Writes a component with all that is in it. Its depth was bounded when the tree was made.
    fn take(&mut self, id: &str) -> Option<ComponentJson<'a>> {
        let component = *self.by_id.get(id)?;
        let mut json = self::component(component, self.sbom);
        for inner in self.inner.remove(id).unwrap_or_default() {
            json.components.extend(self.take(inner));
        }
        Some(json)
    }
}

/// How deep components are written in each other.
const NESTING: usize = 16;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
    version: u64,
    metadata: MetadataJson<'a>,
    components: Vec<ComponentJson<'a>>,
    dependencies: Vec<Dependency<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    #[serde(rename = "ref")]
    of: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<&'a String>,
}

#[derive(Serialize)]
struct MetadataJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lifecycles: Vec<Lifecycle<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<Organization<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authors: Vec<Contact<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<ComponentJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organization<'a>>,
}

#[derive(Serialize)]
struct Lifecycle<'a> {
    phase: &'a str,
}

#[derive(Serialize)]
struct Tools<'a> {
    components: Vec<ToolJson<'a>>,
}

#[derive(Serialize)]
struct ToolJson<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct Organization<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    url: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<Contact<'a>>,
}

#[derive(Serialize)]
struct Contact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

/// The words of the schema's enumeration of life cycle phases.
const PHASES: [&str; 7] = ["design", "pre-build", "build", "post-build", "operations", "discovery", "decommission"];

fn metadata<'a>(metadata: &'a Metadata, component: Option<ComponentJson<'a>>) -> MetadataJson<'a> {
    let phases = metadata.lifecycles.iter().map(String::as_str).filter(|phase| PHASES.contains(phase));
    let tools: Vec<ToolJson<'a>> = metadata.tools.iter().map(tool).collect();
    let manufacturer = first_of(&metadata.authors, PartyKind::Organization);
    MetadataJson {
        timestamp: metadata.timestamp.map(|at| at.to_string()),
        lifecycles: phases.map(|phase| Lifecycle { phase }).collect(),
        tools: (!tools.is_empty()).then_some(Tools { components: tools }),
        manufacturer: manufacturer.map(organization),
        authors: others(&metadata.authors, manufacturer),
        component,
        supplier: metadata.supplier.as_ref().filter(|party| party.is_told()).map(organization),
    }
}

fn tool(tool: &Tool) -> ToolJson<'_> {
    ToolJson {
        r#type: "application",
        publisher: tool.vendor.as_deref(),
        name: &tool.name,
        version: tool.version.as_deref(),
    }
}

/// The schema asks that an address is one; what is none is left out.
fn is_address(text: &&str) -> bool {
    url::Url::parse(text).is_ok() && !text.chars().any(char::is_whitespace)
}

fn is_email(text: &&str) -> bool {
    // Stricter than the standard, so that every validator agrees.
    text.split_once('@').is_some_and(|(name, host)| {
        let plain = |text: &str| {
            !text.is_empty()
                && text.split('.').all(|part| {
                    !part.is_empty()
                        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'))
                        && !part.starts_with('-')
                        && !part.ends_with('-')
                })
        };
        plain(name) && plain(host) && !host.contains(['_', '+'])
    })
}

fn organization(party: &Party) -> Organization<'_> {
    let email = party.email.as_deref().filter(is_email);
    Organization {
        name: party.name.as_deref(),
        url: party.url.as_deref().filter(is_address).into_iter().collect(),
        contact: email.map(|email| Contact { name: None, email: Some(email) }).into_iter().collect(),
    }
}

/// Everybody but the one organisation that has a place of its own.
fn others<'a>(parties: &'a [Party], placed: Option<&Party>) -> Vec<Contact<'a>> {
    parties
        .iter()
        .filter(|party| party.is_told() && placed != Some(*party))
        .map(|party| Contact { name: party.name.as_deref(), email: party.email.as_deref().filter(is_email) })
        .filter(|contact| contact.name.is_some() || contact.email.is_some())
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ComponentJson<'a> {
    r#type: &'static str,
    #[serde(rename = "bom-ref")]
    bom_ref: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organization<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<Organization<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authors: Vec<Contact<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<HashJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenseChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copyright: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omnibor_id: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    swhid: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Self>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<PropertyJson<'a>>,
}

#[derive(Serialize)]
struct HashJson<'a> {
    alg: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
struct Reference<'a> {
    url: &'a str,
    r#type: &'a str,
}

#[derive(Serialize)]
struct PropertyJson<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum LicenseChoice {
    License(LicenseJson),
    #[serde(untagged)]
    Expression {
        expression: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct LicenseJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<LicenseText>,
}

#[derive(Serialize)]
struct LicenseText {
    content: String,
}

fn component<'a>(component: &'a Component, sbom: &Sbom) -> ComponentJson<'a> {
    let manufacturer = first_of(&component.authors, PartyKind::Organization);
    let named = |kind: &'static str| component.identifiers.iter().filter(move |name| name.kind == kind);
    ComponentJson {
        r#type: component.kind.name(),
        bom_ref: &component.id,
        supplier: component.supplier.as_ref().filter(|party| party.is_told()).map(organization),
        manufacturer: manufacturer.map(organization),
        authors: others(&component.authors, manufacturer),
        group: component.group.as_deref(),
        name: &component.name,
        version: component.version.as_deref(),
        description: component.description.as_deref(),
        scope: component.scope.map(|scope| match scope {
            Scope::Required => "required",
            Scope::Optional => "optional",
            Scope::Excluded => "excluded",
        }),
        hashes: component
            .hashes
            .iter()
            .filter(|hash| hash.is_well_formed() && ALGORITHMS.contains(&hash.algorithm.name()))
            .map(|hash| HashJson { alg: hash.algorithm.name(), content: &hash.value })
            .collect(),
        licenses: licenses(component, sbom),
        copyright: component.copyright.as_deref(),
        cpe: named("cpe").next().map(|cpe| cpe.value.as_str()),
        purl: component.purl.as_deref(),
        omnibor_id: named("gitoid").map(|name| name.value.as_str()).collect(),
        swhid: named("swhid").map(|name| name.value.as_str()).collect(),
        external_references: component
            .references
            .iter()
            .filter(|reference| is_address(&reference.url.as_str()))
            .map(|reference| Reference {
                url: &reference.url,
                r#type: if KINDS.contains(&reference.kind.as_str()) { &reference.kind } else { "other" },
            })
            .collect(),
        components: Vec::new(),
        properties: component.properties.iter().map(|Property { name, value }| PropertyJson { name, value }).collect(),
    }
}

/// The words of the schema's enumeration.
const ALGORITHMS: [&str; 12] = [
    "MD5",
    "SHA-1",
    "SHA-256",
    "SHA-384",
    "SHA-512",
    "SHA3-256",
    "SHA3-384",
    "SHA3-512",
    "BLAKE2b-256",
    "BLAKE2b-384",
    "BLAKE2b-512",
    "BLAKE3",
];

/// Those of the schema's kinds of references that catalogers use.
const KINDS: [&str; 9] = [
    "vcs",
    "issue-tracker",
    "website",
    "documentation",
    "distribution",
    "source-distribution",
    "license",
    "build-meta",
    "release-notes",
];

/// Either a list of single licences and names, or one expression: the schema allows nothing else.
fn licenses(component: &Component, sbom: &Sbom) -> Vec<LicenseChoice> {
    let acknowledged = |whose: Acknowledgement| match whose {
        Acknowledgement::Declared => Some("declared"),
        Acknowledgement::Concluded => Some("concluded"),
        Acknowledgement::Unstated => None,
    };
    let terms: Vec<(Option<&'static str>, LicenseTerm)> =
        component.licenses.iter().map(|license| (acknowledged(license.acknowledgement), term_of(license))).collect();
    if let [(acknowledgement, LicenseTerm::Expression(expression))] = terms.as_slice()
        && !is_listed(expression)
        && sbom.custom_licenses.get(expression).is_none_or(|custom| custom.text.is_none())
    {
        return vec![LicenseChoice::Expression { expression: expression.clone(), acknowledgement: *acknowledgement }];
    }
    terms
        .into_iter()
        .map(|(acknowledgement, term)| {
            let (id, name) = match term {
                LicenseTerm::Expression(text) if is_listed(&text) => (Some(text), None),
                LicenseTerm::Expression(text) | LicenseTerm::Name(text) => (None, Some(text)),
            };
            let custom = name.as_ref().and_then(|name| sbom.custom_licenses.get(name));
            let text = custom.and_then(|custom| custom.text.clone()).map(|content| LicenseText { content });
            LicenseChoice::License(LicenseJson { id, name, acknowledgement, text })
        })
        .collect()
}

/// Whether it is the identifier of one licence of the SPDX list, as the list writes it.
fn is_listed(text: &str) -> bool {
    ::spdx::license_id(text).is_some_and(|id| id.name == text) && knows_license(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_that_the_schemas_do_not_know_is_a_name() {
        assert!(is_listed("MIT"));
        assert!(!is_listed("mit"), "not as the list writes it");
        assert!(!is_listed("BSD-3-Clause-OpenWebUI"), "newer than the schemas");
        assert!(!is_listed("MIT OR Apache-2.0"));
    }

    #[test]
    fn every_licence_that_is_written_as_an_identifier_is_one_of_the_schema() {
        let schema = include_str!("../../evidence/sbom/schemas/spdx.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let known: BTreeSet<&str> = schema["enum"].as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
        let unknown: Vec<&str> = ::spdx::identifiers::LICENSES
            .iter()
            .map(|license| license.name)
            .filter(|name| is_listed(name) && !known.contains(name))
            .collect();
        assert_eq!(unknown, [""; 0]);
    }
}
