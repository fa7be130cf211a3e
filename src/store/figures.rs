//! What the database tells of itself: how large and how slow its commits are and what waits for them, whether it can be
//! written and read now, and how much there is of what. Nothing of it names anybody.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::audit::follows;
use super::{AuditFault, Store, StoreError};

/// The commits so far. Clones share it.
#[derive(Debug, Clone)]
pub struct Commits {
    /// Seconds that each took, with its sync.
    pub seconds: Histogram,
    /// Writes in each.
    pub writes: Histogram,
    /// Writes that were handed in and are not answered yet.
    pub waiting: Gauge,
}

/// One write that waits, as long as this is kept.
pub(super) struct Waiting(Gauge);

impl Commits {
    pub(super) fn wait(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            writes: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            waiting: Gauge::default(),
        }
    }
}

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Machines by what was seen of them, and whether they are held back.
    pub vms: Vec<(String, bool, u64)>,
    /// Events.
    pub events: u64,
    /// Audit records.
    pub audit: u64,
    /// What must not run.
    pub quarantines: u64,
    /// Images.
    pub images: u64,
    /// Bytes of images.
    pub image_bytes: u64,
}

impl Store {
    /// The commits so far.
    pub const fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Takes the database for writing, writes, takes it back, and reads: by the way of every write, but for the sync.
    ///
    /// # Errors
    /// Where one of them fails, or the writer has gone.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if self.writes.is_closed() {
            return Err(StoreError::Closed);
        }
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(Duration::from_secs(2));
        let mut connection = options.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("CREATE TABLE probe (at INTEGER) STRICT").execute(&mut *transaction).await?;
        transaction.rollback().await?;
        connection.close().await?;
        sqlx::query("SELECT name FROM node LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
    }

    /// Whether the newest audit record follows on the one before it.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn audit_head_probe(&self) -> Result<Result<(), AuditFault>, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM audit").fetch_one(&self.readers).await?;
        let Some(newest) = newest.map(i64::cast_unsigned) else { return Ok(Ok(())) };
        let rows = self.audit_from(newest.saturating_sub(1), 2).await?;
        Ok(match rows.as_slice() {
            [last] if last.seq == 0 => follows(None, last),
            [before, last] => follows(Some(before), last),
            _ => Err(AuditFault::Missing { first: newest.saturating_sub(1), last: newest.saturating_sub(1) }),
        })
    }

    /// Bytes that are free where the database is.
    ///
    /// # Errors
    /// Where the file system does not say.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Counts.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn census(&self) -> Result<Census, StoreError> {
        let rows = sqlx::query(
            "SELECT coalesce(json_extract(o.observed, '$.power'), 'stopped') AS power, vm.hold IS NOT NULL AS held, \
             count(*) AS machines FROM vm LEFT JOIN vm_observed o ON o.vm = vm.id GROUP BY 1, 2",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut census = Census::default();
        for row in rows {
            let machines: i64 = row.try_get("machines")?;
            census.vms.push((row.try_get("power")?, row.try_get("held")?, machines.cast_unsigned()));
        }
        // The largest numbers, not counts: a log of millions is not walked through for a figure.
        let row = sqlx::query(
            "SELECT (SELECT coalesce(max(id), 0) FROM event) AS events, \
             (SELECT coalesce(max(seq) + 1, 0) FROM audit) AS audit, (SELECT count(*) FROM quarantine) AS quarantines, \
             (SELECT count(*) FROM image) AS images, \
             (SELECT coalesce(sum(json_extract(facts, '$.bytes')), 0) FROM image) AS image_bytes",
        )
        .fetch_one(&self.readers)
        .await?;
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
        census.events = number("events")?;
        census.audit = number("audit")?;
        census.quarantines = number("quarantines")?;
        census.images = number("images")?;
        census.image_bytes = number("image_bytes")?;
        Ok(census)
    }
}
