//! The one room that drives the Rego interpreter: sources in, values out, within bounds of time and depth.
//!
//! Every set is compiled once into a prototype; each evaluation takes a copy out of a pool, so threads do not wait for
//! each other (docs/adr/0004-regorus.md has the figures). What a user wrote runs on a thread of its own with a deep
//! stack and under a watch; what DebVisor ships runs in place. A copy that failed is thrown away.

use std::cell::Cell;
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};

use super::graph::CallGraph;
use super::sources::{
    DecidingRule, RESERVED_PACKAGE, RuleKind, Sources, deciding_rules, parse_data, rule_name, unreadable,
};
use super::verdicts::{self, Verdicts, failed};
use crate::types::{Code, Reason, limits};

/// How far a set is trusted to end on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// DebVisor's own policies: evaluated in place, with the interpreter's own stopwatch.
    Own,
    /// Anybody else's: on a watched thread, because a builtin can run long between two looks at the stopwatch and a
    /// long chain of rules needs a deep stack.
    Watched,
}

/// A compiled set, ready to be evaluated many times.
#[derive(Debug, Clone)]
pub(super) struct Prepared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    prototype: Engine,
    spare: Mutex<Vec<Engine>>,
    guard: Guard,
}

impl Prepared {
    /// Compiles the set and finds its rules.
    pub(super) fn new(set: &str, sources: Sources, guard: Guard) -> Result<(Self, Vec<DecidingRule>), Reason> {
        let name = set.to_owned();
        let built = within(guard, time_limit(), move || build(&name, &sources));
        let (prototype, rules) = match built {
            Ok(result) => result?,
            Err(failure) => return Err(unreadable(set, failure)),
        };
        Ok((Self(Arc::new(Inner { prototype, spare: Mutex::new(Vec::new()), guard })), rules))
    }

    /// Evaluates all deciding rules over `input`.
    pub(super) fn evaluate(
        &self,
        set: &str,
        rules: &[DecidingRule],
        input: &serde_json::Value,
        now: Option<Timestamp>,
    ) -> Verdicts {
        let converted = Value::from(input.clone());
        // The conversion's own error is an undefined input, over which most rules would say nothing at all.
        if converted == Value::Undefined {
            return Verdicts::denied(failed(set, "a number in the input is out of range"));
        }
        let taken = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut engine = taken.unwrap_or_else(|| self.0.prototype.clone());
        let work = move || {
            let _now = Now::set(now);
            engine.set_input(converted);
            let result = engine.eval_rule(format!("data.{RESERVED_PACKAGE}.results"));
            // Neither the input nor what was printed outlives the evaluation.
            engine.set_input(Value::Undefined);
            let _ = engine.take_prints();
            result.map(|value| (value, engine))
        };
        let limit = time_limit() + GRACE;
        match within(self.0.guard, limit, work) {
            Err(failure) => Verdicts::denied(failed(set, failure)),
            Ok(Err(error)) => Verdicts::denied(failed(set, describe(&error))),
            Ok(Ok((value, engine))) => {
                self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
                match results(&value, rules.len()) {
                    Some(results) => verdicts::read(rules, &results),
                    None => Verdicts::denied(failed(set, "the rules have no result at all")),
                }
            }
        }
    }
}

/// One value a rule, or nothing where it is undefined. All of them, or none.
fn results(value: &Value, count: usize) -> Option<Vec<Option<Value>>> {
    let Value::Array(array) = value else { return None };
    let results: Vec<Option<Value>> = array
        .iter()
        .map(|entry| match entry {
            Value::Array(entry) => Some(entry.iter().next().cloned()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    (results.len() == count).then_some(results)
}

/// The interpreter's message is a page with source lines; its first and last lines say what and where.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [only] => (*only).to_owned(),
        [first, .., last] => format!("{}: {}", last.trim_start_matches("error: "), first.trim_start_matches("--> ")),
        [] => "no reason given".to_owned(),
    }
}

/// An engine with our bounds, our clock and nothing loaded.
pub(super) fn bounded_engine() -> Result<Engine, Reason> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: time_limit(),
        check_interval: NonZeroU32::new(256).unwrap_or(NonZeroU32::MIN),
    });
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::new(64 * 1024).unwrap_or(NonZeroU32::MIN),
        max_file_bytes: NonZeroUsize::new(usize::try_from(limits::POLICY_BYTES).unwrap_or(usize::MAX))
            .unwrap_or(NonZeroUsize::MIN),
        max_lines: NonZeroUsize::new(limits::POLICY_LINES).unwrap_or(NonZeroUsize::MIN),
    });
    let extensions: [(&str, u8, Box<dyn regorus::Extension>); 3] = [
        ("time.now_ns", 0, Box::new(|_| now_ns())),
        ("numbers.range", 2, Box::new(|arguments: Vec<Value>| numbers_range(&arguments))),
        ("numbers.range_step", 3, Box::new(|arguments: Vec<Value>| numbers_range(&arguments))),
    ];
    for (name, arguments, extension) in extensions {
        engine.add_extension(name.to_owned(), arguments, extension).map_err(|error| {
            Reason::new(Code::InternalError, format!("the policy engine cannot be set up: {error}"))
        })?;
    }
    Ok(engine)
}

/// Adds one policy file, as v1 or else as v0, and gives its package.
pub(super) fn add_policy(engine: &mut Engine, file: &str, text: &str) -> Result<Vec<String>, Reason> {
    engine.set_rego_v0(false);
    if let Err(as_v1) = engine.add_policy(file.to_owned(), text.to_owned()) {
        engine.set_rego_v0(true);
        let as_v0 = engine.add_policy(file.to_owned(), text.to_owned());
        engine.set_rego_v0(false);
        // To v0, `deny contains msg if { … }` may be four rules, the last of them named `if`. That file was meant as v1.
        let misread = engine.get_modules().last().is_some_and(|module| {
            module.policy.iter().filter_map(|rule| rule_name(rule)).any(|(name, _)| name == "if" || name == "contains")
        });
        if as_v0.is_err() || misread {
            return Err(unreadable(file, describe(&as_v1)));
        }
    }
    let packages = engine.get_policy_package_components().map_err(|error| unreadable(file, describe(&error)))?;
    let package = packages.into_iter().last().map(|package| package.components).unwrap_or_default();
    if package.first().is_some_and(|first| first == RESERVED_PACKAGE) {
        return Err(unreadable(file, format!("the package `{RESERVED_PACKAGE}` is the evaluator's own")));
    }
    Ok(package)
}

/// Adds one data file. Data below a package's own path could stand in for a rule's result, and is refused.
pub(super) fn add_data(engine: &mut Engine, file: &str, text: &str, packages: &[Vec<String>]) -> Result<(), Reason> {
    let value = parse_data(file, text)?;
    if !matches!(value, Value::Object(_)) {
        return Err(unreadable(file, "data must be an object"));
    }
    for package in packages.iter().map(Vec::as_slice).chain([[RESERVED_PACKAGE.to_owned()].as_slice()]) {
        let mut place = &value;
        for part in package {
            place = &place[part.as_str()];
        }
        if *place != Value::Undefined {
            return Err(unreadable(file, format!("the data lies inside the package `{}`", package.join("."))));
        }
    }
    engine.add_data(value).map_err(|error| unreadable(file, describe(&error)))
}

fn build(set: &str, sources: &Sources) -> Result<(Engine, Vec<DecidingRule>), Reason> {
    let mut engine = bounded_engine()?;
    let mut packages = Vec::new();
    let mut rules: Vec<DecidingRule> = Vec::new();
    let mut calls = CallGraph::default();
    let mut count = 0_usize;
    for (file, text) in &sources.policies {
        let package = add_policy(&mut engine, file, text)?;
        let Some(module) = engine.get_modules().last() else { continue };
        count += module.policy.len();
        calls.add(file, &package, module)?;
        for rule in deciding_rules(file, &package, module) {
            if rules.iter().all(|known| known.name != rule.name || known.package != rule.package) {
                rules.push(rule);
            }
        }
        packages.push(package);
    }
    if count > limits::POLICY_RULES {
        return Err(Reason::new(
            Code::InputTooLarge,
            format!("the policy set `{set}` has {count} rules; {} are allowed", limits::POLICY_RULES),
        )
        .evidence(set));
    }
    calls.check()?;
    if !rules.iter().any(|rule| rule.kind.decides()) {
        return Err(unmatched(set, &sources.policies, &rules));
    }
    for (file, text) in &sources.data {
        add_data(&mut engine, file, text, &packages)?;
    }
    let entry = entry_module(&rules);
    engine.add_policy(format!("{RESERVED_PACKAGE}.rego"), entry).map_err(|error| unreadable(set, describe(&error)))?;
    // Evaluating a constant makes the interpreter analyse the whole set now: what is unsafe or recursive in it is found
    // when it is loaded, and every copy of the engine starts prepared.
    engine.eval_rule(format!("data.{RESERVED_PACKAGE}.ready")).map_err(|error| unreadable(set, describe(&error)))?;
    Ok((engine, rules))
}

fn unmatched(set: &str, files: &[(String, String)], rules: &[DecidingRule]) -> Reason {
    let why = if files.is_empty() {
        "it has no policy file"
    } else if rules.iter().any(|rule| rule.kind == RuleKind::Warn) {
        "its rules only warn"
    } else {
        "none of its rules is named deny, violation or allow"
    };
    Reason::new(Code::PolicyUnmatched, format!("the policy `{set}` decides nothing: {why}")).evidence(set)
}

/// A module that asks for every deciding rule at once, so that rules which share helpers share their results.
/// Each result stands in an array, which is empty where the rule is undefined.
fn entry_module(rules: &[DecidingRule]) -> String {
    let results: Vec<String> = rules.iter().map(|rule| format!("\t[value | value := {}]", rule.reference())).collect();
    format!("package {RESERVED_PACKAGE}\n\nready := true\n\nresults := [\n{},\n]\n", results.join(",\n"))
}

/// How long one evaluation may take. The tests of it do not wait for as long as users might have to.
pub(super) fn time_limit() -> Duration {
    if cfg!(test) { Duration::from_secs(3) } else { Duration::from_millis(limits::POLICY_TIME_MS) }
}

/// How much longer than the interpreter's own stopwatch the watch waits.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Why nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it did not end within {} ms", limits::POLICY_TIME_MS)]
    Time,
    #[error("the interpreter broke down over it")]
    Panic,
    #[error("no thread could be started for it")]
    Thread,
}

/// Runs work that may panic, overflow a usual stack or never end.
/// A thread that does not end is left behind: it holds nothing that anybody waits for, and the process is about to
/// report a refusal.
pub(super) fn within<T: Send + 'static>(
    guard: Guard,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if guard == Guard::Own {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Failure::Panic);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("policy".to_owned())
        .stack_size(limits::POLICY_STACK_BYTES)
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let _ = sender.send(result);
        })
        .map_err(|_| Failure::Thread)?;
    match receiver.recv_timeout(limit) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::Panic),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::Time),
    }
}

thread_local! {
    /// The `now` of the evaluation that runs on this thread.
    static NOW: Cell<Option<Timestamp>> = const { Cell::new(None) };
}

/// Sets the evaluation's time and takes it away again, whatever happens between.
pub(super) struct Now;

impl Now {
    pub(super) fn set(now: Option<Timestamp>) -> Self {
        NOW.set(now);
        Self
    }
}

impl Drop for Now {
    fn drop(&mut self) {
        NOW.set(None);
    }
}

/// `time.now_ns()`: the time of the input. Two evaluations of one input agree, whenever they run.
fn now_ns() -> anyhow::Result<Value> {
    let now = NOW.get().ok_or_else(|| anyhow::anyhow!("time.now_ns: the input has no `now`"))?;
    let nanoseconds = i64::try_from(now.as_nanosecond())?;
    Ok(Value::from(nanoseconds))
}

/// `numbers.range(from, to)` and `numbers.range_step(from, to, step)`, both ends included.
/// The interpreter's own never look at the stopwatch, and one call can ask for more memory than there is.
fn numbers_range(arguments: &[Value]) -> anyhow::Result<Value> {
    let integer = |index: usize| -> anyhow::Result<i64> {
        let value = arguments.get(index).ok_or_else(|| anyhow::anyhow!("numbers.range: an operand is missing"))?;
        value.as_i64().map_err(|_| anyhow::anyhow!("numbers.range: operands must be integers"))
    };
    let (from, to) = (integer(0)?, integer(1)?);
    let step = if arguments.len() > 2 { integer(2)? } else { 1 };
    if step <= 0 {
        anyhow::bail!("numbers.range_step: the step must be a positive integer");
    }
    let count = from.abs_diff(to) / step.unsigned_abs();
    if count >= limits::POLICY_RANGE {
        anyhow::bail!("numbers.range: more than {} numbers", limits::POLICY_RANGE);
    }
    let numbers = (0..=count).filter_map(|index| {
        let distance = i64::try_from(index).ok()?.checked_mul(step)?;
        if to >= from { from.checked_add(distance) } else { from.checked_sub(distance) }
    });
    Ok(Value::from(numbers.map(Value::from).collect::<Vec<_>>()))
}
