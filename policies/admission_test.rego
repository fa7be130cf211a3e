# debvisor policy test admission
package debvisor.admission_test

import rego.v1

import data.debvisor.admission

summary := {"result": "PASSED", "expires_at": "2026-02-01T00:00:00Z", "policy_digest": "sha256:aa"}

codes(attestation) := {reason.code |
	some reason in admission.deny with input as {
		"expected": {"key": true},
		"facts": {"signatures": [{"evidence": "a.json", "signer": {"kind": "key"}, "attestation": attestation}]},
	}
}

test_signed_image if codes(null) == set()

test_image_signed_as_cosign_does if codes({"predicate_type": "https://sigstore.dev/cosign/sign/v1"}) == set()

test_signed_build if codes({"provenance": {"builder_id": "x"}}) == set()

test_decision_about_the_image if codes({"summary": summary}) == set()

test_signed_list if {
	count(admission.deny) == 0 with input as {"expected": {"openpgp": true}, "facts": {"checksums": [{"signed": true}]}}
}

test_bill_of_materials_alone if codes({"predicate_type": "https://cyclonedx.org/bom"}) == {"signature-required"}

test_nothing if {
	some reason in admission.deny with input as {}
	reason.code == "signature-required"
}

test_decision_without_an_end if codes({"summary": object.remove(summary, ["expires_at"])}) == {"decision-expired"}

test_decision_without_a_policy if codes({"summary": object.remove(summary, ["policy_digest"])}) == {"decision-policy"}

test_signer_who_was_not_expected if {
	some reason in admission.deny with input as {
		"expected": {"key": true},
		"facts": {"signatures": [{"signer": {"kind": "openpgp"}, "attestation": null}]},
	}
	reason.code == "signature-required"
}

of_kind(kind, kinds) := {reason.code |
	some reason in admission.deny with input as {
		"subject": {"kind": kind},
		"expected": {"key": true, "kinds": kinds},
		"facts": {"signatures": [{"signer": {"kind": "key"}, "attestation": null}]},
	}
}

test_any_kind_where_none_is_named if of_kind("option-rom", []) == set()

test_named_kind if of_kind("disk", ["disk", "iso"]) == set()

test_another_kind if of_kind("option-rom", ["disk", "iso"]) == {"kind-not-admitted"}

test_nobody_says_which_kind if of_kind(null, ["disk"]) == {"kind-not-admitted"}
