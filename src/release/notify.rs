//! Findings and the issues that are there in, what is to be done with issues out: opened, updated, reopened, closed.
//!
//! An issue is recognised by a marker in its text, never by its title: `<!-- debvisor:finding key=… scope=… content=… -->`.
//! The key is the finding's own, so that it stays one issue for as long as it is found; the scope is what was looked
//! at, so that only a run that looked there may say that it is gone.
//!
//! Two runs at once may both open an issue before either sees the other's. Both look again afterwards, and of two that
//! are open the older one stays ([`plan`] is asked again, and closes the younger).
//!
//! Invariant: no I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Digest;

/// What is wrong somewhere, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub scope: String,
    /// What it is: the same text for as long as it is the same finding.
    pub identity: String,
    /// How bad it is.
    pub severity: Severity,
    /// The issue's title.
    pub title: String,
    /// The issue's text in Markdown, without the marker.
    pub text: String,
    /// Where it was found, as a line of Markdown. It changes with every run, and is no change of the finding.
    pub place: Option<String>,
}

/// How bad a finding is: a label of the issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Severity {
    /// Something should be looked at.
    Low,
    /// Something does not hold.
    Medium,
    /// Something that was proved no longer is.
    High,
    /// Somebody changed what was published.
    Critical,
}

impl Severity {
    /// Every severity.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word in the label `severity:WORD`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of a reason code.
    pub fn of_code(code: &str) -> Self {
        match code {
            "asset-replaced"
            | "tag-moved"
            | "baseline-invalid"
            | "revoked"
            | "signature-invalid"
            | "digest-mismatch"
            | "checksum-mismatch"
            | "openpgp-signature-bad"
            | "log-entry-mismatch"
            | "inclusion-invalid"
            | "image-changed" => Self::Critical,
            "asset-gone"
            | "asset-added"
            | "release-gone"
            | "attestation-lost"
            | "signer-changed"
            | "builder-changed"
            | "sbom-changed"
            | "advisory-published"
            | "openpgp-key-revoked"
            | "identity-mismatch"
            | "source-mismatch" => Self::High,
            _ => Self::Medium,
        }
    }
}

/// An issue that one of our runs opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub number: u64,
    /// Whether it is open.
    pub open: bool,
    key: String,
    scope: String,
    content: String,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Open an issue for this finding.
    Open(Finding),
    /// Write the text anew: the finding is told otherwise than before.
    Update(u64, Finding),
    /// Open a closed one again: the finding is back.
    Reopen(u64, Finding),
    /// Close one whose finding is gone.
    Close(u64),
    /// Close one that another run opened for the same finding, in favour of the older one.
    CloseDuplicate {
        /// The younger.
        number: u64,
        /// The older.
        of: u64,
    },
}

const BEGIN: &str = "<!-- debvisor:finding ";
const END: &str = " -->";

impl Finding {
    /// The key that its issue is recognised by: 16 bytes in hex.
    pub fn key(&self) -> String {
        short(&format!("{}\n{}", self.scope, self.identity))
    }

    /// The issue's whole text: the marker, then what people read.
    pub fn body(&self) -> String {
        let content = short(&format!("{}\n{}\n{}", self.severity.name(), self.title, self.text));
        let place = self.place.as_ref().map(|place| format!("\n\n{place}")).unwrap_or_default();
        let (key, scope) = (self.key(), short(&self.scope));
        format!("{BEGIN}key={key} scope={scope} content={content}{END}\n{}{place}\n", self.text)
    }
}

impl Known {
    /// What the issue of this text is about; nothing where it carries no marker, or more than one.
    pub fn read(number: u64, open: bool, body: &str) -> Option<Self> {
        let (_, rest) = body.split_once(BEGIN)?;
        let (marker, after) = rest.split_once(END)?;
        if after.contains(BEGIN) {
            return None;
        }
        let mut words = BTreeMap::new();
        for word in marker.split(' ') {
            let (name, value) = word.split_once('=')?;
            words.insert(name, value.to_owned());
        }
        Some(Self {
            number,
            open,
            key: words.remove("key")?,
            scope: words.remove("scope")?,
            content: words.remove("content")?,
        })
    }
}

/// What was looked at, and whether all of it could be: only then a finding that is not there is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its name, as in [`Finding::scope`].
    pub name: String,
    /// Whether no question stayed open.
    pub decided: bool,
}

/// What is to be done so that every finding has one open issue, and no issue is open for what is no longer found.
pub fn plan(findings: &[Finding], scopes: &[Scope], known: &[Known]) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut by_key: BTreeMap<&str, Vec<&Known>> = BTreeMap::new();
    for issue in known {
        by_key.entry(&issue.key).or_default().push(issue);
    }
    for issues in by_key.values_mut() {
        // The oldest open one speaks for the finding; without an open one, the youngest closed one does.
        issues.sort_by_key(|issue| (!issue.open, if issue.open { issue.number } else { u64::MAX - issue.number }));
    }
    let mut found = BTreeSet::new();
    for finding in findings {
        let key = finding.key();
        if !found.insert(key.clone()) {
            continue;
        }
        let Some(issue) = by_key.get(key.as_str()).and_then(|issues| issues.first()) else {
            acts.push(Act::Open(finding.clone()));
            continue;
        };
        if !issue.open {
            acts.push(Act::Reopen(issue.number, finding.clone()));
        } else if Known::read(0, true, &finding.body()).is_some_and(|new| new.content != issue.content) {
            acts.push(Act::Update(issue.number, finding.clone()));
        }
    }
    let decided: BTreeSet<String> =
        scopes.iter().filter(|scope| scope.decided).map(|scope| short(&scope.name)).collect();
    for (key, issues) in &by_key {
        let mut open = issues.iter().filter(|issue| issue.open);
        let Some(first) = open.next() else { continue };
        acts.extend(open.map(|issue| Act::CloseDuplicate { number: issue.number, of: first.number }));
        if !found.contains(*key) && decided.contains(&first.scope) {
            acts.push(Act::Close(first.number));
        }
    }
    acts
}

fn short(text: &str) -> String {
    Digest::sha256(text.as_bytes()).to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finding(scope: &str, identity: &str, text: &str) -> Finding {
        let (scope, identity, text) = (scope.to_owned(), identity.to_owned(), text.to_owned());
        Finding { scope, identity, severity: Severity::High, title: "title".to_owned(), text, place: None }
    }

    fn scope(name: &str, decided: bool) -> Scope {
        Scope { name: name.to_owned(), decided }
    }

    /// The issues after the acts were carried out.
    fn carry_out(mut known: Vec<Known>, acts: &[Act]) -> Vec<Known> {
        for act in acts {
            match act {
                Act::Open(finding) => {
                    let number = known.iter().map(|issue| issue.number).max().unwrap_or(0) + 1;
                    known.push(Known::read(number, true, &finding.body()).unwrap());
                }
                Act::Update(number, finding) | Act::Reopen(number, finding) => {
                    let issue = known.iter_mut().find(|issue| issue.number == *number).unwrap();
                    *issue = Known::read(*number, true, &finding.body()).unwrap();
                }
                Act::Close(number) | Act::CloseDuplicate { number, .. } => {
                    known.iter_mut().find(|issue| issue.number == *number).unwrap().open = false;
                }
            }
        }
        known
    }

    #[test]
    fn an_issue_lives_with_its_finding() {
        let here = [scope("a", true)];
        let first = finding("a", "x", "one");
        let opened = carry_out(Vec::new(), &plan(std::slice::from_ref(&first), &here, &[]));
        assert_eq!(opened.len(), 1);
        assert!(plan(std::slice::from_ref(&first), &here, &opened).is_empty(), "the same again is not told again");
        let told_otherwise = finding("a", "x", "two");
        assert_eq!(plan(std::slice::from_ref(&told_otherwise), &here, &opened), [Act::Update(1, told_otherwise)]);
        let closed = carry_out(opened.clone(), &plan(&[], &here, &opened));
        assert!(!closed[0].open);
        assert!(plan(&[], &here, &closed).is_empty());
        assert_eq!(plan(std::slice::from_ref(&first), &here, &closed), [Act::Reopen(1, first)]);
    }

    #[test]
    fn what_was_not_looked_at_is_not_gone() {
        let opened = carry_out(Vec::new(), &plan(&[finding("a", "x", "one")], &[scope("a", true)], &[]));
        assert!(plan(&[], &[scope("a", false)], &opened).is_empty(), "an outage");
        assert!(plan(&[], &[scope("b", true)], &opened).is_empty(), "another target");
    }

    #[test]
    fn of_two_that_overlapping_runs_opened_the_older_stays() {
        let finding = finding("a", "x", "one");
        let both = vec![Known::read(7, true, &finding.body()).unwrap(), Known::read(5, true, &finding.body()).unwrap()];
        assert_eq!(plan(&[finding], &[scope("a", true)], &both), [Act::CloseDuplicate { number: 7, of: 5 }]);
    }

    #[test]
    fn a_text_without_one_sound_marker_is_nobody_of_ours() {
        let body = finding("a", "x", "one").body();
        assert!(Known::read(1, true, "somebody's issue").is_none());
        assert!(Known::read(1, true, &format!("{body}{body}")).is_none());
        assert!(Known::read(1, true, "<!-- debvisor:finding key -->").is_none());
    }

    proptest! {
        /// Whatever is there and whatever is found: once carried out, there is nothing left to do, and every finding
        /// has exactly one open issue.
        #[test]
        fn carrying_the_plan_out_ends_it(
            rounds in proptest::collection::vec(
                (proptest::collection::vec((0..3_u8, 0..3_u8, 0..2_u8), 0..6), proptest::collection::vec(any::<bool>(), 3)),
                1..6,
            )
        ) {
            let mut known = Vec::new();
            for (found, decided) in rounds {
                let mut findings: Vec<Finding> = found
                    .iter()
                    .map(|(scope, identity, text)| finding(&scope.to_string(), &identity.to_string(), &text.to_string()))
                    .collect();
                findings.dedup_by_key(|finding| finding.key());
                let scopes: Vec<Scope> =
                    decided.iter().enumerate().map(|(name, decided)| scope(&name.to_string(), *decided)).collect();
                known = carry_out(known.clone(), &plan(&findings, &scopes, &known));
                prop_assert_eq!(plan(&findings, &scopes, &known), Vec::new());
                for finding in &findings {
                    let open = known.iter().filter(|issue| issue.open && issue.key == finding.key()).count();
                    prop_assert_eq!(open, 1);
                }
            }
        }
    }
}
