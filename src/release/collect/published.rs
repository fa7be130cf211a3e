//! Published releases: what GitHub lists and serves in, files in a folder of ours out, so that a gate can look at them.
//!
//! Each file is streamed to disk, resumed where it was cut off, and kept: a run that was killed fetches nothing again
//! that it had. What could not be fetched is told by name and is never taken for absent.
//! Invariant: a name that GitHub gives never leaves the release's folder; nothing is held in memory but one piece.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::github::{Asset, Github, GithubError, Release, Repository};
use crate::types::{Code, Digest, Reason, limits};

/// How a release is fetched.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Below which folder everything is kept.
    pub cache: PathBuf,
    /// A file that was fetched longer ago is fetched again, also where GitHub says that it is the same.
    pub refetch_after: SignedDuration,
    /// Whether GitHub is asked for attestations of the files.
    pub attestations: bool,
    /// The time of the run.
    pub now: Timestamp,
    /// How long until a broken download is resumed; doubled each time.
    pub pause: Duration,
}

/// A release as it lies on disk.
#[derive(Debug)]
pub struct Fetched {
    /// The folder with its files, and nothing else.
    pub dir: PathBuf,
    /// The release's files as GitHub lists them.
    pub assets: Vec<Asset>,
    /// The commit that the tag points to.
    pub commit: Option<String>,
    /// Bundles that GitHub keeps about the files, each with the name that reports use.
    pub bundles: Vec<(String, Value)>,
    /// Whether all of them are here.
    pub attestations_known: bool,
    /// The files that are listed and could not be fetched.
    pub unread: BTreeSet<String>,
    /// Why something is not here.
    pub reasons: Vec<Reason>,
}

/// What is known of a file that was fetched whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    asset: u64,
    bytes: u64,
    updated_at: String,
    fetched_at: Timestamp,
}

/// What lies in a release's folder, by name.
type State = BTreeMap<String, Kept>;

/// How often a download is resumed before it is given up for this run.
const RESUMES: u32 = 5;
/// What an outage is called in reasons.
fn reason_of(error: &GithubError, what: &str) -> Reason {
    let code = match error {
        GithubError::RateLimited { .. } => Code::RateLimited,
        _ => Code::EvidenceUnreadable,
    };
    Reason::new(code, format!("cannot fetch {what}: {error}")).evidence(what)
}

/// The tags of a repository's published releases, the newest first.
///
/// # Errors
/// `evidence-unreadable` or `rate-limited`.
pub async fn tags(github: &Github, repository: &Repository, most: usize) -> Result<Vec<String>, Reason> {
    let releases = github.release_list(repository, most).await;
    let releases = releases.map_err(|error| reason_of(&error, &repository.to_string()))?;
    Ok(releases.into_iter().map(|release| release.tag_name).collect())
}

/// Fetches one release. `seen` is told of every piece of a file, in bytes.
///
/// # Errors
/// `release-gone` where there is none of this tag; `evidence-unreadable` or `rate-limited` where nobody knows.
pub async fn fetch(
    github: &Github,
    repository: &Repository,
    tag: &str,
    plan: &Plan,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Fetched, Reason> {
    let target = format!("{repository}@{tag}");
    let release: Release = match github.release_by_tag(repository, tag).await {
        Ok(release) => release,
        Err(GithubError::NotFound { .. }) => {
            let message = format!("{target} is no published release");
            return Err(Reason::new(Code::ReleaseGone, message).evidence(target));
        }
        Err(error) => return Err(reason_of(&error, &target)),
    };
    let mut reasons = Vec::new();
    let commit = match github.tag_commit(repository, tag).await {
        Ok(commit) => Some(commit),
        Err(error) => {
            reasons.push(reason_of(&error, &format!("the tag of {target}")));
            None
        }
    };
    let place = Place::open(plan, repository, tag).map_err(|error| disk(&target, &error))?;
    let mut fetched = Fetched {
        dir: place.files.clone(),
        assets: Vec::new(),
        commit,
        bundles: Vec::new(),
        attestations_known: true,
        unread: BTreeSet::new(),
        reasons,
    };
    let mut state = place.state();
    let names: BTreeSet<&str> = release.assets.iter().map(|asset| asset.name.as_str()).collect();
    place.keep_only(&names, &mut state).map_err(|error| disk(&target, &error))?;
    for asset in &release.assets {
        if !is_plain(&asset.name) {
            let message = format!("{target} has a file whose name is none of a file: {:?}", asset.name);
            fetched.reasons.push(Reason::new(Code::FileUnsafe, message).evidence(&target));
            continue;
        }
        if state.get(&asset.name).is_some_and(|kept| place.still_has(asset, kept, plan)) {
            seen(asset.size);
        } else {
            match place.download(github, repository, asset, plan, seen).await {
                Ok(()) => {
                    let kept = Kept {
                        asset: asset.id,
                        bytes: asset.size,
                        updated_at: asset.updated_at.clone(),
                        fetched_at: plan.now,
                    };
                    state.insert(asset.name.clone(), kept);
                    place.write_state(&state).map_err(|error| disk(&target, &error))?;
                }
                Err(reason) => {
                    fetched.reasons.push(reason.subject(&asset.name));
                    fetched.unread.insert(asset.name.clone());
                }
            }
        }
        if plan.attestations {
            attestations(github, repository, asset, &place, &mut fetched).await;
        }
        fetched.assets.push(asset.clone());
    }
    Ok(fetched)
}

async fn attestations(github: &Github, repository: &Repository, asset: &Asset, place: &Place, fetched: &mut Fetched) {
    // GitHub's own digest saves hashing; where it lies, what it gives is about another file and proves nothing.
    let told = asset.digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
    let digest = match told {
        Some(digest) => digest,
        None if fetched.unread.contains(&asset.name) => {
            fetched.attestations_known = false;
            return;
        }
        None => match digest_of(&place.files.join(&asset.name)) {
            Ok(digest) => digest,
            Err(error) => {
                fetched.attestations_known = false;
                fetched.reasons.push(disk(&asset.name, &error));
                return;
            }
        },
    };
    match github.attestations(repository, &digest).await {
        Ok(found) => {
            let named = |(index, bundle)| (format!("{repository}:attestation:{}:{index}", asset.name), bundle);
            fetched.bundles.extend(found.into_iter().enumerate().map(named));
        }
        Err(error) => {
            fetched.attestations_known = false;
            fetched.reasons.push(reason_of(&error, &format!("the attestations of {}", asset.name)));
        }
    }
}

/// The SHA-256 of a regular file, streamed.
///
/// # Errors
/// Where it cannot be read.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hasher = crate::release::artifact::Hasher::new(&[crate::types::DigestAlgorithm::Sha256]);
    let file = crate::release::artifact::open_regular(path)?;
    crate::release::artifact::stream(file, &mut [&mut hasher])?;
    hasher.finish().into_iter().next().ok_or_else(|| io::Error::other("no digest"))
}

fn disk(target: &str, error: &io::Error) -> Reason {
    Reason::new(Code::EvidenceUnreadable, format!("cannot keep {target}: {error}"))
        .evidence(target)
        .hint("check the space and the permissions of the cache directory, or give another one: --cache-dir")
}

/// Whether a name stays in its folder: one component, no dot names, nothing that a path or a terminal reads otherwise.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.chars().any(|letter| letter == '/' || letter == '\\' || letter.is_control())
}

/// Where a release is kept.
struct Place {
    files: PathBuf,
    parts: PathBuf,
    state: PathBuf,
}

impl Place {
    fn open(plan: &Plan, repository: &Repository, tag: &str) -> io::Result<Self> {
        // A tag may hold slashes and dots: its digest holds none.
        let tag = Digest::sha256(tag.as_bytes()).to_hex();
        let below = plan.cache.join(repository.to_string()).join(tag);
        let place = Self { files: below.join("files"), parts: below.join("parts"), state: below.join("state.json") };
        fs::create_dir_all(&place.files)?;
        fs::create_dir_all(&place.parts)?;
        Ok(place)
    }

    /// What was fetched before; a state that cannot be read is one without anything.
    fn state(&self) -> State {
        let bytes = crate::release::artifact::read_bounded(&self.state, limits::EVIDENCE_BYTES);
        bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn write_state(&self, state: &State) -> io::Result<()> {
        let folder = self.state.parent().unwrap_or_else(|| Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(&serde_json::to_vec(state)?)?;
        new.persist(&self.state).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what is no longer of the release: a gate looks at everything that lies there.
    fn keep_only(&self, names: &BTreeSet<&str>, state: &mut State) -> io::Result<()> {
        for entry in fs::read_dir(&self.files)? {
            let entry = entry?;
            let name = entry.file_name();
            // A file that came without its line of state was never finished being told of.
            let known = name.to_str().is_some_and(|name| names.contains(name) && state.contains_key(name));
            if !known {
                fs::remove_file(entry.path())?;
            }
        }
        state.retain(|name, _| names.contains(name.as_str()));
        Ok(())
    }

    fn still_has(&self, asset: &Asset, kept: &Kept, plan: &Plan) -> bool {
        let same = kept.asset == asset.id && kept.bytes == asset.size && kept.updated_at == asset.updated_at;
        let young = plan.now.duration_since(kept.fetched_at) < plan.refetch_after;
        let whole = fs::symlink_metadata(self.files.join(&asset.name));
        same && young && whole.is_ok_and(|file| file.is_file() && file.len() == asset.size)
    }

    async fn download(
        &self,
        github: &Github,
        repository: &Repository,
        asset: &Asset,
        plan: &Plan,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Reason> {
        let what = format!("{repository}:{}", asset.name);
        // What GitHub changed has another number or time: a part of the old one is not continued by the new one.
        let part = Digest::sha256(format!("{}\n{}\n{}", asset.id, asset.size, asset.updated_at).as_bytes()).to_hex();
        let part = self.parts.join(part);
        let mut tries = 0_u32;
        loop {
            let failed = match self.continue_part(github, repository, asset, &part, seen).await {
                Ok(()) => break,
                Err(failed) => failed,
            };
            tries = tries.saturating_add(1);
            match failed {
                Broken::Github(error) if error.is_outage() && tries < RESUMES => {
                    if let GithubError::RateLimited { .. } = error {
                        return Err(reason_of(&error, &what));
                    }
                    tokio::time::sleep(plan.pause.saturating_mul(1 << tries.min(6))).await;
                }
                Broken::Github(error) => return Err(reason_of(&error, &what)),
                Broken::Disk(error) => return Err(disk(&what, &error)),
                Broken::Length(bytes) => {
                    let _ = fs::remove_file(&part);
                    let message = format!("{what} has {bytes} bytes, and GitHub's list says {}", asset.size);
                    return Err(Reason::new(Code::EvidenceUnreadable, message).evidence(&what));
                }
            }
        }
        fs::rename(&part, self.files.join(&asset.name)).map_err(|error| disk(&what, &error))
    }

    /// Appends to the part what is missing of it.
    async fn continue_part(
        &self,
        github: &Github,
        repository: &Repository,
        asset: &Asset,
        part: &Path,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Broken> {
        let mut have = fs::metadata(part).map_or(0, |metadata| metadata.len());
        if have > asset.size {
            return Err(Broken::Length(have));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(Broken::Disk)?;
        if have == asset.size {
            return Ok(());
        }
        let (honoured, mut response) = github.asset(repository, asset.id, have).await.map_err(Broken::Github)?;
        if !honoured {
            file.set_len(0).map_err(Broken::Disk)?;
            have = 0;
        }
        seen(have);
        loop {
            let piece = response.chunk().await.map_err(|error| {
                let message = error.without_url().to_string();
                Broken::Github(GithubError::Unreachable { service: "the host of the files".to_owned(), message })
            })?;
            let Some(piece) = piece else { break };
            have = have.saturating_add(piece.len() as u64);
            if have > asset.size {
                return Err(Broken::Length(have));
            }
            file.write_all(&piece).map_err(Broken::Disk)?;
            seen(piece.len() as u64);
        }
        if have == asset.size {
            return Ok(());
        }
        let message = "it ended before its end".to_owned();
        Err(Broken::Github(GithubError::Unreachable { service: "the host of the files".to_owned(), message }))
    }
}

enum Broken {
    Github(GithubError),
    Disk(io::Error),
    Length(u64),
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_name_that_leaves_its_folder_is_none() {
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        for good in ["app.tar.gz", "..hidden", "SHA256SUMS", "ä b"] {
            assert!(is_plain(good), "{good:?}");
        }
    }
}
