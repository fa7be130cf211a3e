//! `debvisor trust update`, against repositories on loopback and in directories: honest ones, and each flaw alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::repository::{Files, Key, Plan, in_days, write};
use super::server::{Answer, Server};
use super::{allowed, debvisor, refused, report};

/// A user's home with a bootstrap root in it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tuf-root.json"), plan.bootstrap()).unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn installed(&self) -> PathBuf {
        self.path().join(".config/debvisor/trust/trusted_root.json")
    }

    /// Puts a repository into a directory of its own.
    fn mirror(&self, files: &Files) -> String {
        let dir = self.path().join("mirror");
        let _ = fs::remove_dir_all(&dir);
        write(files, &dir);
        dir.to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn update(&self, mirror: &str) -> Value {
        allowed(self.path(), &["trust", "update", "--mirror", mirror, "--tuf-root", "tuf-root.json"])
    }

    #[track_caller]
    fn refuses(&self, mirror: &str, exit: i32, code: &str) -> String {
        refused(self.path(), &["trust", "update", "--mirror", mirror, "--tuf-root", "tuf-root.json"], exit, code)
    }

    /// Expects the plan's repository to be rejected, and whatever was installed before to stand as it was.
    #[track_caller]
    fn rejects(&self, plan: &Plan) -> String {
        self.rejects_files(&plan.build())
    }

    #[track_caller]
    fn rejects_files(&self, files: &Files) -> String {
        let before = fs::read(self.installed()).ok();
        let message = self.refuses(&self.mirror(files), 1, "tuf-rejected");
        assert_eq!(fs::read(self.installed()).ok(), before, "the installed root was touched");
        message
    }
}

fn root(mark: &str) -> Vec<u8> {
    let json = String::from_utf8(debvisor::release::trust::embedded().json.to_vec()).unwrap();
    json.replace("https://fulcio.sigstore.dev", &format!("https://fulcio.{mark}.example")).into_bytes()
}

fn honest() -> Plan {
    Plan::honest(&root("first"))
}

#[test]
fn an_honest_repository_is_taken_over_http_and_from_a_directory() {
    for consistent_snapshot in [true, false] {
        let plan = Plan { consistent_snapshot, ..honest() };
        let home = Home::new(&plan);
        let server = Server::start(plan.build(), &[]);
        let report = home.update(&server.url);
        assert_eq!(report["facts"]["changed"], true);
        assert_eq!(report["facts"]["versions"]["timestamp"], 5);
        assert_eq!(fs::read(home.installed()).unwrap(), plan.target);
        assert_eq!(server.asked()[0], "2.root.json", "a bare look for the next root comes first");

        let shown = allowed(home.path(), &["trust", "check", "--max-trust-root-age", "0"]);
        assert!(shown["facts"]["origin"].as_str().unwrap().ends_with("trust/trusted_root.json"));
        assert_eq!(shown["trust_root"]["age_days"], 0);

        let again = home.update(&home.mirror(&plan.build()));
        assert_eq!(again["facts"]["changed"], false);
    }
}

#[test]
fn a_directory_in_the_reference_layout_is_read_too() {
    let plan = honest();
    let home = Home::new(&plan);
    let mirror = home.path().join("mirror");
    for (name, bytes) in plan.build() {
        let name = if name.starts_with("targets/") { name } else { format!("metadata/{name}") };
        write(&Files::from([(name, bytes)]), &mirror);
    }
    home.update("mirror");
}

#[test]
fn a_newer_root_replaces_the_installed_one() {
    let mut plan = honest();
    let home = Home::new(&plan);
    home.update(&home.mirror(&plan.build()));
    plan.target = root("second");
    plan.versions = [6, 5, 4];
    let report = home.update(&home.mirror(&plan.build()));
    assert_eq!(report["facts"]["changed"], true);
    assert_eq!(fs::read(home.installed()).unwrap(), plan.target);
}

#[test]
fn roots_are_rotated_through_every_version() {
    let mut plan = honest();
    let home = Home::new(&plan);
    plan.rotate(vec![Key(2), Key(3), Key(4)]);
    plan.rotate(vec![Key(4), Key(5), Key(6)]);
    plan.rotate(vec![Key(7), Key(8)]);
    let report = home.update(&home.mirror(&plan.build()));
    assert_eq!(report["facts"]["versions"]["root"], 4);
    // From the kept chain, even where the mirror has only its newest root.
    let mut files = plan.build();
    files.retain(|name, _| !name.ends_with(".root.json") || name.starts_with('4'));
    home.update(&home.mirror(&files));
}

#[test]
fn a_root_that_the_version_before_did_not_sign_is_rejected() {
    let mut plan = honest();
    let home = Home::new(&plan);
    plan.rotate(vec![Key(4), Key(5), Key(6)]).also_signed_by.clear();
    assert!(home.rejects(&plan).contains("threshold"));
}

#[test]
fn a_root_that_its_own_keys_did_not_sign_is_rejected() {
    let mut plan = honest();
    let home = Home::new(&plan);
    plan.rotate(vec![Key(4), Key(5), Key(6)]).signed_by = Some(vec![Key(4)]);
    assert!(home.rejects(&plan).contains("threshold"));
}

#[test]
fn a_root_that_skips_a_version_is_rejected() {
    let mut plan = honest();
    let home = Home::new(&plan);
    plan.rotate(vec![Key(2), Key(3)]);
    plan.rotate(vec![Key(2), Key(3)]);
    let mut files = plan.build();
    let third = files.remove("3.root.json").unwrap();
    files.insert("2.root.json".to_owned(), third);
    home.rejects_files(&files);
}

#[test]
fn expired_metadata_of_any_role_is_rejected() {
    for role in 0..4 {
        let mut plan = honest();
        match role {
            3 => plan.roots[0].expires = in_days(-1),
            at => plan.expires[at] = in_days(-1),
        }
        assert!(Home::new(&plan).rejects(&plan).contains("expired"));
    }
}

#[test]
fn an_expired_root_is_passed_through_on_the_way_to_a_newer_one() {
    let mut plan = honest();
    plan.roots[0].expires = in_days(-1);
    let home = Home::new(&plan);
    plan.rotate(vec![Key(4), Key(5)]).expires = in_days(9);
    home.update(&home.mirror(&plan.build()));
}

#[test]
fn a_rollback_of_any_role_is_rejected_whichever_mirror_offers_it() {
    for older in [[4, 4, 3], [6, 3, 3], [6, 5, 2]] {
        let mut plan = honest();
        let home = Home::new(&plan);
        home.update(&Server::start(plan.build(), &[]).url);
        plan.versions = older;
        plan.target = root("older");
        let message = home.rejects(&plan);
        assert!(message.contains("rollback"), "{older:?}: {message}");
    }
}

#[test]
fn a_rollback_is_rejected_after_the_kept_metadata_expired() {
    let mut plan = honest();
    plan.expires[0] = in_days(0) + jiff::SignedDuration::from_secs(3);
    let home = Home::new(&plan);
    home.update(&home.mirror(&plan.build()));
    std::thread::sleep(Duration::from_secs(5));
    plan.expires[0] = in_days(5);
    plan.versions = [4, 4, 3];
    home.rejects(&plan);
}

#[test]
fn metadata_by_another_key_is_rejected() {
    let plan = Plan { online_signer: Key(99), ..honest() };
    assert!(Home::new(&plan).rejects(&plan).contains("0/1 valid signatures"));
}

#[test]
fn a_bootstrap_root_under_its_threshold_is_rejected() {
    let mut plan = honest();
    plan.roots[0].signed_by = Some(vec![Key(2)]);
    assert!(Home::new(&plan).rejects(&plan).contains("1/2 valid signatures"));
    plan.roots[0].signed_by = Some(vec![]);
    assert!(Home::new(&plan).rejects(&plan).contains("0/2 valid signatures"));
    plan.roots[0].signed_by = Some(vec![Key(2), Key(2)]);
    assert!(Home::new(&plan).rejects(&plan).contains("duplicate signature"));
}

#[test]
fn one_key_under_two_ids_does_not_count_twice() {
    let plan = honest();
    let home = Home::new(&plan);
    let mut forged = plan.root(1);
    let second = Key(2);
    let id = forged["signed"]["roles"]["root"]["keyids"][1].as_str().unwrap().to_owned();
    let alias = "ff".repeat(32);
    forged["signed"]["keys"][&alias] = forged["signed"]["keys"][&id].clone();
    forged["signed"]["roles"]["root"]["keyids"] = serde_json::json!([id, alias]);
    let again = super::repository::resign(&forged["signed"], &[(&id, second), (&alias, second)]);
    fs::write(home.path().join("tuf-root.json"), again.to_string()).unwrap();
    assert!(home.rejects(&plan).contains("one key under two ids"));
}

#[test]
fn a_target_that_is_not_the_signed_one_is_rejected() {
    let plan = honest();
    for served in [root("other"), [plan.target.as_slice(), b" "].concat(), plan.target[1..].to_vec(), Vec::new()] {
        let plan = Plan { served: Some(served), ..plan.clone() };
        Home::new(&plan).rejects(&plan);
    }
}

#[test]
fn metadata_mixed_from_two_versions_is_rejected() {
    let plan = honest();
    let mut other = plan.clone();
    other.target = root("other");
    for name in ["4.snapshot.json", "3.targets.json"] {
        let mut files = plan.build();
        files.insert(name.to_owned(), other.build()[name].clone());
        Home::new(&plan).rejects_files(&files);
    }
}

#[test]
fn a_member_twice_in_metadata_is_rejected() {
    let plan = honest();
    let home = Home::new(&plan);
    let mut files = plan.build();
    let text = String::from_utf8(files["timestamp.json"].clone()).unwrap();
    files.insert("timestamp.json".to_owned(), text.replacen('{', "{\"signatures\":[],", 1).into_bytes());
    assert!(home.rejects_files(&files).contains("stands twice"));
}

#[test]
fn a_signed_target_that_is_no_trust_root_is_not_installed() {
    let mut plan = honest();
    let home = Home::new(&plan);
    home.update(&home.mirror(&plan.build()));
    let before = fs::read(home.installed()).unwrap();
    plan.versions = [6, 5, 4];
    plan.target = b"{}".to_vec();
    home.refuses(&home.mirror(&plan.build()), 2, "trust-root-unreadable");
    assert_eq!(fs::read(home.installed()).unwrap(), before);
}

#[test]
fn endless_data_is_rejected_and_not_swallowed() {
    let plan = honest();
    for name in ["2.root.json", "timestamp.json", "4.snapshot.json"] {
        let server = Server::start(plan.build(), &[(name, Answer::Endless)]);
        let began = Instant::now();
        let message = Home::new(&plan).refuses(&server.url, 1, "tuf-rejected");
        assert!(message.contains("larger than"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_server_that_is_silent_or_drips_is_unreachable_after_the_timeout() {
    let plan = honest();
    for answer in [Answer::Silence, Answer::Trickle] {
        let server = Server::start(plan.build(), &[("timestamp.json", answer)]);
        let home = Home::new(&plan);
        let began = Instant::now();
        let arguments = ["trust", "update", "--mirror", &server.url, "--tuf-root", "tuf-root.json", "--timeout", "1"];
        assert!(refused(home.path(), &arguments, 2, "tuf-unreachable").contains("longer than"));
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(!home.installed().exists());
    }
}

#[test]
fn a_repository_that_cannot_be_had_is_undecided() {
    let plan = honest();
    let home = Home::new(&plan);
    for status in [500, 502, 404, 403] {
        let server = Server::start(plan.build(), &[("timestamp.json", Answer::Status(status))]);
        home.refuses(&server.url, 2, "tuf-unreachable");
    }
    home.refuses("nowhere", 2, "tuf-unreachable");
    // Bound and closed again: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    home.refuses(&format!("http://{closed}/"), 2, "tuf-unreachable");
}

#[test]
fn offline_takes_a_directory_and_no_url() {
    let plan = honest();
    let home = Home::new(&plan);
    let server = Server::start(plan.build(), &[]);
    let arguments = ["trust", "update", "--offline", "--mirror", &server.url, "--tuf-root", "tuf-root.json"];
    assert_eq!(debvisor(home.path(), &arguments).status.code(), Some(64));
    assert_eq!(server.asked(), Vec::<String>::new());
    let mirror = home.mirror(&plan.build());
    allowed(home.path(), &["trust", "update", "--offline", "--mirror", &mirror, "--tuf-root", "tuf-root.json"]);
}

#[test]
fn a_directory_is_read_without_a_socket_and_a_url_is_not() {
    let plan = honest();
    let home = Home::new(&plan);
    let mirror = home.mirror(&plan.build());
    let server = Server::start(plan.build(), &[]);
    let root = home.path().join("tuf-root.json");
    let output = home.path().join("root.json");
    let trace = |mirror: &str, offline: Option<&str>| {
        let arguments = ["trust", "update", "--mirror", mirror, "--tuf-root", root.to_str().unwrap(), "--output"];
        let arguments = arguments.into_iter().chain([output.to_str().unwrap()]).chain(offline);
        crate::offline::trace(home.path(), env!("CARGO_BIN_EXE_debvisor"), arguments)
    };
    let traced = trace(&mirror, Some("--offline"));
    assert_eq!((traced.exit_code, traced.network_calls), (0, Vec::new()));
    // The control: the same over the network is seen.
    let traced = trace(&server.url, None);
    assert!(traced.exit_code == 0 && traced.network_calls.iter().any(|call| call.contains("AF_INET")));
}

#[test]
fn what_is_no_repository_or_root_is_a_usage_error_or_a_no() {
    let plan = honest();
    let home = Home::new(&plan);
    for mirror in ["ftp://127.0.0.1/", "http://"] {
        let output = debvisor(home.path(), &["trust", "update", "--mirror", mirror]);
        assert_eq!(output.status.code(), Some(64), "{mirror}");
    }
    for bytes in ["", "{}", "[]", "{\"signed\":{},\"signatures\":[]}"] {
        fs::write(home.path().join("tuf-root.json"), bytes).unwrap();
        home.rejects(&plan);
    }
}

#[test]
fn an_output_elsewhere_has_its_own_record_and_guard() {
    let mut plan = honest();
    let home = Home::new(&plan);
    let mirror = home.mirror(&plan.build());
    let arguments =
        ["trust", "update", "--mirror", &mirror, "--tuf-root", "tuf-root.json", "--output", "out/root.json"];
    allowed(home.path(), &arguments);
    assert!(home.path().join("out/root.origin.json").is_file() && home.path().join("out/root.tuf").is_dir());
    assert!(!home.installed().exists());
    plan.versions = [1, 1, 1];
    home.mirror(&plan.build());
    refused(home.path(), &arguments, 1, "tuf-rejected");
    let (_, report) = report(home.path(), &["trust", "show", "--trusted-root", "out/root.json"]);
    assert_eq!(report["facts"]["age_days"], 0);
}
