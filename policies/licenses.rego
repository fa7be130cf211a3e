# Under which licences components may come: the lists of licenses.json over what every component states.
#
# The input has each component's licence as alternatives: ways to fulfil it, each a list of licences that then all hold.
# One acceptable way is enough. What states nothing, or nothing that is understood, is judged by `missing`, `unknown` and
# `proprietary`: "deny", "warn" or "allow", and anything else is "deny". The artifact's own licence is not asked for.
package debvisor.licenses

import rego.v1

policy := data.license_policy

known_members := {"allow", "deny", "missing", "unknown", "proprietary", "ignore_scopes", "exceptions"}

deny contains {
	"code": "sbom-required",
	"msg": "the input has no licences of an SBOM",
} if {
	not is_array(object.get(input, "licenses", null))
}

# A misspelled member would quietly allow what somebody meant to deny.
deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("license_policy has a member `%s` that is not known", [member]),
} if {
	some member in object.keys(policy)
	not member in known_members
}

deny contains {
	"code": "policy-unreadable",
	"msg": sprintf("license_policy has no list `%s`", [member]),
} if {
	some member in ["allow", "deny", "ignore_scopes", "exceptions"]
	not is_array(object.get(policy, member, null))
}

judged := [statement |
	some statement in input.licenses
	statement.described == false
	statement.file == false
	not ignored(statement)
]

ignored(statement) if statement.scope in policy.ignore_scopes

level(kind) := word if {
	word := object.get(policy, kind, "deny")
	word in {"warn", "allow"}
} else := "deny"

# Exceptions count with a reason, and until their last day.
excused(statement, text) if {
	some exception in policy.exceptions
	count(trim_space(exception.reason)) > 0
	in_force(exception)
	some name in names(statement)
	fits(exception.component, name)
	covers(exception, text)
}

in_force(exception) if not "until" in object.keys(exception)

in_force(exception) if {
	regex.match(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, exception.until)
	exception.until >= substring(input.now, 0, 10)
}

covers(exception, _) if not "licenses" in object.keys(exception)

covers(exception, text) if {
	some pattern in exception.licenses
	fits(pattern, text)
}

names(statement) := {name |
	some name in [statement.component, statement.name, statement.package]
	is_string(name)
}

# A `*` at the end stands for any rest.
fits(pattern, text) if pattern == text

fits(pattern, text) if {
	endswith(pattern, "*")
	startswith(text, trim_suffix(pattern, "*"))
}

hits(pattern, term) if fits(pattern, term.text)

hits(pattern, term) if fits(pattern, term.id)

# A denied licence with an exception is another licence, where somebody has allowed just that by its full name.
refused(term) if {
	some pattern in policy.deny
	hits(pattern, term)
	not allowed_by_full_name(term)
}

allowed_by_full_name(term) if {
	is_string(term.exception)
	term.text in policy.allow
}

# Documents have many components and few licences: each licence is put to the lists once.
terms contains term if {
	some statement in judged
	some way in statement.alternatives
	some term in way
}

refused_texts := {term.text | some term in terms; refused(term)}

accepted_texts := {term.text | some term in terms; not refused(term); allowed(term)}

accepted(_, term) if term.text in accepted_texts

accepted(statement, term) if excused(statement, term.text)

# Without a list of allowed licences, every one of the SPDX list that is not denied is.
allowed(term) if {
	count(policy.allow) == 0
	term.listed
}

allowed(term) if {
	some pattern in policy.allow
	hits(pattern, term)
}

acceptable(statement) if {
	some way in statement.alternatives
	every term in way {
		accepted(statement, term)
	}
}

unacceptable := [statement |
	some statement in judged
	count(statement.alternatives) > 0
	not acceptable(statement)
]

denied_way(statement, way) if {
	some term in way
	term.text in refused_texts
	not accepted(statement, term)
}

all_denied(statement) if {
	every way in statement.alternatives {
		denied_way(statement, way)
	}
}

# The licences outside the SPDX list that stand in the way, where nothing else does.
outside(statement) := {term |
	some way in statement.alternatives
	not denied_way(statement, way)
	some term in way
	not term.listed
	not accepted(statement, term)
}

texts(statement) := concat("; ", [stated.text | some stated in statement.stated])

deny contains {
	"code": "license-denied",
	"msg": sprintf("%s is under %s", [statement.component, texts(statement)]),
	"location": statement.component,
} if {
	some statement in unacceptable
	all_denied(statement)
}

deny contains {
	"code": "license-not-allowed",
	"msg": sprintf("%s is under %s, which no list allows", [statement.component, texts(statement)]),
	"location": statement.component,
} if {
	some statement in unacceptable
	not all_denied(statement)
	count(outside(statement)) == 0
}

# What is outside the SPDX list, as an expression's LicenseRef or in somebody's own words.
foreign contains {"kind": kind(term), "component": statement.component, "text": term.text} if {
	some statement in unacceptable
	not all_denied(statement)
	some term in outside(statement)
}

foreign contains {"kind": kind(term), "component": statement.component, "text": term.text} if {
	some statement in judged
	some term in statement.unknown
	not excused(statement, term.text)
	not term.text in policy.allow
}

kind(term) := "proprietary" if {
	term.proprietary
} else := "unknown"

deny contains {
	"code": "license-proprietary",
	"msg": sprintf("%s is under `%s`, which says that it is proprietary", [found.component, found.text]),
	"location": found.component,
} if {
	level("proprietary") == "deny"
	some found in foreign
	found.kind == "proprietary"
}

deny contains {
	"code": "license-unknown",
	"msg": sprintf("%s is under `%s`, which is no licence of the SPDX list", [found.component, found.text]),
	"location": found.component,
} if {
	level("unknown") == "deny"
	some found in foreign
	found.kind == "unknown"
}

deny contains {
	"code": "license-missing",
	"msg": sprintf("%s states no licence", [statement.component]),
	"location": statement.component,
} if {
	level("missing") == "deny"
	some statement in unlicensed
}

unlicensed := [statement |
	some statement in judged
	count(statement.stated) == 0
	not excused(statement, "")
]

warn contains {
	"code": sprintf("license-%s", [found.kind]),
	"msg": sprintf("%s is under `%s`", [found.component, found.text]),
	"location": found.component,
} if {
	some found in foreign
	level(found.kind) == "warn"
}

warn contains {
	"code": "license-missing",
	"msg": sprintf("%s states no licence", [statement.component]),
	"location": statement.component,
} if {
	level("missing") == "warn"
	some statement in unlicensed
}
