//! The way it is meant: signed and attested by digest, verified and gated, at either kind of registry.

use serde_json::{Value, json};

use super::docker::Docker;
use super::standin::StandIn;
use super::{KEY_PASSWORD, Shop, push_image, push_index};
use crate::signing::keyless::{flags, flags2, joined};
use crate::signing::services::{ISSUER, Services, WHO, claims, token};

/// A registry of either kind.
enum Registry {
    Docker(Docker),
    StandIn(StandIn),
}

impl Registry {
    fn host(&self) -> &str {
        match self {
            Self::Docker(registry) => &registry.host,
            Self::StandIn(registry) => &registry.host,
        }
    }
}

fn both() -> [Registry; 2] {
    [Registry::Docker(Docker::plain()), Registry::StandIn(StandIn::new(&[]))]
}

#[test]
fn what_a_key_signed_and_attested_is_verified_and_gated_by_digest_and_by_tag() {
    for registry in both() {
        let shop = Shop::at(registry.host());
        let digest = push_image(&shop.host, "v1", b"layer");
        let by_digest = format!("@{digest}");
        shop.sign(&digest);
        let report = shop.ask("verify", &by_digest, &[]).allows();
        assert_eq!(report["images"][0]["reference"], format!("{}/a@{digest}", shop.host));
        assert_eq!(report["subjects"][0]["digest"], json!({"sha256": digest.strip_prefix("sha256:").unwrap()}));
        let report = shop.ask("verify", ":v1", &[]).allows();
        assert_eq!(report["subjects"][0]["name"], format!("{}@{digest}", shop.image(":v1")));
        shop.ask("gate", &by_digest, &["--require", "signature"]).allows();

        shop.ask("gate", &by_digest, &["--require", "sbom"]).is(1, "sbom-required");
        shop.ask("gate", &by_digest, &["--require", "vex"]).is(1, "vex-required");
        for kind in ["cyclonedx", "openvex"] {
            let attest = ["attest", &shop.image(":v1"), "--predicate", "predicate.json", "--type", kind];
            let ran = shop.make(&attest).succeeds();
            assert!(ran.stderr.contains(&format!("to {}/a@{digest}", shop.host)), "{}", ran.stderr);
        }
        let report = shop.ask("gate", ":v1", &["--require", "signature,sbom,vex"]).allows();
        assert_eq!(report["facts"]["signatures"].as_array().unwrap().len(), 3);
        shop.ask("gate", ":v1", &["--require", "provenance"]).is(1, "provenance-required");
        shop.ask("verify", ":v1", &["--predicate-type", "https://openvex.dev/ns"]).allows();
        let ran = shop.ask("verify", ":v1", &["--predicate-type", "https://example.org/other"]);
        assert_eq!(ran.exit, 1, "{:#}", ran.report);
    }
}

#[test]
fn an_image_is_admitted_by_what_is_attached_to_it() {
    for registry in both() {
        let shop = Shop::at(registry.host());
        let digest = push_image(&shop.host, "v1", b"layer");
        let by_digest = format!("@{digest}");
        shop.ask("admit", &by_digest, &[]).is(2, "evidence-missing");
        let attest = ["attest", &shop.image(":v1"), "--predicate", "predicate.json", "--type", "cyclonedx"];
        shop.make(&attest).succeeds();
        // What is inside is not whether it may run.
        shop.ask("admit", &by_digest, &[]).is(1, "signature-required");
        shop.sign(&digest);
        let report = shop.ask("admit", &by_digest, &["--require", "sbom"]).allows();
        assert_eq!(report["policy"]["name"], "admission");
        assert_eq!(report["images"][0]["reference"], format!("{}/a@{digest}", shop.host));
        let other = push_image(&shop.host, "v1", b"another layer");
        assert_eq!(shop.ask("admit", &format!("@{other}"), &[]).exit, 2);
        assert_eq!(shop.ask("admit", ":v1", &[]).exit, 2);
    }
}

#[test]
fn what_an_identity_signed_is_verified_against_both_logs() {
    let services = Services::honest();
    let identity = ["--certificate-identity", WHO, "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json"];
    let other = ["--certificate-identity", "x@example.org", "--certificate-oidc-issuer", ISSUER];
    for registry in both() {
        let shop = Shop::at(registry.host());
        let digest = push_image(&shop.host, "v1", b"layer");
        let image = shop.image(&format!("@{digest}"));
        for flags in [flags(&services), flags2(&services)] {
            let token = token(&claims());
            let sign = ["sign", image.as_str(), "--identity-token", &token];
            shop.desk.run(&joined(&sign, &flags)).succeeds();
        }
        let report = shop.ask_with("gate", &format!("@{digest}"), &identity, &[]).allows();
        assert_eq!(report["facts"]["signatures"].as_array().unwrap().len(), 2);
        let stranger = [&other[..], &["--trusted-root", "root.json"]].concat();
        shop.ask_with("verify", &format!("@{digest}"), &stranger, &[]).is(1, "identity-mismatch");
    }
}

#[test]
fn provenance_of_an_image_is_held_to_its_source() {
    use crate::world::{Identity, World};
    let registry = StandIn::new(&[]);
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    let world = World::shared();
    let identity = Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2");
    let manifest = super::wait(async { super::repository(&shop.host).await.manifest(&digest).await.unwrap().bytes });
    let statement = crate::world::statement::slsa_v1(&manifest, &identity);
    super::attach_bundle(&shop.host, &digest, world.attest(&statement, &identity).bundle().to_string().as_bytes());
    let sbom = crate::world::statement::statement(
        crate::world::statement::STATEMENT_V1,
        &[crate::world::statement::subject("a", &manifest)],
        crate::world::statement::CYCLONEDX,
        &json!({}),
    );
    super::attach_bundle(&shop.host, &digest, world.attest(&sbom, &identity).bundle().to_string().as_bytes());
    let signer = [
        "--certificate-identity",
        identity.text(),
        "--certificate-oidc-issuer",
        crate::world::ca::GITHUB_ISSUER,
        "--trusted-root",
        "root.json",
        "--require",
        "provenance,sbom",
        "--source-uri",
    ];
    let of = |source: &'static str| [&signer[..], &[source]].concat();
    // What is not provenance is by the same signer, and nobody asks it for a source.
    let report = shop.ask_with("gate", ":v1", &of("github.com/acme/hyperdeck"), &[]).allows();
    assert_eq!(report["facts"]["provenance"]["source_uri"], "https://github.com/acme/hyperdeck");
    let refused = shop.ask_with("gate", ":v1", &of("github.com/acme/other"), &[]);
    assert_eq!(refused.exit, 1, "{:#}", refused.report);
    assert!(refused.report.to_string().contains("source-mismatch"), "{:#}", refused.report);
}

#[test]
fn of_an_index_its_own_digest_is_vouched_for_and_its_platforms_are_named() {
    for registry in both() {
        let shop = Shop::at(registry.host());
        let digest = push_index(&shop.host, "v1");
        shop.sign(&digest);
        let report = shop.ask("gate", ":v1", &[]).allows();
        assert_eq!(report["images"][0]["platforms"], json!(["linux/amd64", "linux/arm64"]));
        assert_eq!(report["images"][0]["reference"], format!("{}/a@{digest}", shop.host));
        // Whoever runs one platform's image by its own digest has nobody's word for it.
        shop.ask("verify", ":amd64", &[]).is(2, "evidence-missing");
        let text = shop.desk.run(&["gate", &shop.image(":v1"), "--key", "release.pub"]).succeeds();
        assert!(text.stdout.contains("linux/amd64, linux/arm64"), "{}", text.stdout);
    }
}

#[test]
fn the_same_bundle_attached_again_changes_nothing() {
    for registry in both() {
        let shop = Shop::at(registry.host());
        let digest = push_image(&shop.host, "v1", b"layer");
        let image = shop.image(&format!("@{digest}"));
        // A file that is named takes the bundle in the registry's place.
        shop.make(&["sign", &image, "--bundle", "a.sigstore.json"]).succeeds();
        shop.ask("verify", ":v1", &[]).is(2, "evidence-missing");
        shop.ask("verify", ":v1", &["--bundle", "a.sigstore.json"]).allows();
        let bundle = shop.desk.read("a.sigstore.json");
        let first = super::attach_bundle(&shop.host, &digest, &bundle);
        assert_eq!(super::attach_bundle(&shop.host, &digest, &bundle), first);
        let report = shop.ask("verify", ":v1", &[]).allows();
        assert_eq!(report["facts"]["signatures"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn files_and_images_are_attested_and_verified_in_one_run() {
    let registry = Docker::plain();
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    let image = shop.image(&format!("@{digest}"));
    shop.make(&["attest", "app", &image, "--predicate", "predicate.json", "--type", "custom"]).succeeds();
    shop.sign(&digest);
    let more = ["app", "--bundle", "app.att.sigstore.json"];
    let report = shop.ask("verify", ":v1", &more).allows();
    let allowed: Vec<&Value> = report["subjects"].as_array().unwrap().iter().map(|of| &of["decision"]).collect();
    assert_eq!(allowed, ["allow", "allow"]);
    let refused = shop.make(&["sign", &image, "--openpgp", "somebody"]);
    assert_eq!(refused.exit, 64, "{}", refused.stderr);
}

#[test]
fn a_watched_images_tag_that_moves_is_found_and_an_outage_is_not_a_finding() {
    let registry = Docker::plain();
    let shop = Shop::at(&registry.host);
    let digest = push_image(&shop.host, "v1", b"layer");
    shop.sign(&digest);
    let image = shop.image(":v1");
    let reverify = |more: &[&str]| {
        let arguments = [&["reverify", &image, "--key", "release.pub", "--format", "json"], more].concat();
        shop.desk.run_with(&arguments, &[KEY_PASSWORD])
    };
    reverify(&["--write-baseline", "baseline.jsonl", "--baseline-signing-key", "release.key"]).succeeds();
    let watch = ["--baseline", "baseline.jsonl", "--baseline-key", "release.pub"];
    reverify(&watch).succeeds();
    // The other image is signed by the same key: only the baseline knows that it is another one.
    let other = push_image(&shop.host, "v1", b"another layer");
    shop.sign(&other);
    let ran = reverify(&watch);
    assert_eq!(ran.exit, 1, "{}", ran.stdout);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let moved = report["reasons"].as_array().unwrap().iter().find(|reason| reason["code"] == "tag-moved");
    let message = moved.unwrap_or_else(|| panic!("{report:#}"))["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&digest) && message.contains(&other), "{message}");
    drop(registry);
    let ran = reverify(&watch);
    assert!(ran.exit == 2 && ran.stdout.contains("registry-unreachable"), "{} {}", ran.exit, ran.stdout);
}
