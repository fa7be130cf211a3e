//! Trust roots: which authorities and logs are believed, and for what time.
//! Bytes of a `trusted_root.json`, of TUF metadata or of a trust bundle come in; what they authorise goes out.
//! Invariant: nothing in this room opens a file or a socket, or reads a clock. Callers bring the bytes and `now`.

use jiff::Timestamp;

pub mod bundle;
pub mod listing;
pub mod revocation;
pub mod root;
pub mod tuf;

/// The public-good instance's root that every binary carries, so that a first verification needs no network.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedRoot {
    /// The `trusted_root.json`, byte for byte as Sigstore's TUF repository published it.
    pub json: &'static [u8],
    /// The day it was fetched; the age of the root counts from here.
    pub fetched_at: Timestamp,
}

/// 2026-10-23T00:00:00Z; the provenance is in `public-good/README.md`.
const EMBEDDED_FETCHED_AT: Timestamp = Timestamp::constant(1_792_713_600, 0);

/// The embedded public-good root.
pub const fn embedded() -> EmbeddedRoot {
    EmbeddedRoot { json: include_bytes!("public-good/trusted_root.json"), fetched_at: EMBEDDED_FETCHED_AT }
}

/// Sigstore's TUF root, from which an update of the public-good root starts.
pub const fn embedded_tuf_root() -> &'static [u8] {
    include_bytes!("public-good/tuf_root.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    #[test]
    fn embedded_files_are_the_ones_that_the_readme_names() {
        let readme = include_str!("public-good/README.md");
        for bytes in [embedded().json, embedded_tuf_root()] {
            assert!(readme.contains(&Digest::sha256(bytes).to_hex()));
        }
        assert_eq!(embedded().fetched_at.to_string(), "2026-10-23T00:00:00Z");
        assert!(readme.contains("2026-10-23"));
    }
}
