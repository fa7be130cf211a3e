//! A backup of the whole state: the database as it was at one moment, keys, trust, generations and the configuration,
//! and images where they are asked for; encrypted in the age format, with a tar of zstd inside and a manifest at its end.
//!
//! [`write`] makes one as a stream, [`read`] checks one or unpacks it, [`restore`] makes a state directory of one.
//! Invariant: nothing is believed of a backup that its manifest does not say, and the manifest is read last.

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::types::{Code, Reason};

pub mod read;
pub mod restore;
pub mod write;

/// The name of the manifest in the archive; it stands last.
const MANIFEST: &str = "manifest.json";
/// The name of the database in the archive; it stands first.
const DATABASE: &str = "state.db";
/// The form of the archive.
const FORMAT: u32 = 1;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the archive: 1.
    pub format: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The version of the program that made it.
    pub debvisor: String,
    /// Whether images are in it.
    pub with_images: bool,
    /// The key that checkpoints of the audit log are signed with.
    pub key: String,
    /// A checkpoint of the audit log that the database must contain; none where none was signed yet.
    pub checkpoint: Option<String>,
    /// Every file, in the order of the archive.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name below the state directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
}

/// Why a backup was not made, or nothing was made of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder of ours could not be read or written.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What failed.
        cause: io::Error,
    },
    /// The backup is not what it should be.
    #[error("{}", .0.message)]
    Refused(Box<Reason>),
    /// The database failed.
    #[error("the database of the state")]
    Store(#[from] StoreError),
}

impl BackupError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Reason::new(code, message)))
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::refused(Code::BackupMalformed, message)
    }
}
