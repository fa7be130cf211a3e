//! `debvisor checksum verify | create`: a list and a directory in, a report out; or files in, a list out.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};

use super::{Context, Ended, UsageError, output, progress, report};
use crate::release::artifact::Artifact;
use crate::release::collect::files::{self, FoundFile};
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::checksums::{self, ChecksumList};
use crate::types::{Code, DigestAlgorithm, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove that every listed file has its listed digest
    Verify(VerifyArgs),
    /// Write a list, in the form that sha256sum writes and reads
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The checksum list: GNU or BSD form
    #[arg(value_name = "LIST")]
    list: PathBuf,
    /// Where the listed files are; without it, where the list is
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Refuse files that the list does not name; the list and its signatures need no line
    #[arg(long)]
    no_unlisted: bool,
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// How to hash
    #[arg(long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    /// Where to write the list, all of it or nothing; without it, to stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// One directory, with everything below it, or files by relative names
    #[arg(value_name = "DIR|FILE", required = true)]
    inputs: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algorithm {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
}

impl Algorithm {
    const fn digest(self) -> DigestAlgorithm {
        match self {
            Self::Sha256 => DigestAlgorithm::Sha256,
            Self::Sha512 => DigestAlgorithm::Sha512,
        }
    }

    /// What a list of this algorithm is usually called.
    const fn list_name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256SUMS",
            Self::Sha512 => "SHA512SUMS",
        }
    }
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    match args.command {
        Command::Verify(args) => verify(&args, context),
        Command::Create(args) => create(&args, context),
    }
}

fn verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<Ended> {
    let name = args.list.display().to_string();
    let list = match files::read_evidence(&args.list, limits::CHECKSUM_LIST_BYTES)
        .map_err(|reason| vec![reason])
        .and_then(|bytes| ChecksumList::parse(&bytes, &name))
    {
        Ok(list) => list,
        Err(reasons) => return decided(Vec::new(), reasons, context),
    };
    let dir = args.dir.clone().unwrap_or_else(|| output::folder_of(&args.list).to_owned());
    if !dir.is_dir() {
        let reason = Reason::new(Code::SubjectUnreadable, format!("there is no directory {}", dir.display()));
        return decided(Vec::new(), vec![reason], context);
    }

    let mut found = Vec::new();
    let mut reasons = Vec::new();
    for located in files::locate(&list, &dir) {
        match located {
            Ok(file) => found.push(file),
            Err(reason) => reasons.push(reason),
        }
    }
    let bar = progress::bytes(context, found.iter().map(|file| file.bytes));
    let mut subjects = Vec::new();
    for hashed in files::hash(&found, &dir, |name| list.algorithms(name), &|bytes| bar.inc(bytes)) {
        match hashed {
            Ok(artifact) => {
                let wrong = list.judge(&artifact);
                subjects.push(subject(&artifact, &list, &wrong));
                reasons.extend(wrong);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    bar.finish_and_clear();
    if args.no_unlisted {
        reasons.extend(files::unlisted(&list, &args.list, &dir));
    }
    decided(subjects, reasons, context)
}

fn subject(artifact: &Artifact, list: &ChecksumList, wrong: &[Reason]) -> SubjectReport {
    let lines: Vec<usize> = list.of_name(&artifact.name).iter().map(|entry| entry.line).collect();
    SubjectReport {
        name: artifact.name.clone(),
        digest: artifact.digest_set(),
        decision: Decision::from_reasons(wrong),
        facts: serde_json::json!({"checksum": {"list": list.file_name(), "lines": lines}}),
    }
}

fn create(args: &CreateArgs, context: &Context) -> anyhow::Result<Ended> {
    let (dir, found) = match &*args.inputs {
        [dir] if dir.is_dir() => match files::list(dir) {
            Ok(found) => {
                let own = match &args.output {
                    Some(output) => files::name_below(output, dir),
                    // Where the shell writes stdout to is not ours to know; the usual name is left out.
                    None => Some(args.algorithm.list_name().to_owned()),
                };
                let is_own = |file: &FoundFile| {
                    own.as_deref().is_some_and(|own| checksums::is_list_or_its_signature(own, &file.name))
                };
                (dir.clone(), found.into_iter().filter(|file| !is_own(file)).collect())
            }
            Err(reasons) => return decided(Vec::new(), reasons, context),
        },
        inputs => (PathBuf::from("."), named(inputs)?),
    };
    if found.is_empty() {
        return Err(UsageError::new("there is no file to list", "name files, or a directory that holds some").into());
    }

    let bar = progress::bytes(context, found.iter().map(|file| file.bytes));
    let algorithms = |_: &str| vec![args.algorithm.digest()];
    let mut digests = BTreeMap::new();
    let mut reasons = Vec::new();
    for hashed in files::hash(&found, &dir, algorithms, &|bytes| bar.inc(bytes)) {
        match hashed {
            Ok(artifact) => {
                let digest = artifact.digest(args.algorithm.digest()).cloned();
                digests.insert(artifact.name, digest.context("a file was hashed without a digest")?);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    bar.finish_and_clear();
    let text = checksums::render(digests.iter().map(|(name, digest)| (name.as_str(), digest)));
    match text {
        Ok(text) if reasons.is_empty() => {
            match &args.output {
                Some(path) => output::write(path, text.as_bytes())?,
                None => anstream::stdout().lock().write_all(text.as_bytes()).context("cannot write to stdout")?,
            }
            Ok(Ended::Done)
        }
        Ok(_) => decided(Vec::new(), reasons, context),
        Err(reason) => {
            reasons.push(reason);
            decided(Vec::new(), reasons, context)
        }
    }
}

/// Files by the names that the list shall give them.
fn named(inputs: &[PathBuf]) -> anyhow::Result<Vec<FoundFile>> {
    let mut found = BTreeMap::new();
    for path in inputs {
        if path.is_dir() {
            let message = format!("{} is a directory beside other inputs", path.display());
            return Err(UsageError::new(message, "name one directory alone, or files").into());
        }
        let bytes = path
            .symlink_metadata()
            .map_err(|error| {
                UsageError::new(format!("cannot read {}: {error}", path.display()), "check the name of the file")
            })?
            .len();
        let name = path.to_str().and_then(|name| checksums::normal_name(name).ok()).ok_or_else(|| {
            UsageError::new(
                format!("a list cannot hold the name {}", path.display()),
                "go to the directory of the files and name them from there",
            )
        })?;
        found.insert(name.clone(), FoundFile { path: path.clone(), name, bytes });
    }
    Ok(found.into_values().collect())
}

fn decided(subjects: Vec<SubjectReport>, reasons: Vec<Reason>, context: &Context) -> anyhow::Result<Ended> {
    let report = Report::new(subjects, reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}
