//! OpenVEX documents: bytes in, statements about vulnerabilities out.
//!
//! Source: OpenVEX specification 0.2.0 and its JSON Schema, which decides what is one. Whether a statement is true is
//! for whoever signed it; what follows from it is decided by policies.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::Date;
use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::types::{Code, Reason, limits};

pub mod findings;

/// An OpenVEX document, valid by its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The context, which names the specification's version.
    #[serde(rename = "@context")]
    pub context: String,
    /// The document's IRI.
    #[serde(rename = "@id")]
    pub id: String,
    /// Who says it.
    pub author: String,
    /// In what role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// When it was made, as written.
    pub timestamp: String,
    /// When it was last changed, as written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_updated: Option<String>,
    /// The document's revision, from 1.
    pub version: u64,
    /// What made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tooling: Option<String>,
    /// What it says.
    pub statements: Vec<Statement>,
}

/// One statement: what a vulnerability means for products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The statement's IRI.
    #[serde(rename = "@id", skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// The vulnerability.
    pub vulnerability: Vulnerability,
    /// When the statement was made; the document's time where it does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp: Option<String>,
    /// When it was last changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_updated: Option<String>,
    /// What it is about.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub products: Vec<Product>,
    /// What it says.
    pub status: Status,
    /// How the status was found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status_notes: Option<String>,
    /// Why the products are not affected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub justification: Option<Justification>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub impact_statement: Option<String>,
    /// What those who are affected should do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_statement: Option<String>,
    /// When that was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_statement_timestamp: Option<String>,
}

/// How a statement's notes give the last day on which it holds. OpenVEX has no field for it.
pub const HOLDS_UNTIL: &str = "holds until ";

impl Statement {
    /// The last day on which the statement holds, where its notes give one.
    pub fn last_day(&self) -> Option<Date> {
        let notes = self.status_notes.as_deref()?;
        let (_, day) = notes.rsplit_once(HOLDS_UNTIL)?;
        day.parse().ok()
    }
}

/// A vulnerability and its other names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vulnerability {
    /// An IRI.
    #[serde(rename = "@id", skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// The main name, as `CVE-2024-0001`.
    pub name: String,
    /// A description.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// Other names.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub aliases: Vec<String>,
}

/// A product or a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// An IRI, mostly a package URL.
    #[serde(rename = "@id", skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Names in other schemes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub identifiers: Option<Value>,
    /// Digests, by algorithm.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hashes: Option<Value>,
    /// The parts that the statement is about.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub subcomponents: Vec<Self>,
}

impl Product {
    /// A product of this package URL.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::default() }
    }

    /// Whether this is the product of that name, by its IRI or any of its identifiers.
    pub fn is_named(&self, name: &str) -> bool {
        let identifiers = self.identifiers.as_ref().and_then(Value::as_object);
        self.id.as_deref() == Some(name)
            || identifiers.into_iter().flatten().any(|(_, value)| value.as_str() == Some(name))
    }
}

/// What a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing needs to be done.
    NotAffected,
    /// Something should be done.
    Affected,
    /// These versions have a fix.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

impl Status {
    /// Whether a finding with this status is explained: somebody looked and found nothing left to do.
    pub const fn explains(self) -> bool {
        matches!(self, Self::NotAffected | Self::Fixed)
    }
}

/// Why products are not affected (OpenVEX specification, "Status Justifications").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Justification {
    /// The vulnerable component is not in the product.
    ComponentNotPresent,
    /// The component is, its vulnerable code is not.
    VulnerableCodeNotPresent,
    /// The code is there and never runs.
    VulnerableCodeNotInExecutePath,
    /// It runs and no attacker controls it.
    VulnerableCodeCannotBeControlledByAdversary,
    /// Something else stops the attack.
    InlineMitigationsAlreadyExist,
}

const SCHEMA: &str = include_str!("openvex-0.2.0.schema.json");

/// The compiled schema; a test keeps it compiling.
fn schema() -> Result<&'static Validator, Reason> {
    static VALIDATOR: OnceLock<Result<Validator, String>> = OnceLock::new();
    let compile = || {
        let schema: Value = serde_json::from_str(SCHEMA).map_err(|error| error.to_string())?;
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| error.to_string())
    };
    VALIDATOR
        .get_or_init(compile)
        .as_ref()
        .map_err(|error| Reason::new(Code::InternalError, format!("the embedded OpenVEX schema: {error}")))
}

/// Reasons that one document gives at most; the first ones say enough.
const REASONS: usize = 50;

impl Document {
    /// Reads a document and holds it against the schema, and against itself.
    ///
    /// # Errors
    /// Every reason why it is no valid OpenVEX document.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Reason>> {
        if bytes.len() as u64 > limits::EVIDENCE_BYTES {
            let message = format!("a VEX document has at most {} bytes", limits::EVIDENCE_BYTES);
            return Err(vec![Reason::new(Code::InputTooLarge, message)]);
        }
        let value = json::parse_value(bytes).map_err(|reason| vec![reason])?;
        let schema = schema().map_err(|reason| vec![reason])?;
        let reasons: Vec<Reason> = schema
            .iter_errors(&value)
            .take(REASONS)
            .map(|error| {
                let place = error.instance_path().to_string();
                let reason = Reason::new(Code::VexInvalid, error.to_string());
                if place.is_empty() { reason } else { reason.location(place) }
            })
            .collect();
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let document: Self =
            serde_json::from_value(value).map_err(|error| vec![Reason::new(Code::VexInvalid, error.to_string())])?;
        let reasons = document.own_contradictions();
        if reasons.is_empty() { Ok(document) } else { Err(reasons) }
    }

    /// Reads a document for what it says. Members that the specification does not know are passed over, as other
    /// readers do; what it says must be of the right form all the same, and not contradict itself.
    ///
    /// # Errors
    /// Every reason why nothing can be read from it.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<Reason>> {
        let document: Self = json::parse(bytes, Code::VexInvalid).map_err(|reason| vec![reason])?;
        let reasons = document.own_contradictions();
        if reasons.is_empty() { Ok(document) } else { Err(reasons) }
    }

    /// What the schema cannot say: a status that needs a reason has one (specification, "Status Labels").
    fn own_contradictions(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for (position, statement) in self.statements.iter().enumerate() {
            let mut refuse = |message: &str| {
                reasons.push(Reason::new(Code::VexInvalid, message).location(format!("/statements/{position}")));
            };
            let explained = statement.justification.is_some() || statement.impact_statement.is_some();
            match statement.status {
                Status::NotAffected if !explained => {
                    refuse("`not_affected` needs a justification or an impact statement");
                }
                Status::Affected if statement.action_statement.is_none() => {
                    refuse("`affected` needs an action statement");
                }
                _ => {}
            }
        }
        reasons
    }

    /// When a statement was made.
    pub fn made_at(&self, statement: &Statement) -> Option<Timestamp> {
        statement.timestamp.as_deref().unwrap_or(&self.timestamp).parse().ok()
    }

    /// The newest statement about a vulnerability, by any of its names, and about the product where one is given.
    pub fn newest(&self, vulnerability: &str, product: Option<&str>) -> Option<&Statement> {
        let is_about = |statement: &&Statement| {
            let named = &statement.vulnerability;
            let names = std::iter::once(&named.name).chain(&named.aliases);
            let by_name = names.into_iter().any(|name| name == vulnerability);
            let by_product = product.is_none_or(|product| {
                statement.products.iter().any(|found| {
                    found.is_named(product) || found.subcomponents.iter().any(|part| part.is_named(product))
                })
            });
            by_name && by_product
        };
        // Of statements of one time the later in the document counts: it was added after.
        self.statements.iter().filter(is_about).max_by_key(|statement| self.made_at(statement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(statement: &str) -> String {
        format!(
            r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://openvex.dev/docs/x", "author": "a",
            "timestamp": "2026-01-01T00:00:00Z", "version": 1, "statements": [{statement}]}}"#
        )
    }

    #[test]
    fn the_schema_compiles_and_decides() {
        assert!(Document::parse(document("").as_bytes()).is_err(), "a document without statements");
        let sound = r#"{"vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": "pkg:cargo/a@1"}],
            "status": "not_affected", "justification": "component_not_present"}"#;
        let parsed = Document::parse(document(sound).as_bytes()).unwrap();
        assert_eq!(parsed.statements.len(), 1);
        let again = serde_json::to_vec(&parsed).unwrap();
        assert_eq!(Document::parse(&again).unwrap(), parsed);
    }

    #[test]
    fn the_newest_statement_counts() {
        let two = r#"{"vulnerability": {"name": "CVE-2026-1", "aliases": ["GHSA-1"]}, "timestamp": "2026-01-02T00:00:00Z",
            "products": [{"@id": "pkg:cargo/a@1"}], "status": "fixed"},
            {"vulnerability": {"name": "CVE-2026-1"}, "timestamp": "2026-01-01T00:00:00Z",
            "products": [{"@id": "pkg:cargo/a@1"}], "status": "under_investigation"}"#;
        let parsed = Document::parse(document(two).as_bytes()).unwrap();
        assert_eq!(parsed.newest("CVE-2026-1", None).unwrap().status, Status::Fixed);
        assert_eq!(parsed.newest("GHSA-1", Some("pkg:cargo/a@1")).unwrap().status, Status::Fixed);
        assert!(parsed.newest("CVE-2026-1", Some("pkg:cargo/b@1")).is_none());
    }
}
