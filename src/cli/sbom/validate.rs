//! `debvisor sbom validate FILE`: whether a document is a sound one, and whether it says what it is asked to say.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::policy::load::Folders;
use super::super::{Context, Ended, progress, report};
use super::{Read, read, refused};
use crate::release::artifact::{self, Artifact, Hasher, Subject};
use crate::release::decision::{Decision, Report};
use crate::release::evidence::sbom::validate;
use crate::release::policy::PolicySet;
use crate::types::{Code, DigestAlgorithm, Reason};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A CycloneDX 1.2 to 1.7 or SPDX 2.x or 3.0 document in JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The document must have at least so many distinct components
    #[arg(long, value_name = "N")]
    min_components: Option<usize>,
    /// The document must describe this file, or sha256:HEX or sha512:HEX
    #[arg(long, value_name = "ARTIFACT")]
    describes: Option<String>,
    /// Warnings about the document are reasons against it
    #[arg(long)]
    strict: bool,
    /// What a policy says of the document: sbom, licenses, another name, or a Rego file or directory
    #[arg(long, value_name = "NAME|FILE")]
    policy: Option<String>,
    /// A folder whose NAME.rego, NAME.json or NAME/ comes before the user's and the built-in policies
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let read = match read(&args.file) {
        Ok(read) => read,
        Err(reason) => return refused(reason, context),
    };
    let sbom = &read.document.sbom;
    let mut reasons = read.document.findings.errors.clone();
    let mut warnings = read.document.findings.warnings.clone();
    if args.strict {
        reasons.append(&mut warnings);
    }
    let own = |reason: Reason| reason.evidence(&read.name).subject(&read.name);
    if let Some(wanted) = args.min_components {
        reasons.extend(validate::at_least(sbom, wanted).err().map(own));
    }
    if let Some(subject) = &args.describes {
        let bound = artifact(subject, context).and_then(|artifact| validate::describes(sbom, &artifact));
        reasons.extend(bound.err().map(own));
    }
    let mut policy = None;
    if let Some(name) = &args.policy {
        match self::policy(name, args.policy_dir.as_deref(), context) {
            Err(reason) => reasons.push(reason.subject(&read.name)),
            Ok(set) => {
                let verdicts = set.evaluate(&input(&read, context));
                reasons.extend(verdicts.denials.into_iter().map(|reason| reason.subject(&read.name)));
                warnings.extend(verdicts.warnings.into_iter().map(|reason| reason.subject(&read.name)));
                policy = Some(set.reference());
            }
        }
    }
    let subject = read.subject(Decision::from_reasons(&reasons), read.facts().into());
    let mut report = Report::new(vec![subject], reasons, context.now);
    report.warnings = warnings;
    report.policy = policy;
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// The policy by itself: who signed the document is not asked here.
pub(super) fn policy(name: &str, folder: Option<&Path>, context: &Context) -> Result<PolicySet, Reason> {
    Folders::new(folder, &context.environment).load_alone(name).map(|(_, set)| set)
}

/// What a policy sees of a document (docs/reference/sbom.md).
pub(super) fn input(read: &Read, context: &Context) -> serde_json::Value {
    use crate::release::evidence::sbom::licenses;
    let sbom = &read.document.sbom;
    json!({
        "subject": { "name": read.name, "digest": { "sha256": read.digest.to_hex() } },
        "sbom": sbom,
        "licenses": licenses::statements(sbom),
        "now": context.now,
    })
}

/// The artifact that a document must describe, hashed by every algorithm that binds.
fn artifact(subject: &str, context: &Context) -> Result<Artifact, Reason> {
    let path = match Subject::parse(subject) {
        Subject::Digest(digest) => return Ok(Artifact::new(subject, [digest])),
        Subject::Path(path) => path,
    };
    let unreadable =
        |error: std::io::Error| Reason::new(Code::SubjectUnreadable, format!("cannot read {subject}: {error}"));
    let file = artifact::open_regular(&path).map_err(unreadable)?;
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let mut hasher = Hasher::new(&[DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512]);
    let bar = progress::bytes(context, [length]);
    let streamed = artifact::stream(file, &mut [&mut hasher, &mut progress::Seen(&bar)]);
    bar.finish_and_clear();
    streamed.map_err(unreadable)?;
    Ok(Artifact::new(subject, hasher.finish()))
}
