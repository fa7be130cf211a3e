# debvisor policy test release
package debvisor.summary_test

import rego.v1

import data.debvisor.summary

passed := {
	"verifier_id": "https://acme.example/debvisor",
	"result": "PASSED",
	"expires_at": "2026-02-01T00:00:00Z",
	"policy_uri": "release",
	"policy_digest": "sha256:aa",
}

codes(expected, summaries) := {reason.code |
	some reason in summary.deny with input as {
		"expected": expected,
		"facts": {"signatures": [{"evidence": "vsa.json", "attestation": {"summary": found}} | some found in summaries]},
		"now": "2026-01-15T12:00:00Z",
	}
}

test_summary_that_holds if {
	codes({}, [passed]) == set()
	codes({"policy_digest": "sha256:aa", "verifier_ids": ["https://acme.example/debvisor"]}, [passed]) == set()
}

test_recorded_no if {
	codes({}, [passed, object.union(passed, {"result": "FAILED"})]) == {"decision-denied"}
	codes({}, [object.union(passed, {"result": "passed"})]) == {"decision-denied"}
}

test_expiry if {
	codes({}, [object.union(passed, {"expires_at": "2026-01-15T12:00:00Z"})]) == {"decision-expired"}
	codes({}, [object.union(passed, {"expires_at": "2026-01-15T12:00:01Z"})]) == set()
	codes({}, [object.union(passed, {"expires_at": null})]) == set()
}

test_policy if {
	codes({"policy_digest": "sha256:bb"}, [passed]) == {"decision-policy"}
	codes({"policy_digest": "sha256:bb"}, [object.remove(passed, ["policy_digest"])]) == {"decision-policy"}
}

test_verifier if codes({"verifier_ids": ["https://other.example"]}, [passed]) == {"decision-policy"}
