//! A small private Sigstore: artifacts and plans in, bundles and a trust root out.
//!
//! It has a certificate authority, a CT log, a Rekor v1 and a Rekor v2 log, timestamp authorities, and a stranger of
//! each kind that the trust root does not name. A [`Draft`] starts out honest; a test changes one of its fields, and
//! everything else is signed and logged around that one flaw. What no plan can express is edited in the finished JSON.
//!
//! Invariant: no file, no network and no clock; every time is a constant. Keys are made once a process.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};

pub(crate) mod asn1;
pub(crate) mod ca;
pub(crate) mod keys;
pub(crate) mod rekor;
pub(crate) mod statement;
pub(crate) mod tsa;

mod check;

pub(crate) use ca::{CertificatePlan, Identity, Name, Sct};
pub(crate) use keys::Key;
pub(crate) use rekor::{EntryPlan, Kind};
pub(crate) use tsa::TimestampPlan;

use ca::{Authority, CERTIFICATE_LIFETIME, CODE_SIGNING};
use rekor::{Log, Logged, Verifier};
use tsa::TimestampAuthority;

pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

/// When certificates begin, unless a test says otherwise: 2025-11-11T05:14:00Z.
pub(crate) fn noon() -> Timestamp {
    Timestamp::from_second(1_762_838_040).unwrap()
}

/// Seconds after [`noon`].
pub(crate) fn after(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

/// When the authorities' own keys begin.
pub(crate) fn dawn() -> Timestamp {
    "2025-03-15T00:00:00Z".parse().unwrap()
}

/// When the trust root starts to trust them.
pub(crate) fn trusted_since() -> Timestamp {
    "2025-06-23T00:00:00Z".parse().unwrap()
}

/// When the authorities' certificates end; far enough to outlive this test.
pub(crate) fn dusk() -> Timestamp {
    "2075-03-15T00:00:00Z".parse().unwrap()
}

/// Every authority of one private Sigstore, and of the strangers around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) authority: Authority,
    /// The same names, other keys.
    pub(crate) lookalike: Authority,
    /// A private instance such as GitHub's: timestamps only, neither logs nor SCTs.
    pub(crate) private_authority: Authority,
    pub(crate) private_tsa: TimestampAuthority,
    pub(crate) ct: Key,
    pub(crate) stranger_ct: Key,
    pub(crate) rekor: Log,
    pub(crate) rekor2: Log,
    pub(crate) stranger_rekor: Log,
    pub(crate) stranger_rekor2: Log,
    pub(crate) tsa: TimestampAuthority,
    pub(crate) second_tsa: TimestampAuthority,
    /// In the trust root, but its certificate ended soon after [`noon`].
    pub(crate) short_tsa: TimestampAuthority,
    pub(crate) stranger_tsa: TimestampAuthority,
}

impl World {
    /// A world with keys of its own.
    pub(crate) fn new() -> Self {
        let lifetime = (dawn(), dusk());
        Self {
            authority: Authority::new("sigstore.world.test", dawn(), dusk()),
            lookalike: Authority::new("sigstore.world.test", dawn(), dusk()),
            private_authority: Authority::new("private.world.test", dawn(), dusk()),
            private_tsa: TimestampAuthority::new("timestamp.private.world.test", lifetime, lifetime),
            ct: Key::p256(),
            stranger_ct: Key::p256(),
            rekor: Log::v1("rekor.world.test"),
            rekor2: Log::v2("log2025.rekor.world.test"),
            stranger_rekor: Log::v1("rekor.world.test"),
            stranger_rekor2: Log::v2("log2025.rekor.world.test"),
            tsa: TimestampAuthority::new("timestamp.world.test", lifetime, lifetime),
            second_tsa: TimestampAuthority::new("second.timestamp.world.test", lifetime, lifetime),
            short_tsa: TimestampAuthority::new("short.timestamp.world.test", lifetime, (dawn(), after(86_400))),
            stranger_tsa: TimestampAuthority::new("timestamp.world.test", lifetime, lifetime),
        }
    }

    /// The one world that all tests of a process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// The `trusted_root.json` of this world. Tests edit it to move windows and remove authorities.
    pub(crate) fn trusted_root(&self) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.rekor.trusted(trusted_since()), self.rekor2.trusted(trusted_since())],
            "certificateAuthorities": [trusted_authority(&self.authority)],
            "ctlogs": [{
                "baseUrl": "https://ctfe.world.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": BASE64.encode(self.ct.spki()),
                    "keyDetails": self.ct.details(),
                    "validFor": { "start": trusted_since().to_string() },
                },
                "logId": { "keyId": BASE64.encode(self.ct.id()) },
            }],
            "timestampAuthorities": [
                self.tsa.trusted(trusted_since()),
                self.second_tsa.trusted(trusted_since()),
                self.short_tsa.trusted(trusted_since()),
            ],
        })
    }

    /// The root of the private instance: an authority and its clock, no logs.
    pub(crate) fn private_root(&self) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [trusted_authority(&self.private_authority)],
            "timestampAuthorities": [self.private_tsa.trusted(trusted_since())],
        })
    }

    /// A keyless signature over bytes, logged in Rekor v1.
    pub(crate) fn blob(&self, artifact: &[u8], identity: &Identity) -> Draft<'_> {
        self.draft(Content::Blob(artifact.to_vec()), self.keyless(identity), Kind::HashedRekord001)
    }

    /// A keyless attestation, logged in Rekor v1.
    pub(crate) fn attest(&self, statement: &Value, identity: &Identity) -> Draft<'_> {
        self.draft(Content::envelope(statement), self.keyless(identity), Kind::Dsse001)
    }

    /// A managed key's signature over bytes, logged in Rekor v1.
    pub(crate) fn key_blob<'w>(&'w self, artifact: &[u8], key: &'w Key) -> Draft<'w> {
        self.draft(Content::Blob(artifact.to_vec()), Signer::Managed(key), Kind::HashedRekord001)
    }

    /// A managed key's attestation, logged in Rekor v1.
    pub(crate) fn key_attest<'w>(&'w self, statement: &Value, key: &'w Key) -> Draft<'w> {
        self.draft(Content::envelope(statement), Signer::Managed(key), Kind::Dsse001)
    }

    /// A certificate as Fulcio issues it.
    pub(crate) fn certificate(&self, identity: &Identity) -> CertificatePlan<'_> {
        CertificatePlan {
            authority: &self.authority,
            identity: identity.clone(),
            not_before: noon(),
            not_after: noon() + CERTIFICATE_LIFETIME,
            purposes: vec![CODE_SIGNING],
            is_authority: false,
            scts: vec![Sct::by(&self.ct, noon())],
            extra_extensions: Vec::new(),
            trailing_bytes: Vec::new(),
        }
    }

    fn keyless(&self, identity: &Identity) -> Signer<'_> {
        Signer::Keyless(Box::new(self.certificate(identity)))
    }

    fn draft<'w>(&'w self, content: Content, signer: Signer<'w>, kind: Kind) -> Draft<'w> {
        Draft {
            content,
            signer,
            version: Version::V03,
            entries: vec![EntryPlan::v1(&self.rekor, kind, after(4))],
            timestamps: Vec::new(),
            chain: Vec::new(),
            sign_payload_only: false,
        }
    }
}

fn trusted_authority(authority: &Authority) -> Value {
    json!({
        "subject": { "organization": authority.organization, "commonName": "root" },
        "uri": format!("https://fulcio.{}", authority.organization),
        "certChain": { "certificates": [
            { "rawBytes": BASE64.encode(&authority.intermediate) },
            { "rawBytes": BASE64.encode(&authority.root) },
        ] },
        "validFor": { "start": trusted_since().to_string() },
    })
}

/// What is signed.
#[derive(Debug)]
pub(crate) enum Content {
    Blob(Vec<u8>),
    Envelope { payload_type: String, payload: Vec<u8> },
}

impl Content {
    /// An in-toto statement in a DSSE envelope.
    pub(crate) fn envelope(statement: &Value) -> Self {
        Self::Envelope { payload_type: IN_TOTO.to_owned(), payload: serde_json::to_vec(statement).unwrap() }
    }
}

/// Who signs.
#[derive(Debug)]
pub(crate) enum Signer<'w> {
    /// A fresh key under a short-lived certificate.
    Keyless(Box<CertificatePlan<'w>>),
    /// A key that the verifier was given.
    Managed(&'w Key),
}

/// The bundle format's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V01,
    V02,
    V03,
}

impl Version {
    const fn media_type(self) -> &'static str {
        match self {
            Self::V01 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V02 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V03 => "application/vnd.dev.sigstore.bundle.v0.3+json",
        }
    }
}

/// A bundle before it is signed. Honest until a field is changed.
#[derive(Debug)]
pub(crate) struct Draft<'w> {
    pub(crate) content: Content,
    pub(crate) signer: Signer<'w>,
    pub(crate) version: Version,
    pub(crate) entries: Vec<EntryPlan<'w>>,
    pub(crate) timestamps: Vec<TimestampPlan<'w>>,
    /// Certificates after the leaf, where the version has a chain.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Signs an envelope's bare payload instead of its PAE.
    pub(crate) sign_payload_only: bool,
}

impl<'w> Draft<'w> {
    /// The draft after a change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The draft with its certificate changed.
    pub(crate) fn certificate(mut self, change: impl FnOnce(&mut CertificatePlan<'w>)) -> Self {
        match &mut self.signer {
            Signer::Keyless(plan) => change(plan),
            Signer::Managed(_) => panic!("a managed key has no certificate"),
        }
        self
    }

    /// The draft with its first log entry changed.
    pub(crate) fn entry(mut self, change: impl FnOnce(&mut EntryPlan<'w>)) -> Self {
        change(&mut self.entries[0]);
        self
    }

    /// The draft logged in Rekor v2 instead, with the timestamp that such an entry needs.
    pub(crate) fn rekor2(mut self, world: &'w World) -> Self {
        // Rekor v2 takes an envelope as a hashedrekord over its PAE; the dsse kind is there for others.
        self.entries = vec![EntryPlan::v2(&world.rekor2, Kind::HashedRekord002)];
        self.stamped(world)
    }

    /// The draft with a timestamp of this world's authority besides.
    pub(crate) fn stamped(mut self, world: &'w World) -> Self {
        self.timestamps.push(TimestampPlan::by(&world.tsa, after(6)));
        self
    }

    /// Signs, certifies, logs and stamps.
    pub(crate) fn bundle(&self) -> Value {
        let fresh;
        let key = match &self.signer {
            Signer::Keyless(_) => {
                fresh = Key::p256();
                &fresh
            }
            Signer::Managed(key) => key,
        };
        let certificate = match &self.signer {
            Signer::Keyless(plan) => Some(plan.authority.issue(plan, key)),
            Signer::Managed(_) => None,
        };

        let signed = match &self.content {
            Content::Blob(bytes) => bytes.clone(),
            Content::Envelope { payload, .. } if self.sign_payload_only => payload.clone(),
            Content::Envelope { payload_type, payload } => pae(payload_type, payload),
        };
        let signature = key.sign(&signed);
        let digest = if key.is_p384() { Sha384::digest(&signed).to_vec() } else { Sha256::digest(&signed).to_vec() };
        let digest_name = if key.is_p384() { "SHA2_384" } else { "SHA2_256" };
        let envelope = match &self.content {
            Content::Blob(_) => None,
            Content::Envelope { payload_type, payload } => Some(json!({
                "payload": BASE64.encode(payload),
                "payloadType": payload_type,
                "signatures": [{ "sig": BASE64.encode(&signature) }],
            })),
        };

        let logged = Logged {
            signature: &signature,
            verifier: certificate.as_deref().map_or_else(|| Verifier::Key(key.spki()), Verifier::Certificate),
            details: key.details(),
            digest: (digest_name, &digest),
            envelope: envelope.as_ref(),
        };
        let entries: Vec<Value> = self
            .entries
            .iter()
            .map(|plan| {
                let mut body = logged.body(plan.kind);
                if let Some(change) = plan.change_body {
                    change(&mut body);
                }
                plan.log.entry(plan, &body)
            })
            .collect();
        let stamps: Vec<Value> = self
            .timestamps
            .iter()
            .map(|plan| json!({ "signedTimestamp": BASE64.encode(plan.authority.stamp(plan, &signature)) }))
            .collect();

        let mut material = match &certificate {
            None => json!({ "publicKey": { "hint": BASE64.encode(key.id()) } }),
            Some(leaf) if self.version == Version::V03 => json!({ "certificate": { "rawBytes": BASE64.encode(leaf) } }),
            Some(leaf) => {
                let chain: Vec<Value> = std::iter::once(leaf)
                    .chain(&self.chain)
                    .map(|certificate| json!({ "rawBytes": BASE64.encode(certificate) }))
                    .collect();
                json!({ "x509CertificateChain": { "certificates": chain } })
            }
        };
        if !entries.is_empty() {
            material["tlogEntries"] = json!(entries);
        }
        if !stamps.is_empty() {
            material["timestampVerificationData"] = json!({ "rfc3161Timestamps": stamps });
        }
        let mut bundle = json!({ "mediaType": self.version.media_type(), "verificationMaterial": material });
        match envelope {
            Some(envelope) => bundle["dsseEnvelope"] = envelope,
            None => {
                bundle["messageSignature"] = json!({
                    "messageDigest": { "algorithm": digest_name, "digest": BASE64.encode(&digest) },
                    "signature": BASE64.encode(&signature),
                });
            }
        }
        bundle
    }
}

/// DSSE's pre-authentication encoding.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// What GitHub's own instance makes: a certificate without SCT, a timestamp, no log.
pub(crate) fn private_blob<'w>(world: &'w World, artifact: &[u8], identity: &Identity) -> Draft<'w> {
    world
        .blob(artifact, identity)
        .certificate(|plan| {
            plan.authority = &world.private_authority;
            plan.scts.clear();
        })
        .with(|draft| {
            draft.entries.clear();
            draft.timestamps = vec![TimestampPlan::by(&world.private_tsa, after(6))];
        })
}
