//! What callers may do, one file a resource. Each looks, decides, and writes one transaction; none touches a machine.

pub mod admission;
pub mod grant;
pub mod image;
pub mod quarantine;
pub mod tenant;
pub mod user;
pub mod vm;
