//! `debvisor sarif from-pylint | from-clippy FILE`: what a linter wrote for programs in, SARIF 2.1.0 out, for linters
//! that do not write it themselves. Nothing is judged: the exit code says only whether the file could be read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::report::sarif::{SCHEMA, literal, uri};
use super::{Context, Ended, output, report};
use crate::release::collect::files::read_evidence;
use crate::release::decision::Report;
use crate::release::evidence::json;
use crate::types::{Code, Digest, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Of pylint: what --output-format=json or json2 wrote
    FromPylint(FromArgs),
    /// Of clippy, or of the compiler: what cargo's --message-format=json wrote
    FromClippy(FromArgs),
}

#[derive(Debug, clap::Args)]
struct FromArgs {
    /// What the linter wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the SARIF goes; stdout without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let (args, converted) = match &args.command {
        Command::FromPylint(args) => (args, read(&args.file, pylint)),
        Command::FromClippy(args) => (args, read(&args.file, clippy)),
    };
    match converted {
        Ok(log) => {
            let mut bytes = serde_json::to_vec_pretty(&log)?;
            bytes.push(b'\n');
            output::write_or_print(args.output.as_deref(), &bytes)?;
            Ok(Ended::Done)
        }
        Err(reason) => {
            let report = Report::new(Vec::new(), vec![reason], context.now);
            report::print(&report, context)?;
            Ok(Ended::Decided(report.decision))
        }
    }
}

fn read(path: &Path, convert: fn(&[u8]) -> Result<Value, Reason>) -> Result<Value, Reason> {
    let name = path.display().to_string();
    read_evidence(path, limits::EVIDENCE_BYTES)
        .and_then(|bytes| convert(&bytes))
        .map_err(|reason| reason.evidence(name))
}

/// One finding of a linter. Lines and columns count from 1; without a place it is about the whole file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    lines: Option<(u64, Option<u64>)>,
    columns: Option<(u64, Option<u64>)>,
    rule: String,
    level: &'static str,
    message: String,
    help: Option<String>,
}

/// A message of pylint; `message-id` in its first form, `messageId` in its second.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PylintMessage {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    symbol: String,
    message: String,
    #[serde(alias = "message-id")]
    message_id: String,
    line: u64,
    column: u64,
    end_line: Option<u64>,
    end_column: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Pylint {
    First(Vec<PylintMessage>),
    Second { messages: Vec<PylintMessage> },
}

fn pylint(bytes: &[u8]) -> Result<Value, Reason> {
    let (Pylint::First(messages) | Pylint::Second { messages }) = json::parse(bytes, Code::MalformedJson)?;
    let findings = messages.into_iter().map(|message| Finding {
        level: match message.kind.as_str() {
            "fatal" | "error" => "error",
            "warning" => "warning",
            _ => "note",
        },
        help: Some(format!(
            "https://pylint.readthedocs.io/en/stable/user_guide/messages/{}/{}.html",
            message.kind, message.symbol
        )),
        file: message.path,
        // A message about a module has line 0 or 1; pylint's columns begin with 0.
        lines: (message.line > 0).then_some((message.line, message.end_line.filter(|end| *end >= message.line))),
        columns: (message.line > 0)
            .then_some((message.column.saturating_add(1), message.end_column.map(|end| end.saturating_add(1)))),
        rule: format!("{}/{}", message.message_id, message.symbol),
        message: message.message,
    });
    log("pylint", "https://pylint.readthedocs.io/", findings)
}

/// A line of cargo's; only what the compiler says of the code counts.
#[derive(Debug, Deserialize)]
struct CargoLine {
    reason: String,
    message: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Diagnostic {
    message: String,
    code: Option<DiagnosticCode>,
    level: String,
    spans: Vec<DiagnosticSpan>,
    #[serde(default)]
    children: Vec<Child>,
}

#[derive(Debug, Deserialize)]
struct DiagnosticCode {
    code: String,
}

#[derive(Debug, Deserialize)]
struct DiagnosticSpan {
    file_name: String,
    line_start: u64,
    line_end: u64,
    column_start: u64,
    column_end: u64,
    is_primary: bool,
}

#[derive(Debug, Deserialize)]
struct Child {
    message: String,
    level: String,
}

fn clippy(bytes: &[u8]) -> Result<Value, Reason> {
    let mut findings = Vec::new();
    for (number, line) in (1_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = |reason: Reason| reason.location(format!("line {number}"));
        let line: CargoLine = json::parse(line, Code::MalformedJson).map_err(place)?;
        let (true, Some(message)) = (line.reason == "compiler-message", line.message) else { continue };
        let diagnostic: Diagnostic = serde_json::from_value(message)
            .map_err(|error| place(Reason::new(Code::MalformedJson, format!("no message of the compiler: {error}"))))?;
        findings.extend(diagnostic.finding());
    }
    log("clippy", "https://doc.rust-lang.org/clippy/", findings.into_iter())
}

impl Diagnostic {
    /// The finding; a closing line such as "3 warnings emitted" is none.
    fn finding(self) -> Option<Finding> {
        let place = self.spans.iter().find(|span| span.is_primary).or_else(|| self.spans.first());
        if place.is_none() && self.code.is_none() {
            return None;
        }
        let rule = self.code.map_or_else(|| "rustc".to_owned(), |code| code.code);
        let advice = self.children.iter().filter(|child| child.level == "help").map(|child| child.message.as_str());
        let message: Vec<&str> = std::iter::once(self.message.as_str()).chain(advice).collect();
        Some(Finding {
            file: place.map_or_else(|| "Cargo.toml".to_owned(), |place| place.file_name.clone()),
            lines: place.map(|place| (place.line_start, Some(place.line_end))),
            columns: place.map(|place| (place.column_start, Some(place.column_end))),
            level: match self.level.as_str() {
                "warning" => "warning",
                "note" | "help" => "note",
                // Also "error: internal compiler error".
                _ => "error",
            },
            help: rule
                .strip_prefix("clippy::")
                .map(|name| format!("https://rust-lang.github.io/rust-clippy/stable/index.html#{name}")),
            rule,
            message: message.join("\nHelp: "),
        })
    }
}

/// The whole log. A finding that a linter tells twice, as cargo does for a library and its tests, is told once.
fn log(name: &str, address: &str, findings: impl Iterator<Item = Finding>) -> Result<Value, Reason> {
    let mut once = BTreeSet::new();
    for finding in findings {
        once.insert(finding);
        if once.len() > limits::LINT_RESULTS {
            let message = format!("there are more than {} findings", limits::LINT_RESULTS);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
    }
    let rules: BTreeSet<(&str, Option<&str>)> =
        once.iter().map(|finding| (finding.rule.as_str(), finding.help.as_deref())).collect();
    let written: Vec<Value> = rules
        .iter()
        .map(|(rule, help)| {
            let mut written = json!({"id": rule, "shortDescription": {"text": literal(rule)}});
            if let (Some(help), Some(object)) = (help, written.as_object_mut()) {
                object.insert("helpUri".to_owned(), json!(help));
            }
            written
        })
        .collect();
    let results: Vec<Value> = once.iter().map(result).collect();
    Ok(json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": name, "informationUri": address, "rules": written}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(finding: &Finding) -> Value {
    let mut region = serde_json::Map::new();
    let (line, end_line) = finding.lines.unwrap_or((1, None));
    region.insert("startLine".to_owned(), json!(line.max(1)));
    region.extend(end_line.map(|end| ("endLine".to_owned(), json!(end.max(1)))));
    if let Some((column, end_column)) = finding.columns {
        region.insert("startColumn".to_owned(), json!(column.max(1)));
        region.extend(end_column.map(|end| ("endColumn".to_owned(), json!(end.max(1)))));
    }
    // Without the line: a finding stays the same one when something is written above it.
    let fingerprint = Digest::sha256(json!([finding.rule, finding.file, finding.message]).to_string().as_bytes());
    json!({
        "ruleId": finding.rule,
        "level": finding.level,
        "message": {"text": literal_lines(&finding.message)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(&finding.file)}, "region": region}}],
        "partialFingerprints": {"debvisor/v1": fingerprint.to_hex()},
    })
}

/// As [`literal`], line by line: a linter's message may have several.
fn literal_lines(message: &str) -> String {
    message.lines().map(literal).collect::<Vec<_>>().join("\n")
}
