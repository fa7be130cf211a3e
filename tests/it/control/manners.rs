//! A service's manners: whether it is well, how it ends, and what its supervisor is told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::server::Server;
use super::tls::{Remote, listening};

fn check(readiness: &Value, name: &str) -> Value {
    let found = readiness["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name} in {readiness}")).clone()
}

#[test]
fn everybody_is_told_whether_it_is_ready_and_only_who_is_known_what_is_wrong() {
    let (server, address) = listening("", &[]);
    let (stranger, host) = (Remote::new(&server, address), Remote::at_socket(&server));
    let live = stranger.get("/health/live").unwrap();
    assert_eq!((live.status, live.json()["status"].as_str().unwrap()), (200, "alive"));
    let ready = stranger.get("/health/ready").unwrap();
    assert_eq!((ready.status, ready.json()["status"].as_str().unwrap()), (200, "ready"), "{}", ready.body);
    for name in ["database", "audit-log", "node", "reconciler", "disk", "trust-bundle"] {
        assert_eq!(check(&ready.json(), name)["ok"], true, "{name}");
    }
    // A bundle that cannot be read: nothing would start, so it is not ready.
    let bundle = server.config_home().join("debvisor/trust/bundle.json");
    fs::create_dir_all(bundle.parent().unwrap()).unwrap();
    fs::write(&bundle, "no bundle").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let answer = stranger.get("/health/ready").unwrap();
        if answer.status == 503 {
            break answer;
        }
        assert!(Instant::now() < until, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(answer.json()["status"], "not-ready");
    let stranger_told = check(&answer.json(), "trust-bundle");
    assert_eq!((&stranger_told["ok"], &stranger_told["detail"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(check(&answer.json(), "database")["ok"], true);
    let host_told = check(&host.get("/health/ready").unwrap().json(), "trust-bundle");
    assert!(host_told["detail"].is_string(), "{host_told}");
    assert_eq!(stranger.get("/health/live").unwrap().status, 200, "it lives all the same");
}

#[test]
fn a_disk_that_is_nearly_full_and_a_database_that_takes_no_writes_are_named() {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.configure_more("[server]\nleast-disk-mib = 1000000000");
    server.up(None);
    let host = Remote::at_socket(&server);
    let answer = host.get("/health/ready").unwrap();
    assert_eq!((answer.status, &check(&answer.json(), "disk")["ok"]), (503, &Value::Bool(false)), "{}", answer.body);
    // Somebody else holds the database: a write would wait, and so does the question.
    let database = server.state().join("state.db");
    let script = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\ntime.sleep(60)\n";
    let mut holder = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(&database)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = holder.stdout.take().unwrap();
    said.read_exact(&mut [0; 4]).unwrap();
    std::thread::sleep(Duration::from_millis(1_100));
    let answer = host.get("/health/ready").unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(
        (answer.status, &check(&answer.json(), "database")["ok"]),
        (503, &Value::Bool(false)),
        "{}",
        answer.body
    );
}

/// A connection to the socket, with the beginning of a request that has a body.
fn begun(server: &Server, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let half = &body[..body.len() / 2];
    let head = format!(
        "POST /v1/vms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{half}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: UnixStream, rest: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request that waits for an event that does not come.
fn waiting(server: &Server) -> UnixStream {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"GET /v1/events?after=1000000&wait=60 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream
}

#[test]
fn what_began_before_the_end_is_answered_and_who_waits_is_not_waited_for() {
    let mut server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    let kernel = server.json(&["image", "list"])[0]["digest"].as_str().unwrap().to_owned();
    let body = serde_json::json!({
        "name": "late", "cpus": 1, "memory_mib": 64, "kernel": { "kernel": kernel, "cmdline": "" },
    })
    .to_string();
    let bodies: Vec<String> = (0..20).map(|number| body.replace("late", &format!("la{number:02}"))).collect();
    let under_way: Vec<UnixStream> = bodies.iter().map(|body| begun(&server, body)).collect();
    let follower = waiting(&server);
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::TERM);
    // Who waits for what may never come has an answer at once.
    let began = Instant::now();
    let told = answer(follower, "");
    assert!(told.starts_with("HTTP/1.1 200") && began.elapsed() < Duration::from_secs(5), "{told}");
    // Nobody new is taken on.
    let until = Instant::now() + Duration::from_secs(5);
    while UnixStream::connect(server.socket()).is_ok() {
        assert!(Instant::now() < until, "connections are still accepted");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    for (stream, body) in under_way.into_iter().zip(&bodies) {
        let told = answer(stream, &body[body.len() / 2..]);
        assert!(told.starts_with("HTTP/1.1 20"), "{told}");
    }
    assert_eq!(server.ended(), Some(0));
    // And what was answered is kept.
    server.up(None);
    assert_eq!(server.json(&["vm", "list"]).as_array().unwrap().len(), 20);
}

#[test]
fn a_request_that_does_not_end_is_waited_for_so_long_and_not_longer() {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    server.environment.push(("DEBVISOR_SERVER_DRAIN_SECONDS", "2".to_owned()));
    server.up(None);
    let _stuck = begun(&server, "{\"name\": \"never\"}");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(10), "{took:?}");
    // A second time is at once.
    server.environment[0].1 = "600".to_owned();
    server.up(None);
    let _stuck = begun(&server, "{\"name\": \"never\"}");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn machines_run_on_when_the_service_ends() {
    let mut server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw", "--start"]);
    let before = server.vm("web");
    assert_eq!(server.terminate(), Some(0));
    server.up(None);
    assert_eq!(server.power("web"), "running");
    assert_eq!(server.vm("web")["observed"], before["observed"]);
}

#[test]
fn the_supervisor_is_told_that_it_is_up_that_it_is_well_and_that_it_ends() {
    let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
    let path = server.dir.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    server.environment.push(("NOTIFY_SOCKET", path.display().to_string()));
    server.environment.push(("WATCHDOG_USEC", "400000".to_owned()));
    server.up(None);
    let heard = || {
        let mut text = [0; 256];
        let length = supervisor.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let mut told = vec![heard(), heard(), heard(), heard()];
    assert!(told.contains(&"READY=1".to_owned()), "{told:?}");
    assert!(told.iter().filter(|word| *word == "WATCHDOG=1").count() >= 2, "{told:?}");
    server.signal(Signal::TERM);
    while told.last().unwrap() != "STOPPING=1" {
        told.push(heard());
    }
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn units_are_of_the_form_that_systemd_reads() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let read = |name: &str| fs::read_to_string(units.join(name)).unwrap();
    let service = read("debvisor.service");
    for line in [
        "Type=notify",
        "KillMode=process",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "ExecStart=/usr/bin/debvisor up",
    ] {
        assert!(service.lines().any(|found| found.starts_with(line)), "{line} is not in {service}");
    }
    // Every name of a key is one that systemd knows: it says so of the others.
    let files: Vec<_> = fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files = files.iter().filter(|path| path.extension().is_some_and(|kind| kind == "service" || kind == "timer"));
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(files)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let wrong: Vec<&str> =
        told.lines().filter(|line| line.contains("debvisor") && !line.contains("is not executable")).collect();
    assert!(wrong.is_empty(), "{told}");
}
