//! `make demo` is run here too: its script fails unless every step behaves as it tells.

use std::path::Path;
use std::process::Command;

#[test]
fn the_demo_shows_a_sealed_release_that_is_allowed_and_two_refusals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("scripts/demo.sh")).arg(env!("CARGO_BIN_EXE_debvisor")).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}\n{stderr}");
    for expected in
        ["sealed release: 13 files written", "✔ allow", "checksum-mismatch", "explain checksum-mismatch", "exit code 1"]
    {
        assert!(told.contains(expected), "the demo does not show `{expected}`:\n{told}\n{stderr}");
    }
}

#[test]
fn the_demo_of_machines_shows_a_boot_an_io_error_a_quarantine_and_a_refusal() {
    if !rustix::process::geteuid().is_root() {
        println!("passed over: only root can alter what the image store froze");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/demo-vm.sh"));
    let output = command.arg(env!("CARGO_BIN_EXE_debvisor")).current_dir(root).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{stderr}");
    let said = format!("{told}\n{stderr}");
    for expected in [
        "debvisor-guest-ready",
        "image.altered",
        "image-quarantined",
        "second-person-required",
        "Input/output error",
        "image-changed",
        "the log is whole",
    ] {
        assert!(said.contains(expected), "the demo does not show `{expected}`:\n{said}");
    }
}
