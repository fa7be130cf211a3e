//! A machine from its start to its end.

use std::fs;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::*;
use crate::node::hypervisor::{Exit, GuestRequest, Limits, Waiting};
use crate::types::Code;
use crate::types::vm::{Accelerator, ObservedPower};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_what_it_was_permitted_and_is_driven() {
    let mut host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let mut launch = launch(vm);
    with_block(&mut launch, host.serve(&driver, vm, "disk0", "disk.raw").await);
    with_block(&mut launch, host.serve(&driver, vm, "iso0", "cd.iso").await);
    launch.spec.nics.push(user_nic());
    let mut events = driver.events();
    let mut console = boot(&driver, launch).await;

    // Disk, ISO image and card are there, and what the disk holds is the image.
    assert_eq!(console.ask("disks", "disks").await, "vda:32768 sr0:736");
    assert_eq!(console.ask("read vda 5", "read").await, "sector 00000005");
    assert_eq!(console.ask("iso sr0", "iso").await, "hello from the iso");
    let nics = console.ask("nics", "nics").await;
    assert_eq!(nics, format!("eth0:{}", crate::node::hypervisor::qemu::args::mac_of(vm, 0)));
    // A write goes to the overlay and not to the image.
    console.ask("write vda 5 changed", "written").await;
    assert_eq!(console.ask("read vda 5", "read").await, "changed");
    let image = fs::read(guest("disk.raw")).unwrap();
    assert!(image[5 * 512..].starts_with(b"sector 00000005"));

    let observed = seen(&driver, vm).await;
    assert_eq!(observed.power, ObservedPower::Running);
    assert_eq!(observed.artifacts.len(), 4);
    assert_eq!(observed.accelerator.unwrap().accelerator, Accelerator::Tcg);
    assert_eq!(observed.machine_type.as_deref(), Some("pc-q35-7.2"));
    let helpers: Vec<&str> = observed.host_firmware.iter().map(|helper| helper.name.as_str()).collect();
    assert!(helpers.contains(&"bios-256k.bin") && helpers.contains(&"pvh.bin"), "{helpers:?}");
    let pid = observed.pid.unwrap();
    runs_confined(pid);
    opens_no_code(pid);

    // Halted, it says nothing; let go, it goes on where it was.
    driver.pause(vm).await.unwrap();
    assert_eq!(seen(&driver, vm).await.power, ObservedPower::Paused);
    console.send("echo paused").await;
    assert_eq!(console.answer("echo", Duration::from_millis(500)).await, None);
    driver.resume(vm).await.unwrap();
    assert_eq!(console.answer("echo", Duration::from_secs(30)).await.as_deref(), Some("paused"));

    // The guest's agent, the balloon, limits, the VNC console.
    assert!(driver.guest(vm, GuestRequest::Ping).await.is_err(), "there is no agent yet");
    console.ask("agent", "agent").await;
    driver.guest(vm, GuestRequest::Ping).await.unwrap();
    driver.guest(vm, GuestRequest::FsFreeze).await.unwrap();
    driver.guest(vm, GuestRequest::FsThaw).await.unwrap();
    let before: u64 = console.ask("memory", "memory").await.parse().unwrap();
    driver.balloon(vm, 128).await.unwrap();
    let mut after = before;
    for _ in 0..100 {
        after = console.ask("memory", "memory").await.parse().unwrap();
        if after + 32 * 1024 < before {
            break;
        }
    }
    assert!(after + 32 * 1024 < before, "the balloon took nothing: {before} and {after} KiB");
    let mut vnc = UnixStream::connect(driver.vnc(vm).await.unwrap()).await.unwrap();
    let mut greeting = [0; 12];
    vnc.read_exact(&mut greeting).await.unwrap();
    assert!(greeting.starts_with(b"RFB 003."));
    if is_root("limits by control groups") && super::super::cgroup::Cgroup::of(vm).is_some() {
        driver.limit(vm, Limits { cpu_percent: Some(50), memory_bytes: None }).await.unwrap();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.contains(&format!("debvisor/{vm}")), "{groups}");
        driver.limit(vm, Limits::default()).await.unwrap();
    }

    // The power button, which this guest obeys.
    driver.stop(vm, Duration::from_secs(60)).await.unwrap();
    assert_eq!(console.answer("button", Duration::from_secs(1)).await.as_deref(), Some("pressed"));
    let EventKind::Exited { exit } = event(&mut events, |kind| matches!(kind, EventKind::Exited { .. })).await else {
        panic!("an exit");
    };
    assert_eq!(exit, Exit::Asked);
    let observed = seen(&driver, vm).await;
    assert_eq!((observed.power, observed.pid), (ObservedPower::Stopped, None));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    driver.stop(vm, Duration::ZERO).await.unwrap();
    driver.forget(vm).await.unwrap();
    assert!(driver.observe().await.unwrap().is_empty());
    assert!(!host.folder(vm).exists());
    // Nothing is held of one that is gone, nor of one that never was.
    driver.forget(new_vm()).await.unwrap();
    assert!(driver.inner.machines.lock().unwrap().is_empty());
}

/// Another user, no rights, a filter of system calls, no core dump.
fn runs_confined(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Seccomp:"), ["2"], "the sandbox is on");
    if is_root("that a machine runs as another user") {
        assert!(field("Uid:").iter().all(|id| id == "64937"), "{:?}", field("Uid:"));
        assert_eq!(field("CapEff:"), ["0000000000000000"]);
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
}

/// No file of code is open by a path, and none is named: kernel, initrd and QEMU's helpers are sealed memory.
fn opens_no_code(pid: u32) {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    for word in ["target/guest", "vmlinu", "initrd ", ".bin", ".rom", "/usr/share", "disk.raw", "cd.iso", "qcow2\","] {
        assert!(!line.contains(&format!("/{word}")) && !line.contains("/usr/share"), "{word} in {line}");
    }
    let mut sealed = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy().into_owned();
        sealed += usize::from(target.starts_with("/memfd:debvisor"));
        assert!(!target.contains("target/guest") && !target.starts_with("/usr/share"), "{target} is open");
    }
    assert!(sealed >= 2, "kernel and initrd are sealed memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_resets_itself_stands_still_until_it_is_admitted_again() {
    let host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let launch = launch(vm);
    let artifacts = needed(&launch.spec);
    let mut events = driver.events();
    let mut console = boot(&driver, launch).await;
    let first = console.ask("boot", "boot").await;
    console.send("reboot").await;
    event(&mut events, |kind| *kind == EventKind::GuestReset).await;
    let observed = seen(&driver, vm).await;
    assert_eq!((observed.power, observed.waiting), (ObservedPower::Paused, Some(Waiting::Reset)));

    // No way around the gate: resuming, a permit for less, one for another path, one for another machine.
    assert_eq!(code(driver.resume(vm).await), Code::MachineState);
    let less = permit_for(vm, BootPath::Reset, &artifacts[..1]);
    assert_eq!(code(driver.reset(less, vm).await), Code::BootUncovered);
    let other_path = permit_for(vm, BootPath::Start, &artifacts);
    assert_eq!(code(driver.reset(other_path, vm).await), Code::BootPermitMismatch);
    let other_vm = permit_for(new_vm(), BootPath::Reset, &artifacts);
    assert_eq!(code(driver.reset(other_vm, vm).await), Code::BootPermitMismatch);
    assert_eq!(seen(&driver, vm).await.waiting, Some(Waiting::Reset));

    drop(console);
    driver.reset(permit_for(vm, BootPath::Reset, &artifacts), vm).await.unwrap();
    let mut console = Console::ready_times(&driver, vm, 2).await;
    let second = console.ask("boot", "boot").await;
    assert_ne!(first, second, "it booted anew");

    // A second reset of its own waits again: the first permit did not open the door for good.
    console.send("reboot").await;
    event(&mut events, |kind| *kind == EventKind::GuestReset).await;
    drop(console);

    // Reset from outside while it runs.
    driver.reset(permit_for(vm, BootPath::Reset, &artifacts), vm).await.unwrap();
    let console = Console::ready_times(&driver, vm, 3).await;
    drop(console);
    driver.reset(permit_for(vm, BootPath::Reset, &artifacts), vm).await.unwrap();
    let mut console = Console::ready_times(&driver, vm, 4).await;

    // And off, by itself.
    console.send("poweroff").await;
    event(&mut events, |kind| *kind == EventKind::Exited { exit: Exit::Guest }).await;
    assert_eq!(seen(&driver, vm).await.exit, Some(Exit::Guest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_told_and_ends_the_machine() {
    let host = Host::new().await;
    let driver = host.driver().await;
    let vm = new_vm();
    let mut events = driver.events();
    let mut console = boot(&driver, launch(vm)).await;
    console.send("panic").await;
    event(&mut events, |kind| *kind == EventKind::GuestPanicked).await;
    event(&mut events, |kind| matches!(kind, EventKind::Exited { exit: Exit::Died { .. } })).await;
    assert_eq!(seen(&driver, vm).await.power, ObservedPower::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn kvm_is_believed_when_a_kernel_has_booted_with_it() {
    let host = Host::new().await;
    // Machines run as root for once, so that the mode of the device is not what decides.
    let user = super::super::UserWish::Ids(0, 0);
    let deadline = Duration::from_secs(6);
    let settings = Settings { accelerator: AcceleratorWish::Auto, user, kvm_deadline: deadline, ..host.settings() };
    let driver = Qemu::open(settings).await.unwrap();
    let before = driver.accelerator().await.unwrap();
    assert_eq!(before.accelerator, Accelerator::Tcg, "nothing was proved yet: {}", before.reason);
    let vm = new_vm();
    boot(&driver, launch(vm)).await;
    let choice = seen(&driver, vm).await.accelerator.unwrap();
    // The guest is up, whatever was found; and what was found is what is said from now on, with its reason.
    eprintln!("this host: {:?}, because {}", choice.accelerator, choice.reason);
    let later = driver.accelerator().await.unwrap();
    assert_eq!(later, choice);
    match choice.accelerator {
        Accelerator::Kvm => assert!(choice.reason.contains("booted with KVM"), "{}", choice.reason),
        Accelerator::Tcg => {
            assert!(choice.reason.contains("/dev/kvm"), "{}", choice.reason);
            let strict = Settings { accelerator: AcceleratorWish::Kvm, user, ..host.settings() };
            let strict = Qemu::open(strict).await.unwrap();
            let refused = empty(new_vm());
            let answer = strict.start(permit(&refused, BootPath::Start), refused).await;
            assert_eq!(code(answer), Code::MachineUnsupported);
        }
    }
    driver.kill(vm).await.unwrap();
}
