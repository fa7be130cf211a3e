//! API keys, as programs use them: through the real server, by the verbs and by any client.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::ask;
use super::server::Server;

/// A request with a key.
fn with(server: &Server, token: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let (status, _, answer) = ask(server, method, path, &[("authorization", &format!("Bearer {token}"))], body);
    (status, answer)
}

/// What a request that must be refused is refused with.
fn refusal(server: &Server, token: &str) -> (u16, String) {
    let (status, problem) = with(server, token, Method::GET, "/v1/keys", None);
    (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
}

fn user(server: &Server, name: &str, role: &str) -> Value {
    let (status, _, user) = ask(server, Method::POST, "/v1/users", &[], Some(json!({ "name": name, "role": role })));
    assert_eq!(status, StatusCode::CREATED, "{user}");
    user
}

fn key(server: &Server, user: &str, name: &str, more: &Value) -> Value {
    let mut request = json!({ "name": name, "user": user, "scopes": ["vm.read"] });
    request.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let (status, _, key) = ask(server, Method::POST, "/v1/keys", &[], Some(request));
    assert_eq!(status, StatusCode::CREATED, "{key}");
    key
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_key_is_shown_once_and_is_nowhere_else() {
    let mut server = Server::simulated();
    user(&server, "alice", "viewer");
    let made = key(&server, "alice", "ci", &json!({}));
    let token = text(&made["token"]).to_owned();
    assert!(regex::Regex::new("^dvk_[0-9a-f]{32}_[0-9a-f]{72}$").unwrap().is_match(&token), "{}", token.len());
    assert_eq!(with(&server, &token, Method::GET, "/v1/keys", None).0, StatusCode::OK);
    let rotated = server.json(&["token", "rotate", "ci", "--user", "alice"]);
    let other = text(&rotated["token"]).to_owned();
    server.ok(&["token", "revoke", "ci", "--user", "alice"]);
    // A refusal is told and written down as well.
    assert_eq!(refusal(&server, &other), (401, "key-revoked".to_owned()));

    let list = server.ok(&["token", "list", "--user", "alice", "--format", "json"]);
    let audit = server.ok(&["audit", "list", "--format", "json"]);
    let events = server.ok(&["event", "list", "--format", "json"]);
    for kind in ["key.create", "key.rotate", "key.revoke", "key.use"] {
        assert!(audit.contains(kind), "{kind} is not in the audit log: {audit}");
    }
    for kind in ["key.created", "key.rotated", "key.revoked", "key.refused"] {
        assert!(events.contains(kind), "{kind} did not happen: {events}");
    }
    assert_eq!(server.terminate(), Some(0));
    let mut kept = [list, audit, events, server.log()].concat().into_bytes();
    for file in std::fs::read_dir(server.state()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            kept.extend(std::fs::read(path).unwrap());
        }
    }
    for token in [token, other] {
        for part in [token.as_str(), &token[37..101]] {
            let found = kept.windows(part.len()).any(|window| window == part.as_bytes());
            assert!(!found, "a part of a key is kept");
        }
        // What is kept is there, so that the search above has looked at the right place.
        use sha2::Digest as _;
        let hash: [u8; 32] = sha2::Sha256::digest(&token).into();
        assert!(kept.windows(32).any(|window| window == hash));
    }
}

#[test]
fn a_key_that_is_not_whole_or_not_the_one_that_was_made_opens_nothing() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    let token = text(&key(&server, "alice", "ci", &json!({}))["token"]).to_owned();
    assert_eq!(refusal(&server, &token[..108]), (401, "key-malformed".to_owned()));
    assert_eq!(refusal(&server, &token.to_uppercase().replacen("DVK", "dvk", 1)), (401, "key-malformed".to_owned()));
    // Somebody who knows how the checksum is made, and guesses the secret.
    use sha2::Digest as _;
    let guessed = format!("{}{}", &token[..37], "0".repeat(64));
    let sum = &hex::encode(sha2::Sha256::digest(&guessed))[..8];
    assert_eq!(refusal(&server, &format!("{guessed}{sum}")), (401, "key-unknown".to_owned()));
    // The very same answer for a key that never was: nobody learns which there are.
    let never = format!("dvk_{}_{}", "0".repeat(32), "0".repeat(64));
    let sum = &hex::encode(sha2::Sha256::digest(&never))[..8];
    assert_eq!(refusal(&server, &format!("{never}{sum}")), (401, "key-unknown".to_owned()));
    // At the socket too a credential that is sent counts, and not the user of the host.
    assert_eq!(with(&server, &token, Method::GET, "/v1/audit", None).1["code"], "access-denied");
    // Guesses fill no log: a minute has one line for them.
    for _ in 0..20 {
        refusal(&server, &format!("{never}{sum}"));
    }
    assert!((1..4).contains(&server.events("key.refused").len()));
}

#[test]
fn a_key_ends_by_itself_by_revocation_and_with_its_owner() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    let brief = key(&server, "alice", "brief", &json!({ "lasts_seconds": 1 }));
    let revoked = key(&server, "alice", "revoked", &json!({}));
    let living = key(&server, "alice", "living", &json!({}));
    assert_eq!(with(&server, text(&living["token"]), Method::GET, "/v1/keys", None).0, StatusCode::OK);
    let path = format!("/v1/keys/{}", text(&revoked["id"]));
    assert_eq!(ask(&server, Method::DELETE, &path, &[], None).0, StatusCode::NO_CONTENT);
    assert_eq!(refusal(&server, text(&revoked["token"])), (401, "key-revoked".to_owned()));
    assert_eq!(ask(&server, Method::DELETE, &path, &[], None).0, StatusCode::CONFLICT, "once");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(refusal(&server, text(&brief["token"])), (401, "key-expired".to_owned()));
    let (status, _, said) = ask(&server, Method::PATCH, "/v1/users/alice", &[], Some(json!({ "disabled": true })));
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(refusal(&server, text(&living["token"])), (401, "key-revoked".to_owned()));
    assert_eq!(ask(&server, Method::DELETE, "/v1/users/alice", &[], None).0, StatusCode::NO_CONTENT);
    assert_eq!(refusal(&server, text(&living["token"])), (401, "key-unknown".to_owned()));
}

#[test]
fn a_rotated_key_stays_valid_for_the_overlap_and_its_place_is_taken_once() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    let old = key(&server, "alice", "ci", &json!({ "addresses": [], "lasts_seconds": 3600 }));
    let path = format!("/v1/keys/{}/rotate", text(&old["id"]));
    let long = json!({ "overlap_seconds": 8 * 24 * 3600 });
    let (status, _, problem) = ask(&server, Method::POST, &path, &[], Some(long));
    assert_eq!((status.as_u16(), text(&problem["code"])), (422, "request-malformed"));
    let (status, _, new) = ask(&server, Method::POST, &path, &[], Some(json!({ "overlap_seconds": 10 })));
    assert_eq!(status, StatusCode::CREATED, "{new}");
    assert_eq!((&new["replaces"], &new["name"], &new["scopes"]), (&old["id"], &old["name"], &old["scopes"]));
    for token in [&old["token"], &new["token"]] {
        assert_eq!(with(&server, text(token), Method::GET, "/v1/keys", None).0, StatusCode::OK);
    }
    let (status, _, problem) = ask(&server, Method::POST, &path, &[], Some(json!({})));
    assert_eq!((status.as_u16(), text(&problem["code"])), (409, "resource-conflict"));
    std::thread::sleep(Duration::from_millis(10_100));
    assert_eq!(refusal(&server, text(&old["token"])), (401, "key-expired".to_owned()));
    assert_eq!(with(&server, text(&new["token"]), Method::GET, "/v1/keys", None).0, StatusCode::OK);
}

#[test]
fn a_key_makes_no_keys_and_touches_none_but_itself() {
    let server = Server::simulated();
    user(&server, "alice", "admin");
    let one = key(&server, "alice", "one", &json!({ "scopes": ["user.write", "access.write"] }));
    let other = key(&server, "alice", "other", &json!({}));
    let token = text(&one["token"]);
    let more = json!({ "name": "more", "scopes": ["vm.read"] });
    let (status, problem) = with(&server, token, Method::POST, "/v1/keys", Some(more));
    assert_eq!((status.as_u16(), text(&problem["code"])), (403, "key-for-keys"));
    let of = |key: &Value, rest: &str| format!("/v1/keys/{}{rest}", text(&key["id"]));
    for (method, path, body) in
        [(Method::POST, of(&other, "/rotate"), Some(json!({}))), (Method::DELETE, of(&other, ""), None)]
    {
        let (status, problem) = with(&server, token, method, &path, body);
        assert_eq!((status.as_u16(), text(&problem["code"])), (403, "key-for-keys"), "{path}");
    }
    let (status, next) = with(&server, token, Method::POST, &of(&one, "/rotate"), Some(json!({})));
    assert_eq!(status, StatusCode::CREATED, "{next}");
    let token = text(&next["token"]);
    assert_eq!(with(&server, token, Method::DELETE, &of(&next, ""), None).0, StatusCode::NO_CONTENT);
    assert_eq!(refusal(&server, token), (401, "key-revoked".to_owned()));
}

#[test]
fn nobody_sees_or_touches_the_keys_of_somebody_else() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    user(&server, "bob", "operator");
    let hers = key(&server, "alice", "hers", &json!({}));
    let his = key(&server, "bob", "his", &json!({}));
    let path = format!("/v1/keys/{}", text(&hers["id"]));
    let token = text(&his["token"]);
    let (_, list) = with(&server, token, Method::GET, "/v1/keys", None);
    let names: Vec<&str> = list["items"].as_array().unwrap().iter().map(|key| text(&key["name"])).collect();
    assert_eq!(names, ["his"]);
    for (method, path, body) in [
        (Method::GET, path.clone(), None),
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/rotate"), Some(json!({}))),
        (Method::GET, "/v1/keys?user=alice".to_owned(), None),
        (Method::GET, "/v1/keys?user=*".to_owned(), None),
        // Whether or not there is such a user or key: the same answer.
        (Method::GET, "/v1/keys?user=nobody".to_owned(), None),
        (Method::GET, format!("/v1/keys/{}", uuid::Uuid::nil()), None),
    ] {
        let (status, problem) = with(&server, token, method, &path, body);
        assert_eq!((status.as_u16(), text(&problem["code"])), (403, "access-denied"), "{path}");
    }
    assert_eq!(with(&server, text(&hers["token"]), Method::GET, &path, None).0, StatusCode::OK);
}

#[test]
fn what_no_key_can_be_is_told_with_what_is_wrong() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    let of = |more: Value| {
        let mut request = json!({ "name": "ci", "user": "alice", "scopes": ["vm.read"] });
        request.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let (status, _, problem) = ask(&server, Method::POST, "/v1/keys", &[], Some(request));
        (status.as_u16(), text(&problem["code"]).to_owned())
    };
    let undescribed = (422, "request-malformed".to_owned());
    let malformed = (422, "credential-malformed".to_owned());
    assert_eq!(of(json!({ "name": "" })), undescribed);
    assert_eq!(of(json!({ "name": "ci/cd" })), malformed);
    assert_eq!(of(json!({ "scopes": [] })), undescribed);
    assert_eq!(of(json!({ "lasts_seconds": 91 * 24 * 3600 })), undescribed);
    assert_eq!(of(json!({ "lasts_seconds": 0 })), undescribed);
    assert_eq!(of(json!({ "user": null })), malformed);
    assert_eq!(of(json!({ "user": "nobody" })), (404, "resource-unknown".to_owned()));
    assert_eq!(of(json!({ "scopes": ["vm.fly"] })), (422, "request-malformed".to_owned()));
    assert_eq!(of(json!({ "addresses": ["192.0.2.1/33"] })), (422, "request-malformed".to_owned()));
    key(&server, "alice", "ci", &json!({}));
    assert_eq!(of(json!({})), (409, "resource-conflict".to_owned()));
}

#[test]
fn the_configuration_may_say_less_than_ninety_days_and_never_more() {
    let mut server = Server::prepared("kind = \"simulated\"", "");
    server.configure_more("[keys]\nlongest-days = 7\n");
    server.up(None);
    user(&server, "alice", "viewer");
    let made = key(&server, "alice", "ci", &json!({}));
    let time = |member: &str| text(&made[member]).parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("created_at").duration_until(time("expires_at")).as_hours(), 7 * 24);
    let wrong = Server::prepared("kind = \"simulated\"", "");
    wrong.configure_more("[keys]\nlongest-days = 91\n");
    let told = wrong.refuses_to_come_up();
    assert!(told.contains("config.toml:10: keys.longest-days: 91 is out of range (from 1 to 90)"), "{told}");
}

#[test]
fn when_a_key_was_used_last_is_seen_and_outlives_the_process() {
    let mut server = Server::simulated();
    user(&server, "alice", "viewer");
    let made = key(&server, "alice", "ci", &json!({}));
    let path = format!("/v1/keys/{}", text(&made["id"]));
    let used = |server: &Server| ask(server, Method::GET, &path, &[], None).2["used_at"].clone();
    assert_eq!(used(&server), Value::Null);
    let records = || server.json(&["audit", "verify"])["records"].clone();
    let before = records();
    for _ in 0..20 {
        assert_eq!(with(&server, text(&made["token"]), Method::GET, "/v1/keys", None).0, StatusCode::OK);
    }
    let until = Instant::now() + Duration::from_secs(10);
    while used(&server) == Value::Null {
        assert!(Instant::now() < until, "the use is not written down");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(records(), before, "a use is no record");
    let first = used(&server);
    assert_eq!(server.terminate(), Some(0));
    server.up(None);
    assert_eq!(used(&server), first, "once a minute, and kept");
    let list = server.ok(&["token", "list", "--user", "alice"]);
    assert!(list.contains(text(&first)) && list.contains("valid"), "{list}");
}

#[test]
fn the_verbs_print_a_key_to_stdout_and_nothing_else() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    let args = ["token", "create", "ci", "--user", "alice", "--scope", "vm.read,image.read", "--lasts", "30d"];
    let token = server.ok(&args);
    assert_eq!(token.lines().count(), 1);
    assert_eq!(with(&server, token.trim(), Method::GET, "/v1/keys", None).0, StatusCode::OK);
    let next = server.ok(&["token", "rotate", "ci", "--user", "alice", "--overlap", "1h"]);
    assert_ne!(token, next);
    let list = server.ok(&["token", "list", "--all"]);
    let states: Vec<&str> = list
        .lines()
        .skip(1)
        .flat_map(str::split_whitespace)
        .filter(|word| ["valid", "rotated"].contains(word))
        .collect();
    assert_eq!(states, ["rotated", "valid"], "{list}");
    server.ok(&["token", "revoke", "ci", "--user", "alice"]);
    assert_eq!(refusal(&server, next.trim()), (401, "key-revoked".to_owned()));
    assert_eq!(with(&server, token.trim(), Method::GET, "/v1/keys", None).0, StatusCode::OK, "only that one");
}

#[test]
fn a_key_can_do_what_its_scopes_say_and_never_more_than_its_owner() {
    let server = Server::simulated();
    user(&server, "alice", "viewer");
    user(&server, "root", "admin");
    let hers = key(&server, "alice", "hers", &json!({ "scopes": ["node.read", "user.write"] }));
    let token = text(&hers["token"]);
    let denied = |method: Method, path: &str, body: Option<Value>| {
        let (status, problem) = with(&server, token, method, path, body);
        assert_eq!((status.as_u16(), text(&problem["code"])), (403, "access-denied"), "{path}");
    };
    assert_eq!(with(&server, token, Method::GET, "/v1/nodes", None).0, StatusCode::OK);
    // What its owner may not it may not either, whatever its scopes say; and what its owner may is not in its scopes.
    denied(Method::POST, "/v1/users", Some(json!({ "name": "mallory" })));
    denied(Method::GET, "/v1/quarantines", None);
    // An administrator's key is no administrator.
    let narrow = key(&server, "root", "narrow", &json!({ "scopes": ["node.read"] }));
    let narrow = text(&narrow["token"]);
    assert_eq!(with(&server, narrow, Method::GET, "/v1/nodes", None).0, StatusCode::OK);
    for path in ["/v1/users", "/v1/audit", "/v1/quarantines"] {
        let (status, problem) = with(&server, narrow, Method::GET, path, None);
        assert_eq!((status.as_u16(), text(&problem["code"])), (403, "access-denied"), "{path}");
    }
    // What is taken from its owner is taken from it.
    let (status, _, said) = ask(&server, Method::PATCH, "/v1/users/alice", &[], Some(json!({ "role": null })));
    assert_eq!(status, StatusCode::OK, "{said}");
    denied(Method::GET, "/v1/nodes", None);
}

#[test]
fn somebody_and_a_key_of_theirs_are_one_person() {
    let server = Server::simulated();
    user(&server, "alice", "admin");
    user(&server, "bob", "admin");
    let scopes = json!({ "scopes": ["quarantine.write", "quarantine.approve", "quarantine.read"] });
    let (one, two, his) = (
        key(&server, "alice", "one", &scopes),
        key(&server, "alice", "two", &scopes),
        key(&server, "bob", "his", &scopes),
    );
    let target = json!({ "target": format!("sha256:{}", "ab".repeat(32)), "why": "test" });
    let post =
        |key: &Value, path: &str, body: Option<Value>| with(&server, text(&key["token"]), Method::POST, path, body);
    let (status, added) = post(&one, "/v1/quarantines", Some(target));
    assert_eq!(status, StatusCode::CREATED, "{added}");
    let path = format!("/v1/quarantines/{}/release", text(&added["id"]));
    let (status, asked) = post(&one, &path, Some(json!({ "why": "test", "lasts_seconds": 60 })));
    assert_eq!(status, StatusCode::CREATED, "{asked}");
    let path = format!("/v1/approvals/{}/approve", text(&asked["id"]));
    let (status, problem) = post(&two, &path, None);
    assert_eq!((status.as_u16(), text(&problem["code"])), (403, "second-person-required"));
    assert_eq!(post(&his, &path, None).0, StatusCode::OK);
}
