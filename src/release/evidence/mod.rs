//! Parsers of outside bytes. They say what a document says, never whether it is true.
//! Invariant: no trust root, no clock, no I/O.

pub mod archive;
pub mod checksums;
pub mod json;
pub mod merkle;
pub mod openpgp;
