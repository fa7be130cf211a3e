# debvisor policy test licenses
package debvisor.licenses_test

import rego.v1

import data.debvisor.licenses

term(id) := {"text": id, "id": id, "exception": null, "listed": true, "proprietary": false}

reference(id, proprietary) := {"text": id, "id": id, "exception": null, "listed": false, "proprietary": proprietary}

with_exception(id, exception) := {
	"text": sprintf("%s WITH %s", [id, exception]),
	"id": id,
	"exception": exception,
	"listed": true,
	"proprietary": false,
}

statement(alternatives) := {
	"component": "pkg:cargo/a@1.0.0",
	"name": "a",
	"package": "pkg:cargo/a",
	"described": false,
	"file": false,
	"scope": null,
	"stated": [{"acknowledgement": "declared", "text": "as stated"}],
	"alternatives": alternatives,
	"unknown": [],
}

nothing := object.union(statement([]), {"stated": []})

words(text, proprietary) := object.union(
	statement([]),
	{"unknown": [{"text": text, "proprietary": proprietary}]},
)

lists(more) := object.union(
	{
		"allow": [],
		"deny": ["GPL-*"],
		"missing": "deny",
		"unknown": "deny",
		"proprietary": "deny",
		"ignore_scopes": [],
		"exceptions": [],
	},
	more,
)

said(statements, policy) := {reason.code | some reason in licenses.deny with input as {
	"licenses": statements,
	"now": "2026-06-01T12:00:00Z",
}
	with data.license_policy as policy
}

warned(statements, policy) := {reason.code | some reason in licenses.warn with input as {
	"licenses": statements,
	"now": "2026-06-01T12:00:00Z",
}
	with data.license_policy as policy
}

test_one_acceptable_way_is_enough if {
	said([statement([[term("MIT")], [term("GPL-3.0-only")]])], lists({})) == set()
	said([statement([[term("GPL-3.0-only"), term("MIT")]])], lists({})) == {"license-denied"}
}

test_a_list_of_allowed_licences if {
	said([statement([[term("Zlib")]])], lists({"allow": ["MIT"]})) == {"license-not-allowed"}
	said([statement([[term("MIT")]])], lists({"allow": ["MIT"]})) == set()
	said([statement([[term("GPL-2.0-only")]])], lists({"allow": ["GPL-2.0-only"]})) == {"license-denied"}
}

test_a_licence_with_an_exception_is_allowed_by_its_full_name if {
	way := [[with_exception("GPL-2.0-only", "Classpath-exception-2.0")]]
	said([statement(way)], lists({})) == {"license-denied"}
	said([statement(way)], lists({"allow": ["GPL-2.0-only WITH Classpath-exception-2.0"]})) == set()
}

test_what_is_outside_the_list if {
	said([statement([[reference("LicenseRef-x", false)]])], lists({})) == {"license-unknown"}
	said([statement([[reference("LicenseRef-x-commercial", true)]])], lists({})) == {"license-proprietary"}
	said([statement([[reference("LicenseRef-x", false)]])], lists({"allow": ["LicenseRef-x"]})) == set()
	said([words("as is", false)], lists({})) == {"license-unknown"}
	said([words("Proprietary", true)], lists({})) == {"license-proprietary"}
	said([words("as is", false)], lists({"unknown": "warn"})) == set()
	warned([words("as is", false)], lists({"unknown": "warn"})) == {"license-unknown"}
	warned([words("as is", false)], lists({"unknown": "allow"})) == set()
}

test_no_licence_at_all if {
	said([nothing], lists({})) == {"license-missing"}
	said([nothing], lists({"missing": "allow"})) == set()
	warned([nothing], lists({"missing": "warn"})) == {"license-missing"}
	said([nothing], lists({"missing": "alow"})) == {"license-missing"}
}

test_exceptions_need_a_reason_and_end if {
	copyleft := [statement([[term("GPL-3.0-only")]])]
	exception := {"component": "pkg:cargo/a", "licenses": ["GPL-3.0-*"], "reason": "a build tool", "until": "2026-06-01"}
	said(copyleft, lists({"exceptions": [exception]})) == set()
	said(copyleft, lists({"exceptions": [object.union(exception, {"reason": " "})]})) == {"license-denied"}
	said(copyleft, lists({"exceptions": [object.union(exception, {"until": "2026-05-31"})]})) == {"license-denied"}
	said(copyleft, lists({"exceptions": [object.union(exception, {"until": "soon"})]})) == {"license-denied"}
	said(copyleft, lists({"exceptions": [object.union(exception, {"component": "b"})]})) == {"license-denied"}
	said(copyleft, lists({"exceptions": [object.union(exception, {"licenses": ["MIT"]})]})) == {"license-denied"}
	said([nothing], lists({"exceptions": [{"component": "a", "reason": "ours"}]})) == set()
}

test_what_is_not_judged if {
	said([object.union(nothing, {"described": true})], lists({})) == set()
	said([object.union(nothing, {"file": true})], lists({})) == set()
	said([object.union(nothing, {"scope": "excluded"})], lists({"ignore_scopes": ["excluded"]})) == set()
}

test_a_misspelled_policy_denies if {
	said([], object.union(lists({}), {"alow": []})) == {"policy-unreadable"}
	said([], {"allow": []}) == {"policy-unreadable"}
}

test_no_licences_in_the_input if {
	{reason.code | some reason in licenses.deny with input as {}} == {"sbom-required"}
}
