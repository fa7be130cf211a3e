//! `debvisor trust`: shows, checks and updates the trust root, and handles offline trust bundles.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;

use super::report;
use super::{Context, Ended, Format, UsageError};
use crate::release::collect::trust_root::{self, SelectedRoot};
use crate::release::decision::{Decision, Report, SubjectReport, TrustRootReference};
use crate::release::trust::listing::{self, Listing};
use crate::release::trust::root::TrustRoot;
use crate::types::Reason;

mod bundle;
mod update;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show which authorities and logs are believed, and for what time
    Show(Root),
    /// Check that the trust root can be read and is not too old
    Check {
        #[command(flatten)]
        root: Root,
        /// A trust root older than this is undecided: exit code 2
        #[arg(long, value_name = "DAYS")]
        max_trust_root_age: Option<u32>,
    },
    /// Bring the trust root up to date by TUF, from a mirror or a directory
    Update(update::Args),
    /// Make, sign, verify and install offline trust bundles
    #[command(subcommand)]
    Bundle(bundle::Command),
}

#[derive(Debug, clap::Args)]
struct Root {
    /// A trusted_root.json, or `bundle:NAME` for a root of the installed trust bundle; without it that bundle's first
    /// root, else the updated one, else the embedded public-good root
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    match args.command {
        Command::Show(root) => show(&root, context),
        Command::Check { root, max_trust_root_age } => check(&root, max_trust_root_age, context),
        Command::Update(args) => update::run(&args, context),
        Command::Bundle(command) => bundle::run(command, context),
    }
}

fn show(root: &Root, context: &Context) -> anyhow::Result<Ended> {
    match read(root, context) {
        Err(reason) => end(&Report::new(Vec::new(), vec![reason], context.now), context),
        Ok((selected, listing)) if context.format == Format::Text => {
            print_table(&selected, &listing, context.now)?;
            Ok(Ended::Decided(Decision::Allow))
        }
        Ok((selected, listing)) => end(&root_report(&selected, &listing, Vec::new(), context.now), context),
    }
}

fn check(root: &Root, max_age_days: Option<u32>, context: &Context) -> anyhow::Result<Ended> {
    let report = match read(root, context) {
        Err(reason) => Report::new(Vec::new(), vec![reason], context.now),
        Ok((selected, listing)) => {
            let reasons = max_age_days.and_then(|days| selected.check_age(days).err()).into_iter().collect();
            root_report(&selected, &listing, reasons, context.now)
        }
    };
    end(&report, context)
}

fn read(root: &Root, context: &Context) -> Result<(SelectedRoot, Listing), Reason> {
    let config_dir = context.environment.config_dir.as_deref();
    let installed = trust_root::installed_bundle(config_dir, context.now)?;
    let selected = trust_root::select(config_dir, root.trusted_root.as_deref(), installed.as_ref(), context.now)?;
    // Shown is what the document says; whether it can be used is asked of those who use it.
    let listing = TrustRoot::parse(&selected.json)
        .and_then(|_| listing::parse(&selected.json))
        .map_err(|reason| reason.evidence(selected.origin.to_string()))?;
    Ok((selected, listing))
}

/// The trust root as the one subject of a report, what it names as its facts.
fn root_report(root: &SelectedRoot, listing: &Listing, reasons: Vec<Reason>, now: Timestamp) -> Report {
    let facts = serde_json::json!({
        "origin": root.origin.to_string(),
        "fetched_at": root.fetched_at,
        "age_days": root.age_days,
        "media_type": listing.media_type,
        "entries": listing.entries,
    });
    let subject = SubjectReport {
        name: root.origin.to_string(),
        digest: BTreeMap::from([(root.digest.algorithm().to_string(), root.digest.to_hex())]),
        decision: Decision::from_reasons(&reasons),
        facts,
    };
    let mut report = Report::new(vec![subject], reasons, now);
    report.trust_root = Some(TrustRootReference { digest: root.digest.clone(), age_days: root.age_days });
    report
}

fn end(report: &Report, context: &Context) -> anyhow::Result<Ended> {
    report::print(report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn print_table(root: &SelectedRoot, listing: &Listing, now: Timestamp) -> anyhow::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["ROLE", "NAME", "FROM", "UNTIL", "KEY ID"]);
    let day = |time: Option<Timestamp>| time.map(|time| time.strftime("%Y-%m-%d").to_string());
    for entry in &listing.entries {
        let until = match (day(entry.valid_until), entry.is_current(now)) {
            (Some(until), true) => until,
            (Some(until), false) => format!("{until} (not now)"),
            (None, true) => "open".to_owned(),
            (None, false) => "open (not now)".to_owned(),
        };
        let name = if entry.name.is_empty() { entry.uri.as_deref().unwrap_or("(no name)") } else { &entry.name };
        let id = entry.key_id.strip_prefix("sha256:").unwrap_or(&entry.key_id);
        table.add_row([
            entry.role.name(),
            &plain(name),
            &day(entry.valid_from).unwrap_or_else(|| "never".to_owned()),
            &until,
            id.get(..16).unwrap_or(id),
        ]);
    }
    let mut out = anstream::stdout().lock();
    writeln!(out, "origin  {}", plain(&root.origin.to_string()))?;
    writeln!(out, "digest  {}", root.digest)?;
    match (root.fetched_at, root.age_days) {
        (Some(at), Some(days)) => writeln!(out, "age     {days} days (since {})", at.strftime("%Y-%m-%d"))?,
        _ => writeln!(out, "age     unknown")?,
    }
    writeln!(out)?;
    // Trailing blanks of the last column are of no use to anybody.
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

/// A name out of a file that somebody else wrote may not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
