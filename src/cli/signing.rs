//! How verbs that sign come to a signer: a managed key, or the user's gpg. Files in, verified bundles out.
//!
//! Invariant: a bundle is verified as a stranger would, with the public half alone, before a byte of it is written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Context, UsageError, key};
use crate::release::artifact::{self, Artifact, Hasher, Keep, Sink};
use crate::release::attest::bundle::{Author, Content, SignError};
use crate::release::attest::key::PrivateKey;
use crate::release::evidence::bundle::Bundle;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::{Expectations, Offered, Verifier};
use crate::types::{DigestAlgorithm, limits};

/// Who signs.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Who signs")]
pub(super) struct SignerArgs {
    /// A managed private key, of `debvisor key generate` or cosign; the password comes from DEBVISOR_KEY_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
}

/// Somebody who can sign bundles.
pub(super) struct Signer {
    key: PrivateKey,
}

impl Signer {
    /// The signer that the flags name.
    ///
    /// # Errors
    /// A usage error where none is named or the key cannot be used.
    pub(super) fn new(args: &SignerArgs, context: &Context) -> anyhow::Result<Self> {
        let path = args.key.as_deref().ok_or_else(|| {
            UsageError::new("nobody is named who signs", "give --key FILE; debvisor key generate makes one")
        })?;
        Ok(Self { key: key::read_private(path, context)? })
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
        artifact::open_regular(path)
            .and_then(|file| artifact::stream(file, &mut sinks))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut artifact = Artifact::new(name, hasher.finish());
        artifact.bytes = keep.and_then(Keep::finish);
        Ok(artifact)
    }

    /// A bundle with a signature over the artifact itself.
    ///
    /// # Errors
    /// Where the key cannot sign it, or what came out does not verify.
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
        let bundle = signed.to_bundle(&Author::Key(self.key.public().clone()), &[], &[]);
        self.check(&bundle, artifact, context)?;
        Ok(bundle)
    }

    /// Verifies what was made, as anybody with the public key would.
    fn check(&self, bundle: &Value, artifact: &Artifact, context: &Context) -> anyhow::Result<()> {
        let refused = |reason: crate::types::Reason| anyhow::anyhow!("what was signed does not verify: {reason}");
        let bundle = Bundle::parse(bundle.to_string().as_bytes()).map_err(refused)?;
        let expectations = Expectations { key: Some(self.key.public().clone()), ..Expectations::default() };
        let root = TrustRoot::empty();
        let verifier = Verifier::new(&root, &expectations, context.now);
        let (_, reasons) = verifier.judge(artifact, &[&Offered::new("the new bundle", bundle)]);
        reasons.into_iter().next().map_or(Ok(()), |reason| Err(refused(reason)))
    }
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
