//! `/v1/grants` and `/v1/access/check`: who has which role where, and whether somebody may do something.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{Cursor, Json, Path, Query};
use super::{App, Page, Problem};
use crate::control::Caller;
use crate::control::authz::{Because, Resource};
use crate::store::Grant;
use crate::types::access::{Permission, Subject};
use crate::types::grant::{Conditions, Holder};

/// Somebody has a role, somewhere, under conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Its identity; none where it is the role that a user has by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<Uuid>,
    /// Who: `user:IDENTITY` or `service:NAME`.
    pub holder: String,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Which role.
    pub role: String,
    /// Where: `everything`, `tenant:…`, `project:…` or `vm:…`.
    pub scope: String,
    /// When, and from where.
    pub conditions: Conditions,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A role for somebody.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// Who: `user:NAME`, `user:IDENTITY` or `service:NAME`.
    #[schema(max_length = 128)]
    pub holder: String,
    /// Which role, built in or made.
    #[schema(max_length = 63)]
    pub role: String,
    /// Where: `everything`, `tenant:NAME`, `project:NAME` or `vm:NAME`.
    #[schema(max_length = 128)]
    pub scope: String,
    /// When, and from where.
    #[serde(default)]
    pub conditions: Conditions,
}

/// What is asked.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// The permission, as `vm.power`.
    permission: Permission,
    /// On what: `everything`, `anything`, `tenant:NAME`, `project:NAME` or `vm:NAME`.
    #[serde(default = "everything")]
    #[param(default = "everything", max_length = 128)]
    on: String,
    /// Who would do it: `user:NAME` or `service:NAME`; whoever asks, without it.
    #[serde(default)]
    #[param(max_length = 128)]
    holder: Option<String>,
    /// From which address they would; only with `holder`.
    #[serde(default)]
    #[param(max_length = 45)]
    address: Option<String>,
}

fn everything() -> String {
    "everything".to_owned()
}

/// Whether somebody may do something, and which grants say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Whether.
    pub allowed: bool,
    /// Who.
    pub holder: String,
    /// What.
    pub permission: Permission,
    /// On what.
    pub on: String,
    /// By which grants. None where they may not, or need none: the host's own administrators.
    pub by: Vec<GrantView>,
}

/// The grants on what the caller may see grants of, in the order in which they were made.
#[utoipa::path(get, path = "/v1/grants", tag = "access", params(Cursor),
    responses((status = 200, body = Page<GrantView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Page<GrantView>>, Problem> {
    let after: Option<Uuid> = cursor.after.parse().ok();
    let shown = app.control.grants_in_sight(&caller).await?.into_iter();
    let shown = shown.filter(|grant| after.is_none_or(|after| grant.id > after));
    let items: Vec<Grant> = shown.take(cursor.limit() as usize).collect();
    let page = Page::new(items, cursor.limit(), |grant| grant.id.to_string());
    Ok(Json(Page { items: GrantView::all(&app, page.items).await?, next: page.next }))
}

/// Gives somebody a role. Whoever asks must hold `access.write` there, and everything that is in the role.
#[utoipa::path(post, path = "/v1/grants", tag = "access", request_body = GrantRequest,
    responses((status = 201, body = GrantView), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Json(request): Json<GrantRequest>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    let GrantRequest { holder, role, scope, conditions } = request;
    let made = app.control.grant_create(&caller, &holder, role, &scope, conditions).await?;
    Ok((StatusCode::CREATED, Json(GrantView::of(&app, made).await?)))
}

/// One grant.
#[utoipa::path(get, path = "/v1/grants/{grant}", tag = "access", params(("grant" = String, Path)),
    responses((status = 200, body = GrantView), (status = "default", body = Problem)))]
pub(super) async fn show(
    _: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(GrantView::of(&app, app.control.grant_find(&id).await?).await?))
}

/// Takes a role from somebody, at once.
#[utoipa::path(delete, path = "/v1/grants/{grant}", tag = "access", params(("grant" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.control.grant_delete(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may do something, or, for whoever may see grants there, whether somebody else may. What is not
/// there the caller may not; asked of somebody else, it is unknown.
#[utoipa::path(get, path = "/v1/access/check", tag = "access", params(Question),
    responses((status = 200, body = Verdict), (status = "default", body = Problem)))]
pub(super) async fn check(
    caller: Caller,
    State(app): State<App>,
    Query(question): Query<Question>,
) -> Result<Json<Verdict>, Problem> {
    let at = match question.on.as_str() {
        "anything" => Resource::Somewhere,
        on => app.control.scope_find(on).await?.0,
    };
    let none = |_| Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, "`address` is no address");
    let address = question.address.as_deref().map(str::parse::<IpAddr>).transpose().map_err(none)?;
    let asked = match &question.holder {
        None => caller,
        Some(holder) => {
            app.control.authorize(&caller, Permission::AccessRead, &at).await?;
            let holder = app.control.holder_find(holder).await?;
            let actor = holder.to_string();
            let subject = match holder {
                Holder::User(user) => Subject::User(user),
                Holder::Service(name) => Subject::Service(name),
            };
            Caller { subject, actor, origin: "check", address, scopes: None, why: None }
        }
    };
    let because = app.control.may(&asked, question.permission, &at).await?;
    let (allowed, permission) = (because.is_some(), question.permission);
    let by = match because {
        Some(Because::Granted(grants)) => GrantView::all(&app, grants).await?,
        _ => Vec::new(),
    };
    Ok(Json(Verdict { allowed, holder: asked.actor, permission, on: question.on, by }))
}

impl GrantView {
    async fn of(app: &App, grant: Grant) -> Result<Self, Problem> {
        let user = app.control.name_of(&grant.holder).await?;
        Ok(Self {
            id: (!grant.id.is_nil()).then_some(grant.id),
            holder: grant.holder.to_string(),
            user,
            role: grant.role,
            scope: grant.scope.to_string(),
            conditions: grant.conditions,
            created_at: grant.created_at,
            created_by: grant.created_by,
        })
    }

    async fn all(app: &App, grants: impl IntoIterator<Item = Grant>) -> Result<Vec<Self>, Problem> {
        let mut views = Vec::new();
        for grant in grants {
            views.push(Self::of(app, grant).await?);
        }
        Ok(views)
    }
}
