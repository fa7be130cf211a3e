//! Checkpoints and leaf hashes of the audit log: what proofs are made of, and what a check holds the records against.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{Row as _, SqlitePool};
use utoipa::ToSchema;

use super::read::audit_row;
use super::writer::Job;
use super::{AuditNode, AuditRow, Store, StoreError, TreeHead, nodes};
use crate::release::evidence::merkle::Hash;

/// A signed promise of the log's size and root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointRow {
    /// How many records it covers.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// The signed note.
    pub note: String,
    /// When it was signed.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl CheckpointRow {
    /// What it promises; nothing where its root is none.
    pub fn head(&self) -> Option<TreeHead> {
        let mut root: Hash = [0; 32];
        hex::decode_to_slice(&self.root, &mut root).ok()?;
        Some(TreeHead { size: self.size, root })
    }
}

impl Store {
    /// The end of the log after the last commit.
    pub fn audit_head(&self) -> TreeHead {
        self.heads.borrow().clone()
    }

    /// The same, for whoever waits for it to move.
    pub fn audit_heads(&self) -> tokio::sync::watch::Receiver<TreeHead> {
        self.heads.clone()
    }

    /// The newest checkpoint.
    pub async fn checkpoint_latest(&self) -> Result<Option<CheckpointRow>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM checkpoint ORDER BY size DESC LIMIT 1").fetch_optional(&self.readers).await?;
        row.as_ref().map(checkpoint).transpose()
    }

    /// The checkpoint over exactly so many records.
    pub async fn checkpoint_at(&self, size: u64) -> Result<Option<CheckpointRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM checkpoint WHERE size = ?1")
            .bind(size.cast_signed())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(checkpoint).transpose()
    }

    /// Checkpoints over more than so many records, the smallest first.
    pub async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<CheckpointRow>, StoreError> {
        checkpoints(&self.readers, after, limit).await
    }

    /// Every checkpoint.
    pub async fn checkpoints_all(&self) -> Result<Vec<CheckpointRow>, StoreError> {
        checkpoints(&self.readers, 0, u32::MAX).await
    }

    /// Keeps a checkpoint. It must cover more than every one before.
    pub async fn checkpoint_put(&self, row: CheckpointRow) -> Result<(), StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.writes.send(Job::Promise(row, answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// The roots over these ranges of records, by the hashes that are kept: the parts of a proof.
    pub async fn audit_roots(&self, parts: &[Range<u64>]) -> Result<Vec<Hash>, StoreError> {
        let mut roots = Vec::with_capacity(parts.len());
        for part in parts {
            roots.push(self.audit_root(part).await?);
        }
        Ok(roots)
    }

    /// The root over this range of records, by the hashes that are kept.
    pub async fn audit_root(&self, part: &Range<u64>) -> Result<Hash, StoreError> {
        nodes::root(&mut *self.readers.acquire().await?, part).await
    }

    /// Audit records from this place on, with the hashes that they completed.
    pub async fn audit_page(&self, seq: u64, limit: u32) -> Result<AuditPage, StoreError> {
        audit_page(&self.readers, seq, limit).await
    }
}

/// Records that follow one another, and the hashes over records that they completed; no hashes where the database is of
/// a version that kept none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub rows: Vec<AuditRow>,
    /// The hashes, as they are kept.
    pub nodes: Option<Vec<AuditNode>>,
}

/// The audit log of a database that nobody need have open: it is read, and nothing else.
#[derive(Debug)]
pub struct AuditFile {
    pool: SqlitePool,
}

impl AuditFile {
    /// Opens the database.
    ///
    /// # Errors
    /// Where there is none; so with the questions below where it cannot be read.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(10));
        Ok(Self { pool: SqlitePoolOptions::new().max_connections(1).connect_with(options).await? })
    }

    /// Records from this place on, with the hashes that they completed.
    pub async fn audit_page(&self, seq: u64, limit: u32) -> Result<AuditPage, StoreError> {
        let kept = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'audit_node'";
        if sqlx::query(kept).fetch_optional(&self.pool).await?.is_some() {
            return audit_page(&self.pool, seq, limit).await;
        }
        Ok(AuditPage { rows: audit_from(&self.pool, seq, limit).await?, nodes: None })
    }

    /// Every checkpoint, the smallest first.
    pub async fn checkpoints(&self) -> Result<Vec<CheckpointRow>, StoreError> {
        checkpoints(&self.pool, 0, u32::MAX).await
    }
}

pub(super) async fn audit_from(pool: &SqlitePool, seq: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    sqlx::query("SELECT * FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2")
        .bind(seq.cast_signed())
        .bind(limit)
        .fetch_all(pool)
        .await?
        .iter()
        .map(audit_row)
        .collect()
}

async fn audit_page(pool: &SqlitePool, seq: u64, limit: u32) -> Result<AuditPage, StoreError> {
    let rows = audit_from(pool, seq, limit).await?;
    let end = rows.last().map_or(seq, |row| row.seq + 1);
    // What a record completes is written with it: whatever came meanwhile is not of these.
    let nodes = nodes::completed(&mut *pool.acquire().await?, &(seq..end)).await?;
    Ok(AuditPage { rows, nodes: Some(nodes) })
}

async fn checkpoints(pool: &SqlitePool, after: u64, limit: u32) -> Result<Vec<CheckpointRow>, StoreError> {
    sqlx::query("SELECT * FROM checkpoint WHERE size > ?1 ORDER BY size LIMIT ?2")
        .bind(after.cast_signed())
        .bind(limit)
        .fetch_all(pool)
        .await?
        .iter()
        .map(checkpoint)
        .collect()
}

fn checkpoint(row: &SqliteRow) -> Result<CheckpointRow, StoreError> {
    let root: Vec<u8> = row.try_get("root")?;
    let at: &str = row.try_get("at")?;
    Ok(CheckpointRow {
        size: row.try_get::<i64, _>("size")?.cast_unsigned(),
        root: hex::encode(root),
        note: row.try_get("note")?,
        at: at.parse().map_err(|error| StoreError::Row(format!("at: {error}")))?,
    })
}
