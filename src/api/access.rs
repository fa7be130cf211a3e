//! What each endpoint asks of its caller, in one table, and the layer that keeps it before any handler runs.
//! Invariant: an endpoint that is not in the table is refused to everybody.

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::{App, Problem};
use crate::control::authz::Resource;
use crate::control::{Caller, OpError};
use crate::types::access::Permission::{self, *};
use crate::types::{Code, Reason};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, without a credential.
    Public,
    /// Everybody who says who they are, about themselves.
    #[expect(dead_code, reason = "the first endpoint of this kind takes this line away")]
    Known,
    /// Who has this permission on the resource that the address names.
    Needs(Permission),
}

use Access::{Known, Needs, Public};

/// Every endpoint: method, address, who may call it. By address.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, &str, Access)] = &[
    ("GET",    "/v1/approvals",                           Needs(QuarantineRead)),
    ("POST",   "/v1/approvals/{approval}/approve",        Needs(QuarantineApprove)),
    ("GET",    "/v1/audit",                               Needs(AuditRead)),
    ("GET",    "/v1/audit/verify",                        Needs(AuditRead)),
    ("GET",    "/v1/events",                              Needs(EventRead)),
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
    ("GET",    "/v1/nodes",                               Needs(NodeRead)),
    ("GET",    "/v1/nodes/{node}",                        Needs(NodeRead)),
    ("GET",    "/v1/openapi.json",                        Public),
    ("GET",    "/v1/operations/{operation}",              Needs(VmRead)),
    ("POST",   "/v1/overrides",                           Needs(QuarantineWrite)),
    ("GET",    "/v1/quarantines",                         Needs(QuarantineRead)),
    ("POST",   "/v1/quarantines",                         Needs(QuarantineWrite)),
    ("POST",   "/v1/quarantines/{quarantine}/release",    Needs(QuarantineWrite)),
    ("GET",    "/v1/vms",                                 Needs(VmRead)),
    ("POST",   "/v1/vms",                                 Needs(VmCreate)),
    ("DELETE", "/v1/vms/{vm}",                            Needs(VmDelete)),
    ("GET",    "/v1/vms/{vm}",                            Needs(VmRead)),
    ("PUT",    "/v1/vms/{vm}",                            Needs(VmUpdate)),
    ("POST",   "/v1/vms/{vm}/actions",                    Needs(VmAct)),
    ("GET",    "/v1/vms/{vm}/console",                    Needs(VmConsole)),
    ("POST",   "/v1/vms/{vm}/console",                    Needs(VmConsole)),
    ("GET",    "/v1/vms/{vm}/operations",                 Needs(VmRead)),
    ("POST",   "/v1/vms/{vm}/power",                      Needs(VmPower)),
];

/// Refuses what the table does not allow.
pub(super) async fn guard(
    State(app): State<App>,
    path: MatchedPath,
    named: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let access = access_of(request.method(), path.as_str());
    match allowed(&app, access, &named, caller).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn allowed(
    app: &App,
    access: Option<Access>,
    named: &RawPathParams,
    caller: Option<Caller>,
) -> Result<(), Problem> {
    if access == Some(Public) {
        return Ok(());
    }
    let caller = caller.ok_or_else(|| {
        let reason = Reason::new(Code::CredentialMissing, "the request says nothing of who asks");
        OpError::Unauthenticated(Box::new(reason))
    })?;
    match access {
        Some(Needs(permission)) => Ok(app.control.authorize(&caller, permission, &resource(named)).await?),
        Some(Known) => Ok(()),
        _ => Err(Problem::method()),
    }
}

fn access_of(method: &Method, path: &str) -> Option<Access> {
    // HEAD is GET without its body (RFC 9110 section 9.3.2).
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.iter().find(|(of, at, _)| *of == method && *at == path).map(|(_, _, access)| *access)
}

/// What the address names.
fn resource(named: &RawPathParams) -> Resource {
    let vm = named.iter().find(|(name, _)| *name == "vm").map(|(_, text)| text.to_owned());
    vm.map_or(Resource::Everything, Resource::Vm)
}
