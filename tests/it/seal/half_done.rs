//! Runs that are ended in the middle, by a full disk or by `kill -9`, at each point at which that can leave anything
//! behind. strace stands in for both: it makes the n-th system call of a kind fail, or ends the program there.
//!
//! Before the journal is written the release is as it was, to the byte. After it, a gate refuses until the next run,
//! which finishes first what was begun.

use std::collections::BTreeMap;
use std::process::Command;

use super::{ALL, Desk};
use crate::signing::{Ran, program};

const DEBVISOR: &str = env!("CARGO_BIN_EXE_debvisor");
/// No run makes so many calls of one kind.
const MANY: usize = 200;

/// How a run ended into which strace reached.
enum Ended {
    Killed,
    Failed(Ran),
    /// The call that was waited for did not come.
    Done,
}

/// Seals while strace does this to the calls.
fn seal(desk: &Desk, inject: &str) -> Ended {
    let log = desk.path("trace");
    let calls = inject.split(':').next().unwrap();
    let ours = program(desk.home.path());
    let mut command = Command::new("strace");
    command
        .current_dir(ours.get_current_dir().unwrap())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", desk.home.path());
    command.args(["--follow-forks", "--quiet=all", "--output"]).arg(&log);
    command.arg(format!("--trace={calls}")).arg(format!("--inject={inject}"));
    let output = command.args(["--", DEBVISOR, "seal", "work/release", "--key", "release.key"]).output().unwrap();
    let reached = std::fs::read_to_string(&log).unwrap().contains("INJECTED");
    match output.status.code() {
        // strace ends as its program did.
        None => Ended::Killed,
        Some(0) => {
            assert!(!reached || inject.contains("ENOENT"), "{inject}: the failure went unnoticed");
            Ended::Done
        }
        Some(_) if std::fs::read_to_string(&log).unwrap().contains("killed by SIGKILL") => Ended::Killed,
        Some(_) => Ended::Failed(Ran::of(&output)),
    }
}

/// The release's own files, without what stands beside it.
fn release(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    desk.files().into_iter().filter(|(name, _)| name.starts_with("release/")).collect()
}

/// Never sealed; and sealed before, with one artifact changed and one gone since.
fn desks() -> [fn() -> Desk; 2] {
    let fresh = || {
        let desk = Desk::new();
        desk.write("work/release/app.bin", b"what was built\n");
        desk
    };
    let changed = || {
        let desk = Desk::with_release();
        desk.seal(&[]).succeeds();
        desk.write("work/release/app.bin", b"what was built later\n");
        std::fs::remove_file(desk.path("work/release/doc/notes.txt")).unwrap();
        desk
    };
    [fresh, changed]
}

/// Kills the program at every call of this kind, on a new release each time.
fn killed_at_each(call: &str) {
    let mut points = 0;
    for desk in desks() {
        for point in 1..MANY {
            let desk = desk();
            let before = release(&desk);
            match seal(&desk, &format!("{call}:signal=SIGKILL:when={point}")) {
                Ended::Done => break,
                Ended::Failed(ran) => panic!("{call} {point}: {ran:?}"),
                Ended::Killed => points += 1,
            }
            let is_untouched = release(&desk) == before;
            let journal = desk.path("work/.release.debvisor-seal/journal.json").exists();
            assert!(is_untouched || journal || desk.gate(&["--require", ALL]).exit == 0, "{call} {point}: half done");
            if journal && !is_untouched {
                // Either the last step was done, or a gate says no and how to go on.
                let ran = desk.gate(&["--require", ALL]);
                assert!(ran.exit == 0 || ran.stderr.contains("was interrupted"), "{call} {point}: {ran:?}");
            }
            desk.seal(&[]).succeeds();
            desk.is_sealed();
        }
    }
    assert!(points > 10, "{call} was reached {points} times");
}

#[test]
fn killed_at_any_rename_it_is_finished_by_the_next_run() {
    killed_at_each("rename");
}

#[test]
fn killed_at_any_removal_it_is_finished_by_the_next_run() {
    killed_at_each("unlink,unlinkat");
}

#[test]
fn killed_while_it_is_staged_the_release_is_as_it_was() {
    killed_at_each("fsync");
}

/// Lets every call of this kind fail, on a new release each time; the release must be as it was.
fn failed_at_each(call: &str, error: &str) {
    let mut points = 0;
    for desk in desks() {
        for point in 1..MANY {
            let desk = desk();
            let before = release(&desk);
            match seal(&desk, &format!("{call}:error={error}:when={point}")) {
                Ended::Done => break,
                Ended::Killed => panic!("{call} {point}: killed"),
                Ended::Failed(ran) => {
                    points += 1;
                    assert!(matches!(ran.exit, 2 | 64 | 70), "{call} {point}: {ran:?}");
                    assert!(ran.stderr.contains("error: "), "{call} {point}: {ran:?}");
                    let is_finished = ran.stderr.contains("cannot finish sealing");
                    assert!(release(&desk) == before || is_finished, "{call} {point}: {}", ran.stderr);
                }
            }
            desk.seal(&[]).succeeds();
            desk.is_sealed();
        }
    }
    assert!(points > 10, "{call} was reached {points} times");
}

#[test]
fn on_a_full_disk_the_release_is_as_it_was() {
    failed_at_each("fsync", "ENOSPC");
}

#[test]
fn where_a_file_cannot_be_moved_into_place_the_release_is_as_it_was() {
    failed_at_each("rename", "EACCES");
}

#[test]
fn another_run_over_the_same_release_waits_for_nobody() {
    let desk = Desk::with_release();
    let home = desk.path("work/.release.debvisor-seal");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&home).unwrap();
    let lock = std::fs::File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    let before = desk.files();
    desk.seal(&[]).fails(2, "another run is sealing");
    assert_eq!(desk.files(), before);
    drop(lock);
    desk.seal(&[]).succeeds();
    desk.is_sealed();
}

#[test]
fn a_folder_that_others_may_write_to_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::with_release();
    // Its journal would have the notes taken away, and a file of somebody's put in.
    desk.write("work/.release.debvisor-seal/tree/install.sh", b"run me\n");
    let digest = debvisor::types::Digest::sha256(b"what is new\n");
    let journal = serde_json::json!([
        {"do": "place", "name": "install.sh"}, {"do": "remove", "name": "doc/notes.txt", "digest": digest},
    ]);
    desk.write("work/.release.debvisor-seal/journal.json", journal.to_string().as_bytes());
    let home = desk.path("work/.release.debvisor-seal");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o777)).unwrap();
    let before = desk.files();
    desk.seal(&[]).fails(64, "not a folder of yours alone");
    assert_eq!(desk.files(), before);
    // Nor is a name that leads out of the release, in a folder of one's own.
    let journal = serde_json::json!([{"do": "place", "name": "../../install.sh"}]);
    desk.write("work/.release.debvisor-seal/journal.json", journal.to_string().as_bytes());
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let ran = desk.seal(&[]);
    assert_eq!(ran.exit, 70, "{ran:?}");
    assert!(!desk.path("install.sh").exists());
}
