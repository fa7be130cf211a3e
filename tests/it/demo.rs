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
