//! `debvisor sbom score FILE`: how good a document is, part by part. It tells and does not judge, unless a least score
//! or a profile is asked for.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::super::report::visible::visible;
use super::super::{Context, Ended, Format, report};
use super::{Read, read, refused};
use crate::release::decision::{Decision, Report};
use crate::release::evidence::sbom::score::{self, Score};
use crate::types::{Code, Reason};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A CycloneDX or SPDX document
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A lower score is a no; from 0 to 100
    #[arg(long, value_name = "SCORE", value_parser = parse_score)]
    min_score: Option<f64>,
    /// A demand of this profile that is not met is a no; repeatable
    #[arg(long, value_enum, value_name = "PROFILE")]
    require_profile: Vec<Profile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// The minimum elements of the NTIA, 2021
    Ntia,
    /// The required fields of BSI TR-03183-2, version 2
    #[value(name = "bsi-tr-03183-2")]
    Bsi,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Ntia => "ntia",
            Self::Bsi => "bsi-tr-03183-2",
        }
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let read = match read(&args.file) {
        Ok(read) => read,
        Err(reason) => return refused(reason, context),
    };
    let score = score::score(&read.document);
    let reasons = against(args, &score, &read);
    let decision = Decision::from_reasons(&reasons);
    let mut facts = read.facts();
    facts.insert("score".to_owned(), json!(score.score));
    facts.insert("parts".to_owned(), json!(score.parts));
    facts.insert("profiles".to_owned(), json!(score.profiles));
    let report = Report::new(vec![read.subject(decision, facts.into())], reasons, context.now);
    if context.format == Format::Text {
        write_text(&score, &mut anstream::stdout().lock())?;
        if decision == Decision::Allow {
            return Ok(Ended::Decided(decision));
        }
    }
    report::print(&report, context)?;
    Ok(Ended::Decided(decision))
}

fn against(args: &Args, score: &Score, read: &Read) -> Vec<Reason> {
    let reason = |message: String| Reason::new(Code::SbomQuality, message).evidence(&read.name).subject(&read.name);
    let mut reasons = Vec::new();
    if let Some(wanted) = args.min_score.filter(|wanted| score.score < *wanted) {
        reasons.push(reason(format!("the score is {}; {wanted} is asked for", score.score)));
    }
    for profile in score
        .profiles
        .iter()
        .filter(|profile| !profile.met && args.require_profile.iter().any(|wanted| wanted.name() == profile.name))
    {
        for demand in profile.demands.iter().filter(|demand| !demand.met) {
            let message = format!("{}: {} ({} of {})", profile.name, demand.name, demand.have, demand.of);
            reasons.push(reason(message));
        }
    }
    reasons
}

/// A number that a score can have; NaN is none.
fn parse_score(text: &str) -> Result<f64, String> {
    let score = text.parse::<f64>().ok().filter(|score| (0.0..=100.0).contains(score));
    score.ok_or_else(|| "a score is a number from 0 to 100".to_owned())
}

fn write_text(score: &Score, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["PART", "SCORE", "WEIGHT", "HAVE", "LACKING"]);
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for part in &score.parts {
        let value = part.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.1}"));
        let have = if part.of > 0 { format!("{} of {}", part.have, part.of) } else { String::new() };
        let lacking = part.lacking.first().map(|label| visible(label).into_owned()).unwrap_or_default();
        let more = if part.lacking.len() > 1 { ", …" } else { "" };
        table.add_row([part.name.to_owned(), value, part.weight.to_string(), have, format!("{lacking}{more}")]);
    }
    writeln!(out, "{table}")?;
    for profile in &score.profiles {
        let unmet: Vec<&str> = profile.demands.iter().filter(|demand| !demand.met).map(|demand| demand.name).collect();
        let met = profile.demands.len().saturating_sub(unmet.len());
        let rest = if unmet.is_empty() { String::new() } else { format!("; not met: {}", unmet.join(", ")) };
        writeln!(out, "{}: {met} of {} demands met{rest}", profile.name, profile.demands.len())?;
    }
    writeln!(out, "score: {:.1} of 100", score.score)?;
    Ok(())
}
