//! The licence statements of a document in; for each component what would have to be fulfilled, as alternatives, out.
//!
//! An SPDX expression is a choice among duties: `(MIT OR GPL-2.0-only) AND Zlib` can be fulfilled as MIT and Zlib, or
//! as GPL and Zlib. The licences policy decides over these alternatives; what is allowed is not decided here.

use serde::Serialize;
use spdx::expression::{ExprNode, Operator};
use spdx::{Expression, LicenseItem, LicenseReq, ParseMode};

use super::model::{Acknowledgement, Component, ComponentKind, LicenseTerm, Sbom, Scope};
use super::purl::Purl;

/// What is said of one component's licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The component's name for messages: its package URL, or name and version.
    pub component: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Its package URL without version, qualifiers and subpath, in canonical form.
    pub package: Option<String>,
    /// Whether it is what the document describes, and not a part of it.
    pub described: bool,
    /// Whether it is a single file.
    pub file: bool,
    /// Whether it is there when the artifact runs.
    pub scope: Option<Scope>,
    /// What the document says, in its own words.
    pub stated: Vec<Stated>,
    /// Ways to fulfil everything that is stated. Empty where nothing is, or nothing is understood.
    pub alternatives: Vec<Vec<Term>>,
    /// What is stated and is no SPDX expression of listed licences and `LicenseRef`s.
    pub unknown: Vec<Unknown>,
}

/// One statement as the document has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stated {
    /// Whose word it is.
    pub acknowledgement: Acknowledgement,
    /// The expression or name.
    pub text: String,
}

/// One licence that has to be fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Term {
    /// The whole of it: `GPL-2.0-only WITH Classpath-exception-2.0`.
    pub text: String,
    /// The licence alone: `GPL-2.0-only`, `LicenseRef-acme`.
    pub id: String,
    /// The exception alone.
    pub exception: Option<String>,
    /// Whether it is on the SPDX list.
    pub listed: bool,
    /// Whether the list calls the identifier deprecated: `GPL-3.0` says neither `-only` nor `-or-later`.
    pub deprecated: bool,
    /// Whether the list calls it copyleft.
    pub copyleft: bool,
    /// Whether the Open Source Initiative has approved it.
    pub osi_approved: bool,
    /// Whether it says of itself that it is proprietary or commercial.
    pub proprietary: bool,
}

/// What was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// The text.
    pub text: String,
    /// Whether it says of itself that it is proprietary or commercial.
    pub proprietary: bool,
}

/// Longer expressions are nobody's licence.
const EXPRESSION_BYTES: usize = 4096;
/// More ways to fulfil a licence are not looked at; the expression then counts as not understood.
const ALTERNATIVES: usize = 64;
/// More licences in one way are not looked at either.
const TERMS: usize = 64;

/// The SPDX grammar with the deprecated identifiers, which are on the list.
const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

/// The statements about every component, the described ones first.
pub fn statements(sbom: &Sbom) -> Vec<Statement> {
    let described = sbom.described.iter().map(|component| (component, true));
    let parts = sbom.components.iter().map(|component| (component, false));
    described.chain(parts).map(|(component, described)| statement(component, described, sbom)).collect()
}

/// The ways to fulfil an expression; nothing where it is not understood.
pub fn alternatives(expression: &str) -> Option<Vec<Vec<Term>>> {
    if expression.len() > EXPRESSION_BYTES {
        return None;
    }
    let expression = Expression::parse_mode(expression, MODE).ok()?;
    let mut stack: Vec<Vec<Vec<Term>>> = Vec::new();
    for node in expression.iter() {
        let value = match node {
            ExprNode::Req(requirement) => vec![vec![term(&requirement.req)]],
            ExprNode::Op(operator) => {
                let (right, left) = (stack.pop()?, stack.pop()?);
                match operator {
                    Operator::Or => either(left, right)?,
                    Operator::And => both(&left, &right)?,
                }
            }
        };
        stack.push(value);
    }
    stack.pop().filter(|_| stack.is_empty())
}

fn statement(component: &Component, described: bool, sbom: &Sbom) -> Statement {
    let mut alternatives: Option<Vec<Vec<Term>>> = None;
    let mut unknown = Vec::new();
    for license in &component.licenses {
        let understood = match &license.term {
            LicenseTerm::Expression(text) => self::alternatives(text),
            // A name that is exactly an identifier of the list is that licence.
            LicenseTerm::Name(text) => spdx::license_id(text).and_then(|id| self::alternatives(id.name)),
        };
        let text = text_of(&license.term);
        match understood {
            None => unknown.push(Unknown { text: text.to_owned(), proprietary: is_proprietary(text) }),
            Some(understood) => {
                alternatives = match alternatives {
                    None => Some(understood),
                    Some(before) => both(&before, &understood).or_else(|| {
                        unknown.push(Unknown { text: text.to_owned(), proprietary: false });
                        Some(before)
                    }),
                };
            }
        }
    }
    let mut alternatives = alternatives.unwrap_or_default();
    for term in alternatives.iter_mut().flatten().filter(|term| !term.listed) {
        let name = sbom.custom_licenses.get(&term.id).and_then(|custom| custom.name.as_deref());
        term.proprietary |= name.is_some_and(is_proprietary);
    }
    Statement {
        component: component.label(),
        name: component.name.clone(),
        version: component.version.clone(),
        package: component.purl.as_deref().and_then(Purl::parse).map(|purl| purl.package),
        described,
        file: component.kind == ComponentKind::File,
        scope: component.scope,
        stated: component
            .licenses
            .iter()
            .map(|license| Stated { acknowledgement: license.acknowledgement, text: text_of(&license.term).to_owned() })
            .collect(),
        alternatives,
        unknown,
    }
}

fn text_of(term: &LicenseTerm) -> &str {
    match term {
        LicenseTerm::Expression(text) | LicenseTerm::Name(text) => text,
    }
}

fn term(requirement: &LicenseReq) -> Term {
    let exception = requirement.addition.as_ref().map(ToString::to_string);
    let text = requirement.to_string();
    let id = requirement.license.to_string();
    let listed = match &requirement.license {
        LicenseItem::Spdx { id, .. } => Some(*id),
        LicenseItem::Other(_) => None,
    };
    Term {
        proprietary: listed.is_none() && is_proprietary(&id),
        deprecated: listed.is_some_and(|license| license.is_deprecated()),
        copyleft: listed.is_some_and(|license| license.is_copyleft()),
        osi_approved: listed.is_some_and(|license| license.is_osi_approved()),
        listed: listed.is_some(),
        text,
        id,
        exception,
    }
}

fn either(mut left: Vec<Vec<Term>>, right: Vec<Vec<Term>>) -> Option<Vec<Vec<Term>>> {
    for way in right {
        if !left.contains(&way) {
            left.push(way);
        }
    }
    (left.len() <= ALTERNATIVES).then_some(left)
}

fn both(left: &[Vec<Term>], right: &[Vec<Term>]) -> Option<Vec<Vec<Term>>> {
    if left.len().saturating_mul(right.len()) > ALTERNATIVES {
        return None;
    }
    let mut ways = Vec::new();
    for a in left {
        for b in right {
            let mut way = a.clone();
            way.extend(b.iter().filter(|term| !a.contains(term)).cloned());
            // In whatever order they were met, they are the same duties.
            way.sort();
            if way.len() > TERMS {
                return None;
            }
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    Some(ways)
}

/// Words by which a licence says that a contract stands behind it.
fn is_proprietary(text: &str) -> bool {
    const WORDS: [&str; 4] = ["proprietary", "commercial", "all rights reserved", "eula"];
    let text = text.to_lowercase();
    let is_word = |word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            // `noncommercial` and `ovEULA` are other words.
            !before.is_some_and(char::is_alphanumeric)
        })
    };
    let denied = ["non-commercial", "not proprietary"].iter().any(|phrase| text.contains(phrase));
    !denied && WORDS.iter().any(|word| is_word(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(expression: &str) -> Option<Vec<Vec<String>>> {
        let ways = alternatives(expression)?;
        Some(ways.into_iter().map(|way| way.into_iter().map(|term| term.text).collect()).collect())
    }

    #[test]
    fn an_expression_is_a_choice_among_duties() {
        assert_eq!(ways("MIT").unwrap(), [["MIT"]]);
        assert_eq!(ways("MIT OR Apache-2.0").unwrap(), [["MIT"], ["Apache-2.0"]]);
        assert_eq!(
            ways("(MIT OR GPL-2.0-only WITH Classpath-exception-2.0) AND Zlib").unwrap(),
            [["MIT", "Zlib"], ["GPL-2.0-only WITH Classpath-exception-2.0", "Zlib"]]
        );
        assert_eq!(ways("LicenseRef-acme OR MIT").unwrap(), [["LicenseRef-acme"], ["MIT"]]);
    }

    #[test]
    fn what_is_no_expression_or_too_large_a_one_is_not_understood() {
        for text in ["", "MIT OR", "MIT Apache-2.0", "Proprietary License", "MIT/Apache-2.0", "mit-ish"] {
            assert_eq!(ways(text), None, "{text}");
        }
        let pairs = |count: u32| -> Vec<String> {
            (0..count).map(|n| format!("(LicenseRef-a{n} OR LicenseRef-b{n})")).collect()
        };
        assert_eq!(ways(&pairs(6).join(" AND ")).unwrap().len(), 64);
        assert_eq!(ways(&pairs(7).join(" AND ")), None);
        assert_eq!(ways(&vec!["(MIT OR Zlib)"; 40].join(" AND ")).unwrap().len(), 3);
        assert_eq!(ways(&"(".repeat(5000)), None);
        assert!(ways(&vec!["MIT"; 300].join(" OR ")).is_some(), "the same choice again is no further choice");
    }

    #[test]
    fn a_licence_that_calls_itself_proprietary_is_told() {
        for text in
            ["Proprietary License", "LicenseRef-ACME-Commercial", "LicenseRef-Company-Proprietary-1.0", "Acme EULA"]
        {
            assert!(is_proprietary(text), "{text}");
        }
        for text in ["MIT", "CC BY-NC noncommercial", "LicenseRef-custom"] {
            assert!(!is_proprietary(text), "{text}");
        }
    }
}
