//! How reads can be proved on this host: the store's folder in, what is there and what is not, with the reason, out.

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

/// The tiers of this host, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierReport {
    /// The tier that is used.
    pub active: VerifiedReadTier,
    /// Every tier.
    pub tiers: Vec<TierState>,
}

impl ImageStore {
    /// What this host offers.
    pub fn tiers(&self) -> TierReport {
        TierReport {
            active: VerifiedReadTier::BlockServer,
            tiers: vec![TierState { tier: VerifiedReadTier::BlockServer, absent: None }],
        }
    }
}
