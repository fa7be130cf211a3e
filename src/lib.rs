//! DebVisor boots only what it can prove.
//!
//! The modules in reading order, and the flow that joins them:
//!
//! artifact → collect → evidence → trust → verify → policy → decision → { gate, reverify, admit }
//!
//! `docs/ARCHITECTURE.md` is the map; `tests/it/architecture.rs` keeps the import direction.

pub mod types;

pub mod config;

pub mod kill;

pub mod clients;

pub mod release;

pub mod store;

pub mod backup;

pub mod control;

pub mod node;

pub mod api;

pub mod cli;
