//! `debvisor sign FILE…|oci://REF…`: a signature beside each file, or attached to each image.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::registry::{self, RegistryArgs, Target};
use super::signing::{Signer, SignerArgs, gpg_sign, open};
use super::{Context, Ended, UsageError, output};
use crate::release::attest::statement;
use crate::release::evidence::statement::IMAGE_SIGNATURE;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files to sign, or images as oci://REGISTRY/REPOSITORY@sha256:HEX, to which the signature is attached
    #[arg(value_name = "FILE|oci://REF", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Sign with this OpenPGP key instead, through your own gpg and its agent; writes FILE.asc
    #[arg(long, value_name = "KEY", conflicts_with_all = [
        "key", "bundle", "identity_token", "signing_config", "fulcio_url", "rekor_url", "timestamp_server_url",
    ])]
    openpgp: Option<String>,
    /// Where the bundle goes; without it FILE.sigstore.json, or the registry
    #[arg(long, value_name = "OUT")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    if args.bundle.is_some() && args.files.len() > 1 {
        return Err(UsageError::new(
            "one --bundle cannot hold the signatures of several files",
            "leave it out: each file's bundle is written beside it",
        )
        .into());
    }
    let (images, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
        args.files.iter().partition(|path| image_in(path.as_path()).is_some());
    if args.openpgp.is_some() && !images.is_empty() {
        let hint = "leave --openpgp out: an image is signed by a managed key or a certificate";
        return Err(UsageError::new("no registry keeps an OpenPGP signature of an image", hint).into());
    }
    let target = |path: &Path| match (&args.openpgp, &args.bundle) {
        (Some(_), _) => beside(path, ".asc"),
        (None, Some(bundle)) => bundle.clone(),
        (None, None) => beside(path, ".sigstore.json"),
    };
    // What is in a log stays there: that all can be read and the results be written is seen first.
    files.iter().try_for_each(|path| open(path).and_then(|_| output::check(&target(path))))?;
    let images = open_images(&images, args.bundle.as_deref(), &args.registry, args.signer.trust.offline, context)?;
    // Everything is signed before anything is written: where one file cannot be signed, none is.
    let mut signed = Vec::with_capacity(files.len());
    let mut to_attach = Vec::with_capacity(images.len());
    if let Some(key) = &args.openpgp {
        for path in files {
            signed.push((target(path), gpg_sign(key, path)?));
        }
    } else {
        let signer = Signer::new(&args.signer, context)?;
        for path in files {
            let artifact = signer.read(path, &file_name(path))?;
            let bundle = signer.sign(&artifact, context)?;
            signed.push((target(path), bundle.to_string().into_bytes()));
        }
        for image in images {
            // The form in which cosign signs an image: a statement that says no more than that it is signed.
            let subject = image.subject();
            let payload = statement::payload(&[&subject], IMAGE_SIGNATURE, &serde_json::json!({}));
            let bundle = signer.attest(payload, &subject, context)?.to_string().into_bytes();
            match &args.bundle {
                Some(out) => signed.push((out.clone(), bundle)),
                None => to_attach.push((image, bundle)),
            }
        }
    }
    for (path, bytes) in signed {
        output::write(&path, &bytes)?;
        if !context.quiet {
            writeln!(anstream::stderr().lock(), "wrote {}", path.display())?;
        }
    }
    for (image, bundle) in to_attach {
        attach(&image, &bundle, IMAGE_SIGNATURE, context)?;
    }
    Ok(Ended::Done)
}

/// The subject's text, where it is an image.
pub(super) fn image_in(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| registry::reference_in(text).is_some())
}

/// Resolves every image, and sees that something can be attached to it, or be written to `out` instead.
pub(super) fn open_images(
    images: &[&PathBuf],
    out: Option<&Path>,
    args: &RegistryArgs,
    offline: bool,
    context: &Context,
) -> anyhow::Result<Vec<Target>> {
    let mut opened = Vec::with_capacity(images.len());
    for text in images.iter().filter_map(|path| image_in(path)) {
        let image = Target::open(text, args, offline, context)?;
        match out {
            Some(out) => output::check(out)?,
            None => image.check()?,
        }
        opened.push(image);
    }
    Ok(opened)
}

/// Attaches a bundle, and says to which digest.
pub(super) fn attach(image: &Target, bundle: &[u8], predicate_type: &str, context: &Context) -> anyhow::Result<()> {
    let holder = image.attach(bundle, Some(predicate_type))?;
    if !context.quiet {
        writeln!(anstream::stderr().lock(), "attached {holder} to {}", image.reference())?;
    }
    Ok(())
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
