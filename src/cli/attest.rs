//! `debvisor attest FILE…|oci://REF… --predicate FILE --type T`: one signed statement about any number of files and
//! images, attached to each image.

use std::io::Write as _;
use std::path::PathBuf;

use super::registry::RegistryArgs;
use super::sign::{attach, beside, file_name, image_in, open_images};
use super::signing::{Signer, SignerArgs, open};
use super::{Context, Ended, UsageError, output};
use crate::release::artifact;
use crate::release::attest::statement;
use crate::release::evidence::json;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the statement is about: files, or images as oci://REGISTRY/REPOSITORY@sha256:HEX, to which it is attached
    #[arg(value_name = "FILE|oci://REF", required = true)]
    files: Vec<PathBuf>,
    /// The predicate, in JSON
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// The predicate's type: a URI, or one of cosign's names, as slsaprovenance1, cyclonedx, spdxjson, openvex, vuln
    #[arg(long = "type", value_name = "T")]
    predicate_type: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Where the bundle goes; without it FILE.att.sigstore.json, after the first file, or the registry
    #[arg(long, value_name = "OUT")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
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
    let (images, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
        args.files.iter().partition(|path| image_in(path.as_path()).is_some());
    // What is attached to images needs no file, unless there are files that it is about.
    let target = args.bundle.clone().or_else(|| files.first().map(|path| beside(path, ".att.sigstore.json")));
    // What is in a log stays there: that all can be read and the result be written is seen first.
    files.iter().try_for_each(|path| open(path).map(drop))?;
    target.as_deref().map_or(Ok(()), output::check)?;
    let images = open_images(&images, args.bundle.as_deref(), &args.registry, args.signer.trust.offline, context)?;
    let signer = Signer::new(&args.signer, context)?;
    let read = files.iter().map(|path| signer.read(path, &file_name(path)));
    let subjects = read.chain(images.iter().map(|image| Ok(image.subject()))).collect::<anyhow::Result<Vec<_>>>()?;
    let references: Vec<_> = subjects.iter().collect();
    let payload = statement::payload(&references, predicate_type, &predicate);
    let bundle = signer.attest(payload, subjects.first().ok_or_else(no_file)?, context)?.to_string().into_bytes();
    if let Some(target) = target {
        output::write(&target, &bundle)?;
        if !context.quiet {
            writeln!(anstream::stderr().lock(), "wrote {}", target.display())?;
        }
    }
    for image in images.iter().filter(|_| args.bundle.is_none()) {
        attach(image, &bundle, predicate_type, context)?;
    }
    Ok(Ended::Done)
}
