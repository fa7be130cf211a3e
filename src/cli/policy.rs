//! `debvisor policy list | eval | test`: which policies there are, what one says of an input, and whether it keeps its
//! own tests.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Context, Ended, Format, report};
use crate::config::Environment;
use crate::release::artifact;
use crate::release::decision::{Decision, PolicyReference, Report, SubjectReport};
use crate::release::evidence::json;
use crate::release::policy::PolicySet;
use crate::release::policy::testing::{self, Outcome, TestRun};
use crate::types::{Code, Digest, Reason, limits};

pub(super) mod load;

use load::Folders;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the policies that can be named
    List(ListArgs),
    /// Evaluate a policy over an input
    Eval(EvalArgs),
    /// Run the Rego tests that stand beside policies
    Test(TestArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct FolderArgs {
    /// A folder whose NAME.rego, NAME.json or NAME/ comes before the user's and the built-in policies
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
}

impl FolderArgs {
    /// Where policies are looked for in this run.
    pub(super) fn folders(&self, environment: &Environment) -> Folders {
        Folders::new(self.policy_dir.as_deref(), environment)
    }
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    folders: FolderArgs,
}

#[derive(Debug, clap::Args)]
struct EvalArgs {
    /// The policy: a name, a Rego file or a directory
    #[arg(value_name = "POLICY")]
    policy: String,
    /// The input in JSON, `-` for standard input; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    input: Vec<PathBuf>,
    /// A file or directory of data in JSON or YAML, below `data`; repeatable
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    folders: FolderArgs,
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Policies by name, file or directory; without one, all that `policy list` lists
    #[arg(value_name = "PATH")]
    policies: Vec<String>,
    #[command(flatten)]
    folders: FolderArgs,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    match args.command {
        Command::List(args) => list(&args, context),
        Command::Eval(args) => eval(&args, context),
        Command::Test(args) => test(args, context),
    }
}

fn list(args: &ListArgs, context: &Context) -> anyhow::Result<Ended> {
    let folders = args.folders.folders(&context.environment);
    let policies: Vec<_> = folders.names().into_iter().map(|name| (folders.load_alone(&name), name)).collect();
    let mut out = anstream::stdout().lock();
    if context.format == Format::Json {
        let documents: Vec<_> = policies
            .iter()
            .map(|(loaded, name)| match loaded {
                Ok((origin, set)) => serde_json::json!({
                    "name": name,
                    "origin": origin.name(),
                    "digest": set.reference().digest,
                    "rules": set.rules().iter().map(crate::release::policy::DecidingRule::path).collect::<Vec<_>>(),
                }),
                Err(reason) => serde_json::json!({ "name": name, "reasons": [reason] }),
            })
            .collect();
        serde_json::to_writer_pretty(&mut out, &documents)?;
        writeln!(out)?;
        return Ok(Ended::Done);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(["POLICY", "ORIGIN", "DIGEST", "RULES"]);
    for (loaded, name) in &policies {
        match loaded {
            Ok((origin, set)) => {
                let digest: String = set.reference().digest.to_string().chars().take("sha256:".len() + 12).collect();
                let rules: Vec<String> = set.rules().iter().map(crate::release::policy::DecidingRule::path).collect();
                table.add_row([name.clone(), origin.name().to_owned(), digest, rules.join("\n")]);
            }
            Err(reason) => {
                table.add_row([name.clone(), "user".to_owned(), "-".to_owned(), reason.to_string()]);
            }
        }
    }
    writeln!(out, "{table}")?;
    Ok(Ended::Done)
}

fn eval(args: &EvalArgs, context: &Context) -> anyhow::Result<Ended> {
    let folders = args.folders.folders(&context.environment);
    let set = policy_with_data(&folders, &args.policy, &args.data);
    let mut subjects = Vec::new();
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();
    for path in &args.input {
        let name = path.display().to_string();
        let mut against = match &set {
            Err(reason) => vec![reason.clone()],
            Ok(_) => Vec::new(),
        };
        let mut digest = BTreeMap::new();
        match read_input(path) {
            Err(reason) => against.push(reason.evidence(&name)),
            Ok(bytes) => {
                digest.insert("sha256".to_owned(), Digest::sha256(&bytes).to_hex());
                match (json::parse_value(&bytes), &set) {
                    (Err(reason), _) => against.push(reason.evidence(&name)),
                    (Ok(input), Ok(set)) => {
                        let now = input.get("now").and_then(|now| now.as_str()).and_then(|now| now.parse().ok());
                        let verdicts = set.evaluate_at(&input, Some(now.unwrap_or(context.now)));
                        against.extend(verdicts.denials);
                        warnings.extend(verdicts.warnings.into_iter().map(|reason| reason.subject(&name)));
                    }
                    (Ok(_), Err(_)) => {}
                }
            }
        }
        subjects.push(SubjectReport {
            name: name.clone(),
            digest,
            decision: Decision::from_reasons(&against),
            facts: serde_json::Value::Null,
        });
        reasons.extend(against.into_iter().map(|reason| reason.subject(&name)));
    }
    let mut report = Report::new(subjects, reasons, context.now);
    report.warnings = warnings;
    report.policy = set.ok().map(|set| set.reference());
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn policy_with_data(folders: &Folders, policy: &str, data: &[PathBuf]) -> Result<PolicySet, Reason> {
    if data.is_empty() {
        return folders.load_alone(policy).map(|(_, set)| set);
    }
    let (_, mut files) = folders.files(policy)?;
    for path in data {
        let more = load::read_path(path)?;
        files.extend(more.into_iter().filter(|(name, _)| !name.ends_with(".rego")));
    }
    PolicySet::from_sources(policy, files)
}

fn read_input(path: &Path) -> Result<Vec<u8>, Reason> {
    let unreadable = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::FileTooLarge => Code::InputTooLarge,
            _ => Code::EvidenceUnreadable,
        };
        Reason::new(code, format!("the input `{}` cannot be read: {error}", path.display()))
    };
    if path != Path::new("-") {
        return artifact::read_bounded(path, limits::EVIDENCE_BYTES).map_err(unreadable);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(limits::EVIDENCE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limits::EVIDENCE_BYTES {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn test(args: TestArgs, context: &Context) -> anyhow::Result<Ended> {
    let folders = args.folders.folders(&context.environment);
    let policies = if args.policies.is_empty() { folders.names() } else { args.policies };
    let mut subjects = Vec::new();
    let mut reasons = Vec::new();
    let mut runs = Vec::new();
    for policy in policies {
        let run = folders.files(&policy).and_then(|(_, files)| testing::run(&policy, files, context.now));
        let against = match &run {
            Ok(run) => run.reasons(),
            Err(reason) => vec![reason.clone()],
        };
        let digest = run.as_ref().map(|run| ("sha256".to_owned(), run.digest.to_hex()));
        subjects.push(SubjectReport {
            name: policy.clone(),
            digest: digest.into_iter().collect(),
            decision: Decision::from_reasons(&against),
            facts: run.as_ref().map_or(serde_json::Value::Null, |run| {
                serde_json::json!({
                    "tests": run.tests,
                    "coverage": run.coverage,
                    "coverage_percent": run.coverage_percent(),
                })
            }),
        });
        reasons.extend(against.into_iter().map(|reason| reason.subject(&policy)));
        runs.push((policy, run));
    }
    let mut report = Report::new(subjects, reasons, context.now);
    if let [(policy, Ok(run))] = runs.as_slice() {
        report.policy = Some(PolicyReference { name: policy.clone(), digest: run.digest.clone() });
    }
    if context.format == Format::Text {
        print_tests(&runs)?;
    } else {
        report::print(&report, context)?;
    }
    Ok(Ended::Decided(report.decision))
}

/// As `opa test` prints: a line a test, a line of counts.
fn print_tests(runs: &[(String, Result<TestRun, Reason>)]) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    for (policy, run) in runs {
        let run = match run {
            Ok(run) => run,
            Err(reason) => {
                writeln!(out, "{policy}\n  ERROR {reason}")?;
                continue;
            }
        };
        let mut file = "";
        for test in &run.tests {
            if test.file != file {
                file = &test.file;
                writeln!(out, "{file}")?;
            }
            let (word, more) = match &test.outcome {
                Outcome::Pass => ("PASS", String::new()),
                Outcome::Fail => ("FAIL", format!(" (line {})", test.line)),
                Outcome::Error { message } => ("ERROR", format!(" (line {}): {message}", test.line)),
                Outcome::Skip => ("SKIP", String::new()),
            };
            writeln!(out, "  {word} {}{more}", test.name)?;
            for print in &test.prints {
                writeln!(out, "       {}", print.escape_debug())?;
            }
        }
        let failed = run.count(|outcome| matches!(outcome, Outcome::Fail | Outcome::Error { .. }));
        let passed = run.count(|outcome| *outcome == Outcome::Pass);
        let coverage = run.coverage_percent().map(|percent| format!("; {percent:.1} % of the policy's lines"));
        writeln!(out, "{policy}: {passed} passed, {failed} failed{}", coverage.unwrap_or_default())?;
        if run.tests.is_empty() {
            writeln!(out, "  there is no test to run: no rule is named test_…")?;
        }
    }
    Ok(())
}
