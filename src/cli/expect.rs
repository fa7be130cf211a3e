//! The flags that say what is expected: who must have signed, what the provenance must say, which trust root counts.
//! `verify` and `gate` flatten the same ones, so that the two can never mean different things by one word.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::UsageError;
use crate::release::artifact;
use crate::release::evidence::openpgp::{Keyring, parse_fingerprint};
use crate::release::policy::input::Expected;
use crate::release::trust::bundle::TrustBundle;
use crate::release::verify::openpgp::{OpenpgpExpectations, Validity};
use crate::types::{Code, Reason, limits};

/// Who must have signed, by Sigstore's means.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Who must have signed")]
pub(super) struct SignerArgs {
    /// The certificate's identity (SAN), compared byte by byte
    #[arg(long, value_name = "ID", conflicts_with = "certificate_identity_regexp")]
    pub(super) certificate_identity: Option<String>,
    /// A regular expression that must match all of the certificate's identity
    #[arg(long, value_name = "RE")]
    pub(super) certificate_identity_regexp: Option<String>,
    /// The certificate's OIDC issuer, compared byte by byte
    #[arg(long, value_name = "URL", conflicts_with = "certificate_oidc_issuer_regexp")]
    pub(super) certificate_oidc_issuer: Option<String>,
    /// A regular expression that must match all of the issuer
    #[arg(long, value_name = "RE")]
    pub(super) certificate_oidc_issuer_regexp: Option<String>,
    /// A managed public key, in place of an identity
    #[arg(long, value_name = "PEM")]
    pub(super) key: Option<PathBuf>,
}

/// What the SLSA provenance must say.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What the provenance must say")]
pub(super) struct ProvenanceArgs {
    /// The attestation must have exactly this predicate type
    #[arg(long, value_name = "URI")]
    pub(super) predicate_type: Option<String>,
    /// The source repository, as github.com/OWNER/REPO
    #[arg(long, value_name = "URI")]
    pub(super) source_uri: Option<String>,
    /// The branch it was built from
    #[arg(long, value_name = "BRANCH")]
    pub(super) source_branch: Option<String>,
    /// The tag it was built from
    #[arg(long, value_name = "TAG", conflicts_with = "source_versioned_tag")]
    pub(super) source_tag: Option<String>,
    /// The tag's semantic version; v1.2 stands for any v1.2.x
    #[arg(long, value_name = "VERSION")]
    pub(super) source_versioned_tag: Option<String>,
    /// The builder, with or without its ref
    #[arg(long, value_name = "ID")]
    pub(super) builder_id: Option<String>,
    /// The package's name
    #[arg(long, value_name = "NAME")]
    pub(super) package_name: Option<String>,
    /// The package's version
    #[arg(long, value_name = "VERSION")]
    pub(super) package_version: Option<String>,
    /// Refuse builds on self-hosted runners
    #[arg(long)]
    pub(super) deny_self_hosted_runners: bool,
}

/// Whose OpenPGP keys must have signed.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "OpenPGP")]
pub(super) struct OpenpgpArgs {
    /// Public keys, armored or binary, or `bundle:NAME` of the installed trust bundle; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) openpgp_keyring: Vec<PathBuf>,
    /// A pinned primary key's whole fingerprint; repeatable
    #[arg(long, value_name = "FPR", requires = "openpgp_keyring")]
    pub(super) openpgp_fingerprint: Vec<String>,
    /// How many of the pinned keys must have signed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) threshold: u32,
    /// When a signing key must have been valid
    #[arg(long, value_enum, default_value_t = OpenpgpValidity::AtSigning, value_name = "WHEN")]
    pub(super) openpgp_validity: OpenpgpValidity,
}

impl OpenpgpArgs {
    /// Whether these flags name anybody whose signature would count.
    pub(super) const fn names_somebody(&self) -> bool {
        !self.openpgp_keyring.is_empty()
    }

    /// What the flags demand.
    ///
    /// # Errors
    /// A usage error for what is no whole fingerprint, or a threshold that the pinned keys can never meet.
    pub(super) fn expectations(&self, now: Timestamp) -> Result<OpenpgpExpectations, UsageError> {
        let pin = |text: &String| {
            parse_fingerprint(text).map_err(|error| {
                UsageError::new(
                    format!("--openpgp-fingerprint {text}: {error}"),
                    "gpg --show-keys --with-fingerprint FILE prints it",
                )
            })
        };
        let mut pins = self.openpgp_fingerprint.iter().map(pin).collect::<Result<Vec<_>, _>>()?;
        pins.sort();
        pins.dedup();
        let threshold = usize::try_from(self.threshold).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MAX);
        if !pins.is_empty() && threshold.get() > pins.len() {
            return Err(UsageError::new(
                format!("--threshold {threshold} can never be met by {} pinned keys", pins.len()),
                "name each key that may sign with --openpgp-fingerprint",
            ));
        }
        let validity = match self.openpgp_validity {
            OpenpgpValidity::AtSigning => Validity::AtSigning,
            OpenpgpValidity::Now => Validity::Now,
        };
        Ok(OpenpgpExpectations { pins, threshold, validity, now })
    }

    /// Reads the keyrings into one; none where none was given.
    ///
    /// # Errors
    /// `openpgp-keyring-unreadable` or `input-too-large`, naming the file.
    pub(super) fn keyring(&self, installed: Option<&TrustBundle>) -> Result<Option<Keyring>, Reason> {
        let of_bundle = |path: &Path| {
            let name = path.to_str()?.strip_prefix("bundle:")?;
            let found = installed.and_then(|bundle| bundle.openpgp_keyrings().iter().find(|item| item.name == name));
            Some(found.map(|item| item.content.clone()).ok_or_else(|| {
                let message = format!("the installed trust bundle has no keyring `{name}`");
                Reason::new(Code::OpenpgpKeyringUnreadable, message)
            }))
        };
        let of_file = |path: &Path| {
            artifact::read_bounded(path, limits::OPENPGP_KEYRING_BYTES).map_err(|error| {
                Reason::new(Code::OpenpgpKeyringUnreadable, format!("cannot read {}: {error}", path.display()))
            })
        };
        let mut all: Option<Keyring> = None;
        for path in &self.openpgp_keyring {
            let name = path.display().to_string();
            let keyring = of_bundle(path)
                .unwrap_or_else(|| of_file(path))
                .and_then(|bytes| Keyring::parse(&bytes))
                .map_err(|reason| reason.evidence(&name))?;
            all = Some(match all {
                Some(all) => all.join(keyring).map_err(|reason| reason.evidence(&name))?,
                None => keyring,
            });
        }
        Ok(all)
    }
}

/// What a policy is told of the flags.
pub(super) fn policy_input(signer: &SignerArgs, provenance: &ProvenanceArgs, openpgp: &OpenpgpArgs) -> Expected {
    Expected {
        certificate_identity: signer.certificate_identity.clone(),
        certificate_identity_regexp: signer.certificate_identity_regexp.clone(),
        certificate_oidc_issuer: signer.certificate_oidc_issuer.clone(),
        certificate_oidc_issuer_regexp: signer.certificate_oidc_issuer_regexp.clone(),
        key: signer.key.is_some(),
        openpgp: openpgp.names_somebody(),
        predicate_type: provenance.predicate_type.clone(),
        source_uri: provenance.source_uri.clone(),
        source_branch: provenance.source_branch.clone(),
        source_tag: provenance.source_tag.clone(),
        source_versioned_tag: provenance.source_versioned_tag.clone(),
        builder_id: provenance.builder_id.clone(),
        package_name: provenance.package_name.clone(),
        package_version: provenance.package_version.clone(),
        deny_self_hosted_runners: provenance.deny_self_hosted_runners,
        ..Expected::default()
    }
}

/// When an OpenPGP key must be valid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OpenpgpValidity {
    /// At the signature's own time
    #[default]
    AtSigning,
    /// At the time of this run
    Now,
}

/// Which trust root is believed, and how old it may be.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Trust root")]
pub(super) struct TrustArgs {
    /// A trusted_root.json; without it the embedded public-good root
    #[arg(long, value_name = "FILE")]
    pub(super) trusted_root: Option<PathBuf>,
    /// A trust root older than this is undecided
    #[arg(long, value_name = "DAYS")]
    pub(super) max_trust_root_age: Option<u32>,
    /// Open no socket at all
    #[arg(long)]
    pub(super) offline: bool,
}
