//! A [`Report`] in, bytes on stdout out, in the form that was asked for: text for people, JSON for programs,
//! SARIF for code scanning, GitHub's commands, summary and outputs for a workflow's step.
//! What never happens here: a decision. Nor does any outsider's text reach a terminal, a runner or a page unescaped.

use std::io::{self, Write};

use super::{Context, Format};
use crate::release::decision::Report;

pub(in crate::cli) mod github;
mod highlights;
pub mod reference;
pub(in crate::cli) mod sarif;
mod text;
pub(in crate::cli) mod visible;

/// Prints the report to stdout in the run's format.
///
/// A reader that closes the pipe early has seen enough: the decision and the exit code stand.
///
/// # Errors
/// Where stdout, the job summary or the step output cannot be written.
pub fn print(report: &Report, context: &Context) -> anyhow::Result<()> {
    let written = match context.format {
        // Only text has colours; the stream drops them where nobody would see them.
        Format::Text => text::write(report, &mut anstream::stdout().lock()),
        format => write(report, format, &mut io::stdout().lock()),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if context.format == Format::Github {
        github::append(report, &context.environment)?;
    }
    Ok(())
}

/// Writes the report as `format` to any stream; text comes with its colours.
///
/// # Errors
/// Where the stream cannot be written.
pub fn write(report: &Report, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text::write(report, out),
        Format::Json => write_json(report, out),
        Format::Sarif => write_json(&sarif::document(report), out),
        Format::Github => github::write_annotations(report, out),
    }
}

fn write_json(value: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    out.flush()
}
