//! What a record is evidence for: an action in, the clauses of GDPR, HIPAA and SOC 2 out.
//!
//! A tag says which clause a record helps to show the keeping of; it does not say that the clause is kept.
//! docs/how-to/audit.md has the table with the clauses' own titles. Invariant: tags follow from the action alone.

/// Actions by how they begin, and their tags; the longest beginning counts. Every record is one of the audit controls.
#[rustfmt::skip]
pub const TAGS: &[(&str, &[&str])] = &[
    ("",               &["hipaa:164.312(b)"]),
    ("access.",        &["gdpr:art-32(1)(b)", "hipaa:164.312(a)(1)", "hipaa:164.312(b)", "soc2:CC6.1"]),
    ("admission.",     &["hipaa:164.312(b)", "hipaa:164.312(c)(1)", "soc2:CC6.8"]),
    ("audit.",         &["gdpr:art-5(2)", "hipaa:164.308(a)(1)(ii)(D)", "hipaa:164.312(b)", "soc2:CC7.2"]),
    ("grant.",         &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(4)(ii)(C)", "hipaa:164.312(b)", "soc2:CC6.3"]),
    ("identity.",      &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(4)(ii)(C)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("image.",         &["hipaa:164.312(b)", "hipaa:164.312(c)(1)", "soc2:CC6.8"]),
    ("image.altered",  &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(6)(ii)", "hipaa:164.312(b)", "hipaa:164.312(c)(1)", "soc2:CC7.2", "soc2:CC7.3"]),
    ("key.",           &["gdpr:art-32(1)(b)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("login",          &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(5)(ii)(C)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("node.",          &["hipaa:164.312(b)", "soc2:CC7.1"]),
    ("oidc.",          &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(5)(ii)(C)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("project.",       &["gdpr:art-32(1)(b)", "hipaa:164.312(a)(1)", "hipaa:164.312(b)", "soc2:CC6.3"]),
    ("quarantine.",    &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(6)(ii)", "hipaa:164.312(b)", "soc2:CC6.8", "soc2:CC7.4"]),
    ("quota.",         &["hipaa:164.312(b)", "soc2:A1.1"]),
    ("role.",          &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(4)(ii)(C)", "hipaa:164.312(b)", "soc2:CC6.3"]),
    ("service.",       &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(4)(ii)(B)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("session.",       &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(5)(ii)(C)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("state.backup",   &["gdpr:art-32(1)(c)", "hipaa:164.308(a)(7)(ii)(A)", "hipaa:164.312(b)", "soc2:A1.2"]),
    ("state.restore",  &["gdpr:art-32(1)(c)", "hipaa:164.308(a)(7)(ii)(B)", "hipaa:164.312(b)", "soc2:A1.3"]),
    ("tenant.",        &["gdpr:art-32(1)(b)", "hipaa:164.312(a)(1)", "hipaa:164.312(b)", "soc2:CC6.3"]),
    ("token.",         &["gdpr:art-32(1)(b)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("user.",          &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(4)(ii)(C)", "hipaa:164.312(a)(2)(i)", "hipaa:164.312(b)", "soc2:CC6.2"]),
    ("user.log",       &["gdpr:art-32(1)(b)", "hipaa:164.308(a)(5)(ii)(C)", "hipaa:164.312(b)", "hipaa:164.312(d)", "soc2:CC6.1"]),
    ("vm.",            &["hipaa:164.312(b)", "soc2:CC7.2"]),
    ("vm.attach",      &["hipaa:164.312(b)", "soc2:CC8.1"]),
    ("vm.console",     &["gdpr:art-32(1)(b)", "hipaa:164.312(a)(1)", "hipaa:164.312(b)", "soc2:CC6.1"]),
    ("vm.create",      &["hipaa:164.312(b)", "soc2:CC8.1"]),
    ("vm.delete",      &["hipaa:164.312(b)", "soc2:CC8.1"]),
    ("vm.detach",      &["hipaa:164.312(b)", "soc2:CC8.1"]),
    ("vm.override",    &["hipaa:164.312(b)", "hipaa:164.312(c)(1)", "soc2:CC6.8", "soc2:CC8.1"]),
    ("vm.update",      &["hipaa:164.312(b)", "soc2:CC8.1"]),
];

/// The tags of an action.
pub fn of(action: &str) -> &'static [&'static str] {
    let fitting = TAGS.iter().filter(|(beginning, _)| action.starts_with(beginning));
    fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(&[], |(_, tags)| tags)
}

/// Whether a tag is the one that is asked for: the whole tag, or what stands before its colon.
pub fn fits(tag: &str, wanted: &str) -> bool {
    tag == wanted || tag.split_once(':').is_some_and(|(framework, _)| framework == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts_and_nothing_is_without_a_tag() {
        assert!(of("vm.create").contains(&"soc2:CC8.1"));
        assert!(of("vm.start").contains(&"soc2:CC7.2") && !of("vm.start").contains(&"soc2:CC8.1"));
        assert!(of("image.altered").contains(&"soc2:CC7.3"));
        for action in ["", "something.else", "vm.start", "user.create", "state.backup"] {
            assert!(of(action).contains(&"hipaa:164.312(b)"), "{action}");
        }
    }

    #[test]
    fn the_table_is_in_order_has_each_beginning_once_and_only_known_frameworks() {
        assert!(TAGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (_, tags) in TAGS {
            assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "{tags:?}");
            for tag in *tags {
                assert!(["gdpr:", "hipaa:", "soc2:"].iter().any(|framework| tag.starts_with(framework)), "{tag}");
            }
        }
    }

    #[test]
    fn a_tag_is_found_by_itself_and_by_its_framework() {
        assert!(fits("soc2:CC6.1", "soc2") && fits("soc2:CC6.1", "soc2:CC6.1"));
        assert!(!fits("soc2:CC6.1", "soc2:CC6") && !fits("soc2:CC6.1", "soc"));
    }
}
