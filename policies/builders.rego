# Which builder made the provenance: the one that was asked for, or one of the list in builders.json.
#
# The rules are slsa-verifier's. Where no signer is named, a builder that is trusted to write true provenance stands in
# for one, and the source repository says for whom it built. A builder counts at a release tag only: what a branch holds
# tomorrow nobody has looked at. A delegated build is signed by the delegator and names the real builder itself.
package debvisor.builders

import rego.v1

signatures := object.get(input, ["facts", "signatures"], [])

expected := object.get(input, "expected", {})

trusted := data.trusted_builders

# The question arises where a builder was named, where the policy `builders` was chosen (builders-always.json), and where nothing but a builder could vouch for a keyless signature.
asked if is_string(expected.builder_id)

asked if trusted.always == true

asked if {
	is_string(expected.source_uri)
	not signer_named
	some signature in signatures
	signature.signer.kind == "certificate"
}

signer_named if is_string(expected.certificate_identity)

signer_named if is_string(expected.certificate_identity_regexp)

# The signatures over provenance, by their place in the facts.
candidates contains index if {
	some index, signature in signatures
	is_object(signature.attestation.provenance)
}

# Those whose builder is beyond doubt. The release policy lets these stand in for a named signer.
accepted contains index if {
	asked
	some index in candidates
	not problem[index]
}

deny contains {
	"code": "provenance-missing",
	"msg": "a builder has to vouch for the artifact, and there is no SLSA provenance",
} if {
	asked
	count(candidates) == 0
}

# One provenance by an accepted builder is enough; without it, every reason is told.
deny contains reason if {
	asked
	count(accepted) == 0
	some index in candidates
	some found in problem[index]
	reason := object.union(found, {"evidence": signatures[index].evidence})
}

deny contains {
	"code": "self-hosted-runner",
	"msg": sprintf("the build ran on `%s`, not on a hosted runner", [environment]),
	"evidence": signature.evidence,
} if {
	expected.deny_self_hosted_runners == true
	some signature in signatures
	signature.signer.kind == "certificate"
	environment := object.get(signature.signer.claims, "runner_environment", "an unnamed runner")
	environment != "github-hosted"
}

# Who was named as the signer need not be a builder on the list. Yet where anything is asked of provenance, a predicate
# that names another builder than the workflow that signed it claims what the certificate does not say.
provenance_asked if {
	some field in ["source_uri", "source_branch", "source_tag", "source_versioned_tag"]
	is_string(expected[field])
}

deny contains {
	"code": "builder-mismatch",
	"msg": sprintf("the provenance names the builder `%s`, and `%s` signed it", [
		signatures[index].attestation.provenance.builder_id,
		signatures[index].signer.identity,
	]),
	"evidence": signatures[index].evidence,
} if {
	not asked
	provenance_asked
	some index in candidates
	signatures[index].signer.kind == "certificate"
	not names_its_builder(index)
}

names_its_builder(index) if signatures[index].attestation.provenance.builder_id == signatures[index].signer.identity

names_its_builder(index) if {
	index in is_delegated
	delegated_on_list(index)
	delegated_at_tag(index)
}

names_its_builder(index) if {
	environment := signatures[index].signer.claims.runner_environment
	trusted.runners[signatures[index].attestation.provenance.builder_id] == environment
}

# --- what speaks against a candidate ---

# A builder id without a ref asks for any release of the builder; with one, for exactly that.
same_builder(wanted, name, ref) if wanted == name

same_builder(wanted, name, ref) if wanted == concat("@", [name, ref])

same_builder(wanted, name, ref) if wanted == concat("@", [name, trim_prefix(ref, "refs/tags/")])

release_tag(_, ref) if regex.match(`^refs/tags/v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$`, ref)

# JReleaser tags its builder once a language.
release_tag(name, ref) if {
	startswith(name, "https://github.com/jreleaser/release-action/")
	regex.match(`^refs/tags/v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)-java$`, ref)
}

repository(uri) := trim_suffix(concat("", ["https://", trim_prefix(trim_prefix(uri, "git+"), "https://")]), ".git")

# The workflow that signed, and the builder that the provenance names: [name, ref].
signed_by[index] := parts if {
	some index in candidates
	signatures[index].signer.kind == "certificate"
	parts := split(signatures[index].signer.identity, "@")
	count(parts) == 2
}

named[index] := parts if {
	some index in candidates
	parts := split(signatures[index].attestation.provenance.builder_id, "@")
	count(parts) == 2
}

is_delegated contains index if {
	some index, parts in signed_by
	parts[0] in trusted.delegators
}

# npm's provenance names the kind of runner as its builder; the workflow that signed is the project's own.
is_runner contains index if {
	some index in candidates
	not index in is_delegated
	signatures[index].signer.kind == "certificate"
	trusted.runners[expected.builder_id]
}

is_workflow contains index if {
	some index, _ in signed_by
	not index in is_delegated
	not index in is_runner
}

problem[index] contains {
	"code": "builder-untrusted",
	"msg": sprintf("the certificate is by `%s`, whose builders are not known here", [issuer]),
} if {
	some index in candidates
	not signer_named
	signatures[index].signer.kind == "certificate"
	issuer := object.get(signatures[index].signer, "issuer", "")
	issuer != trusted.issuer
}

problem[index] contains {
	"code": "builder-mismatch",
	"msg": "the certificate's identity is no workflow at a ref",
} if {
	some index in candidates
	signatures[index].signer.kind == "certificate"
	not signed_by[index]
}

# Where a builder stands in for the signer, the certificate must say that it built from the repository asked for.
problem[index] contains {
	"code": "source-mismatch",
	"msg": sprintf("the certificate's repository is `%s`, not `%s`", [source, repository(expected.source_uri)]),
} if {
	some index in candidates
	not signer_named
	is_string(expected.source_uri)
	signatures[index].signer.kind == "certificate"
	source := certificate_source(signatures[index].signer.claims)
	source != repository(expected.source_uri)
}

certificate_source(claims) := claims.source_repository_uri

certificate_source(claims) := concat("/", ["https://github.com", claims.github_workflow_repository]) if {
	not claims.source_repository_uri
}

certificate_source(claims) := "none" if {
	not claims.source_repository_uri
	not claims.github_workflow_repository
}

# A workflow signs for itself.
problem[index] contains {
	"code": "builder-untrusted",
	"msg": sprintf("the builder `%s` is not on the list", [signed_by[index][0]]),
} if {
	some index in is_workflow
	not is_string(expected.builder_id)
	not signed_by[index][0] in trusted.direct
}

problem[index] contains {
	"code": "builder-mismatch",
	"msg": sprintf("the builder is `%s`, not `%s`", [signatures[index].signer.identity, expected.builder_id]),
} if {
	some index in is_workflow
	is_string(expected.builder_id)
	not same_builder(expected.builder_id, signed_by[index][0], signed_by[index][1])
}

problem[index] contains {
	"code": "builder-mismatch",
	"msg": sprintf("the provenance names the builder `%s`, and `%s` signed it", [
		signatures[index].attestation.provenance.builder_id,
		signatures[index].signer.identity,
	]),
} if {
	some index in is_workflow
	signatures[index].attestation.provenance.builder_id != signatures[index].signer.identity
}

problem[index] contains {
	"code": "builder-ref",
	"msg": sprintf("the builder `%s` was used at `%s`, which is no release tag", parts),
} if {
	some index, parts in signed_by
	not index in is_runner
	not release_tag("", parts[1])
}

# A delegator signs for the builder that the provenance names.
problem[index] contains {
	"code": "builder-untrusted",
	"msg": sprintf("the delegated builder `%s` is not on the list", [
		signatures[index].attestation.provenance.builder_id,
	]),
} if {
	some index in is_delegated
	not is_string(expected.builder_id)
	not delegated_on_list(index)
}

delegated_on_list(index) if named[index][0] in trusted.delegated

problem[index] contains {
	"code": "builder-mismatch",
	"msg": sprintf("the delegated builder is `%s`, not `%s`", [
		signatures[index].attestation.provenance.builder_id,
		expected.builder_id,
	]),
} if {
	some index in is_delegated
	is_string(expected.builder_id)
	not delegated_as_asked(index)
}

delegated_as_asked(index) if same_builder(expected.builder_id, named[index][0], named[index][1])

problem[index] contains {
	"code": "builder-ref",
	"msg": sprintf("the delegated builder `%s` was used at no release tag", [
		signatures[index].attestation.provenance.builder_id,
	]),
} if {
	some index in is_delegated
	not delegated_at_tag(index)
}

delegated_at_tag(index) if release_tag(named[index][0], named[index][1])

# A runner is what the provenance says and the certificate confirms.
problem[index] contains {
	"code": "builder-mismatch",
	"msg": sprintf("the builder is `%s` on a runner that the certificate calls `%s`, not `%s`", [
		signatures[index].attestation.provenance.builder_id,
		environment,
		expected.builder_id,
	]),
} if {
	some index in is_runner
	environment := object.get(signatures[index].signer.claims, "runner_environment", "nothing")
	not runner_as_asked(signatures[index].attestation.provenance.builder_id, environment)
}

runner_as_asked(id, environment) if {
	trusted.runners[id] == environment
	trusted.runners[expected.builder_id] == environment
}

# A key that the caller named signs for whatever its statement says; the builder still has to be the one asked for.
problem[index] contains {
	"code": "builder-mismatch",
	"msg": sprintf("the builder is `%s`, not `%s`", [
		signatures[index].attestation.provenance.builder_id,
		expected.builder_id,
	]),
} if {
	some index in candidates
	signatures[index].signer.kind != "certificate"
	is_string(expected.builder_id)
	not as_written(signatures[index].attestation.provenance.builder_id)
}

as_written(id) if id == expected.builder_id

as_written(id) if startswith(id, concat("", [expected.builder_id, "@"]))

as_written(id) if {
	parts := split(id, "@")
	count(parts) == 2
	same_builder(expected.builder_id, parts[0], parts[1])
}
