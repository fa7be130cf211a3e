//! Releases that are signed and attested by Sigstore's means, in the tests' own world.

use serde_json::{Value, json};

use super::release::{Answer, Release};
use crate::world::{Identity, Key, World, statement};

const ISSUER: &str = "https://accounts.example.org";
const WHO: &str = "release@example.org";
const BUILDER: &str = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml@refs/tags/v2.1.0";

fn publisher() -> Identity {
    Identity::email(WHO, ISSUER)
}

fn stranger() -> Identity {
    Identity::email("evil@example.org", ISSUER)
}

/// Two artifacts and their list; who signs what is the test's business.
fn release() -> Release {
    let release = Release::empty().with("app", b"app").with("notes", b"notes");
    release.list();
    let root = World::shared().trusted_root().to_string();
    std::fs::write(release.home().join("root.json"), root).unwrap();
    release
}

/// The same with the list signed by the publisher.
fn signed() -> Release {
    let release = release();
    sign(&release, "SHA256SUMS", &publisher());
    release
}

fn sign(release: &Release, name: &str, identity: &Identity) {
    let bytes = std::fs::read(release.path(name)).unwrap();
    let bundle = World::shared().blob(&bytes, identity).bundle();
    release.write(&format!("{name}.sigstore.json"), bundle.to_string().as_bytes());
}

/// `attestations.jsonl` with these bundles, one a line.
fn attest(release: &Release, bundles: &[Value]) {
    let lines: String = bundles.iter().map(|bundle| format!("{bundle}\n")).collect();
    release.write("attestations.jsonl", lines.as_bytes());
}

fn provenance(artifact: &[u8], identity: &Identity) -> Value {
    World::shared().attest(&statement::slsa_v1(artifact, identity), identity).bundle()
}

fn gate(release: &Release, flags: &[&str]) -> Answer {
    let mut all = vec!["--trusted-root".to_owned(), "root.json".to_owned()];
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    release.gate_as(&all)
}

const NAMED: [&str; 4] = ["--certificate-identity", WHO, "--certificate-oidc-issuer", ISSUER];

fn gate_named(release: &Release, flags: &[&str]) -> Answer {
    gate(release, &[&NAMED, flags].concat())
}

#[test]
fn a_list_signed_by_the_expected_identity_covers_its_files() {
    let answer = gate_named(&signed(), &[]);
    answer.allows();
    assert_eq!(answer.subject("app").pointer("/facts/checksums/0/signer/identity"), Some(&json!(WHO)));
    assert!(answer.report["trust_root"]["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_list_signed_by_another_identity_covers_nothing() {
    let release = release();
    sign(&release, "SHA256SUMS", &stranger());
    gate_named(&release, &[]).denies(&[
        "identity-mismatch SHA256SUMS",
        "signature-required app",
        "signature-required notes",
    ]);
}

#[test]
fn bundles_are_not_judged_where_nobody_was_named_for_them() {
    let answer = gate(&signed(), &[]);
    answer.denies(&["identity-required -"]);
    assert_eq!(answer.report["warnings"][0]["code"], "evidence-unjudged");
    let release = signed();
    release.sign("SHA256SUMS");
    release.gate(&[]).allows();
}

#[test]
fn an_issuer_alone_names_nobody() {
    gate(&signed(), &["--certificate-oidc-issuer", ISSUER]).denies(&["identity-required -"]);
}

#[test]
fn a_changed_byte_under_a_signed_list_is_a_no() {
    let release = signed();
    release.write("app", b"evil");
    gate_named(&release, &[]).denies(&["checksum-mismatch app"]);
}

#[test]
fn a_list_changed_after_it_was_signed_is_a_no() {
    let release = signed();
    release.write("app", b"evil");
    release.list();
    gate_named(&release, &[]).denies(&[
        "digest-mismatch SHA256SUMS",
        "signature-required app",
        "signature-required notes",
    ]);
}

#[test]
fn a_managed_key_of_any_kind_signs_a_list() {
    for key in [Key::p256(), Key::p384(), Key::ed25519(), Key::rsa()] {
        let release = release();
        let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
        let bundle = World::shared().key_blob(&list, &key).bundle();
        release.write("SHA256SUMS.sigstore.json", bundle.to_string().as_bytes());
        std::fs::write(release.home().join("key.pub"), key.pem()).unwrap();
        gate(&release, &["--key", "key.pub"]).allows();

        std::fs::write(release.home().join("key.pub"), Key::p256().pem()).unwrap();
        let answer = gate(&release, &["--key", "key.pub"]);
        assert_eq!(answer.exit, 1);
        assert!(answer.reasons().contains(&"signature-required app".to_owned()), "{:?}", answer.reasons());
    }
}

#[test]
fn provenance_by_a_trusted_builder_speaks_for_a_source_without_an_identity() {
    let release = release();
    let builder = Identity::builder(BUILDER, "owner/app", "release.yml", "refs/tags/v1.0.0");
    attest(&release, &[provenance(b"app", &builder), provenance(b"notes", &builder)]);
    let source = ["--source-uri", "github.com/owner/app", "--source-tag", "v1.0.0"];
    let answer = gate(&release, &source);
    answer.allows();
    assert_eq!(
        answer.subject("app").pointer("/facts/provenance/source_uri"),
        Some(&json!("https://github.com/owner/app"))
    );
    gate(&release, &[&source[..], &["--require", "provenance"]].concat()).allows();

    let answer = gate(&release, &["--source-uri", "github.com/owner/fork"]);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"source-mismatch app".to_owned()), "{:?}", answer.reasons());
}

#[test]
fn provenance_by_an_untrusted_builder_speaks_for_nothing() {
    let release = release();
    let workflow = Identity::github("owner/app", "release.yml", "refs/tags/v1.0.0");
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    // Not for an artifact, nor by way of a list.
    attest(&release, &[provenance(b"app", &workflow), provenance(&list, &workflow)]);
    let answer = gate(&release, &["--source-uri", "github.com/owner/app"]);
    assert_eq!(answer.exit, 1);
    let reasons = answer.reasons();
    for expected in ["builder-untrusted SHA256SUMS", "builder-untrusted app", "signature-required notes"] {
        assert!(reasons.contains(&expected.to_owned()), "{reasons:?}");
    }
}

#[test]
fn provenance_is_required_of_every_artifact() {
    let release = signed();
    let flags = ["--require", "provenance"];
    gate_named(&release, &flags).denies(&["provenance-required app", "provenance-required notes"]);
    let workflow = Identity::github("owner/app", "release.yml", "refs/tags/v1.0.0");
    attest(&release, &[provenance(b"app", &workflow)]);
    // The attestation is sound and by somebody else: it answers nothing that was asked.
    let answer = gate_named(&release, &flags);
    assert!(answer.reasons().contains(&"identity-mismatch app".to_owned()), "{:?}", answer.reasons());
}

#[test]
fn an_attestation_of_another_type_stands_in_for_no_signature() {
    let release = release();
    let sbom = |name: &str, bytes: &[u8]| {
        let subject = statement::subject(name, bytes);
        let bom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6"});
        let statement = statement::statement(statement::STATEMENT_V1, &[subject], statement::CYCLONEDX, &bom);
        World::shared().attest(&statement, &publisher()).bundle()
    };
    attest(&release, &[sbom("app", b"app"), sbom("notes", b"notes")]);
    gate_named(&release, &[]).denies(&["signature-required app", "signature-required notes"]);
    // With a signed list beside it, it answers for the SBOM.
    sign(&release, "SHA256SUMS", &publisher());
    gate_named(&release, &["--require", "sbom"]).allows();
}

#[test]
fn a_file_of_bundles_needs_no_line_only_where_all_of_them_were_verified() {
    let release = signed();
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    let about_the_list = World::shared().blob(&list, &publisher()).bundle();
    attest(&release, std::slice::from_ref(&about_the_list));
    gate_named(&release, &[]).allows();

    // A bundle about nothing in the release was verified by nobody.
    let about_nothing = World::shared().blob(b"elsewhere", &publisher()).bundle();
    attest(&release, &[about_the_list, about_nothing]);
    gate_named(&release, &[]).denies(&["file-unlisted attestations.jsonl"]);
}

#[test]
fn a_forged_bundle_is_a_no_whatever_stands_beside_it() {
    let release = signed();
    let mut forged = World::shared().blob(b"app", &publisher()).bundle();
    let other = World::shared().blob(b"app", &publisher()).bundle();
    forged["messageSignature"]["signature"] = other["messageSignature"]["signature"].clone();
    attest(&release, &[forged]);
    let answer = gate_named(&release, &[]);
    assert_eq!(answer.exit, 1);
    let against_app = |reason: &String| reason.ends_with(" app");
    assert!(answer.reasons().iter().any(against_app), "{:?}", answer.reasons());
}

#[test]
fn a_file_of_bundles_that_is_damaged_is_a_no() {
    let release = signed();
    attest(&release, &[json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"})]);
    let answer = gate_named(&release, &[]);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"malformed-bundle attestations.jsonl".to_owned()), "{:?}", answer.reasons());
}

#[test]
fn further_bundles_may_come_from_outside_of_the_directory() {
    let release = release();
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    let bundle = World::shared().blob(&list, &publisher()).bundle().to_string();
    std::fs::write(release.home().join("evidence.json"), bundle).unwrap();
    gate_named(&release, &["--bundle", "evidence.json"]).allows();
    let answer = gate_named(&release, &["--bundle", "missing.json"]);
    assert_eq!((answer.exit, answer.reasons()), (2, vec!["evidence-unreadable -".to_owned()]));
}

#[test]
fn an_unreadable_trust_root_is_undecided_and_a_changed_byte_still_a_no() {
    let release = signed();
    std::fs::write(release.home().join("root.json"), "{}").unwrap();
    let answer = gate_named(&release, &[]);
    assert_eq!((answer.exit, answer.reasons().len()), (2, 1), "{:?}", answer.reasons());
    release.write("app", b"evil");
    let answer = gate_named(&release, &[]);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"checksum-mismatch app".to_owned()));
}

#[test]
fn a_trust_root_that_is_too_old_is_undecided() {
    let release = signed();
    let flags = [&NAMED[..], &["--max-trust-root-age", "1"]].concat();
    // The embedded root was made before this version was.
    let answer = release.gate_as(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
    assert_eq!((answer.exit, answer.reasons()), (2, vec!["trust-root-too-old -".to_owned()]));
}

#[test]
fn openpgp_and_sigstore_signers_may_both_be_named_and_all_their_evidence_must_hold() {
    let release = signed();
    release.sign("SHA256SUMS");
    let mut flags = release.expected();
    flags.extend(["--trusted-root".to_owned(), "root.json".to_owned()]);
    flags.extend(NAMED.map(str::to_owned));
    release.gate_as(&flags).allows();
    release.write("SHA256SUMS.sig", &release.publisher.sign(b"something else"));
    let answer = release.gate_as(&flags);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"openpgp-signature-bad SHA256SUMS".to_owned()), "{:?}", answer.reasons());
}
