//! What runs machines. A [`crate::release::admit::BootPermit`] goes in wherever code enters one.
