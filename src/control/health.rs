//! Whether the control plane can do its work now: each thing that it depends on, by name.
//! Invariant: a look changes nothing that is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Control;

/// How long the node may take to answer.
const NODE_ANSWERS: Duration = Duration::from_secs(5);
/// A reconciler that has not looked for so long is stuck: it looks every five seconds.
const LOOK_AGE: Duration = Duration::from_secs(30);

/// One thing that the service depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Which: `database`, `audit-log`, `node`, `reconciler`, `disk`, `trust-bundle`.
    pub name: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What is wrong; for whoever says who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Control {
    /// Looks at everything that it depends on.
    pub async fn health(&self, least_disk_bytes: u64) -> Vec<Check> {
        vec![
            check("database", self.store().probe().await.map_err(|error| told(&error))),
            check("audit-log", self.audit_log().await),
            check("node", self.node_answers().await),
            check("reconciler", self.reconciler_looks()),
            check("disk", self.disk_has(least_disk_bytes)),
            check("trust-bundle", self.revoked().fault.as_ref().map_or(Ok(()), |reason| Err(reason.to_string()))),
        ]
    }

    /// Whether the audit log is what was written, as far as it was looked at; once it was found not to be, it stays so.
    async fn audit_log(&self) -> Result<(), String> {
        if let Some(fault) = self.audit_fault() {
            return Err(fault.to_string());
        }
        match self.store().audit_head_probe().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.reason().to_string()),
            Err(error) => Err(told(&error)),
        }
    }

    async fn node_answers(&self) -> Result<(), String> {
        match tokio::time::timeout(NODE_ANSWERS, self.link().observe()).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(format!("it has not answered within {} s", NODE_ANSWERS.as_secs())),
        }
    }

    /// Whether the reconciler is at work.
    ///
    /// # Errors
    /// How long it has not looked.
    pub fn reconciler_looks(&self) -> Result<(), String> {
        match self.vitals().since_look() {
            Some(age) if age <= LOOK_AGE => Ok(()),
            Some(age) => Err(format!("its last look that went well ended {} s ago", age.as_secs())),
            None => Err("it has not looked yet".to_owned()),
        }
    }

    fn disk_has(&self, least: u64) -> Result<(), String> {
        match self.store().free_bytes() {
            Ok(free) if free >= least => Ok(()),
            Ok(free) => Err(format!("{} MiB are free, and {} MiB must be", free >> 20, least >> 20)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn check(name: &str, outcome: Result<(), String>) -> Check {
    Check { name: name.to_owned(), ok: outcome.is_ok(), detail: outcome.err() }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}
