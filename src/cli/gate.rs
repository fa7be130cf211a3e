//! `debvisor gate DIR`: a whole release in one run. A directory in, one report out that names every refused file.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use rayon::prelude::*;

use super::expect::{OpenpgpArgs, ProvenanceArgs, SignerArgs, TrustArgs};
use super::{Context, Ended, UsageError, expect, progress, report};
use crate::release::artifact::{self, Artifact, Hasher, Sink};
use crate::release::collect::files::{self, FoundFile};
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::openpgp::ArtifactHasher;
use crate::release::gate::{self, Evidence, Member, Question, layout};
use crate::release::policy::PolicySet;
use crate::release::policy::input::{InputSubject, PolicyInput};
use crate::release::verify::Facts;
use crate::types::{Code, Reason};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The release's directory (docs/reference/release-layout.md)
    #[arg(value_name = "DIR")]
    target: String,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    provenance: ProvenanceArgs,
    #[command(flatten)]
    openpgp: OpenpgpArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// The policy: release, the name of another built-in one, or a Rego file or directory
    #[arg(long, value_name = "NAME|FILE", default_value = "release")]
    policy: String,
    /// What every artifact must have besides a line in a signed list; repeatable
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    require: Vec<Requirement>,
}

/// What a release may be asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Requirement {
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
    const fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Sbom => "sbom",
            Self::Provenance => "provenance",
            Self::Vex => "vex",
        }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let dir = directory(&args.target)?;
    let openpgp = args.openpgp.expectations(context.now)?;
    let policy = policy(&args.policy)?;
    let mut expected = expect::policy_input(&args.signer, &args.provenance, &args.openpgp);
    expected.require = args.require.iter().map(|kind| kind.name().to_owned()).collect();
    let says = |artifact: &Artifact, facts: &Facts| {
        let input = PolicyInput {
            subject: InputSubject { name: artifact.name.clone(), digest: artifact.digest_set() },
            expected: expected.clone(),
            facts: facts.to_json(),
            trust_root: None,
            now: context.now,
        };
        let verdicts = policy.evaluate(&input.to_json());
        (verdicts.denials, verdicts.warnings)
    };
    let keyring = match args.openpgp.keyring() {
        Ok(keyring) => keyring,
        Err(reason) => return decided(Report::new(Vec::new(), vec![reason], context.now), &policy, context),
    };
    let question =
        Question { openpgp: keyring.as_ref().map(|keyring| (keyring, &openpgp)), policy: &says, now: context.now };
    decided(examine(&dir, &question, context), &policy, context)
}

fn policy(name: &str) -> anyhow::Result<PolicySet> {
    PolicySet::builtin(name).ok_or_else(|| {
        UsageError::new(format!("there is no policy `{name}`"), "debvisor policy list prints the built-in ones").into()
    })
}

fn decided(mut report: Report, policy: &PolicySet, context: &Context) -> anyhow::Result<Ended> {
    report.policy = Some(policy.reference());
    report::print(&report, context)?;
    Ok(Ended::Decided(report.decision))
}

/// The one kind of target that this version gates. The others are told apart, so that nobody searches for a typo.
fn directory(target: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(target);
    if path.is_file() {
        let error = UsageError::new(
            format!("`{target}` is a file; a release is a directory"),
            format!("one file by itself: debvisor verify {target}"),
        );
        return Err(error.into());
    }
    let is_reference = target.starts_with("oci://") || (target.contains('@') && target.contains('/'));
    if is_reference && !path.exists() {
        let error = UsageError::new(
            format!("`{target}` is not a directory, and this version gates directories only"),
            "fetch the release's files into a directory and name that: debvisor gate DIR",
        );
        return Err(error.into());
    }
    Ok(path.to_owned())
}

/// Reads, hashes and judges everything below the directory.
fn examine(dir: &Path, question: &Question<'_>, context: &Context) -> Report {
    let found = match files::list(dir) {
        Ok(found) => found,
        Err(reasons) => return Report::new(named(&reasons), reasons, context.now),
    };
    let roles = layout::roles(found.iter().map(|file| file.name.as_str()));
    let evidence = Evidence::read(roles, question, &|name, limit| files::read_below(dir, name, limit));
    let bar = progress::bytes(context, found.iter().map(|file| file.bytes).sum());
    let hashed: Vec<_> = found.par_iter().map(|file| hash(dir, file, &evidence, &bar)).collect();
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
fn hash(dir: &Path, file: &FoundFile, evidence: &Evidence, bar: &ProgressBar) -> Result<Member, Reason> {
    let mut hasher = Hasher::new(&evidence.algorithms(&file.name));
    let mut openpgp = evidence.openpgp_hasher(&file.name);
    let mut seen = progress::Seen(bar);
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut hasher, &mut seen];
    if let Some(openpgp) = &mut openpgp {
        sinks.push(openpgp);
    }
    files::open(dir, &file.name).and_then(|open| artifact::stream(open, &mut sinks)).map_err(|error| {
        Reason::new(Code::SubjectUnreadable, format!("cannot read `{}`: {error}", file.name)).subject(&file.name)
    })?;
    Ok(Member { artifact: Artifact::new(&file.name, hasher.finish()), openpgp: openpgp.map(ArtifactHasher::finish) })
}
