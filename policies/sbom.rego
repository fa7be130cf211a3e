# What an SBOM must tell before anybody relies on it: the demands of sbom.json, over the neutral model.
#
# Whoever needs less copies sbom.json into the folder of their own policies and takes demands off the list. The rules
# look at packages; single files are asked for nothing. Licences have a policy of their own.
package debvisor.sbom

import rego.v1

policy := data.sbom_policy

known_demands := {
	"timestamp", "author", "subject", "components", "version", "identifier", "supplier", "checksum", "source",
	"dependencies",
}

known_members := {"require", "approved_suppliers", "placeholders", "prereleases"}

sbom := input.sbom if {
	is_object(input.sbom)
} else := {}

told if is_object(input.sbom)

deny contains {
	"code": "sbom-required",
	"msg": "the input has no SBOM",
} if {
	not told
}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("sbom_policy asks for `%s`, which is not known", [demand]),
} if {
	some demand in policy.require
	not demand in known_demands
}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("sbom_policy has a member `%s` that is not known", [member]),
} if {
	some member in object.keys(policy)
	not member in known_members
}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("sbom_policy has no list `%s`", [member]),
} if {
	some member in ["require", "approved_suppliers", "placeholders"]
	not is_array(object.get(policy, member, null))
}

asked(demand) if {
	told
	demand in policy.require
}

packages := [component |
	some component in object.get(sbom, "components", [])
	component.kind != "file"
]

label(component) := component.purl if {
	is_string(component.purl)
} else := sprintf("%s@%s", [component.name, component.version]) if {
	is_string(component.version)
} else := component.name

deny contains {
	"code": "sbom-timestamp",
	"msg": "the SBOM does not say when it was made",
} if {
	asked("timestamp")
	not is_string(sbom.metadata.timestamp)
}

deny contains {
	"code": "sbom-author",
	"msg": "the SBOM does not say who or what made it",
} if {
	asked("author")
	count(object.get(sbom, ["metadata", "authors"], [])) == 0
	count(object.get(sbom, ["metadata", "tools"], [])) == 0
}

deny contains {
	"code": "sbom-subject",
	"msg": "the SBOM does not say what it describes",
} if {
	asked("subject")
	count(object.get(sbom, "described", [])) == 0
}

deny contains {
	"code": "sbom-component-missing",
	"msg": "the SBOM has no components",
} if {
	asked("components")
	count(packages) == 0
}

deny contains {
	"code": "sbom-dependencies-missing",
	"msg": "the SBOM does not say what depends on what",
} if {
	asked("dependencies")
	count(packages) > 0
	count(object.get(sbom, "dependencies", {})) == 0
}

deny contains {
	"code": "sbom-version-missing",
	"msg": sprintf("%s has no version", [label(component)]),
	"location": component.id,
} if {
	asked("version")
	some component in packages
	not is_string(component.version)
}

deny contains {
	"code": "sbom-identifier-missing",
	"msg": sprintf("%s has no package URL, CPE or other identifier", [label(component)]),
	"location": component.id,
} if {
	asked("identifier")
	some component in packages
	not is_string(component.purl)
	count(component.identifiers) == 0
}

supplied(component) if {
	name := component.supplier.name
	not lower(trim_space(name)) in policy.placeholders
}

deny contains {
	"code": "sbom-supplier-missing",
	"msg": sprintf("nobody is named who supplies %s", [label(component)]),
	"location": component.id,
} if {
	asked("supplier")
	some component in packages
	not supplied(component)
}

deny contains {
	"code": "sbom-supplier-unapproved",
	"msg": sprintf("%s is supplied by `%s`, who is not on the list", [label(component), component.supplier.name]),
	"location": component.id,
} if {
	count(policy.approved_suppliers) > 0
	some component in packages
	supplied(component)
	not component.supplier.name in policy.approved_suppliers
}

# What binds here binds a release too; the strong rest is SHA-3 and BLAKE.
strong := {
	"SHA-224", "SHA-256", "SHA-384", "SHA-512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512", "BLAKE2b-256",
	"BLAKE2b-384", "BLAKE2b-512", "BLAKE3", "Streebog-256", "Streebog-512",
}

hashed(component) if {
	some hash in component.hashes
	hash.algorithm in strong
	regex.match(`^[0-9a-f]{56,128}$`, hash.value)
}

deny contains {
	"code": "sbom-checksum-missing",
	"msg": sprintf("%s has no digest of a strong algorithm", [label(component)]),
	"location": component.id,
} if {
	asked("checksum")
	some component in packages
	not hashed(component)
}

sourced(component) if {
	some reference in component.references
	reference.kind in {"distribution", "source-distribution", "distribution-intake", "vcs"}
}

deny contains {
	"code": "sbom-source-missing",
	"msg": sprintf("%s does not say where it is downloaded from", [label(component)]),
	"location": component.id,
} if {
	asked("source")
	some component in packages
	not sourced(component)
}

# Words of Maven, npm, SemVer and Python. Distributions number their packages by rules of their own.
early := `(?i)([-._+~]|[0-9])(snapshot|alpha|beta|rc|cr|pre|preview|dev|nightly|canary|milestone|m)[-._]?[0-9]*([-.+].*)?$`

prerelease(component) if {
	is_string(component.version)
	regex.match(early, component.version)
	not of_distribution(component)
	not regex.match(`(?i)[0-9]m$`, component.version)
}

prerelease(component) if {
	is_string(component.version)
	regex.match(`[0-9](a|b)[0-9]+$`, component.version)
	is_string(component.purl)
	startswith(component.purl, "pkg:pypi/")
}

of_distribution(component) if {
	is_string(component.purl)
	regex.match(`^pkg:(deb|rpm|apk|alpm)/`, component.purl)
}

deny contains {
	"code": "sbom-prerelease",
	"msg": sprintf("%s is a snapshot or a pre-release", [label(component)]),
	"location": component.id,
} if {
	not policy.prereleases in {"warn", "allow"}
	some component in packages
	prerelease(component)
}

warn contains {
	"code": "sbom-prerelease",
	"msg": sprintf("%s is a snapshot or a pre-release", [label(component)]),
	"location": component.id,
} if {
	policy.prereleases == "warn"
	some component in packages
	prerelease(component)
}
