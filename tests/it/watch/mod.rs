//! Watching releases through the real binary: `reverify` and `notify`, against a stand-in of GitHub on loopback.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

pub(crate) mod github;
mod notify;
mod recorded;
mod reverify;

/// A folder in which the program runs, and a GitHub of its own.
struct Desk {
    home: tempfile::TempDir,
    github: github::Github,
}

struct Ran {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn ends(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "not `{words}`: {}", self.stderr);
        self
    }
}

impl Desk {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), github: github::Github::start() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        command.args(arguments).current_dir(&self.home).env_clear();
        command.env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command.env("GITHUB_API_URL", self.github.url()).env("GITHUB_TOKEN", github::TOKEN);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            exit: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A report as `reverify` writes it: targets with their decisions, and reasons as `(target, code, message)`.
fn report(targets: &[(&str, &str)], reasons: &[(&str, &str, &str)]) -> Value {
    let subjects: Vec<Value> = targets
        .iter()
        .map(|(name, decision)| {
            json!({"name": name, "digest": {}, "decision": decision, "facts": {"reverify": {"target": name}}})
        })
        .collect();
    let reasons: Vec<Value> = reasons
        .iter()
        .map(|(subject, code, message)| {
            json!({"code": code, "message": message, "subject": subject, "evidence": "app.tar.gz", "hint": "look at it"})
        })
        .collect();
    let decision = if reasons.is_empty() { "allow" } else { "deny" };
    json!({"decision": decision, "subjects": subjects, "reasons": reasons, "facts": {}, "decided_at": "2026-01-01T00:00:00Z"})
}

/// Whether a program is there; what the tests need is installed by `make test`.
fn python_has(module: &str) -> bool {
    let found =
        Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
