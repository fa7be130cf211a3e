//! Memory and devices out of a machine and into another: to a file and back, or to another node with the disks' overlays.
//!
//! Overlays are mirrored by NBD to the node that waits, then memory follows, then the machine stands still for the
//! moment in which the last blocks and pages go over. The images below the overlays are the other node's own, verified
//! there.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Inner;
use super::machine::{Live, Machine};
use super::record::{Folder, Record};
use crate::node::hypervisor::observed::{EventKind, Exit, MigrationReport};
use crate::node::hypervisor::{Answer, HypervisorError, MigrationSockets};
use crate::types::vm::VmId;

/// How long a migration may take, and how long one may stand still without a byte.
const LIMIT: Duration = Duration::from_secs(3600);

/// Where a machine of this folder is waited for.
pub(super) fn sockets(folder: &Folder) -> MigrationSockets {
    MigrationSockets { state: folder.run().join("migration.sock"), disks: folder.run().join("mirror.sock") }
}

/// Writes memory to the machine's folder and ends it.
pub(super) async fn save(inner: &Arc<Inner>, vm: VmId) -> Answer<()> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    live.may_go_on()?;
    let failed = |error: std::io::Error| HypervisorError::failed("save", vm, error);
    let path = machine.folder().saved_state();
    let new = path.with_extension("new");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&new);
    let file = file.map_err(failed)?;
    let ran = live.runs().await;
    live.execute("stop", json!({})).await?;
    let handed = live.qmp.execute_with("getfd", json!({ "fdname": "saved" }), file.as_fd()).await;
    handed.map_err(|error| HypervisorError::failed("save", vm, error))?;
    live.execute("migrate", json!({ "uri": "fd:saved" })).await?;
    if let Err(error) = finished(&live, &["completed"]).await {
        if ran {
            live.execute("cont", json!({})).await?;
        }
        return Err(error);
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    machine.update(|record| record.saved = true)?;
    machine.ending(Exit::Saved)?;
    live.qmp.execute("quit", json!({})).await.ok();
    if live.ended_within(super::END).await {
        return Ok(());
    }
    live.process.kill().map_err(failed)?;
    live.ended_within(super::END).await;
    Ok(())
}

/// Reads the saved memory into a machine that waits for it.
pub(super) async fn restore(machine: &Machine, live: &Live) -> Answer<()> {
    let vm = machine.vm();
    let file = File::open(machine.folder().saved_state());
    let file = file.map_err(|error| HypervisorError::failed("restore", vm, error))?;
    let handed = live.qmp.execute_with("getfd", json!({ "fdname": "saved" }), file.as_fd()).await;
    handed.map_err(|error| HypervisorError::failed("restore", vm, error))?;
    live.execute("migrate-incoming", json!({ "uri": "fd:saved" })).await?;
    finished(live, &["completed"]).await.map(|_| ())
}

/// Opens the sockets at which a machine is waited for.
pub(super) async fn listen(machine: &Machine, live: &Live, _owner: Option<(u32, u32)>) -> Answer<()> {
    let sockets = sockets(machine.folder());
    for socket in [&sockets.state, &sockets.disks] {
        let _ = fs::remove_file(socket);
    }
    let record = machine.record()?;
    let overlays = overlays(&record);
    if !overlays.is_empty() {
        let address = json!({ "type": "unix", "data": { "path": sockets.disks } });
        live.execute("nbd-server-start", json!({ "addr": address })).await?;
        for slot in overlays {
            let export = json!({
                "type": "nbd", "id": format!("mirror-{slot}"), "node-name": slot, "name": slot, "writable": true,
            });
            live.execute("block-export-add", export).await?;
        }
    }
    live.execute("migrate-incoming", json!({ "uri": format!("unix:{}", sockets.state.display()) })).await.map(|_| ())
}

/// Goes on with a machine that has arrived; ends one that never will.
pub(super) async fn arrived(inner: &Arc<Inner>, live: &Live, status: &str) {
    let machine = inner.machine(live.vm);
    match status {
        "completed" => {
            // What mirrors was written to is the guest's from now on.
            live.qmp.execute("nbd-server-stop", json!({})).await.ok();
            live.wait_for(None);
            let paused = machine.record().is_ok_and(|record| record.paused);
            if !paused && let Err(error) = live.execute("cont", json!({})).await {
                tracing::error!(vm = %live.vm, %error, "machine {} arrived and does not run", live.vm);
            }
            inner.emit(live.vm, EventKind::Started);
        }
        "failed" => {
            let exit = Exit::Died { detail: "the machine did not arrive".to_owned() };
            if machine.ending(exit).is_ok() {
                live.qmp.execute("quit", json!({})).await.ok();
            }
        }
        _ => {}
    }
}

/// Sends a machine to where it is waited for.
pub(super) async fn out(inner: &Arc<Inner>, vm: VmId, peer: MigrationSockets) -> Answer<MigrationReport> {
    let machine = inner.machine(vm);
    let _work = machine.work().await;
    let live = machine.running(inner).await?;
    live.may_go_on()?;
    let overlays = overlays(&machine.record()?);
    let sent = send(&live, &overlays, &peer).await;
    match sent {
        Ok(report) => {
            machine.ending(Exit::Migrated)?;
            live.qmp.execute("quit", json!({})).await.ok();
            if !live.ended_within(super::END).await {
                live.process.kill().map_err(|error| HypervisorError::failed("end", vm, error))?;
                live.ended_within(super::END).await;
            }
            Ok(report)
        }
        Err(error) => {
            // The machine is still here, and goes on here.
            live.qmp.execute("migrate_cancel", json!({})).await.ok();
            for slot in &overlays {
                let job = json!({ "device": format!("mirror-{slot}"), "force": true });
                live.qmp.execute("block-job-cancel", job).await.ok();
            }
            if !live.runs().await {
                live.qmp.execute("cont", json!({})).await.ok();
            }
            for slot in &overlays {
                gone(&live, slot).await.ok();
                live.qmp.execute("blockdev-del", json!({ "node-name": format!("{slot}-peer") })).await.ok();
            }
            Err(error)
        }
    }
}

async fn send(live: &Live, overlays: &[String], peer: &MigrationSockets) -> Answer<MigrationReport> {
    for slot in overlays {
        let node = json!({
            "driver": "nbd", "node-name": format!("{slot}-peer"), "export": slot,
            "server": { "type": "unix", "path": peer.disks },
        });
        live.execute("blockdev-add", node).await?;
        let mirror = json!({
            "job-id": format!("mirror-{slot}"), "device": slot, "target": format!("{slot}-peer"), "sync": "top",
        });
        live.execute("blockdev-mirror", mirror).await?;
    }
    let begin = Instant::now();
    while !mirrored(live, overlays).await? {
        if begin.elapsed() > LIMIT {
            return Err(HypervisorError::failed("migrate", live.vm, "its disks are not through in time"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let switchover = json!({ "capabilities": [{ "capability": "pause-before-switchover", "state": true }] });
    live.execute("migrate-set-capabilities", switchover).await?;
    live.execute("migrate", json!({ "uri": format!("unix:{}", peer.state.display()) })).await?;
    finished(live, &["pre-switchover", "completed"]).await?;
    // It stands still: what the mirrors have is all there is.
    for slot in overlays {
        live.execute("block-job-cancel", json!({ "device": format!("mirror-{slot}") })).await?;
        gone(live, slot).await?;
    }
    live.execute("migrate-continue", json!({ "state": "pre-switchover" })).await?;
    let done = finished(live, &["completed"]).await?;
    let number = |pointer: &str| done.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    Ok(MigrationReport {
        total_ms: number("/total-time"),
        downtime_ms: number("/downtime"),
        bytes: number("/ram/transferred"),
    })
}

/// Whether every mirror has everything and only follows.
async fn mirrored(live: &Live, overlays: &[String]) -> Answer<bool> {
    let jobs = live.execute("query-block-jobs", json!({})).await?;
    let jobs = jobs.as_array().cloned().unwrap_or_default();
    for slot in overlays {
        let name = json!(format!("mirror-{slot}"));
        match jobs.iter().find(|job| job.get("device") == Some(&name)) {
            Some(job) if job.get("ready") == Some(&json!(true)) => {}
            Some(_) => return Ok(false),
            None => return Err(HypervisorError::failed("migrate", live.vm, format!("the mirror of `{slot}` failed"))),
        }
    }
    Ok(true)
}

/// Waits until a mirror is through with its end.
async fn gone(live: &Live, slot: &str) -> Answer<()> {
    let name = json!(format!("mirror-{slot}"));
    let begin = Instant::now();
    loop {
        let jobs = live.execute("query-block-jobs", json!({})).await?;
        let there = jobs.as_array().is_some_and(|jobs| jobs.iter().any(|job| job.get("device") == Some(&name)));
        if !there {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(HypervisorError::failed("migrate", live.vm, format!("the mirror of `{slot}` does not end")));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a migration is in one of these states.
async fn finished(live: &Live, states: &[&str]) -> Answer<Value> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let answer = live.execute("query-migrate", json!({})).await?;
        let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
        if states.contains(&status) {
            return Ok(answer);
        }
        if matches!(status, "failed" | "cancelled") {
            let why = answer.get("error-desc").and_then(Value::as_str).unwrap_or("the other side gave up");
            return Err(HypervisorError::failed("migrate", live.vm, why.to_owned()));
        }
        if begin.elapsed() > LIMIT {
            return Err(HypervisorError::failed("migrate", live.vm, "it is not through in time"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn overlays(record: &Record) -> Vec<String> {
    record.blocks.iter().filter(|block| block.overlay.is_some()).map(|block| block.slot.clone()).collect()
}
