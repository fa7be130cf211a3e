# What must be explained before a release may be used: every finding as bad as vex.json says, and worse.
#
# It sees a scanner's findings, each with the newest statement about it (`debvisor vex check`), or, in a gate, the
# statements of OpenVEX attestations that an expected signer made of the artifact. A finding whose severity nobody says
# is as bad as any. Whoever needs more copies vex.json into the folder of their own policies.
package debvisor.vex

import rego.v1

policy := data.vex_policy

known_members := {"severity", "affected"}

ranks := {"any": 0, "negligible": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("vex_policy has a member `%s` that is not known", [member]),
} if {
	some member in object.keys(policy)
	not member in known_members
}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("vex_policy has the severity `%v`, which is not known", [object.get(policy, "severity", null)]),
} if {
	not ranks[object.get(policy, "severity", null)] >= 0
}

# The caller's own floor, else the policy's.
floor := ranks[input.expected.severity] if {
	is_string(input.expected.severity)
} else := ranks[policy.severity]

looked if is_array(input.findings)

findings := [finding |
	looked
	some finding in input.findings
]

# In a gate: what the signed documents say, each statement a finding that somebody told of.
told := [finding |
	not looked
	some signature in object.get(input, ["facts", "signatures"], [])
	startswith(object.get(signature, ["attestation", "predicate_type"], ""), "https://openvex.dev/ns")
	some statement in object.get(signature, ["attestation", "predicate", "statements"], [])
	finding := {
		"vulnerability": statement.vulnerability.name,
		"component": parts(statement),
		"severity": severity_in(object.get(statement, "status_notes", "")),
		"statement": statement,
	}
]

parts(statement) := concat(", ", sort({name |
	some product in object.get(statement, "products", [])
	some name in named(product)
}))

named(product) := {object.get(part, "@id", "") | some part in product.subcomponents} if {
	count(object.get(product, "subcomponents", [])) > 0
} else := {object.get(product, "@id", "")}

severity_in(notes) := regex.find_all_string_submatch_n(`^severity ([a-z]+)`, notes, 1)[0][1] if {
	regex.match(`^severity [a-z]+`, notes)
} else := "unknown"

judged := [finding |
	some finding in array.concat(findings, told)
	covered(finding)
]

covered(finding) if ranks[finding.severity] >= floor

covered(finding) if not ranks[finding.severity]

label(finding) := sprintf("%s in %s", [finding.vulnerability, finding.component])

stated(finding) if is_object(object.get(finding, "statement", null))

# The last day stands in the notes of a statement, where it has one.
last_day(statement) := regex.find_all_string_submatch_n(`holds until ([0-9]{4}-[0-9]{2}-[0-9]{2})$`, object.get(statement, "status_notes", ""), 1)[0][1]

expired(statement) if substring(input.now, 0, 10) > last_day(statement)

reasoned(statement) if is_string(statement.justification)

reasoned(statement) if {
	is_string(statement.impact_statement)
	trim_space(statement.impact_statement) != ""
}

acted(statement) if {
	is_string(statement.action_statement)
	trim_space(statement.action_statement) != ""
}

deny contains {
	"code": "vex-unexplained",
	"msg": sprintf("%s is explained by no VEX statement", [label(finding)]),
} if {
	some finding in judged
	not stated(finding)
}

deny contains {
	"code": "vex-unexplained",
	"msg": sprintf("%s is still under investigation", [label(finding)]),
} if {
	some finding in judged
	stated(finding)
	finding.statement.status == "under_investigation"
}

known_statuses := {"not_affected", "affected", "fixed", "under_investigation"}

deny contains {
	"code": "vex-unexplained",
	"msg": sprintf("%s has a statement of no known status", [label(finding)]),
} if {
	some finding in judged
	stated(finding)
	not object.get(finding.statement, "status", "") in known_statuses
}

deny contains {
	"code": "vex-expired",
	"msg": sprintf("what was decided about %s held until %s", [label(finding), last_day(finding.statement)]),
} if {
	some finding in judged
	stated(finding)
	finding.statement.status != "under_investigation"
	expired(finding.statement)
}

deny contains {
	"code": "vex-incomplete",
	"msg": sprintf("%s is called not affected without a justification", [label(finding)]),
} if {
	some finding in judged
	stated(finding)
	finding.statement.status == "not_affected"
	not reasoned(finding.statement)
}

deny contains {
	"code": "vex-incomplete",
	"msg": sprintf("%s is admitted, and nobody says what to do about it", [label(finding)]),
} if {
	some finding in judged
	stated(finding)
	finding.statement.status == "affected"
	not acted(finding.statement)
}

# Admitting a finding does not explain it away, unless the policy takes an action for an explanation.
deny contains {
	"code": "vex-unexplained",
	"msg": sprintf("%s is admitted: %s", [label(finding), finding.statement.action_statement]),
} if {
	not object.get(policy, "affected", "deny") in {"warn", "allow"}
	some finding in judged
	stated(finding)
	finding.statement.status == "affected"
	acted(finding.statement)
}

warn contains {
	"code": "vex-unexplained",
	"msg": sprintf("%s is admitted: %s", [label(finding), finding.statement.action_statement]),
} if {
	policy.affected == "warn"
	some finding in judged
	stated(finding)
	finding.statement.status == "affected"
	acted(finding.statement)
}

has_document if count(object.get(input, ["facts", "vex"], {})) > 0

has_document if {
	some signature in object.get(input, ["facts", "signatures"], [])
	some prefix in ["https://openvex.dev/ns", "https://cyclonedx.org/vex"]
	startswith(object.get(signature, ["attestation", "predicate_type"], ""), prefix)
}

deny contains {
	"code": "vex-required",
	"msg": "there are neither findings to judge nor a VEX document about the artifact by an expected signer",
} if {
	not looked
	not has_document
}
