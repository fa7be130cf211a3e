//! Outbound calls. They return wire structs, never judgments.
