//! The flags that say what is expected: who must have signed, what the provenance must say, which trust root counts.
//! `verify` and `gate` flatten the same ones, so that the two can never mean different things by one word.

use std::path::PathBuf;

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
    /// Public keys, armored or binary; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) openpgp_keyring: Vec<PathBuf>,
    /// A pinned primary key's whole fingerprint; repeatable
    #[arg(long, value_name = "FPR")]
    pub(super) openpgp_fingerprint: Vec<String>,
    /// How many of the pinned keys must have signed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) threshold: u32,
    /// When a signing key must have been valid
    #[arg(long, value_enum, default_value_t = OpenpgpValidity::AtSigning, value_name = "WHEN")]
    pub(super) openpgp_validity: OpenpgpValidity,
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
