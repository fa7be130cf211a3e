//! A server from elsewhere: how it is recognised, how somebody logs in, and what its verbs say when it does not answer
//! as they hoped. Through the real binary, over TLS.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use super::contexts::Home;
use super::live::Terminal;
use super::server::Server;
use super::tls::listening;
use super::users::{PASSWORD, create};

/// The server's key, as somebody on its host would tell it.
fn pin(server: &Server) -> String {
    let key = server.state().join("tls/server.key");
    let line = format!("openssl pkey -in {} -pubout -outform der | sha256sum", key.display());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256:{}", text.split_whitespace().next().unwrap())
}

pub(super) fn authority(server: &Server) -> PathBuf {
    server.state().join("tls/ca.crt")
}

pub(super) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A login of which the password is typed at a terminal.
fn logged_in(home: &Home, server: &Server, at: SocketAddr, name: &str, more: &[&str]) {
    let url = format!("https://{at}");
    let ca = authority(server);
    let args = [&["login", &url, "--user", name, "--ca", ca.to_str().unwrap()], more].concat();
    let mut terminal = Terminal::start(&args, home.dir(), &[]);
    terminal.until("the prompt", |shown| shown.contains(&format!("password of {name}: ")));
    terminal.type_in(format!("{PASSWORD}\n").as_bytes());
    let (code, shown) = terminal.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&format!("as user:{name}")) && !shown.contains(PASSWORD), "{shown}");
}

/// Somebody who follows the events and has seen the last one: the child, what it writes, and that event.
fn followed(home: &Home) -> (Child, BufReader<ChildStdout>, String) {
    let mut command = home.command(&["event", "list", "--follow", "--last", "1", "--format", "json"]);
    let mut following = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(following.stdout.take().unwrap());
    let mut seen = String::new();
    assert!(out.read_line(&mut seen).unwrap() > 0, "it ended");
    (following, out, seen)
}

#[test]
fn somebody_logs_in_asks_and_logs_out() {
    let (mut server, at) = listening("", &[]);
    create(&server, "alice", &["--role", "admin"]);
    let home = Home::new();
    logged_in(&home, &server, at, "alice", &["--context", "prod"]);
    assert_eq!(home.ok(&["whoami"]).trim(), "user:alice");
    assert!(home.ok(&["node", "list"]).contains("test"));
    let credentials = home.file("credentials");
    assert!(fs::read_to_string(&credentials).unwrap().contains("dvs_"));
    assert!(!fs::read_to_string(home.file("contexts.toml")).unwrap().contains("dvs_"));
    let list = home.ok(&["context", "list"]);
    assert!(list.contains("prod") && list.contains("alice") && list.contains("token"), "{list}");
    // What goes on goes over TLS as well, and over a restart.
    server.import(&[("disk.raw", "disk")]);
    let (mut following, mut out, mut seen) = followed(&home);
    server.kill();
    server.up(None);
    server.import(&[("kernel", "kernel")]);
    seen.clear();
    while !seen.contains("image.imported") {
        assert!(out.read_line(&mut seen).unwrap() > 0, "it ended: {seen}");
    }
    let _ = following.kill();
    let _ = following.wait();
    // The session ends at the server too.
    let kept = fs::read_to_string(&credentials).unwrap();
    home.ok(&["logout"]);
    assert!(!fs::read_to_string(&credentials).unwrap().contains("dvs_"));
    let output = home.run(&["node", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let hint = format!("debvisor login https://{at} --context prod");
    assert!(told(&output).contains(&hint), "{}", told(&output));
    fs::write(&credentials, kept).unwrap();
    let output = home.run(&["node", "list"]);
    assert_eq!(output.status.code(), Some(1), "the session has ended, whoever kept its token");
    assert!(told(&output).contains(&hint), "{}", told(&output));
}

#[test]
fn a_stream_ends_with_the_session_that_opened_it() {
    let (server, at) = listening("", &[]);
    create(&server, "alice", &["--role", "admin"]);
    let home = Home::new();
    logged_in(&home, &server, at, "alice", &[]);
    server.import(&[("kernel", "kernel")]);
    let (following, _out, _) = followed(&home);
    server.ok(&["user", "disable", "alice"]);
    let output = following.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("debvisor login"), "{}", told(&output));
}

#[test]
fn whoever_may_see_some_machines_follows_those_and_only_as_long_as_they_may() {
    let (server, at) = listening("", &[]);
    server.import(&[("kernel", "kernel")]);
    server.ok(&["tenant", "create", "acme"]);
    server.ok(&["project", "create", "blue", "--tenant", "acme"]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel"]);
    server.ok(&["vm", "create", "app", "--kernel", "kernel", "--project", "blue"]);
    create(&server, "bob", &[]);
    let grant = server.json(&["grant", "create", "user:bob", "viewer", "--project", "blue"]);
    let home = Home::new();
    logged_in(&home, &server, at, "bob", &[]);
    let mut following = home.command(&["event", "list", "--follow", "--format", "json"]);
    let following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    server.ok(&["vm", "start", "web"]);
    server.ok(&["vm", "start", "app"]);
    std::thread::sleep(Duration::from_secs(1));
    server.ok(&["grant", "delete", grant["id"].as_str().unwrap()]);
    let output = following.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it ended with the grant: {}", told(&output));
    let seen = String::from_utf8(output.stdout).unwrap();
    let (web, app) = (server.vm("web"), server.vm("app"));
    assert!(seen.contains(app["id"].as_str().unwrap()), "{seen}");
    assert!(seen.contains("vm.started"), "{seen}");
    assert!(!seen.contains(web["id"].as_str().unwrap()), "{seen}");
    // A machine that may not be seen has no console either.
    let output = home.run(&["vm", "console", "web"]);
    assert_eq!(output.status.code(), Some(64), "as if it were not there: {}", told(&output));
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_believed_silently() {
    let (server, at) = listening("", &[]);
    let home = Home::new();
    let (url, pin) = (format!("https://{at}"), pin(&server));
    // Nobody can be asked.
    let output = home.command(&["login", &url, "--token-stdin"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains(&pin), "its key is told, to be compared: {}", told(&output));
    assert!(!home.file("contexts.toml").exists());
    // Somebody says no.
    let mut terminal = Terminal::start(&["login", &url], home.dir(), &[]);
    terminal.until("the key", |shown| shown.contains(&pin) && shown.contains("Is it the right one?"));
    terminal.type_in(b"no\n");
    assert_eq!(terminal.ends().0, Some(2));
    assert!(!home.file("contexts.toml").exists());
    // Somebody says yes, and is asked who they are only then.
    let mut terminal = Terminal::start(&["login", &url], home.dir(), &[]);
    terminal.until("the question", |shown| shown.contains("Is it the right one?"));
    assert!(!terminal.shown().contains("user:"));
    terminal.type_in(b"yes\n");
    terminal.until("the next question", |shown| shown.contains("user: "));
}

#[test]
fn a_server_with_another_key_than_the_one_that_is_known_is_told_nothing() {
    let (server, at) = listening("", &[]);
    let home = Home::new();
    let url = format!("https://{at}");
    let wrong = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
    home.ok(&["context", "set", "one", "--server", &url, "--pin", wrong]);
    let output = home.command(&["node", "list"]).env("DEBVISOR_TOKEN", "dvs_secret").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("it has another key"), "{}", told(&output));
    let output =
        home.command(&["login", &url, "--context", "one", "--token-stdin"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "nor is it asked for anew: {}", told(&output));
    // The right key, and the right authority, are recognised; what then is missing is a credential.
    for known in [["--pin", &pin(&server)], ["--ca", authority(&server).to_str().unwrap()]] {
        let home = Home::new();
        home.ok(&["context", "set", "one", "--server", &url, known[0], known[1]]);
        let output = home.run(&["node", "list"]);
        assert!(told(&output).contains("credential-missing"), "{known:?}: {}", told(&output));
        let output = home.command(&["node", "list"]).env("DEBVISOR_TOKEN", "dvs_wrong").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{known:?}: {}", told(&output));
        assert!(!told(&output).contains("dvs_wrong"));
    }
    let output = home
        .command(&["node", "list"])
        .env("DEBVISOR_SERVER", &url)
        .env("DEBVISOR_CA", authority(&server))
        .output()
        .unwrap();
    assert!(told(&output).contains("credential-missing"), "{}", told(&output));
}
