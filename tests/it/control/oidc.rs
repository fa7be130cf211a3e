//! Login by a real OpenID provider (oidc-provider, on loopback): through its pages as a browser goes, and with tokens
//! that only the provider could have made, each with one flaw.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::api::ask;
use super::server::Server;

mod login;

/// The provider. It is killed when this is dropped.
struct Provider {
    keys: tempfile::TempDir,
    issuer: String,
    child: Child,
    /// What it was asked.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("target/tools/oidc-provider/node_modules");
        assert!(modules.exists(), "scripts/oidc-provider.sh puts the provider there");
        let keys = tempfile::tempdir().unwrap();
        let mut child = Command::new("node")
            .arg(root.join("tests/it/control/oidc/provider.mjs"))
            .args([&modules, keys.path()])
            .arg("0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.next().unwrap().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line)));
        Self { keys, issuer, child, asked }
    }

    /// A server at which people log in by this provider, under three names.
    fn server(&self) -> Server {
        let mut server = self.prepared();
        server.up(None);
        server
    }

    /// The same, not up yet.
    fn prepared(&self) -> Server {
        let server = Server::prepared("kind = \"simulated\"", "");
        let secret = |name: &str, secret: &str| std::fs::write(server.dir.path().join(name), secret).unwrap();
        secret("test.secret", "the-secret-of-the-client\n");
        secret("closed.secret", "another-secret-of-a-client\n");
        let issuer = &self.issuer;
        server.configure_more(&format!(
            "[[oidc]]\nname = \"test\"\nissuer = \"{issuer}\"\nclient-id = \"debvisor\"\n\
             client-secret-file = \"test.secret\"\nredirect-url = \"https://debvisor.test/v1/oidc/test/callback\"\n\
             scopes = [\"profile\", \"email\", \"groups\"]\nrole-claim = \"groups\"\n\
             roles = {{ staff = \"viewer\", admins = \"admin\", ops = \"night-watch\", retired = \"gone\" }}\ndomains = [\"example.test\"]\nauto-create = true\n\
             [[oidc]]\nname = \"es\"\nissuer = \"{issuer}\"\nclient-id = \"public\"\n\
             redirect-url = \"https://debvisor.test/v1/oidc/es/callback\"\nauto-create = true\n\
             [[oidc]]\nname = \"closed\"\nissuer = \"{issuer}\"\nclient-id = \"closed\"\n\
             client-secret-file = \"closed.secret\"\n\
             redirect-url = \"https://debvisor.test/v1/oidc/closed/callback\"\n"
        ));
        server
    }

    fn times_asked(&self, line: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == line).count()
    }

    fn key(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.keys.path().join(name)).unwrap()
    }

    /// A token that this provider signs, with these claims in place of the usual ones; `null` leaves one out.
    fn token(&self, kid: &str, claims: &Value) -> String {
        sign(kid, Algorithm::ES256, &EncodingKey::from_ec_pem(&self.key("es256.pem")).unwrap(), &self.claims(claims))
    }

    fn claims(&self, other: &Value) -> Value {
        let now = now();
        let mut claims = json!({
            "iss": self.issuer, "aud": "public", "sub": "carol", "iat": now, "exp": now + 600,
            "preferred_username": "carol",
        });
        let claims_map = claims.as_object_mut().unwrap();
        for (name, value) in other.as_object().unwrap() {
            match value {
                Value::Null => claims_map.remove(name),
                value => claims_map.insert(name.clone(), value.clone()),
            };
        }
        claims
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a token is of the time at which it is made")]
fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn sign(kid: &str, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// A browser: it keeps cookies by host, and goes where it is sent.
struct Browser<'a> {
    server: &'a Server,
    jar: BTreeMap<(String, String), String>,
    runtime: tokio::runtime::Runtime,
}

/// An answer that a browser got.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    cookies: Vec<String>,
    policy: String,
    body: String,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { server, jar: BTreeMap::new(), runtime }
    }

    /// One request; what is addressed to the server's own name goes to its socket.
    fn ask(&mut self, url: &Url, form: Option<&[(&str, &str)]>) -> Answer {
        let host = url.host_str().unwrap().to_owned();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let (client, address) = if host == "debvisor.test" {
            let path = &url[url::Position::BeforePath..];
            (client.unix_socket(self.server.socket()), format!("http://debvisor{path}"))
        } else {
            (client, url.to_string())
        };
        let own: Vec<String> = self
            .jar
            .iter()
            .filter(|((of, _), _)| *of == host)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let answer = self.runtime.block_on(async {
            let client = client.build().unwrap();
            let mut request = match form {
                None => client.get(address),
                Some(fields) => {
                    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                    client.post(address).header("content-type", "application/x-www-form-urlencoded").body(body)
                }
            };
            if !own.is_empty() {
                request = request.header("cookie", own.join("; "));
            }
            let answer = request.send().await.unwrap();
            let of = |name: &str| -> Vec<String> {
                answer.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
            };
            let (status, location, cookies) = (answer.status(), of("location").pop(), of("set-cookie"));
            let policy = of("content-security-policy").concat();
            Answer { status, location, cookies, policy, body: answer.text().await.unwrap() }
        });
        for cookie in &answer.cookies {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.jar.remove(&(host.clone(), name.to_owned()));
            } else {
                self.jar.insert((host.clone(), name.to_owned()), value.to_owned());
            }
        }
        answer
    }

    /// Begins a login: where the browser is sent.
    fn start(&mut self, provider: &str) -> Url {
        let url = format!("https://debvisor.test/v1/oidc/{provider}/start").parse().unwrap();
        let answer = self.ask(&url, None);
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let cookie = &answer.cookies[0];
        for attribute in ["__Host-", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        answer.location.unwrap().parse().unwrap()
    }

    /// Goes through the provider's pages as this person, to the address that it sends the browser back to.
    fn through(&mut self, mut url: Url, person: &str) -> Url {
        for _ in 0..20 {
            if url.host_str() == Some("debvisor.test") {
                return url;
            }
            let answer = self.ask(&url, None);
            let next = match answer.location {
                Some(next) => next,
                None => {
                    // A page with a form: who are you, and then: may they know?
                    let page = answer.body;
                    let action = between(&page, "action=\"", "\"").unwrap_or_else(|| panic!("no form: {page}"));
                    let prompt = between(&page, "name=\"prompt\" value=\"", "\"").unwrap();
                    let fields = [("prompt", prompt), ("login", person), ("password", "any")];
                    let submit = url.join(action).unwrap();
                    self.ask(&submit, Some(&fields)).location.unwrap()
                }
            };
            url = url.join(&next).unwrap();
        }
        panic!("the provider sends the browser round in circles: {url}");
    }

    /// A whole login, and what it ended with.
    fn login(&mut self, provider: &str, person: &str) -> Answer {
        let url = self.start(provider);
        let back = self.through(url, person);
        self.ask(&back, None)
    }

    /// Who the browser is logged in as.
    fn me(&mut self) -> Value {
        let answer = self.ask(&"https://debvisor.test/v1/me".parse().unwrap(), None);
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let me: Value = serde_json::from_str(&answer.body).unwrap();
        me["user"].clone()
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// The code of a refusal.
fn code(answer: &Answer) -> (u16, String) {
    let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
}

fn denied(code: &str) -> (u16, String) {
    (401, code.to_owned())
}

/// Changes a parameter of an address.
fn with(url: &Url, name: &str, value: &str) -> Url {
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(of, was)| (of.clone().into_owned(), if of == name { value.to_owned() } else { was.into_owned() }))
        .collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url
}

#[test]
fn a_person_logs_in_by_the_providers_pages_and_becomes_a_user_with_the_role_of_their_group() {
    let provider = Provider::start();
    let server = provider.server();
    let mut browser = Browser::new(&server);
    let url = browser.start("test");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["scope"], "openid profile email groups");
    assert!(query["nonce"].len() >= 22 && query["state"].len() >= 22, "{query:?}");
    let back = browser.through(url, "alice");
    let done = browser.ask(&back, None);
    assert_eq!((done.status, done.location.as_deref()), (StatusCode::SEE_OTHER, Some("/")), "{}", done.body);
    let session = done.cookies.iter().find(|cookie| cookie.starts_with("__Host-debvisor=")).unwrap();
    assert!(session.contains("HttpOnly") && session.contains("SameSite=Strict"), "{session}");
    let me = browser.me();
    assert_eq!((&me["name"], &me["role"]), (&json!("alice"), &json!("viewer")), "{me}");

    // Once more, in another browser: the same user. And somebody of another group.
    let mut again = Browser::new(&server);
    assert_eq!(again.login("test", "alice").status, StatusCode::SEE_OTHER);
    assert_eq!(again.me()["id"], me["id"]);
    let mut root = Browser::new(&server);
    assert_eq!(root.login("test", "root").status, StatusCode::SEE_OTHER);
    assert_eq!(root.me()["role"], "admin", "the highest of the roles that fit");

    // What an administrator says here, the provider overrules at the next login.
    let promoted = ask(&server, Method::PATCH, "/v1/users/alice", &[], Some(json!({ "role": "admin" })));
    assert_eq!(promoted.0, StatusCode::OK, "{}", promoted.2);
    assert_eq!(again.login("test", "alice").status, StatusCode::SEE_OTHER);
    assert_eq!(again.me()["role"], "viewer");

    assert_eq!(server.events("user.created").len(), 2);
    assert_eq!(server.events("session.opened").len(), 4);
    let identities = server.json(&["identity", "list"]);
    assert_eq!(identities[0]["subject"], "alice");
    assert_eq!(identities[0]["issuer"], provider.issuer.as_str());
    // What it says of itself is not fetched for every login.
    assert_eq!(provider.times_asked("GET /.well-known/openid-configuration"), 1);
    assert_eq!(provider.times_asked("GET /jwks"), 1);
    // No secret is told: not the client's, no code, no token.
    let log = [server.log(), server.ok(&["audit", "list", "--format", "json"])].concat();
    let given: BTreeMap<String, String> = back.query_pairs().into_owned().collect();
    for secret in ["the-secret-of-the-client", &given["code"], &given["state"], &session[16..60]] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn a_role_that_somebody_made_is_granted_by_the_provider_for_as_long_as_it_gives_it() {
    let provider = Provider::start();
    let server = provider.server();
    assert!(server.log().contains("\"night-watch\"") && server.log().contains("\"gone\""), "{}", server.log());
    // Before there is such a role nobody is let in with less than they were given.
    let mut oscar = Browser::new(&server);
    let refused = oscar.login("test", "oscar");
    assert_eq!(code(&refused), denied("oidc-role-unknown"));
    assert!(refused.body.contains("night-watch"), "{}", refused.body);
    assert_eq!(server.events("session.refused")[0]["data"]["reasons"][0]["code"], "oidc-role-unknown");
    assert!(!server.ok(&["user", "list"]).contains("oscar"), "nor does anybody become a user");
    server.ok(&["role", "create", "night-watch", "--permission", "vm.read,vm.power"]);
    let mut rita = Browser::new(&server);
    assert_eq!(code(&rita.login("test", "rita")), denied("oidc-role-unknown"), "this one is still not there");

    assert_eq!(oscar.login("test", "oscar").status, StatusCode::SEE_OTHER);
    assert_eq!(oscar.me()["role"], "viewer", "the built-in one as well");
    let grants = || server.json(&["grant", "list"]);
    let given = grants();
    assert_eq!(given.as_array().unwrap().len(), 1, "{given}");
    let one = &given[0];
    assert_eq!((&one["role"], &one["scope"]), (&json!("night-watch"), &json!("everything")), "{given}");
    assert_eq!(one["created_by"], "oidc:test", "{given}");
    let may = |what: &str| server.cli(&["access", "can-i", what, "--as", "user:oscar"]).status.code();
    assert_eq!((may("vm.power"), may("vm.create")), (Some(0), Some(1)));
    // Once more: nothing is given twice. What somebody gives here is not the provider's.
    assert_eq!(oscar.login("test", "oscar").status, StatusCode::SEE_OTHER);
    assert_eq!(grants().as_array().unwrap().len(), 1);
    server.ok(&["grant", "create", "user:oscar", "night-watch", "--project", "default"]);
    server.refused(&["role", "delete", "night-watch"], "is granted to somebody");

    // Another group at the provider: at the next login what it gave is taken back, and nothing else.
    std::fs::write(provider.keys.path().join("groups.json"), r#"{"oscar": ["staff"]}"#).unwrap();
    assert_eq!(may("vm.power"), Some(0), "until then it is as it was");
    assert_eq!(oscar.login("test", "oscar").status, StatusCode::SEE_OTHER);
    let kept = grants();
    assert_eq!(kept.as_array().unwrap().len(), 1, "{kept}");
    assert_eq!(kept[0]["scope"], "project:default", "{kept}");
    assert_eq!(may("vm.power"), Some(1));
    let told = |kind: &str| server.events(kind).iter().filter(|event| event["actor"] == "oidc:test").count();
    assert_eq!((told("grant.created"), told("grant.deleted")), (1, 1));
    server.ok(&["audit", "verify"]);
}

#[test]
fn a_public_client_logs_in_with_es256_and_without_a_secret() {
    let provider = Provider::start();
    let server = provider.server();
    let mut browser = Browser::new(&server);
    assert_eq!(browser.login("es", "dave").status, StatusCode::SEE_OTHER);
    let me = browser.me();
    assert_eq!((&me["name"], &me["role"]), (&json!("dave"), &Value::Null), "{me}");
}

#[test]
fn who_is_not_let_in_by_the_configuration_stays_out() {
    let provider = Provider::start();
    let server = provider.server();
    let mut browser = Browser::new(&server);
    assert_eq!(code(&browser.login("test", "mallory")), denied("oidc-domain"));
    let mut browser = Browser::new(&server);
    assert_eq!(code(&browser.login("test", "unverified")), denied("oidc-domain"));
    // Nobody becomes a user where that is not wanted; who is linked comes in.
    let mut browser = Browser::new(&server);
    assert_eq!(code(&browser.login("closed", "erin")), denied("oidc-user-unknown"));
    let request = json!({ "name": "e.smith", "role": "viewer" });
    assert_eq!(ask(&server, Method::POST, "/v1/users", &[], Some(request)).0, StatusCode::CREATED);
    server.ok(&["identity", "link", "e.smith", "--provider", "closed", "--subject", "erin"]);
    assert_eq!(browser.login("closed", "erin").status, StatusCode::SEE_OTHER);
    let me = browser.me();
    assert_eq!((&me["name"], &me["role"]), (&json!("e.smith"), &json!("viewer")), "no role-claim, so no role changes");
    // A name that somebody has here is not theirs who has it there.
    let mut thief = Browser::new(&server);
    assert_eq!(code(&thief.login("es", "e.smith")), denied("oidc-user-name"));
    // Kept out here is kept out.
    let (status, _, said) = ask(&server, Method::PATCH, "/v1/users/e.smith", &[], Some(json!({ "disabled": true })));
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(code(&browser.login("closed", "erin")), denied("oidc-user-unknown"));
    let identities = server.json(&["identity", "list"]);
    server.ok(&["identity", "unlink", identities[0]["id"].as_str().unwrap()]);
    assert_eq!(code(&browser.login("closed", "erin")), denied("oidc-user-unknown"));
    assert_eq!(server.events("session.refused").len(), 6, "each refusal is an event");
}

#[test]
fn a_login_is_of_one_browser_and_ends_once() {
    let provider = Provider::start();
    let server = provider.server();
    let mut browser = Browser::new(&server);
    let url = browser.start("test");
    let back = browser.through(url, "alice");
    // Another browser, which somebody was lured to with a login that was begun elsewhere.
    let mut other = Browser::new(&server);
    assert_eq!(code(&other.ask(&back, None)), denied("oidc-state"));
    other.start("test");
    assert_eq!(code(&other.ask(&back, None)), denied("oidc-state"));
    // A state that was altered, none, and none of either.
    assert_eq!(code(&browser.ask(&with(&back, "state", "another"), None)), denied("oidc-state"));
    let bare = "https://debvisor.test/v1/oidc/test/callback".parse().unwrap();
    assert_eq!(code(&browser.ask(&bare, None)), denied("oidc-state"));
    // The answer of another provider (RFC 9207), and one that comes in at another provider's address.
    let mixed = with(&back, "iss", "https://elsewhere.test");
    assert_eq!(code(&browser.ask(&mixed, None)), denied("oidc-issuer"));
    let moved = back.as_str().replace("/oidc/test/", "/oidc/es/").parse().unwrap();
    assert_eq!(code(&browser.ask(&moved, None)), denied("oidc-state"));
    // None of that has ended it; the right answer does, and no second one.
    let kept = browser.jar.clone();
    assert_eq!(browser.ask(&back, None).status, StatusCode::SEE_OTHER);
    browser.jar = kept;
    assert_eq!(code(&browser.ask(&back, None)), denied("oidc-state"));
}

#[test]
fn a_code_of_another_login_and_a_no_of_the_provider_open_nothing() {
    let provider = Provider::start();
    let server = provider.server();
    // The victim's code, put into the attacker's own login: its challenge is another one (RFC 7636).
    let mut victim = Browser::new(&server);
    let url = victim.start("test");
    let stolen = victim.through(url, "alice");
    let stolen = between(stolen.as_str(), "code=", "&").unwrap().to_owned();
    let mut attacker = Browser::new(&server);
    let url = attacker.start("test");
    let back = attacker.through(url, "mallory");
    assert_eq!(code(&attacker.ask(&with(&back, "code", &stolen), None)), denied("oidc-refused"));
    // The person says no.
    let mut browser = Browser::new(&server);
    let url = browser.start("test");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let no = format!(
        "https://debvisor.test/v1/oidc/test/callback?error=access_denied&state={}&iss={}",
        query["state"], provider.issuer
    );
    let answer = browser.ask(&no.parse().unwrap(), None);
    assert_eq!(code(&answer), denied("oidc-refused"));
    assert!(answer.body.contains("access_denied"), "{}", answer.body);
}

#[test]
fn a_token_for_another_login_is_refused_by_its_nonce() {
    let provider = Provider::start();
    let server = provider.server();
    let mut browser = Browser::new(&server);
    let url = browser.start("test");
    let back = browser.through(with(&url, "nonce", "the-nonce-of-somebody-else"), "alice");
    assert_eq!(code(&browser.ask(&back, None)), denied("oidc-nonce"));
}

#[test]
fn an_id_token_opens_one_session_for_a_program() {
    let provider = Provider::start();
    let server = provider.server();
    let (status, opened) = exchange(&server, &provider.token("es256", &json!({})));
    assert_eq!(status, StatusCode::CREATED, "{opened}");
    assert_eq!(opened["session"]["method"], "oidc");
    let bearer = format!("Bearer {}", opened["token"].as_str().unwrap());
    let (_, _, me) = ask(&server, Method::GET, "/v1/me", &[("authorization", &bearer)], None);
    assert_eq!(me["user"]["name"], "carol", "{me}");
    // RS256 as well.
    let key = EncodingKey::from_rsa_pem(&provider.key("rs256.pem")).unwrap();
    let token = sign("rs256", Algorithm::RS256, &key, &provider.claims(&json!({ "jti": "another" })));
    assert_eq!(exchange(&server, &token).0, StatusCode::CREATED);
    let (status, problem) = exchange(&server, &token);
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("oidc-replayed")));
    // The same with other bytes behind it, which a signature of ECDSA may have.
    let (status, problem) = exchange(&server, &format!("{token}="));
    assert_eq!(status.as_u16(), 401, "{problem}");
}

fn exchange(server: &Server, token: &str) -> (StatusCode, Value) {
    let request = json!({ "id_token": token });
    let (status, _, answer) = ask(server, Method::POST, "/v1/oidc/es/token", &[], Some(request));
    (status, answer)
}

#[test]
fn an_id_token_with_one_flaw_opens_nothing_and_is_told_which() {
    let provider = Provider::start();
    let server = provider.server();
    let refused = |token: &str| {
        let (status, problem) = exchange(&server, token);
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    };
    let of = |claims: Value| refused(&provider.token("es256", &claims));
    let at = now();
    let wrong: [(&str, Value, &str); 13] = [
        ("expired", json!({ "exp": at - 61 }), "oidc-token-time"),
        ("too old", json!({ "iat": at - 3600 }), "oidc-token-time"),
        ("from the future", json!({ "iat": at + 300, "exp": at + 900 }), "oidc-token-time"),
        ("not valid yet", json!({ "nbf": at + 300 }), "oidc-token-time"),
        ("for another client of the provider", json!({ "aud": "debvisor" }), "oidc-audience"),
        ("for two", json!({ "aud": ["public", "debvisor"] }), "oidc-audience"),
        ("made for another party", json!({ "azp": "debvisor" }), "oidc-audience"),
        ("of another issuer", json!({ "iss": "https://elsewhere.test" }), "oidc-issuer"),
        ("of an issuer with a slash", json!({ "iss": format!("{}/", provider.issuer) }), "oidc-issuer"),
        ("without an issuer", json!({ "iss": null }), "oidc-token-malformed"),
        ("without an end", json!({ "exp": null }), "oidc-token-malformed"),
        ("without a person", json!({ "sub": null }), "oidc-token-malformed"),
        ("of nobody", json!({ "sub": "" }), "oidc-token-malformed"),
    ];
    for (what, claims, code) in wrong {
        assert_eq!(of(claims), code, "{what}");
    }
    assert_eq!(of(json!({ "preferred_username": null })), "oidc-user-name");
    assert_eq!(of(json!({ "preferred_username": "no name" })), "oidc-user-name");
    // Within the bound on clocks that differ.
    let (status, answer) = exchange(&server, &provider.token("es256", &json!({ "exp": at - 30, "iat": at + 30 })));
    assert_eq!(status, StatusCode::CREATED, "{answer}");

    // The signature.
    let good = provider.token("es256", &json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = provider.token("es256", &json!({ "sub": "root", "preferred_username": "root" }));
    let payload = other.split('.').nth(1).unwrap();
    assert_eq!(refused(&format!("{header}.{payload}.{signature}")), "oidc-signature");
    // Nobody's, in two letter cases.
    use base64::Engine as _;
    let encode = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({ "alg": alg })), encode(&provider.claims(&json!({}))));
    assert_eq!(refused(&unsigned("none")), "oidc-algorithm");
    let answer = refused(&unsigned("None"));
    assert!(["oidc-algorithm", "oidc-token-malformed"].contains(&answer.as_str()), "{answer}");
    // With what everybody knows as the secret: the client's identifier, the public key.
    for secret in [b"public".to_vec(), provider.key("rs256.pub"), provider.key("es256.pub")] {
        let key = EncodingKey::from_secret(&secret);
        assert_eq!(refused(&sign("es256", Algorithm::HS256, &key, &provider.claims(&json!({})))), "oidc-algorithm");
    }
    // With the right key, and an algorithm that was not agreed on.
    let key = EncodingKey::from_rsa_pem(&provider.key("rs256.pem")).unwrap();
    assert_eq!(refused(&sign("rs256", Algorithm::PS256, &key, &provider.claims(&json!({})))), "oidc-algorithm");
    // With a key of the attacker's own, under the name of the provider's, under another, and sent along.
    let own = rcgen::KeyPair::generate().unwrap();
    let own = EncodingKey::from_ec_pem(own.serialize_pem().as_bytes()).unwrap();
    assert_eq!(refused(&sign("es256", Algorithm::ES256, &own, &provider.claims(&json!({})))), "oidc-signature");
    let (asked, began) = (provider.times_asked("GET /jwks"), Instant::now());
    for _ in 0..5 {
        assert_eq!(refused(&sign("mine", Algorithm::ES256, &own, &provider.claims(&json!({})))), "oidc-key-unknown");
    }
    // However often: the keys were asked for a moment ago.
    let more = provider.times_asked("GET /jwks") - asked;
    assert!(more as u64 <= began.elapsed().as_secs() / 30 + 1, "the keys were asked for {more} times");
    for none in ["", ".", "..", "a.b.c", "no token", &good[..good.len() / 2], &"a".repeat(16_384)] {
        assert_eq!(refused(none), "oidc-token-malformed", "{none:.20}");
    }
    assert_eq!(server.json(&["identity", "list"]).as_array().unwrap().len(), 1, "only the good one is somebody");
}

#[test]
fn a_provider_that_is_down_is_an_open_question_and_not_a_fault() {
    let mut provider = Provider::start();
    let server = provider.server();
    let start = |server: &Server, name: &str| {
        let (status, _, problem) = ask(server, Method::GET, &format!("/v1/oidc/{name}/start"), &[], None);
        (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
    };
    // One provider was spoken with and the others not when it goes away.
    let mut browser = Browser::new(&server);
    let url = browser.start("test");
    let back = browser.through(url, "alice");
    provider.child.kill().unwrap();
    provider.child.wait().unwrap();
    let began = Instant::now();
    assert_eq!(start(&server, "es"), (503, "oidc-unreachable".to_owned()));
    assert_eq!(exchange(&server, &provider.token("es256", &json!({}))).1["code"], "oidc-unreachable");
    assert_eq!(code(&browser.ask(&back, None)), (503, "oidc-unreachable".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(start(&server, "nobody"), (404, "resource-unknown".to_owned()));
    // What it said of itself a moment ago is still good for sending browsers there.
    Browser::new(&server).start("test");
    server.ok(&["vm", "list"]);
}

#[test]
fn a_configuration_that_would_trust_the_wrong_one_does_not_come_up() {
    let cases: [(&str, &str); 6] = [
        ("issuer = \"http://id.example.org\"", "is not https"),
        ("issuer = \"no url\"", "is no URL"),
        ("name = \"A B\"", "is no name"),
        ("redirect-url = \"https://debvisor.test/v1/oidc/other/callback\"", "must end in /v1/oidc/test/callback"),
        ("client-secret-file = \"nowhere\"", "nowhere"),
        ("roles = { staff = \"Emperor!\" }", "Emperor!"),
    ];
    for (line, told) in cases {
        let server = Server::prepared("kind = \"simulated\"", "");
        let mut lines = BTreeMap::from([
            ("name", "name = \"test\""),
            ("issuer", "issuer = \"https://id.example.org\""),
            ("client-id", "client-id = \"debvisor\""),
            ("redirect-url", "redirect-url = \"https://debvisor.test/v1/oidc/test/callback\""),
        ]);
        lines.insert(line.split(' ').next().unwrap(), line);
        let lines: Vec<&str> = lines.into_values().collect();
        server.configure_more(&format!("[[oidc]]\n{}\n", lines.join("\n")));
        let said = server.refuses_to_come_up();
        assert!(said.contains(told), "{line}: {said}");
        let _: PathBuf = server.state();
    }
}
