//! A small HTTP server on loopback: requests in, whatever a function answers out. It ends with the test's process.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What was asked.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// Header fields, by their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Body {
        status: u16,
        kind: &'static str,
        body: Vec<u8>,
        location: Option<String>,
    },
    /// Another place to ask.
    Redirect(String),
    /// A body without an end.
    Endless,
    /// One byte every tenth of a second, without an end.
    Trickle,
    /// The connection breaks in the middle of the body.
    Broken,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Body { status, kind: "application/json", body: body.to_string().into_bytes(), location: None }
    }
}

/// Serves at an address of its own, which is returned without a slash at its end.
pub(crate) fn serve(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            // A client that goes away in the middle is the point of some tests.
            thread::spawn(move || drop(exchange(stream.unwrap(), answer.as_ref())));
        }
    });
    url
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn exchange(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Reply) -> io::Result<()> {
    let request = read(&mut BufReader::new(stream.try_clone()?))?;
    match answer(&request) {
        Reply::Body { status, kind, body, location } => {
            let location = location.map_or_else(String::new, |place| format!("Location: {place}\r\n"));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n{location}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Redirect(place) => {
            write!(stream, "HTTP/1.1 307 -\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 65_536])?;
            }
        }
        Reply::Trickle => {
            write!(stream, "HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        Reply::Broken => write!(stream, "HTTP/1.1 200 -\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{{"),
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body })
}
