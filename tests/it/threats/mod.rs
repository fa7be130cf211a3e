//! The threat list, line by line: bundles of the [`world`](crate::world) with one flaw each in, the real binary's
//! exit code and reason codes out. A test's name is its line of docs/threat-model.md.
//!
//! Invariant: a test plants one flaw; the rest of its bundle is good, so that the refusal is for that flaw.

use std::process::{Command, Output};

use debvisor::types::{Code, Digest};
use serde_json::{Value, json};

use crate::world::ca::GITHUB_ISSUER;
use crate::world::statement::slsa_v1;
use crate::world::{Draft, Identity, World};

mod attestation;
mod certificate;
mod format;
mod identity;
mod log;
mod provenance;
mod tamper;
mod time;

const ARTIFACT: &[u8] = b"what was built\n";
const REPOSITORY: &str = "acme/hyperdeck";
const WORKFLOW: &str = "release.yml";
const TAG: &str = "refs/tags/v1.4.2";

/// The workflow that every case expects to have signed, unless it says otherwise.
fn signer() -> Identity {
    Identity::github(REPOSITORY, WORKFLOW, TAG)
}

/// An honest signature over the artifact.
fn blob() -> Draft<'static> {
    World::shared().blob(ARTIFACT, &signer())
}

/// An honest SLSA v1 attestation of the artifact.
fn attestation() -> Draft<'static> {
    World::shared().attest(&slsa_v1(ARTIFACT, &signer()), &signer())
}

/// One run of `debvisor verify`.
#[derive(Debug, Clone)]
struct Case {
    subject: Option<String>,
    bundle: Vec<u8>,
    root: Value,
    identity: Vec<String>,
    flags: Vec<String>,
    key: Option<String>,
}

impl Case {
    /// The draft's bundle under the world's trust root, with the honest signer expected.
    fn of(draft: &Draft<'_>) -> Self {
        Self::json(&draft.bundle())
    }

    /// Likewise, of a finished bundle.
    fn json(bundle: &Value) -> Self {
        Self {
            subject: None,
            bundle: serde_json::to_vec(bundle).unwrap(),
            root: World::shared().trusted_root(),
            identity: vec![
                "--certificate-identity".to_owned(),
                signer().text().to_owned(),
                "--certificate-oidc-issuer".to_owned(),
                GITHUB_ISSUER.to_owned(),
            ],
            flags: Vec::new(),
            key: None,
        }
    }

    /// Edits the finished bundle.
    fn edited(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut bundle = serde_json::from_slice(&self.bundle).unwrap();
        edit(&mut bundle);
        self.bundle = serde_json::to_vec(&bundle).unwrap();
        self
    }

    /// Edits the finished bundle as text.
    fn text(mut self, edit: impl FnOnce(String) -> String) -> Self {
        self.bundle = edit(String::from_utf8(self.bundle).unwrap()).into_bytes();
        self
    }

    /// Edits the trust root.
    fn root(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.root);
        self
    }

    /// Expects another signer: these flags replace the identity and the issuer.
    fn expecting(mut self, flags: &[&str]) -> Self {
        self.identity = owned(flags);
        self
    }

    /// Expects this key instead of an identity.
    fn key(mut self, pem: String) -> Self {
        self.identity.clear();
        self.key = Some(pem);
        self
    }

    /// More flags.
    fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(owned(flags));
        self
    }

    /// Names the artifact by this instead of by its path.
    fn subject(mut self, subject: String) -> Self {
        self.subject = Some(subject);
        self
    }

    fn run(&self) -> Output {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("artifact"), ARTIFACT).unwrap();
        std::fs::write(path("artifact.sigstore.json"), &self.bundle).unwrap();
        std::fs::write(path("trusted_root.json"), serde_json::to_vec(&self.root).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        command.current_dir(directory.path()).env_clear().arg("verify");
        command.arg(self.subject.as_deref().unwrap_or("artifact"));
        command.args(["--bundle", "artifact.sigstore.json", "--trusted-root", "trusted_root.json", "--offline"]);
        command.args(&self.identity).args(&self.flags);
        if let Some(pem) = &self.key {
            std::fs::write(path("key.pub"), pem).unwrap();
            command.args(["--key", "key.pub"]);
        }
        command.args(["--format", "json"]).output().unwrap()
    }

    /// Everything asked for is proved.
    #[track_caller]
    fn passes(&self) {
        let (status, report, stderr) = self.report();
        assert_eq!(status, Some(0), "refused: {:#} {stderr}", report["reasons"]);
        assert_eq!(report["decision"], "allow");
        assert_eq!(report["reasons"], json!([]));
    }

    /// The evidence says no, for this reason.
    #[track_caller]
    fn denied(&self, code: Code) {
        let (status, report, stderr) = self.report();
        assert_eq!(status, Some(1), "{:#} {stderr}", report["reasons"]);
        assert_eq!(report["decision"], "deny");
        assert!(codes(&report).contains(&code.name()), "wanted {}: {:#}", code.name(), report["reasons"]);
    }

    /// The question cannot be answered, for this reason.
    #[track_caller]
    fn undecided(&self, code: Code) {
        let (status, report, stderr) = self.report();
        assert_eq!(status, Some(2), "{:#} {stderr}", report["reasons"]);
        assert_eq!(report["decision"], "undecided");
        assert!(codes(&report).contains(&code.name()), "wanted {}: {:#}", code.name(), report["reasons"]);
    }

    fn report(&self) -> (Option<i32>, Value, String) {
        let output = self.run();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr)
    }
}

fn codes(report: &Value) -> Vec<&str> {
    report["reasons"].as_array().into_iter().flatten().filter_map(|reason| reason["code"].as_str()).collect()
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

#[test]
fn every_honest_kind_of_bundle_passes() {
    use crate::world::{Kind, Version};
    let world = World::shared();
    let attest_as = |kind| attestation().entry(|entry| entry.kind = kind);
    let drafts = [
        ("v0.1", blob().with(|draft| draft.version = Version::V01)),
        ("v0.2", blob().with(|draft| draft.version = Version::V02)),
        ("v0.3", blob()),
        ("v0.1 with its intermediate", {
            blob().with(|draft| {
                draft.version = Version::V01;
                draft.chain = vec![world.authority.intermediate.clone()];
            })
        }),
        ("a timestamp besides", blob().stamped(world)),
        ("Rekor v2", blob().rekor2(world)),
        ("dsse 0.0.1", attestation()),
        ("intoto 0.0.1", attest_as(Kind::Intoto001)),
        ("intoto 0.0.2", attest_as(Kind::Intoto002)),
        ("an attestation in Rekor v2", attestation().rekor2(world)),
        ("dsse 0.0.2", attestation().rekor2(world).entry(|entry| entry.kind = Kind::Dsse002)),
    ];
    for (name, draft) in drafts {
        println!("{name}");
        Case::of(&draft).passes();
    }
}

#[test]
fn every_kind_of_managed_key_passes_and_another_key_does_not() {
    use crate::world::Key;
    let world = World::shared();
    let keys = [("P-256", Key::p256()), ("P-384", Key::p384()), ("Ed25519", Key::ed25519()), ("RSA", Key::rsa())];
    let other = Key::p256();
    for (name, key) in &keys {
        println!("{name}");
        let drafts = [world.key_blob(ARTIFACT, key), world.key_attest(&slsa_v1(ARTIFACT, &signer()), key)];
        for draft in drafts {
            Case::of(&draft).key(key.pem()).passes();
            Case::of(&draft).key(other.pem()).denied(Code::KeyMismatch);
            Case::of(&draft).denied(Code::MaterialMismatch);
        }
    }
    Case::of(&blob()).key(other.pem()).denied(Code::MaterialMismatch);
}

#[test]
fn a_forged_bundle_by_a_key_that_nobody_gave_is_called_a_forgery() {
    use crate::world::Key;
    let key = Key::p256();
    let draft = World::shared().key_attest(&slsa_v1(ARTIFACT, &signer()), &key);
    let forged = |bundle: &mut Value| {
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = "MEUCIQDJahTpSnlv6HzUj2y1".into();
    };
    Case::of(&draft).edited(forged).denied(Code::SignatureInvalid);
}

/// Were the name believed, evidence about the digest would speak for whatever bytes lie there.
#[test]
fn a_file_that_is_named_as_a_digest_is_judged_by_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let named = Digest::sha256(b"what the name says");
    let judged = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        let output =
            command.args(["verify", &named.to_string(), "--format", "json"]).current_dir(&dir).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["subjects"][0]["digest"]["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(judged(), named.to_hex(), "where no such file is");
    std::fs::write(dir.path().join(named.to_string()), "other bytes").unwrap();
    assert_eq!(judged(), Digest::sha256(b"other bytes").to_hex());
}
