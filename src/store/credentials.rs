//! API keys, identities at OpenID providers, services: rows in and out, and the changes that are made to them.
//! Invariant: of a key only its hash comes in, and it goes out in [`ApiKeyRow`] alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::apply::expect;
use super::read::{json, optional, parsed};
use super::{Store, StoreError, document};
use crate::types::access::Permission;

/// A key that a person made for a program; it can never do more than that person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its identity, which is a part of the key.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// Whose it is.
    #[schema(value_type = String, format = "uuid")]
    pub user: Uuid,
    /// What it is called.
    pub name: String,
    /// What it may be used for, as far as its owner may.
    pub scopes: BTreeSet<Permission>,
    /// From where it may be used; anywhere where there are none.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The key whose place it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub replaces: Option<Uuid>,
    /// The key that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub replaced_by: Option<Uuid>,
    /// When it was used last; written down once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub used_from: Option<IpAddr>,
}

/// A key with what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// The key.
    pub key: ApiKey,
    /// SHA-256 of the key as it was shown.
    pub hash: [u8; 32],
}

/// A use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// Which.
    pub key: Uuid,
    /// When.
    pub at: Timestamp,
    /// From where; nothing at the host's own socket.
    pub address: Option<IpAddr>,
}

/// A person as an OpenID provider knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The identity of this row.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The provider's issuer, byte by byte.
    pub issuer: String,
    /// What the provider calls them in `sub`.
    pub subject: String,
    /// Who they are here.
    #[schema(value_type = String, format = "uuid")]
    pub user: Uuid,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A service that shows a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What its certificate is known by: `spki:sha256:…`, `uri:…` or `dns:…`; one of them is enough.
    pub marks: BTreeSet<String>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A change to credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialChange {
    /// A key was made. No other living key of its owner has the name.
    KeyCreated(ApiKeyRow),
    /// A key takes another one's place, which ends soon. That one must be alive and in its place.
    KeyRotated {
        /// The new one; its `replaces` names the old one.
        row: ApiKeyRow,
        /// When the old one ends; no later than it would have.
        old_ends: Timestamp,
    },
    /// A key ends now. It must not have been revoked before.
    KeyRevoked(Uuid, Timestamp),
    /// A person at a provider is a user here. The person must not be linked already.
    IdentityLinked(Identity),
    /// They are no longer.
    IdentityUnlinked(Uuid),
    /// A service is registered. Its name and its marks must be free.
    ServiceCreated(Service),
    /// A service is gone.
    ServiceDeleted(String),
}

impl CredentialChange {
    /// Whether a credential that was looked up before it may be another one, or none, after it.
    pub(super) const fn is_of_credentials(&self) -> bool {
        match self {
            Self::KeyRotated { .. } | Self::KeyRevoked(..) | Self::IdentityUnlinked(_) | Self::ServiceDeleted(_) => {
                true
            }
            Self::KeyCreated(_) | Self::IdentityLinked(_) | Self::ServiceCreated(_) => false,
        }
    }
}

pub(super) async fn apply(connection: &mut SqliteConnection, change: &CredentialChange) -> Result<(), StoreError> {
    match change {
        CredentialChange::KeyCreated(row) => key_created(connection, row).await,
        CredentialChange::KeyRotated { row, old_ends } => {
            let old = row.key.replaces.map(|id| id.to_string());
            // The new one is there only by the end of the transaction: the reference is deferred.
            let done = sqlx::query(
                "UPDATE api_key SET replaced_by = ?2, expires_at = ?3 \
                 WHERE id = ?1 AND revoked_at IS NULL AND replaced_by IS NULL",
            )
            .bind(&old)
            .bind(row.key.id.to_string())
            .bind(old_ends.to_string())
            .execute(&mut *connection)
            .await?;
            expect(done.rows_affected(), || {
                StoreError::Conflict("the key was revoked or rotated by somebody else meanwhile".to_owned())
            })?;
            // The old one has been touched: what does not fit now must undo that as well.
            key_created(connection, row).await.map_err(|error| StoreError::Row(error.to_string()))
        }
        CredentialChange::KeyRevoked(id, at) => {
            let done = sqlx::query("UPDATE api_key SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")
                .bind(id.to_string())
                .bind(at.to_string())
                .execute(connection)
                .await?;
            expect(done.rows_affected(), || StoreError::Conflict(format!("key {id} was revoked already")))
        }
        CredentialChange::IdentityLinked(identity) => {
            let done = sqlx::query(
                "INSERT INTO identity (id, issuer, subject, user, created_at, created_by) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            )
            .bind(identity.id.to_string())
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(identity.user.to_string())
            .bind(identity.created_at.to_string())
            .bind(&identity.created_by)
            .execute(connection)
            .await?;
            expect(done.rows_affected(), || {
                StoreError::Conflict(format!("{:?} of {} is linked already", identity.subject, identity.issuer))
            })
        }
        CredentialChange::IdentityUnlinked(id) => {
            let done =
                sqlx::query("DELETE FROM identity WHERE id = ?1").bind(id.to_string()).execute(connection).await?;
            expect(done.rows_affected(), || StoreError::Missing(format!("there is no identity {id}")))
        }
        CredentialChange::ServiceCreated(service) => service_created(connection, service).await,
        CredentialChange::ServiceDeleted(name) => {
            let done = sqlx::query("DELETE FROM service WHERE name = ?1").bind(name).execute(connection).await?;
            expect(done.rows_affected(), || StoreError::Missing(format!("there is no service {name:?}")))
        }
    }
}

async fn key_created(connection: &mut SqliteConnection, row: &ApiKeyRow) -> Result<(), StoreError> {
    let key = &row.key;
    let done = sqlx::query(
        "INSERT INTO api_key (id, user, name, hash, scopes, addresses, created_at, created_by, expires_at, replaces) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
    )
    .bind(key.id.to_string())
    .bind(key.user.to_string())
    .bind(&key.name)
    .bind(row.hash.as_slice())
    .bind(document(&key.scopes)?)
    .bind(document(&key.addresses)?)
    .bind(key.created_at.to_string())
    .bind(&key.created_by)
    .bind(key.expires_at.to_string())
    .bind(key.replaces.map(|id| id.to_string()))
    .execute(connection)
    .await?;
    expect(done.rows_affected(), || {
        StoreError::Conflict(format!("a key named {:?} is there already: rotate it, or revoke it first", key.name))
    })
}

/// Notes a use; a key that is gone is passed over.
pub(super) async fn key_used(connection: &mut SqliteConnection, used: &KeyUse) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_key_use (key, at, address) SELECT id, ?2, ?3 FROM api_key WHERE id = ?1 \
         ON CONFLICT (key) DO UPDATE SET at = ?2, address = ?3",
    )
    .bind(used.key.to_string())
    .bind(used.at.to_string())
    .bind(used.address.map(|address| address.to_string()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn service_created(connection: &mut SqliteConnection, service: &Service) -> Result<(), StoreError> {
    for mark in &service.marks {
        let taken = sqlx::query("SELECT 1 FROM service_mark WHERE mark = ?1")
            .bind(mark)
            .fetch_optional(&mut *connection)
            .await?;
        if taken.is_some() {
            return Err(StoreError::Conflict(format!("{mark} is another service's already")));
        }
    }
    let done =
        sqlx::query("INSERT INTO service (name, created_at, created_by) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(&service.name)
            .bind(service.created_at.to_string())
            .bind(&service.created_by)
            .execute(&mut *connection)
            .await?;
    expect(done.rows_affected(), || {
        StoreError::Conflict(format!("a service named {:?} exists already", service.name))
    })?;
    for mark in &service.marks {
        sqlx::query("INSERT INTO service_mark (mark, service) VALUES (?1, ?2)")
            .bind(mark)
            .bind(&service.name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// The key with this identity, and its hash.
    ///
    /// # Errors
    /// Where the database cannot be read; so with every question below.
    pub async fn api_key(&self, id: Uuid) -> Result<Option<ApiKeyRow>, StoreError> {
        let row = sqlx::query(
            "SELECT k.*, u.at AS used_at, u.address AS used_from FROM api_key k \
             LEFT JOIN api_key_use u ON u.key = k.id WHERE k.id = ?1",
        )
        .bind(id.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            let hash: Vec<u8> = row.try_get("hash")?;
            let hash = hash.try_into().map_err(|_| StoreError::Row("hash".to_owned()))?;
            Ok(ApiKeyRow { key: api_key(&row)?, hash })
        })
        .transpose()
    }

    /// Keys after the cursor, which is an identity, the oldest first: one user's, or everybody's.
    pub async fn api_keys(&self, user: Option<Uuid>, after: &str, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
        sqlx::query(
            "SELECT k.*, u.at AS used_at, u.address AS used_from FROM api_key k \
             LEFT JOIN api_key_use u ON u.key = k.id \
             WHERE k.id > ?1 AND (?2 IS NULL OR k.user = ?2) ORDER BY k.id LIMIT ?3",
        )
        .bind(after)
        .bind(user.map(|user| user.to_string()))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(api_key)
        .collect()
    }

    /// How many keys of a user are alive at this time.
    pub async fn api_keys_alive(&self, user: Uuid, now: Timestamp) -> Result<u32, StoreError> {
        let times: Vec<String> =
            sqlx::query_scalar("SELECT expires_at FROM api_key WHERE user = ?1 AND revoked_at IS NULL")
                .bind(user.to_string())
                .fetch_all(&self.readers)
                .await?;
        // Compared as times: as texts, one with and one without a fraction of a second would be in the wrong order.
        let alive = times.iter().filter(|text| text.parse::<Timestamp>().is_ok_and(|at| at > now)).count();
        Ok(u32::try_from(alive).unwrap_or(u32::MAX))
    }

    /// Who this person of a provider is here.
    pub async fn identity_of(&self, issuer: &str, subject: &str) -> Result<Option<Identity>, StoreError> {
        let row = sqlx::query("SELECT * FROM identity WHERE issuer = ?1 AND subject = ?2")
            .bind(issuer)
            .bind(subject)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(identity).transpose()
    }

    /// Identities after the cursor, which is the identity of a row.
    pub async fn identities(&self, after: &str, limit: u32) -> Result<Vec<Identity>, StoreError> {
        sqlx::query("SELECT * FROM identity WHERE id > ?1 ORDER BY id LIMIT ?2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(identity)
            .collect()
    }

    /// The service that has one of these marks; the first of them that any has.
    pub async fn service_of(&self, marks: &[String]) -> Result<Option<String>, StoreError> {
        for mark in marks {
            let found: Option<String> = sqlx::query_scalar("SELECT service FROM service_mark WHERE mark = ?1")
                .bind(mark)
                .fetch_optional(&self.readers)
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The service with this name.
    pub async fn service(&self, name: &str) -> Result<Option<Service>, StoreError> {
        let row = sqlx::query(
            "SELECT s.*, (SELECT json_group_array(mark) FROM service_mark m WHERE m.service = s.name) AS marks \
             FROM service s WHERE s.name = ?1",
        )
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(service).transpose()
    }

    /// Services after the cursor, which is a name.
    pub async fn services(&self, after: &str, limit: u32) -> Result<Vec<Service>, StoreError> {
        sqlx::query(
            "SELECT s.*, (SELECT json_group_array(mark) FROM service_mark m WHERE m.service = s.name) AS marks \
             FROM service s WHERE s.name > ?1 ORDER BY s.name LIMIT ?2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(service)
        .collect()
    }
}

fn api_key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: parsed(row, "id")?,
        user: parsed(row, "user")?,
        name: row.try_get("name")?,
        scopes: json(row, "scopes")?,
        addresses: json(row, "addresses")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: parsed(row, "expires_at")?,
        revoked_at: optional(row, "revoked_at")?,
        replaces: optional(row, "replaces")?,
        replaced_by: optional(row, "replaced_by")?,
        used_at: optional(row, "used_at")?,
        used_from: optional(row, "used_from")?,
    })
}

fn identity(row: &SqliteRow) -> Result<Identity, StoreError> {
    Ok(Identity {
        id: parsed(row, "id")?,
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        user: parsed(row, "user")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}

fn service(row: &SqliteRow) -> Result<Service, StoreError> {
    Ok(Service {
        name: row.try_get("name")?,
        marks: json(row, "marks")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}
