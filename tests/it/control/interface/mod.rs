//! The interface as whoever speaks HTTP sees it: against its own description, against nonsense, and against those who
//! look for the ten usual mistakes.

mod admissions;
mod fuzz;
mod kubernetes;
mod owasp;
mod schemathesis;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::Server;

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body));
        })
    }

    /// It is a problem of this status, with this code.
    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.fields["content-type"], "application/problem+json", "{text}");
        assert_eq!(self.json()["code"], code, "{text}");
    }
}

/// Sends bytes as they are, and reads one answer; none where the server closes without one.
fn raw(server: &Server, request: &[u8]) -> Option<Answer> {
    raw_within(server, request, Duration::from_secs(30))
}

/// The same, where nothing may come because the server waits for the rest.
fn raw_within(server: &Server, request: &[u8], patience: Duration) -> Option<Answer> {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    // A server that has refused already need not read to the end.
    let _ = stream.write_all(request);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Answer { status, fields, body: all[end + 4..].to_vec() })
}

/// One request, as a client that knows its manners sends it.
fn ask(server: &Server, method: &str, path: &str, fields: &[(&str, &str)], body: Option<&Value>) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: debvisor\r\nconnection: close\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    let mut bytes = Vec::new();
    if let Some(body) = body {
        bytes = body.to_string().into_bytes();
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", bytes.len());
    }
    let mut request = (head + "\r\n").into_bytes();
    request.extend(bytes);
    raw(server, &request).unwrap_or_else(|| panic!("no answer to {method} {path}: {}", server.log()))
}

/// Makes a user of this built-in role, or of none; what a program of theirs sends as `Authorization`.
fn key_of(server: &Server, name: &str, role: Option<&str>) -> String {
    let made = ask(server, "POST", "/v1/users", &[], Some(&json!({ "name": name, "role": role })));
    assert_eq!(made.status, 201, "{}", made.json());
    let wanted = json!({ "name": "all", "user": name, "scopes": permissions() });
    let key = ask(server, "POST", "/v1/keys", &[], Some(&wanted));
    assert_eq!(key.status, 201, "{}", key.json());
    format!("Bearer {}", key.json()["token"].as_str().unwrap())
}

/// Every permission that there is.
fn permissions() -> Vec<Value> {
    description()["components"]["schemas"]["Permission"]["enum"].as_array().unwrap().clone()
}

/// The published description.
fn description() -> Value {
    serde_json::from_str(debvisor::api::openapi()).unwrap()
}
