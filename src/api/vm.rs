//! `/v1/vms`: machines. A change is written down and answered; what comes of it is an operation to wait for.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Cursor, Guards, InProject, Json, Machine, Query, Tagged, tag};
use super::filter::{Filling, OperationFilter, VmFilter, begins, is};
use super::{App, Page, Problem};
use crate::control::authz::Resource;
use crate::control::ops::vm::Wish;
use crate::control::{Caller, OpError};
use crate::store::{Hold, Operation, Vm};
use crate::types::Reason;
use crate::types::access::Permission;
use crate::types::step::{Action, Observed};
use crate::types::vm::{DesiredPower, ObservedPower, VmId, VmSpec};

/// A machine: what it shall be, what it is, and what stands between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmView {
    /// Its identity.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// The node that has it.
    pub node: String,
    /// The project that it belongs to.
    pub project: String,
    /// Grows with every change that its owner makes; the ETag.
    pub generation: u64,
    /// What it is made of.
    pub spec: VmSpec,
    /// The state in which it shall be.
    pub power: DesiredPower,
    /// As its node saw it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seen_at: Option<Timestamp>,
    /// Why it is left alone although it shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// It is not started again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// How often it died in a row.
    pub failures: u32,
    /// It is on its way out.
    pub deleting: bool,
    /// Why it may not run: something in it is in quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Reason>,
    /// When it was described first.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

impl VmView {
    fn new(vm: Vm, quarantined: Vec<Reason>) -> Self {
        Self {
            id: vm.id,
            name: vm.spec.name.clone(),
            node: vm.node,
            project: vm.project,
            generation: vm.generation,
            spec: vm.spec,
            power: vm.power,
            observed: vm.observed,
            seen_at: vm.seen_at,
            hold: vm.hold,
            not_before: vm.not_before,
            failures: vm.failures,
            deleting: vm.deleting,
            quarantined,
            created_at: vm.created_at,
            created_by: vm.created_by,
        }
    }
}

/// What is wished of a machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "power", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PowerRequest {
    /// On, through the gate.
    Start,
    /// Off.
    Stop {
        /// Without asking the guest first.
        #[serde(default)]
        force: bool,
    },
    /// Halted.
    Pause,
    /// Running again.
    Resume,
    /// Ready to be sent here by another node.
    Receive,
}

/// Where a machine shall belong.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The project.
    #[schema(max_length = 63)]
    pub project: String,
}

/// The machines that the caller may see, in the order in which they were described.
#[utoipa::path(get, path = "/v1/vms", tag = "vms", params(Cursor, VmFilter),
    responses((status = 200, body = Page<VmView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(cursor): Query<Cursor>,
    Query(filter): Query<VmFilter>,
) -> Result<Json<Page<VmView>>, Problem> {
    let bad = |_| Problem::malformed(StatusCode::BAD_REQUEST, "`after` is no cursor of this list");
    let sight = app.control.sight(&caller, Permission::VmRead).await?;
    let limit = cursor.limit();
    let mut filling = Filling::new(cursor.after, limit);
    let Page { items, next } = loop {
        let after = &filling.after;
        let after = if after.is_empty() { None } else { Some(after.parse::<VmId>().map_err(bad)?) };
        let rows = app.control.store().vms(&sight, after, limit).await.map_err(OpError::from)?;
        let keep = |vm: Vm| wanted(&vm, &filter).then_some(vm);
        if let Some(page) = filling.take(rows, limit, |vm| vm.id.to_string(), keep) {
            break page;
        }
    };
    let mut concerned = app.control.quarantined(&items);
    let view = |vm: Vm| {
        let reasons = concerned.remove(&vm.id).unwrap_or_default();
        VmView::new(vm, reasons)
    };
    Ok(Json(Page { items: items.into_iter().map(view).collect(), next }))
}

fn wanted(vm: &Vm, filter: &VmFilter) -> bool {
    let power = vm.observed.as_ref().map_or(ObservedPower::Stopped, |seen| seen.power);
    begins(&vm.spec.name, filter.name.as_ref())
        && is(&power, filter.power.as_ref())
        && is(&vm.node, filter.node.as_ref())
}

/// Describes a machine. What its node's gate would refuse is refused here.
#[utoipa::path(post, path = "/v1/vms", tag = "vms", request_body = VmSpec,
    params(InProject, ("idempotency-key" = Option<String>, Header)),
    responses((status = 201, body = VmView), (status = "default", body = Problem)))]
pub(super) async fn create(
    caller: Caller,
    State(app): State<App>,
    Query(within): Query<InProject>,
    guards: Guards,
    Json(spec): Json<VmSpec>,
) -> Result<Tagged<VmView>, Problem> {
    let project = within.project;
    app.control.authorize(&caller, Permission::VmCreate, &Resource::Project(project.clone())).await?;
    let once = guards.once("POST /v1/vms", &(&project, &spec));
    let vm = app.control.vm_create(&caller, &project, spec, once).await?;
    Ok(tagged(StatusCode::CREATED, &app, vm))
}

/// One machine, by identity or name.
#[utoipa::path(get, path = "/v1/vms/{vm}", tag = "vms", params(("vm" = String, Path)),
    responses((status = 200, body = VmView), (status = "default", body = Problem)))]
pub(super) async fn show(_: Caller, State(app): State<App>, Machine(id): Machine) -> Result<Tagged<VmView>, Problem> {
    let vm = app.control.vm_find(&id.to_string()).await?;
    Ok(tagged(StatusCode::OK, &app, vm))
}

/// Replaces a machine's description. With `If-Match` only if nobody else did meanwhile.
#[utoipa::path(put, path = "/v1/vms/{vm}", tag = "vms", request_body = VmSpec,
    params(("vm" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = VmView), (status = "default", body = Problem)))]
pub(super) async fn update(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    guards: Guards,
    Json(spec): Json<VmSpec>,
) -> Result<Tagged<VmView>, Problem> {
    let vm = app.control.vm_update(&caller, id, spec, guards.generation).await?;
    Ok(tagged(StatusCode::OK, &app, vm))
}

/// Removes a machine, running or not, and what its node has of it.
#[utoipa::path(delete, path = "/v1/vms/{vm}", tag = "vms",
    params(("vm" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 202, body = Operation), (status = "default", body = Problem)))]
pub(super) async fn delete(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    guards: Guards,
) -> Result<(StatusCode, Json<Operation>), Problem> {
    let operation = app.control.vm_delete(&caller, id, guards.generation).await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// Switches a machine on or off, halts it, or lets it run again.
#[utoipa::path(post, path = "/v1/vms/{vm}/power", tag = "vms", request_body = PowerRequest,
    params(("vm" = String, Path), ("if-match" = Option<String>, Header), ("idempotency-key" = Option<String>, Header)),
    responses((status = 202, body = Operation), (status = "default", body = Problem)))]
pub(super) async fn power(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    guards: Guards,
    Json(request): Json<PowerRequest>,
) -> Result<(StatusCode, Json<Operation>), Problem> {
    let wish = match request {
        PowerRequest::Start => Wish::Start,
        PowerRequest::Stop { force } => Wish::Stop { force },
        PowerRequest::Pause => Wish::Pause,
        PowerRequest::Resume => Wish::Resume,
        PowerRequest::Receive => Wish::Receive,
    };
    let once = guards.once(&format!("POST /v1/vms/{id}/power"), &request);
    let operation = app.control.vm_wish(&caller, id, wish, guards.generation, once).await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// Resets a running machine, plugs something in or out, keeps a snapshot or goes back to one, or saves it.
#[utoipa::path(post, path = "/v1/vms/{vm}/actions", tag = "vms", request_body = Action,
    params(("vm" = String, Path), ("idempotency-key" = Option<String>, Header)),
    responses((status = 202, body = Operation), (status = "default", body = Problem)))]
pub(super) async fn act(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    guards: Guards,
    Json(action): Json<Action>,
) -> Result<(StatusCode, Json<Operation>), Problem> {
    let once = guards.once(&format!("POST /v1/vms/{id}/actions"), &action);
    let operation = app.control.vm_act(&caller, id, action, once).await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// Gives a machine to another project, whose quota must have room for it. Whoever asks may remove machines where it is,
/// and describe machines where it goes.
#[utoipa::path(put, path = "/v1/vms/{vm}/project", tag = "vms", request_body = MoveRequest,
    params(("vm" = String, Path)),
    responses((status = 200, body = VmView), (status = "default", body = Problem)))]
pub(super) async fn project(
    caller: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    Json(request): Json<MoveRequest>,
) -> Result<Tagged<VmView>, Problem> {
    let there = Resource::Project(request.project.clone());
    app.control.authorize(&caller, Permission::VmCreate, &there).await?;
    let vm = app.control.vm_move(&caller, id, &request.project).await?;
    Ok(tagged(StatusCode::OK, &app, vm))
}

/// What was asked of a machine, the oldest first.
#[utoipa::path(get, path = "/v1/vms/{vm}/operations", tag = "vms", params(("vm" = String, Path), Cursor, OperationFilter),
    responses((status = 200, body = Page<Operation>), (status = "default", body = Problem)))]
pub(super) async fn operations(
    _: Caller,
    State(app): State<App>,
    Machine(id): Machine,
    Query(cursor): Query<Cursor>,
    Query(filter): Query<OperationFilter>,
) -> Result<Json<Page<Operation>>, Problem> {
    let limit = cursor.limit();
    let mut filling = Filling::new(cursor.after, limit);
    loop {
        let rows = app.control.store().operations_of(id, &filling.after, limit).await.map_err(OpError::from)?;
        let keep = |operation: Operation| is(&operation.state, filter.state.as_ref()).then_some(operation);
        if let Some(page) = filling.take(rows, limit, |operation| operation.id.to_string(), keep) {
            return Ok(Json(page));
        }
    }
}

fn tagged(status: StatusCode, app: &App, vm: Vm) -> Tagged<VmView> {
    let reasons = app.control.quarantined(std::slice::from_ref(&vm)).remove(&vm.id).unwrap_or_default();
    let place = format!("/v1/vms/{}", vm.id);
    let tagged = tag(status, vm.generation, VmView::new(vm, reasons));
    if status == StatusCode::CREATED { tagged.at(place) } else { tagged }
}
