//! Bills of materials through the real binary: every line of the threat model, every format, and what each verb says.

mod hostile;
mod maker;
mod threats;
mod verbs;
