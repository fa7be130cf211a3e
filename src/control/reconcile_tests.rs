//! What the reconciler makes of what happens between its reading and its writing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, SqliteConnection};
use tokio::time::{sleep, timeout};

use super::ops::vm::Wish;
use super::silent::{self, Silent};
use super::{Caller, Control, Link, telling};
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

/// A kernel that is this digit over and over.
fn kernel(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// A machine of this name and kernel, on the node at home.
async fn machine(control: &Control, name: &str, kernel: &str) -> VmId {
    let spec = serde_json::json!({ "name": name, "memory_mib": 64, "kernel": { "kernel": kernel, "cmdline": "" } });
    let spec: VmSpec = serde_json::from_value(spec).unwrap();
    control.vm_create(&Caller::system(), "default", spec, None).await.unwrap().id
}

/// Every step has ended and is written down.
async fn idle(control: &Control) {
    until("nothing is under way", async || control.inner.busy.lock().unwrap().is_empty()).await;
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
    let vm = machine(&control, "web", &kernel("1")).await;
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
    idle(&control).await;
    for _ in 0..3 {
        assert_eq!(control.look().await.unwrap(), 0);
    }
    let steps: Vec<Step> = node.orders().into_iter().map(|order| order.step).collect();
    assert!(matches!(steps[..], [Step::Start { .. }]), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_hang_hold_no_other_up_and_start_nothing_until_they_know_what_must_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = ["home", "hangs", "hangs-too", "hears"].map(|name| Arc::new(Silent::obedient(name)));
    let [home, hangs, hangs_too, hears] = &nodes;
    let links = nodes.iter().map(|node| node.clone() as Arc<dyn Link>).collect();
    let control = silent::over(dir.path(), links).await;
    control.come_up().await.unwrap();
    let system = Caller::system();
    let (bad, good) = (machine(&control, "bad", &kernel("1")).await, machine(&control, "good", &kernel("2")).await);
    let power = async |vm| control.store().vm(vm).await.unwrap().unwrap().observed.map(|seen| seen.power);
    control.vm_wish(&system, bad, Wish::Start, None, None).await.unwrap();
    control.look().await.unwrap();
    home.answer(1);
    until("it runs", async || power(bad).await == Some(ObservedPower::Running)).await;
    idle(&control).await;

    [home, hangs, hangs_too].into_iter().for_each(|node| node.hear(false));
    let began = Instant::now();
    let adding = tokio::spawn({
        let (control, system) = (control.clone(), system.clone());
        async move { control.quarantine_add(&system, &kernel("1"), "test").await }
    });
    until("the one that answers knows", async || hears.heard() == Some(1)).await;
    adding.await.unwrap().unwrap();
    // One after the other they would have taken three times as long.
    assert!(began.elapsed() < 2 * telling::ANSWERS, "{:?}", began.elapsed());
    assert_eq!(control.nodes_behind(), ["hangs", "hangs-too", "home"]);

    // What must not run is stilled there as well; nothing else is done.
    let started = control.vm_wish(&system, good, Wish::Start, None, None).await.unwrap();
    home.answer(1);
    assert_eq!(control.look().await.unwrap(), 1);
    until("it stands still", async || power(bad).await == Some(ObservedPower::Paused)).await;
    idle(&control).await;
    assert_eq!(control.look().await.unwrap(), 0);
    let state = control.store().operation(started.id).await.unwrap().unwrap().state;
    assert_eq!(state, OperationState::Pending, "it waits, and is not refused");

    // Nobody has to say it again: the next look does.
    [home, hangs, hangs_too].into_iter().for_each(|node| node.hear(true));
    until("all of them know", async || {
        control.look().await.unwrap();
        control.nodes_behind().is_empty()
    })
    .await;
    assert_eq!([home, hangs, hangs_too, hears].map(|node| node.heard()), [Some(1); 4]);
    home.answer(1);
    until("what waited is done", async || {
        control.look().await.unwrap();
        power(good).await == Some(ObservedPower::Running)
    })
    .await;
    let steps: Vec<(VmId, &str)> = home.orders().iter().map(|order| (order.vm, order.step.name())).collect();
    assert_eq!(steps, [(bad, "start"), (bad, "pause"), (good, "start")]);
    // Each is told of once, however often it was tried.
    for kind in ["node.rules.late", "node.rules.taken"] {
        until(kind, async || {
            let events = control.store().events_after(0, kind, "", &Sight::All, 100).await.unwrap();
            let mut about: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
            about.sort_unstable();
            about == ["node/hangs", "node/hangs-too", "node/home"]
        })
        .await;
    }
}
