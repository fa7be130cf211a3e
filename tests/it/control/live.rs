//! What goes on: events and consoles by WebSocket, and the verbs that follow them, against the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error, Message, http};

use super::server::{Server, images, sign};

const LONG: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<UnixStream>;

/// Opens a WebSocket at the server's socket; a refusal is its status and its problem's code.
async fn open(socket: &std::path::Path, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Option<(u16, String)>> {
    let stream = UnixStream::connect(socket).await.map_err(|_| None)?;
    let mut request = http::Request::builder()
        .uri(format!("ws://debvisor{path}"))
        .header("host", "debvisor")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body: Value =
                serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            Err(Some((response.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned())))
        }
        Err(_) => Err(None),
    }
}

async fn next(socket: &mut Socket) -> Option<Message> {
    loop {
        match tokio::time::timeout(LONG, socket.next()).await.expect("something is said") {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(message)) => return Some(message),
            _ => return None,
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn with_a_machine() -> Server {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel"]);
    server
}

#[test]
fn a_reader_sees_every_event_once_although_the_server_is_killed_again_and_again() {
    let mut server = with_a_machine();
    let done = Arc::new(AtomicBool::new(false));
    let socket = server.socket();
    let stop = done.clone();
    let reader = std::thread::spawn(move || {
        runtime().block_on(async {
            let (mut seen, mut after, mut times) = (Vec::<i64>::new(), 0_i64, 0);
            let mut until: Option<Instant> = None;
            loop {
                if stop.load(Ordering::Relaxed)
                    && *until.get_or_insert_with(Instant::now) + Duration::from_secs(2) < Instant::now()
                {
                    return (seen, times);
                }
                let Ok(mut live) = open(&socket, &format!("/v1/events/live?after={after}"), &[]).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                times += 1;
                while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(2), live.next()).await {
                    let Message::Text(text) = message else { continue };
                    let value: Value = serde_json::from_str(&text).unwrap();
                    if let Some(cursor) = value["cursor"].as_i64() {
                        assert!(cursor >= after);
                        after = cursor;
                    } else {
                        after = value["id"].as_i64().unwrap();
                        seen.push(after);
                    }
                }
            }
        })
    });
    for round in 0..4 {
        server.ok(&["vm", "start", "web"]);
        // Asked for, and killed before anybody knows what came of it.
        let mut asked = server.command(&["vm", "stop", "web", "--force"]);
        let mut asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 * round));
        server.kill();
        asked.wait().unwrap();
        server.up(None);
        server.ok(&["vm", "stop", "web", "--force"]);
    }
    let all: Vec<i64> = server.events("").iter().map(|event| event["id"].as_i64().unwrap()).collect();
    done.store(true, Ordering::Relaxed);
    let (mut seen, times) = reader.join().unwrap();
    // What the control plane did since the list was read is later than all of it.
    seen.truncate(all.len());
    assert_eq!(seen, all, "in {times} connections");
    assert!(times >= 5, "it was connected {times} times");
}

#[test]
fn what_may_not_be_followed_is_a_problem_document() {
    let server = with_a_machine();
    let socket = server.socket();
    runtime().block_on(async {
        let refused =
            async |path: &str, headers: &[(&str, &str)]| open(&socket, path, headers).await.unwrap_err().unwrap();
        let foreign = (403, "origin-foreign".to_owned());
        assert_eq!(refused("/v1/events/live", &[("origin", "https://evil.example"), ("cookie", "s=1")]).await, foreign);
        assert_eq!(refused("/v1/vms/web/console/live", &[("origin", "https://evil.example")]).await, foreign);
        assert_eq!(refused("/v1/events/live?after=4711", &[]).await, (410, "cursor-unknown".to_owned()));
        assert_eq!(refused("/v1/events/live?after=x", &[]).await, (400, "request-malformed".to_owned()));
        assert_eq!(refused("/v1/vms/nobody/console/live", &[]).await, (404, "resource-unknown".to_owned()));
        assert_eq!(refused("/v1/vms/web/console/live", &[]).await, (409, "resource-conflict".to_owned()), "it is off");
        // The own page may.
        let mine = open(&socket, "/v1/events/live", &[("origin", "https://debvisor"), ("cookie", "s=1")]).await;
        assert!(mine.is_ok());
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).build().unwrap();
        let plain = client.get("http://debvisor/v1/events/live").send().await.unwrap();
        assert_eq!(plain.status(), 426);
        // One caller has so many, and one that is closed makes room.
        let mut open_ones = Vec::new();
        let full = loop {
            match open(&socket, "/v1/events/live", &[]).await {
                Ok(one) => open_ones.push(one),
                Err(refusal) => break refusal.unwrap(),
            }
        };
        assert_eq!(full, (429, "live-connections".to_owned()));
        assert!(open_ones.len() >= 60, "{}", open_ones.len());
    });
}

#[test]
fn a_message_that_is_too_large_ends_the_connection_and_nothing_else() {
    let server = Server::simulated();
    runtime().block_on(async {
        let mut live = open(&server.socket(), "/v1/events/live", &[]).await.unwrap();
        assert!(next(&mut live).await.is_some());
        let _ = live.send(Message::Binary(vec![0; 1024 * 1024].into())).await;
        assert!(next(&mut live).await.is_none_or(|message| message.is_close()));
        assert!(open(&server.socket(), "/v1/events/live", &[]).await.is_ok());
    });
}

#[test]
fn when_the_server_is_stopped_whoever_follows_is_told_to_come_again() {
    let mut server = with_a_machine();
    server.ok(&["vm", "start", "web"]);
    let runtime = runtime();
    let socket = server.socket();
    let (mut events, mut console) = runtime.block_on(async {
        let mut events = open(&socket, "/v1/events/live", &[]).await.unwrap();
        let mut console = open(&socket, "/v1/vms/web/console/live", &[]).await.unwrap();
        assert!(next(&mut events).await.is_some() && next(&mut console).await.is_some());
        (events, console)
    });
    let began = Instant::now();
    let ending = std::thread::spawn(move || server.terminate());
    runtime.block_on(async {
        for live in [&mut events, &mut console] {
            let Some(Message::Close(Some(frame))) = next(live).await else { panic!("a close") };
            assert_eq!(u16::from(frame.code), 1012, "{frame}");
        }
    });
    assert_eq!(ending.join().unwrap(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn several_are_at_one_console_and_are_told_when_the_machine_ends() {
    let server = with_a_machine();
    server.ok(&["vm", "start", "web"]);
    runtime().block_on(async {
        let path = "/v1/vms/web/console/live";
        let mut one = open(&server.socket(), path, &[]).await.unwrap();
        let greeting = next(&mut one).await.unwrap().into_data();
        assert!(greeting.starts_with(b"web is simulated"), "{greeting:?}");
        one.send(Message::Binary("hello".into())).await.unwrap();
        assert_eq!(next(&mut one).await.unwrap().into_data(), "hello");
        let mut two = open(&server.socket(), path, &[]).await.unwrap();
        let before = next(&mut two).await.unwrap().into_data();
        assert!(before.ends_with(b"hello"), "who comes later is shown what was said: {before:?}");
        let mut three = open(&server.socket(), &format!("{path}?last=2"), &[]).await.unwrap();
        assert_eq!(next(&mut three).await.unwrap().into_data(), "lo");
        two.send(Message::Binary(" you".into())).await.unwrap();
        for live in [&mut one, &mut two, &mut three] {
            assert_eq!(next(live).await.unwrap().into_data(), " you");
        }
        server.ok(&["vm", "stop", "web"]);
        for live in [&mut one, &mut two, &mut three] {
            let Some(Message::Close(Some(frame))) = next(live).await else { panic!("an end") };
            assert_eq!(u16::from(frame.code), 1000);
            assert!(frame.reason.contains("machine web has ended"), "{frame}");
        }
    });
}

#[test]
fn the_console_of_a_real_guest_is_shared_and_ends_with_it() {
    let guest = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest");
    assert!(guest.join("vmlinux").exists(), "there is no guest in target/guest: scripts/needs.sh test builds it");
    let server = Server::new("kind = \"qemu\"\naccelerator = \"tcg\"\nboot-id = \"0\"", "");
    for name in ["vmlinux", "initrd"] {
        let image = server.dir.path().join(name);
        std::fs::copy(guest.join(name), &image).unwrap();
        sign(images(), &image);
        let kind = if name == "vmlinux" { "kernel" } else { "initrd" };
        server.ok(&["image", "import", image.to_str().unwrap(), "--kind", kind]);
    }
    let made = ["vm", "create", "web", "--memory", "192M", "--kernel", "vmlinux", "--initrd", "initrd"];
    server.ok(&[&made[..], &["--cmdline", "console=ttyS0 quiet"]].concat());
    server.ok(&["vm", "start", "web"]);
    runtime().block_on(async {
        let path = "/v1/vms/web/console/live";
        let mut one = open(&server.socket(), path, &[]).await.unwrap();
        let mut two = open(&server.socket(), path, &[]).await.unwrap();
        let heard = async |live: &mut Socket, what: &str| {
            let mut all = String::new();
            while !all.contains(what) {
                let message = next(live).await.unwrap_or_else(|| panic!("{what} was not heard: {all}"));
                assert!(!message.is_close(), "{what} was not heard: {all}");
                all.push_str(&String::from_utf8_lossy(&message.into_data()));
            }
            all
        };
        let booted = heard(&mut one, "debvisor-guest-ready").await;
        assert_eq!(booted.matches("debvisor-guest-ready").count(), 1, "the log and the line agree: {booted}");
        heard(&mut two, "debvisor-guest-ready").await;
        one.send(Message::Binary("echo from-one\n".into())).await.unwrap();
        heard(&mut one, "echo from-one").await;
        heard(&mut two, "echo from-one").await;
        let mut three = open(&server.socket(), path, &[]).await.unwrap();
        assert!(heard(&mut three, "from-one").await.contains("debvisor-guest-ready"), "who comes later sees the boot");
        server.ok(&["vm", "stop", "web", "--force"]);
        for live in [&mut one, &mut two, &mut three] {
            let frame = loop {
                match next(live).await {
                    Some(Message::Close(Some(frame))) => break frame,
                    Some(_) => {}
                    None => panic!("an end with a reason"),
                }
            };
            assert_eq!(u16::from(frame.code), 1000, "{frame}");
            assert!(frame.reason.contains("machine web has ended"), "{frame}");
        }
    });
}

/// A verb at a terminal: what it is typed and what it shows go through a pipe of ours.
pub(super) struct Terminal {
    child: Child,
    shown: Arc<std::sync::Mutex<String>>,
}

impl Terminal {
    fn run(server: &Server, args: &[&str]) -> Self {
        let socket = server.socket();
        Self::start(args, &server.config_home(), &[("DEBVISOR_SOCKET", socket.to_str().unwrap())])
    }

    pub(super) fn start(args: &[&str], home: &std::path::Path, variables: &[(&str, &str)]) -> Self {
        let line = format!("stty cols 100 rows 24; exec {} {}", env!("CARGO_BIN_EXE_debvisor"), args.join(" "));
        let mut command = Command::new("script");
        for name in ["SOCKET", "CONTEXT", "SERVER", "TOKEN", "CA"] {
            command.env_remove(format!("DEBVISOR_{name}"));
        }
        let mut child = command
            .args(["-qfec", &line, "/dev/null"])
            .env("XDG_CONFIG_HOME", home)
            .env("SHELL", "/bin/sh")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let shown = Arc::new(std::sync::Mutex::new(String::new()));
        let kept = shown.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut piece) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Self { child, shown }
    }

    pub(super) fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    pub(super) fn until(&self, what: &str, is: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !is(&self.shown()) {
            assert!(began.elapsed() < LONG, "{what} is not shown: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn type_in(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys).unwrap();
        stdin.flush().unwrap();
    }

    pub(super) fn ends(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.shown());
            }
            assert!(began.elapsed() < LONG, "it does not end: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_console_at_a_terminal_passes_keys_on_and_ends_at_its_key() {
    let server = with_a_machine();
    server.ok(&["vm", "start", "web"]);
    let mut terminal = Terminal::run(&server, &["vm", "console", "web"]);
    terminal.until("the greeting", |shown| shown.contains("web is simulated"));
    // Ctrl-C is a key for the guest, and does not end the verb.
    terminal.type_in(b"typed\x03more");
    terminal.until("what was typed", |shown| shown.contains("typed\x03more"));
    terminal.type_in(b"\x1d");
    let (code, shown) = terminal.ends();
    assert_eq!(code, Some(0), "{shown:?}");
    // Another key, when the other one is wanted by the guest.
    let mut terminal = Terminal::run(&server, &["vm", "console", "web", "--escape", "^q"]);
    terminal.until("the greeting", |shown| shown.contains("^Q ends it"));
    terminal.type_in(b"[\x1d]");
    terminal.until("the other key", |shown| shown.contains("[\x1d]"));
    server.ok(&["vm", "stop", "web"]);
    let (code, shown) = terminal.ends();
    assert_eq!(code, Some(0), "{shown:?}");
    assert!(shown.contains("machine web has ended"), "{shown:?}");
}

#[test]
fn a_watched_list_is_drawn_over_at_a_terminal() {
    let server = with_a_machine();
    let terminal = Terminal::run(&server, &["vm", "list", "--watch"]);
    terminal.until("the list", |shown| shown.contains("web") && shown.contains("stopped"));
    server.ok(&["vm", "start", "web"]);
    terminal.until("the change", |shown| shown.contains("running"));
    let shown = terminal.shown();
    assert!(shown.contains("\x1b[2A\r\x1b[J"), "two lines are drawn over: {shown:?}");
}

/// A verb that goes on, line by line.
struct Following {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    fn run(server: &Server, args: &[&str]) -> Self {
        Self::of(server.command(args).stderr(Stdio::inherit()))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("a line comes")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watched_list_is_appended_to_where_nobody_looks_and_goes_on_over_a_restart() {
    let mut server = with_a_machine();
    let list = Following::run(&server, &["vm", "list", "--watch"]);
    let documents = Following::run(&server, &["vm", "list", "--watch", "--format", "json"]);
    let shown = Following::run(&server, &["vm", "show", "web", "--watch", "--format", "json"]);
    assert!(list.line().contains("NAME"));
    assert!(list.line().contains("stopped"));
    assert_eq!(documents.json()["name"], "web");
    assert_eq!(shown.json()["power"], "stopped");
    server.kill();
    server.up(None);
    server.ok(&["vm", "start", "web"]);
    let until = |what: &dyn Fn() -> bool| (0..20).any(|_| what());
    assert!(until(&|| list.line().contains("running")), "after the restart");
    assert!(until(&|| documents.json()["observed"]["power"] == "running"));
    assert!(until(&|| shown.json()["observed"]["power"] == "running"));
    server.ok(&["vm", "delete", "web"]);
    assert!(until(&|| list.line().ends_with("deleted")));
    assert!(until(&|| documents.json()["deleted"] == true));
}

#[test]
fn followed_events_are_each_told_once_over_a_restart() {
    let mut server = with_a_machine();
    let events = Following::run(&server, &["event", "list", "--follow", "--kind", "vm.", "--format", "json"]);
    assert_eq!(events.json()["kind"], "vm.created");
    server.ok(&["vm", "start", "web"]);
    server.kill();
    server.up(None);
    server.ok(&["vm", "stop", "web"]);
    let wanted = server.events("vm.");
    let mut told = vec![wanted[0].clone()];
    while told.len() < wanted.len() {
        told.push(events.json());
    }
    assert_eq!(told, wanted);
}

#[test]
fn who_looks_on_is_told_that_the_server_ends_and_goes_on_when_it_is_back() {
    let mut server = with_a_machine();
    server.ok(&["vm", "start", "web"]);
    let (said, hushed) = (server.dir.path().join("said"), server.dir.path().join("hushed"));
    let log = |path: &std::path::Path| std::fs::File::create(path).unwrap();
    let mut command = server.command(&["event", "list", "--follow", "--kind", "vm.", "--format", "json"]);
    let events = Following::of(command.stderr(log(&said)));
    let mut command = server.command(&["vm", "list", "--watch"]);
    let list = Following::of(command.stderr(Stdio::inherit()));
    let mut console = Terminal::run(&server, &["vm", "console", "web"]);
    console.until("the greeting", |shown| shown.contains("web is simulated"));
    let wanted = server.events("vm.");
    let mut told: Vec<Value> = wanted.iter().map(|_| events.json()).collect();
    assert!(list.line().contains("NAME") && list.line().contains("running"));

    assert_eq!(server.terminate(), Some(0));
    console.until("the end", |shown| shown.contains("[the server ends; it is opened again]"));
    server.up(None);
    console.until("the console again", |shown| shown.contains("[the console is open again]"));
    console.type_in(b"typed");
    console.until("what is typed", |shown| shown.contains("typed"));
    server.ok(&["vm", "stop", "web"]);
    assert!(console.ends().1.contains("machine web has ended"));
    // Whatever happened meanwhile is told once.
    let wanted = server.events("vm.");
    while told.len() < wanted.len() {
        told.push(events.json());
    }
    assert_eq!(told, wanted);
    assert!((0..20).any(|_| list.line().contains("stopped")), "after the restart");
    let said = std::fs::read_to_string(said).unwrap();
    assert_eq!(said.matches("the server closed the connection (1012: ").count(), 1, "{said}");
    assert_eq!(said.matches("the connection is open again").count(), 1, "{said}");
    // Who wants to hear nothing hears nothing.
    let mut command = server.command(&["event", "list", "--follow", "--kind", "vm.", "--quiet", "--format", "json"]);
    let quiet = Following::of(command.stderr(log(&hushed)));
    std::thread::sleep(Duration::from_millis(500));
    server.terminate();
    server.up(None);
    server.ok(&["vm", "start", "web"]);
    let wanted = server.events("vm.");
    assert_eq!(wanted.iter().map(|_| quiet.json()).collect::<Vec<_>>(), wanted);
    assert_eq!(std::fs::read_to_string(hushed).unwrap(), "");
}

#[test]
fn a_table_without_its_head_is_rows_alone() {
    let server = with_a_machine();
    let with = server.ok(&["vm", "list"]);
    let without = server.ok(&["vm", "list", "--no-headers"]);
    assert_eq!(with.lines().count(), 2);
    assert_eq!(without.lines().count(), 1);
    assert!(without.contains("web") && !without.contains("NAME"));
    assert_eq!(server.ok(&["image", "list", "--no-headers"]).lines().count(), 1);
    assert_eq!(server.ok(&["node", "list", "--no-headers"]).lines().count(), 1);
}
