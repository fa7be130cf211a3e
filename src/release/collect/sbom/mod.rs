//! Makes bills of materials: a source in, the neutral model of what it is made of out.
//!
//! A [`Source`] is opened as a [`Tree`] of files. Every [`Cataloger`] looks through the tree for the files that it
//! knows and tells [`Found`] what they say; what all of them found becomes one [`Sbom`]. A cataloger is a function of
//! the tree alone, so that the same files make the same document, wherever they are and whoever asks.
//! Invariant: no package manager is run, no socket is opened for a file's content, and what is not known is not said.
//! A file that does not have the form that its name promises is a reason: a document without it would leave out what
//! it lists.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use regex::Regex;
use sha2::Digest as _;

use crate::release::artifact::Artifact;
use crate::release::evidence::sbom::model::{Component, ComponentKind, Hash, LOCATION, Metadata, Party, Sbom, Tool};
use crate::types::{Code, DigestAlgorithm, Reason, limits};

pub mod binary;
pub mod cargo;
mod disk;
mod found;
pub mod go;
mod image;
mod layers;
mod links;
pub mod maven;
pub mod npm;
mod os;
pub mod package;
pub mod pnpm;
pub mod python;
mod rootfs;
mod source;
mod system;
pub mod tree;
pub mod yarn;

pub use found::{Found, Root};
pub use rootfs::RootFilesystem;
pub use source::Source;
use tree::{Directory, Entry, OneFile, Tree};

/// How a document is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time to write into the document.
    pub now: Timestamp,
    /// The name of what is described, in place of the one that the source has.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Who supplies it.
    pub supplier: Option<Party>,
    /// Who makes the document.
    pub authors: Vec<Party>,
    /// The artifact that was built from the source: the document then describes it, and the source is what is in it.
    pub describes: Option<Artifact>,
    /// Paths of the source that are not looked at; `*` stands for anything but `/`, `**` for anything.
    pub exclude: Vec<String>,
}

/// In which light a tree is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A source tree: what its manifests and lock files ask for.
    Source,
    /// A root file system: what is installed. A lock file in it is somebody's data.
    Installed,
}

/// A tree that is looked through.
pub struct Scan<'a> {
    tree: &'a dyn Tree,
    entries: Vec<Entry>,
    /// In which light.
    pub view: View,
}

/// Looks through a tree for one kind of files and tells what they say.
pub type Cataloger = fn(&Scan<'_>, &mut Found);

/// Every cataloger, in the order in which they are asked.
const CATALOGERS: &[Cataloger] = &[
    cargo::catalog,
    npm::catalog,
    yarn::catalog,
    pnpm::catalog,
    python::catalog,
    go::catalog,
    maven::catalog,
    os::catalog,
    binary::catalog,
];

impl<'a> Scan<'a> {
    /// Lists a tree.
    ///
    /// # Errors
    /// As [`Tree::entries`].
    pub fn new(tree: &'a dyn Tree, view: View, exclude: &[String]) -> Result<Self, Reason> {
        let excluded = Excluded::new(exclude);
        let mut entries = tree.entries(&|path| enters(view, path) && !excluded.has(path))?;
        entries.retain(|entry| !excluded.has(&entry.path));
        Ok(Self { tree, entries, view })
    }

    /// Everything that is there, in order of paths.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The regular files, in order of paths.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_file())
    }

    /// The entry at this path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// The tree itself, for whoever reads a file in parts.
    pub fn tree(&self) -> &'a dyn Tree {
        self.tree
    }

    /// Reads a manifest, lock file or database whole.
    ///
    /// # Errors
    /// `subject-unreadable`, or `input-too-large` past [`limits::SBOM_SOURCE_BYTES`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Reason> {
        tree::read(self.tree, path, limits::SBOM_SOURCE_BYTES)
    }

    /// Reads one whole that is text.
    ///
    /// # Errors
    /// As [`Self::read`], and `sbom-source-malformed`.
    pub fn text(&self, path: &str) -> Result<String, Reason> {
        let text = String::from_utf8(self.read(path)?).map_err(|_| malformed(path, "it is not UTF-8 text"))?;
        // Some tools begin text with a byte order mark.
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }
}

/// The reason why a file of the source does not have the form that its name promises.
pub fn malformed(path: &str, why: impl std::fmt::Display) -> Reason {
    Reason::new(Code::SbomSourceMalformed, format!("cannot use {path}: {why}")).evidence(path)
}

/// Reads YAML of a known shape, within bounds.
///
/// # Errors
/// Where it is none, in a sentence.
fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: limits::JSON_NODES, max_events: 2 * limits::JSON_NODES },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// Makes the bill of materials of a source.
///
/// # Errors
/// `subject-unreadable` where the source cannot be read, `sbom-source-malformed` for each file in it that is not what
/// its name says, `sbom-hash-conflict` where two of them contradict, and the bounds' own.
pub fn generate(source: &Source, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let one = |reason| vec![reason];
    match source {
        Source::Directory(path) => {
            let tree = Directory::new(path);
            let view = view_of(&tree);
            let scan = Scan::new(&tree, view, &options.exclude).map_err(one)?;
            // The same directory has the same name whatever it is called by.
            let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            let subject = Component::new(ComponentKind::Application, "", name.unwrap_or_else(|| "root".to_owned()));
            describe(&scan, subject, options)
        }
        Source::RootFilesystem(path) => {
            let tree = Directory::new(path);
            let scan = Scan::new(&tree, View::Installed, &options.exclude).map_err(one)?;
            let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            let subject = Component::new(ComponentKind::OperatingSystem, "", name.unwrap_or_else(|| "root".to_owned()));
            describe(&scan, subject, options)
        }
        Source::File(path) => {
            let tree = OneFile::new(path).map_err(one)?;
            let scan = Scan::new(&tree, View::Source, &options.exclude).map_err(one)?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let mut subject = Component::new(ComponentKind::File, "", name);
            let digests = crate::release::artifact::hash_file(path, &DIGESTS, &|_| ());
            let digests = digests.map_err(|error| one(tree::unreadable(&path.display().to_string(), &error)))?;
            subject.hashes = digests.iter().map(Hash::from).collect();
            describe(&scan, subject, options)
        }
        Source::Archive(path) => system::tar(path, options),
        Source::OciDirectory(path) => system::oci_directory(path, options),
        Source::ImageArchive(path) => system::image_archive(path, options),
        Source::Disk(path) => system::disk(path, options),
        Source::Registry(_) => {
            let message = format!("{source} is of a kind that cannot be looked into");
            Err(one(Reason::new(Code::SubjectUnreadable, message)))
        }
    }
}

/// By which algorithms a described artifact is named: one that everybody knows, and the one that BSI TR-03183 asks for.
pub const DIGESTS: [DigestAlgorithm; 2] = [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512];

/// Asks every cataloger about a tree and makes one document of their answers, about `subject`: its name, kind and
/// hashes as far as the source tells them.
///
/// # Errors
/// What the catalogers have against the tree.
pub fn describe(scan: &Scan<'_>, subject: Component, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let mut found = Found::default();
    for cataloger in CATALOGERS {
        cataloger(scan, &mut found);
    }
    assemble(found, subject, options)
}

/// Puts together what was found.
///
/// # Errors
/// The reasons that were found.
pub fn assemble(found: Found, mut subject: Component, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let found = found.finish()?;
    let mut sbom = Sbom { metadata: metadata(options), ..Sbom::default() };
    let mut components = found.components;
    sbom.dependencies = found.dependencies;
    sbom.contains = found.contains;
    sbom.custom_licenses = found.custom_licenses;

    // The one project at the top of the source is what the document is about, unless it is about what was built of it.
    let mut projects = found.roots.iter().filter(|root| root.is_project && root.folder.is_empty());
    if options.describes.is_none()
        && options.name.is_none()
        && let (Some(project), None) = (projects.next(), projects.next())
        && let Some(component) = components.remove(&project.id)
    {
        let Component { hashes, identifiers, .. } = subject;
        subject = component;
        subject.hashes.extend(hashes);
        subject.identifiers.extend(identifiers);
    }
    if let Some(artifact) = &options.describes {
        subject = Component::new(ComponentKind::File, "", artifact.name.clone());
        subject.hashes = artifact.digests().map(Hash::from).collect();
    }
    if let Some(name) = &options.name {
        subject.name.clone_from(name);
    }
    if let Some(version) = &options.version {
        subject.version = Some(version.clone());
    }
    subject.supplier = options.supplier.clone().or(subject.supplier);
    subject.scope = None;
    if subject.id.is_empty() {
        subject.id = unused_id(&components, &subject);
    }
    let mut roots: Vec<&Root> = found.roots.iter().filter(|root| components.contains_key(&root.id)).collect();
    // What stands beside the project at the top is a part of the source, and nothing that the project needs.
    if found.roots.iter().any(|root| root.is_project && root.folder.is_empty()) {
        roots.retain(|root| !root.is_project || root.folder.is_empty());
    }
    for root in roots {
        sbom.add_dependency(&subject.id, &root.id);
    }
    sbom.dependencies.entry(subject.id.clone()).or_default();
    for id in unreached(&sbom, &subject.id, components.keys()) {
        sbom.add_part(&subject.id, &id);
    }
    sbom.name = Some(subject.name.clone());
    sbom.described = vec![subject];
    sbom.components = components.into_values().collect();
    let too_long: Vec<Reason> = sbom.all().filter_map(too_long).take(limits::REASONS_PER_FILE).collect();
    if !too_long.is_empty() {
        return Err(too_long);
    }
    sbom.sort();
    sbom.serial = Some(serial(&sbom));
    Ok(sbom)
}

/// A version for which a document has no room; by whom it is written decides how long it is.
fn too_long(component: &Component) -> Option<Reason> {
    let version = component.version.as_ref()?;
    version.chars().nth(limits::SBOM_VERSION_CHARS)?;
    let message = format!("a version has more than {} characters", limits::SBOM_VERSION_CHARS);
    let place = component.properties.iter().find(|property| property.name == LOCATION);
    let place = place.map_or(&component.id, |place| &place.value);
    Some(Reason::new(Code::InputTooLarge, message).location(place.clone()))
}

fn metadata(options: &Options) -> Metadata {
    let tool = Tool {
        vendor: Some("DebVisor".to_owned()),
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    // Both formats write whole seconds.
    let timestamp = Timestamp::from_second(options.now.as_second()).ok();
    Metadata {
        timestamp,
        authors: options.authors.clone(),
        tools: vec![tool],
        supplier: options.supplier.clone(),
        ..Metadata::default()
    }
}

/// An id for the described thing that no component has.
fn unused_id(components: &BTreeMap<String, Component>, subject: &Component) -> String {
    let mut id = format!("described:{}", subject.name);
    while components.contains_key(&id) {
        id.push('\'');
    }
    id
}

/// The components to which no dependency and no containment leads from the described thing.
fn unreached<'a>(sbom: &Sbom, from: &str, ids: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        if reached.insert(id) {
            for below in [&sbom.dependencies, &sbom.contains].iter().filter_map(|graph| graph.get(id)).flatten() {
                next.push(below);
            }
        }
    }
    ids.filter(|id| !reached.contains(id.as_str())).cloned().collect()
}

/// A name for the document that its content alone decides: a UUID of version 8 (RFC 9562 section 5.8) out of the
/// SHA-256 of everything that it says.
fn serial(sbom: &Sbom) -> String {
    let digest = sha2::Sha256::digest(serde_json::to_vec(sbom).unwrap_or_default());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of_digest)| *byte = of_digest);
    format!("urn:uuid:{}", uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// A directory with an operating system in it is looked at for what is installed.
fn view_of(tree: &dyn Tree) -> View {
    let marks = ["etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "lib/apk/db/installed"];
    if marks.iter().any(|path| tree.open(path).is_ok()) { View::Installed } else { View::Source }
}

/// Directories that hold nothing that a source is made of, or nothing that lasts.
fn enters(view: View, path: &str) -> bool {
    let name = tree::name_of(path);
    match view {
        View::Source => !matches!(name, ".git" | ".hg" | ".svn" | "node_modules" | "target" | "__pycache__" | ".tox"),
        View::Installed => !matches!(path, "proc" | "sys" | "dev" | "run" | "tmp"),
    }
}

/// The patterns of the user's that name what is not looked at. A directory that is named takes along what is in it.
struct Excluded(Vec<Regex>);

impl Excluded {
    /// `*` is anything within one part of a path, `**` anything at all, `?` one character.
    fn new(patterns: &[String]) -> Self {
        let regex = |pattern: &String| {
            let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
            let escaped = regex::escape(pattern)
                .replace(r"\*\*/", "(?:.*/)?")
                .replace(r"\*\*", ".*")
                .replace(r"\*", "[^/]*")
                .replace(r"\?", "[^/]");
            Regex::new(&format!("^(?:{escaped})(?:/|$)")).ok()
        };
        // Without special characters of its own, a pattern always is an expression.
        Self(patterns.iter().filter_map(regex).collect())
    }

    fn has(&self, path: &str) -> bool {
        self.0.iter().any(|regex| regex.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_parts_of_paths_and_a_directory_with_all_that_is_in_it() {
        for (pattern, path, is_named) in [
            ("fixtures", "fixtures/a/Cargo.lock", true),
            ("./fixtures/", "fixtures", true),
            ("fixtures", "fixtures2/a", false),
            ("fixtures", "a/fixtures", false),
            ("**/fixtures", "a/b/fixtures/c", true),
            ("**/fixtures", "fixtures/c", true),
            ("*/fixtures", "a/b/fixtures", false),
            ("a/*.lock", "a/Cargo.lock", true),
            ("a/*.lock", "a/b/Cargo.lock", false),
            ("a?.json", "ab.json", true),
            ("a?.json", "a.json", false),
        ] {
            assert_eq!(Excluded::new(&[pattern.to_owned()]).has(path), is_named, "{pattern} {path}");
        }
    }
}
