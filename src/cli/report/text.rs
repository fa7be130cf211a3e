//! A report in, sentences and tables for people out. Undecided never looks like a no, nor either like a yes:
//! each has its own word, symbol and colour.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::highlights;
use super::visible::visible;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::types::{Outcome, Reason};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Rows of the table of subjects. Where there are more, the allowed ones are counted and only the others shown.
const TABLE_ROWS: usize = 40;
/// Columns below which the table is not wrapped into the terminal's width.
const NARROWEST: u16 = 60;

/// Writes the report, with colours; the caller's stream drops them where it is no terminal.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    match report.subjects.as_slice() {
        [subject] => write_single(report, subject, out)?,
        subjects => write_many(report, subjects, out)?,
    }
    for warning in &report.warnings {
        write_reason(warning, Mark::Warning, out)?;
    }
    out.flush()
}

fn write_single(report: &Report, subject: &SubjectReport, out: &mut dyn Write) -> io::Result<()> {
    write_decision(report.decision, &subject.name, out)?;
    for (algorithm, hex) in &subject.digest {
        write_line("digest", &format!("{algorithm}:{hex}"), out)?;
    }
    for (label, value) in highlights::lines(&subject.facts) {
        write_line(&label, &value, out)?;
    }
    write_basis(report, out)?;
    for reason in &report.reasons {
        write_reason(reason, Mark::from(reason), out)?;
    }
    Ok(())
}

fn write_many(report: &Report, subjects: &[SubjectReport], out: &mut dyn Write) -> io::Result<()> {
    if !subjects.is_empty() {
        write_table(subjects, out)?;
    }
    let mut by_subject: BTreeMap<Option<&str>, Vec<&Reason>> = BTreeMap::new();
    for reason in &report.reasons {
        by_subject.entry(reason.subject.as_deref()).or_default().push(reason);
    }
    for subject in subjects.iter().filter(|subject| subject.decision != Decision::Allow) {
        // A subject that only the whole run speaks against has its row in the table and its reasons below.
        let Some(reasons) = by_subject.remove(&Some(subject.name.as_str())) else { continue };
        write_decision(subject.decision, &subject.name, out)?;
        for reason in reasons {
            write_reason(reason, Mark::from(reason), out)?;
        }
    }
    // Reasons of the whole run come last, next to the decision that they make.
    if !by_subject.is_empty() {
        let decision = Decision::from_reasons(by_subject.values().flatten().copied());
        write_decision(decision, "the run as a whole", out)?;
    }
    for reason in by_subject.into_values().flatten() {
        write_reason(reason, Mark::from(reason), out)?;
    }
    write_decision(report.decision, &tally(subjects), out)?;
    write_basis(report, out)
}

fn write_table(subjects: &[SubjectReport], out: &mut dyn Write) -> io::Result<()> {
    let many = subjects.len() > TABLE_ROWS;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // Wrapping helps to read only where a column can be a few words wide; some terminals claim no width at all.
    if table.width().is_some_and(|columns| columns >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(["", "subject", "digest", "signer"]);
    let shown = subjects.iter().filter(|subject| !many || subject.decision != Decision::Allow).take(TABLE_ROWS);
    for subject in shown {
        let (symbol, colour) = match subject.decision {
            Decision::Allow => ("✔", Color::Green),
            Decision::Deny => ("✘", Color::Red),
            Decision::Undecided => ("?", Color::Yellow),
        };
        let digest = subject.digest.iter().next().map_or(String::new(), |(algorithm, hex)| {
            format!("{algorithm}:{}", hex.get(..12).map_or_else(|| hex.clone(), |start| format!("{start}…")))
        });
        let signer = highlights::signer(&subject.facts).unwrap_or_default();
        table.add_row([
            Cell::new(symbol).fg(colour),
            Cell::new(visible(&subject.name)),
            Cell::new(visible(&digest)),
            Cell::new(visible(&signer)),
        ]);
    }
    if table.row_count() > 0 {
        writeln!(out, "{}", table.trim_fmt())?;
        writeln!(out)?;
    }
    Ok(())
}

/// "5 subjects: 3 allowed, 1 refused, 1 undecided".
fn tally(subjects: &[SubjectReport]) -> String {
    let count = |decision| subjects.iter().filter(|subject| subject.decision == decision).count();
    let parts: Vec<String> =
        [(Decision::Allow, "allowed"), (Decision::Deny, "refused"), (Decision::Undecided, "undecided")]
            .into_iter()
            .map(|(decision, word)| (count(decision), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
    if parts.is_empty() {
        return "no subject".to_owned();
    }
    format!("{} subjects: {}", subjects.len(), parts.join(", "))
}

fn write_decision(decision: Decision, what: &str, out: &mut dyn Write) -> io::Result<()> {
    let mark = Mark::from(decision);
    let style = mark.style().bold();
    writeln!(out, "{style}{} {}{style:#}  {BOLD}{}{BOLD:#}", mark.symbol(), decision.name(), visible(what))
}

/// What the decision rests on: the policy and the trust root.
fn write_basis(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for image in &report.images {
        write_line("image", &image.reference, out)?;
        if !image.platforms.is_empty() {
            write_line("platforms", &image.platforms.join(", "), out)?;
        }
    }
    if let Some(policy) = &report.policy {
        write_line("policy", &format!("{} ({})", policy.name, policy.digest), out)?;
    }
    if let Some(root) = &report.trust_root {
        let age = match root.age_days {
            Some(1) => ", 1 day old".to_owned(),
            Some(days) => format!(", {days} days old"),
            None => String::new(),
        };
        write_line("trust root", &format!("{}{age}", root.digest), out)?;
    }
    Ok(())
}

fn write_line(label: &str, value: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "    {DIM}{label:<10}{DIM:#} {}", visible(value))
}

fn write_reason(reason: &Reason, mark: Mark, out: &mut dyn Write) -> io::Result<()> {
    let style = mark.style();
    writeln!(out, "  {style}{} {}{style:#}: {}", mark.symbol(), reason.code, visible(&reason.message))?;
    match (&reason.evidence, &reason.location) {
        (Some(evidence), Some(location)) => write_line("at", &format!("{evidence}:{location}"), out)?,
        (Some(only), None) | (None, Some(only)) => write_line("at", only, out)?,
        (None, None) => {}
    }
    match &reason.hint {
        Some(hint) => write_line("hint:", hint, out),
        None => Ok(()),
    }
}

/// How a line is marked.
#[derive(Clone, Copy)]
enum Mark {
    Yes,
    No,
    Open,
    Warning,
}

impl Mark {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Yes => "✔",
            Self::No => "✘",
            Self::Open => "?",
            Self::Warning => "!",
        }
    }

    const fn style(self) -> Style {
        let colour = match self {
            Self::Yes => AnsiColor::Green,
            Self::No => AnsiColor::Red,
            Self::Open => AnsiColor::Yellow,
            Self::Warning => AnsiColor::Magenta,
        };
        colour.on_default()
    }
}

impl From<Decision> for Mark {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Yes,
            Decision::Deny => Self::No,
            Decision::Undecided => Self::Open,
        }
    }
}

impl From<&Reason> for Mark {
    fn from(reason: &Reason) -> Self {
        match reason.outcome() {
            Outcome::Deny => Self::No,
            Outcome::Undecided => Self::Open,
        }
    }
}
