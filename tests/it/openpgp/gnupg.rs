//! What GnuPG makes, DebVisor reads: keys and signatures by the real program, under a clock that it is told.

use std::path::Path;
use std::process::Command;

use super::Question;
use super::maker::ARTIFACT;

/// A GnuPG home of its own, with one key. Its agent ends with it.
struct Gnupg {
    home: tempfile::TempDir,
    fingerprint: String,
}

impl Gnupg {
    fn new(algorithm: &str, expires: &str) -> Self {
        // The agent's socket needs a short path.
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        let mut gnupg = Self { home, fingerprint: String::new() };
        gnupg.run("20240101", &["--quick-gen-key", "Release <release@example.org>", algorithm, "sign", expires]);
        let listing = gnupg.run("20240101", &["--with-colons", "--list-keys"]);
        let listing = String::from_utf8(listing).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        gnupg.fingerprint = line.split(':').nth(9).unwrap().to_owned();
        gnupg
    }

    fn run(&self, day: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("gpg")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .arg(format!("--faked-system-time={day}T120000!"))
            .args(arguments)
            .output()
            .expect("gpg is installed by `make test`");
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn sign(&self, day: &str, arguments: &[&str]) -> Vec<u8> {
        let artifact = self.home.path().join("artifact");
        std::fs::write(&artifact, ARTIFACT).unwrap();
        self.run(day, &[arguments, &["--output", "-", path(&artifact)]].concat())
    }

    fn question(&self, signature: Vec<u8>) -> Question {
        Question::new(signature, self.run("20250101", &["--armor", "--export"]), self.fingerprint.clone())
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).output();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn gpg_signatures_verify_armored_and_binary() {
    for algorithm in ["ed25519", "rsa3072", "nistp256"] {
        let gnupg = Gnupg::new(algorithm, "never");
        for arguments in [&["--detach-sign"][..], &["--armor", "--detach-sign"]] {
            let mut question = gnupg.question(gnupg.sign("20240601", arguments));
            assert_eq!(question.clone().now().passes()["fingerprint"], gnupg.fingerprint, "{algorithm}");
            question.artifact.push(b' ');
            question.fails(&["openpgp-signature-bad"]);
        }
    }
}

#[test]
fn gpg_signatures_by_a_subkey_verify() {
    let gnupg = Gnupg::new("ed25519", "never");
    gnupg.run("20240102", &["--quick-add-key", &gnupg.fingerprint, "ed25519", "sign", "2y"]);
    let signer = gnupg.question(gnupg.sign("20240601", &["--detach-sign"])).passes();
    assert_eq!(signer["fingerprint"], gnupg.fingerprint);
    assert_ne!(signer["signing_key"], gnupg.fingerprint);
}

#[test]
fn gpg_signatures_in_text_mode_or_with_their_text_are_refused() {
    let gnupg = Gnupg::new("ed25519", "never");
    gnupg.question(gnupg.sign("20240601", &["--textmode", "--detach-sign"])).fails(&["openpgp-signature-type"]);
    gnupg.question(gnupg.sign("20240601", &["--clear-sign"])).fails(&["openpgp-not-detached"]);
    gnupg.question(gnupg.sign("20240601", &["--sign"])).fails(&["openpgp-not-detached"]);
    gnupg.question(gnupg.sign("20240601", &["--armor", "--sign"])).fails(&["openpgp-not-detached"]);
}

#[test]
fn gpg_keys_expire_by_date_and_the_newest_word_counts_where_it_alone_is_left() {
    let gnupg = Gnupg::new("ed25519", "20240801T000000");
    let signature = gnupg.sign("20240601", &["--detach-sign"]);
    gnupg.question(signature.clone()).passes();
    gnupg.question(signature.clone()).now().fails(&["openpgp-key-expired"]);
    // Extended, and exported as key servers keep it: with the newest self-signature and no other.
    gnupg.run("20240701", &["--quick-set-expire", &gnupg.fingerprint, "20270101T000000"]);
    let mut question = gnupg.question(signature);
    question.keyring = gnupg.run("20250101", &["--armor", "--export-options", "export-minimal", "--export"]);
    question.now().passes();
}
