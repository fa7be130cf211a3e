//! What is kept: machines, images, decisions, operations, events and the audit log, in one database.
//! Invariant: a change, its audit record and its event are one transaction. SQL stands in this room and in no other.
//!
//! [`Store::write`] is the only way in, and it takes the three together. It answers when they are on the disk:
//! SQLite syncs every commit, and one commit holds whatever was waiting by then (docs/adr). Beside it there is
//! [`Store::touch`] alone: when a credential was used last, which nobody decides.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlitePool};
use tokio::sync::{mpsc, oneshot, watch};

use crate::kill::{self, KillPoint};

mod access;
mod apply;
mod audit;
mod checkpoints;
mod credentials;
mod figures;
mod machines;
mod nodes;
mod read;
mod rows;
mod state;
pub mod tags;
mod users;
mod writer;

pub use access::{AccessChange, AccessRows, Amended, Grant, Project, Quota, Role, Sight, Tenant, Usage, UserRole};
pub use audit::{AuditCheck, AuditFault, AuditHead, TreeHead, check as check_audit};
pub use checkpoints::{AuditFile, AuditPage, CheckpointRow};
pub use credentials::{ApiKey, ApiKeyRow, CredentialChange, Identity, KeyUse, Service};
pub use figures::{Census, Commits};
pub use machines::Fleet;
pub use nodes::AuditNode;
pub use rows::*;
pub use state::Versions;
pub use users::{Credentials, Hidden, Session, SessionKind, TokenHash, Touch, User, UserChange};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// Readers that may be at work at once.
const READERS: u32 = 4;
/// Writes that may wait for the next commit; further ones wait to be taken in.
const QUEUE: usize = 4096;

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was asked for does not fit what is there: a name is taken, a generation is another one.
    #[error("{0}")]
    Conflict(String),
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// There is no room: a quota or a bound is reached.
    #[error("{0}")]
    Quota(String),
    /// The database said no, or could not be read.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The database is of another version.
    #[error("the database cannot be brought to this version")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A newer program wrote it.
    #[error("the database is of version {found}, and this debvisor knows none newer than {known}")]
    Newer {
        /// The database's version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// Its pages or rows do not fit together.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A row cannot be understood.
    #[error("a row of the database cannot be read: {0}")]
    Row(String),
    /// The writer has gone: the process is shutting down.
    #[error("the database is closed")]
    Closed,
}

/// What is written at once: the changes, the record of who made them and why, and the event that tells of them.
#[derive(Debug, Clone)]
pub struct Write {
    /// The changes, all or none; a conditional one stands first. None where what happened was a refusal.
    pub changes: Vec<Change>,
    /// Who did what, and why.
    pub audit: AuditRecord,
    /// What happened.
    pub event: NewEvent,
}

/// Where a write landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The event's number.
    pub event: i64,
    /// The audit record's place.
    pub audit: u64,
}

/// The database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writes: mpsc::Sender<writer::Job>,
    events: watch::Receiver<i64>,
    access: watch::Receiver<u64>,
    credentials: watch::Receiver<u64>,
    heads: watch::Receiver<TreeHead>,
    machines: Arc<machines::Machines>,
    commits: Commits,
    path: PathBuf,
}

impl Store {
    /// Opens the database at `path`, makes it where there is none, and brings it to this version.
    ///
    /// # Errors
    /// Where it cannot be opened, or is newer than this version knows.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .statement_cache_capacity(256)
            .busy_timeout(Duration::from_secs(10));
        private(path).map_err(sqlx::Error::Io)?;
        let mut connection = options.connect().await?;
        state::refuse_newer(&mut connection).await?;
        // Each migration is one transaction; here a test ends the process inside of one.
        connection.lock_handle().await?.set_commit_hook(|| {
            kill::here(KillPoint::MigrationBeforeCommit);
            true
        });
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        connection.lock_handle().await?.remove_commit_hook();
        migrated?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.clone().read_only(true).create_if_missing(false));
        let commits = Commits::default();
        let writer = writer::Writer::new(connection, commits.clone()).await?;
        let (writes, queue) = mpsc::channel(QUEUE);
        let (told, events) = watch::channel(writer.last_event());
        let (changed, access) = watch::channel(1);
        let (ended, credentials) = watch::channel(1);
        let (grown, heads) = watch::channel(writer.head());
        let machines = Arc::<machines::Machines>::default();
        let told = writer::Told {
            events: told,
            access: changed,
            credentials: ended,
            heads: grown,
            machines: machines.clone(),
        };
        tokio::spawn(writer.run(queue, told));
        Ok(Self { readers, writes, events, access, credentials, heads, machines, commits, path: path.to_owned() })
    }

    /// Takes the database at `path` back to an older version; 0 is an empty one. What the older version has no place
    /// for is lost.
    ///
    /// # Errors
    /// Where it cannot be opened or a step back fails.
    pub async fn migrate_back(path: &Path, version: i64) -> Result<(), StoreError> {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
        MIGRATIONS.undo(&mut connection, version).await?;
        Ok(connection.close().await?)
    }

    /// Writes the changes, the audit record and the event, all or none; returns when they are on the disk.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] or [`StoreError::Missing`] where a change does not fit, with nothing written.
    pub async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writes.send(writer::Job::Write(Box::new(write), answer)).await.map_err(|_| StoreError::Closed)?;
        let _waiting = self.commits.wait();
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Has written down, with a commit to come, that a credential was used. Nobody waits for it, and where too much
    /// waits already it is left out.
    pub fn touch(&self, touch: Touch) {
        let _ = self.writes.try_send(writer::Job::Touch(touch));
    }

    /// A number that grows whenever a credential may be another one, or none, before whoever asked for that has an
    /// answer, and where they did not wait for one as well.
    pub fn credential_generation(&self) -> u64 {
        *self.credentials.borrow()
    }

    /// The number of the newest event; it changes after each commit.
    pub fn events(&self) -> watch::Receiver<i64> {
        self.events.clone()
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The database and what SQLite keeps beside it are for their owner alone: hashes of passwords are in there.
fn private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::set_permissions(&name, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// The word that serde has for a value of a plain enumeration.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// The document that serde has for a value.
fn document<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Row(error.to_string()))
}
