# What makes a SLSA verification summary (VSA) count: it says PASSED, still holds, and was made by whom and under what
# was asked. Every summary among the evidence must hold: a recorded "no" is a "no", whoever else signs.
package debvisor.summary

import rego.v1

signatures := object.get(input, ["facts", "signatures"], [])

expected := object.get(input, "expected", {})

summaries contains index if {
	some index, signature in signatures
	is_object(signature.attestation.summary)
}

deny contains {
	"code": "decision-denied",
	"msg": sprintf("the summary by `%s` says %s", [summary.verifier_id, summary.result]),
	"evidence": signatures[index].evidence,
} if {
	some index in summaries
	summary := signatures[index].attestation.summary
	summary.result != "PASSED"
}

deny contains {
	"code": "decision-expired",
	"msg": sprintf("the summary held until %s", [summary.expires_at]),
	"evidence": signatures[index].evidence,
} if {
	some index in summaries
	summary := signatures[index].attestation.summary
	is_string(summary.expires_at)
	time.parse_rfc3339_ns(summary.expires_at) <= time.parse_rfc3339_ns(input.now)
}

deny contains {
	"code": "decision-policy",
	"msg": sprintf("the summary was made under the policy `%s` with digest %s, not under %s", [
		summary.policy_uri,
		object.get(summary, "policy_digest", null),
		expected.policy_digest,
	]),
	"evidence": signatures[index].evidence,
} if {
	some index in summaries
	summary := signatures[index].attestation.summary
	is_string(expected.policy_digest)
	object.get(summary, "policy_digest", null) != expected.policy_digest
}

deny contains {
	"code": "decision-policy",
	"msg": sprintf("the summary is by `%s`, which is no verifier that was asked for", [summary.verifier_id]),
	"evidence": signatures[index].evidence,
} if {
	some index in summaries
	summary := signatures[index].attestation.summary
	count(object.get(expected, "verifier_ids", [])) > 0
	not summary.verifier_id in expected.verifier_ids
}
