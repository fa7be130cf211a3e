//! Sources that hold a whole tree: a tar, a container image, a disk image. Each is opened as a tree and looked through
//! for what is installed in it; a tar without an operating system is a source tree.

use std::fs::File;
use std::path::Path;

use super::disk::Disk;
use super::image::{self, Image};
use super::layers::Layers;
use super::tree::{Directory, Tree, unreadable};
use super::{DIGESTS, Options, Scan, View, describe, view_of};
use crate::release::artifact;
use crate::release::evidence::sbom::model::{Component, ComponentKind, Hash, HashAlgorithm, Property, Sbom};
use crate::release::evidence::sbom::purl::Purl;
use crate::types::{Code, Reason};

/// A disk image of a virtual machine.
pub(super) fn disk(path: &Path, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let disk = Disk::open(path).map_err(|reason| about(path, reason))?;
    let subject = of_file(path, ComponentKind::OperatingSystem)?;
    installed(&disk.root, subject, options).map_err(|reasons| named(path, reasons))
}

/// A root file system in a tar, or a source tree.
pub(super) fn tar(path: &Path, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let tree = read_tar(path).map_err(|reason| about(path, reason))?;
    if view_of(&tree) == View::Installed {
        return installed(&tree, of_file(path, ComponentKind::OperatingSystem)?, options);
    }
    let tree = tree.without_top_folder();
    let scan = Scan::new(&tree, View::Source, &options.exclude).map_err(|reason| vec![reason])?;
    describe(&scan, of_file(path, ComponentKind::File)?, options)
}

/// A container image in an OCI layout.
pub(super) fn oci_directory(path: &Path, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let image = image::open(&Directory::new(path)).map_err(|reason| about(path, reason))?;
    let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut subject = Component::new(ComponentKind::Container, "", name.unwrap_or_else(|| "image".to_owned()));
    // The manifest is what names an image everywhere; a directory has no digest of its own.
    let manifest = image.manifest.as_ref().map(|manifest| Hash::new(HashAlgorithm::Sha256, manifest));
    subject.hashes.extend(manifest);
    installed(&image.layers, container(subject, &image), options)
}

/// A container image in a tar.
pub(super) fn image_archive(path: &Path, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let image = read_tar(path).and_then(|layout| image::open(&layout)).map_err(|reason| about(path, reason))?;
    let subject = of_file(path, ComponentKind::Container)?;
    installed(&image.layers, container(subject, &image), options)
}

fn installed(tree: &dyn Tree, subject: Component, options: &Options) -> Result<Sbom, Vec<Reason>> {
    let scan = Scan::new(tree, View::Installed, &options.exclude).map_err(|reason| vec![reason])?;
    describe(&scan, subject, options)
}

pub(super) fn read_tar(path: &Path) -> Result<Layers, Reason> {
    let file = File::open(path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
    Layers::of_tar(file)
}

/// The file itself as what a document is about.
fn of_file(path: &Path, kind: ComponentKind) -> Result<Component, Vec<Reason>> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digests = artifact::hash_file(path, &DIGESTS, &|_| ());
    let digests = digests.map_err(|error| vec![unreadable(&path.display().to_string(), &error)])?;
    let mut subject = Component::new(kind, "", name);
    subject.hashes = digests.iter().map(Hash::from).collect();
    Ok(subject)
}

/// What an image says of itself: its name and tag, its digests, its package URL.
fn container(mut subject: Component, image: &Image) -> Component {
    if let Some((repository, tag)) = image.name.as_deref().and_then(name_and_tag) {
        subject.name = repository.to_owned();
        subject.version = Some(tag.to_owned());
        if let Some(manifest) = &image.manifest {
            let name = repository.rsplit('/').next().unwrap_or(repository).to_lowercase();
            let architecture = Some(&image.architecture).filter(|architecture| !architecture.is_empty());
            let qualifier = architecture.map(|architecture| format!("arch={architecture}&")).unwrap_or_default();
            let purl = format!("pkg:oci/{name}@sha256%3A{manifest}?{qualifier}tag={tag}");
            subject.purl = Some(purl).filter(|purl| Purl::parse(purl).is_some());
        }
    }
    let mut property = |name: &str, digest: &str| {
        subject.properties.push(Property { name: name.to_owned(), value: format!("sha256:{digest}") });
    };
    if let Some(manifest) = &image.manifest {
        property("debvisor:image:manifest", manifest);
    }
    property("debvisor:image:config", &image.config);
    subject
}

/// `registry:5000/name:tag` in its parts; nothing where there is no name or no tag.
fn name_and_tag(reference: &str) -> Option<(&str, &str)> {
    let (name, tag) = reference.rsplit_once(':')?;
    let is_tag = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (is_tag && !name.is_empty()).then_some((name, tag))
}

fn about(path: &Path, reason: Reason) -> Vec<Reason> {
    named(path, vec![reason])
}

/// Reasons about the disk or the image itself name the file; those about something in it name that already.
fn named(path: &Path, mut reasons: Vec<Reason>) -> Vec<Reason> {
    for reason in reasons.iter_mut().filter(|reason| reason.evidence.is_none()) {
        reason.evidence = Some(path.display().to_string());
        if reason.code.known() == Some(Code::SubjectUnreadable) {
            reason.subject = Some(path.display().to_string());
        }
    }
    reasons
}
