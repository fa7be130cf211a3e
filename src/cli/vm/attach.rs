//! `debvisor vm attach`: what is plugged in, and where.

use super::super::UsageError;
use super::super::client::Client;
use super::spec::{digest, nic};
use crate::api::VmView;
use crate::types::step::Action;
use crate::types::vm::Disk;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["disk", "iso", "nic"]))]
pub(super) struct AttachArgs {
    /// The machine
    vm: String,
    /// A disk image, by digest or name
    #[arg(long, value_name = "IMAGE")]
    disk: Option<String>,
    /// An ISO image; it replaces what is in the drive
    #[arg(long, value_name = "IMAGE")]
    iso: Option<String>,
    /// A network card: user, or bridge=NAME; with ,rom=IMAGE its firmware
    #[arg(long, value_name = "NETWORK")]
    nic: Option<String>,
    /// Every write to the disk is an error
    #[arg(long, requires = "disk")]
    read_only: bool,
    /// Where: disk1, iso0, nic1; without it the next free place, and the first drive
    #[arg(long)]
    slot: Option<String>,
}

/// The machine, and what is done to it.
pub(super) fn action(client: &Client, args: AttachArgs) -> anyhow::Result<(String, Action)> {
    let vm: VmView = client.get(&super::path(&args.vm, ""))?;
    let next = |kind: &str, count: usize| args.slot.clone().unwrap_or_else(|| format!("{kind}{count}"));
    let action = match (args.disk, args.iso, args.nic) {
        (Some(image), _, _) => {
            let disk = Disk { image: digest(client, &image)?, size_bytes: None, read_only: args.read_only };
            Action::AttachDisk { slot: next("disk", vm.spec.disks.len()), disk }
        }
        (_, Some(image), _) => Action::AttachIso { slot: next("iso", 0), image: digest(client, &image)? },
        (_, _, Some(text)) => Action::AttachNic { slot: next("nic", vm.spec.nics.len()), nic: nic(client, &text)? },
        _ => return Err(UsageError::new("nothing is named", "--disk, --iso or --nic").into()),
    };
    Ok((args.vm, action))
}
