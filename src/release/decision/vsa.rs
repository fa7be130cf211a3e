//! A decision as a SLSA verification summary (VSA): a report in, one predicate a subject out.
//! Reading it back is evidence's part (`evidence::provenance`), judging it the policy's (`policies/summary.rego`).
//! Invariant: no clock and no key. The caller says until when the summary holds, and signs it.
//!
//! Source: slsa.dev/spec/v1.1/verification_summary. Our own member is the expiry, under a URI of its own as in-toto
//! asks of extensions: a summary that nobody can withdraw has to end by itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Decision, PolicyReference, Report, SubjectReport};
pub use crate::release::evidence::provenance::{SUMMARY_EXPIRY, SUMMARY_V1};

/// Who decided, and until when the decision holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The verifier's URI: whoever runs this, not the program.
    pub verifier_id: String,
    /// Until when the summary may be relied on.
    pub expires_at: Timestamp,
}

/// One subject's summary. Only "allow" is PASSED; an open question is a no to everybody who relies on this later.
pub fn predicate(report: &Report, subject: &SubjectReport, issuer: &Issuer) -> Value {
    let passed = passed(report, subject);
    let mut predicate = json!({
        "verifier": {
            "id": issuer.verifier_id,
            "version": {"debvisor": env!("CARGO_PKG_VERSION")},
        },
        "timeVerified": report.decided_at,
        "resourceUri": resource_uri(subject),
        "policy": report.policy.as_ref().map_or_else(|| json!({"uri": "debvisor:policy/none"}), policy),
        "inputAttestations": input_attestations(&subject.facts),
        "verificationResult": if passed { "PASSED" } else { "FAILED" },
        // A level is a judgment over the whole build track; a policy that passed has not made one.
        "verifiedLevels": [if passed { "SLSA_BUILD_LEVEL_UNEVALUATED" } else { "FAILED" }],
        "slsaVersion": "1.1",
    });
    if let Value::Object(members) = &mut predicate {
        members.insert(SUMMARY_EXPIRY.to_owned(), json!(expires_at(&subject.facts, issuer)));
    }
    predicate
}

/// A decision that rests on earlier summaries ends with the first of them: passing one on does not prolong it.
fn expires_at(facts: &Value, issuer: &Issuer) -> Timestamp {
    let signatures = facts.get("signatures").and_then(Value::as_array);
    let earlier = signatures.into_iter().flatten().filter_map(|signature| {
        signature.get("attestation")?.get("summary")?.get("expires_at")?.as_str()?.parse().ok()
    });
    earlier.fold(issuer.expires_at, Ord::min)
}

/// Whether this very subject was allowed: nothing speaks against it, and nothing against the run as a whole.
fn passed(report: &Report, subject: &SubjectReport) -> bool {
    let concerned = report.reasons.iter().filter(|reason| {
        report.subjects.len() < 2 || reason.subject.as_deref().is_none_or(|name| name == subject.name)
    });
    subject.decision == Decision::Allow && Decision::from_reasons(concerned) == Decision::Allow
}

/// A package URL without a registry: the file's own name and what it holds.
fn resource_uri(subject: &SubjectReport) -> String {
    let base = subject.name.rsplit('/').next().unwrap_or_default();
    let name: String = url::form_urlencoded::byte_serialize(base.as_bytes()).collect::<String>().replace('+', "%20");
    let checksums: Vec<String> =
        subject.digest.iter().map(|(algorithm, digest)| format!("{algorithm}:{digest}")).collect();
    format!("pkg:generic/{name}?checksum={}", checksums.join(","))
}

fn policy(policy: &PolicyReference) -> Value {
    let uri = format!("debvisor:policy/{}", policy.name);
    json!({"uri": uri, "digest": {policy.digest.algorithm().name(): policy.digest.to_hex()}})
}

/// The attestations that the decision rests on, each with the digest of what was signed in it.
fn input_attestations(facts: &Value) -> Vec<Value> {
    let signatures = facts.get("signatures").and_then(Value::as_array);
    let found: BTreeSet<(String, String)> = signatures
        .into_iter()
        .flatten()
        .filter_map(|signature| {
            let evidence = signature.get("evidence")?.as_str()?;
            let digest = signature.get("attestation")?.get("payload_digest")?.as_str()?;
            Some((evidence.to_owned(), digest.strip_prefix("sha256:")?.to_owned()))
        })
        .collect();
    found.into_iter().map(|(uri, digest)| json!({"uri": uri, "digest": {"sha256": digest}})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::evidence::provenance::SummaryClaims;
    use crate::types::{Code, Digest, Reason};

    fn subject(name: &str, decision: Decision) -> SubjectReport {
        SubjectReport {
            name: name.to_owned(),
            digest: [("sha256".to_owned(), "00".repeat(32))].into(),
            decision,
            facts: json!({"signatures": [{"evidence": "a.json", "attestation": {"payload_digest": "sha256:aa"}}]}),
        }
    }

    fn issuer() -> Issuer {
        Issuer {
            verifier_id: "https://acme.example/verifier".to_owned(),
            expires_at: "2026-02-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn report(subjects: Vec<SubjectReport>, reasons: Vec<Reason>) -> Report {
        let mut report = Report::new(subjects, reasons, "2026-01-01T00:00:00Z".parse().unwrap());
        report.policy = Some(PolicyReference { name: "release".to_owned(), digest: Digest::sha256(b"policy") });
        report
    }

    #[test]
    fn a_summary_is_read_back_as_it_was_written() {
        let report = report(vec![subject("dist/my app.iso", Decision::Allow)], Vec::new());
        let predicate = predicate(&report, &report.subjects[0], &issuer());
        let claims = SummaryClaims::parse(SUMMARY_V1, &predicate).unwrap().unwrap();
        assert_eq!(claims.result, "PASSED");
        assert_eq!(claims.verifier_id, "https://acme.example/verifier");
        assert_eq!(claims.expires_at.as_deref(), Some("2026-02-01T00:00:00Z"));
        assert_eq!(claims.verified_at, "2026-01-01T00:00:00Z");
        assert_eq!(claims.policy_uri, "debvisor:policy/release");
        assert_eq!(claims.policy_digest, Some(Digest::sha256(b"policy").to_hex()));
        let resource = format!("pkg:generic/my%20app.iso?checksum=sha256:{}", "00".repeat(32));
        assert_eq!(claims.resource_uri, Some(resource));
        assert_eq!(predicate["inputAttestations"], json!([{"uri": "a.json", "digest": {"sha256": "aa"}}]));
    }

    #[test]
    fn an_expiry_that_cannot_be_read_is_not_taken_for_none() {
        let report = report(vec![subject("a", Decision::Allow)], Vec::new());
        let mut predicate = predicate(&report, &report.subjects[0], &issuer());
        for wrong in [json!(null), json!(1), json!(["2026-02-01T00:00:00Z"])] {
            predicate[SUMMARY_EXPIRY] = wrong;
            let reason = SummaryClaims::parse(SUMMARY_V1, &predicate).unwrap_err();
            assert_eq!(reason.code, Code::PredicateMalformed.into());
        }
    }

    #[test]
    fn passing_a_summary_on_does_not_prolong_it() {
        let mut renewed = subject("a", Decision::Allow);
        renewed.facts = json!({"signatures": [
            {"attestation": {"summary": {"expires_at": "2026-01-10T00:00:00Z"}}},
            {"attestation": {"summary": {"expires_at": "2026-03-01T00:00:00Z"}}},
            {"attestation": {"summary": null}},
            {"attestation": null},
        ]});
        let report = report(vec![renewed], Vec::new());
        assert_eq!(predicate(&report, &report.subjects[0], &issuer())[SUMMARY_EXPIRY], "2026-01-10T00:00:00Z");
    }

    #[test]
    fn only_allow_is_passed() {
        let result = |report: &Report, index: usize| {
            predicate(report, &report.subjects[index], &issuer())["verificationResult"].clone()
        };
        for decision in [Decision::Deny, Decision::Undecided] {
            let report = report(vec![subject("a", decision)], Vec::new());
            assert_eq!(result(&report, 0), "FAILED");
        }
        let whole = report(vec![subject("a", Decision::Allow)], vec![Reason::new(Code::EvidenceMissing, "x")]);
        assert_eq!(result(&whole, 0), "FAILED");
    }

    #[test]
    fn of_several_subjects_each_has_its_own_result() {
        let reason = Reason::new(Code::DigestMismatch, "x").subject("b");
        let subjects = vec![subject("a", Decision::Allow), subject("b", Decision::Deny)];
        let one = report(subjects.clone(), vec![reason.clone()]);
        let results = |report: &Report| report.subjects.iter().map(|s| passed(report, s)).collect::<Vec<_>>();
        assert_eq!(results(&one), [true, false]);
        let whole = report(subjects, vec![reason, Reason::new(Code::MalformedBundle, "of the run")]);
        assert_eq!(results(&whole), [false, false]);
    }
}
