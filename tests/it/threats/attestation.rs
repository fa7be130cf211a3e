//! Threats, DSSE and in-toto: one signature over the PAE, and a statement that binds this artifact.

use debvisor::types::Code;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ARTIFACT, Case, attestation, signer};
use crate::world::statement::{
    CYCLONEDX, SLSA_V1, SLSA_V02, STATEMENT_V01, STATEMENT_V1, slsa_v1, slsa_v02, statement, subject, subject_sha512,
};
use crate::world::{Content, Draft, World};

fn attested(statement: &Value) -> Draft<'static> {
    World::shared().attest(statement, &signer())
}

/// An honest statement with these subjects.
fn about(subjects: &[Value]) -> Case {
    let mut statement = slsa_v1(ARTIFACT, &signer());
    statement["subject"] = json!(subjects);
    Case::of(&attested(&statement))
}

#[test]
fn no_signature() {
    Case::of(&attestation())
        .edited(|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]))
        .denied(Code::SignatureMissing);
}

#[test]
fn two_signatures() {
    Case::of(&attestation())
        .edited(|bundle| {
            let signatures = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
            signatures.push(signatures[0].clone());
        })
        .denied(Code::SignatureCount);
}

#[test]
fn an_empty_signature() {
    Case::of(&attestation())
        .edited(|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!(""))
        .denied(Code::SignatureMissing);
}

#[test]
fn a_payload_type_edited_after_signing() {
    Case::of(&attestation())
        .edited(|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("application/vnd.in-toto.other+json"))
        .denied(Code::SignatureInvalid);
}

#[test]
fn a_payload_edited_after_signing() {
    use base64::Engine as _;
    let other = slsa_v1(b"another artifact\n", &signer()).to_string();
    let other = base64::engine::general_purpose::STANDARD.encode(other);
    let output = Case::of(&attestation()).edited(|bundle| bundle["dsseEnvelope"]["payload"] = json!(other)).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_payload_type_that_is_not_in_toto() {
    for payload_type in ["text/plain", "application/json", "application/vnd.in-toto+json ", ""] {
        let draft = attestation().with(|draft| {
            let payload = serde_json::to_vec(&slsa_v1(ARTIFACT, &signer())).unwrap();
            draft.content = Content::Envelope { payload_type: payload_type.to_owned(), payload };
        });
        Case::of(&draft).denied(Code::PayloadType);
    }
}

#[test]
fn a_signature_over_the_payload_instead_of_the_pae() {
    Case::of(&attestation().with(|draft| draft.sign_payload_only = true)).denied(Code::SignatureInvalid);
}

#[test]
fn a_subject_of_another_artifact() {
    about(&[subject("artifact", b"another artifact\n")]).denied(Code::SubjectMismatch);
}

#[test]
fn the_second_of_three_subjects_passes() {
    about(&[subject("a", b"a"), subject("artifact", ARTIFACT), subject("c", b"c")]).passes();
}

#[test]
fn a_subject_with_sha1_only() {
    // The artifact's own SHA-1: even so.
    let sha1 = sha1_of_the_artifact();
    about(&[json!({ "name": "artifact", "digest": { "sha1": sha1 } })]).denied(Code::SubjectDigest);
    about(&[json!({ "name": "artifact", "digest": { "gitCommit": sha1 } })]).denied(Code::SubjectDigest);
}

#[test]
fn a_subject_with_conflicting_digests() {
    let mut both = subject("artifact", ARTIFACT);
    both["digest"]["sha512"] = subject_sha512("artifact", b"another artifact\n")["digest"]["sha512"].clone();
    about(&[both]).denied(Code::SubjectDigest);
    let mut both = subject_sha512("artifact", ARTIFACT);
    both["digest"]["sha256"] = subject("artifact", b"another artifact\n")["digest"]["sha256"].clone();
    about(&[both]).denied(Code::SubjectDigest);
}

#[test]
fn a_subject_with_agreeing_digests_passes() {
    let mut both = subject("artifact", ARTIFACT);
    both["digest"]["sha512"] = subject_sha512("artifact", ARTIFACT)["digest"]["sha512"].clone();
    about(&[both]).passes();
}

#[test]
fn a_subject_with_no_digest() {
    about(&[json!({ "name": "artifact", "digest": {} })]).denied(Code::SubjectDigest);
    let output = about(&[json!({ "name": "artifact" })]).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_subject_with_no_digest_beside_a_good_one() {
    about(&[subject("artifact", ARTIFACT), json!({ "name": "other", "digest": {} })]).denied(Code::SubjectDigest);
}

#[test]
fn no_subject_at_all() {
    about(&[]).denied(Code::StatementMalformed);
    let mut statement = slsa_v1(ARTIFACT, &signer());
    statement.as_object_mut().unwrap().remove("subject");
    Case::of(&attested(&statement)).denied(Code::StatementMalformed);
}

#[test]
fn a_subject_with_a_digest_of_the_wrong_length_or_form() {
    let digest = hex::encode(Sha256::digest(ARTIFACT));
    for wrong in [digest[..62].to_owned(), format!("{digest}00"), format!("sha256:{digest}"), String::new()] {
        let output = about(&[json!({ "name": "artifact", "digest": { "sha256": wrong } })]).run();
        assert_eq!(output.status.code(), Some(1), "{wrong}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_sha512_only_subject_is_verified_by_sha512() {
    about(&[subject_sha512("artifact", ARTIFACT)]).passes();
    about(&[subject_sha512("artifact", b"another artifact\n")]).denied(Code::SubjectMismatch);
}

#[test]
fn a_sha512_only_subject_is_never_skipped() {
    // Where only the artifact's SHA-256 is known, nothing can be proved of it.
    let known = format!("sha256:{}", hex::encode(Sha256::digest(ARTIFACT)));
    let code = about(&[subject_sha512("artifact", ARTIFACT)]).subject(known).run().status.code();
    assert!(code == Some(1) || code == Some(2), "{code:?}");
}

#[test]
fn an_artifact_given_by_its_digest_passes() {
    let known = format!("sha256:{}", hex::encode(Sha256::digest(ARTIFACT)));
    Case::of(&attestation()).subject(known).passes();
}

#[test]
fn another_predicate_type() {
    let case = Case::of(&attestation());
    case.clone().flags(&["--predicate-type", SLSA_V1]).passes();
    for asked in [
        SLSA_V02,
        CYCLONEDX,
        "https://slsa.dev/provenance/v1/",
        "https://slsa.dev/provenance/",
        "https://SLSA.dev/provenance/v1",
    ] {
        case.clone().flags(&["--predicate-type", asked]).denied(Code::PredicateTypeMismatch);
    }
}

#[test]
fn a_predicate_type_with_a_trailing_slash() {
    let mut statement = slsa_v1(ARTIFACT, &signer());
    statement["predicateType"] = json!("https://slsa.dev/provenance/v1/");
    Case::of(&attested(&statement)).flags(&["--predicate-type", SLSA_V1]).denied(Code::PredicateTypeMismatch);
}

#[test]
fn an_sbom_where_provenance_was_asked_for() {
    let predicate = json!({ "bomFormat": "CycloneDX", "specVersion": "1.6", "components": [] });
    let sbom = statement(STATEMENT_V1, &[subject("artifact", ARTIFACT)], CYCLONEDX, &predicate);
    let case = Case::of(&attested(&sbom));
    case.clone().flags(&["--predicate-type", CYCLONEDX]).passes();
    case.flags(&["--predicate-type", SLSA_V1]).denied(Code::PredicateTypeMismatch);
}

#[test]
fn a_plain_signature_where_an_attestation_was_asked_for() {
    Case::of(&super::blob()).flags(&["--predicate-type", SLSA_V1]).denied(Code::AttestationMissing);
}

#[test]
fn statement_v0_1_with_slsa_v0_2_passes() {
    Case::of(&attested(&slsa_v02(ARTIFACT, &signer()))).flags(&["--predicate-type", SLSA_V02]).passes();
}

#[test]
fn an_unknown_statement_type() {
    for kind in ["https://in-toto.io/Statement/v2", "https://in-toto.io/Statement/v1/", "", "Statement"] {
        let mut statement = slsa_v1(ARTIFACT, &signer());
        statement["_type"] = json!(kind);
        Case::of(&attested(&statement)).denied(Code::StatementMalformed);
    }
}

#[test]
fn a_v1_body_under_the_v0_2_type() {
    let mut mixed = slsa_v1(ARTIFACT, &signer());
    mixed["_type"] = json!(STATEMENT_V01);
    mixed["predicateType"] = json!(SLSA_V02);
    Case::of(&attested(&mixed)).flags(&["--predicate-type", SLSA_V02]).denied(Code::PredicateMalformed);
}

#[test]
fn a_v0_2_body_under_the_v1_type() {
    let mut mixed = slsa_v02(ARTIFACT, &signer());
    mixed["predicateType"] = json!(SLSA_V1);
    Case::of(&attested(&mixed)).flags(&["--predicate-type", SLSA_V1]).denied(Code::PredicateMalformed);
}

#[test]
fn a_payload_that_is_no_statement() {
    for payload in ["[]", "\"text\"", "null", "{}"] {
        let draft = attestation().with(|draft| {
            draft.content = Content::Envelope {
                payload_type: crate::world::IN_TOTO.to_owned(),
                payload: payload.as_bytes().to_vec(),
            };
        });
        Case::of(&draft).denied(Code::StatementMalformed);
    }
}

/// `printf 'what was built\n' | sha1sum`.
fn sha1_of_the_artifact() -> &'static str {
    assert_eq!(ARTIFACT, b"what was built\n");
    "8ad865c83af290257b2162500db3a274950a0dd7"
}
