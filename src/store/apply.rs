//! One change in, its statements out.
//! A conditional change says so by the rows that it affects: nothing is read first that could be stale by the write.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    Approval, AuditRecord, AuditRow, Change, DecisionRow, Hold, NewEvent, Operation, OperationState, Quarantine,
    StoreError, Vm, VmChange, access, document, users, word,
};
use crate::types::step::{ImageFacts, Observed};
use crate::types::vm::{VmId, VmSpec};

/// Applies the changes in order; `touched` says whether any has taken effect.
pub(super) async fn changes(
    connection: &mut SqliteConnection,
    changes: &[Change],
    touched: &mut bool,
) -> Result<(), StoreError> {
    for change in changes {
        apply(connection, change).await?;
        *touched = true;
    }
    Ok(())
}

async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::NodeSeen(facts) => {
            sqlx::query("INSERT INTO node (name, facts) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET facts = ?2")
                .bind(&facts.name)
                .bind(document(facts)?)
                .execute(connection)
                .await?;
        }
        Change::User(change) => users::apply(connection, change).await?,
        Change::Access(change) => access::apply(connection, change).await?,
        Change::VmCreated(vm) => vm_created(connection, vm).await?,
        Change::VmChanged(id, change) => vm_changed(connection, *id, change).await?,
        Change::VmObserved(id, observed, at) => vm_observed(connection, *id, observed, *at).await?,
        Change::VmDeleted(id) => {
            let done =
                sqlx::query("DELETE FROM vm WHERE id = ?1").bind(id.to_string()).execute(&mut *connection).await?;
            expect(done.rows_affected(), || missing_vm(*id))?;
            access::vm_gone(connection, *id).await?;
        }
        Change::ImagePut(facts, node) => image_put(connection, facts, node).await?,
        Change::ImageDeleted(digest) => {
            let done =
                sqlx::query("DELETE FROM image WHERE digest = ?1").bind(digest.to_string()).execute(connection).await?;
            expect(done.rows_affected(), || StoreError::Missing(format!("there is no image {digest}")))?;
        }
        Change::Decided(decision) => decided(connection, decision).await?,
        Change::OperationPut(operation) => operation_put(connection, operation).await?,
        Change::OperationMoved { id, state, reasons, message, at } => {
            let done = sqlx::query(
                "UPDATE operation SET state = ?2, reasons = ?3, message = ?4, ended_at = ?5 \
                 WHERE id = ?1 AND ended_at IS NULL",
            )
            .bind(id.to_string())
            .bind(word(state))
            .bind(document(reasons)?)
            .bind(message)
            .bind(state.has_ended().then(|| at.to_string()))
            .execute(connection)
            .await?;
            // What ended by itself between the reading and this commit needs nobody to take its place.
            if *state != OperationState::Superseded {
                expect(done.rows_affected(), || StoreError::Conflict(format!("operation {id} has ended already")))?;
            }
        }
        Change::Idempotent(answer, at) => {
            let done = sqlx::query(
                "INSERT INTO idempotency (actor, key, fingerprint, resource, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(&answer.actor)
            .bind(&answer.key)
            .bind(&answer.fingerprint)
            .bind(&answer.resource)
            .bind(at.to_string())
            .execute(connection)
            .await?;
            expect(done.rows_affected(), || {
                StoreError::Conflict(format!("the idempotency key {:?} is in use", answer.key))
            })?;
        }
        Change::QuarantineAdded(quarantine) => quarantine_added(connection, quarantine).await?,
        Change::OverridePut(row) => {
            sqlx::query(
                "INSERT INTO override (id, vm, document, expires_at, added_by, added_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .bind(row.id.to_string())
            .bind(row.vm.to_string())
            .bind(&row.document)
            .bind(row.expires_at.to_string())
            .bind(&row.added_by)
            .bind(row.added_at.to_string())
            .execute(connection)
            .await?;
        }
        Change::Fenced(hold) => fenced(connection, hold).await?,
        Change::Credential(change) => super::credentials::apply(connection, change).await?,
        Change::ApprovalAsked(approval) => approval_asked(connection, approval).await?,
        Change::ApprovalGiven { id, by, at } => {
            // The same person twice is one person: the table has a check of its own that says so too.
            let done = sqlx::query(
                "UPDATE approval SET approved_by = ?2, approved_at = ?3 \
                 WHERE id = ?1 AND approved_by IS NULL AND lower(requested_by) <> lower(?2)",
            )
            .bind(id.to_string())
            .bind(by)
            .bind(at.to_string())
            .execute(connection)
            .await?;
            expect(done.rows_affected(), || {
                StoreError::Conflict(format!("{by} cannot approve {id}: it was approved already, or asked for by them"))
            })?;
        }
    }
    Ok(())
}

pub(super) async fn audit(connection: &mut SqliteConnection, row: &AuditRow) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO audit (seq, record, leaf, chain) VALUES (?1, ?2, ?3, ?4)")
        .bind(row.seq.cast_signed())
        .bind(&row.record)
        .bind(&row.leaf)
        .bind(&row.chain)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn event(
    connection: &mut SqliteConnection,
    event: &NewEvent,
    audit: &AuditRecord,
) -> Result<i64, StoreError> {
    let done = sqlx::query("INSERT INTO event (at, kind, subject, actor, data) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(audit.at.to_string())
        .bind(&event.kind)
        .bind(&event.subject)
        .bind(&audit.actor)
        .bind(event.data.to_string())
        .execute(connection)
        .await?;
    Ok(done.last_insert_rowid())
}

async fn vm_created(connection: &mut SqliteConnection, vm: &Vm) -> Result<(), StoreError> {
    access::vm_has_room(connection, &vm.project, vm.id, &vm.spec).await?;
    let done = sqlx::query(
        "INSERT INTO vm (id, name, node, spec, power, start_path, generation, failures, created_at, created_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9) ON CONFLICT DO NOTHING",
    )
    .bind(vm.id.to_string())
    .bind(&vm.spec.name)
    .bind(&vm.node)
    .bind(document(&vm.spec)?)
    .bind(word(&vm.power))
    .bind(word(&vm.start_path))
    .bind(vm.generation.cast_signed())
    .bind(vm.created_at.to_string())
    .bind(&vm.created_by)
    .execute(&mut *connection)
    .await?;
    expect(done.rows_affected(), || {
        StoreError::Conflict(format!("a virtual machine named {:?} exists already", vm.spec.name))
    })?;
    access::vm_belongs(connection, &vm.project, vm.id, &vm.spec).await?;
    artifacts(connection, vm.id, &vm.spec).await
}

async fn artifacts(connection: &mut SqliteConnection, id: VmId, spec: &VmSpec) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM vm_artifact WHERE vm = ?1").bind(id.to_string()).execute(&mut *connection).await?;
    for (slot, _, digest) in spec.artifacts() {
        sqlx::query("INSERT INTO vm_artifact (vm, slot, digest) VALUES (?1, ?2, ?3)")
            .bind(id.to_string())
            .bind(slot)
            .bind(digest.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn vm_changed(connection: &mut SqliteConnection, id: VmId, change: &VmChange) -> Result<(), StoreError> {
    let (has_hold, hold) = match &change.hold {
        None => (false, None),
        Some(hold) => (true, hold.as_ref().map(document).transpose()?),
    };
    let not_before = change.not_before.map(|at| at.map(|at| at.to_string()));
    if let Some(spec) = &change.spec {
        access::vm_grows(connection, id, spec).await?;
    }
    let done = sqlx::query(
        "UPDATE vm SET \
            generation = generation + ?2, \
            spec = coalesce(?3, spec), \
            name = coalesce(?4, name), \
            power = coalesce(?5, power), \
            start_path = coalesce(?6, start_path), \
            hold = CASE WHEN ?7 THEN ?8 ELSE hold END, \
            not_before = CASE WHEN ?9 THEN ?10 ELSE not_before END, \
            failures = coalesce(?11, failures), \
            deleting = deleting OR ?12, \
            running = coalesce(?14, running) \
         WHERE id = ?1 AND (?13 IS NULL OR generation = ?13)",
    )
    .bind(id.to_string())
    .bind(i64::from(change.bump))
    .bind(change.spec.as_ref().map(document).transpose()?)
    .bind(change.spec.as_ref().map(|spec| spec.name.as_str()))
    .bind(change.power.as_ref().map(word))
    .bind(change.start_path.as_ref().map(word))
    .bind(has_hold)
    .bind(hold)
    .bind(not_before.is_some())
    .bind(not_before.flatten())
    .bind(change.failures.map(i64::from))
    .bind(change.deleting)
    .bind(change.if_generation.map(u64::cast_signed))
    .bind(change.running.as_ref().map(document).transpose()?)
    .execute(&mut *connection)
    .await
    .map_err(|error| match error.as_database_error() {
        Some(fault) if fault.is_unique_violation() => {
            StoreError::Conflict("a virtual machine of that name exists already".to_owned())
        }
        _ => StoreError::Database(error),
    })?;
    if done.rows_affected() == 0 {
        let there =
            sqlx::query("SELECT 1 FROM vm WHERE id = ?1").bind(id.to_string()).fetch_optional(&mut *connection).await?;
        return Err(match there {
            None => missing_vm(id),
            Some(_) => StoreError::Conflict(format!("virtual machine {id} was changed by somebody else meanwhile")),
        });
    }
    match &change.spec {
        Some(spec) => {
            access::vm_takes(connection, id, spec).await?;
            artifacts(connection, id, spec).await
        }
        None => Ok(()),
    }
}

async fn vm_observed(
    connection: &mut SqliteConnection,
    id: VmId,
    observed: &Observed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO vm_observed (vm, observed, seen_at) SELECT id, ?2, ?3 FROM vm WHERE id = ?1 \
         ON CONFLICT (vm) DO UPDATE SET observed = ?2, seen_at = ?3",
    )
    .bind(id.to_string())
    .bind(document(observed)?)
    .bind(at.to_string())
    .execute(connection)
    .await?;
    expect(done.rows_affected(), || missing_vm(id))
}

async fn image_put(connection: &mut SqliteConnection, facts: &ImageFacts, node: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO image (digest, kind, name, node, facts) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (digest) DO UPDATE SET kind = ?2, name = ?3, node = ?4, facts = ?5",
    )
    .bind(facts.digest.to_string())
    .bind(facts.kind.name())
    .bind(&facts.name)
    .bind(node)
    .bind(document(facts)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn decided(connection: &mut SqliteConnection, decision: &DecisionRow) -> Result<(), StoreError> {
    let done =
        sqlx::query("INSERT INTO decision (vm, node, path, allowed, reasons, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .bind(decision.vm.to_string())
            .bind(&decision.node)
            .bind(word(&decision.path))
            .bind(decision.allowed)
            .bind(document(&decision.reasons)?)
            .bind(decision.at.to_string())
            .execute(&mut *connection)
            .await?;
    if let Some((envelope, expires_at)) = &decision.ticket {
        sqlx::query("INSERT INTO ticket (id, envelope, expires_at) VALUES (?1, ?2, ?3)")
            .bind(done.last_insert_rowid())
            .bind(envelope)
            .bind(expires_at.to_string())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn operation_put(connection: &mut SqliteConnection, operation: &Operation) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operation (id, vm, kind, action, state, reasons, message, created_at, created_by, ended_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )
    .bind(operation.id.to_string())
    .bind(operation.vm.to_string())
    .bind(&operation.kind)
    .bind(operation.action.as_ref().map(document).transpose()?)
    .bind(word(&operation.state))
    .bind(document(&operation.reasons)?)
    .bind(&operation.message)
    .bind(operation.created_at.to_string())
    .bind(&operation.created_by)
    .bind(operation.ended_at.map(|at| at.to_string()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn quarantine_added(connection: &mut SqliteConnection, quarantine: &Quarantine) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO quarantine (id, target, why, by, since) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )
    .bind(quarantine.id.to_string())
    .bind(&quarantine.target)
    .bind(&quarantine.why)
    .bind(&quarantine.by)
    .bind(quarantine.since.to_string())
    .execute(connection)
    .await?;
    expect(done.rows_affected(), || StoreError::Conflict(format!("{} is in quarantine already", quarantine.target)))
}

async fn approval_asked(connection: &mut SqliteConnection, approval: &Approval) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO approval (id, quarantine, reason, requested_by, requested_at, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(approval.id.to_string())
    .bind(approval.quarantine.to_string())
    .bind(&approval.reason)
    .bind(&approval.requested_by)
    .bind(approval.requested_at.to_string())
    .bind(approval.expires_at.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// How far the generations of a restored state are ahead: no other host that goes on from the same state gets there.
const FENCE: i64 = 1_000_000;

async fn fenced(connection: &mut SqliteConnection, hold: &Hold) -> Result<(), StoreError> {
    sqlx::query("UPDATE vm SET generation = generation + ?1, hold = ?2, not_before = NULL, running = NULL")
        .bind(FENCE)
        .bind(document(hold)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM vm_observed").execute(&mut *connection).await?;
    sqlx::query("UPDATE operation SET state = ?1, message = ?2, ended_at = ?3 WHERE ended_at IS NULL")
        .bind(word(&OperationState::Interrupted))
        .bind(&hold.message)
        .bind(hold.at.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) fn expect(rows: u64, otherwise: impl FnOnce() -> StoreError) -> Result<(), StoreError> {
    if rows == 0 { Err(otherwise()) } else { Ok(()) }
}

fn missing_vm(id: VmId) -> StoreError {
    StoreError::Missing(format!("there is no virtual machine {id}"))
}
