//! `debvisor release components DIR|FILE --manifest FILE`: a release and what it must consist of in, a report out.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Context, Ended, UsageError, report};
use crate::release::artifact;
use crate::release::collect::files;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::checksums::ChecksumList;
use crate::release::evidence::json;
use crate::release::gate::components::{self, Manifest, Present};
use crate::types::{Code, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Refuse a release that lacks a file, or has one that is too much, empty, too large or of another kind
    Components(ComponentsArgs),
}

#[derive(Debug, clap::Args)]
struct ComponentsArgs {
    /// The release's directory; or what names its files: a checksum list, or GitHub's answer about the release in JSON
    #[arg(value_name = "DIR|FILE")]
    release: PathBuf,
    /// What the release must consist of, in TOML or JSON (docs/how-to/components.md)
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let Command::Components(args) = &args.command;
    let manifest = read_manifest(&args.manifest)?;
    let name = args.release.display().to_string();
    let is_dir = args.release.is_dir();
    let (reasons, counts) = match if is_dir { listed(&args.release) } else { named(&args.release) } {
        Ok(present) => {
            let content = |file: &Present, most: u64| is_dir.then(|| beginning(&args.release, &file.name, most));
            components::check(&manifest, &present, &content)
        }
        Err(reasons) => (reasons, BTreeMap::new()),
    };
    let subject = SubjectReport {
        name,
        digest: BTreeMap::new(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::json!({ "components": counts }),
    };
    let report = Report::new(vec![subject], reasons, context.now);
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn read_manifest(path: &Path) -> Result<Manifest, UsageError> {
    let bytes = artifact::read_bounded(path, limits::CONFIG_BYTES).map_err(|error| error.to_string());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    text.and_then(|text| Manifest::parse(&text)).map_err(|why| {
        let message = format!("cannot use the manifest {}: {why}", path.display());
        UsageError::new(message, "docs/how-to/components.md shows its form")
    })
}

fn listed(dir: &Path) -> Result<Vec<Present>, Vec<Reason>> {
    let found = files::list(dir)?;
    Ok(found.into_iter().map(|file| Present { name: file.name, bytes: Some(file.bytes) }).collect())
}

/// GitHub's answer about a release, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Release {
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    size: u64,
}

/// The files of a release that is not here, by what names them.
fn named(path: &Path) -> Result<Vec<Present>, Vec<Reason>> {
    let name = path.display().to_string();
    let one = |reason: Reason| vec![reason.evidence(&name)];
    let bytes = files::read_evidence(path, limits::EVIDENCE_BYTES).map_err(one)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        let release: Release = json::parse(&bytes, Code::MalformedJson).map_err(one)?;
        let present = |asset: Asset| Present { name: asset.name, bytes: Some(asset.size) };
        return Ok(release.assets.into_iter().map(present).collect());
    }
    let list = ChecksumList::parse(&bytes, &name)?;
    Ok(list.names().map(|name| Present { name: name.to_owned(), bytes: None }).collect())
}

/// The first bytes of a file; one that a parser reads whole must not be longer.
fn beginning(dir: &Path, name: &str, most: u64) -> Result<Vec<u8>, Reason> {
    if most == limits::EVIDENCE_BYTES {
        return files::read_below(dir, name, most);
    }
    let mut bytes = Vec::new();
    let read = artifact::open_regular(&dir.join(name)).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Reason::new(Code::EvidenceUnreadable, format!("cannot read {name}: {error}"))),
    }
}
