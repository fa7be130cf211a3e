//! Maven: `pom.xml` files in, the artifacts that they ask for out.
//!
//! Parents and bills of materials are read where they are in the source tree, and never fetched: what only they say is
//! not known here, and a component without a version says so. What the dependencies themselves depend on is told by no
//! file of the source.
//! Source: maven.apache.org, POM reference.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node, ParsingOptions};

use super::package::{Need, add, declared, library, property, reference};
use super::tree::resolve;
use super::{Found, Scan, View, malformed};
use crate::release::evidence::sbom::model::{Component, ComponentKind};
use crate::types::limits;

/// Finds every `pom.xml` of a source tree.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Source {
        return;
    }
    let mut poms: BTreeMap<String, Pom> = BTreeMap::new();
    for entry in scan.files().filter(|entry| entry.name() == "pom.xml") {
        let read = scan.text(&entry.path).and_then(|text| parse(&text).map_err(|why| malformed(&entry.path, why)));
        poms.extend(found.keep(read).map(|pom| (entry.folder().to_owned(), pom)));
    }
    let own: BTreeSet<(String, String)> = poms
        .keys()
        .filter_map(|folder| {
            let effective = Effective::of(folder, &poms)?;
            Some((effective.text(&effective.group)?, effective.text(&effective.artifact)?))
        })
        .collect();
    for folder in poms.keys() {
        if let Some(effective) = Effective::of(folder, &poms) {
            project(folder, &effective, &own, found);
        }
    }
}

/// What of a `pom.xml` matters here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pom {
    group: Option<String>,
    artifact: Option<String>,
    version: Option<String>,
    parent: Option<Coordinates>,
    parent_path: Option<String>,
    properties: BTreeMap<String, String>,
    dependencies: Vec<Dependency>,
    managed: Vec<Dependency>,
    licenses: Vec<String>,
    description: Option<String>,
    url: Option<String>,
    repository: Option<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Coordinates {
    group: Option<String>,
    artifact: Option<String>,
    version: Option<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Dependency {
    at: Coordinates,
    kind: Option<String>,
    classifier: Option<String>,
    scope: Option<String>,
    optional: Option<String>,
}

/// Reads a `pom.xml`.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(text: &str) -> Result<Pom, String> {
    // Without a document type there are no entities that could grow.
    let nodes_limit = u32::try_from(limits::JSON_NODES).unwrap_or(u32::MAX);
    let options = ParsingOptions { allow_dtd: false, nodes_limit, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    let project = document.root_element();
    if project.tag_name().name() != "project" {
        return Err("its root element is no `project`".to_owned());
    }
    let dependencies = |of: Option<Node<'_, '_>>| -> Vec<Dependency> {
        let list = of.and_then(|of| child(of, "dependencies"));
        list.into_iter().flat_map(|list| children(list, "dependency")).map(dependency).collect()
    };
    let parent = child(project, "parent");
    let properties = child(project, "properties").map(|properties| {
        properties
            .children()
            .filter(Node::is_element)
            .map(|node| (node.tag_name().name().to_owned(), content(node)))
            .collect()
    });
    let pom = Pom {
        group: value(project, "groupId"),
        artifact: value(project, "artifactId"),
        version: value(project, "version"),
        parent: parent.map(coordinates),
        parent_path: parent.and_then(|parent| value(parent, "relativePath")),
        properties: properties.unwrap_or_default(),
        dependencies: dependencies(Some(project)),
        managed: dependencies(child(project, "dependencyManagement")),
        licenses: child(project, "licenses")
            .into_iter()
            .flat_map(|list| children(list, "license"))
            .filter_map(|license| value(license, "name"))
            .collect(),
        description: value(project, "description"),
        url: value(project, "url"),
        repository: child(project, "scm").and_then(|scm| value(scm, "url")),
    };
    if pom.artifact.is_none() { Err("it has no `artifactId`".to_owned()) } else { Ok(pom) }
}

fn child<'a, 'input>(of: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    of.children().find(|node| node.is_element() && node.tag_name().name() == name)
}

fn children<'a, 'input>(of: Node<'a, 'input>, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
    of.children().filter(move |node| node.is_element() && node.tag_name().name() == name)
}

fn content(node: Node<'_, '_>) -> String {
    node.text().unwrap_or_default().trim().to_owned()
}

fn value(of: Node<'_, '_>, name: &str) -> Option<String> {
    child(of, name).map(content).filter(|text| !text.is_empty())
}

fn coordinates(node: Node<'_, '_>) -> Coordinates {
    Coordinates { group: value(node, "groupId"), artifact: value(node, "artifactId"), version: value(node, "version") }
}

fn dependency(node: Node<'_, '_>) -> Dependency {
    Dependency {
        at: coordinates(node),
        kind: value(node, "type"),
        classifier: value(node, "classifier"),
        scope: value(node, "scope"),
        optional: value(node, "optional"),
    }
}

/// A project with what its parents in the source tree give it.
struct Effective<'a> {
    pom: &'a Pom,
    group: String,
    artifact: String,
    version: Option<String>,
    properties: BTreeMap<&'a str, &'a str>,
    managed: Vec<&'a Dependency>,
    dependencies: Vec<&'a Dependency>,
}

/// How many parents above each other are looked at; and how often a property may stand for another one.
const DEPTH: usize = 16;

impl<'a> Effective<'a> {
    fn of(folder: &str, poms: &'a BTreeMap<String, Pom>) -> Option<Self> {
        let pom = poms.get(folder)?;
        let mut chain = vec![pom];
        let mut at = folder.to_owned();
        while chain.len() < DEPTH
            && let Some(last) = chain.last()
            && let Some(wanted) = &last.parent
        {
            let path = last.parent_path.as_deref().unwrap_or("../pom.xml");
            let path = path.strip_suffix("pom.xml").unwrap_or(path);
            let Some((above, parent)) = resolve(&at, path).and_then(|path| poms.get_key_value(&path)) else { break };
            // What is there may be another project than the parent that is meant.
            if parent.artifact != wanted.artifact || above == &at {
                break;
            }
            at.clone_from(above);
            chain.push(parent);
        }
        let inherited = |own: fn(&Pom) -> &Option<String>, of_parent: fn(&Coordinates) -> &Option<String>| {
            chain
                .iter()
                .find_map(|pom| own(pom).clone().or_else(|| pom.parent.as_ref().and_then(|at| of_parent(at).clone())))
        };
        let mut properties: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in chain.iter().rev().flat_map(|pom| &pom.properties) {
            properties.insert(name, value);
        }
        Some(Self {
            pom,
            group: inherited(|pom| &pom.group, |at| &at.group).unwrap_or_default(),
            artifact: pom.artifact.clone()?,
            version: inherited(|pom| &pom.version, |at| &at.version),
            properties,
            managed: chain.iter().flat_map(|pom| &pom.managed).collect(),
            dependencies: chain.iter().flat_map(|pom| &pom.dependencies).collect(),
        })
    }

    /// A text with its `${…}` filled in; nothing where one of them has no value here.
    fn text(&self, text: &str) -> Option<String> {
        let mut text = text.to_owned();
        for _ in 0..DEPTH {
            let Some((before, rest)) = text.split_once("${") else { return Some(text) };
            let (name, after) = rest.split_once('}')?;
            let value = match name.strip_prefix("project.").or_else(|| name.strip_prefix("pom.")).unwrap_or(name) {
                "groupId" => self.group.as_str(),
                "artifactId" => self.artifact.as_str(),
                "version" | "parent.version" if name.contains('.') => self.version.as_deref()?,
                "parent.groupId" => self.pom.parent.as_ref()?.group.as_deref()?,
                name => self.properties.get(name)?,
            };
            text = format!("{before}{value}{after}");
            if text.len() > TEXT_BYTES {
                return None;
            }
        }
        None
    }

    /// What dependency management says of an artifact.
    fn managed(&self, dependency: &Dependency) -> Option<&'a Dependency> {
        let key = |at: &Coordinates| Some((self.text(at.group.as_deref()?)?, self.text(at.artifact.as_deref()?)?));
        let wanted = key(&dependency.at)?;
        self.managed.iter().copied().find(|managed| key(&managed.at).as_ref() == Some(&wanted))
    }
}

/// Longer ones are no coordinates.
const TEXT_BYTES: usize = 4096;

fn project(folder: &str, effective: &Effective<'_>, own: &BTreeSet<(String, String)>, found: &mut Found) {
    let path = super::tree::join(folder, "pom.xml");
    let text = |text: &Option<String>| text.as_deref().and_then(|text| effective.text(text));
    // One whose own name has properties without a value is a template that something else fills in.
    let (Some(group), Some(artifact)) = (effective.text(&effective.group), effective.text(&effective.artifact)) else {
        return;
    };
    let mut component = artifact_of(&group, &artifact, text(&effective.version).as_deref(), None, None);
    component.kind = ComponentKind::Application;
    component.licenses = effective.pom.licenses.iter().filter_map(|name| declared(name)).collect();
    component.description = text(&effective.pom.description);
    component.references.extend(text(&effective.pom.url).and_then(|url| reference("website", &url)));
    component.references.extend(text(&effective.pom.repository).and_then(|url| reference("vcs", &url)));
    let id = component.id.clone();
    found.project(folder, &id);
    found.add_at(component, &path);
    found.knows_dependencies(&id);
    let mut seen = BTreeSet::new();
    for dependency in &effective.dependencies {
        let managed = effective.managed(dependency);
        let raw =
            |text: &Option<String>| text.as_deref().map(|text| effective.text(text).unwrap_or_else(|| text.to_owned()));
        let (Some(group), Some(artifact)) = (raw(&dependency.at.group), raw(&dependency.at.artifact)) else {
            found.refuse(malformed(&path, "a dependency has no group or no artifact"));
            continue;
        };
        // What a project says itself comes before what its parents say of the same artifact.
        if !seen.insert((group.clone(), artifact.clone(), dependency.classifier.clone(), dependency.kind.clone())) {
            continue;
        }
        let version = text(&dependency.at.version).or_else(|| text(&managed?.at.version));
        let is_own = own.contains(&(group.clone(), artifact.clone()));
        let kind = dependency.kind.as_deref().filter(|kind| *kind != "jar");
        let mut component = artifact_of(&group, &artifact, version.as_deref(), kind, dependency.classifier.as_deref());
        if version.is_none() {
            component.properties.push(property("debvisor:maven:version", "told by a parent that is not in the source"));
        }
        let scope = dependency.scope.as_deref().or_else(|| managed?.scope.as_deref()).unwrap_or("compile");
        let need = match (scope, dependency.optional.as_deref()) {
            ("test", _) => Need::Development,
            ("provided", _) => Need::Build,
            (_, Some("true")) => Need::Optional,
            _ => Need::Runtime,
        };
        found.depends(&id, &component.id);
        add(found, component, Some(need).filter(|_| !is_own), &path);
    }
}

pub(super) fn artifact_of(
    group: &str,
    artifact: &str,
    version: Option<&str>,
    kind: Option<&str>,
    classifier: Option<&str>,
) -> Component {
    let qualifiers = [("classifier", classifier.unwrap_or_default()), ("type", kind.unwrap_or_default())];
    library("maven", Some(group), artifact, version, &qualifiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_type_is_refused_and_properties_end() {
        assert!(parse("<!DOCTYPE x [<!ENTITY a \"b\">]><project/>").is_err());
        assert_eq!(parse("<x/>").unwrap_err(), "its root element is no `project`");
        let pom = parse("<project><groupId>g</groupId><artifactId>a</artifactId><version>1</version><properties><x>${y}</x><y>${x}</y><z>2</z></properties></project>").unwrap();
        let poms = [(String::new(), pom)].into();
        let effective = Effective::of("", &poms).unwrap();
        assert_eq!(effective.text("${x}"), None);
        assert_eq!(effective.text("${z}.${project.version}-${missing}"), None);
        assert_eq!(effective.text("${z}.${project.version}").as_deref(), Some("2.1"));
    }
}
