//! Stand-ins for Fulcio, Rekor (both versions), a timestamp authority and GitHub's token service, on loopback: requests
//! in their real wire forms in, answers signed by the tests' own world out. They check what the real ones check. A
//! [`Flaw`] makes one of them fail, or lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use debvisor::release::evidence::certificate::Certificate;
use debvisor::release::evidence::key::PublicKey;
use debvisor::types::{Digest, DigestAlgorithm};
use der::asn1::{OctetString, Uint};
use der::{Any, Decode as _, Encode as _, Sequence};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::request::CertReq;

use super::http::{Reply, Request, nobody, serve};
use crate::world::ca::GITHUB_ISSUER;
use crate::world::{EntryPlan, Identity, Key, Kind, Sct, TimestampPlan, World, asn1, rekor};

pub(crate) const ISSUER: &str = "https://accounts.example.org";
pub(crate) const WHO: &str = "release@example.org";
pub(crate) const REPOSITORY: &str = "acme/hyperdeck";
pub(crate) const TAG: &str = "refs/tags/v1.4.2";
/// With which a job asks GitHub for its token.
pub(crate) const JOB_SECRET: &str = "job-secret";

/// How a service fails or lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nobody listens.
    Down,
    Status(u16),
    Redirect,
    Endless,
    Trickle,
    Broken,
    /// 200, and a page for people.
    Page,
    /// The certificate is for another key; the log entry or the timestamp for another signature.
    Another,
    /// By somebody with the same name whom the trust root does not know.
    Stranger,
    /// The certificate has no signed certificate timestamp.
    Unlogged,
    /// The timestamp answers another question.
    OtherNonce,
    /// The authority grants no timestamp.
    Rejected,
    /// Its clock is off by so many seconds.
    Clock(i64),
}

/// One of each, running.
pub(crate) struct Services {
    pub(crate) fulcio: String,
    pub(crate) rekor: String,
    pub(crate) rekor2: String,
    pub(crate) tsa: String,
    pub(crate) github: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Services {
    pub(crate) fn honest() -> Self {
        Self::with(&[])
    }

    /// Honest ones but for these, by name: `fulcio`, `rekor`, `rekor2`, `tsa`, `github`.
    pub(crate) fn with(flaws: &[(&'static str, Flaw)]) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let start = |name: &'static str, answer: fn(&Request, Option<Flaw>, &Mutex<Entries>) -> Reply| {
            let flaw = flaws.iter().find(|(flawed, _)| *flawed == name).map(|(_, flaw)| *flaw);
            if flaw == Some(Flaw::Down) {
                return nobody();
            }
            let (asked, entries) = (Arc::clone(&asked), Mutex::new(Entries::new()));
            serve(move |request| {
                let place = if request.path.starts_with("/elsewhere") { "elsewhere" } else { name };
                asked.lock().unwrap().push(place.to_owned());
                match flaw {
                    Some(Flaw::Status(status)) => Reply::json(status, &json!({"code": 13, "message": "out of order"})),
                    Some(Flaw::Redirect) => Reply::Redirect("/elsewhere".to_owned()),
                    Some(Flaw::Endless) => Reply::Endless,
                    Some(Flaw::Trickle) => Reply::Trickle,
                    Some(Flaw::Broken) => Reply::Broken,
                    Some(Flaw::Page) => reply(200, "text/html", b"<html>Welcome</html>".to_vec()),
                    flaw => answer(request, flaw, &entries),
                }
            })
        };
        Self {
            fulcio: start("fulcio", fulcio),
            rekor: start("rekor", rekor),
            rekor2: start("rekor2", rekor2),
            tsa: start("tsa", tsa),
            github: start("github", github),
            asked: Arc::clone(&asked),
        }
    }

    /// Who was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A signing configuration that names these services; the newest version of the log counts.
    pub(crate) fn config(&self) -> Value {
        let service = |url: &str, version: u32| json!({"url": url, "majorApiVersion": version, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "world.test"});
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service(&self.fulcio, 1)],
            "oidcUrls": [service(ISSUER, 1)],
            "rekorTlogUrls": [service(&self.rekor2, 2), service(&self.rekor, 1)],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service(&format!("{}/api/v1/timestamp", self.tsa), 1)],
            "tsaConfig": {"selector": "ANY"},
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the stand-ins are another machine, with a clock of its own")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

fn reply(status: u16, kind: &'static str, body: Vec<u8>) -> Reply {
    Reply::Body { status, kind, body, location: None }
}

/// What a gRPC gateway says.
fn refuse(message: &str) -> Reply {
    Reply::json(400, &json!({"code": 3, "message": message, "details": []}))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn bytes(value: &Value, pointer: &str) -> Option<Vec<u8>> {
    BASE64.decode(text(value, pointer)?).ok()
}

fn pem(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der).unwrap()
}

// ---- the identity provider

fn issuer_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(Key::ed25519)
}

/// What a person's token says.
pub(crate) fn claims() -> Value {
    let now = now().as_second();
    json!({
        "iss": ISSUER, "aud": "sigstore", "sub": WHO, "email": WHO, "email_verified": true, "iat": now, "exp": now + 600,
    })
}

/// What the token of a job in GitHub Actions says.
pub(crate) fn job_claims() -> Value {
    let now = now().as_second();
    json!({
        "iss": GITHUB_ISSUER, "aud": "sigstore", "sub": format!("repo:{REPOSITORY}:ref:{TAG}"),
        "repository": REPOSITORY, "ref": TAG, "runner_environment": "github-hosted",
        "job_workflow_ref": format!("{REPOSITORY}/.github/workflows/release.yml@{TAG}"),
        "iat": now, "exp": now + 300,
    })
}

/// A token that the issuer signed.
pub(crate) fn token(claims: &Value) -> String {
    token_by(claims, issuer_key())
}

/// A token of this key's.
pub(crate) fn token_by(claims: &Value, key: &Key) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "EdDSA", "typ": "JWT"})), part(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())))
}

/// Whom a token is about, where it is the issuer's, for Sigstore, and of now.
fn identity(token: &str) -> Option<Identity> {
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(&ED25519, issuer_key().raw()).verify(signed.as_bytes(), &signature).ok()?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
    if text(&claims, "/aud") != Some("sigstore") || claims["exp"].as_i64()? <= now().as_second() {
        return None;
    }
    match (text(&claims, "/iss")?, text(&claims, "/email"), text(&claims, "/job_workflow_ref")) {
        (ISSUER, Some(email), _) => Some(Identity::email(email, ISSUER)),
        (GITHUB_ISSUER, _, Some(workflow)) => {
            let file = workflow.split('@').next()?.rsplit('/').next()?;
            Some(Identity::github(text(&claims, "/repository")?, file, text(&claims, "/ref")?))
        }
        _ => None,
    }
}

fn github(request: &Request, flaw: Option<Flaw>, _: &Mutex<Entries>) -> Reply {
    let authorized = request.headers.get("authorization").is_some_and(|value| *value == format!("Bearer {JOB_SECRET}"));
    if !authorized {
        return Reply::json(401, &json!({"message": "Unauthorized"}));
    }
    if request.method != "GET" || !request.path.contains("api-version=2.0") {
        return Reply::json(404, &json!({}));
    }
    let audience = request.path.split(['?', '&']).find_map(|pair| pair.strip_prefix("audience="));
    let mut claims = job_claims();
    claims["aud"] = json!(audience.unwrap_or("https://github.com/acme"));
    if flaw == Some(Flaw::Another) {
        claims["aud"] = json!("https://github.com/acme");
    }
    Reply::json(200, &json!({"count": 1, "value": token(&claims)}))
}

// ---- the certificate authority

fn fulcio(request: &Request, flaw: Option<Flaw>, _: &Mutex<Entries>) -> Reply {
    let world = World::shared();
    if (request.method.as_str(), request.path.trim_end_matches('/')) != ("POST", "/api/v2/signingCert") {
        return Reply::json(404, &json!({"code": 5, "message": "Not Found", "details": []}));
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&request.body) else { return refuse("invalid character") };
    // The token stands in the body or in the header.
    let bearer = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token = text(&asked, "/credentials/oidcIdentityToken").or(bearer);
    let Some(identity) = token.and_then(identity) else {
        return refuse("There was an error processing the identity token");
    };
    let Some(spki) = bytes(&asked, "/certificateSigningRequest").and_then(|pem| requested_key(&pem)) else {
        return refuse("The signature supplied in the request could not be verified");
    };
    let spki = if flaw == Some(Flaw::Another) { Key::p256().spki().to_vec() } else { spki };
    let mut plan = world.certificate(&identity);
    let offset = if let Some(Flaw::Clock(seconds)) = flaw { seconds } else { 0 };
    let issued_at = now() + SignedDuration::from_secs(offset);
    let lifetime = plan.not_before.duration_until(plan.not_after);
    plan.not_before = issued_at;
    plan.not_after = issued_at + lifetime;
    plan.scts = vec![Sct::by(&world.ct, issued_at)];
    match flaw {
        Some(Flaw::Unlogged) => plan.scts.clear(),
        Some(Flaw::Stranger) => plan.authority = &world.lookalike,
        _ => {}
    }
    let leaf = plan.authority.issue_for(&plan, &spki);
    let chain: Vec<String> = [&leaf, &plan.authority.intermediate, &plan.authority.root]
        .into_iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    Reply::json(200, &json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}))
}

/// The key of a PKCS #10 request in PEM, where it signed the request.
fn requested_key(pem: &[u8]) -> Option<Vec<u8>> {
    let (label, der) = pem_rfc7468::decode_vec(pem).ok()?;
    let request = CertReq::from_der(&der).ok().filter(|_| label == "CERTIFICATE REQUEST")?;
    let key = request.info.public_key.subject_public_key.as_bytes()?.to_vec();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(&request.info.to_der().ok()?, request.signature.as_bytes()?)
        .ok()?;
    request.info.public_key.to_der().ok()
}

// ---- the logs

/// A log's entries by their names.
type Entries = BTreeMap<String, Value>;

fn signer_of(verifier_pem: &[u8]) -> Option<PublicKey> {
    match pem_rfc7468::decode_vec(verifier_pem).ok()? {
        ("CERTIFICATE", der) => Some(Certificate::parse(&der).ok()?.key),
        ("PUBLIC KEY", der) => PublicKey::from_spki(&der).ok(),
        _ => None,
    }
}

fn rekor(request: &Request, flaw: Option<Flaw>, entries: &Mutex<Entries>) -> Reply {
    let world = World::shared();
    if let ("GET", Some(name)) = (request.method.as_str(), request.path.strip_prefix("/api/v1/log/entries/")) {
        return match entries.lock().unwrap().get(name) {
            Some(entry) => Reply::json(200, &json!({name: entry})),
            None => Reply::json(404, &json!({"code": 404, "message": "entry not found"})),
        };
    }
    if (request.method.as_str(), request.path.trim_end_matches('/')) != ("POST", "/api/v1/log/entries") {
        return Reply::json(404, &json!({"code": 404, "message": "path was not found"}));
    }
    let proposed: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let body = match text(&proposed, "/kind") {
        Some("hashedrekord") => hashedrekord_v1(&proposed).map(|body| (body, Kind::HashedRekord001)),
        Some("dsse") => dsse_v1(&proposed).map(|body| (body, Kind::Dsse001)),
        _ => None,
    };
    let Some((mut body, kind)) = body else {
        return Reply::json(400, &json!({"code": 400, "message": "error processing entry: verifying signature"}));
    };
    if flaw == Some(Flaw::Another) {
        let other = BASE64.encode(Key::p256().sign(b"something else"));
        for place in ["/spec/signature/content", "/spec/signatures/0/signature"] {
            if let Some(signature) = body.pointer_mut(place) {
                *signature = json!(other);
            }
        }
    }
    let offset = if let Some(Flaw::Clock(seconds)) = flaw { seconds } else { 0 };
    let log = if flaw == Some(Flaw::Stranger) { &world.stranger_rekor } else { &world.rekor };
    let entry = log.entry(&EntryPlan::v1(log, kind, now() + SignedDuration::from_secs(offset)), &body);
    let canonical = serde_json_canonicalizer::to_vec(&body).unwrap();
    let name = format!("108e9186e8c5677a{}", hex::encode(rekor::leaf_hash(&canonical)));
    let hex_of = |pointer: &str| hex::encode(bytes(&entry, pointer).unwrap());
    let number = |pointer: &str| text(&entry, pointer).unwrap().parse::<u64>().unwrap();
    let hashes: Vec<String> = entry["inclusionProof"]["hashes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash| hex::encode(BASE64.decode(hash.as_str().unwrap()).unwrap()))
        .collect();
    let wire = json!({
        "body": entry["canonicalizedBody"],
        "integratedTime": number("/integratedTime"),
        "logID": hex_of("/logId/keyId"),
        "logIndex": number("/logIndex"),
        "verification": {
            "inclusionProof": {
                "checkpoint": entry["inclusionProof"]["checkpoint"]["envelope"],
                "hashes": hashes,
                "logIndex": number("/inclusionProof/logIndex"),
                "rootHash": hex_of("/inclusionProof/rootHash"),
                "treeSize": number("/inclusionProof/treeSize"),
            },
            "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        },
    });
    let mut entries = entries.lock().unwrap();
    let location = Some(format!("/api/v1/log/entries/{name}"));
    if entries.contains_key(&name) {
        let message = format!("an equivalent entry already exists in the transparency log with UUID {name}");
        let body = json!({"code": 409, "message": message}).to_string().into_bytes();
        return Reply::Body { status: 409, kind: "application/json", body, location };
    }
    entries.insert(name.clone(), wire.clone());
    let body = json!({name: wire}).to_string().into_bytes();
    Reply::Body { status: 201, kind: "application/json", body, location }
}

/// The body of a `hashedrekord` 0.0.1, where the signature fits. As with the real log, Ed25519 cannot sign a digest.
fn hashedrekord_v1(proposed: &Value) -> Option<Value> {
    let algorithm = match text(proposed, "/spec/data/hash/algorithm")? {
        "sha256" => DigestAlgorithm::Sha256,
        "sha384" => DigestAlgorithm::Sha384,
        _ => return None,
    };
    let digest = Digest::new(algorithm, &hex::decode(text(proposed, "/spec/data/hash/value")?).ok()?).ok()?;
    let key = signer_of(&bytes(proposed, "/spec/signature/publicKey/content")?)?;
    key.verify_digest(&digest, &bytes(proposed, "/spec/signature/content")?).ok()?;
    Some(proposed.clone())
}

/// The body of a `dsse` 0.0.1, where the signature fits.
fn dsse_v1(proposed: &Value) -> Option<Value> {
    let envelope_text = text(proposed, "/spec/proposedContent/envelope")?;
    let envelope: Value = serde_json::from_str(envelope_text).ok()?;
    let payload = bytes(&envelope, "/payload")?;
    let verifier = text(proposed, "/spec/proposedContent/verifiers/0")?;
    let payload_type = text(&envelope, "/payloadType")?;
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let key = signer_of(&BASE64.decode(verifier).ok()?)?;
    key.verify(&[head.as_bytes(), &payload].concat(), &bytes(&envelope, "/signatures/0/sig")?).ok()?;
    let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))});
    Some(json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": hash(envelope_text.as_bytes()),
            "payloadHash": hash(&payload),
            "signatures": [{"signature": text(&envelope, "/signatures/0/sig")?, "verifier": verifier}],
        },
    }))
}

fn rekor2(request: &Request, flaw: Option<Flaw>, _: &Mutex<Entries>) -> Reply {
    let world = World::shared();
    if (request.method.as_str(), request.path.trim_end_matches('/')) != ("POST", "/api/v2/log/entries") {
        return Reply::json(404, &json!({"code": 5, "message": "Not Found", "details": []}));
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(mut body) = hashedrekord_v2(&asked["hashedRekordRequestV002"]) else {
        return refuse("verifying signature: failed");
    };
    if flaw == Some(Flaw::Another) {
        let other = BASE64.encode(Key::p256().sign(b"something else"));
        *body.pointer_mut("/spec/hashedRekordV002/signature/content").unwrap() = json!(other);
    }
    let log = if flaw == Some(Flaw::Stranger) { &world.stranger_rekor2 } else { &world.rekor2 };
    let mut entry = log.entry(&EntryPlan::v2(log, Kind::HashedRekord002), &body);
    // The gateway writes what is not there, too.
    entry["integratedTime"] = json!("0");
    entry["inclusionPromise"] = Value::Null;
    Reply::json(201, &entry)
}

fn hashedrekord_v2(asked: &Value) -> Option<Value> {
    let (name, algorithm) = match text(asked, "/signature/verifier/keyDetails")? {
        "PKIX_ECDSA_P256_SHA_256" | "PKIX_RSA_PKCS1V15_2048_SHA256" => ("SHA2_256", DigestAlgorithm::Sha256),
        "PKIX_ECDSA_P384_SHA_384" => ("SHA2_384", DigestAlgorithm::Sha384),
        _ => return None,
    };
    let digest = Digest::new(algorithm, &bytes(asked, "/digest")?).ok()?;
    let key = match bytes(asked, "/signature/verifier/x509Certificate/rawBytes") {
        Some(der) => Certificate::parse(&der).ok()?.key,
        None => PublicKey::from_spki(&bytes(asked, "/signature/verifier/publicKey/rawBytes")?).ok()?,
    };
    key.verify_digest(&digest, &bytes(asked, "/signature/content")?).ok()?;
    Some(json!({
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": {
            "data": {"algorithm": name, "digest": asked["digest"]},
            "signature": asked["signature"],
        }},
    }))
}

// ---- the timestamp authority

#[derive(Sequence)]
struct Question {
    version: u8,
    imprint: Imprint,
    nonce: Uint,
    certificates: bool,
}

#[derive(Sequence)]
struct Imprint {
    algorithm: Any,
    digest: OctetString,
}

fn tsa(request: &Request, flaw: Option<Flaw>, _: &Mutex<Entries>) -> Reply {
    let world = World::shared();
    let is_query = request.headers.get("content-type").is_some_and(|kind| kind == "application/timestamp-query");
    let question = Question::from_der(&request.body).ok().filter(|question| is_query && question.version == 1);
    let Some(question) = question.filter(|_| request.path == "/api/v1/timestamp") else {
        return Reply::json(400, &json!({"code": 400, "message": "error parsing request"}));
    };
    if flaw == Some(Flaw::Rejected) {
        // PKIStatus 2 with a text: `rejection` (RFC 3161 section 2.4.2).
        let rejected = asn1::sequence(&[&asn1::sequence(&[&asn1::unsigned(&[2])])]);
        return reply(201, "application/timestamp-reply", rejected);
    }
    let offset = if let Some(Flaw::Clock(seconds)) = flaw { seconds } else { 0 };
    let authority = if flaw == Some(Flaw::Stranger) { &world.stranger_tsa } else { &world.tsa };
    let mut plan = TimestampPlan::by(authority, now() + SignedDuration::from_secs(offset));
    plan.embedded = question.certificates;
    let nonce = if flaw == Some(Flaw::OtherNonce) { &[0x11, 0x22, 0x33] } else { question.nonce.as_bytes() };
    plan.nonce = Some(nonce.to_vec());
    let imprint = if flaw == Some(Flaw::Another) {
        Sha256::digest(b"something else").to_vec()
    } else {
        question.imprint.digest.as_bytes().to_vec()
    };
    reply(201, "application/timestamp-reply", authority.stamp_imprint(&plan, &imprint))
}
