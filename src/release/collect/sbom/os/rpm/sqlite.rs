//! SQLite (`rpmdb.sqlite`), by SQLite itself over a copy of the file that is read only.
//!
//! A database is a program of its writer's: a view or a trigger under the name of the table would run. So the table
//! must be an ordinary one, and its rows are asked for by number, some at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};

use super::Database;
use crate::release::collect::sbom::tree::unreadable;
use crate::types::{Code, Reason, limits};

/// Rows of one question: their headers are in memory together.
const ROWS: i64 = 64;

/// Shows every blob.
pub(super) fn read(
    database: &mut Database<'_>,
    show: &mut dyn FnMut(&[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let failed = |error: io::Error| unreadable("a temporary file", &error);
    let folder = tempfile::tempdir().map_err(failed)?;
    database.content.rewind().map_err(|error| unreadable(database.path, &error))?;
    let copy = |content: &mut dyn io::Read, name: &str| {
        let mut limited = content.take(limits::SBOM_RPM_DATABASE_BYTES);
        File::create(folder.path().join(name)).and_then(|mut file| io::copy(&mut limited, &mut file)).map_err(failed)
    };
    copy(&mut database.content, "db")?;
    if let Some(log) = &mut database.log {
        copy(log, "db-wal")?;
    }
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("db"))
        .read_only(true)
        .immutable(database.log.is_none())
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("query_only", "ON");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let path = database.path;
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(|error| refused(path, &error))?;
        let result = packages(&mut connection, path, show).await;
        let _ = connection.close().await;
        result
    })
}

async fn packages(
    connection: &mut SqliteConnection,
    path: &str,
    show: &mut dyn FnMut(&[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let table = sqlx::query("SELECT type, sql FROM sqlite_schema WHERE name = 'Packages'")
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| refused(path, &error))?;
    let is_ordinary = |row: &sqlx::sqlite::SqliteRow| {
        let kind: String = row.try_get(0).unwrap_or_default();
        let sql: String = row.try_get(1).unwrap_or_default();
        kind == "table"
            && sql.trim_start().to_ascii_uppercase().starts_with("CREATE TABLE")
            && !sql.to_ascii_uppercase().contains("GENERATED")
            && !sql.to_ascii_uppercase().contains(" AS ")
    };
    if table.len() != 1 || !table.iter().all(is_ordinary) {
        return Err(super::malformed(path, "it has no table of packages"));
    }
    let mut last = i64::MIN;
    let mut packages = 0;
    loop {
        // The length is asked for first: a row that is too large is never fetched.
        let rows = sqlx::query(
            "SELECT rowid, length(blob), CASE WHEN length(blob) <= ?3 THEN blob END FROM Packages
             WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
        )
        .bind(last)
        .bind(ROWS)
        .bind(i64::try_from(limits::SBOM_RPM_HEADER_BYTES).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| refused(path, &error))?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            last = row.try_get(0).map_err(|error| refused(path, &error))?;
            packages += 1;
            if packages > limits::SBOM_COMPONENTS {
                let message = "the database has too many packages";
                return Err(Reason::new(Code::InputTooLarge, message).evidence(path));
            }
            let blob: Option<&[u8]> = row.try_get(2).map_err(|error| refused(path, &error))?;
            show(blob.ok_or_else(|| super::malformed(path, "a package header is larger than any"))?)?;
        }
    }
}

fn refused(path: &str, error: &sqlx::Error) -> Reason {
    super::malformed(path, format!("SQLite says: {error}"))
}
