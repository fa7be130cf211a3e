//! Threats, log: an entry is in the log that the trust root names, and it is about this very signature.

use debvisor::types::Code;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{ARTIFACT, Case, attestation, blob, signer};
use crate::world::{Draft, EntryPlan, Kind, Version, World, after};

fn entry(change: impl FnOnce(&mut EntryPlan<'static>)) -> Case {
    Case::of(&blob().entry(change))
}

/// Edits the first entry of the finished bundle.
fn edited(edit: impl FnOnce(&mut Value)) -> Case {
    Case::of(&blob()).edited(|bundle| edit(&mut bundle["verificationMaterial"]["tlogEntries"][0]))
}

fn edited_v2(edit: impl FnOnce(&mut Value)) -> Case {
    let draft = blob().rekor2(World::shared());
    Case::of(&draft).edited(|bundle| edit(&mut bundle["verificationMaterial"]["tlogEntries"][0]))
}

#[test]
fn no_entry_at_all() {
    Case::of(&blob().stamped(World::shared()).with(|draft| draft.entries.clear())).denied(Code::LogEntryMissing);
}

#[test]
fn a_signed_entry_timestamp_alone_from_v0_2_on() {
    for version in [Version::V02, Version::V03] {
        let draft = blob().with(|draft| draft.version = version).entry(|entry| entry.proof = false);
        Case::of(&draft).denied(Code::InclusionMissing);
        Case::of(&draft.stamped(World::shared())).denied(Code::InclusionMissing);
    }
}

#[test]
fn a_signed_entry_timestamp_alone_in_v0_1_passes() {
    let draft = blob().with(|draft| draft.version = Version::V01).entry(|entry| entry.proof = false);
    Case::of(&draft).passes();
}

#[test]
fn neither_proof_nor_promise() {
    for version in [Version::V01, Version::V02, Version::V03] {
        let draft = blob().stamped(World::shared()).with(|draft| draft.version = version).entry(|entry| {
            entry.proof = false;
            entry.promise = false;
        });
        Case::of(&draft).denied(Code::InclusionMissing);
    }
}

#[test]
fn a_forged_signed_entry_timestamp() {
    for version in [Version::V01, Version::V02, Version::V03] {
        Case::of(&blob().with(|draft| draft.version = version))
            .edited(|bundle| {
                let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
                entry["integratedTime"] = json!(after(5).as_second().to_string());
            })
            .denied(Code::SetInvalid);
    }
}

#[test]
fn a_proof_without_any_trusted_time() {
    // The integrated time stands there, but nobody signed it.
    entry(|entry| entry.promise = false).denied(Code::TimeMissing);
    Case::of(&blob().entry(|entry| entry.promise = false).stamped(World::shared())).passes();
}

#[test]
fn a_checkpoint_by_another_key() {
    let world = World::shared();
    entry(|entry| entry.checkpoint.key = Some(&world.stranger_rekor.key)).denied(Code::CheckpointInvalid);
    entry(|entry| entry.checkpoint.key = Some(&world.ct)).denied(Code::CheckpointInvalid);
    entry(|entry| entry.checkpoint.forged = true).denied(Code::CheckpointInvalid);
    let v2 = blob().rekor2(world).entry(|entry| entry.checkpoint.key = Some(&world.stranger_rekor2.key));
    Case::of(&v2).denied(Code::CheckpointInvalid);
}

#[test]
fn a_checkpoint_with_another_hint() {
    entry(|entry| entry.checkpoint.hint = Some([0; 4])).denied(Code::CheckpointInvalid);
    let v2 = blob().rekor2(World::shared()).entry(|entry| entry.checkpoint.hint = Some([0; 4]));
    Case::of(&v2).denied(Code::CheckpointInvalid);
}

#[test]
fn a_checkpoint_of_another_origin() {
    // Signed by the right key: only the name tells that it is about another tree.
    entry(|entry| entry.checkpoint.origin = Some("other.example - 1".to_owned())).denied(Code::CheckpointInvalid);
    let v2 = |origin: &str| {
        let origin = Some(origin.to_owned());
        Case::of(&blob().rekor2(World::shared()).entry(|entry| entry.checkpoint.origin = origin))
    };
    v2("other.example").denied(Code::CheckpointInvalid);
    v2("log2025.rekor.world.test.evil.example").denied(Code::CheckpointInvalid);
}

#[test]
fn a_checkpoint_signed_under_another_name() {
    entry(|entry| entry.checkpoint.name = Some("other.example".to_owned())).denied(Code::CheckpointInvalid);
}

#[test]
fn a_checkpoint_that_only_a_stranger_signed() {
    entry(|entry| {
        entry.checkpoint.unsigned = true;
        entry.checkpoint.witnesses_after = vec!["witness.example".to_owned()];
    })
    .denied(Code::CheckpointInvalid);
}

#[test]
fn a_checkpoint_over_another_root() {
    // The proof is of one tree, the checkpoint of another, each good in itself.
    let other = blob().entry(|entry| entry.tree_size = 14).bundle();
    let other = &other["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"];
    edited(|entry| entry["inclusionProof"]["checkpoint"] = other.clone()).denied(Code::InclusionInvalid);
}

#[test]
fn an_unknown_co_signature_beside_a_good_one_passes_in_any_order() {
    let world = World::shared();
    let witnesses = vec!["witness.example".to_owned(), "other.example".to_owned()];
    for draft in [blob(), blob().rekor2(world)] {
        let draft = draft.entry(|entry| entry.checkpoint.witnesses_before = witnesses.clone());
        Case::of(&draft).passes();
        let draft = draft.entry(|entry| entry.checkpoint.witnesses_after = witnesses.clone());
        Case::of(&draft).passes();
        let draft = draft.entry(|entry| entry.checkpoint.witnesses_before.clear());
        Case::of(&draft).passes();
    }
}

#[test]
fn a_checkpoint_that_is_no_signed_note() {
    for damage in [
        |note: &str| note.replacen("\n\n", "\n", 1),
        |note: &str| note.replacen("\u{2014} ", "- ", 1),
        |note: &str| note.split_once('\n').unwrap().1.to_owned(),
        |note: &str| note.replacen("\n13\n", "\n013\n", 1),
        |note: &str| note.replacen("\n13\n", "\n-13\n", 1),
        |_: &str| String::new(),
    ] {
        let output = edited(|entry| {
            let note = &mut entry["inclusionProof"]["checkpoint"]["envelope"];
            *note = json!(damage(note.as_str().unwrap()));
        })
        .run();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    }
    edited(|entry| entry["inclusionProof"]["checkpoint"]["envelope"] = json!("no note"))
        .denied(Code::CheckpointMalformed);
}

#[test]
fn a_proof_without_a_checkpoint() {
    edited(|entry| drop(entry["inclusionProof"].as_object_mut().unwrap().remove("checkpoint")))
        .denied(Code::InclusionMissing);
}

#[test]
fn a_proof_with_a_hash_too_many() {
    let longer = |entry: &mut Value| {
        let hashes = entry["inclusionProof"]["hashes"].as_array_mut().unwrap();
        hashes.push(hashes[0].clone());
    };
    edited(longer).denied(Code::InclusionInvalid);
    edited_v2(longer).denied(Code::InclusionInvalid);
}

#[test]
fn a_proof_with_a_hash_too_few() {
    let shorter = |entry: &mut Value| drop(entry["inclusionProof"]["hashes"].as_array_mut().unwrap().pop());
    edited(shorter).denied(Code::InclusionInvalid);
    edited_v2(shorter).denied(Code::InclusionInvalid);
}

#[test]
fn a_proof_with_a_short_hash() {
    edited(|entry| entry["inclusionProof"]["hashes"][0] = json!("AAAA")).denied(Code::LogEntryMalformed);
}

#[test]
fn a_proof_for_another_index() {
    edited(|entry| entry["inclusionProof"]["logIndex"] = json!("4")).denied(Code::InclusionInvalid);
}

#[test]
fn an_index_at_or_past_the_size() {
    for index in ["13", "14", "9223372036854775807"] {
        edited(|entry| entry["inclusionProof"]["logIndex"] = json!(index)).denied(Code::InclusionInvalid);
    }
}

#[test]
fn size_zero() {
    edited(|entry| {
        entry["inclusionProof"]["treeSize"] = json!("0");
        entry["inclusionProof"]["logIndex"] = json!("0");
    })
    .denied(Code::InclusionInvalid);
}

#[test]
fn a_negative_index() {
    edited(|entry| entry["logIndex"] = json!("-1")).denied(Code::LogEntryMalformed);
    edited(|entry| entry["inclusionProof"]["logIndex"] = json!("-1")).denied(Code::LogEntryMalformed);
    edited(|entry| entry["inclusionProof"]["treeSize"] = json!("-13")).denied(Code::LogEntryMalformed);
}

#[test]
fn an_index_of_rekor_v2_unlike_the_proofs() {
    edited_v2(|entry| entry["logIndex"] = json!("6")).denied(Code::LogEntryMalformed);
}

#[test]
fn a_tree_of_one_entry_passes() {
    entry(|entry| (entry.index, entry.tree_size) = (0, 1)).passes();
}

#[test]
fn every_place_in_a_small_tree_passes() {
    for tree_size in 1..9 {
        for index in 0..tree_size {
            entry(|entry| (entry.index, entry.tree_size) = (index, tree_size)).passes();
        }
    }
}

#[test]
fn an_unknown_log_id() {
    entry(|entry| entry.log = &World::shared().stranger_rekor).denied(Code::LogUnknown);
    entry(|entry| entry.log_id = Some(vec![7; 32])).denied(Code::LogUnknown);
    let v2 = blob().rekor2(World::shared()).entry(|entry| entry.log = &World::shared().stranger_rekor2);
    Case::of(&v2).denied(Code::LogUnknown);
}

#[test]
fn a_shortened_log_id() {
    let id = World::shared().rekor.id;
    for length in [4, 31] {
        entry(|entry| entry.log_id = Some(id[..length].to_vec())).denied(Code::LogUnknown);
    }
    entry(|entry| entry.log_id = Some(Vec::new())).denied(Code::LogEntryMalformed);
    entry(|entry| entry.log_id = Some([id.as_slice(), &[0]].concat())).denied(Code::LogUnknown);
}

#[test]
fn another_log_of_the_trust_root_than_the_one_that_signed() {
    let world = World::shared();
    let id = world.rekor2.id.to_vec();
    let output = entry(|entry| entry.log_id = Some(id)).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_log_body_that_names_another_signature() {
    let other = "MEUCIQDUSI0NYvSpKCBRB4A2ZL93KGIGWzhNJoenUgKlngYM0AIgOymyrPfQZNNxu0A4b+neR8k57kD7A8WuzcQqSxMhXIQ=";
    assert_eq!(other.len(), 96);
    entry(|entry| {
        entry.change_body = Some(|body| {
            body["spec"]["signature"]["content"] = json!(
                "MEUCIQDUSI0NYvSpKCBRB4A2ZL93KGIGWzhNJoenUgKlngYM0AIgOymyrPfQZNNxu0A4b+neR8k57kD7A8WuzcQqSxMhXIQ="
            );
        });
    })
    .denied(Code::LogEntryMismatch);
}

#[test]
fn a_log_body_that_names_another_certificate() {
    entry(|entry| {
        entry.change_body = Some(|body| {
            let other = Draft::bundle(&blob());
            let other = &other["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"];
            body["spec"]["signature"]["publicKey"] = decoded(other)["spec"]["signature"]["publicKey"].clone();
        });
    })
    .denied(Code::LogEntryMismatch);
    let v2 = blob().rekor2(World::shared()).entry(|entry| {
        entry.change_body = Some(|body| {
            let other = blob().bundle()["verificationMaterial"]["certificate"]["rawBytes"].clone();
            body["spec"]["hashedRekordV002"]["signature"]["verifier"]["x509Certificate"]["rawBytes"] = other;
        });
    });
    Case::of(&v2).denied(Code::LogEntryMismatch);
}

#[test]
fn a_log_body_that_names_another_digest() {
    entry(|entry| {
        entry.change_body = Some(|body| body["spec"]["data"]["hash"]["value"] = json!("ab".repeat(32)));
    })
    .denied(Code::LogEntryMismatch);
    let attested = attestation().entry(|entry| {
        entry.change_body = Some(|body| body["spec"]["payloadHash"]["value"] = json!("ab".repeat(32)));
    });
    Case::of(&attested).denied(Code::LogEntryMismatch);
}

#[test]
fn a_log_body_that_names_another_algorithm() {
    entry(|entry| {
        entry.change_body = Some(|body| body["spec"]["data"]["hash"]["algorithm"] = json!("sha512"));
    })
    .denied(Code::LogEntryMalformed);
    // The artifact's own digest, but not by the algorithm of the signature.
    entry(|entry| {
        entry.change_body = Some(|body| {
            body["spec"]["data"]["hash"] =
                json!({ "algorithm": "sha512", "value": hex::encode(sha2::Sha512::digest(ARTIFACT)) });
        });
    })
    .denied(Code::LogEntryMismatch);
    let v2 = blob().rekor2(World::shared()).entry(|entry| {
        entry.change_body = Some(|body| {
            body["spec"]["hashedRekordV002"]["signature"]["verifier"]["keyDetails"] = json!("PKIX_ED25519");
        });
    });
    Case::of(&v2).denied(Code::LogEntryMismatch);
}

#[test]
fn a_log_body_of_another_kind_than_the_entry_says() {
    edited(|entry| entry["kindVersion"]["kind"] = json!("dsse")).denied(Code::LogEntryMismatch);
    edited(|entry| entry["kindVersion"]["version"] = json!("0.0.9")).denied(Code::LogEntryMismatch);
}

#[test]
fn a_log_body_of_an_unknown_kind() {
    let unknown: fn(&mut Value) = |body| body["kind"] = json!("rpm");
    Case::of(&blob().entry(|entry| entry.change_body = Some(unknown)))
        .edited(|bundle| bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"]["kind"] = json!("rpm"))
        .denied(Code::LogEntryMalformed);
}

#[test]
fn an_attestation_logged_as_something_else() {
    for kind in [Kind::Dsse001, Kind::Intoto002] {
        let draft = attestation().entry(|entry| {
            entry.kind = kind;
            entry.change_body = Some(|body| {
                let spec = &mut body["spec"];
                for path in ["/signatures/0/verifier", "/content/envelope/signatures/0/publicKey"] {
                    if let Some(verifier) = spec.pointer_mut(path) {
                        let other = blob().bundle();
                        let other = &other["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"];
                        *verifier = decoded(other)["spec"]["signature"]["publicKey"]["content"].clone();
                    }
                }
            });
        });
        Case::of(&draft).denied(Code::LogEntryMismatch);
    }
}

#[test]
fn the_entry_of_another_bundle() {
    // Good in itself, proved and promised, but for another run of the same workflow.
    let other = World::shared().blob(ARTIFACT, &signer()).bundle();
    edited(|entry| *entry = other["verificationMaterial"]["tlogEntries"][0].clone()).denied(Code::LogEntryMismatch);
}

#[test]
fn a_second_entry_that_is_bad() {
    let world = World::shared();
    let second = |change: fn(&mut EntryPlan<'static>)| {
        let mut plan = EntryPlan::v1(&world.rekor, Kind::HashedRekord001, after(8));
        plan.index = 7;
        change(&mut plan);
        Case::of(&blob().with(|draft| draft.entries.push(plan)))
    };
    second(|_| ()).passes();
    second(|plan| plan.log = &World::shared().stranger_rekor).denied(Code::LogUnknown);
    second(|plan| plan.checkpoint.forged = true).denied(Code::CheckpointInvalid);
    second(|plan| plan.proof = false).denied(Code::InclusionMissing);
    second(|plan| plan.integrated_at = Some(after(3600))).denied(Code::CertificateExpired);
    second(|plan| {
        plan.change_body = Some(|body| body["spec"]["data"]["hash"]["value"] = json!("ab".repeat(32)));
    })
    .denied(Code::LogEntryMismatch);
}

fn decoded(body: &Value) -> Value {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.decode(body.as_str().unwrap()).unwrap();
    serde_json::from_slice(&body).unwrap()
}
