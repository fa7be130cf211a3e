//! What is revoked, while `debvisor up` is up: the installed trust bundle is looked at every half second, and what it
//! revokes comes out to the gate and to the control plane.
//!
//! A bundle that cannot be read or has expired revokes what it revoked before, and nothing passes the gate until there
//! is a good one. Machines that run stay: that a file is missing a signature says nothing of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::release::collect::trust_root;
use crate::release::trust::revocation::{Known, Revocations};
use crate::types::Clock;

/// How often the file is looked at; it is read where it is another one.
const INTERVAL: Duration = Duration::from_millis(500);

/// A version of the file: inode, length, and when it was changed.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Looks at the installed bundle.
pub(super) struct Watcher {
    config_dir: Option<PathBuf>,
    clock: Clock,
    stamp: Stamp,
    /// When what was read is void.
    ends: Option<Timestamp>,
    known: watch::Sender<Arc<Known>>,
}

impl Watcher {
    /// One that has read the bundle, and what it says from now on.
    pub(super) fn new(config_dir: Option<PathBuf>, clock: Clock) -> (Self, watch::Receiver<Arc<Known>>) {
        let (known, told) = watch::channel(Arc::default());
        let mut watcher = Self { config_dir, clock, stamp: None, ends: None, known };
        watcher.read();
        (watcher, told)
    }

    /// Looks until `stop` says so.
    pub(super) async fn watch(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stop.changed() => break,
            }
            let over = self.ends.is_some_and(|ends| self.clock.now() >= ends);
            if over || self.stamp != self.stamp_now() {
                self.read();
            }
        }
    }

    fn stamp_now(&self) -> Stamp {
        let path = trust_root::bundle_path(self.config_dir.as_deref()?);
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    }

    fn read(&mut self) {
        // Taken before: a file that is replaced in between is read once more.
        self.stamp = self.stamp_now();
        self.ends = None;
        let known = match trust_root::installed_bundle(self.config_dir.as_deref(), self.clock.now()) {
            Ok(None) => Known { revoked: Revocations::default(), fault: None },
            Ok(Some(bundle)) => {
                self.ends = Some(bundle.expires_at());
                Known { revoked: bundle.revocations().clone(), fault: None }
            }
            Err(reason) => {
                tracing::error!(%reason, "what is revoked is not known: nothing is started");
                Known { revoked: self.known.borrow().revoked.clone(), fault: Some(reason) }
            }
        };
        self.known.send_replace(Arc::new(known));
    }
}
