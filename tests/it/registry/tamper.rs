//! Who may write to the registry, or is the registry, tries to have another image believed.

use serde_json::{Value, json};

use super::docker::Docker;
use super::standin::{Flaw, StandIn};
use super::{Shop, attach_bundle, push_image, push_index};
use debvisor::types::{Digest, limits};

/// A shop with a signed image at a stand-in.
fn signed(flaws: &[Flaw]) -> (StandIn, Shop, String) {
    let registry = StandIn::new(flaws);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    (registry, shop, digest)
}

fn bundle_of(shop: &Shop, digest: &str) -> Value {
    shop.make(&["sign", &shop.image(&format!("@{digest}")), "--bundle", "made.json"]).succeeds();
    shop.desk.json("made.json")
}

#[test]
fn a_tag_that_was_moved_to_another_image_is_seen_by_its_digest() {
    let registry = Docker::plain();
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    shop.ask("gate", ":v1", &[]).allows();
    let other = push_image(&shop.host, "v1", b"another layer");
    let report = shop.ask("gate", ":v1", &[]).is(1, "signature-required");
    assert_eq!(report["images"][0]["reference"], format!("{}/a@{other}", shop.host));
    shop.ask("verify", ":v1", &[]).is(2, "evidence-missing");
    shop.ask("gate", &format!("@{digest}"), &[]).allows();
}

#[test]
fn a_referrer_that_was_removed_proves_nothing() {
    let (registry, shop, digest) = signed(&[]);
    let bundle = bundle_of(&shop, &digest);
    let second = attach_bundle(&shop.host, &digest, bundle.to_string().as_bytes());
    shop.ask("gate", ":v1", &[]).allows();
    registry.remove(&second);
    shop.ask("gate", ":v1", &[]).allows();
    let fresh = push_image(&shop.host, "v2", b"other");
    shop.ask("verify", &format!("@{fresh}"), &[]).is(2, "evidence-missing");
    shop.ask("gate", &format!("@{fresh}"), &[]).is(1, "signature-required");
}

#[test]
fn the_bundle_of_another_image_vouches_for_none_but_that() {
    for docker in [true, false] {
        let (real, stand_in) = (docker.then(Docker::plain), (!docker).then(|| StandIn::new(&[])));
        let host = real.as_ref().map_or_else(|| stand_in.as_ref().unwrap().host.clone(), |real| real.host.clone());
        let shop = Shop::at(&host);
        let honest = push_image(&host, "v1", b"layer");
        let evil = push_image(&host, "evil", b"evil layer");
        let bundle = bundle_of(&shop, &honest);
        attach_bundle(&host, &evil, bundle.to_string().as_bytes());
        shop.ask("verify", ":evil", &[]).is(1, "subject-mismatch");
        shop.ask("gate", ":evil", &[]).is(1, "subject-mismatch");
        // Beside an honest one it changes nothing.
        attach_bundle(&host, &honest, bundle.to_string().as_bytes());
        let other = bundle_of(&shop, &evil);
        attach_bundle(&host, &honest, other.to_string().as_bytes());
        shop.ask("gate", ":v1", &[]).allows();
    }
}

#[test]
fn a_statement_that_was_changed_to_another_image_is_forged() {
    let (_registry, shop, digest) = signed(&[]);
    let evil = push_image(&shop.host, "evil", b"evil layer");
    let mut bundle = bundle_of(&shop, &digest);
    let payload = crate::world::statement::statement(
        crate::world::statement::STATEMENT_V1,
        &[json!({"name": "a", "digest": {"sha256": evil.strip_prefix("sha256:").unwrap()}})],
        "https://sigstore.dev/cosign/sign/v1",
        &json!({}),
    );
    use base64::Engine as _;
    bundle["dsseEnvelope"]["payload"] = json!(base64::engine::general_purpose::STANDARD.encode(payload.to_string()));
    attach_bundle(&shop.host, &evil, bundle.to_string().as_bytes());
    shop.ask("verify", ":evil", &[]).is(1, "signature-invalid");
    shop.ask("gate", ":evil", &[]).is(1, "signature-invalid");
    // A forgery is a no even beside an honest signature.
    shop.sign(&evil);
    shop.ask("gate", ":evil", &[]).is(1, "signature-invalid");
}

#[test]
fn a_stranger_who_may_attach_is_passed_over_and_never_enough() {
    let (_registry, shop, digest) = signed(&[]);
    let stranger = Shop::at(&shop.host);
    stranger.sign(&digest);
    let report = shop.ask("gate", ":v1", &[]).allows();
    assert_eq!(report["facts"]["signatures"].as_array().unwrap().len(), 1);
    Shop::at(&shop.host).ask("gate", ":v1", &[]).is(1, "key-mismatch");
}

#[test]
fn a_registry_that_gives_other_bytes_for_a_digest_is_caught() {
    let (registry, shop, digest) = signed(&[]);
    let other = super::wait(async { super::repository(&shop.host).await.manifest("v1").await.unwrap().bytes });
    let other = String::from_utf8(other).unwrap().replace("layer.v1.tar", "layer.v1.TAR");
    registry.flaw(Flaw::Gives(digest.clone(), other.into_bytes()));
    shop.ask("verify", &format!("@{digest}"), &[]).is(1, "registry-digest");
    shop.ask("gate", &format!("@{digest}"), &[]).is(1, "registry-digest");

    // The layer that holds the bundle.
    let (registry, shop, digest) = signed(&[]);
    let blob = bundle_of(&shop, &digest).to_string();
    attach_bundle(&shop.host, &digest, blob.as_bytes());
    registry.flaw(Flaw::Gives(Digest::sha256(blob.as_bytes()).to_string(), blob.to_uppercase().into_bytes()));
    shop.ask("verify", ":v1", &[]).is(1, "registry-digest");

    // The header of a tag.
    let (registry, shop, _) = signed(&[]);
    registry.flaw(Flaw::SaysOtherDigest);
    shop.ask("verify", ":v1", &[]).is(1, "registry-digest");
}

#[test]
fn a_manifest_without_an_end_is_not_read_to_it() {
    let (registry, shop, _) = signed(&[]);
    registry.flaw(Flaw::Gives(
        "v1".to_owned(),
        " ".repeat(usize::try_from(limits::REGISTRY_MANIFEST_BYTES).unwrap() + 1).into_bytes(),
    ));
    shop.ask("verify", ":v1", &[]).is(1, "input-too-large");
}

#[test]
fn a_manifest_that_is_no_image_or_two_things_at_once_is_refused() {
    for body in [
        json!({"schemaVersion": 1}),
        json!([]),
        json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [], "layers": [],
            "config": {"digest": Digest::sha256(b"").to_string(), "size": 0},
        }),
    ] {
        let registry = StandIn::new(&[]);
        let shop = Shop::at(&registry.host);
        push_image(&shop.host, "v1", b"layer");
        super::wait(async {
            let repository = super::repository(&shop.host).await;
            let kind = debvisor::clients::registry::MANIFEST;
            repository.push_manifest("odd", kind, body.to_string().as_bytes()).await.unwrap();
        });
        shop.ask("verify", ":odd", &[]).is(1, "image-malformed");
    }
}

#[test]
fn damaged_evidence_is_a_no_and_not_passed_over() {
    let (_registry, shop, digest) = signed(&[]);
    attach_bundle(&shop.host, &digest, b"{}");
    let refused = shop.ask("gate", ":v1", &[]);
    assert_eq!(refused.exit, 1, "{:#}", refused.report);
}

#[test]
fn a_registry_that_is_down_leaves_the_question_open() {
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let shop = Shop::at(&host);
    shop.ask("verify", ":v1", &[]).is(2, "registry-unreachable");
    shop.ask("gate", ":v1", &[]).is(2, "registry-unreachable");
    shop.make(&["sign", &shop.image(":v1")]).fails(2, "registry-unreachable");
}

#[test]
fn what_is_not_there_leaves_the_question_open() {
    let registry = Docker::plain();
    let shop = Shop::at(&registry.host);
    shop.ask("verify", ":v1", &[]).is(2, "image-missing");
    push_index(&shop.host, "v1");
    shop.ask("gate", &format!("@{}", Digest::sha256(b"nothing")), &[]).is(2, "image-missing");
}

#[test]
fn offline_asks_no_registry() {
    let registry = StandIn::new(&[]);
    let shop = Shop::at(&registry.host);
    for verb in ["verify", "gate"] {
        let ran = shop.desk.run(&[verb, &shop.image(":v1"), "--key", "release.pub", "--offline"]);
        ran.fails(64, "--offline");
    }
    shop.make(&["sign", &shop.image(":v1"), "--offline"]).fails(64, "--offline");
    assert!(registry.asked().is_empty(), "{:?}", registry.asked());
    for odd in ["oci://", "oci://a", "oci://Example.org/A B", "oci://localhost:1/a@sha256:12"] {
        shop.desk.run(&["verify", odd, "--key", "release.pub"]).fails(64, "names no image");
    }
}
