# debvisor policy test sbom
package debvisor.sbom_test

import rego.v1

import data.debvisor.sbom

component := {
	"id": "a",
	"kind": "library",
	"name": "a",
	"version": "1.0.0",
	"purl": "pkg:cargo/a@1.0.0",
	"identifiers": [],
	"hashes": [{
		"algorithm": "SHA-256",
		"value": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}],
	"supplier": {"kind": "organization", "name": "Acme", "email": null, "url": null},
	"references": [{"kind": "vcs", "url": "https://acme.example/a"}],
}

document(components) := {
	"metadata": {"timestamp": "2026-01-01T00:00:00Z", "authors": [], "tools": [{"name": "t"}]},
	"described": [{"id": "root", "name": "app"}],
	"components": components,
	"dependencies": {"root": ["a"]},
}

said(document) := {reason.code | some reason in sbom.deny with input as {"sbom": document}}

changed(change) := document([object.union(component, change)])

test_a_complete_document if said(document([component])) == set()

test_the_document if {
	said(object.union(document([component]), {"metadata": {"timestamp": null}})) == {"sbom-timestamp"}
	said(object.union(document([component]), {"metadata": {"tools": []}})) == {"sbom-author"}
	said(object.union(document([component]), {"described": []})) == {"sbom-subject"}
	said(document([])) == {"sbom-component-missing"}
	said(document([object.union(component, {"kind": "file"})])) == {"sbom-component-missing"}
	said(object.remove(document([component]), ["dependencies"])) == {"sbom-dependencies-missing"}
}

test_the_components if {
	said(changed({"version": null})) == {"sbom-version-missing"}
	said(changed({"purl": null})) == {"sbom-identifier-missing"}
	said(changed({"purl": null, "identifiers": [{"kind": "cpe", "value": "cpe:2.3:a"}]})) == set()
	said(changed({"supplier": null})) == {"sbom-supplier-missing"}
	said(changed({"supplier": {"name": " Unknown Vendor"}})) == {"sbom-supplier-missing"}
	said(changed({"hashes": []})) == {"sbom-checksum-missing"}
	said(changed({"hashes": [{"algorithm": "SHA-1", "value": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}]})) == {"sbom-checksum-missing"}
	said(changed({"references": [{"kind": "website", "url": "https://acme.example"}]})) == {"sbom-source-missing"}
}

test_prereleases if {
	every version in ["1.0.0-SNAPSHOT", "2.0.0-RC1", "1.0.0-alpha.3", "1.0-beta2", "5.0.0.M3", "1.0.dev4", "3.0.0-rc.1+build"] {
		said(changed({"version": version})) == {"sbom-prerelease"}
	}
	every version in ["1.0.0", "1.1.1m", "2024.1", "1.0.0+build5", "0.9.8-final", "4.2.0.Final"] {
		said(changed({"version": version})) == set()
	}
	said(changed({"version": "5.2~rc1-2", "purl": "pkg:deb/debian/a@5.2~rc1-2"})) == set()
	said(changed({"version": "1.0b2", "purl": "pkg:pypi/a@1.0b2"})) == {"sbom-prerelease"}
}

test_suppliers_that_are_approved if {
	policy := {"require": [], "approved_suppliers": ["Acme"], "placeholders": [], "prereleases": "deny"}
	said(document([component])) == set() with data.sbom_policy as policy
	said(changed({"supplier": {"name": "Other"}})) == {"sbom-supplier-unapproved"} with data.sbom_policy as policy
}

lists(more) := object.union({"require": [], "approved_suppliers": [], "placeholders": [], "prereleases": "deny"}, more)

test_a_misspelled_policy_denies if {
	every policy in [lists({"require": ["sbom"]}), lists({"aproved": []}), {"require": [], "placeholders": []}] {
		said(document([component])) == {"policy-unreadable"} with data.sbom_policy as policy
	}
}

test_prereleases_that_are_only_told if {
	early := object.union(component, {"version": "1.0.0-rc.1", "purl": null})
	said(document([early])) == set() with data.sbom_policy as lists({"prereleases": "warn"})
	warned := {reason.code | some reason in sbom.warn with input as {"sbom": document([early])}
		with data.sbom_policy as lists({"prereleases": "warn"})}
	warned == {"sbom-prerelease"}
	said(document([early])) == set() with data.sbom_policy as lists({"prereleases": "allow"})
	said(document([early])) == {"sbom-prerelease"} with data.sbom_policy as lists({"prereleases": "never"})
}

test_the_name_of_a_component_without_a_package_url if {
	nameless := object.union(component, {"purl": null, "hashes": []})
	messages := {reason.msg | some reason in sbom.deny with input as {"sbom": document([nameless, object.union(nameless, {"version": null})])}
		with data.sbom_policy as lists({"require": ["checksum"]})}
	messages == {"a@1.0.0 has no digest of a strong algorithm", "a has no digest of a strong algorithm"}
}

test_no_document if {
	said(null) == {"sbom-required"}
	{reason.code | some reason in sbom.deny with input as {}} == {"sbom-required"}
}
