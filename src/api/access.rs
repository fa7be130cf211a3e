//! What each endpoint asks of its caller, in one table, and the layer that keeps it before any handler runs.
//! Invariant: an endpoint that is not in the table is refused to everybody.

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::authn::MustChange;
use super::extract::Machine;
use super::{App, Problem};
use crate::control::authz::{Place, Resource};
use crate::control::{Caller, OpError};
use crate::types::access::Permission::{self, *};
use crate::types::{Code, Reason};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, without a credential.
    Public,
    /// Everybody who says who they are, about themselves.
    Known,
    /// Who has this permission on what the address names: a machine, an operation, a tenant, a project, a grant; on
    /// everything where it names none of these.
    Needs(Permission),
    /// Who has this permission on what contains that: a quota is not changed by whom it limits.
    Above(Permission),
    /// Who has this permission anywhere. What of it the answer shows, and whether it is enough for what the body asks
    /// for, the handler asks.
    Somewhere(Permission),
}

use Access::{Above, Known, Needs, Public, Somewhere};

/// Every endpoint: method, address, who may call it. By address.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, &str, Access)] = &[
    ("GET",    "/health/live",                            Public),
    ("GET",    "/health/ready",                           Public),
    ("GET",    "/metrics",                                Needs(MetricsRead)),
    ("GET",    "/v1/access/check",                        Known),
    ("POST",   "/v1/admissions",                          Needs(AdmissionDecide)),
    ("POST",   "/v1/admissions/kubernetes",               Needs(AdmissionDecide)),
    ("GET",    "/v1/approvals",                           Needs(QuarantineRead)),
    ("POST",   "/v1/approvals/{approval}/approve",        Needs(QuarantineApprove)),
    ("GET",    "/v1/audit",                               Needs(AuditRead)),
    ("GET",    "/v1/audit/checkpoint",                    Needs(AuditRead)),
    ("GET",    "/v1/audit/checkpoints",                   Needs(AuditRead)),
    ("POST",   "/v1/audit/checkpoints",                   Needs(AuditRead)),
    ("GET",    "/v1/audit/export",                        Needs(AuditRead)),
    ("GET",    "/v1/audit/key",                           Needs(AuditRead)),
    ("GET",    "/v1/audit/proof/consistency",             Needs(AuditRead)),
    ("GET",    "/v1/audit/proof/inclusion",               Needs(AuditRead)),
    ("GET",    "/v1/audit/verify",                        Needs(AuditRead)),
    ("GET",    "/v1/events",                              Somewhere(EventRead)),
    ("GET",    "/v1/events/live",                         Somewhere(EventRead)),
    ("GET",    "/v1/grants",                              Somewhere(AccessRead)),
    ("POST",   "/v1/grants",                              Somewhere(AccessWrite)),
    ("DELETE", "/v1/grants/{grant}",                      Needs(AccessWrite)),
    ("GET",    "/v1/grants/{grant}",                      Needs(AccessRead)),
    ("GET",    "/v1/identities",                          Needs(UserRead)),
    ("POST",   "/v1/identities",                          Needs(UserWrite)),
    ("DELETE", "/v1/identities/{identity}",               Needs(UserWrite)),
    ("GET",    "/v1/images",                              Needs(ImageRead)),
    ("POST",   "/v1/images/uploads",                      Needs(ImageWrite)),
    ("DELETE", "/v1/images/uploads/{upload}",             Needs(ImageWrite)),
    ("GET",    "/v1/images/uploads/{upload}",             Needs(ImageWrite)),
    ("PATCH",  "/v1/images/uploads/{upload}",             Needs(ImageWrite)),
    ("POST",   "/v1/images/uploads/{upload}/finish",      Needs(ImageWrite)),
    ("DELETE", "/v1/images/{image}",                      Needs(ImageDelete)),
    ("GET",    "/v1/images/{image}",                      Needs(ImageRead)),
    ("POST",   "/v1/images/{image}/evidence",             Needs(ImageWrite)),
    ("POST",   "/v1/images/{image}/verify",               Needs(ImageRead)),
    ("GET",    "/v1/keys",                                Known),
    ("POST",   "/v1/keys",                                Known),
    ("DELETE", "/v1/keys/{key}",                          Known),
    ("GET",    "/v1/keys/{key}",                          Known),
    ("POST",   "/v1/keys/{key}/rotate",                   Known),
    ("GET",    "/v1/me",                                  Known),
    ("PUT",    "/v1/me/password",                         Known),
    ("POST",   "/v1/me/totp",                             Known),
    ("POST",   "/v1/me/totp/confirm",                     Known),
    ("POST",   "/v1/me/totp/remove",                      Known),
    ("GET",    "/v1/nodes",                               Needs(NodeRead)),
    ("GET",    "/v1/nodes/{node}",                        Needs(NodeRead)),
    ("GET",    "/v1/oidc",                                Public),
    ("GET",    "/v1/oidc/{provider}/callback",            Public),
    ("POST",   "/v1/oidc/{provider}/code",                Public),
    ("GET",    "/v1/oidc/{provider}/start",               Public),
    ("POST",   "/v1/oidc/{provider}/token",               Public),
    ("GET",    "/v1/openapi.json",                        Public),
    ("GET",    "/v1/operations/{operation}",              Needs(VmRead)),
    ("POST",   "/v1/overrides",                           Needs(QuarantineWrite)),
    ("GET",    "/v1/projects",                            Somewhere(TenantRead)),
    ("POST",   "/v1/projects",                            Somewhere(TenantWrite)),
    ("DELETE", "/v1/projects/{project}",                  Above(TenantWrite)),
    ("GET",    "/v1/projects/{project}",                  Needs(TenantRead)),
    ("PUT",    "/v1/projects/{project}",                  Above(TenantWrite)),
    ("GET",    "/v1/quarantines",                         Needs(QuarantineRead)),
    ("POST",   "/v1/quarantines",                         Needs(QuarantineWrite)),
    ("POST",   "/v1/quarantines/{quarantine}/release",    Needs(QuarantineWrite)),
    ("GET",    "/v1/roles",                               Somewhere(AccessRead)),
    ("POST",   "/v1/roles",                               Needs(AccessWrite)),
    ("DELETE", "/v1/roles/{role}",                        Needs(AccessWrite)),
    ("GET",    "/v1/roles/{role}",                        Somewhere(AccessRead)),
    ("PUT",    "/v1/roles/{role}",                        Needs(AccessWrite)),
    ("GET",    "/v1/services",                            Needs(UserRead)),
    ("POST",   "/v1/services",                            Needs(UserWrite)),
    ("DELETE", "/v1/services/{service}",                  Needs(UserWrite)),
    ("GET",    "/v1/services/{service}",                  Needs(UserRead)),
    ("DELETE", "/v1/session",                             Known),
    ("GET",    "/v1/session",                             Known),
    ("POST",   "/v1/session",                             Public),
    ("GET",    "/v1/sessions",                            Known),
    ("DELETE", "/v1/sessions/{session}",                  Known),
    ("POST",   "/v1/state/backup",                        Needs(StateBackup)),
    ("GET",    "/v1/tenants",                             Somewhere(TenantRead)),
    ("POST",   "/v1/tenants",                             Needs(TenantWrite)),
    ("DELETE", "/v1/tenants/{tenant}",                    Above(TenantWrite)),
    ("GET",    "/v1/tenants/{tenant}",                    Needs(TenantRead)),
    ("PUT",    "/v1/tenants/{tenant}",                    Above(TenantWrite)),
    ("GET",    "/v1/users",                               Needs(UserRead)),
    ("POST",   "/v1/users",                               Needs(UserWrite)),
    ("DELETE", "/v1/users/{user}",                        Needs(UserWrite)),
    ("GET",    "/v1/users/{user}",                        Needs(UserRead)),
    ("PATCH",  "/v1/users/{user}",                        Needs(UserWrite)),
    ("PUT",    "/v1/users/{user}/password",               Needs(UserWrite)),
    ("DELETE", "/v1/users/{user}/sessions",               Needs(UserWrite)),
    ("GET",    "/v1/users/{user}/sessions",               Needs(UserRead)),
    ("DELETE", "/v1/users/{user}/totp",                   Needs(UserWrite)),
    ("GET",    "/v1/vms",                                 Somewhere(VmRead)),
    ("POST",   "/v1/vms",                                 Somewhere(VmCreate)),
    ("DELETE", "/v1/vms/{vm}",                            Needs(VmDelete)),
    ("GET",    "/v1/vms/{vm}",                            Needs(VmRead)),
    ("PUT",    "/v1/vms/{vm}",                            Needs(VmUpdate)),
    ("POST",   "/v1/vms/{vm}/actions",                    Needs(VmAct)),
    ("GET",    "/v1/vms/{vm}/console",                    Needs(VmConsole)),
    ("POST",   "/v1/vms/{vm}/console",                    Needs(VmConsole)),
    ("GET",    "/v1/vms/{vm}/console/live",               Needs(VmConsole)),
    ("GET",    "/v1/vms/{vm}/operations",                 Needs(VmRead)),
    ("POST",   "/v1/vms/{vm}/power",                      Needs(VmPower)),
    ("PUT",    "/v1/vms/{vm}/project",                    Needs(VmDelete)),
];

/// Refuses what the table does not allow.
pub(super) async fn guard(
    State(app): State<App>,
    path: MatchedPath,
    named: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let access = access_of(request.method(), path.as_str());
    let must_change = request.extensions().get::<MustChange>().is_some();
    match allowed(&app, access, &named, caller, must_change).await {
        Ok(place) => {
            if let Some(id) = place.and_then(|place| place.vm()) {
                request.extensions_mut().insert(Machine(id));
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn allowed(
    app: &App,
    access: Option<Access>,
    named: &RawPathParams,
    caller: Option<Caller>,
    must_change: bool,
) -> Result<Option<Place>, Problem> {
    if access == Some(Public) {
        return Ok(None);
    }
    let caller = caller.ok_or_else(|| {
        let reason = Reason::new(Code::CredentialMissing, "the request says nothing of who asks");
        OpError::Unauthenticated(Box::new(reason))
    })?;
    match access {
        Some(Needs(_) | Above(_) | Somewhere(_)) if must_change => {
            let message = format!("{} has to choose another password first", caller.actor);
            Err(OpError::Forbidden(Box::new(Reason::new(Code::PasswordChangeRequired, message))).into())
        }
        Some(Needs(permission)) => Ok(Some(app.control.authorize(&caller, permission, &resource(named)).await?)),
        Some(Above(permission)) => Ok(Some(app.control.authorize(&caller, permission, &above(named)).await?)),
        Some(Somewhere(permission)) => {
            app.control.authorize(&caller, permission, &Resource::Somewhere).await?;
            Ok(None)
        }
        Some(Known) => Ok(None),
        _ => Err(Problem::method()),
    }
}

/// Whether an endpoint asks nobody who they are.
pub(super) fn is_public(method: &Method, path: &str) -> bool {
    access_of(method, path) == Some(Public)
}

/// The method under which an endpoint is described: HEAD is GET without its body (RFC 9110 section 9.3.2), and a
/// WebSocket over HTTP/2 opens by CONNECT (RFC 8441).
pub(super) fn described(method: &Method) -> &str {
    if method == Method::HEAD || method == Method::CONNECT { "GET" } else { method.as_str() }
}

fn access_of(method: &Method, path: &str) -> Option<Access> {
    let method = described(method);
    TABLE.iter().find(|(of, at, _)| *of == method && *at == path).map(|(_, _, access)| *access)
}

/// What the address names.
fn resource(named: &RawPathParams) -> Resource {
    let known = |(name, text): (&str, &str)| match name {
        "vm" => Some(Resource::Vm(text.to_owned())),
        "operation" => Some(Resource::Operation(text.to_owned())),
        "tenant" => Some(Resource::Tenant(text.to_owned())),
        "project" => Some(Resource::Project(text.to_owned())),
        "grant" => Some(Resource::Grant(text.to_owned())),
        _ => None,
    };
    named.iter().find_map(known).unwrap_or(Resource::Everything)
}

/// What contains it.
fn above(named: &RawPathParams) -> Resource {
    match resource(named) {
        Resource::Tenant(name) => Resource::AboveTenant(name),
        Resource::Project(name) => Resource::AboveProject(name),
        _ => Resource::Everything,
    }
}
