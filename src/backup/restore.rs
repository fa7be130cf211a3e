//! A backup in, a state directory out: all of it or nothing, and nothing that was not checked.
//!
//! Everything is unpacked beside the directory, held against the manifest, and the database against itself and the
//! checkpoint. Then the state is fenced: the host that the backup is of may still be there, so no machine starts until
//! somebody says so. The last act is to give the folder its name.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::Timestamp;

use super::read::{Keys, read};
use super::{BackupError, DATABASE, Manifest};
use crate::kill::{self, KillPoint};
use crate::release::evidence::checkpoint::Checkpoint;
use crate::release::evidence::note::NoteKey;
use crate::store::{AuditCheck, AuditFault, AuditHead, AuditRecord, Change, Hold, NewEvent, Store, TreeHead, Write};
use crate::types::{Code, Reason};

/// Where a server puts what it makes on the way to a backup; removed when it comes up.
pub const SCRATCH: &str = "backup.tmp";
/// Records that are checked at a time.
const PAGE: u32 = 10_000;

/// What came of a restore.
#[derive(Debug)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// Records of the audit log.
    pub records: u64,
    /// Machines that start only when somebody asks for it.
    pub fenced: u64,
}

/// Makes a state directory of a backup. `state` must be empty or not there.
///
/// # Errors
/// Where the backup is not what it must be, or the folder cannot be made. Then it is as it was.
pub async fn restore(
    backup: &Path,
    keys: &Keys,
    state: &Path,
    expected_key: Option<&NoteKey>,
    actor: &str,
    now: Timestamp,
) -> Result<Restored, BackupError> {
    let failed = || BackupError::io(format!("cannot make {}", state.display()));
    let folder = state.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed())?;
    let staging = tempfile::Builder::new()
        .prefix(".debvisor-restore-")
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir_in(folder)
        .map_err(failed())?;
    let input = File::open(backup).map_err(BackupError::io(format!("cannot read {}", backup.display())))?;
    let manifest = read(input, keys, Some(staging.path()))?;
    kill::here(KillPoint::RestoreUnpacked);
    let database = staging.path().join(DATABASE);
    Store::is_sound(&database).await?;
    let store = Store::open(&database).await?;
    let records = hold_against(&store, &manifest, expected_key).await?;
    kill::here(KillPoint::RestoreChecked);
    let fenced = fence(&store, &manifest, actor, now).await?;
    store.close().await;
    for folder in [staging.path(), folder] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())?;
    }
    kill::here(KillPoint::RestoreFenced);
    // Over an empty folder or over none; anything else in its place is left alone, and this fails (rename(2)).
    let staging = staging.keep();
    if let Err(cause) = fs::rename(&staging, state) {
        let _ = fs::remove_dir_all(&staging);
        return Err(failed()(cause));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())?;
    kill::here(KillPoint::RestoreMoved);
    Ok(Restored { manifest, records, fenced })
}

/// The audit log is whole, and has what the checkpoint in the manifest covers.
async fn hold_against(store: &Store, manifest: &Manifest, expected_key: Option<&NoteKey>) -> Result<u64, BackupError> {
    let refused = |reason: Reason| BackupError::Refused(Box::new(reason));
    let key: NoteKey = manifest.key.parse().map_err(refused)?;
    if expected_key.is_some_and(|expected| expected.to_string() != key.to_string()) {
        let message = format!("the backup is of {key}, not of the server that was named");
        return Err(BackupError::refused(Code::CheckpointInvalid, message));
    }
    let mut promised: Vec<TreeHead> = Vec::new();
    for note in store.checkpoints_all().await?.into_iter().map(|row| row.note).chain(manifest.checkpoint.clone()) {
        let checkpoint = Checkpoint::parse(&note).map_err(refused)?;
        // By the key alone: the server may have had another name before.
        if !checkpoint
            .signatures
            .iter()
            .any(|line| key.key().verify(checkpoint.signed_text.as_bytes(), &line.signature).is_ok())
        {
            let message = format!("a checkpoint over {} records is not signed with the server's key", checkpoint.size);
            return Err(BackupError::refused(Code::CheckpointInvalid, message));
        }
        promised.push(TreeHead { size: checkpoint.size, root: checkpoint.root });
    }
    promised.sort_by_key(|promise| promise.size);
    let mut check = AuditCheck::new(AuditHead::EMPTY, promised);
    while !check.is_over() {
        let page = store.audit_page(check.size(), PAGE).await?;
        if page.rows.is_empty() {
            break;
        }
        check.take_page(&page);
    }
    let (head, faults) = check.end();
    faults.first().map(AuditFault::reason).map_or(Ok(head.size), |reason| Err(refused(reason)))
}

/// Writes into the restored state that it is one: a record, an event, and a hold on every machine.
async fn fence(store: &Store, manifest: &Manifest, actor: &str, now: Timestamp) -> Result<u64, BackupError> {
    let message =
        format!("the state is of {}, restored from a backup; another host may still run it", manifest.made_at);
    let hold = Hold { reasons: vec![Reason::new(Code::StateRestored, message.clone())], message, at: now };
    let fenced = store.vm_count().await?;
    let data =
        serde_json::json!({ "made_at": manifest.made_at, "machines": fenced, "checkpoint": manifest.checkpoint });
    let write = Write {
        changes: vec![Change::Fenced(Box::new(hold))],
        audit: AuditRecord {
            at: now,
            actor: actor.to_owned(),
            origin: "command line".to_owned(),
            action: "state.restore".to_owned(),
            object: "state".to_owned(),
            outcome: "done".to_owned(),
            why: Vec::new(),
            data: data.clone(),
        },
        event: NewEvent { kind: "state.restored".to_owned(), subject: "state".to_owned(), data },
    };
    store.write(write).await?;
    Ok(fenced)
}
