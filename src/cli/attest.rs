//! `debvisor attest FILE… --predicate FILE --type T`: one signed statement about any number of files.

use std::io::Write as _;
use std::path::PathBuf;

use super::sign::{beside, file_name};
use super::signing::{Signer, SignerArgs, open};
use super::{Context, Ended, UsageError, output};
use crate::release::artifact;
use crate::release::attest::statement;
use crate::release::evidence::json;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files that the statement is about
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The predicate, in JSON
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// The predicate's type: a URI, or one of cosign's names, as slsaprovenance1, cyclonedx, spdxjson, openvex, vuln
    #[arg(long = "type", value_name = "T")]
    predicate_type: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Where the bundle goes; without it FILE.att.sigstore.json, after the first file
    #[arg(long, value_name = "OUT")]
    bundle: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let predicate_type = statement::predicate_type(&args.predicate_type).ok_or_else(|| {
        let names: Vec<&str> = statement::type_names().collect();
        UsageError::new(
            format!("`{}` is no predicate type", args.predicate_type),
            format!("give a URI, or one of: {}", names.join(", ")),
        )
    })?;
    let predicate = artifact::read_bounded(&args.predicate, limits::EVIDENCE_BYTES).map_err(|error| {
        UsageError::new(
            format!("cannot read the predicate {}: {error}", args.predicate.display()),
            "check the path and its permissions",
        )
    })?;
    let predicate = json::parse_value(&predicate).map_err(|reason| {
        let place = reason.location.unwrap_or_default();
        UsageError::new(format!("{}: {place}: {}", args.predicate.display(), reason.message), "a predicate is JSON")
    })?;
    let no_file = || UsageError::new("no file was named", "name the files that the statement is about");
    let first_path = args.files.first().ok_or_else(no_file)?;
    let target = args.bundle.clone().unwrap_or_else(|| beside(first_path, ".att.sigstore.json"));
    // What is in a log stays there: that all can be read and the result be written is seen first.
    args.files.iter().try_for_each(|path| open(path).map(drop))?;
    output::check(&target)?;
    let signer = Signer::new(&args.signer, context)?;
    let subjects =
        args.files.iter().map(|path| signer.read(path, &file_name(path))).collect::<anyhow::Result<Vec<_>>>()?;
    let references: Vec<_> = subjects.iter().collect();
    let payload = statement::payload(&references, predicate_type, &predicate);
    let bundle = signer.attest(payload, subjects.first().ok_or_else(no_file)?, context)?;
    output::write(&target, bundle.to_string().as_bytes())?;
    if !context.quiet {
        writeln!(anstream::stderr().lock(), "wrote {}", target.display())?;
    }
    Ok(Ended::Done)
}
