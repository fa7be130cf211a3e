//! Makes evidence: private keys, and what is signed with them.

pub mod key;
