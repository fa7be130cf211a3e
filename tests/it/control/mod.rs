//! The control plane: what is kept, what is planned, and what the interface answers; through the real binary.

mod access;
mod api;
mod audit;
mod backup;
mod config;
mod contexts;
mod crash;
mod gate_table;
mod hashes;
mod key;
mod live;
mod load;
mod logins;
mod manners;
mod metrics;
mod migrations;
mod oidc;
mod quarantine;
mod remote;
mod revoked;
mod server;
mod service;
mod store;
mod tls;
mod traces;
mod users;
