//! `debvisor vm`: machines. What is asked for is waited for, and a refusal tells each of its reasons.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use reqwest::Method;

use super::client::{Client, Connection, outcome, print_json, print_list, told, word};
use super::{Context, Ended, Format};
use crate::api::{MoveRequest, PowerRequest, VmView};
use crate::store::Operation;
use crate::types::step::Action;

mod attach;
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
    List {
        /// Show the list again whenever something happens
        #[arg(long, short)]
        watch: bool,
    },
    /// Show one machine: what it shall be, what it is, and why it is not
    Show(Named),
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
    Console {
        /// The machine
        vm: String,
        /// Only what came out so far
        #[arg(long)]
        log: bool,
    },
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
        Command::List { watch } => list(&client, watch, context)?,
        Command::Show(Named { vm }) => show(&client.get(&path(&vm, ""))?, context)?,
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
        Command::Console { vm, log } => console(&client, &vm, log)?,
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

fn list(client: &Client, watch: bool, context: &Context) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let machines: Vec<VmView> = client.all("/v1/vms")?;
        print_list(context, &machines, ["NAME", "PROJECT", "STATE", "WANTED", "CPUS", "MEMORY", "NOTE"], |vm| {
            [
                vm.name.clone(),
                vm.project.clone(),
                state(vm),
                word(&vm.power),
                vm.spec.cpus.to_string(),
                format!("{} MiB", vm.spec.memory_mib),
                note(vm),
            ]
        })?;
        if !watch {
            return Ok(());
        }
        let from = after.as_ref().map_or_else(|| "last=0".to_owned(), |after| format!("after={after}"));
        let page: crate::api::Page<serde_json::Value> = client.get(&format!("/v1/events?{from}&kind=vm.&wait=60"))?;
        after = page.next;
        println!();
    }
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
    println!("name         {}", vm.name);
    println!("id           {}", vm.id);
    println!("node         {}", vm.node);
    println!("project      {}", vm.project);
    println!("generation   {}", vm.generation);
    println!("wanted       {}", word(&vm.power));
    println!("state        {}", state(vm));
    println!("processors   {}", vm.spec.cpus);
    println!("memory       {} MiB", vm.spec.memory_mib);
    for (slot, kind, digest) in vm.spec.artifacts() {
        let running = vm.observed.as_ref().and_then(|seen| seen.slots.iter().find(|place| place.slot == slot));
        let tier = running.and_then(|place| place.tier).map(|tier| format!("  read by {}", word(&tier)));
        println!("{slot:12} {} {digest}{}", kind.name(), tier.unwrap_or_default());
    }
    if let Some(seen) = &vm.observed {
        if let Some(accelerator) = seen.accelerator {
            println!("accelerator  {}", word(&accelerator));
        }
        if seen.isolated {
            println!("links        down");
        }
        if !seen.snapshots.is_empty() {
            println!("snapshots    {}", seen.snapshots.join(", "));
        }
        if let Some(note) = &seen.note {
            println!("note         {note}");
        }
    }
    if !vm.quarantined.is_empty() {
        println!("quarantined  {}", told(&vm.quarantined).replace("\n       ", "\n             "));
    }
    if let Some(hold) = &vm.hold {
        println!("held         {} ({})", hold.message, hold.at);
        for reason in &hold.reasons {
            println!("             {}", told(std::slice::from_ref(reason)));
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

/// Ctrl-], as other consoles have it.
const LEAVE: u8 = 0x1d;

fn console(client: &Client, vm: &str, log: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if log {
        return client.run(async |client| {
            let mut response = client.sent(client.request(Method::GET, &path(vm, "/console"))).await?;
            while let Some(piece) = response.chunk().await? {
                out.write_all(&piece)?;
            }
            Ok(())
        });
    }
    let (typed, mut typing) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    let terminal = RawTerminal::enter();
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut piece) {
            let bytes = piece.get(..count).unwrap_or_default().to_vec();
            if typed.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    let outcome = client.run(async |client| {
        let follow = client.request(Method::GET, &path(vm, "/console?follow=true"));
        let mut response = client.sent(follow).await?;
        let mut open = true;
        loop {
            tokio::select! {
                piece = response.chunk() => match piece? {
                    Some(piece) => {
                        out.write_all(&piece)?;
                        out.flush()?;
                    }
                    None => return Ok(()),
                },
                bytes = typing.recv(), if open => match bytes {
                    Some(bytes) if bytes.contains(&LEAVE) && terminal.is_some() => return Ok(()),
                    Some(bytes) => drop(client.sent(client.request(Method::POST, &path(vm, "/console")).body(bytes)).await?),
                    // What was piped in is at its end: what comes out is still to be read, for a while.
                    None => open = false,
                },
                () = tokio::time::sleep(Duration::from_secs(2)), if !open && terminal.is_none() => return Ok(()),
            }
        }
    });
    drop(terminal);
    outcome
}

/// A terminal that passes keys on as they are typed, and is as before when this is dropped.
struct RawTerminal(rustix::termios::Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
