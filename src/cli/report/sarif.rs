//! A report in, a SARIF 2.1.0 log out, for code scanning.
//! A no is an error, an open question a warning, a policy's warning a note; an allowed run has no result,
//! which closes the alerts of earlier ones. Fingerprints leave the message out, so that they outlive its wording.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{reference, visible::visible};
use crate::release::decision::{Report, SubjectReport};
use crate::types::{Digest, Outcome, Reason};

pub(in crate::cli) const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The whole log: one run with its rules, its subjects as artifacts and its reasons as results.
pub(super) fn document(report: &Report) -> Value {
    let findings: Vec<(&Reason, Level)> = report
        .reasons
        .iter()
        .map(|reason| (reason, Level::from(reason.outcome())))
        .chain(report.warnings.iter().map(|warning| (warning, Level::Note)))
        .collect();
    let mut rules = Rules::default();
    let mut fingerprints = Fingerprints::default();
    let results: Vec<Value> = findings
        .into_iter()
        .map(|(reason, level)| result(report, reason, level, &mut rules, &mut fingerprints))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "DebVisor",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules.written,
            }},
            "invocations": [{
                "executionSuccessful": true,
                "exitCode": report.decision.exit_code(),
                "exitCodeDescription": report.decision.name(),
                "endTimeUtc": report.decided_at.to_string(),
            }],
            "columnKind": "unicodeCodePoints",
            "artifacts": report.subjects.iter().map(artifact).collect::<Vec<_>>(),
            "results": results,
            "properties": {
                "decision": report.decision.name(),
                "policy": report.policy,
                "trustRoot": report.trust_root,
            },
        }],
    })
}

/// SARIF's levels, section 3.27.10.
#[derive(Clone, Copy)]
enum Level {
    Error,
    Warning,
    Note,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl From<Outcome> for Level {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Deny => Self::Error,
            Outcome::Undecided => Self::Warning,
        }
    }
}

fn result(report: &Report, reason: &Reason, level: Level, rules: &mut Rules, fingerprints: &mut Fingerprints) -> Value {
    let hint = reason.hint.as_ref().map_or(String::new(), |hint| format!("\nHint: {}", literal(hint)));
    let fingerprint = fingerprints.of(reason);
    let mut result = json!({
        "ruleId": reason.code,
        "ruleIndex": rules.index(reason, level),
        "level": level.name(),
        "message": {"text": format!("{}{hint}", literal(&reason.message))},
        "locations": [location(report, reason)],
        "fingerprints": {"debvisor/v1": fingerprint},
        // The one key that GitHub's code scanning follows an alert by.
        "partialFingerprints": {"primaryLocationLineHash": fingerprint},
    });
    let properties: Map<String, Value> =
        [("subject", &reason.subject), ("evidence", &reason.evidence), ("location", &reason.location)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name.to_owned(), json!(value))))
            .collect();
    if let (Some(object), false) = (result.as_object_mut(), properties.is_empty()) {
        object.insert("properties".to_owned(), Value::Object(properties));
    }
    result
}

/// Where a reader should look: the evidence, else the subject, else the first thing that the run was about.
/// Code scanning drops a result without a place, so there always is one.
fn location(report: &Report, reason: &Reason) -> Value {
    let file = reason
        .evidence
        .as_deref()
        .or(reason.subject.as_deref())
        .or_else(|| report.subjects.first().map(|subject| subject.name.as_str()))
        .unwrap_or(".");
    let line = reason.location.as_deref().and_then(line_number).unwrap_or(1);
    let mut location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri(file)}, "region": {"startLine": line}},
    });
    if let (Some(place), Some(object)) = (&reason.location, location.as_object_mut()) {
        object.insert("logicalLocations".to_owned(), json!([{"fullyQualifiedName": place}]));
    }
    location
}

/// The number in `12`, `line 12` and `line 12, column 3`.
pub(super) fn line_number(location: &str) -> Option<u32> {
    let digits = location.strip_prefix("line ").unwrap_or(location);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok().filter(|line| *line > 0)
}

fn artifact(subject: &SubjectReport) -> Value {
    // The names of hash functions are IANA's, section 3.24.11.
    let hashes: BTreeMap<String, &String> =
        subject.digest.iter().map(|(algorithm, hex)| (algorithm.replacen("sha", "sha-", 1), hex)).collect();
    json!({
        "location": {"uri": uri(&subject.name)},
        "roles": ["analysisTarget"],
        "hashes": hashes,
        "properties": {"decision": subject.decision.name()},
    })
}

/// A URI reference for a path; an address on the web stays what it is.
pub(in crate::cli) fn uri(name: &str) -> String {
    if name.starts_with("https://")
        && let Ok(address) = url::Url::parse(name)
    {
        return address.to_string();
    }
    let (prefix, path) = match name.strip_prefix('/') {
        Some(path) => ("file:///", path),
        None => ("", name.strip_prefix("./").unwrap_or(name)),
    };
    let mut uri = String::from(prefix);
    for byte in path.bytes() {
        match byte {
            // RFC 3986's unreserved characters and the separator; a colon could pass for a scheme.
            b'/' | b'-' | b'.' | b'_' | b'~' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    // An empty reference would mean the log itself.
    if prefix.is_empty() && uri.is_empty() { ".".to_owned() } else { uri }
}

/// Text that SARIF shows as it stands: brackets would make a link (3.11.6) and braces a placeholder (3.11.5).
pub(in crate::cli) fn literal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '\\' | '[' | ']' => shown.extend(['\\', character]),
            '{' | '}' => shown.extend([character, character]),
            _ => shown.push(character),
        }
    }
    shown
}

/// The rules that occurred, each once, in the order of their first result.
#[derive(Default)]
struct Rules {
    indexes: BTreeMap<String, usize>,
    written: Vec<Value>,
}

impl Rules {
    fn index(&mut self, reason: &Reason, level: Level) -> usize {
        if let Some(index) = self.indexes.get(reason.code.as_str()) {
            return *index;
        }
        let index = self.written.len();
        self.indexes.insert(reason.code.as_str().to_owned(), index);
        self.written.push(rule(reason, level));
        index
    }
}

fn rule(reason: &Reason, level: Level) -> Value {
    let Some(code) = reason.code.known() else {
        return json!({
            "id": reason.code,
            "shortDescription": {"text": "A rule of the policy in use."},
            "help": {"text": "This code is the policy's own: read the rule there."},
            "defaultConfiguration": {"level": level.name()},
            "properties": {"tags": ["security", "supply-chain", "policy"]},
        });
    };
    let info = code.info();
    // Code scanning sorts by this number: a forged file is high, an open question medium.
    let severity = match info.outcome {
        Outcome::Deny => "8.0",
        Outcome::Undecided => "5.0",
    };
    json!({
        "id": info.name,
        "shortDescription": {"text": literal(info.meaning)},
        "fullDescription": {"text": literal(info.meaning)},
        "helpUri": reference::address(code),
        "help": {
            "text": literal(&format!("{} Rule: {}. Usual mend: {}.", info.meaning, info.source, info.fix)),
            "markdown": format!("{}\n\n**Rule:** {}\n\n**Usual mend:** {}", info.meaning, info.source, info.fix),
        },
        "defaultConfiguration": {"level": Level::from(info.outcome).name()},
        "properties": {"tags": ["security", "supply-chain"], "security-severity": severity},
    })
}

/// Stable names of results: what was found, about what, where; and a number where that happens twice.
#[derive(Default)]
struct Fingerprints {
    seen: BTreeMap<String, u64>,
}

impl Fingerprints {
    fn of(&mut self, reason: &Reason) -> String {
        let parts = [
            Some(reason.code.as_str()),
            reason.subject.as_deref(),
            reason.evidence.as_deref(),
            reason.location.as_deref(),
        ];
        let hash = Digest::sha256(json!(parts).to_string().as_bytes()).to_hex();
        let times = self.seen.entry(hash.clone()).or_insert(0);
        *times = times.saturating_add(1);
        format!("{hash}:{times}")
    }
}

#[cfg(test)]
mod tests {
    use super::{line_number, literal, uri};

    #[test]
    fn names_become_uri_references_that_stay_relative() {
        assert_eq!(uri("dist/app 1.0.tar.gz"), "dist/app%201.0.tar.gz");
        assert_eq!(uri("./a#b?c"), "a%23b%3Fc");
        assert_eq!(uri("sha256:ab"), "sha256%3Aab");
        assert_eq!(uri("/srv/ü"), "file:///srv/%C3%BC");
        assert_eq!(uri("javascript:alert(1)"), "javascript%3Aalert%281%29");
    }

    #[test]
    fn a_link_or_placeholder_in_a_name_is_shown_and_not_followed() {
        assert_eq!(literal("[x](https://evil) {0}"), "\\[x\\](https://evil) {{0}}");
    }

    #[test]
    fn a_line_is_read_from_a_location_and_a_field_path_has_none() {
        assert_eq!(line_number("line 12, column 3"), Some(12));
        assert_eq!(line_number("7"), Some(7));
        assert_eq!(line_number("0"), None);
        assert_eq!(line_number("subject[0].digest"), None);
    }
}
