//! OpenVEX documents, written: findings, the operator's decisions and the last release's document in; one document out.
//!
//! A finding that nobody decided about is `under_investigation`, and so is one whose decision has expired: silence
//! never reads as safety. The same input gives the same bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use crate::release::evidence::vex::findings::Finding;
use crate::release::evidence::vex::{Document, Justification, Product, Statement, Status, Vulnerability};
use crate::types::Digest;

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
    /// The time of the document.
    pub now: Timestamp,
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
        finished(self.author, statements.into_values().collect(), self.now)
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
            timestamp: Some(self.now.to_string()),
            last_updated: None,
            products: vec![product],
            status: Status::UnderInvestigation,
            status_notes: None,
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
                statement.status_notes = Some(format!("the decision expired on {last}"));
                return statement;
            }
            statement.status = decision.status;
            statement.justification = decision.justification;
            statement.impact_statement.clone_from(&decision.impact);
            statement.action_statement.clone_from(&decision.action);
            // Written down, so that the next release inherits the day with the decision.
            statement.status_notes = decision.expires.map(|last| format!("{HOLDS_UNTIL}{last}"));
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
            let last = last_day(earlier);
            if last.is_some_and(|last| self.now.to_zoned(jiff::tz::TimeZone::UTC).date() > last) {
                let last = last.map(|last| last.to_string()).unwrap_or_default();
                statement.status_notes = Some(format!("the decision of an earlier release expired on {last}"));
                return statement;
            }
            statement.status = earlier.status;
            statement.justification = earlier.justification;
            statement.impact_statement.clone_from(&earlier.impact_statement);
            statement.action_statement.clone_from(&earlier.action_statement);
            let holds = last.map_or_else(String::new, |last| format!("; {HOLDS_UNTIL}{last}"));
            statement.status_notes = Some(format!("inherited from the last release{holds}"));
            statement.timestamp = Some(made_at);
        }
        statement
    }
}

/// How a statement's notes give the last day on which it holds.
const HOLDS_UNTIL: &str = "holds until ";

/// The last day on which a statement of ours holds, where it has one.
fn last_day(statement: &Statement) -> Option<Date> {
    let notes = statement.status_notes.as_deref()?;
    notes.rsplit(HOLDS_UNTIL).next().filter(|day| day.len() < notes.len())?.parse().ok()
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
        Draft { author: "acme", product: None, findings, triage: &triage, previous, now: now() }.document()
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
            let (triage, now) = (Triage::default(), format!("{day}T12:00:00Z").parse().unwrap());
            let draft = Draft {
                author: "acme",
                product: None,
                findings: &findings,
                triage: &triage,
                previous: Some(previous),
                now,
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
