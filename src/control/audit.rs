//! The audit log as a whole: every record against its hash and the chain, page by page.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, OpError};
use crate::store::{AuditHead, check_audit};

/// Records that are checked at a time.
const PAGE: u32 = 10_000;

/// Whether the log is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Nothing was altered, left out or put elsewhere.
    pub sound: bool,
    /// Records that were checked and found right.
    pub records: u64,
    /// The chain over them, in hex: who keeps it sees later whether these records are still the same.
    pub chain: String,
    /// What is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Control {
    /// Checks every record.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn audit_verify(&self) -> Result<AuditVerdict, OpError> {
        let mut head = AuditHead::EMPTY;
        loop {
            let rows = self.store().audit_from(head.size, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            match check_audit(head, &rows) {
                Ok(next) => head = next,
                Err(fault) => return Ok(verdict(head, Some(fault.to_string()))),
            }
        }
        Ok(verdict(head, None))
    }
}

fn verdict(head: AuditHead, fault: Option<String>) -> AuditVerdict {
    AuditVerdict { sound: fault.is_none(), records: head.size, chain: hex::encode(head.chain), fault }
}
