//! `debvisor vex`: write, merge, check and apply OpenVEX documents.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::policy::FolderArgs;
use super::{Context, Ended, UsageError, output, report};
use crate::release::artifact;
use crate::release::attest::vex::{Draft, Triage, merge};
use crate::release::collect::files::read_evidence;
use crate::release::decision::Report;
use crate::release::evidence::json;
use crate::release::evidence::vex::Document;
use crate::release::evidence::vex::findings::{self, Finding, vulnerability_of_rule};
use crate::types::{Code, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write an OpenVEX document from a scanner's results and your decisions
    Generate(GenerateArgs),
    /// Take out of a SARIF file what VEX documents explain
    Filter(FilterArgs),
    /// Join OpenVEX documents into one
    Merge(MergeArgs),
    /// Check an OpenVEX document against its schema and itself
    Validate(ValidateArgs),
    /// Refuse findings that no VEX document explains
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    /// Results of Trivy, Grype, cargo-audit or OSV-Scanner in JSON, or SARIF
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// Your decisions, in TOML (docs/how-to/vex.md)
    #[arg(long, value_name = "FILE")]
    triage: Option<PathBuf>,
    /// The last release's document: what it says holds on where the component is unchanged
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// The product that the findings are in, as a package URL
    #[arg(long, value_name = "PURL")]
    product: Option<String>,
    /// Who says it
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    author: String,
    /// Where the document goes; stdout without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// An OpenVEX document; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    vex: Vec<PathBuf>,
    /// Only statements about this product count
    #[arg(long, value_name = "PURL")]
    product: Option<String>,
    /// The SARIF file
    #[arg(value_name = "RESULTS.sarif")]
    results: PathBuf,
    /// Where the SARIF goes; stdout without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct MergeArgs {
    /// The documents
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Who says it
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    author: String,
    /// Where the document goes; stdout without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ValidateArgs {
    /// The document
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A scanner's results
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// An OpenVEX document; repeatable
    #[arg(long, value_name = "FILE")]
    vex: Vec<PathBuf>,
    /// Findings below this severity are let pass; without it the policy says, which lets pass what is below critical
    #[arg(long, value_enum, value_name = "SEVERITY")]
    severity: Option<Floor>,
    /// The policy: vex, another name, or a Rego file or directory
    #[arg(long, value_name = "NAME|FILE", default_value = "vex")]
    policy: String,
    #[command(flatten)]
    folders: FolderArgs,
}

/// From where on a finding needs an explanation.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Floor {
    /// Every finding
    Any,
    /// Low and above
    Low,
    /// Medium and above
    Medium,
    /// High and above
    High,
    /// Critical alone, and those of unknown severity
    Critical,
}

impl Floor {
    /// The policy's word.
    const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    match &args.verb {
        Verb::Generate(args) => generate(args, context),
        Verb::Filter(args) => filter(args, context),
        Verb::Merge(args) => merged(args, context),
        Verb::Validate(args) => validate(&args.file, context),
        Verb::Check(args) => check(args, context),
    }
}

/// Reads what a verb works on; a refusal is the verb's whole answer.
fn document(path: &Path) -> Result<Document, Vec<Reason>> {
    read(path, Document::read)
}

fn read(path: &Path, parse: fn(&[u8]) -> Result<Document, Vec<Reason>>) -> Result<Document, Vec<Reason>> {
    let name = path.display().to_string();
    let named = |reason: Reason| reason.evidence(&*name);
    let bytes = read_evidence(path, limits::EVIDENCE_BYTES).map_err(|reason| vec![reason])?;
    parse(&bytes).map_err(|reasons| reasons.into_iter().map(named).collect())
}

pub(super) fn documents(paths: &[PathBuf]) -> Result<Vec<Document>, Vec<Reason>> {
    let mut read = Vec::new();
    let mut refused = Vec::new();
    for path in paths {
        match document(path) {
            Ok(document) => read.push(document),
            Err(reasons) => refused.extend(reasons),
        }
    }
    if refused.is_empty() { Ok(read) } else { Err(refused) }
}

fn refused(reasons: Vec<Reason>, context: &Context) -> anyhow::Result<Ended> {
    let report = Report::new(Vec::new(), reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// The time to write into what is made: the build's where it is reproducible, else now.
pub(super) fn written_at(context: &Context) -> jiff::Timestamp {
    let epoch = context.environment.source_date_epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    epoch.unwrap_or(context.now)
}

fn print(value: &impl serde::Serialize, path: Option<&Path>) -> anyhow::Result<Ended> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    output::write_or_print(path, text.as_bytes())?;
    Ok(Ended::Done)
}

fn generate(args: &GenerateArgs, context: &Context) -> anyhow::Result<Ended> {
    let name = args.results.display().to_string();
    let found = read_evidence(&args.results, limits::EVIDENCE_BYTES).and_then(|bytes| findings::parse(&bytes));
    let found = match found {
        Ok(found) => found,
        Err(reason) => return refused(vec![reason.evidence(name)], context),
    };
    if found.is_empty() {
        let hint = "a release without findings needs no VEX document";
        return Err(UsageError::new(format!("{name} holds no finding, and a VEX document needs one"), hint).into());
    }
    let triage = args.triage.as_deref().map(triage).transpose()?.unwrap_or_default();
    let previous = match args.previous.as_deref().map(document).transpose() {
        Ok(previous) => previous,
        Err(reasons) => return refused(reasons, context),
    };
    let draft = Draft {
        author: &args.author,
        product: args.product.as_deref(),
        findings: &found,
        triage: &triage,
        previous: previous.as_ref(),
        now: written_at(context),
        dated: written_at(context),
    };
    print(&draft.document(), args.output.as_deref())
}

pub(super) fn triage(path: &Path) -> Result<Triage, UsageError> {
    let unusable = |message: String| {
        UsageError::new(
            format!("cannot use the triage file {}: {message}", path.display()),
            "docs/how-to/vex.md shows its form",
        )
    };
    let bytes = artifact::read_bounded(path, limits::POLICY_BYTES).map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
    Triage::parse(&text).map_err(|error| unusable(error.to_string()))
}

fn filter(args: &FilterArgs, context: &Context) -> anyhow::Result<Ended> {
    let documents = match documents(&args.vex) {
        Ok(documents) => documents,
        Err(reasons) => return refused(reasons, context),
    };
    let name = args.results.display().to_string();
    let read = read_evidence(&args.results, limits::EVIDENCE_BYTES).and_then(|bytes| json::parse_value(&bytes));
    let mut results = match read {
        Ok(results) => results,
        Err(reason) => return refused(vec![reason.evidence(name)], context),
    };
    let Some(runs) = results.get_mut("runs").and_then(Value::as_array_mut) else {
        let reason = Reason::new(Code::MalformedJson, "the results are no SARIF: they have no runs");
        return refused(vec![reason.evidence(name)], context);
    };
    let all = merge("filter", &documents, context.now);
    let explained = |result: &Value| {
        let rule = result.get("ruleId").and_then(Value::as_str).map(vulnerability_of_rule);
        rule.and_then(|rule| all.newest(rule, args.product.as_deref()))
            .is_some_and(|statement| statement.status.explains())
    };
    for run in runs {
        if let Some(results) = run.get_mut("results").and_then(Value::as_array_mut) {
            results.retain(|result| !explained(result));
        }
    }
    print(&results, args.output.as_deref())
}

fn merged(args: &MergeArgs, context: &Context) -> anyhow::Result<Ended> {
    match documents(&args.files) {
        Ok(documents) => print(&merge(&args.author, &documents, written_at(context)), args.output.as_deref()),
        Err(reasons) => refused(reasons, context),
    }
}

fn validate(path: &Path, context: &Context) -> anyhow::Result<Ended> {
    let reasons = read(path, Document::parse).err().unwrap_or_default();
    let subject = crate::release::decision::SubjectReport {
        name: path.display().to_string(),
        digest: Default::default(),
        decision: crate::release::decision::Decision::from_reasons(&reasons),
        facts: Value::Null,
    };
    let report = Report::new(vec![subject], reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn check(args: &CheckArgs, context: &Context) -> anyhow::Result<Ended> {
    let name = args.results.display().to_string();
    let documents = match documents(&args.vex) {
        Ok(documents) => merge("check", &documents, context.now),
        Err(reasons) => return refused(reasons, context),
    };
    let read = read_evidence(&args.results, limits::EVIDENCE_BYTES).and_then(|bytes| findings::parse(&bytes));
    let found = match read {
        Ok(found) => found,
        Err(reason) => return refused(vec![reason.evidence(name)], context),
    };
    let set = args.folders.folders(&context.environment).load_alone(&args.policy);
    let (_, set) = match set {
        Ok(set) => set,
        Err(reason) => return refused(vec![reason], context),
    };
    let input = input(&found, &documents, args.severity, written_at(context));
    let verdicts = set.evaluate(&input);
    let about = |reason: Reason| reason.evidence(&*name);
    let reasons: Vec<Reason> = verdicts.denials.into_iter().map(about).collect();
    let subject = crate::release::decision::SubjectReport {
        name: name.clone(),
        digest: Default::default(),
        decision: crate::release::decision::Decision::from_reasons(&reasons),
        facts: serde_json::json!({"findings": found.len()}),
    };
    let mut report = Report::new(vec![subject], reasons, context.now);
    report.warnings = verdicts.warnings.into_iter().map(about).collect();
    report.policy = Some(set.reference());
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// What the policy sees: each finding with the newest statement about it, if there is one.
fn input(found: &[Finding], documents: &Document, floor: Option<Floor>, now: jiff::Timestamp) -> Value {
    let findings: Vec<Value> = found
        .iter()
        .map(|finding| {
            // A statement counts for the component it names; one about a product as a whole counts for its parts.
            let names = std::iter::once(&finding.vulnerability).chain(&finding.aliases);
            let about = names.filter_map(|name| documents.newest(name, Some(&finding.component)));
            let newest = about.max_by_key(|statement| documents.made_at(statement));
            serde_json::json!({
                "vulnerability": finding.vulnerability,
                "aliases": finding.aliases,
                "component": finding.component,
                "severity": finding.severity,
                "statement": newest,
            })
        })
        .collect();
    serde_json::json!({
        "findings": findings,
        "expected": {"severity": floor.map(Floor::name)},
        "now": now,
    })
}
