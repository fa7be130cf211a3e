//! Arriving: once, whole, and only what was announced.

use std::io::{self, Read};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use debvisor::node::images::{Expected, ImageFormat, ImageStore};
use debvisor::node::key::NodeKey;
use debvisor::types::vm::ArtifactKind;
use debvisor::types::{Code, Digest, limits};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Place, content, disk, expected, files_below, import, open, ran, refused};

#[test]
fn an_image_arrives_whole_with_its_tree_and_its_receipt() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(5_000_123);
    let seen = AtomicU64::new(0);
    let imported = store
        .import(&bytes[..], expected(ArtifactKind::Disk), Timestamp::UNIX_EPOCH, &|bytes| {
            seen.store(bytes, Ordering::Relaxed);
        })
        .unwrap();
    let record = imported.record;
    assert!(!imported.existed);
    assert_eq!(record.digest, Digest::sha256(&bytes));
    assert_eq!((record.bytes, record.virtual_bytes, record.format), (5_000_123, 5_000_123, ImageFormat::Raw));
    assert_eq!(seen.into_inner(), 5_000_123, "progress reaches the end");
    assert_eq!(std::fs::read(place.image_file(&record.digest, "content")).unwrap(), bytes);
    assert_eq!(store.record(&record.digest).unwrap(), record);
    assert_eq!(store.verify(&record.digest, &|_| ()).unwrap(), record);
    let hex = record.digest.to_hex();
    let names = ["content", "receipt.json", "tree"].map(|name| format!("sha256/{}/{hex}/{name}", &hex[..2]));
    assert_eq!(files_below(store.root()), [&["lock".to_owned()][..], &names].concat());
}

#[test]
fn what_is_stored_cannot_be_written_even_by_its_owner() {
    let place = Place::new();
    let record = disk(&place.open(), &content(10_000));
    for name in ["content", "tree", "receipt.json"] {
        let path = place.image_file(&record.digest, name);
        assert!(path.metadata().unwrap().permissions().readonly(), "{name}");
        let frozen = std::fs::File::open(&path)
            .and_then(|file| Ok(rustix::fs::ioctl_getflags(file)?))
            .is_ok_and(|flags| flags.contains(rustix::fs::IFlags::IMMUTABLE));
        // Where the file system or our rights do not allow it, the mode is all there is.
        if frozen {
            assert!(std::fs::OpenOptions::new().append(true).open(&path).is_err(), "{name}");
            assert!(std::fs::remove_file(&path).is_err(), "{name}");
        }
    }
}

#[test]
fn the_same_image_twice_is_one_image() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(100_000);
    let first = import(&store, ArtifactKind::Disk, &bytes).unwrap();
    let second = import(&store, ArtifactKind::Disk, &bytes).unwrap();
    assert!(second.existed);
    assert_eq!(first.record, second.record);
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.upload_list().unwrap().is_empty());
    assert_eq!(refused(import(&store, ArtifactKind::Kernel, &bytes)), Code::ImageKind);
}

#[test]
fn a_sparse_image_stays_sparse() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let store = place.open();
    let mut bytes = vec![0; 20 << 20];
    bytes[7 << 20..(7 << 20) + 5000].fill(7);
    for announced in [None, Some(20 << 20)] {
        let said = Expected { bytes: announced, ..expected(ArtifactKind::Disk) };
        let record = store.import(&bytes[..], said, Timestamp::UNIX_EPOCH, &|_| ()).unwrap().record;
        let found = place.image_file(&record.digest, "content").metadata().unwrap();
        assert_eq!(found.len(), 20 << 20);
        assert!(found.blocks() * 512 < 1 << 20, "{} bytes on the disk", found.blocks() * 512);
        store.verify(&record.digest, &|_| ()).unwrap();
        store.delete(&record.digest).unwrap();
    }
}

#[test]
fn another_digest_or_length_than_announced_is_refused_and_nothing_stays() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(50_000);
    let other = Some(Digest::sha256(b"other"));
    for said in [
        Expected { digest: other, ..expected(ArtifactKind::Disk) },
        Expected { bytes: Some(50_001), ..expected(ArtifactKind::Disk) },
    ] {
        assert_eq!(refused(store.import(&bytes[..], said, Timestamp::UNIX_EPOCH, &|_| ())), Code::DigestMismatch);
    }
    let short = Expected { bytes: Some(49_999), ..expected(ArtifactKind::Disk) };
    assert_eq!(refused(store.import(&bytes[..], short, Timestamp::UNIX_EPOCH, &|_| ())), Code::InputTooLarge);
    assert_eq!(files_below(store.root()), ["lock"]);
}

#[test]
fn a_reader_that_fails_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the cable is out"))?;
            buffer.fill(5);
            Ok(buffer.len())
        }
    }
    let place = Place::new();
    let store = place.open();
    let failed = store.import(Broken(3), expected(ArtifactKind::Disk), Timestamp::UNIX_EPOCH, &|_| ());
    assert!(failed.as_ref().unwrap_err().message.contains("the cable is out"));
    assert_eq!(refused(failed), Code::SubjectUnreadable);
    assert_eq!(files_below(store.root()), ["lock"]);
}

#[test]
fn an_upload_comes_in_pieces_and_in_order() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(3_000_000);
    let said = Expected { bytes: Some(3_000_000), ..expected(ArtifactKind::Disk) };
    let id = store.upload_begin(said).unwrap().id;
    assert_eq!(store.upload_append(id, 0, &bytes[..1_000_001]).unwrap().received_bytes, 1_000_001);
    assert_eq!(refused(store.upload_append(id, 0, &bytes[..10])), Code::UploadOffset);
    assert_eq!(refused(store.upload_append(id, 2_000_000, &bytes[2_000_000..])), Code::UploadOffset);
    assert_eq!(refused(store.upload_finish(id, Timestamp::UNIX_EPOCH)), Code::UploadOffset);
    store.upload_append(id, 1_000_001, &bytes[1_000_001..]).unwrap();
    assert_eq!(refused(store.upload_append(id, 3_000_000, b"x")), Code::InputTooLarge);
    let record = store.upload_finish(id, Timestamp::UNIX_EPOCH).unwrap().record;
    assert_eq!(record.digest, Digest::sha256(&bytes));
    store.verify(&record.digest, &|_| ()).unwrap();
    assert_eq!(refused(store.upload_state(id)), Code::UploadUnknown);
}

#[test]
fn an_upload_goes_on_after_a_restart_where_its_digest_proves_what_lies_there() {
    let place = Place::new();
    let bytes = content(2_500_000);
    let digest = Digest::sha256(&bytes);
    let store = place.open();
    let known = Expected { digest: Some(digest.clone()), ..expected(ArtifactKind::Disk) };
    let known = store.upload_begin(known).unwrap().id;
    let unknown = store.upload_begin(expected(ArtifactKind::Disk)).unwrap().id;
    for id in [known, unknown] {
        store.upload_append(id, 0, &bytes[..1_500_000]).unwrap();
    }
    drop(store);

    let store = place.open();
    assert_eq!(store.upload_list().unwrap().len(), 2);
    assert_eq!(store.upload_state(known).unwrap().received_bytes, 1_500_000);
    assert_eq!(store.upload_state(unknown).unwrap().received_bytes, 0);
    store.upload_append(known, 1_500_000, &bytes[1_500_000..]).unwrap();
    assert_eq!(store.upload_finish(known, Timestamp::UNIX_EPOCH).unwrap().record.digest, digest);
    store.verify(&digest, &|_| ()).unwrap();

    // What was written meanwhile by somebody else is found by the digest.
    let said = Expected { digest: Some(Digest::sha256(b"another")), ..expected(ArtifactKind::Disk) };
    let id = store.upload_begin(said).unwrap().id;
    store.upload_append(id, 0, &bytes[..4096]).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(refused(store.upload_finish(id, Timestamp::UNIX_EPOCH)), Code::DigestMismatch);
    store.upload_abort(unknown).unwrap();
    assert!(store.upload_list().unwrap().is_empty());
    assert!(std::fs::read_dir(store.root().join("uploads")).unwrap().next().is_none());
}

#[test]
fn uploads_names_and_pieces_have_bounds() {
    let place = Place::new();
    let store = place.open();
    let name = "x".repeat(limits::IMAGE_NAME_BYTES + 1);
    let said = Expected { name, ..expected(ArtifactKind::Disk) };
    assert_eq!(refused(store.upload_begin(said)), Code::InputTooLarge);
    let said = Expected { bytes: Some(limits::IMAGE_BYTES + 1), ..expected(ArtifactKind::Disk) };
    assert_eq!(refused(store.upload_begin(said)), Code::InputTooLarge);
    let said = Expected { bytes: Some(limits::IMAGE_SEALED_BYTES + 1), ..expected(ArtifactKind::Kernel) };
    assert_eq!(refused(store.upload_begin(said)), Code::InputTooLarge, "a kernel must fit into memory");
    let ids: Vec<Uuid> =
        (0..limits::IMAGE_UPLOADS).map(|_| store.upload_begin(expected(ArtifactKind::Disk)).unwrap().id).collect();
    assert_eq!(refused(store.upload_begin(expected(ArtifactKind::Disk))), Code::InputTooLarge);
    let piece = vec![0; limits::IMAGE_UPLOAD_PIECE_BYTES + 1];
    assert_eq!(refused(store.upload_append(ids[0], 0, &piece)), Code::InputTooLarge);
    store.upload_abort(ids[0]).unwrap();
    store.upload_begin(expected(ArtifactKind::Disk)).unwrap();
}

#[test]
fn a_qcow2_that_names_other_files_or_is_a_bomb_is_refused() {
    let place = Place::new();
    let store = place.open();
    let at = |name: &str| place.path().join(name).display().to_string();
    ran("qemu-img", &["create", "-q", "-f", "raw", &at("base"), "1M"]);
    ran("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &at("base"), "-F", "raw", &at("backed")]);
    let data = format!("data_file={},data_file_raw=on", at("data"));
    ran("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &at("external"), "1M"]);
    ran("qemu-img", &["create", "-q", "-f", "qcow2", &at("bomb"), "100T"]);
    for (name, code) in
        [("backed", Code::DiskBackingFile), ("external", Code::DiskExternalData), ("bomb", Code::DiskOversized)]
    {
        let file = std::fs::File::open(at(name)).unwrap();
        let imported = store.import(file, expected(ArtifactKind::Disk), Timestamp::UNIX_EPOCH, &|_| ());
        assert_eq!(refused(imported), code, "{name}");
    }
    assert_eq!(files_below(store.root()), ["lock"]);

    ran("qemu-img", &["create", "-q", "-f", "qcow2", &at("good"), "64M"]);
    let file = std::fs::File::open(at("good")).unwrap();
    let record = store.import(file, expected(ArtifactKind::Disk), Timestamp::UNIX_EPOCH, &|_| ()).unwrap().record;
    assert_eq!((record.format, record.virtual_bytes), (ImageFormat::Qcow2, 64 << 20));
    assert_eq!(record.format.driver(), "qcow2");
}

#[test]
fn what_is_not_what_it_is_called_is_refused() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(refused(import(&store, ArtifactKind::Iso, &content(100_000))), Code::ImageKind);
    assert_eq!(refused(import(&store, ArtifactKind::Kernel, b"")), Code::ImageKind);
    assert_eq!(refused(import(&store, ArtifactKind::Disk, b"")), Code::DiskMalformed);
    let mut iso = vec![0; 40 * 2048];
    iso[16 * 2048..16 * 2048 + 6].copy_from_slice(b"\x01CD001");
    assert_eq!(import(&store, ArtifactKind::Iso, &iso).unwrap().record.format, ImageFormat::Raw);
}

#[test]
fn two_processes_do_not_share_a_store() {
    let place = Place::new();
    let store = place.open();
    let key = NodeKey::open(&place.path().join("node.key")).unwrap();
    let second = ImageStore::open(store.root(), key).unwrap_err();
    assert!(second.to_string().ends_with("another process is using it"), "{second}");
    drop(store);
    place.open();
}

#[test]
fn an_image_is_deleted_with_everything_beside_it_unless_somebody_reads_it() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(100_000));
    store.evidence_put(&record.digest, "a.sigstore.json", b"{}").unwrap();
    store.decision_put(&record.digest, b"{}").unwrap();
    store.quarantine(&record.digest, "test").unwrap();
    store.release(&record.digest).unwrap();
    let (alarms, _listening) = tokio::sync::mpsc::channel(1);
    let at = super::clients::socket(&place);
    let server = store.serve(&record.digest, &record.tree_root, &at, alarms).unwrap();
    assert_eq!(store.show(&record.digest).unwrap().readers, 1);
    assert_eq!(refused(store.delete(&record.digest)), Code::ImageInUse);
    drop(server);
    store.delete(&record.digest).unwrap();
    assert_eq!(refused(store.record(&record.digest)), Code::ImageUnknown);
    assert_eq!(files_below(store.root()), ["lock"]);
}

#[test]
fn evidence_and_decisions_are_kept_beside_the_bytes() {
    let place = Place::new();
    let store = place.open();
    let digest = disk(&store, &content(10_000)).digest;
    assert_eq!(store.decision(&digest).unwrap(), None);
    store.decision_put(&digest, b"first").unwrap();
    store.decision_put(&digest, b"second").unwrap();
    assert_eq!(store.decision(&digest).unwrap().unwrap(), b"second");
    store.evidence_put(&digest, "sbom.json", b"{}").unwrap();
    for name in ["", ".", "..", "../up", "a/b", ".hidden", "nul\0", "receipt.json/x"] {
        assert_eq!(refused(store.evidence_put(&digest, name, b"")), Code::FileUnsafe, "{name:?}");
    }
    for number in 1..limits::IMAGE_DOCUMENTS {
        store.evidence_put(&digest, &format!("{number}"), b"").unwrap();
    }
    assert_eq!(refused(store.evidence_put(&digest, "one-more", b"")), Code::InputTooLarge);
    store.evidence_put(&digest, "sbom.json", b"[]").unwrap();
    let kept = store.evidence(&digest).unwrap();
    assert_eq!(kept.len(), limits::IMAGE_DOCUMENTS);
    assert!(kept.contains(&("sbom.json".to_owned(), b"[]".to_vec())));
}

/// A full disk, really: a small file system of its own, in a mount namespace of its own.
#[test]
fn a_full_disk_leaves_nothing_half() {
    let place = Place::new();
    let driver = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4m none '{0}' && {1}={0} exec '{2}' --exact images::import::full_disk_driver --nocapture",
        place.path().display(),
        FULL,
        driver.display()
    );
    let output = Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("the disk was full"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const FULL: &str = "DEBVISOR_TEST_FULL_DISK";

/// The other half of the test above; does nothing unless it is called from there.
#[test]
fn full_disk_driver() {
    #[expect(clippy::disallowed_methods, reason = "how the test reaches its other half")]
    let Some(folder) = std::env::var_os(FULL) else { return };
    let store = open(folder.as_ref());
    let bytes = content(8 << 20);
    let announced = Expected { bytes: Some(8 << 20), ..expected(ArtifactKind::Disk) };
    let refused_at = AtomicU64::new(0);
    let seen = |bytes| refused_at.store(bytes, Ordering::Relaxed);
    assert_eq!(refused(store.import(&bytes[..], announced.clone(), Timestamp::UNIX_EPOCH, &seen)), Code::StoreFull);
    assert_eq!(refused_at.into_inner(), 0, "what was announced is refused before a byte is copied");
    assert_eq!(refused(store.upload_begin(announced)), Code::StoreFull);
    assert_eq!(refused(import(&store, ArtifactKind::Disk, &bytes)), Code::StoreFull);
    assert_eq!(files_below(store.root()), ["lock"]);

    // An upload stays, and goes on when there is room again.
    let small = content(3 << 20);
    let said = Expected { digest: Some(Digest::sha256(&small)), ..expected(ArtifactKind::Disk) };
    let id = store.upload_begin(said).unwrap().id;
    let first = store.upload_append(id, 0, &small[..1 << 20]).unwrap().received_bytes;
    let ballast = folder_of(&store).join("ballast");
    let _ = std::fs::write(&ballast, content(4 << 20));
    let failed = store.upload_append(id, first, &small[1 << 20..]);
    assert_eq!(refused(failed), Code::StoreFull);
    std::fs::remove_file(&ballast).unwrap();
    let stands = store.upload_state(id).unwrap().received_bytes;
    assert!(stands >= first, "{stands}");
    let stands = usize::try_from(stands).unwrap();
    store.upload_append(id, stands as u64, &small[stands..]).unwrap();
    let record = store.upload_finish(id, Timestamp::UNIX_EPOCH).unwrap().record;
    store.verify(&record.digest, &|_| ()).unwrap();
    println!("the disk was full");
}

fn folder_of(store: &ImageStore) -> std::path::PathBuf {
    store.root().parent().unwrap().to_owned()
}
