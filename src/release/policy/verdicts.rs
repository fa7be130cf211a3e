//! What rules returned, turned into reasons. Anything that is not clearly a message is a failure, and a failure denies.

use regorus::Value;

use super::sources::{DecidingRule, RuleKind};
use crate::types::{Code, Reason, ReasonCode, limits};

/// What a policy set says of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Reasons against; none means that the set is satisfied.
    pub denials: Vec<Reason>,
    /// What the set wants said without deciding anything.
    pub warnings: Vec<Reason>,
}

impl Verdicts {
    /// Verdicts that are one denial.
    pub(super) fn denied(reason: Reason) -> Self {
        Self { denials: vec![reason], warnings: Vec::new() }
    }

    /// Files what a rule said. A failure denies, even that of a rule that only warns:
    /// whoever wrote it meant something that was not understood.
    fn take(&mut self, reasons: Vec<Reason>, as_warnings: bool) {
        for reason in reasons {
            let list = if as_warnings && reason.code != Code::PolicyFailed.into() {
                &mut self.warnings
            } else {
                &mut self.denials
            };
            list.push(reason);
        }
    }

    /// Takes in what another set says of the same input. The same reason is given once.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in [(&mut self.denials, other.denials), (&mut self.warnings, other.warnings)] {
            for reason in theirs {
                if !mine.contains(&reason) {
                    mine.push(reason);
                }
            }
        }
    }
}

/// A reason that an evaluation failed.
pub(super) fn failed(set: &str, why: impl std::fmt::Display) -> Reason {
    Reason::new(Code::PolicyFailed, shortened(&format!("the policy `{set}` could not be evaluated: {why}")))
        .evidence(set)
}

/// Reads the results of all rules, in the order of the rules; an undefined one is `None`.
pub(super) fn read(rules: &[DecidingRule], results: &[Option<Value>]) -> Verdicts {
    let exceptions = exceptions(rules, results);
    let mut verdicts = Verdicts::default();
    for (rule, value) in rules.iter().zip(results) {
        match rule.kind {
            RuleKind::Exception => {}
            RuleKind::Allow => {
                if *value != Some(Value::Bool(true)) {
                    let message = format!("the rule `{}` does not hold", rule.path());
                    verdicts.denials.push(located(Reason::new(Code::PolicyDenied, message), rule));
                }
            }
            RuleKind::Deny => {
                let excepted = exceptions.iter().any(|(package, name)| {
                    *package == rule.package && (name == rule.exception_name() || (name.is_empty() && is_bare(rule)))
                });
                verdicts.take(collect(rule, value.as_ref()), excepted);
            }
            RuleKind::Warn => verdicts.take(collect(rule, value.as_ref()), true),
        }
    }
    for list in [&mut verdicts.denials, &mut verdicts.warnings] {
        if list.len() > limits::POLICY_REASONS {
            let left_out = list.len() - limits::POLICY_REASONS;
            list.truncate(limits::POLICY_REASONS);
            list.push(Reason::new(Code::PolicyDenied, format!("{left_out} more reasons are left out")));
        }
    }
    verdicts
}

fn is_bare(rule: &DecidingRule) -> bool {
    matches!(rule.name.as_str(), "deny" | "violation")
}

/// `exception` yields lists of rule names (conftest); anything else excepts nothing.
fn exceptions(rules: &[DecidingRule], results: &[Option<Value>]) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    for (rule, value) in rules.iter().zip(results).filter(|(rule, _)| rule.kind == RuleKind::Exception) {
        for list in value.iter().flat_map(members) {
            found.extend(members(&list).iter().filter_map(text).map(|name| (rule.package.clone(), name)));
        }
    }
    found
}

fn members(value: &Value) -> Vec<Value> {
    match value {
        Value::Set(set) => set.iter().cloned().collect(),
        Value::Array(array) => array.iter().cloned().collect(),
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Reads one rule's result: a set or an array of messages, one message, an object of messages, or a truth value.
/// An undefined result is a rule that found nothing.
fn collect(rule: &DecidingRule, value: Option<&Value>) -> Vec<Reason> {
    match value {
        None | Some(Value::Undefined | Value::Bool(false)) => Vec::new(),
        Some(Value::Bool(true)) => {
            vec![located(Reason::new(Code::PolicyDenied, format!("the rule `{}` holds", rule.path())), rule)]
        }
        Some(value @ (Value::Set(_) | Value::Array(_))) => {
            members(value).iter().map(|member| message(rule, member)).collect()
        }
        Some(value @ Value::Object(object)) if value["msg"] == Value::Undefined => {
            object.iter_sorted().map(|(_, member)| message(rule, member)).collect()
        }
        Some(value @ (Value::String(_) | Value::Object(_))) => vec![message(rule, value)],
        Some(value) => vec![wrong(rule, value)],
    }
}

/// One message: a string, or an object with `msg` and perhaps `code`, `evidence`, `location` and `hint`.
fn message(rule: &DecidingRule, value: &Value) -> Reason {
    let reason = match value {
        Value::String(text) => Reason::new(Code::PolicyDenied, shortened(text)),
        Value::Object(_) => {
            let Some(msg) = text(&value["msg"]) else { return wrong(rule, value) };
            let code = text(&value["code"]).and_then(|code| ReasonCode::from_policy(&code));
            let mut reason = match code {
                Some(code) => Reason::from_policy(code, shortened(&msg)),
                None => Reason::new(Code::PolicyDenied, shortened(&msg)),
            };
            reason.evidence = text(&value["evidence"]).map(|text| shortened(&text));
            reason.location = text(&value["location"]).map(|text| shortened(&text));
            if let Some(hint) = text(&value["hint"]) {
                reason.hint = Some(shortened(&hint));
            }
            reason
        }
        _ => return wrong(rule, value),
    };
    located(reason, rule)
}

/// A result that is no message.
fn wrong(rule: &DecidingRule, value: &Value) -> Reason {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object without a string `msg`",
        Value::Undefined => "nothing",
    };
    let message = format!("the rule `{}` yields {kind} where a message was expected", rule.path());
    located(Reason::new(Code::PolicyFailed, message), rule)
}

/// Names the rule and its file where the policy named nothing better.
fn located(mut reason: Reason, rule: &DecidingRule) -> Reason {
    reason.evidence.get_or_insert_with(|| rule.file.clone());
    reason.location.get_or_insert_with(|| rule.path());
    reason
}

/// A policy's text at a length that a report can carry.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(limits::POLICY_MESSAGE_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
