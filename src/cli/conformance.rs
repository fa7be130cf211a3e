//! `sign-bundle` and `verify-bundle`: the command line that sigstore-conformance drives every client by.
//!
//! Source: sigstore-conformance, docs/cli_protocol.md. Both are thin: what they do is `sign`, `attest` and `verify`.

use std::path::PathBuf;

use clap::Parser as _;

use super::signing::{Signer, SignerArgs};
use super::{Cli, Command, Context, Ended, UsageError, output, sign, verify};
use crate::release::artifact::{self, Artifact};
use crate::release::evidence::statement::Statement;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// The file to sign
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the bundle goes
    #[arg(long, value_name = "OUT")]
    bundle: PathBuf,
    /// The file is an in-toto statement, to be signed in an envelope
    #[arg(long)]
    in_toto: bool,
    /// Sigstore's staging instance; --signing-config and --trusted-root say which
    #[arg(long, requires_all = ["signing_config", "trusted_root"])]
    staging: bool,
    #[command(flatten)]
    signer: SignerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// What `debvisor verify` takes
    #[arg(value_name = "ARG", num_args = 0.., allow_hyphen_values = true, trailing_var_arg = true)]
    arguments: Vec<String>,
}

pub(super) fn sign(args: &SignArgs, context: &Context) -> anyhow::Result<Ended> {
    output::check(&args.bundle)?;
    let signer = Signer::new(&args.signer, context)?;
    let bundle = if args.in_toto {
        let unusable = |message: String| {
            UsageError::new(format!("{}: {message}", args.file.display()), "an in-toto statement is JSON")
        };
        let payload =
            artifact::read_bounded(&args.file, limits::EVIDENCE_BYTES).map_err(|error| unusable(error.to_string()))?;
        let statement = Statement::parse(&payload).map_err(|reason| unusable(reason.message))?;
        let subject = statement.subjects.first().ok_or_else(|| unusable("it has no subject".to_owned()))?;
        let about = Artifact::new(subject.name.clone().unwrap_or_default(), subject.digests.clone());
        signer.attest(payload, &about, context)?
    } else {
        let artifact = signer.read(&args.file, &sign::file_name(&args.file))?;
        signer.sign(&artifact, context)?
    };
    output::write(&args.bundle, bundle.to_string().as_bytes())?;
    Ok(Ended::Done)
}

pub(super) fn verify(args: VerifyArgs, context: &Context) -> anyhow::Result<Ended> {
    // The staging instance is the one that --trusted-root names; no root of it is built in.
    let staging = args.arguments.iter().any(|word| word == "--staging");
    if staging && !args.arguments.iter().any(|word| word == "--trusted-root") {
        return Err(UsageError::new("no root of the staging instance is built in", "give its --trusted-root").into());
    }
    let arguments = args.arguments.into_iter().filter(|word| word != "--staging");
    let words = ["debvisor".to_owned(), "verify".to_owned()].into_iter().chain(arguments);
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Verify(args), .. }) => verify::run(&args, context),
        Ok(_) => Err(UsageError::new("verify-bundle takes what verify takes", "debvisor verify --help").into()),
        Err(error) => Err(UsageError::new(error.to_string(), "debvisor verify --help").into()),
    }
}
