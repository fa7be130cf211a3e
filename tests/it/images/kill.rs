//! Kill -9 at every step, as the code lists them: what is opened afterwards is whole, and the same act works again.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use debvisor::kill::{self, KillPoint};
use debvisor::node::images::{Expected, ImageStore};
use debvisor::types::vm::ArtifactKind;
use debvisor::types::{Code, Digest};
use jiff::Timestamp;

use super::{Place, content, expected, files_below, open, refused};

const FOLDER: &str = "DEBVISOR_TEST_KILL_FOLDER";
const POINT: &str = "DEBVISOR_TEST_KILL_POINT";
const BYTES: usize = 600_000;

/// Everything that a store does, from nothing to nothing.
fn live(store: &ImageStore) {
    let bytes = content(BYTES);
    let said =
        Expected { digest: Some(Digest::sha256(&bytes)), bytes: Some(BYTES as u64), ..expected(ArtifactKind::Disk) };
    let id = store.upload_begin(said).unwrap().id;
    store.upload_append(id, 0, &bytes[..BYTES / 2]).unwrap();
    store.upload_append(id, BYTES as u64 / 2, &bytes[BYTES / 2..]).unwrap();
    let digest = store.upload_finish(id, Timestamp::UNIX_EPOCH).unwrap().record.digest;
    store.decision_put(&digest, b"{}").unwrap();
    store.evidence_put(&digest, "sbom.json", b"{}").unwrap();
    store.quarantine(&digest, "test").unwrap();
    store.release(&digest).unwrap();
    store.delete(&digest).unwrap();
}

/// The process that is killed; does nothing unless it is called by the test below.
#[test]
fn driver() {
    #[expect(clippy::disallowed_methods, reason = "how the test reaches its other half")]
    let (Some(folder), Ok(point)) = (std::env::var_os(FOLDER), std::env::var(POINT)) else { return };
    kill::arm(&point).unwrap();
    live(&open(Path::new(&folder)));
}

#[test]
fn killed_at_any_step_a_store_is_whole_when_it_is_opened_again() {
    let ours: Vec<KillPoint> = KillPoint::ALL
        .iter()
        .copied()
        .filter(|point| point.name().starts_with("import-") || point.name().starts_with("image-"))
        .collect();
    assert!(ours.len() > 8, "the points were not found");
    for point in ours {
        let mut passed = 0;
        for turn in 1.. {
            let place = Place::new();
            let died = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "images::kill::driver", "--nocapture"])
                .env(FOLDER, place.path())
                .env(POINT, format!("{}:{turn}", point.name()))
                .output()
                .unwrap();
            if died.status.success() {
                break;
            }
            let said = String::from_utf8_lossy(&died.stdout);
            assert_eq!(died.status.signal(), Some(9), "{}:{turn}: {said}", point.name());
            passed = turn;
            converges(&place, &format!("{}:{turn}", point.name()));
        }
        assert!(passed > 0, "{} is never passed", point.name());
    }
}

fn converges(place: &Place, point: &str) {
    let bytes = content(BYTES);
    let digest = Digest::sha256(&bytes);
    let store = place.open();
    for image in store.list().unwrap() {
        assert_eq!(image.digest, digest, "{point}");
        assert!(image.record.is_some(), "{point}: {:?}", image.refused);
        store.verify(&digest, &|_| ()).unwrap_or_else(|reason| panic!("{point}: {reason}"));
    }
    for upload in store.upload_list().unwrap() {
        let stands = usize::try_from(upload.received_bytes).unwrap();
        store.upload_append(upload.id, stands as u64, &bytes[stands..]).unwrap();
        store.upload_finish(upload.id, Timestamp::UNIX_EPOCH).unwrap();
        store.verify(&digest, &|_| ()).unwrap_or_else(|reason| panic!("{point}: {reason}"));
    }
    assert!(fs::read_dir(store.root().join("uploads")).unwrap().next().is_none(), "{point}: an upload is half there");
    let known = ["content", "decision.json", "sbom.json", "quarantined", "receipt.json", "tree"];
    for file in files_below(&store.root().join("sha256")) {
        assert!(known.iter().any(|name| file.ends_with(&format!("/{name}"))), "{point}: {file} was left");
    }
    // And all of it works once more, to its very end.
    live(&store);
    assert_eq!(refused(store.record(&digest)), Code::ImageUnknown, "{point}");
    assert_eq!(files_below(store.root()), ["lock"], "{point}");
}
