//! QEMU's monitor protocol (QMP): commands in, their answers and QEMU's events out, over one Unix socket.
//! The guest's agent speaks almost the same, and is served by the same lines.
//!
//! An answer finds its question by its id. A line has a bound, a command has a deadline, and events never wait for
//! answers. What QEMU says is believed about the machine, and about nothing else.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::types::limits::MONITOR_LINE_BYTES;

/// How long QEMU may take for an answer. Everything that takes longer is a job, which is asked for again and again.
pub const ANSWER: Duration = Duration::from_secs(30);
/// When a guest's agent that says nothing is asked for its number again: several times before any request is late.
const SYNC_AGAIN: Duration = Duration::from_secs(1);
/// Events that wait for whoever reads them; a guest that makes more loses some, and the state is asked for anew.
const EVENTS: usize = 1024;

/// A monitor that is connected. Clones share it; when QEMU goes away every question fails.
#[derive(Debug, Clone)]
pub struct Qmp {
    wire: Arc<Wire>,
}

/// Something that QEMU tells unasked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Its name, as `SHUTDOWN`.
    pub event: String,
    /// What is said of it.
    #[serde(default)]
    pub data: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed.
    #[error("the monitor's socket failed")]
    Socket(#[from] io::Error),
    /// The other side hung up.
    #[error("the monitor hung up")]
    Gone,
    /// No answer came in time.
    #[error("the monitor did not answer `{0}` in time")]
    Late(String),
    /// QEMU says no.
    #[error("QEMU refuses `{command}`: {text}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's class of error.
        class: String,
        /// QEMU's words.
        text: String,
    },
    /// The other side does not speak the protocol.
    #[error("the monitor sent what is no message: {0}")]
    Malformed(String),
}

/// One line of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line, with QEMU's version.
    Greeting {
        /// Major, minor and micro number.
        version: (u64, u64, u64),
    },
    /// An answer.
    Return {
        /// The question's id, where it had one.
        id: Option<u64>,
        /// What was answered.
        value: Value,
    },
    /// A refusal.
    Error {
        /// The question's id, where it had one.
        id: Option<u64>,
        /// The class of error.
        class: String,
        /// The words.
        text: String,
    },
    /// An event.
    Event(Event),
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// [`QmpError::Malformed`] where it is none of the four.
    pub fn parse(line: &[u8]) -> Result<Self, QmpError> {
        let value: Value = serde_json::from_slice(line).map_err(|error| QmpError::Malformed(error.to_string()))?;
        let id = value.get("id").and_then(Value::as_u64);
        if let Some(greeting) = value.get("QMP") {
            let part = |name| greeting.pointer(&format!("/version/qemu/{name}")).and_then(Value::as_u64);
            let (Some(major), Some(minor), Some(micro)) = (part("major"), part("minor"), part("micro")) else {
                return Err(QmpError::Malformed("a greeting without a version".to_owned()));
            };
            return Ok(Self::Greeting { version: (major, minor, micro) });
        }
        if let Some(error) = value.get("error") {
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            return Ok(Self::Error { id, class: text("class"), text: text("desc") });
        }
        if let Some(answer) = value.get("return") {
            return Ok(Self::Return { id, value: answer.clone() });
        }
        if value.get("event").is_some() {
            let event = serde_json::from_value(value).map_err(|error| QmpError::Malformed(error.to_string()))?;
            return Ok(Self::Event(event));
        }
        Err(QmpError::Malformed("neither greeting, answer, error nor event".to_owned()))
    }
}

/// A question that waits: what was asked, and who is told.
type Waiting = HashMap<u64, oneshot::Sender<Result<Value, (String, String)>>>;

#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    /// One writer at a time: a question is one line.
    writing: tokio::sync::Mutex<()>,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

impl Qmp {
    /// Connects to a monitor and agrees on its capabilities. The receiver ends when QEMU does.
    ///
    /// # Errors
    /// [`QmpError`] where nobody listens, or what listens is no monitor.
    pub async fn connect(path: &Path, within: Duration) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        let stream = UnixStream::connect(path).await?;
        let mut lines = Lines::default();
        let wire = Arc::new(Wire::new(stream));
        let greeting = timeout(within, lines.next(&wire.stream)).await.map_err(|_| late("greeting"))??;
        let Message::Greeting { .. } = Message::parse(&greeting)? else {
            return Err(QmpError::Malformed("the first line is no greeting".to_owned()));
        };
        let (sender, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(read(Arc::clone(&wire), lines, sender));
        let qmp = Self { wire };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok((qmp, receiver))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`QmpError::Refused`] where QEMU says no; the others where there is no answer.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.wire.ask(command, arguments, None, ANSWER).await
    }

    /// Asks, and hands a descriptor over with the question.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn execute_with(&self, command: &str, arguments: Value, fd: BorrowedFd<'_>) -> Result<Value, QmpError> {
        self.wire.ask(command, arguments, Some(fd), ANSWER).await
    }

    /// Starts a job and waits until it is through, however long it takes.
    ///
    /// # Errors
    /// [`QmpError::Refused`] with the job's own words where it failed.
    pub async fn job(&self, command: &str, mut arguments: Value) -> Result<(), QmpError> {
        let id = format!("job{}", self.wire.next.fetch_add(1, Ordering::Relaxed));
        if let Some(members) = arguments.as_object_mut() {
            members.insert("job-id".to_owned(), json!(id));
        }
        self.execute(command, arguments).await?;
        let mut pause = Duration::from_millis(2);
        loop {
            let jobs = self.execute("query-jobs", json!({})).await?;
            let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job.get("id") == Some(&json!(id))));
            let Some(job) = job else { return Err(QmpError::Malformed(format!("the job of `{command}` is lost"))) };
            if job.get("status") == Some(&json!("concluded")) {
                let failure = job.get("error").and_then(Value::as_str).map(str::to_owned);
                self.execute("job-dismiss", json!({ "id": id })).await?;
                return match failure {
                    Some(text) => Err(QmpError::Refused { command: command.to_owned(), class: "Job".to_owned(), text }),
                    None => Ok(()),
                };
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// One exchange with the guest's agent: it has no greeting and no ids, so it is made to say a number first, by which
/// what an earlier client left is told apart.
///
/// # Errors
/// As [`Qmp::execute`]; late where the guest has no agent.
pub async fn guest_agent(path: &Path, command: &str, within: Duration, number: u32) -> Result<Value, QmpError> {
    let stream = UnixStream::connect(path).await?;
    let talk = async {
        let mut lines = Lines::default();
        let sync = json!({ "execute": "guest-sync", "arguments": { "id": number } });
        let said =
            |line: &[u8]| matches!(Message::parse(line), Ok(Message::Return { value, .. }) if value == json!(number));
        // A guest may lose what is said while it takes note that somebody is there: then it is asked again.
        let mut again = 0_usize;
        loop {
            write(&stream, format!("{sync}\n").as_bytes(), None).await?;
            let heard = async {
                while !said(&lines.next(&stream).await?) {}
                Ok::<(), QmpError>(())
            };
            match timeout(SYNC_AGAIN, heard).await {
                Ok(heard) => break heard?,
                Err(_) => again += 1,
            }
        }
        write(&stream, format!("{}\n", json!({ "execute": command })).as_bytes(), None).await?;
        loop {
            let line = lines.next(&stream).await?;
            // It did hear the first time, and was slow.
            if again > 0 && said(&line) {
                again -= 1;
                continue;
            }
            return match Message::parse(&line)? {
                Message::Return { value, .. } => Ok(value),
                Message::Error { class, text, .. } => {
                    Err(QmpError::Refused { command: command.to_owned(), class, text })
                }
                Message::Greeting { .. } | Message::Event(_) => Err(QmpError::Malformed("no answer".to_owned())),
            };
        }
    };
    timeout(within, talk).await.map_err(|_| late(command))?
}

impl Wire {
    fn new(stream: UnixStream) -> Self {
        let (writing, waiting) = (tokio::sync::Mutex::new(()), Mutex::default());
        Self { stream, writing, waiting, next: AtomicU64::new(1) }
    }

    async fn ask(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
        within: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments, "id": id }));
        let exchange = async {
            {
                let _one_at_a_time = self.writing.lock().await;
                write(&self.stream, line.as_bytes(), fd).await?;
            }
            match receiver.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err((class, text))) => Err(QmpError::Refused { command: command.to_owned(), class, text }),
                Err(_) => Err(QmpError::Gone),
            }
        };
        let answer = timeout(within, exchange).await.unwrap_or_else(|_| Err(late(command)));
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        answer
    }

    fn settle(&self, id: Option<u64>, answer: Result<Value, (String, String)>) {
        let Some(id) = id else { return };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(sender) = waiting {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    }
}

fn late(command: &str) -> QmpError {
    QmpError::Late(command.to_owned())
}

/// Reads until QEMU hangs up, and tells everybody who waits then.
async fn read(wire: Arc<Wire>, mut lines: Lines, events: mpsc::Sender<Event>) {
    while let Ok(line) = lines.next(&wire.stream).await {
        match Message::parse(&line) {
            Ok(Message::Return { id, value }) => wire.settle(id, Ok(value)),
            Ok(Message::Error { id, class, text }) => wire.settle(id, Err((class, text))),
            Ok(Message::Event(event)) => {
                if events.try_send(event).is_err() && events.is_closed() {
                    break;
                }
            }
            Ok(Message::Greeting { .. }) => {}
            Err(_) => break,
        }
    }
    wire.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Writes all of `bytes`, the descriptor with the first of them.
async fn write(stream: &UnixStream, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut rest = bytes;
    let mut fds = fd.into_iter().collect::<Vec<_>>();
    while !rest.is_empty() {
        let count = stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !fds.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(&fds));
                }
                sendmsg(stream.as_fd(), &[io::IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)
                    .map_err(io::Error::from)
            })
            .await?;
        fds.clear();
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Splits what arrives into lines of a bounded length.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no end of a line.
    searched: usize,
}

impl Lines {
    async fn next(&mut self, stream: &UnixStream) -> Result<Vec<u8>, QmpError> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MONITOR_LINE_BYTES {
                return Err(QmpError::Malformed(format!("a line of more than {MONITOR_LINE_BYTES} bytes")));
            }
            stream.readable().await?;
            let mut block = [0; 16 * 1024];
            match stream.try_read(&mut block) {
                Ok(0) => return Err(QmpError::Gone),
                Ok(count) => self.buffer.extend_from_slice(block.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn a_session_as_qemu_has_it_is_understood() {
        let session = include_str!("../../../../fixtures/qmp/session.jsonl");
        let messages: Vec<Message> = session.lines().map(|line| Message::parse(line.as_bytes()).unwrap()).collect();
        assert_eq!(messages[0], Message::Greeting { version: (10, 0, 2) });
        assert_eq!(messages[1], Message::Return { id: Some(1), value: json!({}) });
        let Message::Event(shutdown) = &messages[2] else { panic!("an event") };
        assert_eq!((shutdown.event.as_str(), &shutdown.data["reason"]), ("SHUTDOWN", &json!("guest-reset")));
        assert!(matches!(&messages[3], Message::Event(event) if event.data.is_null()));
        assert!(matches!(&messages[5], Message::Error { id: Some(3), class, .. } if class == "DeviceNotFound"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for line in ["", "{", "[]", "{}", "null", r#"{"QMP":{}}"#, r#"{"event":5}"#] {
            assert!(matches!(Message::parse(line.as_bytes()), Err(QmpError::Malformed(_))), "{line}");
        }
    }

    /// A monitor that greets, agrees, and then does as told with the next question.
    fn monitor(then: &'static str) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}}}"#;
            stream
                .get_mut()
                .write_all(format!("{greeting}\n{{\"return\": {{}}, \"id\": 1}}\n").as_bytes())
                .await
                .unwrap();
            let mut line = String::new();
            for _ in 0..3_u8 {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if line.contains("query") {
                    stream.get_mut().write_all(then.as_bytes()).await.unwrap();
                }
                if line.contains("other") {
                    stream.get_mut().write_all(b"{\"return\": \"other\", \"id\": 3}\n").await.unwrap();
                }
            }
        });
        (directory, path)
    }

    #[tokio::test]
    async fn answers_find_their_questions_whatever_comes_between() {
        let (_directory, path) = monitor("{\"event\": \"STOP\"}\n");
        let (qmp, mut events) = Qmp::connect(&path, ANSWER).await.unwrap();
        // The first is never answered; the second is, and gets its own answer.
        let first = tokio::spawn({
            let qmp = qmp.clone();
            async move { qmp.execute("query-first", json!({})).await }
        });
        assert_eq!(events.recv().await.unwrap().event, "STOP");
        assert_eq!(qmp.execute("other", json!({})).await.unwrap(), json!("other"));
        // The monitor has gone after that, and who still waits is told.
        assert!(matches!(first.await.unwrap(), Err(QmpError::Gone | QmpError::Socket(_))));
        assert!(events.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_monitor_that_talks_nonsense_is_left() {
        let (_directory, path) = monitor("nonsense\n");
        let (qmp, _events) = Qmp::connect(&path, ANSWER).await.unwrap();
        assert!(matches!(qmp.execute("query-x", json!({})).await, Err(QmpError::Gone)));
    }

    #[tokio::test]
    async fn an_agent_that_loses_a_question_or_is_slow_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = async {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut asked = Vec::new();
            while asked.last().is_none_or(|line: &String| line.contains("guest-sync")) {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                asked.push(line);
                // The first is lost; the second is answered when the third is there, and that one late.
                if asked.len() == 3 {
                    stream.get_mut().write_all(b"{\"return\": 6}\n{\"return\": 7}\n").await.unwrap();
                }
            }
            stream.get_mut().write_all(b"{\"return\": 7}\n{\"return\": {}}\n").await.unwrap();
            asked.len()
        };
        let (answer, asked) = tokio::join!(guest_agent(&path, "guest-ping", Duration::from_secs(5), 7), agent);
        assert_eq!((answer.unwrap(), asked), (json!({}), 4));
    }

    #[tokio::test]
    async fn nothing_that_is_no_monitor_is_connected_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp.sock");
        assert!(matches!(Qmp::connect(&path, ANSWER).await, Err(QmpError::Socket(_))));
        let _silent = UnixListener::bind(&path).unwrap();
        let late = Qmp::connect(&path, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(QmpError::Late(_))));
    }
}
