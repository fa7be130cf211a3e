//! Python: requirements with pins, the lock files of Poetry, uv and Pipenv, and installed distributions in, packages out.
//!
//! Only what is pinned to one version is a component: a range says what may be installed, not what is.
//! Names are compared in their normalised form (packaging.python.org, name normalization).
//! A distribution has many files, and lock files list the digests of all of them: one alone is the component's own,
//! several are told as properties, because no two may stand for one thing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::package::{Need, add, declared, library, needs, property, reference, tagged_hash};
use super::tree::{folder_of, join, name_of, resolve};
use super::{Found, Scan, View, malformed};
use crate::release::evidence::sbom::model::{Component, ComponentKind, Party, PartyKind};

/// Finds the lock files of a source tree, and installed distributions everywhere.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    let mut locked: BTreeSet<&str> = BTreeSet::new();
    for entry in scan.files().filter(|_| scan.view == View::Source) {
        let path = entry.path.as_str();
        let text = |why: fn(&str) -> Result<Vec<Package>, String>| {
            scan.text(path).and_then(|text| why(&text).map_err(|why| malformed(path, why)))
        };
        match entry.name() {
            "poetry.lock" => {
                let packages = text(poetry);
                packages_of(path, found.keep(packages), scan, found);
            }
            "uv.lock" => {
                let packages = text(uv);
                packages_of(path, found.keep(packages), scan, found);
            }
            "Pipfile.lock" => {
                let packages = text(pipenv);
                packages_of(path, found.keep(packages), scan, found);
            }
            name if is_requirements(name) => {
                let packages = text(|text| Ok(requirements(text)));
                packages_of(path, found.keep(packages), scan, found);
                continue;
            }
            _ => continue,
        }
        locked.insert(entry.folder());
    }
    if scan.view == View::Source {
        for entry in scan.files().filter(|entry| entry.name() == "pyproject.toml" && !locked.contains(entry.folder())) {
            if let Some(component) =
                Project::beside(scan, entry.folder(), found).and_then(|project| project.component())
            {
                found.project(entry.folder(), &component.id);
                found.add_at(component, &entry.path);
            }
        }
    }
    installed(scan, found);
}

fn is_requirements(name: &str) -> bool {
    name.ends_with(".txt") && name.contains("requirements")
}

/// One package of a lock file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Package {
    /// The name as it is written.
    pub name: String,
    /// The version.
    pub version: String,
    /// What it depends on, by name, and whether only with an extra.
    pub dependencies: Vec<(String, bool)>,
    /// Name of a file, where it is told, and its digest as `sha256:HEX`.
    pub files: Vec<(String, String)>,
    /// What the file itself says of why it is there.
    pub need: Option<Need>,
    /// Whether nothing but the project asks for it, as far as the file tells.
    pub asked_by_project: bool,
    /// Where it came from, where that is not the usual index: a kind of reference, and an address.
    pub source: Option<(&'static str, String)>,
    /// The folder of the project itself, relative to the file.
    pub project: Option<String>,
    /// What the project asks for only while it is worked on.
    pub development: Vec<String>,
}

/// A name in its normalised form.
fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

/// Reads a requirements file: those that are pinned by `==`.
pub fn requirements(text: &str) -> Vec<Package> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut packages = Vec::new();
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(['#', '-']) {
            continue;
        }
        let mut words = line.split(" --");
        let requirement = words.next().unwrap_or_default();
        let requirement = requirement.split(';').next().unwrap_or_default();
        let Some((name, version)) = requirement.split_once("==") else { continue };
        let name = name.split('[').next().unwrap_or_default().trim();
        let version = version.trim_start_matches('=').trim();
        let is_one = !version.is_empty() && !version.contains(['*', ',', ' ', '<', '>', '!', '~']);
        if !is_one || !is_name(name) {
            continue;
        }
        let hashes = words.filter_map(|word| word.trim().strip_prefix("hash")?.trim_start().strip_prefix('='));
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            files: hashes.map(|hash| (String::new(), hash.trim().to_owned())).collect(),
            asked_by_project: true,
            ..Package::default()
        });
    }
    packages
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn toml_error(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoetryPackage {
    name: String,
    version: String,
    category: Option<String>,
    groups: Option<Vec<String>>,
    optional: bool,
    files: Vec<PoetryFile>,
    dependencies: BTreeMap<String, toml::Value>,
    source: Option<PoetrySource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoetryFile {
    file: String,
    hash: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoetrySource {
    r#type: String,
    url: String,
}

/// Reads a `poetry.lock`.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn poetry(text: &str) -> Result<Vec<Package>, String> {
    #[derive(Debug, Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<PoetryPackage>,
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        files: BTreeMap<String, Vec<PoetryFile>>,
    }
    let lock: Lock = toml::from_str(text).map_err(|error| toml_error(&error))?;
    let mut older = lock.metadata.files;
    let package = |package: PoetryPackage| {
        let files =
            if package.files.is_empty() { older.remove(&package.name).unwrap_or_default() } else { package.files };
        let is_main = match (&package.groups, package.category.as_deref()) {
            (Some(groups), _) => Some(groups.iter().any(|group| group == "main")),
            (None, Some(category)) => Some(category == "main"),
            (None, None) => None,
        };
        let need = is_main.map(|is_main| match (is_main, package.optional) {
            (false, _) => Need::Development,
            (true, true) => Need::Optional,
            (true, false) => Need::Runtime,
        });
        let is_optional =
            |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool).unwrap_or_default();
        let source = package
            .source
            .filter(|source| source.r#type != "legacy")
            .map(|source| (if source.r#type == "git" { "vcs" } else { "distribution" }, source.url));
        Package {
            dependencies: package.dependencies.iter().map(|(name, value)| (name.clone(), is_optional(value))).collect(),
            name: package.name,
            version: package.version,
            files: files.into_iter().map(|file| (file.file, file.hash)).collect(),
            need,
            source,
            ..Package::default()
        }
    };
    complete(lock.package.into_iter().map(package).collect())
}

/// A package without a name or a version is none.
fn complete(packages: Vec<Package>) -> Result<Vec<Package>, String> {
    match packages.iter().find(|package| package.name.is_empty()) {
        Some(_) => Err("a package has no name".to_owned()),
        None => Ok(packages),
    }
}

/// Reads a `uv.lock`.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn uv(text: &str) -> Result<Vec<Package>, String> {
    #[derive(Debug, Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<UvPackage>,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct UvPackage {
        name: String,
        version: String,
        source: BTreeMap<String, toml::Value>,
        dependencies: Vec<UvDependency>,
        optional_dependencies: BTreeMap<String, Vec<UvDependency>>,
        dev_dependencies: BTreeMap<String, Vec<UvDependency>>,
        sdist: Option<UvFile>,
        wheels: Vec<UvFile>,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct UvDependency {
        name: String,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct UvFile {
        url: String,
        path: String,
        hash: String,
    }
    let lock: Lock = toml::from_str(text).map_err(|error| toml_error(&error))?;
    let package = |package: UvPackage| {
        let of = |kind: &str| package.source.get(kind).and_then(toml::Value::as_str).map(str::to_owned);
        let names = |dependencies: &[UvDependency], optional: bool| {
            dependencies.iter().map(|dependency| (dependency.name.clone(), optional)).collect::<Vec<_>>()
        };
        let mut dependencies = names(&package.dependencies, false);
        dependencies.extend(package.optional_dependencies.values().flat_map(|extra| names(extra, true)));
        let source = of("git").map(|url| ("vcs", url)).or_else(|| of("url").map(|url| ("distribution", url)));
        let file = |file: &UvFile| {
            let place = if file.url.is_empty() { &file.path } else { &file.url };
            (name_of(place).to_owned(), file.hash.clone())
        };
        Package {
            dependencies,
            files: package.sdist.iter().chain(&package.wheels).map(file).filter(|(_, hash)| !hash.is_empty()).collect(),
            project: of("virtual").or_else(|| of("editable")),
            development: package.dev_dependencies.values().flatten().map(|one| one.name.clone()).collect(),
            source,
            name: package.name,
            version: package.version,
            ..Package::default()
        }
    };
    complete(lock.package.into_iter().map(package).collect())
}

/// Reads a `Pipfile.lock`.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn pipenv(text: &str) -> Result<Vec<Package>, String> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Pinned {
        version: Option<String>,
        hashes: Vec<String>,
        git: Option<String>,
    }
    let lock: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut packages = Vec::new();
    for (group, value) in lock {
        if group == "_meta" {
            continue;
        }
        let pinned: BTreeMap<String, Pinned> = serde_json::from_value(value).map_err(|error| error.to_string())?;
        packages.extend(pinned.into_iter().map(|(name, pinned)| Package {
            name,
            version: pinned.version.as_deref().unwrap_or_default().trim_start_matches('=').to_owned(),
            files: pinned.hashes.into_iter().map(|hash| (String::new(), hash)).collect(),
            need: Some(if group == "default" { Need::Runtime } else { Need::Development }),
            source: pinned.git.map(|url| ("vcs", url)),
            ..Package::default()
        }));
    }
    Ok(packages)
}

/// What of a `pyproject.toml` matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Project {
    project: Option<ProjectTable>,
    tool: Tool,
    dependency_groups: BTreeMap<String, Vec<toml::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ProjectTable {
    name: String,
    version: Option<String>,
    description: Option<String>,
    license: Option<toml::Value>,
    dependencies: Vec<String>,
    optional_dependencies: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool {
    poetry: Option<PoetryTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct PoetryTable {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    license: Option<String>,
    dependencies: BTreeMap<String, toml::Value>,
    dev_dependencies: BTreeMap<String, toml::Value>,
    group: BTreeMap<String, PoetryGroup>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoetryGroup {
    dependencies: BTreeMap<String, toml::Value>,
}

impl Project {
    fn beside(scan: &Scan<'_>, folder: &str, found: &mut Found) -> Option<Self> {
        let path = join(folder, "pyproject.toml");
        scan.entry(&path).filter(|entry| entry.is_file())?;
        let read = scan
            .text(&path)
            .and_then(|text| toml::from_str(&text).map_err(|error| malformed(&path, toml_error(&error))));
        found.keep(read)
    }

    fn component(&self) -> Option<Component> {
        let (mut name, mut version, mut description, mut license) = (None, None, None, None);
        if let Some(poetry) = &self.tool.poetry {
            name = poetry.name.as_deref();
            version = poetry.version.as_deref();
            description = poetry.description.as_deref();
            license = poetry.license.as_deref();
        }
        if let Some(project) = &self.project {
            name = Some(project.name.as_str()).or(name);
            version = project.version.as_deref().or(version);
            description = project.description.as_deref().or(description);
            let text =
                project.license.as_ref().and_then(|license| license.as_str().or_else(|| license.get("text")?.as_str()));
            license = text.or(license);
        }
        let mut component = package(name.filter(|name| !name.is_empty())?, version.unwrap_or_default());
        component.kind = ComponentKind::Application;
        component.description = description.map(str::to_owned);
        component.licenses.extend(license.and_then(declared));
        Some(component)
    }

    /// What the project asks for, by normalised name.
    fn asks(&self) -> Vec<(String, Need)> {
        let mut asks = Vec::new();
        let mut add = |name: &str, need: Need| asks.push((normal(name), need));
        if let Some(project) = &self.project {
            project.dependencies.iter().for_each(|text| add(requirement_name(text), Need::Runtime));
            project
                .optional_dependencies
                .values()
                .flatten()
                .for_each(|text| add(requirement_name(text), Need::Optional));
        }
        for text in self.dependency_groups.values().flatten().filter_map(toml::Value::as_str) {
            add(requirement_name(text), Need::Development);
        }
        if let Some(poetry) = &self.tool.poetry {
            let is_optional =
                |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool).unwrap_or_default();
            for (name, value) in poetry.dependencies.iter().filter(|(name, _)| *name != "python") {
                add(name, if is_optional(value) { Need::Optional } else { Need::Runtime });
            }
            let groups = poetry.group.values().flat_map(|group| group.dependencies.keys());
            groups.chain(poetry.dev_dependencies.keys()).for_each(|name| add(name, Need::Development));
        }
        asks
    }
}

/// The name in a requirement (PEP 508).
fn requirement_name(text: &str) -> &str {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn package(name: &str, version: &str) -> Component {
    let mut component = library("pypi", None, &normal(name), Some(version).filter(|version| !version.is_empty()), &[]);
    component.name = name.to_owned();
    component
}

fn packages_of(path: &str, packages: Option<Vec<Package>>, scan: &Scan<'_>, found: &mut Found) {
    let Some(packages) = packages else { return };
    let folder = folder_of(path);
    let is_lock = !is_requirements(name_of(path));
    let project = if is_lock { Project::beside(scan, folder, found) } else { None };
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, package) in packages.iter().enumerate() {
        by_name.entry(normal(&package.name)).or_default().push(at);
    }
    let find = |name: &str| by_name.get(&normal(name)).cloned().unwrap_or_default();
    let edges = |at: &usize| -> Vec<(usize, Need)> {
        let Some(package) = packages.get(*at) else { return Vec::new() };
        let ordinary = package.dependencies.iter().flat_map(|(name, optional)| {
            let need = if *optional { Need::Optional } else { Need::Runtime };
            find(name).into_iter().map(move |on| (on, need))
        });
        let development = package.development.iter().flat_map(|name| find(name)).map(|on| (on, Need::Development));
        ordinary.chain(development).collect()
    };
    let asked: Vec<(usize, Need)> = project
        .iter()
        .flat_map(Project::asks)
        .flat_map(|(name, need)| find(&name).into_iter().map(move |at| (at, need)))
        .collect();
    let projects =
        packages.iter().enumerate().filter(|(_, package)| package.project.is_some()).map(|(at, _)| (at, Need::Runtime));
    let needs = needs(asked.iter().copied().chain(projects), edges);

    let mut ids = Vec::new();
    for (at, package) in packages.iter().enumerate() {
        let mut component = component(package);
        let id = component.id.clone();
        if let Some(place) = &package.project {
            component.kind = ComponentKind::Application;
            found.project(&resolve(folder, place).unwrap_or_default(), &id);
            found.add_at(component, path);
        } else {
            add(found, component, package.need.or_else(|| needs.get(&at).copied()), path);
        }
        if package.asked_by_project {
            found.needed(folder, &id);
        } else if name_of(path) != "Pipfile.lock" {
            found.knows_dependencies(&id);
        }
        ids.push(id);
    }
    let id_of = |at: usize| ids.get(at).map(String::as_str);
    for (at, id) in ids.iter().enumerate() {
        edges(&at).into_iter().filter_map(|(on, _)| id_of(on)).for_each(|on| found.depends(id, on));
    }
    if let Some(component) = project.as_ref().and_then(Project::component) {
        let id = component.id.clone();
        found.project(folder, &id);
        found.add_at(component, path);
        asked.iter().filter_map(|(at, _)| id_of(*at)).for_each(|on| found.depends(&id, on));
    }
}

fn component(package: &Package) -> Component {
    let mut component = self::package(&package.name, &package.version);
    if let [(_, hash)] = package.files.as_slice()
        && let Some(hash) = tagged_hash(hash)
    {
        component.hashes.push(hash);
    } else {
        let told = package.files.iter().map(|(file, hash)| format!("{file} {hash}").trim().to_owned());
        component.properties.extend(told.map(|file| property("debvisor:python:file", file)));
    }
    if let Some((kind, url)) = &package.source {
        component.references.extend(reference(kind, url.strip_prefix("git+").unwrap_or(url)));
    }
    component
}

/// Distributions as they are installed: `NAME-VERSION.dist-info/METADATA`, or the older `egg-info`.
fn installed(scan: &Scan<'_>, found: &mut Found) {
    let mut distributions: BTreeMap<String, (Component, Vec<String>)> = BTreeMap::new();
    for entry in scan.files() {
        let folder = entry.folder();
        let is_metadata = (entry.name() == "METADATA" && folder.ends_with(".dist-info"))
            || (entry.name() == "PKG-INFO" && folder.ends_with(".egg-info"))
            || entry.name().ends_with(".egg-info");
        // A source tree has the egg-info of the project itself, which is no installed one.
        if !is_metadata || (scan.view == View::Source && !folder.ends_with(".dist-info")) {
            continue;
        }
        let bytes = scan.read(&entry.path);
        let Some(bytes) = found.keep(bytes) else { continue };
        let metadata = metadata(&String::from_utf8_lossy(&bytes));
        let Some((component, requires)) = metadata else {
            found.refuse(malformed(&entry.path, "it has no name or no version"));
            continue;
        };
        found.add_at(component.clone(), &entry.path);
        // A copy in another place is another installation; of those that share a place each sees the others.
        let place = folder_of(folder);
        distributions.insert(format!("{place}\n{}", normal(&component.name)), (component, requires));
    }
    for (key, (component, requires)) in &distributions {
        let place = key.split('\n').next().unwrap_or_default();
        found.knows_dependencies(&component.id);
        for name in requires {
            if let Some((on, _)) = distributions.get(&format!("{place}\n{}", normal(name))) {
                found.depends(&component.id, &on.id);
            }
        }
    }
}

/// Core metadata (packaging.python.org): the distribution, and what it requires without an extra.
pub fn metadata(text: &str) -> Option<(Component, Vec<String>)> {
    let mut fields: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.starts_with([' ', '\t'])) {
            fields.entry(name.to_ascii_lowercase()).or_default().push(value.trim());
        }
    }
    let field = |name: &str| {
        let value = fields.get(name)?.first().copied()?;
        Some(value).filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let mut component = package(field("name").filter(|name| is_name(name))?, field("version")?);
    let license = field("license-expression").or_else(|| field("license"));
    component.licenses.extend(license.and_then(declared));
    component.description = field("summary").map(str::to_owned);
    component.references.extend(field("home-page").and_then(|url| reference("website", url)));
    let email = field("author-email").filter(|email| !email.contains('<')).map(str::to_owned);
    let author = Party { kind: PartyKind::Person, name: field("author").map(str::to_owned), email, url: None };
    component.authors.extend(Some(author).filter(Party::is_told));
    let requires = fields.get("requires-dist").into_iter().flatten();
    let requires = requires.filter(|text| !text.contains("extra ==")).map(|text| requirement_name(text).to_owned());
    Some((component, requires.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pin_is_a_version_and_its_hashes_go_with_it() {
        let text = "# c\n-r other.txt\nDjango==4.2.1  # why\nrange>=1\na[b]==1.0 ; python_version < '3' \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\nw==1.*\n==2\nx == 3\n";
        let found: Vec<(String, String, usize)> = requirements(text)
            .into_iter()
            .map(|package| (package.name, package.version, package.files.len()))
            .collect();
        assert_eq!(
            found,
            [("Django".into(), "4.2.1".into(), 0), ("a".into(), "1.0".into(), 2), ("x".into(), "3".into(), 0)]
        );
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(normal("Foo__Bar.-baz"), "foo-bar-baz");
        assert_eq!(requirement_name("requests[socks] >=2 ; x"), "requests");
    }
}
