//! SLSA provenance v0.2 and v1 and verification summaries: a predicate in, what it claims out.
//!
//! Source: slsa.dev/provenance/v0.2, slsa.dev/provenance/v1 (v1.0 and v1.1 share the type), and
//! slsa.dev/verification_summary/v1. A claim is not yet believed: `verify` holds it against the certificate.

use serde_json::Value;

use crate::types::{Code, Reason};

/// Predicate types that are SLSA provenance of the form v0.2.
pub const PROVENANCE_V02: &str = "https://slsa.dev/provenance/v0.2";
/// Predicate types that are SLSA provenance of the form v1.
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// SLSA verification summaries.
pub const SUMMARY_V1: &str = "https://slsa.dev/verification_summary/v1";

/// What provenance claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The builder's id.
    pub builder_id: String,
    /// The build type.
    pub build_type: String,
    /// Every place where the predicate names the source: the trigger first, then the material that it is.
    pub sources: Vec<Source>,
    /// The kind of runner, where the predicate says so.
    pub runner_environment: Option<String>,
}

/// A git source as a predicate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The repository, without `git+` and ref.
    pub repository: String,
    /// The ref, where there is one.
    pub reference: Option<String>,
    /// The commit, where there is one.
    pub commit: Option<String>,
    /// The field that names it.
    pub location: String,
}

impl Claims {
    /// Reads a predicate of one of the provenance types; nothing where the type is another one.
    ///
    /// # Errors
    /// `predicate-malformed`, also for a body of one version under the type of another.
    pub fn parse(predicate_type: &str, predicate: &Value) -> Result<Option<Self>, Reason> {
        match predicate_type {
            PROVENANCE_V02 => read_v02(predicate).map(Some),
            PROVENANCE_V1 => read_v1(predicate).map(Some),
            _ => Ok(None),
        }
    }
}

fn malformed(location: &str, message: impl Into<String>) -> Reason {
    Reason::new(Code::PredicateMalformed, message).location(format!("predicate.{location}"))
}

/// The text at a path of members, where every step is there.
fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, member| value.get(member)).and_then(Value::as_str)
}

fn required(value: &Value, path: &[&str]) -> Result<String, Reason> {
    text(value, path)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| malformed(&path.join("."), "the provenance lacks this field"))
}

fn read_v02(predicate: &Value) -> Result<Claims, Reason> {
    if predicate.get("buildDefinition").is_some() || predicate.get("runDetails").is_some() {
        return Err(malformed("buildDefinition", "a body of SLSA v1 stands under the type of v0.2"));
    }
    let mut sources = Vec::new();
    if let Some(uri) = text(predicate, &["invocation", "configSource", "uri"]) {
        let commit = text(predicate, &["invocation", "configSource", "digest", "sha1"]);
        sources.push(source(uri, commit, "invocation.configSource"));
    }
    let materials = predicate.get("materials").and_then(Value::as_array);
    for (position, material) in materials.into_iter().flatten().enumerate() {
        let Some(uri) = text(material, &["uri"]) else { continue };
        // Only the source itself must agree; other materials are dependencies.
        if position == 0 && uri.starts_with("git+") {
            sources.push(source(uri, text(material, &["digest", "sha1"]), "materials[0]"));
        }
    }
    let environment = predicate.get("invocation").and_then(|invocation| invocation.get("environment"));
    if let Some(reference) = environment.and_then(|environment| text(environment, &["github_ref"]))
        && let Some(first) = sources.first()
    {
        let stated = Source {
            repository: first.repository.clone(),
            reference: Some(reference.to_owned()),
            commit: environment.and_then(|environment| text(environment, &["github_sha1"])).map(str::to_owned),
            location: "invocation.environment.github_ref".to_owned(),
        };
        sources.push(stated);
    }
    Ok(Claims {
        builder_id: required(predicate, &["builder", "id"])?,
        build_type: required(predicate, &["buildType"])?,
        sources,
        runner_environment: None,
    })
}

fn read_v1(predicate: &Value) -> Result<Claims, Reason> {
    let definition = predicate
        .get("buildDefinition")
        .filter(|definition| definition.is_object())
        .ok_or_else(|| malformed("buildDefinition", "the provenance lacks this field"))?;
    let mut sources = Vec::new();
    let external = definition.get("externalParameters").unwrap_or(&Value::Null);
    if let Some(repository) = text(external, &["workflow", "repository"]) {
        sources.push(Source {
            reference: text(external, &["workflow", "ref"]).map(str::to_owned),
            ..source(repository, None, "buildDefinition.externalParameters.workflow")
        });
    }
    if let Some(uri) = text(external, &["source", "uri"]) {
        let commit = text(external, &["source", "digest", "gitCommit"])
            .or_else(|| text(external, &["source", "digest", "sha1"]));
        sources.push(source(uri, commit, "buildDefinition.externalParameters.source"));
    }
    let dependencies = definition.get("resolvedDependencies").and_then(Value::as_array);
    if let Some(first) = dependencies.and_then(|all| all.first())
        && let Some(uri) = text(first, &["uri"])
        && uri.starts_with("git+")
    {
        let commit = text(first, &["digest", "gitCommit"]).or_else(|| text(first, &["digest", "sha1"]));
        sources.push(source(uri, commit, "buildDefinition.resolvedDependencies[0]"));
    }
    Ok(Claims {
        builder_id: required(predicate, &["runDetails", "builder", "id"])?,
        build_type: required(definition, &["buildType"])
            .map_err(|reason| reason.location("predicate.buildDefinition.buildType"))?,
        sources,
        runner_environment: text(definition, &["internalParameters", "github", "runner_environment"])
            .map(str::to_owned),
    })
}

/// Takes `git+https://host/owner/name@refs/…` apart. An `@` in front of the host's path is no ref but a user,
/// which stays in the repository and so never equals an expected one.
fn source(uri: &str, commit: Option<&str>, location: &str) -> Source {
    let bare = uri.strip_prefix("git+").unwrap_or(uri);
    let (repository, reference) = match bare.rsplit_once('@') {
        Some((repository, reference)) if repository.contains("://") && repository.matches('/').count() >= 3 => {
            (repository, Some(reference))
        }
        _ => (bare, None),
    };
    Source {
        repository: repository.to_owned(),
        reference: reference.filter(|reference| !reference.is_empty()).map(str::to_owned),
        commit: commit.filter(|commit| !commit.is_empty()).map(str::to_owned),
        location: format!("predicate.{location}"),
    }
}

/// What a verification summary says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryClaims {
    /// Who decided.
    pub verifier_id: String,
    /// `PASSED` or `FAILED`.
    pub result: String,
    /// When it was decided, as written.
    pub verified_at: String,
    /// Until when it may be relied on, as written; our own extension.
    pub expires_at: Option<String>,
    /// The policy's URI.
    pub policy_uri: String,
    /// The policy's SHA-256, hex.
    pub policy_digest: Option<String>,
    /// The levels.
    pub levels: Vec<String>,
    /// What was decided about.
    pub resource_uri: Option<String>,
}

/// The member under which a summary of ours says until when it may be relied on.
pub const SUMMARY_EXPIRY: &str = "https://debvisor.dev/summary/v1/expiresAt";

impl SummaryClaims {
    /// Reads a predicate of type [`SUMMARY_V1`]; nothing where the type is another one.
    ///
    /// # Errors
    /// `predicate-malformed`.
    pub fn parse(predicate_type: &str, predicate: &Value) -> Result<Option<Self>, Reason> {
        if predicate_type != SUMMARY_V1 {
            return Ok(None);
        }
        let levels = predicate.get("verifiedLevels").and_then(Value::as_array);
        let result = required(predicate, &["verificationResult"])?;
        if !matches!(result.as_str(), "PASSED" | "FAILED") {
            return Err(malformed("verificationResult", format!("the result is `{result}`")));
        }
        Ok(Some(Self {
            verifier_id: required(predicate, &["verifier", "id"])?,
            result,
            verified_at: required(predicate, &["timeVerified"])?,
            // An end that cannot be read must not become no end at all.
            expires_at: match predicate.get(SUMMARY_EXPIRY) {
                None => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(_) => return Err(malformed("expiresAt", "the expiry is no text".to_owned())),
            },
            policy_uri: required(predicate, &["policy", "uri"])?,
            policy_digest: text(predicate, &["policy", "digest", "sha256"]).map(str::to_owned),
            levels: levels.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            resource_uri: text(predicate, &["resourceUri"]).map(str::to_owned),
        }))
    }
}
