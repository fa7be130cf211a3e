//! npm: `package-lock.json` of every version, `npm-shrinkwrap.json` and installed packages in, packages out.
//!
//! Which of several copies a package gets is decided as Node.js does it: the nearest `node_modules` above it.
//! Source: docs.npmjs.com/cli, package-lock.json; nodejs.org, modules, loading from node_modules folders.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::package::{Need, add, declared, integrity, library, property, reference};
use super::tree::{folder_of, join, name_of, resolve};
use super::{Found, Scan, View, malformed};
use crate::release::evidence::sbom::model::{Component, ComponentKind, DEPENDENCY, Party, PartyKind};

/// Finds npm's lock files in a source tree, and installed packages in a root file system.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view == View::Installed {
        return installed(scan, found);
    }
    let mut covered = BTreeSet::new();
    for entry in scan.files() {
        let (path, folder) = (entry.path.as_str(), entry.folder());
        let is_lock = match entry.name() {
            "npm-shrinkwrap.json" => true,
            // Where both are there, npm itself goes by the other one.
            "package-lock.json" => scan.entry(&join(folder, "npm-shrinkwrap.json")).is_none(),
            "yarn.lock" | "pnpm-lock.yaml" | "bun.lock" => {
                covered.insert(folder.to_owned());
                false
            }
            _ => false,
        };
        if is_lock {
            covered.insert(folder.to_owned());
            let manifest = Manifest::beside(scan, folder, found);
            if let Some(lock) =
                found.keep(scan.read(path).and_then(|bytes| parse(&bytes).map_err(|why| malformed(path, why))))
            {
                lockfile(path, &lock, manifest.as_ref(), found);
            }
        }
    }
    // A manifest without a lock file tells of the project alone: what it asks for has no versions yet.
    for entry in scan.files().filter(|entry| entry.name() == "package.json") {
        let folder = entry.folder();
        let is_covered =
            covered.iter().any(|top| top.is_empty() || folder == top || folder.starts_with(&format!("{top}/")));
        if !is_covered
            && let Some(component) = Manifest::beside(scan, folder, found).and_then(|manifest| manifest.component())
        {
            found.project(folder, &component.id);
            found.add_at(component, &entry.path);
        }
    }
}

/// What of a `package.json` matters here.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    name: Value,
    version: Value,
    license: Value,
    description: Value,
    homepage: Value,
    repository: Value,
    author: Value,
    dependencies: Value,
    dev_dependencies: Value,
    optional_dependencies: Value,
    peer_dependencies: Value,
}

impl Manifest {
    /// The manifest in a folder. One that is there and is none is a reason.
    pub(super) fn beside(scan: &Scan<'_>, folder: &str, found: &mut Found) -> Option<Self> {
        let path = join(folder, "package.json");
        scan.entry(&path).filter(|entry| entry.is_file())?;
        let read =
            scan.text(&path).and_then(|text| serde_json::from_str(&text).map_err(|error| malformed(&path, error)));
        found.keep(read)
    }

    /// The name, where it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_str().filter(|name| !name.is_empty())
    }

    /// The package that the manifest is of.
    pub(super) fn component(&self) -> Option<Component> {
        let mut component = package(self.name()?, self.version.as_str());
        let license = self.license.as_str().or_else(|| self.license.get("type").and_then(Value::as_str));
        component.licenses.extend(license.and_then(declared));
        component.description = self.description.as_str().map(str::to_owned);
        component.references.extend(self.homepage.as_str().and_then(|url| reference("website", url)));
        let repository = self.repository.as_str().or_else(|| self.repository.get("url").and_then(Value::as_str));
        component.references.extend(repository.and_then(|url| reference("vcs", url)));
        component.authors.extend(author(&self.author));
        Some(component)
    }

    /// What the manifest asks for, by name, with what it asks of the version.
    pub(super) fn asks(&self) -> Vec<(&str, &str, Need)> {
        let tables = [
            (&self.dependencies, Need::Runtime),
            (&self.peer_dependencies, Need::Runtime),
            (&self.optional_dependencies, Need::Optional),
            (&self.dev_dependencies, Need::Development),
        ];
        tables
            .into_iter()
            .filter_map(|(table, need)| Some((table.as_object()?, need)))
            .flat_map(|(table, need)| {
                table.iter().map(move |(name, range)| (name.as_str(), range.as_str().unwrap_or_default(), need))
            })
            .collect()
    }
}

/// A person by name, or as an object of name, email and url.
fn author(value: &Value) -> Option<Party> {
    let text = value.as_str().or_else(|| value.get("name").and_then(Value::as_str))?;
    let (name, email) = match text.split_once('<') {
        Some((name, rest)) => (name.trim(), rest.split('>').next().map(str::to_owned)),
        None => (text.split(" (").next().unwrap_or_default().trim(), None),
    };
    let email = email.or_else(|| value.get("email").and_then(Value::as_str).map(str::to_owned));
    Some(Party { kind: PartyKind::Person, name: Some(name.to_owned()), email, url: None }).filter(Party::is_told)
}

/// A package of this name, whose scope is its namespace.
pub(super) fn package(name: &str, version: Option<&str>) -> Component {
    match name.split_once('/') {
        Some((scope, name)) => library("npm", Some(scope), name, version, &[]),
        None => library("npm", None, name, version, &[]),
    }
}

/// A lock file of npm.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lock {
    name: Option<String>,
    version: Option<String>,
    lockfile_version: u64,
    packages: Option<BTreeMap<String, Locked>>,
    dependencies: Option<BTreeMap<String, Nested>>,
}

/// A place in the tree of `node_modules`, since version 2.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    resolved: Value,
    integrity: Option<String>,
    link: bool,
    dev: bool,
    optional: bool,
    dev_optional: bool,
    peer: bool,
    license: Value,
    dependencies: Value,
    dev_dependencies: Value,
    optional_dependencies: Value,
    peer_dependencies: Value,
}

/// A package in version 1, with those that are installed below it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Nested {
    version: Option<String>,
    resolved: Value,
    integrity: Option<String>,
    dev: bool,
    optional: bool,
    requires: Value,
    dependencies: Option<BTreeMap<String, Nested>>,
}

/// Reads a lock file.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(bytes: &[u8]) -> Result<Lock, String> {
    let lock: Lock = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match (lock.lockfile_version, &lock.packages, &lock.dependencies) {
        (0 | 1, _, _) | (2.., Some(_), _) => Ok(lock),
        (2.., None, _) => Err("it has no `packages`".to_owned()),
    }
}

fn lockfile(path: &str, lock: &Lock, manifest: Option<&Manifest>, found: &mut Found) {
    let flat;
    let packages = match &lock.packages {
        Some(packages) => packages,
        None => {
            flat = flatten(lock, manifest);
            &flat
        }
    };
    let ids: BTreeMap<&str, String> = packages
        .iter()
        .filter(|(_, locked)| !locked.link)
        .map(|(place, locked)| (place.as_str(), component(place, locked, lock, manifest).id))
        .collect();
    for (place, locked) in packages.iter().filter(|(_, locked)| !locked.link) {
        let mut component = component(place, locked, lock, manifest);
        let id = component.id.clone();
        // What is not below a `node_modules` is the project itself, or another one of its workspace.
        let is_project = !place.contains("node_modules/");
        let mut need = None;
        if is_project {
            let folder = resolve(folder_of(path), place);
            found.project(folder.as_deref().unwrap_or(place), &id);
            component.kind = ComponentKind::Application;
        } else {
            need = Some(match locked {
                Locked { dev: true, .. } => Need::Development,
                Locked { optional: true, .. } | Locked { dev_optional: true, .. } => Need::Optional,
                _ => Need::Runtime,
            });
            if locked.peer {
                component.properties.push(property(DEPENDENCY, "peer"));
            }
        }
        add(found, component, need, path);
        found.knows_dependencies(&id);
        let tables =
            [&locked.dependencies, &locked.dev_dependencies, &locked.optional_dependencies, &locked.peer_dependencies];
        for name in tables.into_iter().filter_map(Value::as_object).flat_map(|table| table.keys()) {
            if let Some(on) = nearest(place, name, packages).and_then(|place| ids.get(place)) {
                found.depends(&id, on);
            }
        }
    }
}

/// The place of the package that `name` means in `place`.
fn nearest<'a>(place: &str, name: &str, packages: &'a BTreeMap<String, Locked>) -> Option<&'a str> {
    let mut at = place;
    loop {
        // Below `a/node_modules` itself nothing is looked up.
        if name_of(at) != "node_modules" {
            let wanted = join(at, &format!("node_modules/{name}"));
            if let Some((place, locked)) = packages.get_key_value(&wanted) {
                if !locked.link {
                    return Some(place);
                }
                return packages.get_key_value(locked.resolved.as_str()?).map(|(place, _)| place.as_str());
            }
        }
        if at.is_empty() {
            return None;
        }
        at = folder_of(at);
    }
}

fn component(place: &str, locked: &Locked, lock: &Lock, manifest: Option<&Manifest>) -> Component {
    if place.is_empty() {
        let own = manifest.and_then(Manifest::component);
        let name = locked.name.as_deref().or(lock.name.as_deref());
        return match (own, name) {
            (Some(own), _) => own,
            (None, Some(name)) => {
                let mut component = package(name, locked.version.as_deref().or(lock.version.as_deref()));
                component.licenses.extend(locked.license.as_str().and_then(declared));
                component
            }
            (None, None) => Component::new(ComponentKind::Application, "npm:", "package"),
        };
    }
    let in_place = place.rsplit_once("node_modules/").map_or_else(|| name_of(place), |(_, name)| name);
    let mut component = package(locked.name.as_deref().unwrap_or(in_place), locked.version.as_deref());
    component.hashes = locked.integrity.as_deref().map(integrity).unwrap_or_default();
    component.licenses.extend(locked.license.as_str().and_then(declared));
    if let Some(url) = locked.resolved.as_str() {
        let kind = if url.starts_with("git") { "vcs" } else { "distribution" };
        component.references.extend(reference(kind, url).filter(|_| url.contains("://")));
    }
    component
}

/// Brings version 1 into the form of its successors.
fn flatten(lock: &Lock, manifest: Option<&Manifest>) -> BTreeMap<String, Locked> {
    let mut flat = BTreeMap::new();
    // Version 1 does not say what the project itself asks for; its manifest does.
    let asked = manifest.map(|manifest| {
        manifest.asks().into_iter().map(|(name, ..)| (name.to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>()
    });
    let top = Locked { dependencies: asked.map_or(Value::Null, Value::Object), ..Locked::default() };
    flat.insert(String::new(), top);
    let mut open = vec![(String::new(), lock.dependencies.as_ref())];
    while let Some((above, below)) = open.pop() {
        for (name, nested) in below.into_iter().flatten() {
            let place = join(&above, &format!("node_modules/{name}"));
            // `npm:name@version` is a package under another name.
            let alias = nested.version.as_deref().and_then(|version| version.strip_prefix("npm:")?.rsplit_once('@'));
            let (name, version) = match alias {
                Some((name, version)) => (Some(name.to_owned()), Some(version.to_owned())),
                None => (None, nested.version.clone()),
            };
            let locked = Locked {
                name,
                version,
                resolved: nested.resolved.clone(),
                integrity: nested.integrity.clone(),
                dev: nested.dev,
                optional: nested.optional,
                dependencies: nested.requires.clone(),
                ..Locked::default()
            };
            flat.insert(place.clone(), locked);
            open.push((place, nested.dependencies.as_ref()));
        }
    }
    flat
}

/// Packages as they lie in `node_modules`, found by their manifests.
fn installed(scan: &Scan<'_>, found: &mut Found) {
    let mut packages: BTreeMap<&str, Manifest> = BTreeMap::new();
    for entry in scan.files().filter(|entry| entry.name() == "package.json") {
        let folder = entry.folder();
        let above = folder_of(folder);
        let above = if name_of(above).starts_with('@') { folder_of(above) } else { above };
        // Inside a package there may be more manifests, which are none of packages.
        if name_of(above) == "node_modules"
            && let Some(manifest) = Manifest::beside(scan, folder, found)
            && manifest.name().is_some()
        {
            packages.insert(folder, manifest);
        }
    }
    for (folder, manifest) in &packages {
        let Some(component) = manifest.component() else { continue };
        let id = component.id.clone();
        found.add_at(component, &join(folder, "package.json"));
        found.knows_dependencies(&id);
        for (name, _, need) in manifest.asks() {
            let mut at = *folder;
            let on = loop {
                if let Some(on) = packages.get(join(at, &format!("node_modules/{name}")).as_str()) {
                    break Some(on);
                }
                if at.is_empty() {
                    break None;
                }
                at = folder_of(at);
            };
            if let Some(on) = on.and_then(Manifest::component).filter(|_| need != Need::Development) {
                found.depends(&id, &on.id);
            }
        }
    }
}
