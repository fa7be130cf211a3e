//! Exports of advisory databases in, what they say out. Files are read in parallel; one that is none is told by name.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::UsageError;
use crate::release::artifact;
use crate::release::reverify::advisory::Advisories;
use crate::types::{Code, Reason, limits};

/// Reads every export.
///
/// # Errors
/// A usage error where a path is not there or holds no advisory at all.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<(Advisories, Vec<Reason>)> {
    let mut advisories = Advisories::default();
    let mut refused = Vec::new();
    for path in paths {
        let before = advisories.len();
        let unusable = |message: String| {
            let hint = "export OSV's database (all.zip), or clone RustSec's advisory-db";
            UsageError::new(format!("cannot use the advisories {}: {message}", path.display()), hint)
        };
        if path.is_dir() {
            folder(path, 0, &mut advisories, &mut refused).map_err(|error| unusable(error.to_string()))?;
        } else if path.extension().is_some_and(|extension| extension == "zip") {
            zipped(path, &mut advisories, &mut refused).map_err(|error| unusable(error.to_string()))?;
        } else {
            let bytes = artifact::read_bounded(path, limits::ADVISORY_BYTES);
            let bytes = bytes.map_err(|error| unusable(error.to_string()))?;
            keep(&mut refused, &path.display().to_string(), add(path, &bytes, &mut advisories));
        }
        if advisories.len() == before && refused.is_empty() {
            return Err(unusable("there is no advisory in it".to_owned()).into());
        }
    }
    Ok((advisories, refused))
}

/// Folders of databases are a few levels deep.
const DEPTH: usize = 8;

fn folder(dir: &Path, depth: usize, advisories: &mut Advisories, refused: &mut Vec<Reason>) -> anyhow::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && depth < DEPTH {
            folder(&path, depth.saturating_add(1), advisories, refused)?;
        } else if kind.is_file() && is_advisory(&path) {
            let bytes = artifact::read_bounded(&path, limits::ADVISORY_BYTES)?;
            keep(refused, &path.display().to_string(), add(&path, &bytes, advisories));
        }
    }
    Ok(())
}

fn zipped(path: &Path, advisories: &mut Advisories, refused: &mut Vec<Reason>) -> anyhow::Result<()> {
    let mut archive = zip::ZipArchive::new(artifact::open_regular(path)?)?;
    for index in 0..archive.len() {
        let member = archive.by_index(index)?;
        let name = PathBuf::from(member.name());
        if !is_advisory(&name) {
            continue;
        }
        let mut bytes = Vec::new();
        let limit = limits::ADVISORY_BYTES;
        member.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        let told = format!("{}:{}", path.display(), name.display());
        if bytes.len() as u64 > limit {
            let message = format!("{told} is larger than {limit} bytes");
            refused.push(Reason::new(Code::AdvisoryMalformed, message).evidence(told));
            continue;
        }
        keep(refused, &told, add(&name, &bytes, advisories));
    }
    Ok(())
}

/// OSV's documents are JSON; RustSec's are Markdown below `crates` and `rust`, named after their ids.
fn is_advisory(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let json = path.extension().is_some_and(|extension| extension == "json");
    json || (name.starts_with("RUSTSEC-") && name.ends_with(".md"))
}

fn add(path: &Path, bytes: &[u8], advisories: &mut Advisories) -> Result<(), Reason> {
    if path.extension().is_some_and(|extension| extension == "md") {
        return advisories.add_rustsec(&String::from_utf8_lossy(bytes));
    }
    advisories.add_osv(bytes)
}

fn keep(refused: &mut Vec<Reason>, name: &str, outcome: Result<(), Reason>) {
    if let Err(reason) = outcome {
        // Whatever is wrong with it, without it nobody knows what it would have said.
        let message = format!("{name}: {}", reason.message);
        refused.push(Reason::new(Code::AdvisoryMalformed, message).evidence(name));
    }
}
