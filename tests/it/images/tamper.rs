//! Somebody with every right on the host writes to the store: each file of an image, changed, is refused by its code.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use debvisor::node::images::{ImageRecord, ImageStore};
use debvisor::node::key::NodeKey;
use debvisor::types::vm::ArtifactKind;
use debvisor::types::{Code, Digest, Reason};

use super::clients::socket;
use super::{Place, content, disk, import, refused};

fn kernel(store: &ImageStore, bytes: &[u8]) -> ImageRecord {
    import(store, ArtifactKind::Kernel, bytes).unwrap().record
}

fn serve(place: &Place, store: &ImageStore, record: &ImageRecord) -> Result<(), Reason> {
    let (alarms, _listening) = tokio::sync::mpsc::channel(1);
    store.serve(&record.digest, &record.tree_root, &socket(place), alarms).map(drop)
}

#[test]
fn sealed_memory_holds_the_bytes_and_cannot_be_changed() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(2_000_001);
    let record = kernel(&store, &bytes);
    let sealed = store.seal(&record.digest).unwrap();
    assert_eq!((sealed.digest(), sealed.bytes()), (&record.digest, 2_000_001));
    assert_eq!(refused(store.delete(&Digest::sha256(b"none"))), Code::ImageUnknown);
    let seals = rustix::fs::fcntl_get_seals(sealed.as_fd()).unwrap();
    for seal in ["SEAL", "SHRINK", "GROW", "WRITE"] {
        assert!(seals.contains(rustix::fs::SealFlags::from_name(seal).unwrap()), "{seal}");
    }
    // The store may be overwritten now: what was sealed stays what it was.
    place.flip(&record.digest, "content", 5);
    let mut file = fs::File::from(sealed.into_fd());
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    assert!(file.write_all(b"x").is_err());
    assert!(file.set_len(1).is_err());
    assert_eq!(refused(store.seal(&record.digest)), Code::ImageChanged);
}

#[test]
fn a_flipped_byte_of_a_kernel_is_refused_and_quarantined_wherever_it_is() {
    for at in [0, 1, 999_999, 2_000_000] {
        let place = Place::new();
        let store = place.open();
        let record = kernel(&store, &content(2_000_001));
        place.flip(&record.digest, "content", at);
        assert_eq!(refused(store.seal(&record.digest)), Code::ImageChanged);
        // From now on it is a quarantine, also after a restart, and also where the byte is put back.
        place.flip(&record.digest, "content", at);
        drop(store);
        let store = place.open();
        let reason = store.seal(&record.digest).unwrap_err();
        assert_eq!(reason.code.known(), Some(Code::ImageQuarantined));
        assert!(reason.message.contains("image-changed"), "{reason}");
        store.release(&record.digest).unwrap();
        store.seal(&record.digest).unwrap();
    }
}

#[test]
fn a_kernel_that_grew_or_shrank_or_is_gone_is_refused() {
    let bytes = content(50_000);
    for other in [Some(&[&bytes[..], b"x"].concat()[..]), Some(&bytes[..49_999]), Some(b""), None] {
        let place = Place::new();
        let store = place.open();
        let record = kernel(&store, &bytes);
        place.replace(&record.digest, "content", other.unwrap_or_default());
        if other.is_none() {
            fs::remove_file(place.image_file(&record.digest, "content")).unwrap();
        }
        assert_eq!(refused(store.seal(&record.digest)), Code::ImageChanged);
    }
}

#[test]
fn a_flipped_byte_of_a_disk_is_found_by_a_full_verification_with_its_place() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(5_000_000));
    place.flip(&record.digest, "content", 3_000_000);
    let reason = store.verify(&record.digest, &|_| ()).unwrap_err();
    assert_eq!(reason.code.known(), Some(Code::ImageChanged));
    assert_eq!(reason.location.as_deref(), Some("block 183 at byte 2998272"));
    assert_eq!(store.show(&record.digest).unwrap().refused.unwrap().code.known(), Some(Code::ImageQuarantined));
    assert_eq!(refused(serve(&place, &store, &record)), Code::ImageQuarantined);
}

#[test]
fn a_flipped_byte_of_the_tree_is_refused() {
    let place = Place::new();
    let store = place.open();
    // Three pages.
    let record = disk(&store, &content(20_000_000));
    let length = place.image_file(&record.digest, "tree").metadata().unwrap().len();
    // The header and the pages are proved when the image is opened.
    for at in [0, 9, 30, length - 1, length - 90] {
        place.flip(&record.digest, "tree", at);
        assert_eq!(refused(serve(&place, &store, &record)), Code::ImageChanged, "byte {at}");
        place.flip(&record.digest, "tree", at);
        store.release(&record.digest).unwrap();
        serve(&place, &store, &record).unwrap();
    }
    // A leaf is proved when it is used.
    place.flip(&record.digest, "tree", 40);
    assert_eq!(refused(store.verify(&record.digest, &|_| ())), Code::ImageChanged);
    for bytes in [&b""[..], b"DVTREE02"] {
        store.release(&record.digest).unwrap();
        place.replace(&record.digest, "tree", bytes);
        assert_eq!(refused(serve(&place, &store, &record)), Code::ImageChanged);
    }
}

#[test]
fn every_flipped_byte_of_the_receipt_is_refused() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(10_000));
    let path = place.image_file(&record.digest, "receipt.json");
    let receipt = fs::read(&path).unwrap();
    for at in 0..receipt.len() {
        let mut changed = receipt.clone();
        changed[at] ^= 1;
        place.replace(&record.digest, "receipt.json", &changed);
        assert_eq!(refused(store.record(&record.digest)), Code::ImageReceiptInvalid, "byte {at}");
    }
    assert_eq!(refused(store.seal(&record.digest)), Code::ImageReceiptInvalid);
    assert_eq!(refused(serve(&place, &store, &record)), Code::ImageReceiptInvalid);
    assert_eq!(refused(store.verify(&record.digest, &|_| ())), Code::ImageReceiptInvalid);
    let listed = &store.list().unwrap()[0];
    assert_eq!((listed.record.as_ref(), &listed.digest), (None, &record.digest));
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(store.record(&record.digest)), Code::ImageReceiptInvalid);
    fs::write(&path, &receipt).unwrap();
    store.verify(&record.digest, &|_| ()).unwrap();
}

/// Bytes, tree and receipt of another image, sound in themselves, under this one's name.
#[test]
fn another_image_in_its_place_is_refused() {
    let place = Place::new();
    let store = place.open();
    let (good, other) = (content(50_000), content(50_001));
    let (record, other) = (disk(&store, &good), disk(&store, &other));
    for name in ["content", "tree", "receipt.json"] {
        let bytes = fs::read(place.image_file(&other.digest, name)).unwrap();
        place.replace(&record.digest, name, &bytes);
    }
    assert_eq!(refused(store.record(&record.digest)), Code::ImageReceiptInvalid);
}

/// The same with a receipt that a key made that is not the node's.
#[test]
fn a_receipt_by_another_key_is_refused() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let store = place.open();
    let record = disk(&store, &content(50_000));
    let other = elsewhere.open();
    disk(&other, &content(50_000));
    let forged = fs::read(elsewhere.image_file(&record.digest, "receipt.json")).unwrap();
    place.replace(&record.digest, "receipt.json", &forged);
    assert_eq!(refused(store.record(&record.digest)), Code::ImageReceiptInvalid);
    // And a node that lost its key believes none of its receipts.
    drop(other);
    let renewed = ImageStore::open(&elsewhere.path().join("images"), NodeKey::ephemeral().unwrap()).unwrap();
    assert_eq!(refused(renewed.record(&record.digest)), Code::ImageReceiptInvalid);
}

#[test]
fn a_tree_that_is_not_the_permitted_one_is_refused() {
    let place = Place::new();
    let store = place.open();
    let record = disk(&store, &content(50_000));
    let wrong = ImageRecord { tree_root: Digest::sha256(b"another"), ..record.clone() };
    assert_eq!(refused(serve(&place, &store, &wrong)), Code::ImageChanged);
    // The permit was wrong, not the image.
    serve(&place, &store, &record).unwrap();
}

#[test]
fn a_link_in_place_of_the_bytes_is_refused() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(50_000);
    let (disk, kernel) = (disk(&store, &bytes), kernel(&store, &bytes[1..]));
    for record in [&disk, &kernel] {
        let outside = place.path().join(record.digest.to_hex());
        place.replace(&record.digest, "content", b"");
        let path = place.image_file(&record.digest, "content");
        fs::remove_file(&path).unwrap();
        fs::write(&outside, if record == &disk { &bytes[..] } else { &bytes[1..] }).unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
    }
    assert!(serve(&place, &store, &disk).is_err());
    assert!(store.seal(&kernel.digest).is_err());
}

#[test]
fn what_is_quarantined_is_neither_sealed_nor_served_until_it_is_released() {
    let place = Place::new();
    let store = place.open();
    let bytes = content(50_000);
    let (disk, kernel) = (disk(&store, &bytes), kernel(&store, &bytes[1..]));
    for record in [&disk, &kernel] {
        store.quarantine(&record.digest, "a signer was revoked").unwrap();
    }
    drop(store);
    let store = place.open();
    let reason = store.seal(&kernel.digest).unwrap_err();
    assert!(reason.message.contains("a signer was revoked"), "{reason}");
    assert_eq!(refused(serve(&place, &store, &disk)), Code::ImageQuarantined);
    assert!(import(&store, ArtifactKind::Disk, &bytes).unwrap().existed);
    assert_eq!(refused(serve(&place, &store, &disk)), Code::ImageQuarantined, "an import releases nothing");
    // A mark that cannot be read is a mark.
    fs::write(place.image_file(&kernel.digest, "big"), vec![b'x'; 100_000]).unwrap();
    fs::rename(place.image_file(&kernel.digest, "big"), place.image_file(&kernel.digest, "quarantined")).unwrap();
    assert_eq!(refused(store.seal(&kernel.digest)), Code::ImageQuarantined);
    for record in [&disk, &kernel] {
        store.release(&record.digest).unwrap();
    }
    store.seal(&kernel.digest).unwrap();
    serve(&place, &store, &disk).unwrap();
}

#[test]
fn a_kernel_is_not_served_as_a_disk() {
    let place = Place::new();
    let store = place.open();
    let record = kernel(&store, &content(50_000));
    assert_eq!(refused(serve(&place, &store, &record)), Code::ImageKind);
}
