//! Gathers evidence: the only I/O on the reading side.

pub mod files;
pub mod image;
pub mod published;
pub mod sbom;
pub mod trust_root;
