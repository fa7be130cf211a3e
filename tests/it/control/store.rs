//! What is kept: all or nothing, on the disk before anybody is told, and never changed afterwards.

use std::path::Path;

use debvisor::store::{
    AuditFault, AuditHead, AuditRecord, Change, NewEvent, Operation, OperationState, Sight, Store, StoreError, Vm,
    VmChange, Write, Written, check_audit,
};
use debvisor::types::Digest;
use debvisor::types::vm::{DesiredPower, Disk, VmId, VmSpec};
use jiff::Timestamp;
use sqlx::{Connection as _, SqliteConnection};
use uuid::Uuid;

fn at() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn machine(number: u128, name: &str) -> Vm {
    let spec = serde_json::json!({ "name": name, "memory_mib": 64 });
    let spec = serde_json::from_value::<VmSpec>(spec).unwrap();
    Vm::described(VmId::new(Uuid::from_u128(number)), "node", "default", spec, at(), "uid:0")
}

pub(super) fn write(action: &str, object: &str, changes: Vec<Change>) -> Write {
    Write {
        changes,
        audit: AuditRecord {
            at: at(),
            actor: "uid:0".to_owned(),
            origin: "socket".to_owned(),
            action: action.to_owned(),
            object: object.to_owned(),
            outcome: "done".to_owned(),
            why: Vec::new(),
            data: serde_json::Value::Null,
        },
        event: NewEvent { kind: action.to_owned(), subject: object.to_owned(), data: serde_json::json!({}) },
    }
}

pub(super) fn create(number: u128, name: &str) -> Write {
    write("vm.create", &format!("vm/{name}"), vec![Change::VmCreated(Box::new(machine(number, name)))])
}

async fn counts(path: &Path) -> (i64, i64, i64) {
    let mut raw = raw(path).await;
    let mut count = async |sql: &'static str| sqlx::query_scalar(sql).fetch_one(&mut raw).await.unwrap();
    (
        count("SELECT count(*) FROM vm").await,
        count("SELECT count(*) FROM audit").await,
        count("SELECT count(*) FROM event").await,
    )
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_its_audit_record_and_its_event_are_there_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.write(create(1, "a")).await.unwrap(), Written { event: 1, audit: 0 });
    assert_eq!(counts(&path).await, (1, 1, 1));

    // The name is taken: nothing of the write is there, the operation before it neither.
    let operation = Operation {
        id: Uuid::from_u128(9),
        vm: VmId::new(Uuid::from_u128(2)),
        kind: "create".to_owned(),
        action: None,
        state: OperationState::Pending,
        reasons: Vec::new(),
        message: None,
        created_at: at(),
        created_by: "uid:0".to_owned(),
        ended_at: None,
    };
    let mut both = create(2, "a");
    both.changes.insert(0, Change::OperationPut(Box::new(operation)));
    assert!(matches!(store.write(both).await, Err(StoreError::Conflict(what)) if what.contains("exists already")));
    assert_eq!(counts(&path).await, (1, 1, 1));
    assert!(store.operation(Uuid::from_u128(9)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_come_together_share_a_commit_and_one_that_does_not_fit_takes_none_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    let mut tasks = Vec::new();
    for number in 1..=400_u128 {
        let store = store.clone();
        // Every tenth takes a name that is gone.
        let name = if number % 10 == 0 { "taken".to_owned() } else { format!("vm-{number}") };
        tasks.push(tokio::spawn(async move { store.write(create(number, &name)).await }));
    }
    let mut places = Vec::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(written) => places.push(written.audit),
            Err(StoreError::Conflict(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    places.sort_unstable();
    assert_eq!(refused, 39);
    assert_eq!(places, (0..361).collect::<Vec<_>>(), "no place is left out or given twice");
    assert_eq!(counts(&path).await, (361, 361, 361));
    let rows = store.audit_from(0, 1000).await.unwrap();
    assert_eq!(check_audit(AuditHead::EMPTY, &rows).unwrap().size, 361);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    store.write(create(1, "a")).await.unwrap();
    let head = check_audit(AuditHead::EMPTY, &store.audit_from(0, 10).await.unwrap()).unwrap();
    drop(store);
    let again = Store::open(&path).await.unwrap();
    assert_eq!(again.vm_by_name("a").await.unwrap().unwrap(), machine(1, "a"));
    again.write(create(2, "b")).await.unwrap();
    let rows = again.audit_from(0, 10).await.unwrap();
    assert_eq!(check_audit(AuditHead::EMPTY, &rows[..1]).unwrap(), head);
    assert_eq!(check_audit(head, &rows[1..]).unwrap().size, 2, "the chain goes on where it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_who_saw_the_same_generation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db")).await.unwrap();
    store.write(create(1, "a")).await.unwrap();
    let id = VmId::new(Uuid::from_u128(1));
    let mut spec = machine(1, "a").spec;
    spec.disks.push(Disk { image: Digest::sha256(b"disk"), size_bytes: None, read_only: false });
    let change = |spec: &VmSpec| VmChange {
        if_generation: Some(1),
        bump: true,
        spec: Some(spec.clone()),
        ..VmChange::default()
    };
    store.write(write("vm.update", "vm/a", vec![Change::VmChanged(id, Box::new(change(&spec)))])).await.unwrap();
    let late = store.write(write("vm.update", "vm/a", vec![Change::VmChanged(id, Box::new(change(&spec)))])).await;
    assert!(matches!(late, Err(StoreError::Conflict(what)) if what.contains("meanwhile")));
    let nobody = VmId::new(Uuid::from_u128(5));
    let missing = store.write(write("vm.update", "vm/x", vec![Change::VmChanged(nobody, Box::default())])).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))));
    assert_eq!(store.vm(id).await.unwrap().unwrap().generation, 2);
    assert_eq!(store.vms_made_of(&Digest::sha256(b"disk")).await.unwrap().len(), 1, "found by what it is made of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_itself_refuses_to_change_delete_or_insert_into_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    store.write(create(1, "a")).await.unwrap();
    let mut raw = raw(&path).await;
    for attempt in [
        "UPDATE audit SET record = '{}' WHERE seq = 0",
        "DELETE FROM audit",
        "INSERT INTO audit (seq, record, leaf, chain) VALUES (7, '{}', x'00', x'00')",
        "UPDATE event SET kind = 'nothing.happened'",
    ] {
        let refused = sqlx::query(attempt).execute(&mut raw).await.unwrap_err().to_string();
        assert!(refused.contains("append-only") || refused.contains("no gaps"), "{attempt}: {refused}");
    }
    // By hand, with the triggers taken off, it can be changed; and then it is found and named.
    for number in 2..=4 {
        store.write(create(number, &format!("vm-{number}"))).await.unwrap();
    }
    sqlx::query("DROP TRIGGER audit_is_not_changed").execute(&mut raw).await.unwrap();
    sqlx::query("UPDATE audit SET record = replace(record, 'vm-3', 'vm-9') WHERE seq = 2")
        .execute(&mut raw)
        .await
        .unwrap();
    let rows = store.audit_from(0, 10).await.unwrap();
    assert_eq!(check_audit(AuditHead::EMPTY, &rows), Err(AuditFault::Altered(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_is_not_two() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db")).await.unwrap();
    let asked = debvisor::store::Approval {
        id: Uuid::from_u128(3),
        quarantine: Uuid::from_u128(4),
        reason: "false alarm".to_owned(),
        requested_by: "uid:1000".to_owned(),
        requested_at: at(),
        approved_by: None,
        approved_at: None,
        expires_at: at(),
    };
    let quarantine = debvisor::store::Quarantine {
        id: Uuid::from_u128(4),
        target: "policy:sha256:00".to_owned(),
        why: "test".to_owned(),
        by: "uid:1000".to_owned(),
        since: at(),
    };
    store.write(write("quarantine.add", "q", vec![Change::QuarantineAdded(Box::new(quarantine))])).await.unwrap();
    store.write(write("quarantine.release", "q", vec![Change::ApprovalAsked(Box::new(asked))])).await.unwrap();
    let given = |by: &str| vec![Change::ApprovalGiven { id: Uuid::from_u128(3), by: by.to_owned(), at: at() }];
    assert!(matches!(store.write(write("approve", "q", given("UID:1000"))).await, Err(StoreError::Conflict(_))));
    store.write(write("approve", "q", given("uid:1001"))).await.unwrap();
    assert!(matches!(store.write(write("approve", "q", given("uid:1002"))).await, Err(StoreError::Conflict(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_goes_back_to_nothing_and_forward_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    store.write(create(1, "a")).await.unwrap();
    drop(store);
    Store::migrate_back(&path, 0).await.unwrap();
    let again = Store::open(&path).await.unwrap();
    assert!(again.vms(&Sight::All, None, 10).await.unwrap().is_empty());
    again.write(create(1, "a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_events_is_woken_and_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db")).await.unwrap();
    let mut newest = store.events();
    store.write(create(1, "a")).await.unwrap();
    newest.changed().await.unwrap();
    assert_eq!(*newest.borrow_and_update(), 1);
    store.write(create(2, "b")).await.unwrap();
    let events = store.events_after(1, "vm.", "", &Sight::All, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.subject.as_str()).collect::<Vec<_>>(), ["vm/b"]);
}

/// Readers ask all the time, and give up half way as often as not, while machines come, change, move and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_every_write_that_was_acknowledged_before_it_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path).await.unwrap();
    let reader = store.clone();
    let impatient = tokio::spawn(async move {
        loop {
            for pause in 0..40 {
                let _ = tokio::time::timeout(std::time::Duration::from_micros(pause * 10), reader.fleet(|_| ())).await;
            }
            tokio::task::yield_now().await;
        }
    });
    for number in 0..60_u128 {
        let name = format!("vm-{number}");
        let id = VmId::new(Uuid::from_u128(number));
        store.write(create(number, &name)).await.unwrap();
        assert_eq!(store.vm(id).await.unwrap().unwrap().generation, 1);
        let change = VmChange { bump: true, power: Some(DesiredPower::Running), ..VmChange::default() };
        store.write(write("vm.start", "vm", vec![Change::VmChanged(id, Box::new(change))])).await.unwrap();
        let seen = store.vm_by_name(&name).await.unwrap().unwrap();
        assert_eq!((seen.generation, seen.power), (2, DesiredPower::Running));
        if number % 3 == 0 {
            store.write(write("vm.delete", "vm", vec![Change::VmDeleted(id)])).await.unwrap();
            assert_eq!(store.vm(id).await.unwrap(), None);
        }
    }
    impatient.abort();
    let _ = impatient.await;
    // A name is free once its machine is gone.
    assert_eq!(store.vm_by_name("vm-0").await.unwrap(), None);
    store.write(create(1_000, "vm-0")).await.unwrap();
    assert_eq!(store.vm_by_name("vm-0").await.unwrap().unwrap().id, VmId::new(Uuid::from_u128(1_000)));
    let remembered = all(&store).await;
    drop(store);
    let again = Store::open(&path).await.unwrap();
    let read = all(&again).await;
    assert_eq!(remembered.len(), 41);
    assert_eq!(remembered, read, "what is remembered is what is on the disk");
    let page: Vec<_> = read.iter().skip(10).take(5).map(|vm| vm.id).collect();
    let listed = again.vms(&Sight::All, page.first().copied(), 4).await.unwrap();
    assert_eq!(listed.iter().map(|vm| vm.id).collect::<Vec<_>>(), page[1..]);
}

async fn all(store: &Store) -> Vec<std::sync::Arc<Vm>> {
    store.fleet(|fleet| fleet.after(None).cloned().collect()).await.unwrap()
}
