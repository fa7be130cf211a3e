//! OpenVEX documents, written: findings, the operator's decisions and the last release's document in; one document out.
//!
//! A finding that nobody decided about is `under_investigation`, and so is one whose decision has expired: silence
//! never reads as safety. The same input gives the same bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::release::artifact::Artifact;
use crate::release::evidence::vex::findings::{Finding, Severity};
use crate::release::evidence::vex::{Document, HOLDS_UNTIL, Justification, Product, Statement, Status, Vulnerability};
use crate::types::{Digest, DigestAlgorithm};

/// The operator's decisions about findings, as a TOML file has them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triage {
    /// One decision after the other; the first that fits a finding counts.
    #[serde(default, rename = "decision")]
    pub decisions: Vec<TriageDecision>,
}

/// One decision.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TriageDecision {
    /// The vulnerability, by any of its names.
    pub vulnerability: String,
    /// The component, as the scanner names it; every component where it is left out.
    #[serde(default)]
    pub component: Option<String>,
    /// What is decided.
    pub status: Status,
    /// Why nothing is affected.
    #[serde(default)]
    pub justification: Option<Justification>,
    /// The same in words.
    #[serde(default)]
    pub impact: Option<String>,
    /// What those who are affected should do.
    #[serde(default)]
    pub action: Option<String>,
    /// The last day on which the decision holds.
    #[serde(default, deserialize_with = "day")]
    pub expires: Option<Date>,
}

/// A day as TOML writes it, with or without quotation marks.
fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Day {
        Toml(toml::value::Datetime),
        Text(String),
    }
    let text = match Day::deserialize(deserializer)? {
        Day::Toml(date) => date.to_string(),
        Day::Text(text) => text,
    };
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("`{text}` is no day, as 2026-12-31 is one")))
}

/// Why a triage file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TriageError {
    /// Not TOML, or not of the form that is documented.
    #[error("{0}")]
    Toml(String),
    /// A decision lacks what its status needs.
    #[error("decision {position} ({vulnerability}): {message}")]
    Incomplete {
        /// Which one, from 1.
        position: usize,
        /// About what.
        vulnerability: String,
        /// What is missing.
        message: &'static str,
    },
}

impl Triage {
    /// Reads a triage file.
    ///
    /// # Errors
    /// [`TriageError`], with the line where it is no TOML.
    pub fn parse(text: &str) -> Result<Self, TriageError> {
        let triage: Self = toml::from_str(text).map_err(|error| TriageError::Toml(error.to_string()))?;
        for (index, decision) in triage.decisions.iter().enumerate() {
            let incomplete = |message| TriageError::Incomplete {
                position: index.saturating_add(1),
                vulnerability: decision.vulnerability.clone(),
                message,
            };
            let explained = decision.justification.is_some() || decision.impact.is_some();
            match decision.status {
                Status::NotAffected if !explained => {
                    return Err(incomplete("`not_affected` needs a justification or an impact"));
                }
                Status::Affected if decision.action.is_none() => {
                    return Err(incomplete("`affected` needs an action"));
                }
                _ => {}
            }
        }
        Ok(triage)
    }
}

/// What a document is made from.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Who says it.
    pub author: &'a str,
    /// The product that the findings are in; the components are then parts of it.
    pub product: Option<&'a str>,
    /// What the scanner found.
    pub findings: &'a [Finding],
    /// What was decided.
    pub triage: &'a Triage,
    /// The last release's document: its statements hold on where the component is the same.
    pub previous: Option<&'a Document>,
    /// The time by which decisions hold or have expired.
    pub now: Timestamp,
    /// The time to write into the document.
    pub dated: Timestamp,
}

/// Who made a document.
const TOOLING: &str = concat!("debvisor/", env!("CARGO_PKG_VERSION"));
const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

impl Draft<'_> {
    /// The document.
    pub fn document(&self) -> Document {
        // One statement for each vulnerability and component, whatever the scanner repeats.
        let mut statements = BTreeMap::new();
        for finding in self.findings {
            let key = (finding.vulnerability.clone(), finding.component.clone());
            statements.entry(key).or_insert_with(|| self.statement(finding));
        }
        finished(self.author, statements.into_values().collect(), self.dated)
    }

    fn statement(&self, finding: &Finding) -> Statement {
        let product = match self.product {
            Some(product) => Product { subcomponents: vec![Product::new(&finding.component)], ..Product::new(product) },
            None => Product::new(&finding.component),
        };
        let mut statement = Statement {
            id: None,
            vulnerability: Vulnerability {
                id: None,
                name: finding.vulnerability.clone(),
                description: None,
                aliases: finding.aliases.clone(),
            },
            timestamp: Some(self.dated.to_string()),
            last_updated: None,
            products: vec![product],
            status: Status::UnderInvestigation,
            status_notes: notes(finding, None, None),
            justification: None,
            impact_statement: None,
            action_statement: None,
            action_statement_timestamp: None,
        };
        let names: Vec<&String> = std::iter::once(&finding.vulnerability).chain(&finding.aliases).collect();
        let decided = self.triage.decisions.iter().find(|decision| {
            names.contains(&&decision.vulnerability)
                && decision.component.as_ref().is_none_or(|component| *component == finding.component)
        });
        if let Some(decision) = decided {
            if decision.expires.is_some_and(|last| self.now.to_zoned(jiff::tz::TimeZone::UTC).date() > last) {
                let last = decision.expires.map(|last| last.to_string()).unwrap_or_default();
                statement.status_notes = notes(finding, Some(format!("the decision expired on {last}")), None);
                return statement;
            }
            statement.status = decision.status;
            statement.justification = decision.justification;
            statement.impact_statement.clone_from(&decision.impact);
            statement.action_statement.clone_from(&decision.action);
            // Written down, so that the next release inherits the day with the decision.
            statement.status_notes = notes(finding, None, decision.expires);
            return statement;
        }
        // What was said of the same component, to the version, holds on; its date stays, so that nobody takes it for new.
        let inherited = self.previous.and_then(|previous| {
            let found = names.iter().find_map(|name| previous.newest(name, Some(&finding.component)))?;
            Some((found, found.timestamp.clone().unwrap_or_else(|| previous.timestamp.clone())))
        });
        if let Some((earlier, made_at)) = inherited
            && earlier.status != Status::UnderInvestigation
        {
            let last = earlier.last_day();
            if last.is_some_and(|last| self.now.to_zoned(jiff::tz::TimeZone::UTC).date() > last) {
                let last = last.map(|last| last.to_string()).unwrap_or_default();
                let said = format!("the decision of an earlier release expired on {last}");
                statement.status_notes = notes(finding, Some(said), None);
                return statement;
            }
            statement.status = earlier.status;
            statement.justification = earlier.justification;
            statement.impact_statement.clone_from(&earlier.impact_statement);
            statement.action_statement.clone_from(&earlier.action_statement);
            statement.status_notes = notes(finding, Some("inherited from the last release".to_owned()), last);
            statement.timestamp = Some(made_at);
        }
        statement
    }
}

/// What a statement's notes say: how bad the scanner calls the finding, a sentence, and the last day.
fn notes(finding: &Finding, sentence: Option<String>, last: Option<Date>) -> Option<String> {
    let severity = (finding.severity != Severity::Unknown).then(|| format!("severity {}", finding.severity.name()));
    let last = last.map(|last| format!("{HOLDS_UNTIL}{last}"));
    let parts: Vec<String> = severity.into_iter().chain(sentence).chain(last).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The same document about one artifact of a release: every product that gives no digest of its own is that artifact.
/// Statements about other bytes are left out.
#[must_use]
pub fn of_artifact(mut document: Document, artifact: &Artifact) -> Document {
    let digests = hashes(artifact);
    let binds = |hashes: &Value| {
        let hashes = hashes.as_object().into_iter().flatten();
        hashes.into_iter().any(|(name, hex)| digests.get(name).is_some_and(|digest| digest == hex))
    };
    document.statements.retain_mut(|statement| {
        statement.products.retain(|product| product.hashes.as_ref().is_none_or(binds));
        for product in statement.products.iter_mut().filter(|product| product.hashes.is_none()) {
            product.hashes = Some(digests.clone());
        }
        !statement.products.is_empty()
    });
    let dated = document.timestamp.parse().unwrap_or_default();
    finished(&document.author, document.statements, dated)
}

/// OpenVEX's names of the algorithms.
fn hashes(artifact: &Artifact) -> Value {
    let name = |digest: &Digest| match digest.algorithm() {
        DigestAlgorithm::Sha256 => "sha-256",
        DigestAlgorithm::Sha384 => "sha-384",
        DigestAlgorithm::Sha512 => "sha-512",
    };
    artifact.digests().map(|digest| (name(digest).to_owned(), json!(digest.to_hex()))).collect()
}

/// The document about an artifact in which nothing was found, or nobody looked: OpenVEX has no form for it, and
/// CycloneDX has. It says which of the two it was.
pub fn nothing_found(artifact: &Artifact, looked: bool, dated: Timestamp) -> Value {
    let hash = |digest: &Digest| {
        let name = match digest.algorithm() {
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha384 => "SHA-384",
            DigestAlgorithm::Sha512 => "SHA-512",
        };
        json!({"alg": name, "content": digest.to_hex()})
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": Timestamp::from_second(dated.as_second()).unwrap_or(dated),
            "tools": {"components": [{
                "type": "application", "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "file",
                "name": artifact.name,
                "hashes": artifact.digests().map(hash).collect::<Vec<_>>(),
            },
            "properties": [{
                "name": "debvisor:vex:scanned",
                "value": if looked { "the scanners' results hold no finding" } else { "no scanner's results were given" },
            }],
        },
        "vulnerabilities": [],
    })
}

/// One document with the statements of all of them, the oldest first: the newest about a vulnerability counts.
pub fn merge(author: &str, documents: &[Document], now: Timestamp) -> Document {
    let mut statements: Vec<(Option<Timestamp>, Statement)> = documents
        .iter()
        .flat_map(|document| {
            document.statements.iter().map(|statement| {
                let mut own = statement.clone();
                // A statement without a time of its own has its document's, which it would lose here.
                own.timestamp.get_or_insert_with(|| document.timestamp.clone());
                (document.made_at(statement), own)
            })
        })
        .collect();
    statements.sort_by_key(|(made_at, _)| *made_at);
    let mut kept: Vec<Statement> = Vec::new();
    for (_, statement) in statements {
        if !kept.contains(&statement) {
            kept.push(statement);
        }
    }
    finished(author, kept, now)
}

/// Names the document after what it says, as vexctl does: the same statements have the same name.
fn finished(author: &str, statements: Vec<Statement>, now: Timestamp) -> Document {
    let said = serde_json::to_vec(&statements).unwrap_or_default();
    let digest = Digest::sha256(&[author.as_bytes(), b"\n", &said].concat()).to_hex();
    Document {
        context: CONTEXT.to_owned(),
        id: format!("https://openvex.dev/docs/public/vex-{digest}"),
        author: author.to_owned(),
        role: None,
        timestamp: now.to_string(),
        last_updated: None,
        version: 1,
        tooling: Some(TOOLING.to_owned()),
        statements,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn finding(component: &str) -> Finding {
        Finding { vulnerability: "CVE-2026-1".into(), component: component.into(), ..Finding::default() }
    }

    fn document(findings: &[Finding], triage: &str, previous: Option<&Document>) -> Document {
        let triage = Triage::parse(triage).unwrap();
        Draft { author: "acme", product: None, findings, triage: &triage, previous, now: now(), dated: now() }
            .document()
    }

    const DECIDED: &str = r#"
        [[decision]]
        vulnerability = "CVE-2026-1"
        status = "not_affected"
        justification = "vulnerable_code_not_present"
        expires = "2026-12-31"
    "#;

    #[test]
    fn what_is_made_is_valid_and_explains_what_was_decided() {
        let made = document(&[finding("pkg:cargo/a@1")], DECIDED, None);
        let again = Document::parse(&serde_json::to_vec(&made).unwrap()).unwrap();
        assert_eq!(again.newest("CVE-2026-1", Some("pkg:cargo/a@1")).unwrap().status, Status::NotAffected);
    }

    #[test]
    fn an_expired_decision_and_no_decision_are_under_investigation() {
        let expired = DECIDED.replace("2026-12-31", "2026-05-31");
        for triage in [expired.as_str(), ""] {
            let made = document(&[finding("pkg:cargo/a@1")], triage, None);
            assert_eq!(made.statements[0].status, Status::UnderInvestigation);
        }
    }

    #[test]
    fn a_statement_is_inherited_only_where_the_component_is_the_same() {
        let last = document(&[finding("pkg:cargo/a@1")], DECIDED, None);
        let made = document(&[finding("pkg:cargo/a@1"), finding("pkg:cargo/a@2")], "", Some(&last));
        let status = |component| made.newest("CVE-2026-1", Some(component)).unwrap().status;
        assert_eq!(status("pkg:cargo/a@1"), Status::NotAffected);
        assert_eq!(status("pkg:cargo/a@2"), Status::UnderInvestigation);
    }

    #[test]
    fn an_inherited_decision_keeps_its_last_day() {
        let first = document(&[finding("pkg:cargo/a@1")], DECIDED, None);
        let on = |day: &str, previous: &Document| {
            let findings = [finding("pkg:cargo/a@1")];
            let (triage, now): (_, Timestamp) = (Triage::default(), format!("{day}T12:00:00Z").parse().unwrap());
            let draft = Draft {
                author: "acme",
                product: None,
                findings: &findings,
                triage: &triage,
                previous: Some(previous),
                now,
                dated: now,
            };
            draft.document()
        };
        let second = on("2026-12-31", &first);
        assert_eq!(second.statements[0].status, Status::NotAffected);
        for previous in [&first, &second] {
            assert_eq!(on("2027-01-01", previous).statements[0].status, Status::UnderInvestigation);
        }
    }

    #[test]
    fn a_document_of_an_artifact_binds_its_bytes_and_says_nothing_of_others() {
        let artifact = Artifact::from_bytes("app", b"app");
        let mut made = document(&[finding("pkg:cargo/a@1"), finding("pkg:cargo/b@1")], DECIDED, None);
        made.statements[1].products[0].hashes = Some(hashes(&Artifact::from_bytes("other", b"other")));
        let bound = of_artifact(made.clone(), &artifact);
        assert_eq!(bound.statements.len(), 1);
        assert_eq!(bound.statements[0].products[0].hashes, Some(hashes(&artifact)));
        assert_ne!(bound.id, made.id, "another document has another name");
        Document::parse(&serde_json::to_vec(&bound).unwrap()).unwrap();
    }

    #[test]
    fn how_bad_a_finding_is_and_until_when_a_decision_holds_stand_in_the_notes() {
        let critical = Finding { severity: Severity::Critical, ..finding("pkg:cargo/a@1") };
        let made = document(&[critical], DECIDED, None);
        assert_eq!(made.statements[0].status_notes.as_deref(), Some("severity critical; holds until 2026-12-31"));
        assert_eq!(made.statements[0].last_day(), Some("2026-12-31".parse().unwrap()));
    }

    #[test]
    fn a_decision_without_its_reason_is_refused() {
        let bare = "[[decision]]\nvulnerability = \"CVE-2026-1\"\nstatus = \"not_affected\"\n";
        assert!(matches!(Triage::parse(bare), Err(TriageError::Incomplete { position: 1, .. })));
        assert!(matches!(Triage::parse("[[decision]]\nvulnerabilty = 1"), Err(TriageError::Toml(_))));
    }

    #[test]
    fn merging_keeps_every_statement_once_and_the_newest_counts() {
        let first = document(&[finding("pkg:cargo/a@1")], "", None);
        let mut second = document(&[finding("pkg:cargo/a@1")], DECIDED, None);
        second.statements[0].timestamp = Some("2026-06-02T00:00:00Z".into());
        let merged = merge("acme", &[second.clone(), first.clone(), first], now());
        assert_eq!(merged.statements.len(), 2);
        assert_eq!(merged.newest("CVE-2026-1", None).unwrap().status, Status::NotAffected);
    }
}
