//! `debvisor checksum`: every line of the threat model that is about checksum lists, through the real binary.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

const CONTENT: [(&str, &[u8]); 3] = [("app.tar.gz", b"app"), ("d/sbom.json", b"{}"), ("new\nline", b"")];

struct Release {
    dir: tempfile::TempDir,
}

impl Release {
    /// Three files and no list yet.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in CONTENT {
            let path = dir.path().join("files").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self { dir }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("files").join(name)
    }

    /// Writes the list beside the files and verifies, with unlisted files refused.
    fn verify(&self, list: &str) -> (i32, Vec<String>) {
        let path = self.dir.path().join("SHA256SUMS");
        fs::write(&path, list).unwrap();
        let (code, report) =
            run(&["verify", path.to_str().unwrap(), "--dir", self.file("").to_str().unwrap(), "--no-unlisted"]);
        (code, codes(&report))
    }
}

fn run(args: &[&str]) -> (i32, Value) {
    run_in(Path::new("."), args)
}

fn run_in(dir: &Path, args: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["checksum", "--format", "json"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn codes(report: &Value) -> Vec<String> {
    let reasons = report["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A list in GNU form that names all three files.
fn list() -> String {
    let line = |name: &str, bytes: &[u8]| format!("{}  {name}\n", sha256(bytes));
    format!("{}{}\\{}", line("app.tar.gz", b"app"), line("d/sbom.json", b"{}"), line("new\\nline", b""))
}

#[test]
fn a_list_that_names_every_file_passes_in_every_form() {
    let release = Release::new();
    let gnu = list();
    let bsd = format!(
        "SHA256 (app.tar.gz) = {}\nSHA256 (./d/sbom.json) = {}\n\\SHA256 (new\\nline) = {}\n",
        sha256(b"app"),
        sha256(b"{}"),
        sha256(b"")
    );
    for text in [
        gnu.clone(),
        bsd,
        gnu.replace("  ", " *"),
        gnu.replace('\n', "\r\n"),
        gnu.replace("  ", "  ./"),
        gnu.to_uppercase()
            .replace("APP.TAR.GZ", "app.tar.gz")
            .replace("D/SBOM.JSON", "d/sbom.json")
            .replace("NEW\\NLINE", "new\\nline"),
        format!("# sums\n\n{gnu}\n"),
        format!("{gnu}{gnu}"),
        gnu.trim_end().to_owned(),
    ] {
        assert_eq!(release.verify(&text), (0, vec![]), "{text}");
    }
}

#[test]
fn a_changed_file_is_a_mismatch() {
    let release = Release::new();
    fs::write(release.file("app.tar.gz"), "apq").unwrap();
    assert_eq!(release.verify(&list()), (1, vec!["checksum-mismatch".to_owned()]));
}

#[test]
fn an_absent_file_is_missing() {
    let release = Release::new();
    fs::remove_file(release.file("d/sbom.json")).unwrap();
    assert_eq!(release.verify(&list()), (1, vec!["file-missing".to_owned()]));
}

#[test]
fn a_file_that_nobody_listed_is_refused_where_asked() {
    let release = Release::new();
    fs::write(release.file("d/extra"), "").unwrap();
    assert_eq!(release.verify(&list()), (1, vec!["file-unlisted".to_owned()]));
    let path = release.dir.path().join("SHA256SUMS");
    let (code, _) = run(&["verify", path.to_str().unwrap(), "--dir", release.file("").to_str().unwrap()]);
    assert_eq!(code, 0, "only --no-unlisted asks");
}

#[test]
fn the_list_and_its_signatures_need_no_line_and_other_signatures_do() {
    let release = Release::new();
    for name in ["SHA256SUMS.asc", "SHA256SUMS.sigstore.json"] {
        fs::write(release.file(name), "").unwrap();
    }
    let path = release.file("SHA256SUMS");
    fs::write(&path, list()).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(run(&["verify", path, "--no-unlisted"]).0, 0, "the list's own directory is the default");
    fs::write(release.file("app.tar.gz.asc"), "").unwrap();
    let (code, report) = run(&["verify", path, "--no-unlisted"]);
    assert_eq!((code, codes(&report)), (1, vec!["file-unlisted".to_owned()]));
    assert_eq!(report["reasons"][0]["subject"], "app.tar.gz.asc");
}

#[test]
fn two_digests_for_one_name_are_refused() {
    let release = Release::new();
    for name in ["app.tar.gz", "./app.tar.gz"] {
        let text = format!("{}{}  {name}\n", list(), sha256(b"other"));
        assert_eq!(release.verify(&text), (1, vec!["checksum-conflict".to_owned()]));
    }
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let release = Release::new();
    fs::write(release.dir.path().join("outside"), "outside").unwrap();
    let absolute = release.dir.path().join("outside");
    for name in ["../outside", "d/../../outside", absolute.to_str().unwrap(), "..\\outside", "C:\\outside", "a\0b"] {
        let text = format!("{}{}  {name}\n", list(), sha256(b"outside"));
        assert_eq!(release.verify(&text), (1, vec!["checksum-name-unsafe".to_owned()]), "{name:?}");
    }
}

#[test]
fn digests_of_the_wrong_length_malformed_lines_and_empty_lists_are_refused() {
    let release = Release::new();
    let sha512 = hex::encode(Sha512::digest(b"app"));
    for text in [
        list().replace(&sha256(b"app"), &sha256(b"app")[..40]),
        list().replace(&sha256(b"app"), &sha512),
        list().replace(&sha256(b"app"), &"g".repeat(64)),
        format!("{}garbage\n", list()),
        String::new(),
        "# nothing\n".to_owned(),
    ] {
        assert_eq!(release.verify(&text), (1, vec!["checksum-list-malformed".to_owned()]), "{text}");
    }
}

#[test]
fn links_and_special_files_are_refused_and_never_followed() {
    let release = Release::new();
    let app = release.file("app.tar.gz");
    fs::rename(&app, release.dir.path().join("app.tar.gz")).unwrap();
    std::os::unix::fs::symlink("../app.tar.gz", &app).unwrap();
    let (code, codes) = release.verify(&list());
    assert_eq!(code, 1);
    assert!(codes.iter().all(|code| code == "file-unsafe"), "{codes:?}");

    // A directory on the way that is a link.
    let release = Release::new();
    fs::rename(release.file("d"), release.dir.path().join("d")).unwrap();
    std::os::unix::fs::symlink("../d", release.file("d")).unwrap();
    assert_eq!(release.verify(&list()).0, 1);

    // A pipe, listed or not, blocks nobody.
    let release = Release::new();
    let pipe = release.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(release.verify(&list()), (1, vec!["file-unsafe".to_owned()]));
}

#[test]
fn what_cannot_be_read_leaves_the_question_open() {
    assert_eq!(run(&["verify", "/nonexistent/SHA256SUMS"]).0, 2);
    let release = Release::new();
    let path = release.dir.path().join("SHA256SUMS");
    fs::write(&path, list()).unwrap();
    let (code, report) = run(&["verify", path.to_str().unwrap(), "--dir", "/nonexistent"]);
    assert_eq!((code, codes(&report)), (2, vec!["subject-unreadable".to_owned()]));
}

#[test]
fn a_created_list_verifies_and_coreutils_agrees() {
    for (algorithm, program) in [("sha256", "sha256sum"), ("sha512", "sha512sum")] {
        let release = Release::new();
        let dir = release.file("");
        fs::write(release.file("SUMS.asc"), "").unwrap();
        let output = release.file("SUMS");
        for _ in 0..2 {
            let (code, _) =
                run(&["create", "--algorithm", algorithm, "--output", output.to_str().unwrap(), dir.to_str().unwrap()]);
            assert_eq!(code, 0);
        }
        let text = fs::read_to_string(&output).unwrap();
        assert_eq!(text.lines().count(), 3, "neither itself nor its signature: {text}");
        assert!(text.lines().map(|line| line.rsplit_once("  ").unwrap().1).is_sorted());
        assert_eq!(run(&["verify", output.to_str().unwrap(), "--no-unlisted"]).0, 0);
        let theirs = Command::new(program).args(["--check", "--strict", "--quiet", "SUMS"]).current_dir(&dir).status();
        assert!(theirs.unwrap().success(), "{program} reads it");
    }
}

#[test]
fn files_are_listed_by_the_names_that_were_given() {
    let release = Release::new();
    let dir = release.file("");
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["checksum", "create", "./d/sbom.json", "app.tar.gz"])
        .current_dir(&dir)
        .output()
        .unwrap();
    let expected = format!("{}  app.tar.gz\n{}  d/sbom.json\n", sha256(b"app"), sha256(b"{}"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let absolute = release.file("app.tar.gz");
    for inputs in [&["../x"][..], &[absolute.to_str().unwrap()], &["d", "app.tar.gz"], &["nonexistent"], &[]] {
        let args = [&["create"], inputs].concat();
        assert_eq!(run_in(&dir, &args).0, 64, "{inputs:?}");
    }
}

#[test]
fn a_list_is_not_made_over_links() {
    let release = Release::new();
    std::os::unix::fs::symlink("app.tar.gz", release.file("latest")).unwrap();
    let output = release.dir.path().join("SUMS");
    let (code, report) = run(&["create", "--output", output.to_str().unwrap(), release.file("").to_str().unwrap()]);
    assert_eq!((code, codes(&report)), (1, vec!["file-unsafe".to_owned()]));
    assert!(!output.exists(), "all of it or nothing");
}
