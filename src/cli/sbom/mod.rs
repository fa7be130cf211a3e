//! `debvisor sbom …`: bills of materials. Each verb has a file of its own; what they share is how a document is read.

use std::path::Path;

use super::{Context, Ended};
use crate::release::collect::files;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::sbom::{self, Document};
use crate::types::{Code, Digest, Reason, limits};

mod compare;
mod diff;
mod generate;
mod licenses;
mod score;
mod validate;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the bill of materials of a source tree, a binary, a file system or an image
    Generate(Box<generate::Args>),
    /// Check one document: schema, references, hashes, duplicates, depth
    Validate(validate::Args),
    /// Prove that two documents, of either format, say the same
    Compare(compare::Args),
    /// Say what was added, removed and changed
    Diff(diff::Args),
    /// Say how good a document is, part by part
    Score(score::Args),
    /// List the licences and put them to a policy
    Licenses(licenses::Args),
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    match args.command {
        Command::Generate(args) => generate::run(&args, context),
        Command::Validate(args) => validate::run(&args, context),
        Command::Compare(args) => compare::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Score(args) => score::run(&args, context),
        Command::Licenses(args) => licenses::run(&args, context),
    }
}

/// A document with its name and digest, for the report.
struct Read {
    name: String,
    digest: Digest,
    document: Document,
}

/// Reads one document; every finding then names the file.
fn read(path: &Path) -> Result<Read, Reason> {
    let name = path.display().to_string();
    let bytes = files::read_evidence(path, limits::EVIDENCE_BYTES).map_err(|reason| reason.subject(&name))?;
    let mut document = sbom::read(&bytes).map_err(|reason| reason.evidence(&name).subject(&name))?;
    let findings = &mut document.findings;
    for reason in findings.errors.iter_mut().chain(&mut findings.warnings) {
        *reason = std::mem::replace(reason, Reason::new(Code::InternalError, "")).evidence(&name).subject(&name);
    }
    let digest = Digest::sha256(&bytes);
    Ok(Read { name, digest, document })
}

impl Read {
    /// The document as a subject of the report.
    fn subject(&self, decision: Decision, facts: serde_json::Value) -> SubjectReport {
        let digest = [(self.digest.algorithm().name().to_owned(), self.digest.to_hex())].into();
        SubjectReport { name: self.name.clone(), digest, decision, facts }
    }

    /// What every verb says of a document.
    fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        let sbom = &self.document.sbom;
        let described: Vec<String> = sbom.described.iter().map(sbom::model::Component::label).collect();
        let facts = serde_json::json!({
            "format": sbom.format.as_ref().map(ToString::to_string),
            "describes": described.join(", "),
            "components": sbom::validate::distinct(sbom),
            "entries": sbom.components.len(),
            "made_at": sbom.metadata.timestamp.map(|at| at.to_string()),
            "findings_left_out": Some(self.document.findings.left_out()).filter(|count| *count > 0),
        });
        match facts {
            serde_json::Value::Object(facts) => facts,
            _ => serde_json::Map::new(),
        }
    }
}

/// A report of a run that could not begin.
fn refused(reason: Reason, context: &Context) -> anyhow::Result<Ended> {
    let report = Report::new(Vec::new(), vec![reason], context.now);
    super::report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}
