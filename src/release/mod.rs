//! House 1, the release-integrity engine, in the order data flows.

pub mod artifact;
pub mod evidence;
pub mod trust;

pub mod verify;

pub mod policy;

pub mod decision;

pub mod admit;

pub mod attest;

pub mod collect;
pub mod gate;
pub mod notify;
pub mod reverify;
