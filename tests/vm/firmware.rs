//! UEFI with Secure Boot and a virtual TPM. Slow: the firmware alone takes ten seconds and more by TCG.

use super::*;
use crate::node::hypervisor::{EventKind, HypervisorError};
use crate::types::Code;
use crate::types::vm::{Firmware, ObservedPower};

/// What the firmware says on the serial console once it looks for something to boot.
const LOOKS: [&str; 2] = ["BdsDxe", "UEFI Interactive Shell"];

#[tokio::test(flavor = "multi_thread")]
async fn firmware_with_secure_boot_and_a_tpm_comes_up_from_sealed_memory() {
    let host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let seal = |slot: &str, path: &str| {
        let file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}: run scripts/needs.sh test"));
        SealedArtifact::copy(slot, ArtifactKind::Firmware, file, 64 << 20).unwrap()
    };
    let code_ = seal("firmware", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd");
    let vars = seal("firmware-vars", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    let mut launch = empty(vm);
    launch.spec.firmware =
        Some(Firmware { code: code_.digest().clone(), vars_template: Some(vars.digest().clone()), secure_boot: true });
    launch.spec.vtpm = true;
    launch.sealed = vec![code_, vars];

    // The template of the variables decides who is believed: it is asked about like the code.
    let less = permit_for(vm, BootPath::Start, &needed(&launch.spec)[..1]);
    assert_eq!(code(driver.start(less, launch.clone()).await), Code::BootUncovered);

    let artifacts = needed(&launch.spec);
    let observed = match driver.start(permit(&launch, BootPath::Start), launch).await {
        Ok(observed) => observed,
        Err(HypervisorError::Refused(reason)) => panic!("{reason}: run scripts/needs.sh test"),
        Err(error) => panic!("{error:?}"),
    };
    assert!(observed.host_firmware.iter().all(|helper| helper.name != "bios-256k.bin"), "SeaBIOS is not in it");
    let line = fs::read(format!("/proc/{}/cmdline", observed.pid.unwrap())).unwrap();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    assert!(line.contains("smm=on") && line.contains("tpm-crb") && line.contains("property=secure,value=on"));
    assert!(!line.contains("OVMF"), "{line}");

    let up = async {
        loop {
            let log = driver.console_log(vm, 1 << 20).await.unwrap();
            let log = String::from_utf8_lossy(&log).into_owned();
            if LOOKS.iter().any(|word| log.contains(word)) {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(BOOT, up).await.expect("the firmware comes up");
    // The TPM was used: swtpm keeps what it holds beside the machine.
    let tpm = host.folder(vm).join("run/tpm");
    assert!(fs::read_dir(tpm).unwrap().count() > 0);

    // Its variables are its own, and a snapshot has them too.
    let name = crate::node::hypervisor::SnapshotName::new("up").unwrap();
    driver.snapshot_create(vm, name.clone()).await.unwrap();
    driver.snapshot_revert(permit_for(vm, BootPath::RevertSnapshot, &artifacts), vm, name).await.unwrap();
    assert_eq!(seen(&driver, vm).await.power, ObservedPower::Running);
    let mut events = driver.events();
    driver.kill(vm).await.unwrap();
    event(&mut events, |kind| matches!(kind, EventKind::Exited { .. })).await;
}
