//! A release directory for tests, with throwaway OpenPGP keys: files in, the real binary's report out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use debvisor::types::Digest;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::serialize::{Serialize as _, SerializeInto as _};
use sequoia_openpgp::types::{KeyFlags, SignatureType};
use sequoia_openpgp::{Cert, Packet};
use serde_json::Value;
use tempfile::TempDir;

/// Somebody who signs.
pub(crate) struct Publisher {
    cert: Cert,
}

impl Publisher {
    /// A key that is old enough to have signed anything today.
    pub(crate) fn new() -> Self {
        let (cert, _) = CertBuilder::new()
            .add_userid("Release <release@example.org>")
            .set_primary_key_flags(KeyFlags::empty().set_signing())
            .set_creation_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000))
            .generate()
            .unwrap();
        Self { cert }
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex()
    }

    pub(crate) fn keyring(&self) -> Vec<u8> {
        self.cert.clone().strip_secret_key_material().to_vec().unwrap()
    }

    /// A detached signature, in binary.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let key = self.cert.primary_key().key().clone().parts_into_secret().unwrap();
        let signature =
            SignatureBuilder::new(SignatureType::Binary).sign_message(&mut key.into_keypair().unwrap(), bytes).unwrap();
        let mut written = Vec::new();
        Packet::from(signature).serialize(&mut written).unwrap();
        written
    }
}

/// A release directory and its publisher.
pub(crate) struct Release {
    home: TempDir,
    pub(crate) publisher: Publisher,
}

/// What a run of the gate said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) exit: i32,
    pub(crate) report: Value,
    pub(crate) stderr: String,
}

impl Release {
    /// An empty release.
    pub(crate) fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("release")).unwrap();
        let publisher = Publisher::new();
        std::fs::write(home.path().join("publisher.pgp"), publisher.keyring()).unwrap();
        Self { home, publisher }
    }

    /// Two files, listed, the list signed: the gate allows it.
    pub(crate) fn good() -> Self {
        let release = Self::empty().with("app.tar.gz", b"the application").with("sub/notes.txt", b"what is new");
        release.seal();
        release
    }

    pub(crate) fn with(self, name: &str, bytes: &[u8]) -> Self {
        self.write(name, bytes);
        self
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("release")
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Lists every file that is there now and signs the list.
    pub(crate) fn seal(&self) {
        self.list();
        self.sign("SHA256SUMS");
    }

    /// Lists every file that is there now, but lists and signatures over them.
    pub(crate) fn list(&self) {
        let mut lines = String::new();
        for name in self.names("") {
            if !name.starts_with("SHA256SUMS") {
                let digest = Digest::sha256(&std::fs::read(self.path(&name)).unwrap());
                lines.push_str(&format!("{}  {name}\n", digest.to_hex()));
            }
        }
        self.write("SHA256SUMS", lines.as_bytes());
    }

    /// Writes a list of these very bytes and signs it: a flaw in a list that the publisher himself vouches for.
    pub(crate) fn seal_as(&self, list: impl AsRef<[u8]>) {
        self.write("SHA256SUMS", list.as_ref());
        self.sign("SHA256SUMS");
    }

    pub(crate) fn sign(&self, name: &str) {
        let signature = self.publisher.sign(&std::fs::read(self.path(name)).unwrap());
        self.write(&format!("{name}.sig"), &signature);
    }

    fn names(&self, below: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.dir().join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                names.extend(self.names(&format!("{name}/")));
            } else {
                names.push(name);
            }
        }
        names.sort();
        names
    }

    /// The flags that name the publisher.
    pub(crate) fn expected(&self) -> Vec<String> {
        let keyring = self.home().join("publisher.pgp").display().to_string();
        vec!["--openpgp-keyring".into(), keyring, "--openpgp-fingerprint".into(), self.publisher.fingerprint()]
    }

    /// Gates the release, with the publisher named and these flags besides.
    pub(crate) fn gate(&self, flags: &[&str]) -> Answer {
        let mut all = self.expected();
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.gate_as(&all)
    }

    /// Gates the release with these flags alone.
    pub(crate) fn gate_as(&self, flags: &[String]) -> Answer {
        let output = self.command(flags).args(["--format", "json"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let exit = output.status.code().unwrap_or_else(|| panic!("killed: {stderr}"));
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { exit, report, stderr }
    }

    /// The command, run from the folder above the release, as `debvisor gate release`.
    pub(crate) fn command(&self, flags: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        command.current_dir(self.home()).args(["gate", "release"]).args(flags);
        command.env_remove("GITHUB_STEP_SUMMARY").env_remove("GITHUB_OUTPUT");
        command
    }
}

impl Answer {
    /// `code subject` of every reason, sorted.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let text = |reason: &Value, member: &str| reason[member].as_str().unwrap_or("-").to_owned();
        let mut found: Vec<String> = self.report["reasons"]
            .as_array()
            .unwrap_or_else(|| panic!("no report: {}", self.stderr))
            .iter()
            .map(|reason| format!("{} {}", text(reason, "code"), text(reason, "subject")))
            .collect();
        found.sort();
        found
    }

    #[track_caller]
    pub(crate) fn allows(&self) {
        assert_eq!((self.exit, self.reasons()), (0, Vec::new()), "{:#}", self.report);
        assert_eq!(self.report["decision"], "allow");
    }

    /// Is a no for exactly these reasons, each `code subject`.
    #[track_caller]
    pub(crate) fn denies(&self, reasons: &[&str]) {
        assert_eq!(
            (self.exit, self.reasons()),
            (1, reasons.iter().map(|reason| (*reason).to_owned()).collect()),
            "{:#}",
            self.report
        );
        assert_eq!(self.report["decision"], "deny");
    }

    /// What was decided of one subject.
    pub(crate) fn subject(&self, name: &str) -> &Value {
        let subjects = self.report["subjects"].as_array().unwrap();
        subjects.iter().find(|subject| subject["name"] == name).unwrap_or(&Value::Null)
    }
}
