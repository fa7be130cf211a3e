//! The only reader of environment variables and of the configuration; every other room is handed values.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

mod credentials;
mod keys;
mod read;

pub use credentials::{KeysConfig, OidcConfig};
pub use keys::{Form, KEYS, Key};
pub use read::{Effective, Fault, Flag, Setting, Source, read, usual};

pub use crate::types::Secret;

/// What the environment says that a run of the command line depends on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `GITHUB_STEP_SUMMARY`: where a job's summary is appended.
    pub github_step_summary: Option<PathBuf>,
    /// `GITHUB_OUTPUT`: where a step's outputs are appended.
    pub github_output: Option<PathBuf>,
    /// `DEBVISOR_LOG`: the filter of the log on stderr, as `tracing` writes it.
    pub log: Option<String>,
    /// `SOURCE_DATE_EPOCH` in seconds: the time to write into what is made (reproducible-builds.org).
    pub source_date_epoch: Option<i64>,
    /// `DEBVISOR_KEY_PASSWORD`, else `COSIGN_PASSWORD`: the password of a managed private key.
    /// Set and empty is an empty password, as cosign has it.
    pub key_password: Option<Secret>,
    /// `XDG_CONFIG_HOME`, else `$HOME/.config`, with `debvisor` below it: the user's policies and trust.
    pub config_dir: Option<PathBuf>,
    /// `DOCKER_CONFIG`, else `$HOME/.docker`: where `docker login` keeps credentials for registries.
    pub docker_config: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, else `$HOME/.cache`, with `debvisor` below it: what can be fetched again.
    pub cache_dir: Option<PathBuf>,
    /// The GitHub Actions job that this run is a step of (`GITHUB_ACTIONS` is `true`).
    pub github_actions: Option<GithubActions>,
    /// The GitLab job that this run is a part of (`GITLAB_CI` is `true`).
    pub gitlab_ci: Option<GitlabCi>,
    /// `GITHUB_TOKEN`, else `GH_TOKEN`: with which GitHub's API is asked.
    pub github_token: Option<Secret>,
    /// `GITHUB_API_URL`: GitHub's API, or an Enterprise server's.
    pub github_api_url: Option<String>,
    /// `GITHUB_WORKFLOW`: the name of the workflow that this run is a step of.
    pub github_workflow: Option<String>,
    /// `DEBVISOR_WEBHOOK_SECRET`: with which what goes to a webhook is authenticated.
    pub webhook_secret: Option<Secret>,
    /// `DEBVISOR_SMTP_PASSWORD`: the password of the mail server's user.
    pub smtp_password: Option<Secret>,
    /// `SIGSTORE_ID_TOKEN`: an OIDC token that was made for Sigstore, as GitLab and others hand it over.
    pub identity_token: Option<Secret>,
    /// `DISPLAY`, `WAYLAND_DISPLAY` or `BROWSER` is set: there is a screen that a browser can open on.
    pub has_screen: bool,
    /// `DEBVISOR_CONTEXT`: the context that says which server is asked, and as whom.
    pub context: Option<String>,
    /// `DEBVISOR_SERVER`: the server that is asked, `https://HOST:PORT` or `unix:PATH`.
    pub server: Option<String>,
    /// `DEBVISOR_CA`: the authorities that vouch for [`Self::server`].
    pub ca: Option<PathBuf>,
    /// `DEBVISOR_TOKEN`: a session's token or an API key, shown to the server.
    pub token: Option<Secret>,
    /// `DEBVISOR_SOCKET`: where the control plane listens.
    pub socket: Option<PathBuf>,
    /// What variables say in place of the configuration, by its keys.
    pub settings: BTreeMap<&'static str, String>,
    /// `DEBVISOR_STATE_DIR`, else where state belongs: below `/var/lib` for root, below `XDG_STATE_HOME` or
    /// `$HOME/.local/state` for others.
    pub state_dir: Option<PathBuf>,
    /// `DEBVISOR_BACKUP_PASSPHRASE`: the passphrase of a backup of the state.
    pub backup_passphrase: Option<Secret>,
    /// `DEBVISOR_KILL_AT`: the point at which this process kills itself, for tests alone.
    pub kill_at: Option<String>,
}

/// What GitHub Actions says of the job (docs.github.com, default environment variables).
#[derive(Debug, Clone, Default)]
pub struct GithubActions {
    /// `GITHUB_SERVER_URL`.
    pub server_url: String,
    /// `GITHUB_REPOSITORY`, as `owner/name`.
    pub repository: String,
    /// `GITHUB_REPOSITORY_ID`.
    pub repository_id: String,
    /// `GITHUB_REPOSITORY_OWNER_ID`.
    pub repository_owner_id: String,
    /// `GITHUB_WORKFLOW_REF`, as `owner/name/.github/workflows/x.yml@refs/heads/main`.
    pub workflow_ref: String,
    /// `GITHUB_SHA`.
    pub sha: String,
    /// `GITHUB_REF`.
    pub git_ref: String,
    /// `GITHUB_EVENT_NAME`.
    pub event_name: String,
    /// `GITHUB_RUN_ID`.
    pub run_id: String,
    /// `GITHUB_RUN_ATTEMPT`.
    pub run_attempt: String,
    /// `RUNNER_ENVIRONMENT`: `github-hosted` or `self-hosted`.
    pub runner_environment: String,
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`, where the job may ask for a token.
    pub token_url: Option<String>,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, with which it asks.
    pub token_secret: Option<Secret>,
}

/// What GitLab says of the job (docs.gitlab.com, predefined variables).
#[derive(Debug, Clone, Default)]
pub struct GitlabCi {
    /// `CI_PROJECT_URL`.
    pub project_url: String,
    /// `CI_PROJECT_ID`.
    pub project_id: String,
    /// `CI_COMMIT_SHA`.
    pub sha: String,
    /// `refs/tags/` with `CI_COMMIT_TAG`, else `refs/heads/` with `CI_COMMIT_REF_NAME`; empty where neither is set.
    pub git_ref: String,
    /// `CI_CONFIG_PATH`.
    pub config_path: String,
    /// `CI_PIPELINE_SOURCE`.
    pub pipeline_source: String,
    /// `CI_JOB_URL`.
    pub job_url: String,
    /// `CI_RUNNER_ID`.
    pub runner_id: String,
    /// `CI_SERVER_URL`.
    pub server_url: String,
}

impl Environment {
    /// Reads the process's environment once.
    pub fn read() -> Self {
        let home = path("HOME");
        let below = |variable: &str, default: &str| {
            path(variable)
                .filter(|dir| dir.is_absolute())
                .or_else(|| home.as_ref().map(|home| home.join(default)))
                .map(|dir| dir.join("debvisor"))
        };
        Self {
            no_color: text("NO_COLOR").is_some(),
            github_step_summary: path("GITHUB_STEP_SUMMARY"),
            github_output: path("GITHUB_OUTPUT"),
            log: text("DEBVISOR_LOG"),
            source_date_epoch: text("SOURCE_DATE_EPOCH").and_then(|value| value.parse().ok()),
            key_password: secret("DEBVISOR_KEY_PASSWORD").or_else(|| secret("COSIGN_PASSWORD")),
            config_dir: below("XDG_CONFIG_HOME", ".config"),
            docker_config: path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker"))),
            cache_dir: below("XDG_CACHE_HOME", ".cache"),
            github_actions: (text("GITHUB_ACTIONS").as_deref() == Some("true")).then(GithubActions::read),
            gitlab_ci: (text("GITLAB_CI").as_deref() == Some("true")).then(GitlabCi::read),
            github_token: given("GITHUB_TOKEN").or_else(|| given("GH_TOKEN")),
            github_api_url: text("GITHUB_API_URL"),
            github_workflow: text("GITHUB_WORKFLOW"),
            webhook_secret: given("DEBVISOR_WEBHOOK_SECRET"),
            smtp_password: given("DEBVISOR_SMTP_PASSWORD"),
            identity_token: secret("SIGSTORE_ID_TOKEN").filter(|token| !token.reveal().is_empty()),
            has_screen: ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"].into_iter().any(|name| text(name).is_some()),
            context: text("DEBVISOR_CONTEXT"),
            server: text("DEBVISOR_SERVER"),
            ca: path("DEBVISOR_CA"),
            token: given("DEBVISOR_TOKEN"),
            socket: path("DEBVISOR_SOCKET"),
            settings: KEYS.iter().filter_map(|key| Some((key.path, text(&key.variable()?)?))).collect(),
            state_dir: path("DEBVISOR_STATE_DIR").or_else(|| {
                let root = rustix::process::geteuid().is_root();
                if root { Some(PathBuf::from("/var/lib/debvisor")) } else { below("XDG_STATE_HOME", ".local/state") }
            }),
            backup_passphrase: given("DEBVISOR_BACKUP_PASSPHRASE"),
            kill_at: text("DEBVISOR_KILL_AT"),
        }
    }
}

impl GithubActions {
    fn read() -> Self {
        let named = |name: &str| text(name).unwrap_or_default();
        Self {
            server_url: named("GITHUB_SERVER_URL"),
            repository: named("GITHUB_REPOSITORY"),
            repository_id: named("GITHUB_REPOSITORY_ID"),
            repository_owner_id: named("GITHUB_REPOSITORY_OWNER_ID"),
            workflow_ref: named("GITHUB_WORKFLOW_REF"),
            sha: named("GITHUB_SHA"),
            git_ref: named("GITHUB_REF"),
            event_name: named("GITHUB_EVENT_NAME"),
            run_id: named("GITHUB_RUN_ID"),
            run_attempt: named("GITHUB_RUN_ATTEMPT"),
            runner_environment: named("RUNNER_ENVIRONMENT"),
            token_url: text("ACTIONS_ID_TOKEN_REQUEST_URL"),
            token_secret: secret("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
        }
    }
}

impl GitlabCi {
    fn read() -> Self {
        let named = |name: &str| text(name).unwrap_or_default();
        let tag = text("CI_COMMIT_TAG").map(|tag| format!("refs/tags/{tag}"));
        let branch = text("CI_COMMIT_REF_NAME").map(|branch| format!("refs/heads/{branch}"));
        Self {
            project_url: named("CI_PROJECT_URL"),
            project_id: named("CI_PROJECT_ID"),
            sha: named("CI_COMMIT_SHA"),
            git_ref: tag.or(branch).unwrap_or_default(),
            config_path: named("CI_CONFIG_PATH"),
            pipeline_source: named("CI_PIPELINE_SOURCE"),
            job_url: named("CI_JOB_URL"),
            runner_id: named("CI_RUNNER_ID"),
            server_url: named("CI_SERVER_URL"),
        }
    }
}

/// The configuration of a server and its node, but for `[admission]`, which the rule of admission reads itself.
/// What holds where nothing is said stands in [`KEYS`]; every key has a value of its form by then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerConfig {
    /// The node's name; the host's where none is given.
    pub node: Option<String>,
    /// How machines are run.
    pub hypervisor: HypervisorConfig,
    /// Where the interface listens besides its socket.
    pub listen: ListenConfig,
    /// How long API keys last.
    pub keys: KeysConfig,
    /// Who else vouches for people.
    #[serde(default)]
    pub oidc: Vec<OidcConfig>,
    /// How often somebody may ask.
    pub limits: LimitsConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Who reads the figures.
    pub metrics: MetricsConfig,
    /// Registries that questions about container images may lead to.
    pub registries: RegistriesConfig,
    /// How the service ends, and when it is ready.
    pub server: ServiceConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
}

/// What is logged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// What, as `tracing` writes it.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// Who reads the figures.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsConfig {
    /// From where, without a credential.
    pub allow: Vec<IpNet>,
}

/// How the service ends, and when it is ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceConfig {
    /// How long requests that are under way are waited for at the end.
    pub drain_seconds: u64,
    /// With less space than this in the state directory it is not ready.
    pub least_disk_mib: u64,
}

/// Where traces go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TelemetryConfig {
    /// A collector, by OTLP over HTTP; nowhere without it.
    pub otlp_endpoint: Option<String>,
    /// The name of this service there.
    pub service_name: String,
}

/// Where the interface listens besides its socket, and what it shows there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenConfig {
    /// An address and a port; nothing listens there without it.
    pub address: Option<SocketAddr>,
    /// The certificate and those above it, in PEM; without it one of an authority of our own.
    pub certificate: Option<PathBuf>,
    /// The certificate's key, in PEM.
    pub key: Option<PathBuf>,
    /// Who vouches for the certificates of clients, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Names and addresses that the certificate of our own authority is for, besides those of the host.
    pub names: Vec<String>,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one address.
    pub connections_per_address: usize,
}

/// Registries that questions about container images may lead to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistriesConfig {
    /// As `registry.example:5000`; no other is asked.
    pub allowed: Vec<String>,
}

/// How machines are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HypervisorConfig {
    /// QEMU, or files that only say what would run.
    pub kind: HypervisorKind,
    /// Which accelerator is wanted: the best that really works, or one of them.
    pub accelerator: AcceleratorConfig,
    /// The program, where it is not at its usual place.
    pub program: Option<PathBuf>,
    /// What stands for the host's boot identity, for tests of what happens when a host comes up.
    pub boot_id: Option<String>,
}

/// How often somebody may ask, but for whoever is at the socket.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsConfig {
    /// Requests from one address, in any second.
    pub requests_per_second_per_address: NonZeroU32,
    /// Requests of one user, with their keys, in any second.
    pub requests_per_second_per_user: NonZeroU32,
    /// Logins from one address, in any minute.
    pub logins_per_minute_per_address: NonZeroU32,
}

/// What runs machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorKind {
    /// QEMU.
    Qemu,
    /// Nothing: a machine is a file. For tests.
    Simulated,
}

/// Which accelerator is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceleratorConfig {
    /// KVM where a kernel has really booted with it, else TCG.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn secret(name: &str) -> Option<Secret> {
    env::var(name).ok().map(Secret::new)
}

/// A secret that is set; an empty one is none.
fn given(name: &str) -> Option<Secret> {
    secret(name).filter(|secret| !secret.reveal().is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
