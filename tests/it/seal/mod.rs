//! `seal`, as whoever publishes meets it: artifacts in, a release that `gate` allows out; sealed again, changed, brought
//! documents, every kind of signer. What is half done and what was tampered with have files of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use debvisor::release::evidence::key::PublicKey;
use serde_json::{Value, json};

use crate::signing::openpgp::Gnupg;
use crate::signing::services::{Flaw, ISSUER, Services, WHO, claims, token};
use crate::signing::{Ran, keyless, program};
use crate::world::World;

mod half_done;
mod projects;
mod tampered;

const ALL: &str = "signature,sbom,provenance,vex";

/// A folder with a release to be sealed in `work/release`, and a managed key beside it.
struct Desk {
    home: tempfile::TempDir,
}

/// A managed key without a password, which spares the work of deriving one from it: private and public, in PEM.
fn managed_key() -> (String, String) {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
    let private = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, pkcs8.as_ref()).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    (private, PublicKey::from_spki(spki.as_ref()).unwrap().to_pem())
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(desk.release()).unwrap();
        let (private, public) = managed_key();
        desk.write("release.key", private.as_bytes());
        desk.write("release.pub", public.as_bytes());
        desk
    }

    /// With a program, its notes further down, and the lock file that the program was built from.
    fn with_release() -> Self {
        let desk = Self::new();
        desk.write("work/release/app.bin", b"what was built\n");
        desk.write("work/release/doc/notes.txt", b"what is new\n");
        desk
    }

    fn release(&self) -> PathBuf {
        self.path("work/release")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Everything below `work`, hidden folders too, with its bytes.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let work = self.path("work");
        collect(&work, &work, &mut files);
        files
    }

    fn names(&self) -> BTreeSet<String> {
        self.files().into_keys().filter_map(|name| name.strip_prefix("release/").map(str::to_owned)).collect()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = program(self.home.path());
        command.args(arguments).envs(environment.iter().copied());
        Ran::of(&command.output().unwrap())
    }

    /// Seals with the managed key.
    fn seal(&self, more: &[&str]) -> Ran {
        self.run(&[&["seal", "work/release", "--key", "release.key"], more].concat())
    }

    fn gate(&self, more: &[&str]) -> Ran {
        self.run(&[&["gate", "work/release", "--key", "release.pub", "--format", "json"], more].concat())
    }

    /// The release passes with everything asked for.
    #[track_caller]
    fn is_sealed(&self) {
        self.gate(&["--require", ALL]).succeeds();
        assert_eq!(self.files().keys().find(|name| name.contains("debvisor-seal")), None, "something was left");
    }
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
}

/// The reason codes of a report.
#[track_caller]
fn codes(ran: &Ran) -> BTreeSet<String> {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let reasons = report["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_sealed_release_has_everything_and_the_gate_allows_it() {
    let desk = Desk::with_release();
    let ran = desk.seal(&["--name", "app", "--version", "1.0", "--format", "json"]).succeeds();
    desk.is_sealed();
    let of = |name: &str| {
        [".attestations.jsonl", ".cdx.json", ".sigstore.json", ".spdx.json", ".vex.json", ""]
            .map(|suffix| format!("{name}{suffix}"))
    };
    let top = ["SHA256SUMS", "SHA256SUMS.sigstore.json", "release.manifest.json"].map(str::to_owned);
    let expected: BTreeSet<String> = of("app.bin").into_iter().chain(of("doc/notes.txt")).chain(top).collect();
    assert_eq!(desk.names(), expected);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["changed"], told["written"].as_array().unwrap().len()), (&json!(true), 13));

    // The manifest says of every file but those that cannot stand in it what it is for, and of what.
    let manifest = desk.json("work/release/release.manifest.json");
    assert_eq!((&manifest["name"], &manifest["version"]), (&json!("app"), &json!("1.0")));
    let entries = manifest["files"].as_array().unwrap();
    assert_eq!(entries.len(), expected.len() - 3);
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!((&entry("app.bin")["role"], &entry("app.bin")["origin"]), (&json!("artifact"), &json!("given")));
    let sbom = entry("doc/notes.txt.spdx.json");
    assert_eq!(
        (&sbom["role"], &sbom["about"], &sbom["origin"]),
        (&json!("sbom"), &json!("doc/notes.txt"), &json!("made"))
    );

    // Others read what it wrote.
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(desk.release());
    assert!(sums.status().unwrap().success());
    for document in ["app.bin.cdx.json", "app.bin.spdx.json"] {
        let path = format!("work/release/{document}");
        desk.run(&["sbom", "validate", &path, "--describes", "work/release/app.bin"]).succeeds();
    }
    desk.run(&["sbom", "compare", "work/release/app.bin.cdx.json", "work/release/app.bin.spdx.json"]).succeeds();
    for predicate in ["slsa.dev/provenance/v1", "cyclonedx.org/bom", "spdx.dev/Document", "cyclonedx.org/vex"] {
        let predicate = format!("https://{predicate}");
        let bundle = "work/release/app.bin.attestations.jsonl";
        let verify = ["verify", "work/release/app.bin", "--key", "release.pub", "--bundle", bundle];
        desk.run(&[&verify[..], &["--predicate-type", &predicate]].concat()).succeeds();
    }
}

#[test]
fn every_kind_of_managed_key_seals_and_knows_its_own_work() {
    let random = SystemRandom::new();
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random).unwrap();
    let of_p384 = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, p384.as_ref()).unwrap();
    let of_ed25519 = Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap();
    let spkis = [of_p384.public_key().as_der().unwrap(), of_ed25519.public_key().as_der().unwrap()];
    for (pkcs8, spki) in [p384, ed25519].iter().zip(spkis) {
        let desk = Desk::with_release();
        let private = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, pkcs8.as_ref()).unwrap();
        desk.write("release.key", private.as_bytes());
        desk.write("release.pub", PublicKey::from_spki(spki.as_ref()).unwrap().to_pem().as_bytes());
        desk.seal(&[]).succeeds();
        desk.is_sealed();
        assert!(desk.seal(&[]).succeeds().stdout.contains("sealed already"));
    }
}

#[test]
fn sealing_again_changes_nothing() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    let before = desk.files();
    let ran = desk.seal(&["--format", "json"]).succeeds();
    assert_eq!(desk.files(), before);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["changed"], &told["written"], &told["removed"]), (&json!(false), &json!([]), &json!([])));
    assert!(desk.seal(&[]).succeeds().stdout.contains("sealed already"));
    // By another key, everything that is signed is signed anew.
    desk.write("other.key", managed_key().0.as_bytes());
    desk.run(&["seal", "work/release", "--key", "other.key"]).succeeds();
    assert_eq!(desk.gate(&[]).exit, 1);
    desk.seal(&[]).succeeds();
    desk.is_sealed();
}

#[test]
fn what_has_changed_is_sealed_again_and_nothing_else() {
    let desk = Desk::with_release();
    desk.seal(&[]).succeeds();
    let before = desk.files();
    desk.write("work/release/app.bin", b"what was built later\n");
    assert_eq!(desk.gate(&[]).exit, 1);
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    let after = desk.files();
    let changed: BTreeSet<&str> = after
        .iter()
        .filter(|(name, bytes)| before.get(*name) != Some(bytes))
        .filter_map(|(name, _)| name.strip_prefix("release/"))
        .collect();
    let expected = [
        "SHA256SUMS",
        "SHA256SUMS.sigstore.json",
        "app.bin",
        "app.bin.attestations.jsonl",
        "app.bin.cdx.json",
        "app.bin.sigstore.json",
        "app.bin.spdx.json",
        "app.bin.vex.json",
        "release.manifest.json",
    ];
    assert_eq!(changed, expected.into());

    // What describes an artifact goes with it.
    std::fs::remove_file(desk.path("work/release/doc/notes.txt")).unwrap();
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    assert!(!desk.names().iter().any(|name| name.starts_with("doc/")), "{:?}", desk.names());

    // Evidence that was changed is made again.
    desk.write("work/release/app.bin.cdx.json", b"{}");
    std::fs::remove_file(desk.path("work/release/app.bin.sigstore.json")).unwrap();
    desk.seal(&[]).succeeds();
    desk.is_sealed();
}

#[test]
fn with_a_fixed_time_the_same_release_gives_the_same_documents() {
    let fixed = [("SOURCE_DATE_EPOCH", "1780000000")];
    let documents = |desk: &Desk| {
        desk.run_with(&["seal", "work/release", "--key", "release.key"], &fixed).succeeds();
        let mut files = desk.files();
        // ECDSA signs with chance; what was signed is compared instead.
        files.retain(|name, _| !name.ends_with(".sigstore.json") && !name.ends_with("SHA256SUMS"));
        for (name, bytes) in &mut files {
            if name.ends_with(".attestations.jsonl") {
                let payload =
                    |line: &str| serde_json::from_str::<Value>(line).unwrap()["dsseEnvelope"]["payload"].to_string();
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.lines().map(payload).collect::<Vec<_>>().join("\n").into_bytes();
            }
            if name.ends_with("release.manifest.json") {
                let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
                let files = manifest["files"].as_array_mut().unwrap();
                files.retain(|entry| !matches!(entry["role"].as_str().unwrap(), "signature" | "attestations"));
                *bytes = manifest.to_string().into_bytes();
            }
        }
        files
    };
    let (first, second) = (Desk::with_release(), Desk::with_release());
    let made = documents(&first);
    assert_eq!(made, documents(&second));
    assert_eq!(first.json("work/release/release.manifest.json")["sealed_at"], "2026-05-28T20:26:40Z");
    // A release that was sealed at another time becomes the same.
    let third = Desk::with_release();
    third.seal(&[]).succeeds();
    assert_eq!(made, documents(&third));
}

#[test]
fn what_was_brought_is_covered_and_neither_changed_nor_removed() {
    let desk = Desk::with_release();
    // An SBOM of somebody's own tool, in the release and by flag.
    desk.seal(&["--name", "mine"]).succeeds();
    let own = desk.read("work/release/app.bin.cdx.json");
    let by_flag = desk.read("work/release/doc/notes.txt.spdx.json");
    let desk = Desk::with_release();
    desk.write("work/release/app.bin.cdx.json", &own);
    desk.write("notes.json", &by_flag);
    for _ in 0..2 {
        desk.seal(&["--sbom", "notes.json"]).succeeds();
        desk.is_sealed();
        assert_eq!(desk.read("work/release/app.bin.cdx.json"), own);
        assert_eq!(desk.read("work/release/doc/notes.txt.spdx.json"), by_flag);
    }
    // What the other format says is taken from it.
    desk.run(&["sbom", "compare", "work/release/app.bin.cdx.json", "work/release/app.bin.spdx.json"]).succeeds();

    // One of other bytes, in the release or by flag, is a no.
    let desk = Desk::with_release();
    desk.write("work/release/doc/notes.txt.cdx.json", &own);
    let before = desk.files();
    let ran = desk.seal(&["--format", "json"]);
    assert_eq!((ran.exit, codes(&ran).contains("document-mismatch")), (1, true), "{ran:?}");
    assert!(ran.stderr.contains("nothing was sealed"));
    assert_eq!(desk.files(), before);
    let desk = Desk::with_release();
    desk.write("work/release/app.bin", b"something else\n");
    desk.write("own.json", &own);
    desk.seal(&["--sbom", "own.json"]).fails(64, "describes no artifact");
}

#[test]
fn a_signature_by_somebody_else_is_not_overwritten() {
    let desk = Desk::with_release();
    desk.write("other.key", managed_key().0.as_bytes());
    desk.run(&["sign", "work/release/app.bin", "--key", "other.key"]).succeeds();
    let before = desk.files();
    desk.seal(&[]).fails(64, "app.bin.sigstore.json is there");
    assert_eq!(desk.files(), before);
    // By the same signer it is kept, and counts.
    desk.run(&["sign", "work/release/app.bin", "--key", "release.key"]).succeeds();
    let own = desk.read("work/release/app.bin.sigstore.json");
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    assert_eq!(desk.read("work/release/app.bin.sigstore.json"), own);
}

#[test]
fn findings_and_decisions_become_the_vex_documents() {
    let desk = Desk::with_release();
    let finding = |name: &str, severity: &str| {
        json!({"VulnerabilityID": name, "PkgName": "tar", "InstalledVersion": "1.34",
            "PkgIdentifier": {"PURL": "pkg:deb/debian/tar@1.34"}, "Severity": severity})
    };
    let results = json!({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [
        finding("CVE-2026-1", "CRITICAL"), finding("CVE-2026-2", "LOW")]}]});
    desk.write("results.json", results.to_string().as_bytes());
    let triage = "[[decision]]\nvulnerability = \"CVE-2026-1\"\nstatus = \"not_affected\"\njustification = \"component_not_present\"\n";
    desk.write("triage.toml", triage.as_bytes());
    let by_policy = |desk: &Desk| {
        let ran = desk.gate(&["--policy", "vex"]);
        (ran.exit, if ran.exit == 0 { BTreeSet::new() } else { codes(&ran) })
    };
    desk.seal(&["--vex-results", "results.json"]).succeeds();
    desk.is_sealed();
    let document = desk.json("work/release/app.bin.openvex.json");
    assert_eq!(document["statements"][0]["status"], "under_investigation");
    assert_eq!(by_policy(&desk), (1, ["vex-unexplained".to_owned()].into()));
    desk.run(&["vex", "validate", "work/release/app.bin.openvex.json"]).succeeds();

    desk.seal(&["--vex-results", "results.json", "--triage", "triage.toml"]).succeeds();
    desk.is_sealed();
    assert_eq!(by_policy(&desk), (0, BTreeSet::new()));
    let before = desk.files();
    desk.seal(&["--vex-results", "results.json", "--triage", "triage.toml"]).succeeds();
    assert_eq!(desk.files(), before, "the same findings and decisions give the same release");

    // The last release's decisions hold on, and a document without findings takes the place of one with.
    std::fs::copy(desk.path("work/release/app.bin.openvex.json"), desk.path("last.json")).unwrap();
    desk.seal(&["--vex-results", "results.json", "--vex-previous", "last.json"]).succeeds();
    assert_eq!(by_policy(&desk).0, 0);
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    assert!(desk.names().contains("app.bin.vex.json") && !desk.names().contains("app.bin.openvex.json"));
    desk.write("broken.json", b"{}");
    desk.seal(&["--vex-results", "broken.json"]).fails(1, "broken.json");
}

#[test]
fn a_decision_that_has_expired_is_seen_when_the_release_is_sealed_again() {
    let desk = Desk::with_release();
    let results = json!({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{"VulnerabilityID": "CVE-2026-1",
        "PkgName": "tar", "InstalledVersion": "1.34", "Severity": "CRITICAL"}]}]});
    desk.write("results.json", results.to_string().as_bytes());
    let triage = "[[decision]]\nvulnerability = \"CVE-2026-1\"\nstatus = \"fixed\"\nexpires = 2026-06-30\n";
    desk.write("triage.toml", triage.as_bytes());
    let on = |seconds: &str| {
        let seal = ["seal", "work/release", "--key", "release.key", "--vex-results", "results.json"];
        let arguments = [&seal[..], &["--triage", "triage.toml"]].concat();
        desk.run_with(&arguments, &[("SOURCE_DATE_EPOCH", seconds)]).succeeds();
        desk.json("work/release/app.bin.openvex.json")["statements"][0]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(on("1780000000"), "fixed");
    assert_eq!(on("1783000000"), "under_investigation");
}

#[test]
fn a_keyless_release_is_logged_once_and_passes_for_its_identity() {
    let (desk, services) = (Desk::with_release(), Services::honest());
    desk.write("root.json", World::shared().trusted_root().to_string().as_bytes());
    let token = token(&claims());
    let flags = keyless::flags(&services);
    let seal: Vec<&str> = ["seal", "work/release", "--identity-token", &token]
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    desk.run(&seal).succeeds();
    // Two artifacts, each with its signature and four statements, and the list.
    assert_eq!(services.asked().iter().filter(|asked| *asked == "rekor").count(), 11);
    let gate = ["gate", "work/release", "--trusted-root", "root.json", "--certificate-identity", WHO];
    let gate = [&gate[..], &["--certificate-oidc-issuer", ISSUER, "--require", ALL]].concat();
    desk.run(&gate).succeeds();
    let before = desk.files();
    desk.run(&seal).succeeds();
    assert_eq!(desk.files(), before);
    assert_eq!(services.asked().iter().filter(|asked| *asked == "rekor").count(), 11, "nothing was logged again");
}

#[test]
fn a_service_that_is_down_or_lies_leaves_the_release_as_it_was() {
    for (flaw, exit) in [(Flaw::Down, 2), (Flaw::Status(403), 1), (Flaw::Another, 1), (Flaw::Page, 2)] {
        for name in ["fulcio", "rekor"] {
            let (desk, services) = (Desk::with_release(), Services::with(&[(name, flaw)]));
            desk.write("root.json", World::shared().trusted_root().to_string().as_bytes());
            let (token, flags) = (token(&claims()), keyless::flags(&services));
            let before = desk.files();
            let seal = ["seal", "work/release", "--identity-token", &token].into_iter();
            let seal: Vec<&str> = seal.chain(flags.iter().map(String::as_str)).collect();
            let ran = desk.run(&seal);
            assert_eq!(ran.exit, exit, "{name} {flaw:?}: {}", ran.stderr);
            assert_eq!(desk.files(), before, "{name} {flaw:?}");
        }
    }
}

#[test]
fn a_release_that_openpgp_alone_signs_has_all_but_attestations() {
    let (desk, gnupg) = (Desk::with_release(), Gnupg::new());
    let home = gnupg.home.path().to_str().unwrap();
    let seal = |more: &[&str]| {
        let arguments = [&["seal", "work/release", "--openpgp", "release@example.org"], more].concat();
        desk.run_with(&arguments, &[("GNUPGHOME", home)])
    };
    let ran = seal(&[]).succeeds();
    assert!(ran.stderr.contains("provenance was left out"), "{}", ran.stderr);
    desk.write("release.asc", &gnupg.run(&["--armor", "--export"]));
    let fingerprint = gnupg.fingerprint();
    let gate = ["gate", "work/release", "--openpgp-keyring", "release.asc", "--openpgp-fingerprint", &fingerprint];
    desk.run(&[&gate[..], &["--require", "signature,sbom,vex"]].concat()).succeeds();
    let signed = desk.path("work/release/SHA256SUMS");
    gnupg.run(&["--verify", &format!("{}.asc", signed.display()), signed.to_str().unwrap()]);
    let before = desk.files();
    seal(&[]).succeeds();
    assert_eq!(desk.files(), before, "signatures that hold are not made again");
    // Both at once: attestations by the key, signatures by both.
    seal(&["--key", "release.key"]).succeeds();
    desk.is_sealed();
    desk.run(&gate).succeeds();
    // By the key alone: what OpenPGP signed is no more.
    desk.seal(&[]).succeeds();
    desk.is_sealed();
    assert!(!desk.names().iter().any(|name| name.ends_with(".asc")), "{:?}", desk.names());
    let nobody = ["seal", "work/release", "--openpgp", "nobody@example.org"];
    desk.run_with(&nobody, &[("GNUPGHOME", home)]).fails(64, "gpg knows no key");
}

#[test]
fn a_directory_that_cannot_be_sealed_says_why() {
    let desk = Desk::new();
    desk.seal(&[]).fails(64, "there is nothing to seal");
    desk.run(&["seal", "no-such", "--key", "release.key"]).fails(64, "no-such");
    desk.run(&["seal", "release.key", "--key", "release.key"]).fails(64, "it is no directory");
    desk.run(&["seal", "work/release"]).fails(64, "nobody is named who signs");
    desk.write("work/release/app.bin", b"x");
    std::os::unix::fs::symlink("app.bin", desk.path("work/release/link")).unwrap();
    let before = desk.files();
    let ran = desk.seal(&["--format", "json"]);
    assert_eq!((ran.exit, codes(&ran)), (1, ["file-unsafe".to_owned()].into()));
    assert_eq!(desk.files(), before);
    std::fs::remove_file(desk.path("work/release/link")).unwrap();
    desk.seal(&["--source", "no-such"]).fails(64, "no-such");
    desk.seal(&["--builder-id", "https://github.com/a/b/.github/workflows/x.yml@refs/tags/v1"])
        .fails(64, "hosted builder");
}

#[test]
fn the_release_may_be_the_working_directory() {
    let desk = Desk::with_release();
    let mut command = program(&desk.release());
    let ran = Ran::of(&command.args(["seal", ".", "--key", "../../release.key"]).output().unwrap()).succeeds();
    assert!(ran.stdout.contains("sealed ."), "{}", ran.stdout);
    desk.is_sealed();
}
