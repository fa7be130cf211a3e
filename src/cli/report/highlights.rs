//! The facts of a subject in; the few lines that a person wants to see of them out.
//! They were proved elsewhere: this file chooses and words them, and never reads them for a decision.

use serde_json::Value;

/// A label and its value.
pub(super) type Line = (String, String);

/// How many signatures are told in full; a threshold of more is rare, and `--format json` has them all.
const SIGNATURES: usize = 4;

/// What the lines above come from; every other scalar fact of a verb is shown under its own name.
const TOLD: [&str; 8] = ["signer", "log", "provenance", "sbom", "vex", "documents", "signatures", "checksums"];

/// Who signed, when and by whose clock, where it was logged, what it was built from, and by whom.
pub(super) fn lines(facts: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    let signatures = facts.get("signatures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for signature in signatures.iter().take(SIGNATURES) {
        push_signature(&mut lines, signature);
    }
    if signatures.len() > SIGNATURES {
        push(&mut lines, "and", Some(format!("{} more signatures", signatures.len().saturating_sub(SIGNATURES))));
    }
    if let Some(provenance) = facts.get("provenance") {
        push(&mut lines, "source", source(provenance));
        push(&mut lines, "builder", text(provenance, "builder_id").map(str::to_owned));
    }
    for listing in facts.get("checksums").and_then(Value::as_array).into_iter().flatten() {
        let by = listing.get("signer").and_then(describe).map_or(String::new(), |signer| format!(" by {signer}"));
        let signed = if listing.get("signed").and_then(Value::as_bool) == Some(true) { "signed" } else { "not signed" };
        push(&mut lines, "listed in", text(listing, "evidence").map(|list| format!("{list} ({signed}{by})")));
    }
    for document in facts.get("documents").and_then(Value::as_array).into_iter().flatten() {
        let format = text(document, "format").unwrap_or_default();
        let label = if text(document, "kind") == Some("vex") { "VEX" } else { "SBOM" };
        push(&mut lines, label, text(document, "evidence").map(|file| format!("{file} ({format})")));
    }
    for (name, value) in facts.as_object().into_iter().flatten().filter(|(name, _)| !TOLD.contains(&name.as_str())) {
        let shown = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        push(&mut lines, &name.replace('_', " "), shown);
    }
    lines
}

/// One line about who signed the artifact, or else the list that names it, for a table's cell.
pub(super) fn signer(facts: &Value) -> Option<String> {
    let listings = facts.get("checksums").and_then(Value::as_array).into_iter().flatten();
    facts
        .get("signer")
        .and_then(describe)
        .or_else(|| listings.filter_map(|listing| describe(listing.get("signer")?)).next())
}

fn describe(signer: &Value) -> Option<String> {
    text(signer, "identity").map(str::to_owned).or_else(|| {
        let kind = if text(signer, "kind") == Some("openpgp") { "OpenPGP" } else { "key" };
        text(signer, "fingerprint").map(|fingerprint| format!("{kind} {fingerprint}"))
    })
}

fn push_signature(lines: &mut Vec<Line>, signature: &Value) {
    push(lines, "signer", signer(signature));
    push(lines, "issuer", signature.pointer("/signer/issuer").and_then(Value::as_str).map(str::to_owned));
    if text(signature.get("signer").unwrap_or(&Value::Null), "kind") == Some("openpgp") {
        push(lines, "key", openpgp_validity(signature));
    }
    for time in signature.get("times").and_then(Value::as_array).into_iter().flatten() {
        let clock = match text(time, "clock") {
            Some("log") => "by the log's clock",
            Some("timestamp-authority") => "by a timestamp authority",
            _ => "by the signer's own claim",
        };
        push(lines, "signed", text(time, "at").map(|at| format!("{at} {clock}")));
    }
    for entry in signature.get("logs").and_then(Value::as_array).into_iter().flatten() {
        let origin = text(entry, "origin").map_or(String::new(), |origin| format!("{origin} "));
        let index = entry.get("index").map_or(String::new(), |index| format!("index {index}, "));
        push(lines, "log", text(entry, "uuid").map(|uuid| format!("{origin}{index}uuid {uuid}")));
    }
    if let Some(attestation) = signature.get("attestation").filter(|attestation| !attestation.is_null()) {
        push(lines, "attests", text(attestation, "predicate_type").map(str::to_owned));
    }
}

/// At which time the key had to be valid, and whether it still is: the two answers differ for old releases.
fn openpgp_validity(signature: &Value) -> Option<String> {
    let signer = signature.get("signer")?;
    let asked = match text(signer, "validity")? {
        "now" => "valid now, as asked",
        _ => "valid when it signed",
    };
    let today = match (text(signer, "validity"), signer.get("valid_now").and_then(Value::as_bool)) {
        (Some("now"), _) | (_, None) => "",
        (_, Some(true)) => ", and still",
        (_, Some(false)) => ", not any more",
    };
    Some(format!("{asked}{today}"))
}

fn source(provenance: &Value) -> Option<String> {
    let uri = text(provenance, "source_uri")?;
    let reference = text(provenance, "source_ref").map_or(String::new(), |reference| format!("@{reference}"));
    let commit = text(provenance, "source_digest").map_or(String::new(), |commit| format!(" ({commit})"));
    Some(format!("{uri}{reference}{commit}"))
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

fn push(lines: &mut Vec<Line>, label: &str, value: Option<String>) {
    if let Some(value) = value {
        lines.push((label.to_owned(), value));
    }
}
