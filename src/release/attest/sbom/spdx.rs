//! The neutral model in, an SPDX 2.3 document in JSON out (ISO/IEC 5962 and its successor).
//!
//! Single files are SPDX files, everything else is a package. Scopes are told by the kinds of the relationships, and
//! where a component was found by `sourceInfo`. Written as JSON of our own: docs/adr/0007.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sha2::Digest as _;

use super::{address, term_of, to_json};
use crate::release::evidence::sbom::model::{
    Acknowledgement, Component, ComponentKind, DEPENDENCY, LOCATION, LicenseTerm, Party, PartyKind, Sbom, Scope, Tool,
};

/// Where documents without a serial number of their own are named.
const NAMESPACE: &str = "https://debvisor.dev/spdx";
/// Says nothing, and says so.
const NOASSERTION: &str = "NOASSERTION";

/// Writes the document.
pub fn write(sbom: &Sbom) -> Vec<u8> {
    let ids: HashMap<&str, String> =
        sbom.all().map(|component| (component.id.as_str(), element_id(component))).collect();
    let mut licenses = Licenses { sbom, extracted: BTreeMap::new() };
    let is_file = |component: &&Component| component.kind == ComponentKind::File;
    let packages = sbom
        .described
        .iter()
        .chain(sbom.components.iter().filter(|component| !is_file(component)))
        .map(|component| package(component, &ids, &mut licenses))
        .collect();
    let files = sbom
        .components
        .iter()
        .filter(|component| is_file(component))
        .map(|component| file(component, &ids, &mut licenses))
        .collect();
    let name = sbom.name.as_deref().or(sbom.described.first().map(|component| component.name.as_str()));
    let name = name.filter(|name| !name.is_empty()).unwrap_or("sbom");
    let creators = sbom.metadata.tools.iter().map(tool).chain(sbom.metadata.authors.iter().filter_map(party));
    to_json(&Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name,
        document_namespace: namespace(sbom, name),
        creation_info: CreationInfo {
            created: sbom.metadata.timestamp.unwrap_or_default().to_string(),
            creators: creators.collect(),
            license_list_version: list_version(),
        },
        packages,
        files,
        has_extracted_licensing_infos: licenses.extracted.into_values().collect(),
        relationships: relationships(sbom, &ids),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: &'a str,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<Extracted>,
    relationships: Vec<Relationship<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    license_list_version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    #[serde(rename = "SPDXID")]
    id: &'a str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<&'a str>,
    supplier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<&'a str>,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: String,
    license_declared: String,
    copyright_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "SPDXID")]
    id: &'a str,
    file_name: &'a str,
    checksums: Vec<Checksum<'a>>,
    license_concluded: String,
    copyright_text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum<'a> {
    algorithm: &'a str,
    checksum_value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef<'a> {
    reference_category: &'static str,
    reference_type: &'a str,
    reference_locator: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extracted {
    license_id: String,
    extracted_text: String,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship<'a> {
    spdx_element_id: &'a str,
    relationship_type: &'static str,
    related_spdx_element: &'a str,
}

/// The serial number is a UUID; a document that came from elsewhere may have any name.
fn namespace(sbom: &Sbom, name: &str) -> String {
    let serial = sbom.serial.as_deref().unwrap_or_default();
    match serial.strip_prefix("urn:uuid:") {
        None if url::Url::parse(serial).is_ok() && !serial.contains('#') => serial.to_owned(),
        uuid => format!("{NAMESPACE}/{}-{}", plain(name), plain(uuid.unwrap_or(serial))),
    }
}

/// Letters, digits, dots and hyphens, which is all that an identifier may have (SPDX 2.3 section 7.2).
fn plain(text: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    text.chars().take(64).map(sign).collect()
}

/// An identifier that a component has whatever else the document holds: name and version for people, and its own id's
/// digest so that no two are alike.
fn element_id(component: &Component) -> String {
    let digest = hex::encode(sha2::Sha256::digest(&component.id).get(..8).unwrap_or_default());
    let kind = if component.kind == ComponentKind::File { "File" } else { "Package" };
    let version = component.version.as_deref().map(|version| format!("-{}", plain(version))).unwrap_or_default();
    format!("SPDXRef-{kind}-{}{version}-{digest}", plain(&component.name))
}

/// The version of the list of licences that expressions were checked against, as `3.29`.
fn list_version() -> String {
    ::spdx::identifiers::VERSION.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

fn tool(tool: &Tool) -> String {
    let version = tool.version.as_deref().map(|version| format!("-{version}")).unwrap_or_default();
    format!("Tool: {}{version}", tool.name)
}

fn party(party: &Party) -> Option<String> {
    let kind = match party.kind {
        PartyKind::Person => "Person",
        PartyKind::Organization => "Organization",
    };
    let contact = party.email.as_deref().or(party.url.as_deref());
    let name = party.name.as_deref().or(contact)?;
    Some(match contact {
        Some(contact) => format!("{kind}: {name} ({contact})"),
        None => format!("{kind}: {name}"),
    })
}

fn package<'a>(component: &'a Component, ids: &'a HashMap<&str, String>, licenses: &mut Licenses<'_>) -> Package<'a> {
    let properties = |is_location: bool| {
        component.properties.iter().filter(move |property| (property.name == LOCATION) == is_location)
    };
    let locations: Vec<&str> = properties(true).map(|property| property.value.as_str()).collect();
    let comments: Vec<String> =
        properties(false).map(|property| format!("{}={}", property.name, property.value)).collect();
    Package {
        id: id_of(ids, &component.id),
        name: match &component.group {
            Some(group) => format!("{group}/{}", component.name),
            None => component.name.clone(),
        },
        version_info: component.version.as_deref(),
        package_file_name: component.property("bsi:component:filename"),
        supplier: component.supplier.as_ref().and_then(party).unwrap_or_else(|| NOASSERTION.to_owned()),
        originator: component.authors.iter().find_map(party),
        download_location: address(component, &["distribution", "source-distribution", "vcs"]).unwrap_or(NOASSERTION),
        homepage: address(component, &["website"]),
        files_analyzed: false,
        checksums: checksums(component),
        source_info: (!locations.is_empty()).then(|| format!("found in {}", locations.join(", "))),
        license_concluded: licenses.of(component, &[Acknowledgement::Concluded]),
        license_declared: licenses.of(component, &[Acknowledgement::Declared, Acknowledgement::Unstated]),
        copyright_text: component.copyright.as_deref().unwrap_or(NOASSERTION),
        description: component.description.as_deref(),
        comment: (!comments.is_empty()).then(|| comments.join("\n")),
        external_refs: external_refs(component),
        primary_package_purpose: purpose(component.kind),
    }
}

fn file<'a>(component: &'a Component, ids: &'a HashMap<&str, String>, licenses: &mut Licenses<'_>) -> File<'a> {
    File {
        id: id_of(ids, &component.id),
        file_name: &component.name,
        checksums: checksums(component),
        license_concluded: licenses.of(component, &[Acknowledgement::Concluded]),
        copyright_text: component.copyright.as_deref().unwrap_or(NOASSERTION),
    }
}

fn id_of<'a>(ids: &'a HashMap<&str, String>, id: &str) -> &'a str {
    ids.get(id).map_or(NOASSERTION, String::as_str)
}

/// The words of the schema's enumeration.
const ALGORITHMS: [&str; 17] = [
    "SHA1",
    "SHA224",
    "SHA256",
    "SHA384",
    "SHA512",
    "MD2",
    "MD4",
    "MD5",
    "MD6",
    "SHA3-256",
    "SHA3-384",
    "SHA3-512",
    "BLAKE2b-256",
    "BLAKE2b-384",
    "BLAKE2b-512",
    "BLAKE3",
    "ADLER32",
];

fn checksums(component: &Component) -> Vec<Checksum<'_>> {
    component
        .hashes
        .iter()
        .filter(|hash| hash.is_well_formed() && ALGORITHMS.contains(&hash.algorithm.spdx_name()))
        .map(|hash| Checksum { algorithm: hash.algorithm.spdx_name(), checksum_value: &hash.value })
        .collect()
}

fn external_refs(component: &Component) -> Vec<ExternalRef<'_>> {
    let of = |category, kind, locator| ExternalRef {
        reference_category: category,
        reference_type: kind,
        reference_locator: locator,
    };
    let others = component.identifiers.iter().map(|name| {
        let locator = name.value.as_str();
        match name.kind.as_str() {
            "cpe" if locator.starts_with("cpe:2.3:") => of("SECURITY", "cpe23Type", locator),
            "cpe" => of("SECURITY", "cpe22Type", locator),
            "purl" => of("PACKAGE-MANAGER", "purl", locator),
            "swid" => of("SECURITY", "swid", locator),
            "swhid" => of("PERSISTENT-ID", "swh", locator),
            "gitoid" => of("PERSISTENT-ID", "gitoid", locator),
            kind => of("OTHER", kind, locator),
        }
    });
    // Neither a kind nor a locator may have spaces in it (SPDX 2.3 section 7.21).
    let has_no_space = |text: &str| !text.is_empty() && !text.chars().any(char::is_whitespace);
    component
        .purl
        .as_deref()
        .map(|purl| of("PACKAGE-MANAGER", "purl", purl))
        .into_iter()
        .chain(others)
        .filter(|reference| has_no_space(reference.reference_type) && has_no_space(reference.reference_locator))
        .collect()
}

const fn purpose(kind: ComponentKind) -> Option<&'static str> {
    Some(match kind {
        ComponentKind::Application => "APPLICATION",
        ComponentKind::Framework => "FRAMEWORK",
        ComponentKind::Library => "LIBRARY",
        ComponentKind::Container => "CONTAINER",
        ComponentKind::OperatingSystem => "OPERATING_SYSTEM",
        ComponentKind::Device => "DEVICE",
        ComponentKind::Firmware => "FIRMWARE",
        ComponentKind::File => "FILE",
        ComponentKind::Platform
        | ComponentKind::DeviceDriver
        | ComponentKind::MachineLearningModel
        | ComponentKind::Data
        | ComponentKind::CryptographicAsset => "OTHER",
    })
}

/// Turns licences into expressions, and keeps what is outside the list.
struct Licenses<'a> {
    sbom: &'a Sbom,
    extracted: BTreeMap<String, Extracted>,
}

impl Licenses<'_> {
    /// One expression of all that these people say of a component.
    fn of(&mut self, component: &Component, whose: &[Acknowledgement]) -> String {
        let said = component.licenses.iter().filter(|license| whose.contains(&license.acknowledgement));
        let mut terms: Vec<String> = Vec::new();
        for license in said {
            let term = match term_of(license) {
                LicenseTerm::Expression(expression) => self.expression(expression),
                LicenseTerm::Name(name) => self.name(&name),
            };
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        if let [term] = terms.as_slice() {
            return term.clone();
        }
        if terms.is_empty() {
            return NOASSERTION.to_owned();
        }
        let part = |term: &String| if term.contains(" OR ") { format!("({term})") } else { term.clone() };
        terms.iter().map(part).collect::<Vec<_>>().join(" AND ")
    }

    /// An expression that parses; each `LicenseRef-` in it is one that the document defines.
    fn expression(&mut self, expression: String) -> String {
        if expression.contains("LicenseRef-") && !expression.contains("DocumentRef-") {
            let words = expression.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
            for reference in words.filter(|word| word.starts_with("LicenseRef-")) {
                self.define(reference, reference.trim_start_matches("LicenseRef-"));
            }
        }
        expression
    }

    /// A name in somebody's own words.
    fn name(&mut self, name: &str) -> String {
        let digest = hex::encode(sha2::Sha256::digest(name).get(..4).unwrap_or_default());
        let plain = plain(name);
        // A name that had to be changed to be an identifier could meet another one.
        let reference =
            if plain == name { format!("LicenseRef-{plain}") } else { format!("LicenseRef-{plain}-{digest}") };
        self.define(&reference, name);
        reference
    }

    fn define(&mut self, reference: &str, name: &str) {
        let custom = self.sbom.custom_licenses.get(reference).or_else(|| self.sbom.custom_licenses.get(name));
        let text = custom.and_then(|custom| custom.text.clone());
        let title = custom.and_then(|custom| custom.name.clone()).unwrap_or_else(|| name.to_owned());
        self.extracted.entry(reference.to_owned()).or_insert_with(|| Extracted {
            license_id: reference.to_owned(),
            extracted_text: text.unwrap_or_else(|| name.to_owned()),
            name: title,
        });
    }
}

fn relationships<'a>(sbom: &'a Sbom, ids: &'a HashMap<&str, String>) -> Vec<Relationship<'a>> {
    let known: HashMap<&str, &Component> = sbom.all().map(|component| (component.id.as_str(), component)).collect();
    let mut relationships = Vec::new();
    let mut say = |from: &'a str, kind: &'static str, to: &'a str| {
        relationships.push(Relationship { spdx_element_id: from, relationship_type: kind, related_spdx_element: to });
    };
    for component in &sbom.described {
        say("SPDXRef-DOCUMENT", "DESCRIBES", id_of(ids, &component.id));
    }
    for (of, on) in sbom.dependencies.iter().filter(|(of, _)| known.contains_key(of.as_str())) {
        let of = id_of(ids, of);
        if on.is_empty() {
            say(of, "DEPENDS_ON", "NONE");
        }
        for on in on.iter().filter_map(|on| known.get(on.as_str())) {
            let to = id_of(ids, &on.id);
            // What is not there when the artifact runs is told by the kind of the relationship.
            match on.scope {
                Some(Scope::Excluded) if on.property(DEPENDENCY) == Some("build") => say(to, "BUILD_DEPENDENCY_OF", of),
                Some(Scope::Excluded) => say(to, "DEV_DEPENDENCY_OF", of),
                Some(Scope::Optional) => say(to, "OPTIONAL_DEPENDENCY_OF", of),
                Some(Scope::Required) | None => say(of, "DEPENDS_ON", to),
            }
        }
    }
    for (outer, inner) in sbom.contains.iter().filter(|(outer, _)| known.contains_key(outer.as_str())) {
        for inner in inner.iter().filter(|inner| known.contains_key(inner.as_str())) {
            say(id_of(ids, outer), "CONTAINS", id_of(ids, inner));
        }
    }
    relationships
}
