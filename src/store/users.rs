//! Users and sessions: rows out, and the changes that are made to them in.
//! Invariant: what proves who somebody is leaves this room in a [`Hidden`] alone, which no debug print shows.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::apply::expect;
use super::credentials::{KeyUse, key_used};
use super::read::{optional, parsed};
use super::{Store, StoreError, access, word};
use crate::types::access::BuiltinRole;
use crate::types::grant::Holder;

/// What no debug print, and so no log, may show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hidden<T>(pub T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// SHA-256 of a random token.
pub type TokenHash = [u8; 32];

/// A person who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Their identity; it is never given to another one.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The name that they log in with, in lower case.
    #[schema(max_length = 64)]
    pub name: String,
    /// The built-in role that they have on everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<BuiltinRole>,
    /// They have a password; without one they come by an identity provider.
    pub has_password: bool,
    /// They can do nothing before they have chosen another password.
    pub must_change: bool,
    /// They cannot log in.
    pub disabled: bool,
    /// They are asked for a one-time code as well.
    pub totp: bool,
    /// Grows with every change: the ETag.
    pub generation: u64,
    /// Since when they are known.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Who made them known.
    pub created_by: String,
    /// When they logged in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub login_at: Option<Timestamp>,
}

/// What a user proves who they are with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The Argon2id hash, as a PHC string.
    pub password: Option<Hidden<String>>,
    /// The seed of the one-time codes, sealed.
    pub totp: Option<Hidden<Vec<u8>>>,
    /// The seed was confirmed by a code: from then on one is asked for.
    pub totp_confirmed: bool,
    /// The step of the last code that was accepted.
    pub totp_step: u64,
}

/// Where a session's token is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// In a browser's cookie.
    Browser,
    /// In `Authorization: Bearer`.
    Token,
}

/// A login that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its identity; it opens nothing.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// Whose it is.
    #[schema(value_type = String, format = "uuid")]
    pub user: Uuid,
    /// Where its token is carried.
    pub kind: SessionKind,
    /// How they proved who they are: `password`, `password+totp`, `password+recovery`, `oidc`.
    pub method: String,
    /// From which address they logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// With which program, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    #[schema(value_type = String, format = "date-time")]
    pub used_at: Timestamp,
    /// When it ends at the latest.
    #[schema(value_type = String, format = "date-time")]
    pub expires_at: Timestamp,
}

/// One change to users and sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// Somebody may log in. The name must be free.
    Created(Box<User>, Option<Hidden<String>>),
    /// What an administrator says of them; `None` stays as it is.
    Changed {
        /// Who.
        id: Uuid,
        /// Only if the generation is still this one.
        if_generation: Option<u64>,
        /// Another built-in role, or none.
        role: Option<Option<BuiltinRole>>,
        /// Whether they are kept out.
        disabled: Option<bool>,
        /// Whether they have to choose another password.
        must_change: Option<bool>,
    },
    /// They are gone, and their sessions with them.
    Deleted(Uuid),
    /// Another password.
    PasswordSet {
        /// Who.
        id: Uuid,
        /// The Argon2id hash.
        hash: Hidden<String>,
        /// Whether they have to choose another one at once.
        must_change: bool,
        /// When.
        at: Timestamp,
    },
    /// The same password under other parameters, if it is still that one.
    PasswordRehashed {
        /// Who.
        id: Uuid,
        /// The hash that it replaces.
        was: Hidden<String>,
        /// The new one.
        hash: Hidden<String>,
    },
    /// A seed for one-time codes that no code has confirmed yet. None may be confirmed already.
    TotpBegun(Uuid, Hidden<Vec<u8>>),
    /// A code of that step confirmed the seed; these are the hashes of the recovery codes.
    TotpConfirmed {
        /// Who.
        id: Uuid,
        /// The step of the code.
        step: u64,
        /// SHA-256 of each recovery code.
        recovery: Vec<TokenHash>,
        /// When.
        at: Timestamp,
    },
    /// One-time codes are no longer asked for.
    TotpRemoved(Uuid),
    /// A code of this step was accepted; it must be later than the last one.
    TotpUsed(Uuid, u64),
    /// A recovery code was used; it must be one that was not.
    RecoveryUsed(Uuid, TokenHash, Timestamp),
    /// They logged in from this address.
    LoggedIn {
        /// Who.
        id: Uuid,
        /// From where.
        address: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// A session begins. Its user must not be kept out.
    SessionOpened(Box<Session>, Hidden<TokenHash>),
    /// The session goes on under another token.
    SessionRotated(Uuid, Hidden<TokenHash>),
    /// The session ends. It must be this user's.
    SessionClosed {
        /// Which.
        id: Uuid,
        /// Whose.
        user: Uuid,
    },
    /// Every session of a user ends, but for this one.
    SessionsClosed {
        /// Whose.
        user: Uuid,
        /// The one that goes on.
        except: Option<Uuid>,
    },
    /// Sessions that had ended by themselves at this time are forgotten.
    SessionsSwept {
        /// Those that end before.
        expired: Timestamp,
        /// Those that were not used since.
        idle: Timestamp,
    },
}

impl UserChange {
    /// Whether a session or a key that was looked up before it may be another one, or none, after it. A flood of
    /// logins, and of failed ones, has nothing looked up anew.
    pub(super) const fn is_of_credentials(&self) -> bool {
        !matches!(
            self,
            Self::Created(..)
                | Self::PasswordRehashed { .. }
                | Self::TotpBegun(..)
                | Self::TotpUsed(..)
                | Self::RecoveryUsed(..)
                | Self::LoggedIn { .. }
                | Self::SessionOpened(..)
        )
    }
}

/// What happened to a credential that nobody decided: it is written with the next commit, without a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// A session was used.
    Session(Uuid, Timestamp),
    /// An API key was used.
    Key(KeyUse),
}

/// Addresses that are remembered of one user.
const ADDRESSES: u32 = 32;

pub(super) async fn apply(connection: &mut SqliteConnection, change: &UserChange) -> Result<(), StoreError> {
    match change {
        UserChange::Created(user, hash) => created(connection, user, hash.as_ref()).await,
        UserChange::Changed { .. } => changed(connection, change).await,
        UserChange::Deleted(id) => {
            let delete = sqlx::query("DELETE FROM user WHERE id = ?1").bind(id.to_string());
            let done = delete.execute(&mut *connection).await?;
            expect(done.rows_affected(), || missing(*id))?;
            access::holder_gone(connection, &Holder::User(*id)).await
        }
        UserChange::PasswordSet { id, hash, must_change, at } => {
            let done = sqlx::query(
                "UPDATE user SET password = ?2, must_change = ?3, password_at = ?4, generation = generation + 1 \
                 WHERE id = ?1",
            )
            .bind(id.to_string())
            .bind(&hash.0)
            .bind(must_change)
            .bind(at.to_string())
            .execute(connection)
            .await?;
            expect(done.rows_affected(), || missing(*id))
        }
        UserChange::PasswordRehashed { id, was, hash } => {
            sqlx::query("UPDATE user SET password = ?3 WHERE id = ?1 AND password = ?2")
                .bind(id.to_string())
                .bind(&was.0)
                .bind(&hash.0)
                .execute(connection)
                .await?;
            // Where the password was changed meanwhile, there is nothing to hash anew.
            Ok(())
        }
        UserChange::TotpBegun(..)
        | UserChange::TotpConfirmed { .. }
        | UserChange::TotpRemoved(_)
        | UserChange::TotpUsed(..)
        | UserChange::RecoveryUsed(..) => totp(connection, change).await,
        UserChange::LoggedIn { id, address, at } => logged_in(connection, *id, address.as_deref(), *at).await,
        UserChange::SessionOpened(session, token) => opened(connection, session, &token.0).await,
        UserChange::SessionRotated(id, token) => {
            let done = sqlx::query("UPDATE session SET token = ?2 WHERE id = ?1")
                .bind(id.to_string())
                .bind(token.0.as_slice())
                .execute(connection)
                .await?;
            expect(done.rows_affected(), || StoreError::Missing("the session has ended".to_owned()))
        }
        UserChange::SessionClosed { id, user } => {
            let done = sqlx::query("DELETE FROM session WHERE id = ?1 AND user = ?2")
                .bind(id.to_string())
                .bind(user.to_string())
                .execute(connection)
                .await?;
            expect(done.rows_affected(), || StoreError::Missing(format!("there is no session {id}")))
        }
        UserChange::SessionsClosed { user, except } => {
            sqlx::query("DELETE FROM session WHERE user = ?1 AND (?2 IS NULL OR id <> ?2)")
                .bind(user.to_string())
                .bind(except.map(|id| id.to_string()))
                .execute(connection)
                .await?;
            Ok(())
        }
        UserChange::SessionsSwept { expired, idle } => {
            sqlx::query("DELETE FROM session WHERE expires_at < ?1 OR used_at < ?2")
                .bind(stamp(*expired))
                .bind(stamp(*idle))
                .execute(connection)
                .await?;
            Ok(())
        }
    }
}

pub(super) async fn touch(connection: &mut SqliteConnection, touch: &Touch) -> Result<(), StoreError> {
    match touch {
        Touch::Session(id, at) => {
            sqlx::query("UPDATE session SET used_at = ?2 WHERE id = ?1 AND used_at < ?2")
                .bind(id.to_string())
                .bind(stamp(*at))
                .execute(connection)
                .await?;
        }
        Touch::Key(used) => key_used(connection, used).await?,
    }
    Ok(())
}

async fn created(
    connection: &mut SqliteConnection,
    user: &User,
    hash: Option<&Hidden<String>>,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO user (id, name, role, password, password_at, must_change, disabled, generation, created_at, \
         created_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9) ON CONFLICT DO NOTHING",
    )
    .bind(user.id.to_string())
    .bind(&user.name)
    .bind(user.role.as_ref().map(word))
    .bind(hash.map(|hash| &hash.0))
    .bind(hash.map(|_| user.created_at.to_string()))
    .bind(user.must_change)
    .bind(user.disabled)
    .bind(user.created_at.to_string())
    .bind(&user.created_by)
    .execute(connection)
    .await?;
    expect(done.rows_affected(), || StoreError::Conflict(format!("a user named {:?} exists already", user.name)))
}

async fn changed(connection: &mut SqliteConnection, change: &UserChange) -> Result<(), StoreError> {
    let UserChange::Changed { id, if_generation, role, disabled, must_change } = change else { return Ok(()) };
    let done = sqlx::query(
        "UPDATE user SET \
            generation = generation + 1, \
            role = CASE WHEN ?3 THEN ?4 ELSE role END, \
            disabled = coalesce(?5, disabled), \
            must_change = coalesce(?6, must_change) \
         WHERE id = ?1 AND (?2 IS NULL OR generation = ?2)",
    )
    .bind(id.to_string())
    .bind(if_generation.map(u64::cast_signed))
    .bind(role.is_some())
    .bind(role.flatten().as_ref().map(word))
    .bind(*disabled)
    .bind(*must_change)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        let there = sqlx::query("SELECT 1 FROM user WHERE id = ?1").bind(id.to_string());
        return Err(match there.fetch_optional(connection).await? {
            None => missing(*id),
            Some(_) => StoreError::Conflict(format!("user {id} was changed by somebody else meanwhile")),
        });
    }
    Ok(())
}

async fn totp(connection: &mut SqliteConnection, change: &UserChange) -> Result<(), StoreError> {
    match change {
        UserChange::TotpBegun(id, sealed) => {
            let done = sqlx::query("UPDATE user SET totp = ?2, totp_step = 0 WHERE id = ?1 AND totp_at IS NULL")
                .bind(id.to_string())
                .bind(&sealed.0)
                .execute(connection)
                .await?;
            expect(done.rows_affected(), || StoreError::Conflict("one-time codes are asked for already".to_owned()))
        }
        UserChange::TotpConfirmed { id, step, recovery, at } => {
            let done = sqlx::query(
                "UPDATE user SET totp_at = ?3, totp_step = ?2, generation = generation + 1 \
                 WHERE id = ?1 AND totp IS NOT NULL AND totp_at IS NULL",
            )
            .bind(id.to_string())
            .bind(step.cast_signed())
            .bind(at.to_string())
            .execute(&mut *connection)
            .await?;
            expect(done.rows_affected(), || StoreError::Conflict("nobody began with one-time codes".to_owned()))?;
            forget_recovery(connection, *id).await?;
            for hash in recovery {
                sqlx::query("INSERT INTO recovery_code (user, hash) VALUES (?1, ?2)")
                    .bind(id.to_string())
                    .bind(hash.as_slice())
                    .execute(&mut *connection)
                    .await?;
            }
            Ok(())
        }
        UserChange::TotpRemoved(id) => {
            let done = sqlx::query(
                "UPDATE user SET totp = NULL, totp_at = NULL, totp_step = 0, generation = generation + 1 \
                 WHERE id = ?1 AND totp IS NOT NULL",
            )
            .bind(id.to_string())
            .execute(&mut *connection)
            .await?;
            expect(done.rows_affected(), || StoreError::Conflict("no one-time codes are asked for".to_owned()))?;
            forget_recovery(connection, *id).await
        }
        UserChange::TotpUsed(id, step) => {
            let done = sqlx::query("UPDATE user SET totp_step = ?2 WHERE id = ?1 AND totp_step < ?2")
                .bind(id.to_string())
                .bind(step.cast_signed())
                .execute(connection)
                .await?;
            expect(done.rows_affected(), || StoreError::Conflict("this code was used already".to_owned()))
        }
        UserChange::RecoveryUsed(id, hash, at) => {
            let done =
                sqlx::query("UPDATE recovery_code SET used_at = ?3 WHERE user = ?1 AND hash = ?2 AND used_at IS NULL")
                    .bind(id.to_string())
                    .bind(hash.as_slice())
                    .bind(at.to_string())
                    .execute(connection)
                    .await?;
            expect(done.rows_affected(), || StoreError::Conflict("this is no recovery code, or a used one".to_owned()))
        }
        _ => Ok(()),
    }
}

async fn forget_recovery(connection: &mut SqliteConnection, user: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM recovery_code WHERE user = ?1").bind(user.to_string()).execute(connection).await?;
    Ok(())
}

async fn logged_in(
    connection: &mut SqliteConnection,
    id: Uuid,
    address: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE user SET login_at = ?2 WHERE id = ?1 AND NOT disabled")
        .bind(id.to_string())
        .bind(at.to_string())
        .execute(&mut *connection)
        .await?;
    expect(done.rows_affected(), || missing(id))?;
    let Some(address) = address else { return Ok(()) };
    sqlx::query(
        "INSERT INTO login_address (user, address, at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (user, address) DO UPDATE SET at = ?3",
    )
    .bind(id.to_string())
    .bind(address)
    .bind(stamp(at))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM login_address WHERE user = ?1 AND address NOT IN \
         (SELECT address FROM login_address WHERE user = ?1 ORDER BY at DESC LIMIT ?2)",
    )
    .bind(id.to_string())
    .bind(ADDRESSES)
    .execute(connection)
    .await?;
    Ok(())
}

async fn opened(connection: &mut SqliteConnection, session: &Session, token: &TokenHash) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO session (id, token, user, kind, method, address, agent, created_at, used_at, expires_at) \
         SELECT ?1, ?2, id, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM user WHERE id = ?3 AND NOT disabled",
    )
    .bind(session.id.to_string())
    .bind(token.as_slice())
    .bind(session.user.to_string())
    .bind(word(&session.kind))
    .bind(&session.method)
    .bind(&session.address)
    .bind(&session.agent)
    .bind(stamp(session.created_at))
    .bind(stamp(session.used_at))
    .bind(stamp(session.expires_at))
    .execute(connection)
    .await?;
    expect(done.rows_affected(), || missing(session.user))
}

impl Store {
    /// The user with this identity.
    ///
    /// # Errors
    /// Where the database cannot be read; so with every question below.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM user WHERE id = ?1").bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(user).transpose()
    }

    /// The user who logs in with this name; it must be in lower case.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let row = sqlx::query("SELECT * FROM user WHERE name = ?1").bind(name).fetch_optional(&self.readers).await?;
        row.as_ref().map(user).transpose()
    }

    /// Users after the cursor, which is an identity, in the order in which they were made known.
    pub async fn users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        sqlx::query("SELECT * FROM user WHERE id > ?1 ORDER BY id LIMIT ?2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(user)
            .collect()
    }

    /// What a user proves who they are with.
    pub async fn user_credentials(&self, id: Uuid) -> Result<Option<Credentials>, StoreError> {
        let row = sqlx::query("SELECT password, totp, totp_at, totp_step FROM user WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Credentials {
            password: row.try_get::<Option<String>, _>("password")?.map(Hidden),
            totp: row.try_get::<Option<Vec<u8>>, _>("totp")?.map(Hidden),
            totp_confirmed: row.try_get::<Option<String>, _>("totp_at")?.is_some(),
            totp_step: row.try_get::<i64, _>("totp_step")?.cast_unsigned(),
        }))
    }

    /// How many recovery codes a user has left.
    pub async fn recovery_codes_left(&self, user: Uuid) -> Result<u32, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM recovery_code WHERE user = ?1 AND used_at IS NULL")
            .bind(user.to_string())
            .fetch_one(&self.readers)
            .await?)
    }

    /// The session with this token, and whose it is.
    pub async fn session_by_token(&self, token: &TokenHash) -> Result<Option<(Session, User)>, StoreError> {
        let row = sqlx::query("SELECT * FROM session WHERE token = ?1")
            .bind(token.as_slice())
            .fetch_optional(&self.readers)
            .await?;
        let Some(session) = row.as_ref().map(session).transpose()? else { return Ok(None) };
        Ok(self.user(session.user).await?.map(|user| (session, user)))
    }

    /// The sessions of a user after the cursor, the oldest first.
    pub async fn sessions_of(&self, user: Uuid, after: &str, limit: u32) -> Result<Vec<Session>, StoreError> {
        sqlx::query("SELECT * FROM session WHERE user = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
            .bind(user.to_string())
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(session)
            .collect()
    }

    /// Whether there are sessions that have ended by themselves: that end before `expired`, or were not used since
    /// `idle`.
    pub async fn sessions_ended(&self, expired: Timestamp, idle: Timestamp) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM session WHERE expires_at < ?1 OR used_at < ?2 LIMIT 1")
            .bind(stamp(expired))
            .bind(stamp(idle))
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.is_some())
    }

    /// Whether a user has logged in from this address before.
    pub async fn login_address_known(&self, user: Uuid, address: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM login_address WHERE user = ?1 AND address = ?2")
            .bind(user.to_string())
            .bind(address)
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.is_some())
    }
}

fn user(row: &SqliteRow) -> Result<User, StoreError> {
    let role: Option<String> = row.try_get("role")?;
    Ok(User {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        role: role.map(|word| word.parse()).transpose().map_err(StoreError::Row)?,
        has_password: row.try_get::<Option<&str>, _>("password")?.is_some(),
        must_change: row.try_get("must_change")?,
        disabled: row.try_get("disabled")?,
        totp: row.try_get::<Option<&str>, _>("totp_at")?.is_some(),
        generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
        login_at: optional(row, "login_at")?,
    })
}

fn session(row: &SqliteRow) -> Result<Session, StoreError> {
    let kind: &str = row.try_get("kind")?;
    Ok(Session {
        id: parsed(row, "id")?,
        user: parsed(row, "user")?,
        kind: match kind {
            "browser" => SessionKind::Browser,
            "token" => SessionKind::Token,
            _ => return Err(StoreError::Row(format!("kind: {kind:?}"))),
        },
        method: row.try_get("method")?,
        address: row.try_get("address")?,
        agent: row.try_get("agent")?,
        created_at: parsed(row, "created_at")?,
        used_at: parsed(row, "used_at")?,
        expires_at: parsed(row, "expires_at")?,
    })
}

/// A time whose text sorts as the time does: every digit is there.
fn stamp(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn missing(id: Uuid) -> StoreError {
    StoreError::Missing(format!("there is no user {id}, or they are kept out"))
}
