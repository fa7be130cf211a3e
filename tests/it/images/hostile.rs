//! Clients of the block server that break the protocol: they lose their connection, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use debvisor::node::images::BlockServer;
use debvisor::types::limits;
use proptest::prelude::*;

use super::clients::serve;
use super::{Place, content, disk};

const OPTION: u64 = 0x4948_4156_454f_5054;

fn connect(server: &BlockServer) -> UnixStream {
    let stream = UnixStream::connect(server.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A client that is past the negotiation, with simple replies: the export's name, and off it goes.
fn negotiated(server: &BlockServer) -> UnixStream {
    let mut stream = connect(server);
    let mut hello = [0; 18];
    stream.read_exact(&mut hello).unwrap();
    assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
    let words = [&3_u32.to_be_bytes()[..], &OPTION.to_be_bytes(), &1_u32.to_be_bytes(), &0_u32.to_be_bytes()];
    stream.write_all(&words.concat()).unwrap();
    let mut export = [0; 10];
    stream.read_exact(&mut export).unwrap();
    stream
}

fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
    let (magic, flags, cookie) = (0x2560_9513_u32, 0_u16, 42_u64);
    [
        &magic.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}

/// The error of a simple reply, and its data.
fn answer(stream: &mut UnixStream, length: usize) -> (u32, Vec<u8>) {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], 0x6744_6698_u32.to_be_bytes());
    assert_eq!(head[8..], 42_u64.to_be_bytes(), "the client's own cookie");
    let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
    let mut data = vec![0; if error == 0 { length } else { 0 }];
    stream.read_exact(&mut data).unwrap();
    (error, data)
}

#[test]
fn simple_replies_are_proved_too_short_long_and_at_odd_places() {
    let place = Place::new();
    let store = place.open();
    let bytes = content((5 << 20) + 77);
    let record = disk(&store, &bytes);
    let (server, _alarms) = serve(&place, &store, &record);
    let mut client = negotiated(&server);
    for (at, length) in
        [(0, 1), (4095, 2), (4096, 4096), (1_000_001, 300_000), (5, 3 << 20), (5 << 20, 77), (0, (5 << 20) + 77)]
    {
        client.write_all(&request(0, at as u64, u32::try_from(length).unwrap())).unwrap();
        let (error, data) = answer(&mut client, length);
        assert!(error == 0 && data == bytes[at..at + length], "{at} {length}");
    }
    for (command, at, length, error) in [
        (0, 0, 0, 22),
        (0, 6 << 20, 1, 22),
        (0, u64::MAX, 2, 22),
        (0, 0, u32::MAX, 22),
        (4, 0, 1, 1),
        (6, 0, 1, 1),
        (99, 0, 0, 22),
        (3, 0, 0, 0),
    ] {
        client.write_all(&request(command, at, length)).unwrap();
        assert_eq!(answer(&mut client, 0).0, error, "{command} {at} {length}");
    }
    client.write_all(&[request(1, 0, 5), b"write".to_vec()].concat()).unwrap();
    assert_eq!(answer(&mut client, 0).0, 1, "EPERM");
    // Both kinds of reply say EIO of a changed block.
    place.flip(&record.digest, "content", 16_384);
    for length in [1, 2 << 20] {
        client.write_all(&request(0, 16_384, length)).unwrap();
        assert_eq!(answer(&mut client, 0).0, 5);
    }
    client.write_all(&request(0, 0, 4096)).unwrap();
    assert_eq!(answer(&mut client, 4096), (0, bytes[..4096].to_vec()), "the others are still read");
    client.write_all(&request(2, 0, 0)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "and the client may go");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(2 << 20);
    let record = disk(&store, &bytes);
    let (server, _alarms) = serve(&place, &store, &record);
    let mut client = negotiated(&server);
    let many: Vec<u8> = (0..400).flat_map(|number| request(0, number * 4096, 4096)).collect();
    let mut writing = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writing.write_all(&many).unwrap());
        for _ in 0..400 {
            let (error, data) = answer(&mut client, 4096);
            assert!(error == 0 && bytes.chunks(4096).any(|block| block == data));
        }
    });
}

#[test]
fn more_connections_than_allowed_are_sent_away_and_free_again_when_others_end() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(10_000));
    let (server, _alarms) = serve(&place, &store, &record);
    let clients: Vec<UnixStream> = (0..limits::BLOCK_CONNECTIONS).map(|_| negotiated(&server)).collect();
    assert_eq!(connect(&server).read(&mut [0]).unwrap(), 0, "there is no room");
    drop(clients);
    let since = Instant::now();
    while connect(&server).read(&mut [0]).unwrap() == 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "no place became free");
    }
}

#[test]
fn a_client_that_says_nothing_is_given_up() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(10_000));
    let (server, _alarms) = serve(&place, &store, &record);
    let mut client = connect(&server);
    let since = Instant::now();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    let took = since.elapsed();
    assert_eq!(heard.len(), 18, "a greeting and nothing else");
    let limit = Duration::from_millis(limits::BLOCK_HANDSHAKE_MS);
    assert!(took >= limit - Duration::from_secs(1) && took < limit + Duration::from_secs(5), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_client_sends_others_are_served(words in prop::collection::vec(any::<u8>(), 0..400), past in any::<bool>()) {
        let place = Place::new();
        let store = place.open();
        let bytes = content(20_000);
        let record = disk(&store, &bytes);
        let (server, mut alarms) = serve(&place, &store, &record);
        let mut hostile = if past { negotiated(&server) } else { connect(&server) };
        // It may be cut off while it speaks.
        let _ = hostile.write_all(&words);
        let _ = hostile.shutdown(std::net::Shutdown::Write);
        let _ = hostile.read_to_end(&mut Vec::new());
        let mut client = negotiated(&server);
        client.write_all(&request(0, 0, 20_000)).unwrap();
        let (error, data) = answer(&mut client, 20_000);
        prop_assert!(error == 0 && data == bytes);
        prop_assert!(alarms.try_recv().is_err());
    }
}
