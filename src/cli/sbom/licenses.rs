//! `debvisor sbom licenses FILE`: the licences of a document, and what a policy says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use serde_json::json;

use super::super::policy::load;
use super::super::report::visible::visible;
use super::super::{Context, Ended, Format, report};
use super::{read, refused, validate};
use crate::release::decision::{Decision, Report};
use crate::release::evidence::sbom::licenses::{self, Statement};
use crate::release::policy::{PolicySet, builtin};
use crate::types::Reason;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A CycloneDX or SPDX document
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Lists of what is allowed, denied and excepted in JSON (docs/reference/sbom.md), or a Rego policy by name or path
    #[arg(long, value_name = "FILE", default_value = "licenses")]
    policy: String,
    /// A folder whose NAME.rego, NAME.json or NAME/ comes before the user's and the built-in policies
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let read = match read(&args.file) {
        Ok(read) => read,
        Err(reason) => return refused(reason, context),
    };
    let statements = licenses::statements(&read.document.sbom);
    let (mut reasons, mut warnings, mut reference) = (Vec::new(), Vec::new(), None);
    match policy(args, context) {
        Err(reason) => reasons.push(reason.subject(&read.name)),
        Ok(set) => {
            let verdicts = set.evaluate(&validate::input(&read, context));
            reasons.extend(verdicts.denials.into_iter().map(|reason| reason.subject(&read.name)));
            warnings.extend(verdicts.warnings.into_iter().map(|reason| reason.subject(&read.name)));
            reference = Some(set.reference());
        }
    }
    let decision = Decision::from_reasons(&reasons);
    let mut facts = read.facts();
    facts.insert("licenses".to_owned(), json!(statements));
    let mut report = Report::new(vec![read.subject(decision, facts.into())], reasons, context.now);
    report.warnings = warnings;
    report.policy = reference;
    if context.format == Format::Text {
        write_text(&statements, &mut anstream::stdout().lock())?;
    }
    report::print(&report, context)?;
    Ok(Ended::Decided(decision))
}

/// A JSON file takes the place of the lists that the built-in policy comes with; anything else is a policy itself.
fn policy(args: &Args, context: &Context) -> Result<PolicySet, Reason> {
    let path = Path::new(&args.policy);
    if path.extension().is_none_or(|extension| extension != "json") {
        return validate::policy(&args.policy, args.policy_dir.as_deref(), context);
    }
    let lists = load::read_path(path)?.into_iter().map(|(_, text)| ("licenses.json".to_owned(), text));
    let rules = builtin::part_files("licenses").into_iter().filter(|(name, _)| name != "licenses.json");
    PolicySet::from_sources(&args.policy, rules.chain(lists).collect())
}

/// Each licence text with the number of components that have it.
fn write_text(statements: &[Statement], out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut by_license: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for statement in statements {
        let stated: Vec<&str> = statement.stated.iter().map(|stated| stated.text.as_str()).collect();
        let text = match stated.as_slice() {
            [] => "(none)".to_owned(),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => (*first).to_owned(),
            stated => stated.join("; "),
        };
        let entry = by_license.entry(text).or_insert((0, &statement.component));
        entry.0 += 1;
    }
    let mut rows: Vec<_> = by_license.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["LICENCE", "COMPONENTS", "FOR EXAMPLE"]);
    for (license, (count, example)) in rows {
        table.add_row([visible(&license).into_owned(), count.to_string(), visible(example).into_owned()]);
    }
    writeln!(out, "{table}")
}
