//! SPDX documents as JSON in, the neutral model and what their references have against them out.
//! The two generations share little but the name: [`v2`] is a document of packages, [`v3`] a graph of elements.

use super::model::{Acknowledgement, License, LicenseTerm, Party, PartyKind};

pub(super) mod v2;
pub(super) mod v3;

/// A licence field's value as a statement; that nothing is asserted is none.
fn license(acknowledgement: Acknowledgement, text: &str) -> Option<License> {
    match text.trim() {
        "" | "NONE" | "NOASSERTION" => None,
        expression => Some(License { acknowledgement, term: LicenseTerm::Expression(expression.to_owned()) }),
    }
}

/// Whether an SPDX text says something.
fn is_told(text: &str) -> bool {
    !matches!(text.trim(), "" | "NONE" | "NOASSERTION")
}

/// `Organization: Name (contact)` or `Person: Name (contact)`; a tool is neither.
fn party(text: &str) -> Option<Party> {
    let (kind, rest) = text.split_once(':')?;
    let kind = match kind.trim() {
        "Person" => PartyKind::Person,
        "Organization" => PartyKind::Organization,
        _ => return None,
    };
    let rest = rest.trim();
    let (name, contact) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) {
        Some((name, contact)) => (name.trim(), contact.trim()),
        None => (rest, ""),
    };
    let some = |text: &str| Some(text.to_owned()).filter(|text| is_told(text));
    let (email, url) = if contact.contains('@') { (some(contact), None) } else { (None, some(contact)) };
    Some(Party { kind, name: some(name), email, url }).filter(Party::is_told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_read_with_its_contact() {
        let jane = party("Person: Jane Smith (jane@utils.example)").unwrap();
        assert_eq!((jane.name.as_deref(), jane.email.as_deref()), (Some("Jane Smith"), Some("jane@utils.example")));
        assert_eq!(
            party("Organization: Test Corp (https://test.example)").unwrap().url.as_deref(),
            Some("https://test.example")
        );
        assert_eq!(party("Organization: NOASSERTION"), None);
        assert_eq!(party("Tool: a-1"), None);
        assert_eq!(party("NOASSERTION"), None);
    }
}
