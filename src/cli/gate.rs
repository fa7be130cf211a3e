//! `debvisor gate DIR`: a whole release in one run. A directory in, one report out that names every refused file.

use std::path::PathBuf;

use super::expect::{OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::{Context, Ended, UsageError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The release's directory (docs/reference/release-layout.md)
    #[arg(value_name = "DIR")]
    target: String,
    /// Further evidence: a Sigstore bundle, or JSON Lines of them; repeatable
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    provenance: ProvenanceArgs,
    #[command(flatten)]
    openpgp: OpenpgpArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// The policy: release, the name of another built-in one, or a Rego file or directory
    #[arg(long, value_name = "NAME|FILE", default_value = "release")]
    policy: String,
    /// What must be there besides checksums: signature, sbom, provenance, vex
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    require: Vec<Requirement>,
}

/// What a release may be asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Requirement {
    /// A verified signature over every artifact, or over the list that names it
    Signature,
    /// An SBOM of every artifact
    Sbom,
    /// SLSA provenance of every artifact
    Provenance,
    /// A VEX document
    Vex,
}

pub(super) fn run(_args: Args, _context: &Context) -> anyhow::Result<Ended> {
    Err(UsageError::new("not built yet", "wait").into())
}
