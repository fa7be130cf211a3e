//! The specification, against the real binary and the library.
// Says to clippy, which looks for it, that everything below is a test and may panic.
#![cfg(test)]

mod architecture;
mod key;

mod codes;
mod report;
#[cfg(test)]
mod world;
