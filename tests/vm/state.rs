//! Snapshots, saved machines and machines that move.

use super::*;
use crate::node::hypervisor::{Exit, SnapshotName, Waiting};
use crate::types::Code;
use crate::types::vm::ObservedPower;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_gone_back_to_by_a_permit_for_what_was_in_it() {
    let mut host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let mut launch = launch(vm);
    with_block(&mut launch, host.serve(&driver, vm, "disk0", "disk.raw").await);
    let artifacts = needed(&launch.spec);
    let again = launch.clone();
    let mut console = boot(&driver, launch).await;
    console.ask("keep before", "kept").await;
    console.ask("write vda 1 before", "written").await;
    let name = SnapshotName::new("one").unwrap();
    let taken = driver.snapshot_create(vm, name.clone()).await.unwrap();
    assert_eq!(taken.artifacts, artifacts);
    assert_eq!(code(driver.snapshot_create(vm, name.clone()).await), Code::MachineState);
    console.ask("keep after", "kept").await;
    console.ask("write vda 1 after", "written").await;

    // Not without a permit for all that was in it, and not by one for another path.
    let less = permit_for(vm, BootPath::RevertSnapshot, &artifacts[1..]);
    assert_eq!(code(driver.snapshot_revert(less, vm, name.clone()).await), Code::BootUncovered);
    let other = permit_for(vm, BootPath::Restore, &artifacts);
    assert_eq!(code(driver.snapshot_revert(other, vm, name.clone()).await), Code::BootPermitMismatch);
    assert_eq!(console.ask("kept", "kept").await, "after");

    driver.snapshot_revert(permit_for(vm, BootPath::RevertSnapshot, &artifacts), vm, name.clone()).await.unwrap();
    assert_eq!(console.ask("kept", "kept").await, "before", "memory is what it was");
    assert_eq!(console.ask("read vda 1", "read").await, "before", "and the disk");

    // With something else in it than then, there is no way back.
    let iso = host.serve(&driver, vm, "iso0", "cd.iso").await;
    let covered = [Artifact { slot: "iso0".to_owned(), kind: ArtifactKind::Iso, digest: iso.digest.clone() }];
    driver.attach_iso(permit_for(vm, BootPath::AttachIso, &covered), vm, iso).await.unwrap();
    let all = permit_for(vm, BootPath::RevertSnapshot, &artifacts);
    assert_eq!(code(driver.snapshot_revert(all, vm, name.clone()).await), Code::MachineState);
    driver.detach(vm, "iso0").await.unwrap();

    // Saved and restored: the same run of the guest, by a permit for that.
    console.ask("keep saved", "kept").await;
    drop(console);
    driver.save(vm).await.unwrap();
    let observed = seen(&driver, vm).await;
    assert_eq!((observed.power, observed.exit), (ObservedPower::Stopped, Some(Exit::Saved)));
    let wrong = driver.restore(permit(&again, BootPath::Start), again.clone()).await;
    assert_eq!(code(wrong), Code::BootPermitMismatch);
    driver.restore(permit(&again, BootPath::Restore), again.clone()).await.unwrap();
    let mut console = Console::connect(&driver, vm).await;
    assert_eq!(console.ask("kept", "kept").await, "saved");
    assert_eq!(console.ask("read vda 1", "read").await, "before");
    drop(console);

    // The snapshot is there after a stop, and goes when it is told to.
    driver.kill(vm).await.unwrap();
    assert_eq!(code(driver.restore(permit(&again, BootPath::Restore), again).await), Code::MachineState);
    assert_eq!(driver.snapshot_list(vm).await.unwrap().len(), 1);
    driver.snapshot_delete(vm, name.clone()).await.unwrap();
    assert!(driver.snapshot_list(vm).await.unwrap().is_empty());
    assert_eq!(code(driver.snapshot_delete(vm, name).await), Code::MachineUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_moves_with_its_disk_and_does_not_stop_for_it() {
    let mut host = Host::new().await;
    let vm = new_vm();
    let here = host.driver().await;
    let there = Qemu::open(Settings { state: host.path().join("there"), ..host.settings() }).await.unwrap();
    let mut launch = launch(vm);
    with_block(&mut launch, host.serve(&here, vm, "disk0", "disk.raw").await);
    let mut arriving = launch.clone();
    arriving.blocks = vec![host.serve(&there, vm, "disk0", "disk.raw").await];
    let mut console = boot(&here, launch).await;
    console.ask("keep moving", "kept").await;
    console.ask("write vda 3 moving", "written").await;

    let wrong = there.migrate_in(permit(&arriving, BootPath::Start), arriving.clone()).await;
    assert_eq!(code(wrong), Code::BootPermitMismatch);
    let mut events = there.events();
    let sockets = there.migrate_in(permit(&arriving, BootPath::IncomingMigration), arriving).await.unwrap();
    assert_eq!(seen(&there, vm).await.waiting, Some(Waiting::Migration));
    assert_eq!(code(there.resume(vm).await), Code::MachineState, "there is nothing to resume yet");
    let report = here.migrate_out(vm, sockets).await.unwrap();
    assert!(report.bytes > 0);
    eprintln!("migration: {} ms, {} ms of them halted", report.total_ms, report.downtime_ms);
    event(&mut events, |kind| *kind == EventKind::Started).await;
    assert_eq!(seen(&here, vm).await.exit, Some(Exit::Migrated));
    assert_eq!(seen(&there, vm).await.power, ObservedPower::Running);
    drop(console);
    let mut console = Console::connect(&there, vm).await;
    assert_eq!(console.ask("kept", "kept").await, "moving");
    assert_eq!(console.ask("read vda 3", "read").await, "moving");
    assert_eq!(console.ask("read vda 4", "read").await, "sector 00000004");
    there.kill(vm).await.unwrap();
}
