//! `debvisor gate DIR | oci://REF`: a whole release in one run. A directory, or an image with what is attached to it,
//! in; one report out that names every refused file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::expect::{OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::policy::FolderArgs;
use super::policy::load::Folders;
use super::progress::{self, Seen};
use super::registry::{self, Found, RegistryArgs};
use super::sigstore::{self, UsableRoot};
use super::vsa::{self, VsaArgs};
use super::{Context, Ended, UsageError, expect, parallel, report, seal};
use crate::release::artifact::{self, Artifact, Hasher, Keep, Sink};
use crate::release::collect::files::{self, FoundFile};
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::openpgp::{ArtifactHasher, Keyring};
use crate::release::gate::{self, Evidence, Member, Question, Sigstore, layout};
use crate::release::policy::PolicySet;
use crate::release::policy::input::{Expected, InputSubject, PolicyInput};
use crate::release::trust::revocation::Revocations;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::openpgp::OpenpgpExpectations;
use crate::release::verify::{Expectations, Facts, Offered, Pattern, Verifier};
use crate::types::{Code, DigestAlgorithm, Reason, limits};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// The release's directory (docs/reference/release-layout.md), or an image with what is attached to it
    #[arg(value_name = "DIR|oci://REF")]
    pub(super) target: String,
    /// Further evidence from outside of the directory: a Sigstore bundle, or JSON Lines of them; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) signer: SignerArgs,
    #[command(flatten)]
    pub(super) provenance: ProvenanceArgs,
    #[command(flatten)]
    pub(super) openpgp: OpenpgpArgs,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    /// The policy: a name, or a Rego file or directory, which comes on top of release; `bundle:NAME` is the installed
    /// trust bundle's
    #[arg(long, value_name = "NAME|FILE", default_value = "release")]
    pub(super) policy: String,
    #[command(flatten)]
    pub(super) folders: FolderArgs,
    #[command(flatten)]
    pub(super) vsa: VsaArgs,
    /// What every artifact must have besides a line in a signed list; repeatable
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub(super) require: Vec<Requirement>,
}

/// What a release may be asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Requirement {
    /// A signature of the artifact's own; one over the list that names it does not suffice then
    Signature,
    /// An SBOM that speaks of it
    Sbom,
    /// SLSA provenance of it
    Provenance,
    /// A VEX document that speaks of it
    Vex,
}

impl Requirement {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Sbom => "sbom",
            Self::Provenance => "provenance",
            Self::Vex => "vex",
        }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let summaries = args.vsa.writer(context)?;
    let report = judge(args, Vec::new(), context)?;
    decided(&report, summaries.as_ref(), context)
}

/// Judges the target. `found` are bundles from elsewhere than the command line.
///
/// # Errors
/// A usage error where the flags contradict each other or the target is none.
pub(super) fn judge(args: &Args, found: Vec<Offered>, context: &Context) -> anyhow::Result<Report> {
    let target = Target::open(args, context)?;
    let openpgp = args.openpgp.expectations(context.now)?;
    let mut unanswered = Vec::new();
    let installed = kept(sigstore::installed_bundle(context), &mut unanswered).flatten();
    let folders = args.folders.folders(&context.environment).with_bundle(installed.as_ref());
    let policies = folders.load(&args.policy).and_then(|policy| Ok((policy, folders.load("release")?)));
    let (policy, release) = match policies {
        Ok(policies) => policies,
        Err(reason) => {
            unanswered.push(reason);
            return Ok(Report::new(Vec::new(), unanswered, context.now));
        }
    };
    let revocations = installed.as_ref().map(|bundle| bundle.revocations().clone()).unwrap_or_default();
    unanswered.extend(revocations.check_digest(&policy.reference().digest));
    let key = kept(sigstore::key(&args.signer, installed.as_ref()), &mut unanswered).flatten();
    let expectations = sigstore::expectations(&args.signer, &args.provenance, &args.trust, key)?;
    let keyring = kept(args.openpgp.keyring(installed.as_ref()), &mut unanswered).flatten();
    let names_signer = expectations.identity.is_some() || args.signer.key.is_some();
    // Without an identity, a trusted builder may speak for a source; which builders are, the policy knows.
    let asks_sigstore = names_signer || args.provenance.source_uri.is_some();
    let root = asks_sigstore.then(|| UsableRoot::select(&args.trust, installed.as_ref(), context));
    let root = root.and_then(|root| kept(root, &mut unanswered));
    let (mut further, unreadable) = sigstore::offered(&args.bundle);
    further.extend(found);
    unanswered.extend(unreadable);

    let mut expected = args.vsa.expect(expect::policy_input(&args.signer, &args.provenance, &args.openpgp));
    let judged_by = |policy: &PolicySet, expected: &Expected, artifact: &Artifact, facts: &Facts| {
        let input = PolicyInput {
            subject: InputSubject { name: artifact.name.clone(), digest: artifact.digest_set(), kind: None },
            expected: expected.clone(),
            facts: facts.to_json(),
            trust_root: root.as_ref().map(UsableRoot::policy_input),
            now: context.now,
        };
        let verdicts = policy.evaluate(&input.into_json());
        (verdicts.denials, verdicts.warnings)
    };
    let of_companions = expected.clone();
    let accepts = |artifact: &Artifact, facts: &Facts| {
        if names_signer { Default::default() } else { judged_by(&release, &of_companions, artifact, facts) }
    };
    expected.require = args.require.iter().map(|kind| kind.name().to_owned()).collect();
    let says = |artifact: &Artifact, facts: &Facts| judged_by(&policy, &expected, artifact, facts);

    let companions = if names_signer { signer_alone(&expectations) } else { expectations.clone() };
    let verifiers = root.as_ref().map(|root| {
        let verifier = |expectations| Verifier::new(&root.root, expectations, context.now);
        (verifier(&expectations), verifier(&companions))
    });
    let question = Question {
        openpgp: keyring.as_ref().map(|keyring| (keyring, &openpgp)),
        sigstore: verifiers.as_ref().map(|(artifacts, companions)| Sigstore {
            artifacts,
            companions,
            accepts: &accepts,
            signs_whole_messages: expectations.key.as_ref().is_some_and(PublicKey::signs_whole_messages),
        }),
        unanswered: &unanswered,
        revocations: &revocations,
        policy: &says,
        now: context.now,
    };
    let mut report = match target {
        Target::Directory(dir) => {
            let report = examine(&dir, further, &revocations.algorithms(), &question, context);
            if report.decision != Decision::Allow && seal::was_interrupted(&dir) && !context.quiet {
                let told = format!("note: sealing {} was interrupted; `debvisor seal` finishes it", dir.display());
                writeln!(anstream::stderr().lock(), "{told}")?;
            }
            report
        }
        Target::Image(Ok(found)) => examine_image(*found, further, &question),
        Target::Image(Err(reason)) => Report::new(named(std::slice::from_ref(&reason)), vec![reason], context.now),
    };
    report.policy = Some(policy.reference());
    report.trust_root = root.as_ref().map(UsableRoot::reference);
    Ok(report)
}

/// Whose word a release rests on that was sealed just now, as a stranger would name them.
pub(super) struct Sealers<'a> {
    /// The trust root of what they signed by Sigstore's means.
    pub(super) root: &'a TrustRoot,
    /// Who signed by Sigstore's means.
    pub(super) sigstore: Option<&'a Expectations>,
    /// Who signed by OpenPGP.
    pub(super) openpgp: Option<(&'a Keyring, &'a OpenpgpExpectations)>,
    /// What every artifact must have, by the words of `--require`.
    pub(super) require: Vec<String>,
}

/// Gates a directory as [`run`] would, for a stranger who knows whom to expect and nothing else.
pub(super) fn as_stranger(dir: &Path, sealers: &Sealers<'_>, context: &Context) -> Result<Report, Reason> {
    let now = context.now_again();
    let exact = |pattern: &Option<Pattern>| match pattern {
        Some(Pattern::Exact(text)) => Some(text.clone()),
        Some(Pattern::Whole { .. }) | None => None,
    };
    let expected = Expected {
        certificate_identity: sealers.sigstore.and_then(|expected| exact(&expected.identity)),
        certificate_oidc_issuer: sealers.sigstore.and_then(|expected| exact(&expected.issuer)),
        key: sealers.sigstore.is_some_and(|expected| expected.key.is_some()),
        openpgp: sealers.openpgp.is_some(),
        require: sealers.require.clone(),
        ..Expected::default()
    };
    let policy = Folders::default().load("release")?;
    let says = |artifact: &Artifact, facts: &Facts| {
        let subject = InputSubject { name: artifact.name.clone(), digest: artifact.digest_set(), kind: None };
        let facts = facts.to_json();
        let input = PolicyInput { subject, expected: expected.clone(), facts, trust_root: None, now };
        let verdicts = policy.evaluate(&input.into_json());
        (verdicts.denials, verdicts.warnings)
    };
    // The signer is named, so that no policy has to say who it is.
    let accepts = |_: &Artifact, _: &Facts| Default::default();
    let verifier = sealers.sigstore.map(|expected| Verifier::new(sealers.root, expected, now));
    let question = Question {
        openpgp: sealers.openpgp,
        sigstore: verifier.as_ref().map(|verifier| Sigstore {
            artifacts: verifier,
            companions: verifier,
            accepts: &accepts,
            signs_whole_messages: sealers
                .sigstore
                .and_then(|expected| expected.key.as_ref())
                .is_some_and(PublicKey::signs_whole_messages),
        }),
        unanswered: &[],
        revocations: &Revocations::default(),
        policy: &says,
        now,
    };
    let mut report = examine(dir, Vec::new(), &[], &question, context);
    report.policy = Some(policy.reference());
    Ok(report)
}

fn decided(report: &Report, summaries: Option<&vsa::Writer>, context: &Context) -> anyhow::Result<Ended> {
    if let Some(summaries) = summaries {
        summaries.write(report)?;
    }
    report::print(report, context)?;
    Ok(Ended::Decided(report.decision))
}

fn kept<T>(outcome: Result<T, Reason>, refused: &mut Vec<Reason>) -> Option<T> {
    outcome.map_err(|reason| refused.push(reason)).ok()
}

/// The same signer, without what was asked of artifacts: nobody builds a checksum list.
fn signer_alone(expectations: &Expectations) -> Expectations {
    Expectations {
        identity: expectations.identity.clone(),
        issuer: expectations.issuer.clone(),
        key: expectations.key.clone(),
        key_needs_log: expectations.key_needs_log,
        ..Expectations::default()
    }
}

/// What is gated.
enum Target {
    Directory(PathBuf),
    /// An image with what is attached to it, or why it could not be had.
    Image(Result<Box<Found>, Reason>),
}

impl Target {
    fn open(args: &Args, context: &Context) -> anyhow::Result<Self> {
        if registry::reference_in(&args.target).is_none() {
            return directory(&args.target).map(Self::Directory);
        }
        let found = registry::find(&args.target, &args.registry, args.trust.offline, context)?;
        Ok(Self::Image(found.map(Box::new).map_err(|reason| reason.subject(&*args.target))))
    }
}

/// Judges an image as a release of one artifact.
fn examine_image(found: Found, further: Vec<Offered>, question: &Question<'_>) -> Report {
    let Found { artifact, reference, mut offered, documents, reasons } = found;
    offered.extend(further);
    let mut report = gate::image::judge(&gate::image::Image { artifact, offered, documents, reasons }, question);
    report.images = vec![reference];
    report
}

/// The other kind of target that this version gates. The others are told apart, so that nobody searches for a typo.
fn directory(target: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(target);
    if path.is_file() {
        let error = UsageError::new(
            format!("`{target}` is a file; a release is a directory"),
            format!("one file by itself: debvisor verify {target}"),
        );
        return Err(error.into());
    }
    let is_reference = target.contains('@') && target.contains('/');
    if is_reference && !path.exists() {
        let error = UsageError::new(
            format!("`{target}` is not a directory, and this version gates directories and images only"),
            "fetch the release's files into a directory and name that: debvisor gate DIR",
        );
        return Err(error.into());
    }
    Ok(path.to_owned())
}

/// Reads, hashes and judges everything below the directory.
fn examine(
    dir: &Path,
    further: Vec<Offered>,
    also: &[DigestAlgorithm],
    question: &Question<'_>,
    context: &Context,
) -> Report {
    let found = match files::list(dir) {
        Ok(found) => found,
        Err(reasons) => return Report::new(named(&reasons), reasons, context.now),
    };
    let roles = layout::roles(found.iter().map(|file| file.name.as_str()));
    let evidence = Evidence::read(roles, further, question, &|name, limit| files::read_below(dir, name, limit));
    let bar = progress::bytes(context, found.iter().map(|file| file.bytes));
    let hashed = parallel::each(&found, |file| hash(dir, file, &evidence, question, also, &bar));
    bar.finish_and_clear();
    let mut members = Vec::new();
    let mut unreadable = Vec::new();
    for result in hashed {
        match result {
            Ok(member) => members.push(member),
            Err(reason) => unreadable.push(reason),
        }
    }
    gate::judge(&evidence, &members, unreadable, question)
}

/// The files that a refusal to look any further names.
fn named(reasons: &[Reason]) -> Vec<SubjectReport> {
    let subject = |reason: &Reason| {
        Some(SubjectReport {
            name: reason.subject.clone()?,
            digest: Default::default(),
            decision: Decision::from_reasons([reason]),
            facts: serde_json::Value::Null,
        })
    };
    reasons.iter().filter_map(subject).collect()
}

/// Streams one file once, through everything that wants its bytes.
fn hash(
    dir: &Path,
    file: &FoundFile,
    evidence: &Evidence,
    question: &Question<'_>,
    also: &[DigestAlgorithm],
    bar: &ProgressBar,
) -> Result<Member, Reason> {
    let mut algorithms = evidence.algorithms(&file.name);
    algorithms.extend(also);
    let mut hasher = Hasher::new(&algorithms);
    let mut openpgp = evidence.openpgp_hasher(&file.name);
    let mut keep = evidence.keeps_bytes(&file.name, question).then(|| Keep::new(limits::WHOLE_ARTIFACT_BYTES));
    let mut seen = Seen(bar);
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut hasher, &mut seen];
    if let Some(openpgp) = &mut openpgp {
        sinks.push(openpgp);
    }
    if let Some(keep) = &mut keep {
        sinks.push(keep);
    }
    files::open(dir, &file.name).and_then(|open| artifact::stream(open, &mut sinks)).map_err(|error| {
        Reason::new(Code::SubjectUnreadable, format!("cannot read `{}`: {error}", file.name)).subject(&file.name)
    })?;
    let mut artifact = Artifact::new(&file.name, hasher.finish());
    artifact.bytes = keep.and_then(Keep::finish);
    Ok(Member { artifact, openpgp: openpgp.map(ArtifactHasher::finish) })
}
