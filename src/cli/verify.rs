//! `debvisor verify SUBJECT…`: any number of artifacts against any number of signatures and attestations, in one run.

use std::collections::{BTreeSet, HashMap};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::Value;

use super::expect::{self, OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::policy::FolderArgs;
use super::registry::{self, Found, RegistryArgs};
use super::sigstore::{self, UsableRoot};
use super::vsa::{self, VsaArgs};
use super::{Context, Ended, UsageError, parallel, progress, report};
use crate::release::artifact::{self, Artifact, Hasher, Keep, Sink, Subject};
use crate::release::collect::files::read_evidence;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::openpgp::{ArtifactHasher, ArtifactHashes, DetachedSignatures, Keyring};
use crate::release::gate::image::sha256_alone;
use crate::release::policy::PolicySet;
use crate::release::policy::input::{Expected, InputSubject, PolicyInput};
use crate::release::trust::revocation::Revocations;
use crate::release::verify::member;
use crate::release::verify::openpgp::{OpenpgpExpectations, SignatureFile};
use crate::release::verify::{Expectations, Facts, Offered, Verifier, revoked};
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, digests as sha256:HEX or sha512:HEX, or images as oci://REGISTRY/REPOSITORY@sha256:HEX with what is
    /// attached to them; a tag is resolved to its digest first
    #[arg(value_name = "SUBJECT", required = true)]
    subjects: Vec<String>,
    /// A Sigstore bundle, or JSON Lines of them; repeatable
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// A detached OpenPGP signature; with several subjects, SUBJECT.asc or SUBJECT.sig; repeatable
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,
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
    /// The policy set: a built-in name, a Rego file or directory, or `bundle:NAME` of the installed trust bundle
    #[arg(long, value_name = "NAME|FILE", default_value = "release")]
    policy: String,
    #[command(flatten)]
    folders: FolderArgs,
    #[command(flatten)]
    vsa: VsaArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let openpgp_expectations = args.openpgp.expectations(context.now)?;
    let summaries = args.vsa.writer(context)?;
    if args.signature.is_empty() != args.openpgp.openpgp_keyring.is_empty() {
        return Err(UsageError::new(
            "an OpenPGP signature and a keyring go together",
            "give both --signature and --openpgp-keyring",
        )
        .into());
    }
    let mut refused = Vec::new();
    let installed = kept(sigstore::installed_bundle(context), &mut refused).flatten();
    let folders = args.folders.folders(&context.environment).with_bundle(installed.as_ref());
    let policy = match folders.load(&args.policy) {
        Ok(policy) => policy,
        Err(reason) => {
            refused.push(reason);
            return finish(&Report::new(Vec::new(), refused, context.now), summaries.as_ref(), context);
        }
    };
    let revocations = installed.as_ref().map(|bundle| bundle.revocations().clone()).unwrap_or_default();
    refused.extend(revocations.check_digest(&policy.reference().digest));
    let key = kept(sigstore::key(&args.signer, installed.as_ref()), &mut refused).flatten();
    // Without the key that was asked for, every bundle would seem to be by somebody else: a "no" that is not true.
    let key_is_missing = args.signer.key.is_some() && key.is_none();
    let expectations = sigstore::expectations(&args.signer, &args.provenance, &args.trust, key)?;
    let images = find_images(args, context)?;
    let asks_sigstore = !args.bundle.is_empty() || !images.is_empty();
    let root = asks_sigstore.then(|| UsableRoot::select(&args.trust, installed.as_ref(), context));
    let root = root.and_then(|root| kept(root, &mut refused));
    let keyring = kept(args.openpgp.keyring(installed.as_ref()), &mut refused).flatten();
    let signatures = read_signatures(args, &mut refused)?;
    let (offered, unreadable) = sigstore::offered(&args.bundle);
    refused.extend(unreadable);
    // The process ends after this. To give back piece by piece what was read of a thousand bundles, and what is reported
    // of them, takes a twentieth of such a run.
    let offered = ManuallyDrop::new(offered);

    let question = Question {
        offered: Index::new(&offered),
        images: &images,
        // A run whose evidence was refused as a whole has its answer; what is left is only to name the subjects.
        verifier: root
            .as_ref()
            .filter(|_| !key_is_missing)
            .map(|root| Verifier::new(&root.root, &expectations, context.now)),
        expectations: &expectations,
        signatures,
        keyring,
        openpgp_expectations,
        expected: args.vsa.expect(expect::policy_input(&args.signer, &args.provenance, &args.openpgp)),
        root: root.as_ref(),
        revocations,
        policy: &policy,
        refused: !refused.is_empty(),
        context,
    };
    let sizes = args.subjects.iter().filter_map(|subject| Path::new(subject).metadata().ok());
    let bar = progress::bytes(context, sizes.map(|metadata| metadata.len()));
    let answers: Vec<Answer> = parallel::each(&args.subjects, |subject| question.answer(subject, &bar));
    bar.finish_and_clear();

    let several = answers.len() > 1;
    let mut reasons = refused;
    let mut warnings = Vec::new();
    let mut subjects = Vec::new();
    for answer in answers {
        let name = answer.subject.name.clone();
        let named = |reason: Reason| if several { reason.subject(&*name) } else { reason };
        reasons.extend(answer.reasons.into_iter().map(named));
        warnings.extend(answer.warnings);
        subjects.push(answer.subject);
    }
    let mut report = ManuallyDrop::new(Report { warnings, ..Report::new(subjects, reasons, context.now) });
    report.policy = Some(policy.reference());
    report.trust_root = root.as_ref().map(UsableRoot::reference);
    report.images = args
        .subjects
        .iter()
        .filter_map(|subject| images.get(subject)?.as_ref().ok())
        .map(|found| found.reference.clone())
        .collect();
    finish(&report, summaries.as_ref(), context)
}

fn finish(report: &Report, summaries: Option<&vsa::Writer>, context: &Context) -> anyhow::Result<Ended> {
    if let Some(summaries) = summaries {
        summaries.write(report)?;
    }
    report::print(report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// Asks the registries once, whatever comes of the rest.
type Images = HashMap<String, Result<Found, Reason>>;

fn find_images(args: &Args, context: &Context) -> anyhow::Result<Images> {
    let mut images = Images::new();
    for subject in args.subjects.iter().filter(|subject| registry::reference_in(subject).is_some()) {
        let found = registry::find(subject, &args.registry, args.trust.offline, context)?;
        images.insert(subject.clone(), found);
    }
    Ok(images)
}

fn kept<T>(outcome: Result<T, Reason>, refused: &mut Vec<Reason>) -> Option<T> {
    outcome.map_err(|reason| refused.push(reason)).ok()
}

/// A signature file and the subject that it is for; none where it is for the only one.
struct SignatureOf {
    name: String,
    subject: Option<String>,
    signatures: DetachedSignatures,
}

/// Reads the signature files. With several subjects each file is for the one that its name starts with.
fn read_signatures(args: &Args, refused: &mut Vec<Reason>) -> Result<Vec<SignatureOf>, UsageError> {
    let mut read = Vec::new();
    for path in &args.signature {
        let name = path.display().to_string();
        let subject = if args.subjects.len() == 1 { None } else { Some(subject_of(path, &args.subjects)?) };
        let parsed = read_evidence(path, limits::OPENPGP_SIGNATURE_BYTES)
            .and_then(|bytes| DetachedSignatures::parse(&bytes))
            .map_err(|reason| Reason { evidence: Some(name.clone()), ..reason });
        if let Some(signatures) = kept(parsed, refused) {
            read.push(SignatureOf { name, subject, signatures });
        }
    }
    Ok(read)
}

fn subject_of(path: &Path, subjects: &[String]) -> Result<String, UsageError> {
    let stem = path.file_stem();
    subjects.iter().find(|subject| Path::new(subject).file_name() == stem).cloned().ok_or_else(|| {
        UsageError::new(
            format!("{} is the signature of none of the subjects by its name", path.display()),
            "with several subjects, name each signature SUBJECT.asc or SUBJECT.sig",
        )
    })
}

/// Bundles by the digests that they claim to be about, so that a thousand bundles over a thousand files meet once.
struct Index<'a> {
    by_digest: HashMap<&'a Digest, Vec<&'a Offered>>,
    /// Those that do not say what they are about.
    silent: Vec<&'a Offered>,
    /// What an artifact must be hashed with for any of them to be judged.
    algorithms: BTreeSet<DigestAlgorithm>,
    all: &'a [Offered],
}

/// So many bundles are judged one by one where none claims to be about the subject, for the sake of a better reason.
const JUDGED_ANYWAY: usize = 4;

impl<'a> Index<'a> {
    fn new(all: &'a [Offered]) -> Self {
        let mut by_digest: HashMap<&Digest, Vec<&Offered>> = HashMap::new();
        for offered in all {
            for digest in offered.claimed() {
                by_digest.entry(digest).or_default().push(offered);
            }
        }
        Self {
            by_digest,
            silent: all.iter().filter(|offered| offered.claimed().is_empty()).collect(),
            algorithms: all.iter().flat_map(Offered::digest_algorithms).collect(),
            all,
        }
    }

    /// The bundles to judge for an artifact, in the order they were given.
    fn about(&self, artifact: &Artifact) -> Vec<&'a Offered> {
        if self.all.len() <= JUDGED_ANYWAY {
            return self.all.iter().collect();
        }
        let claimed = artifact.digests().filter_map(|digest| self.by_digest.get(digest)).flatten();
        let mut about: Vec<&Offered> = claimed.chain(&self.silent).copied().collect();
        about.sort_by_key(|offered| std::ptr::from_ref::<Offered>(offered).addr());
        about.dedup_by_key(|offered| std::ptr::from_ref::<Offered>(offered).addr());
        about
    }
}

/// Everything that is asked of each subject alike.
struct Question<'a> {
    offered: Index<'a>,
    /// The subjects that are images, with what is attached to them.
    images: &'a Images,
    verifier: Option<Verifier<'a>>,
    expectations: &'a Expectations,
    signatures: Vec<SignatureOf>,
    keyring: Option<Keyring>,
    openpgp_expectations: OpenpgpExpectations,
    expected: Expected,
    root: Option<&'a UsableRoot>,
    revocations: Revocations,
    policy: &'a PolicySet,
    refused: bool,
    context: &'a Context,
}

struct Answer {
    subject: SubjectReport,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
}

impl Question<'_> {
    fn answer(&self, subject: &str, bar: &ProgressBar) -> Answer {
        let (artifact, hashes) = match self.read(subject, bar) {
            Ok(read) => read,
            Err(reason) => {
                let artifact = Artifact::new(subject, []);
                return self.conclude(&artifact, Facts::default().to_json(), vec![reason], Vec::new());
            }
        };
        let mut facts = Facts::default();
        let image = self.images.get(subject).and_then(|found| found.as_ref().ok());
        let mut reasons = image.map(|image| image.reasons.clone()).unwrap_or_default();
        if let Some(verifier) = &self.verifier {
            let mut about = self.offered.about(&artifact);
            about.extend(image.iter().flat_map(|image| &image.offered));
            if about.is_empty() && !self.offered.all.is_empty() {
                reasons.push(Reason::new(
                    Code::SubjectMismatch,
                    format!("none of the {} bundles is about this artifact", self.offered.all.len()),
                ));
            }
            let (proved, refused) = verifier.judge(&artifact, &about);
            facts.merge(proved);
            reasons.extend(refused);
        }
        let files: Vec<SignatureFile<'_>> = self
            .signatures
            .iter()
            .filter(|file| file.subject.as_deref().is_none_or(|of| of == subject))
            .map(|file| SignatureFile { evidence: &file.name, signatures: &file.signatures })
            .collect();
        if let Some(keyring) = &self.keyring
            && !files.is_empty()
        {
            let (proved, refused) = member::signed(&files, hashes.as_ref(), keyring, &self.openpgp_expectations);
            facts.merge(proved);
            reasons.extend(refused);
        }
        if reasons.is_empty() && facts.signatures().is_empty() && !self.refused {
            reasons.push(match image {
                None => Reason::new(Code::EvidenceMissing, "no evidence was given for this artifact"),
                Some(_) => Reason::new(Code::EvidenceMissing, "nothing that could be judged is attached to this image")
                    .hint("sign it: debvisor sign oci://REF, by digest"),
            });
        }
        reasons.extend(revoked(&artifact, &facts, &self.revocations));
        if !reasons.is_empty() || self.refused {
            // The evidence has said no already; a policy would only repeat it.
            return self.conclude(&artifact, facts.to_json(), reasons, Vec::new());
        }
        let input = PolicyInput {
            subject: InputSubject { name: artifact.name.clone(), digest: artifact.digest_set(), kind: None },
            expected: self.expected.clone(),
            facts: facts.to_json(),
            trust_root: self.root.map(UsableRoot::policy_input),
            now: self.context.now,
        };
        let mut input = input.into_json();
        let verdicts = self.policy.evaluate(&input);
        // The report says the same facts that the policy saw.
        let facts = input.get_mut("facts").map(Value::take).unwrap_or_default();
        self.conclude(&artifact, facts, verdicts.denials, verdicts.warnings)
    }

    fn conclude(&self, artifact: &Artifact, facts: Value, reasons: Vec<Reason>, warnings: Vec<Reason>) -> Answer {
        let decision = match Decision::from_reasons(&reasons) {
            Decision::Allow if self.refused => Decision::Undecided,
            decision => decision,
        };
        let subject = SubjectReport {
            name: artifact.name.clone(),
            digest: if registry::reference_in(&artifact.name).is_some() {
                sha256_alone(artifact)
            } else {
                artifact.digest_set()
            },
            decision,
            facts,
        };
        Answer { subject, reasons, warnings }
    }

    /// Reads a subject's bytes once, through everything that wants them.
    fn read(&self, subject: &str, bar: &ProgressBar) -> Result<(Artifact, Option<ArtifactHashes>), Reason> {
        match self.images.get(subject) {
            Some(Ok(found)) => return Ok((found.artifact.clone(), None)),
            Some(Err(reason)) => return Err(reason.clone()),
            None => {}
        }
        let path = match Subject::parse(subject) {
            Subject::Digest(digest) => return Ok((Artifact::new(subject, [digest]), None)),
            Subject::Path(path) => path,
        };
        // What is revoked by another algorithm than the evidence's must not slip through.
        let mut algorithms = self.offered.algorithms.clone();
        algorithms.extend(self.revocations.algorithms());
        algorithms.insert(DigestAlgorithm::Sha256);
        let mut hasher = Hasher::new(&algorithms.into_iter().collect::<Vec<_>>());
        let mut seen = progress::Seen(bar);
        let mut sinks: Vec<&mut dyn Sink> = vec![&mut hasher, &mut seen];
        let of_this = |file: &&SignatureOf| file.subject.as_deref().is_none_or(|of| of == subject);
        let mut openpgp = (!self.signatures.is_empty())
            .then(|| ArtifactHasher::new(self.signatures.iter().filter(of_this).map(|file| &file.signatures)));
        if let Some(openpgp) = &mut openpgp {
            sinks.push(openpgp);
        }
        let signs_whole = self.expectations.key.as_ref().is_some_and(|key| key.signs_whole_messages());
        let mut keep = (signs_whole && self.offered.all.iter().any(Offered::is_message))
            .then(|| Keep::new(limits::WHOLE_ARTIFACT_BYTES));
        if let Some(keep) = &mut keep {
            sinks.push(keep);
        }
        artifact::open_regular(&path).and_then(|file| artifact::stream(file, &mut sinks)).map_err(|error| {
            Reason::new(Code::SubjectUnreadable, format!("cannot read {}: {error}", path.display()))
        })?;
        let mut artifact = Artifact::new(subject, hasher.finish());
        artifact.bytes = keep.and_then(Keep::finish);
        Ok((artifact, openpgp.map(ArtifactHasher::finish)))
    }
}
