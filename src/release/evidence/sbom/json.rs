//! Looking into a JSON value whose form nobody has promised: what has the expected form out, and nothing otherwise.

use serde_json::Value;

/// The text of a member, where it is one and not blank.
pub(super) fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The elements of a member that is a list; none where it is not.
pub(super) fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

/// The members of these names that are there, with their names.
pub(super) fn members<'a, 'n>(value: &'a Value, names: &'n [&'n str]) -> impl Iterator<Item = (&'n str, &'a Value)> {
    names.iter().filter_map(move |name| Some((*name, value.get(name)?)))
}
