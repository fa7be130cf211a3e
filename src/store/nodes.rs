//! Hashes over complete subtrees of the audit log: what is kept beside the records so that a root or a proof is made of
//! a few of them, however long the log is.
//!
//! Of every sixteen hashes of one level the hash over them is kept, sixteen times as rare. They are written in one
//! transaction with the record that completes them. Invariant: nothing is believed because it stands here: a check
//! computes every hash from the records, and what is signed was checked before.

use std::ops::Range;

use sqlx::{Row as _, SqliteConnection};

use super::StoreError;
use crate::release::evidence::merkle::Hash;
use crate::release::evidence::merkle::tree::{Tree, subtrees};

/// Every so many levels are kept: the hashes over 16, 256, 4096 records and so on.
pub(super) const STEP: u32 = 4;
/// How many hashes of a level the next one is over.
const WIDTH: u64 = 1 << STEP;

/// A hash that is kept, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditNode {
    /// It is over two to the power of this records.
    pub level: u32,
    /// How many of its level stand before it.
    pub index: u64,
    /// The hash.
    pub hash: Vec<u8>,
}

/// What a hash that is not there, or is none, stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// An error.
    Refused,
    /// Itself: the log goes on, and its roots are other ones than were promised.
    Zero,
}

pub(super) async fn insert(connection: &mut SqliteConnection, node: &AuditNode) -> Result<(), StoreError> {
    // One that is there already, as after the log's end was cut off, stays: a check names it.
    sqlx::query("INSERT INTO audit_node (level, idx, hash) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
        .bind(node.level)
        .bind(node.index.cast_signed())
        .bind(&node.hash)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds what is missing at the end for so many records: all of it, where an older version wrote them.
pub(super) async fn catch_up(connection: &mut SqliteConnection, size: u64) -> Result<(), StoreError> {
    for level in levels(size) {
        let there: i64 = sqlx::query_scalar("SELECT coalesce(max(idx) + 1, 0) FROM audit_node WHERE level = ?1")
            .bind(level)
            .fetch_one(&mut *connection)
            .await?;
        for index in there.cast_unsigned()..size >> level {
            let hash = subtree(connection, level - STEP, index * WIDTH..(index + 1) * WIDTH, Absent::Zero).await?;
            insert(connection, &AuditNode { level, index, hash: hash.to_vec() }).await?;
        }
    }
    Ok(())
}

/// The tree over the first so many records, whatever is missing.
pub(super) async fn tree(connection: &mut SqliteConnection, size: u64) -> Result<Tree, StoreError> {
    over(connection, &(0..size), Absent::Zero).await
}

/// The root over these records.
pub(super) async fn root(connection: &mut SqliteConnection, part: &Range<u64>) -> Result<Hash, StoreError> {
    Ok(over(connection, part, Absent::Refused).await?.root())
}

/// The hashes that these records completed.
pub(super) async fn completed(
    connection: &mut SqliteConnection,
    records: &Range<u64>,
) -> Result<Vec<AuditNode>, StoreError> {
    let mut found = Vec::new();
    for level in levels(records.end) {
        let rows = sqlx::query("SELECT idx, hash FROM audit_node WHERE level = ?1 AND idx >= ?2 AND idx < ?3")
            .bind(level)
            .bind((records.start >> level).cast_signed())
            .bind((records.end >> level).cast_signed())
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            let index: i64 = row.try_get("idx")?;
            found.push(AuditNode { level, index: index.cast_unsigned(), hash: row.try_get("hash")? });
        }
    }
    Ok(found)
}

/// The levels of which a log of so many records has a hash.
fn levels(size: u64) -> impl Iterator<Item = u32> {
    (STEP..u64::BITS).step_by(STEP as usize).take_while(move |level| size >> level > 0)
}

async fn over(connection: &mut SqliteConnection, part: &Range<u64>, absent: Absent) -> Result<Tree, StoreError> {
    let mut peaks = Vec::new();
    for (height, index) in subtrees(part) {
        let level = height - height % STEP;
        let width = 1 << (height - level);
        peaks.push(subtree(connection, level, index * width..(index + 1) * width, absent).await?);
    }
    let size = part.end.saturating_sub(part.start);
    Tree::of_peaks(size, peaks).ok_or_else(|| StoreError::Row(format!("{part:?} is no part of a tree")))
}

/// The root over these hashes of a level, which are as many as a complete subtree has.
async fn subtree(
    connection: &mut SqliteConnection,
    level: u32,
    hashes: Range<u64>,
    absent: Absent,
) -> Result<Hash, StoreError> {
    let mut tree = Tree::EMPTY;
    for hash in kept(connection, level, hashes, absent).await? {
        tree.push(hash);
    }
    Ok(tree.root())
}

/// The hashes of a level. One that is not there is computed from those below it.
async fn kept(
    connection: &mut SqliteConnection,
    level: u32,
    range: Range<u64>,
    absent: Absent,
) -> Result<Vec<Hash>, StoreError> {
    let query = if level == 0 {
        sqlx::query("SELECT seq AS idx, leaf AS hash FROM audit WHERE ?1 = 0 AND seq >= ?2 AND seq < ?3")
    } else {
        sqlx::query("SELECT idx, hash FROM audit_node WHERE level = ?1 AND idx >= ?2 AND idx < ?3")
    };
    let (start, end) = (range.start.cast_signed(), range.end.cast_signed());
    let rows = query.bind(level).bind(start).bind(end).fetch_all(&mut *connection).await?;
    let mut found = std::collections::HashMap::new();
    for row in rows {
        let (index, hash): (i64, Vec<u8>) = (row.try_get("idx")?, row.try_get("hash")?);
        found.insert(index.cast_unsigned(), hash);
    }
    let mut hashes = Vec::new();
    for index in range {
        let hash = match (found.remove(&index), absent) {
            (Some(hash), Absent::Refused) => {
                hash.try_into().map_err(|_| StoreError::Row("a hash of the audit log is no SHA-256".to_owned()))?
            }
            (Some(hash), Absent::Zero) => hash.try_into().unwrap_or_default(),
            (None, _) if level > 0 => {
                Box::pin(subtree(connection, level - STEP, index * WIDTH..(index + 1) * WIDTH, absent)).await?
            }
            (None, Absent::Refused) => return Err(StoreError::Missing(format!("there is no audit record {index}"))),
            (None, Absent::Zero) => Hash::default(),
        };
        hashes.push(hash);
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;
    use crate::store::{AuditCheck, AuditHead, AuditRecord, NewEvent, Store, Write};

    fn record(number: usize) -> Write {
        Write {
            changes: Vec::new(),
            audit: AuditRecord {
                at: "2026-01-01T00:00:00Z".parse().unwrap(),
                actor: "uid:0".to_owned(),
                origin: "socket".to_owned(),
                action: "test".to_owned(),
                object: format!("test/{number}"),
                outcome: "done".to_owned(),
                why: Vec::new(),
                data: serde_json::Value::Null,
            },
            event: NewEvent { kind: "test".to_owned(), subject: "test".to_owned(), data: serde_json::Value::Null },
        }
    }

    async fn raw(store: &Store) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", store.path().display())).await.unwrap()
    }

    async fn written(store: &Store, records: Range<usize>) {
        let all: Vec<_> = records.map(|number| store.write(record(number))).collect();
        for outcome in futures_util::future::join_all(all).await {
            outcome.unwrap();
        }
    }

    async fn is_sound(store: &Store) -> bool {
        let mut check = AuditCheck::new(AuditHead::EMPTY, vec![store.audit_head()]);
        loop {
            // Pages that end anywhere.
            let page = store.audit_page(check.size(), 37).await.unwrap();
            if page.rows.is_empty() {
                return check.end().1.is_empty();
            }
            check.take_page(&page);
        }
    }

    #[tokio::test]
    async fn every_root_is_that_of_the_records_with_the_hashes_that_are_kept_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).await.unwrap();
        written(&store, 0..600).await;
        let leaves: Vec<Hash> =
            store.audit_from(0, 1000).await.unwrap().into_iter().map(|row| row.leaf.try_into().unwrap()).collect();
        let mut raw = raw(&store).await;
        for kept in [600 / 16 + 600 / 256, 20, 0] {
            let there: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_node").fetch_one(&mut raw).await.unwrap();
            assert_eq!(there, kept);
            for part in [0..1, 0..600, 0..599, 5..6, 16..32, 256..512, 256..600, 512..600, 592..600, 599..600] {
                let mut tree = Tree::EMPTY;
                for at in part.clone() {
                    tree.push(leaves[usize::try_from(at).unwrap()]);
                }
                assert_eq!(store.audit_root(&part).await.unwrap(), tree.root(), "{part:?} of {kept}");
            }
            assert!(matches!(store.audit_root(&(0..601)).await, Err(StoreError::Missing(_))));
            assert_eq!(is_sound(&store).await, kept == 39, "one that is missing is a fault");
            // By another program than ours.
            let gone = "DROP TRIGGER IF EXISTS audit_node_is_not_deleted; \
                        DELETE FROM audit_node WHERE (level, idx) NOT IN \
                            (SELECT level, idx FROM audit_node WHERE level = 4 ORDER BY idx DESC LIMIT 20)";
            let all = "DELETE FROM audit_node";
            sqlx::raw_sql(if kept == 39 { gone } else { all }).execute(&mut raw).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_log_that_an_older_version_wrote_gets_its_hashes_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path).await.unwrap();
        written(&store, 0..300).await;
        let (size, head) = (300, store.audit_head());
        store.close().await;
        Store::migrate_back(&path, 5).await.unwrap();
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.audit_head(), head);
        assert!(is_sound(&store).await);
        written(&store, size..size + 40).await;
        assert!(is_sound(&store).await);
        assert_eq!(store.audit_page(0, 1000).await.unwrap().nodes.unwrap().len(), 340 / 16 + 340 / 256);
    }

    #[tokio::test]
    async fn a_log_whose_end_was_cut_off_is_written_on_and_is_not_sound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path).await.unwrap();
        written(&store, 0..32).await;
        let cut = "DROP TRIGGER audit_is_not_deleted; DELETE FROM audit WHERE seq >= 30";
        sqlx::raw_sql(cut).execute(&mut raw(&store).await).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.audit_head().size, 30);
        written(&store, 40..50).await;
        assert!(!is_sound(&store).await, "the hash over the records that were there is another one");
    }
}
