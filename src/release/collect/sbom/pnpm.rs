//! pnpm: `pnpm-lock.yaml` of versions 5 to 9 in, packages out.
//!
//! A key is `/name/1.0.0` up to version 5, `/name@1.0.0` in 6 and `name@1.0.0` since 9; what follows in brackets, or
//! behind a `_` in version 5, says which peers it was joined with, and names no other package.
//! Source: github.com/pnpm/spec, lockfile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::npm::{Manifest, package};
use super::package::{Need, add, integrity, needs, reference};
use super::tree::{folder_of, resolve};
use super::{Found, Scan, View, malformed, yaml};
use crate::release::evidence::sbom::model::{Component, ComponentKind};

/// Finds every `pnpm-lock.yaml` of a source tree.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Source {
        return;
    }
    for entry in scan.files().filter(|entry| entry.name() == "pnpm-lock.yaml") {
        let path = entry.path.as_str();
        let lock = scan.text(path).and_then(|text| parse(&text).map_err(|why| malformed(path, why)));
        if let Some(lock) = found.keep(lock) {
            lockfile(path, scan, lock, found);
        }
    }
}

/// A lock file of pnpm.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lock {
    lockfile_version: String,
    importers: Option<BTreeMap<String, Importer>>,
    dependencies: Option<BTreeMap<String, Asked>>,
    dev_dependencies: Option<BTreeMap<String, Asked>>,
    optional_dependencies: Option<BTreeMap<String, Asked>>,
    packages: Option<BTreeMap<String, Locked>>,
    snapshots: Option<BTreeMap<String, Locked>>,
}

/// A package of the project itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Importer {
    dependencies: Option<BTreeMap<String, Asked>>,
    dev_dependencies: Option<BTreeMap<String, Asked>>,
    optional_dependencies: Option<BTreeMap<String, Asked>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Version(String),
    Table { version: String },
}

impl Asked {
    fn version(&self) -> &str {
        match self {
            Self::Version(version) | Self::Table { version } => version,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    resolution: Resolution,
    dependencies: Option<BTreeMap<String, String>>,
    optional_dependencies: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resolution {
    integrity: Option<String>,
    tarball: Option<String>,
    repo: Option<String>,
}

/// Reads a lock file.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(text: &str) -> Result<Lock, String> {
    let lock: Lock = yaml(text)?;
    if lock.lockfile_version.is_empty() { Err("it has no `lockfileVersion`".to_owned()) } else { Ok(lock) }
}

/// A key without its peers.
fn plain(key: &str) -> &str {
    key.split_once('(').map_or(key, |(key, _)| key)
}

/// Name and version of a key.
fn split(key: &str) -> Option<(&str, &str)> {
    let key = plain(key);
    let is_old = key.starts_with('/');
    let key = key.strip_prefix('/').unwrap_or(key);
    if let Some(at) = key.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1)
        && key.get(..at).is_some_and(|name| name.matches('/').count() <= usize::from(name.starts_with('@')))
    {
        return Some((key.get(..at)?, key.get(at + 1..)?));
    }
    // Version 5: the last part is the version, and its peers stand behind a `_`.
    let (name, version) = key.rsplit_once('/').filter(|_| is_old)?;
    Some((name, version.split_once('_').map_or(version, |(version, _)| version)))
}

fn lockfile(path: &str, scan: &Scan<'_>, lock: Lock, found: &mut Found) {
    let folder = folder_of(path);
    let packages = lock.packages.unwrap_or_default();
    let graph = lock.snapshots.as_ref().unwrap_or(&packages);
    // The key of what a name and a version, as a dependent has them, mean.
    let key_of = |name: &str, version: &str| {
        let candidates = [
            format!("{name}@{version}"),
            format!("/{name}@{version}"),
            format!("/{name}/{version}"),
            version.to_owned(),
        ];
        candidates.iter().find_map(|key| graph.get_key_value(key.as_str())).map(|(key, _)| key.as_str())
    };
    let below = |key: &&str| -> Vec<(&str, Need)> {
        let Some(locked) = graph.get(*key) else { return Vec::new() };
        let of = |table: &Option<BTreeMap<String, String>>, need: Need| {
            table
                .iter()
                .flatten()
                .filter_map(|(name, version)| Some((key_of(name, version)?, need)))
                .collect::<Vec<_>>()
        };
        [of(&locked.dependencies, Need::Runtime), of(&locked.optional_dependencies, Need::Optional)].concat()
    };
    let mut importers = lock.importers.unwrap_or_default();
    if importers.is_empty() {
        let (dependencies, dev_dependencies) = (lock.dependencies, lock.dev_dependencies);
        let only = Importer { dependencies, dev_dependencies, optional_dependencies: lock.optional_dependencies };
        importers.insert(".".to_owned(), only);
    }
    let mut starts: Vec<(&str, Need)> = Vec::new();
    let mut of_projects: Vec<(String, Vec<&str>)> = Vec::new();
    for (place, importer) in &importers {
        let of = |table: &Option<BTreeMap<String, Asked>>, need: Need| {
            let asked = table.iter().flatten();
            asked.filter_map(|(name, asked)| Some((key_of(name, asked.version())?, need))).collect::<Vec<_>>()
        };
        let asked = [
            of(&importer.dependencies, Need::Runtime),
            of(&importer.optional_dependencies, Need::Optional),
            of(&importer.dev_dependencies, Need::Development),
        ]
        .concat();
        starts.extend(&asked);
        let Some(project) = resolve(folder, place) else { continue };
        if let Some(mut component) = Manifest::beside(scan, &project, found).and_then(|manifest| manifest.component()) {
            component.kind = ComponentKind::Application;
            found.project(&project, &component.id);
            of_projects.push((component.id.clone(), asked.iter().map(|(key, _)| *key).collect()));
            found.add_at(component, path);
        }
    }
    let needs = needs(starts, below);
    let keys: BTreeSet<&str> = packages.keys().map(String::as_str).chain(graph.keys().map(String::as_str)).collect();
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for key in keys {
        let locked = packages.get(key).or_else(|| packages.get(plain(key)));
        let Some(component) = locked.and_then(|locked| component(key, locked)) else { continue };
        ids.insert(key, component.id.clone());
        // Since version 9 the graph has the keys with peers, of which the list of packages knows nothing.
        let need = needs.get(key).copied();
        if need.is_some() || graph.contains_key(key) {
            add(found, component, need, path);
        }
    }
    for (key, id) in &ids {
        if graph.contains_key(*key) {
            found.knows_dependencies(id);
            below(key).iter().filter_map(|(on, _)| ids.get(on)).for_each(|on| found.depends(id, on));
        }
    }
    for (id, on) in of_projects {
        found.knows_dependencies(&id);
        on.iter().filter_map(|key| ids.get(key)).for_each(|on| found.depends(&id, on));
    }
}

fn component(key: &str, locked: &Locked) -> Option<Component> {
    let of_key = split(key);
    let name = locked.name.as_deref().or(of_key.map(|(name, _)| name))?;
    let version =
        locked.version.as_deref().or(of_key.map(|(_, version)| version).filter(|version| !version.contains("://")));
    let mut component = package(name, version);
    component.hashes = locked.resolution.integrity.as_deref().map(integrity).unwrap_or_default();
    component.references.extend(locked.resolution.tarball.as_deref().and_then(|url| reference("distribution", url)));
    component.references.extend(locked.resolution.repo.as_deref().and_then(|url| reference("vcs", url)));
    Some(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_every_version_is_a_name_and_a_version() {
        for (key, name, version) in [
            ("/a/1.0.0", "a", "1.0.0"),
            ("/@s/a/1.0.0_b@2.0.0", "@s/a", "1.0.0"),
            ("/@s/a@1.0.0(b@2.0.0)", "@s/a", "1.0.0"),
            ("@s/a@1.0.0(b@2.0.0)(c@3)", "@s/a", "1.0.0"),
            ("a@1.0.0", "a", "1.0.0"),
        ] {
            assert_eq!(split(key), Some((name, version)), "{key}");
        }
        assert_eq!(split("a"), None);
        assert_eq!(split(""), None);
    }
}
