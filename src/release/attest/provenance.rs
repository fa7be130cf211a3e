//! SLSA provenance v1, written: what is known of a build in, a predicate out.
//!
//! Source: slsa.dev/provenance/v1 and the build types that it points to. Where the build platform says what ran, its
//! words go in unchanged, so that the signing certificate confirms them. A local build says that it is one: it may not
//! take a hosted builder's name, for nobody vouches for it but whoever holds the key.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::types::Digest;

/// The build type of `actions/attest-build-provenance`, which verifiers know.
const GITHUB_BUILD_TYPE: &str = "https://actions.github.io/buildtypes/workflow/v1";
/// GitLab's own build type for what its runners attest.
const GITLAB_BUILD_TYPE: &str = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/PROVENANCE.md";
/// A build that no platform vouches for.
const LOCAL_BUILD_TYPE: &str = "https://debvisor.dev/buildtypes/local/v1";
/// The builder of such a build, where none is named.
pub const LOCAL_BUILDER: &str = "https://debvisor.dev/builders/local";

/// What ran the build.
#[derive(Debug, Clone)]
pub enum Platform {
    /// A GitHub Actions job.
    Github(GithubBuild),
    /// A GitLab job.
    Gitlab(GitlabBuild),
    /// A machine of somebody's.
    Local(LocalBuild),
}

/// A GitHub Actions job, in its own words.
#[derive(Debug, Clone, Default)]
pub struct GithubBuild {
    /// `https://github.com`, or an enterprise server.
    pub server_url: String,
    /// `owner/name`.
    pub repository: String,
    /// The repository's number.
    pub repository_id: String,
    /// The owner's number.
    pub repository_owner_id: String,
    /// `owner/name/.github/workflows/x.yml@ref`: the workflow that was started.
    pub workflow_ref: String,
    /// The workflow that runs the job, where that is a reusable one; by the token's claim.
    pub job_workflow_ref: Option<String>,
    /// The commit.
    pub sha: String,
    /// The ref that was built.
    pub git_ref: String,
    /// What started it.
    pub event_name: String,
    /// The run.
    pub run_id: String,
    /// Which try it was.
    pub run_attempt: String,
    /// `github-hosted` or `self-hosted`.
    pub runner_environment: String,
}

/// A GitLab job, in its own words.
#[derive(Debug, Clone, Default)]
pub struct GitlabBuild {
    /// The project's address.
    pub project_url: String,
    /// The commit.
    pub sha: String,
    /// The ref that was built.
    pub git_ref: String,
    /// The pipeline's file.
    pub config_path: String,
    /// What started it.
    pub pipeline_source: String,
    /// The job's address.
    pub job_url: String,
    /// The runner's number.
    pub runner_id: String,
    /// The server's address.
    pub server_url: String,
}

/// A local build, in its maker's words.
#[derive(Debug, Clone, Default)]
pub struct LocalBuild {
    /// Who built; [`LOCAL_BUILDER`] where nobody is named.
    pub builder_id: Option<String>,
    /// The build type; our own where none is named.
    pub build_type: Option<String>,
    /// The repository's address.
    pub source_uri: Option<String>,
    /// The ref.
    pub source_ref: Option<String>,
    /// The commit.
    pub source_digest: Option<String>,
    /// What names this one build.
    pub invocation_id: Option<String>,
}

/// Everything that goes into the predicate.
#[derive(Debug, Clone)]
pub struct Build {
    /// What ran it.
    pub platform: Platform,
    /// Parameters that the maker adds, by name.
    pub parameters: Vec<(String, String)>,
    /// What went in besides the source, as lock files name it.
    pub materials: Vec<Material>,
    /// When it began.
    pub started_on: Option<Timestamp>,
    /// When it ended.
    pub finished_on: Option<Timestamp>,
}

/// One thing that went into the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Its package URL or address.
    pub uri: String,
    /// Its digests.
    pub digests: Vec<Digest>,
}

/// Why a build may not be described so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// A local build took the name of a platform's builder.
    #[error("a local build may not claim the hosted builder `{0}`")]
    HostedBuilder(String),
    /// A local build took the type of a platform's builds.
    #[error("a local build may not claim the build type of a platform, `{0}`")]
    HostedBuildType(String),
    /// A parameter took the place of what the platform or the source says.
    #[error("the parameter `{0}` would replace what the build itself says under that name")]
    ParameterTaken(String),
    /// The platform did not say what provenance must say.
    #[error("the build platform did not say {0}")]
    Missing(&'static str),
}

impl Build {
    /// The predicate.
    ///
    /// # Errors
    /// [`ProvenanceError`].
    pub fn predicate(&self) -> Result<Value, ProvenanceError> {
        let described = match &self.platform {
            Platform::Github(build) => github(build)?,
            Platform::Gitlab(build) => gitlab(build)?,
            Platform::Local(build) => local(build)?,
        };
        let mut external = described.external;
        for (name, value) in &self.parameters {
            if external.insert(name.clone(), json!(value)).is_some() {
                return Err(ProvenanceError::ParameterTaken(name.clone()));
            }
        }
        let mut materials = self.materials.clone();
        materials.sort();
        materials.dedup();
        let mut dependencies: Vec<Value> = described.source.into_iter().collect();
        dependencies.extend(materials.iter().map(|material| {
            let digests: Map<String, Value> = material
                .digests
                .iter()
                .map(|digest| (digest.algorithm().name().to_owned(), json!(digest.to_hex())))
                .collect();
            json!({"uri": material.uri, "digest": digests})
        }));
        let mut metadata = Map::new();
        metadata.extend(described.invocation.map(|id| ("invocationId".to_owned(), json!(id))));
        metadata.extend(self.started_on.map(|time| ("startedOn".to_owned(), json!(time))));
        metadata.extend(self.finished_on.map(|time| ("finishedOn".to_owned(), json!(time))));
        Ok(json!({
            "buildDefinition": {
                "buildType": described.build_type,
                "externalParameters": external,
                "internalParameters": described.internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": described.builder},
                "metadata": metadata,
            },
        }))
    }
}

struct Described {
    build_type: String,
    builder: String,
    external: Map<String, Value>,
    internal: Value,
    source: Option<Value>,
    invocation: Option<String>,
}

fn named<'a>(value: &'a str, what: &'static str) -> Result<&'a str, ProvenanceError> {
    if value.is_empty() { Err(ProvenanceError::Missing(what)) } else { Ok(value) }
}

fn object(members: Value) -> Map<String, Value> {
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn github(build: &GithubBuild) -> Result<Described, ProvenanceError> {
    let server = named(&build.server_url, "its address (GITHUB_SERVER_URL)")?;
    let repository = named(&build.repository, "the repository (GITHUB_REPOSITORY)")?;
    let reference = named(&build.git_ref, "the ref (GITHUB_REF)")?;
    let commit = named(&build.sha, "the commit (GITHUB_SHA)")?;
    let workflow = named(&build.workflow_ref, "the workflow (GITHUB_WORKFLOW_REF)")?;
    let repository_uri = format!("{server}/{repository}");
    let (file, workflow_git_ref) =
        workflow.split_once('@').ok_or(ProvenanceError::Missing("the workflow's ref (GITHUB_WORKFLOW_REF)"))?;
    let path = file.strip_prefix(repository).and_then(|path| path.strip_prefix('/')).unwrap_or(file);
    // The builder is what the signing certificate names: the reusable workflow where there is one.
    let builder = build.job_workflow_ref.as_deref().unwrap_or(workflow);
    Ok(Described {
        build_type: GITHUB_BUILD_TYPE.to_owned(),
        builder: format!("{server}/{builder}"),
        external: object(json!({
            "workflow": {"ref": workflow_git_ref, "repository": repository_uri, "path": path},
        })),
        internal: json!({
            "github": {
                "event_name": build.event_name,
                "repository_id": build.repository_id,
                "repository_owner_id": build.repository_owner_id,
                "runner_environment": named(&build.runner_environment, "the kind of runner (RUNNER_ENVIRONMENT)")?,
            },
        }),
        source: Some(json!({
            "uri": format!("git+{repository_uri}@{reference}"),
            "digest": {"gitCommit": commit},
        })),
        invocation: Some(format!("{repository_uri}/actions/runs/{}/attempts/{}", build.run_id, build.run_attempt)),
    })
}

fn gitlab(build: &GitlabBuild) -> Result<Described, ProvenanceError> {
    let project = named(&build.project_url, "the project (CI_PROJECT_URL)")?;
    let commit = named(&build.sha, "the commit (CI_COMMIT_SHA)")?;
    let reference = named(&build.git_ref, "the ref (CI_COMMIT_REF_NAME)")?;
    let server = named(&build.server_url, "its address (CI_SERVER_URL)")?;
    let runner = named(&build.runner_id, "the runner (CI_RUNNER_ID)")?;
    Ok(Described {
        build_type: GITLAB_BUILD_TYPE.to_owned(),
        builder: format!("{server}/-/runners/{runner}"),
        external: object(json!({"source": project, "entryPoint": build.config_path, "ref": reference})),
        internal: json!({"gitlab": {"pipeline_source": build.pipeline_source}}),
        source: Some(json!({"uri": format!("git+{project}@{reference}"), "digest": {"gitCommit": commit}})),
        invocation: Some(build.job_url.clone()).filter(|url| !url.is_empty()),
    })
}

fn local(build: &LocalBuild) -> Result<Described, ProvenanceError> {
    let builder = build.builder_id.as_deref().unwrap_or(LOCAL_BUILDER);
    if is_hosted(builder) {
        return Err(ProvenanceError::HostedBuilder(builder.to_owned()));
    }
    if let Some(kind) = build.build_type.as_ref().filter(|kind| is_of_platform(kind)) {
        return Err(ProvenanceError::HostedBuildType(kind.clone()));
    }
    let source = build.source_uri.as_ref().map(|uri| {
        let repository = uri.strip_prefix("git+").unwrap_or(uri);
        let reference = build.source_ref.as_ref().map_or_else(String::new, |reference| format!("@{reference}"));
        let digest = build.source_digest.as_ref().map_or_else(|| json!({}), |commit| json!({"gitCommit": commit}));
        json!({"uri": format!("git+{repository}{reference}"), "digest": digest})
    });
    let external = source.as_ref().map_or_else(|| json!({}), |source| json!({"source": source}));
    Ok(Described {
        build_type: build.build_type.as_deref().unwrap_or(LOCAL_BUILD_TYPE).to_owned(),
        builder: builder.to_owned(),
        external: object(external),
        internal: json!({}),
        source,
        invocation: build.invocation_id.clone(),
    })
}

/// Whether a builder's id is one that only a build platform may use.
fn is_hosted(builder: &str) -> bool {
    // Schemes and hosts are the same in capitals.
    let builder = builder.to_ascii_lowercase();
    builder.contains("/.github/workflows/")
        || builder.starts_with("https://github.com/actions/runner")
        || builder.contains("/-/runners/")
        || builder.starts_with("https://cloudbuild.googleapis.com/")
}

/// Whether a build type is one that a platform describes its own builds by.
fn is_of_platform(build_type: &str) -> bool {
    let build_type = build_type.to_ascii_lowercase();
    [
        "https://actions.github.io/",
        "https://github.com/actions/",
        "https://github.com/slsa-framework/",
        "https://slsa-framework.github.io/",
        "https://gitlab.com/gitlab-org/",
        "https://cloud.google.com/build/",
    ]
    .iter()
    .any(|platform| build_type.starts_with(platform))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::evidence::provenance::{Claims, PROVENANCE_V1};

    fn github_build() -> GithubBuild {
        GithubBuild {
            server_url: "https://github.com".into(),
            repository: "acme/hyperdeck".into(),
            repository_id: "1".into(),
            repository_owner_id: "2".into(),
            workflow_ref: "acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2".into(),
            job_workflow_ref: None,
            sha: "a3".repeat(20),
            git_ref: "refs/tags/v1.4.2".into(),
            event_name: "push".into(),
            run_id: "99".into(),
            run_attempt: "1".into(),
            runner_environment: "github-hosted".into(),
        }
    }

    fn build(platform: Platform) -> Build {
        Build { platform, parameters: Vec::new(), materials: Vec::new(), started_on: None, finished_on: None }
    }

    #[test]
    fn our_own_reader_finds_builder_source_ref_and_commit() {
        let predicate = build(Platform::Github(github_build())).predicate().unwrap();
        let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
        assert_eq!(
            claims.builder_id,
            "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2"
        );
        assert_eq!(claims.runner_environment.as_deref(), Some("github-hosted"));
        for source in &claims.sources {
            assert_eq!(source.repository, "https://github.com/acme/hyperdeck");
            assert_eq!(source.reference.as_deref(), Some("refs/tags/v1.4.2"));
        }
        assert_eq!(claims.sources.last().unwrap().commit, Some("a3".repeat(20)));
    }

    #[test]
    fn a_reusable_workflow_is_the_builder() {
        let mut github = github_build();
        github.job_workflow_ref = Some("trusted/builders/.github/workflows/build.yml@refs/tags/v3.0.0".into());
        let predicate = build(Platform::Github(github)).predicate().unwrap();
        let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
        assert_eq!(
            claims.builder_id,
            "https://github.com/trusted/builders/.github/workflows/build.yml@refs/tags/v3.0.0"
        );
        assert_eq!(claims.sources.first().unwrap().repository, "https://github.com/acme/hyperdeck");
    }

    #[test]
    fn a_local_build_may_not_claim_a_hosted_builder() {
        for hosted in [
            "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1",
            "https://github.com/actions/runner/github-hosted",
            "https://gitlab.com/-/runners/12",
        ] {
            let local = LocalBuild { builder_id: Some(hosted.to_owned()), ..LocalBuild::default() };
            let refused = build(Platform::Local(local)).predicate().unwrap_err();
            assert_eq!(refused, ProvenanceError::HostedBuilder(hosted.to_owned()));
        }
        let predicate = build(Platform::Local(LocalBuild::default())).predicate().unwrap();
        let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
        assert_eq!(claims.builder_id, LOCAL_BUILDER);
    }

    #[test]
    fn a_hosted_build_must_say_on_which_runner() {
        let mut github = github_build();
        github.runner_environment.clear();
        assert!(matches!(build(Platform::Github(github)).predicate(), Err(ProvenanceError::Missing(_))));
    }
}
