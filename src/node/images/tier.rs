//! How reads can be proved on this host: what its kernel offers in, which tier is used and why no other, out.
//!
//! Files of the kernel are looked at; nothing is tried out and nothing changed. The block server needs nothing of the
//! kernel and is the tier that is used. What the kernel's own tiers would give, and what they would not, stands in
//! docs/adr/0011-verified-reads.md.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ImageStore;
use crate::types::vm::VerifiedReadTier;

/// One tier on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierState {
    /// Which.
    pub tier: VerifiedReadTier,
    /// Why it is not used; nothing where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// The tiers of this host, the kernel's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierReport {
    /// The tier that is used.
    pub active: VerifiedReadTier,
    /// Every tier.
    pub tiers: Vec<TierState>,
}

impl ImageStore {
    /// What this host offers, and what is used of it.
    pub fn tiers(&self) -> TierReport {
        report(Path::new("/"))
    }
}

fn report(root: &Path) -> TierReport {
    let there = |path: &str| root.join(path).exists();
    let verity = ["ext4", "f2fs", "btrfs"].iter().any(|name| there(&format!("sys/fs/{name}/features/verity")));
    let absent = |offered: bool, missing: &str| {
        let unused = "the host offers it, and this version does not use it: a changed block would be an I/O error \
                      without an alarm that names it";
        Some(if offered { unused } else { missing }.to_owned())
    };
    TierReport {
        active: VerifiedReadTier::BlockServer,
        tiers: vec![
            TierState {
                tier: VerifiedReadTier::FsVerity,
                absent: absent(verity, "no file system of this kernel has fs-verity"),
            },
            TierState {
                tier: VerifiedReadTier::DmVerity,
                absent: absent(there("sys/module/dm_verity"), "this kernel has no dm-verity, or it is not loaded"),
            },
            TierState { tier: VerifiedReadTier::BlockServer, absent: None },
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_tier_is_used_and_each_other_says_why_it_is_not() {
        let root = tempfile::tempdir().unwrap();
        let said = || report(root.path()).tiers.into_iter().map(|state| state.absent).collect::<Vec<_>>();
        let without = said();
        assert!(without[0].as_deref().unwrap().contains("no file system"));
        assert!(without[1].as_deref().unwrap().contains("no dm-verity"));
        assert_eq!(without[2], None);
        fs::create_dir_all(root.path().join("sys/fs/ext4/features")).unwrap();
        fs::write(root.path().join("sys/fs/ext4/features/verity"), "supported\n").unwrap();
        fs::create_dir_all(root.path().join("sys/module/dm_verity")).unwrap();
        assert!(said()[..2].iter().all(|why| why.as_deref().unwrap().contains("the host offers it")));
    }
}
