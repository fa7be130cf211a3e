//! The command line: one file a verb. Data goes to stdout, everything else to stderr.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::config::Environment;
use crate::release::decision::Decision;

mod actions;
mod admit;
mod archive;
mod attest;
mod audit;
mod checksum;
mod client;
mod completions;
mod config;
mod conformance;
mod context;
mod event;
mod expect;
mod explain;
mod gate;
mod identity;
mod image;
mod key;
mod log;
mod login;
mod node;
mod notify;
mod openapi;
mod output;
mod parallel;
mod policy;
mod progress;
mod provenance;
mod quarantine;
mod registry;
mod release;
pub mod report;
mod reverify;
mod role;
mod sarif;
mod sbom;
mod seal;
mod service;
mod sign;
mod signing;
mod sigstore;
mod state;
mod tenant;
mod token;
mod trust;
mod up;
mod user;
mod verify;
mod vex;
mod vm;
mod vsa;
mod watch;

pub use up::Local;

/// Boots only what it can prove: release integrity and verified virtual machines.
#[derive(Debug, Parser)]
#[command(name = "debvisor", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// How the result is written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
    /// Say nothing on stderr but errors; no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences for people
    Text,
    /// One JSON document for programs
    Json,
    /// SARIF 2.1.0 for code scanning
    Sarif,
    /// GitHub workflow annotations, job summary and step outputs
    Github,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove that artifacts are what their publisher signed
    Verify(Box<verify::Args>),
    /// Prove a whole release in one run
    Gate(Box<gate::Args>),
    /// Decide whether images may boot
    Admit(Box<admit::Args>),
    /// Make a release complete: SBOMs, VEX, provenance, attestations, signatures and a list, in one go
    Seal(Box<seal::Args>),
    /// Sign artifacts
    Sign(Box<sign::Args>),
    /// Attest something about artifacts: any predicate, in a signed in-toto statement
    Attest(Box<attest::Args>),
    /// Write SLSA provenance
    Provenance(Box<provenance::Args>),
    /// Write and check checksum lists
    Checksum(checksum::Args),
    /// Look into archives before anything unpacks them
    Archive(archive::Args),
    /// Check transparency log proofs
    Log(log::Args),
    /// Check, compare and judge bills of materials
    Sbom(sbom::Args),
    /// Show, check and update the trust root
    Trust(trust::Args),
    /// Make managed keys
    Key(key::Args),
    /// List, evaluate and test policies
    Policy(policy::Args),
    /// Write, merge, check and apply VEX documents
    Vex(vex::Args),
    /// Look at published releases again, and compare them with what was decided before
    Reverify(Box<reverify::Args>),
    /// Tell people what a run found: one issue a finding, kept up to date
    Notify(Box<notify::Args>),
    /// Check what a release consists of
    Release(release::Args),
    /// Check what workflows run
    Actions(actions::Args),
    /// Write SARIF for linters that do not
    Sarif(sarif::Args),
    /// Run a server and its node in one process
    Up(up::Args),
    /// Check and show the configuration of a server
    Config(config::Args),
    /// Describe, start, stop and look at virtual machines
    Vm(Box<vm::Args>),
    /// Bring, list, check and remove images
    Image(Box<image::Args>),
    /// Show nodes, and how they run machines
    Node(node::Args),
    /// Show what happened
    Event(event::Args),
    /// Show who did what, and check that the log is whole
    Audit(audit::Args),
    /// Back up and restore everything that a server keeps
    State(Box<state::Args>),
    /// Say what must not run, and let it run again by two people
    Quarantine(quarantine::Args),
    /// Make tenants, and say how much they may take
    Tenant(tenant::Args),
    /// Make projects of tenants, and say how much they may take
    Project(tenant::ProjectArgs),
    /// Make roles, and show what they let their holders do
    Role(role::Args),
    /// Give somebody a role, or take it from them
    Grant(role::GrantArgs),
    /// Say whether somebody may do something, and why
    Access(role::AccessArgs),
    /// Make, list, rotate and revoke API keys
    Token(Box<token::Args>),
    /// Say which people of OpenID providers are which users
    Identity(identity::Args),
    /// Make services known by their certificates
    Service(service::Args),
    /// Say who may log in
    User(user::Args),
    /// Say which servers there are, and which is used
    Context(context::Args),
    /// Log in to a server, and use it from then on
    Login(Box<login::Args>),
    /// Log out: the session ends, and its credential is forgotten
    Logout(login::LogoutArgs),
    /// Say who the server takes you for
    Whoami(login::WhoamiArgs),
    /// Explain a reason code
    Explain(explain::Args),
    /// Sign as sigstore-conformance asks
    #[command(hide = true)]
    SignBundle(Box<conformance::SignArgs>),
    /// Verify as sigstore-conformance asks
    #[command(hide = true)]
    VerifyBundle(conformance::VerifyArgs),
    /// Write the description of the interface
    #[command(hide = true)]
    Openapi,
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the man pages
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// What every verb is handed: the environment, the clock's one reading, and how to speak.
#[derive(Debug)]
pub struct Context {
    /// The environment, read once.
    pub environment: Environment,
    /// How results are written.
    pub format: Format,
    /// Nothing on stderr but errors.
    pub quiet: bool,
    /// The time of this run; read once, passed everywhere.
    pub now: Timestamp,
}

impl Context {
    /// The time as it is by now, for what was made during the run; everything else goes by [`Self::now`].
    pub fn now_again(&self) -> Timestamp {
        now().max(self.now)
    }

    /// The clock, for what runs longer than a look at it.
    pub const fn clock(&self) -> crate::types::Clock {
        crate::types::Clock::new(now)
    }

    /// Whether a progress bar may be drawn: on a terminal, and only where people read.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && self.format == Format::Text && std::io::stderr().is_terminal()
    }
}

/// How a verb ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what was asked; nothing was to be decided.
    Done,
    /// It decided.
    Decided(Decision),
}

/// The command line or the configuration is wrong: exit code 64 (sysexits.h, EX_USAGE).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl UsageError {
    /// A usage error with its hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Somebody outside said no, or gave no answer: a service, a card, a registry. It ends as a decision would.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What could not be done.
    pub message: String,
    /// What would help.
    pub hint: String,
    /// `Deny` where the answer was no, `Undecided` where there was none.
    pub decision: Decision,
}

impl Failure {
    /// A failure with its hint.
    pub fn new(decision: Decision, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), decision }
    }
}

const EXIT_USAGE: u8 = 64;
const EXIT_FAULT: u8 = 70;

/// Parses the arguments, runs the verb and maps its end to an exit code (docs/reference/cli.md).
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // A closed pipe is no fault of ours.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let environment = Environment::read();
    // A server's log is as its configuration says, and begins when that is read.
    if !matches!(cli.command, Command::Up(_)) {
        start_logging(&environment);
    }
    if let Some(Err(mistake)) = environment.kill_at.as_deref().map(crate::kill::arm) {
        return fail(
            &UsageError::new(format!("DEBVISOR_KILL_AT: {mistake}"), "unset it; it is for tests alone").into(),
        );
    }
    let context = Context { environment, format: cli.global.format, quiet: cli.global.quiet, now: now() };
    match run(cli.command, &context) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Decided(decision)) => ExitCode::from(decision.exit_code()),
        Err(error) => fail(&error),
    }
}

fn run(command: Command, context: &Context) -> anyhow::Result<Ended> {
    match command {
        Command::Verify(args) => verify::run(&args, context),
        Command::Gate(args) => gate::run(&args, context),
        Command::Admit(args) => admit::run(&args, context),
        Command::Seal(args) => seal::run(&args, context),
        Command::Sign(args) => sign::run(&args, context),
        Command::Attest(args) => attest::run(&args, context),
        Command::Provenance(args) => provenance::run(&args, context),
        Command::Checksum(args) => checksum::run(args, context),
        Command::Archive(args) => archive::run(args, context),
        Command::Log(args) => log::run(args, context),
        Command::Sbom(args) => sbom::run(args, context),
        Command::Trust(args) => trust::run(args, context),
        Command::Key(args) => key::run(args, context),
        Command::Policy(args) => policy::run(args, context),
        Command::Vex(args) => vex::run(&args, context),
        Command::Reverify(args) => reverify::run(&args, context),
        Command::Notify(args) => notify::run(&args, context),
        Command::Release(args) => release::run(&args, context),
        Command::Actions(args) => actions::run(&args, context),
        Command::Sarif(args) => sarif::run(&args, context),
        Command::Up(args) => up::run(&args, context),
        Command::Config(args) => config::run(&args, context),
        Command::Vm(args) => vm::run(*args, context),
        Command::Image(args) => image::run(*args, context),
        Command::Node(args) => node::run(args, context),
        Command::Event(args) => event::run(&args, context),
        Command::Audit(args) => audit::run(&args, context),
        Command::State(args) => state::run(&args, context),
        Command::Quarantine(args) => quarantine::run(args, context),
        Command::Tenant(args) => tenant::run(args, context),
        Command::Project(args) => tenant::run_project(args, context),
        Command::Role(args) => role::run(args, context),
        Command::Grant(args) => role::run_grant(args, context),
        Command::Access(args) => role::run_access(args, context),
        Command::Token(args) => token::run(*args, context),
        Command::Identity(args) => identity::run(args, context),
        Command::Service(args) => service::run(args, context),
        Command::User(args) => user::run(args, context),
        Command::Context(args) => context::run(args, context),
        Command::Login(args) => login::run(*args, context),
        Command::Logout(args) => login::logout(&args, context),
        Command::Whoami(args) => login::whoami(&args, context),
        Command::Explain(args) => explain::run(args, context),
        Command::SignBundle(args) => conformance::sign(&args, context),
        Command::VerifyBundle(args) => conformance::verify(args, context),
        Command::Openapi => openapi::run(),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => completions::man(args, context),
    }
}

/// The whole command tree, for completions and man pages.
fn command() -> clap::Command {
    Cli::command()
}

#[expect(clippy::disallowed_methods, reason = "this is the one clock of the command line")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn start_logging(environment: &Environment) {
    let filter = environment.log.as_deref().unwrap_or("warn");
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !environment.no_color)
        .init();
}

/// The one renderer of errors: the chain of causes, then a hint.
fn fail(error: &anyhow::Error) -> ExitCode {
    let usage = error.chain().find_map(|cause| cause.downcast_ref::<UsageError>());
    let failure = error.downcast_ref::<Failure>();
    let (hint, code) = match (usage, failure) {
        (Some(usage), _) => (usage.hint.as_deref(), EXIT_USAGE),
        (None, Some(failure)) => (Some(failure.hint.as_str()), failure.decision.exit_code()),
        (None, None) => (None, EXIT_FAULT),
    };
    let mut stderr = anstream::stderr().lock();
    let red = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    let _ = write!(stderr, "{red}error:{red:#} {error}");
    for cause in error.chain().skip(1) {
        let _ = write!(stderr, ": {cause}");
    }
    let _ = writeln!(stderr);
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::from(code)
}
