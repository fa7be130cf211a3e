//! Writes a [`Report`] in the form that was asked for.

use std::io::Write as _;

use super::{Context, Format};
use crate::release::decision::Report;

/// Prints the report to stdout in the run's format.
///
/// # Errors
/// Where stdout, the job summary or the step output cannot be written.
pub fn print(report: &Report, context: &Context) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match context.format {
        Format::Json | Format::Sarif | Format::Github => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        Format::Text => {
            writeln!(out, "{}", report.decision.name())?;
            for reason in &report.reasons {
                writeln!(out, "  {reason}")?;
            }
        }
    }
    Ok(())
}
