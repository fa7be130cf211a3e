//! The protocol itself, where registries differ or misbehave: pages, redirects, "later", lists by tag.

use std::time::Instant;

use super::standin::{Flaw, StandIn, basic};
use super::{Shop, push_image, repository, wait};
use debvisor::clients::registry::credentials::Credentials;
use debvisor::clients::registry::{Options, Reference, RegistryError, Repository};
use debvisor::types::Digest;

#[test]
fn referrers_on_many_pages_are_all_read() {
    let registry = StandIn::new(&[Flaw::Pages(1)]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    for _ in 0..3 {
        shop.sign(&digest);
    }
    let report = shop.ask("verify", ":v1", &[]).allows();
    assert_eq!(report["facts"]["signatures"].as_array().unwrap().len(), 3);
    assert!(registry.asked().iter().any(|asked| asked.line.contains("?page=2")), "{:#?}", registry.asked());
}

#[test]
fn where_nobody_lists_referrers_a_tag_does() {
    let registry = StandIn::new(&[Flaw::NoReferrers]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    shop.sign(&digest);
    let tag = digest.replace(':', "-");
    let list = wait(async { repository(&shop.host).await.manifest(&tag).await.unwrap().bytes });
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 2, "{list:#}");
    assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    let report = shop.ask("gate", ":v1", &[]).allows();
    assert_eq!(report["facts"]["signatures"].as_array().unwrap().len(), 2);
    // A tag that is somebody's image is left alone.
    let other = push_image(&shop.host, "v2", b"other");
    push_image(&shop.host, &other.replace(':', "-"), b"an image");
    shop.make(&["sign", &shop.image(":v2")]).fails(1, "holds no list of referrers");
    shop.ask("verify", ":v2", &[]).is(1, "image-malformed");
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let store = StandIn::new(&[]);
    let registry = StandIn::new(&[Flaw::Basic("u", "p"), Flaw::BlobsAt(store.host.clone())]);
    let digest = wait(async { repository(&store.host).await.push_blob(b"layer").await.unwrap() });
    let options = Options { credentials: Some(Credentials::new("u", "p")), ..Options::default() };
    let blob = wait(async {
        let reference: Reference = format!("{}/a:v1", registry.host).parse().unwrap();
        let repository = Repository::connect(&reference, options).await.unwrap();
        repository.blob(&digest, 100).await.unwrap()
    });
    assert_eq!(blob, b"layer");
    let sent = |of: &StandIn| of.asked().iter().filter(|asked| asked.authorization == Some(basic("u", "p"))).count();
    assert_eq!((sent(&registry), sent(&store)), (1, 0));
    assert!(store.asked().iter().any(|asked| asked.line.contains("signature=secret")), "the redirect was followed");
}

#[test]
fn redirects_end() {
    let registry = StandIn::new(&[Flaw::Circle]);
    let outcome = wait(async { repository(&registry.host).await.blob(&Digest::sha256(b"x"), 100).await });
    assert!(matches!(outcome, Err(RegistryError::Malformed { .. })), "{outcome:?}");
    assert!(registry.asked().len() < 10, "{:#?}", registry.asked());
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says_and_not_for_an_hour() {
    let registry = StandIn::new(&[]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    registry.flaw(Flaw::Busy(2, "1"));
    let started = Instant::now();
    shop.ask("verify", ":v1", &[]).allows();
    assert!(started.elapsed().as_millis() >= 2000, "it did not wait: {:?}", started.elapsed());
    registry.flaw(Flaw::Busy(1, "3600"));
    let started = Instant::now();
    shop.ask("verify", ":v1", &[]).is(2, "registry-unreachable");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_password_is_not_sent_in_the_clear_to_another_machine() {
    let registry = StandIn::new(&[Flaw::Challenge("Bearer realm=\"http://tokens.example.invalid/\",service=\"s\"")]);
    let shop = Shop::at(&registry.host);
    let login = ["--registry-username", "u", "--registry-password", "p"];
    let report = shop.ask("verify", ":v1", &login).is(2, "registry-refused");
    let message = report["reasons"][0]["message"].as_str().unwrap();
    assert!(message.contains("in the clear to http://tokens.example.invalid/"), "{message}");
    assert_eq!(registry.asked().len(), 1, "nothing but the question how to ask: {:#?}", registry.asked());
}

#[test]
fn many_referrers_are_read_and_reported_in_the_order_of_their_list() {
    let registry = StandIn::new(&[]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    let mut holders: Vec<String> = Vec::new();
    for kind in ["a", "b", "c", "d", "e", "f"] {
        let image = shop.image(&format!("@{digest}"));
        let predicate_type = format!("https://example.org/{kind}");
        let attest =
            ["attest", &image, "--predicate", "predicate.json", "--type", &predicate_type, "--bundle", "x.json"];
        shop.make(&attest).succeeds();
        let holder = super::attach_bundle(&shop.host, &digest, &shop.desk.read("x.json"));
        holders.push(format!("{}/a@{holder}", shop.host));
    }
    // The stand-in lists them in the order of their digests.
    holders.sort();
    let report = shop.ask("verify", ":v1", &[]).allows();
    let signatures = report["facts"]["signatures"].as_array().unwrap();
    let found: Vec<&str> = signatures.iter().map(|signature| signature["evidence"].as_str().unwrap()).collect();
    assert_eq!(found, holders);
}
