//! Images in registries, through the real binary: Debian's docker-registry, which knows nothing newer than tags, and a
//! stand-in that follows OCI 1.1. What is attached is made by us, by the tests' own world in cosign's older forms, and
//! by whoever attacks.

use debvisor::clients::registry::{INDEX, MANIFEST, Options, Reference, Repository};
use debvisor::release::attest::attach::{Subject, attach};
use debvisor::types::Digest;
use serde_json::{Value, json};

use crate::signing::{Desk, Ran};

mod cosign;
pub(crate) mod docker;
mod guarded;
mod images;
mod protocol;
mod pull;
mod sbom;
mod standin;
mod tamper;

const KEY_PASSWORD: (&str, &str) = ("COSIGN_PASSWORD", "pass word");

/// A desk with a managed key, at a registry.
struct Shop {
    desk: Desk,
    host: String,
}

impl Shop {
    fn at(host: &str) -> Self {
        let desk = Desk::new();
        desk.run_with(&["key", "generate", "--out", "release"], &[KEY_PASSWORD]).succeeds();
        Self { desk, host: host.to_owned() }
    }

    /// The repository, as a reference with this behind it.
    fn image(&self, rest: &str) -> String {
        format!("oci://{}/a{rest}", self.host)
    }

    /// Runs a verb that signs.
    fn make(&self, arguments: &[&str]) -> Ran {
        self.desk.run_with(&[arguments, &["--key", "release.key"]].concat(), &[KEY_PASSWORD])
    }

    fn sign(&self, digest: &str) {
        self.make(&["sign", &self.image(&format!("@{digest}"))]).succeeds();
    }

    /// Asks `verify` or `gate`, and reads the report.
    fn ask(&self, verb: &str, rest: &str, more: &[&str]) -> Answer {
        self.ask_with(verb, rest, &[&["--key", "release.pub"], more].concat(), &[])
    }

    fn ask_with(&self, verb: &str, rest: &str, more: &[&str], environment: &[(&str, &str)]) -> Answer {
        let image = self.image(rest);
        let arguments = [&[verb, &image, "--format", "json"], more].concat();
        let ran = self.desk.run_with(&arguments, environment);
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no report: {}", ran.stderr));
        Answer { exit: ran.exit, report }
    }
}

/// How a question was answered.
#[derive(Debug)]
struct Answer {
    exit: i32,
    report: Value,
}

impl Answer {
    #[track_caller]
    fn allows(self) -> Value {
        assert_eq!(self.exit, 0, "{:#}", self.report);
        self.report
    }

    /// It ended so, for this reason and no other.
    #[track_caller]
    fn is(self, exit: i32, code: &str) -> Value {
        let codes: Vec<&str> =
            self.report["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect();
        assert!(!codes.is_empty() && codes.iter().all(|found| *found == code), "not {code}: {:#}", self.report);
        assert_eq!(self.exit, exit, "{:#}", self.report);
        self.report
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The repository `a` of a registry, for the test's own hands.
async fn repository(host: &str) -> Repository {
    let reference: Reference = format!("{host}/a:v1").parse().unwrap();
    Repository::connect(&reference, Options::default()).await.unwrap()
}

/// Puts an image with this one layer there; returns its digest.
pub(crate) fn push_image(host: &str, tag: &str, layer: &[u8]) -> String {
    wait(async { push_image_to(&repository(host).await, tag, layer).await })
}

async fn push_image_to(repository: &Repository, tag: &str, layer: &[u8]) -> String {
    let layer_digest = repository.push_blob(layer).await.unwrap();
    let rootfs = json!({"type": "layers", "diff_ids": [layer_digest]});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let config_digest = repository.push_blob(config.as_bytes()).await.unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len(),
        }],
    });
    push_manifest(repository, tag, MANIFEST, &manifest).await
}

async fn push_manifest(repository: &Repository, tag: &str, media_type: &str, manifest: &Value) -> String {
    let bytes = manifest.to_string();
    repository.push_manifest(tag, media_type, bytes.as_bytes()).await.unwrap();
    Digest::sha256(bytes.as_bytes()).to_string()
}

/// Puts an index of two platforms there, each with its own image; returns its digest.
fn push_index(host: &str, tag: &str) -> String {
    wait(async {
        let repository = repository(host).await;
        let mut manifests = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let digest = push_image_to(&repository, architecture, architecture.as_bytes()).await;
            let size = repository.manifest(&digest).await.unwrap().bytes.len();
            manifests.push(json!({
                "mediaType": MANIFEST, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        push_manifest(&repository, tag, INDEX, &index).await
    })
}

/// Attaches a bundle to an image, whatever it is about.
fn attach_bundle(host: &str, image: &str, bundle: &[u8]) -> String {
    wait(async {
        let repository = repository(host).await;
        let manifest = repository.manifest(image).await.unwrap();
        let subject =
            Subject { media_type: &manifest.media_type, digest: &manifest.digest, bytes: manifest.bytes.len() };
        attach(&repository, &subject, bundle, Some("https://sigstore.dev/cosign/sign/v1")).await.unwrap().to_string()
    })
}

/// Sound documents for the fuzzer: an image, and a list of referrers.
pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let part = json!({
        "mediaType": "a/b", "digest": Digest::sha256(b"x"), "size": 1, "artifactType": "a/c",
        "annotations": {"a": "b"}, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
    });
    let image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part, "layers": [part], "subject": part});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [part, part]});
    let read = |document: Value| {
        let bytes = document.to_string().into_bytes();
        debvisor::release::evidence::image::Manifest::parse(&bytes, MANIFEST).unwrap();
        bytes
    };
    vec![read(image), read(index)]
}

pub(crate) use cosign::seeds as simple_signing;
