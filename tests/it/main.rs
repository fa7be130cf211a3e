//! The specification, against the real binary and the library.
// Says to clippy, which looks for it, that everything below is a test and may panic.
#![cfg(test)]

mod actions;
mod admit;
mod architecture;
mod archive;
mod checksum;
mod codes;
mod control;
mod demo;
mod disk;
mod fuzz_seeds;
mod gate;
mod images;
mod key;
mod log;
mod offline;
mod openpgp;
mod policy;
mod provenance;
mod reference;
mod registry;
mod release;
mod report;
mod sarif;
mod sbom;
mod seal;
mod signing;
mod supply_chain;
mod threats;
mod trust;
mod vex;
mod vsa;
mod watch;
mod workflows;
mod world;
