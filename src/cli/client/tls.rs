//! How a server is recognised: by authorities, by its own public key, or by both. TLS 1.3 and nothing older.
//! Invariant: a server that is not recognised is told nothing, whatever the caller would have it told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use der::{Decode as _, Encode as _};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::super::UsageError;
use crate::release::artifact;
use crate::types::limits;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How a server is recognised, and what it is shown.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Trust {
    /// Who vouches for it; the system's and Mozilla's authorities where neither this nor a pin says more.
    pub(in crate::cli) ca: Option<PathBuf>,
    /// Its own keys. Where there are some it must have one of them.
    pub(in crate::cli) pins: Vec<Pin>,
    /// Certificate and key of this side.
    pub(in crate::cli) identity: Option<(PathBuf, PathBuf)>,
}

/// A public key: the SHA-256 of its SubjectPublicKeyInfo (RFC 7469 section 2.4), in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Pin([u8; 32]);

impl Pin {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
        let spki = parsed.tbs_certificate.subject_public_key_info.to_der().ok()?;
        Some(Self(Sha256::digest(spki).into()))
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no pin");
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(hex, &mut digest).map_err(|_| wrong())?;
        Ok(Self(digest))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// A client that speaks with servers that are recognised so.
pub(in crate::cli) fn client(trust: &Trust) -> anyhow::Result<reqwest::Client> {
    install();
    if !trust.pins.is_empty() {
        return Ok(builder().tls_backend_preconfigured(pinned(trust)?).build()?);
    }
    let mut builder = builder().min_tls_version(reqwest::tls::Version::TLS_1_3);
    builder = match &trust.ca {
        Some(path) => builder.tls_certs_only(parsed(path)?),
        None => {
            let known = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            builder
                .tls_certs_merge(known.map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?)
        }
    };
    if let Some((certificate, key)) = &trust.identity {
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        let wrong = |_| {
            let message = format!("{} and {} are no certificate with its key", certificate.display(), key.display());
            UsageError::new(message, "both are PEM; the key is not encrypted")
        };
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(wrong)?);
    }
    builder.build().context("cannot start")
}

/// The key of the server at this address, whoever it is. Nothing is sent to it.
pub(in crate::cli) async fn key_of(url: &Url) -> Option<Pin> {
    install();
    let seen = Arc::new(Seen { key: Mutex::default() });
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let client = builder().tls_backend_preconfigured(config).build().ok()?;
    // It ends in the handshake: nobody is recognised.
    let _ = client.get(url.clone()).send().await;
    *seen.key.lock().unwrap_or_else(PoisonError::into_inner)
}

fn install() {
    // Fails only where a provider is installed already, which is as good.
    let _ = aws_lc_rs::default_provider().install_default();
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("debvisor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .https_only(true)
        .http1_only()
}

fn pinned(trust: &Trust) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authority = match &trust.ca {
        None => None,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| format!("cannot use {}", path.display()))?;
            }
            Some(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?)
        }
    };
    let verifier = Arc::new(Pinned { pins: trust.pins.clone(), authority, provider });
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &trust.identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let wrong = || format!("{} holds no private key in PEM", key.display());
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).with_context(wrong)?;
            Ok(config.with_client_auth_cert(chain, key)?)
        }
    }
}

/// Recognises a server by its key, and by an authority where one is named.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !Pin::of(server).is_some_and(|key| self.pins.contains(&key)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        match &self.authority {
            Some(authority) => authority.verify_server_cert(server, between, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Recognises nobody, and says whom.
#[derive(Debug)]
struct Seen {
    key: Mutex<Option<Pin>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Pin::of(server);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("nobody is recognised".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("nobody is recognised".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if found.is_empty() {
        let message = format!("{} holds no certificate in PEM", path.display());
        return Err(UsageError::new(message, "name a file with one or more certificates").into());
    }
    Ok(found)
}

fn parsed(path: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    certificates(path)?.iter().map(|der| Ok(reqwest::Certificate::from_der(der)?)).collect()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    artifact::read_bounded(path, limits::CONFIG_BYTES).map_err(|error| {
        UsageError::new(format!("cannot read {}: {error}", path.display()), "name another file").into()
    })
}
