//! `debvisor explain CODE`: what a reason code means and how it is usually mended.

use std::io::Write as _;

use super::{Context, Ended, Format, UsageError};
use crate::types::{Code, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reason code, as reports print it; without one, all of them
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// Print the page docs/reference/reason-codes.md
    #[arg(long, hide = true, conflicts_with = "code")]
    reference: bool,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    if args.reference {
        std::io::stdout().lock().write_all(super::report::reference::page().as_bytes())?;
        return Ok(Ended::Done);
    }
    let codes = match args.code {
        None => Code::ALL.to_vec(),
        Some(name) => {
            let code = Code::from_name(&name).ok_or_else(|| {
                UsageError::new(
                    format!("`{name}` is not a reason code of DebVisor"),
                    nearest(&name).map_or_else(
                        || "`debvisor explain` lists them all; a policy may have codes of its own".to_owned(),
                        |code| format!("did you mean `{}`?", code.name()),
                    ),
                )
            })?;
            vec![code]
        }
    };
    let mut out = anstream::stdout().lock();
    if context.format == Format::Json {
        let documents: Vec<_> = codes.iter().map(|code| describe(*code)).collect();
        serde_json::to_writer_pretty(&mut out, &documents)?;
        writeln!(out)?;
        return Ok(Ended::Done);
    }
    for (position, code) in codes.iter().enumerate() {
        let info = code.info();
        if position > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{} ({})", info.name, outcome_name(info.outcome))?;
        writeln!(out, "  {}", info.meaning)?;
        writeln!(out, "  from: {}", info.source)?;
        writeln!(out, "  fix:  {}", info.fix)?;
    }
    Ok(Ended::Done)
}

fn describe(code: Code) -> serde_json::Value {
    let info = code.info();
    serde_json::json!({
        "code": info.name,
        "decision": outcome_name(info.outcome),
        "meaning": info.meaning,
        "source": info.source,
        "fix": info.fix,
    })
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Deny => "deny",
        Outcome::Undecided => "undecided",
    }
}

/// The code that shares the most words with what was typed.
fn nearest(name: &str) -> Option<Code> {
    let words: Vec<&str> = name.split(['-', '_', ' ']).collect();
    Code::ALL
        .iter()
        .copied()
        .map(|code| (code.name().split('-').filter(|word| words.contains(word)).count(), code))
        .filter(|(shared, _)| *shared > 0)
        .max_by_key(|(shared, code)| (*shared, std::cmp::Reverse(*code)))
        .map(|(_, code)| code)
}
