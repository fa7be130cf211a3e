//! Signs checkpoints of the audit log: one when the server comes up, then after so many records or so long a time, and
//! when somebody asks.
//!
//! It signs what it has read itself: every record since the last checkpoint is read back from the disk, held against
//! its hash and the chain, and the root must be the one that the writer has in memory. Before the first signature of a
//! run, and every hour from then on, that is the whole log, held against every checkpoint that was signed: what somebody
//! does to an old record beneath a server that runs is found as well.
//! Invariant: over a log in which anything was altered nothing is signed any more; that it is so is a record, an event
//! and a server that is not ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::super::{Caller, Control, Deed, OpError};
use super::{PAGE, promises};
use crate::release::attest::note::NoteSigner;
use crate::store::{AuditCheck, AuditFault, AuditHead, CheckpointRow};
use crate::types::Reason;

/// So many records are worth a checkpoint at once.
const RECORDS: u64 = 1_000;
/// Fewer wait no longer than this.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often everything is read again.
const WHOLE: Duration = Duration::from_secs(60 * 60);

/// What signs, and how far it has read. Clones share it.
#[derive(Debug, Clone)]
pub struct Notary {
    signer: NoteSigner,
    seen: Arc<Mutex<Seen>>,
    /// Why nothing is signed any more.
    fault: watch::Sender<Option<Reason>>,
}

#[derive(Debug)]
struct Seen {
    /// Read and found right up to here; nothing before the first look.
    head: Option<AuditHead>,
    /// The newest checkpoint covers so much.
    signed: u64,
}

impl Notary {
    /// The notary with this signer, that has seen nothing yet.
    pub fn new(signer: NoteSigner) -> Self {
        let seen = Seen { head: None, signed: 0 };
        Self { signer, seen: Arc::new(Mutex::new(seen)), fault: watch::channel(None).0 }
    }

    pub(super) const fn signer(&self) -> &NoteSigner {
        &self.signer
    }
}

impl Control {
    /// Why nothing is signed any more; nothing where the audit log is whole as far as it was looked at.
    pub fn audit_fault(&self) -> Option<Reason> {
        self.inner.settings.audit.fault.borrow().clone()
    }

    /// Signs checkpoints until `stop` says so, and a last one then.
    pub async fn notarize(self, mut stop: watch::Receiver<bool>) {
        let mut heads = self.store().audit_heads();
        let mut whole = Instant::now();
        loop {
            if whole.elapsed() >= WHOLE {
                self.audit_anew().await;
                whole = Instant::now();
            }
            match self.checkpoint().await {
                // It was told when it was found.
                Ok(_) | Err(OpError::Refused(_)) => {}
                Err(error) => tracing::error!(%error, "the audit log could not be signed; it is tried again"),
            }
            if *stop.borrow() {
                return;
            }
            let signed = self.inner.settings.audit.seen.lock().await.signed;
            let due = tokio::time::sleep(INTERVAL);
            tokio::pin!(due);
            loop {
                tokio::select! {
                    () = &mut due => break,
                    Ok(()) = heads.changed() => {
                        if heads.borrow_and_update().size >= signed + RECORDS {
                            break;
                        }
                    }
                    _ = stop.changed() => break,
                }
            }
        }
    }

    /// Reads everything once more before the next signature.
    pub async fn audit_anew(&self) {
        self.inner.settings.audit.seen.lock().await.head = None;
    }

    /// A checkpoint over everything that is written by now: the newest, where it covers it already.
    ///
    /// # Errors
    /// [`OpError::Refused`] where the log is not what was written, or not what was signed before.
    pub async fn checkpoint(&self) -> Result<CheckpointRow, OpError> {
        let notary = &self.inner.settings.audit;
        let mut seen = notary.seen.lock().await;
        if let Some(fault) = self.audit_fault() {
            return Err(OpError::Refused(vec![fault]));
        }
        let (head, faults) = self.read_on(&mut seen).await?;
        if !faults.is_empty() {
            self.audit_found(&faults).await?;
            return Err(OpError::Refused(faults));
        }
        let latest = self.store().checkpoint_latest().await?;
        if let Some(latest) = latest.filter(|latest| latest.size == head.size) {
            seen.signed = latest.size;
            seen.head = Some(head);
            return Ok(latest);
        }
        if head.size == 0 {
            return Err(OpError::NotFound("the audit log has no record yet".to_owned()));
        }
        let root = head.tree.root();
        let note = notary.signer.checkpoint(head.size, &root);
        let note = note.map_err(|error| OpError::Node(format!("the audit log could not be signed: {error}")))?;
        let row = CheckpointRow { size: head.size, root: hex::encode(root), note, at: self.now() };
        self.store().checkpoint_put(row.clone()).await?;
        seen.signed = row.size;
        seen.head = Some(head);
        Ok(row)
    }

    /// Reads what was written since the last look, and everything at the first.
    async fn read_on(&self, seen: &mut Seen) -> Result<(AuditHead, Vec<Reason>), OpError> {
        // What the writer wrote, by its own word, is one promise more.
        let target = self.store().audit_head();
        let (mut promised, mut faults) = match &seen.head {
            Some(_) => (Vec::new(), Vec::new()),
            None => {
                let kept = self.store().checkpoints_all().await?;
                promises(&kept, self.inner.settings.audit.signer.verifier().key())
            }
        };
        if promised.last().is_none_or(|last| last.size < target.size) {
            promised.push(target.clone());
        }
        let mut check = AuditCheck::new(seen.head.clone().unwrap_or(AuditHead::EMPTY), promised);
        while check.size() < target.size && !check.is_over() {
            let left = u32::try_from(target.size - check.size()).unwrap_or(u32::MAX);
            let page = self.store().audit_page(check.size(), left.min(PAGE)).await?;
            if page.rows.is_empty() {
                break;
            }
            check.take_page(&page);
        }
        let (head, found) = check.end();
        faults.extend(found.iter().map(AuditFault::reason));
        Ok((head, faults))
    }

    /// The first time that something is found to be wrong, it is told: as a record, as an event, in the log, and to
    /// whoever asks whether the server is ready.
    pub(super) async fn audit_found(&self, faults: &[Reason]) -> Result<(), OpError> {
        let Some(first) = faults.first() else { return Ok(()) };
        let news = self.inner.settings.audit.fault.send_if_modified(|fault| {
            let news = fault.is_none();
            fault.get_or_insert_with(|| first.clone());
            news
        });
        if !news {
            return Ok(());
        }
        tracing::error!(reason = %first, "the audit log is not what was written; nothing is signed over it");
        let deed = Deed::failed("audit.verify", "audit".to_owned(), "audit.broken", &first.message);
        let why = faults.iter().map(|fault| fault.code.as_str().to_owned()).collect();
        let data = serde_json::json!({ "message": first.message, "faults": faults });
        self.record(&Caller::system(), Deed { why, data, ..deed }, Vec::new()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::control::silent;
    use crate::types::Code;
    use crate::types::access::Permission;

    #[tokio::test]
    async fn an_old_record_that_is_altered_is_found_when_everything_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let control = silent::control(dir.path()).await;
        let happen = async |name: &str| {
            let (name, nothing) = (name.to_owned(), String::new());
            control.role_create(&Caller::system(), name, nothing, vec![Permission::VmRead]).await.unwrap();
        };
        happen("one").await;
        control.checkpoint().await.unwrap();
        let options = SqliteConnectOptions::new().filename(dir.path().join("state.db"));
        let altered = "DROP TRIGGER audit_is_not_changed; UPDATE audit SET record = record || ' ' WHERE seq = 0";
        sqlx::raw_sql(altered).execute(&mut options.connect().await.unwrap()).await.unwrap();
        happen("two").await;
        control.checkpoint().await.expect("what was read already is not read for each checkpoint");
        assert_eq!(control.audit_fault(), None);
        control.audit_anew().await;
        happen("three").await;
        let Err(OpError::Refused(faults)) = control.checkpoint().await else { panic!("it is signed") };
        assert_eq!(faults[0].code.known(), Some(Code::AuditRecordAltered));
        assert_eq!(control.audit_fault().as_ref(), faults.first());
        let checks = control.health(0).await;
        let check = checks.iter().find(|check| check.name == "audit-log").unwrap();
        assert!(check.detail.as_ref().is_some_and(|detail| detail.contains("record 0 was altered")), "{check:?}");
    }
}
