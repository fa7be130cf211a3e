//! The control plane: what is kept, what is planned, and what the interface answers.

mod store;
