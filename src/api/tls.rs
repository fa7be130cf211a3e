//! Certificates and keys in, what a listener says of itself out: TLS 1.3 and nothing older (RFC 8446).
//! Invariant: no I/O. Whoever reads the files hands over their bytes, and hands them over again when they change.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

/// What a listener shows, and whose certificates it takes.
#[derive(Debug)]
pub struct Identity {
    /// The server's certificate and those above it, in PEM.
    pub certificates: Vec<u8>,
    /// The server's private key, in PEM.
    pub key: Vec<u8>,
    /// Who vouches for clients, in PEM; without it no client is asked for a certificate.
    pub client_ca: Option<Vec<u8>>,
}

/// Why a listener cannot be made of it.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The certificates cannot be read, or there is none.
    #[error("the certificate is not one or more certificates in PEM: {0}")]
    Certificate(String),
    /// The key cannot be read.
    #[error("the key is not a private key in PEM: {0}")]
    Key(String),
    /// They do not belong together, or are of a kind that is not spoken.
    #[error("the certificate and the key do not belong together: {0}")]
    Mismatch(String),
    /// Who vouches for clients cannot be read.
    #[error("the authority of clients is not one or more certificates in PEM: {0}")]
    ClientCa(String),
}

/// The listener's side of TLS.
///
/// # Errors
/// Where the certificate and the key are no pair, or one of the three cannot be read.
pub fn config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsFault> {
    let provider = Arc::new(default_provider());
    let chain = certificates(&identity.certificates).map_err(TlsFault::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| TlsFault::Key(error.to_string()))?;
    let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| TlsFault::Mismatch(error.to_string()))?;
    let versions = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsFault::Mismatch(error.to_string()))?;
    let verified = match &identity.client_ca {
        None => versions.with_no_client_auth(),
        Some(pem) => {
            let wrong = |error: &dyn std::fmt::Display| TlsFault::ClientCa(error.to_string());
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).map_err(TlsFault::ClientCa)? {
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            // Whoever shows none may still log in by other means; whoever shows a wrong one is not spoken with.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(&error))?;
            versions.with_client_cert_verifier(verifier)
        }
    };
    let mut config = verified.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A certificate is looked at in every handshake: nothing is resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is none".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}
