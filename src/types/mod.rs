//! The shared nouns: what every room of the house may name.
//! Invariant: nothing in here reads a file, a clock or the network.

pub mod access;
pub mod admission;
mod clock;
mod code;
mod digest;
pub mod duration;
pub mod grant;
pub mod limits;
mod reason;
mod secret;
pub mod step;
pub mod vm;

pub use clock::Clock;
pub use code::{Code, CodeInfo, Outcome};
pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use reason::{Reason, ReasonCode};
pub use secret::Secret;
