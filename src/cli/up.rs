//! `debvisor up`: a server and its node in one process, on a database in a folder.
//!
//! Everything is read and checked before anything is opened. A second process on the same folder is refused. On SIGTERM
//! it takes nothing new on, lets the requests that are under way end, for so long at most as the configuration says, and
//! ends; a second one ends it at once. Machines run on, and the next `up` takes them up again.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::config::Loaded;
use super::{Context, Ended, UsageError};
use crate::api::{self, Conduct, Listeners, TlsListener};
use crate::config::{self, AcceleratorConfig, Flag, HypervisorKind, LimitsConfig, ListenConfig, ServerConfig};
use crate::control::audit::Notary;
use crate::control::authn::key::KeySettings;
use crate::control::authn::oidc::Providers;
use crate::control::authn::{self, Rate, SealingKey};
use crate::control::state::clear_scratch;
use crate::control::{Control, Settings};
use crate::node::admission::Admission;
use crate::node::agent::Agent;
use crate::node::hypervisor::qemu::{self, AcceleratorWish, Qemu};
use crate::node::hypervisor::simulated::Simulated;
use crate::node::hypervisor::{AcceleratorChoice, Hypervisor};
use crate::node::images::ImageStore;
use crate::node::key::NodeKey;
use crate::node::registries::Registries;
use crate::release::admit::{AdmissionTrust, QuarantineAction as Stilled};
use crate::release::attest::note::NoteSigner;
use crate::release::evidence::note::NoteKey;
use crate::store::{Store, StoreError};
use crate::types::step::{NodeFacts, QuarantineAction};
use crate::types::vm::Accelerator;

mod certificate;
mod local;
mod openid;
mod revoked;
mod sources;
mod supervisor;
mod telemetry;

use certificate::Keeper;
pub use local::Local;
pub(super) use sources::sources;
use telemetry::Telemetry;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where everything is kept; without it DEBVISOR_STATE_DIR, /var/lib/debvisor for root, ~/.local/state/debvisor
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The configuration; without it DIR/debvisor.toml, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the interface listens; without it DEBVISOR_SOCKET, else DIR/api.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// An address and port at which it listens besides, over TLS; without it DEBVISOR_LISTEN, else the configuration's
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// What is known before anything is opened.
struct Plan {
    state: PathBuf,
    socket: PathBuf,
    config: ServerConfig,
    trust: AdmissionTrust,
    node: String,
    /// The configuration's file.
    file: Option<PathBuf>,
    providers: Arc<Providers>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let plan = plan(args, context)?;
    fs::create_dir_all(&plan.state)
        .map_err(|error| usage(format!("cannot make {}: {error}", plan.state.display()), "name another --state-dir"))?;
    // Machines' users pass through to their own folders and can list nothing.
    fs::set_permissions(&plan.state, fs::Permissions::from_mode(0o711))
        .context("cannot protect the state directory")?;
    let _lock = lock(&plan.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let telemetry = Telemetry::start(&plan.config.log, &plan.config.telemetry, context, runtime.handle())?;
    let outcome = runtime.block_on(up(plan, context));
    if matches!(outcome, Ok(End::AtOnce)) {
        runtime.shutdown_background();
        return Ok(Ended::Done);
    }
    telemetry.end();
    // What still blocks, as a long read of an image, is not waited for: it is begun again.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome?;
    Ok(Ended::Done)
}

/// How it ended.
enum End {
    /// What was under way had an answer, or its time.
    Drained,
    /// Somebody asked a second time.
    AtOnce,
}

fn plan(args: &Args, context: &Context) -> anyhow::Result<Plan> {
    let environment = &context.environment;
    let state = args
        .state_dir
        .clone()
        .or_else(|| environment.state_dir.clone())
        .ok_or_else(|| usage("no state directory is named".to_owned(), "give --state-dir"))?;
    let state = std::path::absolute(&state).context("cannot find the working directory")?;
    let file = args.config.clone().or_else(|| Some(config::usual(&state)).filter(|file| file.exists()));
    let flags: Vec<Flag> =
        args.listen.iter().map(|address| ("listen.address", "--listen", address.to_string())).collect();
    let Loaded { effective, trust } =
        super::config::load(file.as_deref(), &flags, context).map_err(|faults| super::config::wrong(&faults))?;
    let config = effective.config;
    let socket = args.socket.clone().or_else(|| environment.socket.clone()).unwrap_or_else(|| state.join("api.sock"));
    let node = config.node.clone().unwrap_or_else(host_name);
    let folder = file.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    let providers = Arc::new(openid::providers(&config.oidc, folder)?);
    Ok(Plan { state, socket, config, trust, node, file, providers })
}

/// One process for a folder: the lock goes with the process, however that ends.
pub(super) fn lock(state: &Path) -> anyhow::Result<File> {
    let path = state.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).context("cannot make the lock")?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let message = format!("another debvisor is up on {}", state.display());
            Err(usage(message, "stop that one, or name another --state-dir").into())
        }
        Err(error) => Err(error).context("cannot lock the state directory"),
    }
}

async fn up(plan: Plan, context: &Context) -> anyhow::Result<End> {
    match plan.config.hypervisor.kind {
        HypervisorKind::Qemu => {
            let mut settings = qemu::Settings::new(plan.state.join("machines"), plan.node.clone(), super::now);
            settings.program.clone_from(&plan.config.hypervisor.program);
            settings.accelerator = match plan.config.hypervisor.accelerator {
                AcceleratorConfig::Auto => AcceleratorWish::Auto,
                AcceleratorConfig::Kvm => AcceleratorWish::Kvm,
                AcceleratorConfig::Tcg => AcceleratorWish::Tcg,
            };
            let hint = "apt-get install qemu-system-x86";
            let qemu = Qemu::open(settings).await.map_err(|error| usage(told(&error), hint))?;
            let (major, minor) = qemu.version();
            let choice = qemu.accelerator().await.map_err(|error| usage(told(&error), hint))?;
            serve(plan, qemu, format!("QEMU {major}.{minor}"), choice, context).await
        }
        HypervisorKind::Simulated => {
            let folder = plan.state.join("machines");
            let simulated = Simulated::open(folder, plan.node.clone(), context.clock()).context("cannot simulate")?;
            let choice = AcceleratorChoice { accelerator: Accelerator::Tcg, reason: "nothing really runs".to_owned() };
            serve(plan, simulated, "simulated".to_owned(), choice, context).await
        }
    }
}

async fn serve<H: Hypervisor>(
    plan: Plan,
    hypervisor: H,
    version: String,
    choice: AcceleratorChoice,
    context: &Context,
) -> anyhow::Result<End> {
    let clock = context.clock();
    let key = NodeKey::open(&plan.state.join("node.key")).context("cannot open the node's key")?;
    let issuer = NodeKey::open(&plan.state.join("server.key")).context("cannot open the server's key")?;
    let notes = NodeKey::open_for_notes(&plan.state.join("audit.key")).context("cannot open the audit log's key")?;
    let signer = NoteSigner::new(&origin(&plan.node), notes.shared())
        .map_err(|reason| usage(reason.to_string(), "name the node without spaces and plus signs"))?;
    let images = ImageStore::open(&plan.state.join("images"), key).context("cannot open the image store")?;
    let trust = plan.trust.pinning(issuer.public().clone());
    let sealing = SealingKey::open(&plan.state.join("secrets.key")).context("cannot open secrets.key")?;
    let settings = Settings {
        authn: authn::Settings {
            key: sealing,
            limits: request_limits(plan.config.limits),
            keys: KeySettings { longest: jiff::SignedDuration::from_hours(24 * plan.config.keys.longest_days) },
            providers: plan.providers.clone(),
        },
        on_quarantine: match trust.on_quarantine() {
            Stilled::Pause => QuarantineAction::Pause,
            Stilled::Isolate => QuarantineAction::Isolate,
            Stilled::Stop => QuarantineAction::Stop,
        },
        release_validity: trust.release_validity(),
        audit: Notary::new(signer),
        state: sources(&plan.state, plan.file.as_deref(), context),
    };
    let tiers = images.tiers();
    let facts = NodeFacts {
        name: plan.node.clone(),
        accelerator: Some(choice.accelerator),
        accelerator_reason: choice.reason,
        hypervisor: version,
        tiers: tiers.tiers.iter().filter(|state| state.absent.is_none()).map(|state| state.tier).collect(),
        tiers_absent: tiers.tiers.iter().filter(|state| state.absent.is_some()).cloned().collect(),
        cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib(),
        boot_id: plan.config.hypervisor.boot_id.clone().unwrap_or_else(boot_id),
        policy: trust.policy_digest().map_or_else(|reason| reason.to_string(), |digest| digest.to_string()),
        seen_at: context.now_again(),
    };
    let registries = Registries {
        allowed: plan.config.registries.allowed.clone(),
        docker_config: context.environment.docker_config.clone(),
    };
    let generations = plan.state.join("generations.json");
    let (watcher, revoked) = revoked::Watcher::new(context.environment.config_dir.clone(), clock);
    let admission =
        Admission::new(plan.node.clone(), images.clone(), trust, revoked.clone(), issuer, clock, generations)
            .context("cannot read generations.json")?
            .asking(registries);
    let store = match Store::open(&plan.state.join("state.db")).await {
        Err(newer @ StoreError::Newer { .. }) => {
            let hint = "start the debvisor that wrote it, or a newer one; or restore a backup that is older";
            return Err(usage(newer.to_string(), hint).into());
        }
        opened => opened.context("cannot open the database")?,
    };
    clear_scratch(&plan.state);
    let (stop, stopped) = watch::channel(false);
    let (agent, news) = Agent::start(hypervisor, admission, images, facts, clock, stopped.clone())
        .await
        .map_err(|error| anyhow::anyhow!("the node does not come up: {error}"))?;
    let control = Control::new(store, vec![Arc::new(Local(agent))], clock, settings, revoked).await?;
    for (provider, role) in control.oidc_roles_missing().await? {
        tracing::warn!(
            "the provider {provider} gives the role {role:?}, and there is none: who has it there is refused"
        );
    }
    control.come_up().await.context("the state cannot be brought into line with the node")?;
    let (tls, shown, keeper) = match plan.config.listen.address {
        None => (None, None, None),
        Some(address) => {
            let (tls, shown, keeper) = port(address, &plan.config.listen, &plan.state, context).await?;
            (Some(tls), Some(shown), Some(keeper))
        }
    };
    // The socket last: where it is, everything else answers too.
    let socket = listen(&plan.socket)?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut behind = JoinSet::new();
    behind.spawn(watcher.watch(stopped.clone()));
    behind.spawn(control.clone().reconcile(news, stopped.clone()));
    behind.spawn(control.clone().sessions_keep(stopped.clone()));
    behind.spawn(control.clone().notarize(stopped.clone()));
    behind.spawn(supervisor::watch(control.clone(), stopped.clone()));
    if let Some(keeper) = keeper {
        behind.spawn(keeper.keep(stopped));
    }
    // What answers ends first, and what it relies on after it.
    let (drain, draining) = watch::channel(false);
    let serving = tokio::spawn(api::serve(control, Listeners { socket, tls }, conduct(&plan.config), draining));
    if !context.quiet {
        eprintln!("debvisor is up: {}", plan.socket.display());
        if let Some(shown) = shown {
            eprintln!("{shown}");
        }
    }
    supervisor::ready();
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    asked().await;
    supervisor::ending();
    drain.send_replace(true);
    let ended = async {
        let _ = serving.await;
        stop.send_replace(true);
        let _ = tokio::time::timeout(Duration::from_secs(5), behind.join_all()).await;
    };
    let end = tokio::select! {
        () = ended => End::Drained,
        () = asked() => End::AtOnce,
    };
    let _ = fs::remove_file(&plan.socket);
    Ok(end)
}

fn conduct(config: &ServerConfig) -> Conduct {
    Conduct {
        drain: Duration::from_secs(config.server.drain_seconds),
        least_disk_bytes: config.server.least_disk_mib << 20,
        metrics_allow: config.metrics.allow.clone(),
    }
}

/// The key that checkpoints of this folder's audit log are signed with, under the name that the newest has.
pub(super) fn audit_key(state: &Path, note: Option<&str>) -> anyhow::Result<String> {
    let key = NodeKey::open_for_notes(&state.join("audit.key")).context("cannot open the audit log's key")?;
    let name = note.and_then(|note| note.lines().next()).map_or_else(|| origin(&host_name()), str::to_owned);
    let key = NoteKey::new(&name, key.public()).map_err(|reason| anyhow::anyhow!(reason.to_string()))?;
    Ok(key.to_string())
}

/// The name of the audit log, on the first line of each of its checkpoints.
fn origin(node: &str) -> String {
    format!("debvisor/{node}/audit")
}

/// The port for TLS, with what it shows; and who looks after that.
async fn port(
    address: SocketAddr,
    config: &ListenConfig,
    state: &Path,
    context: &Context,
) -> anyhow::Result<(TlsListener, String, Keeper)> {
    let hint = "docs/how-to/service.md shows how TLS is set up";
    let (keeper, shown) = Keeper::open(config, state, context.clock()).map_err(|fault| usage(fault, hint))?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| usage(format!("cannot listen at {address}: {error}"), "name another address: --listen"))?;
    let bound = listener.local_addr().unwrap_or(address);
    let told = format!("debvisor is up: https://{bound}, pin {}", keeper.pin());
    let tls = TlsListener {
        listener,
        config: shown,
        connections: config.connections,
        connections_per_address: config.connections_per_address,
    };
    Ok((tls, told, keeper))
}

fn request_limits(config: LimitsConfig) -> authn::Limits {
    let rate = |limit: std::num::NonZeroU32, window_ms| Rate { limit: limit.get(), window_ms };
    authn::Limits {
        address: rate(config.requests_per_second_per_address, 1_000),
        subject: rate(config.requests_per_second_per_user, 1_000),
        login: rate(config.logins_per_minute_per_address, 60_000),
    }
}

/// The socket: for this user and this group, and a stale one makes room.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let failed = || format!("cannot listen at {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).with_context(failed)?;
    Ok(listener)
}

fn usage(message: String, hint: &str) -> UsageError {
    UsageError::new(message, hint)
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").map(|text| text.trim().to_owned()).unwrap_or_default();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// Changes whenever the host comes up anew; where the kernel has none, every start counts as one.
fn boot_id() -> String {
    let found = fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned());
    found.unwrap_or_else(|_| uuid::Uuid::now_v7().to_string())
}

fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
