//! `debvisor admit IMAGE…`: whether images may boot, by the code that a node asks before it starts anything.
//!
//! What is beside an image speaks for it: signatures, attestations, summaries and signed checksum lists are found by
//! their names (docs/reference/admission.md). A disk image is looked into as far as its header.

use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::expect::{self, OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::gate::Requirement;
use super::policy::FolderArgs;
use super::registry::{self, Found, RegistryArgs};
use super::sigstore::{self, UsableRoot};
use super::vsa::VsaArgs;
use super::{Context, Ended, UsageError, parallel, progress, report};
use crate::release::admit::trust::{OpenpgpSigner, Root, Signer};
use crate::release::admit::{AdmissionTrust, Evidence, EvidenceFile, Presented, TrustFault, judge};
use crate::release::artifact::{self, Artifact, Hasher, Keep, Sink};
use crate::release::collect::files::read_evidence;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::disk;
use crate::release::evidence::openpgp::{ArtifactHasher, ArtifactHashes};
use crate::release::gate::image::AttachedDocument;
use crate::release::trust::bundle::TrustBundle;
use crate::release::trust::revocation::Revocations;
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Reason, limits};

mod beside;
pub(super) mod kind;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Disk images, ISO images, kernels, initial root file systems, firmware, option ROMs; or images as
    /// oci://REGISTRY/REPOSITORY@sha256:HEX with what is attached to them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// What they are to a machine: disk, iso, kernel, initrd, firmware, option-rom; without it, by content and name
    #[arg(long, value_name = "KIND", value_parser = kind::parse)]
    kind: Option<ArtifactKind>,
    /// Further evidence: a Sigstore bundle, or JSON Lines of them; repeatable
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// A detached OpenPGP signature over the image; of several, over the one that it is named after; repeatable
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,
    /// Take no evidence but what --bundle and --signature name
    #[arg(long)]
    no_beside: bool,
    /// Judge as the server or node with this configuration does
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "key", "certificate_identity", "certificate_identity_regexp", "certificate_oidc_issuer",
        "certificate_oidc_issuer_regexp", "openpgp_keyring", "source_uri", "builder_id", "policy", "policy_dir",
        "trusted_root", "require",
    ])]
    config: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    provenance: ProvenanceArgs,
    #[command(flatten)]
    openpgp: OpenpgpArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// The policy: a name, or a Rego file or directory, which comes on top of admission; `bundle:NAME` is the installed
    /// trust bundle's
    #[arg(long, value_name = "NAME|FILE", default_value = "admission")]
    policy: String,
    #[command(flatten)]
    folders: FolderArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    vsa: VsaArgs,
    /// What every image must have besides; repeatable
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    require: Vec<Requirement>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let summaries = args.vsa.writer(context)?;
    let mut refused = Vec::new();
    let installed = kept(sigstore::installed_bundle(context), &mut refused).flatten();
    let revocations = installed.as_ref().map(|bundle| bundle.revocations().clone()).unwrap_or_default();
    let trust = match &args.config {
        Some(path) => of_config(path)?,
        None => of_flags(args, installed.as_ref(), &mut refused, context)?,
    };
    let in_registries = find(args, context)?;
    let question = Question { args, trust: &trust, revocations: &revocations, refused: &refused, context };
    let sizes = args.images.iter().filter_map(|image| Path::new(image).metadata().ok());
    let bar = progress::bytes(context, sizes.map(|metadata| metadata.len()));
    let files: Vec<&String> = args.images.iter().filter(|image| registry::reference_in(image).is_none()).collect();
    let mut reports: Vec<Report> = parallel::each(&files, |image| question.answer(image, &bar));
    bar.finish_and_clear();
    let mut references = Vec::new();
    for (image, found) in in_registries {
        references.extend(found.as_ref().ok().map(|found| found.reference.clone()));
        reports.push(question.answer_of_registry(image, found));
    }
    let mut report = joined(reports, refused, &trust, context);
    report.images = references;
    if let Some(summaries) = &summaries {
        summaries.write(&report)?;
    }
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// Asks the registries, once.
fn find<'a>(args: &'a Args, context: &Context) -> anyhow::Result<Vec<(&'a str, Result<Found, Reason>)>> {
    let references = args.images.iter().filter(|image| registry::reference_in(image).is_some());
    let ask =
        |image: &'a String| Ok((image.as_str(), registry::find(image, &args.registry, args.trust.offline, context)?));
    references.map(ask).collect()
}

/// One report over all images; each reason names its image where there are several.
fn joined(reports: Vec<Report>, mut reasons: Vec<Reason>, trust: &AdmissionTrust, context: &Context) -> Report {
    let several = reports.len() > 1;
    let mut subjects = Vec::new();
    let mut warnings = Vec::new();
    let mut root = None;
    for report in reports {
        let name = report.subjects.first().map(|subject| subject.name.clone()).unwrap_or_default();
        let named = |reason: Reason| if several { reason.subject(&*name) } else { reason };
        reasons.extend(report.reasons.into_iter().map(named));
        warnings.extend(report.warnings.into_iter().map(named));
        subjects.extend(report.subjects);
        root = root.or(report.trust_root);
    }
    let report = Report::new(subjects, reasons, context.now);
    Report { warnings, policy: trust.policy(), trust_root: root, ..report }
}

fn kept<T>(outcome: Result<T, Reason>, refused: &mut Vec<Reason>) -> Option<T> {
    outcome.map_err(|reason| refused.push(reason)).ok()
}

/// What lies beside an image and speaks for it by its name.
pub(super) fn beside(image: &Path) -> Vec<PathBuf> {
    beside::found(image)
}

/// The trust of a server or node, as its configuration says.
pub(super) fn of_config(path: &Path) -> anyhow::Result<AdmissionTrust> {
    let name = path.display();
    let usage =
        |message: String| UsageError::new(message, "docs/reference/admission.md describes the table [admission]");
    let bytes = artifact::read_bounded(path, limits::CONFIG_BYTES)
        .map_err(|error| usage(format!("cannot read the configuration {name}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| usage(format!("the configuration {name} is not UTF-8")))?;
    let trust = of_text(path, &text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        usage(format!("the configuration {name} is wrong: {}", faults.join("; ")))
    })?;
    Ok(trust)
}

/// The files that a configuration names, as it names them; none where it cannot be read.
pub(super) fn files_of_config(path: &Path) -> Vec<String> {
    let named = std::cell::RefCell::new(Vec::new());
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let read = |file: &str, limit: u64| {
        named.borrow_mut().push(file.to_owned());
        read_evidence(&folder.join(file), limit)
    };
    let text = artifact::read_bounded(path, limits::CONFIG_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(text) = text {
        let _ = AdmissionTrust::parse(&text, &read);
    }
    named.into_inner()
}

/// The same, of a configuration that was read already.
pub(super) fn of_text(path: &Path, text: &str) -> Result<AdmissionTrust, Vec<TrustFault>> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    AdmissionTrust::parse(text, &|file: &str, limit: u64| read_evidence(&folder.join(file), limit))
}

/// The trust that the flags describe: one signer, who may be named by several means.
fn of_flags(
    args: &Args,
    installed: Option<&TrustBundle>,
    refused: &mut Vec<Reason>,
    context: &Context,
) -> anyhow::Result<AdmissionTrust> {
    let openpgp = args.openpgp.expectations(context.now)?;
    let folders = args.folders.folders(&context.environment).with_bundle(installed);
    let policy = folders.load_on_top_of(&args.policy, "admission");
    let key = kept(sigstore::key(&args.signer, installed), refused).flatten();
    let expectations = sigstore::expectations(&args.signer, &args.provenance, &args.trust, key)?;
    let root = UsableRoot::select(&args.trust, installed, context).map(|usable| Root {
        reference: usable.reference(),
        key_needs_log: args.trust.trusted_root.is_some(),
        root: usable.root,
    });
    let keyring = kept(args.openpgp.keyring(installed), refused).flatten();
    let names_sigstore = expectations.identity.is_some()
        || expectations.issuer.is_some()
        || args.signer.key.is_some()
        || args.provenance.source_uri.is_some();
    let signer = Signer {
        name: "the command line".to_owned(),
        sigstore: names_sigstore.then_some(expectations),
        openpgp: keyring.map(|keyring| OpenpgpSigner {
            keyring,
            pins: openpgp.pins,
            threshold: openpgp.threshold,
            validity: openpgp.validity,
        }),
        expected: args.vsa.expect(expect::policy_input(&args.signer, &args.provenance, &args.openpgp)),
    };
    let names_somebody = signer.sigstore.is_some() || signer.openpgp.is_some();
    let trust = AdmissionTrust::new(policy, root, if names_somebody { vec![signer] } else { Vec::new() });
    Ok(trust.requiring(args.require.iter().map(|kind| kind.name().to_owned()).collect()))
}

/// Everything that is asked of each image alike.
struct Question<'a> {
    args: &'a Args,
    trust: &'a AdmissionTrust,
    revocations: &'a Revocations,
    /// Why the run has no answer, whatever the images are.
    refused: &'a [Reason],
    context: &'a Context,
}

/// An image that was read once.
struct Read {
    artifact: Artifact,
    hashes: Option<ArtifactHashes>,
    kind: ArtifactKind,
    /// What its header says against it.
    header: Option<Reason>,
}

impl Question<'_> {
    fn answer(&self, image: &str, bar: &ProgressBar) -> Report {
        let path = Path::new(image);
        let evidence = match self.evidence(Some(path)) {
            Ok(evidence) => evidence,
            Err(reasons) => return self.unanswered(image, reasons),
        };
        let read = match self.read(path, &evidence, bar) {
            Ok(read) => read,
            Err(error) => {
                let message = format!("cannot read {image}: {error}");
                return self.unanswered(image, vec![Reason::new(Code::SubjectUnreadable, message)]);
            }
        };
        let presented = Presented { artifact: &read.artifact, kind: read.kind, openpgp: read.hashes.as_ref() };
        let judged = judge(presented, &evidence, self.trust, self.revocations, self.context.now);
        let mut report = judged.into_report();
        let mut reasons = std::mem::take(&mut report.reasons);
        if let Some(header) = read.header {
            // Nobody's word makes such an image one that may be opened.
            reasons.insert(0, header);
        }
        let mut subjects = std::mem::take(&mut report.subjects);
        for subject in &mut subjects {
            image.clone_into(&mut subject.name);
            subject.decision = self.decision(&reasons);
        }
        let joined = Report::new(subjects, reasons, report.decided_at);
        Report { warnings: report.warnings, policy: report.policy, trust_root: report.trust_root, ..joined }
    }

    /// An image in a registry, by its digest and with what is attached to it.
    fn answer_of_registry(&self, image: &str, found: Result<Found, Reason>) -> Report {
        let found = match found {
            Ok(found) => found,
            Err(reason) => return self.unanswered(image, vec![reason]),
        };
        let mut evidence = match self.evidence(None) {
            Ok(evidence) => evidence,
            Err(reasons) => return self.unanswered(image, reasons),
        };
        evidence.attach(found.offered, found.reasons);
        for AttachedDocument { file, document, holder, offered } in found.documents {
            evidence.attach_document(file, document, holder, offered);
        }
        // What a registry holds is files in layers, and becomes a root disk.
        let kind = self.args.kind.unwrap_or(ArtifactKind::Disk);
        let presented = Presented { artifact: &found.artifact, kind, openpgp: None };
        let judged = judge(presented, &evidence, self.trust, self.revocations, self.context.now);
        let mut report = judged.into_report();
        for subject in &mut report.subjects {
            subject.decision = self.decision(&report.reasons);
        }
        report
    }

    /// A report about an image that could not be judged.
    fn unanswered(&self, image: &str, reasons: Vec<Reason>) -> Report {
        let subject = SubjectReport {
            name: image.to_owned(),
            digest: Default::default(),
            decision: self.decision(&reasons),
            facts: serde_json::Value::Null,
        };
        Report::new(vec![subject], reasons, self.context.now)
    }

    fn decision(&self, reasons: &[Reason]) -> Decision {
        Decision::from_reasons(reasons.iter().chain(self.refused))
    }

    /// What speaks for the image: beside it, where it is a file, and named by flags.
    fn evidence(&self, image: Option<&Path>) -> Result<Evidence, Vec<Reason>> {
        let mut paths = match image {
            Some(image) if !self.args.no_beside => beside::found(image),
            _ => Vec::new(),
        };
        let mut files = Vec::new();
        let mut reasons = Vec::new();
        let alone = self.args.images.len() == 1;
        let name = image.and_then(Path::file_name);
        let over_this = |signature: &&PathBuf| alone || (name.is_some() && signature.file_stem() == name);
        let named = self.args.bundle.iter().chain(self.args.signature.iter().filter(over_this));
        paths.retain(|path| !named.clone().any(|named| named == path));
        for path in &paths {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            match read_evidence(path, limits::EVIDENCE_BYTES) {
                Ok(bytes) => files.push(EvidenceFile { name, bytes }),
                Err(reason) => reasons.push(reason),
            }
        }
        for path in named {
            match read_evidence(path, limits::EVIDENCE_BYTES) {
                Ok(bytes) => files.push(EvidenceFile { name: path.display().to_string(), bytes }),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() { Ok(Evidence::parse(&files)) } else { Err(reasons) }
    }

    /// Reads the image's bytes once, through everything that wants them, and its header.
    fn read(&self, path: &Path, evidence: &Evidence, bar: &ProgressBar) -> std::io::Result<Read> {
        let mut file = artifact::open_regular(path)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (kind, header) = match self.args.kind {
            Some(kind) => (kind, disk::inspect(&mut file, &disk::Limits::default())),
            None => kind::of(&mut file, &name)?,
        };
        let header = kind::against_header(kind, header).map(|reason| reason.evidence(path.display().to_string()));
        file.seek(SeekFrom::Start(0))?;
        let mut algorithms = evidence.algorithms(&name);
        // What is revoked by another algorithm than the evidence's must not slip through.
        algorithms.extend(self.revocations.algorithms());
        let mut hasher = Hasher::new(&algorithms);
        let mut openpgp = evidence.openpgp_hasher();
        let keeps = evidence.signs_image() && self.trust.has_key_for_whole_messages();
        let mut keep = keeps.then(|| Keep::new(limits::WHOLE_ARTIFACT_BYTES));
        let mut seen = progress::Seen(bar);
        let mut sinks: Vec<&mut dyn Sink> = vec![&mut hasher, &mut seen];
        sinks.extend(openpgp.as_mut().map(|openpgp| openpgp as &mut dyn Sink));
        sinks.extend(keep.as_mut().map(|keep| keep as &mut dyn Sink));
        artifact::stream(file, &mut sinks)?;
        let mut artifact = Artifact::new(name, hasher.finish());
        artifact.bytes = keep.and_then(Keep::finish);
        Ok(Read { artifact, hashes: openpgp.map(ArtifactHasher::finish), kind, header })
    }
}
