//! The specification, against the real binary and the library.
#![allow(missing_docs)]
