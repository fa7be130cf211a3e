//! `/v1/images`: what is in the store, and bringing more; an upload goes on where it stood, after either side died.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{Body, Cursor, Json, Path, Query, Tagged};
use super::filter::{Filling, ImageFilter, is};
use super::{App, Page, Problem};
use crate::control::{Caller, OpError};
use crate::types::limits;
use crate::types::step::{EvidenceFile, ImageFacts, ImageVerdict, Upload, UploadRequest};

/// A file of evidence on its way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceUpload {
    /// Its name, without a folder; it says what it is: `disk.img.sigstore.json`, `disk.img.cdx.json`.
    #[schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*$")]
    pub name: String,
    /// Its bytes, in base64.
    #[schema(
        content_encoding = "base64",
        pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        max_length = 67_108_864
    )]
    pub base64: String,
}

/// What ends an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// The evidence that is kept beside the image.
    #[serde(default)]
    #[schema(max_items = 256)]
    pub evidence: Vec<EvidenceUpload>,
}

/// Images by digest.
#[utoipa::path(get, path = "/v1/images", tag = "images", params(Cursor, ImageFilter),
    responses((status = 200, body = Page<ImageFacts>), (status = "default", body = Problem)))]
pub(super) async fn list(
    _: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
    Query(filter): Query<ImageFilter>,
) -> Result<Json<Page<ImageFacts>>, Problem> {
    let limit = cursor.limit();
    let Some(decision) = &filter.decision else {
        let mut filling = Filling::new(cursor.after, limit);
        loop {
            let rows = app.control.store().images(&filling.after, limit).await.map_err(OpError::from)?;
            let keep = |facts: ImageFacts| is(&facts.kind, filter.kind.as_ref()).then_some(facts);
            if let Some(page) = filling.take(rows, limit, |facts| facts.digest.to_string(), keep) {
                return Ok(Json(page));
            }
        }
    };
    // Each is asked about, which costs more than reading a row: so many and no more.
    let limit = limit.min(limits::API_IMAGES_DECIDED);
    let rows = app.control.store().images(&cursor.after, limit).await.map_err(OpError::from)?;
    let Page { items: rows, next } = Page::new(rows, limit, |facts| facts.digest.to_string());
    let mut items = Vec::new();
    for facts in rows.into_iter().filter(|facts| is(&facts.kind, filter.kind.as_ref())) {
        // What cannot be read is not allowed.
        let verdict = app.control.image_judge(facts.digest.clone(), false).await;
        let found = verdict.map_or_else(|_| "deny".to_owned(), |verdict| verdict.decision);
        if found == *decision {
            items.push(facts);
        }
    }
    Ok(Json(Page { items, next }))
}

/// One image, by digest or name, with what the node decides about it now.
#[utoipa::path(get, path = "/v1/images/{image}", tag = "images", params(("image" = String, Path)),
    responses((status = 200, body = ImageVerdict), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(image): Path<String>,
) -> Result<Tagged<ImageVerdict>, Problem> {
    let facts = app.control.image_find(&image).await?;
    Ok(Tagged::new(app.control.image_judge(facts.digest, false).await?))
}

/// Reads all of an image, holds it against its digest and its tree, and decides about it.
#[utoipa::path(post, path = "/v1/images/{image}/verify", tag = "images", params(("image" = String, Path)),
    responses((status = 200, body = ImageVerdict), (status = "default", body = Problem)))]
pub(super) async fn verify(
    _: Caller,
    State(app): State<App>,
    Path(image): Path<String>,
) -> Result<Json<ImageVerdict>, Problem> {
    let facts = app.control.image_find(&image).await?;
    Ok(Json(app.control.image_judge(facts.digest, true).await?))
}

/// Removes an image that no machine is made of.
#[utoipa::path(delete, path = "/v1/images/{image}", tag = "images", params(("image" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(image): Path<String>,
) -> Result<StatusCode, Problem> {
    let facts = app.control.image_find(&image).await?;
    app.control.image_delete(&caller, facts.digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps more evidence beside an image.
#[utoipa::path(post, path = "/v1/images/{image}/evidence", tag = "images", params(("image" = String, Path)),
    request_body = FinishRequest,
    responses((status = 200, body = ImageVerdict), (status = "default", body = Problem)))]
pub(super) async fn evidence(
    caller: Caller,
    State(app): State<App>,
    Path(image): Path<String>,
    Json(request): Json<FinishRequest>,
) -> Result<Json<ImageVerdict>, Problem> {
    let facts = app.control.image_find(&image).await?;
    Ok(Json(app.control.evidence_put(&caller, facts.digest, files(request.evidence)?).await?))
}

/// Begins an upload.
#[utoipa::path(post, path = "/v1/images/uploads", tag = "images", request_body = UploadRequest,
    responses((status = 201, body = Upload), (status = "default", body = Problem)))]
pub(super) async fn begin(
    _: Caller,
    State(app): State<App>,
    Json(request): Json<UploadRequest>,
) -> Result<impl IntoResponse, Problem> {
    let upload = app.control.upload_begin(request).await?;
    let place = [(header::LOCATION, format!("/v1/images/uploads/{}", upload.id))];
    Ok((StatusCode::CREATED, place, Json(upload)))
}

/// How far an upload is.
#[utoipa::path(get, path = "/v1/images/uploads/{upload}", tag = "images", params(("upload" = String, Path)),
    responses((status = 200, body = Upload), (status = "default", body = Problem)))]
pub(super) async fn state(_: Caller, State(app): State<App>, Path(id): Path<Uuid>) -> Result<Json<Upload>, Problem> {
    Ok(Json(app.control.upload_state(id).await?))
}

/// Adds a piece that begins at `Upload-Offset`, at most 64 MiB.
#[utoipa::path(patch, path = "/v1/images/uploads/{upload}", tag = "images",
    params(("upload" = String, Path), ("upload-offset" = u64, Header)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Upload), (status = "default", body = Problem)))]
pub(super) async fn append(
    _: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(piece): Body,
) -> Result<Json<Upload>, Problem> {
    let offset = headers.get("upload-offset").and_then(|value| value.to_str().ok()?.parse().ok());
    let missing = || Problem::malformed(StatusCode::BAD_REQUEST, "Upload-Offset says where the piece begins");
    Ok(Json(app.control.upload_append(id, offset.ok_or_else(missing)?, piece.to_vec()).await?))
}

/// Gives an upload up.
#[utoipa::path(delete, path = "/v1/images/uploads/{upload}", tag = "images", params(("upload" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn abort(_: Caller, State(app): State<App>, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    app.control.upload_abort(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes an image of an upload, and keeps the evidence beside it.
#[utoipa::path(post, path = "/v1/images/uploads/{upload}/finish", tag = "images", params(("upload" = String, Path)),
    request_body = FinishRequest,
    responses((status = 201, body = ImageVerdict), (status = "default", body = Problem)))]
pub(super) async fn finish(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Json(request): Json<FinishRequest>,
) -> Result<(StatusCode, Json<ImageVerdict>), Problem> {
    Ok((StatusCode::CREATED, Json(app.control.upload_finish(&caller, id, files(request.evidence)?).await?)))
}

pub(super) fn files(evidence: Vec<EvidenceUpload>) -> Result<Vec<EvidenceFile>, Problem> {
    let decode = |file: EvidenceUpload| {
        let bad = |_| Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, format!("{:?} is not base64", file.name));
        let bytes = base64::engine::general_purpose::STANDARD.decode(&file.base64).map_err(bad)?;
        Ok(EvidenceFile { name: file.name, bytes })
    };
    evidence.into_iter().map(decode).collect()
}
