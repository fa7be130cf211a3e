//! What `verify` takes from the installed trust bundle: roots, keys, keyrings and policies by name, and revocations
//! in any case.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use debvisor::release::evidence::key::PublicKey;
use debvisor::release::trust::bundle::{Contents, Item, Policy, SCHEMA, SignedBundle};
use debvisor::release::trust::revocation::Revocation;
use debvisor::types::{Digest, DigestAlgorithm};
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::types::SignatureType;

use super::repository::in_days;
use super::{allowed, refused};
use crate::world::statement::slsa_v1;
use crate::world::{Identity, Key, World};

const ARTIFACT: &[u8] = b"what was built\n";

/// The key that signed the artifact.
fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(Key::p256)
}

fn item(name: &str, content: impl Into<Vec<u8>>) -> Item {
    Item { name: name.to_owned(), content: content.into() }
}

fn contents(version: u64) -> Contents {
    let root = World::shared().trusted_root().to_string();
    Contents {
        schema: SCHEMA,
        version,
        created_at: in_days(-1),
        expires_at: in_days(30),
        signers: None,
        roots: vec![item("world", root)],
        policies: Vec::new(),
        keys: vec![item("world", key().pem())],
        openpgp_keyrings: Vec::new(),
        revocations: Vec::new(),
    }
}

/// Signs the bundle and installs it as a user would.
fn install(home: &Path, contents: Contents) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_spki(spki.as_ref()).unwrap();
    let mut bundle = SignedBundle::new(contents).unwrap();
    bundle.add_signature(&key, pair.sign(&bundle.message()).as_ref().to_vec()).unwrap();
    fs::write(home.join("trust.bundle"), bundle.to_json().unwrap()).unwrap();
    fs::write(home.join("signer.pub"), key.to_pem()).unwrap();
    allowed(home, &["trust", "bundle", "install", "trust.bundle", "--signer", "signer.pub"]);
}

/// A home with an artifact, its evidence, and nothing installed.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes).unwrap();
    let world = World::shared();
    write("app.bin", ARTIFACT);
    write("by-key.json", world.key_blob(ARTIFACT, key()).bundle().to_string().as_bytes());
    write("keyless.json", world.blob(ARTIFACT, &identity()).bundle().to_string().as_bytes());
    let statement = slsa_v1(ARTIFACT, &identity());
    write("attested.json", world.attest(&statement, &identity()).bundle().to_string().as_bytes());
    home
}

fn identity() -> Identity {
    Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2")
}

const BY_KEY: [&str; 6] = ["verify", "app.bin", "--bundle", "by-key.json", "--key", "bundle:world"];

fn keyless(evidence: &'static str) -> Vec<String> {
    ["verify", "app.bin", "--bundle", evidence, "--certificate-identity", identity().text()]
        .into_iter()
        .chain(["--certificate-oidc-issuer", "https://token.actions.githubusercontent.com"])
        .map(str::to_owned)
        .collect()
}

#[test]
fn roots_and_keys_of_the_bundle_are_used() {
    let home = home();
    install(home.path(), contents(1));
    let report = allowed(home.path(), &BY_KEY);
    assert_eq!(report["trust_root"]["age_days"], 1);
    let keyless = keyless("keyless.json");
    allowed(home.path(), &keyless.iter().map(String::as_str).collect::<Vec<_>>());
    let absent = [&BY_KEY[..5], &["bundle:other"]].concat();
    refused(home.path(), &absent, 2, "evidence-unreadable");
}

#[test]
fn what_the_bundle_revokes_is_refused_although_it_verifies() {
    let world_key = PublicKey::from_pem(key().pem().as_bytes()).unwrap().fingerprint();
    let home = home();
    let keyless = keyless("keyless.json");
    let keyless: Vec<&str> = keyless.iter().map(String::as_str).collect();
    let cases = [
        (Digest::sha256(ARTIFACT).to_string(), true, true),
        // Nothing else asks for this algorithm: it is hashed because it is revoked by it.
        (DigestAlgorithm::Sha512.hash(ARTIFACT).to_string(), true, true),
        (format!("key:{world_key}"), true, false),
        (format!("identity:{}", identity().text()), false, true),
        (Digest::sha256(b"another").to_string(), false, false),
        ("identity:https://github.com/acme".to_owned(), false, false),
    ];
    for (version, (what, of_key, of_keyless)) in (1..).zip(cases) {
        let revocation = Revocation { what: what.parse().unwrap(), reason: Some("leaked".to_owned()) };
        install(home.path(), Contents { revocations: vec![revocation], ..contents(version) });
        for (arguments, is_revoked) in [(&BY_KEY[..], of_key), (&keyless, of_keyless)] {
            if is_revoked {
                assert!(refused(home.path(), arguments, 1, "revoked").contains("leaked"), "{what}");
            } else {
                allowed(home.path(), arguments);
            }
        }
    }
}

#[test]
fn a_revoked_attestation_is_refused_by_its_payload() {
    let home = home();
    let attested = keyless("attested.json");
    let attested: Vec<&str> = attested.iter().map(String::as_str).collect();
    install(home.path(), contents(1));
    let report = allowed(home.path(), &attested);
    let payload = report["facts"]["signatures"][0]["attestation"]["payload_digest"].as_str().unwrap().to_owned();
    let revocation = Revocation { what: payload.parse().unwrap(), reason: None };
    install(home.path(), Contents { revocations: vec![revocation], ..contents(2) });
    refused(home.path(), &attested, 1, "revoked");
}

#[test]
fn policies_of_the_bundle_are_used_by_name_and_can_be_revoked() {
    let home = home();
    let deny = "package local\nimport rego.v1\ndeny contains \"not on a Sunday\" if true\n";
    let policy = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, text)| item(name, *text)).collect();
        vec![Policy { name: "local".to_owned(), files }]
    };
    install(home.path(), Contents { policies: policy(&[("local.rego", deny)]), ..contents(1) });
    let with_policy = [&BY_KEY[..], &["--policy", "bundle:local"]].concat();
    assert!(refused(home.path(), &with_policy, 1, "policy-denied").contains("not on a Sunday"));
    refused(home.path(), &[&BY_KEY[..], &["--policy", "bundle:other"]].concat(), 1, "policy-unreadable");

    let warn = "package local\nimport rego.v1\ndeny contains \"never\" if false\nwarn contains \"a Sunday\" if true\n";
    install(home.path(), Contents { policies: policy(&[("local.rego", warn)]), ..contents(2) });
    let report = allowed(home.path(), &with_policy);
    let digest = report["policy"]["digest"].as_str().unwrap();
    let revocations = vec![Revocation { what: digest.parse().unwrap(), reason: None }];
    install(home.path(), Contents { policies: policy(&[("local.rego", warn)]), revocations, ..contents(3) });
    refused(home.path(), &with_policy, 1, "revoked");
    allowed(home.path(), &BY_KEY);
}

#[test]
fn keyrings_of_the_bundle_are_used_by_name_and_their_keys_can_be_revoked() {
    let home = home();
    let (cert, _) = CertBuilder::general_purpose(Some("Team <team@example.com>")).generate().unwrap();
    let policy = StandardPolicy::new();
    let key = cert.keys().secret().with_policy(&policy, None).for_signing().next().unwrap().key().clone();
    let signature =
        SignatureBuilder::new(SignatureType::Binary).sign_message(&mut key.into_keypair().unwrap(), ARTIFACT).unwrap();
    let packet = sequoia_openpgp::Packet::from(signature);
    fs::write(home.path().join("app.bin.sig"), packet.to_vec().unwrap()).unwrap();

    let with = |version, revocations| {
        let keyring = cert.clone().strip_secret_key_material().to_vec().unwrap();
        Contents { openpgp_keyrings: vec![item("team", keyring)], revocations, ..contents(version) }
    };
    let fingerprint = cert.fingerprint().to_hex();
    let arguments = |keyring: &'static str| {
        [
            "verify",
            "app.bin",
            "--signature",
            "app.bin.sig",
            "--openpgp-keyring",
            keyring,
            "--openpgp-fingerprint",
            &fingerprint,
        ]
        .map(str::to_owned)
    };
    let run = |keyring| arguments(keyring);
    install(home.path(), with(1, Vec::new()));
    allowed(home.path(), &run("bundle:team").each_ref().map(String::as_str));
    refused(home.path(), &run("bundle:other").each_ref().map(String::as_str), 2, "openpgp-keyring-unreadable");
    let revocation = Revocation { what: format!("openpgp:{fingerprint}").parse().unwrap(), reason: None };
    install(home.path(), with(2, vec![revocation]));
    refused(home.path(), &run("bundle:team").each_ref().map(String::as_str), 1, "revoked");
}

#[test]
fn a_run_without_a_bundle_knows_no_names_of_one() {
    let home = home();
    refused(home.path(), &["trust", "check", "--trusted-root", "bundle:world"], 2, "trust-root-unreadable");
    fs::write(home.path().join("key.pub"), key().pem()).unwrap();
    let root = World::shared().trusted_root().to_string();
    fs::write(home.path().join("root.json"), root).unwrap();
    let given = [&BY_KEY[..5], &["key.pub", "--trusted-root", "root.json"]].concat();
    allowed(home.path(), &given);
    fs::create_dir_all(home.path().join(".config/debvisor/trust")).unwrap();
    fs::write(home.path().join(".config/debvisor/trust/bundle.json"), "{}").unwrap();
    refused(home.path(), &given, 1, "trust-bundle-invalid");
}

#[test]
fn a_list_signed_by_a_revoked_key_vouches_for_none_of_its_files() {
    let home = home();
    let release = home.path().join("release");
    fs::create_dir(&release).unwrap();
    fs::write(release.join("app.bin"), ARTIFACT).unwrap();
    let list = format!("{}  app.bin\n", Digest::sha256(ARTIFACT).to_hex());
    fs::write(release.join("SHA256SUMS"), &list).unwrap();
    let bundle = World::shared().key_blob(list.as_bytes(), key()).bundle().to_string();
    fs::write(release.join("SHA256SUMS.sigstore.json"), bundle).unwrap();
    install(home.path(), contents(1));
    let gate = ["gate", "release", "--key", "bundle:world"];
    allowed(home.path(), &gate);

    let fingerprint = PublicKey::from_pem(key().pem().as_bytes()).unwrap().fingerprint();
    let revoked = [format!("key:{fingerprint}"), Digest::sha256(list.as_bytes()).to_string()];
    for (version, what) in (2..).zip(revoked) {
        let revocations = vec![Revocation { what: what.parse().unwrap(), reason: None }];
        install(home.path(), Contents { revocations, ..contents(version) });
        let (exit, report) = super::report(home.path(), &gate);
        assert_eq!((exit, super::codes(&report)), (1, vec!["revoked", "signature-required"]), "{report:#}");
    }
}
