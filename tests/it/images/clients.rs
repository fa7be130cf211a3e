//! The block server before its real clients: QEMU's and libnbd's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use debvisor::node::images::{Alarm, BlockServer, ImageRecord, ImageStore, SocketAt};
use debvisor::types::Code;
use debvisor::types::vm::{ArtifactKind, VerifiedReadTier};
use tokio::sync::mpsc;

use super::{Place, content, disk, expected, ran, refused, run};

/// A socket of its own for each server.
pub(super) fn socket(place: &Place) -> SocketAt {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}.sock", NUMBER.fetch_add(1, Ordering::Relaxed));
    SocketAt { path: place.path().join(name), owner: None }
}

pub(super) fn serve(place: &Place, store: &ImageStore, record: &ImageRecord) -> (BlockServer, mpsc::Receiver<Alarm>) {
    let (alarms, listening) = mpsc::channel(16);
    let server = store.serve(&record.digest, &record.tree_root, &socket(place), alarms).unwrap();
    (server, listening)
}

fn url(server: &BlockServer) -> String {
    format!("nbd+unix:///?socket={}", server.socket().display())
}

#[test]
fn every_client_reads_the_whole_image_as_it_is() {
    let place = Place::new();
    let store = place.open();
    // Lengths that are no multiple of anything, and one that is.
    for bytes in [9_000_123, 8 << 20, 4097, 1] {
        let bytes = content(bytes);
        let record = disk(&store, &bytes);
        let (server, mut alarms) = serve(&place, &store, &record);
        let out = place.path().join("out").display().to_string();
        for client in [
            &["nbdcopy", &url(&server), &out][..],
            &["nbdcopy", "--requests=64", "--connections=4", &url(&server), &out],
            &["qemu-img", "convert", "-f", "raw", "-O", "raw", &url(&server), &out],
            &["qemu-img", "convert", "-W", "-m", "16", "-f", "raw", "-O", "raw", &url(&server), &out],
        ] {
            let _ = fs::remove_file(&out);
            ran(client[0], &client[1..]);
            let mut read = fs::read(&out).unwrap();
            // QEMU counts in sectors.
            assert!(read.len() >= bytes.len() && read.len() - bytes.len() < 512, "{client:?}");
            read.truncate(bytes.len());
            assert!(read == bytes, "{client:?} read something else");
        }
        assert!(alarms.try_recv().is_err());
    }
}

#[test]
fn a_qcow2_is_read_through_the_server_as_it_is_from_the_file() {
    let place = Place::new();
    let store = place.open();
    let at = |name: &str| place.path().join(name).display().to_string();
    fs::write(at("raw"), content(6 << 20)).unwrap();
    for (name, options) in [("plain", "compat=1.1"), ("packed", "compat=1.1,compression_type=zlib")] {
        let mut args = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options];
        if name == "packed" {
            args.push("-c");
        }
        let (raw, image) = (at("raw"), at(name));
        args.extend([raw.as_str(), image.as_str()]);
        ran("qemu-img", &args);
        let file = fs::File::open(&image).unwrap();
        let imported = store.import(file, expected(ArtifactKind::Disk), jiff::Timestamp::UNIX_EPOCH, &|_| ());
        let (server, _alarms) = serve(&place, &store, &imported.unwrap().record);
        let through = format!(
            "json:{{\"driver\":\"qcow2\",\"file\":{{\"driver\":\"nbd\",\"server\":{{\"type\":\"unix\",\"path\":\"{}\"}}}}}}",
            server.socket().display()
        );
        let compared = ran("qemu-img", &["compare", &through, "-F", "raw", &at("raw")]);
        assert!(compared.contains("Images are identical"), "{compared}");
    }
}

#[test]
fn the_export_says_that_it_is_read_only_and_takes_no_writes() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(1 << 20);
    let record = disk(&store, &bytes);
    let (server, _alarms) = serve(&place, &store, &record);
    assert_eq!(server.tier(), VerifiedReadTier::BlockServer);
    let mode = server.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may connect");
    let info = ran("nbdinfo", &[&url(&server)]);
    for line in ["export-size: 1048576", "is_read_only: true", "can_multi_conn: true", "block_size_minimum: 1"] {
        assert!(info.contains(line), "no `{line}` in {info}");
    }
    assert!(info.contains("protocol: newstyle-fixed without TLS, using structured packets"), "{info}");
    ran("nbdinfo", &["--list", &url(&server)]);
    let written = run("qemu-io", &["-f", "raw", "-c", "write 0 4k", &url(&server)]);
    assert!(!written.status.success() || String::from_utf8_lossy(&written.stderr).contains("read-only"));
    assert!(fs::read(place.image_file(&record.digest, "content")).unwrap() == bytes);
}

#[test]
fn an_altered_block_is_an_io_error_exactly_there_an_alarm_and_a_quarantine() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(4 << 20);
    let record = disk(&store, &bytes);
    let (server, mut alarms) = serve(&place, &store, &record);
    // Read once while it is good: nothing is believed for having been good before.
    ran("nbdcopy", &[&url(&server), "null:"]);
    let (block, bytes_of_block) = (80_u64, 16_384);
    place.flip(&record.digest, "content", block * bytes_of_block + 17);
    let read = |at: u64, length: &str| {
        let command = format!("read {at} {length}");
        let output = run("qemu-io", &["-r", "-f", "raw", "-c", &command, &url(&server)]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if said.contains("Input/output error") {
            Err(())
        } else {
            assert!(said.contains("read "), "{said}");
            Ok(())
        }
    };
    assert_eq!(read(block * bytes_of_block - 4096, "4k"), Ok(()));
    assert_eq!(read((block + 1) * bytes_of_block, "4k"), Ok(()));
    assert!(alarms.try_recv().is_err(), "nobody has read the block yet");
    assert_eq!(read(block * bytes_of_block, "4k"), Err(()));
    assert_eq!(
        read(block * bytes_of_block + 9000, "512"),
        Err(()),
        "also where another byte of the block is asked for"
    );
    assert_eq!(read(0, "4M"), Err(()));

    let alarm = alarms.try_recv().unwrap();
    assert_eq!((alarm.block, alarm.offset, &alarm.digest), (block, block * bytes_of_block, &record.digest));
    assert_eq!(alarm.socket, server.socket());
    assert_eq!(alarm.reason.code.known(), Some(Code::ImageChanged));
    assert!(alarms.try_recv().is_err(), "one alarm for one block");
    let again = store.serve(&record.digest, &record.tree_root, &socket(&place), mpsc::channel(1).0);
    assert_eq!(refused(again.map(drop)), Code::ImageQuarantined);
}

#[test]
fn a_file_that_is_cut_off_under_a_reader_is_an_io_error() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(4 << 20));
    let (server, mut alarms) = serve(&place, &store, &record);
    let path = place.image_file(&record.digest, "content");
    super::thaw(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let output = run("nbdcopy", &[&url(&server), "null:"]);
    assert!(!output.status.success());
    assert_eq!(alarms.try_recv().unwrap().reason.code.known(), Some(Code::StoreFailed));
}

#[test]
fn a_changed_leaf_of_the_tree_is_an_io_error_and_an_alarm() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(4 << 20));
    // Before anybody has read: the leaves are proved when they are used.
    place.flip(&record.digest, "tree", 32 + 32 * 200);
    let (server, mut alarms) = serve(&place, &store, &record);
    let output = run("qemu-io", &["-r", "-f", "raw", "-c", "read 3200k 4k", &url(&server)]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Input/output error"));
    let reason = alarms.try_recv().unwrap().reason;
    assert_eq!((reason.code.known(), reason.evidence.as_deref()), (Some(Code::ImageChanged), Some("tree")));
}

#[test]
fn many_clients_at_once_read_what_is_there() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(8 << 20);
    let record = disk(&store, &bytes);
    let (server, _alarms) = serve(&place, &store, &record);
    let (second, _) = serve(&place, &store, &record);
    assert_eq!(store.show(&record.digest).unwrap().readers, 2);
    thread::scope(|scope| {
        for number in 0..6 {
            let (server, place, bytes) = (if number % 2 == 0 { &server } else { &second }, &place, &bytes);
            scope.spawn(move || {
                let out = place.path().join(format!("out{number}")).display().to_string();
                ran("nbdcopy", &["--connections=2", &url(server), &out]);
                assert!(fs::read(&out).unwrap() == *bytes);
            });
        }
    });
    drop((server, second));
    assert_eq!(store.show(&record.digest).unwrap().readers, 0);
}

#[test]
fn a_server_that_is_dropped_ends_its_clients_and_takes_its_socket_along() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(1 << 20));
    let (server, _alarms) = serve(&place, &store, &record);
    let path = server.socket().to_owned();
    let mut idle = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut hello = [0; 18];
    std::io::Read::read_exact(&mut idle, &mut hello).unwrap();
    drop(server);
    assert_eq!(std::io::Read::read(&mut idle, &mut hello).unwrap(), 0, "the connection has ended");
    assert!(!path.exists());

    // A new server takes a stale socket's place, and an old one's end does not remove it.
    let at = SocketAt {
        path: path.clone(),
        owner: Some((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())),
    };
    let first = store.serve(&record.digest, &record.tree_root, &at, mpsc::channel(1).0).unwrap();
    let second = store.serve(&record.digest, &record.tree_root, &at, mpsc::channel(1).0).unwrap();
    drop(first);
    ran("nbdcopy", &[&url(&second), "null:"]);
    drop(second);
    // What is no socket is left alone.
    fs::write(&path, "somebody's file").unwrap();
    let in_the_way = store.serve(&record.digest, &record.tree_root, &at, mpsc::channel(1).0);
    assert_eq!(refused(in_the_way.map(drop)), Code::StoreFailed);
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's file");
}
