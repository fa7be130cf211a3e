//! Runs the tests that stand beside a policy: files in, one outcome a `test_` rule out, and which lines they reached.
//!
//! A test passes where its rule is true. False, undefined and an evaluation error are failures that say which.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use regorus::{Engine, Value};
use serde::Serialize;

use super::engine::{self, Guard, add_data, add_policy, bounded_engine, describe, within};
use super::sources::{Sources, rule_name, unreadable};
use crate::types::{Code, Digest, Reason, limits};

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    /// The rule is true.
    Pass,
    /// The rule is false or undefined.
    Fail,
    /// The rule could not be evaluated.
    Error {
        /// What the interpreter says.
        message: String,
    },
    /// The rule is named `todo_test_…`: it waits for its author.
    Skip,
}

/// One test rule and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Test {
    /// `package.rule`.
    pub name: String,
    /// The file that it stands in.
    pub file: String,
    /// Its line there.
    pub line: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What it printed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prints: Vec<String>,
}

/// The lines of one policy file that the tests reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The policy file.
    pub file: String,
    /// How many of its lines were evaluated.
    pub covered: usize,
    /// The lines that were not.
    pub not_covered: BTreeSet<u32>,
}

/// What became of all tests of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestRun {
    /// The tests in order of file and line.
    pub tests: Vec<Test>,
    /// One entry for each policy file that is not itself a test.
    pub coverage: Vec<Coverage>,
    /// SHA-256 over the files that decide, as in the set's reference.
    #[serde(skip)]
    pub digest: Digest,
}

impl TestRun {
    /// How many tests ended in a way that `is` holds for.
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| is(&test.outcome)).count()
    }

    /// The share of policy lines that the tests reached, in percent; none where there are no lines.
    pub fn coverage_percent(&self) -> Option<f64> {
        let covered: usize = self.coverage.iter().map(|file| file.covered).sum();
        let missed: usize = self.coverage.iter().map(|file| file.not_covered.len()).sum();
        let percent = |part: usize, all: usize| {
            let (part, all) = (u32::try_from(part).ok()?, u32::try_from(all).ok()?);
            (all > 0).then(|| f64::from(part) * 100.0 / f64::from(all))
        };
        percent(covered, covered + missed)
    }

    /// A reason for each test that did not pass, and one where there was nothing to run.
    pub fn reasons(&self) -> Vec<Reason> {
        if self.tests.iter().all(|test| test.outcome == Outcome::Skip) {
            return vec![Reason::new(Code::PolicyUnmatched, "there is no test to run: no rule is named test_…")];
        }
        self.tests
            .iter()
            .filter_map(|test| {
                let why = match &test.outcome {
                    Outcome::Pass | Outcome::Skip => return None,
                    Outcome::Fail => "is not true".to_owned(),
                    Outcome::Error { message } => format!("could not be evaluated: {message}"),
                };
                let reason = Reason::new(Code::PolicyTestFailed, format!("`{}` {why}", test.name));
                Some(reason.evidence(&test.file).location(format!("line {}", test.line)))
            })
            .collect()
    }
}

/// A `test_` rule that was found.
#[derive(Debug, Clone)]
struct Found {
    reference: String,
    name: String,
    file: String,
    line: u32,
    times: usize,
}

/// Runs the tests of a set, each as of `now` where it asks for the time.
///
/// # Errors
/// The reason why the set cannot be loaded.
pub fn run(set: &str, files: Vec<(String, String)>, now: Timestamp) -> Result<TestRun, Reason> {
    let sources = Sources::new(set, files)?;
    let digest = sources.digest();
    let policies: BTreeSet<String> = sources.policies.iter().map(|(file, _)| file.clone()).collect();
    let loaded = within(Guard::Watched, engine::time_limit(), move || load(&sources));
    let (mut engine, found) = loaded.map_err(|failure| unreadable(set, failure))??;
    let mut tests = Vec::with_capacity(found.len());
    let mut lines = Lines::default();
    for test in found {
        let (outcome, prints) = if test.name.rsplit('.').next().is_some_and(|name| name.starts_with("todo_")) {
            (Outcome::Skip, Vec::new())
        } else if test.times > 1 {
            let message = "it is defined more than once, and only all of it together would count".to_owned();
            (Outcome::Error { message }, Vec::new())
        } else {
            let (mut copy, reference) = (engine.clone(), test.reference.clone());
            let work = move || {
                let _now = engine::Now::set(Some(now));
                let result = copy.eval_rule(reference);
                let prints = copy.take_prints().unwrap_or_default();
                (result, prints, copy)
            };
            match within(Guard::Watched, engine::time_limit() + engine::GRACE, work) {
                Err(failure) => (Outcome::Error { message: failure.to_string() }, Vec::new()),
                Ok((result, prints, copy)) => {
                    lines.add(&copy);
                    let outcome = match result {
                        Ok(Value::Bool(true)) => Outcome::Pass,
                        Ok(_) => Outcome::Fail,
                        Err(error) => Outcome::Error { message: describe(&error) },
                    };
                    (outcome, prints)
                }
            }
        };
        tests.push(Test { name: test.name, file: test.file, line: test.line, outcome, prints });
    }
    engine.clear_coverage_data();
    Ok(TestRun { tests, coverage: lines.of(&policies), digest })
}

fn load(sources: &Sources) -> Result<(Engine, Vec<Found>), Reason> {
    let mut engine = bounded_engine()?;
    engine.set_enable_coverage(true);
    let mut packages = Vec::new();
    let mut found: Vec<Found> = Vec::new();
    let mut calls = super::graph::CallGraph::default();
    let mut count = 0_usize;
    for (file, text) in sources.policies.iter().chain(&sources.tests) {
        let package = add_policy(&mut engine, file, text)?;
        let Some(module) = engine.get_modules().last() else { continue };
        count += module.policy.len();
        calls.add(file, &package, module)?;
        for (rule, line) in module.policy.iter().filter_map(|rule| rule_name(rule)) {
            if !rule.starts_with("test_") && !rule.starts_with("todo_test_") {
                continue;
            }
            let name = format!("{}.{rule}", package.join("."));
            match found.iter_mut().find(|known| known.name == name) {
                Some(known) => known.times += 1,
                None => {
                    let reference = super::sources::reference(&package, &rule);
                    found.push(Found { reference, name, file: file.clone(), line, times: 1 });
                }
            }
        }
        packages.push(package);
    }
    if count > limits::POLICY_RULES {
        let message = format!("the policies and their tests have {count} rules; {} are allowed", limits::POLICY_RULES);
        return Err(Reason::new(Code::InputTooLarge, message));
    }
    calls.check()?;
    for (file, text) in &sources.data {
        add_data(&mut engine, file, text, &packages)?;
    }
    found.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok((engine, found))
}

/// Which lines any test reached, by file.
#[derive(Debug, Default)]
struct Lines(BTreeMap<String, (BTreeSet<u32>, BTreeSet<u32>)>);

impl Lines {
    fn add(&mut self, engine: &Engine) {
        let Ok(report) = engine.get_coverage_report() else { return };
        for file in report.files {
            let (covered, all) = self.0.entry(file.path).or_default();
            all.extend(file.covered.iter().chain(&file.not_covered));
            covered.extend(file.covered);
        }
    }

    fn of(self, policies: &BTreeSet<String>) -> Vec<Coverage> {
        self.0
            .into_iter()
            .filter(|(file, _)| policies.contains(file))
            .map(|(file, (covered, all))| Coverage {
                file,
                covered: covered.len(),
                not_covered: all.difference(&covered).copied().collect(),
            })
            .collect()
    }
}
