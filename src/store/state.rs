//! The database as a whole: a copy of it as it is at one moment, whether it is sound, of which version it is, and the
//! end of its use.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::{MIGRATIONS, Store, StoreError};

/// Of which version a database is, and which is the newest that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The database's own; 0 where nothing was made in it yet.
    pub found: i64,
    /// The newest that this program knows.
    pub known: i64,
}

impl Store {
    /// Copies the database at `path`, as it is at this moment, to a new file; whoever writes goes on.
    ///
    /// # Errors
    /// Where it cannot be read, or `to` is there already.
    pub async fn snapshot(path: &Path, to: &Path) -> Result<(), StoreError> {
        let mut connection = reading(path).await?;
        sqlx::query("VACUUM INTO ?1").bind(to.display().to_string()).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Whether the database at `path` is whole: its pages, its indexes, and what its rows point at.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; [`StoreError::Newer`].
    pub async fn is_sound(path: &Path) -> Result<(), StoreError> {
        match look(path).await {
            // What cannot even be read as a database is damaged, and no fault of ours.
            Err(StoreError::Database(error)) => Err(StoreError::Damaged(error.to_string())),
            outcome => outcome,
        }
    }

    /// Of which version the database at `path` is.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn versions(path: &Path) -> Result<Versions, StoreError> {
        let mut connection = reading(path).await?;
        let found = version(&mut connection).await?;
        connection.close().await?;
        Ok(Versions { found, known: known() })
    }

    /// Machines that are described.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn vm_count(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM vm").fetch_one(&self.readers).await?;
        Ok(count.cast_unsigned())
    }

    /// Writes what waits, and returns when the file is closed. Clones that are left can read and write no more.
    pub async fn close(self) {
        let Self { readers, writes, mut events, .. } = self;
        readers.close().await;
        drop(writes);
        // The writer drops its end when it has ended.
        while events.changed().await.is_ok() {}
    }
}

async fn look(path: &Path) -> Result<(), StoreError> {
    let mut connection = reading(path).await?;
    refuse_newer(&mut connection).await?;
    let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
    if said != "ok" {
        return Err(StoreError::Damaged(said));
    }
    let lost = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut connection).await?;
    if let Some(row) = lost {
        let table: String = row.try_get(0)?;
        return Err(StoreError::Damaged(format!("a row of {table} points at nothing")));
    }
    Ok(connection.close().await?)
}

/// Refuses a database that a newer program has written to.
pub(super) async fn refuse_newer(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let (found, known) = (version(connection).await?, known());
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(()) }
}

fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_one(&mut *connection)
        .await?;
    if there == 0 {
        return Ok(0);
    }
    Ok(sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await?)
}

async fn reading(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(10));
    Ok(options.connect().await?)
}
