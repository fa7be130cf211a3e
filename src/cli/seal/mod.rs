//! `debvisor seal DIR`: artifacts in, a complete release out, or the directory as it was.
//!
//! 1. What the directory holds is told apart: artifacts, what was brought, and what an earlier sealing made.
//! 2. Every artifact is hashed once and described: SBOMs, VEX, provenance ([`describe`]).
//! 3. It is signed, and so is a statement of each document; what still holds is not signed again ([`sign`]).
//! 4. A manifest names every file, a list covers all of them, and the list is signed.
//! 5. The whole is put together beside the release and gated there as a stranger would ([`super::gate`]).
//! 6. Only then is it put in place, all of it or nothing ([`stage`]).
//!
//! Invariant: what this verb did not make it neither overwrites nor takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};

use super::provenance::BuildArgs;
use super::report::visible::visible;
use super::signing::SignerArgs;
use super::{Context, Ended, Format, UsageError, gate, progress, report};
use crate::release::artifact::Artifact;
use crate::release::collect::files::{self, FoundFile};
use crate::release::decision::{Decision, Report};
use crate::release::evidence::checksums;
use crate::release::evidence::manifest::{Entry, Manifest, Origin, SCHEMA};
use crate::release::gate::layout::{self, MANIFEST, Role};
use crate::types::{Digest, DigestAlgorithm, limits};

mod describe;
mod sign;
mod stage;

use describe::{Describer, Listed};
use sign::Signers;
pub(super) use stage::was_interrupted;
use stage::{Stage, Step};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The release's directory; what is in it is released
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// Sign with this OpenPGP key, through your own gpg; alone it makes no attestations, so add --key for those
    #[arg(long, value_name = "KEY")]
    openpgp: Option<String>,
    /// Where the lock files are; without it the git repository that DIR is in, else DIR
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Paths of the source that are not looked at; `*` and `**` as in a shell; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The release's name, for the manifest and the SBOMs
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The release's version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Who makes the documents
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Who supplies the artifacts
    #[arg(long, value_name = "NAME")]
    supplier: Option<String>,
    /// An SBOM of your own, in place of one that would be made; repeatable
    #[arg(long, value_name = "FILE")]
    sbom: Vec<PathBuf>,
    /// A scanner's results, for the VEX documents; repeatable
    #[arg(long, value_name = "FILE")]
    vex_results: Vec<PathBuf>,
    /// Your decisions about findings, in TOML (docs/how-to/vex.md)
    #[arg(long, value_name = "FILE")]
    triage: Option<PathBuf>,
    /// The last release's OpenVEX document: what it says holds on where the component is unchanged
    #[arg(long, value_name = "FILE")]
    vex_previous: Vec<PathBuf>,
    /// An OpenVEX document whose statements go in too; repeatable
    #[arg(long, value_name = "FILE")]
    vex: Vec<PathBuf>,
    #[command(flatten)]
    build: BuildArgs,
}

const SIGSTORE: &str = ".sigstore.json";
const ATTESTATIONS: &str = ".attestations.jsonl";
const OPENPGP: &str = ".asc";
/// The list that sealing writes.
const LIST: &str = "SHA256SUMS";
/// Everything that sealing names after an artifact.
const SUFFIXES: [&str; 7] =
    [describe::CYCLONEDX, describe::SPDX, describe::OPENVEX, describe::EMPTY_VEX, SIGSTORE, ATTESTATIONS, OPENPGP];

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let dir = directory(&args.dir)?;
    // A wrong password is told before anything is hashed; a certificate is asked for when everything is ready.
    let early = if Signers::is_keyless(args) { None } else { Some(Signers::new(args, context)?) };
    let stage = Stage::open(&dir)?;
    let describer = Describer::new(args, &dir, context)?;
    let before = match Before::read(&dir, early.as_ref().and_then(Signers::algorithm), context) {
        Ok(before) => before,
        Err(reasons) => return refused(&Report::new(Vec::new(), reasons, context.now), context),
    };
    let on_disk = |name: &str| if before.brought.contains(name) { before.bytes(name).map(Some) } else { Ok(None) };
    let listed = describer.list(&dir, before.artifacts(), &on_disk)?;
    let mut signers = match early {
        Some(signers) => signers,
        None => Signers::new(args, context)?,
    };
    let made = Made::new(&before, &describer, &listed, &signers, context)?;
    let plan = Plan::new(args, &before, &describer, &made)?;

    for name in before.digests.keys().filter(|name| plan.keeps(name)) {
        stage.keep(name)?;
    }
    for (name, bytes) in &plan.write {
        stage.write(name, bytes)?;
    }
    let mut steps = plan.steps();
    let over_list = plan.sign_list(&before, &stage, &signers, &mut steps, context)?;
    let report = gate::as_stranger(&stage.tree(), &signers.sealers(context), context);
    let report = report.unwrap_or_else(|reason| Report::new(Vec::new(), vec![reason], context.now));
    if report.decision != Decision::Allow {
        return refused(&report, context);
    }
    if !steps.is_empty() {
        stage.commit(&steps)?;
    }
    told(&Told { args, before: &before, describer: &describer, listed: &listed, steps: &steps, over_list }, context)?;
    Ok(Ended::Done)
}

/// The directory by the one name that it has, whatever it was called by.
fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let cannot = |why: String| {
        UsageError::new(format!("cannot seal {}: {why}", path.display()), "name the directory that is to be released")
    };
    let dir = path.canonicalize().map_err(|error| cannot(error.to_string()))?;
    if dir.is_dir() { Ok(dir) } else { Err(cannot("it is no directory".to_owned()).into()) }
}

fn refused(report: &Report, context: &Context) -> anyhow::Result<Ended> {
    report::print(report, context)?;
    writeln!(anstream::stderr().lock(), "nothing was sealed; the release is as it was")?;
    Ok(Ended::Decided(report.decision))
}

/// The directory as it is.
struct Before {
    dir: PathBuf,
    /// Every file with its digests.
    digests: BTreeMap<String, Artifact>,
    /// Every file's length, in bytes.
    lengths: BTreeMap<String, u64>,
    /// What an earlier sealing said of it.
    manifest: Option<Manifest>,
    /// What an earlier sealing made, and this one may make again.
    ours: BTreeSet<String>,
    /// What an earlier sealing made about an artifact that is gone.
    stale: BTreeSet<String>,
    /// What is neither an artifact nor of our making.
    brought: BTreeSet<String>,
    roles: BTreeMap<String, Role>,
}

impl Before {
    /// Lists and hashes everything, artifacts by both algorithms that SBOMs name them by.
    fn read(dir: &Path, also: Option<DigestAlgorithm>, context: &Context) -> Result<Self, Vec<crate::types::Reason>> {
        let found: Vec<FoundFile> = files::list(dir)?;
        let bar = progress::bytes(context, found.iter().map(|file| file.bytes));
        let mut algorithms = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Sha512];
        algorithms.extend(also.filter(|also| !algorithms.contains(also)));
        let (mut digests, mut reasons) = (BTreeMap::new(), Vec::new());
        for hashed in files::hash(&found, dir, |_| algorithms.clone(), &|bytes| bar.inc(bytes)) {
            match hashed {
                Ok(artifact) => _ = digests.insert(artifact.name.clone(), artifact),
                Err(reason) => reasons.push(reason),
            }
        }
        bar.finish_and_clear();
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let lengths = found.into_iter().map(|file| (file.name, file.bytes)).collect();
        // A manifest that cannot be read says nothing of what was made, and is made anew.
        let manifest = files::read_below(dir, MANIFEST, limits::EVIDENCE_BYTES).ok();
        let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
        let mut before = Self {
            dir: dir.to_owned(),
            digests,
            lengths,
            manifest,
            ours: BTreeSet::new(),
            stale: BTreeSet::new(),
            brought: BTreeSet::new(),
            roles: BTreeMap::new(),
        };
        before.tell_apart();
        Ok(before)
    }

    fn tell_apart(&mut self) {
        let made = self.manifest.iter().flat_map(|manifest| &manifest.files).filter(|entry| is_of_sealing(entry));
        for entry in made.filter(|entry| self.digests.contains_key(&entry.name)) {
            let about = entry.about.as_deref().unwrap_or_default();
            if self.digests.contains_key(about) {
                self.ours.insert(entry.name.clone());
            } else if self.sha256(&entry.name) == entry.sha256() {
                self.stale.insert(entry.name.clone());
            }
        }
        self.ours.extend([MANIFEST.to_owned(), LIST.to_owned()]);
        let rest = self.digests.keys().filter(|name| !self.ours.contains(*name) && !self.stale.contains(*name));
        // What is signed over our own list stands or falls with it.
        let (over_list, rest): (Vec<&String>, Vec<&String>) =
            rest.partition(|name| checksums::is_list_or_its_signature(LIST, name));
        let roles = layout::roles(rest.into_iter().map(String::as_str));
        let brought = roles.iter().filter(|(_, role)| **role != Role::Artifact).map(|(name, _)| name.clone()).collect();
        let over_list: Vec<String> = over_list.into_iter().cloned().collect();
        self.ours.extend(over_list);
        self.brought = brought;
        self.roles = roles;
    }

    fn artifacts(&self) -> Vec<Artifact> {
        let artifact = |(name, role): (&String, &Role)| {
            (*role == Role::Artifact).then(|| self.digests.get(name).cloned()).flatten()
        };
        self.roles.iter().filter_map(artifact).collect()
    }

    fn sha256(&self, name: &str) -> Option<Digest> {
        self.digests.get(name)?.digest(DigestAlgorithm::Sha256).cloned()
    }

    fn bytes(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let bytes = files::read_below(&self.dir, name, limits::EVIDENCE_BYTES);
        bytes.map_err(|reason| describe::refused(&self.dir.join(name), &[reason]).into())
    }

    /// What stands under the name of something that sealing makes.
    fn old(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        if self.digests.contains_key(name) { self.bytes(name).map(Some) } else { Ok(None) }
    }

    /// When an artifact was sealed that is unchanged since.
    fn sealed_at(&self, artifact: &Artifact) -> Option<jiff::Timestamp> {
        let entry = self.manifest.as_ref()?.entry(&artifact.name)?;
        entry.sealed_at.filter(|_| entry.sha256().as_ref() == artifact.digest(DigestAlgorithm::Sha256))
    }
}

/// Whether a manifest's entry is one that sealing makes, by its name too: a manifest that was written by somebody else
/// must not name what may be taken away.
fn is_of_sealing(entry: &Entry) -> bool {
    let about = entry.about.as_deref().unwrap_or_default();
    let suffix = entry.name.strip_prefix(about).filter(|_| !about.is_empty());
    entry.origin == Origin::Made && suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

/// What sealing makes of the artifacts.
struct Made {
    /// Files by name, each with the artifact that it is about.
    files: BTreeMap<String, (String, Vec<u8>)>,
    /// When each artifact was sealed.
    sealed_at: BTreeMap<String, jiff::Timestamp>,
}

impl Made {
    fn new(
        before: &Before,
        describer: &Describer<'_>,
        listed: &[Listed],
        signers: &Signers,
        context: &Context,
    ) -> anyhow::Result<Self> {
        if listed.is_empty() {
            let message = format!("there is nothing to seal in {}", before.dir.display());
            return Err(UsageError::new(message, "put what is to be released into it").into());
        }
        let bar = progress::steps(context, listed.len());
        let mut made = Self { files: BTreeMap::new(), sealed_at: BTreeMap::new() };
        for about in listed {
            let artifact = &about.artifact;
            bar.set_message(visible(&artifact.name).into_owned());
            let (dated, documents) = made.documents(before, describer, about, listed, context)?;
            made.sealed_at.insert(artifact.name.clone(), dated);
            let mut files = documents.files;
            for suffix in signers.evidence() {
                let name = format!("{}{suffix}", artifact.name);
                let old = before.old(&name)?;
                let path = before.dir.join(&artifact.name);
                let new = signers.make(suffix, &path, artifact, &documents.predicates, old.as_deref(), context)?;
                files.insert(suffix, new);
            }
            for (suffix, bytes) in files {
                let name = format!("{}{suffix}", artifact.name);
                if !before.brought.contains(&name) {
                    made.files.insert(name, (artifact.name.clone(), bytes));
                } else if before.bytes(&name)? != bytes {
                    let message = format!("{name} is there, and it is not by whom this release is to be signed");
                    return Err(UsageError::new(message, "move it away; seal neither changes nor removes it").into());
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(made)
    }

    /// The documents as they were made before, where nothing has changed; else as they are made now.
    fn documents(
        &self,
        before: &Before,
        describer: &Describer<'_>,
        about: &Listed,
        listed: &[Listed],
        context: &Context,
    ) -> anyhow::Result<(jiff::Timestamp, describe::Documents)> {
        let now = describer.now();
        // A build that fixes the time gets that time, whatever was there before.
        let is_fixed = context.environment.source_date_epoch.is_some();
        if let Some(then) = before.sealed_at(&about.artifact).filter(|then| !is_fixed && *then != now) {
            let documents = describer.documents(about, listed, then)?;
            let mut is_same = true;
            for (suffix, bytes) in &documents.files {
                is_same &= before.old(&format!("{}{suffix}", about.artifact.name))?.as_ref() == Some(bytes);
            }
            if is_same {
                return Ok((then, documents));
            }
        }
        Ok((now, describer.documents(about, listed, now)?))
    }
}

/// What the release will be.
struct Plan {
    /// New and changed files, by name.
    write: BTreeMap<String, Vec<u8>>,
    /// What is taken away, with its digest.
    remove: BTreeMap<String, Digest>,
    /// The list's text.
    list: Vec<u8>,
}

impl Plan {
    fn new(args: &Args, before: &Before, describer: &Describer<'_>, made: &Made) -> anyhow::Result<Self> {
        let mut write = BTreeMap::new();
        for (name, (_, bytes)) in &made.files {
            if before.old(name)?.as_ref() != Some(bytes) {
                write.insert(name.clone(), bytes.clone());
            }
        }
        // Evidence of ours that nobody makes any more: by another kind of signer, or a VEX document of the other form.
        let of_artifacts = before.ours.iter().filter(|name| !checksums::is_list_or_its_signature(LIST, name));
        let unwanted = of_artifacts.filter(|name| *name != MANIFEST && !made.files.contains_key(*name));
        let mut remove: BTreeMap<String, Digest> = BTreeMap::new();
        for name in before.stale.iter().chain(unwanted) {
            remove.extend(before.sha256(name).map(|digest| (name.clone(), digest)));
        }
        let manifest = manifest(args, before, describer, made)?;
        let digest_of = |bytes: &[u8]| Digest::sha256(bytes);
        let mut digests: BTreeMap<&str, Digest> =
            before.roles.keys().filter_map(|name| Some((name.as_str(), before.sha256(name)?))).collect();
        digests.extend(made.files.iter().map(|(name, (_, bytes))| (name.as_str(), digest_of(bytes))));
        digests.insert(MANIFEST, digest_of(&manifest));
        let list = checksums::render(digests.iter().map(|(name, digest)| (*name, digest)));
        let list = list.map_err(|reason| describe::refused(&before.dir, &[reason]))?.into_bytes();
        for (name, bytes) in [(MANIFEST, manifest), (LIST, list.clone())] {
            if before.old(name)?.as_ref() != Some(&bytes) {
                write.insert(name.to_owned(), bytes);
            }
        }
        Ok(Self { write, remove, list })
    }

    /// Whether a file of the directory stays as it is; signatures over the list are decided about later.
    fn keeps(&self, name: &str) -> bool {
        let is_over_list = name != LIST && checksums::is_list_or_its_signature(LIST, name);
        !is_over_list && !self.write.contains_key(name) && !self.remove.contains_key(name)
    }

    /// Documents and evidence first, the manifest after them, and then the list: until that is there, and is signed,
    /// a gate refuses.
    fn steps(&self) -> Vec<Step> {
        let place = |name: &String| Step::Place { name: name.clone() };
        let is_last = |name: &&String| *name == MANIFEST || *name == LIST;
        let mut steps: Vec<Step> = self.write.keys().filter(|name| !is_last(name)).map(place).collect();
        let last = [MANIFEST, LIST].map(str::to_owned);
        steps.extend(last.iter().filter(|name| self.write.contains_key(*name)).map(place));
        steps
    }

    /// Signs the list in the stage. Signatures over a list that is no more are taken away.
    fn sign_list(
        &self,
        before: &Before,
        stage: &Stage,
        signers: &Signers,
        steps: &mut Vec<Step>,
        context: &Context,
    ) -> anyhow::Result<Vec<String>> {
        let artifact = Artifact::from_bytes(LIST, &self.list);
        let mut wanted = Vec::new();
        for suffix in signers.over_list() {
            let name = format!("{LIST}{suffix}");
            let old = before.old(&name)?;
            let new = signers.make(suffix, &stage.tree().join(LIST), &artifact, &[], old.as_deref(), context)?;
            if old.as_ref() == Some(&new) {
                stage.keep(&name)?;
            } else {
                stage.write(&name, &new)?;
                steps.push(Step::Place { name: name.clone() });
            }
            wanted.push(name);
        }
        let is_changed = self.write.contains_key(LIST);
        let over_list = before
            .digests
            .keys()
            .filter(|name| *name != LIST && checksums::is_list_or_its_signature(LIST, name) && !wanted.contains(*name));
        let mut remove = self.remove.clone();
        for name in over_list {
            match before.sha256(name).filter(|_| is_changed) {
                Some(digest) => _ = remove.insert(name.clone(), digest),
                None => stage.keep(name)?,
            }
        }
        steps.extend(remove.into_iter().map(|(name, digest)| Step::Remove { name, digest }));
        Ok(wanted)
    }
}

/// The manifest: as it was, where it says the same.
fn manifest(args: &Args, before: &Before, describer: &Describer<'_>, made: &Made) -> anyhow::Result<Vec<u8>> {
    let hex = |artifact: &Artifact| artifact.digest_set();
    let mut files: BTreeMap<&str, Entry> = BTreeMap::new();
    for (name, role) in &before.roles {
        let Some(artifact) = before.digests.get(name) else { continue };
        let entry = Entry {
            name: name.clone(),
            role: role.name().to_owned(),
            about: layout::over(name, &before.roles).or_else(|| named_after(name, before)).map(str::to_owned),
            bytes: before.lengths.get(name).copied().unwrap_or_default(),
            digest: hex(artifact),
            origin: Origin::Given,
            sealed_at: made.sealed_at.get(name).copied(),
        };
        files.insert(name, entry);
    }
    let names = files.keys().copied().chain(made.files.keys().map(String::as_str));
    let roles = layout::roles(names.chain([MANIFEST, LIST]));
    for (name, (about, bytes)) in &made.files {
        let entry = Entry {
            name: name.clone(),
            role: roles.get(name).map_or("", Role::name).to_owned(),
            about: Some(about.clone()),
            bytes: bytes.len() as u64,
            digest: [(DigestAlgorithm::Sha256.name().to_owned(), Digest::sha256(bytes).to_hex())].into(),
            origin: Origin::Made,
            sealed_at: None,
        };
        files.insert(name, entry);
    }
    let mut manifest = Manifest {
        schema: SCHEMA.to_owned(),
        name: args.name.clone(),
        version: args.version.clone(),
        sealed_at: made.sealed_at.values().copied().max().unwrap_or_else(|| describer.now()),
        tool: concat!("debvisor/", env!("CARGO_PKG_VERSION")).to_owned(),
        files: files.into_values().collect(),
    };
    if let Some(old) = &before.manifest {
        let now = std::mem::replace(&mut manifest.sealed_at, old.sealed_at);
        if manifest != *old {
            manifest.sealed_at = now;
        }
    }
    Ok(manifest.to_bytes())
}

fn named_after<'a>(name: &'a str, before: &Before) -> Option<&'a str> {
    layout::named_after(name).filter(|about| before.digests.contains_key(*about))
}

/// What is told once the release is sealed.
struct Told<'a> {
    args: &'a Args,
    before: &'a Before,
    describer: &'a Describer<'a>,
    listed: &'a [Listed],
    steps: &'a [Step],
    over_list: Vec<String>,
}

fn told(told: &Told<'_>, context: &Context) -> anyhow::Result<()> {
    let written: Vec<&str> = told.steps.iter().filter_map(Step::placed).collect();
    let removed: Vec<&str> = told.steps.iter().filter_map(Step::removed).collect();
    let mut out = anstream::stdout().lock();
    if context.format == Format::Json {
        let artifacts: Vec<_> = told
            .listed
            .iter()
            .map(|about| {
                let artifact = &about.artifact;
                serde_json::json!({
                    "name": artifact.name, "digest": artifact.digest_set(), "components": about.components,
                })
            })
            .collect();
        let document = serde_json::json!({
            "directory": told.before.dir,
            "changed": !told.steps.is_empty(),
            "artifacts": artifacts,
            "written": written,
            "removed": removed,
            "manifest": MANIFEST,
            "list": LIST,
            "list_signatures": told.over_list,
        });
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["ARTIFACT", "COMPONENTS", "WRITTEN"]);
        for about in told.listed {
            let name = &about.artifact.name;
            let of_it =
                |written: &&&str| written.strip_prefix(name.as_str()).is_some_and(|suffix| SUFFIXES.contains(&suffix));
            let count = written.iter().filter(of_it).count();
            table.add_row([visible(name).into_owned(), about.components.to_string(), count.to_string()]);
        }
        writeln!(out, "{table}")?;
        let dir = told.args.dir.display();
        match (written.len(), removed.len()) {
            (0, 0) => writeln!(out, "{dir} is sealed already; nothing was to be done")?,
            (written, 0) => writeln!(out, "sealed {dir}: {written} files written")?,
            (written, removed) => writeln!(out, "sealed {dir}: {written} files written, {removed} removed")?,
        }
    }
    if context.quiet || told.steps.is_empty() {
        return Ok(());
    }
    let mut stderr = anstream::stderr().lock();
    for about in told.listed.iter().filter(|about| about.components == 0) {
        let (name, source) = (visible(&about.artifact.name), told.describer.source().display());
        writeln!(stderr, "note: no lock file or package database says what is in {name}; looked in {source}")?;
    }
    if told.args.vex_results.is_empty() && told.args.vex.is_empty() {
        writeln!(stderr, "note: no scanner's results were given (--vex-results), and the VEX documents say so")?;
    }
    if !Signers::by_sigstore(told.args) {
        writeln!(stderr, "note: OpenPGP signs no attestations; provenance was left out (add --key for it)")?;
    }
    Ok(())
}
