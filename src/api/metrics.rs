//! `/metrics`: the service in figures, as OpenMetrics text. No label takes a word from outside: an address that is no
//! endpoint is `unmatched`, a method that is none of HTTP's is `other`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Mutex;

use super::peer::Peer;
use super::{App, Problem};
use crate::control::{Caller, Control, OpError};
use crate::store::Census;
use crate::types::access::Permission;

/// Labels of a request: route, method, class of the status.
type Request = [(&'static str, String); 3];
/// Labels of machines: what was seen of them, and whether they are held back.
type Machines = [(&'static str, String); 2];

/// The figures of the interface, and those of the others behind them.
pub(super) struct Metrics {
    requests: Family<Request, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    counted: Mutex<Counted>,
}

/// What is counted when somebody asks.
struct Counted {
    registry: Registry,
    machines: Family<Machines, Gauge>,
    quarantines: Gauge,
    images: Gauge,
    image_bytes: Gauge,
    events: Gauge,
    audit: Gauge,
    memory_bytes: Gauge,
    files: Gauge,
    processor_seconds: Counter<f64, AtomicU64>,
}

/// Reads the figures.
#[utoipa::path(get, path = "/metrics", tag = "service", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"), (status = "default", body = Problem)))]
pub(super) async fn read(State(app): State<App>) -> Result<Response, Problem> {
    let census = app.control.store().census().await.map_err(OpError::from)?;
    let text = app.metrics.text(&census).await.map_err(|error| OpError::Node(error.to_string()))?;
    let media_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((media_type, text).into_response())
}

/// Lets addresses of the configuration read the figures, and nothing else, without a credential.
pub(super) async fn allow(State(app): State<App>, mut request: axum::extract::Request, next: Next) -> Response {
    let address = request.extensions().get::<Peer>().and_then(Peer::address);
    let nobody = request.extensions().get::<Caller>().is_none();
    if let Some(address) = address.filter(|_| nobody && request.uri().path() == "/metrics")
        && app.conduct.metrics_allow.iter().any(|network| network.contains(&address))
    {
        let caller = Caller {
            actor: format!("address:{address}"),
            origin: "tls",
            address: Some(address),
            scopes: Some([Permission::MetricsRead].into()),
            ..Caller::system()
        };
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

impl Metrics {
    /// The figures of this control plane.
    pub(super) fn new(control: &Control) -> Arc<Self> {
        let mut registry = Registry::with_prefix("debvisor");
        let latency: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let requests = Family::<Request, Histogram, _>::new_with_constructor(latency);
        let in_flight = Gauge::default();
        let (vitals, commits) = (control.vitals(), control.store().commits());
        let of = &mut registry;
        with_unit(
            of,
            "http_request",
            "Time to answer, by route, method and class of the status",
            Unit::Seconds,
            &requests,
        );
        of.register("http_requests_in_flight", "Requests that are being answered", in_flight.clone());
        with_unit(of, "reconcile_pass", "Time that a look at the machines took", Unit::Seconds, &vitals.looks);
        of.register("steps", "Steps that ended, by step and outcome", vitals.steps.clone());
        of.register(
            "admission_decisions",
            "Decisions of the gate, by outcome and first reason",
            vitals.decisions.clone(),
        );
        with_unit(of, "store_commit", "Time that a commit took, with its sync", Unit::Seconds, &commits.seconds);
        of.register("store_commit_writes", "Writes in one commit", commits.writes.clone());
        of.register("store_writes_waiting", "Writes that wait for their commit", commits.waiting.clone());
        let counted = Counted {
            machines: Family::default(),
            quarantines: Gauge::default(),
            images: Gauge::default(),
            image_bytes: Gauge::default(),
            events: Gauge::default(),
            audit: Gauge::default(),
            memory_bytes: Gauge::default(),
            files: Gauge::default(),
            processor_seconds: Counter::default(),
            registry,
        };
        Arc::new(Self { requests, in_flight, counted: Mutex::new(counted.registered()) })
    }

    /// A request has come; it is under way as long as what is returned is kept.
    pub(super) fn begin(&self) -> UnderWay {
        self.in_flight.inc();
        UnderWay(self.in_flight.clone())
    }

    /// A request was answered.
    pub(super) fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = [
            ("route", route.unwrap_or("unmatched").to_owned()),
            ("method", known(method).to_owned()),
            ("status", class.to_owned()),
        ];
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    async fn text(&self, census: &Census) -> Result<String, std::fmt::Error> {
        let counted = self.counted.lock().await;
        counted.machines.clear();
        for (power, held, machines) in &census.vms {
            let labels = [("power", power.clone()), ("held", held.to_string())];
            counted.machines.get_or_create(&labels).set(whole(*machines));
        }
        counted.quarantines.set(whole(census.quarantines));
        counted.images.set(whole(census.images));
        counted.image_bytes.set(whole(census.image_bytes));
        counted.events.set(whole(census.events));
        counted.audit.set(whole(census.audit));
        let process = Process::now();
        counted.memory_bytes.set(whole(process.memory_bytes));
        counted.files.set(whole(process.files));
        counted
            .processor_seconds
            .inner()
            .store(process.processor_seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
        let mut text = String::new();
        encode(&mut text, &counted.registry)?;
        Ok(text)
    }
}

impl Counted {
    fn registered(mut self) -> Self {
        let of = &mut self.registry;
        of.register("vms", "Machines, by what was seen of them and whether they are held back", self.machines.clone());
        of.register("quarantines", "What must not run", self.quarantines.clone());
        of.register("images", "Images", self.images.clone());
        with_unit(of, "images_size", "Bytes of images", Unit::Bytes, &self.image_bytes);
        of.register("events", "Events that are kept", self.events.clone());
        of.register("audit_records", "Records of the audit log", self.audit.clone());
        with_unit(of, "process_resident_memory", "Memory of this process", Unit::Bytes, &self.memory_bytes);
        of.register("process_open_fds", "Files that this process has open", self.files.clone());
        with_unit(
            of,
            "process_cpu",
            "Time of processors that this process has used",
            Unit::Seconds,
            &self.processor_seconds,
        );
        self
    }
}

fn with_unit<M>(registry: &mut Registry, name: &str, help: &str, unit: Unit, metric: &M)
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register_with_unit(name, help, unit, metric.clone());
}

/// A request that is being answered.
pub(super) struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the kernel says of this process; nothing where it says nothing.
#[derive(Debug, Default)]
struct Process {
    memory_bytes: u64,
    files: u64,
    processor_seconds: f64,
}

impl Process {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let used = Duration::try_from(used).unwrap_or_default();
        Self {
            memory_bytes: resident.unwrap_or(0) * 1024,
            files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            processor_seconds: used.as_secs_f64(),
        }
    }
}
