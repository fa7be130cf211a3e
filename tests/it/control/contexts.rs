//! Contexts: which server is asked, and as whom, by the command line, the environment and the file, in this order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::server::Server;

const PIN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

/// A user with a home of their own.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("debvisor").join(name)
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        for name in ["SOCKET", "CONTEXT", "SERVER", "TOKEN", "CA"] {
            command.env_remove(format!("DEBVISOR_{name}"));
        }
        command.args(args).env("XDG_CONFIG_HOME", self.0.path()).env("DEBVISOR_STATE_DIR", self.0.path().join("none"));
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(super) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn wrong(&self, args: &[&str], says: &str) {
        let output = self.run(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {told}");
        assert!(told.contains(says), "{args:?}: {told}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn contexts_are_made_used_shown_renamed_and_deleted() {
    let home = Home::new();
    home.ok(&["context", "set", "one", "--server", "https://one.example:8443", "--pin", PIN]);
    home.ok(&["context", "set", "two", "--server", "unix:/run/two.sock", "--project", "blue"]);
    let list: Value = serde_json::from_str(&home.ok(&["context", "list", "--format", "json"])).unwrap();
    assert_eq!(list[0]["name"], "one");
    assert_eq!((&list[0]["current"], &list[1]["current"]), (&Value::Bool(true), &Value::Bool(false)), "the first one");
    assert_eq!(list[1]["credential"], "host-user");
    home.ok(&["context", "use", "two"]);
    let shown = home.ok(&["context", "show"]);
    assert!(shown.contains("unix:/run/two.sock") && shown.contains("blue"), "{shown}");
    home.ok(&["context", "rename", "two", "three"]);
    assert_eq!(home.ok(&["context", "list", "--names"]), "one\nthree\n");
    assert!(
        home.ok(&["context", "list"]).lines().any(|line| line.trim_start().starts_with('*') && line.contains("three"))
    );
    home.ok(&["context", "delete", "three"]);
    home.wrong(&["context", "show"], "no current context");
    home.wrong(&["context", "use", "three"], "no context \"three\"");
    home.wrong(&["context", "rename", "one", "a/b"], "no name for a context");
    home.wrong(&["context", "set", "bad", "--server", "http://plain.example"], "through TLS only");
    home.wrong(&["context", "set", "bad", "--server", "https://user:pw@x.example"], "more than a host and a port");
    home.wrong(&["context", "set", "bad", "--server", "https://x.example/path"], "more than a host and a port");
    home.wrong(&["context", "set", "bad"], "needs a server");
    home.wrong(&["context", "set", "one", "--certificate", "/c.pem"], "belong together");
    assert_eq!(home.ok(&["context", "list", "--names"]), "one\n", "what was refused changed nothing");
    assert_eq!((mode(&home.file("contexts.toml")), mode(&home.file(""))), (0o600, 0o700));
    assert!(!home.file("credentials").exists(), "there is no secret to keep");
}

#[test]
fn a_context_that_gets_another_server_shows_it_nothing_that_was_for_the_first() {
    let home = Home::new();
    home.ok(&["context", "set", "one", "--server", "https://one.example", "--pin", PIN]);
    fs::write(home.file("credentials"), "[one]\ntoken = \"dvs_secret\"\n").unwrap();
    fs::set_permissions(home.file("credentials"), PermissionsExt::from_mode(0o600)).unwrap();
    let shown = home.ok(&["context", "show", "one"]);
    assert!(shown.contains("credential   token") && !shown.contains("dvs_"), "{shown}");
    home.ok(&["context", "set", "one", "--project", "green"]);
    assert!(fs::read_to_string(home.file("credentials")).unwrap().contains("dvs_secret"));
    home.ok(&["context", "set", "one", "--server", "https://other.example"]);
    assert!(!fs::read_to_string(home.file("credentials")).unwrap().contains("dvs_secret"));
    let shown = home.ok(&["context", "show", "one"]);
    assert!(!shown.contains(PIN), "nor is it recognised as the first: {shown}");
    assert_eq!(mode(&home.file("credentials")), 0o600);
}

#[test]
fn a_credential_that_others_may_read_is_not_taken() {
    let home = Home::new();
    home.ok(&["context", "set", "one", "--server", "https://127.0.0.1:1", "--pin", PIN]);
    fs::write(home.file("credentials"), "[one]\ntoken = \"dvs_secret\"\n").unwrap();
    fs::set_permissions(home.file("credentials"), PermissionsExt::from_mode(0o644)).unwrap();
    home.wrong(&["vm", "list"], "may be read by others");
    let key = home.file("key");
    fs::write(&key, "dvk_key").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    fs::remove_file(home.file("credentials")).unwrap();
    home.ok(&["context", "set", "one", "--api-key-file", key.to_str().unwrap()]);
    home.wrong(&["vm", "list"], "may be read by others");
    // A file that is no such thing names its line and does not show it.
    fs::write(home.file("credentials"), "[one]\ntoken = \"dvs_secret\"\nmore = \"dvs_more\"\n").unwrap();
    fs::set_permissions(home.file("credentials"), PermissionsExt::from_mode(0o600)).unwrap();
    let output = home.run(&["context", "list"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64));
    assert!(told.contains("line ") && !told.contains("dvs_"), "{told}");
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_current_context() {
    let server = Server::simulated();
    let home = Home::new();
    let nobody = |command: &mut Command, at: &str| {
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(at), "{at}: {told}");
    };
    let here = format!("unix:{}", server.socket().display());
    home.ok(&["context", "set", "here", "--server", &here]);
    home.ok(&["context", "set", "gone", "--server", "unix:/gone.sock"]);
    assert!(home.ok(&["node", "list"]).contains("test"), "the current one");
    nobody(&mut home.command(&["node", "list", "--context", "gone"]), "/gone.sock");
    nobody(home.command(&["node", "list"]).env("DEBVISOR_CONTEXT", "gone"), "/gone.sock");
    nobody(home.command(&["node", "list"]).env("DEBVISOR_SOCKET", "/env.sock"), "/env.sock");
    nobody(home.command(&["node", "list"]).env("DEBVISOR_SERVER", "unix:/server.sock"), "/server.sock");
    let given =
        home.command(&["node", "list", "--context", "here"]).env("DEBVISOR_SOCKET", "/env.sock").output().unwrap();
    assert!(given.status.success(), "the command line goes first");
    home.wrong(&["node", "list", "--context", "other"], "no context");
    // The project that is meant where none is named.
    server.ok(&["tenant", "create", "acme"]);
    server.ok(&["project", "create", "blue", "--tenant", "acme"]);
    home.ok(&["context", "set", "here", "--project", "blue"]);
    server.import(&[("kernel", "kernel")]);
    home.ok(&["vm", "create", "web", "--kernel", "kernel"]);
    assert_eq!(server.vm("web")["project"], "blue");
    home.wrong(&["node", "list", "--context", "here", "--socket", "/x"], "cannot be used with");
}

#[test]
fn many_who_change_contexts_at_once_lose_nothing() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for number in 0..12 {
            let home = &home;
            scope.spawn(move || home.ok(&["context", "set", &format!("c{number}"), "--server", "unix:/x.sock"]));
        }
    });
    assert_eq!(home.ok(&["context", "list", "--names"]).lines().count(), 12);
}
