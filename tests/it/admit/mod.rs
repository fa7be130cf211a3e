//! What may boot: the real binary over images with what is beside them, and the library from evidence to permit.

mod beside;
mod chain;
mod configuration;
mod disks;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::gate::release::Publisher;
use crate::world::{Identity, Key, World};

const ISSUER: &str = "https://accounts.example.org";
const WHO: &str = "images@example.org";
/// Flags that name the one who signs keyless.
const NAMED: &str = "--trusted-root root.json --certificate-identity images@example.org --certificate-oidc-issuer https://accounts.example.org";

fn publisher() -> Identity {
    Identity::email(WHO, ISSUER)
}

fn stranger() -> Identity {
    Identity::email("evil@example.org", ISSUER)
}

/// A folder with images and what speaks for them.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        folder.write("root.json", World::shared().trusted_root().to_string());
        folder
    }

    /// One disk image, signed by the publisher.
    fn signed() -> Self {
        let folder = Self::new();
        folder.write("disk.img", image(1));
        folder.sign("disk.img", &publisher());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Signs a file keyless, with its bundle beside it.
    fn sign(&self, name: &str, identity: &Identity) {
        let bundle = World::shared().blob(&self.read(name), identity).bundle();
        self.write(&format!("{name}.sigstore.json"), bundle.to_string());
    }

    /// Signs a file by a managed key, with its bundle beside it and the key in `PUBLIC`.
    fn sign_by(&self, name: &str, key: &Key, public: &str) {
        let bundle = World::shared().key_blob(&self.read(name), key).bundle();
        self.write(&format!("{name}.sigstore.json"), bundle.to_string());
        self.write(public, key.pem());
    }

    /// Signs a file by OpenPGP, with the keyring in `ring.pgp`; the flags that name the key.
    fn sign_openpgp(&self, name: &str, signer: &Publisher, signature: &str) -> String {
        self.write(signature, signer.sign(&self.read(name)));
        self.write("ring.pgp", signer.keyring());
        format!("--openpgp-keyring ring.pgp --openpgp-fingerprint {}", signer.fingerprint())
    }

    fn debvisor(&self, line: &str) -> Output {
        debvisor(self.dir.path(), line)
    }

    /// What `debvisor admit` with these arguments says.
    fn admit(&self, line: &str) -> Answer {
        let output = self.debvisor(&format!("admit {line} --format json"));
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"));
        Answer { exit: output.status.code().unwrap(), report }
    }
}

fn debvisor(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(line.split_whitespace())
        .current_dir(dir)
        .env_clear()
        .env("XDG_CONFIG_HOME", dir.join("config"))
        .env("DEBVISOR_KEY_PASSWORD", "password")
        .output()
        .unwrap()
}

/// A raw disk image: a boot sector's mark, and bytes that differ by number.
fn image(number: u8) -> Vec<u8> {
    let mut bytes = vec![number; 8192];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

#[derive(Debug)]
struct Answer {
    exit: i32,
    report: Value,
}

impl Answer {
    fn codes(&self) -> Vec<&str> {
        self.report["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn allows(&self) {
        assert_eq!((self.exit, self.codes()), (0, vec![]), "{:#}", self.report);
        assert_eq!(self.report["decision"], "allow");
        assert_eq!(self.report["policy"]["name"], "admission");
    }

    #[track_caller]
    fn says(&self, exit: i32, codes: &[&str]) {
        assert_eq!((self.exit, self.codes()), (exit, codes.to_vec()), "{:#}", self.report);
    }
}
