//! Gathers evidence: the only I/O on the reading side.

pub mod files;
