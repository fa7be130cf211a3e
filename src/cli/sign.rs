//! `debvisor sign FILE…`: a signature beside each file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::signing::{Signer, SignerArgs, gpg_sign, open};
use super::{Context, Ended, UsageError, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files to sign
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Sign with this OpenPGP key instead, through your own gpg and its agent; writes FILE.asc
    #[arg(long, value_name = "KEY", conflicts_with_all = [
        "key", "bundle", "identity_token", "signing_config", "fulcio_url", "rekor_url", "timestamp_server_url",
    ])]
    openpgp: Option<String>,
    /// Where the bundle goes; FILE.sigstore.json without it
    #[arg(long, value_name = "OUT")]
    bundle: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    if args.bundle.is_some() && args.files.len() > 1 {
        return Err(UsageError::new(
            "one --bundle cannot hold the signatures of several files",
            "leave it out: each file's bundle is written beside it",
        )
        .into());
    }
    let target = |path: &PathBuf| match (&args.openpgp, &args.bundle) {
        (Some(_), _) => beside(path, ".asc"),
        (None, Some(bundle)) => bundle.clone(),
        (None, None) => beside(path, ".sigstore.json"),
    };
    // What is in a log stays there: that all can be read and the results be written is seen first.
    args.files.iter().try_for_each(|path| open(path).and_then(|_| output::check(&target(path))))?;
    // Everything is signed before anything is written: where one file cannot be signed, none is.
    let mut signed = Vec::with_capacity(args.files.len());
    if let Some(key) = &args.openpgp {
        for path in &args.files {
            signed.push((target(path), gpg_sign(key, path)?));
        }
    } else {
        let signer = Signer::new(&args.signer, context)?;
        for path in &args.files {
            let artifact = signer.read(path, &file_name(path))?;
            let bundle = signer.sign(&artifact, context)?;
            signed.push((target(path), bundle.to_string().into_bytes()));
        }
    }
    for (path, bytes) in signed {
        output::write(&path, &bytes)?;
        if !context.quiet {
            writeln!(anstream::stderr().lock(), "wrote {}", path.display())?;
        }
    }
    Ok(Ended::Done)
}

/// The path with a suffix behind the whole name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How statements and reports call a file: by its name, without the way to it.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
