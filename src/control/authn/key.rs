//! API keys: made and shown once, checked at every use, rotated with an overlap, revoked at once.
//! Invariant: a key as it is shown is in no database, record, event or log; of it there is its SHA-256 alone.
//!
//! A key reads `dvk_<id>_<secret><checksum>` in lower-case hex: 32 digits that name it, 64 of 256 random bits, and 8
//! of SHA-256 over everything before them. By the last, who scans for lost secrets tells a key from what looks like
//! one without asking anybody. A slow hash would add nothing: 256 random bits are not guessed.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::{Caller, Control, Deed, OpError};
use super::Origin;
use crate::store::{ApiKey, ApiKeyRow, Change, CredentialChange, KeyUse, Touch, User};
use crate::types::access::{Permission, Subject};
use crate::types::{Code, Reason, limits};

/// What every key begins with.
pub const PREFIX: &str = "dvk_";

/// Digits of the identity, the secret and the checksum.
const ID: usize = 32;
const SECRET: usize = 64;
const CHECKSUM: usize = 8;
/// How often a key's last use is written down at most.
const USE_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// How often the same refusal of the same key is written down at most: whoever has a dead key fills no log with it.
pub(super) const REFUSAL_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Keys that are remembered for the two pauses above.
const REMEMBERED: usize = 10_000;

/// What the configuration says of keys.
#[derive(Debug, Clone, Copy)]
pub struct KeySettings {
    /// The longest time for which a key is made.
    pub longest: SignedDuration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self { longest: SignedDuration::from_hours(24 * limits::KEY_DAYS) }
    }
}

/// What was noted of keys a moment ago.
#[derive(Debug, Default)]
pub(in crate::control) struct Noted {
    used: Mutex<HashMap<Uuid, Timestamp>>,
    pub(super) refused: Mutex<HashMap<(Uuid, Code), Timestamp>>,
}

/// A key that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Permission>,
    /// From where; anywhere where there are none.
    pub addresses: Vec<IpNet>,
    /// How long it lasts; as long as is allowed where nothing is said.
    pub lasts: Option<SignedDuration>,
}

/// A key as it is shown, once, to the one who made it.
pub struct ShownKey {
    /// What is kept of it.
    pub key: ApiKey,
    /// The key itself.
    pub token: Zeroizing<String>,
}

impl Control {
    /// Makes a key of `owner`.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where it may not be so, [`OpError::Forbidden`] where a key asks for it,
    /// [`OpError::Conflict`] where a living key of that name is there.
    pub async fn key_create(&self, caller: &Caller, owner: Uuid, wanted: NewKey) -> Result<ShownKey, OpError> {
        no_key(caller)?;
        let owner = self.key_owner(owner).await?;
        let now = self.now();
        named(&wanted.name)?;
        if wanted.scopes.is_empty() {
            return Err(malformed("a key without scopes could do nothing".to_owned()));
        }
        if wanted.addresses.len() > limits::KEY_ADDRESSES {
            return Err(malformed(format!("a key has at most {} address ranges", limits::KEY_ADDRESSES)));
        }
        let longest = self.inner.authn.settings.keys.longest;
        let lasts = wanted.lasts.unwrap_or(longest);
        if !lasts.is_positive() || lasts > longest {
            let days = longest.as_hours() / 24;
            return Err(malformed(format!("a key lasts more than nothing and at most {days} days")));
        }
        if self.store().api_keys_alive(owner.id, now).await? >= limits::KEYS_PER_USER {
            let message = format!("{} has {} living keys; revoke some", owner.name, limits::KEYS_PER_USER);
            return Err(malformed(message));
        }
        let key = ApiKey {
            id: Uuid::now_v7(),
            user: owner.id,
            name: wanted.name,
            scopes: wanted.scopes,
            addresses: wanted.addresses.iter().map(IpNet::trunc).collect(),
            created_at: now,
            created_by: caller.actor.clone(),
            expires_at: now.saturating_add(lasts).unwrap_or(now),
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            used_at: None,
            used_from: None,
        };
        let (token, hash) = token(key.id)?;
        let deed = Deed::done("key.create", object(key.id), "key.created", told(&key, &owner));
        let change = CredentialChange::KeyCreated(ApiKeyRow { key: key.clone(), hash });
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(ShownKey { key, token })
    }

    /// Keys after the cursor: one user's, or everybody's.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn key_list(&self, user: Option<Uuid>, after: &str, limit: u32) -> Result<Vec<ApiKey>, OpError> {
        Ok(self.store().api_keys(user, after, limit).await?)
    }

    /// The key with this identity.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn key_find(&self, id: Uuid) -> Result<ApiKey, OpError> {
        let row = self.store().api_key(id).await?;
        row.map(|row| row.key).ok_or_else(|| unknown(id))
    }

    /// Makes a key that takes the place of another one, which stays valid for the overlap and no longer. A key may
    /// take its own place; any other one it leaves alone.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where the overlap is too long or the old key is dead, [`OpError::Conflict`] where it was
    /// rotated already.
    pub async fn key_rotate(&self, caller: &Caller, id: Uuid, overlap: SignedDuration) -> Result<ShownKey, OpError> {
        if !matches!(&caller.subject, Subject::Key { key, .. } if *key == id) {
            no_key(caller)?;
        }
        let old = self.key_find(id).await?;
        let owner = self.key_owner(old.user).await?;
        let now = self.now();
        if overlap.is_negative() || overlap > SignedDuration::from_hours(24 * limits::KEY_OVERLAP_DAYS) {
            return Err(malformed(format!("an overlap is at most {} days", limits::KEY_OVERLAP_DAYS)));
        }
        if old.revoked_at.is_some() || old.expires_at <= now {
            return Err(malformed(format!("key {id} is no longer valid; make a new one")));
        }
        // As long as the old one was made for, and never longer than is allowed now.
        let longest = self.inner.authn.settings.keys.longest;
        let lasts = old.created_at.duration_until(old.expires_at).min(longest);
        let key = ApiKey {
            id: Uuid::now_v7(),
            created_at: now,
            created_by: caller.actor.clone(),
            expires_at: now.saturating_add(lasts).unwrap_or(now),
            replaces: Some(id),
            replaced_by: None,
            used_at: None,
            used_from: None,
            ..old.clone()
        };
        let old_ends = old.expires_at.min(now.saturating_add(overlap).unwrap_or(now));
        let (token, hash) = token(key.id)?;
        let mut data = told(&key, &owner);
        if let Some(data) = data.as_object_mut() {
            data.insert("replaces".to_owned(), id.to_string().into());
            data.insert("old_ends".to_owned(), old_ends.to_string().into());
        }
        let deed = Deed::done("key.rotate", object(key.id), "key.rotated", data);
        let change = CredentialChange::KeyRotated { row: ApiKeyRow { key: key.clone(), hash }, old_ends };
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(ShownKey { key, token })
    }

    /// Ends a key at once. A key may end itself.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Conflict`] where it was revoked already.
    pub async fn key_revoke(&self, caller: &Caller, id: Uuid) -> Result<(), OpError> {
        if !matches!(&caller.subject, Subject::Key { key, .. } if *key == id) {
            no_key(caller)?;
        }
        let key = self.key_find(id).await?;
        let data = serde_json::json!({ "name": key.name, "user": key.user });
        let deed = Deed::done("key.revoke", object(id), "key.revoked", data);
        let change = CredentialChange::KeyRevoked(id, self.now());
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(())
    }

    /// Whose key this is, where it may be used from there and now.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`] with the reason, written down as a refusal.
    pub async fn key_caller(&self, token: &str, from: &Origin) -> Result<Caller, OpError> {
        let Some(id) = parsed(token) else {
            return Err(refused(&Reason::new(Code::KeyMalformed, "what was sent begins as an API key and is none")));
        };
        match self.key_checked(id, token, from.address).await? {
            Ok(found) => {
                let (ApiKeyRow { key, .. }, owner) = &*found;
                self.key_used(key.id, from.address);
                Ok(Caller {
                    subject: Subject::Key { key: key.id, user: owner.id, owner: owner.name.clone() },
                    actor: format!("key:{}/{}", owner.name, key.name),
                    origin: from.origin,
                    address: from.address,
                    scopes: Some(key.scopes.clone()),
                    why: from.why.clone(),
                })
            }
            Err(reason) => {
                self.key_refused(id, &reason, from).await?;
                Err(refused(&reason))
            }
        }
    }

    /// The key and its owner, or why it is not believed. Only who has the key is told more than that it is unknown.
    async fn key_checked(
        &self,
        id: Uuid,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<Result<Arc<(ApiKeyRow, User)>, Reason>, OpError> {
        let refusal = |code, message: String| Ok(Err(Reason::new(code, message)));
        let unknown = || refusal(Code::KeyUnknown, format!("there is no such key {id}"));
        let (keys, generation) = (&self.inner.authn.keys, self.store().credential_generation());
        let proves = |row: &ApiKeyRow| verify_slices_are_equal(&row.hash, &hash(token)).is_ok();
        let found = match keys.find(&id, generation) {
            Some(found) if proves(&found.0) => found,
            Some(_) => return unknown(),
            None => {
                // Whoever makes secrets up has no owner looked up, and nothing remembered.
                let Some(row) = self.store().api_key(id).await?.filter(proves) else { return unknown() };
                let Some(owner) = self.store().user(row.key.user).await? else { return unknown() };
                let found = Arc::new((row, owner));
                keys.keep(id, Arc::clone(&found), generation);
                found
            }
        };
        let (ApiKeyRow { key, .. }, owner) = &*found;
        if let Some(at) = key.revoked_at {
            return refusal(Code::KeyRevoked, format!("key {id} was revoked at {at}"));
        }
        if key.expires_at <= self.now() {
            return refusal(Code::KeyExpired, format!("key {id} was valid until {}", key.expires_at));
        }
        // At the host's own socket there is no address, so none that is in a range.
        let inside = |address: IpAddr| key.addresses.iter().any(|range| range.contains(&address.to_canonical()));
        if !key.addresses.is_empty() && !address.is_some_and(inside) {
            let from = address.map_or_else(|| "the host's socket".to_owned(), |address| address.to_string());
            return refusal(Code::KeyAddress, format!("key {id} may not be used from {from}"));
        }
        if owner.disabled {
            return refusal(Code::KeyRevoked, format!("the owner of key {id} may no longer log in"));
        }
        Ok(Ok(found))
    }

    /// Notes a use, at most once a minute, so that asking something stays as cheap as reading.
    fn key_used(&self, id: Uuid, address: Option<IpAddr>) {
        let now = self.now();
        if due(&self.inner.authn.noted.used, id, now, USE_PAUSE) {
            self.store().touch(Touch::Key(KeyUse { key: id, at: now, address }));
        }
    }

    /// Writes a refusal down, at most once a minute for each key and reason.
    async fn key_refused(&self, id: Uuid, reason: &Reason, from: &Origin) -> Result<(), OpError> {
        let code = reason.code.known().unwrap_or(Code::KeyUnknown);
        // Whoever makes identities up fills neither the memory nor the log: all of those are one.
        let known = if code == Code::KeyUnknown { Uuid::nil() } else { id };
        if !due(&self.inner.authn.noted.refused, (known, code), self.now(), REFUSAL_PAUSE) {
            return Ok(());
        }
        self.record_stranger("key.use", object(id), "key.refused", reason, from).await
    }

    async fn key_owner(&self, user: Uuid) -> Result<User, OpError> {
        let found = self.store().user(user).await?;
        let owner = found.ok_or_else(|| OpError::NotFound(format!("there is no user {user}")))?;
        if owner.disabled {
            return Err(malformed(format!("{} may not log in, and has no use for a key", owner.name)));
        }
        Ok(owner)
    }
}

/// Whether it was not noted since the pause; it is from now on.
pub(super) fn due<K: std::hash::Hash + Eq>(
    noted: &Mutex<HashMap<K, Timestamp>>,
    key: K,
    now: Timestamp,
    pause: SignedDuration,
) -> bool {
    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.get(&key).is_some_and(|at| at.duration_until(now) < pause) {
        return false;
    }
    if noted.len() >= REMEMBERED {
        noted.retain(|_, at| at.duration_until(now) < pause);
    }
    // Where so many were noted within one pause, this one is noted again: that costs a write and nothing else.
    if noted.len() < REMEMBERED {
        noted.insert(key, now);
    }
    true
}

/// A new key, and what is kept of it.
fn token(id: Uuid) -> Result<(Zeroizing<String>, [u8; 32]), OpError> {
    let mut secret = Zeroizing::new([0; SECRET / 2]);
    aws_lc_rs::rand::fill(secret.as_mut_slice()).map_err(|_| OpError::Node("the host has no randomness".to_owned()))?;
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + ID + 1 + SECRET + CHECKSUM));
    text.push_str(PREFIX);
    text.push_str(&id.simple().to_string());
    text.push('_');
    text.push_str(&Zeroizing::new(hex::encode(secret.as_slice())));
    let checksum = checksum(&text);
    text.push_str(&checksum);
    let hash = hash(&text);
    Ok((text, hash))
}

/// The identity in a key of the right form and checksum.
pub fn parsed(token: &str) -> Option<Uuid> {
    let rest = token.strip_prefix(PREFIX)?;
    let (id, rest) = rest.split_once('_')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if id.len() != ID || rest.len() != SECRET + CHECKSUM || !digits(id) || !digits(rest) {
        return None;
    }
    let (before, found) = token.split_at_checked(token.len() - CHECKSUM)?;
    (checksum(before) == found).then(|| Uuid::try_parse(id).ok()).flatten()
}

fn checksum(before: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(before.as_bytes()));
    digits.truncate(CHECKSUM);
    digits
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A key makes no keys, and touches none but itself: who finds one cannot make it outlast its end.
fn no_key(caller: &Caller) -> Result<(), OpError> {
    match &caller.subject {
        Subject::Key { .. } => {
            let message = format!("{} is a key; its owner manages keys", caller.actor);
            Err(OpError::Forbidden(Box::new(Reason::new(Code::KeyForKeys, message))))
        }
        _ => Ok(()),
    }
}

/// Names go into the audit log's actors: plain ASCII, so that no two look alike and differ.
fn named(name: &str) -> Result<(), OpError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=limits::KEY_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let most = limits::KEY_NAME_BYTES;
    Err(malformed(format!("a key's name is 1 to {most} letters, digits, dots, hyphens and underscores")))
}

/// What records and events tell of a key.
fn told(key: &ApiKey, owner: &User) -> serde_json::Value {
    serde_json::json!({
        "name": key.name,
        "user": owner.name,
        "scopes": key.scopes,
        "addresses": key.addresses,
        "expires_at": key.expires_at,
    })
}

fn object(id: Uuid) -> String {
    format!("key/{id}")
}

fn unknown(id: Uuid) -> OpError {
    OpError::NotFound(format!("there is no key {id}"))
}

fn malformed(message: String) -> OpError {
    OpError::Invalid(Box::new(Reason::new(Code::CredentialMalformed, message)))
}

fn refused(reason: &Reason) -> OpError {
    OpError::Unauthenticated(Box::new(reason.clone()))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::control::silent;

    #[test]
    fn a_new_key_reads_as_documented_and_no_two_are_alike() {
        let id = Uuid::now_v7();
        let (one, hash_of_one) = token(id).unwrap();
        let (other, _) = token(id).unwrap();
        assert_ne!(*one, *other);
        let form = regex::Regex::new("^dvk_[0-9a-f]{32}_[0-9a-f]{72}$").unwrap();
        assert!(form.is_match(&one), "{}", one.len());
        assert_eq!(parsed(&one), Some(id));
        assert_eq!(hash(&one), hash_of_one);
    }

    #[tokio::test]
    async fn a_key_ends_although_who_revoked_it_did_not_wait_for_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let control = silent::control(dir.path()).await;
        let owner = silent::known(&control, "alice").await;
        let wanted = NewKey {
            name: "ci".to_owned(),
            scopes: BTreeSet::from([Permission::VmRead]),
            addresses: Vec::new(),
            lasts: None,
        };
        let shown = control.key_create(&Caller::system(), owner, wanted).await.unwrap();
        let from = Origin { origin: "tls", address: None, agent: None, why: None };
        control.key_caller(&shown.token, &from).await.unwrap();
        let mut events = control.store().events();
        events.borrow_and_update();
        let id = shown.key.id;
        let change = Change::Credential(Box::new(CredentialChange::KeyRevoked(id, control.now())));
        let deed = Deed::done("key.revoke", object(id), "key.revoked", serde_json::json!({}));
        let asked = control.record_credential(&Caller::system(), deed, vec![change]).now_or_never();
        assert!(asked.is_none(), "it was answered at once, so that nobody could go away");
        events.changed().await.unwrap();
        let error = control.key_caller(&shown.token, &from).await.unwrap_err();
        assert!(
            matches!(&error, OpError::Unauthenticated(reason) if reason.code == Code::KeyRevoked.into()),
            "{error}"
        );
    }

    #[test]
    fn whatever_a_key_is_called_the_person_behind_it_is_its_owner() {
        let key = |actor: &str| Caller {
            subject: Subject::Key { key: Uuid::nil(), user: Uuid::nil(), owner: "alice".to_owned() },
            actor: actor.to_owned(),
            ..Caller::system()
        };
        for actor in ["key:alice/ci", "key:bob/ci", "key:", "user:bob", ""] {
            assert_eq!(key(actor).person(), "user:alice", "{actor:?}");
        }
        // And nobody else's name is taken apart.
        let service = Caller { subject: Subject::Service("key:alice/ci".to_owned()), ..key("key:alice/ci") };
        assert_eq!(service.person(), "key:alice/ci");
    }

    proptest! {
        #[test]
        fn a_key_with_another_character_anywhere_is_none(at in 0_usize..109, to in "[0-9a-z_]") {
            let (token, _) = token(Uuid::from_u128(7)).unwrap();
            let mut altered = token.to_string();
            altered.replace_range(at..=at, &to);
            prop_assert_eq!(parsed(&altered).is_some(), altered == *token);
        }

        #[test]
        fn what_begins_as_a_key_and_is_none_never_panics(rest in ".{0,200}") {
            prop_assert_eq!(parsed(&format!("dvk_{rest}")), None);
        }
    }
}
