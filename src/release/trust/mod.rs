//! Trust roots: which authorities and logs are believed, and for what time.

pub mod bundle;
pub mod root;
pub mod tuf;
