//! `debvisor audit`: who did what, why, whether the log is whole, and proofs of it for those who hold a checkpoint.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::Method;

use super::client::{Client, Connection, print_list};
use super::{Context, Ended, Failure, UsageError, output};
use crate::control::audit::{AuditView, ConsistencyProof, InclusionProof};
use crate::release::decision::Decision;
use crate::store::CheckpointRow;

mod check;
mod verify;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List records, the oldest first
    List(Box<ListArgs>),
    /// Check the log: every record, the chain over them, and every checkpoint
    ///
    /// The server is asked, unless a file of another kind is named. Of a checkpoint that somebody kept, the log must
    /// contain everything that it signed, unchanged; between two of them it must only have grown.
    Verify(Box<verify::Args>),
    /// Write the whole log as JSON Lines, each record with its hashes, and a checkpoint at the end
    Export(ExportArgs),
    /// Write a proof that a record is in the log, or that the log only grew
    Prove(ProveArgs),
    /// Print the newest checkpoint: a signed note
    Checkpoint(CheckpointArgs),
    /// Print the key that checkpoints are signed with
    Key,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Who, in full: `uid:0`, `user:alice`
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// What, by how it begins: `vm.`, `vm.start`
    #[arg(long, value_name = "PREFIX")]
    action: Option<String>,
    /// To what, by how it begins: `vm/0190`
    #[arg(long, value_name = "PREFIX")]
    object: Option<String>,
    /// How it ended: done, refused or failed
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// What it is evidence for: a clause, as `soc2:CC6.1`, or a framework: gdpr, hipaa, soc2
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Not before this time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Write there instead of to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ProveArgs {
    /// The place of the record
    #[arg(value_name = "SEQ", required_unless_present_all = ["from", "to"], conflicts_with_all = ["from", "to"])]
    seq: Option<u64>,
    /// Prove it in the tree of so many records; without it in that of a signed checkpoint
    #[arg(long, value_name = "SIZE", requires = "seq")]
    size: Option<u64>,
    /// Prove that the log of so many records
    #[arg(long, value_name = "SIZE", requires = "to")]
    from: Option<u64>,
    /// is the beginning of the log of so many
    #[arg(long, value_name = "SIZE", requires = "from")]
    to: Option<u64>,
    /// Write there instead of to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CheckpointArgs {
    /// Sign one over everything that is written by now
    #[arg(long)]
    fresh: bool,
    /// Write there instead of to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let client = || Client::new(&args.connection, context);
    match &args.command {
        Command::List(wanted) => list(&client()?, wanted, context),
        Command::Verify(wanted) => verify::run(wanted, &client, context),
        Command::Export(wanted) => export(&client()?, wanted.output.as_deref()),
        Command::Prove(wanted) => prove(&client()?, wanted),
        Command::Checkpoint(wanted) => {
            let client = client()?;
            let note = if wanted.fresh {
                client.ask::<CheckpointRow>(Method::POST, "/v1/audit/checkpoints")?.note
            } else {
                client.text("/v1/audit/checkpoint")?
            };
            output::write_or_print(wanted.output.as_deref(), note.as_bytes())?;
            Ok(Ended::Done)
        }
        Command::Key => {
            output::write_or_print(None, client()?.text("/v1/audit/key")?.as_bytes())?;
            Ok(Ended::Done)
        }
    }
}

fn list(client: &Client, wanted: &ListArgs, context: &Context) -> anyhow::Result<Ended> {
    let narrowed = [
        ("actor", &wanted.actor),
        ("action", &wanted.action),
        ("object", &wanted.object),
        ("outcome", &wanted.outcome),
        ("tag", &wanted.tag),
        ("since", &wanted.since),
        ("until", &wanted.until),
    ];
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in narrowed {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let path = if query.is_empty() { "/v1/audit".to_owned() } else { format!("/v1/audit?{query}") };
    let records: Vec<AuditView> = client.all(&path)?;
    print_list(context, &records, ["SEQ", "AT", "WHO", "WHERE", "WHAT", "OBJECT", "OUTCOME", "WHY"], |view| {
        let record = &view.record;
        [
            view.seq.to_string(),
            record.at.to_string(),
            record.actor.clone(),
            record.origin.clone(),
            record.action.clone(),
            record.object.clone(),
            record.outcome.clone(),
            record.why.join(", "),
        ]
    })?;
    Ok(Ended::Done)
}

fn export(client: &Client, to: Option<&Path>) -> anyhow::Result<Ended> {
    client.run(async |client| {
        let mut answer = client.sent(client.request(Method::GET, "/v1/audit/export")).await?;
        let cut_off = || Failure::new(Decision::Undecided, "the export was cut off", "export it again");
        match to {
            None => {
                let mut out = std::io::stdout().lock();
                while let Some(piece) = answer.chunk().await.map_err(|_| cut_off())? {
                    out.write_all(&piece).context("cannot write to stdout")?;
                }
            }
            Some(path) => {
                // A file that is there is a whole one.
                output::check(path)?;
                let failed = || format!("cannot write {}", path.display());
                let mut file = tempfile::NamedTempFile::new_in(output::folder_of(path)).with_context(failed)?;
                while let Some(piece) = answer.chunk().await.map_err(|_| cut_off())? {
                    file.write_all(&piece).with_context(failed)?;
                }
                file.as_file().sync_all().with_context(failed)?;
                file.persist(path).with_context(failed)?;
            }
        }
        Ok(Ended::Done)
    })
}

fn prove(client: &Client, wanted: &ProveArgs) -> anyhow::Result<Ended> {
    let text = match (wanted.seq, wanted.from, wanted.to) {
        (Some(seq), _, _) => {
            let size = wanted.size.map(|size| format!("&size={size}")).unwrap_or_default();
            let proof: InclusionProof = client.get(&format!("/v1/audit/proof/inclusion?seq={seq}{size}"))?;
            serde_json::to_string_pretty(&proof)?
        }
        (None, Some(from), Some(to)) => {
            let proof: ConsistencyProof = client.get(&format!("/v1/audit/proof/consistency?from={from}&to={to}"))?;
            serde_json::to_string_pretty(&proof)?
        }
        _ => return Err(UsageError::new("nothing is to be proved", "name a record, or --from and --to").into()),
    };
    output::write_or_print(wanted.output.as_deref(), format!("{text}\n").as_bytes())?;
    Ok(Ended::Done)
}
