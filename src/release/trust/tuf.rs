//! An update by TUF: a repository, a bootstrap root and what was verified before come in; a verified target goes out.
//!
//! The client workflow is the specification's section 5.3 to 5.7, driven by `sigstore-tuf`: the chain of roots, each
//! signed to the threshold of the one before and of itself; then timestamp, snapshot, targets and delegations, each
//! under its threshold, its pins, its expiry, and never an older version than one that was verified before. What is
//! stricter here than in the specification stands in [`Watched`] and [`distinct_keys`].
//! Invariant: no file, no socket and no clock of its own. Callers bring the repository, the store and `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, Metadata, MetadataStore, Repository, Root, Targets, TrustedMetadataSet, Updater};

use crate::release::evidence::json;
use crate::types::{Code, Reason, limits};

/// The target that a Sigstore repository publishes its trust root under.
pub const TRUSTED_ROOT: &str = "trusted_root.json";

/// A verified target, with the versions of the metadata that vouch for it.
#[derive(Debug, Clone)]
pub struct Update {
    /// The target's bytes: their length and digest are the ones that the targets role signed.
    pub target: Vec<u8>,
    /// The versions that were verified.
    pub versions: Versions,
    /// When the repository's timestamp expires: from then on its word is stale.
    pub expires_at: Timestamp,
}

/// The versions of the four top-level roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Of the root role.
    pub root: u64,
    /// Of the timestamp role.
    pub timestamp: u64,
    /// Of the snapshot role.
    pub snapshot: u64,
    /// Of the targets role.
    pub targets: u64,
}

/// Reads a root that somebody means to start from: well formed, and signed to its own threshold.
///
/// # Errors
/// `tuf-rejected` for any other bytes.
pub fn check_bootstrap(bytes: &[u8]) -> Result<u64, Reason> {
    if bytes.len() as u64 > limits::TUF_METADATA_BYTES {
        return Err(rejected(format!("the bootstrap root is larger than {} bytes", limits::TUF_METADATA_BYTES)));
    }
    json::check(bytes).map_err(|reason| rejected(format!("the bootstrap root: {}", reason.message)))?;
    distinct_keys("root.json", bytes)?;
    let trusted = TrustedMetadataSet::from_root(bytes)
        .map_err(|error| rejected(format!("the bootstrap root: {}", say(&error))))?;
    Ok(trusted.root().version)
}

/// Brings `target` up to date.
///
/// `store` keeps what was verified, for the next run to refuse anything older; it is read as outside bytes. It is
/// written as verification goes on, so that a mirror cannot make a client forget a version by failing later.
///
/// # Errors
/// `tuf-rejected` where the repository's own word is forged, expired, rolled back, inconsistent or past a bound;
/// `tuf-unreachable` where it could not be had.
pub async fn update(
    repository: impl Repository + 'static,
    bootstrap: &[u8],
    store: impl MetadataStore + 'static,
    target: &str,
    now: Timestamp,
) -> Result<Update, Reason> {
    check_bootstrap(bootstrap)?;
    let watch = Arc::new(Mutex::new(Watch::default()));
    let watched = Watched { repository, watch: Arc::clone(&watch) };
    let judge = |error: Error| watch.lock().unwrap_or_else(PoisonError::into_inner).judge(&error);

    let mut updater = Updater::new(watched, bootstrap).map_err(judge)?.with_config(config()).with_store(store);
    updater.refresh(now).await.map_err(judge)?;
    let target = updater.get_target(target, now).await.map_err(judge)?;

    let trusted = updater.trusted();
    let (Some(timestamp), Some(snapshot), Some(targets)) =
        (trusted.timestamp(), trusted.snapshot(), trusted.targets_role("targets"))
    else {
        return Err(rejected("the refresh ended without all four roles"));
    };
    let versions = Versions {
        root: trusted.root().version,
        timestamp: timestamp.version,
        snapshot: snapshot.version,
        targets: targets.version,
    };
    Ok(Update { target, versions, expires_at: timestamp.expires })
}

fn config() -> sigstore_tuf::UpdaterConfig {
    let mut config = sigstore_tuf::UpdaterConfig::default();
    config.root_max_length = limits::TUF_METADATA_BYTES;
    config.timestamp_max_length = limits::TUF_TIMESTAMP_BYTES;
    config.snapshot_max_length = limits::TUF_METADATA_BYTES;
    config.targets_max_length = limits::TUF_METADATA_BYTES;
    config.target_max_length = limits::TRUST_ROOT_BYTES;
    config.max_root_rotations = limits::TUF_ROOT_ROTATIONS;
    config.max_delegations = limits::TUF_DELEGATIONS;
    config
}

/// A repository whose every answer is looked at before the verifier sees it: its length, that two JSON parsers
/// would read the same document, and that no role counts one key twice.
struct Watched<R> {
    repository: R,
    watch: Arc<Mutex<Watch>>,
}

/// What went by, for telling a "no" of the repository from its absence.
#[derive(Default)]
struct Watch {
    /// The first answer that was refused for itself.
    refused: Option<Reason>,
    /// The last file that the repository did not have.
    missing: Option<String>,
}

impl Watch {
    fn judge(&mut self, error: &Error) -> Reason {
        if let Some(reason) = self.refused.take() {
            return reason;
        }
        match error {
            Error::Transport { source: None, .. } if self.missing.is_none() => rejected(say(error)),
            Error::Transport { .. } | Error::Io { .. } => Reason::new(Code::TufUnreachable, say(error)),
            _ => rejected(say(error)),
        }
    }
}

impl<R: Repository> Watched<R> {
    /// Metadata chooses names of roles and hashes of targets, and so could lead a reader elsewhere.
    fn look_at_name(&self, name: &str) -> sigstore_tuf::Result<()> {
        let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\\', '?', '#', '\0']);
        if !name.split('/').any(odd) {
            return Ok(());
        }
        let reason = rejected(format!("the metadata names the file `{name}`, which leads out of the repository"));
        let error = Error::Malformed(reason.message.clone());
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).refused.get_or_insert(reason);
        Err(error)
    }

    fn look(
        &self,
        name: &str,
        max_length: u64,
        answer: sigstore_tuf::Result<Option<Vec<u8>>>,
        metadata: bool,
    ) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match answer {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                watch.missing = Some(name.to_owned());
                return Ok(None);
            }
            Err(error) => {
                watch.missing = Some(name.to_owned());
                return Err(error);
            }
        };
        let sound = if bytes.len() as u64 > max_length {
            Err(rejected(format!("{name} is larger than the {max_length} bytes that it may have")))
        } else if metadata {
            json::check(&bytes)
                .map_err(|reason| rejected(format!("{name}: {}", reason.message)))
                .and_then(|()| distinct_keys(name, &bytes))
        } else {
            Ok(())
        };
        sound.map_err(|reason| {
            let error = Error::Malformed(reason.message.clone());
            watch.refused.get_or_insert(reason.evidence(name));
            error
        })?;
        Ok(Some(bytes))
    }
}

impl<R: Repository> Repository for Watched<R> {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            self.look_at_name(name)?;
            let answer = self.repository.fetch_metadata(name, max_length).await;
            self.look(name, max_length, answer, true)
        })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            self.look_at_name(path)?;
            let answer = self.repository.fetch_target(path, max_length).await;
            self.look(path, max_length, answer, false)
        })
    }
}

/// Refuses a role that lists one public key under two ids: whoever holds it would count twice towards a threshold.
/// Bytes that are no root and no targets have no such lists, and whether they parse is the verifier's to say.
fn distinct_keys(name: &str, bytes: &[u8]) -> Result<(), Reason> {
    type Keys = BTreeMap<String, sigstore_tuf::Key>;
    let check = |keys: &Keys, role: &str, ids: &[String]| {
        let mut seen = BTreeSet::new();
        let mut keys = ids.iter().collect::<BTreeSet<_>>().into_iter().filter_map(|id| keys.get(id));
        match keys.find(|key| !seen.insert(key.keyval.public.trim())) {
            None => Ok(()),
            Some(_) => Err(rejected(format!("{name}: the role {role} lists one key under two ids"))),
        }
    };
    if let Ok(root) = Metadata::<Root>::from_slice(bytes) {
        let root = root.signed();
        return root.roles.iter().try_for_each(|(role, keys)| check(&root.keys, role, &keys.keyids));
    }
    if let Ok(targets) = Metadata::<Targets>::from_slice(bytes)
        && let Some(delegations) = &targets.signed().delegations
    {
        return delegations.roles.iter().try_for_each(|role| check(&delegations.keys, &role.name, &role.keyids));
    }
    Ok(())
}

fn rejected(message: impl Into<String>) -> Reason {
    Reason::new(Code::TufRejected, message)
}

/// The error with its causes, each said once.
fn say(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_embedded_root_bootstraps() {
        assert_eq!(check_bootstrap(super::super::embedded_tuf_root()).unwrap(), 16);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_bootstrap(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(check_bootstrap(&bytes).unwrap_err().code.known(), Some(Code::TufRejected));
        }

        #[test]
        fn a_damaged_root_is_rejected_or_says_the_same(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let honest = super::super::embedded_tuf_root();
            let mut damaged = honest.to_vec();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            // White space, a surplus signature and letter case in hex may change; what is signed may not.
            if check_bootstrap(&damaged).is_ok() {
                let signed = |bytes| Metadata::<Root>::from_slice(bytes).unwrap().signed_canonical().to_vec();
                prop_assert_eq!(signed(&damaged), signed(honest));
            }
        }
    }
}
