//! What the transparency log says (steps 1, 5, 6, 7 and 9): inclusion, checkpoint, signed entry timestamp, body.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::facts::{self, Clock, TrustedTime};
use super::time::not_in_the_future;
use crate::release::evidence::bundle::{Bundle, Content, LogEntry, Version};
use crate::release::evidence::checkpoint::Checkpoint;
use crate::release::evidence::key::{KeyKind, PublicKey};
use crate::release::evidence::log_entry::{Covers, LoggedBody, LoggedVerifier};
use crate::release::evidence::merkle;
use crate::release::trust::root::{Log, TrustRoot};
use crate::types::{Code, Digest, Reason};

/// Checkpoints that were checked in this run, by log and text: a log's tree head is usually met many times.
#[derive(Debug, Default)]
pub(super) struct CheckedCheckpoints(Mutex<HashMap<Digest, Result<(), Reason>>>);

/// The log that the entry names, by its whole id.
fn log_of<'a>(root: &'a TrustRoot, entry: &LogEntry) -> Result<&'a Log, Reason> {
    root.log(&entry.log_id).ok_or_else(|| {
        Reason::new(Code::LogUnknown, format!("the log {} is not in the trust root", STANDARD.encode(&entry.log_id)))
    })
}

/// The time that the log vouches for, where it signed one.
pub(super) fn integrated_time(
    root: &TrustRoot,
    entry: &LogEntry,
    now: Timestamp,
) -> Result<Option<TrustedTime>, Reason> {
    let log = log_of(root, entry)?;
    let Some(signature) = &entry.signed_entry_timestamp else { return Ok(None) };
    let seconds = entry.integrated_time.unwrap_or_default();
    // The members in canonical order (RFC 8785), which is what rekor signs.
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{seconds},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(&entry.body),
        hex::encode(&entry.log_id),
        entry.index
    );
    log.key.verify(signed.as_bytes(), signature).map_err(|_| {
        Reason::new(Code::SetInvalid, format!("the signed entry timestamp was not made by {} for this entry", log.uri))
    })?;
    if seconds <= 0 {
        return Ok(None);
    }
    let at = Timestamp::from_second(seconds)
        .map_err(|_| Reason::new(Code::TimeInvalid, format!("the integrated time {seconds} is out of range")))?;
    not_in_the_future(at, now, "the integrated time")?;
    Ok(Some(TrustedTime { at, clock: Clock::Log }))
}

/// Checks that the entry is in the log, at a time for which the log is believed.
pub(super) fn included(
    root: &TrustRoot,
    version: Version,
    entry: &LogEntry,
    times: &[TrustedTime],
    checked: &CheckedCheckpoints,
) -> Result<facts::LogEntry, Reason> {
    let log = log_of(root, entry)?;
    let missing = |message: &str| Reason::new(Code::InclusionMissing, message);
    let leaf = merkle::leaf_hash(&entry.body);
    let origin = match &entry.proof {
        None if version > Version::V01 => {
            return Err(missing("a bundle of this version needs an inclusion proof, and there is none"));
        }
        None if entry.signed_entry_timestamp.is_none() => {
            return Err(missing("the entry has neither an inclusion proof nor a signed entry timestamp"));
        }
        None => None,
        Some(proof) => {
            let root_hash = merkle::Hash::try_from(proof.root.as_slice())
                .map_err(|_| Reason::new(Code::LogEntryMalformed, "the proof's root hash has not 32 bytes"))?;
            merkle::verify_inclusion(&leaf, proof.index, proof.size, &proof.hashes, &root_hash)
                .map_err(|error| Reason::new(Code::InclusionInvalid, error.to_string()))?;
            match &proof.checkpoint {
                // Version 0.1 knew proofs without a checkpoint; only the promise vouches for such an entry.
                None if version == Version::V01 && entry.signed_entry_timestamp.is_some() => None,
                None => return Err(missing("the inclusion proof has no checkpoint")),
                Some(text) => {
                    let checkpoint = Checkpoint::parse(text)?;
                    if checkpoint.size != proof.size || checkpoint.root != root_hash {
                        return Err(Reason::new(
                            Code::InclusionInvalid,
                            "the inclusion proof is for another tree than the checkpoint",
                        ));
                    }
                    checked.check(log, text, &checkpoint)?;
                    // A log without shards has one index for both; of two, one would be nobody's word.
                    if checkpoint.origin == log.name && entry.index != proof.index {
                        return Err(Reason::new(
                            Code::LogEntryMalformed,
                            format!(
                                "the entry is said to be number {}, and the proof is of {}",
                                entry.index, proof.index
                            ),
                        ));
                    }
                    Some(checkpoint.origin)
                }
            }
        }
    };
    // An entry's own time is the log's where it signed one; else it is not later than the authorities' timestamps.
    let own: Vec<&TrustedTime> = times.iter().filter(|time| time.clock == Clock::Log).collect();
    let decisive = if own.is_empty() { times.iter().collect() } else { own };
    if decisive.is_empty() {
        return Err(Reason::new(Code::TimeMissing, "no trusted clock says when the entry was made"));
    }
    let windows = || root.logs.iter().filter(|other| other.id == log.id);
    if let Some(outside) = decisive.iter().find(|time| !windows().any(|log| log.window.contains(time.at))) {
        return Err(Reason::new(
            Code::AuthorityWindow,
            format!("the trust root does not believe the log {} at {}", log.uri, outside.at),
        ));
    }
    Ok(facts::LogEntry {
        // The index in the whole log stands under the entry timestamp alone; the proof vouches for the shard's.
        index: match (&entry.signed_entry_timestamp, &entry.proof) {
            (None, Some(proof)) => proof.index,
            _ => entry.index,
        },
        uuid: hex::encode(leaf),
        origin,
        log_id: STANDARD.encode(&entry.log_id),
        kind: format!("{}/{}", entry.kind, entry.version),
        integrated_at: times.iter().find(|time| time.clock == Clock::Log).map(|time| time.at),
    })
}

impl CheckedCheckpoints {
    fn check(&self, log: &Log, text: &str, checkpoint: &Checkpoint) -> Result<(), Reason> {
        let key = Digest::sha256(&[log.id.as_slice(), text.as_bytes()].concat());
        if let Some(known) = self.0.lock().ok().and_then(|known| known.get(&key).cloned()) {
            return known;
        }
        let outcome = signed_by_log(log, checkpoint);
        if let Ok(mut known) = self.0.lock() {
            known.insert(key, outcome.clone());
        }
        outcome
    }
}

/// One signature must be the log's own: by its name, hint and key. Others, by witnesses, neither help nor harm.
fn signed_by_log(log: &Log, checkpoint: &Checkpoint) -> Result<(), Reason> {
    let invalid = |message: String| Reason::new(Code::CheckpointInvalid, message);
    // Rekor v1 has a log for each shard: `host - tree id`.
    let is_own = checkpoint.origin == log.name
        || checkpoint.origin.strip_prefix(&log.name).is_some_and(|rest| {
            rest.strip_prefix(" - ")
                .is_some_and(|tree| !tree.is_empty() && tree.bytes().all(|byte| byte.is_ascii_digit()))
        });
    if !is_own {
        return Err(invalid(format!("the checkpoint is of `{}`, not of `{}`", checkpoint.origin, log.name)));
    }
    let by_log = checkpoint
        .signatures
        .iter()
        .filter(|line| line.name == log.name && log.id.starts_with(&line.hint))
        .any(|line| log.key.verify(checkpoint.signed_text.as_bytes(), &line.signature).is_ok());
    if by_log { Ok(()) } else { Err(invalid(format!("no signature on the checkpoint is by {}", log.uri))) }
}

/// Who signed, in the two forms that a log writes down.
#[derive(Debug, Clone, Copy)]
pub(super) enum SignedBy<'a> {
    Certificate(&'a [u8]),
    Key(&'a [u8]),
}

/// Checks that the entry is about this very bundle (CVE-2022-36056). `signed` is what the signature is over: the
/// artifact's digests, or an envelope.
pub(super) fn agrees(
    body: &LoggedBody,
    bundle: &Bundle,
    signed_by: SignedBy<'_>,
    key: &PublicKey,
    artifact_digest: impl Fn(&Digest) -> Option<Digest>,
) -> Result<(), Reason> {
    let mismatch = |message: &str| Err(Reason::new(Code::LogEntryMismatch, message));
    let expected = match (&bundle.content, body.covers) {
        (Content::Message { .. }, Covers::Payload) => {
            return mismatch("the log entry is about an envelope, and the bundle signs the artifact itself");
        }
        // One signature has one digest; Ed25519 alone signs no digest at all.
        (Content::Message { digest: Some(noted), .. }, Covers::Signed)
            if noted.algorithm() != body.digest.algorithm() && !key.signs_whole_messages() =>
        {
            return mismatch("the log entry names a digest of another algorithm than the one that was signed");
        }
        (Content::Message { .. }, Covers::Signed) => match artifact_digest(&body.digest) {
            Some(digest) => digest,
            None => {
                return Err(Reason::new(
                    Code::ArtifactBytesRequired,
                    format!(
                        "the log entry names a {} digest, which is not known of the artifact",
                        body.digest.algorithm()
                    ),
                ));
            }
        },
        (Content::Envelope(envelope), Covers::Signed) => {
            body.digest.algorithm().hash(&envelope.pre_authentication_encoding())
        }
        (Content::Envelope(envelope), Covers::Payload) => body.digest.algorithm().hash(&envelope.payload),
    };
    if expected != body.digest {
        return mismatch("the log entry names another digest");
    }
    if let (Content::Envelope(envelope), Some(logged)) = (&bundle.content, &body.payload_type)
        && envelope.payload_type != *logged
    {
        return mismatch("the log entry names another payload type");
    }
    let [logged] = body.signatures.as_slice() else {
        return mismatch("the log entry must have one signature");
    };
    if logged.signature.as_deref().is_some_and(|signature| signature != bundle.signature()) {
        return mismatch("the log entry names another signature");
    }
    if logged.key_details.as_deref().is_some_and(|details| !names_kind(details, key.kind())) {
        return mismatch("the log entry names another kind of key or signature");
    }
    match (signed_by, &logged.verifier) {
        (SignedBy::Certificate(der), LoggedVerifier::Certificate(logged)) if der == logged => Ok(()),
        (SignedBy::Key(spki), LoggedVerifier::PublicKey(logged)) if spki == logged => Ok(()),
        _ => mismatch("the log entry names another certificate or key"),
    }
}

/// Whether a name of protobuf-specs' `PublicKeyDetails` is one for this kind of key, with the padding that is accepted.
fn names_kind(details: &str, kind: KeyKind) -> bool {
    match kind {
        KeyKind::P256 => details.starts_with("PKIX_ECDSA_P256_"),
        KeyKind::P384 => details.starts_with("PKIX_ECDSA_P384_"),
        KeyKind::P521 => details.starts_with("PKIX_ECDSA_P521_"),
        KeyKind::Ed25519 => details == "PKIX_ED25519",
        KeyKind::Rsa => details.starts_with("PKIX_RSA_PKCS1V15_"),
    }
}
