//! Facts in, verdicts out: evaluates a set of Rego files over what was verified.
//!
//! What comes in is a policy's text and one JSON document (docs/reference/policy-input.md); what goes out are reasons.
//! Invariant: no disk, no network and no clock. Callers read the files and pass `now` inside the input; the time that
//! a policy asks for (`time.now_ns`) is that `now`. The stopwatch that ends an endless policy decides nothing else.
//!
//! An evaluator that cannot answer says no: an empty set, a set without a deciding rule, an undefined or wrongly typed
//! result, an evaluation error, a panic inside the interpreter and an endless loop are all denials with a code.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::types::{Digest, Reason};

pub mod builtin;
mod engine;
mod graph;
pub mod input;
mod shortcut;
mod sources;
pub mod testing;
mod verdicts;

#[cfg(test)]
mod engine_tests;

use engine::Prepared;
pub use input::PolicyInput;
use sources::Sources;
pub use sources::{DecidingRule, RuleKind};
pub use verdicts::Verdicts;

/// Which policy decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReference {
    /// The name or path that the user gave.
    pub name: String,
    /// SHA-256 over the policy set's files, in order of their names.
    pub digest: Digest,
}

/// A set of policy files, compiled. Cloning is cheap, and any number of threads may evaluate the same set at once.
#[derive(Debug, Clone)]
pub struct PolicySet(Arc<Set>);

#[derive(Debug)]
struct Set {
    reference: PolicyReference,
    compiled: Arc<Compiled>,
    /// A set whose denials count as well; see [`PolicySet::with_baseline`].
    baseline: Option<PolicySet>,
}

/// The rules of a set, compiled when they are first asked.
#[derive(Debug)]
struct Compiled {
    name: String,
    sources: Sources,
    guard: engine::Guard,
    rules: OnceLock<Result<(Prepared, Vec<DecidingRule>), Reason>>,
    /// Of DebVisor's own sets: what spares work.
    own: Option<Own>,
}

/// What spares work in a set of DebVisor's own.
#[derive(Debug, Default)]
struct Own {
    /// The rules that suffice for a plain input; see [`shortcut::is_plain`].
    plain: Option<Box<Compiled>>,
    allowed: shortcut::Allowed,
}

impl Compiled {
    fn new(name: &str, sources: Sources, guard: engine::Guard, own: Option<Own>) -> Self {
        Self { name: name.to_owned(), sources, guard, rules: OnceLock::new(), own }
    }

    fn rules(&self) -> Result<&(Prepared, Vec<DecidingRule>), Reason> {
        let compile = || Prepared::new(&self.name, self.sources.clone(), self.guard);
        self.rules.get_or_init(compile).as_ref().map_err(Clone::clone)
    }

    fn evaluate(&self, input: &serde_json::Value, now: Option<Timestamp>) -> Verdicts {
        let Some(own) = &self.own else { return self.evaluate_all(input, now) };
        let question = shortcut::question(input);
        if question.as_ref().is_some_and(|question| own.allowed.contains(question)) {
            return Verdicts::default();
        }
        let verdicts = match &own.plain {
            Some(plain) if shortcut::is_plain(input) => plain.evaluate_all(input, now),
            _ => self.evaluate_all(input, now),
        };
        if let Some(question) = question
            && verdicts.denials.is_empty()
            && verdicts.warnings.is_empty()
        {
            own.allowed.insert(question);
        }
        verdicts
    }

    fn evaluate_all(&self, input: &serde_json::Value, now: Option<Timestamp>) -> Verdicts {
        match self.rules() {
            Ok((prepared, rules)) => prepared.evaluate(&self.name, rules, input, now),
            Err(reason) => Verdicts { denials: vec![reason], ..Verdicts::default() },
        }
    }
}

impl PolicySet {
    /// The policy of this name that is part of DebVisor: `release`, `builders` or `admission`. Compiled once a process.
    pub fn builtin(name: &str) -> Option<Self> {
        builtin::load(name)
    }

    /// Compiles files that a user gave, as pairs of a file name and its text.
    ///
    /// `*.rego` is policy (`*_test.rego` is left to [`testing`]), `*.json`, `*.yaml` and `*.yml` are data below `data`.
    /// Rego v1 is tried first, then v0, file by file.
    ///
    /// # Errors
    /// A reason with `policy-unreadable` where a file does not parse, passes a limit or overlaps another, and with
    /// `policy-unmatched` where no rule of the set could decide anything.
    pub fn from_sources(name: &str, files: Vec<(String, String)>) -> Result<Self, Reason> {
        let sources = Sources::new(name, files)?;
        let guard = engine::Guard::Watched;
        Self::compile(name, sources, guard)
    }

    fn compile(name: &str, sources: Sources, guard: engine::Guard) -> Result<Self, Reason> {
        let set = Self::lazy(name, Compiled::new(name, sources, guard, None));
        // What a user wrote is told to be wrong before anything is judged by it.
        set.0.compiled.rules()?;
        Ok(set)
    }

    fn lazy(name: &str, compiled: Compiled) -> Self {
        let reference = PolicyReference { name: name.to_owned(), digest: compiled.sources.digest() };
        Self(Arc::new(Set { reference, compiled: Arc::new(compiled), baseline: None }))
    }

    /// The same set on top of another: what either denies is denied, and the reference covers both.
    /// A user's own rules are added to the release policy in this way, so that a file about licences does not
    /// quietly switch off the question who signed.
    #[must_use]
    pub fn with_baseline(self, baseline: &Self) -> Self {
        let both = [self.0.reference.digest.to_string(), baseline.0.reference.digest.to_string()].join("\n");
        let reference =
            PolicyReference { name: self.0.reference.name.clone(), digest: Digest::sha256(both.as_bytes()) };
        let compiled = Arc::clone(&self.0.compiled);
        Self(Arc::new(Set { reference, compiled, baseline: Some(baseline.clone()) }))
    }

    /// The set's name and digest, for the report.
    pub fn reference(&self) -> PolicyReference {
        self.0.reference.clone()
    }

    /// The rules of the set that decide, in order of file and line; the baseline's are not among them.
    pub fn rules(&self) -> &[DecidingRule] {
        self.0.compiled.rules().map_or(&[], |(_, rules)| rules)
    }

    /// Evaluates the set over one input. It never panics and ends within `limits::POLICY_TIME_MS`.
    pub fn evaluate(&self, input: &serde_json::Value) -> Verdicts {
        let now = input.get("now").and_then(serde_json::Value::as_str).and_then(|text| text.parse().ok());
        self.evaluate_at(input, now)
    }

    /// Evaluates as of `now`, for inputs that do not carry a time themselves.
    pub fn evaluate_at(&self, input: &serde_json::Value, now: Option<Timestamp>) -> Verdicts {
        let mut verdicts = self.0.compiled.evaluate(input, now);
        if let Some(baseline) = &self.0.baseline {
            verdicts.merge(baseline.evaluate_at(input, now));
        }
        verdicts
    }
}
