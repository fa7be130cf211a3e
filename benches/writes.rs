//! Audited writes: many writers at once on one database, beside one that waits for each of its writes.
//! Each write is what the control plane makes of a request: a change, its audit record and its event, on the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use debvisor::store::{AuditHead, AuditRecord, Change, NewEvent, Store, Vm, Write, check_audit};
use debvisor::types::vm::VmId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::after;

/// Rows of the audit log that are read at once.
const PAGE: u32 = 10_000;

/// Writes per second of `clients` writers and of one, each for so long, into a new database at `path`.
pub(crate) fn writes(path: &Path, clients: usize, seconds: u64) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(path).await.unwrap();
        let (alone, alone_seconds) = run(&store, 1, Duration::from_secs(seconds)).await;
        let (together, together_seconds) = run(&store, clients, Duration::from_secs(seconds)).await;
        assert_eq!(audited(&store).await, alone + together, "every write has its record in the chain");
        json!({
            "clients": clients,
            "writes": together,
            "per_second": together as f64 / together_seconds,
            "one_by_one_per_second": alone as f64 / alone_seconds,
        })
    })
}

/// How many writes were on the disk, and the seconds that they took.
async fn run(store: &Store, clients: usize, time: Duration) -> (u64, f64) {
    let begin = Instant::now();
    let writers: Vec<_> = (0..clients)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while begin.elapsed() < time {
                    store.write(write()).await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        done += writer.await.unwrap();
    }
    (done, begin.elapsed().as_secs_f64())
}

/// The records of the audit log, each proved to follow from the one before.
async fn audited(store: &Store) -> u64 {
    let mut head = AuditHead::EMPTY;
    loop {
        let rows = store.audit_from(head.size, PAGE).await.unwrap();
        if rows.is_empty() {
            return head.size;
        }
        head = check_audit(head, &rows).unwrap();
    }
}

/// A machine that somebody describes.
fn write() -> Write {
    let id = Uuid::now_v7();
    let object = format!("vm/{id}");
    let spec = serde_json::from_value(json!({ "name": format!("vm-{id}"), "memory_mib": 64 })).unwrap();
    let machine = Vm::described(VmId::new(id), "node", "default", spec, after(0), "uid:0");
    Write {
        changes: vec![Change::VmCreated(Box::new(machine))],
        audit: AuditRecord {
            at: after(0),
            actor: "uid:0".to_owned(),
            origin: "socket".to_owned(),
            action: "vm.create".to_owned(),
            object: object.clone(),
            outcome: "done".to_owned(),
            why: Vec::new(),
            data: Value::Null,
        },
        event: NewEvent { kind: "vm.created".to_owned(), subject: object, data: json!({}) },
    }
}
