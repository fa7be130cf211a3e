//! Who signed, by certificate (steps 2 to 4): the chain, the certificate timestamps, the profile, the identity.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::expect::Expectations;
use super::facts::Signer;
use crate::release::evidence::certificate::{Certificate, CertificateTimestamp};
use crate::release::trust::root::{Authority, TrustRoot};
use crate::types::{Code, DigestAlgorithm, Reason};

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3, as the bytes of the object identifier.
const CODE_SIGNING: KeyUsage = KeyUsage::required(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03]);

/// Checks that the certificate is believed: all but who it names. The answer depends on nothing but certificate,
/// root and times.
pub(super) fn believed(
    root: &TrustRoot,
    certificate: &Certificate,
    times: &[Timestamp],
    now: Timestamp,
) -> Result<(), Reason> {
    let authority = authority(root, certificate, times)?;
    certificate_timestamps(root, authority, certificate, now)?;
    if !certificate.may_sign {
        return Err(Reason::new(Code::CertificateUsage, "the certificate's key usage has no digital signature"));
    }
    Ok(())
}

fn authority<'a>(root: &'a TrustRoot, certificate: &Certificate, times: &[Timestamp]) -> Result<&'a Authority, Reason> {
    let untrusted = |message: &str| Reason::new(Code::CertificateUntrusted, message);
    if certificate.is_authority {
        return Err(Reason::new(Code::CertificateUsage, "the signing certificate is an authority's own"));
    }
    if let Some(outside) = times.iter().find(|time| !certificate.is_valid_at(**time)) {
        return Err(Reason::new(
            Code::CertificateExpired,
            format!(
                "the certificate was valid from {} to {}, and it was signed at {outside}",
                certificate.not_before, certificate.not_after
            ),
        ));
    }
    let first = *times.first().ok_or_else(|| Reason::new(Code::TimeMissing, "no trusted clock says when"))?;
    let mut refusal = untrusted("the certificate's issuer is not in the trust root");
    for authority in &root.authorities {
        let Some(issuer) = authority.chain.first() else { continue };
        if issuer.subject_name != certificate.issuer_name {
            continue;
        }
        if let Err(reason) = chains_to(certificate, issuer, first) {
            refusal = reason;
            continue;
        }
        if !authority.is_joined() {
            refusal = untrusted("the chain of the certificate's issuer does not hold together in the trust root");
            continue;
        }
        if let Some(outside) = times.iter().find(|time| !authority.is_valid_at(**time)) {
            refusal = Reason::new(
                Code::CertificateExpired,
                format!("the issuer's own certificate was not valid at {outside}"),
            );
            continue;
        }
        if let Some(outside) = times.iter().find(|time| !authority.window.contains(**time)) {
            refusal = Reason::new(
                Code::AuthorityWindow,
                format!("the trust root does not believe {} at {outside}", authority.uri),
            );
            continue;
        }
        return Ok(authority);
    }
    Err(refusal)
}

fn chains_to(certificate: &Certificate, issuer: &Certificate, time: Timestamp) -> Result<(), Reason> {
    let malformed = |error: webpki::Error| Reason::new(Code::CertificateMalformed, format!("the certificate: {error}"));
    let issuer = CertificateDer::from(issuer.der.as_slice());
    let anchor = webpki::anchor_from_trusted_cert(&issuer).map_err(|error| {
        Reason::new(Code::TrustRootUnreadable, format!("an authority of the trust root cannot be used: {error}"))
    })?;
    let der = CertificateDer::from(certificate.der.as_slice());
    let leaf = EndEntityCert::try_from(&der).map_err(malformed)?;
    let seconds = u64::try_from(time.as_second())
        .map_err(|_| Reason::new(Code::TimeInvalid, format!("{time} is before 1970")))?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], time, CODE_SIGNING, None, None)
        .map(|_| ())
        .map_err(|error| {
            let code = match &error {
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Code::CertificateExpired,
                webpki::Error::RequiredEkuNotFoundContext(_)
                | webpki::Error::CaUsedAsEndEntity
                | webpki::Error::EmptyEkuExtension => Code::CertificateUsage,
                _ => Code::CertificateUntrusted,
            };
            Reason::new(code, format!("the certificate does not chain to the trust root: {error}"))
        })
}

/// At least one timestamp by a log of the root must hold; one by such a log that does not hold is a forgery.
fn certificate_timestamps(
    root: &TrustRoot,
    authority: &Authority,
    certificate: &Certificate,
    now: Timestamp,
) -> Result<(), Reason> {
    if !root.has_ct_logs {
        return Ok(());
    }
    if certificate.timestamps.is_empty() {
        return Err(Reason::new(Code::SctMissing, "the certificate carries no timestamp of a CT log"));
    }
    let issuer = authority.chain.first().map(|issuer| issuer.key.spki()).unwrap_or_default();
    let mut believed = false;
    let mut refusal = Reason::new(Code::SctUntrusted, "the certificate's timestamp is from an unknown CT log");
    for timestamp in &certificate.timestamps {
        let Some(log) = root.ct_logs.iter().find(|log| log.id == timestamp.log_id) else { continue };
        log.key
            .verify_with(
                timestamp.digest,
                &signed_data(timestamp, issuer, &certificate.precertificate),
                &timestamp.signature,
            )
            .map_err(|_| {
                Reason::new(Code::SctInvalid, format!("the certificate's timestamp was not made by {}", log.uri))
            })?;
        let time = i64::try_from(timestamp.timestamp_ms)
            .ok()
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
            .filter(|time| *time <= now)
            .ok_or_else(|| Reason::new(Code::SctInvalid, "the certificate's timestamp is from the future"))?;
        // A log stands in the root once for each time it was believed.
        let windows = root.ct_logs.iter().filter(|log| log.id == timestamp.log_id);
        if windows.into_iter().any(|log| log.window.contains(time)) {
            believed = true;
        } else {
            refusal = Reason::new(
                Code::AuthorityWindow,
                format!("the trust root does not believe the CT log {} at {time}", log.uri),
            );
        }
    }
    if believed { Ok(()) } else { Err(refusal) }
}

/// What a CT log signs for a precertificate (RFC 6962 section 3.2).
fn signed_data(timestamp: &CertificateTimestamp, issuer_spki: &[u8], precertificate: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(precertificate.len()).unwrap_or(u32::MAX).to_be_bytes();
    let extensions_length = u16::try_from(timestamp.extensions.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut data = Vec::with_capacity(precertificate.len().saturating_add(64));
    data.extend_from_slice(&[0, 0]);
    data.extend_from_slice(&timestamp.timestamp_ms.to_be_bytes());
    data.extend_from_slice(&[0, 1]);
    data.extend_from_slice(DigestAlgorithm::Sha256.hash(issuer_spki).as_bytes());
    data.extend_from_slice(&length);
    data.extend_from_slice(precertificate);
    data.extend_from_slice(&extensions_length);
    data.extend_from_slice(&timestamp.extensions);
    data
}

/// The one identity that the certificate binds, with its issuer and claims.
pub(super) fn signer(certificate: &Certificate) -> Result<Signer, Reason> {
    let identity = match (certificate.identities.as_slice(), certificate.names) {
        ([one], 1) => one.clone(),
        (_, count) => {
            return Err(Reason::new(
                Code::CertificateProfile,
                format!("the certificate must name one identity, and it has {count} names"),
            ));
        }
    };
    let claim = |name: &str| certificate.claims.get(name).cloned();
    let issuer = match (claim("issuer"), claim("issuer_v1")) {
        (Some(new), Some(old)) if new != old => {
            return Err(Reason::new(
                Code::IssuerConflict,
                format!("one extension of the certificate names the issuer `{new}`, another `{old}`"),
            ));
        }
        (new, old) => new.or(old),
    };
    let claims = certificate
        .claims
        .iter()
        .filter(|(name, _)| !name.starts_with("issuer"))
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    Ok(Signer::Certificate { identity, issuer, claims })
}

/// Whether it is who was expected.
pub(super) fn expected(signer: &Signer, expectations: &Expectations) -> Result<(), Reason> {
    let Signer::Certificate { identity, issuer, claims } = signer else {
        return if expectations.deny_self_hosted_runners { Err(runner_unknown()) } else { Ok(()) };
    };
    if let Some(pattern) = &expectations.identity
        && !pattern.matches(identity)
    {
        return Err(Reason::new(
            Code::IdentityMismatch,
            format!("the certificate is for `{identity}`, and {pattern} was expected"),
        ));
    }
    if let Some(pattern) = &expectations.issuer {
        let issuer = issuer.as_deref().unwrap_or_default();
        if issuer.is_empty() || !pattern.matches(issuer) {
            return Err(Reason::new(
                Code::IssuerMismatch,
                format!("the certificate's issuer is `{issuer}`, and {pattern} was expected"),
            ));
        }
    }
    if expectations.deny_self_hosted_runners {
        match claims.get("runner_environment").map(String::as_str) {
            Some("github-hosted") => {}
            Some(runner) => {
                return Err(Reason::new(Code::SelfHostedRunner, format!("the build ran on a `{runner}` runner")));
            }
            None => return Err(runner_unknown()),
        }
    }
    Ok(())
}

fn runner_unknown() -> Reason {
    Reason::new(Code::SelfHostedRunner, "no certificate says on what kind of runner the build ran")
}
