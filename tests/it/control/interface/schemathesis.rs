//! schemathesis, which nobody of us wrote, asks the real binary whatever its description allows and forbids: examples,
//! the edges of every schema, and thousands of others; with every check that it has.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::super::server::Server;

#[test]
fn the_interface_keeps_to_its_description() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "scripts/needs.sh test brings schemathesis");
    let mut server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw"]);
    server.ok(&["vm", "start", "web"]);
    let port = bridge(server.socket());
    let output = Command::new(program)
        .arg("--config-file")
        .arg(root.join("tests/it/control/interface/schemathesis.toml"))
        .args(["run", &format!("http://127.0.0.1:{port}/v1/openapi.json"), "--checks", "all", "--seed", "1"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--max-time", "120"])
        .args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off", "--no-color"])
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    assert!(told.contains("Fuzzing"), "it ran: {told}");
    assert!(!server.has_died(), "{}", server.log());
    server.ok(&["audit", "verify"]);
}

/// A port of loopback that leads to the socket.
fn bridge(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(&socket) else { return };
            let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pump(from_server, to_client));
            thread::spawn(move || pump(client, server));
        }
    });
    port
}

fn pump(mut from: impl Read, mut to: impl Write + End) {
    let _ = std::io::copy(&mut from, &mut to);
    to.end();
}

/// What can say that nothing more will come.
trait End {
    fn end(&self);
}

impl End for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl End for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}
