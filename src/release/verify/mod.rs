//! Evidence, a trust root and `now` in; [`Facts`] and reasons out.
//! Invariant: no I/O and no clock. This is the only room that makes [`Facts`].

mod facts;
pub mod openpgp;

pub use facts::Facts;
