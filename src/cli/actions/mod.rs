//! `debvisor actions audit [PATH…]`: workflows and actions in, a report out of what they run that is not pinned.
//! No network: what is outdated is told by a table, the one in this program or `--table`'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Context, Ended, UsageError, report};
use crate::release::artifact;
use crate::release::collect::files;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::types::{Code, Digest, Reason, limits};

mod audit;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Refuse actions and images that are not pinned, pins without a fitting version comment, and old pins
    Audit(AuditArgs),
}

#[derive(Debug, clap::Args)]
struct AuditArgs {
    /// Workflows, action.yml files, or directories of them [default: .github/workflows and action.yml]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The versions to hold pins against, in JSON; without it those that were current when this program was made
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

/// The versions that were current when this program was made.
const TABLE: &[u8] = include_bytes!("actions.json");
/// Where workflows and actions are when nobody says.
const PLACES: [&str; 3] = [".github/workflows", "action.yml", "action.yaml"];

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let Command::Audit(args) = &args.command;
    let table = match &args.table {
        None => audit::Table::parse(TABLE).map_err(anyhow::Error::msg)?,
        Some(path) => read_table(path)?,
    };
    let (mut subjects, mut reasons) = (Vec::new(), Vec::new());
    match workflows(&args.paths) {
        Ok(found) => {
            for path in found {
                let (subject, found) = look(&path, &table);
                subjects.push(subject);
                reasons.extend(found);
            }
        }
        Err(found) => reasons = found,
    }
    let report = Report::new(subjects, reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn read_table(path: &Path) -> Result<audit::Table, UsageError> {
    let bytes = artifact::read_bounded(path, limits::CONFIG_BYTES).map_err(|error| error.to_string());
    bytes.and_then(|bytes| audit::Table::parse(&bytes)).map_err(|why| {
        UsageError::new(
            format!("cannot use the table {}: {why}", path.display()),
            "its form is {\"actions\": [{\"action\": \"OWNER/NAME\", \"commit\": \"40 hex\", \"version\": \"v1.2.3\"}]}",
        )
    })
}

/// The files that are looked at, each once, in order.
fn workflows(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Vec<Reason>> {
    let usual: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    let paths = if paths.is_empty() { &usual } else { paths };
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = files::list(path)?;
            let is_yaml = |name: &str| name.ends_with(".yml") || name.ends_with(".yaml");
            found.extend(files.into_iter().filter(|file| is_yaml(&file.name)).map(|file| file.path));
        } else {
            found.push(path.clone());
        }
    }
    if found.is_empty() {
        let reason = Reason::new(Code::EvidenceMissing, "there is no workflow and no action here")
            .hint("name the files: debvisor actions audit PATH…");
        return Err(vec![reason]);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn look(path: &Path, table: &audit::Table) -> (SubjectReport, Vec<Reason>) {
    let name = path.display().to_string();
    let read = files::read_evidence(path, limits::WORKFLOW_BYTES);
    let digest = read.as_ref().map(|bytes| Digest::sha256(bytes)).ok();
    let audited = read.and_then(|bytes| audit::audit(&bytes, table));
    let (uses, reasons) = match audited {
        Ok(audited) => (serde_json::json!(audited.uses), audited.reasons),
        Err(reason) => (serde_json::Value::Null, vec![reason]),
    };
    let reasons: Vec<Reason> = reasons.into_iter().map(|reason| reason.evidence(&name).subject(&name)).collect();
    let subject = SubjectReport {
        name,
        digest: digest
            .iter()
            .map(|digest| (digest.algorithm().name().to_owned(), digest.to_hex()))
            .collect::<BTreeMap<_, _>>(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::json!({ "uses": uses }),
    };
    (subject, reasons)
}
