//! `debvisor trust update`: the trust root by TUF, from a mirror or a directory.
//! The file that is in use is replaced only by one that was verified and parses, in one step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::{Context, Ended, UsageError, end};
use crate::clients::tuf::Mirror;
use crate::release::artifact::read_bounded;
use crate::release::collect::trust_root::{self, Record, Store};
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::trust::root::TrustRoot;
use crate::release::trust::tuf::{self, Update};
use crate::release::trust::{self, listing};
use crate::types::{Code, Digest, Reason, limits};

/// Sigstore's own repository, which the embedded TUF root belongs to.
const PUBLIC_GOOD_MIRROR: &str = "https://tuf-repo-cdn.sigstore.dev";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The TUF repository: a URL, or a directory of the same layout [default: Sigstore's own]
    #[arg(long, value_name = "URL|DIR")]
    mirror: Option<String>,
    /// The TUF root to start from, in place of Sigstore's
    #[arg(long, value_name = "FILE", requires = "mirror")]
    tuf_root: Option<PathBuf>,
    /// Where the trusted_root.json goes [default: debvisor/trust/trusted_root.json in the user's configuration]
    ///
    /// Beside it stand its record, ending in .origin.json, and the verified metadata, ending in .tuf: as long as they
    /// do, nothing older is taken.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long the whole update may take
    #[arg(long, value_name = "SECONDS", default_value_t = limits::TUF_UPDATE_MS / 1000)]
    timeout: u64,
    /// Open no socket at all: the mirror must be a directory
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let name = args.mirror.as_deref().unwrap_or(PUBLIC_GOOD_MIRROR);
    let mirror = Mirror::open(name)
        .map_err(|error| UsageError::new(error.to_string(), "give --mirror an http or https URL, or a directory"))?;
    if args.offline && mirror.needs_network() {
        return Err(UsageError::new(
            format!("--offline opens no socket, and {name} needs one"),
            "give --mirror a directory with a copy of the repository",
        )
        .into());
    }
    let output = output_path(args, context)?;
    let bootstrap = match &args.tuf_root {
        None => trust::embedded_tuf_root().to_vec(),
        Some(path) => read_bounded(path, limits::TUF_METADATA_BYTES).map_err(|error| {
            UsageError::new(format!("cannot read the TUF root {}: {error}", path.display()), "check the path")
        })?,
    };
    let store = Store::beside(&output);
    let found = refresh(mirror, &bootstrap, store.clone(), Duration::from_secs(args.timeout), context.now)?;
    if let Some(error) = store.take_failure() {
        return Err(error).context("cannot keep the TUF metadata that guards against older ones");
    }
    let report = match found.and_then(|update| check(update, name)) {
        Err(reason) => refusal(name, reason, context.now),
        Ok(update) => install(&update, name, &output, context.now)?,
    };
    end(&report, context)
}

fn output_path(args: &Args, context: &Context) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.output {
        return Ok(path.clone());
    }
    let config_dir = context.environment.config_dir.as_deref().ok_or_else(|| {
        UsageError::new("there is no place to keep the trust root: HOME is not set", "give --output FILE")
    })?;
    Ok(trust_root::updated_path(config_dir))
}

/// Everything that waits for somebody else, within one limit: a server that answers a byte at a time never ends it.
fn refresh(
    mirror: Mirror,
    bootstrap: &[u8],
    store: Store,
    timeout: Duration,
    now: Timestamp,
) -> anyhow::Result<Result<Update, Reason>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time();
    // Tokio's I/O driver opens a pair of sockets for signals, and a run without a network opens none at all.
    if mirror.needs_network() {
        runtime.enable_io();
    }
    let runtime = runtime.build().context("cannot start tokio")?;
    let update = tuf::update(mirror, bootstrap, store, tuf::TRUSTED_ROOT, now);
    let ended = runtime.block_on(async { tokio::time::timeout(timeout, update).await });
    Ok(ended.unwrap_or_else(|_| {
        let message = format!("the update took longer than the {} seconds that it may take", timeout.as_secs());
        Err(Reason::new(Code::TufUnreachable, message))
    }))
}

/// A root that was signed and still cannot be read must not take the place of one that can.
fn check(update: Update, mirror: &str) -> Result<Update, Reason> {
    listing::parse(&update.target)
        .and_then(|_| TrustRoot::parse(&update.target))
        .map_err(|reason| reason.evidence(mirror))?;
    Ok(update)
}

fn refusal(mirror: &str, reason: Reason, now: Timestamp) -> Report {
    let reasons = vec![reason];
    let subject = SubjectReport {
        name: mirror.to_owned(),
        digest: BTreeMap::new(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::Value::Null,
    };
    Report::new(vec![subject], reasons, now)
}

fn install(update: &Update, mirror: &str, output: &Path, now: Timestamp) -> anyhow::Result<Report> {
    let digest = Digest::sha256(&update.target);
    let before = read_bounded(output, limits::TRUST_ROOT_BYTES).ok();
    let record = Record {
        digest: digest.clone(),
        updated_at: now,
        expires_at: update.expires_at,
        mirror: mirror.to_owned(),
        versions: update.versions,
    };
    record.install(output, &update.target).with_context(|| format!("cannot write {}", output.display()))?;
    let subject = SubjectReport {
        name: output.display().to_string(),
        digest: BTreeMap::from([(digest.algorithm().to_string(), digest.to_hex())]),
        decision: Decision::Allow,
        facts: serde_json::json!({
            "mirror": mirror,
            "changed": before.as_deref() != Some(update.target.as_slice()),
            "versions": update.versions,
            "expires_at": update.expires_at,
        }),
    };
    Ok(Report::new(vec![subject], Vec::new(), now))
}
