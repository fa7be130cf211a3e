//! Yarn: lock files of version 1 and of Yarn 2 and later ("berry") in, packages out.
//!
//! An entry is named by everything that was asked for: `a@^1.0.0, a@^1.1.0`. Version 1 does not say what is for
//! development; the manifests of the project do.
//! Source: classic.yarnpkg.com, yarn.lock; yarnpkg.com, lockfile and protocols.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::npm::{Manifest, package};
use super::package::{Need, add, integrity, needs, property, reference};
use super::tree::{folder_of, join};
use super::{Found, Scan, View, malformed, yaml};
use crate::release::evidence::sbom::model::{Component, ComponentKind, Hash, HashAlgorithm};

/// Finds every `yarn.lock` of a source tree.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Source {
        return;
    }
    for entry in scan.files().filter(|entry| entry.name() == "yarn.lock") {
        let path = entry.path.as_str();
        let lock = scan.text(path).and_then(|text| parse(&text).map_err(|why| malformed(path, why)));
        if let Some(entries) = found.keep(lock) {
            lockfile(path, scan, &entries, found);
        }
    }
}

/// One package of a lock file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was asked for: `name@range`, in Yarn 2 with a protocol.
    pub asked: Vec<String>,
    /// The version.
    pub version: String,
    /// What it depends on: name and range.
    pub dependencies: Vec<(String, String)>,
    /// Where it came from.
    pub resolved: Option<String>,
    /// Subresource integrity.
    pub integrity: Option<String>,
    /// Yarn 2: `name@npm:1.0.0`.
    pub resolution: Option<String>,
    /// Yarn 2: a digest of Yarn's own archive of the package, which nobody else has.
    pub checksum: Option<String>,
}

impl Entry {
    /// The package's own name: an alias is asked for under another one.
    fn name(&self) -> Option<&str> {
        if let Some(resolution) = &self.resolution {
            return split(resolution).map(|(name, _)| name);
        }
        let (name, range) = split(self.asked.first()?)?;
        match range.strip_prefix("npm:") {
            Some(alias) => Some(split(alias).map_or(alias, |(name, _)| name)),
            None => Some(name),
        }
    }

    /// Whether it is a package of the project itself, and in which folder.
    fn workspace(&self) -> Option<&str> {
        split(self.resolution.as_deref()?)?.1.strip_prefix("workspace:")
    }
}

/// `@scope/name@range` into name and range.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.get(1..)?.find('@')? + 1;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Reads a lock file of either form.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    if text.lines().any(|line| line.starts_with("__metadata:")) { berry(text) } else { classic(text) }
}

fn berry(text: &str) -> Result<Vec<Entry>, String> {
    #[derive(Deserialize)]
    struct Berry {
        #[serde(default)]
        version: Option<String>,
        #[serde(default)]
        resolution: Option<String>,
        #[serde(default)]
        dependencies: Option<BTreeMap<String, String>>,
        #[serde(default)]
        checksum: Option<String>,
    }
    let document: BTreeMap<String, Berry> = yaml(text)?;
    let entry = |(key, berry): (String, Berry)| Entry {
        asked: key.split(',').map(|asked| asked.trim().to_owned()).collect(),
        version: berry.version.unwrap_or_default(),
        dependencies: berry.dependencies.unwrap_or_default().into_iter().collect(),
        resolution: berry.resolution,
        checksum: berry.checksum,
        ..Entry::default()
    };
    Ok(document.into_iter().filter(|(key, _)| key != "__metadata").map(entry).collect())
}

/// Lines of names at the margin, members two spaces in, and names with ranges four spaces in.
fn classic(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = line.len() - line.trim_start_matches(' ').len();
        if depth == 0 {
            let names = content.strip_suffix(':').ok_or_else(|| wrong("an entry has no colon"))?;
            let asked = names.split(", ").map(|name| unquoted(name).to_owned()).collect();
            entries.push(Entry { asked, ..Entry::default() });
            in_dependencies = false;
            continue;
        }
        let entry = entries.last_mut().ok_or_else(|| wrong("a member stands before any entry"))?;
        if depth >= 4 && in_dependencies {
            let (name, range) = pair(content).ok_or_else(|| wrong("a dependency has no range"))?;
            entry.dependencies.push((name.to_owned(), range.to_owned()));
            continue;
        }
        in_dependencies = matches!(content, "dependencies:" | "optionalDependencies:");
        match pair(content) {
            Some(("version", value)) => entry.version = value.to_owned(),
            Some(("resolved", value)) => entry.resolved = Some(value.to_owned()),
            Some(("integrity", value)) => entry.integrity = Some(value.to_owned()),
            Some(_) => {}
            None if content.ends_with(':') => {}
            None => return Err(wrong("a member has no value")),
        }
    }
    match entries.iter().find(|entry| entry.version.is_empty()) {
        Some(entry) => Err(format!("`{}` has no version", entry.asked.join(", "))),
        None => Ok(entries),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A name and a value, either of which may be in quotes.
fn pair(content: &str) -> Option<(&str, &str)> {
    let (name, value) = match content.strip_prefix('"') {
        Some(rest) => rest.split_once('"')?,
        None => content.split_once(' ')?,
    };
    let value = unquoted(value.trim());
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

fn lockfile(path: &str, scan: &Scan<'_>, entries: &[Entry], found: &mut Found) {
    let folder = folder_of(path);
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        for name in &entry.asked {
            asked.entry(name).or_insert(at);
        }
    }
    let find = |name: &str, range: &str| {
        // Yarn 2 leaves out the protocol where it is the usual one, in one place or the other.
        let plain = range.strip_prefix("npm:").unwrap_or(range);
        [
            format!("{name}@{range}"),
            format!("{name}@npm:{plain}"),
            format!("{name}@{plain}"),
            format!("{name}@workspace:{plain}"),
        ]
        .iter()
        .find_map(|key| asked.get(key.as_str()).copied())
    };
    let mut starts: Vec<(usize, Need)> = Vec::new();
    let mut edges_of_projects: Vec<(String, Vec<usize>)> = Vec::new();
    for project in projects(scan, folder, entries) {
        let Some(manifest) = Manifest::beside(scan, &project, found) else { continue };
        let of_manifest: Vec<(usize, Need)> =
            manifest.asks().into_iter().filter_map(|(name, range, need)| Some((find(name, range)?, need))).collect();
        starts.extend(of_manifest.iter().copied());
        if let Some(mut component) = manifest.component() {
            component.kind = ComponentKind::Application;
            found.project(&project, &component.id);
            found.knows_dependencies(&component.id);
            edges_of_projects.push((component.id.clone(), of_manifest.iter().map(|(at, _)| *at).collect()));
            found.add_at(component, path);
        }
    }
    let below: Vec<Vec<usize>> = entries
        .iter()
        .map(|entry| entry.dependencies.iter().filter_map(|(name, range)| find(name, range)).collect())
        .collect();
    let needs = needs(starts.iter().copied(), |at| {
        below.get(*at).into_iter().flatten().map(|on| (*on, Need::Runtime)).collect()
    });
    let ids: Vec<Option<String>> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            if entry.workspace().is_some() {
                return None;
            }
            let component = component(entry)?;
            let id = component.id.clone();
            add(found, component, needs.get(&at).copied(), path);
            found.knows_dependencies(&id);
            Some(id)
        })
        .collect();
    let id_of = |at: &usize| ids.get(*at).and_then(Option::as_deref);
    for (at, on) in below.iter().enumerate() {
        if let Some(id) = id_of(&at) {
            on.iter().filter_map(id_of).for_each(|on| found.depends(id, on));
        }
    }
    for (id, on) in edges_of_projects {
        on.iter().filter_map(id_of).for_each(|on| found.depends(&id, on));
    }
}

/// The folders of the project's own packages: Yarn 2 names them, version 1 leaves them to the manifests.
fn projects(scan: &Scan<'_>, folder: &str, entries: &[Entry]) -> Vec<String> {
    let named: Vec<String> =
        entries.iter().filter_map(Entry::workspace).filter_map(|place| super::tree::resolve(folder, place)).collect();
    if !named.is_empty() {
        return named;
    }
    let locks = ["yarn.lock", "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml"];
    scan.files()
        .filter(|entry| entry.name() == "package.json")
        .map(|entry| entry.folder().to_owned())
        .filter(|own| {
            // The nearest lock file above a manifest is the one that is its.
            let mut at = own.as_str();
            loop {
                if locks.iter().any(|lock| scan.entry(&join(at, lock)).is_some()) {
                    return at == folder;
                }
                if at.is_empty() {
                    return false;
                }
                at = folder_of(at);
            }
        })
        .collect()
}

fn component(entry: &Entry) -> Option<Component> {
    let mut component = package(entry.name()?, Some(&entry.version));
    component.hashes = entry.integrity.as_deref().map(integrity).unwrap_or_default();
    if let Some(resolved) = &entry.resolved {
        let (url, digest) = resolved.split_once('#').unwrap_or((resolved, ""));
        component.references.extend(reference("distribution", url));
        // Before there was an integrity, the SHA-1 stood behind the address.
        let sha1 = Hash::new(HashAlgorithm::Sha1, digest);
        if component.hashes.is_empty() && sha1.is_well_formed() && url.starts_with("http") {
            component.hashes.push(sha1);
        }
    }
    component.properties.extend(entry.checksum.as_ref().map(|checksum| property("debvisor:yarn:checksum", checksum)));
    Some(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_what_is_neither_is_told_by_its_line() {
        let text = "# yarn lockfile v1\n\n\"@a/b@^1.0.0\", c@~2:\n  version \"1.2.3\"\n  resolved \"https://x.example/b.tgz#aa\"\n  dependencies:\n    d \"^4\"\n    \"@e/f\" \"5\"\n";
        let entries = parse(text).unwrap();
        assert_eq!(entries[0].asked, ["@a/b@^1.0.0", "c@~2"]);
        assert_eq!(entries[0].name(), Some("@a/b"));
        assert_eq!(entries[0].dependencies, [("d".into(), "^4".into()), ("@e/f".into(), "5".into())]);
        let berry = "__metadata:\n  version: 8\n\n\"a@npm:^1.0.0, a@npm:^1.1\":\n  version: 1.2.0\n  resolution: \"a@npm:1.2.0\"\n  checksum: 10c0/ab\n";
        let entries = parse(berry).unwrap();
        assert_eq!((entries[0].name(), entries[0].version.as_str(), entries[0].asked.len()), (Some("a"), "1.2.0", 2));
        assert_eq!(parse("  version \"1\"\n").unwrap_err(), "line 1: a member stands before any entry");
        assert_eq!(parse("a@1:\n  resolved \"x\"\n").unwrap_err(), "`a@1` has no version");
    }
}
