//! Questions in, rows out. Lists go by a cursor, so that no answer grows with the table.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Approval, AuditRow, DecisionRow, Event, Fleet, Idempotency, Operation, OverrideRow, Quarantine, Sight, Store,
    StoreError, Vm,
};
use crate::types::Digest;
use crate::types::step::{ImageFacts, NodeFacts};
use crate::types::vm::VmId;

/// A statement made of the part that reads a machine with its observation, and what narrows it.
macro_rules! vm_query {
    ($rest:literal) => {
        concat!(
            "SELECT vm.*, p.project, o.observed, o.seen_at FROM vm JOIN vm_project p ON p.vm = vm.id \
             LEFT JOIN vm_observed o ON o.vm = vm.id ",
            $rest
        )
    };
}

impl Store {
    /// The machine with this identity.
    ///
    /// # Errors
    /// Where the database cannot be read; so with every question below.
    pub async fn vm(&self, id: VmId) -> Result<Option<Vm>, StoreError> {
        Ok(self.fleet(|fleet| fleet.get(id).cloned()).await?.map(Arc::unwrap_or_clone))
    }

    /// The machine with this name.
    pub async fn vm_by_name(&self, name: &str) -> Result<Option<Vm>, StoreError> {
        Ok(self.fleet(|fleet| fleet.named(name).cloned()).await?.map(Arc::unwrap_or_clone))
    }

    /// Machines that are in sight after the cursor, which is an identity, in the order in which they were described.
    pub async fn vms(&self, sight: &Sight, after: Option<VmId>, limit: u32) -> Result<Vec<Vm>, StoreError> {
        let seen = |fleet: &Fleet| -> Vec<Arc<Vm>> {
            fleet.after(after).filter(|vm| sight.sees(vm)).take(limit as usize).cloned().collect()
        };
        Ok(self.fleet(seen).await?.into_iter().map(Arc::unwrap_or_clone).collect())
    }

    /// These machines, as they are in the database.
    pub(super) async fn vms_read(&self, ids: &BTreeSet<VmId>) -> Result<Vec<Vm>, StoreError> {
        sqlx::query(vm_query!("WHERE vm.id IN (SELECT value FROM json_each(?1))"))
            .bind(super::document(ids)?)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(vm)
            .collect()
    }

    /// Every machine, as it is in the database.
    pub(super) async fn vms_read_all(&self) -> Result<Vec<Vm>, StoreError> {
        sqlx::query(vm_query!("ORDER BY vm.id")).fetch_all(&self.readers).await?.iter().map(vm).collect()
    }

    /// The machines that are made of this image, by their descriptions.
    pub async fn vms_made_of(&self, digest: &Digest) -> Result<Vec<Vm>, StoreError> {
        sqlx::query(vm_query!("WHERE vm.id IN (SELECT vm FROM vm_artifact WHERE digest = ?1) ORDER BY vm.id"))
            .bind(digest.to_string())
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(vm)
            .collect()
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>, StoreError> {
        sqlx::query("SELECT facts FROM node ORDER BY name")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| json(row, "facts"))
            .collect()
    }

    /// The image with this digest.
    pub async fn image(&self, digest: &Digest) -> Result<Option<ImageFacts>, StoreError> {
        let row = sqlx::query("SELECT facts FROM image WHERE digest = ?1")
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| json(&row, "facts")).transpose()
    }

    /// The image that this name means: the newest.
    pub async fn image_by_name(&self, name: &str) -> Result<Option<ImageFacts>, StoreError> {
        let row = sqlx::query("SELECT facts FROM image WHERE name = ?1 ORDER BY rowid DESC LIMIT 1")
            .bind(name)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| json(&row, "facts")).transpose()
    }

    /// Images after the cursor, which is a digest.
    pub async fn images(&self, after: &str, limit: u32) -> Result<Vec<ImageFacts>, StoreError> {
        sqlx::query("SELECT facts FROM image WHERE digest > ?1 ORDER BY digest LIMIT ?2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| json(row, "facts"))
            .collect()
    }

    /// One operation.
    pub async fn operation(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query("SELECT * FROM operation WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(operation).transpose()
    }

    /// The operations of every machine that have not ended, in the order in which they were asked for.
    pub async fn operations_open(&self) -> Result<Vec<Operation>, StoreError> {
        sqlx::query("SELECT * FROM operation WHERE ended_at IS NULL ORDER BY vm, id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(operation)
            .collect()
    }

    /// The operations of one machine that have not ended.
    pub async fn operations_open_of(&self, vm: VmId) -> Result<Vec<Operation>, StoreError> {
        sqlx::query("SELECT * FROM operation WHERE ended_at IS NULL AND vm = ?1 ORDER BY id")
            .bind(vm.to_string())
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(operation)
            .collect()
    }

    /// The operations of one machine after the cursor, the oldest first.
    pub async fn operations_of(&self, vm: VmId, after: &str, limit: u32) -> Result<Vec<Operation>, StoreError> {
        sqlx::query("SELECT * FROM operation WHERE vm = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
            .bind(vm.to_string())
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(operation)
            .collect()
    }

    /// The gate's last answer about a machine.
    pub async fn decision_of(&self, vm: VmId) -> Result<Option<DecisionRow>, StoreError> {
        let row = sqlx::query(
            "SELECT d.*, t.envelope, t.expires_at FROM decision d LEFT JOIN ticket t ON t.id = d.id \
             WHERE d.vm = ?1 ORDER BY d.id DESC LIMIT 1",
        )
        .bind(vm.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(decision).transpose()
    }

    /// What this actor was answered under this key.
    pub async fn idempotent(&self, actor: &str, key: &str) -> Result<Option<Idempotency>, StoreError> {
        let row = sqlx::query("SELECT * FROM idempotency WHERE actor = ?1 AND key = ?2")
            .bind(actor)
            .bind(key)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| {
            Ok(Idempotency {
                actor: row.try_get("actor")?,
                key: row.try_get("key")?,
                fingerprint: row.try_get("fingerprint")?,
                resource: row.try_get("resource")?,
            })
        })
        .transpose()
    }

    /// Every quarantine, released or not, the oldest first.
    pub async fn quarantines(&self) -> Result<Vec<Quarantine>, StoreError> {
        sqlx::query("SELECT * FROM quarantine ORDER BY id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(quarantine)
            .collect()
    }

    /// One quarantine.
    pub async fn quarantine(&self, id: Uuid) -> Result<Option<Quarantine>, StoreError> {
        let row = sqlx::query("SELECT * FROM quarantine WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(quarantine).transpose()
    }

    /// Requests for what needs two people, the oldest first.
    pub async fn approvals(&self) -> Result<Vec<Approval>, StoreError> {
        sqlx::query("SELECT * FROM approval ORDER BY id").fetch_all(&self.readers).await?.iter().map(approval).collect()
    }

    /// One request.
    pub async fn approval(&self, id: Uuid) -> Result<Option<Approval>, StoreError> {
        let row = sqlx::query("SELECT * FROM approval WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(approval).transpose()
    }

    /// The overrides that were signed, the oldest first.
    pub async fn overrides(&self) -> Result<Vec<OverrideRow>, StoreError> {
        sqlx::query("SELECT * FROM override ORDER BY id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                Ok(OverrideRow {
                    id: parsed(row, "id")?,
                    vm: parsed(row, "vm")?,
                    document: row.try_get("document")?,
                    expires_at: parsed(row, "expires_at")?,
                    added_by: row.try_get("added_by")?,
                    added_at: parsed(row, "added_at")?,
                })
            })
            .collect()
    }

    /// Events after the cursor, narrowed to those whose kind and subject begin so. Whoever does not see every machine
    /// sees what happened to those in sight, and nothing else.
    pub async fn events_after(
        &self,
        after: i64,
        kind: &str,
        subject: &str,
        sight: &Sight,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (all, projects, vms) = sight.bound()?;
        sqlx::query(
            "SELECT * FROM event WHERE id > ?1 AND substr(kind, 1, length(?2)) = ?2 \
             AND substr(subject, 1, length(?3)) = ?3 \
             AND (?5 OR (substr(subject, 1, 3) = 'vm/' AND EXISTS (SELECT 1 FROM vm_project p \
                WHERE p.vm = substr(subject, 4) AND (p.project IN (SELECT value FROM json_each(?6)) \
                    OR p.vm IN (SELECT value FROM json_each(?7)))))) \
             ORDER BY id LIMIT ?4",
        )
        .bind(after)
        .bind(kind)
        .bind(subject)
        .bind(limit)
        .bind(all)
        .bind(projects)
        .bind(vms)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(event)
        .collect()
    }

    /// Audit records from this place on.
    pub async fn audit_from(&self, seq: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        super::checkpoints::audit_from(&self.readers, seq, limit).await
    }
}

pub(super) fn audit_row(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        record: row.try_get("record")?,
        leaf: row.try_get("leaf")?,
        chain: row.try_get("chain")?,
    })
}

fn vm(row: &SqliteRow) -> Result<Vm, StoreError> {
    Ok(Vm {
        id: parsed(row, "id")?,
        node: row.try_get("node")?,
        project: row.try_get("project")?,
        spec: json(row, "spec")?,
        power: named(row, "power")?,
        start_path: named(row, "start_path")?,
        generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
        hold: optional_json(row, "hold")?,
        not_before: optional(row, "not_before")?,
        failures: u32::try_from(row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
        deleting: row.try_get("deleting")?,
        running: optional_json(row, "running")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
        observed: optional_json(row, "observed")?,
        seen_at: optional(row, "seen_at")?,
    })
}

fn operation(row: &SqliteRow) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: parsed(row, "id")?,
        vm: parsed(row, "vm")?,
        kind: row.try_get("kind")?,
        action: optional_json(row, "action")?,
        state: named(row, "state")?,
        reasons: json(row, "reasons")?,
        message: row.try_get("message")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
        ended_at: optional(row, "ended_at")?,
    })
}

fn decision(row: &SqliteRow) -> Result<DecisionRow, StoreError> {
    let envelope: Option<String> = row.try_get("envelope")?;
    Ok(DecisionRow {
        vm: parsed(row, "vm")?,
        node: row.try_get("node")?,
        path: named(row, "path")?,
        allowed: row.try_get("allowed")?,
        reasons: json(row, "reasons")?,
        ticket: envelope.zip(optional(row, "expires_at")?),
        at: parsed(row, "at")?,
    })
}

fn quarantine(row: &SqliteRow) -> Result<Quarantine, StoreError> {
    Ok(Quarantine {
        id: parsed(row, "id")?,
        target: row.try_get("target")?,
        why: row.try_get("why")?,
        by: row.try_get("by")?,
        since: parsed(row, "since")?,
    })
}

fn approval(row: &SqliteRow) -> Result<Approval, StoreError> {
    Ok(Approval {
        id: parsed(row, "id")?,
        quarantine: parsed(row, "quarantine")?,
        reason: row.try_get("reason")?,
        requested_by: row.try_get("requested_by")?,
        requested_at: parsed(row, "requested_at")?,
        approved_by: row.try_get("approved_by")?,
        approved_at: optional(row, "approved_at")?,
        expires_at: parsed(row, "expires_at")?,
    })
}

fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.try_get("id")?,
        at: parsed(row, "at")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        actor: row.try_get("actor")?,
        data: json(row, "data")?,
    })
}

/// A column that is a document.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| StoreError::Row(format!("{column}: {error}")))
}

fn optional_json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(text).map_err(|error| StoreError::Row(format!("{column}: {error}"))))
        .transpose()
}

/// A column that is a word of an enumeration.
fn named<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|error| StoreError::Row(format!("{column}: {error}")))
}

/// A column that is an identity or a time.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| StoreError::Row(format!("{column}: {error}")))
}

pub(super) fn optional<T: FromStr>(row: &SqliteRow, column: &str) -> Result<Option<T>, StoreError>
where
    T::Err: std::fmt::Display,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|error| StoreError::Row(format!("{column}: {error}")))).transpose()
}
