//! House 3, the agent on each host: it takes a step, obtains a permit, acts, and reports.

pub mod admission;
pub mod agent;
pub mod hypervisor;
pub mod images;
pub mod key;
pub mod registries;
