//! The baseline: signed snapshots of what was good, one a line, in and out.
//!
//! Invariant: a line is believed only under the key that the command line names. Who can write the file can then take
//! lines away, which is seen (`baseline-missing`), and not put any in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::super::{Context, UsageError, key, output};
use crate::release::artifact::{self, Artifact};
use crate::release::attest::bundle::{Author, Content};
use crate::release::attest::key::PrivateKey;
use crate::release::attest::statement;
use crate::release::evidence::bundle;
use crate::release::evidence::key::PublicKey;
use crate::release::reverify::{BASELINE_V1, Snapshot};
use crate::release::trust::root::TrustRoot;
use crate::release::verify::{Expectations, Offered, Verifier};
use crate::types::{Code, Reason, limits};

/// What it is compared with, and where that is written.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Baseline")]
pub(super) struct BaselineArgs {
    /// What was decided before; one signed snapshot a line
    #[arg(long, value_name = "FILE", requires = "baseline_key")]
    baseline: Option<PathBuf>,
    /// The public key that its lines are signed with
    #[arg(long, value_name = "PEM")]
    baseline_key: Option<PathBuf>,
    /// Write what is good by this run there: new and unchanged releases; a line with a finding stays as it was
    #[arg(long, value_name = "FILE", requires = "baseline_signing_key")]
    write_baseline: Option<PathBuf>,
    /// The managed private key that signs its lines; the password comes from DEBVISOR_KEY_PASSWORD
    #[arg(long, value_name = "FILE", requires = "write_baseline")]
    baseline_signing_key: Option<PathBuf>,
}

impl BaselineArgs {
    /// Whether there is anything to be compared with.
    pub(super) const fn is_asked(&self) -> bool {
        self.baseline.is_some() || self.write_baseline.is_some()
    }

    /// The snapshots of the baseline by their targets; reasons where it cannot be believed as a whole.
    ///
    /// # Errors
    /// A usage error where a file is not there.
    pub(super) fn read(&self) -> anyhow::Result<Result<BTreeMap<String, Snapshot>, Vec<Reason>>> {
        let (Some(path), Some(key)) = (&self.baseline, &self.baseline_key) else { return Ok(Ok(BTreeMap::new())) };
        // The first run of a watch writes the file that the next one reads.
        if self.write_baseline.as_ref() == Some(path) && !path.exists() {
            return Ok(Ok(BTreeMap::new()));
        }
        let unreadable = |path: &PathBuf, error: &dyn std::fmt::Display, hint: &str| {
            UsageError::new(format!("cannot use {}: {error}", path.display()), hint)
        };
        let pem = artifact::read_bounded(key, limits::KEY_BYTES)
            .map_err(|error| unreadable(key, &error, "see --baseline-key"))?;
        let key = PublicKey::from_pem(&pem).map_err(|reason| unreadable(key, &reason.message, "see --baseline-key"))?;
        let bytes = artifact::read_bounded(path, limits::EVIDENCE_BYTES)
            .map_err(|error| unreadable(path, &error, "see --baseline, or write one: --write-baseline"))?;
        let name = path.display().to_string();
        let invalid = |line: usize, reason: &Reason| {
            let message = format!("line {line} of the baseline cannot be believed: {}", reason.message);
            Reason::new(Code::BaselineInvalid, message).evidence(&name).location(format!("line {line}"))
        };
        let bundles = match bundle::parse_file(&bytes) {
            Ok(bundles) => bundles,
            Err(reason) => return Ok(Err(vec![invalid(1, &reason)])),
        };
        let root = TrustRoot::empty();
        let expectations =
            Expectations { key: Some(key), predicate_type: Some(BASELINE_V1.to_owned()), ..Expectations::default() };
        let verifier = Verifier::new(&root, &expectations, Timestamp::MAX);
        let mut snapshots = BTreeMap::new();
        let mut refused = Vec::new();
        for (line, bundle) in bundles {
            match believed(&verifier, &name, bundle) {
                Ok(snapshot) => {
                    let target = snapshot.target.clone();
                    if snapshots.insert(target.clone(), snapshot).is_some() {
                        let twice = Reason::new(Code::BaselineInvalid, format!("{target} is there twice"));
                        refused.push(invalid(line, &twice));
                    }
                }
                Err(reason) => refused.push(invalid(line, &reason)),
            }
        }
        Ok(if refused.is_empty() { Ok(snapshots) } else { Err(refused) })
    }

    /// What writes the baseline, where one is to be written; the key is read before anything is fetched.
    ///
    /// # Errors
    /// A usage error where the key or the place cannot be used.
    pub(super) fn recorder(&self, context: &Context) -> anyhow::Result<Option<Recorder>> {
        let (Some(target), Some(path)) = (&self.write_baseline, &self.baseline_signing_key) else { return Ok(None) };
        output::check(target)?;
        let private = key::read_private(path, context)?;
        let public = private.public().clone();
        Ok(Some(Recorder { target: target.clone(), private, public }))
    }
}

/// The subject of a baseline's statement: a release is named, and has no bytes of its own.
fn subject(target: &str) -> Artifact {
    Artifact::new(target, [crate::types::Digest::sha256(target.as_bytes())])
}

/// The snapshot of one line, once its signature holds.
fn believed(verifier: &Verifier<'_>, name: &str, bundle: bundle::Bundle) -> Result<Snapshot, Reason> {
    let none = || Reason::new(Code::BaselineInvalid, "it is no statement of a snapshot");
    let bundle::Content::Envelope(envelope) = &bundle.content else { return Err(none()) };
    let statement: serde_json::Value = crate::release::evidence::json::parse_value(&envelope.payload)?;
    let snapshot = Snapshot::from_predicate(statement.get("predicate").ok_or_else(none)?)?;
    let offered = Offered::new(name, bundle);
    let (_, reasons) = verifier.judge(&subject(&snapshot.target), &[&offered]);
    reasons.into_iter().next().map_or(Ok(snapshot), Err)
}

/// What writes a baseline.
pub(super) struct Recorder {
    target: PathBuf,
    private: PrivateKey,
    public: PublicKey,
}

impl Recorder {
    /// Signs and writes one line for each snapshot; the file is replaced as a whole.
    ///
    /// # Errors
    /// Where the key refuses or the file cannot be written.
    pub(super) fn write(&self, snapshots: BTreeMap<String, Snapshot>) -> anyhow::Result<()> {
        let mut lines = String::new();
        for (target, snapshot) in snapshots {
            let payload = statement::payload(&[&subject(&target)], BASELINE_V1, &snapshot.to_predicate());
            let signed = Content::Statement { payload }.sign(&self.private)?;
            lines.push_str(&signed.to_bundle(&Author::Key(self.public.clone()), &[], &[]).to_string());
            lines.push('\n');
        }
        output::write(&self.target, lines.as_bytes())
    }
}
