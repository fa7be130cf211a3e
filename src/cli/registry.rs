//! What verbs do alike with `oci://REF`: flags into a connection, a reference into a digest, what is attached to it into
//! what is offered. A tag is resolved once, at the beginning; everything after that is about the digest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use super::report::visible::visible;
use super::{Context, Failure, UsageError};
use crate::clients::registry::credentials::{self, Credentials};
use crate::clients::registry::{Options, Reference, Repository};
use crate::release::artifact::{self, Artifact};
use crate::release::attest::attach::{self, AttachError, Subject};
use crate::release::collect::image::{self, Image};
use crate::release::decision::{Decision, ImageReference};
use crate::release::evidence::document::Document;
use crate::release::gate::image::AttachedDocument;
use crate::release::verify::Offered;
use crate::types::{Code, Digest, Reason, limits};

/// How registries are reached.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct RegistryArgs {
    /// The user's name at the registry; without it, what docker login has stored
    #[arg(long, value_name = "NAME", requires = "registry_password")]
    pub(super) registry_username: Option<String>,
    /// The password or access token that goes with it
    #[arg(long, value_name = "PASSWORD", requires = "registry_username")]
    pub(super) registry_password: Option<String>,
    /// Authorities to believe besides the system's, in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) registry_cacert: Option<PathBuf>,
    /// Speak plain HTTP to a registry that knows no TLS; on this very machine that needs no flag
    #[arg(long)]
    pub(super) allow_http_registry: bool,
    /// Check no certificate of the registry, and speak plain HTTP to it too; for tests alone
    #[arg(long)]
    pub(super) allow_insecure_registry: bool,
}

/// Where a subject is an image in a registry.
const SCHEME: &str = "oci://";

/// The reference in a subject's text, where it is one of an image.
pub(super) fn reference_in(text: &str) -> Option<&str> {
    text.strip_prefix(SCHEME)
}

/// An image with everything that is attached to it, read.
pub(super) struct Found {
    pub(super) artifact: Artifact,
    pub(super) reference: ImageReference,
    pub(super) offered: Vec<Offered>,
    pub(super) documents: Vec<AttachedDocument>,
    pub(super) reasons: Vec<Reason>,
}

/// Finds an image and what is attached to it.
///
/// # Errors
/// A usage error for what is no reference, or under `--offline`. What the registry said is an answer, in the inner one.
pub(super) fn find(
    subject: &str,
    args: &RegistryArgs,
    offline: bool,
    context: &Context,
) -> anyhow::Result<Result<Found, Reason>> {
    let runtime = runtime()?;
    let reference = reference(subject, offline)?;
    let options = args.options()?;
    let found = runtime.block_on(async {
        let repository = connect(&reference, args, options, context).await?;
        let image = image::resolve(&repository, &reference, &named(subject, None)).await?;
        let evidence = image::evidence(&repository, &image.digest).await;
        Ok((image, evidence))
    });
    Ok(found.map(|(image, evidence)| Found::new(subject, image, evidence)))
}

/// Fetches an image for one platform into an OCI image layout at `dir`.
///
/// # Errors
/// As [`find`].
pub(super) fn pull(
    subject: &str,
    platform: &str,
    args: &RegistryArgs,
    dir: &Path,
    context: &Context,
) -> anyhow::Result<Result<(), Reason>> {
    let runtime = runtime()?;
    let reference = reference(subject, false)?;
    let options = args.options()?;
    Ok(runtime.block_on(async {
        let repository = connect(&reference, args, options, context).await?;
        let image = image::resolve(&repository, &reference, &named(subject, None)).await?;
        image::pull(&repository, &image, platform, dir).await.map(drop)
    }))
}

impl Found {
    fn new(subject: &str, image: Image, evidence: image::Evidence) -> Self {
        let mut reasons = evidence.reasons;
        let offered = Offered::all_attached(&evidence.attached, &mut reasons);
        let mut documents = Vec::new();
        for document in evidence.documents {
            let signatures = Offered::all_attached(&document.signatures, &mut reasons);
            match Document::attached(&document.attached) {
                Ok(read) => documents.push(AttachedDocument {
                    file: Artifact::from_bytes(&document.attached.name, &document.attached.bytes),
                    document: read,
                    holder: document.holder,
                    offered: signatures,
                }),
                Err(reason) => reasons.push(reason),
            }
        }
        let name = named(subject, Some(&image.digest));
        let reference = ImageReference {
            subject: name.clone(),
            reference: image.reference,
            media_type: image.manifest.media_type.clone(),
            platforms: image.manifest.platforms(),
        };
        let mut artifact = image.artifact;
        artifact.name = name;
        Self { artifact, reference, offered, documents, reasons }
    }
}

/// A subject's name in reports: what the user gave, and the digest that it was resolved to.
fn named(subject: &str, digest: Option<&Digest>) -> String {
    match digest {
        Some(digest) if !subject.contains('@') => format!("{subject}@{digest}"),
        _ => subject.to_owned(),
    }
}

fn reference(subject: &str, offline: bool) -> anyhow::Result<Reference> {
    if offline {
        return Err(UsageError::new(
            format!("{subject} is in a registry, and --offline forbids to ask it"),
            "leave --offline out, or give the image's digest as sha256:HEX with --bundle",
        )
        .into());
    }
    let text = reference_in(subject).unwrap_or(subject);
    let no_reference = |why: String| {
        UsageError::new(format!("`{subject}` names no image: {why}"), "oci://REGISTRY/REPOSITORY@sha256:HEX")
    };
    let reference: Reference = text.parse().map_err(|error| no_reference(format!("{error}")))?;
    // Docker would take it for an image of its own hub; whoever writes oci:// means what they write.
    if !text
        .split('/')
        .next()
        .is_some_and(|host| text.contains('/') && (host.contains(['.', ':']) || host == "localhost"))
    {
        return Err(no_reference("it has no registry".to_owned()).into());
    }
    Ok(reference)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

async fn connect(
    reference: &Reference,
    args: &RegistryArgs,
    options: Options,
    context: &Context,
) -> Result<Repository, Reason> {
    let given = match (&args.registry_username, &args.registry_password) {
        (Some(username), Some(password)) => Some(Credentials::new(username, password)),
        _ => stored(reference, context).await?,
    };
    let options = Options { credentials: given, ..options };
    Repository::connect(reference, options).await.map_err(|error| image::reason(&error))
}

async fn stored(reference: &Reference, context: &Context) -> Result<Option<Credentials>, Reason> {
    let Some(dir) = &context.environment.docker_config else { return Ok(None) };
    credentials::stored(dir, reference.registry()).await.map_err(|error| {
        Reason::new(Code::RegistryRefused, error.to_string()).hint("log in again with docker login, or mend the file")
    })
}

impl RegistryArgs {
    fn options(&self) -> Result<Options, UsageError> {
        let authorities = self.registry_cacert.as_deref().map(read_authorities).transpose()?.unwrap_or_default();
        Ok(Options {
            allow_http: self.allow_http_registry || self.allow_insecure_registry,
            allow_insecure: self.allow_insecure_registry,
            authorities,
            credentials: None,
            timeout: Duration::from_millis(limits::REGISTRY_EXCHANGE_MS),
        })
    }
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, UsageError> {
    let cannot = |why: String| {
        UsageError::new(format!("cannot use the authorities {}: {why}", path.display()), "give certificates in PEM")
    };
    let bytes = artifact::read_bounded(path, limits::TRUST_ROOT_BYTES).map_err(|error| cannot(error.to_string()))?;
    if !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(cannot("it is no PEM".to_owned()));
    }
    Ok(bytes)
}

/// Images that something is to be attached to.
pub(super) struct Target {
    runtime: Runtime,
    repository: Repository,
    image: Image,
}

impl Target {
    /// Resolves an image, and sees that its repository takes what we have.
    ///
    /// # Errors
    /// A usage error for what is no reference; otherwise what the registry said.
    pub(super) fn open(subject: &str, args: &RegistryArgs, offline: bool, context: &Context) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let reference = reference(subject, offline)?;
        let options = args.options()?;
        let opened = runtime.block_on(async {
            let repository = connect(&reference, args, options, context).await?;
            let image = image::resolve(&repository, &reference, repository.name()).await?;
            Ok::<_, Reason>((repository, image))
        });
        let (repository, image) = opened.map_err(|reason| failure(subject, &reason))?;
        Ok(Self { runtime, repository, image })
    }

    /// Sees that the repository takes anything, before something is signed that cannot be unsigned.
    ///
    /// # Errors
    /// What the registry said.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let outcome = self.runtime.block_on(attach::check(&self.repository));
        Ok(outcome.map_err(|error| failure(&self.image.reference, &image::reason(&error)))?)
    }

    /// Registry, repository and digest.
    pub(super) fn reference(&self) -> &str {
        &self.image.reference
    }

    /// What a statement is about: the repository, and the digest that names the image.
    pub(super) fn subject(&self) -> Artifact {
        Artifact::new(self.repository.name(), [self.image.digest.clone()])
    }

    /// Attaches a bundle to the image; returns what holds it.
    ///
    /// # Errors
    /// What the registry said.
    pub(super) fn attach(&self, bundle: &[u8], predicate_type: Option<&str>) -> anyhow::Result<String> {
        let manifest = self.image.artifact.bytes.as_deref().unwrap_or_default();
        let media_type = &self.image.manifest.media_type;
        let subject = Subject { media_type, digest: &self.image.digest, bytes: manifest.len() };
        let attached = self.runtime.block_on(attach::attach(&self.repository, &subject, bundle, predicate_type));
        let digest = attached.map_err(|error| {
            let reason = match &error {
                AttachError::Registry(error) => image::reason(error),
                AttachError::Occupied { .. } => Reason::new(Code::ImageMalformed, error.to_string()),
                AttachError::Contended { .. } => Reason::new(Code::RegistryUnreachable, error.to_string()),
            };
            failure(&self.image.reference, &reason)
        })?;
        Ok(self.repository.what(&digest.to_string()))
    }
}

/// What a registry said to a verb that is no question.
fn failure(subject: &str, reason: &Reason) -> Failure {
    let message = format!("cannot use {subject}: {}", visible(&reason.to_string()));
    let hint = reason.hint.clone().unwrap_or_default();
    Failure::new(Decision::from_reasons([reason]), message, format!("{hint}; nothing was attached"))
}
