//! Threats, format: one reading of the bytes, and no second one.

use debvisor::types::Code;
use serde_json::json;

use super::{Case, attestation, blob, signer};
use crate::world::{World, private_blob};

#[test]
fn duplicate_keys_even_if_the_last_is_good() {
    let twice = |outer: &str, inner: &str| {
        let needle = format!("\"{outer}\":");
        Case::of(&blob()).text(|text| text.replacen(&needle, &format!("\"{outer}\":{inner},{needle}"), 1))
    };
    twice("messageSignature", "{}").denied(Code::DuplicateKey);
    twice("mediaType", "\"application/vnd.dev.sigstore.bundle.v0.3+json\"").denied(Code::DuplicateKey);
    twice("logIndex", "\"1\"").denied(Code::DuplicateKey);
    // The same name in two spellings.
    twice("verificationMaterial", "{},\"verification\\u004daterial\":{}").denied(Code::DuplicateKey);
}

#[test]
fn duplicate_keys_in_what_was_signed() {
    let statement = crate::world::statement::slsa_v1(super::ARTIFACT, &signer()).to_string();
    let statement = statement.replacen("\"subject\":", "\"subject\":[],\"subject\":", 1);
    let draft = attestation().with(|draft| {
        draft.content = crate::world::Content::Envelope {
            payload_type: crate::world::IN_TOTO.to_owned(),
            payload: statement.into_bytes(),
        };
    });
    Case::of(&draft).denied(Code::DuplicateKey);
}

#[test]
fn both_contents() {
    let envelope = attestation().bundle()["dsseEnvelope"].clone();
    Case::of(&blob()).edited(|bundle| bundle["dsseEnvelope"] = envelope).denied(Code::MalformedBundle);
}

#[test]
fn neither_content() {
    Case::of(&blob())
        .edited(|bundle| drop(bundle.as_object_mut().unwrap().remove("messageSignature")))
        .denied(Code::MalformedBundle);
    Case::of(&blob()).edited(|bundle| bundle["messageSignature"] = json!(null)).denied(Code::MalformedBundle);
}

#[test]
fn two_kinds_of_key_material() {
    Case::of(&blob())
        .edited(|bundle| bundle["verificationMaterial"]["publicKey"] = json!({ "hint": "x" }))
        .denied(Code::MalformedBundle);
}

#[test]
fn an_unknown_media_type() {
    for media_type in [
        "application/vnd.dev.sigstore.bundle.v0.9+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.4",
        "application/vnd.dev.sigstore.bundle.v0.3+json ",
        "application/json",
    ] {
        Case::of(&blob()).edited(|bundle| bundle["mediaType"] = json!(media_type)).denied(Code::UnknownMediaType);
    }
}

#[test]
fn no_media_type() {
    Case::of(&blob())
        .edited(|bundle| drop(bundle.as_object_mut().unwrap().remove("mediaType")))
        .denied(Code::MalformedBundle);
}

#[test]
fn a_member_in_both_of_its_spellings() {
    // ProtoJSON reads camel case and snake case; a bundle with both has two readings.
    Case::of(&blob())
        .edited(|bundle| bundle["message_signature"] = bundle["messageSignature"].clone())
        .denied(Code::MalformedBundle);
}

#[test]
fn trailing_data() {
    for tail in ["}", " x", "{}", "\0", ",\"mediaType\":1"] {
        Case::of(&blob()).text(|text| text + tail).denied(Code::MalformedJson);
    }
}

#[test]
fn a_trailing_line_feed_passes() {
    Case::of(&blob()).text(|text| text + "\n").passes();
}

#[test]
fn a_damaged_document() {
    Case::of(&blob()).text(|text| text[..text.len() / 2].to_owned()).denied(Code::MalformedJson);
    Case::of(&blob()).text(|_| String::new()).denied(Code::MalformedJson);
    let output = Case::of(&blob()).text(|_| "[]".to_owned()).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn extra_der_bytes_behind_the_certificate() {
    let draft = blob().certificate(|plan| plan.trailing_bytes = vec![0]);
    Case::of(&draft).denied(Code::CertificateMalformed);
}

#[test]
fn extra_der_bytes_behind_the_timestamp() {
    let draft = blob().rekor2(World::shared()).with(|draft| draft.timestamps[0].trailing_bytes = vec![5, 0]);
    Case::of(&draft).denied(Code::TimestampInvalid);
}

#[test]
fn base64_that_is_not_canonical() {
    let output = Case::of(&blob())
        .edited(|bundle| {
            let signature = &mut bundle["messageSignature"]["signature"];
            *signature = json!(format!("{}\n", signature.as_str().unwrap()));
        })
        .run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_wrong_artifact() {
    Case::of(&World::shared().blob(b"another artifact\n", &signer())).denied(Code::DigestMismatch);
}

#[test]
fn a_signature_that_does_not_fit() {
    let other = blob().bundle()["messageSignature"]["signature"].clone();
    let output = Case::of(&blob()).edited(|bundle| bundle["messageSignature"]["signature"] = other).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    Case::of(&blob())
        .edited(|bundle| bundle["messageSignature"]["signature"] = json!(""))
        .denied(Code::SignatureMissing);
}

#[test]
fn a_message_digest_of_other_bytes() {
    Case::of(&blob())
        .edited(|bundle| {
            bundle["messageSignature"]["messageDigest"]["digest"] =
                json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        })
        .denied(Code::DigestMismatch);
}

#[test]
fn a_private_instances_bundle_passes_under_its_own_root() {
    let world = World::shared();
    let draft = private_blob(world, super::ARTIFACT, &signer());
    Case::of(&draft).root(|root| *root = world.private_root()).passes();
}

#[test]
fn a_private_instances_bundle_never_passes_under_the_public_root() {
    let world = World::shared();
    let draft = private_blob(world, super::ARTIFACT, &signer());
    Case::of(&draft).denied(Code::TimestampUntrusted);
    // Nor where somebody put its authorities beside the public ones, nor by the public authority itself.
    Case::of(&draft)
        .root(|root| {
            let private = world.private_root();
            for list in ["certificateAuthorities", "timestampAuthorities"] {
                root[list].as_array_mut().unwrap().extend(private[list].as_array().unwrap().clone());
            }
        })
        .denied(Code::LogEntryMissing);
    let public = blob().stamped(world).with(|draft| draft.entries.clear()).certificate(|plan| plan.scts.clear());
    Case::of(&public).denied(Code::LogEntryMissing);
}

#[test]
fn a_private_instances_bundle_without_a_timestamp() {
    let world = World::shared();
    let draft = private_blob(world, super::ARTIFACT, &signer()).with(|draft| draft.timestamps.clear());
    Case::of(&draft).root(|root| *root = world.private_root()).denied(Code::TimeMissing);
}

#[test]
fn a_trust_root_that_cannot_be_read_leaves_the_question_open() {
    for root in [json!([]), json!({}), json!({ "mediaType": "application/json" })] {
        Case::of(&blob()).root(|own| *own = root).undecided(Code::TrustRootUnreadable);
    }
}

#[test]
fn a_root_whose_logs_cannot_be_used_still_wants_them() {
    // A key of a kind that this version does not know must not turn a public root into a private one.
    let unusable = |list: &'static str| {
        move |root: &mut serde_json::Value| {
            for log in root[list].as_array_mut().unwrap() {
                log["publicKey"]["rawBytes"] = json!("MAUwAwYBKg==");
            }
        }
    };
    let draft = blob().stamped(World::shared());
    let unlogged = blob().stamped(World::shared()).with(|draft| draft.entries.clear());
    Case::of(&draft).root(unusable("tlogs")).denied(Code::LogUnknown);
    Case::of(&unlogged).root(unusable("tlogs")).denied(Code::LogEntryMissing);
    Case::of(&draft).root(unusable("ctlogs")).denied(Code::SctUntrusted);
    Case::of(&draft.certificate(|plan| plan.scts.clear())).root(unusable("ctlogs")).denied(Code::SctMissing);
}
