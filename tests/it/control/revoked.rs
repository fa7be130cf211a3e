//! What the installed trust bundle revokes is refused at the gate, and found on machines that run, without a restart.

use std::fs;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use debvisor::release::evidence::key::PublicKey;
use debvisor::release::trust::bundle::{Contents, SCHEMA, SignedBundle};
use debvisor::release::trust::revocation::Revocation;
use debvisor::types::{Digest, DigestAlgorithm};
use jiff::{SignedDuration, Timestamp};

use super::server::{Server, images};

/// Installs a bundle that revokes this and holds so long, as the user who runs the server would.
fn install(server: &Server, version: u64, revoked: &[String], holds: SignedDuration) {
    let home = server.config_home();
    fs::create_dir_all(&home).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_spki(spki.as_ref()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the binary under test reads the real clock")]
    let now = Timestamp::now();
    let revocation = |what: &String| Revocation { what: what.parse().unwrap(), reason: Some("leaked".to_owned()) };
    let contents = Contents {
        schema: SCHEMA,
        version,
        created_at: now,
        expires_at: now + holds,
        signers: None,
        roots: Vec::new(),
        policies: Vec::new(),
        keys: Vec::new(),
        openpgp_keyrings: Vec::new(),
        revocations: revoked.iter().map(revocation).collect(),
    };
    let mut bundle = SignedBundle::new(contents).unwrap();
    bundle.add_signature(&key, pair.sign(&bundle.message()).as_ref().to_vec()).unwrap();
    let (file, signer) = (home.join("trust.bundle"), home.join("signer.pub"));
    fs::write(&file, bundle.to_json().unwrap()).unwrap();
    fs::write(&signer, key.to_pem()).unwrap();
    let mut command = server.command(&["trust", "bundle", "install"]);
    command.arg(file).env("XDG_CONFIG_HOME", &home);
    if version == 1 {
        command.arg("--signer").arg(signer);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const LONG: SignedDuration = SignedDuration::from_hours(24);

fn digest(image: &str) -> Digest {
    Digest::sha256(&fs::read(images().join(image)).unwrap())
}

fn with_machines() -> Server {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("initrd", "initrd"), ("disk.raw", "disk"), ("other.raw", "disk")]);
    for (name, disk) in [("a", "disk.raw"), ("b", "other.raw")] {
        server.ok(&["vm", "create", name, "--kernel", "kernel", "--disk", disk]);
        server.ok(&["vm", "start", name]);
    }
    server
}

#[test]
fn a_revoked_digest_stills_what_runs_it_and_refuses_its_start() {
    let mut server = with_machines();
    install(&server, 1, &[digest("disk.raw").to_string()], LONG);
    server.until("a", "paused", Duration::from_secs(2));
    assert_eq!(server.power("b"), "running");
    assert!(server.ok(&["vm", "show", "a"]).contains("revoked"));
    server.refused(&["vm", "resume", "a"], "revoked");
    server.ok(&["vm", "stop", "a", "--force"]);
    server.refused(&["vm", "start", "a"], "revoked");
    server.refused(&["vm", "create", "c", "--disk", "disk.raw"], "revoked");
    server.refused(&["vm", "attach", "b", "--disk", "disk.raw"], "revoked");
    server.kill();
    server.up(None);
    server.refused(&["vm", "start", "a"], "revoked");
    let shown = server.cli(&["image", "show", "disk.raw"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("revoked"), "{shown:?}");
}

#[test]
fn a_revoked_key_stills_every_machine_that_it_vouched_for() {
    let server = with_machines();
    let builds = PublicKey::from_pem(&fs::read(images().join("builds.pub")).unwrap()).unwrap();
    install(&server, 1, &[format!("key:{}", builds.fingerprint())], LONG);
    for name in ["a", "b"] {
        server.until(name, "paused", Duration::from_secs(2));
        server.ok(&["vm", "stop", name, "--force"]);
        server.refused(&["vm", "start", name], "revoked");
    }
}

#[test]
fn a_kernel_that_is_revoked_by_another_hash_is_refused() {
    let server = with_machines();
    let initrd = fs::read(images().join("initrd")).unwrap();
    install(&server, 1, &[DigestAlgorithm::Sha512.hash(&initrd).to_string()], LONG);
    let create = ["vm", "create", "c", "--kernel", "kernel", "--initrd", "initrd", "--disk", "other.raw"];
    let until = Instant::now() + Duration::from_secs(2);
    while server.cli(&create).status.success() {
        server.ok(&["vm", "delete", "c"]);
        assert!(Instant::now() < until, "{}", server.log());
    }
    server.refused(&create, "revoked");
    assert_eq!(server.power("a"), "running");
}

#[test]
fn a_disk_and_a_kernel_that_are_revoked_by_sha512_are_found_where_they_run() {
    let sha512 = |image: &str| DigestAlgorithm::Sha512.hash(&fs::read(images().join(image)).unwrap()).to_string();
    let server = with_machines();
    install(&server, 1, &[sha512("disk.raw")], LONG);
    server.until("a", "paused", Duration::from_secs(2));
    assert_eq!(server.power("b"), "running");
    server.refused(&["vm", "resume", "a"], "revoked");
    server.ok(&["vm", "stop", "a", "--force"]);
    server.refused(&["vm", "start", "a"], "revoked");
    server.refused(&["vm", "create", "c", "--disk", "disk.raw"], "revoked");
    // Both run, or ran, this kernel.
    install(&server, 2, &[sha512("kernel")], LONG);
    server.until("b", "paused", Duration::from_secs(2));
    server.refused(&["vm", "resume", "b"], "revoked");
}

#[test]
fn a_bundle_that_is_void_lets_nothing_pass_and_stills_nothing_more() {
    let server = with_machines();
    install(&server, 1, &[digest("disk.raw").to_string()], SignedDuration::from_secs(4));
    server.until("a", "paused", Duration::from_secs(2));
    let until = Instant::now() + Duration::from_secs(20);
    // What is revoked is not known any more.
    let create = ["vm", "create", "c", "--disk", "other.raw"];
    while server.cli(&create).status.success() {
        server.ok(&["vm", "delete", "c"]);
        assert!(Instant::now() < until, "{}", server.log());
    }
    server.refused(&create, "trust-bundle-invalid");
    assert_eq!(server.power("b"), "running");
    assert_eq!(server.power("a"), "paused");
    install(&server, 2, &[], LONG);
    server.until("a", "running", Duration::from_secs(2));
}
