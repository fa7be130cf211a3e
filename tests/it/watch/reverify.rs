//! `debvisor reverify` against a stand-in of GitHub: every drift planted once, outages told apart, hundreds of releases,
//! runs that are killed, and files that no memory holds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use debvisor::types::Digest;
use serde_json::{Value, json};

use super::github::{Published, Trouble};
use super::{Desk, Ran};
use crate::world::{Identity, Key, World, statement};

const ISSUER: &str = "https://accounts.example.org";
const WHO: &str = "release@example.org";

/// Files of a release with a list of them that the publisher signed.
fn files(artifacts: &[(&str, &[u8])], who: &str) -> Vec<(String, Vec<u8>)> {
    let mut list = String::new();
    for (name, bytes) in artifacts {
        list.push_str(&format!("{}  {name}\n", Digest::sha256(bytes).to_hex()));
    }
    let bundle = World::shared().blob(list.as_bytes(), &Identity::email(who, ISSUER)).bundle();
    let mut files: Vec<(String, Vec<u8>)> =
        artifacts.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    files.push(("SHA256SUMS".to_owned(), list.into_bytes()));
    files.push(("SHA256SUMS.sigstore.json".to_owned(), bundle.to_string().into_bytes()));
    files
}

fn sbom(components: &[&str]) -> Vec<u8> {
    let components: Vec<Value> = components
        .iter()
        .map(|purl| {
            let (name, version) = purl.rsplit('/').next().unwrap().split_once('@').unwrap();
            json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
        })
        .collect();
    let metadata = json!({"component": {"type": "application", "name": "app", "bom-ref": "app"}});
    json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": metadata, "components": components})
        .to_string()
        .into_bytes()
}

fn bom() -> Vec<u8> {
    sbom(&["pkg:cargo/foo@1.0.0", "pkg:cargo/bar@2.0.0"])
}

/// A desk whose GitHub has `o/r@v1`, attested, and a baseline of it.
fn watched() -> Desk {
    let desk = unwatched();
    reverify(&desk, &["o/r", "--write-baseline", "baseline.jsonl", "--baseline-signing-key", "watch.key"]).ends(0);
    assert!(desk.path("baseline.jsonl").exists());
    desk
}

fn unwatched() -> Desk {
    let desk = Desk::new();
    desk.write("root.json", World::shared().trusted_root().to_string());
    let made = desk.command(&["key", "generate", "--out", "watch"]).env("DEBVISOR_KEY_PASSWORD", "x").output().unwrap();
    assert!(made.status.success());
    publish(&desk, "v1", &bom());
    desk
}

fn publish(desk: &Desk, tag: &str, bom: &[u8]) {
    let app = format!("app {tag}");
    desk.github.publish("o/r", tag, &files(&[("app", app.as_bytes()), ("app.cdx.json", bom)], WHO));
    attest(desk, app.as_bytes(), &Identity::email(WHO, ISSUER));
}

fn attest(desk: &Desk, artifact: &[u8], identity: &Identity) {
    let bundle = World::shared().attest(&test_result(artifact), identity).bundle();
    let key = ("o/r".to_owned(), Digest::sha256(artifact).to_string());
    desk.github.hub().attestations.insert(key, vec![bundle]);
}

fn test_result(artifact: &[u8]) -> Value {
    let kind = "https://in-toto.io/attestation/test-result/v0.1";
    statement::statement(
        statement::STATEMENT_V1,
        &[statement::subject("app", artifact)],
        kind,
        &json!({"result": "PASSED"}),
    )
}

fn reverify(desk: &Desk, arguments: &[&str]) -> Ran {
    let fixed = [
        "--trusted-root",
        "root.json",
        "--certificate-identity-regexp",
        ".*@example\\.org",
        "--certificate-oidc-issuer",
        ISSUER,
        "--format",
        "json",
        "--github-wait",
        "2",
        "--github-pause-ms",
        "5",
    ];
    let output = desk
        .command(&[&["reverify"][..], arguments, &fixed].concat())
        .env("DEBVISOR_KEY_PASSWORD", "x")
        .output()
        .unwrap();
    Ran {
        exit: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const BASELINE: [&str; 4] = ["--baseline", "baseline.jsonl", "--baseline-key", "watch.pub"];

/// The codes and what they are about, once each; how the run ended.
fn codes(desk: &Desk, more: &[&str]) -> (i32, BTreeSet<String>) {
    // Each run looks at everything anew, whatever an earlier one has kept.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let cache = format!("cache-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let ran = reverify(desk, &[&["o/r", "--cache-dir", &cache][..], &BASELINE, more].concat());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    let reasons = report["reasons"].as_array().unwrap();
    (ran.exit, reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect())
}

#[track_caller]
fn finds(desk: &Desk, expected: &[&str]) {
    let (exit, found) = codes(desk, &[]);
    let expected: BTreeSet<String> = expected.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(found, expected);
    assert_eq!(exit, i32::from(!expected.is_empty()));
}

#[test]
fn a_release_that_is_as_it_was_is_allowed() {
    let desk = watched();
    finds(&desk, &[]);
    // A release more is no drift of the others; nobody has decided about it.
    publish(&desk, "v2", &bom());
    let (exit, found) = codes(&desk, &[]);
    assert_eq!((exit, found), (2, BTreeSet::from(["baseline-missing".to_owned()])));
}

#[test]
fn an_asset_that_the_same_signer_replaced_is_found_although_everything_verifies() {
    let desk = watched();
    for (name, bytes) in files(&[("app", b"other"), ("app.cdx.json", &bom())], WHO) {
        desk.github.hub().replace("o/r", "v1", &name, &bytes);
    }
    finds(&desk, &["asset-replaced"]);
}

#[test]
fn an_asset_that_somebody_replaced_is_found_and_does_not_verify() {
    let desk = watched();
    desk.github.hub().replace("o/r", "v1", "app", b"evil");
    finds(&desk, &["asset-replaced", "checksum-mismatch"]);
}

#[test]
fn an_asset_added_is_found() {
    let desk = watched();
    desk.github.hub().replace("o/r", "v1", "app.sig-helper", b"new");
    finds(&desk, &["asset-added", "file-unlisted"]);
}

#[test]
fn an_asset_gone_is_found() {
    let desk = watched();
    desk.github.hub().release("o/r", "v1").assets.remove("app");
    finds(&desk, &["asset-gone", "file-missing"]);
}

#[test]
fn a_release_gone_is_found() {
    let desk = watched();
    desk.github.hub().releases.get_mut("o/r").unwrap().remove("v1");
    finds(&desk, &["release-gone"]);
}

#[test]
fn a_moved_tag_is_found() {
    let desk = watched();
    desk.github.hub().release("o/r", "v1").commit = "f".repeat(40);
    finds(&desk, &["tag-moved"]);
}

#[test]
fn a_lost_attestation_is_found() {
    let desk = watched();
    desk.github.hub().attestations.clear();
    finds(&desk, &["attestation-lost"]);
}

#[test]
fn another_signer_of_the_same_bytes_is_found() {
    let desk = watched();
    let artifacts: [(&str, &[u8]); 2] = [("app", b"app v1"), ("app.cdx.json", &bom())];
    for (name, bytes) in files(&artifacts, "other@example.org") {
        desk.github.hub().replace("o/r", "v1", &name, &bytes);
    }
    finds(&desk, &["asset-replaced", "signer-changed"]);
}

#[test]
fn another_builder_of_the_same_bytes_is_found() {
    let desk = unwatched();
    let workflow = |name: &str| Identity::github("o/r", name, "refs/tags/v1");
    let provenance = |desk: &Desk, name: &str| {
        let identity = workflow(name);
        let bundle = World::shared().attest(&statement::slsa_v1(b"app v1", &identity), &identity).bundle();
        desk.github.hub().attestations.insert(("o/r".to_owned(), Digest::sha256(b"app v1").to_string()), vec![bundle]);
    };
    provenance(&desk, "release.yml");
    let named = [
        "--certificate-identity-regexp",
        "(.*@example\\.org|https://github\\.com/o/r/.*)",
        "--certificate-oidc-issuer-regexp",
        ".*",
    ];
    let run = |more: &[&str]| {
        let output = desk
            .command(
                &[&["reverify", "o/r", "--trusted-root", "root.json", "--format", "json"], &named[..], more].concat(),
            )
            .env("DEBVISOR_KEY_PASSWORD", "x")
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let first = run(&["--write-baseline", "baseline.jsonl", "--baseline-signing-key", "watch.key"]);
    assert_eq!(first["decision"], "allow", "{first}");
    provenance(&desk, "evil.yml");
    let second = run(&BASELINE);
    let found: Vec<&str> =
        second["reasons"].as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert!(found.contains(&"builder-changed") && found.contains(&"signer-changed"), "{second}");
}

#[test]
fn a_replaced_bill_of_materials_is_found_with_what_changed() {
    let desk = watched();
    let other = sbom(&["pkg:cargo/foo@1.0.0", "pkg:cargo/evil@6.6.6"]);
    for (name, bytes) in files(&[("app", b"app v1"), ("app.cdx.json", &other)], WHO) {
        desk.github.hub().replace("o/r", "v1", &name, &bytes);
    }
    finds(&desk, &["asset-replaced", "sbom-changed"]);
    let ran = reverify(&desk, &[&["o/r"][..], &BASELINE].concat());
    assert!(ran.stdout.contains("added: pkg:cargo/evil@6.6.6; removed: pkg:cargo/bar@2.0.0"), "{}", ran.stdout);
}

#[test]
fn an_advisory_since_published_is_found_and_an_older_one_is_not() {
    let advisory = |id: &str, package: &str| {
        json!({
            "id": id, "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z", "summary": "bad",
            "affected": [{"package": {"ecosystem": "crates.io", "name": package},
                          "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "3.0.0"}]}]}],
        })
        .to_string()
    };
    let desk = unwatched();
    std::fs::create_dir(desk.path("osv")).unwrap();
    desk.write("osv/OSV-1.json", advisory("OSV-1", "foo"));
    let known = ["--advisories", "osv"];
    let record = ["--write-baseline", "baseline.jsonl", "--baseline-signing-key", "watch.key"];
    reverify(&desk, &[&["o/r"][..], &known, &record].concat()).ends(0);
    assert_eq!(codes(&desk, &known), (0, BTreeSet::new()));
    desk.write("osv/OSV-2.json", advisory("OSV-2", "bar"));
    assert_eq!(codes(&desk, &known), (1, BTreeSet::from(["advisory-published".to_owned()])));
    // A run without advisories does not take it for mended, and has no finding either.
    assert_eq!(codes(&desk, &[]), (0, BTreeSet::new()));
    desk.write("osv/OSV-3.json", "{\"id\": 3}");
    assert_eq!(
        codes(&desk, &known).1,
        BTreeSet::from(["advisory-published".to_owned(), "advisory-malformed".to_owned()])
    );
}

#[test]
fn an_outage_is_undecided_and_hides_no_finding() {
    let desk = watched();
    let down = |path: &str| Trouble {
        path: path.to_owned(),
        times: 1_000,
        status: 503,
        headers: Vec::new(),
        body: String::new(),
    };
    let undecided = BTreeSet::from(["evidence-unreadable".to_owned()]);
    for path in ["/releases?", "/releases/tags", "/git/ref", "/attestations/", "/releases/assets/"] {
        desk.github.hub().troubles = vec![down(path)];
        assert_eq!(codes(&desk, &[]), (2, undecided.clone()), "{path}");
    }
    // One file cannot be had, and another was replaced.
    desk.github.hub().troubles = vec![down("/git/ref")];
    desk.github.hub().replace("o/r", "v1", "app", b"evil");
    let (exit, found) = codes(&desk, &[]);
    assert_eq!(exit, 1);
    assert!(found.contains("asset-replaced") && found.contains("evidence-unreadable"), "{found:?}");
    desk.github.hub().troubles =
        vec![Trouble { headers: vec![("retry-after", "3600".to_owned())], status: 429, ..down("/releases/tags") }];
    assert_eq!(codes(&desk, &[]), (2, BTreeSet::from(["rate-limited".to_owned()])));
}

#[test]
fn a_baseline_that_somebody_changed_is_not_believed() {
    let desk = watched();
    let line = std::fs::read_to_string(desk.path("baseline.jsonl")).unwrap();
    let mut bundle: Value = serde_json::from_str(line.trim()).unwrap();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let payload = engine.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap().replace(&"0".repeat(30), &"1".repeat(30));
    bundle["dsseEnvelope"]["payload"] = json!(engine.encode(payload));
    desk.write("baseline.jsonl", bundle.to_string());
    finds(&desk, &["baseline-invalid"]);
    desk.write("baseline.jsonl", line.repeat(2));
    finds(&desk, &["baseline-invalid"]);
    desk.write("other.pub", Key::p256().pem());
    desk.write("baseline.jsonl", &line);
    let ran = reverify(&desk, &["o/r", "--baseline", "baseline.jsonl", "--baseline-key", "other.pub"]).ends(1);
    assert!(ran.stdout.contains("baseline-invalid"));
}

#[test]
fn two_hundred_releases_are_looked_at_in_one_run_and_nothing_is_fetched_twice() {
    let desk = unwatched();
    for number in 2..=200 {
        publish(&desk, &format!("v{number}"), &bom());
    }
    let record = ["--write-baseline", "baseline.jsonl", "--baseline-signing-key", "watch.key"];
    let ran = reverify(&desk, &[&["o/r"][..], &record].concat()).ends(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["subjects"].as_array().unwrap().len(), 200);
    assert_eq!(std::fs::read_to_string(desk.path("baseline.jsonl")).unwrap().lines().count(), 200);
    let downloads = || desk.github.hub().log.iter().filter(|(_, path, _)| path.starts_with("/files/")).count();
    assert_eq!(downloads(), 800);
    assert!(!desk.github.hub().log.iter().any(|(method, ..)| method == "LEAK"), "the token went to the host of files");
    desk.github.hub().release("o/r", "v77").commit = "e".repeat(40);
    desk.github.hub().replace("o/r", "v133", "app", b"evil");
    let ran = reverify(&desk, &[&["o/r"][..], &BASELINE].concat()).ends(1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let reasons = report["reasons"].as_array().unwrap();
    let found: BTreeSet<(&str, &str)> =
        reasons.iter().map(|it| (it["subject"].as_str().unwrap(), it["code"].as_str().unwrap())).collect();
    let expected = [("o/r@v133", "asset-replaced"), ("o/r@v133", "checksum-mismatch"), ("o/r@v77", "tag-moved")];
    assert_eq!(found, BTreeSet::from(expected));
    assert_eq!(downloads(), 801, "only what changed is fetched again");
    // What is asked again is asked conditionally: most of it costs nothing of the limit.
    let unchanged = desk.github.hub().log.iter().filter(|(.., status)| *status == 304).count();
    assert!(unchanged > 500, "{unchanged}");
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let desk = unwatched();
    let big = vec![7_u8; 300_000];
    desk.github.publish("o/r", "v1", &files(&[("app", &big)], WHO));
    // The list and its bundle come whole; the third file breaks twice.
    desk.github.hub().cut_after = vec![usize::MAX, usize::MAX, 200_000, 50_000];
    reverify(&desk, &["o/r@v1", "--jobs", "1"]).ends(0);
    let hub = desk.github.hub();
    let partial = hub.log.iter().filter(|(.., status)| *status == 206).count();
    assert!(partial >= 1, "{:?}", hub.log);
    let total: usize = hub.releases["o/r"]["v1"].assets.values().map(|(_, bytes)| bytes.len()).sum();
    // What was on its way when the connection broke may be lost; nothing else is sent twice.
    assert!(hub.sent_bytes < total as u64 + 251_000, "{} of {total}", hub.sent_bytes);
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let desk = unwatched();
    let mut published = Published::default();
    published.assets.insert("../../escape".to_owned(), (900, "x".into()));
    desk.github.hub().releases.get_mut("o/r").unwrap().insert("v9".to_owned(), published);
    let ran = reverify(&desk, &["o/r@v9", "--cache-dir", "cache"]).ends(1);
    assert!(ran.stdout.contains("file-unsafe"), "{}", ran.stdout);
    assert!(!desk.path("escape").exists() && !desk.path("cache/escape").exists());
}

/// What a huge file weighs. One piece of it is in memory at a time, so that more would tell nothing more.
const HUGE_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// What the program may use: hundreds of releases and their evidence need a part of it.
const MEMORY_KIB: u64 = 300 * 1024;

#[test]
fn a_killed_run_goes_on_and_no_file_is_held_in_memory() {
    let desk = unwatched();
    let zeros_digest = {
        let mut hasher = debvisor::release::artifact::Hasher::new(&[debvisor::types::DigestAlgorithm::Sha256]);
        let piece = vec![0; 1024 * 1024];
        for _ in 0..HUGE_BYTES / 1024 / 1024 {
            debvisor::release::artifact::Sink::update(&mut hasher, &piece);
        }
        hasher.finish().remove(0)
    };
    let list = format!("{}  disk.img\n", zeros_digest.to_hex());
    let bundle = World::shared().blob(list.as_bytes(), &Identity::email(WHO, ISSUER)).bundle();
    let files = [
        ("disk.img".to_owned(), Vec::new()),
        ("SHA256SUMS".to_owned(), list.into_bytes()),
        ("SHA256SUMS.sigstore.json".to_owned(), bundle.to_string().into_bytes()),
    ];
    desk.github.publish("o/r", "huge", &files);
    let id = desk.github.hub().release("o/r", "huge").assets["disk.img"].0;
    desk.github.hub().huge.insert(id, HUGE_BYTES);
    let arguments = [
        "reverify",
        "o/r@huge",
        "--cache-dir",
        "cache",
        "--trusted-root",
        "root.json",
        "--certificate-identity",
        WHO,
        "--certificate-oidc-issuer",
        ISSUER,
        "--no-github-attestations",
        "--prune",
    ];
    let mut first = desk.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while desk.github.hub().sent_bytes < HUGE_BYTES / 4 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is fetched");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = desk.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut peak_kib = 0;
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", second.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak_kib = peak.unwrap_or(peak_kib).max(peak_kib);
        if let Some(status) = second.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
    assert!(peak_kib > 0 && peak_kib < MEMORY_KIB, "{peak_kib} KiB");
    let sent = desk.github.hub().sent_bytes;
    assert!(sent < HUGE_BYTES + HUGE_BYTES / 8, "what was there was fetched again: {sent}");
    assert!(!desk.path("cache/o/r").join(Digest::sha256(b"huge").to_hex()).join("files").exists(), "pruned");
}
