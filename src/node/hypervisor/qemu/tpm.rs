//! A machine's virtual TPM 2.0: swtpm as a process beside it, with the machine's user and a folder of its own.
//! It ends by itself when the machine does.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::process::{Handover, Spawn, last_line, program};
use super::record::Folder;

/// Starts it and waits for its socket.
pub(super) async fn start(folder: &Folder, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    let Some(swtpm) = program("swtpm") else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the program swtpm is not installed"));
    };
    let state = folder.tpm();
    fs::create_dir_all(&state)?;
    let socket = folder.run().join("tpm.sock");
    let _ = fs::remove_file(&socket);
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(&state, Some(user), Some(group))?;
    }
    let log = folder.run().join("tpm.log");
    let arguments = [
        "socket".into(),
        "--tpm2".into(),
        "--tpmstate".into(),
        format!("dir={},mode=0600", state.display()).into(),
        "--ctrl".into(),
        format!("type=unixio,path={},mode=0600", socket.display()).into(),
        "--terminate".into(),
    ];
    let spawn = Spawn {
        program: &swtpm,
        arguments: arguments.into(),
        handover: Handover::default(),
        owner,
        netns: None,
        log: &log,
    };
    let mut child = spawn.run()?;
    for _ in 0..500 {
        if socket.exists() {
            // Nobody waits for it; the runtime reaps it.
            return Ok(socket);
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("swtpm ended with {status}: {}", last_line(&log))));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "swtpm did not open its socket"))
}
