//! How verbs that sign come to a signer: a managed key, a short-lived certificate for an identity token, or the
//! user's gpg. Files in, verified bundles out.
//!
//! Invariant: a bundle is verified as a stranger would before a byte of it is written, so that a log that is down, a
//! clock that is off or a token that is refused leaves nothing half made.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use aws_lc_rs::rand::SecureRandom as _;
use serde_json::Value;
use url::Url;

use super::expect::TrustArgs;
use super::sigstore::{self, UsableRoot};
use super::{Context, Failure, UsageError, key};
use crate::clients::answer::ServiceError;
use crate::clients::fulcio::Fulcio;
use crate::clients::oidc;
use crate::clients::rekor::Rekor;
use crate::clients::tsa::TimestampAuthority;
use crate::config::Secret;
use crate::release::artifact::{self, Artifact, Hasher, Keep, Sink};
use crate::release::attest::bundle::{Author, Content, SignError, Signed};
use crate::release::attest::key::PrivateKey;
use crate::release::attest::request;
use crate::release::attest::services::Services;
use crate::release::decision::Decision;
use crate::release::evidence::bundle::Bundle;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::{Expectations, Offered, Verifier};
use crate::types::{Digest, DigestAlgorithm, Reason, limits};

/// Who signs, and through which services.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Who signs")]
pub(super) struct SignerArgs {
    /// A managed private key, of `debvisor key generate` or cosign; the password comes from DEBVISOR_KEY_PASSWORD.
    /// Without it, a certificate is asked for with an identity token
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// An OIDC token for Sigstore, or a file that holds one; in GitHub Actions the job's own is asked for
    #[arg(long, value_name = "TOKEN|FILE", conflicts_with = "key")]
    pub(super) identity_token: Option<String>,
    /// Sigstore's services, as its clients are told of them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fulcio_url", "rekor_url", "timestamp_server_url"])]
    pub(super) signing_config: Option<PathBuf>,
    /// The certificate authority
    #[arg(long, value_name = "URL")]
    pub(super) fulcio_url: Option<Url>,
    /// The transparency log; with a managed key there is none without it
    #[arg(long, value_name = "URL")]
    pub(super) rekor_url: Option<Url>,
    /// The version of the log's interface
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(super) rekor_version: u32,
    /// The timestamp authority; repeatable
    #[arg(long, value_name = "URL")]
    pub(super) timestamp_server_url: Vec<Url>,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
}

/// Somebody who can sign bundles.
pub(super) struct Signer {
    key: PrivateKey,
    author: Author,
    services: Services,
    /// Under which a finished bundle is verified.
    root: TrustRoot,
    runtime: tokio::runtime::Runtime,
}

/// The audience that Fulcio expects of a token.
const AUDIENCE: &str = "sigstore";

impl Signer {
    /// The signer that the flags name. Keyless, this asks for the certificate.
    ///
    /// # Errors
    /// A usage error where nobody is named or a file cannot be used; otherwise what a service answered.
    pub(super) fn new(args: &SignerArgs, context: &Context) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let services = services(args, context)?;
        let goes_out = args.key.is_none() || !services.logs.is_empty() || !services.timestamp_authorities.is_empty();
        if goes_out && args.trust.offline {
            return Err(UsageError::new(
                "this way of signing asks services on the network, and --offline forbids it",
                "sign with --key alone, or leave --offline out",
            )
            .into());
        }
        let root = if goes_out {
            let usable = sigstore::installed_bundle(context)
                .and_then(|installed| UsableRoot::select(&args.trust, installed.as_ref(), context));
            usable.map_err(|reason| anyhow::anyhow!("{}", reason.message).context("cannot use the trust root"))?.root
        } else {
            TrustRoot::empty()
        };
        let (key, author) = match &args.key {
            Some(path) => {
                let key = key::read_private(path, context)?;
                let author = Author::Key(key.public().clone());
                (key, author)
            }
            None => runtime.block_on(certified(args, &services, context))?,
        };
        Ok(Self { key, author, services, root, runtime })
    }

    /// Reads an artifact once, through everything that this signer needs of it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn read(&self, path: &Path, name: &str) -> anyhow::Result<Artifact> {
        let mut algorithms = vec![DigestAlgorithm::Sha256];
        algorithms.extend(self.key.public().digest().filter(|digest| *digest != DigestAlgorithm::Sha256));
        let mut hasher = Hasher::new(&algorithms);
        let mut keep = self.key.public().signs_whole_messages().then(|| Keep::new(limits::WHOLE_ARTIFACT_BYTES));
        let mut sinks: Vec<&mut dyn Sink> = vec![&mut hasher];
        if let Some(keep) = &mut keep {
            sinks.push(keep);
        }
        artifact::open_regular(path).and_then(|file| artifact::stream(file, &mut sinks)).map_err(|error| {
            UsageError::new(format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
        })?;
        let mut artifact = Artifact::new(name, hasher.finish());
        artifact.bytes = keep.and_then(Keep::finish);
        Ok(artifact)
    }

    /// A bundle with a signature over the artifact itself.
    ///
    /// # Errors
    /// Where the key cannot sign it, a service does not answer, or what came out does not verify.
    pub(super) fn sign(&self, artifact: &Artifact, context: &Context) -> anyhow::Result<Value> {
        self.bundle(Content::artifact(artifact, self.key.public())?, artifact, context)
    }

    /// A bundle with a statement in an envelope; `about` is one of its subjects.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub(super) fn attest(&self, payload: Vec<u8>, about: &Artifact, context: &Context) -> anyhow::Result<Value> {
        self.bundle(Content::Statement { payload }, about, context)
    }

    fn bundle(&self, content: Content, artifact: &Artifact, context: &Context) -> anyhow::Result<Value> {
        let signed = content.sign(&self.key).map_err(|error: SignError| anyhow::anyhow!(error))?;
        let (entries, timestamps) = self.runtime.block_on(self.witnessed(&signed))?;
        let bundle = signed.to_bundle(&self.author, &entries, &timestamps);
        self.check(&bundle, artifact, context)?;
        Ok(bundle)
    }

    /// Has the signature timestamped, then logged: a log of the second version is believed at a timestamp's time.
    async fn witnessed(&self, signed: &Signed) -> anyhow::Result<(Vec<Value>, Vec<Vec<u8>>)> {
        let mut timestamps = Vec::new();
        for url in &self.services.timestamp_authorities {
            let mut nonce = [0; 8];
            aws_lc_rs::rand::SystemRandom::new().fill(&mut nonce).map_err(|_| anyhow::anyhow!("no randomness"))?;
            // A DER integer is signed: the top bit would add a byte, and a leading zero would be none of ours.
            let [first, ..] = &mut nonce;
            *first = (*first & 0x7f) | 0x40;
            let authority = TimestampAuthority::new(url.clone())?;
            timestamps.push(authority.timestamp(&Digest::sha256(signed.signature()), nonce).await.map_err(told)?);
        }
        let mut entries = Vec::new();
        for (url, version) in &self.services.logs {
            let log = Rekor::new(url.clone())?;
            let entry = match version {
                1 => log.add_v1(&request::entry_v1(signed, &self.author)?).await,
                _ => log.add_v2(&request::entry_v2(signed, &self.author, self.key.kind())?).await,
            };
            entries.push(entry.map_err(told)?);
        }
        Ok((entries, timestamps))
    }

    /// Verifies what was made, as anybody would who has the trust root, or the public key.
    fn check(&self, bundle: &Value, artifact: &Artifact, context: &Context) -> anyhow::Result<()> {
        let refused = |reason: Reason| {
            let message = format!("what was signed does not verify, and was not written: {reason}");
            Failure::new(Decision::Deny, message, "the trust root must be the one of the services: --trusted-root")
        };
        let bundle = Bundle::parse(bundle.to_string().as_bytes()).map_err(refused)?;
        let key = match &self.author {
            Author::Key(key) => Some(key.clone()),
            Author::Certificate(_) => None,
        };
        let expectations = Expectations { key, ..Expectations::default() };
        let verifier = Verifier::new(&self.root, &expectations, context.now_again());
        let (_, reasons) = verifier.judge(artifact, &[&Offered::new("the new bundle", bundle)]);
        reasons.into_iter().next().map_or(Ok(()), |reason| Err(refused(reason).into()))
    }
}

/// A service's answer, with what a user can do about it.
fn told(error: ServiceError) -> anyhow::Error {
    let (decision, hint) = match &error {
        ServiceError::Unreachable { .. } => {
            (Decision::Undecided, "is the service up, and this machine online? Nothing was written")
        }
        ServiceError::Refused { status, .. } if status.is_client_error() => (
            Decision::Deny,
            "the token may have expired or be for another audience; ask for a new one. Nothing was written",
        ),
        ServiceError::Refused { .. } => (Decision::Undecided, "try again later; nothing was written"),
        ServiceError::Malformed { .. } => (Decision::Undecided, "check the service's address; nothing was written"),
    };
    anyhow::Error::new(error).context(Failure::new(decision, "signing failed", hint))
}

/// The services that the flags name. A managed key goes through none that is not named.
fn services(args: &SignerArgs, context: &Context) -> anyhow::Result<Services> {
    if let Some(path) = &args.signing_config {
        let unusable = |message: String| {
            UsageError::new(
                format!("cannot use the signing configuration {}: {message}", path.display()),
                "fetch it again from the instance's TUF repository",
            )
        };
        let bytes =
            artifact::read_bounded(path, limits::TRUST_ROOT_BYTES).map_err(|error| unusable(error.to_string()))?;
        return Ok(Services::from_config(&bytes, context.now).map_err(|reason| unusable(reason.message))?);
    }
    let mut services = if args.key.is_some() { Services::default() } else { Services::public_good() };
    if args.key.is_none() && (args.fulcio_url.is_some() || !args.timestamp_server_url.is_empty()) {
        // Half of one instance and half of another would make bundles that neither root verifies.
        services = Services::default();
    }
    services.authority = args.fulcio_url.clone().or(services.authority);
    if let Some(url) = &args.rekor_url {
        services.logs = vec![(url.clone(), args.rekor_version)];
    }
    if !args.timestamp_server_url.is_empty() {
        services.timestamp_authorities = args.timestamp_server_url.clone();
    }
    Ok(services)
}

/// A key for one run and a certificate that binds it to the token's identity.
async fn certified(args: &SignerArgs, services: &Services, context: &Context) -> anyhow::Result<(PrivateKey, Author)> {
    let authority = services
        .authority
        .clone()
        .ok_or_else(|| UsageError::new("no certificate authority is named", "give --fulcio-url or --signing-config"))?;
    let token = token(args, context).await?;
    let key = PrivateKey::ephemeral()?;
    let request = request::certificate_request(&key)?;
    let chain = Fulcio::new(authority.clone())?.certificate(token.reveal(), &request).await.map_err(told)?;
    let leaf = chain.first().ok_or_else(|| anyhow::anyhow!("{authority} gave an empty chain"))?;
    let (label, der) = pem_rfc7468::decode_vec(leaf.trim_ascii().as_bytes())
        .map_err(|error| anyhow::anyhow!("{authority} gave no certificate in PEM: {error}"))?;
    if label != "CERTIFICATE" {
        bail!("{authority} gave a {label} and no certificate");
    }
    Ok((key, Author::Certificate(der)))
}

/// The identity token: the flag's, the environment's, or the one that the GitHub Actions job may ask for.
async fn token(args: &SignerArgs, context: &Context) -> anyhow::Result<Secret> {
    if let Some(given) = &args.identity_token {
        // A token has two dots and no slash in front; whatever is there as a file is one.
        let path = Path::new(given);
        if path.is_file() {
            let bytes = artifact::read_bounded(path, limits::KEY_BYTES)
                .with_context(|| format!("cannot read the token {}", path.display()))?;
            let text = String::from_utf8(bytes).map_err(|_| UsageError::new("the token is no text", "give a JWT"))?;
            return Ok(Secret::new(text.trim().to_owned()));
        }
        return Ok(Secret::new(given.clone()));
    }
    if let Some(token) = &context.environment.identity_token {
        return Ok(token.clone());
    }
    let job = context.environment.github_actions.as_ref();
    if let Some((url, secret)) = job.and_then(|job| Some((job.token_url.as_ref()?, job.token_secret.as_ref()?))) {
        let url: Url = url.parse().context("ACTIONS_ID_TOKEN_REQUEST_URL is no address")?;
        return Ok(Secret::new(oidc::github_token(url, secret.reveal(), AUDIENCE).await.map_err(told)?));
    }
    Err(UsageError::new(
        "nobody is named who signs",
        "give --key FILE or --identity-token; in GitHub Actions, grant the job `id-token: write`",
    )
    .into())
}

/// A detached, armored OpenPGP signature by the user's own gpg: its agent, its cards, its passphrase prompts.
///
/// # Errors
/// Where gpg is not there, has no such key, or fails.
pub(super) fn gpg_sign(key: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    // The terminal stays gpg's, so that it and its agent ask as the user is used to.
    let output = Command::new("gpg")
        .args(["--quiet", "--yes", "--armor", "--digest-algo", "SHA512", "--local-user", key])
        .args(["--output", "-", "--detach-sign", "--"])
        .arg(path)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(UsageError::new("gpg is not installed", "install gnupg, or sign with --key").into());
        }
        Err(error) => return Err(error).context("cannot run gpg"),
    };
    if !output.status.success() {
        bail!("gpg could not sign {} with the key {key} ({})", path.display(), output.status);
    }
    Ok(output.stdout)
}
