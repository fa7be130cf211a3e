//! An SPDX 3.0 document as JSON in, the neutral model and what its references have against them out.
//!
//! The schema fixes the JSON-LD context and the compact names, so the graph is read as plain JSON: elements by their
//! IRI, relationships between them. Nothing outside the document is ever looked up.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::findings::Findings;
use super::super::json::{list, text};
use super::super::model::{
    Acknowledgement, Component, ComponentKind, CustomLicense, ExternalReference, Family, Format, Hash, HashAlgorithm,
    Identifier, License, LicenseTerm, Metadata, Party, PartyKind, Sbom, Scope, Tool,
};
use super::{is_told, license};
use crate::types::Code;

/// Reads a document whose context is that of SPDX 3.
pub(in super::super) fn read(document: &Value, findings: &mut Findings) -> Sbom {
    let graph = Graph::new(document, findings);
    let mut sbom = Sbom { metadata: Metadata::default(), ..Sbom::default() };
    let root = graph.of_type("SpdxDocument").next();
    let version = graph.creation(root).and_then(|creation| text(creation, "specVersion"));
    sbom.format = Some(Format { family: Family::Spdx, version: version.unwrap_or("3.0").to_owned() });
    sbom.serial = root.and_then(|root| text(root, "spdxId")).map(str::to_owned);
    sbom.name = root.and_then(|root| text(root, "name")).map(str::to_owned);
    sbom.metadata = graph.metadata(root);

    let described = graph.described(root);
    let mut statements = Statements::default();
    statements.read(&graph, findings);
    for element in &graph.elements {
        let Some(mut component) = component(element, &graph) else { continue };
        component.licenses = statements.licenses.remove(component.id.as_str()).unwrap_or_default();
        component.scope = statements.scopes.get(component.id.as_str()).copied();
        if described.contains(component.id.as_str()) {
            sbom.described.push(component);
        } else {
            sbom.components.push(component);
        }
    }
    for (of, on) in statements.dependencies {
        sbom.dependencies.entry(of.to_owned()).or_default().extend(on.map(str::to_owned));
    }
    for (outer, inner) in statements.contains {
        sbom.add_part(outer, inner);
    }
    for element in graph.of_type("expandedlicensing_CustomLicense") {
        let Some(id) = text(element, "spdxId") else { continue };
        let custom = CustomLicense {
            name: text(element, "name").map(str::to_owned),
            text: text(element, "simplelicensing_licenseText").map(str::to_owned),
        };
        sbom.custom_licenses.insert(id.to_owned(), custom);
    }
    sbom
}

/// The elements of a document, by their IRIs.
struct Graph<'a> {
    elements: Vec<&'a Value>,
    by_id: HashMap<&'a str, &'a Value>,
    /// What the document says it takes from others.
    imported: HashSet<&'a str>,
}

impl<'a> Graph<'a> {
    fn new(document: &'a Value, findings: &mut Findings) -> Self {
        let elements: Vec<&Value> = match document.get("@graph").and_then(Value::as_array) {
            Some(elements) => elements.iter().collect(),
            // A document of one element is that element.
            None => vec![document],
        };
        let mut by_id = HashMap::new();
        for (index, element) in elements.iter().enumerate() {
            let Some(id) = text(element, "spdxId").or_else(|| text(element, "@id")) else { continue };
            if by_id.insert(id, *element).is_some() {
                findings.error(
                    Code::SbomDuplicate,
                    format!("two elements have the id `{id}`"),
                    format!("/@graph/{index}"),
                );
            }
        }
        let imported = elements
            .iter()
            .flat_map(|element| list(element, "import"))
            .filter_map(|import| text(import, "externalSpdxId"))
            .collect();
        Self { elements, by_id, imported }
    }

    fn of_type(&self, wanted: &str) -> impl Iterator<Item = &'a Value> {
        self.elements.iter().copied().filter(move |element| text(element, "type") == Some(wanted))
    }

    /// A member that holds an element, or names one.
    fn at(&self, value: &'a Value) -> Option<&'a Value> {
        match value {
            Value::String(id) => self.by_id.get(id.as_str()).copied(),
            Value::Object(_) => Some(value),
            _ => None,
        }
    }

    fn creation(&self, root: Option<&'a Value>) -> Option<&'a Value> {
        root.and_then(|root| self.at(root.get("creationInfo")?)).or_else(|| self.of_type("CreationInfo").next())
    }

    fn metadata(&self, root: Option<&'a Value>) -> Metadata {
        let mut metadata = Metadata::default();
        if let Some(license) = root.and_then(|root| self.at(root.get("dataLicense")?)) {
            metadata.data_license = text(license, "simplelicensing_licenseExpression").map(str::to_owned);
        }
        let Some(creation) = self.creation(root) else { return metadata };
        metadata.timestamp = text(creation, "created").and_then(|text| text.parse().ok());
        for agent in list(creation, "createdBy").filter_map(|agent| self.at(agent)) {
            match text(agent, "type") {
                Some("SoftwareAgent") => metadata.tools.extend(tool(agent)),
                _ => metadata.authors.extend(party(agent)),
            }
        }
        metadata.tools.extend(list(creation, "createdUsing").filter_map(|agent| self.at(agent)).filter_map(tool));
        metadata
    }

    /// What the document is about: the roots of its collections that are no collections themselves, and whatever a
    /// collection describes.
    fn described(&self, root: Option<&'a Value>) -> HashSet<&'a str> {
        let is_collection = |element: &Value| {
            matches!(text(element, "type"), Some("SpdxDocument" | "software_Sbom" | "Bom" | "Bundle"))
        };
        let mut described = HashSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&Value> = match root {
            Some(root) => vec![root],
            None => self.elements.iter().copied().filter(|element| is_collection(element)).collect(),
        };
        while let Some(collection) = open.pop() {
            for id in list(collection, "rootElement").filter_map(Value::as_str) {
                match self.by_id.get(id) {
                    Some(element) if is_collection(element) => {
                        if seen.insert(id) {
                            open.push(element);
                        }
                    }
                    _ => _ = described.insert(id),
                }
            }
        }
        for relationship in self.of_type("Relationship") {
            let from = text(relationship, "from").and_then(|id| self.by_id.get(id));
            if text(relationship, "relationshipType") == Some("describes")
                && from.is_some_and(|from| is_collection(from))
            {
                described.extend(list(relationship, "to").filter_map(Value::as_str));
            }
        }
        described
    }

    /// Whether a reference leads somewhere: to an element here, to one that is imported, or to one of the
    /// individuals that the standard itself defines.
    fn knows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
            || self.imported.contains(id)
            || id.starts_with("https://spdx.org/rdf/3.")
            || id.starts_with("https://spdx.org/licenses/")
            || matches!(
                id,
                "NoneElement"
                    | "NoAssertionElement"
                    | "SpdxOrganization"
                    | "expandedlicensing_NoneLicense"
                    | "expandedlicensing_NoAssertionLicense"
            )
    }
}

/// What the relationships say.
#[derive(Default)]
struct Statements<'a> {
    /// Who depends on whom, or on nothing.
    dependencies: Vec<(&'a str, Option<&'a str>)>,
    contains: Vec<(&'a str, &'a str)>,
    licenses: HashMap<&'a str, Vec<License>>,
    scopes: HashMap<&'a str, Scope>,
}

impl<'a> Statements<'a> {
    fn read(&mut self, graph: &Graph<'a>, findings: &mut Findings) {
        for (index, &relationship) in graph.elements.iter().enumerate() {
            if !matches!(text(relationship, "type"), Some("Relationship" | "LifecycleScopedRelationship")) {
                continue;
            }
            let (Some(from), Some(kind)) = (text(relationship, "from"), text(relationship, "relationshipType")) else {
                continue;
            };
            let mut refer = |target: &str, member: &str| {
                if !graph.knows(target) {
                    let message = format!("`{target}` is the id of nothing, and is not imported");
                    findings.error(Code::SbomReference, message, format!("/@graph/{index}/{member}"));
                }
            };
            refer(from, "from");
            for target in list(relationship, "to").filter_map(Value::as_str) {
                refer(target, "to");
                self.add(graph, from, kind, target, text(relationship, "scope"));
            }
        }
    }

    fn add(&mut self, graph: &Graph<'a>, from: &'a str, kind: &str, to: &'a str, scope: Option<&str>) {
        match kind {
            "dependsOn" | "hasDynamicLink" | "hasStaticLink" => {
                if to.ends_with("NoAssertionElement") {
                    return;
                }
                let none = to.ends_with("NoneElement");
                self.dependencies.push((from, (!none).then_some(to)));
                if !none && matches!(scope, Some("development" | "test")) {
                    self.scopes.insert(to, Scope::Excluded);
                }
            }
            "contains" => self.contains.push((from, to)),
            "hasDeclaredLicense" => self.license(graph, from, to, Acknowledgement::Declared),
            "hasConcludedLicense" => self.license(graph, from, to, Acknowledgement::Concluded),
            _ => {}
        }
    }

    fn license(&mut self, graph: &Graph<'a>, from: &'a str, to: &'a str, whose: Acknowledgement) {
        let told = match graph.by_id.get(to) {
            Some(element) => match text(element, "simplelicensing_licenseExpression") {
                Some(expression) => license(whose, expression),
                None => text(element, "name")
                    .map(|name| License { acknowledgement: whose, term: LicenseTerm::Name(name.to_owned()) }),
            },
            None => to.strip_prefix("https://spdx.org/licenses/").and_then(|id| license(whose, id)),
        };
        self.licenses.entry(from).or_default().extend(told);
    }
}

fn component<'a>(element: &'a Value, graph: &Graph<'a>) -> Option<Component> {
    let kind = match text(element, "type")? {
        "software_Package" => ComponentKind::Library,
        "ai_AIPackage" => ComponentKind::MachineLearningModel,
        "dataset_DatasetPackage" => ComponentKind::Data,
        "software_File" => ComponentKind::File,
        _ => return None,
    };
    let kind = match text(element, "software_primaryPurpose") {
        Some("operatingSystem") => ComponentKind::OperatingSystem,
        Some("deviceDriver") => ComponentKind::DeviceDriver,
        // A file stays a file, and no package is one.
        Some(purpose) if kind == ComponentKind::Library && purpose != "file" => {
            ComponentKind::from_name(purpose).unwrap_or(kind)
        }
        _ => kind,
    };
    let owned = |member: &str| text(element, member).filter(|text| is_told(text)).map(str::to_owned);
    let mut component = Component::new(kind, text(element, "spdxId")?, text(element, "name").unwrap_or_default());
    component.version = owned("software_packageVersion");
    component.purl = owned("software_packageUrl");
    component.copyright = owned("software_copyrightText");
    component.description = owned("description").or_else(|| owned("summary"));
    component.supplier = element.get("suppliedBy").and_then(|agent| graph.at(agent)).and_then(party);
    component.authors = list(element, "originatedBy").filter_map(|agent| graph.at(agent)).filter_map(party).collect();
    for (kind, member) in [
        ("distribution", "software_downloadLocation"),
        ("website", "software_homePage"),
        ("vcs", "software_sourceInfo"),
    ] {
        let url = owned(member).filter(|url| kind != "vcs" || url.contains("://"));
        component.references.extend(url.map(|url| ExternalReference { kind: kind.to_owned(), url }));
    }
    component.hashes = list(element, "verifiedUsing")
        .filter_map(|hash| graph.at(hash))
        // The digest over a package's files is none of the package (PackageVerificationCode).
        .filter(|hash| text(hash, "type") == Some("Hash"))
        .filter_map(|hash| {
            Some(Hash::new(HashAlgorithm::from_name(text(hash, "algorithm")?), text(hash, "hashValue")?))
        })
        .collect();
    for identifier in list(element, "externalIdentifier").filter_map(|identifier| graph.at(identifier)) {
        let (Some(kind), Some(name)) = (text(identifier, "externalIdentifierType"), text(identifier, "identifier"))
        else {
            continue;
        };
        match kind {
            "packageUrl" if component.purl.is_none() => component.purl = Some(name.to_owned()),
            "cpe22" | "cpe23" => {
                component.identifiers.push(Identifier { kind: "cpe".to_owned(), value: name.to_owned() });
            }
            kind => component.identifiers.push(Identifier { kind: kind.to_owned(), value: name.to_owned() }),
        }
    }
    Some(component)
}

fn tool(agent: &Value) -> Option<Tool> {
    Some(Tool { vendor: None, name: text(agent, "name")?.to_owned(), version: None })
}

fn party(agent: &Value) -> Option<Party> {
    let kind = match text(agent, "type")? {
        "Person" => PartyKind::Person,
        _ => PartyKind::Organization,
    };
    let email = list(agent, "externalIdentifier")
        .find(|identifier| text(identifier, "externalIdentifierType") == Some("email"))
        .and_then(|identifier| text(identifier, "identifier"));
    let name = text(agent, "name").filter(|name| is_told(name));
    Some(Party { kind, name: name.map(str::to_owned), email: email.map(str::to_owned), url: None })
        .filter(Party::is_told)
}
