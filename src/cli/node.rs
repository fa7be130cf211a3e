//! `debvisor node`: which nodes there are, and how they run machines.

use super::client::{Client, Connection, print_json, print_list, word};
use super::{Context, Ended, Format};
use crate::types::step::NodeFacts;

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
    List,
    /// Show one node: its accelerator and why that one, and how it proves what machines read
    Show {
        /// The node; without it, the only one
        node: Option<String>,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let nodes: crate::api::Page<NodeFacts> = client.get("/v1/nodes")?;
    match args.command {
        Command::List => {
            print_list(context, &nodes.items, ["NAME", "HYPERVISOR", "ACCELERATOR", "CPUS", "MEMORY"], |node| {
                [
                    node.name.clone(),
                    node.hypervisor.clone(),
                    node.accelerator.map_or_else(|| "none".to_owned(), |accelerator| word(&accelerator)),
                    node.cpus.to_string(),
                    format!("{} MiB", node.memory_mib),
                ]
            })?
        }
        Command::Show { node } => {
            let name = node.or_else(|| nodes.items.first().map(|node| node.name.clone())).unwrap_or_default();
            let node: NodeFacts = client.get(&format!("/v1/nodes/{name}"))?;
            show(&node, context)?;
        }
    }
    Ok(Ended::Done)
}

fn show(node: &NodeFacts, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(node);
    }
    let accelerator = node.accelerator.map_or_else(|| "none".to_owned(), |accelerator| word(&accelerator));
    println!("name         {}", node.name);
    println!("hypervisor   {}", node.hypervisor);
    println!("accelerator  {accelerator}: {}", node.accelerator_reason);
    println!("reads        {}", node.tiers.iter().map(word).collect::<Vec<_>>().join(", "));
    println!("policy       {}", node.policy);
    println!("processors   {}", node.cpus);
    println!("memory       {} MiB", node.memory_mib);
    println!("seen         {}", node.seen_at);
    Ok(())
}
