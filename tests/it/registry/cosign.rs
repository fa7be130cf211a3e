//! What cosign attached before there were bundles: signatures, attestations and documents under its tags.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use debvisor::clients::registry::MANIFEST;
use debvisor::release::evidence::simple_signing;
use debvisor::types::Digest;
use serde_json::{Value, json};

use super::docker::Docker;
use super::{Shop, push_image, push_manifest, repository, wait};
use crate::world::ca::GITHUB_ISSUER;
use crate::world::statement::{CYCLONEDX, STATEMENT_V1, statement};
use crate::world::{Identity, Key, World};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A layer of evidence: its media type, its bytes, its annotations.
struct Layer(&'static str, Vec<u8>, Value);

fn identity() -> Identity {
    Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2")
}

fn payload(digest: &str) -> Vec<u8> {
    json!({"critical": {
        "identity": {"docker-reference": "registry.example.org/a"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }, "optional": null})
    .to_string()
    .into_bytes()
}

/// A bundle's proofs as cosign writes them beside a layer.
fn annotations(bundle: &Value) -> Value {
    let material = &bundle["verificationMaterial"];
    let mut annotations = json!({
        "dev.cosignproject.cosign/signature": bundle["messageSignature"]["signature"].as_str().unwrap_or_default(),
    });
    if let Some(der) = material["certificate"]["rawBytes"].as_str() {
        let pem = |der: &[u8]| pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, der).unwrap();
        annotations["dev.sigstore.cosign/certificate"] = json!(pem(&BASE64.decode(der).unwrap()));
        let authority = &World::shared().authority;
        annotations["dev.sigstore.cosign/chain"] = json!(pem(&authority.intermediate) + &pem(&authority.root));
    }
    let entry = &material["tlogEntries"][0];
    if entry.is_object() {
        let number = |name: &str| entry[name].as_str().unwrap().parse::<i64>().unwrap();
        let log = json!({
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": entry["canonicalizedBody"], "integratedTime": number("integratedTime"),
                "logIndex": number("logIndex"),
                "logID": hex::encode(BASE64.decode(entry["logId"]["keyId"].as_str().unwrap()).unwrap()),
            },
        });
        annotations["dev.sigstore.cosign/bundle"] = json!(log.to_string());
    }
    annotations
}

/// A keyless signature of an image.
fn keyless(digest: &str) -> Layer {
    let payload = payload(digest);
    let bundle = World::shared().blob(&payload, &identity()).bundle();
    Layer(SIMPLE_SIGNING, payload, annotations(&bundle))
}

/// A managed key's signature of an image, in no log.
fn by_key(digest: &str, key: &Key) -> Layer {
    let payload = payload(digest);
    let signature = BASE64.encode(key.sign(&payload));
    Layer(SIMPLE_SIGNING, payload, json!({"dev.cosignproject.cosign/signature": signature}))
}

fn keyless_attestation(digest: &str, predicate_type: &str) -> Layer {
    let subject = json!({"name": "a", "digest": {"sha256": digest.strip_prefix("sha256:").unwrap()}});
    let statement = statement(STATEMENT_V1, &[subject], predicate_type, &json!({}));
    let bundle = World::shared().attest(&statement, &identity()).bundle();
    Layer(ENVELOPE, bundle["dsseEnvelope"].to_string().into_bytes(), annotations(&bundle))
}

/// Sound signatures for the fuzzer: a payload and its annotations, with NUL between them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let digest = Digest::sha256(b"x").to_string();
    let seed = |Layer(_, payload, annotations): Layer| {
        let given = serde_json::from_value(annotations.clone()).unwrap();
        simple_signing::signature(&payload, &given).unwrap();
        let names = ["cosignproject.cosign/signature", "sigstore.cosign/certificate", "sigstore.cosign/bundle"];
        let texts =
            names.map(|name| annotations[format!("dev.{name}")].as_str().unwrap_or_default().as_bytes().to_vec());
        [&[payload], &texts[..]].concat().join(&0)
    };
    [keyless(&digest), by_key(&digest, &Key::p256())].map(seed).to_vec()
}

/// Puts these layers under a tag; returns the manifest's digest.
fn attach(host: &str, tag: &str, layers: &[Layer]) -> String {
    wait(async {
        let repository = repository(host).await;
        let config = repository.push_blob(b"{\"config\":{}}").await.unwrap();
        let mut descriptors = Vec::new();
        for Layer(media_type, bytes, annotations) in layers {
            let digest = repository.push_blob(bytes).await.unwrap();
            descriptors.push(json!({
                "mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": annotations,
            }));
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 13},
        });
        push_manifest(&repository, tag, MANIFEST, &manifest).await
    })
}

fn tag(digest: &str, suffix: &str) -> String {
    digest.replace(':', "-") + suffix
}

/// A registry with an image that nothing is attached to.
fn shop() -> (Docker, Shop, String) {
    let registry = Docker::plain();
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    (registry, shop, digest)
}

fn ask(shop: &Shop, verb: &str, more: &[&str]) -> super::Answer {
    let identity = identity();
    let flags = [
        &["--certificate-identity", identity.text(), "--certificate-oidc-issuer", GITHUB_ISSUER][..],
        &["--trusted-root", "root.json"],
        more,
    ];
    shop.ask_with(verb, ":v1", &flags.concat(), &[])
}

#[test]
fn signatures_and_attestations_under_tags_are_judged_as_bundles_are() {
    let (_registry, shop, digest) = shop();
    attach(&shop.host, &tag(&digest, ".sig"), &[keyless(&digest)]);
    let report = ask(&shop, "verify", &[]).allows();
    let signature = &report["facts"]["signatures"][0];
    assert_eq!(signature["evidence"], format!("{}/a:{}", shop.host, tag(&digest, ".sig")));
    assert_eq!(signature["signer"]["identity"], identity().text());
    assert_eq!(signature["times"][0]["clock"], "log");
    ask(&shop, "gate", &["--require", "signature"]).allows();
    ask(&shop, "gate", &["--require", "sbom"]).is(1, "sbom-required");
    attach(&shop.host, &tag(&digest, ".att"), &[keyless_attestation(&digest, CYCLONEDX)]);
    ask(&shop, "gate", &["--require", "signature,sbom"]).allows();
    ask(&shop, "verify", &["--predicate-type", CYCLONEDX]).allows();
}

#[test]
fn one_of_several_keys_is_enough_and_another_is_not() {
    let (_registry, shop, digest) = shop();
    let (ours, other) = (Key::p256(), Key::p384());
    shop.desk.write("ours.pub", ours.pem().as_bytes());
    shop.desk.write("other.pub", other.pem().as_bytes());
    shop.desk.write("third.pub", Key::p256().pem().as_bytes());
    attach(&shop.host, &tag(&digest, ".sig"), &[by_key(&digest, &other), by_key(&digest, &ours)]);
    for (key, allowed) in [("ours.pub", true), ("other.pub", true), ("third.pub", false)] {
        for verb in ["verify", "gate"] {
            let answer = shop.ask_with(verb, ":v1", &["--key", key], &[]);
            if allowed {
                answer.allows();
            } else {
                answer.is(1, "key-mismatch");
            }
        }
    }
    // Where a log was asked for, a key's word alone does not do.
    let logged = ["--key", "ours.pub", "--trusted-root", "root.json"];
    let answer = shop.ask_with("verify", ":v1", &logged, &[]);
    assert_eq!(answer.exit, 1, "{:#}", answer.report);
    assert!(answer.report.to_string().contains("log-entry-missing"), "{:#}", answer.report);
}

#[test]
fn a_payload_for_another_image_vouches_for_that_alone() {
    let (_registry, shop, digest) = shop();
    let other = push_image(&shop.host, "v2", b"other");
    attach(&shop.host, &tag(&digest, ".sig"), &[keyless(&other)]);
    ask(&shop, "verify", &[]).is(1, "subject-mismatch");
    ask(&shop, "gate", &[]).is(1, "subject-mismatch");
}

#[test]
fn a_payload_that_was_changed_is_forged() {
    let (_registry, shop, digest) = shop();
    let other = push_image(&shop.host, "v2", b"other");
    let Layer(kind, _, annotations) = keyless(&other);
    attach(&shop.host, &tag(&digest, ".sig"), &[Layer(kind, payload(&digest), annotations)]);
    ask(&shop, "verify", &[]).is(1, "signature-invalid");
}

#[test]
fn the_logs_promise_is_for_this_very_signature() {
    let (_registry, shop, digest) = shop();
    let log = "dev.sigstore.cosign/bundle";
    let changed = |change: &dyn Fn(&mut Value)| {
        let Layer(kind, payload, mut annotations) = keyless(&digest);
        change(&mut annotations);
        attach(&shop.host, &tag(&digest, ".sig"), &[Layer(kind, payload, annotations)]);
        ask(&shop, "verify", &[])
    };
    let Layer(_, _, other) = keyless(&digest);
    changed(&|annotations| annotations[log] = other[log].clone()).is(1, "log-entry-mismatch");
    changed(&|annotations| {
        let mut entry: Value = serde_json::from_str(annotations[log].as_str().unwrap()).unwrap();
        entry["Payload"]["integratedTime"] = json!(entry["Payload"]["integratedTime"].as_i64().unwrap() + 1);
        annotations[log] = json!(entry.to_string());
    })
    .is(1, "set-invalid");
    changed(&|annotations| drop(annotations.as_object_mut().unwrap().remove(log))).is(1, "log-entry-missing");
    changed(&|annotations| annotations[log] = json!("{}")).is(1, "simple-signing-malformed");
    changed(&|annotations| annotations["dev.cosignproject.cosign/signature"] = json!("")).is(1, "signature-missing");
    changed(&|_| {}).allows();
}

#[test]
fn a_document_counts_where_an_expected_signer_signed_what_holds_it() {
    let (_registry, shop, digest) = shop();
    let key = Key::p256();
    shop.desk.write("ours.pub", key.pem().as_bytes());
    attach(&shop.host, &tag(&digest, ".sig"), &[by_key(&digest, &key)]);
    let sbom = |of: &str| {
        let hash = json!({"alg": "SHA-256", "content": of.strip_prefix("sha256:").unwrap()});
        json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": {"hashes": [hash]}}})
    };
    let attach_sbom = |of: &str| {
        let layer = Layer("application/vnd.cyclonedx+json", sbom(of).to_string().into_bytes(), json!({}));
        attach(&shop.host, &tag(&digest, ".sbom"), &[layer])
    };
    let gate = || shop.ask_with("gate", ":v1", &["--key", "ours.pub", "--require", "sbom"], &[]);
    let holder = attach_sbom(&digest);
    gate().is(1, "sbom-required");
    attach(&shop.host, &tag(&holder, ".sig"), &[by_key(&holder, &Key::p256())]);
    gate().is(1, "sbom-required");
    attach(&shop.host, &tag(&holder, ".sig"), &[by_key(&holder, &key)]);
    let report = gate().allows();
    assert_eq!(report["facts"]["sbom"]["format"], "CycloneDX 1.6");
    assert_eq!(report["facts"]["sbom"]["binds_digest"], true);

    // Signed by whom we trust, and about another image.
    let other = push_image(&shop.host, "v2", b"other");
    let holder = attach_sbom(&other);
    attach(&shop.host, &tag(&holder, ".sig"), &[by_key(&holder, &key)]);
    gate().is(1, "document-mismatch");
}
