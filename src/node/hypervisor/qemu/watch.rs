//! QEMU's events in, the machine's out: one task a machine, from its start or its finding again to its end.

use std::fs::OpenOptions;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::machine::{Live, Machine};
use super::process::{last_line, tail};
use super::qmp::Event;
use super::{Inner, migrate};
use crate::kill::KillPoint;
use crate::node::hypervisor::observed::{EventKind, Exit, Waiting};
use crate::types::limits::CONSOLE_LOG_BYTES;

/// How often the console's log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Watches a machine until it ends.
pub(super) fn spawn(
    inner: &Arc<Inner>,
    machine: Arc<Machine>,
    live: Arc<Live>,
    events: mpsc::Receiver<Event>,
    child: Option<Child>,
) {
    // The driver may be dropped; a machine does not keep it.
    tokio::spawn(watch(Arc::downgrade(inner), machine, live, events, child));
}

async fn watch(
    inner: Weak<Inner>,
    machine: Arc<Machine>,
    live: Arc<Live>,
    mut events: mpsc::Receiver<Event>,
    child: Option<Child>,
) {
    let mut look = interval(LOOK);
    let mut listening = true;
    let process = live.process;
    let gone = async {
        match child {
            Some(mut child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
            None => {
                process.gone().await;
                "ended".to_owned()
            }
        }
    };
    tokio::pin!(gone);
    let status = loop {
        tokio::select! {
            status = &mut gone => break status,
            event = events.recv(), if listening => match (event, inner.upgrade()) {
                (Some(event), Some(inner)) => {
                    heard(&inner, &machine, &live, &event).await;
                    // Nobody may wait for it.
                    let _ = live.heard.send(event);
                }
                (Some(_), None) => return,
                (None, _) => listening = false,
            },
            _ = look.tick() => {
                if inner.strong_count() == 0 {
                    return;
                }
                shorten(&machine);
            }
        }
    };
    // What QEMU said last may say why.
    while let Ok(event) = events.try_recv() {
        if let Some(inner) = inner.upgrade() {
            heard(&inner, &machine, &live, &event).await;
        }
    }
    let Some(inner) = inner.upgrade() else { return };
    inner.step(KillPoint::MachineStopGone).await;
    let detail = match last_line(&machine.folder().log()) {
        line if line.is_empty() => status,
        line => format!("{status}: {line}"),
    };
    machine.settle(&inner, Some(detail)).await;
    live.ended.send_replace(true);
}

async fn heard(inner: &Arc<Inner>, machine: &Machine, live: &Arc<Live>, event: &Event) {
    let vm = machine.vm();
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    match event.event.as_str() {
        "SHUTDOWN" if text("reason") == "guest-reset" && live.is_settling() => {
            let live = Arc::clone(live);
            // Not here: it waits for an event, and events wait for this task.
            tokio::spawn(async move {
                if let Err(error) = live.reset_once(true).await {
                    tracing::error!(vm = %live.vm, %error, "machine {} stays halted in its reset", live.vm);
                }
            });
        }
        "SHUTDOWN" if text("reason") == "guest-reset" => {
            live.wait_for(Some(Waiting::Reset));
            inner.emit(vm, EventKind::GuestReset);
        }
        "SHUTDOWN" if event.data.get("guest") == Some(&Value::Bool(true)) => {
            inner.emit(vm, EventKind::GuestShutdown);
            end(machine, live, Exit::Guest);
        }
        "GUEST_PANICKED" => {
            inner.emit(vm, EventKind::GuestPanicked);
            end(machine, live, Exit::Died { detail: "the guest's kernel panicked".to_owned() });
        }
        "BLOCK_IO_ERROR" => {
            let slot = slot_of(&event.data);
            if text("action") == "stop" {
                live.wait_for(Some(Waiting::Storage));
            }
            let (operation, reason) = (text("operation").to_owned(), text("reason").to_owned());
            inner.emit(vm, EventKind::BlockIoError { slot, operation, reason });
        }
        "DEVICE_DELETED" if !text("device").is_empty() => {
            inner.emit(vm, EventKind::Detached { slot: text("device").to_owned() });
        }
        "MIGRATION" if live.waits_for() == Some(Waiting::Migration) => {
            let (inner, live, status) = (Arc::clone(inner), Arc::clone(live), text("status").to_owned());
            // Not here: it asks the monitor, whose events wait for this task.
            tokio::spawn(async move { migrate::arrived(&inner, &live, &status).await });
        }
        _ => {}
    }
}

/// Writes down why it ends and lets QEMU go; the answer is its end.
fn end(machine: &Machine, live: &Arc<Live>, exit: Exit) {
    if let Err(error) = machine.ending(exit) {
        tracing::error!(vm = %machine.vm(), %error, "the end of machine {} cannot be written down", machine.vm());
    }
    let live = Arc::clone(live);
    tokio::spawn(async move { live.qmp.execute("quit", json!({})).await });
}

/// The slot of a block device that failed: the name of its device, or the beginning of its node's.
fn slot_of(data: &Value) -> String {
    let device = data.get("qom-path").and_then(Value::as_str).and_then(|path| {
        path.split('/').find(|part| part.starts_with("disk") || part.starts_with("iso")).map(str::to_owned)
    });
    let node = || data.get("node-name").and_then(Value::as_str).unwrap_or_default();
    device.unwrap_or_else(|| node().split('-').next().unwrap_or_default().to_owned())
}

/// Keeps the newer half of a console's log that has become too long. QEMU appends, so that it goes on at the new end.
fn shorten(machine: &Machine) {
    let path = machine.folder().serial_log();
    let Ok(length) = std::fs::metadata(&path).map(|metadata| metadata.len()) else { return };
    if length <= CONSOLE_LOG_BYTES {
        return;
    }
    let keep = usize::try_from(CONSOLE_LOG_BYTES / 2).unwrap_or_default();
    let shortened = tail(&path, keep)
        .and_then(|bytes| std::fs::write(machine.folder().serial_log_old(), bytes))
        .and_then(|()| OpenOptions::new().write(true).open(&path)?.set_len(0));
    if let Err(error) = shortened {
        tracing::warn!(vm = %machine.vm(), %error, "the console's log of machine {} grows", machine.vm());
    }
}
