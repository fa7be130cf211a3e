//! Who calls whom in a policy set: parsed modules in, a refusal out where calls go round in a circle or too deep.
//!
//! The interpreter finds rules that depend on themselves, but a function that calls itself, or a long enough chain of
//! calls, overflows its stack, and that ends a process beyond any rescue. So the chains are measured beforehand, over
//! names: what looks like a reference counts as one. Real policies are a dozen links deep.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Lexer, Module, Rule, RuleHead, Token, TokenKind};

use super::sources::unreadable;
use crate::types::{Code, Reason, limits};

/// A rule or function by its full path, `main.deny`.
type Path = Vec<String>;

#[derive(Debug, Default)]
struct Node {
    file: String,
    function: bool,
    /// What its text names, as paths from `data` or from the package.
    references: BTreeSet<Path>,
}

/// The names that a set's rules mention, module by module.
#[derive(Debug, Default)]
pub(super) struct CallGraph {
    nodes: BTreeMap<Path, Node>,
}

impl CallGraph {
    /// Takes in a module that parsed.
    pub(super) fn add(&mut self, file: &str, package: &[String], module: &Module) -> Result<(), Reason> {
        let aliases = imports(module);
        // A rule's text reaches from its head to the next rule's.
        let mut starts: Vec<(u32, Path, bool)> = module
            .policy
            .iter()
            .filter_map(|rule| head(rule))
            .map(|(start, mut name, function)| {
                let mut path = package.to_vec();
                path.append(&mut name);
                (start, path, function)
            })
            .collect();
        starts.sort();
        for (_, path, function) in &starts {
            let node = self.nodes.entry(path.clone()).or_default();
            node.function |= function;
            file.clone_into(&mut node.file);
        }
        let source = &module.package.span.source;
        let mut lexer = Lexer::new(source);
        lexer.set_max_col(std::num::NonZeroU32::MAX);
        let mut chain: Vec<String> = Vec::new();
        let mut chain_start = 0;
        let mut expect_name = false;
        loop {
            // The file has been parsed, so it can be read as tokens; if not, it is refused rather than half measured.
            let Token(kind, span) = lexer.next_token().map_err(|error| unreadable(file, error))?;
            let text = span.text();
            match kind {
                TokenKind::Ident if expect_name => {
                    chain.push(text.to_owned());
                    expect_name = false;
                    continue;
                }
                // `data["main"].deny`: a bracket with a string goes on with the chain.
                TokenKind::String if expect_name => {
                    chain.push(serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned()));
                    expect_name = false;
                    continue;
                }
                TokenKind::Symbol if !chain.is_empty() && matches!(text, "." | "[") => {
                    expect_name = true;
                    continue;
                }
                TokenKind::Symbol if !chain.is_empty() && text == "]" => continue,
                _ => {}
            }
            self.note(&starts, chain_start, &chain, package, &aliases);
            chain.clear();
            expect_name = false;
            match kind {
                TokenKind::Eof => return Ok(()),
                TokenKind::Ident => {
                    chain.push(text.to_owned());
                    chain_start = span.start;
                }
                _ => {}
            }
        }
    }

    /// Notes a chain of names under the rule in whose text it stands.
    fn note(
        &mut self,
        starts: &[(u32, Path, bool)],
        at: u32,
        chain: &[String],
        package: &[String],
        aliases: &BTreeMap<String, Path>,
    ) {
        let Some((first, rest)) = chain.split_first() else { return };
        let after = starts.partition_point(|(start, _, _)| *start <= at);
        let Some((start, from, _)) = after.checked_sub(1).and_then(|index| starts.get(index)) else { return };
        if *start == at {
            return; // the rule's own head
        }
        let path: Path = if first == "data" {
            rest.to_vec()
        } else if let Some(imported) = aliases.get(first) {
            imported.iter().chain(rest).cloned().collect()
        } else {
            package.iter().chain(chain).cloned().collect()
        };
        if let Some(node) = self.nodes.get_mut(from) {
            node.references.insert(path);
        }
    }

    /// Refuses circles through functions, and chains that are too long.
    pub(super) fn check(&self) -> Result<(), Reason> {
        let paths: Vec<&Path> = self.nodes.keys().collect();
        let nodes: Vec<&Node> = self.nodes.values().collect();
        let edges: Vec<Vec<usize>> = nodes.iter().map(|node| self.targets(node, &paths, &nodes)).collect();
        let mut depth: Vec<Option<usize>> = vec![None; nodes.len()];
        let mut open = vec![false; nodes.len()];
        for root in 0..nodes.len() {
            // Depth first without recursion: this, too, must not overflow.
            let mut stack = vec![(root, 0_usize)];
            while let Some((node, next)) = stack.pop() {
                if next == 0 {
                    if depth.get(node).copied().flatten().is_some() {
                        continue;
                    }
                    set(&mut open, node, true);
                }
                let targets = edges.get(node).map(Vec::as_slice).unwrap_or_default();
                if let Some(&target) = targets.get(next) {
                    stack.push((node, next + 1));
                    if open.get(target).copied().unwrap_or_default() {
                        let circle = stack.iter().map(|(node, _)| *node).skip_while(|node| *node != target);
                        if let Some(function) =
                            circle.into_iter().find(|node| nodes.get(*node).is_some_and(|n| n.function))
                        {
                            return Err(self.refusal(function, "calls itself, directly or through others"));
                        }
                        // A circle of rules alone: the interpreter refuses it if it is really taken.
                    } else if depth.get(target).copied().flatten().is_none() {
                        stack.push((target, 0));
                    }
                    continue;
                }
                let below = targets.iter().filter_map(|target| depth.get(*target).copied().flatten()).max();
                let own = below.map_or(1, |below| below + 1);
                if own > limits::POLICY_CALL_DEPTH {
                    return Err(self.refusal(
                        node,
                        &format!("has a chain of more than {} rules below it", limits::POLICY_CALL_DEPTH),
                    ));
                }
                set(&mut depth, node, Some(own));
                set(&mut open, node, false);
            }
        }
        Ok(())
    }

    /// What a node's references reach: the longest known path that a reference begins with, or every document below
    /// a reference that stops short of a rule.
    fn targets(&self, node: &Node, paths: &[&Path], nodes: &[&Node]) -> Vec<usize> {
        let mut found = BTreeSet::new();
        for reference in &node.references {
            let exact = (1..=reference.len()).rev().find_map(|length| {
                let prefix = reference.get(..length)?;
                paths.binary_search_by(|path| path.as_slice().cmp(prefix)).ok()
            });
            if let Some(index) = exact {
                found.insert(index);
                continue;
            }
            let first = paths.partition_point(|path| path.as_slice() < reference.as_slice());
            let below = paths
                .iter()
                .zip(nodes)
                .enumerate()
                .skip(first)
                .take_while(|(_, (path, _))| path.starts_with(reference));
            found.extend(below.filter(|(_, (_, node))| !node.function).map(|(index, _)| index));
        }
        found.into_iter().collect()
    }

    fn refusal(&self, index: usize, what: &str) -> Reason {
        let (path, file) =
            self.nodes.iter().nth(index).map_or((String::new(), ""), |(path, node)| (path.join("."), &node.file));
        let mut reason = unreadable(file, format!("`{path}` {what}"));
        if what.starts_with("has") {
            reason.code = Code::InputTooDeep.into();
        }
        reason
    }
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    if let Some(place) = list.get_mut(index) {
        *place = value;
    }
}

/// Where a rule begins, its name below its package, and whether it is a function.
fn head(rule: &Rule) -> Option<(u32, Path, bool)> {
    let (reference, function) = match rule {
        Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, .. } => (refr, false),
        Rule::Spec { head: RuleHead::Func { refr, .. }, .. } => (refr, true),
        Rule::Default { refr, args, .. } => (refr, !args.is_empty()),
    };
    let mut parts = Vec::new();
    let mut expression = reference.as_ref();
    loop {
        match expression {
            Expr::RefDot { refr, field, .. } => {
                parts.push(field.0.text().to_owned());
                expression = refr.as_ref();
            }
            Expr::RefBrack { refr, .. } => {
                // What the brackets hold may be a variable: the rule counts under what stands before them.
                parts.clear();
                expression = refr.as_ref();
            }
            Expr::Var { span, .. } => {
                parts.push(span.text().to_owned());
                parts.reverse();
                return Some((span.start, parts, function));
            }
            _ => return None,
        }
    }
}

/// What a module's imports call by another name.
fn imports(module: &Module) -> BTreeMap<String, Path> {
    let mut aliases = BTreeMap::new();
    for import in &module.imports {
        let mut parts: Path = Vec::new();
        let mut expression = import.refr.as_ref();
        let root = loop {
            match expression {
                Expr::RefDot { refr, field, .. } => {
                    parts.push(field.0.text().to_owned());
                    expression = refr.as_ref();
                }
                Expr::RefBrack { refr, index, .. } => {
                    if let Expr::String { span, .. } = index.as_ref() {
                        parts.push(span.text().to_owned());
                    }
                    expression = refr.as_ref();
                }
                Expr::Var { span, .. } => break span.text().to_owned(),
                _ => break String::new(),
            }
        };
        parts.reverse();
        let name = import.r#as.as_ref().map(|span| span.text().to_owned()).or_else(|| parts.last().cloned());
        if let (true, Some(name)) = (root == "data", name) {
            aliases.insert(name, parts);
        }
    }
    aliases
}
