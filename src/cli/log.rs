//! `debvisor log inclusion | consistency`: one RFC 6962 proof in a file, and whether it holds.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{Context, Ended, report};
use crate::release::collect::files;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::merkle::proof_file;
use crate::types::{Digest, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove that a leaf is in a tree
    ///
    /// FILE is JSON: `{"leafIdx": 0, "treeSize": 1, "root": "…", "leafHash": "…", "proof": ["…"]}`, hashes in base64.
    Inclusion(FileArgs),
    /// Prove that a tree only grew
    ///
    /// FILE is JSON: `{"size1": 1, "size2": 2, "root1": "…", "root2": "…", "proof": ["…"]}`, hashes in base64.
    Consistency(FileArgs),
}

#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The proof
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments by value")]
pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let report = match &args.command {
        Command::Inclusion(args) => judge(&args.file, "inclusion", proof_file::check_inclusion, context),
        Command::Consistency(args) => judge(&args.file, "consistency", proof_file::check_consistency, context),
    };
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn judge<T: Serialize>(
    path: &Path,
    kind: &str,
    check: impl Fn(&[u8]) -> Result<T, Reason>,
    context: &Context,
) -> Report {
    let name = path.display().to_string();
    let bytes = match files::read_evidence(path, limits::BUNDLE_BYTES) {
        Ok(bytes) => bytes,
        Err(reason) => return Report::new(Vec::new(), vec![reason], context.now),
    };
    let (proved, reasons) = match check(&bytes) {
        Ok(proved) => (Some(proved), Vec::new()),
        Err(reason) => (None, vec![reason.evidence(&name).subject(&name)]),
    };
    let digest = Digest::sha256(&bytes);
    let subject = SubjectReport {
        name,
        digest: [(digest.algorithm().name().to_owned(), digest.to_hex())].into(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::json!({ kind: proved }),
    };
    Report::new(vec![subject], reasons, context.now)
}
