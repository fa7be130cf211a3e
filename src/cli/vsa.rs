//! `--vsa-out`: a decision that is kept. The report in, signed SLSA verification summaries out, one a line and subject.
//! The key is read before anything is verified, so that a missing password does not cost a long run.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::{Context, UsageError, key, output};
use crate::release::artifact::Artifact;
use crate::release::attest::bundle::{Author, Content};
use crate::release::attest::key::PrivateKey;
use crate::release::attest::statement;
use crate::release::decision::Report;
use crate::release::decision::vsa::{self, Issuer, SUMMARY_V1};
use crate::release::evidence::key::PublicKey;
use crate::release::policy::input::Expected;
use crate::types::{Digest, DigestAlgorithm, duration};

/// Writing decisions down, and relying on those that were.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Verification summaries")]
pub(super) struct VsaArgs {
    /// Write the decision as a signed SLSA verification summary; JSON Lines, one for each subject
    #[arg(long, value_name = "FILE", requires = "vsa_key")]
    vsa_out: Option<PathBuf>,
    /// The managed private key that signs it
    #[arg(long, value_name = "FILE", requires = "vsa_out")]
    vsa_key: Option<PathBuf>,
    /// How long it may be relied on: 12h, 30d, 8w
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration::parse)]
    vsa_expires: SignedDuration,
    /// Who decides, as the summary names it
    #[arg(long, value_name = "URI", default_value = "https://debvisor.dev/verifier")]
    vsa_verifier_id: String,
    /// A summary among the evidence must be by this verifier; repeatable
    #[arg(long, value_name = "URI")]
    expect_verifier_id: Vec<String>,
    /// A summary among the evidence must have been made under the policy with this digest
    #[arg(long, value_name = "sha256:HEX")]
    expect_policy_digest: Option<Digest>,
}

impl VsaArgs {
    /// What the policy is told, with what is expected of summaries among the evidence.
    pub(super) fn expect(&self, expected: Expected) -> Expected {
        Expected {
            verifier_ids: self.expect_verifier_id.clone(),
            policy_digest: self.expect_policy_digest.as_ref().map(Digest::to_string),
            ..expected
        }
    }

    /// Reads the key, where a summary is to be written.
    ///
    /// # Errors
    /// A [`UsageError`] where the key cannot be used, or the summary would end out of all time.
    pub(super) fn writer(&self, context: &Context) -> anyhow::Result<Option<Writer>> {
        let (Some(target), Some(path)) = (&self.vsa_out, &self.vsa_key) else { return Ok(None) };
        let private = key::read_private(path, context)?;
        let public = PublicKey::from_spki(private.public_key_spki())
            .map_err(|reason| UsageError::new(reason.message, reason.hint.unwrap_or_default()))?;
        let expires_at = context
            .now
            .checked_add(self.vsa_expires)
            .map_err(|_| UsageError::new("--vsa-expires reaches beyond the calendar", "give a shorter time, as 30d"))?;
        let issuer = Issuer { verifier_id: self.vsa_verifier_id.clone(), expires_at };
        Ok(Some(Writer { target: target.clone(), private, public, issuer }))
    }
}

/// What writes the summaries once the report is there.
#[derive(Debug)]
pub(super) struct Writer {
    target: PathBuf,
    private: PrivateKey,
    public: PublicKey,
    issuer: Issuer,
}

impl Writer {
    /// Signs and writes one summary for each subject with a digest; a subject that could not be read has nothing that
    /// a summary could be about. The file is replaced as a whole, also by a "no": an older yes must not stay behind.
    ///
    /// # Errors
    /// Where the key refuses or the file cannot be written.
    pub(super) fn write(&self, report: &Report) -> anyhow::Result<()> {
        let mut lines = String::new();
        for subject in &report.subjects {
            let digests = subject
                .digest
                .iter()
                .filter_map(|(algorithm, hex)| Digest::from_hex(DigestAlgorithm::from_name(algorithm)?, hex).ok());
            let artifact = Artifact::new(&*subject.name, digests);
            if artifact.digest_set().is_empty() {
                continue;
            }
            let predicate = vsa::predicate(report, subject, &self.issuer);
            let payload = statement::payload(&[&artifact], SUMMARY_V1, &predicate);
            let signed = Content::Statement { payload }.sign(&self.private)?;
            lines.push_str(&signed.to_bundle(&Author::Key(self.public.clone()), &[], &[]).to_string());
            lines.push('\n');
        }
        output::write(&self.target, lines.as_bytes())
    }
}
