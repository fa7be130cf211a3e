//! `debvisor vm`: machines. What is asked for is waited for, and a refusal tells each of its reasons.

use std::fmt::Write as _;

use reqwest::Method;

use super::client::{Client, Connection, ListArgs, outcome, print_json, print_list, print_rows, told, word};
use super::{Context, Ended, Format, watch};
use crate::api::{MoveRequest, PowerRequest, VmView};
use crate::store::Operation;
use crate::types::step::Action;

mod attach;
mod console;
mod spec;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Describe a machine
    Create(Box<spec::CreateArgs>),
    /// List the machines
    List(ListArgs),
    /// Show one machine: what it shall be, what it is, and why it is not
    Show {
        #[command(flatten)]
        named: Named,
        /// Go on, and show it again whenever it changes
        #[arg(long, short)]
        watch: bool,
    },
    /// Switch a machine on, through the gate
    Start(Asked),
    /// Switch a machine off
    Stop {
        #[command(flatten)]
        asked: Asked,
        /// At once, without asking the guest
        #[arg(long)]
        force: bool,
    },
    /// Halt a machine's processors
    Pause(Asked),
    /// Let them run again
    Resume(Asked),
    /// Reset a machine, through the gate
    Reset(Asked),
    /// Write a machine's memory down and switch it off; its next start goes on from there
    Save(Asked),
    /// Make room for a machine that another node sends, through the gate
    Receive(Asked),
    /// Give a machine to another project, whose quota must have room for it
    Move {
        /// The machine, by name or identity
        vm: String,
        /// The project
        project: String,
    },
    /// Remove a machine, running or not, with its overlays and snapshots
    Delete(Asked),
    /// Read the serial console, and type into it; Ctrl-] ends that
    Console(console::ConsoleArgs),
    /// Plug a disk, an ISO image or a network card into a running machine, through the gate
    Attach(attach::AttachArgs),
    /// Take out what is in a slot: disk1, iso0, nic1
    Detach {
        /// The machine
        vm: String,
        /// The slot
        slot: String,
    },
    /// Keep snapshots, go back to them, forget them
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// List what was asked of a machine
    Operations(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The machine, by name or identity
    vm: String,
}

#[derive(Debug, clap::Args)]
struct Asked {
    /// The machine, by name or identity
    vm: String,
    /// Return when it is written down, not when it is done
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Snapshot {
    /// Keep memory, devices and disks of a running machine under a name
    Create {
        /// The machine
        vm: String,
        /// The name
        name: String,
    },
    /// Go back to a snapshot, through the gate
    Revert {
        /// The machine
        vm: String,
        /// The name
        name: String,
    },
    /// Forget a snapshot
    Delete {
        /// The machine
        vm: String,
        /// The name
        name: String,
    },
    /// List a machine's snapshots
    List(Named),
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Create(args) => spec::create(&client, &args, context)?,
        Command::List(args) => list(&client, args, context)?,
        Command::Show { named, watch: true } => {
            let path = path(&named.vm, "");
            watch::one(&client, context, KINDS, || client.get(&path), shown)?;
        }
        Command::Show { named, watch: false } => show(&client.get(&path(&named.vm, ""))?, context)?,
        Command::Start(asked) => power(&client, &asked, &PowerRequest::Start, context)?,
        Command::Stop { asked, force } => power(&client, &asked, &PowerRequest::Stop { force }, context)?,
        Command::Pause(asked) => power(&client, &asked, &PowerRequest::Pause, context)?,
        Command::Resume(asked) => power(&client, &asked, &PowerRequest::Resume, context)?,
        Command::Receive(asked) => power(&client, &asked, &PowerRequest::Receive, context)?,
        Command::Reset(asked) => act(&client, &asked, &Action::Reset, context)?,
        Command::Save(asked) => act(&client, &asked, &Action::Save, context)?,
        Command::Move { vm, project } => {
            let moved: VmView = client.send(Method::PUT, &path(&vm, "/project"), &MoveRequest { project })?;
            show(&moved, context)?;
        }
        Command::Delete(asked) => {
            let operation: Operation = client.ask(Method::DELETE, &path(&asked.vm, ""))?;
            finish(&client, operation, asked.no_wait, context)?;
        }
        Command::Console(args) => console::run(&client, &args)?,
        Command::Attach(args) => {
            let (vm, action) = attach::action(&client, args)?;
            act(&client, &Asked { vm, no_wait: false }, &action, context)?;
        }
        Command::Detach { vm, slot } => act(&client, &Asked { vm, no_wait: false }, &Action::Detach { slot }, context)?,
        Command::Snapshot(snapshot) => snapshots(&client, snapshot, context)?,
        Command::Operations(Named { vm }) => {
            let all: Vec<Operation> = client.all(&path(&vm, "/operations"))?;
            print_list(context, &all, ["ID", "KIND", "STATE", "BY", "ASKED", "ENDED"], |operation| {
                [
                    operation.id.to_string(),
                    operation.kind.clone(),
                    word(&operation.state),
                    operation.created_by.clone(),
                    operation.created_at.to_string(),
                    operation.ended_at.map(|at| at.to_string()).unwrap_or_default(),
                ]
            })?;
        }
    }
    Ok(Ended::Done)
}

/// The address of a machine, and what is below it.
fn path(vm: &str, below: &str) -> String {
    let vm: String = url::form_urlencoded::byte_serialize(vm.as_bytes()).collect();
    format!("/v1/vms/{vm}{below}")
}

fn power(client: &Client, asked: &Asked, request: &PowerRequest, context: &Context) -> anyhow::Result<()> {
    let operation: Operation = client.send(Method::POST, &path(&asked.vm, "/power"), request)?;
    finish(client, operation, asked.no_wait, context)
}

fn act(client: &Client, asked: &Asked, action: &Action, context: &Context) -> anyhow::Result<()> {
    let operation: Operation = client.send(Method::POST, &path(&asked.vm, "/actions"), action)?;
    finish(client, operation, asked.no_wait, context)
}

fn finish(client: &Client, operation: Operation, no_wait: bool, context: &Context) -> anyhow::Result<()> {
    let operation = if no_wait { operation } else { client.end_of(&operation)? };
    if context.format != Format::Text {
        print_json(&operation)?;
    } else if no_wait {
        println!("{} {}", operation.kind, operation.id);
    }
    if no_wait { Ok(()) } else { outcome(&operation) }
}

/// Kinds of events after which a machine can be another.
const KINDS: &[&str] = &["vm.", "quarantine.", "override.", "image."];

const HEAD: [&str; 7] = ["NAME", "PROJECT", "STATE", "WANTED", "CPUS", "MEMORY", "NOTE"];

fn list(client: &Client, args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let row = |vm: &VmView| {
        [
            vm.name.clone(),
            vm.project.clone(),
            state(vm),
            word(&vm.power),
            vm.spec.cpus.to_string(),
            format!("{} MiB", vm.spec.memory_mib),
            note(vm),
        ]
    };
    let fetch = || client.all("/v1/vms");
    if args.watch {
        let key = |vm: &VmView| vm.id.to_string();
        let shown = watch::Shown { head: HEAD, kinds: KINDS, key: &key, row: &row, fetch: &fetch };
        return watch::list(client, context, args.no_headers, &shown);
    }
    print_rows(context, &fetch()?, (!args.no_headers).then_some(HEAD), row)
}

fn state(vm: &VmView) -> String {
    vm.observed.as_ref().map_or_else(|| "stopped".to_owned(), |seen| word(&seen.power))
}

/// The one thing that is worth saying of a machine in a list.
fn note(vm: &VmView) -> String {
    if let Some(reason) = vm.quarantined.first() {
        return format!("quarantined: {}", reason.code);
    }
    if let Some(hold) = &vm.hold {
        let codes: Vec<&str> = hold.reasons.iter().map(|reason| reason.code.as_str()).collect();
        return if codes.is_empty() { hold.message.clone() } else { format!("refused: {}", codes.join(", ")) };
    }
    vm.observed.as_ref().and_then(|seen| seen.note.clone()).unwrap_or_default()
}

fn show(vm: &VmView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(vm);
    }
    print!("{}", shown(vm));
    Ok(())
}

/// A machine for people.
fn shown(vm: &VmView) -> String {
    let mut text = String::new();
    let _ = write_shown(&mut text, vm);
    text
}

fn write_shown(out: &mut String, vm: &VmView) -> std::fmt::Result {
    writeln!(out, "name         {}", vm.name)?;
    writeln!(out, "id           {}", vm.id)?;
    writeln!(out, "node         {}", vm.node)?;
    writeln!(out, "project      {}", vm.project)?;
    writeln!(out, "generation   {}", vm.generation)?;
    writeln!(out, "wanted       {}", word(&vm.power))?;
    writeln!(out, "state        {}", state(vm))?;
    writeln!(out, "processors   {}", vm.spec.cpus)?;
    writeln!(out, "memory       {} MiB", vm.spec.memory_mib)?;
    for (slot, kind, digest) in vm.spec.artifacts() {
        let running = vm.observed.as_ref().and_then(|seen| seen.slots.iter().find(|place| place.slot == slot));
        let tier = running.and_then(|place| place.tier).map(|tier| format!("  read by {}", word(&tier)));
        writeln!(out, "{slot:12} {} {digest}{}", kind.name(), tier.unwrap_or_default())?;
    }
    if let Some(seen) = &vm.observed {
        let reasons = seen.slots.iter().filter_map(|place| Some((&place.slot, place.tier_reason.as_ref()?)));
        for (slot, reason) in reasons {
            println!("reads        {slot} by no better tier: {reason}");
        }
        if let Some(accelerator) = seen.accelerator {
            writeln!(out, "accelerator  {}", word(&accelerator))?;
        }
        if seen.isolated {
            writeln!(out, "links        down")?;
        }
        if !seen.snapshots.is_empty() {
            writeln!(out, "snapshots    {}", seen.snapshots.join(", "))?;
        }
        if let Some(note) = &seen.note {
            writeln!(out, "note         {note}")?;
        }
    }
    if !vm.quarantined.is_empty() {
        writeln!(out, "quarantined  {}", told(&vm.quarantined).replace("\n       ", "\n             "))?;
    }
    if let Some(hold) = &vm.hold {
        writeln!(out, "held         {} ({})", hold.message, hold.at)?;
        for reason in &hold.reasons {
            writeln!(out, "             {}", told(std::slice::from_ref(reason)))?;
        }
    }
    Ok(())
}

fn snapshots(client: &Client, snapshot: Snapshot, context: &Context) -> anyhow::Result<()> {
    let (vm, action) = match snapshot {
        Snapshot::Create { vm, name } => (vm, Action::CreateSnapshot { name }),
        Snapshot::Revert { vm, name } => (vm, Action::RevertSnapshot { name }),
        Snapshot::Delete { vm, name } => (vm, Action::DeleteSnapshot { name }),
        Snapshot::List(Named { vm }) => {
            let machine: VmView = client.get(&path(&vm, ""))?;
            let all = machine.observed.map(|seen| seen.snapshots).unwrap_or_default();
            return print_list(context, &all, ["NAME"], |name| [name.clone()]);
        }
    };
    act(client, &Asked { vm, no_wait: false }, &action, context)
}
