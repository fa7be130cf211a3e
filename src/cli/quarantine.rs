//! `debvisor quarantine`: what must not run; and letting it run again, which takes two people and ends by itself.

use std::path::PathBuf;

use reqwest::Method;
use uuid::Uuid;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format, UsageError};
use crate::api::{AddedView, Page, QuarantineRequest, QuarantineView, ReleaseRequest};
use crate::release::artifact;
use crate::store::{Approval, OverrideRow, Quarantine};
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put something into quarantine: machines that run it are stilled at once
    Add {
        /// sha256:…, key:sha256:…, identity:…, openpgp:… or policy:sha256:…
        target: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// List what is in quarantine, and who asked for a release
    List,
    /// Ask that a quarantine be released for a while; somebody else must approve
    Release {
        /// The quarantine
        quarantine: Uuid,
        /// Why
        #[arg(long)]
        reason: String,
        /// For how many hours
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        hours: u64,
    },
    /// Approve what somebody else asked for
    Approve {
        /// The request, as `quarantine list` names it
        approval: Uuid,
    },
    /// Bring an override that two people signed: a machine may run although the gate says no, for a while
    Override {
        /// The signed document
        file: PathBuf,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Add { target, reason } => {
            let request = QuarantineRequest { target, why: reason };
            let added: AddedView = client.send(Method::POST, "/v1/quarantines", &request)?;
            let Quarantine { target, id, .. } = &added.quarantine;
            let mut message = format!("{target} is in quarantine: {id}");
            if !added.nodes_behind.is_empty() {
                let behind = added.nodes_behind.join(", ");
                message.push_str(&format!("\nnot known yet to {behind}; nothing is started there until it is"));
            }
            told(context, &added, &message)?;
        }
        Command::List => list(&client, context)?,
        Command::Release { quarantine, reason, hours } => {
            let request = ReleaseRequest { why: reason, lasts_seconds: hours.saturating_mul(3600) };
            let path = format!("/v1/quarantines/{quarantine}/release");
            let asked: Approval = client.send(Method::POST, &path, &request)?;
            let message = format!("somebody else must approve it: debvisor quarantine approve {}", asked.id);
            told(context, &asked, &message)?;
        }
        Command::Approve { approval } => {
            let given: Approval = client.ask(Method::POST, &format!("/v1/approvals/{approval}/approve"))?;
            told(context, &given, &format!("released until {}", given.expires_at))?;
        }
        Command::Override { file } => {
            let bytes = artifact::read_bounded(&file, limits::TICKET_BYTES).map_err(|error| {
                UsageError::new(format!("cannot read {}: {error}", file.display()), "check the path")
            })?;
            let kind = [("content-type", "application/json".to_owned())];
            let row: OverrideRow = client.bytes(Method::POST, "/v1/overrides", &kind, bytes)?;
            told(context, &row, &format!("machine {} may run until {}", row.vm, row.expires_at))?;
        }
    }
    Ok(Ended::Done)
}

fn list(client: &Client, context: &Context) -> anyhow::Result<()> {
    let quarantines: Page<QuarantineView> = client.get("/v1/quarantines")?;
    let approvals: Page<Approval> = client.get("/v1/approvals")?;
    if context.format != Format::Text {
        return print_json(&serde_json::json!({ "quarantines": quarantines.items, "approvals": approvals.items }));
    }
    print_list(context, &quarantines.items, ["ID", "TARGET", "SINCE", "BY", "STATE", "WHY"], |view| {
        let state = match view.released_until {
            Some(until) => format!("released until {until}"),
            None => "in force".to_owned(),
        };
        let row = &view.quarantine;
        [row.id.to_string(), row.target.clone(), row.since.to_string(), row.by.clone(), state, row.why.clone()]
    })?;
    let open: Vec<&Approval> = approvals.items.iter().filter(|approval| approval.approved_by.is_none()).collect();
    if !open.is_empty() {
        println!();
        print_list(context, &open, ["REQUEST", "QUARANTINE", "BY", "UNTIL", "WHY"], |approval| {
            [
                approval.id.to_string(),
                approval.quarantine.to_string(),
                approval.requested_by.clone(),
                approval.expires_at.to_string(),
                approval.reason.clone(),
            ]
        })?;
    }
    Ok(())
}

fn told(context: &Context, document: &impl serde::Serialize, message: &str) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(document);
    }
    println!("{message}");
    Ok(())
}
