//! A small HTTP server on loopback that serves a repository, well or badly.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::repository::Files;

/// How one file is answered for, where not with its bytes.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// Another status and no body.
    Status(u16),
    /// A body without an end.
    Endless,
    /// Nothing, ever.
    Silence,
    /// One byte every tenth of a second, well within any read timeout.
    Trickle,
}

/// A running server; it ends with the test's process.
pub(super) struct Server {
    /// Its base URL, without a slash at its end.
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `files` at an address of its own.
    pub(super) fn start(files: Files, answers: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let answers: BTreeMap<String, Answer> =
            answers.iter().map(|(name, answer)| ((*name).to_owned(), *answer)).collect();
        let shared = Arc::new((files, answers));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, log) = (Arc::clone(&shared), Arc::clone(&log));
                // A client that goes away in the middle is the point of some tests.
                thread::spawn(move || drop(answer(stream.unwrap(), &shared.0, &shared.1, &log)));
            }
        });
        Self { url, asked }
    }

    /// What was asked for so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Files,
    answers: &BTreeMap<String, Answer>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    log.lock().unwrap().push(name.clone());
    match (answers.get(&name), files.get(&name)) {
        (Some(Answer::Status(status)), _) => {
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        (Some(Answer::Endless), _) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 65_536])?;
            }
        }
        (Some(Answer::Silence), _) => {
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        (Some(Answer::Trickle), _) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        (None, Some(bytes)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
            stream.write_all(bytes)
        }
        (None, None) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
