# debvisor policy test vex
package debvisor.vex_test

import rego.v1

import data.debvisor.vex

now := "2026-06-01T12:00:00Z"

finding(severity, statement) := {
	"vulnerability": "CVE-2026-1",
	"aliases": [],
	"component": "pkg:cargo/a@1.0.0",
	"severity": severity,
	"statement": statement,
}

explained := {"status": "not_affected", "justification": "vulnerable_code_not_present"}

said(findings) := {reason.code | some reason in vex.deny with input as {"findings": findings, "now": now}}

about(statement) := said([finding("critical", statement)])

test_nothing_found if said([]) == set()

test_what_is_explained if {
	about(explained) == set()
	about({"status": "not_affected", "impact_statement": "nothing here unpacks archives"}) == set()
	about({"status": "fixed"}) == set()
}

test_no_statement if {
	about(null) == {"vex-unexplained"}
	said([{"vulnerability": "CVE-2026-1", "component": "a", "severity": "critical"}]) == {"vex-unexplained"}
}

test_under_investigation_explains_nothing if {
	about({"status": "under_investigation"}) == {"vex-unexplained"}
}

test_a_status_that_is_not_known_explains_nothing if {
	about({"status": "harmless"}) == {"vex-unexplained"}
	about({}) == {"vex-unexplained"}
}

test_a_status_needs_its_reason if {
	about({"status": "not_affected"}) == {"vex-incomplete"}
	about({"status": "not_affected", "impact_statement": " "}) == {"vex-incomplete"}
	about({"status": "affected"}) == {"vex-incomplete"}
	about({"status": "affected", "action_statement": ""}) == {"vex-incomplete"}
}

until(day) := object.union(explained, {"status_notes": concat("", ["severity critical; holds until ", day])})

test_an_expired_decision_does_not_count if {
	about(until("2026-05-31")) == {"vex-expired"}
	about(until("2026-06-01")) == set()
	about({"status": "fixed", "status_notes": "holds until 2025-12-31"}) == {"vex-expired"}
}

admitted := {"status": "affected", "action_statement": "update to 2.0"}

test_admitting_is_not_explaining if {
	about(admitted) == {"vex-unexplained"}
	about(admitted) == set() with data.vex_policy as {"severity": "critical", "affected": "allow"}
	about(admitted) == set() with data.vex_policy as {"severity": "critical", "affected": "warn"}
	about(admitted) == {"vex-unexplained"} with data.vex_policy as {"severity": "critical", "affected": "never"}
	warned := {reason.code | some reason in vex.warn with input as {"findings": [finding("high", admitted)], "now": now}
		with data.vex_policy as {"severity": "high", "affected": "warn"}}
	warned == {"vex-unexplained"}
	said([finding("critical", admitted)]) == {"vex-unexplained"}
	{reason | some reason in vex.warn with input as {"findings": [finding("critical", admitted)], "now": now}} == set()
}

asked(severity, floor) := {reason.code | some reason in vex.deny with input as {
	"findings": [finding(severity, null)], "expected": {"severity": floor}, "now": now,
}}

test_only_what_is_as_bad_as_the_floor if {
	said([finding("high", null)]) == set()
	said([finding("unknown", null)]) == {"vex-unexplained"}
	said([finding("low", null)]) == {"vex-unexplained"} with data.vex_policy as {"severity": "low"}
	said([finding("negligible", null)]) == set() with data.vex_policy as {"severity": "low"}
	asked("medium", "medium") == {"vex-unexplained"}
	asked("low", "medium") == set()
	asked("negligible", "any") == {"vex-unexplained"}
}

test_a_misspelled_policy_denies if {
	said([]) == {"policy-unreadable"} with data.vex_policy as {"severity": "awful"}
	said([]) == {"policy-unreadable"} with data.vex_policy as {"severity": "low", "sevrity": "low"}
	said([]) == {"policy-unreadable"} with data.vex_policy as {}
}

gate(signatures) := {reason.code | some reason in vex.deny with input as {"facts": {"signatures": signatures, "vex": {}}, "now": now}}

attested(statements) := [{"attestation": {
	"predicate_type": "https://openvex.dev/ns/v0.2.0",
	"predicate": {"statements": statements},
}}]

stated(statement) := object.union(statement, {
	"vulnerability": {"name": "CVE-2026-1"},
	"products": [{"@id": "app", "subcomponents": [{"@id": "pkg:cargo/a@1.0.0"}]}],
})

test_in_a_gate_the_signed_statements_are_judged if {
	gate(attested([stated(explained)])) == set()
	gate(attested([stated({"status": "under_investigation"})])) == {"vex-unexplained"}
	gate(attested([stated({"status": "under_investigation", "status_notes": "severity low"})])) == set()
	gate(attested([stated({"status": "under_investigation", "status_notes": "severity critical; new"})])) == {"vex-unexplained"}
	gate(attested([stated(object.union(explained, {"status_notes": "severity critical; holds until 2026-01-01"}))])) == {"vex-expired"}
}

test_in_a_gate_a_document_is_asked_for if {
	gate([]) == {"vex-required"}
	gate([{"attestation": null}]) == {"vex-required"}
	gate([{"attestation": {"predicate_type": "https://cyclonedx.org/vex", "predicate": {}}}]) == set()
	{reason.code | some reason in vex.deny with input as {"facts": {"signatures": [], "vex": {"kind": "vex"}}, "now": now}} == set()
}

test_the_message_names_vulnerability_and_component if {
	messages := {reason.msg | some reason in vex.deny with input as {
		"facts": {"signatures": attested([stated({"status": "under_investigation"}), object.union(stated({"status": "under_investigation"}), {"products": [{"@id": "pkg:npm/b@2"}]})])},
		"now": now,
	}}
	messages == {"CVE-2026-1 in pkg:cargo/a@1.0.0 is still under investigation", "CVE-2026-1 in pkg:npm/b@2 is still under investigation"}
}
