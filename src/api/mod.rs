//! The interface of the control plane: REST under `/v1`, on a unix socket of the host and over TLS.
//! Handlers extract, operate and return; nothing of the database reaches a body.
//!
//! Who may open the socket may ask; who they are, the kernel says. Over TLS a credential says it. Every "no" is a
//! problem document (RFC 9457) with a reason code and a hint. Lists go by a cursor, changes by an ETag, and a POST may
//! be repeated under a key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use ipnet::IpNet;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Control;
use crate::types::limits;

mod access;
mod admission;
mod audit;
mod authn;
mod console;
mod contract;
mod error;
mod event;
mod extract;
mod filter;
mod grant;
mod health;
mod image;
mod key;
mod limit;
mod listen;
mod live;
mod manners;
mod me;
mod metrics;
mod node;
mod observe;
mod oidc;
mod openapi;
mod operation;
mod peer;
mod quarantine;
mod role;
mod service;
mod session;
mod state;
mod tenant;
pub mod tls;
mod user;
mod version;
mod vm;

pub use error::Problem;
pub use extract::Page;
pub use grant::{GrantRequest, GrantView, Verdict};
pub use image::{EvidenceUpload, FinishRequest};
pub use key::{KeyRequest, KeyShown, RotateRequest};
pub use listen::{Listeners, TlsListener};
pub use me::{MeView, RotatedView, TotpView};
pub use node::NodeView;
pub use oidc::{CodeRequest, IdentityRequest, ProviderView, TokenRequest};
pub use openapi::text as openapi;
pub use quarantine::{AddedView, QuarantineRequest, QuarantineView, ReleaseRequest};
pub use role::{RoleAmendRequest, RoleRequest, RoleView};
pub use service::ServiceRequest;
pub use session::SessionView;
pub use tenant::{AmendRequest, ProjectRequest, ProjectView, TenantRequest, TenantView};
pub use user::UserPatchRequest;
pub use vm::{MoveRequest, PowerRequest, VmView};

/// What handlers share.
#[derive(Clone)]
struct App {
    control: Control,
    consoles: Arc<console::Consoles>,
    /// What is open for long.
    seats: Arc<live::Seats>,
    recent: Arc<live::Recent>,
    /// Whoever waits for long, or holds a connection of their own, stops when this says so. The service ends when
    /// nobody holds it any more.
    ending: Ending,
    conduct: Arc<Conduct>,
    looked: health::Looked,
    metrics: Arc<metrics::Metrics>,
}

/// What the configuration says of how the interface behaves.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// How long requests that are under way are waited for at the end.
    pub drain: Duration,
    /// With less room than this it is not ready.
    pub least_disk_bytes: u64,
    /// Who reads the figures without a credential.
    pub metrics_allow: Vec<IpNet>,
}

/// Whether the service ends.
#[derive(Clone)]
struct Ending {
    stop: watch::Receiver<bool>,
    _held: watch::Receiver<()>,
}

impl Ending {
    /// Returns once the service ends.
    async fn begun(&self) {
        listen::ending(&mut self.stop.clone()).await;
    }

    /// Whether it does.
    fn has_begun(&self) -> bool {
        *self.stop.borrow()
    }
}

impl App {
    fn new(control: Control, ending: Ending, conduct: Conduct) -> Self {
        Self {
            consoles: Arc::default(),
            seats: Arc::default(),
            recent: Arc::default(),
            ending,
            conduct: Arc::new(conduct),
            looked: Arc::default(),
            metrics: metrics::Metrics::new(&control),
            control,
        }
    }
}

#[derive(OpenApi)]
#[openapi(components(schemas(Problem)))]
struct Description;

/// Serves the interface until `stop` says so; then lets the requests that are under way end.
pub async fn serve(control: Control, listeners: Listeners, conduct: Conduct, stop: watch::Receiver<bool>) {
    let (held, holder) = watch::channel(());
    let drain = conduct.drain;
    let ending = Ending { stop: stop.clone(), _held: holder };
    let router = router(App::new(control, ending, conduct));
    listen::accept(listeners, router, stop).await;
    if tokio::time::timeout(drain, held.closed()).await.is_err() {
        tracing::warn!("requests are still under way, and are not waited for any longer");
    }
}

/// The endpoints with everything around them. What comes first on the way in stands last.
fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        // A WebSocket over HTTP/2 opens by another method (RFC 8441).
        .route("/v1/events/live", connect(live::event::follow))
        .route("/v1/vms/{vm}/console/live", connect(console::live::attach))
        .fallback(async || Problem::unknown("there is nothing at this address"))
        .method_not_allowed_fallback(async || Problem::method())
        .route_layer(middleware::from_fn_with_state(version::DEPRECATED, version::announce))
        .route_layer(middleware::from_fn(contract::keep))
        .route_layer(middleware::from_fn(contract::named))
        .route_layer(middleware::from_fn_with_state(app.clone(), access::guard))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::allow))
        .layer(middleware::from_fn_with_state(app.clone(), peer::identify))
        .layer(middleware::from_fn(contract::bounded))
        .layer(DefaultBodyLimit::max(limits::API_DOCUMENT_BYTES))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_millis(limits::API_BODY_PAUSE_MS)))
        .layer(middleware::from_fn(manners::in_time))
        .layer(CatchPanicLayer::custom(manners::panicked))
        .layer(middleware::from_fn(manners::hear_out))
        .layer(middleware::from_fn(manners::dress))
        .layer(middleware::from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}

fn connect<H, T>(handler: H) -> axum::routing::MethodRouter<App>
where
    H: axum::handler::Handler<T, App>,
    T: 'static,
{
    axum::routing::on(axum::routing::MethodFilter::CONNECT, handler)
}

/// Every endpoint, with its description.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(node::list))
        .routes(routes!(node::show))
        .routes(routes!(vm::list, vm::create))
        .routes(routes!(vm::show, vm::update, vm::delete))
        .routes(routes!(vm::power))
        .routes(routes!(vm::project))
        .routes(routes!(vm::act))
        .routes(routes!(vm::operations))
        .routes(routes!(console::read, console::write))
        .routes(routes!(console::live::attach))
        .routes(routes!(operation::show))
        .routes(routes!(image::list))
        .routes(routes!(image::show, image::delete))
        .routes(routes!(image::verify))
        .routes(routes!(image::begin))
        .routes(routes!(event::list))
        .routes(routes!(live::event::follow))
        .routes(routes!(key::list, key::create))
        .routes(routes!(key::show, key::revoke))
        .routes(routes!(key::rotate))
        .routes(routes!(oidc::providers))
        .routes(routes!(oidc::start))
        .routes(routes!(oidc::callback))
        .routes(routes!(oidc::token))
        .routes(routes!(oidc::code))
        .routes(routes!(oidc::identities, oidc::link))
        .routes(routes!(oidc::unlink))
        .routes(routes!(service::list, service::create))
        .routes(routes!(service::show, service::delete))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(me::show))
        .routes(routes!(me::password))
        .routes(routes!(me::totp_begin))
        .routes(routes!(me::totp_confirm))
        .routes(routes!(me::totp_remove))
        .routes(routes!(session::login, session::show, session::logout))
        .routes(routes!(session::list))
        .routes(routes!(session::revoke))
        .routes(routes!(user::list, user::create))
        .routes(routes!(user::show, user::update, user::delete))
        .routes(routes!(user::password))
        .routes(routes!(user::totp_remove))
        .routes(routes!(user::sessions, user::sessions_close))
        .routes(routes!(audit::key))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(audit::checkpoints, audit::sign))
        .routes(routes!(audit::inclusion))
        .routes(routes!(audit::consistency))
        .routes(routes!(audit::export))
        .routes(routes!(state::backup))
        .routes(routes!(quarantine::list, quarantine::add))
        .routes(routes!(quarantine::release))
        .routes(routes!(quarantine::approvals))
        .routes(routes!(quarantine::approve))
        .routes(routes!(quarantine::override_put))
        .routes(routes!(tenant::list, tenant::create))
        .routes(routes!(tenant::show, tenant::update, tenant::delete))
        .routes(routes!(tenant::projects, tenant::project_create))
        .routes(routes!(tenant::project_show, tenant::project_update, tenant::project_delete))
        .routes(routes!(role::list, role::create))
        .routes(routes!(role::show, role::update, role::delete))
        .routes(routes!(grant::list, grant::create))
        .routes(routes!(grant::show, grant::delete))
        .routes(routes!(grant::check))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::read))
        .routes(routes!(openapi::show))
        .merge(large())
}

/// Those whose bodies are bytes of images, evidence, or an object of Kubernetes as it was and as it would be.
fn large() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(admission::decide))
        .routes(routes!(admission::kubernetes::review))
        .routes(routes!(image::evidence))
        .routes(routes!(image::state, image::append, image::abort))
        .routes(routes!(image::finish))
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES))
}

/// What the endpoints are.
pub fn description() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

#[cfg(test)]
mod matrix_tests;
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::access::TABLE;
    use super::*;

    #[test]
    fn every_endpoint_is_in_the_table_of_access_and_no_other() {
        let described: BTreeSet<(String, String)> = description()
            .paths
            .paths
            .iter()
            .flat_map(|(path, item)| methods(item).into_iter().map(|method| (method.to_owned(), path.clone())))
            .collect();
        let kept: BTreeSet<(String, String)> =
            TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(described, kept);
    }

    fn methods(item: &utoipa::openapi::PathItem) -> Vec<&'static str> {
        let present = [
            ("DELETE", item.delete.is_some()),
            ("GET", item.get.is_some()),
            ("PATCH", item.patch.is_some()),
            ("POST", item.post.is_some()),
            ("PUT", item.put.is_some()),
        ];
        present.into_iter().filter(|(_, there)| *there).map(|(method, _)| method).collect()
    }
}
