//! What the port shows: the certificate that the configuration names, or one of an authority of our own, which is made
//! at the first start. Files are looked at every second and on SIGHUP, and what changed is shown from then on.
//!
//! The authority and the server's key stay, below `tls` of the state directory, so that clients can name the one as
//! their root and pin the other; the certificate itself is made anew at every start, and before it is too old.
//! Invariant: what cannot be read or does not fit together is told and not shown; the one before stays.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use der::{Decode as _, Encode as _};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::tls::{self, Identity};
use crate::config::ListenConfig;
use crate::release::artifact;
use crate::types::{Clock, Digest, limits};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a certificate of our own holds; clients refuse more than 398 days.
const VALIDITY: SignedDuration = SignedDuration::from_hours(397 * 24);
/// When the next one is made.
const RENEWAL: SignedDuration = SignedDuration::from_hours(300 * 24);
/// How long our own authority holds.
const AUTHORITY_VALIDITY: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);

/// A version of a file: inode, length, and when it was changed.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Looks after what the port shows.
pub(super) struct Keeper {
    source: Source,
    client_ca: Option<PathBuf>,
    clock: Clock,
    stamps: Vec<Stamp>,
    made_at: Timestamp,
    pin: Digest,
    shown: watch::Sender<Arc<ServerConfig>>,
}

/// Where the certificate comes from.
enum Source {
    /// Files of the configuration.
    Files { certificate: PathBuf, key: PathBuf },
    /// Our own authority.
    Own(Box<Authority>),
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    server: KeyPair,
    names: Vec<String>,
}

impl Keeper {
    /// One that has read or made what is shown, and what is shown from now on.
    pub(super) fn open(
        config: &ListenConfig,
        state: &Path,
        clock: Clock,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), String> {
        let source = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => Source::Files { certificate: certificate.clone(), key: key.clone() },
            (None, None) => Source::Own(Box::new(Authority::open(&state.join("tls"), names(config), clock.now())?)),
            _ => return Err("[listen] names one of certificate and key; it takes both or none".to_owned()),
        };
        let client_ca = config.client_ca.clone();
        let (identity, pin) = read(&source, client_ca.as_deref(), clock.now())?;
        let (shown, told) = watch::channel(tls::config(&identity).map_err(|fault| fault.to_string())?);
        let mut keeper = Self { source, client_ca, clock, stamps: Vec::new(), made_at: clock.now(), pin, shown };
        keeper.stamps = keeper.stamps_now();
        Ok((keeper, told))
    }

    /// What clients can pin: the SHA-256 of the public key (RFC 7469 section 2.4).
    pub(super) const fn pin(&self) -> &Digest {
        &self.pin
    }

    /// Looks until `stop` says so.
    pub(super) async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let Ok(mut asked) = signal(SignalKind::hangup()) else {
            return tracing::error!("cannot listen for SIGHUP: a changed certificate is shown after the next start");
        };
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => false,
                heard = asked.recv() => heard.is_some(),
                _ = stop.changed() => return,
            };
            let stamps = self.stamps_now();
            let old = matches!(self.source, Source::Own(_)) && self.clock.now().duration_since(self.made_at) >= RENEWAL;
            if asked || old || stamps != self.stamps {
                self.stamps = stamps;
                self.renew();
            }
        }
    }

    fn renew(&mut self) {
        let now = self.clock.now();
        let read = read(&self.source, self.client_ca.as_deref(), now);
        match read.and_then(|(identity, pin)| {
            let config = tls::config(&identity).map_err(|fault| fault.to_string())?;
            Ok((config, pin))
        }) {
            Ok((config, pin)) => {
                tracing::info!(%pin, "the port shows a new certificate from now on, pin {pin}");
                self.made_at = now;
                self.pin = pin;
                self.shown.send_replace(config);
            }
            Err(fault) => tracing::error!("the port goes on showing the certificate that it had: {fault}"),
        }
    }

    fn stamps_now(&self) -> Vec<Stamp> {
        let files = match &self.source {
            Source::Files { certificate, key } => vec![certificate, key],
            Source::Own(_) => Vec::new(),
        };
        let stamp = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
        };
        files.into_iter().chain(&self.client_ca).map(stamp).collect()
    }
}

/// What is shown, and what clients can pin.
fn read(source: &Source, client_ca: Option<&Path>, now: Timestamp) -> Result<(Identity, Digest), String> {
    let bytes = |path: &Path| {
        let read = artifact::read_bounded(path, limits::CONFIG_BYTES);
        read.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let client_ca = client_ca.map(bytes).transpose()?;
    match source {
        Source::Files { certificate, key } => {
            let identity = Identity { certificates: bytes(certificate)?, key: bytes(key)?, client_ca };
            let first = CertificateDer::from_pem_slice(&identity.certificates)
                .map_err(|error| format!("{} is no certificate in PEM: {error}", certificate.display()))?;
            let pin = pin(&first).map_err(|error| format!("{}: {error}", certificate.display()))?;
            Ok((identity, pin))
        }
        Source::Own(authority) => {
            let certificate = authority.certify(now).map_err(|error| format!("cannot certify: {error}"))?;
            let certificates = format!("{}{}", certificate.pem(), pem(&authority.certificate)).into_bytes();
            let pin = pin(certificate.der()).map_err(|error| format!("cannot certify: {error}"))?;
            Ok((Identity { certificates, key: authority.server.serialize_pem().into_bytes(), client_ca }, pin))
        }
    }
}

impl Authority {
    /// The authority in this folder; made there where there is none.
    fn open(folder: &Path, names: Vec<String>, now: Timestamp) -> Result<Self, String> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let failed = |error: &dyn std::fmt::Display| format!("the authority in {}: {error}", folder.display());
        if !certificate.exists() {
            // A key without a certificate is of a start that was cut short.
            make(folder, &certificate, &key, now).map_err(|error| failed(&error))?;
        }
        let text = |path: &Path| fs::read_to_string(path).map_err(|error| failed(&error));
        let certificate = CertificateDer::from_pem_slice(text(&certificate)?.as_bytes());
        let certificate = certificate.map_err(|error| failed(&error))?;
        let key = KeyPair::from_pem(&text(&key)?).map_err(|error| failed(&error))?;
        let parsed = x509_cert::Certificate::from_der(&certificate).map_err(|error| failed(&error))?;
        let info = parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|error| failed(&error))?;
        if info != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(failed(&"ca.key is not the key of ca.crt; remove both, and clients pin the next one"));
        }
        let issuer = Issuer::new(authority(now).map_err(|error| failed(&error))?, key);
        let server = folder.join("server.key");
        if !server.exists() {
            let pair = KeyPair::generate().map_err(|error| failed(&error))?;
            write(&server, &pair.serialize_pem(), 0o600).map_err(|error| failed(&error))?;
        }
        let server = KeyPair::from_pem(&text(&server)?).map_err(|error| failed(&error))?;
        Ok(Self { issuer, certificate, server, names })
    }

    /// A certificate of this server.
    fn certify(&self, now: Timestamp) -> Result<Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name.push(DnType::CommonName, "debvisor");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        hold(&mut params, now, now + VALIDITY);
        params.signed_by(&self.server, &self.issuer)
    }
}

fn make(folder: &Path, certificate: &Path, key: &Path, now: Timestamp) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let pair = KeyPair::generate()?;
    let made = authority(now)?.self_signed(&pair)?;
    write(key, &pair.serialize_pem(), 0o600)?;
    // The certificate last: where it is, the key is.
    write(certificate, &made.pem(), 0o644)
}

fn authority(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "debvisor authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    hold(&mut params, now, now + AUTHORITY_VALIDITY);
    Ok(params)
}

/// Whole days, from a little before: clocks of clients may go behind.
fn hold(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(from - SignedDuration::from_hours(48));
    params.not_after = day(until);
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(&beside, path)?)
}

fn pin(certificate: &[u8]) -> Result<Digest, der::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate)?;
    Ok(Digest::sha256(&parsed.tbs_certificate.subject_public_key_info.to_der()?))
}

fn pem(certificate: &[u8]) -> String {
    pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, certificate).unwrap_or_default()
}

/// The host's own names, those of the configuration, and the address itself.
fn names(config: &ListenConfig) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = super::host_name();
    let fits = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    names.extend(Some(host).filter(|_| fits));
    names.extend(config.address.map(|address| address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    names.extend(config.names.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}
