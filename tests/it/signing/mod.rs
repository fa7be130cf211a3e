//! Signing through the real binary: `sign`, `attest` and `sign-bundle`, with managed keys, with identity tokens and
//! stand-ins of Sigstore's services on loopback, and with the user's gpg.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::world::World;

mod conformance;
mod failures;
pub(crate) mod http;
mod interop;
pub(crate) mod keyless;
mod managed;
pub(crate) mod openpgp;
pub(crate) mod services;

const ARTIFACT: &[u8] = b"what was built\n";

/// A folder with an artifact and the world's trust root, in which the program runs.
pub(crate) struct Desk {
    home: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        desk.write("app", ARTIFACT);
        desk.write("root.json", World::shared().trusted_root().to_string().as_bytes());
        desk.write("predicate.json", br#"{"passed": true}"#);
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Every file that is there, with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = program(self.home.path());
        command.args(arguments).envs(environment.iter().copied());
        Ran::of(&command.output().unwrap())
    }
}

/// The program, with nothing of our own environment.
pub(crate) fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    command.current_dir(dir).env_clear().env("HOME", dir).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            exit: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.exit, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// It ended so, said this, and gave a hint.
    #[track_caller]
    pub(crate) fn fails(self, exit: i32, message: &str) -> Self {
        assert_eq!(self.exit, exit, "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(message), "not `{message}`: {}", self.stderr);
        assert!(self.stderr.contains("\nhint: "), "no hint: {}", self.stderr);
        self
    }
}
