//! New files of a release, put in place all together: a directory and what shall be in it, in; the same directory with
//! all of it, or as it was, out.
//!
//! Everything is made in a folder beside the release, on the same file system, where the whole release is put together
//! from links to what stays and the files that are new. Only then a journal says what is to be moved, and the moving
//! begins. Whatever ends the run before the journal is written leaves the release untouched. Whatever ends it after
//! leaves a release that a gate refuses, for its list and the list's signature come last, and a journal by which the
//! next run finishes the moving before it does anything else.
//!
//! Invariant: a folder that somebody else owns or may write to is never believed, for its journal would name what is
//! to be deleted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::super::{Failure, UsageError};
use crate::release::artifact;
use crate::release::decision::Decision;
use crate::release::evidence::checksums::normal_name;
use crate::types::{Digest, DigestAlgorithm, limits};

/// A folder beside a release in which its new files are made.
#[derive(Debug)]
pub(super) struct Stage {
    /// The release.
    dir: PathBuf,
    /// The folder beside it.
    home: PathBuf,
    /// Held as long as the run lasts; the system lets go of it however the run ends.
    _lock: File,
    /// Whether a journal was left that the next run needs.
    unfinished: bool,
}

/// One thing to do to the release once everything is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub(super) enum Step {
    /// Moves a staged file to its place.
    Place {
        /// Its name.
        name: String,
    },
    /// Takes away a file whose time has passed.
    Remove {
        /// Its name.
        name: String,
        /// Its SHA-256; another file of that name is left alone.
        digest: Digest,
    },
}

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.json";
const TREE: &str = "tree";
const OLD: &str = "old";

/// The folder that belongs to a release, which may not be there.
pub(super) fn home_of(dir: &Path) -> Option<PathBuf> {
    let name = dir.file_name()?.to_string_lossy();
    Some(dir.parent()?.join(format!(".{name}.debvisor-seal")))
}

/// Whether a run over this release was ended while it moved files.
pub(in crate::cli) fn was_interrupted(dir: &Path) -> bool {
    let home = dir.canonicalize().ok().and_then(|dir| home_of(&dir));
    home.is_some_and(|home| home.join(JOURNAL).is_file())
}

impl Stage {
    /// Opens the folder beside `dir`, which must be a canonical path, and finishes or clears away what a run that was
    /// ended left there.
    ///
    /// # Errors
    /// A usage error where there can be no such folder; undecided where another run is at work.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let hint = "seal a directory whose parent you may write to, and that is no mount point of its own";
        let cannot = |why: String| UsageError::new(format!("cannot work beside {}: {why}", dir.display()), hint);
        let home = home_of(dir).ok_or_else(|| cannot("it has no parent".to_owned()))?;
        match fs::DirBuilder::new().mode(0o700).create(&home) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(cannot(error.to_string()).into()),
            _ => {}
        }
        let of_home = home.symlink_metadata().map_err(|error| cannot(error.to_string()))?;
        let is_ours =
            of_home.is_dir() && of_home.uid() == rustix::process::geteuid().as_raw() && of_home.mode() & 0o077 == 0;
        if !is_ours {
            let message = format!("{} is there, and is not a folder of yours alone", home.display());
            return Err(UsageError::new(message, "look at what it is, then remove it").into());
        }
        if dir.metadata().map(|metadata| metadata.dev()).ok() != Some(of_home.dev()) {
            return Err(cannot("it is on another file system than its parent".to_owned()).into());
        }
        let lock = lock(&home)?;
        let mut stage = Self { dir: dir.to_owned(), home, _lock: lock, unfinished: true };
        stage.recover()?;
        stage.unfinished = false;
        Ok(stage)
    }

    /// What the release will be.
    pub(super) fn tree(&self) -> PathBuf {
        self.home.join(TREE)
    }

    /// Takes a file of the release into the tree as it is.
    ///
    /// # Errors
    /// Where it can be neither linked nor copied.
    pub(super) fn keep(&self, name: &str) -> anyhow::Result<()> {
        let (from, to) = (self.dir.join(name), self.tree().join(name));
        let failed = || format!("cannot stage {}", from.display());
        make_parent(&to).with_context(failed)?;
        // Some file systems have no links, and some systems forbid links to what is another's.
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).with_context(failed)
    }

    /// Puts a new file into the tree, where `keep` must not have put one.
    ///
    /// # Errors
    /// Where it cannot be written; nothing of the release is changed then.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.tree().join(name);
        let failed = || format!("cannot stage {name}; the release is as it was");
        make_parent(&path).with_context(failed)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).with_context(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(failed)
    }

    /// Does the steps in their order: all of them, or, where one cannot be done, none.
    ///
    /// # Errors
    /// Where a step could not be done. The release is then as it was, or the next run will finish it.
    pub(super) fn commit(mut self, steps: &[Step]) -> anyhow::Result<()> {
        let failed = || format!("cannot put the sealed files into {}; it is as it was", self.dir.display());
        let journal = serde_json::to_vec(steps)?;
        let partial = self.home.join("journal.partial");
        sync_tree(&self.tree()).with_context(failed)?;
        let mut file = File::create(&partial).with_context(failed)?;
        file.write_all(&journal).and_then(|()| file.sync_all()).with_context(failed)?;
        fs::rename(&partial, self.home.join(JOURNAL)).with_context(failed)?;
        sync_folder(&self.home).with_context(failed)?;
        self.unfinished = true;
        for (position, step) in steps.iter().enumerate() {
            let Err(error) = self.save(step).and_then(|()| self.take(step)) else { continue };
            let done = steps.get(..=position).unwrap_or_default();
            let undone = done.iter().rev().try_for_each(|step| self.undo(step));
            if undone.and_then(|()| fs::remove_file(self.home.join(JOURNAL))).is_ok() {
                self.unfinished = false;
                return Err(error).with_context(failed);
            }
            let message = format!("cannot put the sealed files into {}: {error}", self.dir.display());
            let hint = "the release is half sealed: mend what is wrong and seal it again, which finishes it first";
            return Err(Failure::new(Decision::Undecided, message, hint).into());
        }
        self.finished(steps).with_context(|| format!("cannot finish sealing {}", self.dir.display()))?;
        self.unfinished = false;
        Ok(())
    }

    /// Finishes what a journal says, then clears the folder.
    fn recover(&self) -> anyhow::Result<()> {
        let failed = || format!("cannot finish what an earlier run left in {}", self.home.display());
        match artifact::read_bounded(&self.home.join(JOURNAL), limits::EVIDENCE_BYTES) {
            Ok(journal) => {
                let steps: Vec<Step> = serde_json::from_slice(&journal).with_context(failed)?;
                for step in &steps {
                    self.take(step).with_context(failed)?;
                }
                self.finished(&steps).with_context(failed)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(failed),
        }
        for entry in fs::read_dir(&self.home).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            match entry.file_type().with_context(failed)? {
                kind if kind.is_dir() => fs::remove_dir_all(entry.path()).with_context(failed)?,
                _ if entry.file_name() == LOCK => {}
                _ => fs::remove_file(entry.path()).with_context(failed)?,
            }
        }
        fs::create_dir(self.tree()).with_context(failed)
    }

    /// Keeps what a step takes away, so that it can be undone.
    fn save(&self, step: &Step) -> io::Result<()> {
        let (from, to) = (self.dir.join(step.name()), self.home.join(OLD).join(step.name()));
        if from.symlink_metadata().is_err() {
            return Ok(());
        }
        make_parent(&to)?;
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
    }

    /// Does a step that may have been done before.
    fn take(&self, step: &Step) -> io::Result<()> {
        let name = normal_name(step.name()).map_err(|reason| io::Error::other(reason.message))?;
        let place = self.dir.join(&name);
        match step {
            Step::Place { .. } => match fs::rename(self.tree().join(&name), place) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
            Step::Remove { digest, .. } => {
                let is_it = artifact::hash_file(&place, &[DigestAlgorithm::Sha256], &|_| ())
                    .is_ok_and(|digests| digests.contains(digest));
                if is_it { fs::remove_file(place) } else { Ok(()) }
            }
        }
    }

    /// Puts back what was there before a step, or takes away what was not.
    fn undo(&self, step: &Step) -> io::Result<()> {
        let (place, old) = (self.dir.join(step.name()), self.home.join(OLD).join(step.name()));
        if old.symlink_metadata().is_ok() {
            return fs::rename(old, place);
        }
        let staged = self.tree().join(step.name());
        match step {
            // What is still staged was not moved, and there is nothing to undo.
            Step::Place { .. } if staged.symlink_metadata().is_err() => fs::rename(place, staged),
            Step::Place { .. } | Step::Remove { .. } => Ok(()),
        }
    }

    /// Makes sure that what was done outlasts a power cut, then says that nothing is left to do.
    fn finished(&self, steps: &[Step]) -> io::Result<()> {
        let mut folders: Vec<PathBuf> =
            steps.iter().filter_map(|step| self.dir.join(step.name()).parent().map(Path::to_owned)).collect();
        folders.sort();
        folders.dedup();
        folders.iter().try_for_each(|folder| sync_folder(folder))?;
        fs::remove_file(self.home.join(JOURNAL))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.unfinished {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.home);
        }
    }
}

impl Step {
    fn name(&self) -> &str {
        match self {
            Self::Place { name } | Self::Remove { name, .. } => name,
        }
    }

    /// The file that is put in place.
    pub(super) fn placed(&self) -> Option<&str> {
        match self {
            Self::Place { name } => Some(name),
            Self::Remove { .. } => None,
        }
    }

    /// The file that is taken away.
    pub(super) fn removed(&self) -> Option<&str> {
        match self {
            Self::Remove { name, .. } => Some(name),
            Self::Place { .. } => None,
        }
    }
}

/// Takes the folder's lock, and sees that the folder is still there: a run that ends removes both.
fn lock(home: &Path) -> anyhow::Result<File> {
    let busy = || {
        let message = format!("another run is sealing the same release ({})", home.display());
        Failure::new(Decision::Undecided, message, "wait until it is done, and run again")
    };
    let path = home.join(LOCK);
    let failed = || format!("cannot lock {}", path.display());
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).with_context(failed)?;
    if lock.try_lock().is_err() {
        return Err(busy().into());
    }
    let there = path.metadata().map(|metadata| metadata.ino()).ok();
    if there != lock.metadata().map(|metadata| metadata.ino()).ok() {
        return Err(busy().into());
    }
    Ok(lock)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs the entries of every folder of the tree; the new files themselves were synced when they were written.
fn sync_tree(tree: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_folder(tree)
}
