//! What comes and goes while a machine runs.

use super::*;
use crate::types::Code;

#[tokio::test(flavor = "multi_thread")]
async fn disks_isos_and_cards_come_and_go_by_permits() {
    let mut host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let launch = launch(vm);
    let mut events = driver.events();
    let mut console = boot(&driver, launch).await;
    assert_eq!(console.ask("disks", "disks").await, "");

    // A disk, whose image is qcow2 and served as the bytes that it is.
    let disk = host.serve(&driver, vm, "disk0", "disk.qcow2").await;
    let covered = [Artifact { slot: "disk0".to_owned(), kind: ArtifactKind::Disk, digest: disk.digest.clone() }];
    let other = [Artifact { digest: digest_of(&guest("cd.iso")), ..covered[0].clone() }];
    let refused = driver.attach_disk(permit_for(vm, BootPath::AttachDisk, &other), vm, disk.clone(), false).await;
    assert_eq!(code(refused), Code::BootUncovered);
    let refused = driver.attach_disk(permit_for(vm, BootPath::Start, &covered), vm, disk.clone(), false).await;
    assert_eq!(code(refused), Code::BootPermitMismatch);
    assert_eq!(console.ask("disks", "disks").await, "", "nothing came by either");
    driver.attach_disk(permit_for(vm, BootPath::AttachDisk, &covered), vm, disk.clone(), false).await.unwrap();
    until(&mut console, "vda:32768").await;
    assert_eq!(console.ask("read vda 9", "read").await, "sector 00000009");
    console.ask("write vda 9 changed", "written").await;
    assert_eq!(console.ask("read vda 9", "read").await, "changed");
    let taken = driver.attach_disk(permit_for(vm, BootPath::AttachDisk, &covered), vm, disk, false).await;
    assert_eq!(code(taken), Code::MachineState);

    // An ISO image.
    let iso = host.serve(&driver, vm, "iso0", "cd.iso").await;
    let covered_iso = [Artifact { slot: "iso0".to_owned(), kind: ArtifactKind::Iso, digest: iso.digest.clone() }];
    driver.attach_iso(permit_for(vm, BootPath::AttachIso, &covered_iso), vm, iso).await.unwrap();
    until(&mut console, "sr0:736").await;
    assert_eq!(console.ask("iso sr0", "iso").await, "hello from the iso");

    // A card with an option ROM: code, and sealed like all of it.
    let rom = SealedArtifact::copy("nic0", ArtifactKind::OptionRom, &[0x55, 0xaa, 1, 0xcb][..], 1024).unwrap();
    let nic = Nic { option_rom: Some(rom.digest().clone()), ..user_nic() };
    let nothing = permit_for(vm, BootPath::AttachNic, &[]);
    assert_eq!(
        code(driver.attach_nic(nothing, vm, 0, nic.clone(), Some(rom.clone())).await),
        Code::BootUncovered,
        "an option ROM is code"
    );
    let covered_rom =
        [Artifact { slot: "nic0".to_owned(), kind: ArtifactKind::OptionRom, digest: rom.digest().clone() }];
    let sound = || permit_for(vm, BootPath::AttachNic, &covered_rom);
    assert_eq!(code(driver.attach_nic(sound(), vm, 0, user_nic(), Some(rom.clone())).await), Code::BootIncomplete);
    driver.attach_nic(sound(), vm, 0, nic, Some(rom)).await.unwrap();
    let mut nics = String::new();
    for _ in 0..100 {
        nics = console.ask("nics", "nics").await;
        if !nics.is_empty() {
            break;
        }
    }
    assert!(nics.contains("52:54:00:"), "{nics}");
    assert_eq!(seen(&driver, vm).await.artifacts.len(), 5);

    // A reset runs all of it again, and is asked for all of it.
    let all = seen(&driver, vm).await.artifacts;
    let less = permit_for(vm, BootPath::Reset, &all[..4]);
    assert_eq!(code(driver.reset(less, vm).await), Code::BootUncovered);

    // Out again, and the places are free.
    for slot in ["disk0", "iso0", "nic0"] {
        driver.detach(vm, slot).await.unwrap();
        event(&mut events, |kind| *kind == EventKind::Detached { slot: slot.to_owned() }).await;
        driver.detach(vm, slot).await.unwrap();
    }
    assert_eq!(console.ask("disks", "disks").await, "");
    assert_eq!(console.ask("nics", "nics").await, "");
    assert_eq!(seen(&driver, vm).await.artifacts.len(), 2);
    let iso = host.serve(&driver, vm, "iso1", "cd.iso").await;
    let covered_iso = [Artifact { slot: "iso1".to_owned(), kind: ArtifactKind::Iso, digest: iso.digest.clone() }];
    driver.attach_iso(permit_for(vm, BootPath::AttachIso, &covered_iso), vm, iso).await.unwrap();
    driver.kill(vm).await.unwrap();
}

/// Asks for the guest's disks until one is among them.
async fn until(console: &mut Console, disk: &str) {
    for _ in 0..200 {
        if console.ask("disks", "disks").await.contains(disk) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{disk} does not come");
}
