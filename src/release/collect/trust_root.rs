//! The trust root of a run: what the user gave, else what is installed, else what is embedded; and the one writer of
//! what is installed. Files in, bytes with their origin and age out, or the reason why not.
//!
//! Invariant: a root that is there and cannot be read is never passed over for the next one in line, and every file
//! is replaced in one step: a reader finds the old one or the new one, whole.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_tuf::MetadataStore;

use crate::release::artifact::read_bounded;
use crate::release::evidence::json;
use crate::release::trust;
use crate::release::trust::bundle::{self, Item, SignedBundle, Signers, TrustBundle};
use crate::release::trust::tuf::Versions;
use crate::types::{Code, Digest, Reason, limits};

/// Where a trust root came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--trusted-root FILE`.
    Given(PathBuf),
    /// The installed trust bundle, by the root's name in it.
    Bundle(String),
    /// `debvisor trust update` wrote it.
    Updated(PathBuf),
    /// It came with the binary: the public-good instance.
    Embedded,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(path) | Self::Updated(path) => path.display().fmt(f),
            Self::Bundle(name) => write!(f, "the installed trust bundle, root `{name}`"),
            Self::Embedded => f.write_str("the embedded public-good root"),
        }
    }
}

/// The trust root of a run. Its bytes are not parsed yet.
#[derive(Debug, Clone)]
pub struct SelectedRoot {
    /// The `trusted_root.json`.
    pub json: Cow<'static, [u8]>,
    /// SHA-256 of it.
    pub digest: Digest,
    /// When it was made or fetched, where that is known.
    pub fetched_at: Option<Timestamp>,
    /// Whole days from then to the time of the run; below zero where its date lies in the future.
    pub age_days: Option<i64>,
    /// Where it came from.
    pub origin: Origin,
}

impl SelectedRoot {
    /// A root with its age at `now`.
    pub fn new(json: Cow<'static, [u8]>, fetched_at: Option<Timestamp>, origin: Origin, now: Timestamp) -> Self {
        const DAY_SECONDS: i64 = 86_400;
        let age_days = fetched_at.map(|at| now.duration_since(at).as_secs().div_euclid(DAY_SECONDS));
        Self { digest: Digest::sha256(&json), json, fetched_at, age_days, origin }
    }

    /// Refuses a root that is older than `max_days`, or whose age nobody can tell: a date in the future is no age.
    ///
    /// # Errors
    /// `trust-root-too-old`.
    pub fn check_age(&self, max_days: u32) -> Result<(), Reason> {
        let too_old = |message: String| Reason::new(Code::TrustRootTooOld, message).evidence(self.origin.to_string());
        match self.age_days {
            None => Err(too_old("nothing says how old the trust root is".to_owned())),
            Some(age) if age < 0 => Err(too_old(format!(
                "the trust root's date, {}, lies in the future: this machine's clock is wrong, or the date is",
                self.fetched_at.unwrap_or_default()
            ))),
            Some(age) if age > i64::from(max_days) => {
                Err(too_old(format!("the trust root is {age} days old, and at most {max_days} are allowed")))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Selects the trust root of a run, in this order: the given file; the installed bundle's first root; the updated
/// root; the embedded one. The first that is there counts, even where it turns out unreadable. A given `bundle:NAME`
/// is the installed bundle's root of that name.
///
/// Whoever has no `bundle` to give because [`installed_bundle`] refused it has no answer to give either.
///
/// # Errors
/// `trust-root-unreadable`.
pub fn select(
    config_dir: Option<&Path>,
    given: Option<&Path>,
    bundle: Option<&TrustBundle>,
    now: Timestamp,
) -> Result<SelectedRoot, Reason> {
    let of_bundle = |bundle: &TrustBundle, root: &Item| {
        let origin = Origin::Bundle(root.name.clone());
        SelectedRoot::new(Cow::Owned(root.content.clone()), Some(bundle.created_at()), origin, now)
    };
    if let Some(path) = given {
        let Some(name) = path.to_str().and_then(|text| text.strip_prefix("bundle:")) else {
            return read_file(path, Origin::Given(path.to_owned()), now);
        };
        let found = bundle.and_then(|bundle| Some((bundle, bundle.roots().iter().find(|root| root.name == name)?)));
        return found.map(|(bundle, root)| of_bundle(bundle, root)).ok_or_else(|| {
            Reason::new(Code::TrustRootUnreadable, format!("the installed trust bundle has no root `{name}`"))
        });
    }
    if let Some(bundle) = bundle
        && let Some(root) = bundle.roots().first()
    {
        return Ok(of_bundle(bundle, root));
    }
    if let Some(dir) = config_dir {
        let path = updated_path(dir);
        if path.symlink_metadata().is_ok() {
            return read_file(&path, Origin::Updated(path.clone()), now);
        }
    }
    let embedded = trust::embedded();
    Ok(SelectedRoot::new(Cow::Borrowed(embedded.json), Some(embedded.fetched_at), Origin::Embedded, now))
}

/// Where the installed trust bundle is kept, with the signers of the next one.
pub fn bundle_path(config_dir: &Path) -> PathBuf {
    config_dir.join("trust").join("bundle.json")
}

/// The installed trust bundle with its pinned signers, before it is verified; none where nothing is installed.
///
/// # Errors
/// `trust-bundle-invalid` where what is there cannot be read.
pub fn read_installed_bundle(config_dir: &Path) -> Result<Option<(Signers, SignedBundle)>, Reason> {
    let path = bundle_path(config_dir);
    // The kept form is a little longer than the bundle in it.
    let bytes = match read_bounded(&path, limits::TRUST_BUNDLE_BYTES.saturating_mul(2)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => return Ok(None),
        Err(error) => {
            return Err(Reason::new(Code::TrustBundleInvalid, format!("cannot read {}: {error}", path.display())));
        }
    };
    bundle::read_installed(&bytes).map(Some).map_err(|reason| reason.evidence(path.display().to_string()))
}

/// The installed trust bundle, verified for this run. Its revocations count whichever root is given.
///
/// # Errors
/// `trust-bundle-invalid`, also where it has expired: what it revokes is then not known.
pub fn installed_bundle(config_dir: Option<&Path>, now: Timestamp) -> Result<Option<TrustBundle>, Reason> {
    let Some(dir) = config_dir else { return Ok(None) };
    let Some((signers, signed)) = read_installed_bundle(dir)? else { return Ok(None) };
    signed
        .verify(&signers, None, now)
        .map(Some)
        .map_err(|reason| reason.evidence(bundle_path(dir).display().to_string()))
}

/// Where `debvisor trust update` writes when it is not told: below the user's configuration.
pub fn updated_path(config_dir: &Path) -> PathBuf {
    config_dir.join("trust").join("trusted_root.json")
}

/// The age of a file: by its record, where the record is about these very bytes; else the embedded root's, where it is
/// a copy of that; else by the file's modification time, which any copy renews and which therefore proves little.
fn read_file(path: &Path, origin: Origin, now: Timestamp) -> Result<SelectedRoot, Reason> {
    let json = read_bounded(path, limits::TRUST_ROOT_BYTES).map_err(|error| {
        Reason::new(Code::TrustRootUnreadable, format!("cannot read {}: {error}", path.display()))
            .evidence(path.display().to_string())
    })?;
    let embedded = trust::embedded();
    let fetched_at = match Record::beside(path) {
        Some(record) if record.digest == Digest::sha256(&json) => Some(record.updated_at),
        _ if json == embedded.json => Some(embedded.fetched_at),
        _ => fs::metadata(path).and_then(|found| found.modified()).ok().and_then(|time| time.try_into().ok()),
    };
    Ok(SelectedRoot::new(Cow::Owned(json), fetched_at, origin, now))
}

/// What is known of a root that `debvisor trust update` wrote; it stands beside the root, ending in `.origin.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// SHA-256 of the root that it is about.
    pub digest: Digest,
    /// When the repository last confirmed that this is the current root.
    pub updated_at: Timestamp,
    /// Until when the repository's own word for that holds.
    pub expires_at: Timestamp,
    /// The mirror that it came from.
    pub mirror: String,
    /// The versions of the metadata that vouched for it.
    pub versions: Versions,
}

impl Record {
    /// The record beside `path`, where there is a sound one.
    pub fn beside(path: &Path) -> Option<Self> {
        let bytes = read_bounded(&path.with_extension("origin.json"), limits::TUF_METADATA_BYTES).ok()?;
        json::parse(&bytes, Code::TrustRootUnreadable).ok()
    }

    /// Writes `json` to `path` and this record beside it.
    ///
    /// The record goes first: whoever stops between the two leaves the old root with a record about other bytes,
    /// which counts as none.
    ///
    /// # Errors
    /// Where a file cannot be written; the old root is then still there, whole.
    pub fn install(&self, path: &Path, json: &[u8]) -> io::Result<()> {
        let mut record = serde_json::to_vec_pretty(self)?;
        record.push(b'\n');
        replace(&path.with_extension("origin.json"), &record)?;
        replace(path, json)
    }
}

/// Replaces a file in one step, on disk before it returns.
///
/// # Errors
/// Where the directory cannot be made or written; what was there before is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir)?;
    // In the same directory, as a rename is one step only within a file system.
    let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(dir)?.sync_all()
}

/// Keeps TUF metadata in a directory of its own, so that the next update refuses anything older.
///
/// It is state and no cache: who empties a cache must not thereby make a rollback possible. So it stands beside the
/// root that it guards, and a read or write that fails is remembered, where `sigstore-tuf` would only log it.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Store {
    /// The store that guards the root at `path`: the directory beside it that ends in `.tuf`.
    pub fn beside(path: &Path) -> Self {
        Self { dir: path.with_extension("tuf"), failure: Arc::default() }
    }

    /// The first read or write that failed, if any did: the guard is then not to be relied on.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn failed(&self, act: &str, path: &Path, error: io::Error) -> sigstore_tuf::Error {
        let again = io::Error::new(error.kind(), format!("{act} {}: {error}", path.display()));
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(again);
        sigstore_tuf::Error::io(format!("{act} {}", path.display()), error)
    }

    fn path(&self, name: &str) -> sigstore_tuf::Result<PathBuf> {
        let plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if plain {
            Ok(self.dir.join(name))
        } else {
            Err(sigstore_tuf::Error::Malformed(format!("`{name}` leads out of the store")))
        }
    }
}

impl MetadataStore for Store {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        match read_bounded(&path, limits::TUF_METADATA_BYTES.max(limits::TRUST_ROOT_BYTES)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("reading", &path, error)),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        let path = self.path(name)?;
        replace(&path, bytes).map_err(|error| self.failed("writing", &path, error))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use jiff::SignedDuration;

    use super::*;
    use crate::release::evidence::key::PublicKey;
    use crate::release::trust::bundle::{Contents, SCHEMA};

    #[test]
    fn an_installed_bundle_that_expired_is_no_bundle_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.json");
        fs::write(&root, trust::embedded().json).unwrap();
        let created_at = Timestamp::from_second(1_790_000_000).unwrap();
        let expires_at = created_at + SignedDuration::from_hours(24);

        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let mut bundle = SignedBundle::new(Contents {
            schema: SCHEMA,
            version: 1,
            created_at,
            expires_at,
            signers: None,
            roots: Vec::new(),
            policies: Vec::new(),
            keys: Vec::new(),
            openpgp_keyrings: Vec::new(),
            revocations: Vec::new(),
        })
        .unwrap();
        bundle.add_signature(&key, pair.sign(&bundle.message()).as_ref().to_vec()).unwrap();
        let bundle = bundle.verify(&Signers::new(1, vec![key]).unwrap(), None, created_at).unwrap();
        replace(&bundle_path(dir.path()), &bundle.to_installed().unwrap()).unwrap();

        let last = expires_at - SignedDuration::from_nanos(1);
        let installed = installed_bundle(Some(dir.path()), last).unwrap();
        // Without a root of its own it leaves the choice of the root as it is.
        let select = |given| select(Some(dir.path()), given, installed.as_ref(), last).unwrap().origin;
        assert_eq!(select(None), Origin::Embedded);
        assert_eq!(select(Some(&root)), Origin::Given(root.clone()));
        let reason = installed_bundle(Some(dir.path()), expires_at).unwrap_err();
        assert_eq!(reason.code.known(), Some(Code::TrustBundleInvalid));
        assert!(reason.message.contains("expired"), "{}", reason.message);
    }

    #[test]
    fn a_store_does_not_write_outside_its_directory_and_remembers_what_failed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::beside(&dir.path().join("root.json"));
        for name in ["../root.json", "/root.json", "", "a/../../b"] {
            assert!(store.store(name, b"x").is_err() && store.load(name).is_err(), "{name}");
        }
        store.store("root_history/2.root.json", b"x").unwrap();
        assert_eq!(store.load("root_history/2.root.json").unwrap().unwrap(), b"x");
        assert_eq!(store.load("timestamp.json").unwrap(), None);
        assert!(store.take_failure().is_none());
        // A directory where a file should be can be neither read nor replaced.
        fs::create_dir_all(dir.path().join("root.tuf/timestamp.json")).unwrap();
        assert!(store.load("timestamp.json").is_err() && store.store("timestamp.json", b"x").is_err());
        assert!(store.take_failure().is_some());
    }
}
