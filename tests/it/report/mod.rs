//! Reports in every format, over reports made here: what people, programs, code scanning and workflows read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use debvisor::cli::{Format, report};
use debvisor::release::decision::{Decision, PolicyReference, Report, SubjectReport, TrustRootReference};
use debvisor::types::{Code, Digest, Reason, ReasonCode};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

fn render(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    report::write(report, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Text as it looks where there is no terminal.
fn plain(report: &Report) -> String {
    let mut out = anstream::StripStream::new(Vec::new());
    report::write(report, Format::Text, &mut out).unwrap();
    String::from_utf8(out.into_inner()).unwrap()
}

fn subject(name: &str, decision: Decision, facts: Value) -> SubjectReport {
    let digest = BTreeMap::from([("sha256".to_owned(), Digest::sha256(name.as_bytes()).to_hex())]);
    SubjectReport { name: name.to_owned(), digest, decision, facts }
}

fn keyless_facts() -> Value {
    let signer = json!({
        "kind": "certificate",
        "identity": "https://github.com/o/r/.github/workflows/release.yml@refs/tags/v1",
        "issuer": "https://token.actions.githubusercontent.com",
        "claims": {},
    });
    let log = json!({
        "index": 42, "uuid": "00aa", "origin": "rekor.example", "log_id": "aWQ=", "kind": "dsse/0.0.1",
        "integrated_at": "2026-01-01T00:00:00Z",
    });
    let provenance = json!({
        "builder_id": "https://github.com/o/b/.github/workflows/build.yml@refs/tags/v2",
        "build_type": "https://actions.github.io/buildtypes/workflow/v1",
        "source_uri": "https://github.com/o/r", "source_ref": "refs/tags/v1", "source_digest": "abc123",
        "runner_environment": "github-hosted",
    });
    json!({
        "signer": signer, "log": log, "provenance": provenance, "sbom": {},
        "signatures": [{
            "evidence": "app.sigstore.json", "signer": signer, "logs": [log],
            "times": [
                {"at": "2026-01-01T00:00:00Z", "clock": "log"},
                {"at": "2026-01-01T00:00:01Z", "clock": "timestamp-authority"},
            ],
            "attestation": {
                "predicate_type": "https://slsa.dev/provenance/v1", "payload_digest": "sha256:00", "subjects": 1,
                "subject_name": "app", "provenance": provenance, "summary": null, "predicate": {},
            },
        }],
        "checksums": [],
    })
}

fn openpgp_facts() -> Value {
    let signer = json!({
        "kind": "openpgp", "fingerprint": "AAAA", "signing_key": "BBBB", "validity": "at-signing", "valid_now": false,
    });
    json!({
        "signer": signer, "log": null, "provenance": {}, "sbom": {},
        "signatures": [{
            "evidence": "SHA256SUMS.asc", "signer": signer, "logs": [], "attestation": null,
            "times": [{"at": "2026-01-01T00:00:00Z", "clock": "signer"}],
        }],
        "checksums": [{"evidence": "SHA256SUMS", "name": "b", "digest": "sha256:00", "signed": true}],
    })
}

fn with_basis(mut report: Report) -> Report {
    report.policy = Some(PolicyReference { name: "release".to_owned(), digest: Digest::sha256(b"policy") });
    report.trust_root = Some(TrustRootReference { digest: Digest::sha256(b"root"), age_days: Some(12) });
    report
}

fn allowed() -> Report {
    with_basis(Report::new(
        vec![subject("app.tar.gz", Decision::Allow, keyless_facts())],
        Vec::new(),
        Timestamp::UNIX_EPOCH,
    ))
}

fn refused() -> Report {
    let mut report = Report::new(
        vec![subject("app.tar.gz", Decision::Deny, Value::Null)],
        vec![
            Reason::new(Code::IdentityMismatch, "signed by `a@example.com`, expected `b@example.com`")
                .evidence("app.sigstore.json")
                .location("verificationMaterial.certificate"),
            Reason::from_policy(ReasonCode::from_policy("too-few-reviews").unwrap(), "two reviews are needed"),
        ],
        Timestamp::UNIX_EPOCH,
    );
    report.warnings.push(Reason::new(Code::PolicyDenied, "the release has no VEX document").hint("add one"));
    with_basis(report)
}

fn undecided() -> Report {
    Report::new(
        vec![subject("app.tar.gz", Decision::Undecided, Value::Null)],
        vec![Reason::new(Code::EvidenceMissing, "no bundle was given for app.tar.gz").subject("app.tar.gz")],
        Timestamp::UNIX_EPOCH,
    )
}

fn many() -> Report {
    Report::new(
        vec![
            subject("a", Decision::Allow, keyless_facts()),
            subject("b", Decision::Allow, openpgp_facts()),
            subject("c", Decision::Deny, Value::Null),
            subject("d", Decision::Undecided, Value::Null),
        ],
        vec![
            Reason::new(Code::ChecksumMismatch, "the list says sha256:00, the file is sha256:01")
                .subject("c")
                .evidence("SHA256SUMS")
                .location("line 3"),
            Reason::new(Code::EvidenceUnreadable, "cannot read d.asc").subject("d").evidence("d.asc"),
            Reason::new(Code::ChecksumMissing, "the run found no list"),
        ],
        Timestamp::UNIX_EPOCH,
    )
}

/// An outsider who chose every word of the report.
fn hostile() -> Report {
    let name = "x\n::error::%0A\u{1b}[2K\u{202e}|<img src=x>](https://evil.example){0}##[set-env name=A]b";
    let facts = json!({"signatures": [{"signer": {"kind": "certificate", "identity": name}}], "note": name});
    Report::new(
        vec![subject(name, Decision::Deny, facts)],
        vec![Reason::new(Code::FileUnlisted, name).subject(name).evidence(name).location(name).hint(name)],
        Timestamp::UNIX_EPOCH,
    )
}

fn samples() -> [(&'static str, Report); 5] {
    [
        ("allowed", allowed()),
        ("refused", refused()),
        ("undecided", undecided()),
        ("many", many()),
        ("hostile", hostile()),
    ]
}

/// Compares with the kept text, or keeps it: `DEBVISOR_UPDATE_GOLDEN=1 cargo test --test it`.
#[expect(clippy::disallowed_methods, reason = "a developer's switch for this test alone")]
pub(crate) fn assert_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/report/golden").join(name);
    if std::env::var_os("DEBVISOR_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(
        actual.replace(&version, "\"VERSION\"") == kept.replace(&version, "\"VERSION\""),
        "{} is not what was kept; look at both, then DEBVISOR_UPDATE_GOLDEN=1\n--- kept\n{kept}\n--- now\n{actual}",
        path.display()
    );
}

#[test]
fn text_is_what_was_kept() {
    for (name, report) in samples() {
        assert_golden(&format!("{name}.txt"), &plain(&report));
    }
}

#[test]
fn sarif_is_what_was_kept() {
    for (name, report) in samples() {
        assert_golden(&format!("{name}.sarif"), &render(&report, Format::Sarif));
    }
}

#[test]
fn github_annotations_are_what_was_kept() {
    for (name, report) in samples() {
        assert_golden(&format!("{name}.github"), &render(&report, Format::Github));
    }
}

#[test]
fn json_is_the_report_with_its_fields_in_the_documented_order() {
    let text = render(&refused(), Format::Json);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value, serde_json::to_value(refused()).unwrap());
    let order = ["\n  \"decision\"", "\n  \"subjects\"", "\n  \"reasons\"", "\n  \"warnings\"", "\n  \"facts\""];
    let later = ["\n  \"policy\"", "\n  \"trust_root\"", "\n  \"decided_at\""];
    let positions: Vec<usize> = order.iter().chain(&later).map(|field| text.find(field).unwrap()).collect();
    assert!(positions.is_sorted(), "{text}");
}

#[test]
fn undecided_never_looks_like_a_no_or_a_yes() {
    let text = plain(&undecided());
    assert!(text.contains("? undecided"));
    assert!(!text.contains('✘') && !text.contains('✔'), "{text}");
}

/// What the official schema has against a SARIF log.
pub(crate) fn sarif_errors(log: &str) -> Vec<String> {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let validator = SCHEMA.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schemas/sarif-2.1.0.json");
        // One pattern, of languages, has a stray bracket that only lenient engines take; we write no language.
        let text = std::fs::read_to_string(path).unwrap().replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}?$");
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    });
    let log: Value = serde_json::from_str(log).unwrap();
    validator.iter_errors(&log).map(|error| format!("{error} at {}", error.instance_path())).collect()
}

#[test]
fn sarif_is_valid_against_the_official_schema() {
    for (name, report) in samples() {
        let errors = sarif_errors(&render(&report, Format::Sarif));
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    assert!(!sarif_errors(r#"{"version": "2.1.0", "runs": [{}]}"#).is_empty(), "the schema refuses what is none");
}

#[test]
fn sarif_tells_a_no_an_open_question_and_a_warning_apart() {
    let level = |report: &Report, index: usize| {
        let log: Value = serde_json::from_str(&render(report, Format::Sarif)).unwrap();
        log.pointer(&format!("/runs/0/results/{index}/level")).and_then(Value::as_str).unwrap().to_owned()
    };
    assert_eq!(level(&refused(), 0), "error");
    assert_eq!(level(&refused(), 2), "note");
    assert_eq!(level(&undecided(), 0), "warning");
}

#[test]
fn sarif_fingerprints_outlive_another_wording_and_tell_places_apart() {
    let print = |message: &str, place: &str| {
        let reason = Reason::new(Code::ChecksumMismatch, message).evidence("SHA256SUMS").location(place);
        let report = Report::new(Vec::new(), vec![reason], Timestamp::UNIX_EPOCH);
        let log: Value = serde_json::from_str(&render(&report, Format::Sarif)).unwrap();
        log.pointer("/runs/0/results/0/fingerprints/debvisor~1v1").and_then(Value::as_str).unwrap().to_owned()
    };
    assert_eq!(print("one wording", "line 1"), print("another", "line 1"));
    assert_ne!(print("one wording", "line 1"), print("one wording", "line 2"));
}

#[test]
fn an_outsiders_words_never_reach_a_terminal_as_they_are() {
    let text = plain(&hostile());
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let coloured = render(&hostile(), Format::Text);
    assert!(!coloured.contains("\u{1b}[2K"), "{coloured:?}");
}

#[test]
fn an_outsiders_words_never_become_a_workflow_command() {
    let text = render(&hostile(), Format::Github);
    let lines: Vec<&str> = text.lines().collect();
    // One annotation and our own closing line, which carries no outsider's word.
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("::error file="), "{text}");
    assert_eq!(lines[1], "decision: deny (1 subjects)");
}

#[test]
fn a_large_run_counts_the_allowed_and_names_every_refused_one() {
    let mut subjects: Vec<SubjectReport> =
        (0..500).map(|index| subject(&format!("file-{index}"), Decision::Allow, Value::Null)).collect();
    subjects.push(subject("bad", Decision::Deny, Value::Null));
    let reason = Reason::new(Code::FileUnlisted, "nobody listed it").subject("bad");
    let text = plain(&Report::new(subjects, vec![reason], Timestamp::UNIX_EPOCH));
    assert!(text.contains("✘ deny  501 subjects: 500 allowed, 1 refused"), "{text}");
    assert!(text.contains("✘ deny  bad\n  ✘ file-unlisted: nobody listed it"), "{text}");
    assert!(!text.contains("file-7"), "{text}");
}

proptest! {
    /// Whatever an outsider calls a file, every reader of a report reads what we wrote.
    #[test]
    fn no_word_of_an_outsider_is_read_as_anything_else(words in proptest::collection::vec(any::<String>(), 5)) {
        let [name, message, evidence, location, hint] = words.as_slice() else { unreachable!() };
        let reason = Reason::new(Code::FileUnlisted, message).evidence(evidence).location(location).hint(hint);
        let subjects = vec![subject(name, Decision::Deny, json!({"note": message})), subject("b", Decision::Allow, Value::Null)];
        let report = Report::new(subjects, vec![reason.subject(name)], Timestamp::UNIX_EPOCH);

        let text = plain(&report);
        prop_assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{:?}", text);

        let github = render(&report, Format::Github);
        let lines: Vec<&str> = github.lines().collect();
        prop_assert_eq!(lines.len(), 2);
        prop_assert!(lines[0].starts_with("::error file="));
        prop_assert_eq!(lines[1], "decision: deny (2 subjects)");

        prop_assert_eq!(sarif_errors(&render(&report, Format::Sarif)), Vec::<String>::new());
        let json: Value = serde_json::from_str(&render(&report, Format::Json)).unwrap();
        prop_assert_eq!(json["reasons"][0]["message"].as_str(), Some(message.as_str()));
    }
}
