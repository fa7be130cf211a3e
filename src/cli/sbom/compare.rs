//! `debvisor sbom compare A B`: whether two documents about one artifact, of either format, say the same.

use std::path::PathBuf;

use serde_json::json;

use super::super::{Context, Ended, report};
use super::{read, refused};
use crate::release::decision::{Decision, Report};
use crate::release::evidence::sbom::compare;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A CycloneDX or SPDX document
    #[arg(value_name = "A")]
    first: PathBuf,
    /// Another about the same artifact
    #[arg(value_name = "B")]
    second: PathBuf,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let (first, second) = match (read(&args.first), read(&args.second)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(reason), _) | (_, Err(reason)) => return refused(reason, context),
    };
    let comparison = compare::compare(&first.document.sbom, &second.document.sbom);
    // A document with faults of its own says nothing that could be agreed with.
    let mut reasons = comparison.reasons.clone();
    let mut warnings = comparison.warnings.clone();
    for reason in &mut reasons {
        reason.evidence = Some(second.name.clone());
    }
    for document in [&first, &second] {
        reasons.extend(document.document.findings.errors.iter().cloned());
        warnings.extend(document.document.findings.warnings.iter().cloned());
    }
    let decision = Decision::from_reasons(&reasons);
    let subjects = [&first, &second].map(|document| {
        let mut facts = document.facts();
        facts.insert("comparison".to_owned(), json!(comparison));
        document.subject(decision, facts.into())
    });
    let mut report = Report::new(subjects.into(), reasons, context.now);
    report.warnings = warnings;
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}
