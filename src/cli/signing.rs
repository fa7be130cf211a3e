//! How verbs that sign come to a signer: a managed key, a short-lived certificate for an identity token, or the
//! user's gpg. Files in, verified bundles out.
//!
//! Invariant: a bundle is verified as a stranger would before a byte of it is written, so that a log that is down, a
//! clock that is off or a token that is refused leaves nothing half made.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::rand::SecureRandom as _;
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::expect::TrustArgs;
use super::report::visible::visible;
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
use crate::release::attest::request::{self, RequestError};
use crate::release::attest::services::Services;
use crate::release::decision::Decision;
use crate::release::evidence::bundle::Bundle;
use crate::release::evidence::certificate::Certificate;
use crate::release::evidence::timestamp::SignedTimestamp;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::{Expectations, Offered, Pattern, Verifier};
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
    /// How long one exchange with a service may take [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: Option<u64>,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
}

/// Somebody who can sign bundles.
pub(super) struct Signer {
    key: PrivateKey,
    author: Author,
    services: Services,
    /// How long one exchange with a service may take.
    timeout: Duration,
    /// Under which a finished bundle is verified.
    root: TrustRoot,
    runtime: tokio::runtime::Runtime,
}

/// The audience that Fulcio expects of a token.
const AUDIENCE: &str = "sigstore";

impl SignerArgs {
    fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_millis(limits::SERVICE_EXCHANGE_MS), Duration::from_secs)
    }
}

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
            let unusable = |reason: Reason| {
                let message = format!("cannot use the trust root: {}", visible(&reason.message));
                Failure::new(Decision::from_reasons([&reason]), message, "give the services' own with --trusted-root")
            };
            usable.map_err(unusable)?.root
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
        Ok(Self { key, author, services, timeout: args.timeout(), root, runtime })
    }

    /// Whom a stranger must expect to accept what this signer signs: the key, or the certificate's identity together
    /// with its issuer.
    ///
    /// # Errors
    /// Where the certificate names nobody.
    pub(super) fn expected(&self) -> anyhow::Result<Expectations> {
        let der = match &self.author {
            Author::Key(key) => return Ok(Expectations { key: Some(key.clone()), ..Expectations::default() }),
            Author::Certificate(der) => der,
        };
        let nobody = || Failure::new(Decision::Deny, "the certificate names nobody", "ask for another token");
        let certificate = Certificate::parse(der).map_err(|_| nobody())?;
        let identity = certificate.identities.into_iter().next().ok_or_else(nobody)?;
        // The newer claim is the one that is a plain text; verification sees that the two agree.
        let claim = |name| certificate.claims.get(name).cloned();
        let issuer = claim("issuer").or_else(|| claim("issuer_v1")).ok_or_else(nobody)?;
        Ok(Expectations {
            identity: Some(Pattern::Exact(identity)),
            issuer: Some(Pattern::Exact(issuer)),
            ..Expectations::default()
        })
    }

    /// The trust root under which what was signed is verified; an empty one where a key alone decides.
    pub(super) const fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// Which digest of an artifact is signed, and whether its bytes are needed besides.
    pub(super) fn needs(&self) -> (DigestAlgorithm, bool) {
        let key = self.key.public();
        (key.digest().unwrap_or(DigestAlgorithm::Sha256), key.signs_whole_messages())
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
        artifact::stream(open(path)?, &mut sinks).map_err(|error| unreadable(path, &error))?;
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
            let authority = TimestampAuthority::new(url.clone(), self.timeout)?;
            let answer = authority.timestamp(&Digest::sha256(signed.signature()), nonce).await.map_err(told)?;
            let refused = |what: &str| {
                let message = format!("signing failed: the timestamp authority {url}: {what}");
                Failure::new(Decision::Deny, message, "ask another authority; nothing was written")
            };
            // What is in a log stays there: a timestamp that is no answer is seen before anything is logged.
            let timestamp = SignedTimestamp::parse(&answer).map_err(|reason| refused(&visible(&reason.message)))?;
            if timestamp.nonce.as_deref() != Some(nonce.as_slice()) || !timestamp.covers(signed.signature()) {
                return Err(refused("it answered another question than ours").into());
            }
            timestamps.push(answer);
        }
        let mut entries = Vec::new();
        for (url, version) in &self.services.logs {
            let log = Rekor::new(url.clone(), self.timeout)?;
            let unfit = |error: RequestError| {
                UsageError::new(format!("the log {url}: {error}"), "sign with another key, or without this log")
            };
            let entry = match version {
                1 => log.add_v1(&request::entry_v1(signed, &self.author).map_err(unfit)?).await,
                _ => log.add_v2(&request::entry_v2(signed, &self.author, self.key.kind()).map_err(unfit)?).await,
            };
            entries.push(entry.map_err(told)?);
        }
        Ok((entries, timestamps))
    }

    /// Verifies what was made, as anybody would who has the trust root, or the public key.
    fn check(&self, bundle: &Value, artifact: &Artifact, context: &Context) -> anyhow::Result<()> {
        let refused = |reason: Reason| {
            let message =
                format!("what was signed does not verify, and was not written: {}", visible(&reason.to_string()));
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

/// Opens a file that is to be signed.
///
/// # Errors
/// A usage error where it cannot be opened, or is no regular file.
pub(super) fn open(path: &Path) -> anyhow::Result<std::fs::File> {
    artifact::open_regular(path).map_err(|error| unreadable(path, &error).into())
}

fn unreadable(path: &Path, error: &std::io::Error) -> UsageError {
    UsageError::new(format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
}

/// What a log or a timestamp authority answered, with what a user can do about it.
fn told(error: ServiceError) -> anyhow::Error {
    explained(error, "the service refuses what was signed, or who asks")
}

/// The same of a service that was sent a token, where a refusal is mostly the token's.
fn told_of_token(error: ServiceError) -> anyhow::Error {
    explained(error, "the token may have expired, or be for another audience or issuer; ask for a new one")
}

fn explained(error: ServiceError, refused: &str) -> anyhow::Error {
    let (decision, hint) = match &error {
        ServiceError::Insecure { .. } => {
            return UsageError::new(error.to_string(), "give an https:// address").into();
        }
        ServiceError::Unreachable { .. } => {
            (Decision::Undecided, "is the service up, and this machine online? --timeout SECONDS waits longer")
        }
        ServiceError::Refused { status, .. } if is_no(*status) => (Decision::Deny, refused),
        ServiceError::Refused { status, .. }
            if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS =>
        {
            (Decision::Undecided, "try again later")
        }
        ServiceError::Refused { .. } | ServiceError::Malformed { .. } => {
            (Decision::Undecided, "check the service's address")
        }
    };
    anyhow::Error::new(error).context(Failure::new(decision, "signing failed", format!("{hint}; nothing was written")))
}

/// Whether a status is an answer to what was asked, and not to who asked too often or at the wrong place.
fn is_no(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::CONFLICT
            | StatusCode::UNPROCESSABLE_ENTITY
    )
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
        let services = Services::from_config(&bytes, context.now).map_err(|reason| unusable(reason.message))?;
        return timed(services, args);
    }
    let names_some = args.fulcio_url.is_some() || args.rekor_url.is_some() || !args.timestamp_server_url.is_empty();
    if args.key.is_none() && !names_some {
        return Ok(Services::public_good());
    }
    // Half of one instance and half of another would make bundles that neither root verifies.
    let services = Services {
        authority: args.fulcio_url.clone(),
        logs: args.rekor_url.iter().map(|url| (url.clone(), args.rekor_version)).collect(),
        timestamp_authorities: args.timestamp_server_url.clone(),
    };
    timed(services, args)
}

/// Refuses services of which none says when something was signed: a certificate is good for minutes, and a log of the
/// second version tells no time.
fn timed(services: Services, args: &SignerArgs) -> anyhow::Result<Services> {
    let tells_time = services.logs.iter().any(|(_, version)| *version == 1);
    let needs_time = args.key.is_none() || !services.logs.is_empty();
    if needs_time && !tells_time && services.timestamp_authorities.is_empty() {
        let hint = "name a timestamp authority with --timestamp-server-url, or a log of version 1 with --rekor-url";
        return Err(UsageError::new("none of the named services says when it was signed", hint).into());
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
    let chain = Fulcio::new(authority.clone(), args.timeout())?
        .certificate(token.reveal(), &request)
        .await
        .map_err(told_of_token)?;
    let malformed = |what: &str| {
        let message = format!("signing failed: the certificate authority {authority} gave {what}");
        Failure::new(Decision::Undecided, message, "check the service's address; nothing was written")
    };
    let leaf = chain.first().ok_or_else(|| malformed("an empty chain"))?;
    let (label, der) = pem_rfc7468::decode_vec(leaf.trim_ascii().as_bytes()).map_err(|_| malformed("no PEM"))?;
    if label != "CERTIFICATE" {
        return Err(malformed("something else than a certificate").into());
    }
    let certificate = Certificate::parse(&der).map_err(|reason| malformed(&visible(&reason.message)))?;
    // Nothing goes into a public log under a certificate that is not ours.
    if certificate.key.spki() != key.public_key_spki() {
        let message = format!("signing failed: the certificate authority {authority} certified another key than ours");
        return Err(Failure::new(Decision::Deny, message, "do not trust this authority; nothing was written").into());
    }
    Ok((key, Author::Certificate(der)))
}

/// The identity token: the flag's, the environment's, or the one that the GitHub Actions job may ask for.
async fn token(args: &SignerArgs, context: &Context) -> anyhow::Result<Secret> {
    if let Some(given) = &args.identity_token {
        return given_token(given);
    }
    ambient_token(context, args.timeout()).await?.ok_or_else(|| {
        UsageError::new(
            "nobody is named who signs",
            "give --key FILE or --identity-token; in GitHub Actions, grant the job `id-token: write`",
        )
        .into()
    })
}

/// A token on the command line, or in the file that it names.
fn given_token(given: &str) -> anyhow::Result<Secret> {
    let path = Path::new(given);
    let text = if path.is_file() {
        let cannot =
            |why: String| UsageError::new(format!("cannot read the token {}: {why}", path.display()), "give a JWT");
        let bytes = artifact::read_bounded(path, limits::KEY_BYTES).map_err(|error| cannot(error.to_string()))?;
        Zeroizing::new(String::from_utf8(bytes).map_err(|_| cannot("it is no text".to_owned()))?)
    } else {
        Zeroizing::new(given.to_owned())
    };
    // What is no token is said here: sent on, a mistyped file name would come back as the authority's riddle.
    let is_base64 = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let token = text.trim();
    if token.split('.').count() != 3 || !token.split('.').all(is_base64) {
        // A token may be in it; so it is not repeated.
        let hint = "give a JWT, or the path of a file that holds one and nothing else";
        return Err(UsageError::new("what --identity-token gives is neither a file nor a token", hint).into());
    }
    Ok(Secret::new(token.to_owned()))
}

/// The token that the environment has, or that the GitHub Actions job may ask for; none where there is no such thing.
///
/// # Errors
/// Where the job may ask and gets none.
pub(super) async fn ambient_token(context: &Context, timeout: Duration) -> anyhow::Result<Option<Secret>> {
    if let Some(token) = &context.environment.identity_token {
        return Ok(Some(token.clone()));
    }
    let job = context.environment.github_actions.as_ref();
    let Some((url, secret)) = job.and_then(|job| Some((job.token_url.as_ref()?, job.token_secret.as_ref()?))) else {
        return Ok(None);
    };
    let url: Url = url.parse().map_err(|_| {
        UsageError::new("ACTIONS_ID_TOKEN_REQUEST_URL is no address", "it is set by GitHub Actions; leave it alone")
    })?;
    let refused = |error| explained(error, "the job may ask for no token: grant it `id-token: write`");
    let token = oidc::github_token(url, secret.reveal(), AUDIENCE, timeout).await.map_err(refused)?;
    Ok(Some(Secret::new(token)))
}

/// The public half of an OpenPGP key of the user's, as gpg exports it.
///
/// # Errors
/// A usage error where gpg is not there or knows no such key.
pub(super) fn gpg_export(key: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("gpg").args(["--batch", "--quiet", "--export", "--", key]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => Ok(output.stdout),
        Ok(_) => {
            let hint = "gpg --list-secret-keys shows the keys that can sign";
            Err(UsageError::new(format!("gpg knows no key {key}"), hint).into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(UsageError::new("gpg is not installed", "install gnupg, or sign with --key").into())
        }
        Err(error) => Err(error).context("cannot run gpg"),
    }
}

/// A detached, armored OpenPGP signature by the user's own gpg: its agent, its cards, its passphrase prompts.
///
/// # Errors
/// A usage error where gpg is not there; undecided where it has no such key, or does not sign.
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
    if !output.status.success() || output.stdout.is_empty() {
        // What was wrong stands above it, in gpg's own words.
        let message = format!("gpg did not sign {} with the key {key} ({})", path.display(), output.status);
        let hint = "gpg --list-secret-keys shows the keys that can sign; nothing was written";
        return Err(Failure::new(Decision::Undecided, message, hint).into());
    }
    Ok(output.stdout)
}
