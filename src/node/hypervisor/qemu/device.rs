//! Disks, ISO images and cards that come and go while a machine runs, each by a permit.
//!
//! The record has a device before QEMU has it: what may be inside is re-admitted at a reset, and better too much than
//! too little is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::args::{self, BlockPlan, Overlay};
use super::machine::{Live, Machine};
use super::record::{BlockRecord, NicRecord};
use super::{Inner, network, start};
use crate::node::hypervisor::launch::{BlockSource, SealedArtifact};
use crate::node::hypervisor::observed::Artifact;
use crate::node::hypervisor::{Answer, HypervisorError};
use crate::release::admit::BootPermit;
use crate::types::vm::{ArtifactKind, BootPath, Network, Nic, VmId};
use crate::types::{Code, limits};

/// How long a guest may take to let go of a device.
const LET_GO: Duration = Duration::from_secs(30);

/// Plugs in a disk or an ISO image.
pub(super) async fn attach_block(
    inner: &Arc<Inner>,
    permit: BootPermit,
    vm: VmId,
    source: BlockSource,
    path: BootPath,
    writable: bool,
) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    inner.gate().block(&permit, vm, path, &source)?;
    let (kind, prefix, count) = match path {
        BootPath::AttachIso => (ArtifactKind::Iso, "iso", limits::MACHINE_ISOS),
        _ => (ArtifactKind::Disk, "disk", limits::MACHINE_DISKS),
    };
    let known = (0..count).any(|index| source.slot == format!("{prefix}{index}"));
    if !known || source.kind != kind {
        return Err(HypervisorError::refused(
            Code::MachineMalformed,
            format!("`{}` is no place for this in machine {vm}", source.slot),
        ));
    }
    let record = machine.record()?;
    if record.blocks.iter().any(|block| block.slot == source.slot) {
        return Err(taken(vm, &source.slot));
    }
    let block = BlockRecord {
        overlay: writable.then(|| start::overlay_name(&source.slot, &source.digest)),
        overlay_bytes: source.virtual_bytes,
        slot: source.slot.clone(),
        digest: source.digest.clone(),
        socket: source.socket.clone(),
        format: source.format,
    };
    machine.update(|record| {
        record.artifacts.push(Artifact { slot: source.slot.clone(), kind, digest: source.digest.clone() });
        record.blocks.push(block.clone());
    })?;
    let plugged = plug_block(&machine, &live, &block).await;
    if plugged.is_err() {
        unplug_block(&live, &block).await;
        machine.update(|record| {
            record.artifacts.retain(|artifact| artifact.slot != source.slot);
            record.blocks.retain(|block| block.slot != source.slot);
        })?;
    }
    plugged
}

async fn plug_block(machine: &Machine, live: &Live, block: &BlockRecord) -> Answer<()> {
    let failed = |error: io::Error| HypervisorError::failed("plug a disk into", live.vm, error);
    let overlay = match &block.overlay {
        Some(image) => {
            let path = machine.folder().image(image);
            start::create_overlay(&path, block.overlay_bytes).await.map_err(failed)?;
            let set = args::set_of(&block.slot);
            let write = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
            hand_over(live, &write, Some(set)).await?;
            hand_over(live, &File::open(&path).map_err(failed)?, Some(set)).await?;
            // The numbers inside QEMU are its own affair; it opens by the set.
            Some(Overlay { set, write_fd: -1, read_fd: -1 })
        }
        None => None,
    };
    let plan = BlockPlan { slot: block.slot.clone(), socket: block.socket.clone(), format: block.format, overlay };
    for node in args::block_nodes(&plan) {
        live.execute("blockdev-add", node).await?;
    }
    live.execute("device_add", object(args::block_device(&block.slot, false))).await.map(|_| ())
}

/// Takes away what is behind a device, as far as it is there.
async fn unplug_block(live: &Live, block: &BlockRecord) {
    let nodes = [block.slot.clone(), format!("{}-image", block.slot), format!("{}-server", block.slot)];
    for node in nodes {
        live.qmp.execute("blockdev-del", json!({ "node-name": node })).await.ok();
    }
    if block.overlay.is_some() {
        live.qmp.execute("remove-fd", json!({ "fdset-id": args::set_of(&block.slot) })).await.ok();
    }
}

/// Plugs in a card.
pub(super) async fn attach_nic(
    inner: &Arc<Inner>,
    permit: BootPermit,
    vm: VmId,
    index: usize,
    nic: Nic,
    option_rom: Option<SealedArtifact>,
) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    inner.gate().nic(&permit, vm, option_rom.as_ref())?;
    let slot = format!("nic{index}");
    let fits = option_rom.as_ref().is_none_or(|rom| rom.slot() == slot && rom.kind() == ArtifactKind::OptionRom);
    if index >= limits::MACHINE_NICS || !fits || nic.option_rom.as_ref() != option_rom.as_ref().map(|rom| rom.digest())
    {
        return Err(HypervisorError::refused(
            Code::BootIncomplete,
            format!("the card for `{slot}` of machine {vm} names another option ROM than the one at hand"),
        ));
    }
    crate::node::hypervisor::gate::nic_form(&nic)?;
    let record = machine.record()?;
    if record.nics.iter().any(|nic| nic.index == index) {
        return Err(taken(vm, &slot));
    }
    let card = NicRecord {
        index,
        mac: nic.mac.clone().unwrap_or_else(|| args::mac_of(vm, index)),
        tap: matches!(nic.network, Network::Bridge { .. }).then(|| network::tap_name(vm, index)),
        nic,
    };
    machine.update(|record| {
        if let Some(rom) = &option_rom {
            record.artifacts.push(Artifact { slot: slot.clone(), kind: rom.kind(), digest: rom.digest().clone() });
        }
        record.nics.push(card.clone());
    })?;
    let plugged = plug_nic(inner, &live, &card, option_rom.as_ref()).await;
    if plugged.is_err() {
        unplug_nic(inner, &machine, &live, &card).await?;
    }
    plugged
}

async fn plug_nic(inner: &Inner, live: &Live, card: &NicRecord, rom: Option<&SealedArtifact>) -> Answer<()> {
    if let (Network::Bridge { bridge }, Some(tap)) = (&card.nic.network, &card.tap) {
        start::tap(inner, live.vm, tap, bridge, &card.mac).await?;
    }
    live.execute("netdev_add", object(args::netdev(card.index, &card.nic.network, card.tap.as_deref()))).await?;
    let handed = match rom {
        Some(rom) => Some(hand_over(live, rom.fd().as_fd(), None).await?),
        None => None,
    };
    let path = handed.map(|(_, fd)| args::descriptor(fd));
    let device = args::nic_device(card.index, &card.mac, path.as_deref(), false);
    let added = live.execute("device_add", object(device)).await;
    if let Some((set, _)) = handed {
        // The card has read its ROM.
        live.qmp.execute("remove-fd", json!({ "fdset-id": set })).await.ok();
    }
    added.map(|_| ())
}

async fn unplug_nic(inner: &Inner, machine: &Machine, live: &Live, card: &NicRecord) -> Answer<()> {
    live.qmp.execute("netdev_del", json!({ "id": format!("nic{}-net", card.index) })).await.ok();
    if let Some(tap) = &card.tap {
        let removed = network::tap_remove(tap, inner.netns()).await;
        removed.map_err(|error| HypervisorError::failed("take the tap device of", live.vm, error))?;
    }
    let slot = format!("nic{}", card.index);
    machine.update(|record| {
        record.artifacts.retain(|artifact| artifact.slot != slot);
        record.nics.retain(|nic| nic.index != card.index);
    })
}

/// Takes out what is in a slot.
pub(super) async fn detach(inner: &Arc<Inner>, vm: VmId, slot: &str) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    let record = machine.record()?;
    let block = record.blocks.iter().find(|block| block.slot == slot);
    let nic = record.nics.iter().find(|nic| format!("nic{}", nic.index) == slot);
    if block.is_none() && nic.is_none() {
        return Ok(());
    }
    let mut heard = live.heard.subscribe();
    match live.qmp.execute("device_del", json!({ "id": slot })).await {
        // It was taken out before, and the rest was not.
        Err(super::qmp::QmpError::Refused { class, .. }) if class == "DeviceNotFound" => {}
        Err(error) => return Err(HypervisorError::failed("take a device out of", vm, error)),
        Ok(_) => {
            let gone = async {
                while let Ok(event) = heard.recv().await {
                    if event.event == "DEVICE_DELETED" && event.data.get("device") == Some(&json!(slot)) {
                        return true;
                    }
                }
                false
            };
            if !timeout(LET_GO, gone).await.unwrap_or_default() {
                return Err(HypervisorError::failed("take a device out of", vm, "the guest does not let go of it"));
            }
        }
    }
    if let Some(block) = block {
        unplug_block(&live, block).await;
        machine.update(|record| {
            record.artifacts.retain(|artifact| artifact.slot != slot);
            record.blocks.retain(|block| block.slot != slot);
        })?;
    }
    if let Some(nic) = nic {
        unplug_nic(inner, &machine, &live, nic).await?;
    }
    Ok(())
}

/// Gives a descriptor to a QEMU that runs: the number of its set, and its own number there.
async fn hand_over(live: &Live, fd: impl std::os::fd::AsFd, set: Option<u32>) -> Answer<(u64, i32)> {
    let arguments = set.map_or_else(|| json!({}), |set| json!({ "fdset-id": set }));
    let answer = live.qmp.execute_with("add-fd", arguments, fd.as_fd()).await;
    let answer = answer.map_err(|error| HypervisorError::failed("hand a descriptor to", live.vm, error))?;
    let set = answer.get("fdset-id").and_then(Value::as_u64);
    let fd = answer.get("fd").and_then(Value::as_i64).and_then(|fd| i32::try_from(fd).ok());
    set.zip(fd).ok_or_else(|| HypervisorError::failed("hand a descriptor to", live.vm, "QEMU says not where it is"))
}

/// Options as the monitor wants them; numbers are numbers there.
fn object(pairs: Vec<(&'static str, String)>) -> Value {
    let number = |name: &str| matches!(name, "channel" | "scsi-id" | "lun" | "bootindex");
    let members: Map<String, Value> = pairs
        .into_iter()
        .map(|(name, value)| match value.parse::<u64>() {
            Ok(count) if number(name) => (name.to_owned(), json!(count)),
            _ => (name.to_owned(), json!(value)),
        })
        .collect();
    Value::Object(members)
}

fn taken(vm: VmId, slot: &str) -> HypervisorError {
    HypervisorError::refused(Code::MachineState, format!("something is in `{slot}` of machine {vm} already"))
}
