//! Snapshots of a machine that runs: memory, devices and disks, inside the machine's own images.
//!
//! The record says what was in the machine when a snapshot was taken. Going back runs all of that again, so all of that
//! is admitted again.

use std::sync::Arc;

use serde_json::json;

use super::Inner;
use super::machine::Live;
use super::process::host_program;
use super::record::Record;
use crate::kill::KillPoint;
use crate::node::hypervisor::observed::{Snapshot, SnapshotName};
use crate::node::hypervisor::{Answer, HypervisorError};
use crate::release::admit::BootPermit;
use crate::types::Code;
use crate::types::vm::{BootPath, VmId};

/// Takes one.
pub(super) async fn create(inner: &Arc<Inner>, vm: VmId, name: SnapshotName) -> Answer<Snapshot> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    live.may_go_on()?;
    let record = machine.record()?;
    if record.snapshots.iter().any(|snapshot| snapshot.name == name) {
        return Err(HypervisorError::refused(
            Code::MachineState,
            format!("machine {vm} has a snapshot `{name}` already"),
        ));
    }
    // One that a crash left in the images and not in the record is nobody's.
    job(&live, "snapshot-delete", &record, &name, false).await.ok();
    job(&live, "snapshot-save", &record, &name, true).await?;
    inner.step(KillPoint::MachineSnapshotTaken).await;
    let snapshot = Snapshot { name, taken_at: (inner.settings.now)(), artifacts: record.artifacts };
    machine.update(|record| record.snapshots.push(snapshot.clone()))?;
    Ok(snapshot)
}

/// Goes back to one.
pub(super) async fn revert(inner: &Arc<Inner>, permit: BootPermit, vm: VmId, name: SnapshotName) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    let record = machine.record()?;
    let Some(snapshot) = record.snapshots.iter().find(|snapshot| snapshot.name == name) else {
        return Err(unknown(vm, &name));
    };
    inner.gate().again(&permit, vm, &[BootPath::RevertSnapshot], &snapshot.artifacts)?;
    let sorted = |artifacts: &[_]| {
        let mut artifacts = artifacts.to_vec();
        artifacts.sort();
        artifacts
    };
    if sorted(&snapshot.artifacts) != sorted(&record.artifacts) {
        return Err(HypervisorError::refused(
            Code::MachineState,
            format!("other disks, images or cards are in machine {vm} than when `{name}` was taken"),
        ));
    }
    let ran = live.runs().await || live.waits_for().is_some();
    live.execute("stop", json!({})).await?;
    let loaded = job(&live, "snapshot-load", &record, &name, true).await;
    if loaded.is_ok() {
        live.wait_for(None);
    }
    if ran && (loaded.is_ok() || live.waits_for().is_none()) {
        live.execute("cont", json!({})).await?;
    }
    loaded
}

/// Forgets one, in the images first: a record without a snapshot hides one that is there, and never the reverse.
pub(super) async fn delete(inner: &Arc<Inner>, vm: VmId, name: SnapshotName) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    machine.take_up(inner).await?;
    let record = machine.record()?;
    if !record.snapshots.iter().any(|snapshot| snapshot.name == name) {
        return Err(unknown(vm, &name));
    }
    match machine.live() {
        Some(live) => job(&live, "snapshot-delete", &record, &name, false).await?,
        None => {
            for image in nodes(&record).into_iter().map(|(_, image)| machine.folder().image(&image)) {
                let path = image.display().to_string();
                // An image that came later does not have it.
                host_program("qemu-img", &["snapshot", "-d", name.as_str(), &path], None).await.ok();
            }
        }
    }
    machine.update(|record| record.snapshots.retain(|snapshot| snapshot.name != name))
}

async fn job(live: &Live, command: &str, record: &Record, name: &SnapshotName, memory: bool) -> Answer<()> {
    let devices: Vec<String> = nodes(record).into_iter().map(|(node, _)| node).collect();
    let mut arguments = json!({ "tag": name.as_str(), "devices": devices });
    if let (true, Some(members)) = (memory, arguments.as_object_mut()) {
        members.insert("vmstate".to_owned(), json!("state"));
    }
    let done = live.qmp.job(command, arguments).await;
    done.map_err(|error| HypervisorError::failed("take or load a snapshot of", live.vm, error))
}

/// The block nodes that can be written, and the images behind them.
fn nodes(record: &Record) -> Vec<(String, String)> {
    let mut found = vec![("state".to_owned(), "state".to_owned())];
    if let Some(vars) = record.artifacts.iter().find(|artifact| artifact.slot == "firmware-vars") {
        found.push(("firmware-vars".to_owned(), super::start::overlay_name("firmware-vars", &vars.digest)));
    }
    found.extend(record.blocks.iter().filter_map(|block| Some((block.slot.clone(), block.overlay.clone()?))));
    found
}

fn unknown(vm: VmId, name: &SnapshotName) -> HypervisorError {
    HypervisorError::refused(Code::MachineUnknown, format!("machine {vm} has no snapshot `{name}`"))
}
