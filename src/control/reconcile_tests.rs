//! What the reconciler makes of what happens between its reading and its writing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::time::{sleep, timeout};

use super::ops::vm::Wish;
use super::silent::{self, Silent};
use super::{Caller, Control};
use crate::store::{OperationState, Sight};
use crate::types::step::Step;
use crate::types::vm::{ObservedPower, VmId, VmSpec};

/// Comes true soon, or the test fails.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let soon = async {
        while !is_so().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(30), soon).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A machine that shall run, on the node at home.
async fn machine(control: &Control) -> VmId {
    let kernel = format!("sha256:{}", "1".repeat(64));
    let spec = serde_json::json!({ "name": "web", "memory_mib": 64, "kernel": { "kernel": kernel, "cmdline": "" } });
    let spec: VmSpec = serde_json::from_value(spec).unwrap();
    control.vm_create(&Caller::system(), "default", spec, None).await.unwrap().id
}

/// The database is somebody else's: what is written now waits, in the order in which it came.
async fn occupied(dir: &Path) -> SqliteConnection {
    let path = format!("sqlite://{}", dir.join("state.db").display());
    let mut other = SqliteConnection::connect(&path).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steps_end_is_written_down_although_a_request_took_its_operations_place_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(Silent::obedient("node"));
    let control = silent::over(dir.path(), vec![node.clone()]).await;
    control.come_up().await.unwrap();
    let system = Caller::system();
    let vm = machine(&control).await;
    let first = control.vm_wish(&system, vm, Wish::Start, None, None).await.unwrap();
    assert_eq!(control.look().await.unwrap(), 1);
    until("the node has its order", async || node.orders().len() == 1).await;

    // The request is on its way into the database, and not yet in it, when the step ends: what its end is written by
    // still has the operation whose place the request takes.
    let waiting = || control.store().commits().waiting.get();
    let mut other = occupied(dir.path()).await;
    let asking = tokio::spawn({
        let (control, system) = (control.clone(), system.clone());
        async move { control.vm_wish(&system, vm, Wish::Start, None, None).await.unwrap() }
    });
    until("the request waits to be written", async || waiting() == 1).await;
    node.answer(1);
    until("so does the end of the step", async || waiting() == 2).await;
    assert_eq!(control.store().operation(first.id).await.unwrap().unwrap().state, OperationState::Pending);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    let second = asking.await.unwrap();
    let state = async |id| control.store().operation(id).await.unwrap().unwrap().state;
    until("the request has come true", async || state(second.id).await == OperationState::Done).await;
    assert_eq!(state(first.id).await, OperationState::Superseded);
    let seen = control.store().vm(vm).await.unwrap().unwrap().observed.unwrap();
    assert_eq!(seen.power, ObservedPower::Running);
    let started = control.store().events_after(0, "vm.started", "", &Sight::All, 10).await.unwrap();
    assert_eq!(started.len(), 1, "that it started is written down, and once");

    // What runs is not started again, however often somebody looks.
    until("nothing is under way", async || control.inner.busy.lock().unwrap().is_empty()).await;
    for _ in 0..3 {
        assert_eq!(control.look().await.unwrap(), 0);
    }
    let steps: Vec<Step> = node.orders().into_iter().map(|order| order.step).collect();
    assert!(matches!(steps[..], [Step::Start { .. }]), "{steps:?}");
}
