//! The audit log against whoever can write to the database: what they do to it is found, and named by its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::server::Server;
use super::tls::Remote;

/// A server on which something happened, with what an auditor keeps of it: the key, a checkpoint, and a copy of all.
struct Audited {
    server: Server,
    key: String,
    size: u64,
}

impl Audited {
    fn new() -> Self {
        let server = Server::simulated();
        server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
        server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw", "--why", "ticket 7"]);
        server.ok(&["vm", "start", "web"]);
        server.ok(&["vm", "stop", "web"]);
        let key = server.ok(&["audit", "key"]).trim().to_owned();
        let old = server.dir.path().join("old.note");
        server.ok(&["audit", "checkpoint", "--fresh", "--output", old.to_str().unwrap()]);
        let note = fs::read_to_string(&old).unwrap();
        let size = note.lines().nth(1).unwrap().parse().unwrap();
        assert!(size > 6, "{note}");
        Self { server, key, size }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.dir.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.server.state().join("state.db")
    }

    /// Puts this database in place of the server's.
    fn lay(&self, database: &Path) {
        for beside in ["state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(self.server.state().join(beside));
        }
        fs::copy(database, self.database()).unwrap();
    }

    /// Stops the server, runs these statements with the triggers off, as somebody with the host's root could.
    fn tamper(&mut self, statements: &str) {
        assert_eq!(self.server.terminate(), Some(0));
        sql(&self.database(), &format!("{OFF}{statements}"));
    }

    /// `audit verify` with these flags and the auditor's key.
    fn verify(&self, flags: &[&str]) -> (Option<i32>, Value) {
        self.verify_by(&self.key, flags)
    }

    fn verify_by(&self, key: &str, flags: &[&str]) -> (Option<i32>, Value) {
        let all: Vec<&str> =
            ["audit", "verify", "--format", "json", "--key", key].into_iter().chain(flags.iter().copied()).collect();
        report(&self.server.cli(&all))
    }

    fn verify_database(&self) -> (Option<i32>, Value) {
        self.verify(&["--database", self.database().to_str().unwrap()])
    }
}

/// Takes the triggers off.
const OFF: &str = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted; DROP TRIGGER audit_has_no_gaps;\n\
    DROP TRIGGER checkpoint_is_not_changed; DROP TRIGGER checkpoint_is_not_deleted; DROP TRIGGER checkpoint_grows;\n\
    DROP TRIGGER audit_node_is_not_changed; DROP TRIGGER audit_node_is_not_deleted;\n";

fn report(output: &Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), report)
}

/// Another program than ours writes to the file.
fn sql(database: &Path, statements: &str) {
    let output =
        python("import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])", database, statements);
    assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
}

fn python(program: &str, database: &Path, argument: &str) -> Output {
    Command::new("python3").args(["-c", program]).arg(database).arg(argument).output().unwrap()
}

/// Makes places, hashes and chain fit together again, and the hashes over records, as somebody would who knows how.
const WRITE_ANEW: &str = "
import hashlib, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
records = [row[0] for row in db.execute('SELECT record FROM audit ORDER BY seq')]
db.execute('DELETE FROM audit')
chain = bytes(32)
for seq, record in enumerate(records):
    leaf = hashlib.sha256(b'\\0' + record.encode()).digest()
    chain = hashlib.sha256(chain + leaf).digest()
    db.execute('INSERT INTO audit VALUES (?, ?, ?, ?)', (seq, record, leaf, chain))
db.execute('DELETE FROM audit_node')
hashes = [row[0] for row in db.execute('SELECT leaf FROM audit ORDER BY seq')]
level = 0
while len(hashes) > 1:
    level += 1
    pairs = zip(hashes[::2], hashes[1::2])
    hashes = [hashlib.sha256(b'\\1' + left + right).digest() for left, right in pairs]
    if level % 4 == 0:
        rows = [(level, index, hash) for index, hash in enumerate(hashes)]
        db.executemany('INSERT INTO audit_node VALUES (?, ?, ?)', rows)
db.commit()
";

#[track_caller]
fn assert_found(found: (Option<i32>, Value), code: &str, place: &str) {
    let (exit, report) = found;
    assert_eq!(exit, Some(1), "{report:#}");
    assert_eq!(report["reasons"][0]["code"], code, "{report:#}");
    assert_eq!(report["reasons"][0]["location"], place, "{report:#}");
}

/// Whether the server says that it is ready, and what it says of its log.
fn ready(server: &Server) -> (u16, Value) {
    // A look is told for a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let answer = Remote::at_socket(server).get("/health/ready").unwrap();
    let checks = answer.json()["checks"].clone();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "audit-log").unwrap().clone();
    (answer.status, check)
}

#[test]
fn a_record_that_is_altered_beneath_a_running_server_makes_it_not_ready_and_is_named() {
    let mut audited = Audited::new();
    assert_eq!(ready(&audited.server), (200, serde_json::json!({ "name": "audit-log", "ok": true })));
    let altered = "UPDATE audit SET record = replace(record, 'ticket 7', 'ticket 8') WHERE record LIKE '%ticket 7%';";
    sql(&audited.database(), &format!("DROP TRIGGER audit_is_not_changed; {altered}"));
    let output = audited.server.cli(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let (status, check) = ready(&audited.server);
    assert_eq!((status, &check["ok"]), (503, &Value::Bool(false)), "{check}");
    let told = check["detail"].as_str().unwrap();
    assert!(told.contains("was altered after it was written") && told.contains("audit-record-altered"), "{told}");
    // It does not get well by itself, nor by being started again.
    audited.server.ok(&["vm", "start", "web"]);
    assert_eq!(ready(&audited.server).0, 503);
    audited.server.terminate();
    audited.server.up(None);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ready(&audited.server).0 != 503 {
        assert!(std::time::Instant::now() < until, "{}", audited.server.log());
    }
    assert!(ready(&audited.server).1["detail"].as_str().unwrap().contains("audit-record-altered"));
}

#[test]
fn the_newest_record_is_looked_at_whenever_somebody_asks_whether_it_is_ready() {
    let audited = Audited::new();
    let altered = "UPDATE audit SET record = record || ' ' WHERE seq = (SELECT max(seq) FROM audit);";
    sql(&audited.database(), &format!("DROP TRIGGER audit_is_not_changed; {altered}"));
    let (status, check) = ready(&audited.server);
    assert_eq!(status, 503, "{check}");
    assert!(check["detail"].as_str().unwrap().contains("audit-record-altered"), "{check}");
}

#[test]
fn one_record_changed_in_the_file_is_named_offline_and_at_the_next_start_and_nothing_is_signed_over_it() {
    let mut audited = Audited::new();
    assert_eq!(audited.verify(&[]).0, Some(0));
    audited.tamper("UPDATE audit SET record = replace(record, 'ticket 7', 'ticket 8') WHERE record LIKE '%ticket 7%';");
    let place = {
        let (_, report) = audited.verify_database();
        report["reasons"][0]["location"].as_str().unwrap().to_owned()
    };
    assert!(place.starts_with("record "), "{place}");
    assert_found(audited.verify_database(), "audit-record-altered", &place);
    audited.server.up(None);
    assert_found(audited.verify(&[]), "audit-record-altered", &place);
    audited.server.refused(&["audit", "checkpoint", "--fresh"], "audit-record-altered");
    let told = audited.server.events("audit.broken");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["faults"][0]["location"], place.as_str());
    // It is told once, and again by the next process; the checkpoints stay those that were signed before.
    let note = audited.server.ok(&["audit", "checkpoint"]);
    assert!(note.lines().nth(1).unwrap().parse::<u64>().unwrap() <= audited.size + 2, "{note}");
    let list = audited.server.ok(&["audit", "list", "--action", "audit.", "--outcome", "failed"]);
    assert!(list.contains("audit-record-altered"), "{list}");
}

#[test]
fn a_deleted_a_moved_an_inserted_and_a_cut_off_record_are_named() {
    let mut audited = Audited::new();
    assert_eq!(audited.server.terminate(), Some(0));
    let whole = audited.path("whole.db");
    // With what is still in the write-ahead log.
    sql(&audited.database(), &format!("VACUUM INTO '{}'", whole.display()));
    let size: u64 = audited.verify_database().1["facts"]["audit"]["records"].as_u64().unwrap();
    let last = size - 1;
    for (statements, code, place) in [
        ("DELETE FROM audit WHERE seq = 3;".to_owned(), "audit-record-missing", "record 3".to_owned()),
        (
            "UPDATE audit SET seq = -1 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4; \
             UPDATE audit SET seq = 4 WHERE seq = -1;"
                .to_owned(),
            "audit-record-reordered",
            "record 3".to_owned(),
        ),
        (
            "UPDATE audit SET seq = -seq - 2 WHERE seq > 3; UPDATE audit SET seq = -seq - 1 WHERE seq < 0; \
             INSERT INTO audit SELECT 4, record, leaf, chain FROM audit WHERE seq = 1;"
                .to_owned(),
            "audit-record-reordered",
            "record 4".to_owned(),
        ),
        (format!("DELETE FROM audit WHERE seq >= {last};"), "audit-record-missing", format!("record {last}")),
        (
            "UPDATE audit SET leaf = zeroblob(32) WHERE seq = 5;".to_owned(),
            "audit-record-altered",
            "record 5".to_owned(),
        ),
        (
            "UPDATE checkpoint SET note = replace(note, 'debvisor/test', 'debvisor/best');".to_owned(),
            "checkpoint-invalid",
            "checkpoint over ".to_owned(),
        ),
    ] {
        audited.lay(&whole);
        sql(&audited.database(), &format!("{OFF}{statements}"));
        let (exit, report) = audited.verify_database();
        assert_eq!(exit, Some(1), "{statements}");
        assert_eq!(report["reasons"][0]["code"], code, "{statements}: {report:#}");
        assert!(report["reasons"][0]["location"].as_str().unwrap().starts_with(&place), "{statements}: {report:#}");
    }
    // A shorter log does not pass for an older one: the next process will not sign over it.
    audited.lay(&whole);
    sql(&audited.database(), &format!("{OFF}DELETE FROM audit WHERE seq >= {last};"));
    audited.server.up(None);
    audited.server.refused(&["audit", "checkpoint", "--fresh"], "audit-re");
}

#[test]
fn who_writes_the_whole_log_anew_is_found_by_the_checkpoints_also_by_somebody_who_holds_only_those() {
    let mut audited = Audited::new();
    let old = audited.path("old.note");
    let old = old.to_str().unwrap().to_owned();
    assert_eq!(audited.verify(&["--checkpoint", &old]).0, Some(0));
    audited.tamper("UPDATE audit SET record = replace(record, 'ticket 7', 'ticket 8');");
    assert!(python(WRITE_ANEW, &audited.database(), "").status.success());
    let (exit, report) = audited.verify_database();
    assert_eq!((exit, &report["reasons"][0]["code"]), (Some(1), &"audit-rewritten".into()), "{report:#}");
    // The checkpoints that the server kept go as well. Then it knows nothing of it, and the auditor does.
    sql(&audited.database(), "DELETE FROM checkpoint;");
    assert_eq!(audited.verify_database().0, Some(0));
    let database = audited.database();
    let found = audited.verify(&["--database", database.to_str().unwrap(), "--checkpoint", &old]);
    assert_eq!(found.1["reasons"][0]["code"], "audit-rewritten", "{:#}", found.1);
    audited.server.up(None);
    let new = audited.path("new.note");
    audited.server.ok(&["audit", "checkpoint", "--fresh", "--output", new.to_str().unwrap()]);
    assert_eq!(audited.verify(&[]).0, Some(0), "nobody else would see it");
    let place = format!("records 0 to {}", audited.size - 1);
    assert_found(audited.verify(&["--checkpoint", &old]), "consistency-invalid", &place);
    let both = ["--checkpoint", &old, "--checkpoint", new.to_str().unwrap()];
    let (exit, report) = audited.verify(&both);
    assert_eq!((exit, &report["reasons"][0]["code"]), (Some(1), &"consistency-invalid".into()), "{report:#}");
}

#[test]
fn a_hash_over_records_that_was_altered_is_named_nothing_is_signed_over_it_and_one_that_is_gone_is_made_again() {
    let mut audited = Audited::new();
    for _ in 0..8 {
        audited.server.ok(&["vm", "start", "web"]);
        audited.server.ok(&["vm", "stop", "web"]);
    }
    assert_eq!(audited.server.terminate(), Some(0));
    let whole = audited.path("whole.db");
    sql(&audited.database(), &format!("VACUUM INTO '{}'", whole.display()));
    for change in ["UPDATE audit_node SET hash = zeroblob(32) WHERE idx = 0;", "DELETE FROM audit_node WHERE idx = 0;"]
    {
        audited.lay(&whole);
        sql(&audited.database(), &format!("{OFF}{change}"));
        let found = audited.verify_database();
        assert_found(found, "audit-hash-altered", "record 0");
    }
    // The records are right, so that what they say is proved all the same: a hash that is gone is computed again.
    audited.server.up(None);
    let proof = audited.path("proof.json");
    let proof = proof.to_str().unwrap();
    audited.server.ok(&["audit", "prove", "20", "--output", proof]);
    assert_eq!(audited.verify(&["--proof", proof]).0, Some(0));
    assert_eq!(audited.server.terminate(), Some(0));

    audited.lay(&whole);
    sql(&audited.database(), &format!("{OFF}UPDATE audit_node SET hash = zeroblob(32) WHERE idx = 0;"));
    audited.server.up(None);
    assert_eq!(audited.verify(&[]).0, Some(1));
    audited.server.refused(&["audit", "checkpoint", "--fresh"], "audit-");
    assert_eq!(audited.server.events("audit.broken").len(), 1);
    // All of them are gone, as in a database of the version before: they are made again at the start.
    assert_eq!(audited.server.terminate(), Some(0));
    audited.lay(&whole);
    sql(&audited.database(), &format!("{OFF}DELETE FROM audit_node;"));
    audited.server.up(None);
    assert_eq!(audited.verify(&[]).0, Some(0));
    assert_eq!(audited.verify_database().0, Some(0));
}

#[test]
fn two_checkpoints_and_a_proof_in_a_file_are_enough() {
    let audited = Audited::new();
    let server = &audited.server;
    server.ok(&["vm", "start", "web"]);
    let new = audited.path("new.note");
    server.ok(&["audit", "checkpoint", "--fresh", "--output", new.to_str().unwrap()]);
    let to = fs::read_to_string(&new).unwrap().lines().nth(1).unwrap().to_owned();
    let proof = audited.path("grown.json");
    let proof = proof.to_str().unwrap();
    let from = audited.size.to_string();
    server.ok(&["audit", "prove", "--from", &from, "--to", &to, "--output", proof]);
    server.ok(&["log", "consistency", proof]);
    let old = audited.path("old.note");
    let kept = ["--checkpoint", old.to_str().unwrap(), "--checkpoint", new.to_str().unwrap()];
    let with = |more: &[&str]| audited.verify(&[&kept[..], more].concat());
    assert_eq!(with(&[]).0, Some(0), "the server gives the proof");
    assert_eq!(with(&["--proof", proof]).0, Some(0), "the file does");
    assert_eq!(audited.verify(&["--proof", proof]).0, Some(0), "it brings its own checkpoints along");

    // A proof that is about something else than what was kept.
    let third = audited.path("third.note");
    server.ok(&["vm", "stop", "web"]);
    server.ok(&["audit", "checkpoint", "--fresh", "--output", third.to_str().unwrap()]);
    let (exit, report) = with(&["--checkpoint", third.to_str().unwrap(), "--proof", proof]);
    assert_eq!((exit, &report["reasons"][0]["code"]), (Some(1), &"consistency-invalid".into()), "{report:#}");
    // Another server's key.
    let stranger = Server::simulated().ok(&["audit", "key"]).trim().to_owned();
    let (exit, report) = audited.verify_by(&stranger, &["--proof", proof]);
    assert_eq!((exit, &report["reasons"][0]["code"]), (Some(1), &"checkpoint-invalid".into()), "{report:#}");
    // And without a key nothing is known.
    let (exit, report) = report_of(server, &["audit", "verify", "--proof", proof]);
    assert_eq!((exit, &report["reasons"][0]["code"]), (Some(2), &"audit-key-missing".into()), "{report:#}");
}

fn report_of(server: &Server, args: &[&str]) -> (Option<i32>, Value) {
    report(&server.cli(&[args, &["--format", "json"]].concat()))
}

#[test]
fn a_record_is_proved_to_somebody_who_has_nothing_but_the_key() {
    let audited = Audited::new();
    let server = &audited.server;
    let path = audited.path("proof.json");
    let proof = path.to_str().unwrap();
    server.ok(&["audit", "prove", "3", "--output", proof]);
    server.ok(&["log", "inclusion", proof]);
    let (exit, report) = audited.verify(&["--proof", proof]);
    assert_eq!(exit, Some(0), "{report:#}");
    assert_eq!(report["facts"]["audit"]["inclusion"]["index"], 3);
    assert!(report["facts"]["audit"]["record"]["actor"].is_string(), "it says what was done by whom: {report:#}");

    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let change = |field: &str, value: Value| {
        let mut changed = file.clone();
        changed[field] = value;
        fs::write(&path, changed.to_string()).unwrap();
        audited.verify(&["--proof", proof])
    };
    let record = file["record"].as_str().unwrap().replacen("uid:", "uid:1", 1);
    assert_found(change("record", record.into()), "audit-record-altered", "record");
    assert_found(change("leafIdx", 2.into()), "inclusion-invalid", "proof");
    assert_eq!(change("checkpoint", Value::Null).1["reasons"][0]["code"], "checkpoint-invalid");
    assert_eq!(change("treeSize", (audited.size - 1).into()).0, Some(1));
    assert_eq!(server.cli(&["audit", "prove", "9999"]).status.code(), Some(64), "there is no such record");
}

#[test]
fn another_implementation_agrees_about_every_record_root_and_signature() {
    let audited = Audited::new();
    let server = &audited.server;
    let file = |name: &str| audited.path(name).to_str().unwrap().to_owned();
    let (export, one, two) = (file("export.jsonl"), file("one.json"), file("two.json"));
    server.ok(&["audit", "export", "--output", &export]);
    server.ok(&["audit", "prove", "2", "--output", &one]);
    server.ok(&["audit", "prove", "--from", "3", "--to", &audited.size.to_string(), "--output", &two]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/control/audit_log.py");
    let judged =
        |export: &str| Command::new("python3").arg(&script).args([export, &audited.key, &one, &two]).output().unwrap();
    let output = judged(&export);
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.starts_with("sound: "), "{told}");
    assert_eq!(audited.verify(&["--file", &export]).0, Some(0));

    // What it refuses, ours refuses.
    let lines: Vec<String> = fs::read_to_string(&export).unwrap().lines().map(str::to_owned).collect();
    let changed = file("changed.jsonl");
    let mut cases: Vec<(&str, Vec<String>)> = Vec::new();
    let mut without = lines.clone();
    without.remove(3);
    cases.push(("audit-record-missing", without));
    let mut altered = lines.clone();
    altered[3] = altered[3].replacen("socket", "Socket", 1);
    cases.push(("audit-record-altered", altered));
    let mut exchanged = lines.clone();
    exchanged.swap(3, 4);
    cases.push(("audit-record-missing", exchanged));
    let mut signed_by_another = lines.clone();
    let note = signed_by_another.pop().unwrap();
    signed_by_another.push(note.replacen("debvisor/test/audit\\n", "debvisor/best/audit\\n", 1));
    cases.push(("checkpoint-invalid", signed_by_another));
    for (code, lines) in cases {
        fs::write(&changed, lines.join("\n") + "\n").unwrap();
        assert!(!judged(&changed).status.success(), "{code}");
        let (exit, report) = audited.verify(&["--file", &changed]);
        assert_eq!((exit, &report["reasons"][0]["code"]), (Some(1), &code.into()), "{report:#}");
    }
    // Cut off: the records that are there are right, and the end is missing.
    fs::write(&changed, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    assert_eq!(audited.verify(&["--file", &changed]).1["reasons"][0]["code"], "audit-unreadable");
}

#[test]
fn the_database_refuses_to_change_or_delete_records_and_checkpoints_whoever_asks() {
    let mut audited = Audited::new();
    assert_eq!(audited.server.terminate(), Some(0));
    for statement in [
        "UPDATE audit SET record = '{}'",
        "DELETE FROM audit",
        "INSERT INTO audit VALUES (100000, '{}', x'00', x'00')",
        "UPDATE checkpoint SET note = ''",
        "DELETE FROM checkpoint",
        "INSERT INTO checkpoint VALUES (1, x'00', '', '')",
        "INSERT OR REPLACE INTO checkpoint SELECT size, root, '', at FROM checkpoint",
    ] {
        let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])";
        let output = python(program, &audited.database(), statement);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{statement}");
        assert!(told.contains("append-only") || told.contains("no gaps"), "{statement}: {told}");
    }
    assert_eq!(audited.verify_database().0, Some(0));
}

#[test]
fn records_are_found_by_who_what_when_and_what_they_are_evidence_for() {
    let audited = Audited::new();
    let list = |flags: &[&str]| audited.server.json(&[&["audit", "list"], flags].concat());
    let all = list(&[]);
    let all = all.as_array().unwrap();
    assert!(all.iter().all(|record| !record["tags"].as_array().unwrap().is_empty()), "nothing is without a tag");
    let created = list(&["--action", "vm.create"]);
    assert_eq!(created.as_array().unwrap().len(), 1, "{created}");
    let created = &created[0];
    assert_eq!(created["why"][0], "ticket 7");
    assert!(created["tags"].as_array().unwrap().contains(&"soc2:CC8.1".into()), "{created}");
    assert_eq!(list(&["--tag", "soc2:CC8.1", "--object", created["object"].as_str().unwrap()])[0], *created);
    assert!(list(&["--tag", "soc2"]).as_array().unwrap().len() > 1);
    assert_eq!(list(&["--outcome", "failed"]), serde_json::json!([]));
    let actor = created["actor"].as_str().unwrap();
    let by = list(&["--actor", actor]);
    assert!(
        by.as_array().unwrap().iter().all(|record| record["actor"] == actor)
            && by.as_array().unwrap().len() < all.len()
    );
    let at = created["at"].as_str().unwrap();
    let (before, after) = (list(&["--until", at]), list(&["--since", at]));
    assert_eq!(before.as_array().unwrap().len() + after.as_array().unwrap().len(), all.len());
}

#[test]
fn every_tag_is_told_of_with_the_title_of_its_clause() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/audit.md")).unwrap();
    let told: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let tags: Vec<&str> = debvisor::store::tags::TAGS.iter().flat_map(|(_, tags)| tags.iter().copied()).collect();
    for tag in &tags {
        assert!(told.contains(tag), "{tag} is not told of");
    }
    for tag in told {
        assert!(tags.contains(&tag), "nothing has the tag {tag}");
    }
}
