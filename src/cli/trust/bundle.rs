//! `debvisor trust bundle`: makes, signs, verifies and installs offline trust bundles.
//! The installed bundle is replaced in one step, and only by one that its own signers vouch for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

use super::super::key::{read_private, read_public};
use super::super::policy::load::read_path as policy_files;
use super::{Context, Ended, Format, UsageError, end};
use crate::release::artifact::read_bounded;
use crate::release::collect::files::read_evidence;
use crate::release::collect::trust_root;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::trust::bundle::{Contents, Item, Policy, SCHEMA, SignedBundle, Signers, SignersWire, TrustBundle};
use crate::release::trust::revocation::{Revocation, Revoked};
use crate::types::{Digest, Reason, limits};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a bundle, not yet signed
    ///
    /// Items may be given a name, as NAME=FILE; without one a file's name without its ending is used.
    Create(Box<Create>),
    /// Add a signature to a bundle; the order of the signers does not matter
    Sign {
        /// The bundle
        file: PathBuf,
        /// The signer's private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Verify a bundle against given signers, or against those of the installed bundle
    Verify {
        /// The bundle
        file: PathBuf,
        #[command(flatten)]
        signers: SignerArgs,
        /// A bundle of a lower version is refused
        #[arg(long, value_name = "N")]
        min_version: Option<u64>,
    },
    /// Verify a bundle and put it in place: its roots, policies, keys and revocations then count in every run
    ///
    /// The first one needs --signer, which pins its signers; from then on a bundle is taken from them alone, or from
    /// those that they named as their successors.
    Install {
        /// The bundle
        file: PathBuf,
        #[command(flatten)]
        signers: SignerArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Create {
    /// Where the bundle goes; no file is overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A trusted_root.json; the first one is the default
    #[arg(long, value_name = "[NAME=]FILE")]
    root: Vec<String>,
    /// A Rego file, or a directory of policy and data files; `--policy bundle:NAME` then uses it
    #[arg(long, value_name = "[NAME=]PATH")]
    policy: Vec<String>,
    /// A managed public key in PEM
    #[arg(long, value_name = "[NAME=]FILE")]
    key: Vec<String>,
    /// An OpenPGP keyring
    #[arg(long, value_name = "[NAME=]FILE")]
    openpgp_keyring: Vec<String>,
    /// What nobody may rely on any more: sha256:… or sha512:…, key:FILE or key:sha256:…, identity:…, openpgp:FINGERPRINT
    #[arg(long, value_name = "WHAT")]
    revoke: Vec<String>,
    /// Why, for people; said of every --revoke of this run
    #[arg(long, value_name = "TEXT", requires = "revoke")]
    revoke_reason: Option<String>,
    /// A public key that signs the next bundle, where the signers change; these sign this one too
    #[arg(long, value_name = "PUB", requires = "threshold")]
    signer: Vec<PathBuf>,
    /// How many of --signer must sign the next bundle
    #[arg(long, value_name = "N", requires = "signer")]
    threshold: Option<usize>,
    /// The bundle's version; a lower one is never installed over a higher one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: u64,
    /// For how long it holds: hours or days, as 12h or 90d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: SignedDuration,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SignerArgs {
    /// A public key that may have signed
    #[arg(long, value_name = "PUB")]
    signer: Vec<PathBuf>,
    /// How many of them must have signed [default: all]
    #[arg(long, value_name = "N", requires = "signer")]
    threshold: Option<usize>,
}

pub(super) fn run(command: Command, context: &Context) -> anyhow::Result<Ended> {
    match command {
        Command::Create(args) => create(&args, context),
        Command::Sign { file, key } => sign(&file, &key, context),
        Command::Verify { file, signers, min_version } => verify(&file, &signers, min_version, context),
        Command::Install { file, signers } => install(&file, &signers, context),
    }
}

fn create(args: &Create, context: &Context) -> anyhow::Result<Ended> {
    // The same inputs give the same bundle where the caller says which time it is (reproducible-builds.org).
    let now = match context.environment.source_date_epoch {
        Some(seconds) => Timestamp::from_second(seconds).context("SOURCE_DATE_EPOCH is out of range")?,
        None => context.now,
    };
    let created_at = Timestamp::from_second(now.as_second())?;
    let expires_at = created_at
        .checked_add(args.expires)
        .map_err(|_| UsageError::new("--expires is too far away", "give a number of days, as 90d"))?;
    let contents = Contents {
        schema: SCHEMA,
        version: args.version,
        created_at,
        expires_at,
        signers: successors(args)?,
        roots: items(&args.root, limits::TRUST_ROOT_BYTES)?,
        policies: args.policy.iter().map(|text| policy(text)).collect::<anyhow::Result<_>>()?,
        keys: items(&args.key, limits::KEY_BYTES)?,
        openpgp_keyrings: items(&args.openpgp_keyring, limits::OPENPGP_KEYRING_BYTES)?,
        revocations: args
            .revoke
            .iter()
            .map(|text| Ok(Revocation { what: revoked(text)?, reason: args.revoke_reason.clone() }))
            .collect::<anyhow::Result<_>>()?,
    };
    let bundle = SignedBundle::new(contents).map_err(|reason| usage(&reason))?;
    let bytes = bundle.to_json().map_err(|reason| usage(&reason))?;
    if bytes.len() as u64 > limits::TRUST_BUNDLE_BYTES {
        let message =
            format!("the bundle has {} bytes, and at most {} are read", bytes.len(), limits::TRUST_BUNDLE_BYTES);
        return Err(UsageError::new(message, "leave something out").into());
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(&args.out) {
        Ok(mut file) => file.write_all(&bytes).with_context(|| format!("cannot write {}", args.out.display()))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message = format!("{} is there already", args.out.display());
            return Err(UsageError::new(message, "choose another --out, or remove the old bundle").into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", args.out.display())),
    }
    say(&args.out, &bundle, context)
}

fn sign(file: &Path, key: &Path, context: &Context) -> anyhow::Result<Ended> {
    let mut bundle = match read(file) {
        Ok(bundle) => bundle,
        Err(reason) => return end(&refusal(file, vec![reason], context.now), context),
    };
    let key = read_private(key, context)?;
    let signature = key.sign(&bundle.message()).context("cannot sign the bundle")?;
    bundle.add_signature(key.public(), signature).map_err(|reason| usage(&reason))?;
    let bytes = bundle.to_json().map_err(|reason| usage(&reason))?;
    trust_root::replace(file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    say(file, &bundle, context)
}

fn verify(file: &Path, args: &SignerArgs, min_version: Option<u64>, context: &Context) -> anyhow::Result<Ended> {
    let signers = match (given_signers(args)?, &context.environment.config_dir) {
        (Some(signers), _) => signers,
        (None, Some(dir)) => match trust_root::read_installed_bundle(dir) {
            Ok(Some((signers, _))) => signers,
            Ok(None) => return Err(no_signers().into()),
            Err(reason) => return end(&refusal(file, vec![reason], context.now), context),
        },
        (None, None) => return Err(no_signers().into()),
    };
    let found = read(file).and_then(|bundle| bundle.verify(&signers, min_version, context.now));
    let report = match found {
        Ok(bundle) => accepted(file, &bundle, None, context.now),
        Err(reason) => refusal(file, vec![reason.evidence(file.display().to_string())], context.now),
    };
    end(&report, context)
}

fn install(file: &Path, args: &SignerArgs, context: &Context) -> anyhow::Result<Ended> {
    let config_dir = context.environment.config_dir.as_deref().ok_or_else(|| {
        UsageError::new("there is no place to keep the bundle: HOME is not set", "set HOME or XDG_CONFIG_HOME")
    })?;
    let given = given_signers(args)?;
    let found = match trust_root::read_installed_bundle(config_dir) {
        Err(reason) => Err(reason),
        Ok(None) => {
            let signers = given.ok_or_else(no_signers)?;
            read(file).and_then(|bundle| bundle.verify(&signers, None, context.now)).map(|bundle| (bundle, true))
        }
        Ok(Some((pinned, before))) => {
            if given.is_some_and(|given| given != pinned) {
                return Err(UsageError::new(
                    "other signers are pinned already",
                    "leave --signer out; signers change by a bundle that the old ones signed and that names the new ones",
                )
                .into());
            }
            read(file).and_then(|bundle| succeed(bundle, &before, &pinned, context.now))
        }
    };
    let report = match found {
        Ok((bundle, changed)) => {
            let bytes = bundle.to_installed().map_err(|reason| usage(&reason))?;
            let path = trust_root::bundle_path(config_dir);
            trust_root::replace(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            accepted(file, &bundle, Some(changed), context.now)
        }
        Err(reason) => refusal(file, vec![reason.evidence(file.display().to_string())], context.now),
    };
    end(&report, context)
}

/// The next bundle after `before`: by the pinned signers, of a higher version or the very same.
fn succeed(
    bundle: SignedBundle,
    before: &SignedBundle,
    pinned: &Signers,
    now: Timestamp,
) -> Result<(TrustBundle, bool), Reason> {
    let before = before.contents();
    let same = bundle.contents() == before;
    // Two bundles of one version are two stories about it; only one of them can have been the signers' intent.
    let floor = if same { before.version } else { before.version.saturating_add(1) };
    bundle.verify(pinned, Some(floor), now).map(|bundle| (bundle, !same))
}

fn read(file: &Path) -> Result<SignedBundle, Reason> {
    let bytes = read_evidence(file, limits::TRUST_BUNDLE_BYTES)?;
    SignedBundle::parse(&bytes).map_err(|reason| reason.evidence(file.display().to_string()))
}

fn given_signers(args: &SignerArgs) -> anyhow::Result<Option<Signers>> {
    if args.signer.is_empty() {
        return Ok(None);
    }
    let keys = args.signer.iter().map(|path| read_public(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let threshold = args.threshold.unwrap_or(keys.len());
    Signers::new(threshold, keys).map(Some).map_err(|reason| usage(&reason))
}

fn no_signers() -> UsageError {
    UsageError::new(
        "no bundle is installed, so nobody is known to sign one",
        "give --signer for each public key that may have signed, and --threshold",
    )
}

fn successors(args: &Create) -> anyhow::Result<Option<SignersWire>> {
    let Some(threshold) = args.threshold else { return Ok(None) };
    let keys = args.signer.iter().map(|path| Ok(read_public(path)?.to_pem())).collect::<anyhow::Result<_>>()?;
    Ok(Some(SignersWire { threshold, keys }))
}

fn items(texts: &[String], limit: u64) -> anyhow::Result<Vec<Item>> {
    texts
        .iter()
        .map(|text| {
            let (name, path) = named(text)?;
            item(name, &path, limit)
        })
        .collect()
}

fn item(name: String, path: &Path, limit: u64) -> anyhow::Result<Item> {
    let content = read_bounded(path, limit)
        .map_err(|error| UsageError::new(format!("cannot read {}: {error}", path.display()), "check the path"))?;
    Ok(Item { name, content })
}

/// A policy set: one file, or the policy and data files of a directory. Tests stay behind.
fn policy(text: &str) -> anyhow::Result<Policy> {
    let (name, path) = named(text)?;
    let mut files = policy_files(&path).map_err(|reason| usage(&reason))?;
    files.retain(|(name, _)| !name.ends_with("_test.rego"));
    files.sort();
    Ok(Policy { name, files: files.into_iter().map(|(name, text)| Item { name, content: text.into() }).collect() })
}

/// `NAME=PATH`, or a path whose file's name without its last ending is the name.
fn named(text: &str) -> anyhow::Result<(String, PathBuf)> {
    if let Some((name, path)) = text.split_once('=')
        && !name.contains('/')
    {
        return Ok((name.to_owned(), PathBuf::from(path)));
    }
    let path = PathBuf::from(text);
    let name = path.file_stem().and_then(OsStr::to_str).map(str::to_owned);
    let name = name.ok_or_else(|| UsageError::new(format!("`{text}` gives no name"), "give it as NAME=FILE"))?;
    Ok((name, path))
}

fn revoked(text: &str) -> anyhow::Result<Revoked> {
    if let Some(value) = text.strip_prefix("key:")
        && value.parse::<Digest>().is_err()
    {
        return Ok(Revoked::Key(read_public(Path::new(value))?.fingerprint()));
    }
    text.parse().map_err(|error: crate::release::trust::revocation::RevokedError| {
        UsageError::new(error.to_string(), "give one --revoke for each").into()
    })
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let refused = || format!("`{text}` is no duration: give hours or days, as 12h or 90d");
    let (count, hours) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(count), _) => (count, 24),
        (_, Some(count)) => (count, 1),
        _ => return Err(refused()),
    };
    let count: i64 = count.parse().ok().filter(|count| (1..=876_000).contains(count)).ok_or_else(refused)?;
    Ok(SignedDuration::from_hours(count * hours))
}

/// A mistake in what the user gave to make a bundle of.
fn usage(reason: &Reason) -> anyhow::Error {
    let place = reason.location.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
    UsageError { message: format!("{}{place}", reason.message), hint: None }.into()
}

fn say(file: &Path, bundle: &SignedBundle, context: &Context) -> anyhow::Result<Ended> {
    let contents = bundle.contents();
    let signers: Vec<&str> = bundle.claimed_signers().collect();
    let mut out = anstream::stdout().lock();
    if context.format == Format::Text {
        writeln!(out, "bundle      {}", file.display())?;
        writeln!(out, "version     {}", contents.version)?;
        writeln!(out, "expires at  {}", contents.expires_at)?;
        writeln!(out, "signatures  {}", signers.len())?;
    } else {
        let value = serde_json::json!({
            "bundle": file,
            "version": contents.version,
            "expires_at": contents.expires_at,
            "signers": signers,
        });
        serde_json::to_writer_pretty(&mut out, &value)?;
        writeln!(out)?;
    }
    Ok(Ended::Done)
}

fn accepted(file: &Path, bundle: &TrustBundle, changed: Option<bool>, now: Timestamp) -> Report {
    let names = |items: &[Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    let digest = bundle.digest();
    let mut facts = serde_json::json!({
        "version": bundle.version(),
        "created_at": bundle.created_at(),
        "expires_at": bundle.expires_at(),
        "threshold": bundle.signers().threshold(),
        "signers": bundle.signers().keys().iter().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>(),
        "roots": names(bundle.roots()),
        "policies": bundle.policies().iter().map(|policy| policy.name.clone()).collect::<Vec<_>>(),
        "keys": bundle.keys().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        "openpgp_keyrings": names(bundle.openpgp_keyrings()),
        "revocations": bundle.revocations().len(),
    });
    if let (Some(changed), Some(facts)) = (changed, facts.as_object_mut()) {
        facts.insert("changed".to_owned(), changed.into());
    }
    let subject = SubjectReport {
        name: file.display().to_string(),
        digest: BTreeMap::from([(digest.algorithm().to_string(), digest.to_hex())]),
        decision: Decision::Allow,
        facts,
    };
    Report::new(vec![subject], Vec::new(), now)
}

fn refusal(file: &Path, reasons: Vec<Reason>, now: Timestamp) -> Report {
    let subject = SubjectReport {
        name: file.display().to_string(),
        digest: BTreeMap::new(),
        decision: Decision::from_reasons(&reasons),
        facts: serde_json::Value::Null,
    };
    Report::new(vec![subject], reasons, now)
}
