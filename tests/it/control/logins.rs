//! Who asks too often over the network, who guesses, and whom neither of them keeps out.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::server::Server;
use super::tls::listening;
use super::users::{OTHER, PASSWORD, create};

/// A client at an address of its own.
struct From<'a> {
    server: &'a Server,
    to: SocketAddr,
    address: IpAddr,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
    took: Duration,
}

impl Answer {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl From<'_> {
    fn many(
        &self,
        times: usize,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Vec<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let root = reqwest::Certificate::from_pem(self.server.authority().as_bytes()).unwrap();
            let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().local_address(self.address);
            let client = client.build().unwrap();
            let mut answers = Vec::new();
            for _ in 0..times {
                let mut request = client.request(method.clone(), format!("https://{}{path}", self.to));
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if let Some(body) = body {
                    request = request.json(body);
                }
                let began = Instant::now();
                let answer = request.send().await.unwrap();
                let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                let body = answer.json().await.unwrap_or(Value::Null);
                answers.push(Answer { status, headers, body, took: began.elapsed() });
            }
            answers
        })
    }

    fn login(&self, name: &str, password: &str) -> Answer {
        let body = json!({ "user": name, "password": password, "kind": "token" });
        self.many(1, &Method::POST, "/v1/session", &[], Some(&body)).remove(0)
    }
}

/// A server that alice may log in to, and clients at addresses of their own.
fn with_alice(limits: &str) -> (Server, SocketAddr) {
    let (server, address) = listening(&format!("[limits]\n{limits}"), &[]);
    create(&server, "alice", &["--role", "admin"]);
    (server, address)
}

fn at(server: &Server, to: SocketAddr, last: u8) -> From<'_> {
    From { server, to, address: IpAddr::from([127, 0, 0, last]) }
}

#[test]
fn who_asks_too_often_is_told_when_to_ask_again_and_nobody_else_is_concerned() {
    let (server, to) = with_alice("requests-per-second-per-address = 5");
    let path = "/v1/openapi.json";
    let answers = at(&server, to, 1).many(40, &Method::GET, path, &[], None);
    assert_eq!(answers[0].status, 200, "{}", answers[0].body);
    assert_eq!(answers[0].header("ratelimit-policy"), "\"address\";q=5;w=1");
    assert!(answers[0].header("ratelimit").starts_with("\"address\";r=4;t="), "{:?}", answers[0].headers);
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty(), "forty requests within a moment are too many");
    for answer in refused {
        assert_eq!(answer.code(), (429, "too-many-requests"));
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!((1..=2).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
        assert!(answer.header("ratelimit").contains(";r=0;"), "{:?}", answer.headers);
    }
    assert_eq!(at(&server, to, 2).many(1, &Method::GET, path, &[], None)[0].status, 200);
    for _ in 0..20 {
        server.ok(&["user", "list"]);
    }
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(at(&server, to, 1).many(1, &Method::GET, path, &[], None)[0].status, 200);
}

#[test]
fn a_user_is_counted_from_wherever_they_ask() {
    let (server, to) = with_alice("requests-per-second-per-user = 5");
    let token = at(&server, to, 1).login("alice", PASSWORD).body["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let refused: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (1..=4)
            .map(|last| {
                let (server, headers) = (&server, &headers);
                scope.spawn(move || {
                    let answers = at(server, to, last).many(20, &Method::GET, "/v1/me", headers, None);
                    answers.iter().filter(|answer| answer.code() == (429, "too-many-requests")).count()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!(refused > 0);
}

#[test]
fn logins_from_one_address_are_few_a_minute() {
    let (server, to) = with_alice("logins-per-minute-per-address = 4");
    let names = ["a", "b", "c", "d"];
    for name in names {
        assert_eq!(at(&server, to, 1).login(name, OTHER).code(), (401, "login-refused"));
    }
    let refused = at(&server, to, 1).login("alice", PASSWORD);
    assert_eq!(refused.code(), (429, "login-delayed"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 30, "{:?}", refused.headers);
    assert_eq!(at(&server, to, 2).login("alice", PASSWORD).status, 201);
}

#[test]
fn who_guesses_from_elsewhere_waits_and_the_owner_of_the_name_does_not() {
    let (server, to) = with_alice("logins-per-minute-per-address = 1000");
    let owner = at(&server, to, 1).login("alice", PASSWORD);
    assert_eq!(owner.status, 201, "{}", owner.body);
    let attacker = at(&server, to, 2);
    for _ in 0..3 {
        assert_eq!(attacker.login("alice", OTHER).code(), (401, "login-refused"));
    }
    // Also with the right password, and also for a name that nobody has: neither is told.
    let waits = attacker.login("alice", PASSWORD);
    assert_eq!(waits.code(), (429, "login-delayed"));
    assert!(waits.header("retry-after").parse::<u64>().unwrap() >= 1);
    for _ in 0..3 {
        assert_eq!(attacker.login("nobody", OTHER).code(), (401, "login-refused"));
    }
    assert_eq!(attacker.login("nobody", PASSWORD).code(), (429, "login-delayed"));
    assert_eq!(at(&server, to, 1).login("alice", PASSWORD).status, 201);
    let bearer = format!("Bearer {}", owner.body["token"].as_str().unwrap());
    let me = at(&server, to, 1).many(1, &Method::GET, "/v1/me", &[("authorization", &bearer)], None);
    assert_eq!(me[0].status, 200, "the session that there is goes on");
    // The pause has an end.
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(attacker.login("alice", PASSWORD).status, 201);
}

#[test]
fn guessing_from_many_addresses_slows_strangers_down_and_locks_nobody_out() {
    let (server, to) = with_alice("logins-per-minute-per-address = 1000");
    assert_eq!(at(&server, to, 1).login("alice", PASSWORD).status, 201);
    std::thread::scope(|scope| {
        for last in 2..=9 {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(at(server, to, last).login("alice", OTHER).code(), (401, "login-refused"));
                }
            });
        }
    });
    let stranger = at(&server, to, 77).login("alice", PASSWORD);
    assert_eq!(stranger.status, 201, "{}", stranger.body);
    assert!(stranger.took >= Duration::from_millis(1_300), "24 failures cost 1.4 s: {:?}", stranger.took);
    let slowdown = Duration::from_millis(1_400);
    let known = (0..5).map(|_| at(&server, to, 1).login("alice", PASSWORD).took).min().unwrap();
    assert!(known < slowdown, "who logged in here before is not slowed down: {known:?}");
}

#[test]
fn a_browser_logs_in_over_tls_and_its_own_pages_alone_change_something() {
    let (server, to) = with_alice("");
    let body = json!({ "user": "alice", "password": PASSWORD });
    let client = at(&server, to, 1);
    let own = format!("https://{to}");
    let login = client.many(1, &Method::POST, "/v1/session", &[("origin", &own)], Some(&body)).remove(0);
    assert_eq!(login.status, 201, "{}", login.body);
    let cookie = login.header("set-cookie").split(';').next().unwrap().to_owned();
    let csrf = login.body["csrf"].as_str().unwrap().to_owned();
    let out = |origin: &str| {
        let headers = [("cookie", cookie.as_str()), ("x-csrf-token", &csrf), ("origin", origin)];
        client.many(1, &Method::DELETE, "/v1/session", &headers, None).remove(0)
    };
    assert_eq!(out(&format!("http://{to}")).code(), (403, "csrf-refused"));
    assert_eq!(out("https://127.0.0.1:1").code(), (403, "csrf-refused"));
    assert_eq!(out(&own).status, 204);
    assert_eq!(login.body["session"]["address"], "127.0.0.1");
    let audit = server.ok(&["audit", "list", "--format", "json"]);
    assert!(audit.contains("\"address\":\"127.0.0.1\"") || audit.contains("\"address\": \"127.0.0.1\""), "{audit}");
    assert!(server.events("session.opened").iter().all(|event| event["data"]["address"].is_null()));
}
