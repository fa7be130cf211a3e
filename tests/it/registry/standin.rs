//! A registry of OCI 1.1 on loopback, as the distribution specification has it: with a list of referrers, tokens and
//! redirects, and with a [`Flaw`] where a test wants one. It keeps everything in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use debvisor::types::Digest;
use serde_json::{Value, json};

/// How the registry fails or lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A name or digest has these bytes instead.
    Gives(String, Vec<u8>),
    /// The header says another digest than the bytes have.
    SaysOtherDigest,
    /// It is busy so many times, and says when to come again.
    Busy(u32, &'static str),
    /// Blobs are kept at another place.
    BlobsAt(String),
    /// So many referrers on a page.
    Pages(usize),
    /// A token is needed, which its own service gives to who knows this name and password.
    Tokens(&'static str, &'static str),
    /// Every request needs this name and password.
    Basic(&'static str, &'static str),
    /// Every request is asked who it is, in these words.
    Challenge(&'static str),
    /// Redirects to itself, without an end.
    Circle,
    /// Referrers are not listed.
    NoReferrers,
}

/// A running stand-in.
pub(super) struct StandIn {
    pub(super) host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    host: Mutex<String>,
    things: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    flaws: Mutex<Vec<Flaw>>,
    asked: Mutex<Vec<Asked>>,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) authorization: Option<String>,
}

impl StandIn {
    pub(super) fn new(flaws: &[Flaw]) -> Self {
        let shared = Arc::new(Shared { flaws: Mutex::new(flaws.to_vec()), ..Shared::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        *shared.host.lock().unwrap() = host.clone();
        listener.set_nonblocking(true).unwrap();
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let answer = move |request: Request| {
                    let shared = Arc::clone(&served);
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = to_bytes(body, usize::MAX).await.unwrap();
                        shared.answer(&parts.method, &parts.uri.to_string(), &parts.headers, &body)
                    }
                };
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, Router::new().fallback(answer)).await.unwrap();
            });
        });
        Self { host, shared }
    }

    pub(super) fn flaw(&self, flaw: Flaw) {
        self.shared.flaws.lock().unwrap().push(flaw);
    }

    /// Takes a manifest or blob away.
    pub(super) fn remove(&self, name: &str) {
        assert!(self.shared.things.lock().unwrap().remove(name).is_some(), "{name} is not there");
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

type Answer = Response<Body>;

fn status(status: u16) -> Answer {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn refuse(code: u16, name: &str) -> Answer {
    let body = json!({"errors": [{"code": name, "message": "no"}]}).to_string();
    Response::builder().status(code).header("Content-Type", "application/json").body(Body::from(body)).unwrap()
}

impl Shared {
    fn flaw<T>(&self, wanted: impl Fn(&mut Flaw) -> Option<T>) -> Option<T> {
        self.flaws.lock().unwrap().iter_mut().find_map(wanted)
    }

    fn answer(&self, method: &Method, uri: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
        let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.asked
            .lock()
            .unwrap()
            .push(Asked { line: format!("{method} {uri}"), authorization: field("authorization") });
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        if path == "/token" {
            return self.token(query, field("authorization").as_deref());
        }
        if let Some(refusal) = self.unauthorized(field("authorization").as_deref()) {
            return refusal;
        }
        if path == "/v2/" {
            return status(200);
        }
        let busy = self.flaw(|flaw| match flaw {
            Flaw::Busy(times, when) if *times > 0 => {
                *times -= 1;
                Some(*when)
            }
            _ => None,
        });
        if let Some(when) = busy {
            let later = Response::builder().status(429).header("Retry-After", when);
            return later.body(Body::empty()).unwrap();
        }
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", [.., "uploads", ""]) => Response::builder()
                .status(202)
                .header("Location", "/v2/a/blobs/uploads/1?state=x")
                .body(Body::empty())
                .unwrap(),
            ("PUT", [.., "uploads", "1"]) => {
                let digest = Digest::sha256(body).to_string();
                if !query.contains(&digest.replace(':', "%3A")) {
                    return refuse(400, "DIGEST_INVALID");
                }
                self.things.lock().unwrap().insert(digest, (String::new(), body.to_vec()));
                status(201)
            }
            ("PUT", [.., "manifests", name]) => {
                self.put_manifest(name, field("content-type").unwrap_or_default(), body)
            }
            ("GET" | "HEAD", [.., "manifests", name]) => self.manifest(name),
            ("GET" | "HEAD", [.., "blobs", digest]) => self.blob(digest),
            ("GET", [.., "referrers", digest]) => self.referrers(digest, query),
            _ => refuse(404, "UNSUPPORTED"),
        }
    }

    fn put_manifest(&self, name: &str, media_type: String, body: &Bytes) -> Answer {
        let mut things = self.things.lock().unwrap();
        things.insert(Digest::sha256(body).to_string(), (media_type.clone(), body.to_vec()));
        things.insert(name.to_owned(), (media_type, body.to_vec()));
        let manifest: Value = serde_json::from_slice(body).unwrap();
        let answer = Response::builder().status(201);
        let lists = self.flaw(|flaw| (*flaw == Flaw::NoReferrers).then_some(())).is_none();
        match manifest["subject"]["digest"].as_str().filter(|_| lists) {
            Some(subject) => answer.header("OCI-Subject", subject).body(Body::empty()).unwrap(),
            None => answer.body(Body::empty()).unwrap(),
        }
    }

    fn manifest(&self, name: &str) -> Answer {
        let Some((media_type, mut bytes)) = self.things.lock().unwrap().get(name).cloned() else {
            return refuse(404, "MANIFEST_UNKNOWN");
        };
        let mut digest = Digest::sha256(&bytes).to_string();
        if let Some(other) = self.instead_of(name) {
            bytes = other;
        }
        if self.flaw(|flaw| (*flaw == Flaw::SaysOtherDigest).then_some(())).is_some() {
            digest = Digest::sha256(b"other").to_string();
        }
        let answer = Response::builder().status(200).header("Content-Type", media_type);
        answer.header("Docker-Content-Digest", digest).body(Body::from(bytes)).unwrap()
    }

    fn instead_of(&self, name: &str) -> Option<Vec<u8>> {
        self.flaw(|flaw| match flaw {
            Flaw::Gives(of, bytes) if of == name => Some(bytes.clone()),
            _ => None,
        })
    }

    fn blob(&self, digest: &str) -> Answer {
        let redirect =
            |place: String| Response::builder().status(307).header("Location", place).body(Body::empty()).unwrap();
        if self.flaw(|flaw| (*flaw == Flaw::Circle).then_some(())).is_some() {
            return redirect(format!("/v2/a/blobs/{digest}"));
        }
        let elsewhere = self.flaw(|flaw| if let Flaw::BlobsAt(host) = flaw { Some(host.clone()) } else { None });
        if let Some(host) = elsewhere {
            return redirect(format!("http://{host}/v2/a/blobs/{digest}?signature=secret"));
        }
        let Some((_, bytes)) = self.things.lock().unwrap().get(digest).cloned() else {
            return refuse(404, "BLOB_UNKNOWN");
        };
        let bytes = self.instead_of(digest).unwrap_or(bytes);
        Response::builder().status(200).body(Body::from(bytes)).unwrap()
    }

    fn referrers(&self, subject: &str, query: &str) -> Answer {
        if self.flaw(|flaw| (*flaw == Flaw::NoReferrers).then_some(())).is_some() {
            return status(404);
        }
        let mut listed = Vec::new();
        for (name, (media_type, bytes)) in self.things.lock().unwrap().iter() {
            let Ok(manifest) = serde_json::from_slice::<Value>(bytes) else { continue };
            if name.starts_with("sha256:") && manifest["subject"]["digest"] == subject {
                listed.push(json!({
                    "mediaType": media_type, "digest": name, "size": bytes.len(),
                    "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
                }));
            }
        }
        let pages = self.flaw(|flaw| if let Flaw::Pages(size) = flaw { Some(*size) } else { None });
        let size = pages.unwrap_or(usize::MAX);
        let page: usize = query.strip_prefix("page=").map_or(0, |page| page.parse().unwrap());
        let shown: Vec<&Value> = listed.iter().skip(page.saturating_mul(size)).take(size).collect();
        let has_more = listed.len() > (page + 1).saturating_mul(size);
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": shown,
        });
        let mut answer =
            Response::builder().status(200).header("Content-Type", "application/vnd.oci.image.index.v1+json");
        if has_more {
            answer = answer.header("Link", format!("</v2/a/referrers/{subject}?page={}>; rel=\"next\"", page + 1));
        }
        answer.body(Body::from(index.to_string())).unwrap()
    }

    fn unauthorized(&self, given: Option<&str>) -> Option<Answer> {
        let challenge = |text: String| {
            Response::builder().status(401).header("WWW-Authenticate", text).body(Body::empty()).unwrap()
        };
        self.flaw(|flaw| match flaw {
            Flaw::Challenge(words) => Some(challenge((*words).to_owned())),
            Flaw::Basic(name, password) if given != Some(&basic(name, password)) => {
                Some(challenge("Basic realm=\"tests\"".to_owned()))
            }
            Flaw::Tokens(..) if !given.is_some_and(|given| given.starts_with("Bearer granted-")) => {
                let host = self.host.lock().unwrap();
                Some(challenge(format!("Bearer realm=\"http://{host}/token\",service=\"tests\"")))
            }
            _ => None,
        })
    }

    fn token(&self, query: &str, given: Option<&str>) -> Answer {
        let knows = self.flaw(|flaw| match flaw {
            Flaw::Tokens(name, password) => Some(given == Some(&basic(name, password))),
            _ => None,
        });
        if knows != Some(true) || !query.contains("service=tests") || !query.contains("scope=repository%3Aa%3Apull") {
            return refuse(StatusCode::UNAUTHORIZED.as_u16(), "UNAUTHORIZED");
        }
        Response::builder()
            .status(200)
            .body(Body::from(json!({"token": "granted-1", "expires_in": 60}).to_string()))
            .unwrap()
    }
}

pub(super) fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}
