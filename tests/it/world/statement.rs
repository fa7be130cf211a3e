//! In-toto statements and SLSA predicates, as GitHub's generic builders write them.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use super::ca::{COMMIT, Identity};

pub(crate) const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";
pub(crate) const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
pub(crate) const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";
pub(crate) const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
pub(crate) const CYCLONEDX: &str = "https://cyclonedx.org/bom";

/// A subject named by its SHA-256.
pub(crate) fn subject(name: &str, artifact: &[u8]) -> Value {
    json!({ "name": name, "digest": { "sha256": hex::encode(Sha256::digest(artifact)) } })
}

/// A subject named by its SHA-512 alone, as npm writes it.
pub(crate) fn subject_sha512(name: &str, artifact: &[u8]) -> Value {
    json!({ "name": name, "digest": { "sha512": hex::encode(Sha512::digest(artifact)) } })
}

/// A statement of any kind.
pub(crate) fn statement(kind: &str, subjects: &[Value], predicate_type: &str, predicate: &Value) -> Value {
    json!({ "_type": kind, "subject": subjects, "predicateType": predicate_type, "predicate": predicate })
}

/// SLSA v1 over one artifact, agreeing with the identity's claims.
pub(crate) fn slsa_v1(artifact: &[u8], identity: &Identity) -> Value {
    let claim = |arc: u8| identity.claims.get(&arc).cloned().unwrap_or_default();
    let (source, git_ref) = (claim(12), claim(14));
    let workflow = claim(18);
    let workflow = workflow.split('@').next().unwrap_or_default();
    let workflow = workflow.strip_prefix(&format!("{source}/")).unwrap_or(workflow);
    let predicate = json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": { "workflow": { "ref": git_ref, "repository": source, "path": workflow } },
            "internalParameters": { "github": { "event_name": claim(20), "runner_environment": claim(11) } },
            "resolvedDependencies": [{
                "uri": format!("git+{source}@{git_ref}"),
                "digest": { "gitCommit": COMMIT },
            }],
        },
        "runDetails": {
            "builder": { "id": identity.text() },
            "metadata": { "invocationId": claim(21) },
        },
    });
    statement(STATEMENT_V1, &[subject("artifact", artifact)], SLSA_V1, &predicate)
}

/// SLSA v0.2 over one artifact as slsa-github-generator's generic builder writes it.
pub(crate) fn slsa_v02(artifact: &[u8], identity: &Identity) -> Value {
    let claim = |arc: u8| identity.claims.get(&arc).cloned().unwrap_or_default();
    let (source, git_ref) = (claim(12), claim(14));
    let caller = claim(18);
    let entry_point =
        caller.split('@').next().unwrap_or_default().strip_prefix(&format!("{source}/")).unwrap_or_default();
    let source_uri = format!("git+{source}@{git_ref}");
    let predicate = json!({
        "builder": { "id": identity.text() },
        "buildType": "https://github.com/slsa-framework/slsa-github-generator/generic@v1",
        "invocation": {
            "configSource": { "uri": source_uri, "digest": { "sha1": COMMIT }, "entryPoint": entry_point },
            "parameters": {},
            "environment": {
                "github_event_name": claim(20),
                "github_ref": git_ref,
                "github_ref_type": if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" },
                "github_repository_id": claim(15),
                "github_run_attempt": "1",
                "github_run_id": "99",
                "github_sha1": COMMIT,
            },
        },
        "metadata": {
            "buildInvocationID": "99-1",
            "completeness": { "parameters": true, "environment": false, "materials": false },
            "reproducible": false,
        },
        "materials": [{ "uri": source_uri, "digest": { "sha1": COMMIT } }],
    });
    statement(STATEMENT_V01, &[subject("artifact", artifact)], SLSA_V02, &predicate)
}
