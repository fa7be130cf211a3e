//! What the provenance says, held against the certificate and against what was asked.
//!
//! A predicate is written by whoever holds the build; the certificate's claims are written by the identity provider.
//! So the certificate decides, and a predicate that says something else is a lie. Which builders are believed at all
//! is the `builders` policy's question, not this file's.

use std::collections::BTreeMap;

use super::expect::Expectations;
use super::facts::{Provenance, Signer};
use crate::release::evidence::provenance::Claims;
use crate::types::{Code, Reason};

/// Where the signing certificate says that the build came from.
struct Confirmed<'a> {
    repository: String,
    reference: Option<&'a str>,
    commit: Option<&'a str>,
}

/// Checks that predicate and certificate tell the same story, and returns it.
pub(super) fn agreed(claims: &Claims, signer: &Signer) -> Result<Provenance, Reason> {
    let certificate = match signer {
        Signer::Certificate { claims, .. } => Some(claims),
        Signer::Key { .. } | Signer::Openpgp { .. } => None,
    };
    let confirmed = certificate.and_then(confirmed);
    let conflict = |location: &str, what: &str, said: &str, actual: &str| {
        Reason::new(
            Code::ProvenanceConflict,
            format!("the provenance says {what} `{said}`, and the certificate says `{actual}`"),
        )
        .location(location)
    };
    for source in &claims.sources {
        let Some(confirmed) = &confirmed else { continue };
        if source.repository != confirmed.repository {
            return Err(conflict(&source.location, "source", &source.repository, &confirmed.repository));
        }
        if let (Some(said), Some(actual)) = (&source.reference, confirmed.reference)
            && said != actual
        {
            return Err(conflict(&source.location, "ref", said, actual));
        }
        if let (Some(said), Some(actual)) = (&source.commit, confirmed.commit)
            && said != actual
        {
            return Err(conflict(&source.location, "commit", said, actual));
        }
    }
    let first = claims.sources.first();
    let contradicts = |one: &Option<String>, other: &Option<String>| match (one, other) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    };
    // Without a certificate that decides, the predicate must at least agree with itself.
    if let Some(first) = first
        && let Some(other) = claims.sources.iter().find(|other| {
            other.repository != first.repository
                || contradicts(&other.reference, &first.reference)
                || contradicts(&other.commit, &first.commit)
        })
    {
        return Err(Reason::new(Code::ProvenanceConflict, "the provenance names two different sources")
            .location(other.location.clone()));
    }
    let runner = certificate.and_then(|certificate| certificate.get("runner_environment")).cloned();
    if let (Some(said), Some(actual)) = (&claims.runner_environment, &runner)
        && said != actual
    {
        return Err(conflict("predicate.buildDefinition.internalParameters.github", "runner", said, actual));
    }
    let named = |field: fn(&crate::release::evidence::provenance::Source) -> Option<&String>| {
        claims.sources.iter().find_map(|source| field(source).cloned())
    };
    Ok(Provenance {
        builder_id: claims.builder_id.clone(),
        build_type: claims.build_type.clone(),
        source_uri: first.map(|source| source.repository.clone()),
        source_ref: named(|source| source.reference.as_ref()),
        source_digest: named(|source| source.commit.as_ref()),
        runner_environment: runner,
    })
}

fn confirmed(claims: &BTreeMap<String, String>) -> Option<Confirmed<'_>> {
    let claim = |new: &str, old: &str| claims.get(new).or_else(|| claims.get(old)).map(String::as_str);
    let repository = match claims.get("source_repository_uri") {
        Some(uri) => uri.clone(),
        // Certificates of before 2023 name the repository alone, and only GitHub's had it.
        None => format!("https://github.com/{}", claims.get("github_workflow_repository")?),
    };
    Some(Confirmed {
        repository,
        reference: claim("source_repository_ref", "github_workflow_ref"),
        commit: claim("source_repository_digest", "github_workflow_sha"),
    })
}

/// Holds the agreed story against what was asked (slsa-verifier's meaning of each flag).
pub(super) fn expected(provenance: &Provenance, signer: &Signer, expectations: &Expectations) -> Result<(), Reason> {
    let confirmed = match signer {
        Signer::Certificate { claims, .. } => Some(confirmed(claims)),
        Signer::Key { .. } | Signer::Openpgp { .. } => None,
    };
    if let Some(asked) = &expectations.source_uri {
        let asked = repository(asked);
        let said = provenance.source_uri.as_deref().unwrap_or_default();
        if said != asked {
            return Err(Reason::new(
                Code::SourceMismatch,
                format!("it was built from `{said}`, and `{asked}` was asked for"),
            ));
        }
        if let Some(confirmed) = &confirmed
            && confirmed.as_ref().is_none_or(|confirmed| confirmed.repository != asked)
        {
            return Err(Reason::new(
                Code::SourceMismatch,
                format!("the certificate does not say that it was built from `{asked}`"),
            ));
        }
    }
    // The certificate's ref decides where there is a certificate; a ref in the predicate alone proves nothing.
    let reference = match &confirmed {
        None => provenance.source_ref.as_deref(),
        Some(confirmed) => confirmed
            .as_ref()
            .and_then(|confirmed| confirmed.reference)
            .filter(|reference| provenance.source_ref.as_deref() == Some(*reference)),
    };
    let shown = reference.or(provenance.source_ref.as_deref()).unwrap_or("no ref that the certificate confirms");
    if let Some(branch) = &expectations.source_branch
        && reference.and_then(|reference| reference.strip_prefix("refs/heads/")) != Some(branch.as_str())
    {
        return Err(Reason::new(
            Code::BranchMismatch,
            format!("it was built from `{shown}`, and branch `{branch}` was asked for"),
        ));
    }
    let tag = reference.and_then(|reference| reference.strip_prefix("refs/tags/"));
    if let Some(asked) = &expectations.source_tag
        && tag != Some(asked.as_str())
    {
        return Err(Reason::new(
            Code::TagMismatch,
            format!("it was built from `{shown}`, and tag `{asked}` was asked for"),
        ));
    }
    if let Some(asked) = &expectations.source_versioned_tag {
        let fits = tag.is_some_and(|tag| is_release_of(tag, asked));
        if !fits {
            return Err(Reason::new(
                Code::VersionedTagMismatch,
                format!("it was built from `{shown}`, which is no release of `{asked}`"),
            ));
        }
    }
    Ok(())
}

/// A source as provenance spells it. `github.com/owner/name`, `https://…` and `git+https://…` are the same;
/// nothing else is normalised.
fn repository(asked: &str) -> String {
    let bare = asked.strip_prefix("git+").unwrap_or(asked);
    if bare.starts_with("https://") { bare.to_owned() } else { format!("https://{bare}") }
}

/// Whether `tag` is a release of `asked`, which may leave out minor and patch: `v1.2` stands for every `v1.2.x`.
/// A pre-release must be asked for exactly; build metadata counts for nothing (semver.org clauses 9 and 10).
fn is_release_of(tag: &str, asked: &str) -> bool {
    let (Some(tag), Some(asked)) = (Version::parse(tag), Version::parse(asked)) else { return false };
    tag.major == asked.major
        && asked.minor.is_none_or(|minor| tag.minor.unwrap_or(0) == minor)
        && match asked.patch {
            Some(patch) => tag.patch.unwrap_or(0) == patch && tag.pre_release == asked.pre_release,
            None => tag.pre_release.is_none(),
        }
}

/// A version as Go modules write it: a `v`, and minor and patch where they are given.
struct Version<'a> {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
    pre_release: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v')?;
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, pre_release)) if !pre_release.is_empty() => (numbers, Some(pre_release)),
            Some(_) => return None,
            None => (text, None),
        };
        let mut parts = numbers.split('.').map(|part| {
            let canonical = part == "0" || !part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            (canonical && digits).then(|| part.parse::<u64>().ok()).flatten()
        });
        let major = parts.next()??;
        let minor = parts.next().map_or(Some(None), |part| part.map(Some))?;
        let patch = parts.next().map_or(Some(None), |part| part.map(Some))?;
        // A pre-release belongs to a whole version.
        (parts.next().is_none() && (pre_release.is_none() || patch.is_some())).then_some(Self {
            major,
            minor,
            patch,
            pre_release,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versioned_tag_leaves_out_what_it_does_not_care_about() {
        for (tag, asked, fits) in [
            ("v14.2", "v14", true),
            ("v14", "v14.0", true),
            ("v13.0.30", "v13.0", true),
            ("v13.0.30", "v13.0.30", true),
            ("v13.0.30", "v13.0.3", false),
            ("v13.0.30", "v13.1", false),
            ("v1.4.2-rc1", "v1.4.2", false),
            ("v1.4.2-rc1", "v1.4", false),
            ("v1.4.2-rc1", "v1.4.2-rc1", true),
            ("v1.4.2+build", "v1.4.2", true),
            ("1.4.2", "v1.4.2", false),
            ("v1.4.2", "1.4.2", false),
            ("v01.4.2", "v1.4.2", false),
            ("v1.4.2.1", "v1.4.2", false),
            ("v1.4.", "v1.4", false),
            ("v1-rc1", "v1", false),
        ] {
            assert_eq!(is_release_of(tag, asked), fits, "{tag} as {asked}");
        }
    }

    #[test]
    fn a_source_uri_is_spelled_out_and_never_normalised() {
        assert_eq!(repository("github.com/acme/x"), "https://github.com/acme/x");
        assert_eq!(repository("git+https://github.com/acme/x"), "https://github.com/acme/x");
        assert_eq!(repository("https://github.com@evil.example/acme/x"), "https://github.com@evil.example/acme/x");
        assert_eq!(repository("HTTPS://github.com/acme/x"), "https://HTTPS://github.com/acme/x");
    }
}
