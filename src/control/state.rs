//! A backup of the state while the server is up: who asked for it is written down, the audit log is signed, the database
//! is copied as it is at that moment, and the rest is a stream of ciphertext.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Caller, Control, Deed, OpError};
use crate::backup::restore::SCRATCH;
use crate::backup::write::{About, Lock, write};
use crate::kill::{self, KillPoint};
use crate::store::Store;

/// Pieces that may wait to be taken; then the writing waits.
const WAITING: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 256 * 1024;

/// A backup that is being made: its ciphertext, piece by piece. An error is the last piece, and then there is no backup.
pub type Pieces = mpsc::Receiver<std::io::Result<Vec<u8>>>;

impl Control {
    /// Begins a backup.
    ///
    /// # Errors
    /// [`OpError::Refused`] where the audit log is not what was written: what would be restored of it is refused too.
    pub async fn state_backup(&self, caller: &Caller, lock: Lock, with_images: bool) -> Result<Pieces, OpError> {
        let sources = self.inner.settings.state.clone();
        let data = serde_json::json!({ "with_images": with_images });
        let deed = Deed::done("state.backup", "state".to_owned(), "state.backup.begun", data);
        self.record(caller, deed, Vec::new()).await?;
        let checkpoint = self.checkpoint().await?;
        let failed = |error: std::io::Error| OpError::Node(format!("the state could not be copied: {error}"));
        let folder = sources.state.join(SCRATCH);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let scratch = tempfile::tempdir_in(&folder).map_err(failed)?;
        let snapshot = scratch.path().join("state.db");
        Store::snapshot(self.store().path(), &snapshot).await?;
        kill::here(KillPoint::BackupSnapshot);
        let about =
            About { made_at: self.now(), with_images, key: self.audit_key(), checkpoint: Some(checkpoint.note) };
        let (pieces, taken) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            // Goes with the copy of the database when all is written.
            let scratch = scratch;
            let out = Sending { pieces: pieces.clone(), piece: Vec::with_capacity(PIECE) };
            let outcome = write(out, &lock, &sources, &scratch.path().join("state.db"), about);
            let outcome = outcome.map_err(std::io::Error::other).and_then(|mut out| std::io::Write::flush(&mut out));
            if let Err(error) = outcome {
                tracing::error!(%error, "a backup of the state was not finished");
                let _ = pieces.blocking_send(Err(error));
            }
        });
        Ok(taken)
    }
}

/// Removes what backups left behind that were not finished.
pub fn clear_scratch(state: &std::path::Path) {
    let folder: PathBuf = state.join(SCRATCH);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "{} could not be removed", folder.display());
    }
}

/// Collects what is written into pieces of some size, and hands them on.
struct Sending {
    pieces: mpsc::Sender<std::io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl std::io::Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "nobody takes the backup any more");
        self.pieces.blocking_send(Ok(piece)).map_err(gone)
    }
}
