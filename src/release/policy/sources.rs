//! The files of a policy set: their texts in, bounded, sorted and told apart; a digest and the deciding rules out.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Module, Rule, RuleHead};
use sha2::{Digest as _, Sha256};

use crate::release::evidence::json;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// The package that the evaluator writes for itself; no file of a set may claim it.
pub(super) const RESERVED_PACKAGE: &str = "debvisor_entry";

/// A set's files, in order of their names.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// `*.rego` but `*_test.rego`.
    pub(super) policies: Vec<(String, String)>,
    /// `*_test.rego`.
    pub(super) tests: Vec<(String, String)>,
    /// JSON and YAML.
    pub(super) data: Vec<(String, String)>,
}

impl Sources {
    pub(super) fn new(set: &str, mut files: Vec<(String, String)>) -> Result<Self, Reason> {
        if files.len() > limits::POLICY_FILES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("the policy set `{set}` has {} files; {} are allowed", files.len(), limits::POLICY_FILES),
            )
            .evidence(set));
        }
        files.sort();
        let mut sources = Self { policies: Vec::new(), tests: Vec::new(), data: Vec::new() };
        let mut names = BTreeSet::new();
        for (name, text) in files {
            if text.len() as u64 > limits::POLICY_BYTES {
                return Err(Reason::new(
                    Code::InputTooLarge,
                    format!("a policy file has {} bytes; {} are allowed", text.len(), limits::POLICY_BYTES),
                )
                .evidence(name));
            }
            if !names.insert(name.clone()) {
                return Err(unreadable(&name, "two files of the set have this name"));
            }
            let list = match name.rsplit_once('.') {
                Some((stem, "rego")) if stem.ends_with("_test") => &mut sources.tests,
                Some((_, "rego")) => &mut sources.policies,
                Some((_, "json" | "yaml" | "yml")) => &mut sources.data,
                _ => return Err(unreadable(&name, "neither .rego nor data in .json, .yaml or .yml")),
            };
            list.push((name, text));
        }
        for (name, text) in sources.policies.iter().chain(&sources.tests) {
            if nesting(text) > limits::POLICY_NESTING {
                let message = format!("brackets of a policy are nested deeper than {}", limits::POLICY_NESTING);
                return Err(Reason::new(Code::InputTooDeep, message).evidence(name));
            }
        }
        Ok(sources)
    }

    /// SHA-256 over what decides: names and texts, each with its length in front so that no two sets run together.
    /// Tests decide nothing and are left out.
    pub(super) fn digest(&self) -> Digest {
        let mut files: Vec<_> = self.policies.iter().chain(&self.data).collect();
        files.sort();
        let mut hash = Sha256::new();
        for (name, text) in files {
            for part in [name, text] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
        }
        Digest::new(DigestAlgorithm::Sha256, &hash.finalize()).unwrap_or_else(|_| Digest::sha256(b""))
    }
}

/// How deep brackets are nested, outside of strings and comments. The interpreter's parser tries each literal in more
/// than one way, and so takes twice as long for every further level.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ']' | '}' => depth = depth.saturating_sub(1),
            '#' => while characters.next().is_some_and(|next| next != '\n') {},
            '`' => while characters.next().is_some_and(|next| next != '`') {},
            '"' => {
                while let Some(next) = characters.next() {
                    match next {
                        '\\' => _ = characters.next(),
                        // No string goes over the end of a line; a stray quote must not hide what follows.
                        '"' | '\n' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// A reason that a policy cannot be used.
pub(super) fn unreadable(file: &str, why: impl std::fmt::Display) -> Reason {
    Reason::new(Code::PolicyUnreadable, format!("the policy file `{file}` cannot be used: {why}")).evidence(file)
}

/// What a rule's name makes of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// `deny`, `deny_*`, `violation`, `violation_*`: each member is a reason against.
    Deny,
    /// `warn`, `warn_*`: each member is said, and decides nothing.
    Warn,
    /// `allow`: must be true.
    Allow,
    /// `exception`: names of rules whose denials are turned into warnings, as in conftest.
    Exception,
}

impl RuleKind {
    fn of(name: &str) -> Option<Self> {
        let is = |word: &str| {
            name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || (rest.starts_with('_') && rest.len() > 1))
        };
        match name {
            "allow" => Some(Self::Allow),
            "exception" => Some(Self::Exception),
            _ if is("deny") || is("violation") => Some(Self::Deny),
            _ if is("warn") => Some(Self::Warn),
            _ => None,
        }
    }

    /// Whether a rule of this kind can decide.
    pub const fn decides(self) -> bool {
        matches!(self, Self::Deny | Self::Allow)
    }
}

/// A rule whose result the evaluator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidingRule {
    /// The package, as its components.
    pub package: Vec<String>,
    /// The rule's name.
    pub name: String,
    /// What its result means.
    pub kind: RuleKind,
    /// The first file that has it.
    pub file: String,
    /// Its line there.
    pub line: u32,
}

impl DecidingRule {
    /// `package.rule`, for people.
    pub fn path(&self) -> String {
        format!("{}.{}", self.package.join("."), self.name)
    }

    /// The rule as a Rego reference that keeps odd package names intact.
    pub(super) fn reference(&self) -> String {
        reference(&self.package, &self.name)
    }

    /// What an `exception` calls the rule: its name without the prefix, as conftest has it.
    pub(super) fn exception_name(&self) -> &str {
        ["violation_", "deny_", "warn_"].iter().find_map(|prefix| self.name.strip_prefix(prefix)).unwrap_or(&self.name)
    }
}

/// A rule as a Rego reference that keeps odd package names intact.
pub(super) fn reference(package: &[String], name: &str) -> String {
    let parts = package.iter().map(String::as_str).chain([name]);
    parts.fold("data".to_owned(), |text, part| format!("{text}[{}]", serde_json::Value::from(part)))
}

/// The rules of a parsed module that the evaluator reads. A function is none of them, whatever its name.
pub(super) fn deciding_rules(file: &str, package: &[String], module: &Module) -> Vec<DecidingRule> {
    let mut found: Vec<DecidingRule> = Vec::new();
    for rule in &module.policy {
        let Some((name, line)) = rule_name(rule) else { continue };
        let Some(kind) = RuleKind::of(&name) else { continue };
        if found.iter().all(|known| known.name != name) {
            found.push(DecidingRule { package: package.to_vec(), name, kind, file: file.to_owned(), line });
        }
    }
    found
}

/// The name of a rule that is not a function, and its line.
pub(super) fn rule_name(rule: &Rule) -> Option<(String, u32)> {
    let head = match rule {
        Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, .. } => refr,
        Rule::Default { refr, args, .. } if args.is_empty() => refr,
        Rule::Spec { head: RuleHead::Func { .. }, .. } | Rule::Default { .. } => return None,
    };
    let mut expression = head.as_ref();
    loop {
        match expression {
            // `a.deny` is a rule below `a`, not the package's `deny`.
            Expr::RefDot { .. } => return None,
            Expr::RefBrack { refr, .. } => expression = refr.as_ref(),
            Expr::Var { span, .. } => return Some((span.text().to_owned(), span.line)),
            _ => return None,
        }
    }
}

/// The data documents of a set, parsed. JSON is read strictly.
pub(super) fn parse_data(file: &str, text: &str) -> Result<regorus::Value, Reason> {
    if file.ends_with(".json") {
        let value = json::parse_value(text.as_bytes()).map_err(|reason| unreadable(file, reason.message))?;
        let value = regorus::Value::from(value);
        return match value {
            regorus::Value::Undefined => Err(unreadable(file, "a number in it is out of range")),
            value => Ok(value),
        };
    }
    regorus::Value::from_yaml_str(text).map_err(|error| unreadable(file, error))
}
