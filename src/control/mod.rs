//! House 2, the control plane: what shall be, compared with what is, becomes steps.
//!
//! Callers change the desired state by an operation; [`crate::store`] keeps it; a planner without any input or output
//! says which steps are missing, and the agent of a node takes them.

pub mod plan;
#[cfg(test)]
mod plan_tests;
