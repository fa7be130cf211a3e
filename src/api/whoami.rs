//! `/v1/whoami`: as whom somebody asks, whatever they show.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use super::extract::Json;
use crate::control::Caller;
use crate::types::access::Permission;

/// As whom somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoamiView {
    /// As the audit log has it: `user:alice`, `key:ci`, `service:deploy`, `uid:1000`.
    pub actor: String,
    /// From where: `socket` or `tls`.
    pub origin: String,
    /// What the credential is limited to; nothing where it is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Permission>>,
}

/// As whom the caller asks.
#[utoipa::path(get, path = "/v1/whoami", tag = "session",
    responses((status = 200, body = WhoamiView), (status = "default", body = Problem)))]
pub(super) async fn show(caller: Caller) -> Json<WhoamiView> {
    Json(WhoamiView {
        actor: caller.actor,
        origin: caller.origin.to_owned(),
        scopes: caller.scopes.map(|scopes| scopes.into_iter().collect()),
    })
}
