//! Disks that are vouched for, revoked or put into quarantine by another hash than the one they are named by, and by
//! OpenPGP signatures over their very bytes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use debvisor::types::DigestAlgorithm;

use super::server::{Server, images};

/// Runs our own binary without a server.
fn alone(dir: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let output = command.args(args).current_dir(dir).env("DEBVISOR_KEY_PASSWORD", "test").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Brings an image with exactly this evidence.
fn import(server: &Server, name: &str, evidence: &[&str]) {
    let mut command = server.command(&["image", "import", name, "--kind", "disk", "--no-beside"]);
    command.current_dir(server.dir.path());
    for file in evidence {
        command.args(["--evidence", file]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_disk_that_is_vouched_for_by_sha512_alone_boots_and_one_that_is_not_named_does_not() {
    let server = Server::simulated();
    let dir = server.dir.path();
    for name in ["alone.raw", "stranger.raw"] {
        fs::write(dir.join(name), name.repeat(1000)).unwrap();
    }
    let key = images().join("builds.key");
    alone(dir, &["checksum", "create", "--algorithm", "sha512", "--output", "SHA512SUMS", "alone.raw"]);
    let bundle = "SHA512SUMS.sigstore.json";
    alone(dir, &["sign", "SHA512SUMS", "--key", key.to_str().unwrap(), "--bundle", bundle, "--offline"]);
    for name in ["alone.raw", "stranger.raw"] {
        import(&server, name, &["SHA512SUMS", bundle]);
    }
    server.ok(&["vm", "create", "a", "--disk", "alone.raw"]);
    server.ok(&["vm", "start", "a"]);
    let refused = server.cli(&["vm", "create", "b", "--disk", "stranger.raw"]);
    assert_eq!(refused.status.code(), Some(1), "nobody vouches for it by any hash");
    let sha512 = DigestAlgorithm::Sha512.hash(&fs::read(dir.join("alone.raw")).unwrap()).to_string();
    assert_eq!(server.json(&["image", "show", "alone.raw"])["facts"]["sha512"], *sha512);

    // The same hash put into quarantine finds the disk and what runs it, and marks it in the store.
    let began = Instant::now();
    server.ok(&["quarantine", "add", &sha512, "--reason", "a backdoor"]);
    server.until("a", "paused", Duration::from_secs(1).saturating_sub(began.elapsed()));
    server.refused(&["vm", "resume", "a"], "image-quarantined");
    server.ok(&["vm", "stop", "a", "--force"]);
    server.refused(&["vm", "start", "a"], "image-quarantined");
    assert!(server.content("alone.raw").with_file_name("quarantined").exists());
}

/// A GnuPG home of its own with one key. Its agent ends with it.
struct Gnupg(tempfile::TempDir);

impl Gnupg {
    fn new() -> Self {
        let gnupg = Self(tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap());
        gnupg.run(&["--quick-gen-key", "Release <release@example.org>", "rsa3072", "sign", "2y"]);
        gnupg
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("gpg")
            .arg("--homedir")
            .arg(self.0.path())
            .args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .output()
            .expect("gpg is installed by `make test`");
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn fingerprint(&self) -> String {
        let listing = String::from_utf8(self.run(&["--with-colons", "--list-keys"])).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).output();
    }
}

#[test]
fn a_disk_with_an_openpgp_signature_over_its_bytes_boots_and_a_changed_one_does_not() {
    let gnupg = Gnupg::new();
    let mut server = Server::prepared("kind = \"simulated\"", "");
    let dir = server.dir.path().to_owned();
    fs::write(dir.join("release.asc"), gnupg.run(&["--armor", "--export"])).unwrap();
    let config = format!(
        "node = \"test\"\n[hypervisor]\nkind = \"simulated\"\n[admission]\n[[admission.signers]]\nname = \"release\"\n\
         openpgp-keyring = {:?}\nopenpgp-fingerprints = [{:?}]\n",
        dir.join("release.asc"),
        gnupg.fingerprint()
    );
    fs::write(dir.join("config.toml"), config).unwrap();
    server.up(None);
    for name in ["signed.raw", "other.raw"] {
        fs::write(dir.join(name), name.repeat(30_000)).unwrap();
    }
    for hash in ["SHA256", "SHA512"] {
        let signature = format!("{hash}.asc");
        let (out, image) = (dir.join(&signature), dir.join("signed.raw"));
        let words = ["--digest-algo", hash, "--armor", "--detach-sign", "--output"];
        gnupg.run(&[&words[..], &[out.to_str().unwrap(), image.to_str().unwrap()]].concat());
        fs::rename(&out, dir.join("signed.raw.asc")).unwrap();
        import(&server, "signed.raw", &["signed.raw.asc"]);
        let name = hash.to_lowercase();
        server.ok(&["vm", "create", &name, "--disk", "signed.raw"]);
        server.ok(&["vm", "start", &name]);
        server.ok(&["vm", "stop", &name, "--force"]);
    }
    // A signature over other bytes speaks for no disk.
    fs::copy(dir.join("signed.raw.asc"), dir.join("other.raw.asc")).unwrap();
    import(&server, "other.raw", &["other.raw.asc"]);
    let refused = server.cli(&["vm", "create", "other", "--disk", "other.raw"]);
    assert_eq!(refused.status.code(), Some(1));
    // After a restart the bytes are read again, once, and each block is proved meanwhile.
    server.kill();
    server.up(None);
    server.ok(&["vm", "start", "sha512"]);
    server.ok(&["vm", "stop", "sha512", "--force"]);
    server.flip("signed.raw", 200_000);
    server.kill();
    server.up(None);
    server.refused(&["vm", "start", "sha512"], "image-changed");
    assert!(server.content("signed.raw").with_file_name("quarantined").exists());
}
