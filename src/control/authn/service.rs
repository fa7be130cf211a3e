//! Services: whose certificate it is that somebody showed in a handshake.
//! Invariant: a certificate alone opens nothing. Its handshake and its chain were checked by the listener, against the
//! authority of clients; here it is somebody's only as long as it is on the list, and only in its own time.
//!
//! A service is known by marks, any of which is enough: `spki:sha256:…` pins one key, whatever certificate it is in;
//! `uri:…` and `dns:…` are names in the certificate, for which the authority vouches. They are compared byte by byte.

use std::collections::BTreeSet;
use std::time::SystemTime;

use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::super::{Caller, Control, Deed, OpError};
use super::Origin;
use super::key::{REFUSAL_PAUSE, due};
use crate::store::{AccessChange, Change, CredentialChange, Service};
use crate::types::access::Subject;
use crate::types::grant::{Holder, is_label};
use crate::types::{Code, Reason, limits};

impl Control {
    /// Registers a service.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where a mark or the name is none, [`OpError::Conflict`] where one of them is taken.
    pub async fn service_create(
        &self,
        caller: &Caller,
        name: &str,
        marks: BTreeSet<String>,
    ) -> Result<Service, OpError> {
        if !is_label(name) {
            let message = format!("{name:?} is no name for a service: 1 to 63 lower-case letters, digits and hyphens");
            return Err(malformed(message));
        }
        if marks.is_empty() || marks.len() > limits::SERVICE_MARKS {
            return Err(malformed(format!("a service is known by 1 to {} marks", limits::SERVICE_MARKS)));
        }
        if let Some(wrong) = marks.iter().find(|mark| !is_mark(mark)) {
            let message = format!("{wrong:?} is none of spki:sha256:<64 hex digits>, uri:<URI> and dns:<name>");
            return Err(malformed(message));
        }
        let service =
            Service { name: name.to_owned(), marks, created_at: self.now(), created_by: caller.actor.clone() };
        let data = serde_json::json!({ "marks": service.marks });
        let deed = Deed::done("service.create", object(name), "service.created", data);
        let change = CredentialChange::ServiceCreated(service.clone());
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(service)
    }

    /// Services after the cursor, which is a name.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn service_list(&self, after: &str, limit: u32) -> Result<Vec<Service>, OpError> {
        Ok(self.store().services(after, limit).await?)
    }

    /// The service with this name.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn service_find(&self, name: &str) -> Result<Service, OpError> {
        let found = self.store().service(name).await?;
        found.ok_or_else(|| OpError::NotFound(format!("there is no service {name:?}")))
    }

    /// Removes a service: its certificates open nothing from now on, on connections that are open as well.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn service_delete(&self, caller: &Caller, name: &str) -> Result<(), OpError> {
        let deed = Deed::done("service.delete", object(name), "service.deleted", serde_json::json!({}));
        // What it was granted goes with it: whoever gets the name next is somebody else.
        let changes = vec![
            Change::Credential(Box::new(CredentialChange::ServiceDeleted(name.to_owned()))),
            Change::Access(Box::new(AccessChange::HolderGone(Holder::Service(name.to_owned())))),
        ];
        self.record_credential(caller, deed, changes).await?;
        Ok(())
    }

    /// Which service showed this certificate.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`] with the reason, written down as a refusal.
    pub async fn service_caller(&self, certificate: &[u8], from: &Origin) -> Result<Caller, OpError> {
        let now = self.now();
        let refusal = match shown(certificate) {
            None => Reason::new(Code::ServiceUnknown, "the certificate cannot be read"),
            // The handshake was in its time; the connection may have outlived it.
            Some(shown) if now < shown.from || now >= shown.until => {
                let message = format!("the certificate is valid from {} until {}", shown.from, shown.until);
                Reason::new(Code::ServiceExpired, message)
            }
            Some(shown) => match self.store().service_of(&shown.marks).await? {
                Some(name) => {
                    return Ok(Caller {
                        actor: format!("service:{name}"),
                        subject: Subject::Service(name),
                        origin: from.origin,
                        address: from.address,
                        scopes: None,
                        why: from.why.clone(),
                    });
                }
                None => {
                    let mark = shown.marks.first().cloned().unwrap_or_default();
                    Reason::new(Code::ServiceUnknown, format!("no service is known by the certificate ({mark})"))
                }
            },
        };
        let code = refusal.code.known().unwrap_or(Code::ServiceUnknown);
        if due(&self.inner.authn.noted.refused, (Uuid::nil(), code), now, REFUSAL_PAUSE) {
            self.record_stranger("service.use", "service/unknown".to_owned(), "service.refused", &refusal, from)
                .await?;
        }
        Err(OpError::Unauthenticated(Box::new(refusal)))
    }
}

/// What a certificate says that counts here.
struct Shown {
    marks: Vec<String>,
    from: Timestamp,
    until: Timestamp,
}

/// The pin first: it is the narrower of the marks.
fn shown(der: &[u8]) -> Option<Shown> {
    let certificate = Certificate::from_der(der).ok()?;
    let body = &certificate.tbs_certificate;
    let key = body.subject_public_key_info.to_der().ok()?;
    let mut marks = vec![format!("spki:sha256:{}", hex::encode(Sha256::digest(key)))];
    if let Some((_, names)) = body.get::<SubjectAltName>().ok()? {
        marks.extend(names.0.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(format!("uri:{uri}")),
            GeneralName::DnsName(name) => Some(format!("dns:{}", name.as_str().to_ascii_lowercase())),
            _ => None,
        }));
    }
    marks.truncate(limits::SERVICE_MARKS);
    let time = |at: x509_cert::time::Time| Timestamp::try_from(SystemTime::from(at)).ok();
    Some(Shown { marks, from: time(body.validity.not_before)?, until: time(body.validity.not_after)? })
}

fn is_mark(mark: &str) -> bool {
    if mark.len() > limits::SERVICE_MARK_BYTES || !mark.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    match mark.split_once(':') {
        Some(("spki", pin)) => pin.strip_prefix("sha256:").is_some_and(|digits| {
            digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        }),
        Some(("uri", uri)) => url::Url::parse(uri).is_ok(),
        // Nobody is everybody: a name with an asterisk is no service's.
        Some(("dns", name)) => !name.is_empty() && name.split('.').all(is_label),
        _ => false,
    }
}

fn object(name: &str) -> String {
    format!("service/{name}")
}

fn malformed(message: String) -> OpError {
    OpError::Invalid(Box::new(Reason::new(Code::CredentialMalformed, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_of_three_forms_and_names_one() {
        let pin = format!("spki:sha256:{}", "ab".repeat(32));
        for good in [pin.as_str(), "uri:spiffe://example.org/deploy", "dns:deploy.example.org", "dns:deploy"] {
            assert!(is_mark(good), "{good}");
        }
        let upper = pin.to_uppercase();
        let wrong = [
            "",
            "spki:",
            "spki:sha256:ab",
            &upper,
            "dns:*.example.org",
            "dns:",
            "dns:a..b",
            "uri:",
            "uri:deploy",
            "ip:192.0.2.1",
            "dns:Deploy",
            "uri:spiffe://a b",
        ];
        for wrong in wrong {
            assert!(!is_mark(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_is_read_for_its_key_its_names_and_its_time() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["Deploy.example.org".to_owned()]).unwrap();
        let uri = rcgen::string::Ia5String::try_from("spiffe://example.org/deploy").unwrap();
        parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        let shown = shown(certificate.der()).unwrap();
        let pin = hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)));
        let expected = [
            format!("spki:sha256:{pin}"),
            "dns:deploy.example.org".to_owned(),
            "uri:spiffe://example.org/deploy".to_owned(),
        ];
        assert_eq!(shown.marks, expected);
        assert_eq!(shown.from.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(shown.until.to_string(), "2027-01-01T00:00:00Z");
        assert!(super::shown(b"no certificate").is_none());
    }
}
