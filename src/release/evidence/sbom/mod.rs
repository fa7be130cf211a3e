//! Bills of materials: CycloneDX and SPDX documents in, one neutral model out.
//! Invariant: no clock, network or disk; the official schemas are embedded.

pub mod model;
