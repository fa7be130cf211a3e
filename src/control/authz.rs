//! Who asks and for what in, a yes or a reason out.
//! Invariant: nothing is allowed that is not allowed here by name; what cannot be decided is refused.

use super::{Caller, Control, OpError};
use crate::types::access::{Permission, Subject};
use crate::types::{Code, Reason};

/// What a permission is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The control plane as a whole.
    Everything,
    /// A machine, by identity or name.
    Vm(String),
}

impl Control {
    /// Whether the caller may.
    ///
    /// # Errors
    /// [`OpError::Forbidden`] with `access-denied`.
    #[expect(clippy::unused_async, reason = "grants are read from the store")]
    pub async fn authorize(&self, caller: &Caller, permission: Permission, resource: &Resource) -> Result<(), OpError> {
        let in_scope = caller.scopes.as_ref().is_none_or(|scopes| scopes.contains(&permission));
        match &caller.subject {
            // Who may open the socket is its owner or of its group: the host's own administrators.
            Subject::Host { .. } | Subject::Node(_) | Subject::System if in_scope => Ok(()),
            _ => {
                let message = format!("{} may not {permission} on {resource:?}", caller.actor);
                Err(OpError::Forbidden(Box::new(Reason::new(Code::AccessDenied, message))))
            }
        }
    }
}
