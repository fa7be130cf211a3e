//! Readers that come and go at random while events are written, and one that does not read: over a real WebSocket and
//! a real database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::Query;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use futures_util::StreamExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::net::{UnixListener, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message as Heard, handshake::client::generate_key, http};

use super::event::{Reader, Source};
use super::*;
use crate::api::extract::LiveQuery;
use crate::store::{AuditRecord, NewEvent, Store, Write};

/// A server of nothing but events.
struct World {
    _dir: tempfile::TempDir,
    socket: std::path::PathBuf,
    store: Store,
    stop: watch::Sender<bool>,
}

/// What the test takes away to see what becomes of the readers.
static NOTHING: &str = "";

impl World {
    async fn new() -> Self {
        Self::with(|_| Ok(())).await
    }

    async fn with(may: fn(bool) -> Result<(), End>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let recent = Arc::<Recent>::default();
        let kept = store.clone();
        let follow = async move |Query(wanted): Query<LiveQuery>, upgrade: WebSocketUpgrade| {
            let source = Source { store: kept, recent, stop: stopped };
            let cursor = wanted.after.unwrap_or_default();
            let reader = Reader { cursor, kind: wanted.kind, subject: wanted.subject, told: cursor };
            upgrade.write_buffer_size(limits::LIVE_BUFFER_BYTES).on_upgrade(async move |mut socket| {
                let standing = Standing { asks: Asks::Test(may), next: tokio::time::Instant::now() };
                let end = reader.run(&mut socket, source, standing).await;
                farewell(socket, &end).await;
            })
        };
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(follow))).await });
        Self { _dir: dir, socket, store, stop }
    }

    async fn open(&self, query: &str) -> WebSocketStream<UnixStream> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = http::Request::builder()
            .uri(format!("ws://debvisor/?{query}"))
            .header("host", "debvisor")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(())
            .unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    }

    async fn write(&self, kind: &str) -> i64 {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let text = |text: &str| text.to_owned();
        let audit = AuditRecord {
            at,
            actor: text("test"),
            origin: text("system"),
            action: text("test"),
            object: text("vm/1"),
            outcome: text("done"),
            why: Vec::new(),
            data: serde_json::Value::Null,
        };
        let data = serde_json::json!({ "filling": "x".repeat(200) });
        let event = NewEvent { kind: kind.to_owned(), subject: text("vm/1"), data };
        self.store.write(Write { changes: Vec::new(), audit, event }).await.unwrap().event
    }
}

/// What one message says: an event's number, or a cursor.
#[derive(Debug, PartialEq)]
enum Said {
    Event(i64),
    Cursor(i64),
    Closed(u16, String),
}

async fn hear(reader: &mut WebSocketStream<UnixStream>) -> Said {
    loop {
        let next = timeout(Duration::from_secs(60), reader.next()).await.expect("something is said");
        match next {
            Some(Ok(Heard::Text(text))) => {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                return match value["cursor"].as_i64() {
                    Some(cursor) => Said::Cursor(cursor),
                    None => Said::Event(value["id"].as_i64().unwrap()),
                };
            }
            Some(Ok(Heard::Close(Some(frame)))) => {
                return Said::Closed(frame.code.into(), frame.reason.to_string());
            }
            Some(Ok(_)) => {}
            other => return Said::Closed(0, format!("{other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_come_and_go_at_random_see_exactly_the_sequence() {
    const EVENTS: i64 = 1_500;
    let world = Arc::new(World::new().await);
    let readers = (0..6_u8).map(|seed| {
        let world = world.clone();
        tokio::spawn(async move {
            use proptest::prelude::Rng as _;
            let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
            // Every second one reads a part.
            let part = seed % 2 == 1;
            let kind = if part { "odd." } else { NOTHING };
            let (mut seen, mut after, mut times) = (Vec::new(), 0, 0);
            while after < EVENTS {
                let mut reader = world.open(&format!("after={after}&kind={kind}")).await;
                times += 1;
                for _ in 0..=random.next_u32() % 200 {
                    match hear(&mut reader).await {
                        Said::Event(id) => {
                            seen.push(id);
                            after = id;
                        }
                        Said::Cursor(cursor) => {
                            assert!(cursor >= after, "a cursor went back from {after} to {cursor}");
                            after = cursor;
                        }
                        Said::Closed(code, why) => panic!("closed: {code} {why}"),
                    }
                    if after >= EVENTS {
                        break;
                    }
                }
                // Gone without a word, as a cable that is pulled.
                drop(reader);
            }
            let wanted: Vec<i64> = (1..=EVENTS).filter(|id| !part || id % 2 == 1).collect();
            assert!(seen == wanted, "reader {seed} in {times} connections saw {} events: {seen:?}", seen.len());
            times
        })
    });
    let readers: Vec<_> = readers.collect();
    for id in 1..=EVENTS {
        assert_eq!(world.write(if id % 2 == 1 { "odd.one" } else { "even.one" }).await, id);
    }
    let mut connections = 0;
    for reader in readers {
        connections += reader.await.unwrap();
    }
    assert!(connections > 12, "they came and went: {connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_is_dropped_and_nobody_waits_for_it() {
    const EVENTS: u64 = 10_000;
    let world = Arc::new(World::new().await);
    let measured = async |world: &Arc<World>| {
        let slowest = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let writers = (0..50_u64).map(|_| {
            let (world, slowest) = (world.clone(), slowest.clone());
            tokio::spawn(async move {
                for _ in 0..EVENTS / 50 {
                    let began = Instant::now();
                    world.write("vm.started").await;
                    slowest.fetch_max(began.elapsed().as_millis().try_into().unwrap(), Ordering::Relaxed);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        (began.elapsed(), slowest.load(Ordering::Relaxed))
    };
    let (alone, alone_slowest) = measured(&world).await;
    let mut slow = world.open("after=0").await;
    let mut good = world.open("after=10000").await;
    let following = tokio::spawn(async move {
        let mut seen = 0;
        while seen < EVENTS {
            match hear(&mut good).await {
                Said::Event(_) => seen += 1,
                Said::Cursor(_) => {}
                closed => panic!("{closed:?}"),
            }
        }
    });
    let (beside, beside_slowest) = measured(&world).await;
    println!("alone {alone:?}, slowest {alone_slowest} ms; beside it {beside:?}, slowest {beside_slowest} ms");
    // Neither waits for the other; what differs is one reader's work on the same two processors.
    assert!(beside < alone * 4 + Duration::from_secs(2), "{beside:?} beside a slow reader, {alone:?} without");
    assert!(beside_slowest < alone_slowest * 8 + 500, "{beside_slowest} ms against {alone_slowest} ms");
    following.await.unwrap();
    // It is dropped with a code and a reason, which it finds behind what it had been sent.
    tokio::time::sleep(SLOW).await;
    let mut last = 0;
    let closed = loop {
        match hear(&mut slow).await {
            Said::Event(id) => {
                assert_eq!(id, last + 1, "what it was sent is whole");
                last = id;
            }
            Said::Cursor(_) => {}
            closed @ Said::Closed(..) => break closed,
        }
    };
    assert!(last < 20_000, "it was dropped before the end, at {last}");
    let Said::Closed(code, why) = closed else { unreachable!() };
    assert_eq!(code, u16::from(CloseCode::Again), "{why}");
    assert!(why.contains("too slow"), "{why}");
    // And going on after the last number is whole.
    let mut again = world.open(&format!("after={last}")).await;
    assert_eq!(hear(&mut again).await, Said::Cursor(last));
    assert_eq!(hear(&mut again).await, Said::Event(last + 1));
}

#[tokio::test]
async fn who_reads_a_part_is_told_how_far_everything_is() {
    let world = World::new().await;
    let mut reader = world.open("after=0&kind=image.").await;
    assert_eq!(hear(&mut reader).await, Said::Cursor(0));
    for _ in 0..5 {
        world.write("vm.started").await;
    }
    loop {
        match hear(&mut reader).await {
            Said::Cursor(5) => break,
            Said::Cursor(_) => {}
            other => panic!("{other:?}"),
        }
    }
    world.write("image.imported").await;
    assert_eq!(hear(&mut reader).await, Said::Event(6));
}

#[tokio::test]
async fn when_the_server_ends_readers_are_told_to_come_again() {
    let world = World::new().await;
    let mut reader = world.open("after=0").await;
    assert_eq!(hear(&mut reader).await, Said::Cursor(0));
    world.stop.send_replace(true);
    let Said::Closed(code, _) = hear(&mut reader).await else { panic!("an end") };
    assert_eq!(code, 1012);
}

#[tokio::test]
async fn a_reader_whose_permission_is_taken_away_is_told_nothing_from_then_on() {
    let world = World::with(|hint| if hint { Err(End::NoLonger("no more".to_owned())) } else { Ok(()) }).await;
    let mut reader = world.open("after=0").await;
    assert_eq!(hear(&mut reader).await, Said::Cursor(0));
    world.write("vm.started").await;
    assert_eq!(hear(&mut reader).await, Said::Event(1));
    world.write("grant.removed").await;
    assert_eq!(hear(&mut reader).await, Said::Closed(4001, "no more".to_owned()));
}

#[test]
fn seats_are_bounded_for_one_caller_and_come_free_again() {
    let seats = Arc::<Seats>::default();
    let (one, two) = (Caller::host(1, None), Caller::host(2, None));
    let mut taken: Vec<Seat> = (0..limits::LIVE_CONNECTIONS_OF_ONE).map(|_| seats.take(&one).unwrap()).collect();
    let problem = seats.take(&one).unwrap_err();
    assert_eq!((problem.status, problem.code.as_str()), (429, "live-connections"));
    let other = seats.take(&two).unwrap();
    taken.pop();
    taken.push(seats.take(&one).unwrap());
    drop((taken, other));
    assert_eq!(*seats.all.borrow(), 0);
    let all: Vec<Seat> = (0..limits::LIVE_CONNECTIONS)
        .map(|at| seats.take(&Caller::host(u32::try_from(at / 10).unwrap(), None)).unwrap())
        .collect();
    assert_eq!(seats.take(&Caller::host(7_777, None)).unwrap_err().code, "live-connections");
    drop(all);
}

#[test]
fn a_page_of_another_site_opens_nothing_with_somebodys_cookie() {
    let checked = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        own_page(&headers, None).map_err(|problem| problem.code)
    };
    let host = ("host", "debvisor.example:8443");
    assert_eq!(checked(&[host]), Ok(()));
    assert_eq!(checked(&[host, ("cookie", "s=1"), ("origin", "https://debvisor.example:8443")]), Ok(()));
    assert_eq!(checked(&[host, ("cookie", "s=1"), ("authorization", "Bearer x")]), Ok(()));
    for origin in [
        "https://evil.example",
        "https://debvisor.example",
        "https://debvisor.example:8443.evil.example",
        "https://evil.example/debvisor.example:8443",
        "null",
        "",
    ] {
        assert_eq!(
            checked(&[host, ("cookie", "s=1"), ("origin", origin)]),
            Err("origin-foreign".to_owned()),
            "{origin}"
        );
    }
    assert_eq!(checked(&[host, ("cookie", "s=1")]), Err("origin-foreign".to_owned()));
    assert_eq!(checked(&[("origin", "https://")]), Err("origin-foreign".to_owned()), "there is no host");
}

#[test]
fn a_reason_that_is_too_long_for_a_frame_is_cut_between_letters() {
    let (_, reason) = End::NoLonger("ü".repeat(100)).close().unwrap();
    assert!(reason.len() > 123);
    assert_eq!(cut(reason).len(), 122);
}
