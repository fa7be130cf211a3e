//! `debvisor provenance generate`: SLSA provenance v1 from the build platform's environment, or from flags.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;

use super::signing::ambient_token;
use super::{Context, Ended, UsageError, output};
use crate::config::{GithubActions, GitlabCi, Secret};
use crate::release::attest::provenance::{Build, GithubBuild, GitlabBuild, LocalBuild, Platform};
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write a SLSA v1 provenance predicate; attest it with `debvisor attest --type slsaprovenance1`
    Generate(GenerateArgs),
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// Where the predicate goes; stdout without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is said of a build, beside what its platform says. `provenance` and `seal` flatten the same flags.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "The build")]
pub(super) struct BuildArgs {
    /// The source repository; in GitHub Actions and GitLab the platform says it
    #[arg(long, value_name = "URI")]
    source_uri: Option<String>,
    /// The ref that was built, as refs/tags/v1.2.3
    #[arg(long, value_name = "REF")]
    source_ref: Option<String>,
    /// The commit that was built
    #[arg(long, value_name = "COMMIT")]
    source_digest: Option<String>,
    /// Who built; a local build may not claim a hosted builder
    #[arg(long, value_name = "ID")]
    builder_id: Option<String>,
    /// The build type of a local build
    #[arg(long, value_name = "URI")]
    build_type: Option<String>,
    /// What names this one build
    #[arg(long, value_name = "ID")]
    invocation_id: Option<String>,
    /// A parameter of the build; repeatable
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// When the build began, as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    started_on: Option<Timestamp>,
    /// When the build ended
    #[arg(long, value_name = "TIME")]
    finished_on: Option<Timestamp>,
}

/// How long the job's token may be waited for.
const TOKEN_TIMEOUT: Duration = Duration::from_millis(limits::SERVICE_EXCHANGE_MS);

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let Verb::Generate(args) = &args.verb;
    let build = build(&args.build, context)?;
    let predicate = predicate(&build)?;
    let mut text = serde_json::to_string_pretty(&predicate)?;
    text.push('\n');
    output::write_or_print(args.output.as_deref(), text.as_bytes())?;
    Ok(Ended::Done)
}

/// The predicate of a build.
///
/// # Errors
/// A usage error where the platform did not say what it must, or a local build claims what it may not.
pub(super) fn predicate(build: &Build) -> Result<serde_json::Value, UsageError> {
    build.predicate().map_err(|error| {
        UsageError::new(error.to_string(), "run it inside the build job, or describe a local build by flags")
    })
}

/// What is known of the build: by the platform where there is one, else by the flags.
///
/// # Errors
/// A usage error where a flag contradicts the platform, or a parameter has no `=`.
pub(super) fn build(args: &BuildArgs, context: &Context) -> anyhow::Result<Build> {
    let environment = &context.environment;
    let platform = match (&environment.github_actions, &environment.gitlab_ci) {
        (Some(job), _) => {
            only_local(args)?;
            // Which reusable workflow runs the job stands in its token alone, where the job may ask for one.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let token = runtime.block_on(ambient_token(context, TOKEN_TIMEOUT))?;
            Platform::Github(github(job, token.as_ref()))
        }
        (None, Some(job)) => {
            only_local(args)?;
            Platform::Gitlab(gitlab(job))
        }
        (None, None) => Platform::Local(LocalBuild {
            builder_id: args.builder_id.clone(),
            build_type: args.build_type.clone(),
            source_uri: args.source_uri.clone(),
            source_ref: args.source_ref.clone(),
            source_digest: args.source_digest.clone(),
            invocation_id: args.invocation_id.clone(),
        }),
    };
    let parameter = |text: &String| {
        text.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .ok_or_else(|| UsageError::new(format!("--parameter {text} has no `=`"), "write NAME=VALUE"))
    };
    Ok(Build {
        platform,
        parameters: args.parameters.iter().map(parameter).collect::<Result<_, _>>()?,
        materials: Vec::new(),
        started_on: args.started_on,
        finished_on: args.finished_on,
    })
}

/// On a build platform its own words count; a flag beside them would be a second story.
fn only_local(args: &BuildArgs) -> Result<(), UsageError> {
    let flags = [
        ("--source-uri", &args.source_uri),
        ("--source-ref", &args.source_ref),
        ("--source-digest", &args.source_digest),
        ("--builder-id", &args.builder_id),
        ("--build-type", &args.build_type),
        ("--invocation-id", &args.invocation_id),
    ];
    match flags.iter().find(|(_, value)| value.is_some()) {
        Some((flag, _)) => Err(UsageError::new(
            format!("{flag} is for local builds; here the build platform says it"),
            "leave the flag out",
        )),
        None => Ok(()),
    }
}

fn github(job: &GithubActions, token: Option<&Secret>) -> GithubBuild {
    GithubBuild {
        server_url: job.server_url.clone(),
        repository: job.repository.clone(),
        repository_id: job.repository_id.clone(),
        repository_owner_id: job.repository_owner_id.clone(),
        workflow_ref: job.workflow_ref.clone(),
        job_workflow_ref: token.and_then(|token| claim(token, "job_workflow_ref")),
        sha: job.sha.clone(),
        git_ref: job.git_ref.clone(),
        event_name: job.event_name.clone(),
        run_id: job.run_id.clone(),
        run_attempt: job.run_attempt.clone(),
        runner_environment: job.runner_environment.clone(),
    }
}

/// A claim of our own token. It is not verified here: Fulcio verifies it, and a certificate confirms what came of it.
fn claim(token: &Secret, name: &str) -> Option<String> {
    let payload = token.reveal().split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    claims.get(name)?.as_str().map(str::to_owned)
}

fn gitlab(job: &GitlabCi) -> GitlabBuild {
    GitlabBuild {
        project_url: job.project_url.clone(),
        sha: job.sha.clone(),
        git_ref: job.git_ref.clone(),
        config_path: job.config_path.clone(),
        pipeline_source: job.pipeline_source.clone(),
        job_url: job.job_url.clone(),
        runner_id: job.runner_id.clone(),
        server_url: job.server_url.clone(),
    }
}
