//! `debvisor reverify TARGET…`: what is published is gated again, and compared with what was decided before.
//!
//! Three outcomes for each target: it is as it was and still holds (allow), something is wrong with it (deny), nobody
//! could look (undecided). A finding stays one also where the rest could not be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use jiff::SignedDuration;
use tokio::sync::{Semaphore, mpsc};

use super::expect::{OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::notify::GithubArgs;
use super::policy::FolderArgs;
use super::registry::{self, RegistryArgs};
use super::vsa::VsaArgs;
use super::{Context, Ended, UsageError, gate, progress, report, sigstore};
use crate::clients::github::Repository;
use crate::release::collect::files;
use crate::release::collect::published::{self, Fetched, Plan};
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::{sbom, vex};
use crate::release::gate::layout::{self, Role};
use crate::release::reverify::advisory::{Advisories, Concern};
use crate::release::reverify::{Observation, Snapshot, drift};
use crate::release::verify::Offered;
use crate::types::{Code, Digest, Reason, duration, limits};

mod advisories;
mod baseline;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// OWNER/REPO@TAG, OWNER/REPO for all of its releases, oci://REF, or a directory
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    #[command(flatten)]
    baseline: baseline::BaselineArgs,
    /// Advisories that were exported: a folder or a zip of OSV's documents, or RustSec's database; repeatable
    #[arg(long, value_name = "PATH")]
    advisories: Vec<PathBuf>,
    /// Of a repository's releases, at most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = limits::WATCH_RELEASES)]
    last: usize,
    /// Do not ask GitHub for attestations of the files
    #[arg(long)]
    no_github_attestations: bool,
    /// Where what is fetched is kept, so that a run that was cut short goes on [default: the user's cache]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// What was fetched longer ago is fetched again: 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "20h", value_parser = duration::parse)]
    refetch_after: SignedDuration,
    /// Remove a release's files once it was judged; the next run fetches them again
    #[arg(long)]
    prune: bool,
    /// How many releases are fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    #[command(flatten)]
    github: GithubArgs,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    provenance: ProvenanceArgs,
    #[command(flatten)]
    openpgp: OpenpgpArgs,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The policy: a name, or a Rego file or directory, which comes on top of release
    #[arg(long, value_name = "NAME|FILE", default_value = "release")]
    policy: String,
    #[command(flatten)]
    folders: FolderArgs,
    #[command(flatten)]
    vsa: VsaArgs,
    /// What every artifact must have besides a line in a signed list; repeatable
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    require: Vec<gate::Requirement>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Directory(PathBuf),
    /// An image by its reference, with the scheme.
    Image(String),
    Release(Repository, String),
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Directory(dir) => dir.display().to_string(),
            Self::Image(reference) => reference.clone(),
            Self::Release(repository, tag) => format!("{repository}@{tag}"),
        }
    }
}

/// What one target came to.
struct Judged {
    name: String,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
    snapshot: Option<Snapshot>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let summaries = args.vsa.writer(context)?;
    let recorder = args.baseline.recorder(context)?;
    let before = args.baseline.read()?;
    let (advisories, mut reasons) = advisories::read(&args.advisories)?;
    let (baseline, unusable) = match before {
        Ok(baseline) => (baseline, false),
        Err(found) => {
            reasons.extend(found);
            (BTreeMap::new(), true)
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start")?;
    let (targets, unlisted) = runtime.block_on(targets(args, &baseline, context))?;
    let mut judged: Vec<Judged> = unlisted;
    let looked_at = Looked { args, context, baseline: &baseline, unusable, advisories: &advisories };
    let mut releases = Vec::new();
    for target in targets {
        let name = target.name();
        match target {
            Target::Directory(dir) => judged.push(looked_at.judge(&name, &dir, None)?),
            Target::Image(reference) => judged.push(looked_at.image(&reference)?),
            release @ Target::Release(..) => releases.push(release),
        }
    }
    if !releases.is_empty() {
        if args.trust.offline {
            let hint = "fetch the releases' files into directories, or leave --offline out";
            return Err(UsageError::new("published releases are on the network, and --offline forbids it", hint).into());
        }
        judged.extend(runtime.block_on(looked_at.releases(releases))?);
    }
    judged.sort_by(|one, other| one.name.cmp(&other.name));
    if let Some(recorder) = recorder {
        // A baseline says what was good: a target with an open question or a finding keeps the line it had.
        let good = judged.iter().filter(|judged| judged.reasons.iter().all(is_first_sight));
        let good =
            good.filter_map(|judged| judged.snapshot.clone()).map(|snapshot| (snapshot.target.clone(), snapshot));
        recorder.write(baseline.clone().into_iter().chain(good).collect())?;
        for judged in &mut judged {
            judged.reasons.retain(|reason| !is_first_sight(reason));
        }
    }
    let report = summed_up(judged, reasons, context);
    if let Some(summaries) = summaries {
        summaries.write(&report)?;
    }
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn is_first_sight(reason: &Reason) -> bool {
    reason.code.known() == Some(Code::BaselineMissing)
}

/// One report over all targets: each is a subject, and each reason names its target.
fn summed_up(judged: Vec<Judged>, mut reasons: Vec<Reason>, context: &Context) -> Report {
    let mut subjects = Vec::new();
    let mut warnings = Vec::new();
    let about = |target: &str, mut reason: Reason| {
        // What the gate names as its subject is a file of the target.
        if let Some(file) = reason.subject.take() {
            reason.evidence = Some(
                reason
                    .evidence
                    .filter(|evidence| *evidence != file)
                    .map_or(file.clone(), |evidence| format!("{file} ({evidence})")),
            );
        }
        reason.subject(target)
    };
    for target in judged {
        let decision = Decision::from_reasons(&target.reasons);
        let facts = serde_json::json!({"reverify": target.snapshot.as_ref().map_or_else(
            || serde_json::json!({"target": target.name}),
            Snapshot::to_predicate,
        )});
        subjects.push(SubjectReport { name: target.name.clone(), digest: BTreeMap::new(), decision, facts });
        reasons.extend(target.reasons.into_iter().map(|reason| about(&target.name, reason)));
        warnings.extend(target.warnings.into_iter().map(|reason| about(&target.name, reason)));
    }
    let mut report = Report::new(subjects, reasons, context.now);
    report.warnings = warnings;
    report
}

/// The targets that the words name; a repository by itself stands for its releases, and for those of the baseline.
/// What could not be listed is undecided by itself.
async fn targets(
    args: &Args,
    baseline: &BTreeMap<String, Snapshot>,
    context: &Context,
) -> anyhow::Result<(Vec<Target>, Vec<Judged>)> {
    let mut targets = Vec::new();
    let mut unlisted = Vec::new();
    for word in &args.targets {
        if Path::new(word).is_dir() {
            targets.push(Target::Directory(PathBuf::from(word)));
            continue;
        }
        if registry::reference_in(word).is_some() {
            targets.push(Target::Image(word.clone()));
            continue;
        }
        let (repository, tag) = word.split_once('@').map_or((word.as_str(), None), |(name, tag)| (name, Some(tag)));
        let Some(repository) = Repository::parse(repository).filter(|_| tag != Some("")) else {
            let hint = "name OWNER/REPO@TAG, OWNER/REPO, oci://REF, or a directory that is there";
            return Err(UsageError::new(format!("`{word}` is nothing that can be reverified"), hint).into());
        };
        if let Some(tag) = tag {
            targets.push(Target::Release(repository, tag.to_owned()));
            continue;
        }
        if args.trust.offline {
            targets.push(Target::Release(repository, String::new()));
            continue;
        }
        let known = baseline.keys().filter_map(|name| name.strip_prefix(&format!("{repository}@")));
        let mut tags: BTreeSet<String> = known.map(str::to_owned).collect();
        match published::tags(&args.github.connect(context)?, &repository, args.last).await {
            Ok(listed) => tags.extend(listed),
            Err(reason) => {
                let (reasons, warnings) = (vec![reason], Vec::new());
                unlisted.push(Judged { name: repository.to_string(), reasons, warnings, snapshot: None });
            }
        }
        targets.extend(tags.into_iter().map(|tag| Target::Release(repository.clone(), tag)));
    }
    targets.dedup();
    Ok((targets, unlisted))
}

/// What every target is looked at with.
struct Looked<'a> {
    args: &'a Args,
    context: &'a Context,
    baseline: &'a BTreeMap<String, Snapshot>,
    /// The baseline is there and cannot be believed: nothing may be compared with it, nor be new because of it.
    unusable: bool,
    advisories: &'a Advisories,
}

impl Looked<'_> {
    /// Fetches releases side by side, and judges each as soon as it is there.
    async fn releases(&self, releases: Vec<Target>) -> anyhow::Result<Vec<Judged>> {
        let github = self.args.github.connect(self.context)?;
        let cache = match (&self.args.cache_dir, &self.context.environment.cache_dir) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => dir.join("releases"),
            (None, None) => {
                return Err(UsageError::new("there is no cache directory", "give one: --cache-dir DIR").into());
            }
        };
        let asks_sigstore = self.args.signer.certificate_identity.is_some()
            || self.args.signer.certificate_identity_regexp.is_some()
            || self.args.signer.key.is_some()
            || self.args.provenance.source_uri.is_some();
        let plan = Plan {
            cache,
            refetch_after: self.args.refetch_after,
            attestations: asks_sigstore && !self.args.no_github_attestations,
            now: self.context.now,
            pause: Duration::from_millis(self.args.github.github_pause_ms),
        };
        let bar = progress::releases(self.context, releases.len() as u64);
        let total_bytes = Arc::new(AtomicU64::new(0));
        let seats = Arc::new(Semaphore::new(usize::from(self.args.jobs)));
        let (tell, mut told) = mpsc::channel::<(Target, Result<Fetched, Reason>)>(usize::from(self.args.jobs));
        for target in releases {
            let Target::Release(repository, tag) = target.clone() else { continue };
            let (github, plan, seats, tell) = (github.clone(), plan.clone(), Arc::clone(&seats), tell.clone());
            let (bar, total_bytes) = (bar.clone(), Arc::clone(&total_bytes));
            tokio::spawn(async move {
                let Ok(_seat) = seats.acquire_owned().await else { return };
                let seen = |bytes| {
                    let total = total_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
                    bar.set_message(indicatif::BinaryBytes(total).to_string());
                };
                let fetched = published::fetch(&github, &repository, &tag, &plan, &seen).await;
                // Whoever listens is gone only when the run has ended.
                let _ = tell.send((target, fetched)).await;
            });
        }
        drop(tell);
        let mut judged = Vec::new();
        while let Some((target, fetched)) = told.recv().await {
            let name = target.name();
            // Hashing keeps all cores busy; the downloads go on beside it.
            judged.push(tokio::task::block_in_place(|| match fetched {
                Ok(fetched) => self.judge(&name, &fetched.dir.clone(), Some(fetched)),
                Err(reason) => {
                    Ok(Judged { name: name.clone(), reasons: vec![reason], warnings: Vec::new(), snapshot: None })
                }
            })?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(judged)
    }

    fn judge(&self, name: &str, dir: &Path, fetched: Option<Fetched>) -> anyhow::Result<Judged> {
        let mut reasons = Vec::new();
        let mut offered = Vec::new();
        let (mut commit, mut attestations_known, mut unread, mut assets) = (None, true, BTreeSet::new(), Vec::new());
        if let Some(fetched) = fetched {
            for (name, bundle) in fetched.bundles {
                match sigstore::offered_in(&name, bundle.to_string().as_bytes()) {
                    Ok(bundles) => offered.extend(bundles),
                    Err(reason) => reasons.push(reason),
                }
            }
            reasons.extend(fetched.reasons);
            (commit, attestations_known, unread, assets) =
                (fetched.commit, fetched.attestations_known, fetched.unread, fetched.assets);
        }
        let whole = unread.is_empty() && attestations_known;
        let report = self.gate(&dir.display().to_string(), offered, whole)?;
        let digests = |name: &str| {
            let subject = report.subjects.iter().find(|subject| subject.name == name)?;
            subject.digest.get("sha256").map(|hex| format!("sha256:{hex}"))
        };
        for asset in &assets {
            if let (Some(told), Some(found)) = (&asset.digest, digests(&asset.name))
                && told.starts_with("sha256:")
                && *told != found
            {
                let message = format!("GitHub lists `{}` as {told}, and serves {found}", asset.name);
                reasons.push(Reason::new(Code::DigestMismatch, message).subject(&asset.name));
            }
        }
        let components = components(dir, &report);
        let mut snapshot = Snapshot::new(name, &report, others(dir, &report), components);
        snapshot.commit = commit;
        let known = self.baseline.get(name);
        let mut warnings = report.warnings.clone();
        reasons.extend(report.reasons);
        let explained = statements(dir, &snapshot);
        reasons.extend(self.concerns(&mut snapshot, known, &explained, &mut warnings));
        let seen = Observation { snapshot, attestations_known, unread };
        reasons.extend(self.compared(known, &seen));
        if self.args.prune && !assets.is_empty() {
            let _ = std::fs::remove_dir_all(dir);
        }
        Ok(Judged { name: name.to_owned(), reasons, warnings, snapshot: Some(seen.snapshot) })
    }

    /// An image is a release of one artifact, whose tag may move.
    fn image(&self, reference: &str) -> anyhow::Result<Judged> {
        let mut report = self.gate(reference, Vec::new(), true)?;
        let mut commit = None;
        let mut unread = BTreeSet::from([reference.to_owned()]);
        for subject in &mut report.subjects {
            // Its name carries the digest, which is what may have changed.
            reference.clone_into(&mut subject.name);
            if let Some(hex) = subject.digest.get("sha256") {
                commit = Some(format!("sha256:{hex}"));
                unread.clear();
            }
        }
        let mut snapshot = Snapshot::new(reference, &report, BTreeMap::new(), BTreeMap::new());
        snapshot.commit = commit;
        let seen = Observation { snapshot, attestations_known: report.decision != Decision::Undecided, unread };
        let mut reasons = report.reasons;
        reasons.extend(self.compared(self.baseline.get(reference), &seen));
        let warnings = report.warnings;
        Ok(Judged { name: reference.to_owned(), reasons, warnings, snapshot: Some(seen.snapshot) })
    }

    /// What changed since the baseline, or that there is none.
    fn compared(&self, known: Option<&Snapshot>, seen: &Observation) -> Vec<Reason> {
        match known {
            Some(known) => drift(known, seen),
            None if self.unusable || !self.args.baseline.is_asked() => Vec::new(),
            None => {
                let message = format!("{} was never decided about before", seen.snapshot.target);
                vec![Reason::new(Code::BaselineMissing, message)]
            }
        }
    }

    /// The gate's report. What speaks of a file as missing, where it could only not be fetched, says nothing.
    fn gate(&self, target: &str, offered: Vec<Offered>, whole: bool) -> anyhow::Result<Report> {
        let args = self.args;
        let of_gate = gate::Args {
            target: target.to_owned(),
            bundle: Vec::new(),
            signer: args.signer.clone(),
            provenance: args.provenance.clone(),
            openpgp: args.openpgp.clone(),
            trust: args.trust.clone(),
            registry: args.registry.clone(),
            policy: args.policy.clone(),
            folders: args.folders.clone(),
            vsa: args.vsa.clone(),
            require: args.require.clone(),
        };
        let mut report = gate::judge(&of_gate, offered, self.context)?;
        if !whole {
            // A file of evidence may be among what is not here: what is only missing is not proved to be wrong.
            let missing = |reason: &Reason| {
                matches!(
                    reason.code.known(),
                    Some(
                        Code::FileMissing
                            | Code::ChecksumMissing
                            | Code::FileUnlisted
                            | Code::SignatureRequired
                            | Code::SignatureMissing
                            | Code::AttestationMissing
                            | Code::ProvenanceMissing
                    )
                )
            };
            report.reasons.retain(|reason| !missing(reason));
            report.decision = Decision::from_reasons(&report.reasons);
        }
        Ok(report)
    }

    /// The advisories that concern a component of the release's bills of materials and that its own VEX documents do
    /// not answer. Those that the baseline knows were decided about; one whose order nobody knows is an open question.
    fn concerns(
        &self,
        snapshot: &mut Snapshot,
        known: Option<&Snapshot>,
        explained: &[vex::Document],
        warnings: &mut Vec<Reason>,
    ) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut found = BTreeSet::new();
        for component in snapshot.files.values().flat_map(|file| &file.components) {
            for concern in self.advisories.concerning(component) {
                if is_explained(&concern, component, explained) {
                    continue;
                }
                let new = known.is_none_or(|known| !known.advisories.contains(&concern.id));
                if concern.certain {
                    if known.is_none() && found.insert(concern.id.clone()) {
                        let message = format!("{} ({}) concerns {component}", concern.id, concern.summary);
                        warnings.push(Reason::new(Code::AdvisoryPublished, message).evidence(&concern.id));
                    }
                    found.insert(concern.id);
                } else if new {
                    let message = format!("{} ({}) names {component}", concern.id, concern.summary);
                    reasons.push(Reason::new(Code::AdvisoryUnjudged, message).evidence(&concern.id));
                }
            }
        }
        if self.advisories.is_empty() {
            // Nobody looked: what was known stays known.
            found.extend(known.into_iter().flat_map(|known| known.advisories.iter().cloned()));
        }
        snapshot.advisories = found;
        reasons
    }
}

/// Whether the release says of the advisory, by any of its names, that the component is not affected or mended.
fn is_explained(concern: &Concern, component: &str, documents: &[vex::Document]) -> bool {
    let names = || std::iter::once(&concern.id).chain(&concern.aliases);
    documents.iter().any(|document| {
        names()
            .filter_map(|name| document.newest(name, Some(component)))
            .any(|statement| matches!(statement.status, vex::Status::NotAffected | vex::Status::Fixed))
    })
}

/// The release's VEX documents. One that cannot be read explains nothing, and the gate has told of it.
fn statements(dir: &Path, snapshot: &Snapshot) -> Vec<vex::Document> {
    let roles = layout::roles(snapshot.files.keys().map(String::as_str));
    let documents = roles.iter().filter(|(_, role)| **role == Role::Vex);
    let read = |name: &str| files::read_below(dir, name, limits::EVIDENCE_BYTES).ok();
    documents.filter_map(|(name, _)| vex::Document::read(&read(name)?).ok()).collect()
}

/// The digests of the files that the gate has no subject for: bundles and signatures speak for others. What cannot be
/// read is left out, and the gate has told of it.
fn others(dir: &Path, report: &Report) -> BTreeMap<String, Digest> {
    let subjects: BTreeSet<&str> = report.subjects.iter().map(|subject| subject.name.as_str()).collect();
    let found = files::list(dir).unwrap_or_default();
    let others = found.into_iter().filter(|file| !subjects.contains(file.name.as_str()));
    others.filter_map(|file| Some((file.name, published::digest_of(&file.path).ok()?))).collect()
}

/// The package URLs that each bill of materials of the release names.
fn components(dir: &Path, report: &Report) -> BTreeMap<String, BTreeSet<String>> {
    let roles = layout::roles(report.subjects.iter().map(|subject| subject.name.as_str()));
    let mut found = BTreeMap::new();
    for (name, _) in roles.iter().filter(|(_, role)| **role == Role::Sbom) {
        let document = files::read_below(dir, name, limits::EVIDENCE_BYTES).and_then(|bytes| sbom::read(&bytes));
        // What is no document was told by the gate.
        let Ok(document) = document else { continue };
        let purls = document.sbom.packages().filter_map(|component| component.purl.clone());
        found.insert(name.clone(), purls.collect());
    }
    found
}
