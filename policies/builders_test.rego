# debvisor policy test builders
package debvisor.builders_test

import rego.v1

import data.debvisor.builders

workflows := "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/"

generator := concat("", [workflows, "generator_generic_slsa3.yml@refs/tags/v2.1.0"])

delegator := concat("", [workflows, "delegator_generic_slsa3.yml@refs/tags/v2.1.0"])

maven := concat("", [workflows, "builder_maven_slsa3.yml@refs/tags/v2.1.0"])

publish := "https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml"

jreleaser := "https://github.com/jreleaser/release-action/.github/workflows/builder_slsa3.yml"

source := {"source_uri": "github.com/acme/hyperdeck"}

claims := {"source_repository_uri": "https://github.com/acme/hyperdeck", "runner_environment": "github-hosted"}

built(signer, builder, more) := {
	"evidence": "a.sigstore.json",
	"signer": {
		"kind": "certificate",
		"identity": signer,
		"issuer": "https://token.actions.githubusercontent.com",
		"claims": object.union(claims, more),
	},
	"attestation": {"predicate_type": "https://slsa.dev/provenance/v1", "provenance": {"builder_id": builder}},
}

codes(expected, signatures) := {reason.code |
	some reason in builders.deny with input as {"expected": expected, "facts": {"signatures": signatures}}
}

accepted(expected, signature) if codes(expected, [signature]) == set()

asked(builder) := object.union(source, {"builder_id": builder})

test_builder_on_the_list if accepted(source, built(generator, generator, {}))

test_every_direct_builder if {
	every name in data.trusted_builders.direct {
		id := concat("@", [name, "refs/tags/v1.2.3"])
		accepted(source, built(id, id, {}))
	}
}

test_builder_not_on_the_list if {
	id := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2"
	codes(source, [built(id, id, {})]) == {"builder-untrusted"}
}

test_named_signer_needs_no_builder if {
	id := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/heads/main"
	codes(object.union(source, {"certificate_identity": id}), [built(id, id, {})]) == set() with data.trusted_builders.always as false
	codes(object.union(source, {"certificate_identity_regexp": ".*"}), [built(id, id, {})]) == set() with data.trusted_builders.always as false
}

test_named_signer_names_its_builder if {
	id := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/heads/main"
	named := object.union(source, {"certificate_identity": id})
	codes(named, [built(id, generator, {})]) == {"builder-mismatch"} with data.trusted_builders.always as false
	codes(named, [built(id, concat("", [id, ".evil"]), {})]) == {"builder-mismatch"} with data.trusted_builders.always as false
	codes({"certificate_identity": id, "source_tag": "v1"}, [built(id, generator, {})]) == {"builder-mismatch"} with data.trusted_builders.always as false
	codes({"certificate_identity": id}, [built(id, generator, {})]) == set() with data.trusted_builders.always as false
	codes(named, [built(id, "https://github.com/actions/runner/github-hosted", {})]) == set() with data.trusted_builders.always as false
	codes(named, [built(id, "https://github.com/actions/runner/self-hosted", {})]) == {"builder-mismatch"} with data.trusted_builders.always as false
	codes(object.union(source, {"certificate_identity": delegator}), [built(delegator, maven, {})]) == set() with data.trusted_builders.always as false
	codes(object.union(source, {"certificate_identity": delegator}), [built(delegator, id, {})]) == {"builder-mismatch"} with data.trusted_builders.always as false
}

test_issuer_of_the_list if {
	signature := json.patch(built(generator, generator, {}), [{
		"op": "replace",
		"path": "/signer/issuer",
		"value": "https://token.actions.githubusercontent.com/",
	}])
	codes(source, [signature]) == {"builder-untrusted"}
}

test_builder_as_asked if {
	id := concat("@", [publish, "refs/tags/v0.0.1"])
	accepted(asked(publish), built(id, id, {}))
	accepted(asked(id), built(id, id, {}))
	accepted(asked(concat("@", [publish, "v0.0.1"])), built(id, id, {}))
	codes(asked(concat("@", [publish, "v0.0.2"])), [built(id, id, {})]) == {"builder-mismatch"}
	codes(asked(trim_suffix(publish, "l")), [built(id, id, {})]) == {"builder-mismatch"}
}

test_bazel_builder_has_to_be_named if {
	id := concat("@", [publish, "refs/tags/v0.0.1"])
	codes(source, [built(id, id, {})]) == {"builder-untrusted"}
}

test_predicate_names_another_builder if {
	codes(source, [built(generator, maven, {})]) == {"builder-mismatch"}
	codes(source, [built(generator, concat("", [generator, "0"]), {})]) == {"builder-mismatch"}
}

test_builder_at_a_release_tag_only if {
	every ref in [
		"refs/heads/main", "refs/heads/v2.1.0", "refs/tags/v2.1", "refs/tags/v2.1.0-rc1", "refs/tags/2.1.0",
		"refs/tags/v2.01.0", "v2.1.0", "0123456789abcdef0123456789abcdef01234567",
	] {
		id := concat("", [workflows, "generator_generic_slsa3.yml@", ref])
		codes(source, [built(id, id, {})]) == {"builder-ref"}
	}
}

test_identity_that_is_no_workflow if {
	"builder-mismatch" in codes(source, [built("dev@acme@example", "dev@acme@example", {})])
}

test_delegated_build if {
	accepted(source, built(delegator, maven, {}))
	accepted(asked(split(maven, "@")[0]), built(delegator, maven, {}))
	codes(asked(publish), [built(delegator, maven, {})]) == {"builder-mismatch"}
	codes(source, [built(delegator, "https://github.com/acme/b/.github/workflows/b.yml@refs/tags/v1.0.0", {})]) == {"builder-untrusted"}
	codes(source, [built(delegator, concat("", [workflows, "builder_maven_slsa3.yml@refs/heads/main"]), {})]) == {"builder-ref"}
	codes(source, [built(delegator, concat("", [workflows, "builder_maven_slsa3.yml"]), {})]) == {
		"builder-ref",
		"builder-untrusted",
	}
}

test_jreleaser_tags_by_language if {
	accepted(asked(jreleaser), built(delegator, concat("@", [jreleaser, "refs/tags/v1.0.0-java"]), {}))
	codes(source, [built(delegator, concat("", [workflows, "builder_maven_slsa3.yml@refs/tags/v1.0.0-java"]), {})]) == {"builder-ref"}
}

test_runner if {
	id := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/heads/main"
	hosted := "https://github.com/actions/runner/github-hosted"
	own := "https://github.com/actions/runner/self-hosted"
	accepted(asked(hosted), built(id, hosted, {}))
	accepted(asked("https://github.com/actions/runner"), built(id, hosted, {}))
	accepted(asked(own), built(id, own, {"runner_environment": "self-hosted"}))
	codes(asked(hosted), [built(id, hosted, {"runner_environment": "self-hosted"})]) == {"builder-mismatch"}
	codes(asked(hosted), [built(id, id, {})]) == {"builder-mismatch"}
}

test_source_of_the_certificate if {
	every uri in [
		"github.com/acme/hyperdeck", "https://github.com/acme/hyperdeck", "git+https://github.com/acme/hyperdeck",
		"https://github.com/acme/hyperdeck.git",
	] {
		accepted({"source_uri": uri}, built(generator, generator, {}))
	}
	every uri in [
		"github.com/acme/hyperdeck2", "https://github.com/mallory/hyperdeck", "http://github.com/acme/hyperdeck",
		"https://github.com@evil.example/acme/hyperdeck", "github.com/acme/hyperdeck/",
	] {
		codes({"source_uri": uri}, [built(generator, generator, {})]) == {"source-mismatch"}
	}
}

test_source_of_an_old_certificate if {
	signature := json.remove(built(generator, generator, {"github_workflow_repository": "acme/hyperdeck"}), ["signer/claims/source_repository_uri"])
	accepted(source, signature)
	codes({"source_uri": "github.com/acme/other"}, [signature]) == {"source-mismatch"}
	codes(source, [json.remove(built(generator, generator, {}), ["signer/claims/source_repository_uri"])]) == {"source-mismatch"}
}

test_key_and_builder if {
	signature := {
		"evidence": "a.json",
		"signer": {"kind": "key"},
		"attestation": {"provenance": {"builder_id": "https://acme.example/builder@refs/tags/v1"}},
	}
	every id in ["https://acme.example/builder", "https://acme.example/builder@v1", "https://acme.example/builder@refs/tags/v1"] {
		codes({"key": true, "builder_id": id}, [signature]) == set()
	}
	codes({"key": true, "builder_id": "https://acme.example/build"}, [signature]) == {"builder-mismatch"}
}

test_one_accepted_provenance_is_enough if {
	id := "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2"
	codes(source, [built(id, id, {}), built(generator, generator, {})]) == set()
}

test_no_provenance if {
	signature := object.union(built(generator, generator, {}), {"attestation": null})
	codes(source, [signature]) == {"provenance-missing"}
}

test_always if {
	codes({"key": true}, [{"evidence": "a", "signer": {"kind": "key"}, "attestation": null}]) == {"provenance-missing"} with data.trusted_builders.always as true
}

test_self_hosted_runner if {
	denied := object.union(source, {"deny_self_hosted_runners": true})
	accepted(denied, built(generator, generator, {}))
	accepted(source, built(generator, generator, {"runner_environment": "self-hosted"}))
	codes(denied, [built(generator, generator, {"runner_environment": "self-hosted"})]) == {"self-hosted-runner"}
	codes(denied, [json.remove(built(generator, generator, {}), ["signer/claims/runner_environment"])]) == {"self-hosted-runner"}
}
