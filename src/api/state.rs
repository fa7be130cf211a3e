//! `/v1/state/backup`: the whole state as one stream of ciphertext, for those whom the caller names.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::Json;
use super::{App, Problem};
use crate::backup::write::Lock;
use crate::control::{Caller, OpError};
use crate::types::{Code, Reason, limits};

/// For whom the backup is, and what is in it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// Recipients of age: whoever has the identity of one of them opens it.
    #[serde(default)]
    #[schema(max_items = 64)]
    recipients: Vec<String>,
    /// A passphrase, in place of recipients.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 1024)]
    passphrase: Option<String>,
    /// Whether images are in it.
    #[serde(default)]
    with_images: bool,
}

/// Takes a backup of the state: a tar of zstd in the age format, its manifest at the end. An answer that is cut off is
/// no backup.
#[utoipa::path(post, path = "/v1/state/backup", tag = "state", request_body = BackupRequest,
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = "default", body = Problem)))]
pub(super) async fn backup(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<BackupRequest>,
) -> Result<Response, Problem> {
    let malformed = |what: &str| OpError::Invalid(Box::new(Reason::new(Code::RequestMalformed, what)));
    let lock = match request.passphrase {
        None => Lock::recipients(&request.recipients).map_err(|reason| OpError::Invalid(Box::new(reason)))?,
        Some(_) if !request.recipients.is_empty() => {
            return Err(malformed("a backup is for recipients or under a passphrase, not both").into());
        }
        Some(given) if given.is_empty() || given.len() > limits::BACKUP_PASSPHRASE_BYTES => {
            return Err(malformed("a passphrase has 1 to 1024 bytes").into());
        }
        Some(given) => Lock::passphrase(given),
    };
    let pieces = app.control.state_backup(&caller, lock, request.with_images).await?;
    let stream = futures_util::stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece.map(Bytes::from), pieces))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream)).into_response())
}
