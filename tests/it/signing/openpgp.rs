//! `sign --openpgp`: through a real gpg and its agent, in a home of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{Desk, Ran, program};

/// A GnuPG home with one key, without a passphrase. Its agent ends with it.
pub(crate) struct Gnupg {
    pub(crate) home: tempfile::TempDir,
}

impl Gnupg {
    pub(crate) fn new() -> Self {
        // The agent's socket needs a short path.
        let own = std::fs::Permissions::from_mode(0o700);
        let home = tempfile::Builder::new().prefix("gpg").permissions(own).tempdir_in("/tmp").unwrap();
        let gnupg = Self { home };
        let user = "Release <release@example.org>";
        gnupg.run(&["--passphrase", "", "--quick-gen-key", user, "ed25519", "sign", "never"]);
        gnupg
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]).args(arguments);
        let output = command.output().expect("gpg is installed by `make test`");
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub(crate) fn fingerprint(&self) -> String {
        let listing = String::from_utf8(self.run(&["--with-colons", "--list-keys"])).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Runs the program as the user whose gpg this is.
    fn sign(&self, desk: &Desk, arguments: &[&str]) -> Ran {
        let mut command = program(desk.home.path());
        command.env("GNUPGHOME", self.home.path()).arg("sign").args(arguments);
        Ran::of(&command.output().unwrap())
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).output();
    }
}

#[test]
fn gpg_and_we_accept_what_the_users_own_gpg_signs() {
    let (desk, gnupg) = (Desk::new(), Gnupg::new());
    desk.write("notes", b"what is new\n");
    let fingerprint = gnupg.fingerprint();
    for key in ["release@example.org", &fingerprint] {
        let ran = gnupg.sign(&desk, &["app", "notes", "--openpgp", key]).succeeds();
        assert_eq!(ran.stderr, "wrote app.asc\nwrote notes.asc\n");
        let (signature, artifact) = (desk.path("app.asc"), desk.path("app"));
        gnupg.run(&["--verify", signature.to_str().unwrap(), artifact.to_str().unwrap()]);
        assert!(desk.read("app.asc").starts_with(b"-----BEGIN PGP SIGNATURE-----"));
    }
    desk.write("release.asc", &gnupg.run(&["--armor", "--export"]));
    let verify = [
        "verify",
        "app",
        "--signature",
        "app.asc",
        "--openpgp-keyring",
        "release.asc",
        "--openpgp-fingerprint",
        &fingerprint,
    ];
    desk.run(&verify).succeeds();
    desk.write("app", b"something else\n");
    assert_eq!(desk.run(&verify).exit, 1);
}

#[test]
fn a_key_that_gpg_does_not_have_signs_nothing() {
    let (desk, gnupg) = (Desk::new(), Gnupg::new());
    desk.write("app.asc", b"an earlier signature");
    let before = desk.files();
    gnupg.sign(&desk, &["app", "--openpgp", "nobody@example.org"]).fails(2, "gpg did not sign");
    // The first could be signed; the second is not there.
    gnupg.sign(&desk, &["app", "no-such-file", "--openpgp", "release@example.org"]).fails(64, "no-such-file");
    assert_eq!(desk.files(), before);
}

#[test]
fn without_gpg_the_user_is_told_what_to_install() {
    let desk = Desk::new();
    let mut command = program(desk.home.path());
    command.env("PATH", desk.home.path()).args(["sign", "app", "--openpgp", "release@example.org"]);
    Ran::of(&command.output().unwrap()).fails(64, "gpg is not installed");
}

#[test]
fn one_signature_is_by_one_means() {
    let desk = Desk::new();
    for other in [["--key", "release.key"], ["--identity-token", "a.b.c"], ["--bundle", "x.json"]] {
        let ran = desk.run(&[&["sign", "app", "--openpgp", "release@example.org"], &other[..]].concat());
        assert_eq!(ran.exit, 64, "{other:?}: {}", ran.stderr);
    }
}
