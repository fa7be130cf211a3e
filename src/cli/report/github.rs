//! A report in; workflow commands on stdout, Markdown appended to the job summary, outputs appended for later steps.
//! What never happens: that a file's name is read as a command, as markup or as another output. Every outsider's word
//! is escaped for the reader it goes to, and plain lines carry none.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;

use super::visible::visible;
use super::{highlights, reference};
use crate::config::Environment;
use crate::release::decision::{Decision, Report};
use crate::types::{Outcome, Reason};

/// A summary of more than 1 MiB is refused whole by the runner; rows beyond this are counted, not shown.
const SUMMARY_BYTES: usize = 900 * 1024;
/// A step's outputs are cut off at 1 MiB; reasons beyond this are counted, not listed.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Writes one annotation a reason, then the decision.
pub(super) fn write_annotations(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for reason in &report.reasons {
        let command = match reason.outcome() {
            Outcome::Deny => "error",
            Outcome::Undecided => "warning",
        };
        write_annotation(command, reason, out)?;
    }
    for warning in &report.warnings {
        write_annotation("notice", warning, out)?;
    }
    writeln!(out, "decision: {} ({} subjects)", report.decision.name(), report.subjects.len())?;
    out.flush()
}

fn write_annotation(command: &str, reason: &Reason, out: &mut dyn Write) -> io::Result<()> {
    let file = reason.evidence.as_deref().or(reason.subject.as_deref());
    let file = file.map_or(String::new(), |file| format!("file={},", property(file)));
    let line = reason.location.as_deref().and_then(super::sarif::line_number).filter(|_| !file.is_empty());
    let line = line.map_or(String::new(), |line| format!("line={line},"));
    let mut message = reason.message.clone();
    if let Some(subject) = reason.subject.as_ref().filter(|subject| !message.contains(subject.as_str())) {
        message = format!("{subject}: {message}");
    }
    if let Some(location) = &reason.location {
        let _ = write!(message, " (at {location})");
    }
    let message = data(&message);
    let hint = reason.hint.as_ref().map_or(String::new(), |hint| format!("%0Ahint: {}", data(hint)));
    writeln!(out, "::{command} {file}{line}title={}::{message}{hint}", property(reason.code.as_str()))
}

/// Appends the summary and the outputs where the environment says; elsewhere than in a workflow it says nothing.
///
/// # Errors
/// Where the environment names a file that cannot be written.
pub(super) fn append(report: &Report, environment: &Environment) -> anyhow::Result<()> {
    if let Some(path) = &environment.github_step_summary {
        append_to(path, &summary(report)).with_context(|| format!("cannot write the summary {}", path.display()))?;
    }
    if let Some(path) = &environment.github_output {
        let text = outputs(report, &random_delimiter()?);
        append_to(path, &text).with_context(|| format!("cannot write the outputs {}", path.display()))?;
    }
    Ok(())
}

fn append_to(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

/// The job summary: the decision, a table of subjects, a table of reasons.
fn summary(report: &Report) -> String {
    let mut page = format!("### {} DebVisor: {}\n", symbol(report.decision), report.decision.name());
    if !report.subjects.is_empty() {
        let rows = report.subjects.iter().map(|subject| {
            let digest = subject.digest.iter().next().map(|(algorithm, hex)| format!("{algorithm}:{hex}"));
            format!(
                "| {} {} | {} | {} | {} |\n",
                symbol(subject.decision),
                subject.decision.name(),
                markdown(&subject.name),
                markdown(&digest.unwrap_or_default()),
                markdown(&highlights::signer(&subject.facts).unwrap_or_default()),
            )
        });
        push_table(
            &mut page,
            "| decision | subject | digest | signer |\n|---|---|---|---|\n",
            rows,
            SUMMARY_BYTES / 2,
            "subjects",
        );
    }
    if !report.reasons.is_empty() {
        let rows = report.reasons.iter().map(row);
        push_table(
            &mut page,
            "| reason | about | message | hint |\n|---|---|---|---|\n",
            rows,
            SUMMARY_BYTES,
            "reasons",
        );
    }
    if !report.warnings.is_empty() {
        let rows = report.warnings.iter().map(row);
        push_table(
            &mut page,
            "| warning | about | message | hint |\n|---|---|---|---|\n",
            rows,
            SUMMARY_BYTES,
            "warnings",
        );
    }
    if let Some(policy) = &report.policy {
        let _ = write!(page, "\nPolicy {} ({})", markdown(&policy.name), markdown(&policy.digest.to_string()));
    }
    let _ = write!(page, "\nDecided at {}\n\n", report.decided_at);
    page
}

fn row(reason: &Reason) -> String {
    let code = match reason.code.known() {
        Some(code) => format!("[{}]({})", code.name(), reference::address(code)),
        None => markdown(reason.code.as_str()),
    };
    let about: Vec<String> = [&reason.subject, &reason.evidence, &reason.location]
        .into_iter()
        .flatten()
        .map(|part| markdown(part))
        .collect();
    let hint = reason.hint.as_deref().map(markdown).unwrap_or_default();
    format!("| {code} | {} | {} | {hint} |\n", about.join("<br>"), markdown(&reason.message))
}

/// Adds a table's rows while the page stays below `limit_bytes`, and says how many were left out.
fn push_table(page: &mut String, head: &str, rows: impl Iterator<Item = String>, limit_bytes: usize, what: &str) {
    let _ = write!(page, "\n{head}");
    let mut left_out = 0_usize;
    for row in rows {
        if left_out == 0 && page.len().saturating_add(row.len()) <= limit_bytes {
            page.push_str(&row);
        } else {
            left_out = left_out.saturating_add(1);
        }
    }
    if left_out > 0 {
        let _ = writeln!(page, "\n… and {left_out} more {what}: `--format json` has them all.");
    }
}

/// `decision`, `codes` and `reasons` for later steps.
fn outputs(report: &Report, delimiter: &str) -> String {
    let mut codes: Vec<&str> = report.reasons.iter().map(|reason| reason.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let mut reasons = Vec::new();
    let mut length = 0_usize;
    for reason in &report.reasons {
        // A reason that cannot be written as JSON does not exist: its members are strings.
        let text = serde_json::to_string(reason).unwrap_or_default();
        length = length.saturating_add(text.len());
        if length > OUTPUT_BYTES {
            break;
        }
        reasons.push(text);
    }
    format!(
        "decision={}\nreason-count={}\ncodes={}\nreasons<<{delimiter}\n[{}]\n{delimiter}\n",
        report.decision.name(),
        report.reasons.len(),
        codes.join(","),
        reasons.join(",")
    )
}

/// A line that no outsider can guess and so none can close the value with.
fn random_delimiter() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("cannot get random bytes for the step's outputs"))?;
    Ok(format!("debvisor_{}", hex::encode(bytes)))
}

const fn symbol(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "✅",
        Decision::Deny => "❌",
        Decision::Undecided => "❔",
    }
}

/// Escapes a command's data as the runner unescapes it.
fn data(text: &str) -> String {
    visible(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a command's property, where `:` and `,` have a meaning too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text that Markdown and HTML show as it stands: all that could be markup becomes a character reference, which
/// CommonMark (section 2.5) never reads as structure. Dots and colons are among it, or addresses would become links.
pub(in crate::cli) fn markdown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().saturating_mul(2));
    for character in visible(text).chars() {
        if character.is_alphanumeric() || matches!(character, ' ' | '-' | '/' | ',') {
            shown.push(character);
        } else {
            let _ = write!(shown, "&#{};", u32::from(character));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{data, markdown, outputs, property, summary};
    use crate::release::decision::Report;
    use crate::types::{Code, Reason};

    fn report(reasons: Vec<Reason>) -> Report {
        Report::new(Vec::new(), reasons, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn data_and_properties_are_escaped_as_the_runner_reads_them() {
        assert_eq!(data("100%,a:b"), "100%25,a:b");
        assert_eq!(property("100%,a:b"), "100%25%2Ca%3Ab");
        assert_eq!(data("a\n::set-output name=x::y"), "a\\n::set-output name=x::y");
    }

    #[test]
    fn markup_in_a_name_is_shown_and_not_followed() {
        let hostile = "a|b](https://evil.example)<img src=x>`*_";
        let shown = markdown(hostile);
        assert!(!shown.contains(['|', '<', '>', '[', ']', '(', '`', '*', '_', ':', '.']), "{shown}");
    }

    #[test]
    fn an_output_cannot_be_closed_from_inside() {
        let reason = Reason::new(Code::FileUnlisted, "x\nEOF\ndecision=allow\n");
        let text = outputs(&report(vec![reason]), "debvisor_00");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"decision=deny"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("decision=")).count(), 1);
        assert_eq!(lines.iter().filter(|line| **line == "debvisor_00").count(), 1);
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn a_summary_stays_below_what_the_runner_takes() {
        let reasons =
            (0..5_000).map(|index| Reason::new(Code::FileUnlisted, format!("{index} {}", "<".repeat(200)))).collect();
        let page = summary(&report(reasons));
        assert!(page.len() < 1024 * 1024);
        assert!(page.contains("more reasons"));
    }
}
