# debvisor policy test release
package debvisor.release_test

import rego.v1

import data.debvisor.release

workflow := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2"

generator := "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml@refs/tags/v2.1.0"

certificate(identity) := {
	"kind": "certificate",
	"identity": identity,
	"issuer": "https://token.actions.githubusercontent.com",
	"claims": {
		"source_repository_uri": "https://github.com/acme/hyperdeck",
		"runner_environment": "github-hosted",
	},
}

signature(signer, attestation) := {"evidence": "a.sigstore.json", "signer": signer, "attestation": attestation}

attestation(type) := {"predicate_type": type, "provenance": null, "summary": null}

provenance(builder) := {
	"predicate_type": "https://slsa.dev/provenance/v1",
	"provenance": {"builder_id": builder},
	"summary": null,
}

named := {
	"certificate_identity": workflow,
	"certificate_oidc_issuer": "https://token.actions.githubusercontent.com",
}

codes(expected, signatures) := {reason.code |
	some reason in release.deny with input as {"expected": expected, "facts": {"signatures": signatures}}
}

asked(more) := object.union(named, more)

test_signature_by_a_named_identity if codes(named, [signature(certificate(workflow), null)]) == set()

test_signature_by_regexps if {
	expected := {"certificate_identity_regexp": ".*", "certificate_oidc_issuer_regexp": ".*"}
	codes(expected, [signature(certificate(workflow), null)]) == set()
}

test_signature_by_a_key if codes({"key": true}, [signature({"kind": "key"}, null)]) == set()

test_signature_by_openpgp if codes({"openpgp": true}, [signature({"kind": "openpgp"}, null)]) == set()

test_signature_of_another_kind_than_asked if {
	codes({"openpgp": true}, [signature({"kind": "key"}, null)]) == {"identity-required"}
}

test_no_signature if codes(named, []) == {"signature-required"}

test_signed_list if {
	count(release.deny) == 0 with input as {
		"expected": {"openpgp": true},
		"facts": {"signatures": [], "checksums": [{"signed": true}]},
	}
}

test_unsigned_list if {
	some reason in release.deny with input as {
		"expected": {"openpgp": true},
		"facts": {"signatures": [], "checksums": [{"signed": false}]},
	}
	reason.code == "signature-required"
}

test_signed_list_where_a_signature_is_asked_for if {
	some reason in release.deny with input as {
		"expected": {"openpgp": true, "require": ["signature"]},
		"facts": {"signatures": [], "checksums": [{"signed": true}]},
	}
	reason.code == "signature-required"
}

test_nobody_named if codes({}, [signature(certificate(workflow), null)]) == {"identity-required"}

test_identity_without_issuer if {
	codes({"certificate_identity": workflow}, [signature(certificate(workflow), null)]) == {"identity-required"}
}

test_builder_in_place_of_a_signer if {
	codes({"source_uri": "github.com/acme/hyperdeck"}, [signature(certificate(generator), provenance(generator))]) == set()
}

test_builder_without_a_source if {
	codes({"builder_id": generator}, [signature(certificate(generator), provenance(generator))]) == {
		"identity-required",
		"provenance-missing",
	}
}

test_source_without_provenance if {
	codes({"source_uri": "github.com/acme/hyperdeck"}, [signature(certificate(workflow), null)]) == {
		"identity-required",
		"provenance-missing",
	}
}

test_untrusted_builder_is_left_to_the_builders_policy if {
	codes({"source_uri": "github.com/acme/hyperdeck"}, [signature(certificate(workflow), provenance(workflow))]) == set()
}

test_predicate_type if {
	expected := asked({"predicate_type": "https://cyclonedx.org/bom"})
	bom := signature(certificate(workflow), attestation("https://cyclonedx.org/bom"))
	vex := signature(certificate(workflow), attestation("https://openvex.dev/ns/v0.2.0"))
	codes(expected, [vex, bom]) == set()
	codes(expected, [vex]) == {"predicate-type-mismatch"}
	codes(expected, [signature(certificate(workflow), null)]) == {"attestation-missing"}
}

test_provenance_asked_for if {
	every field in [
		"source_uri", "source_branch", "source_tag", "source_versioned_tag", "builder_id", "package_name",
		"package_version",
	] {
		expected := asked({field: "x"})
		codes(expected, [signature(certificate(workflow), null)]) == {"provenance-missing"}
		codes(expected, [signature(certificate(workflow), provenance(workflow))]) == set()
	}
}

test_required_documents if {
	expected := asked({"require": ["provenance", "sbom", "vex"]})
	codes(expected, [signature(certificate(workflow), null)]) == {"provenance-required", "sbom-required", "vex-required"}
	codes(expected, [
		signature(certificate(workflow), provenance(workflow)),
		signature(certificate(workflow), attestation("https://spdx.dev/Document/v2.3")),
		signature(certificate(workflow), attestation("https://openvex.dev/ns/v0.2.0")),
	]) == set()
}

test_documents_of_the_release if {
	count(release.deny) == 0 with input as {
		"expected": {"openpgp": true, "require": ["sbom", "vex"]},
		"facts": {
			"signatures": [signature({"kind": "openpgp"}, null)],
			"sbom": {"format": "cyclonedx"},
			"vex": {"format": "openvex"},
		},
	}
}

test_documents_by_somebody_else_do_not_count if {
	codes({"key": true, "require": ["sbom"]}, [
		signature({"kind": "key"}, null),
		signature(certificate(workflow), attestation("https://cyclonedx.org/bom")),
	]) == {"sbom-required"}
}
