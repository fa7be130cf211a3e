//! Parsers of outside bytes. They say what a document says, never whether it is true.
//! Invariant: no trust root, no clock, no I/O.

pub mod archive;
pub mod bundle;
pub mod certificate;
pub mod checkpoint;
pub mod checksums;
pub mod disk;
pub mod document;
pub mod image;
pub mod json;
pub mod key;
pub mod log_entry;
pub mod manifest;
pub mod merkle;
pub mod note;
pub mod openpgp;
pub mod provenance;
pub mod sbom;
pub mod simple_signing;
pub mod statement;
pub mod timestamp;
pub mod vex;
