# What may boot: a disk image, a kernel, an initrd or firmware. On top of the release policy, which is part of this set,
# somebody must have signed the bytes themselves, or their build, or a decision about them. A signed bill of materials
# says what is inside and not that it may run.
package debvisor.admission

import rego.v1

import data.debvisor.release

signatures := object.get(input, ["facts", "signatures"], [])

expected := object.get(input, "expected", {})

# What an expected signer said about the artifact, of the kinds that release it.
released contains index if {
	some index in release.by_expected_signer
	not is_object(signatures[index].attestation)
}

# cosign signs an image in a registry by a statement that says nothing else.
released contains index if {
	some index in release.by_expected_signer
	signatures[index].attestation.predicate_type == "https://sigstore.dev/cosign/sign/v1"
}

released contains index if {
	some index in release.by_expected_signer
	is_object(signatures[index].attestation.provenance)
}

released contains index if {
	some index in release.by_expected_signer
	is_object(signatures[index].attestation.summary)
}

deny contains {
	"code": "signature-required",
	"msg": "nothing that may boot was signed: neither the image, nor its build, nor a decision about it",
} if {
	count(released) == 0
	not release.listed
}

# A decision is a promise with an end and a reason. One without either is no decision of ours, and nobody can tell
# under which rules it was made.
deny contains {
	"code": "decision-expired",
	"msg": "the summary has no time limit of its own",
	"evidence": signatures[index].evidence,
} if {
	some index in released
	summary := signatures[index].attestation.summary
	is_object(summary)
	not is_string(object.get(summary, "expires_at", null))
}

deny contains {
	"code": "decision-policy",
	"msg": "the summary does not say under which policy it was made",
	"evidence": signatures[index].evidence,
} if {
	some index in released
	summary := signatures[index].attestation.summary
	is_object(summary)
	not is_string(object.get(summary, "policy_digest", null))
}

# What may go into a machine at all. A place that boots disks alone need not fear a firmware, whoever signed it; and
# where kinds are told apart, something of which nobody says what it is has none of them.
kinds := object.get(expected, "kinds", [])

kind := object.get(input, ["subject", "kind"], null)

deny contains {
	"code": "kind-not-admitted",
	"msg": sprintf("the artifact is a %v, and here only these may boot: %s", [kind, concat(", ", kinds)]),
} if {
	count(kinds) > 0
	not kind in kinds
}
