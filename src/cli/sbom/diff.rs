//! `debvisor sbom diff OLD NEW`: what was added, removed and changed. It tells and does not judge: exit code 0.

use std::io::Write as _;
use std::path::PathBuf;

use comfy_table::{Table, presets};

use super::super::report::visible::visible;
use super::super::{Context, Ended, Format};
use super::{read, refused};
use crate::release::evidence::sbom::diff::{self, Diff, Side, What};
use crate::release::evidence::sbom::model::Hash;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The document of the older release
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The document of the newer one
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let (old, new) = match (read(&args.old), read(&args.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(reason), _) | (_, Err(reason)) => return refused(reason, context),
    };
    for document in [&old, &new] {
        let faults = document.document.findings.errors.len();
        if faults > 0 && !context.quiet {
            let mut stderr = anstream::stderr().lock();
            let hint = format!("debvisor sbom validate {}", document.name);
            let _ = writeln!(stderr, "warning: {} has {faults} faults: {hint}", document.name);
        }
    }
    let diff = diff::diff(&old.document.sbom, &new.document.sbom);
    let mut out = anstream::stdout().lock();
    if context.format == Format::Text {
        write_text(&diff, &mut out)?;
    } else {
        serde_json::to_writer_pretty(&mut out, &diff)?;
        writeln!(out)?;
    }
    Ok(Ended::Done)
}

fn write_text(diff: &Diff, out: &mut impl std::io::Write) -> std::io::Result<()> {
    if diff.is_empty() {
        return writeln!(out, "nothing was added, removed or changed");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["", "COMPONENT", "OLD", "NEW"]);
    let version = |version: &Option<String>| visible(version.as_deref().unwrap_or("-")).into_owned();
    let name = |name: &str| visible(name).into_owned();
    for entry in &diff.added {
        table.add_row(["+".to_owned(), name(&entry.name), String::new(), version(&entry.version)]);
    }
    for entry in &diff.removed {
        table.add_row(["-".to_owned(), name(&entry.name), version(&entry.version), String::new()]);
    }
    for change in &diff.changed {
        let (old, new) = match change.what {
            What::Version => (version(&change.old.version), version(&change.new.version)),
            What::Hash => {
                let (old, new) = digests(&change.old, &change.new);
                (format!("{} {old}", version(&change.old.version)), format!("{} {new}", version(&change.new.version)))
            }
        };
        table.add_row(["~".to_owned(), name(&change.name), old, new]);
    }
    writeln!(out, "{table}")?;
    let (added, removed, changed) = (diff.added.len(), diff.removed.len(), diff.changed.len());
    writeln!(out, "{added} added, {removed} removed, {changed} changed")
}

/// The first digest of one algorithm on which the two sides differ, shortened.
fn digests(old: &Side, new: &Side) -> (String, String) {
    let short = |hash: &Hash| {
        let digits: String = hash.value.chars().take(12).collect();
        format!("({} {digits}…)", visible(hash.algorithm.name()))
    };
    old.hashes
        .iter()
        .find_map(|hash| {
            let other =
                new.hashes.iter().find(|other| other.algorithm == hash.algorithm && other.value != hash.value)?;
            Some((short(hash), short(other)))
        })
        .unwrap_or_default()
}
