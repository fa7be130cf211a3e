# What a release needs before anybody relies on it: an expected signer, and the evidence that was asked for.
package debvisor.release

import rego.v1

import data.debvisor.builders

signatures := object.get(input, ["facts", "signatures"], [])

expected := object.get(input, "expected", {})

required := object.get(expected, "require", [])

# A signed checksum list covers a file as well as the file's own signature does, unless that is asked for.
listed if {
	some listing in object.get(input, ["facts", "checksums"], [])
	listing.signed == true
	not "signature" in required
}

deny contains {
	"code": "signature-required",
	"msg": "no verified signature covers the artifact",
} if {
	count(signatures) == 0
	not listed
}

# An identity is an account together with whoever vouches for it: the same name at another issuer is somebody else.
identity_named if {
	account_named
	issuer_named
}

account_named if is_string(expected.certificate_identity)

account_named if is_string(expected.certificate_identity_regexp)

issuer_named if is_string(expected.certificate_oidc_issuer)

issuer_named if is_string(expected.certificate_oidc_issuer_regexp)

# The signatures by somebody who was expected to sign, by their place in the facts.
by_expected_signer contains index if {
	some index, signature in signatures
	signature.signer.kind == "certificate"
	identity_named
}

by_expected_signer contains index if {
	some index, signature in signatures
	signature.signer.kind == "key"
	expected.key == true
}

by_expected_signer contains index if {
	some index, signature in signatures
	signature.signer.kind == "openpgp"
	expected.openpgp == true
}

by_expected_signer contains index if {
	some index in builders.accepted
	is_string(expected.source_uri)
}

deny contains {
	"code": "identity-required",
	"msg": "the artifact is signed, but nobody said who was expected to sign it",
} if {
	count(signatures) > 0
	count(by_expected_signer) == 0
	not builder_refused
}

# The builders policy then says why, in better words.
builder_refused if {
	is_string(expected.source_uri)
	builders.asked
	count(builders.candidates) > 0
}

attested contains attestation if {
	some index in by_expected_signer
	attestation := signatures[index].attestation
	is_object(attestation)
}

deny contains {
	"code": "attestation-missing",
	"msg": sprintf("there is no attestation of type `%s`", [expected.predicate_type]),
} if {
	is_string(expected.predicate_type)
	count(attested) == 0
}

deny contains {
	"code": "predicate-type-mismatch",
	"msg": sprintf("no attestation is of type `%s`", [expected.predicate_type]),
} if {
	is_string(expected.predicate_type)
	count(attested) > 0
	every attestation in attested {
		attestation.predicate_type != expected.predicate_type
	}
}

asks_provenance if {
	some field in [
		"source_uri", "source_branch", "source_tag", "source_versioned_tag", "builder_id", "package_name",
		"package_version",
	]
	is_string(expected[field])
}

has_provenance if {
	some attestation in attested
	is_object(attestation.provenance)
}

deny contains {
	"code": "provenance-missing",
	"msg": "something was asked of the provenance, and there is no SLSA provenance by an expected signer",
} if {
	asks_provenance
	not has_provenance
	not builder_refused
}

deny contains {
	"code": "provenance-required",
	"msg": "there is no SLSA provenance by an expected signer",
} if {
	"provenance" in required
	not has_provenance
}

has_predicate(prefixes) if {
	some attestation in attested
	some prefix in prefixes
	startswith(attestation.predicate_type, prefix)
}

# The gate puts a signed document that describes the artifact into the facts; an attestation speaks for itself.
has_document(kind) if count(object.get(input, ["facts", kind], {})) > 0

has_sbom if has_predicate(["https://cyclonedx.org/bom", "https://spdx.dev/Document"])

has_sbom if has_document("sbom")

has_vex if has_predicate(["https://openvex.dev/ns", "https://cyclonedx.org/vex"])

has_vex if has_document("vex")

deny contains {
	"code": "sbom-required",
	"msg": "there is no SBOM of the artifact by an expected signer",
} if {
	"sbom" in required
	not has_sbom
}

deny contains {
	"code": "vex-required",
	"msg": "there is no VEX document about the artifact by an expected signer",
} if {
	"vex" in required
	not has_vex
}
