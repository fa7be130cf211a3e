//! `provenance generate`: what the build platforms' own variables become, and what a local build may not say.

use std::process::{Command, Stdio};

use debvisor::release::evidence::provenance::{Claims, PROVENANCE_V1};
use serde_json::{Value, json};

const GITHUB: [(&str, &str); 12] = [
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "acme/hyperdeck"),
    ("GITHUB_REPOSITORY_ID", "123456"),
    ("GITHUB_REPOSITORY_OWNER_ID", "7890"),
    ("GITHUB_WORKFLOW_REF", "acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2"),
    ("GITHUB_SHA", COMMIT),
    ("GITHUB_REF", "refs/tags/v1.4.2"),
    ("GITHUB_EVENT_NAME", "push"),
    ("GITHUB_RUN_ID", "99"),
    ("GITHUB_RUN_ATTEMPT", "1"),
    ("RUNNER_ENVIRONMENT", "github-hosted"),
];
const GITLAB: [(&str, &str); 10] = [
    ("GITLAB_CI", "true"),
    ("CI_PROJECT_URL", "https://gitlab.com/acme/hyperdeck"),
    ("CI_COMMIT_SHA", COMMIT),
    ("CI_COMMIT_REF_NAME", "v1.4.2"),
    ("CI_COMMIT_TAG", "v1.4.2"),
    ("CI_CONFIG_PATH", ".gitlab-ci.yml"),
    ("CI_PIPELINE_SOURCE", "push"),
    ("CI_JOB_URL", "https://gitlab.com/acme/hyperdeck/-/jobs/12"),
    ("CI_RUNNER_ID", "34"),
    ("CI_SERVER_URL", "https://gitlab.com"),
];
const COMMIT: &str = "a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3";

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["provenance", "generate"])
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn generate(environment: &[(&str, &str)], arguments: &[&str]) -> Value {
    let (exit, stdout, stderr) = run(environment, arguments);
    assert_eq!(exit, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[track_caller]
fn refused(environment: &[(&str, &str)], arguments: &[&str], message: &str) {
    let (exit, stdout, stderr) = run(environment, arguments);
    assert_eq!((exit, stdout.as_str()), (64, ""), "{stderr}");
    assert!(stderr.contains(message) && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn a_job_in_github_actions_is_described_in_its_own_words() {
    let flags = ["--parameter", "profile=release", "--started-on", "2026-01-01T00:00:00Z"];
    let predicate = generate(&GITHUB, &flags);
    assert_eq!(
        predicate["buildDefinition"]["externalParameters"],
        json!({
            "profile": "release",
            "workflow": {
                "ref": "refs/tags/v1.4.2", "repository": "https://github.com/acme/hyperdeck",
                "path": ".github/workflows/release.yml",
            },
        })
    );
    assert_eq!(
        predicate["runDetails"]["metadata"],
        json!({
            "invocationId": "https://github.com/acme/hyperdeck/actions/runs/99/attempts/1",
            "startedOn": "2026-01-01T00:00:00Z",
        })
    );
    let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
    assert_eq!(claims.builder_id, "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2");
    assert_eq!(claims.runner_environment.as_deref(), Some("github-hosted"));
}

#[test]
fn a_reusable_workflow_stands_in_the_jobs_token() {
    use base64::Engine as _;
    let builder = "trusted/builders/.github/workflows/build.yml@refs/tags/v3.0.0";
    let claims =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!({"job_workflow_ref": builder}).to_string());
    let token = format!("e30.{claims}.c2ln");
    let predicate = generate(&[&GITHUB[..], &[("SIGSTORE_ID_TOKEN", &token)]].concat(), &[]);
    assert_eq!(predicate["runDetails"]["builder"]["id"], json!(format!("https://github.com/{builder}")));
}

#[test]
fn a_gitlab_job_is_described_in_its_own_words() {
    let predicate = generate(&GITLAB, &[]);
    let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
    assert_eq!(claims.builder_id, "https://gitlab.com/-/runners/34");
    let source = &claims.sources[0];
    assert_eq!(source.repository, "https://gitlab.com/acme/hyperdeck");
    assert_eq!(source.reference.as_deref(), Some("refs/tags/v1.4.2"));
    assert_eq!(
        predicate["buildDefinition"]["resolvedDependencies"][0],
        json!({"uri": "git+https://gitlab.com/acme/hyperdeck@refs/tags/v1.4.2", "digest": {"gitCommit": COMMIT}})
    );
}

#[test]
fn a_platform_that_does_not_say_what_it_must_is_not_guessed_at() {
    for missing in ["GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_REF", "GITHUB_WORKFLOW_REF", "RUNNER_ENVIRONMENT"] {
        let left: Vec<_> = GITHUB.into_iter().filter(|(name, _)| *name != missing).collect();
        refused(&left, &[], missing);
    }
    for missing in ["CI_PROJECT_URL", "CI_COMMIT_SHA", "CI_RUNNER_ID"] {
        let left: Vec<_> = GITLAB.into_iter().filter(|(name, _)| *name != missing).collect();
        refused(&left, &[], missing);
    }
    let left: Vec<_> = GITLAB.into_iter().filter(|(name, _)| !name.starts_with("CI_COMMIT_")).collect();
    refused(&[&left[..], &[("CI_COMMIT_SHA", COMMIT)]].concat(), &[], "CI_COMMIT_REF_NAME");
}

#[test]
fn on_a_platform_no_flag_tells_a_second_story() {
    for flag in ["--source-uri", "--source-ref", "--source-digest", "--builder-id", "--build-type", "--invocation-id"] {
        for platform in [&GITHUB[..], &GITLAB] {
            refused(platform, &[flag, "https://example.org"], flag);
        }
    }
    refused(&GITHUB, &["--parameter", "workflow=another"], "`workflow`");
    refused(&GITLAB, &["--parameter", "source=https://example.org"], "`source`");
}

#[test]
fn a_local_build_says_that_it_is_one() {
    let flags = [
        "--source-uri",
        "https://example.org/hyperdeck",
        "--source-ref",
        "refs/tags/v1.4.2",
        "--source-digest",
        COMMIT,
        "--invocation-id",
        "build-7",
        "--finished-on",
        "2026-01-01T00:05:00Z",
    ];
    let predicate = generate(&[], &flags);
    let claims = Claims::parse(PROVENANCE_V1, &predicate).unwrap().unwrap();
    assert_eq!(claims.builder_id, "https://debvisor.dev/builders/local");
    assert_eq!(claims.sources[0].repository, "https://example.org/hyperdeck");
    assert_eq!(predicate["runDetails"]["metadata"]["invocationId"], "build-7");
    assert_eq!(generate(&[], &flags), predicate, "the same build is described by the same bytes");
    let own = generate(&[], &["--builder-id", "https://ci.example.org/builders/1"]);
    assert_eq!(own["runDetails"]["builder"]["id"], "https://ci.example.org/builders/1");
}

#[test]
fn a_local_build_may_not_claim_a_hosted_builder() {
    for builder in [
        "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1",
        "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml@refs/tags/v2.1.0",
        "HTTPS://GITHUB.COM/acme/hyperdeck/.GITHUB/workflows/release.yml@refs/tags/v1",
        "https://github.com/actions/runner/github-hosted",
        "https://gitlab.com/-/runners/34",
        "https://cloudbuild.googleapis.com/GoogleHostedWorker",
    ] {
        refused(&[], &["--builder-id", builder], "hosted builder");
    }
    for kind in [
        "https://actions.github.io/buildtypes/workflow/v1",
        "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/PROVENANCE.md",
    ] {
        refused(&[], &["--build-type", kind], "build type");
    }
}

#[test]
fn a_parameter_needs_a_name_and_a_value() {
    refused(&[], &["--parameter", "profile"], "has no `=`");
    refused(&[], &["--parameter", "a=1", "--parameter", "a=2"], "`a`");
}

#[test]
fn the_predicate_goes_into_a_file_where_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("provenance.json");
    let (exit, stdout, stderr) = run(&GITHUB, &["--output", path.to_str().unwrap()]);
    assert_eq!((exit, stdout.as_str()), (0, ""), "{stderr}");
    let written: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(written, generate(&GITHUB, &[]));
}
