//! Who may log in, how they show who they are, and what of it is written down; through the real binary.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;

use super::server::Server;

pub(super) const PASSWORD: &str = "correct horse battery";
pub(super) const OTHER: &str = "seven green bottles";

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// The token of a browser's cookie.
    fn cookie(&self) -> String {
        let set = self.headers.get("set-cookie").expect("no cookie is set").to_str().unwrap();
        set.split(';').next().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.body)).to_owned()
    }

    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
    }
}

/// One request, as any client would send it.
fn call(server: &Server, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().unix_socket(server.socket()).build().unwrap();
        let mut request = client.request(method, format!("http://debvisor{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.json().await.unwrap_or(Value::Null) }
    })
}

fn login(server: &Server, body: Value) -> Answer {
    call(server, Method::POST, "/v1/session", &[], Some(body))
}

/// A program's token.
fn token(server: &Server, name: &str, password: &str) -> String {
    let answer = login(server, json!({ "user": name, "password": password, "kind": "token" }));
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.text("token")
}

/// A browser's cookie and the token against other sites.
fn browser(server: &Server, name: &str) -> (String, String) {
    let answer = login(server, json!({ "user": name, "password": PASSWORD }));
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    (answer.cookie(), answer.text("csrf"))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A verb that reads a password on stdin.
fn with_password(server: &Server, password: &str, args: &[&str]) -> Output {
    let mut child = server
        .command(args)
        .arg("--password-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    child.wait_with_output().unwrap()
}

/// Makes a user with [`PASSWORD`], as a host user does.
pub(super) fn create(server: &Server, name: &str, args: &[&str]) {
    let all: Vec<&str> = ["user", "create", name].iter().chain(args).copied().collect();
    let output = with_password(server, PASSWORD, &all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn with_alice() -> Server {
    let server = Server::simulated();
    create(&server, "Alice", &["--role", "admin"]);
    server
}

#[test]
fn a_host_user_makes_the_first_administrator_who_then_logs_in() {
    let server = with_alice();
    let alice = server.json(&["user", "show", "alice"]);
    assert_eq!((alice["name"].as_str(), alice["role"].as_str()), (Some("alice"), Some("admin")), "{alice}");
    let token = token(&server, "ALICE", PASSWORD);
    assert!(token.starts_with("dvs_"), "whoever finds one knows what it is");
    let me = call(&server, Method::GET, "/v1/me", &[("authorization", &bearer(&token))], None);
    assert_eq!(me.body["actor"], "user:alice", "{}", me.body);
    assert_eq!(me.body["user"]["role"], "admin");
    let host = call(&server, Method::GET, "/v1/me", &[], None);
    assert!(host.body["actor"].as_str().unwrap().starts_with("uid:"), "{}", host.body);
    assert!(server.json(&["user", "show", "alice"])["login_at"].is_string());
    let audit = server.ok(&["audit", "list"]);
    assert!(audit.contains("user.create") && audit.contains("session.open") && audit.contains("user:alice"), "{audit}");
    assert_eq!(server.events("session.opened").len(), 1);
    server.ok(&["audit", "verify"]);
}

#[test]
fn users_are_listed_kept_out_let_in_again_and_removed() {
    let server = with_alice();
    create(&server, "bob", &[]);
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&server.json(&["user", "list"])), ["alice", "bob"]);
    let output = with_password(&server, PASSWORD, &["user", "create", "BOB"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists already"));
    let bob = token(&server, "bob", PASSWORD);
    server.ok(&["user", "disable", "bob"]);
    let gone = call(&server, Method::GET, "/v1/me", &[("authorization", &bearer(&bob))], None);
    gone.is(401, "credential-invalid");
    login(&server, json!({ "user": "bob", "password": PASSWORD })).is(401, "login-refused");
    server.ok(&["user", "enable", "bob"]);
    token(&server, "bob", PASSWORD);
    let other = with_password(&server, OTHER, &["user", "password", "bob"]);
    assert!(other.status.success());
    login(&server, json!({ "user": "bob", "password": PASSWORD })).is(401, "login-refused");
    let bob = token(&server, "bob", OTHER);
    server.ok(&["user", "role", "bob", "viewer"]);
    assert_eq!(server.json(&["user", "show", "bob"])["role"], "viewer");
    let gone = call(&server, Method::GET, "/v1/me", &[("authorization", &bearer(&bob))], None);
    gone.is(401, "credential-invalid");
    server.ok(&["user", "role", "bob"]);
    assert!(server.json(&["user", "show", "bob"])["role"].is_null());
    server.ok(&["user", "delete", "bob"]);
    login(&server, json!({ "user": "bob", "password": OTHER })).is(401, "login-refused");
    assert_eq!(names(&server.json(&["user", "list"])), ["alice"]);
    assert_eq!(server.cli(&["user", "show", "bob"]).status.code(), Some(64));
}

#[test]
fn two_who_saw_the_same_user_do_not_both_change_them() {
    let server = with_alice();
    let seen = call(&server, Method::GET, "/v1/users/alice", &[], None);
    let tag = seen.headers["etag"].to_str().unwrap().to_owned();
    let disable =
        || call(&server, Method::PATCH, "/v1/users/alice", &[("if-match", &tag)], Some(json!({ "must_change": true })));
    assert_eq!(disable().status, StatusCode::OK);
    disable().is(412, "resource-stale");
}

#[test]
fn an_unknown_name_a_wrong_password_and_who_is_kept_out_get_the_same_answer() {
    let server = with_alice();
    create(&server, "bob", &[]);
    server.ok(&["user", "disable", "bob"]);
    let none = call(&server, Method::POST, "/v1/users", &[], Some(json!({ "name": "carol" })));
    assert_eq!(none.status, StatusCode::CREATED, "{}", none.body);
    let answers = [
        login(&server, json!({ "user": "nobody", "password": PASSWORD })),
        login(&server, json!({ "user": "alice", "password": OTHER })),
        login(&server, json!({ "user": "bob", "password": PASSWORD })),
        login(&server, json!({ "user": "carol", "password": "" })),
        login(&server, json!({ "user": "a".repeat(64), "password": "x".repeat(1024) })),
    ];
    // But for the request's own name, by which the log is searched.
    let said = |answer: &Answer| {
        let mut body = answer.body.clone();
        body.as_object_mut().unwrap().remove("request");
        body
    };
    for answer in &answers {
        answer.is(401, "login-refused");
        assert_eq!(said(answer), said(&answers[0]));
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(answer.headers.get("set-cookie").is_none());
    }
    assert_eq!(server.events("session.refused").len(), answers.len());
}

#[test]
fn what_is_not_believed_is_refused_and_never_taken_for_nobody_or_for_the_host() {
    let server = with_alice();
    let token = token(&server, "alice", PASSWORD);
    let (cookie, _) = browser(&server, "alice");
    let in_cookie = format!("__Host-debvisor={token}");
    let from_cookie = bearer(cookie.trim_start_matches("__Host-debvisor="));
    let changed = bearer(&format!("{}x", &token[..token.len() - 1]));
    let long = bearer(&format!("dvs_{}", "x".repeat(4000)));
    let bad: [(&str, &str); 9] = [
        ("authorization", "Bearer"),
        ("authorization", "Bearer dvs_"),
        ("authorization", "Bearer dvs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("authorization", &changed),
        ("authorization", &long),
        ("authorization", "Basic YWxpY2U6Y29ycmVjdA=="),
        ("authorization", &from_cookie),
        ("cookie", &in_cookie),
        ("cookie", "__Host-debvisor="),
    ];
    for header in bad {
        call(&server, Method::GET, "/v1/vms", &[header], None).is(401, "credential-invalid");
    }
    let twice = [("authorization", &*bearer(&token)), ("authorization", &*bearer(&token))];
    call(&server, Method::GET, "/v1/me", &twice, None).is(401, "credential-invalid");
    // What asks nobody who they are passes over a cookie that a browser cannot leave out, and over nothing else.
    let open = call(&server, Method::GET, "/v1/openapi.json", &[("cookie", "__Host-debvisor=dvs_gone")], None);
    assert_eq!(open.status, StatusCode::OK);
    let again = call(
        &server,
        Method::POST,
        "/v1/session",
        &[("cookie", "__Host-debvisor=dvs_gone")],
        Some(json!({ "user": "alice", "password": PASSWORD })),
    );
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.body);
    call(&server, Method::GET, "/v1/openapi.json", &[("authorization", "Bearer x")], None)
        .is(401, "credential-invalid");
}

#[test]
fn a_browsers_cookie_is_locked_up_and_changes_nothing_without_the_sessions_token() {
    let server = with_alice();
    let answer = login(&server, json!({ "user": "alice", "password": PASSWORD }));
    let set = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["__Host-debvisor=dvs_", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.body["token"].is_null(), "no script reads it: {}", answer.body);
    let (cookie, csrf) = (answer.cookie(), answer.text("csrf"));
    let (_, others) = browser(&server, "alice");
    let shown = call(&server, Method::GET, "/v1/session", &[("cookie", &cookie)], None);
    assert_eq!(shown.text("csrf"), csrf);
    let logout = |headers: &[(&str, &str)]| {
        let all: Vec<_> = [("cookie", cookie.as_str())].iter().chain(headers).copied().collect();
        call(&server, Method::DELETE, "/v1/session", &all, None)
    };
    logout(&[]).is(403, "csrf-refused");
    logout(&[("x-csrf-token", &others)]).is(403, "csrf-refused");
    logout(&[("x-csrf-token", &csrf), ("sec-fetch-site", "cross-site")]).is(403, "csrf-refused");
    logout(&[("x-csrf-token", &csrf), ("sec-fetch-site", "same-site")]).is(403, "csrf-refused");
    logout(&[("x-csrf-token", &csrf), ("origin", "https://evil.example")]).is(403, "csrf-refused");
    logout(&[("x-csrf-token", &csrf), ("origin", "null")]).is(403, "csrf-refused");
    // Not even to read: a console over WebSocket is a GET.
    let read = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    call(&server, Method::GET, "/v1/me", &read, None).is(403, "csrf-refused");
    let good = [("x-csrf-token", csrf.as_str()), ("origin", "https://debvisor"), ("sec-fetch-site", "same-origin")];
    let out = logout(&good);
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    call(&server, Method::GET, "/v1/session", &[("cookie", &cookie)], None).is(401, "credential-invalid");
}

#[test]
fn another_site_logs_nobody_in() {
    let server = with_alice();
    let body = json!({ "user": "alice", "password": PASSWORD });
    let from = |headers: &[(&str, &str)]| call(&server, Method::POST, "/v1/session", headers, Some(body.clone()));
    from(&[("origin", "https://evil.example")]).is(403, "csrf-refused");
    from(&[("sec-fetch-site", "cross-site")]).is(403, "csrf-refused");
    assert_eq!(from(&[("origin", "https://debvisor")]).status, StatusCode::CREATED);
}

#[test]
fn a_login_ends_the_session_that_the_browser_had() {
    let server = with_alice();
    let (cookie, _) = browser(&server, "alice");
    let body = json!({ "user": "alice", "password": PASSWORD });
    let again = call(&server, Method::POST, "/v1/session", &[("cookie", &cookie)], Some(body));
    assert_ne!(again.cookie(), cookie);
    call(&server, Method::GET, "/v1/session", &[("cookie", &cookie)], None).is(401, "credential-invalid");
    let new = again.cookie();
    assert_eq!(call(&server, Method::GET, "/v1/session", &[("cookie", &new)], None).status, StatusCode::OK);
}

#[test]
fn sessions_are_listed_and_each_can_be_ended_by_its_owner_alone() {
    let server = with_alice();
    create(&server, "bob", &[]);
    let (one, two, bob) =
        (token(&server, "alice", PASSWORD), token(&server, "alice", PASSWORD), token(&server, "bob", PASSWORD));
    let list = |token: &str| call(&server, Method::GET, "/v1/sessions", &[("authorization", &bearer(token))], None);
    let sessions = list(&one).body["items"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    let shown = call(&server, Method::GET, "/v1/session", &[("authorization", &bearer(&two))], None);
    let id = shown.body["session"]["id"].as_str().unwrap().to_owned();
    let revoke = |token: &str| {
        call(&server, Method::DELETE, &format!("/v1/sessions/{id}"), &[("authorization", &bearer(token))], None)
    };
    revoke(&bob).is(404, "resource-unknown");
    assert_eq!(list(&two).status, StatusCode::OK);
    assert_eq!(revoke(&one).status, StatusCode::NO_CONTENT);
    list(&two).is(401, "credential-invalid");
    assert_eq!(list(&one).body["items"].as_array().unwrap().len(), 1);
    let all = call(&server, Method::DELETE, "/v1/users/alice/sessions", &[], None);
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    list(&one).is(401, "credential-invalid");
    assert_eq!(list(&bob).status, StatusCode::OK);
    let host = call(&server, Method::GET, "/v1/sessions", &[], None);
    host.is(403, "login-required");
}

#[test]
fn another_password_ends_every_other_session_and_gives_this_one_another_token() {
    let server = with_alice();
    let other = token(&server, "alice", PASSWORD);
    let (cookie, csrf) = browser(&server, "alice");
    let change = |present: &str, new: &str, cookie: &str, csrf: &str| {
        let headers = [("cookie", cookie), ("x-csrf-token", csrf)];
        call(&server, Method::PUT, "/v1/me/password", &headers, Some(json!({ "present": present, "new": new })))
    };
    change(OTHER, OTHER, &cookie, &csrf).is(403, "login-refused");
    for bad in ["short", "password1234", "alicealicealice", "123456789012", &"x y".repeat(50), PASSWORD] {
        let refused = change(PASSWORD, bad, &cookie, &csrf);
        refused.is(422, "password-refused");
        assert!(!refused.body["detail"].as_str().unwrap().contains(bad));
    }
    let changed = change(PASSWORD, OTHER, &cookie, &csrf);
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let (new, new_csrf) = (changed.cookie(), changed.text("csrf"));
    assert_ne!((&new, &new_csrf), (&cookie, &csrf));
    call(&server, Method::GET, "/v1/me", &[("cookie", &cookie)], None).is(401, "credential-invalid");
    call(&server, Method::GET, "/v1/me", &[("authorization", &bearer(&other))], None).is(401, "credential-invalid");
    change(OTHER, PASSWORD, &new, &csrf).is(403, "csrf-refused");
    assert_eq!(call(&server, Method::GET, "/v1/me", &[("cookie", &new)], None).status, StatusCode::OK);
    login(&server, json!({ "user": "alice", "password": PASSWORD })).is(401, "login-refused");
    token(&server, "alice", OTHER);
}

#[test]
fn who_has_to_choose_another_password_does_that_first() {
    let server = with_alice();
    create(&server, "bob", &["--role", "admin", "--must-change"]);
    let bob = bearer(&token(&server, "bob", PASSWORD));
    let headers = [("authorization", bob.as_str())];
    call(&server, Method::GET, "/v1/vms", &headers, None).is(403, "password-change-required");
    assert_eq!(call(&server, Method::GET, "/v1/me", &headers, None).status, StatusCode::OK);
    let body = json!({ "present": PASSWORD, "new": OTHER });
    let changed = call(&server, Method::PUT, "/v1/me/password", &headers, Some(body));
    let bob = bearer(&changed.text("token"));
    let answer = call(&server, Method::GET, "/v1/vms", &[("authorization", bob.as_str())], None);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[test]
fn who_may_write_users_does_not_thereby_become_anybody() {
    let server = with_alice();
    create(&server, "viewer", &["--role", "viewer"]);
    let viewer = bearer(&token(&server, "viewer", PASSWORD));
    let headers = [("authorization", viewer.as_str())];
    let create = json!({ "name": "eve", "role": "admin", "password": OTHER });
    call(&server, Method::POST, "/v1/users", &headers, Some(create)).is(403, "access-denied");
    let take = json!({ "password": OTHER });
    call(&server, Method::PUT, "/v1/users/alice/password", &headers, Some(take)).is(403, "access-denied");
    call(&server, Method::PATCH, "/v1/users/viewer", &headers, Some(json!({ "role": "admin" })))
        .is(403, "access-denied");
}

#[test]
fn a_helpdesk_makes_users_and_cannot_make_or_become_an_administrator() {
    let server = with_alice();
    create(&server, "bob", &[]);
    create(&server, "carol", &[]);
    let may = "user.read,user.write,access.write";
    server.ok(&["role", "create", "helpdesk", "--permission", may]);
    server.ok(&["grant", "create", "user:bob", "helpdesk"]);
    let bob = bearer(&token(&server, "bob", PASSWORD));
    let headers = [("authorization", bob.as_str())];
    let as_bob = |method: Method, path: &str, body: Value| call(&server, method, path, &headers, Some(body));
    let made = as_bob(Method::POST, "/v1/users", json!({ "name": "dave", "password": OTHER }));
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(as_bob(Method::PUT, "/v1/users/carol/password", json!({ "password": OTHER })).status, StatusCode::OK);
    let refused = [
        as_bob(Method::POST, "/v1/users", json!({ "name": "eve", "role": "admin", "password": OTHER })),
        as_bob(Method::PATCH, "/v1/users/bob", json!({ "role": "admin" })),
        as_bob(Method::PUT, "/v1/users/alice/password", json!({ "password": OTHER })),
        call(&server, Method::DELETE, "/v1/users/alice/totp", &headers, None),
    ];
    for answer in refused {
        assert_eq!(answer.body["code"], "access-escalation", "{}", answer.body);
    }
    // What somebody was granted counts as a role of theirs does.
    server.ok(&["grant", "create", "user:carol", "operator"]);
    let carol = as_bob(Method::PUT, "/v1/users/carol/password", json!({ "password": PASSWORD }));
    assert_eq!(carol.body["code"], "access-escalation", "{}", carol.body);
    token(&server, "alice", PASSWORD);
}

fn code(uri: &str, at: i64) -> String {
    let totp = totp_rs::Totp::from_url(uri).unwrap();
    totp.generate(u64::try_from(at).unwrap()).to_string()
}

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

#[test]
fn a_second_factor_is_asked_for_and_each_code_opens_once() {
    let server = with_alice();
    let alice = bearer(&token(&server, "alice", PASSWORD));
    let headers = [("authorization", alice.as_str())];
    let begin =
        |password: &str| call(&server, Method::POST, "/v1/me/totp", &headers, Some(json!({ "password": password })));
    begin(OTHER).is(403, "login-refused");
    let begun = begin(PASSWORD);
    let uri = begun.text("uri");
    assert!(uri.contains(&begun.text("seed")));
    // Nothing changes before a code has shown that it works.
    token(&server, "alice", PASSWORD);
    let confirm =
        |code: &str| call(&server, Method::POST, "/v1/me/totp/confirm", &headers, Some(json!({ "code": code })));
    let at = now();
    let first = code(&uri, at);
    let wrong = if first == "000000" { "000001" } else { "000000" };
    confirm(wrong).is(403, "login-refused");
    let confirmed = confirm(&first);
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    let recovery: Vec<String> = serde_json::from_value(confirmed.body["recovery_codes"].clone()).unwrap();
    assert_eq!(recovery.len(), 10);
    call(&server, Method::GET, "/v1/me", &headers, None).is(401, "credential-invalid");

    let attempt = |code: Option<&str>| {
        login(&server, json!({ "user": "alice", "password": PASSWORD, "kind": "token", "code": code }))
    };
    attempt(None).is(401, "totp-required");
    attempt(Some(&first)).is(401, "login-refused");
    attempt(Some(wrong)).is(401, "login-refused");
    login(&server, json!({ "user": "alice", "password": OTHER, "code": code(&uri, at + 30) })).is(401, "login-refused");
    let next = code(&uri, at + 30);
    let opened = attempt(Some(&next));
    assert_eq!(opened.body["session"]["method"], "password+totp", "{}", opened.body);
    attempt(Some(&next)).is(401, "login-refused");
    let opened = attempt(Some(&recovery[3].to_uppercase()));
    assert_eq!(opened.body["session"]["method"], "password+recovery", "{}", opened.body);
    attempt(Some(&recovery[3])).is(401, "login-refused");

    // Without it again: by a code, once.
    let alice = bearer(&opened.text("token"));
    let remove = |code: &str| {
        let body = json!({ "password": PASSWORD, "code": code });
        call(&server, Method::POST, "/v1/me/totp/remove", &[("authorization", &alice)], Some(body))
    };
    remove(&recovery[3]).is(403, "login-refused");
    assert_eq!(remove(&recovery[4]).status, StatusCode::OK);
    assert_eq!(attempt(None).status, StatusCode::CREATED);
}

#[test]
fn who_lost_their_codes_is_helped_by_an_administrator() {
    let server = with_alice();
    let alice = bearer(&token(&server, "alice", PASSWORD));
    let headers = [("authorization", alice.as_str())];
    let begun = call(&server, Method::POST, "/v1/me/totp", &headers, Some(json!({ "password": PASSWORD })));
    let body = json!({ "code": code(&begun.text("uri"), now()) });
    assert_eq!(call(&server, Method::POST, "/v1/me/totp/confirm", &headers, Some(body)).status, StatusCode::OK);
    assert_eq!(server.json(&["user", "show", "alice"])["totp"], true);
    server.ok(&["user", "totp", "alice", "--remove"]);
    token(&server, "alice", PASSWORD);
    assert_eq!(server.events("user.totp-remove").len(), 1);
}

#[test]
fn a_code_that_is_tried_twice_at_once_opens_once() {
    let server = with_alice();
    let alice = bearer(&token(&server, "alice", PASSWORD));
    let headers = [("authorization", alice.as_str())];
    let begun = call(&server, Method::POST, "/v1/me/totp", &headers, Some(json!({ "password": PASSWORD })));
    let (uri, at) = (begun.text("uri"), now());
    call(&server, Method::POST, "/v1/me/totp/confirm", &headers, Some(json!({ "code": code(&uri, at) })));
    let body = json!({ "user": "alice", "password": PASSWORD, "code": code(&uri, at + 30), "kind": "token" });
    let opened = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..6).map(|_| scope.spawn(|| login(&server, body.clone()).status)).collect();
        tries
            .into_iter()
            .filter(|_| true)
            .map(|one| one.join().unwrap())
            .filter(|status| *status == StatusCode::CREATED)
            .count()
    });
    assert_eq!(opened, 1);
}

#[test]
fn a_session_outlives_the_process_and_ends_when_it_is_unused_or_old() {
    let mut server = with_alice();
    let tokens = [(); 3].map(|()| token(&server, "alice", PASSWORD));
    let alive = |server: &Server, token: &str| {
        call(server, Method::GET, "/v1/session", &[("authorization", &bearer(token))], None).status == StatusCode::OK
    };
    let ids = tokens.clone().map(|token| {
        let shown = call(&server, Method::GET, "/v1/session", &[("authorization", &bearer(&token))], None);
        shown.body["session"]["id"].as_str().unwrap().to_owned()
    });
    server.kill();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = format!("sqlite://{}", server.state().join("state.db").display());
        let mut raw = sqlx::SqliteConnection::connect(&path).await.unwrap();
        let idle = jiff::Timestamp::from_second(now() - 25 * 3600).unwrap();
        let update = sqlx::query("UPDATE session SET used_at = ?2 WHERE id = ?1");
        update.bind(&ids[1]).bind(format!("{idle:.3}")).execute(&mut raw).await.unwrap();
        let ended = jiff::Timestamp::from_second(now() - 1).unwrap();
        let update = sqlx::query("UPDATE session SET expires_at = ?2 WHERE id = ?1");
        update.bind(&ids[2]).bind(format!("{ended:.3}")).execute(&mut raw).await.unwrap();
    });
    server.up(None);
    assert_eq!(tokens.map(|token| alive(&server, &token)), [true, false, false]);
    let sessions = call(&server, Method::GET, "/v1/users/alice/sessions", &[], None);
    assert_eq!(sessions.body["items"].as_array().unwrap().len(), 1, "{}", sessions.body);
}

#[test]
fn no_secret_is_found_in_the_database_the_log_the_events_or_the_audit_log() {
    let server = with_alice();
    let mut secrets = vec![PASSWORD.to_owned(), OTHER.to_owned(), "hunter2hunter2x".to_owned()];
    // Typed into the wrong field, of the wrong form, and wrong.
    login(&server, json!({ "user": "hunter2hunter2x", "password": "alice" })).is(401, "login-refused");
    login(&server, json!({ "user": "alice", "password": "hunter2hunter2x" })).is(401, "login-refused");
    let odd = login(&server, json!({ "user": "alice", "password": ["hunter2hunter2x"] }));
    assert_eq!(odd.status.as_u16(), 422, "{}", odd.body);
    assert!(!odd.body.to_string().contains("hunter2"), "{}", odd.body);
    let answer = login(&server, json!({ "user": "alice", "password": PASSWORD }));
    let (cookie, csrf) = (answer.cookie(), answer.text("csrf"));
    let headers = [("cookie", cookie.as_str()), ("x-csrf-token", csrf.as_str())];
    let begun = call(&server, Method::POST, "/v1/me/totp", &headers, Some(json!({ "password": PASSWORD })));
    let (uri, seed) = (begun.text("uri"), begun.text("seed"));
    let body = json!({ "code": code(&uri, now()) });
    let confirmed = call(&server, Method::POST, "/v1/me/totp/confirm", &headers, Some(body));
    let recovery: Vec<String> = serde_json::from_value(confirmed.body["recovery_codes"].clone()).unwrap();
    let used = login(&server, json!({ "user": "alice", "password": PASSWORD, "kind": "token", "code": recovery[0] }));
    let (cookie2, csrf2) = (confirmed.cookie(), confirmed.text("csrf"));
    let headers = [("cookie", cookie2.as_str()), ("x-csrf-token", csrf2.as_str())];
    let body = json!({ "present": PASSWORD, "new": OTHER });
    let changed = call(&server, Method::PUT, "/v1/me/password", &headers, Some(body));
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let bare = |cookie: String| cookie.trim_start_matches("__Host-debvisor=").to_owned();
    secrets.extend([
        used.text("token"),
        bare(cookie),
        bare(cookie2),
        csrf,
        csrf2,
        bare(changed.cookie()),
        seed.clone(),
    ]);
    secrets.extend(recovery.iter().flat_map(|code| [code.clone(), code.replace('-', "")]));
    let mut kept = vec![server.log().into_bytes(), server.ok(&["audit", "list", "--format", "json"]).into_bytes()];
    kept.push(server.ok(&["event", "list", "--format", "json"]).into_bytes());
    for file in std::fs::read_dir(server.state()).unwrap().flatten().filter(|file| file.path().is_file()) {
        kept.push(std::fs::read(file.path()).unwrap());
    }
    assert!(kept.iter().any(|bytes| holds(bytes, b"session.opened")), "the events are there");
    assert!(kept.iter().any(|bytes| holds(bytes, b"$argon2id$")), "the database is there");
    for name in ["state.db", "state.db-wal", "state.db-shm", "secrets.key"] {
        let mode = std::fs::metadata(server.state().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is for its owner alone: {mode:o}");
    }
    // Also as bytes: a seed that was kept as it is would not be in base32.
    let raw = totp_rs::Secret::try_from_base32(&seed).unwrap();
    for bytes in &kept {
        assert!(!holds(bytes, raw.as_ref()), "the seed is kept as it is");
        for secret in &secrets {
            assert!(!holds(bytes, secret.as_bytes()), "{secret} is kept");
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
