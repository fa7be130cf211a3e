//! What is beside an image, and whose word counts.

use debvisor::types::{Digest, DigestAlgorithm};
use serde_json::json;

use super::{Folder, NAMED, image, publisher, stranger};
use crate::gate::release::Publisher;
use crate::world::{Key, World, statement};

#[test]
fn an_image_with_its_signature_beside_it_is_admitted() {
    let folder = Folder::signed();
    let answer = folder.admit(&format!("disk.img {NAMED}"));
    answer.allows();
    assert_eq!(answer.report["subjects"][0]["name"], "disk.img");
    assert_eq!(answer.report["subjects"][0]["digest"]["sha256"], Digest::sha256(&image(1)).to_hex());
    assert_eq!(answer.report["facts"]["signer"]["identity"], super::WHO);
    assert!(answer.report["trust_root"]["digest"].is_string());
}

#[test]
fn a_changed_image_is_a_no() {
    let folder = Folder::signed();
    folder.write("disk.img", image(2));
    folder.admit(&format!("disk.img {NAMED}")).says(1, &["digest-mismatch"]);
}

#[test]
fn an_image_without_evidence_is_an_open_question() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    folder.admit(&format!("disk.img {NAMED}")).says(2, &["evidence-missing"]);
    folder.admit("missing.img --key root.json").says(1, &["unsupported-algorithm", "subject-unreadable"]);
}

#[test]
fn nothing_is_admitted_where_nobody_was_named() {
    let folder = Folder::signed();
    folder.admit("disk.img --trusted-root root.json").says(1, &["identity-required"]);
}

#[test]
fn a_strangers_signature_is_a_no_and_beside_the_publishers_passed_over() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    folder.sign("disk.img", &stranger());
    folder.admit(&format!("disk.img {NAMED}")).says(1, &["identity-mismatch"]);
    let second = World::shared().blob(&image(1), &publisher()).bundle();
    folder.write("disk.img.bundle", second.to_string());
    folder.admit(&format!("disk.img {NAMED}")).allows();
}

#[test]
fn a_forged_bundle_beside_a_sound_one_is_a_no() {
    let folder = Folder::signed();
    let mut forged = World::shared().blob(&image(1), &publisher()).bundle();
    let other = World::shared().blob(&image(2), &publisher()).bundle();
    forged["messageSignature"]["signature"] = other["messageSignature"]["signature"].clone();
    folder.write("disk.img.bundle", forged.to_string());
    let answer = folder.admit(&format!("disk.img {NAMED}"));
    assert_eq!(answer.exit, 1, "{answer:?}");
    folder.admit(&format!("disk.img {NAMED} --no-beside --bundle disk.img.sigstore.json")).allows();
}

#[test]
fn a_damaged_file_of_evidence_is_a_no() {
    for (name, code) in [
        ("disk.img.att.sigstore.json", "malformed-json"),
        ("SHA256SUMS", "checksum-list-malformed"),
        ("disk.img.cdx.json", "malformed-json"),
    ] {
        let folder = Folder::signed();
        folder.write(name, if name == "SHA256SUMS" { "hello" } else { "{{{" });
        let answer = folder.admit(&format!("disk.img {NAMED}"));
        assert_eq!(answer.exit, 1, "{name}");
        assert!(
            answer.codes().iter().any(|found| *found == code || *found == "malformed-bundle"),
            "{name}: {answer:?}"
        );
    }
}

#[test]
fn evidence_of_a_kind_for_which_nobody_was_named_is_not_judged() {
    let folder = Folder::signed();
    folder.write("disk.img.sig", "a signature in some other form");
    let answer = folder.admit(&format!("disk.img {NAMED}"));
    answer.allows();
    assert_eq!(answer.report["warnings"][0]["code"], "evidence-unjudged");
}

#[test]
fn a_managed_key_of_any_kind_admits() {
    for key in [Key::p256(), Key::p384(), Key::ed25519(), Key::rsa()] {
        let folder = Folder::new();
        folder.write("disk.img", image(1));
        folder.sign_by("disk.img", &key, "key.pub");
        folder.admit("disk.img --key key.pub --trusted-root root.json").allows();
        folder.write("key.pub", Key::p256().pem());
        assert_eq!(folder.admit("disk.img --key key.pub --trusted-root root.json").exit, 1);
    }
}

#[test]
fn an_openpgp_signature_over_the_image_admits_it() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    let debian = Publisher::new();
    let named = folder.sign_openpgp("disk.img", &debian, "disk.img.asc");
    folder.admit(&format!("disk.img {named}")).allows();
    folder.write("disk.img", image(2));
    folder.admit(&format!("disk.img {named}")).says(1, &["openpgp-signature-bad"]);
    folder.write("disk.img", image(1));
    folder.sign_openpgp("disk.img", &Publisher::new(), "disk.img.asc");
    folder.write("ring.pgp", debian.keyring());
    folder.admit(&format!("disk.img {named}")).says(1, &["openpgp-key-unknown"]);
}

/// A list as Debian has it: another algorithm, and the signature under a name of its own.
fn listed(signature: &str) -> (Folder, String) {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    let lines = [("disk.img", image(1)), ("other.img", image(9))]
        .map(|(name, bytes)| format!("{}  {name}\n", DigestAlgorithm::Sha512.hash(&bytes).to_hex()));
    folder.write("SHA512SUMS", lines.concat());
    let named = folder.sign_openpgp("SHA512SUMS", &Publisher::new(), signature);
    (folder, named)
}

#[test]
fn a_signed_list_beside_the_image_admits_it() {
    for signature in ["SHA512SUMS.asc", "SHA512SUMS.sig", "SHA512SUMS.gpg", "SHA512SUMS.sign"] {
        let (folder, named) = listed(signature);
        let answer = folder.admit(&format!("disk.img {named}"));
        answer.allows();
        assert_eq!(answer.report["facts"]["checksums"][0]["signer"]["kind"], "openpgp");
    }
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    folder.write("SHA256SUMS", format!("{}  disk.img\n", Digest::sha256(&image(1)).to_hex()));
    folder.sign("SHA256SUMS", &publisher());
    folder.admit(&format!("disk.img {NAMED}")).allows();
}

#[test]
fn a_list_that_says_otherwise_is_a_no_signed_or_not() {
    let (folder, named) = listed("SHA512SUMS.asc");
    folder.write("disk.img", image(2));
    folder.admit(&format!("disk.img {named}")).says(1, &["checksum-mismatch"]);
    let folder = Folder::signed();
    folder.write("SHA256SUMS", format!("{}  disk.img\n", Digest::sha256(&image(2)).to_hex()));
    folder.admit(&format!("disk.img {NAMED}")).says(1, &["checksum-mismatch"]);
}

#[test]
fn an_unsigned_list_or_one_without_the_image_admits_nothing() {
    let (folder, named) = listed("SHA512SUMS.asc");
    folder.write("third.img", image(3));
    folder.admit(&format!("third.img {named}")).says(2, &["evidence-missing"]);
    std::fs::remove_file(folder.path("SHA512SUMS.asc")).unwrap();
    folder.admit(&format!("disk.img {named}")).says(2, &["evidence-missing"]);
}

#[test]
fn a_list_that_was_changed_after_it_was_signed_is_a_no() {
    let (folder, named) = listed("SHA512SUMS.asc");
    folder.write("disk.img", image(2));
    folder.write("SHA512SUMS", format!("{}  disk.img\n", DigestAlgorithm::Sha512.hash(&image(2)).to_hex()));
    folder.admit(&format!("disk.img {named}")).says(1, &["openpgp-signature-bad"]);
}

#[test]
fn a_signed_bill_of_materials_says_what_is_inside_and_not_that_it_may_run() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    let bom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6"});
    let subject = statement::subject("disk.img", &image(1));
    let statement = statement::statement(statement::STATEMENT_V1, &[subject], statement::CYCLONEDX, &bom);
    let attested = World::shared().attest(&statement, &publisher()).bundle();
    folder.write("disk.img.att.sigstore.json", attested.to_string());
    folder.admit(&format!("disk.img {NAMED}")).says(1, &["signature-required"]);
    folder.sign("disk.img", &publisher());
    folder.admit(&format!("disk.img {NAMED} --require sbom")).allows();
    folder.admit(&format!("disk.img {NAMED} --require vex")).says(1, &["vex-required"]);
}

#[test]
fn a_decision_that_was_kept_admits_until_it_ends() {
    let folder = Folder::signed();
    assert!(folder.debvisor("key generate --out verifier").status.success());
    folder.admit(&format!("disk.img {NAMED} --vsa-out kept --vsa-key verifier.key")).allows();
    let alone = Folder::new();
    alone.write("disk.img", image(1));
    alone.write("disk.img.vsa", folder.read("kept"));
    alone.write("verifier.pub", folder.read("verifier.pub"));
    let answer = alone.admit("disk.img --key verifier.pub");
    answer.allows();
    let digest = answer.report["policy"]["digest"].as_str().unwrap();
    alone.admit(&format!("disk.img --key verifier.pub --expect-policy-digest {digest}")).allows();
    let other = Digest::sha256(b"other");
    alone.admit(&format!("disk.img --key verifier.pub --expect-policy-digest {other}")).says(1, &["decision-policy"]);
    alone.write("disk.img", image(2));
    alone.admit("disk.img --key verifier.pub").says(1, &["subject-mismatch"]);
}

#[test]
fn a_no_is_kept_as_a_no() {
    let folder = Folder::signed();
    assert!(folder.debvisor("key generate --out verifier").status.success());
    folder.write("disk.img", image(2));
    let kept = format!("disk.img {NAMED} --vsa-out disk.img.vsa --vsa-key verifier.key");
    assert_eq!(folder.admit(&kept).exit, 1);
    std::fs::remove_file(folder.path("disk.img.sigstore.json")).unwrap();
    folder.admit("disk.img --key verifier.pub").says(1, &["decision-denied"]);
}

#[test]
fn of_several_images_each_has_its_own_answer() {
    let folder = Folder::signed();
    folder.write("vmlinuz", image(7));
    let answer = folder.admit(&format!("disk.img vmlinuz {NAMED}"));
    answer.says(2, &["evidence-missing"]);
    assert_eq!(answer.report["reasons"][0]["subject"], "vmlinuz");
    assert_eq!(answer.report["subjects"][0]["decision"], "allow");
    assert_eq!(answer.report["subjects"][1]["decision"], "undecided");
    folder.sign("vmlinuz", &publisher());
    folder.admit(&format!("disk.img vmlinuz {NAMED}")).allows();
}

#[test]
fn every_format_says_the_same_and_ends_the_same() {
    let folder = Folder::signed();
    for format in ["text", "json", "sarif", "github"] {
        let yes = folder.debvisor(&format!("admit disk.img {NAMED} --format {format}"));
        assert_eq!(yes.status.code(), Some(0), "{format}");
    }
    folder.write("disk.img", image(2));
    for format in ["text", "json", "sarif", "github"] {
        let no = folder.debvisor(&format!("admit disk.img {NAMED} --format {format}"));
        assert_eq!(no.status.code(), Some(1), "{format}");
        assert!(String::from_utf8_lossy(&no.stdout).contains("digest-mismatch"), "{format}: {no:?}");
    }
}

#[test]
fn a_wrong_command_line_is_no_answer() {
    let folder = Folder::signed();
    for line in [
        "admit".to_owned(),
        "admit disk.img --kind floppy".to_owned(),
        format!("admit oci://registry.example/image@sha256:{} --offline", "0".repeat(64)),
        "admit oci://".to_owned(),
        format!("admit disk.img {NAMED} --config debvisor.toml"),
        "admit disk.img --config missing.toml".to_owned(),
    ] {
        assert_eq!(folder.debvisor(&line).status.code(), Some(64), "{line}");
    }
}
