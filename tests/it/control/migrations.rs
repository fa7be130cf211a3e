//! The database from each version to the one before and back, with data in it; and what stops in between.
//! Whatever migrations there are is found in their folder: a new one needs no line here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use debvisor::store::{Store, StoreError};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::server::Server;

/// The versions that there are, from 1, and the text of each step forward.
fn versions() -> BTreeMap<i64, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".up.sql") {
            let down = path.with_file_name(name.replace(".up.sql", ".down.sql"));
            assert!(down.is_file(), "{name} has no way back");
            found.insert(name[..4].parse().unwrap(), fs::read_to_string(path).unwrap());
        }
    }
    found
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

async fn texts(raw: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(raw).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

async fn tables(raw: &mut SqliteConnection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    texts(raw, sql).await
}

async fn columns(raw: &mut SqliteConnection, table: &str) -> Vec<String> {
    texts(raw, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY name")).await
}

/// Every row of every table, by the columns that `as_of` names.
type Rows = BTreeMap<(String, String), Vec<String>>;

async fn rows(raw: &mut SqliteConnection) -> Rows {
    let mut found = Rows::new();
    for table in tables(raw).await {
        for column in columns(raw, &table).await {
            let sql = format!("SELECT quote(\"{column}\") FROM \"{table}\" ORDER BY 1");
            let values = texts(raw, &sql).await;
            found.insert((table.clone(), column), values);
        }
    }
    found
}

/// Puts a row into every table that has none yet, with what its columns and references ask for.
async fn fill(raw: &mut SqliteConnection) -> Vec<String> {
    sqlx::query("PRAGMA foreign_keys = ON").execute(&mut *raw).await.unwrap();
    for _ in 0..4 {
        for table in tables(raw).await {
            if texts(raw, &format!("SELECT CAST(count(*) AS TEXT) FROM \"{table}\"")).await != ["0"] {
                continue;
            }
            let mut names = Vec::new();
            let mut values = Vec::new();
            let info = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT name, type FROM pragma_table_info('{table}')")));
            for row in info.fetch_all(&mut *raw).await.unwrap() {
                let (name, kind): (String, String) = (row.get(0), row.get(1));
                let sql = format!(
                    "SELECT \"table\" || '\".\"' || coalesce(\"to\", 'id') FROM pragma_foreign_key_list('{table}') \
                     WHERE \"from\" = '{name}'"
                );
                let reference = texts(raw, &sql).await.pop();
                values.push(match (reference, kind.as_str()) {
                    (Some(to), _) => {
                        let (of, column) = to.split_once("\".\"").unwrap();
                        format!("(SELECT \"{column}\" FROM \"{of}\" LIMIT 1)")
                    }
                    (None, "INTEGER") => "1".to_owned(),
                    (None, "BLOB") => "zeroblob(32)".to_owned(),
                    (None, _) => format!("'{name} of a test'"),
                });
                names.push(format!("\"{name}\""));
            }
            let sql = format!("INSERT INTO \"{table}\" ({}) VALUES ({})", names.join(", "), values.join(", "));
            // One that wants more than that is left empty, and told.
            let _ = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *raw).await;
        }
    }
    let mut empty = Vec::new();
    for table in tables(raw).await {
        if texts(raw, &format!("SELECT CAST(count(*) AS TEXT) FROM \"{table}\"")).await == ["0"] {
            empty.push(table);
        }
    }
    empty
}

async fn assert_sound(path: &Path, version: i64) {
    Store::is_sound(path).await.unwrap();
    assert_eq!(Store::versions(path).await.unwrap().found, version);
}

/// A database of the newest version with data that a real server wrote, and a row in what it has no verb for.
async fn with_data(dir: &Path) -> PathBuf {
    let path = dir.join("state.db");
    let server = tokio::task::spawn_blocking(move || {
        let mut server = Server::simulated();
        server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
        server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw"]);
        server.ok(&["vm", "start", "web"]);
        server.ok(&[
            "quarantine",
            "add",
            "policy:sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "--reason",
            "a test",
        ]);
        assert_eq!(server.terminate(), Some(0));
        server
    })
    .await
    .unwrap();
    Store::snapshot(&server.state().join("state.db"), &path).await.unwrap();
    let mut raw = raw(&path).await;
    let empty = fill(&mut raw).await;
    println!("tables without a row: {empty:?}");
    for table in ["vm", "vm_artifact", "vm_observed", "image", "decision", "operation", "event", "audit", "checkpoint"]
    {
        assert!(!empty.contains(&table.to_owned()), "{table} is empty");
    }
    raw.close().await.unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_version_has_a_place_for_survives_the_way_back_and_forward_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_data(dir.path()).await;
    let versions: Vec<i64> = versions().into_keys().collect();
    let newest = *versions.last().unwrap();
    assert_sound(&path, newest).await;
    let mut before = rows(&mut raw(&path).await).await;
    for version in versions.iter().rev().skip(1) {
        Store::migrate_back(&path, *version).await.unwrap();
        assert_sound(&path, *version).await;
        let now = rows(&mut raw(&path).await).await;
        assert!(!now.is_empty());
        for (place, values) in &now {
            assert_eq!(before.get(place), Some(values), "{place:?} on the way back to {version}");
        }
        before = now;
    }
    assert_eq!(Store::versions(&path).await.unwrap().found, 1);
    Store::open(&path).await.unwrap().close().await;
    assert_sound(&path, newest).await;
    let after = rows(&mut raw(&path).await).await;
    for (place, values) in &before {
        assert_eq!(after.get(place), Some(values), "{place:?} on the way forward from 1 to {newest}");
    }
    // It is used as before: the log goes on where it was.
    let store = Store::open(&path).await.unwrap();
    let records = after.get(&("audit".to_owned(), "seq".to_owned())).unwrap().len() as u64;
    assert_eq!(store.audit_head().size, records);
    assert!(store.vm_by_name("web").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_single_step_back_is_undone_by_its_step_forward() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_data(dir.path()).await;
    let schema = "SELECT coalesce(sql, name) FROM sqlite_schema WHERE name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY 1";
    let newest = texts(&mut raw(&path).await, schema).await;
    for version in versions().into_keys().rev() {
        let copy = dir.path().join(format!("{version}.db"));
        fs::copy(&path, &copy).unwrap();
        Store::migrate_back(&copy, version - 1).await.unwrap();
        Store::open(&copy).await.unwrap().close().await;
        assert_eq!(texts(&mut raw(&copy).await, schema).await, newest, "from {} again", version - 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_at_its_end_leaves_the_version_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    Store::open(&path).await.unwrap().close().await;
    let schema = "SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1";
    let versions = versions();
    for ((before_it, _), (version, text)) in versions.iter().zip(versions.iter().skip(1)) {
        // What the step makes last is there already, under its name: everything before that has been done by then.
        let mut made = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| ["CREATE", "UNIQUE"].contains(word));
            let kind = words.next().filter(|kind| line.starts_with("CREATE") && ["TABLE", "INDEX"].contains(kind));
            kind.and(words.next()).map(|name| name.trim_end_matches('(').to_owned())
        });
        let Some(last) = made.next_back() else { continue };
        let copy = dir.path().join(format!("{version}.db"));
        fs::copy(&path, &copy).unwrap();
        Store::migrate_back(&copy, version - 1).await.unwrap();
        let mut raw = raw(&copy).await;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE TABLE \"{last}\" (in_the_way)")))
            .execute(&mut raw)
            .await
            .unwrap();
        let before = texts(&mut raw, schema).await;
        assert!(Store::open(&copy).await.is_err(), "{last} is in the way of {version}");
        assert_eq!(texts(&mut raw, schema).await, before, "nothing of {version} is there");
        assert_sound(&copy, *before_it).await;
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE \"{last}\""))).execute(&mut raw).await.unwrap();
        Store::open(&copy).await.unwrap().close().await;
    }
}

#[test]
fn a_process_that_dies_in_a_step_leaves_the_version_before_it_and_the_next_one_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let versions: Vec<i64> = versions().into_keys().collect();
    let mut server = Server::simulated();
    server.ok(&[
        "quarantine",
        "add",
        "policy:sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "--reason",
        "a test",
    ]);
    assert_eq!(server.terminate(), Some(0));
    let path = server.state().join("state.db");
    runtime.block_on(Store::migrate_back(&path, 1)).unwrap();
    for step in versions.windows(2) {
        // The first step that is to be done from here dies before its commit.
        assert!(!server.up(Some("migration-before-commit:1")), "it did not die at {step:?}");
        assert_eq!(runtime.block_on(Store::versions(&path)).unwrap().found, step[0]);
        runtime.block_on(Store::is_sound(&path)).unwrap();
        // The step is done, and the next one dies.
        if step[1] != versions[versions.len() - 1] {
            assert!(!server.up(Some("migration-before-commit:2")));
        }
    }
    server.up(None);
    server.ok(&["audit", "verify"]);
    assert!(server.ok(&["quarantine", "list"]).contains("policy:sha256:0000"));
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut server = Server::simulated();
    assert_eq!(server.terminate(), Some(0));
    let path = server.state().join("state.db");
    runtime.block_on(async {
        let mut raw = raw(&path).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
             VALUES (9000, 'of the future', '2030-01-01', 1, x'00', 0)",
        )
        .execute(&mut raw)
        .await
        .unwrap();
        raw.close().await.unwrap();
        let refused = Store::open(&path).await.unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 9000, .. }), "{refused}");
    });
    let state = server.state();
    let told = server.cli(&["state", "version", "--state-dir", state.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stdout).contains("9000"));
    let config = server.dir.path().join("config.toml");
    let up = server.cli(&["up", "--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&up.stderr);
    assert_eq!(up.status.code(), Some(64), "{said}");
    assert!(said.contains("version 9000") && said.contains("hint:"), "{said}");
}
