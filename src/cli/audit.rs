//! `debvisor audit`: who did what, why, and whether the log is whole.

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format};
use crate::control::audit::AuditVerdict;
use crate::release::decision::Decision;

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
    List,
    /// Check every record against its hash and the chain over them
    Verify,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::List => {
            let records: Vec<serde_json::Value> = client.all("/v1/audit")?;
            let text = |record: &serde_json::Value, field: &str| {
                record.get(field).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            print_list(context, &records, ["SEQ", "AT", "WHO", "WHAT", "OBJECT", "OUTCOME", "WHY"], |record| {
                let why = record
                    .get("why")
                    .and_then(|why| why.as_array())
                    .map(|why| why.iter().filter_map(|why| why.as_str()).collect::<Vec<_>>().join(", "));
                let field = |name: &str| text(record, name).unwrap_or_default();
                let [seq, at, actor] = ["seq", "at", "actor"].map(field);
                let [action, object, outcome] = ["action", "object", "outcome"].map(field);
                [seq, at, actor, action, object, outcome, why.unwrap_or_default()]
            })?;
            Ok(Ended::Done)
        }
        Command::Verify => {
            let verdict: AuditVerdict = client.get("/v1/audit/verify")?;
            if context.format == Format::Text {
                println!("records  {}", verdict.records);
                println!("chain    {}", verdict.chain);
                println!("{}", verdict.fault.as_deref().unwrap_or("the log is whole"));
            } else {
                print_json(&verdict)?;
            }
            Ok(Ended::Decided(if verdict.sound { Decision::Allow } else { Decision::Deny }))
        }
    }
}
