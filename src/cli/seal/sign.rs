//! Who signs a release: artifacts, statements and the list in; evidence of them out, the old where it still holds.
//!
//! Nothing that holds is signed again: sealing twice gives the same release, and no log grows for nothing.

use std::num::NonZeroUsize;
use std::path::Path;

use super::super::gate::Sealers;
use super::super::signing::{Signer, gpg_export, gpg_sign};
use super::super::{Context, UsageError};
use super::Args;
use crate::release::artifact::{self, Artifact};
use crate::release::attest::statement;
use crate::release::evidence::bundle::{Bundle, Content};
use crate::release::evidence::openpgp::{ArtifactHasher, DetachedSignatures, Keyring};
use crate::release::trust::root::TrustRoot;
use crate::release::verify::openpgp::{self, OpenpgpExpectations, SignatureFile, Validity};
use crate::release::verify::{Expectations, Offered, Verifier};
use crate::types::{DigestAlgorithm, Reason};

/// Everybody who signs the release.
pub(super) struct Signers {
    sigstore: Option<(Signer, Expectations)>,
    openpgp: Option<OpenpgpSigner>,
    /// For a release that OpenPGP alone signs.
    no_root: TrustRoot,
}

struct OpenpgpSigner {
    /// What gpg calls the key.
    key: String,
    keyring: Keyring,
    expected: OpenpgpExpectations,
}

impl Signers {
    /// Whether anything but an OpenPGP key signs.
    pub(super) const fn by_sigstore(args: &Args) -> bool {
        args.openpgp.is_none() || args.signer.key.is_some() || args.signer.identity_token.is_some()
    }

    /// Whether the certificate of a keyless signer, which is good for minutes, has to be asked for.
    pub(super) const fn is_keyless(args: &Args) -> bool {
        Self::by_sigstore(args) && args.signer.key.is_none()
    }

    /// The signers that the flags name.
    ///
    /// # Errors
    /// As [`Signer::new`], and where gpg does not know the key.
    pub(super) fn new(args: &Args, context: &Context) -> anyhow::Result<Self> {
        let openpgp = args.openpgp.as_ref().map(|key| OpenpgpSigner::new(key, context)).transpose()?;
        let sigstore = if Self::by_sigstore(args) {
            let signer = Signer::new(&args.signer, context)?;
            let expected = signer.expected()?;
            Some((signer, expected))
        } else {
            None
        };
        Ok(Self { sigstore, openpgp, no_root: TrustRoot::empty() })
    }

    /// By which digest the artifacts are signed.
    pub(super) fn algorithm(&self) -> Option<DigestAlgorithm> {
        self.sigstore.as_ref().map(|(signer, _)| signer.needs().0)
    }

    /// The suffixes of the evidence that these signers make of every artifact.
    pub(super) fn evidence(&self) -> Vec<&'static str> {
        let sigstore = self.sigstore.iter().flat_map(|_| [super::SIGSTORE, super::ATTESTATIONS]);
        sigstore.chain(self.openpgp.iter().map(|_| super::OPENPGP)).collect()
    }

    /// The suffixes of the signatures that these signers make of the list.
    pub(super) fn over_list(&self) -> Vec<&'static str> {
        self.evidence().into_iter().filter(|suffix| *suffix != super::ATTESTATIONS).collect()
    }

    /// The evidence of this suffix about the file at `path`. `old` is what the release has under that name, if anything.
    ///
    /// # Errors
    /// Where somebody does not sign.
    pub(super) fn make(
        &self,
        suffix: &str,
        path: &Path,
        about: &Artifact,
        predicates: &[(&'static str, serde_json::Value)],
        old: Option<&[u8]>,
        context: &Context,
    ) -> anyhow::Result<Vec<u8>> {
        if suffix == super::OPENPGP
            && let Some(signer) = &self.openpgp
        {
            return signer.make(path, old);
        }
        let Some((signer, expected)) = &self.sigstore else { return Ok(Vec::new()) };
        let verifier = Verifier::new(signer.root(), expected, context.now_again());
        let holds = |bundle: &Bundle, about: &Artifact| {
            let offered = Offered::new("old", bundle.clone());
            let (facts, reasons) = verifier.judge(about, &[&offered]);
            reasons.is_empty() && !facts.signatures().is_empty()
        };
        if suffix == super::ATTESTATIONS {
            let mut lines = Vec::new();
            for (predicate_type, predicate) in predicates {
                let payload = statement::payload(&[about], predicate_type, predicate);
                let says_it = |line: &&[u8]| {
                    Bundle::parse(line).is_ok_and(|bundle| match &bundle.content {
                        Content::Envelope(envelope) => envelope.payload == payload && holds(&bundle, about),
                        Content::Message { .. } => false,
                    })
                };
                let kept = old.unwrap_or_default().split(|byte| *byte == b'\n').find(says_it).map(<[u8]>::to_vec);
                lines.extend(match kept {
                    Some(line) => line,
                    None => signer.attest(payload.clone(), about, context)?.to_string().into_bytes(),
                });
                lines.push(b'\n');
            }
            return Ok(lines);
        }
        // A key that signs whole messages needs the artifact's bytes, also for judging what it signed before.
        let with_bytes;
        let about = if signer.needs().1 && about.bytes.is_none() {
            with_bytes = signer.read(path, &about.name)?;
            &with_bytes
        } else {
            about
        };
        match old {
            Some(old) if Bundle::parse(old).is_ok_and(|bundle| holds(&bundle, about)) => Ok(old.to_vec()),
            _ => Ok(signer.sign(about, context)?.to_string().into_bytes()),
        }
    }

    /// Whom a stranger would have to expect, from now on.
    pub(super) fn sealers(&mut self, context: &Context) -> Sealers<'_> {
        if let Some(signer) = &mut self.openpgp {
            signer.expected.now = context.now_again();
        }
        let mut require = vec!["signature", "sbom", "vex"];
        require.extend(self.sigstore.as_ref().map(|_| "provenance"));
        Sealers {
            root: self.sigstore.as_ref().map_or(&self.no_root, |(signer, _)| signer.root()),
            sigstore: self.sigstore.as_ref().map(|(_, expected)| expected),
            openpgp: self.openpgp.as_ref().map(|signer| (&signer.keyring, &signer.expected)),
            require: require.into_iter().map(str::to_owned).collect(),
        }
    }
}

impl OpenpgpSigner {
    fn new(key: &str, context: &Context) -> anyhow::Result<Self> {
        let unusable = |reason: Reason| {
            UsageError::new(format!("cannot use the OpenPGP key {key}: {}", reason.message), "name another key")
        };
        let keyring = Keyring::parse(&gpg_export(key)?).map_err(unusable)?;
        let expected = OpenpgpExpectations {
            pins: keyring.fingerprints().collect(),
            threshold: NonZeroUsize::MIN,
            validity: Validity::AtSigning,
            now: context.now_again(),
        };
        Ok(Self { key: key.to_owned(), keyring, expected })
    }

    fn make(&self, path: &Path, old: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
        match old {
            Some(old) if self.holds(path, old) => Ok(old.to_vec()),
            _ => gpg_sign(&self.key, path),
        }
    }

    fn holds(&self, path: &Path, old: &[u8]) -> bool {
        let Ok(signatures) = DetachedSignatures::parse(old) else { return false };
        let mut hasher = ArtifactHasher::new([&signatures]);
        let streamed = artifact::open_regular(path).and_then(|file| artifact::stream(file, &mut [&mut hasher]));
        let file = SignatureFile { evidence: "old", signatures: &signatures };
        streamed.is_ok() && openpgp::judge(&[file], Some(&hasher.finish()), &self.keyring, &self.expected).1.is_empty()
    }
}
