//! What is kept beside an image: the decision about it, and the evidence that the decision rests on.
//!
//! The node signs none of it. It is outside evidence, and whoever uses it verifies it again.

use std::fs;
use std::io;
use std::path::Path;

use super::{ImageStore, failed, files};
use crate::types::{Code, Digest, Reason, limits};

const DECISION: &str = "decision.json";
const EVIDENCE: &str = "evidence";

impl ImageStore {
    /// Keeps what was decided about an image beside it; replaces an earlier one.
    ///
    /// # Errors
    /// `image-unknown`, `input-too-large`, `store-failed`.
    pub fn decision_put(&self, digest: &Digest, document: &[u8]) -> Result<(), Reason> {
        let folder = self.existing(digest)?;
        put(&folder, DECISION, document, digest)
    }

    /// What was decided, if anything.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn decision(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Reason> {
        match files::read(&self.existing(digest)?.join(DECISION), limits::EVIDENCE_BYTES) {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&format!("the decision about {digest} cannot be read"), &error)),
        }
    }

    /// Keeps a document of evidence beside an image; replaces one of the same name.
    ///
    /// # Errors
    /// `image-unknown`, `input-too-large` (also for the 257th), `file-unsafe` for a name that is not a plain file
    /// name, `store-failed`.
    pub fn evidence_put(&self, digest: &Digest, name: &str, document: &[u8]) -> Result<(), Reason> {
        let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-+@".contains(letter));
        if !plain || name.is_empty() || name.starts_with('.') || name.len() > limits::IMAGE_NAME_BYTES {
            let message = format!("{name:?} is no plain name for a document of evidence");
            return Err(Reason::new(Code::FileUnsafe, message).hint("use letters, digits, and . _ - + @"));
        }
        let folder = self.existing(digest)?.join(EVIDENCE);
        let unwritable = |error| failed(&format!("evidence about {digest} cannot be written"), &error);
        files::folder(&folder).map_err(unwritable)?;
        let others = names(&folder).map_err(unwritable)?;
        if others.len() >= limits::IMAGE_DOCUMENTS && !others.iter().any(|other| other == name) {
            let message = format!("{digest} has {} documents of evidence already", others.len());
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        put(&folder, name, document, digest)
    }

    /// Name and bytes of each document of evidence, by name.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn evidence(&self, digest: &Digest) -> Result<Vec<(String, Vec<u8>)>, Reason> {
        let folder = self.existing(digest)?.join(EVIDENCE);
        let read = |name: String| files::read(&folder.join(&name), limits::EVIDENCE_BYTES).map(|bytes| (name, bytes));
        names(&folder)
            .and_then(|names| names.into_iter().map(read).collect())
            .map_err(|error| failed(&format!("evidence about {digest} cannot be read"), &error))
    }
}

fn put(folder: &Path, name: &str, document: &[u8], digest: &Digest) -> Result<(), Reason> {
    if document.len() as u64 > limits::EVIDENCE_BYTES {
        let message = format!("{name} about {digest} has {} bytes; at most {}", document.len(), limits::EVIDENCE_BYTES);
        return Err(Reason::new(Code::InputTooLarge, message));
    }
    files::write(folder, name, document)
        .map_err(|error| failed(&format!("{name} about {digest} cannot be kept"), &error))
}

/// Removes what a dead process had not wholly written.
pub(super) fn tidy(folder: &Path) -> io::Result<()> {
    match files::remove_temporary(&folder.join(EVIDENCE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The documents of a folder, by name; none where there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with(files::TEMPORARY) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
