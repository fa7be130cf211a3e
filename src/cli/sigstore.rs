//! What `verify` and `gate` do alike with Sigstore evidence: flags into expectations, files into what is offered,
//! and the trust root of the run.

use std::path::{Path, PathBuf};

use super::expect::{ProvenanceArgs, SignerArgs, TrustArgs};
use super::{Context, UsageError, parallel};
use crate::release::artifact;
use crate::release::collect::files::read_evidence;
use crate::release::collect::trust_root::{self, SelectedRoot};
use crate::release::evidence::bundle;
use crate::release::evidence::key::PublicKey;
use crate::release::policy::input::InputTrustRoot;
use crate::release::trust::bundle::TrustBundle;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::{Expectations, Offered, Pattern};
use crate::types::{Code, Reason, limits};

/// A trust root that was read and may be used.
pub(super) struct UsableRoot {
    pub(super) root: TrustRoot,
    selected: SelectedRoot,
}

impl UsableRoot {
    /// Selects the run's trust root, refuses one that is too old, and prepares its keys.
    ///
    /// # Errors
    /// `trust-root-unreadable` or `trust-root-too-old`, both undecided.
    pub(super) fn select(args: &TrustArgs, installed: Option<&TrustBundle>, context: &Context) -> Result<Self, Reason> {
        let config_dir = context.environment.config_dir.as_deref();
        let selected = trust_root::select(config_dir, args.trusted_root.as_deref(), installed, context.now)?;
        if let Some(max_days) = args.max_trust_root_age {
            selected.check_age(max_days)?;
        }
        let root = TrustRoot::parse(&selected.json).map_err(|reason| reason.evidence(selected.origin.to_string()))?;
        Ok(Self { root, selected })
    }

    /// What a policy is told of it.
    pub(super) fn policy_input(&self) -> InputTrustRoot {
        InputTrustRoot { digest: self.selected.digest.to_string(), age_days: self.selected.age_days }
    }

    /// What a report says of it.
    pub(super) fn reference(&self) -> crate::release::decision::TrustRootReference {
        crate::release::decision::TrustRootReference {
            digest: self.selected.digest.clone(),
            age_days: self.selected.age_days,
        }
    }
}

/// The installed trust bundle, for what it revokes and the keys it brings; it counts whatever root is selected.
///
/// # Errors
/// `trust-bundle-invalid`: what is revoked is then not known, and nothing may pass.
pub(super) fn installed_bundle(context: &Context) -> Result<Option<TrustBundle>, Reason> {
    trust_root::installed_bundle(context.environment.config_dir.as_deref(), context.now)
}

/// What the flags demand. The key is read separately, since an unreadable one is an answer and no usage error.
///
/// # Errors
/// A usage error for a regular expression that does not compile, or an identity without its issuer.
pub(super) fn expectations(
    signer: &SignerArgs,
    provenance: &ProvenanceArgs,
    trust: &TrustArgs,
    key: Option<PublicKey>,
) -> Result<Expectations, UsageError> {
    let pattern = |exact: &Option<String>, regexp: &Option<String>, flag: &str| match (exact, regexp) {
        (Some(text), _) => Ok(Some(Pattern::Exact(text.clone()))),
        (None, Some(source)) => Pattern::regexp(source).map(Some).map_err(|error| {
            UsageError::new(format!("{flag}: {error}"), "a regular expression must match all of the text; \\. is a dot")
        }),
        (None, None) => Ok(None),
    };
    let identity =
        pattern(&signer.certificate_identity, &signer.certificate_identity_regexp, "--certificate-identity-regexp")?;
    let issuer = pattern(
        &signer.certificate_oidc_issuer,
        &signer.certificate_oidc_issuer_regexp,
        "--certificate-oidc-issuer-regexp",
    )?;
    if identity.is_some() && issuer.is_none() {
        return Err(UsageError::new(
            "an identity means nothing without the issuer who vouches for it",
            "add --certificate-oidc-issuer, as https://token.actions.githubusercontent.com for GitHub Actions",
        ));
    }
    if key.is_some() && (identity.is_some() || issuer.is_some()) {
        return Err(UsageError::new("--key stands in place of an identity", "leave out one of the two"));
    }
    Ok(Expectations {
        identity,
        issuer,
        key,
        key_needs_log: trust.trusted_root.is_some(),
        predicate_type: provenance.predicate_type.clone(),
        source_uri: provenance.source_uri.clone(),
        source_branch: provenance.source_branch.clone(),
        source_tag: provenance.source_tag.clone(),
        source_versioned_tag: provenance.source_versioned_tag.clone(),
        builder_id: provenance.builder_id.clone(),
        package_name: provenance.package_name.clone(),
        package_version: provenance.package_version.clone(),
        deny_self_hosted_runners: provenance.deny_self_hosted_runners,
    })
}

/// Reads `--key`: a file, or `bundle:NAME` for a key of the installed trust bundle.
///
/// # Errors
/// `evidence-unreadable`, or `unsupported-algorithm` where the file holds no key that may sign.
pub(super) fn key(args: &SignerArgs, installed: Option<&TrustBundle>) -> Result<Option<PublicKey>, Reason> {
    let Some(path) = &args.key else { return Ok(None) };
    let name = path.display().to_string();
    if let Some(of_bundle) = name.strip_prefix("bundle:") {
        let found = installed.and_then(|bundle| bundle.keys().iter().find(|(name, _)| name == of_bundle));
        return found.map(|(_, key)| Some(key.clone())).ok_or_else(|| {
            Reason::new(Code::EvidenceUnreadable, format!("the installed trust bundle has no key `{of_bundle}`"))
        });
    }
    let bytes = artifact::read_bounded(path, limits::KEY_BYTES).map_err(|error| {
        Reason::new(Code::EvidenceUnreadable, format!("cannot read the key {name}: {error}")).evidence(&name)
    })?;
    PublicKey::from_pem(&bytes).map(Some).map_err(|reason| reason.evidence(&name))
}

/// Reads every bundle file, in parallel. A file of several bundles offers each under `FILE:LINE`.
pub(super) fn offered(files: &[PathBuf]) -> (Vec<Offered>, Vec<Reason>) {
    let read = parallel::each(files, |path| read_file(path));
    let mut all = Vec::new();
    let mut refused = Vec::new();
    for outcome in read {
        match outcome {
            Ok(offered) => all.extend(offered),
            Err(reason) => refused.push(reason),
        }
    }
    (all, refused)
}

fn read_file(path: &Path) -> Result<Vec<Offered>, Reason> {
    let bytes = read_evidence(path, limits::EVIDENCE_BYTES)?;
    offered_in(&path.display().to_string(), &bytes)
}

/// Reads the bundles of one file that is in memory.
///
/// # Errors
/// The reason why the whole file is refused.
pub(super) fn offered_in(name: &str, bytes: &[u8]) -> Result<Vec<Offered>, Reason> {
    let bundles = bundle::parse_file(bytes).map_err(|reason| reason.evidence(name))?;
    let alone = bundles.len() == 1;
    let offer = |(line, bundle)| Offered::new(if alone { name.to_owned() } else { format!("{name}:{line}") }, bundle);
    Ok(bundles.into_iter().map(offer).collect())
}
