//! The one writer: takes what waits, commits it together, and answers each only then.
//!
//! A sync costs milliseconds, whatever it covers. Committing one request at a time would make it the price of each;
//! here it is the price of all that came in during the commit before.

use std::sync::Arc;
use std::time::Instant;

use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};

use super::audit::AuditHead;
use super::machines::Machines;
use super::{Change, CheckpointRow, Commits, StoreError, Touch, TreeHead, Write, Written, apply, nodes, users};
use crate::kill::{self, KillPoint};

/// Writes in one commit. More would make the first of them wait for the last.
const GROUP: usize = 1024;

type Asked = (Box<Write>, oneshot::Sender<Result<Written, StoreError>>);

/// What comes in.
#[derive(Debug)]
pub(super) enum Job {
    /// To be written, and to be told when it is on the disk.
    Write(Box<Write>, oneshot::Sender<Result<Written, StoreError>>),
    /// A credential was used. Nobody waits.
    Touch(Touch),
    /// A promise of what is written already. Nobody did anything, so there is no record of it.
    Promise(CheckpointRow, oneshot::Sender<Result<(), StoreError>>),
}

/// Who is told after each commit.
pub(super) struct Told {
    /// The number of the newest event.
    pub(super) events: watch::Sender<i64>,
    /// How often it changed who may do what.
    pub(super) access: watch::Sender<u64>,
    /// How often a credential became another one, or none.
    pub(super) credentials: watch::Sender<u64>,
    /// The end of the audit log.
    pub(super) heads: watch::Sender<TreeHead>,
    /// What is remembered of machines.
    pub(super) machines: Arc<Machines>,
}

impl Told {
    /// These were committed. It is told before anybody is answered: who has an answer decides by nothing older.
    fn committed<'a>(&self, writes: impl Iterator<Item = &'a Write>, writer: &Writer) {
        let (mut of_access, mut of_credentials) = (false, false);
        for write in writes {
            self.machines.touch(&write.changes);
            of_access |= write.changes.iter().any(Change::is_of_access);
            of_credentials |= write.changes.iter().any(Change::is_of_credentials);
        }
        let grow = |generation: &watch::Sender<u64>| generation.send_modify(|generation| *generation += 1);
        if of_access {
            grow(&self.access);
        }
        if of_credentials {
            grow(&self.credentials);
        }
        self.heads.send_replace(writer.head());
        self.events.send_replace(writer.last_event());
    }
}

/// The connection that writes, with the ends of the two logs that it appends to.
pub(super) struct Writer {
    connection: SqliteConnection,
    head: AuditHead,
    last_event: i64,
    commits: Commits,
}

impl Writer {
    pub(super) async fn new(mut connection: SqliteConnection, commits: Commits) -> Result<Self, StoreError> {
        let head = head(&mut connection).await?;
        let last_event =
            sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM event").fetch_one(&mut connection).await?;
        Ok(Self { connection, head, last_event, commits })
    }

    pub(super) const fn last_event(&self) -> i64 {
        self.last_event
    }

    pub(super) fn head(&self) -> TreeHead {
        TreeHead::from(&self.head)
    }

    /// Writes until nobody is left who could ask.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>, told: Told) {
        let mut jobs: Vec<Job> = Vec::with_capacity(GROUP);
        let mut group: Vec<Asked> = Vec::new();
        let mut touches: Vec<Touch> = Vec::new();
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            for job in jobs.drain(..) {
                match job {
                    Job::Write(write, answer) => group.push((write, answer)),
                    Job::Touch(touch) => touches.push(touch),
                    Job::Promise(row, answer) => {
                        let _ = answer.send(self.promise(&row).await);
                    }
                }
            }
            if let Err(error) = self.touch(&mut touches).await {
                tracing::warn!(%error, "when credentials were used last could not be written down");
            }
            if group.is_empty() {
                continue;
            }
            match self.commit(group.iter().map(|(write, _)| &**write)).await {
                Ok(written) => {
                    told.committed(group.iter().map(|(write, _)| &**write), &self);
                    for ((_, answer), written) in group.drain(..).zip(written) {
                        // Nobody waits any more: what was written stays written.
                        let _ = answer.send(written);
                    }
                }
                // One of them did not fit after others had been applied: each gets a commit of its own.
                Err(_) => {
                    for (write, answer) in group.drain(..) {
                        let outcome = self.commit(std::iter::once(&*write)).await;
                        told.committed(std::iter::once(&*write), &self);
                        let outcome = outcome.and_then(|mut one| one.pop().unwrap_or(Err(StoreError::Closed)));
                        let _ = answer.send(outcome);
                    }
                }
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database was not closed in order; it is repaired when it is opened");
        }
    }

    /// Writes down which credentials were used.
    async fn touch(&mut self, touches: &mut Vec<Touch>) -> Result<(), StoreError> {
        if touches.is_empty() {
            return Ok(());
        }
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for touch in touches.drain(..) {
            users::touch(&mut transaction, &touch).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Commits these together. What does not fit, and touched nothing, is answered alone.
    async fn commit<'a>(
        &mut self,
        writes: impl Iterator<Item = &'a Write>,
    ) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        let began = Instant::now();
        let mut head = self.head.clone();
        let mut last_event = self.last_event;
        let mut written = Vec::new();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for write in writes {
            let mut touched = false;
            match apply::changes(&mut transaction, &write.changes, &mut touched).await {
                Ok(()) => {}
                Err(error @ (StoreError::Conflict(_) | StoreError::Missing(_) | StoreError::Quota(_))) if !touched => {
                    written.push(Err(error));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let (row, completed) = head.append(&write.audit)?;
            apply::audit(&mut transaction, &row).await?;
            for node in &completed {
                nodes::insert(&mut transaction, node).await?;
            }
            last_event = apply::event(&mut transaction, &write.event, &write.audit).await?;
            written.push(Ok(Written { event: last_event, audit: row.seq }));
        }
        kill::here(KillPoint::StoreBeforeCommit);
        transaction.commit().await?;
        kill::here(KillPoint::StoreAfterCommit);
        self.commits.seconds.observe(began.elapsed().as_secs_f64());
        self.commits.writes.observe(written.len() as f64);
        self.head = head;
        self.last_event = last_event;
        Ok(written)
    }
    /// Keeps a checkpoint; the database refuses one that covers no more than the one before.
    async fn promise(&mut self, row: &CheckpointRow) -> Result<(), StoreError> {
        let head = row.head().ok_or_else(|| StoreError::Row("root: it is no SHA-256".to_owned()))?;
        kill::here(KillPoint::CheckpointSigned);
        sqlx::query("INSERT INTO checkpoint (size, root, note, at) VALUES (?1, ?2, ?3, ?4)")
            .bind(head.size.cast_signed())
            .bind(head.root.as_slice())
            .bind(&row.note)
            .bind(row.at.to_string())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

/// The end of the log as it is on the disk: the chain of its last record, and the tree over the hashes that are kept.
/// Whether they are those of the records is for the check to say.
async fn head(connection: &mut SqliteConnection) -> Result<AuditHead, StoreError> {
    let newest = "SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1";
    let Some(row) = sqlx::query(newest).fetch_optional(&mut *connection).await? else { return Ok(AuditHead::EMPTY) };
    let chain: Vec<u8> = row.try_get("chain")?;
    let size = row.try_get::<i64, _>("seq")?.cast_unsigned() + 1;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    nodes::catch_up(&mut transaction, size).await?;
    let tree = nodes::tree(&mut transaction, size).await?;
    transaction.commit().await?;
    Ok(AuditHead { size, chain: chain.try_into().unwrap_or_default(), tree })
}
