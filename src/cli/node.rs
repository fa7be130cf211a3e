//! `debvisor node`: which nodes there are, and how they run machines.

use super::client::{Client, Connection, ListArgs, print_json, print_rows, word};
use super::{Context, Ended, Format, watch};
use crate::api::{NodeView, Page};
use crate::types::step::TierState;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the nodes
    List(ListArgs),
    /// Show one node: its accelerator and why that one, and how it proves what machines read
    Show {
        /// The node; without it, the only one
        node: Option<String>,
    },
}

const HEAD: [&str; 5] = ["NAME", "HYPERVISOR", "ACCELERATOR", "CPUS", "MEMORY"];

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let fetch = || Ok(client.get::<Page<NodeView>>("/v1/nodes")?.items);
    match args.command {
        Command::List(args) => {
            let row = |NodeView { facts: node, .. }: &NodeView| {
                [
                    node.name.clone(),
                    node.hypervisor.clone(),
                    node.accelerator.map_or_else(|| "none".to_owned(), |accelerator| word(&accelerator)),
                    node.cpus.to_string(),
                    format!("{} MiB", node.memory_mib),
                ]
            };
            if args.watch {
                let key = |node: &NodeView| node.facts.name.clone();
                let shown = watch::Shown { head: HEAD, kinds: &["node."], key: &key, row: &row, fetch: &fetch };
                watch::list(&client, context, args.no_headers, &shown)?;
            } else {
                print_rows(context, &fetch()?, (!args.no_headers).then_some(HEAD), row)?;
            }
        }
        Command::Show { node } => {
            let name = match node {
                Some(name) => name,
                None => fetch()?.first().map(|node| node.facts.name.clone()).unwrap_or_default(),
            };
            let node: NodeView = client.get(&format!("/v1/nodes/{name}"))?;
            show(&node, context)?;
        }
    }
    Ok(Ended::Done)
}

fn show(view: &NodeView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(view);
    }
    let node = &view.facts;
    let accelerator = node.accelerator.map_or_else(|| "none".to_owned(), |accelerator| word(&accelerator));
    println!("name         {}", node.name);
    println!("hypervisor   {}", node.hypervisor);
    println!("accelerator  {accelerator}: {}", node.accelerator_reason);
    println!("reads        {}", node.tiers.iter().map(word).collect::<Vec<_>>().join(", "));
    for TierState { tier, absent } in &node.tiers_absent {
        println!("             not by {}: {}", word(tier), absent.as_deref().unwrap_or_default());
    }
    println!("policy       {}", node.policy);
    let rules = if view.rules_behind { "older than they are by now; nothing is started on it" } else { "the newest" };
    println!("rules        {rules}");
    println!("processors   {}", node.cpus);
    println!("memory       {} MiB", node.memory_mib);
    println!("seen         {}", node.seen_at);
    Ok(())
}
