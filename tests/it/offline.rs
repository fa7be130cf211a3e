//! A run of the real binary in, its network system calls out: proving opens no socket, under `--offline` or without.
//! strace watches, not the program's own word. A control shows that a socket would have been seen.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

const DEBVISOR: &str = env!("CARGO_BIN_EXE_debvisor");
const ARTIFACT: &[u8] = b"what was built\n";

#[test]
fn the_trace_sees_a_socket_where_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let script = "import socket; socket.socket().close()";
    let traced = trace(directory.path(), "python3", ["-c", script]);
    assert_eq!(traced.exit_code, 0);
    assert!(traced.network_calls.iter().any(|call| call.contains("socket(")), "{:?}", traced.network_calls);
}

#[test]
fn checksums_and_log_proofs_open_no_socket() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("app.bin"), ARTIFACT).unwrap();
    let list = directory.path().join("SHA256SUMS");
    let made = Command::new(DEBVISOR).args(["checksum", "create", "app.bin"]).current_dir(&files).output().unwrap();
    assert!(made.status.success());
    fs::write(&list, made.stdout).unwrap();
    let arguments: [&OsStr; 6] = [
        "checksum".as_ref(),
        "verify".as_ref(),
        list.as_ref(),
        "--dir".as_ref(),
        files.as_ref(),
        "--no-unlisted".as_ref(),
    ];
    let traced = trace(directory.path(), DEBVISOR, arguments);
    assert_eq!((traced.exit_code, traced.network_calls.len()), (0, 0), "{:?}", traced.network_calls);

    let proof = directory.path().join("proof.json");
    fs::write(&proof, r#"{"leafIdx":0,"treeSize":0,"root":"","leafHash":"","proof":[]}"#).unwrap();
    let arguments: [&OsStr; 3] = ["log".as_ref(), "inclusion".as_ref(), proof.as_ref()];
    let traced = trace(directory.path(), DEBVISOR, arguments);
    assert_eq!((traced.exit_code, traced.network_calls.len()), (1, 0), "{:?}", traced.network_calls);
}

/// How a traced program ended and what it asked of the network.
pub(crate) struct Traced {
    pub(crate) exit_code: i32,
    pub(crate) network_calls: Vec<String>,
}

/// Runs a program with all its threads and children under strace.
pub(crate) fn trace(scratch: &Path, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Traced {
    let log = scratch.join("trace");
    let output = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "--signal=none", "--trace=%network", "--output"])
        .arg(&log)
        .arg("--")
        .arg(program)
        .args(arguments)
        .output()
        .expect("strace is needed; `make test` installs it");
    let network_calls: Vec<String> =
        fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains('(')).map(str::to_owned).collect();
    Traced { exit_code: output.status.code().unwrap_or(-1), network_calls }
}
