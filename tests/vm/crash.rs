//! The agent dies, QEMU dies, a block server dies: what is found afterwards.

use std::time::Duration;

use super::*;
use crate::kill::KillPoint;
use crate::node::hypervisor::Exit;
use crate::types::Code;
use crate::types::vm::ObservedPower;

/// Processes that run this machine.
fn processes(vm: VmId) -> usize {
    let uuid = vm.to_string();
    let named = |entry: std::io::Result<fs::DirEntry>| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(2).any(|pair| pair[0] == b"-uuid" && pair[1] == uuid.as_bytes()).then_some(())
    };
    fs::read_dir("/proc").unwrap().filter_map(named).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_outlives_its_agent_and_is_taken_up_again() {
    let mut host = Host::new().await;
    let vm = new_vm();
    let mut launch = launch(vm);
    // The first agent has a runtime of its own, and with it everything of it ends.
    let first = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let settings = host.settings();
    let driver = first.spawn(Qemu::open(settings)).await.unwrap().unwrap();
    with_block(&mut launch, host.serve(&driver, vm, "disk0", "disk.raw").await);
    let again = launch.clone();
    let started = {
        let driver = driver.clone();
        first.spawn(async move { driver.start(permit(&launch, BootPath::Start), launch).await })
    };
    started.await.unwrap().unwrap();
    let mut console = Console::ready(&driver, vm).await;
    console.ask("keep something", "kept").await;
    let pid = seen(&driver, vm).await.pid;
    drop(console);
    drop(driver);
    first.shutdown_background();

    let driver = host.driver().await;
    let mut events = driver.events();
    let observed = seen(&driver, vm).await;
    assert_eq!((observed.power, observed.pid), (ObservedPower::Running, pid));
    event(&mut events, |kind| *kind == EventKind::Reattached).await;
    // It is the same run of the same guest, and it obeys.
    let mut console = Console::connect(&driver, vm).await;
    assert_eq!(console.ask("kept", "kept").await, "something");
    driver.pause(vm).await.unwrap();
    assert_eq!(seen(&driver, vm).await.power, ObservedPower::Paused);
    driver.resume(vm).await.unwrap();
    // It does not run twice.
    let twice = driver.start(permit(&again, BootPath::Start), again.clone()).await;
    assert_eq!(code(twice), Code::MachineState);
    assert_eq!(processes(vm), 1);
    assert_eq!(code(driver.forget(vm).await), Code::MachineState);

    // The block server of the old agent ends; a read waits for the new one's, and gets its block.
    let socket = again.blocks[0].socket.clone();
    host.stop_serving(&socket);
    console.send("read vda 777").await;
    assert_eq!(console.answer("read", Duration::from_secs(2)).await, None, "nobody can have answered");
    host.serve_at(&socket, "disk.raw").await;
    let read = console.answer("read", Duration::from_secs(60)).await;
    assert_eq!(read.as_deref(), Some("sector 00000777"));

    // QEMU itself is killed: that is seen at once, and by whoever comes later.
    let pid = i32::try_from(pid.unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    event(&mut events, |kind| matches!(kind, EventKind::Exited { exit: Exit::Died { .. } })).await;
    assert_eq!(seen(&driver, vm).await.power, ObservedPower::Failed);
    let later = host.driver().await;
    assert_eq!(seen(&later, vm).await.power, ObservedPower::Failed);
    later.start(permit(&again, BootPath::Restart), again).await.unwrap();
    assert_eq!(processes(vm), 1);
    later.kill(vm).await.unwrap();
    assert_eq!(processes(vm), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_agent_dies_a_machine_converges_and_never_runs_twice() {
    let host = Host::new().await;
    let points: Vec<KillPoint> =
        KillPoint::ALL.iter().copied().filter(|point| point.name().starts_with("machine-")).collect();
    assert!(points.len() >= 10);
    for point in points {
        let vm = new_vm();
        let settings = Settings { halt_at: Some(point), ..host.settings() };
        let dying = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let life = dying.spawn(async move {
            let driver = Qemu::open(settings).await.unwrap();
            let launch = empty(vm);
            driver.start(permit(&launch, BootPath::Start), launch).await.unwrap();
            driver.snapshot_create(vm, crate::node::hypervisor::SnapshotName::new("one").unwrap()).await.unwrap();
            driver.stop(vm, Duration::ZERO).await.unwrap();
        });
        // At its point it stands still for ever; that is when it is killed.
        let reached = timeout(Duration::from_secs(6), life).await;
        assert!(reached.is_err(), "{} was not passed", point.name());
        dying.shutdown_background();

        let driver = host.driver().await;
        let found = driver.observe().await.unwrap().into_iter().find(|observed| observed.vm == vm);
        let runs = found.as_ref().is_some_and(|observed| observed.power == ObservedPower::Running);
        assert_eq!(processes(vm), usize::from(runs), "{}: what is said to run runs, once", point.name());
        if !runs {
            let launch = empty(vm);
            driver.start(permit(&launch, BootPath::Restart), launch).await.unwrap();
        }
        assert_eq!(processes(vm), 1, "{}", point.name());
        assert_eq!(seen(&driver, vm).await.power, ObservedPower::Running, "{}", point.name());
        // What a half snapshot left is in nobody's way.
        let name = crate::node::hypervisor::SnapshotName::new("one").unwrap();
        if driver.snapshot_list(vm).await.unwrap().is_empty() {
            driver.snapshot_create(vm, name.clone()).await.unwrap();
        }
        driver.snapshot_delete(vm, name).await.unwrap();
        driver.stop(vm, Duration::ZERO).await.unwrap();
        assert_eq!(processes(vm), 0, "{}", point.name());
        driver.forget(vm).await.unwrap();
    }
}
