//! `debvisor archive check FILE`: whether an archive can be unpacked anywhere without doing harm.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Context, Ended, report};
use crate::release::artifact;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::archive;
use crate::types::{Code, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Refuse an archive that would escape, collide or explode; nothing is unpacked
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A tar, tar.gz, tar.zst or zip archive; its name does not matter
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the members together may unpack to: bytes, or with kB, MB, GB, TB or KiB, MiB, GiB, TiB [default: 16GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value_t = limits::ARCHIVE_UNPACKED_BYTES,
        hide_default_value = true)]
    max_unpacked_size: u64,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let Command::Check(args) = args.command;
    let report = check(&args, context);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn check(args: &CheckArgs, context: &Context) -> Report {
    let name = args.file.display().to_string();
    let file = match artifact::open_regular(&args.file) {
        Ok(file) => file,
        Err(error) => {
            let reason = Reason::new(Code::SubjectUnreadable, format!("cannot read {name}: {error}")).subject(name);
            return Report::new(Vec::new(), vec![reason], context.now);
        }
    };
    let bar = progress(&file, &args.file, context);
    let limits = archive::Limits { unpacked_bytes: args.max_unpacked_size };
    let checked = archive::check(bar.wrap_read(file), &limits);
    bar.finish_and_clear();
    let (summary, reasons) = match checked {
        Ok(summary) => (Some(summary), Vec::new()),
        Err(reasons) => (None, reasons.into_iter().map(|reason| reason.evidence(&name).subject(&name)).collect()),
    };
    let subject = SubjectReport {
        name,
        digest: std::collections::BTreeMap::new(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::json!({ "archive": summary }),
    };
    Report::new(vec![subject], reasons, context.now)
}

/// A bar over the bytes of the archive as it is packed, where people look.
fn progress(file: &File, path: &Path, context: &Context) -> ProgressBar {
    let length = file.metadata().map(|metadata| metadata.len());
    let (true, Ok(length)) = (context.shows_progress(), length) else { return ProgressBar::hidden() };
    let bar = ProgressBar::new(length).with_message(path.display().to_string());
    match ProgressStyle::with_template("{msg} {bar:40} {binary_bytes}/{binary_total_bytes}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A size as people write it: `1048576`, `32MiB`, `1GB`. `K` or `M` alone says neither 1000 nor 1024 and is refused.
fn parse_size(text: &str) -> Result<u64, io::Error> {
    let wrong = || io::Error::other("write a size as a whole number of bytes, or with a unit: 32MiB, 1GB");
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "kib" => 1024,
        "mib" => 1024_u64.pow(2),
        "gib" => 1024_u64.pow(3),
        "tib" => 1024_u64.pow(4),
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("32MiB", 32 << 20), ("1GB", 1_000_000_000), ("2 kib", 2048)]
        {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MiB", "32M", "-1", "1.5GB", "1e9", "99999999999999999999", "99999999TiB", "1 2"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
