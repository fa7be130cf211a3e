//! What spares work where the answer is the same, for DebVisor's own policies alone.
//!
//! A run over a release asks the same question of a thousand files that one signer signed on one day. The embedded
//! policies read little of their input, so two inputs that agree in all that they read have one answer. Only a plain
//! "allow" is remembered: a denial names its evidence, and is worked out each time.
//! Invariant: whatever an embedded policy may read stands in [`question`]; tests hold the two together. A policy of
//! a user's own may read anything, and is always evaluated.

use std::collections::HashSet;
use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

use crate::types::Digest;

/// Questions that were answered by a plain "allow".
#[derive(Debug, Default)]
pub(super) struct Allowed(Mutex<HashSet<Digest>>);

impl Allowed {
    pub(super) fn contains(&self, question: &Digest) -> bool {
        self.0.lock().is_ok_and(|known| known.contains(question))
    }

    pub(super) fn insert(&self, question: Digest) {
        if let Ok(mut known) = self.0.lock() {
            known.insert(question);
        }
    }
}

/// Everything of an input that an embedded policy may read, as one digest; none where it cannot be written down, so that
/// nothing is remembered of it.
pub(super) fn question(input: &Value) -> Option<Digest> {
    #[derive(Serialize)]
    struct Read<'a> {
        expected: &'a Value,
        kind: &'a Value,
        signatures: Vec<Signature<'a>>,
        signed: Vec<Option<&'a Value>>,
        sbom: bool,
        vex: bool,
        now: &'a Value,
    }
    #[derive(Serialize)]
    struct Signature<'a> {
        signer: Option<&'a Value>,
        attestation: Option<Attestation<'a>>,
    }
    #[derive(Serialize)]
    struct Attestation<'a> {
        predicate_type: Option<&'a Value>,
        provenance: Option<&'a Value>,
        summary: Option<&'a Value>,
    }

    let at = |pointer: &str| input.pointer(pointer).unwrap_or(&Value::Null);
    let each = |pointer: &str| at(pointer).as_array().into_iter().flatten();
    // Documents are asked for by whether there is one.
    let there = |pointer: &str| at(pointer).as_object().is_some_and(|document| !document.is_empty());
    let read = Read {
        expected: at("/expected"),
        kind: at("/subject/kind"),
        signatures: each("/facts/signatures")
            .map(|signature| Signature {
                signer: signature.get("signer"),
                attestation: signature.get("attestation").filter(|value| value.is_object()).map(|attestation| {
                    Attestation {
                        predicate_type: attestation.get("predicate_type"),
                        provenance: attestation.get("provenance"),
                        summary: attestation.get("summary"),
                    }
                }),
            })
            .collect(),
        signed: each("/facts/checksums").map(|listing| listing.get("signed")).collect(),
        sbom: there("/facts/sbom"),
        vex: there("/facts/vex"),
        now: at("/now"),
    };
    Some(Digest::sha256(&serde_json::to_vec(&read).ok()?))
}

/// Whether neither the builders nor the summary rules have anything to say: nobody asked for a builder, none stands in
/// for a signer, and no summary is among the evidence. Their rules are empty then, and need not be loaded.
pub(super) fn is_plain(input: &Value) -> bool {
    let expected = |member: &str| input.pointer("/expected").and_then(|expected| expected.get(member));
    let unasked = |member: &str| matches!(expected(member), Some(Value::Null));
    let empty = |member: &str| expected(member).and_then(Value::as_array).is_some_and(Vec::is_empty);
    let signatures = input.pointer("/facts/signatures").and_then(Value::as_array);
    unasked("builder_id")
        && unasked("source_uri")
        && unasked("policy_digest")
        && empty("verifier_ids")
        && expected("deny_self_hosted_runners") == Some(&Value::Bool(false))
        && signatures.is_some_and(|signatures| {
            signatures.iter().all(|signature| signature.pointer("/attestation/summary").is_none_or(Value::is_null))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::release::policy::builtin::{PARTS, find};
    use crate::release::policy::{PolicySet, builtin};

    /// The members of the input that [`question`] leaves out. No embedded policy of these sets may name one.
    const UNREAD: [&str; 11] = [
        "input.subject.",
        "\"subject\", \"name\"",
        "\"subject\", \"digest\"",
        ".times",
        ".logs",
        ".payload_digest",
        ".subject_name",
        ".subjects",
        "facts.log",
        "facts.signer",
        "trust_root",
    ];

    #[test]
    fn the_embedded_policies_read_nothing_that_the_question_leaves_out() {
        for name in ["release", "builders", "admission"] {
            for part in find(name).unwrap().parts {
                let files = PARTS.iter().find(|known| known.name == *part).unwrap().files;
                for (file, text) in files.iter().filter(|(file, _)| !file.ends_with("_test.rego")) {
                    for unread in UNREAD {
                        assert!(!text.contains(unread), "{file} reads {unread}");
                    }
                    for (place, _) in text.match_indices(".predicate") {
                        assert!(text[place..].starts_with(".predicate_type"), "{file} reads the predicate itself");
                    }
                }
            }
        }
    }

    #[test]
    fn a_plain_input_has_the_same_answer_with_and_without_builders_and_summaries() {
        let whole = PolicySet::from_sources(
            "release",
            find("release").unwrap().parts.iter().flat_map(|part| builtin::part_files(part)).collect(),
        )
        .unwrap();
        let own = PolicySet::builtin("release").unwrap();
        let expected = |named: bool| {
            json!({
                "certificate_identity": named.then_some("me"), "certificate_oidc_issuer": named.then_some("them"),
                "certificate_identity_regexp": null, "certificate_oidc_issuer_regexp": null, "key": false,
                "openpgp": false, "predicate_type": null, "source_uri": null, "source_branch": null,
                "source_tag": null, "source_versioned_tag": null, "builder_id": null, "package_name": null,
                "package_version": null, "deny_self_hosted_runners": false, "require": ["sbom"],
                "policy_digest": null, "verifier_ids": [],
            })
        };
        let signature = json!({"evidence": "a", "signer": {"kind": "certificate", "identity": "me", "issuer": "them",
            "claims": {}}, "times": [], "logs": [], "attestation": null});
        for named in [true, false] {
            for signatures in [json!([]), json!([signature])] {
                for sbom in [json!({}), json!({"kind": "sbom"})] {
                    let input = json!({"subject": {"name": "a", "digest": {}}, "expected": expected(named),
                        "facts": {"signatures": signatures, "checksums": [], "sbom": sbom, "vex": {}},
                        "trust_root": null, "now": "2026-01-01T00:00:00Z"});
                    assert!(is_plain(&input));
                    let codes = |set: &PolicySet| {
                        set.evaluate(&input).denials.into_iter().map(|reason| reason.code).collect::<Vec<_>>()
                    };
                    assert_eq!(codes(&own), codes(&whole), "{input}");
                    // The second answer comes from memory, and is no other.
                    assert_eq!(codes(&own), codes(&whole), "{input}");
                }
            }
        }
    }

    #[test]
    fn whatever_asks_for_a_builder_or_carries_a_summary_is_not_plain() {
        let plain = json!({"expected": {"builder_id": null, "source_uri": null, "policy_digest": null,
            "verifier_ids": [], "deny_self_hosted_runners": false}, "facts": {"signatures": [{"attestation": null}]}});
        assert!(is_plain(&plain));
        for (pointer, value) in [
            ("/expected/builder_id", json!("b")),
            ("/expected/source_uri", json!("s")),
            ("/expected/policy_digest", json!("d")),
            ("/expected/verifier_ids", json!(["v"])),
            ("/expected/deny_self_hosted_runners", json!(true)),
            ("/facts/signatures/0/attestation", json!({"summary": {}})),
            ("/facts", json!({})),
            ("/expected", json!({})),
        ] {
            let mut other = plain.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(!is_plain(&other), "{pointer}");
        }
    }
}
