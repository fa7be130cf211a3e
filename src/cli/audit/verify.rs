//! `debvisor audit verify`: where the log or the proof comes from, and what it is held against.

use std::path::{Path, PathBuf};

use super::super::client::Client;
use super::super::{Context, Ended, UsageError, report};
use super::check::{self, Held, Looked};
use crate::control::audit::{AuditVerdict, ConsistencyProof};
use crate::release::collect::files;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::note::NoteKey;
use crate::types::{Code, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An export of the log, as `debvisor audit export` writes it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["database", "proof"])]
    file: Option<PathBuf>,
    /// The server's database, which is read and not changed
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    database: Option<PathBuf>,
    /// A proof, as `debvisor audit prove` writes it
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// A checkpoint that was kept; repeatable
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The key that checkpoints must be signed with, as `debvisor audit key` prints it, or a file with it
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
}

pub(super) fn run(
    args: &Args,
    client: &dyn Fn() -> anyhow::Result<Client>,
    context: &Context,
) -> anyhow::Result<Ended> {
    let given = args.key.as_deref().map(key_of).transpose()?;
    let is_offline = args.file.is_some() || args.database.is_some() || args.proof.is_some();
    let server = if is_offline { None } else { Some(client()?) };
    // Online, and without a key of one's own, the server's own word is taken for which key is its.
    let key = match (&server, given) {
        (Some(server), None) => Some(key_of(server.text("/v1/audit/key")?.trim())?),
        (_, given) => given,
    };
    let mut reasons = Vec::new();
    let kept: Vec<Held> = args
        .checkpoint
        .iter()
        .filter_map(|path| kept(path, key.as_ref()).map_err(|reason| reasons.push(reason)).ok())
        .collect();
    if is_offline && key.is_none() {
        reasons.push(Reason::new(Code::AuditKeyMissing, "no --key was given: no signature was checked"));
    }
    let looked = match (&args.file, &args.database, &args.proof, &server) {
        (Some(path), ..) => check::export(path, &kept, key.as_ref())?,
        (_, Some(path), ..) => check::database(path, &kept, key.as_ref())?,
        (_, _, Some(path), _) => check::proof(path, &kept, key.as_ref()),
        (.., Some(server)) => online(server, &kept)?,
        _ => return Err(UsageError::new("there is nothing to verify", "see debvisor audit verify --help").into()),
    };
    reasons.extend(looked.reasons);
    let name = looked.name;
    let reasons: Vec<Reason> = reasons.into_iter().map(|reason| reason.subject(&name)).collect();
    let subject = SubjectReport {
        name,
        digest: [("sha256".to_owned(), looked.root)].into(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::json!({ "audit": looked.facts }),
    };
    let report = Report::new(vec![subject], reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// A key as it is printed, or a file that has it.
fn key_of(text: &str) -> anyhow::Result<NoteKey> {
    let wrong = |reason: &Reason| {
        UsageError::new(reason.message.clone(), "give what `debvisor audit key` printed, or the name of a file with it")
    };
    if text.contains('+') && !Path::new(text).is_file() {
        return text.parse().map_err(|reason| wrong(&reason).into());
    }
    let bytes = files::read_evidence(Path::new(text), limits::KEY_BYTES).map_err(|reason| wrong(&reason))?;
    String::from_utf8_lossy(&bytes).parse().map_err(|reason| wrong(&reason).into())
}

/// A checkpoint that somebody kept.
fn kept(path: &Path, key: Option<&NoteKey>) -> Result<Held, Reason> {
    let name = path.display().to_string();
    let bytes = files::read_evidence(path, limits::CHECKPOINT_BYTES as u64)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Reason::new(Code::CheckpointMalformed, "the checkpoint is not text").evidence(&name))?;
    check::held(&text, key).map_err(|reason| reason.evidence(&name))
}

/// What the server says of its log, and whether that is what was kept of it.
fn online(server: &Client, kept: &[Held]) -> anyhow::Result<Looked> {
    let verdict: AuditVerdict = server.get("/v1/audit/verify")?;
    let mut reasons = verdict.faults.clone();
    let mut kept: Vec<Held> = kept.to_vec();
    kept.sort_by_key(|held| held.size);
    // The newest is held against what there is now; each older one against the next.
    let mut newer =
        Held { size: verdict.records, root: hash(&verdict.root)?, name: "what the server has now".to_owned() };
    for older in kept.iter().rev() {
        if older.size > newer.size {
            let last = older.size - 1;
            let message = format!(
                "the server has {} records, and a checkpoint over {} was signed: records {} to {last} are missing",
                newer.size, older.size, newer.size
            );
            reasons.push(Reason::new(Code::AuditRecordMissing, message).location(format!("record {}", newer.size)));
            continue;
        }
        let path = format!("/v1/audit/proof/consistency?from={}&to={}", older.size, newer.size);
        let proof: ConsistencyProof = server.get(&path)?;
        if let Err(reason) = check::grown(older, &newer, &proof.proof) {
            reasons.push(reason);
        }
        newer = older.clone();
    }
    let name = server.text("/v1/audit/key")?.split('+').next().unwrap_or_default().to_owned();
    let facts = serde_json::json!({
        "records": verdict.records,
        "chain": verdict.chain,
        "checkpoints": verdict.checkpoints,
        "held_against": kept.iter().map(|held| held.size).collect::<Vec<_>>(),
    });
    Ok(Looked { name, root: verdict.root, facts, reasons })
}

fn hash(text: &str) -> anyhow::Result<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)?;
    Ok(hash)
}
