//! When it was signed, by clocks that the trust root vouches for (step 1).

use const_oid::db::rfc5280::ID_KP_TIME_STAMPING;
use jiff::Timestamp;

use super::facts::{Clock, TrustedTime};
use crate::release::evidence::timestamp::{SignedTimestamp, SignerName};
use crate::release::trust::root::{Authority, TrustRoot};
use crate::types::{Code, Reason};

/// Checks every RFC 3161 timestamp over `signature`; one that fails fails the bundle.
pub(super) fn timestamps(
    root: &TrustRoot,
    tokens: &[Vec<u8>],
    signature: &[u8],
    now: Timestamp,
) -> Result<Vec<TrustedTime>, Reason> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut times = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let place = format!("verificationMaterial.timestampVerificationData.rfc3161Timestamps[{position}]");
        let timestamp = SignedTimestamp::parse(token).map_err(|reason| reason.location(&*place))?;
        if seen.contains(&timestamp.signature) {
            return Err(Reason::new(Code::TimestampCount, "the same timestamp stands twice").location(place));
        }
        let at = timestamp_of(root, &timestamp, signature, now).map_err(|reason| reason.location(place))?;
        times.push(TrustedTime { at, clock: Clock::TimestampAuthority });
        seen.push(timestamp.signature);
    }
    Ok(times)
}

fn timestamp_of(
    root: &TrustRoot,
    timestamp: &SignedTimestamp,
    signature: &[u8],
    now: Timestamp,
) -> Result<Timestamp, Reason> {
    if !timestamp.covers(signature) {
        return Err(Reason::new(Code::TimestampInvalid, "the timestamp is over other bytes than this signature"));
    }
    let named: Vec<&Authority> =
        root.timestamp_authorities.iter().filter(|authority| is_signer(authority, &timestamp.signer)).collect();
    if named.is_empty() {
        return Err(Reason::new(
            Code::TimestampUntrusted,
            "the timestamp's authority is not in the trust root".to_owned(),
        ));
    }
    // One authority may stand in the root several times, with other windows; the best answer counts.
    let answers: Vec<Result<(), Reason>> = named.iter().map(|authority| signed_by(authority, timestamp)).collect();
    if answers.iter().all(Result::is_err) {
        return answers.into_iter().find_map(Result::err).map_or(Ok(timestamp.time), Err);
    }
    not_in_the_future(timestamp.time, now, "the timestamp")?;
    Ok(timestamp.time)
}

fn is_signer(authority: &Authority, name: &SignerName) -> bool {
    authority.chain.first().is_some_and(|certificate| match name {
        SignerName::IssuerAndSerial(issuer, serial) => {
            certificate.issuer_name == *issuer && certificate.serial == *serial
        }
        SignerName::KeyIdentifier(identifier) => certificate.key_identifier.as_ref() == Some(identifier),
    })
}

fn signed_by(authority: &Authority, timestamp: &SignedTimestamp) -> Result<(), Reason> {
    let untrusted = |message: String| Reason::new(Code::TimestampUntrusted, message);
    let signer = authority.chain.first().ok_or_else(|| untrusted("the authority has no certificate".to_owned()))?;
    if !authority.is_joined() {
        return Err(untrusted(format!("the chain of {} does not hold together", authority.uri)));
    }
    // RFC 3161 section 2.3: the key is for timestamps and for nothing else.
    if signer.extended_usages != [ID_KP_TIME_STAMPING] {
        return Err(untrusted(format!("the certificate of {} is not for timestamps", authority.uri)));
    }
    let strange = |der: &Vec<u8>| !authority.chain.iter().any(|certificate| certificate.der == *der);
    if timestamp.certificates.iter().any(strange) {
        return Err(untrusted("the timestamp carries a certificate that the trust root does not have".to_owned()));
    }
    signer.key.verify_with(timestamp.digest, &timestamp.signed_attributes, &timestamp.signature).map_err(|_| {
        Reason::new(Code::TimestampInvalid, format!("the timestamp's signature is not by {}", authority.uri))
    })?;
    if !authority.is_valid_at(timestamp.time) {
        return Err(untrusted(format!(
            "the certificate of {} was not valid at the timestamp's own time, {}",
            authority.uri, timestamp.time
        )));
    }
    if !authority.window.contains(timestamp.time) {
        return Err(Reason::new(
            Code::AuthorityWindow,
            format!("the trust root does not believe {} at {}", authority.uri, timestamp.time),
        ));
    }
    Ok(())
}

/// A clock that is ahead of ours has not been where it says.
pub(super) fn not_in_the_future(time: Timestamp, now: Timestamp, what: &str) -> Result<(), Reason> {
    if time > now {
        return Err(Reason::new(Code::TimeInvalid, format!("{what} is from the future: {time}")));
    }
    Ok(())
}
