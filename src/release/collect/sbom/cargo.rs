//! Cargo: lock files and the manifests beside them in, crates with the reasons why they are there out.
//!
//! A lock file says which crates there are and who depends on whom; only the manifests of the workspace say what of it
//! is for tests, for builds or for a feature that is off. What the crates of a registry themselves need for their
//! builds is not told by any file of the source: it counts as they do.
//! Source: doc.rust-lang.org/cargo/reference/manifest.html and the lock file's own form, by the crate cargo-lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cargo_lock::package::GitReference;
use cargo_lock::{Checksum, Lockfile, Package};
use serde::Deserialize;

use super::package::{Need, add, declared, library, needs, property, reference};
use super::tree::folder_of;
use super::{Found, Scan, View, malformed};
use crate::release::evidence::sbom::model::{Component, ComponentKind, Hash, HashAlgorithm, Party, PartyKind};
use crate::types::Reason;

/// Finds every `Cargo.lock` and `Cargo.toml` of a source tree.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Source {
        return;
    }
    let locks: Vec<&str> = named(scan, "Cargo.lock");
    let manifests = Manifests::read(scan, found);
    let mut covered = BTreeSet::new();
    for path in locks {
        let lock = scan.text(path).and_then(|text| parse(&text).map_err(|why| malformed(path, why)));
        if let Some(lock) = found.keep(lock) {
            lockfile(path, &lock, &manifests, &mut covered, found);
        }
    }
    for (folder, manifest) in manifests.own() {
        let Some(package) = manifest.package.as_ref().filter(|_| !covered.contains(folder)) else { continue };
        let version = manifests.version(folder, package);
        let component = manifests.describe(project(&package.name, version.as_deref(), scan, folder), folder, package);
        found.project(folder, &component.id);
        found.add_at(component, &super::tree::join(folder, "Cargo.toml"));
    }
}

fn named<'a>(scan: &'a Scan<'_>, name: &str) -> Vec<&'a str> {
    scan.files().filter(|entry| entry.name() == name).map(|entry| entry.path.as_str()).collect()
}

/// Reads a lock file.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(text: &str) -> Result<Lockfile, String> {
    text.parse::<Lockfile>().map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn project(name: &str, version: Option<&str>, scan: &Scan<'_>, folder: &str) -> Component {
    let mut component = library("cargo", None, name, version, &[]);
    component.id = local_id(&component.id);
    let main = super::tree::join(folder, "src/main.rs");
    if scan.entry(&main).is_some() {
        component.kind = ComponentKind::Application;
    }
    component
}

/// A crate of the source tree may have the name and version of one that a registry has.
fn local_id(purl: &str) -> String {
    format!("path+{purl}")
}

fn lockfile(path: &str, lock: &Lockfile, manifests: &Manifests, covered: &mut BTreeSet<String>, found: &mut Found) {
    let top = folder_of(path);
    let ids: Vec<String> = lock.packages.iter().map(|package| component(package).id).collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, package) in lock.packages.iter().enumerate() {
        by_name.entry(package.name.as_str()).or_default().push(at);
    }
    let below: Vec<Vec<usize>> = lock
        .packages
        .iter()
        .map(|package| {
            let of = |dependency: &cargo_lock::Dependency| {
                let candidates = by_name.get(dependency.name.as_str())?;
                candidates
                    .iter()
                    .copied()
                    .find(|at| lock.packages.get(*at).is_some_and(|candidate| dependency.matches(candidate)))
            };
            package.dependencies.iter().filter_map(of).collect()
        })
        .collect();
    let folders: Vec<Option<&str>> =
        lock.packages.iter().map(|package| manifests.folder_of_member(package, top)).collect();

    // Without the manifests there is no telling why anything is there.
    let all_known =
        lock.packages.iter().zip(&folders).all(|(package, folder)| package.source.is_some() || folder.is_some());
    let needs = all_known.then(|| {
        let members = (0..lock.packages.len()).filter(|at| folders.get(*at).is_some_and(Option::is_some));
        needs(members.map(|at| (at, Need::Runtime)), |at| {
            let edges = below.get(*at).into_iter().flatten();
            let folder = folders.get(*at).copied().flatten();
            edges
                .filter_map(|on| {
                    let name = lock.packages.get(*on)?.name.as_str();
                    Some((*on, folder.map_or(Need::Runtime, |folder| manifests.need(folder, name))))
                })
                .collect()
        })
    });
    for (at, package) in lock.packages.iter().enumerate() {
        let mut component = component(package);
        let folder = folders.get(at).copied().flatten();
        match (folder, &package.source) {
            (Some(folder), _) => {
                covered.insert(folder.to_owned());
                found.project(folder, &component.id);
                if let Some(of_manifest) = manifests.at(folder).and_then(|manifest| manifest.package.as_ref()) {
                    component = manifests.describe(component, folder, of_manifest);
                }
                if manifests.programs.contains(folder) {
                    component.kind = ComponentKind::Application;
                }
            }
            (None, None) => found.project(top, &component.id),
            (None, Some(_)) => {
                if let Some((folder, vendored)) = manifests.vendored(package) {
                    component = manifests.describe(component, folder, vendored);
                }
            }
        }
        let id = component.id.clone();
        let need = needs.as_ref().and_then(|needs| needs.get(&at).copied()).filter(|_| folder.is_none());
        add(found, component, need, path);
        found.knows_dependencies(&id);
        for on in below.get(at).into_iter().flatten().filter_map(|on| ids.get(*on)) {
            found.depends(&id, on);
        }
    }
}

/// A crate as the lock file names it.
fn component(package: &Package) -> Component {
    let version = package.version.to_string();
    let plain = |qualifiers: &[(&str, &str)]| library("cargo", None, package.name.as_str(), Some(&version), qualifiers);
    let Some(source) = &package.source else {
        let mut component = plain(&[]);
        component.id = local_id(&component.id);
        return component;
    };
    let url = source.url().as_str();
    let mut component = if source.is_git() {
        let revision = source.precise().map(|revision| format!("@{revision}")).unwrap_or_default();
        let mut component = plain(&[("vcs_url", &format!("git+{url}{revision}"))]);
        component.references.extend(reference("vcs", url));
        if let Some(GitReference::Tag(name) | GitReference::Branch(name)) = source.git_reference() {
            component.properties.push(property("debvisor:cargo:git-reference", name));
        }
        component
    } else if source.is_default_registry() {
        let mut component = plain(&[]);
        // Where the registry's own index says that its crates are (its config.json, `dl`).
        let url = format!("https://static.crates.io/crates/{}/{version}/download", package.name.as_str());
        component.references.extend(reference("distribution", &url));
        component
    } else {
        plain(&[("repository_url", url)])
    };
    if let Some(Checksum::Sha256(digest)) = &package.checksum {
        component.hashes.push(Hash { algorithm: HashAlgorithm::Sha256, value: hex::encode(digest) });
    }
    component
}

/// The manifests of a source tree by their folders.
#[derive(Default)]
struct Manifests {
    by_folder: BTreeMap<String, Manifest>,
    by_name: BTreeMap<String, Vec<String>>,
    /// Folders of crates that are copies of a registry's, with the digest of what was copied.
    copies: BTreeMap<String, Option<String>>,
    /// Folders of crates that are programs.
    programs: BTreeSet<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Manifest {
    package: Option<PackageTable>,
    workspace: Option<Workspace>,
    #[serde(flatten)]
    needs: Tables,
    target: BTreeMap<String, Tables>,
    features: BTreeMap<String, Vec<String>>,
    bin: Vec<toml::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Tables {
    #[serde(alias = "dependencies")]
    dependencies: BTreeMap<String, Dependency>,
    #[serde(alias = "build_dependencies")]
    build_dependencies: BTreeMap<String, Dependency>,
    #[serde(alias = "dev_dependencies")]
    dev_dependencies: BTreeMap<String, Dependency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Workspace {
    package: Option<toml::Table>,
    dependencies: BTreeMap<String, Dependency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct PackageTable {
    name: String,
    version: Option<toml::Value>,
    license: Option<toml::Value>,
    description: Option<toml::Value>,
    repository: Option<toml::Value>,
    homepage: Option<toml::Value>,
    authors: Option<toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dependency {
    Requirement(#[expect(dead_code, reason = "it is read to tell the two forms apart")] String),
    Table {
        package: Option<String>,
        #[serde(default)]
        optional: bool,
        #[serde(default)]
        workspace: bool,
    },
}

impl Manifests {
    fn read(scan: &Scan<'_>, found: &mut Found) -> Self {
        let mut manifests = Self::default();
        for path in named(scan, "Cargo.toml") {
            let folder = folder_of(path);
            let copied = super::tree::join(folder, ".cargo-checksum.json");
            let is_copy = scan.entry(&copied).is_some();
            let manifest = scan
                .text(path)
                .and_then(|text| toml::from_str::<Manifest>(&text).map_err(|error| malformed(path, error.message())));
            let manifest = match manifest {
                Ok(manifest) => manifest,
                // Of a copy only its licence is wanted.
                Err(_) if is_copy => continue,
                Err(reason) => {
                    found.refuse(reason);
                    continue;
                }
            };
            if is_copy {
                manifests.copies.insert(folder.to_owned(), package_digest(scan, &copied));
            }
            let main = super::tree::join(folder, "src/main.rs");
            if scan.entry(&main).is_some() || !manifest.bin.is_empty() {
                manifests.programs.insert(folder.to_owned());
            }
            if let Some(package) = &manifest.package {
                manifests.by_name.entry(package.name.clone()).or_default().push(folder.to_owned());
            }
            manifests.by_folder.insert(folder.to_owned(), manifest);
        }
        manifests
    }

    fn at(&self, folder: &str) -> Option<&Manifest> {
        self.by_folder.get(folder)
    }

    /// Those that are no copies of a registry's.
    fn own(&self) -> impl Iterator<Item = (&String, &Manifest)> {
        self.by_folder.iter().filter(|(folder, _)| !self.copies.contains_key(*folder))
    }

    /// Where a crate of the source tree is: of several of its name the one nearest below the lock file.
    fn folder_of_member(&self, package: &Package, top: &str) -> Option<&str> {
        if package.source.is_some() {
            return None;
        }
        let version = package.version.to_string();
        let folders =
            self.by_name.get(package.name.as_str())?.iter().filter(|folder| !self.copies.contains_key(*folder));
        let is_below = |folder: &str| top.is_empty() || folder == top || folder.starts_with(&format!("{top}/"));
        folders
            .filter(|folder| {
                let own = self.at(folder).and_then(|manifest| self.version(folder, manifest.package.as_ref()?));
                own.is_none_or(|own| own == version)
            })
            .min_by_key(|folder| (!is_below(folder), folder.matches('/').count(), (*folder).clone()))
            .map(String::as_str)
    }

    /// The copy of a registry's crate in the source tree, where it is the one that the lock file means.
    fn vendored(&self, package: &Package) -> Option<(&str, &PackageTable)> {
        let wanted = package.checksum.as_ref()?.to_string();
        self.by_name.get(package.name.as_str())?.iter().find_map(|folder| {
            let digest = self.copies.get(folder)?.as_ref()?;
            let of_manifest = self.at(folder)?.package.as_ref()?;
            (*digest == wanted).then_some((folder.as_str(), of_manifest))
        })
    }

    /// The workspace that a folder belongs to: the nearest manifest above it that has one.
    fn workspace(&self, folder: &str) -> Option<&Workspace> {
        let mut at = folder;
        loop {
            if let Some(workspace) = self.at(at).and_then(|manifest| manifest.workspace.as_ref()) {
                return Some(workspace);
            }
            if at.is_empty() {
                return None;
            }
            at = folder_of(at);
        }
    }

    /// A field of a package as text, from its workspace where the package says so.
    fn field(&self, folder: &str, name: &str, value: Option<&toml::Value>) -> Option<String> {
        match value? {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Table(_) => self.workspace(folder)?.package.as_ref()?.get(name)?.as_str().map(str::to_owned),
            _ => None,
        }
    }

    fn version(&self, folder: &str, package: &PackageTable) -> Option<String> {
        self.field(folder, "version", package.version.as_ref())
    }

    /// Adds what a manifest says of its package.
    fn describe(&self, mut component: Component, folder: &str, package: &PackageTable) -> Component {
        let field = |name: &str, value: &Option<toml::Value>| self.field(folder, name, value.as_ref());
        // Before there were expressions, crates wrote a slash for OR.
        let license = field("license", &package.license).map(|text| text.replace('/', " OR "));
        component.licenses.extend(license.as_deref().and_then(declared));
        component.description = field("description", &package.description).map(|text| text.trim().to_owned());
        component.references.extend(field("repository", &package.repository).and_then(|url| reference("vcs", &url)));
        component.references.extend(field("homepage", &package.homepage).and_then(|url| reference("website", &url)));
        if let Some(toml::Value::Array(authors)) = &package.authors {
            component.authors.extend(authors.iter().filter_map(toml::Value::as_str).map(author));
        }
        component
    }

    /// Why a member needs a crate of this name: the weightiest of its tables that names it.
    fn need(&self, folder: &str, name: &str) -> Need {
        let Some(manifest) = self.at(folder) else { return Need::Runtime };
        let on_by_default = manifest.enabled();
        let workspace = self.workspace(folder);
        let mut need: Option<Need> = None;
        let mut weigh = |new: Need| need = Some(need.map_or(new, |known| known.min(new)));
        for tables in std::iter::once(&manifest.needs).chain(manifest.target.values()) {
            for (key, dependency) in &tables.dependencies {
                if dependency.package(key, workspace) == name {
                    let is_off = dependency.is_optional() && !on_by_default.contains(key.as_str());
                    weigh(if is_off { Need::Optional } else { Need::Runtime });
                }
            }
            for (table, of_table) in
                [(&tables.build_dependencies, Need::Build), (&tables.dev_dependencies, Need::Development)]
            {
                if table.iter().any(|(key, dependency)| dependency.package(key, workspace) == name) {
                    weigh(of_table);
                }
            }
        }
        // What no table names came by a patch or a target that is not understood.
        need.unwrap_or(Need::Runtime)
    }
}

impl Manifest {
    /// The optional dependencies that the default features turn on.
    fn enabled(&self) -> BTreeSet<&str> {
        let mut enabled = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec!["default"];
        while let Some(feature) = open.pop() {
            if !seen.insert(feature) {
                continue;
            }
            match self.features.get(feature) {
                Some(below) => open.extend(below.iter().map(String::as_str)),
                None => {
                    // `dep:name`, `name/feature`, or the feature that an optional dependency is by itself;
                    // `name?/feature` turns nothing on.
                    let name = feature.strip_prefix("dep:").unwrap_or(feature);
                    let name = name.split_once('/').map_or(name, |(name, _)| name);
                    if !name.ends_with('?') {
                        enabled.insert(name);
                    }
                }
            }
        }
        enabled
    }
}

impl Dependency {
    /// The crate's own name, which may be another than the one by which the code calls it.
    fn package<'a>(&'a self, key: &'a str, workspace: Option<&'a Workspace>) -> &'a str {
        match self {
            Self::Requirement(_) => key,
            Self::Table { package: Some(package), .. } => package,
            Self::Table { workspace: true, .. } => {
                match workspace.and_then(|workspace| workspace.dependencies.get(key)) {
                    Some(Self::Table { package: Some(package), .. }) => package,
                    _ => key,
                }
            }
            Self::Table { .. } => key,
        }
    }

    const fn is_optional(&self) -> bool {
        matches!(self, Self::Table { optional: true, .. })
    }
}

/// `Name <email>`.
fn author(text: &str) -> Party {
    let (name, email) = match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        Some((name, email)) => (name.trim(), Some(email.trim().to_owned())),
        None => (text.trim(), None),
    };
    let name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Party { kind: PartyKind::Person, name, email, url: None }
}

/// The digest of the crate that a copy was made of.
fn package_digest(scan: &Scan<'_>, path: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Copied {
        package: Option<String>,
    }
    let read: Result<Vec<u8>, Reason> = scan.read(path);
    serde_json::from_slice::<Copied>(&read.ok()?).ok()?.package
}
