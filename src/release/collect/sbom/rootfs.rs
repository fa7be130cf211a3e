//! A container image on disk in, the root file system that its layers make out, with everything that a disk needs of it.
//!
//! The image is read as for a bill of materials: every blob is what its digest says, every layer what the image's
//! configuration says of it.
//! Invariant: nothing is unpacked here, and nothing fetched.

use super::image::{self, Image};
use super::source::Source;
use super::tree::{Content, Directory, Entry, Tree as _};
use super::{malformed, system};
use crate::release::evidence::archive::Rights;
use crate::types::Reason;

/// The root file system of a container image.
#[derive(Debug)]
pub struct RootFilesystem(Image);

impl RootFilesystem {
    /// Opens an OCI image layout, or an image in a tar file.
    ///
    /// # Errors
    /// `sbom-source-malformed` for a source of another kind; what the image's parts have against being one image.
    pub fn open(source: &Source) -> Result<Self, Reason> {
        match source {
            Source::OciDirectory(path) => image::open(&Directory::new(path)),
            Source::ImageArchive(path) => system::read_tar(path).and_then(|layout| image::open(&layout)),
            other => {
                Err(malformed(&other.to_string(), "it is no container image: neither an OCI layout nor a tar of one"))
            }
        }
        .map(Self)
    }

    /// The digest of the image's manifest, in hexadecimal, or where an older archive has none, of its configuration.
    pub fn digest(&self) -> &str {
        self.0.manifest.as_deref().unwrap_or(&self.0.config)
    }

    /// Everything in it, a directory before what is in it, with who may do what with it.
    ///
    /// # Errors
    /// None today; a tree may fail to be listed.
    pub fn entries(&self) -> Result<Vec<(Entry, Rights)>, Reason> {
        let entries = self.0.layers.entries(&|_| true)?;
        let with_rights = |entry: Entry| {
            let rights = self.0.layers.rights(&entry.path).unwrap_or_default();
            (entry, rights)
        };
        Ok(entries.into_iter().map(with_rights).collect())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// `subject-unreadable` where it is no file, or one that was stored with holes.
    pub fn file(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        self.0.layers.open(path)
    }
}
