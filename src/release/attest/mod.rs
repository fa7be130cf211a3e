//! Makes evidence: private keys, and what is signed with them.

pub mod attach;
pub mod bundle;
pub mod key;
pub mod note;
pub mod provenance;
pub mod request;
pub mod sbom;
pub mod services;
pub mod statement;
pub mod vex;
