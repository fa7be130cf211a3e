//! `debvisor config check | show`: what a configuration and the environment say, and every fault of it at once.
//! `debvisor up` reads its configuration by the same code.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{Context, Ended, Format, UsageError, client};
use crate::config::{self, Effective, Fault, Flag, Setting, Source};
use crate::release::admit::AdmissionTrust;
use crate::release::artifact;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell every fault of a configuration, each with its line
    Check(FileArgs),
    /// Show what holds, and where each value comes from
    Show(FileArgs),
}

#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The configuration; without it debvisor.toml in the state directory, if it is there
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A configuration without a fault.
pub(super) struct Loaded {
    /// What holds.
    pub(super) effective: Effective,
    /// Whom `[admission]` believes.
    pub(super) trust: AdmissionTrust,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let (Command::Check(FileArgs { file }) | Command::Show(FileArgs { file })) = &args.command;
    let state = context.environment.state_dir.as_deref();
    let file = file.clone().or_else(|| state.map(config::usual).filter(|file| file.exists()));
    let loaded = load(file.as_deref(), &[], context);
    match args.command {
        Command::Check(_) => check(loaded.map(drop), file.as_deref(), context),
        Command::Show(_) => show(&loaded.map_err(|faults| wrong(&faults))?.effective, file.as_deref(), context),
    }
}

/// Reads a configuration, and what the environment and flags say over it.
pub(super) fn load(file: Option<&Path>, flags: &[Flag], context: &Context) -> Result<Loaded, Vec<Fault>> {
    let text = file.map(text).transpose().map_err(|fault| vec![fault])?;
    let named = file.zip(text.as_deref());
    let read = config::read(named, &context.environment.settings, flags);
    // Without a text that can be read the table of admission would only say the same again.
    let is_toml = read.as_ref().err().is_none_or(|faults| faults.iter().all(|fault| !fault.key.is_empty()));
    let trust = match named.filter(|_| is_toml) {
        Some((path, text)) => super::admit::of_text(path, text).map_err(|faults| {
            let of = |fault: crate::release::admit::TrustFault| Fault {
                place: path.display().to_string(),
                line: Some(fault.line),
                key: "admission".to_owned(),
                message: fault.message,
                hint: None,
            };
            faults.into_iter().map(of).collect::<Vec<_>>()
        }),
        None => AdmissionTrust::parse("", &|_: &str, _: u64| Ok(Vec::new())).map_err(|_| Vec::new()),
    };
    match (read, trust) {
        (Ok(effective), Ok(trust)) => Ok(Loaded { effective, trust }),
        (read, trust) => {
            let mut faults: Vec<Fault> = read.err().into_iter().chain(trust.err()).flatten().collect();
            faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
            Err(faults)
        }
    }
}

fn text(path: &Path) -> Result<String, Fault> {
    let fault = |message: String| Fault {
        place: path.display().to_string(),
        line: None,
        key: String::new(),
        message,
        hint: Some("docs/reference/configuration.md names every key".to_owned()),
    };
    let bytes = artifact::read_bounded(path, limits::CONFIG_BYTES)
        .map_err(|error| fault(format!("the configuration cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| fault("the configuration is not UTF-8".to_owned()))
}

/// Every fault, as one error of usage.
pub(super) fn wrong(faults: &[Fault]) -> UsageError {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let head = match lines.len() {
        1 => "the configuration is wrong".to_owned(),
        count => format!("the configuration is wrong in {count} places"),
    };
    UsageError::new(
        format!("{head}:\n       {}", lines.join("\n       ")),
        "docs/reference/configuration.md names every key, docs/reference/admission.md those of [admission]",
    )
}

fn check(loaded: Result<(), Vec<Fault>>, file: Option<&Path>, context: &Context) -> anyhow::Result<Ended> {
    if context.format != Format::Text {
        let faults = loaded.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        client::print_json(&serde_json::json!({ "file": file, "faults": faults }))?;
    } else if loaded.is_ok() {
        match file {
            Some(file) => println!("{}: no fault", file.display()),
            None => println!("no configuration file, and no fault in what the environment says"),
        }
    }
    loaded.map(|()| Ended::Done).map_err(|faults| wrong(&faults).into())
}

/// One key, as it is shown.
#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Option<String>,
    source: String,
}

fn show(effective: &Effective, file: Option<&Path>, context: &Context) -> anyhow::Result<Ended> {
    let row = |setting: &Setting| Row {
        key: setting.key.path,
        value: setting.value.as_ref().map(|_| setting.shown()),
        source: match &setting.source {
            Source::Default => "default".to_owned(),
            Source::File(line) => {
                let file = file.map(|file| file.display().to_string()).unwrap_or_default();
                format!("{file}:{line}")
            }
            Source::Environment(variable) => variable.clone(),
            Source::Flag(flag) => (*flag).to_owned(),
        },
    };
    let rows: Vec<Row> = effective.settings.iter().map(row).collect();
    client::print_list(context, &rows, ["KEY", "VALUE", "FROM"], |row| {
        [row.key.to_owned(), row.value.clone().unwrap_or_else(|| "-".to_owned()), row.source.clone()]
    })?;
    Ok(Ended::Done)
}
