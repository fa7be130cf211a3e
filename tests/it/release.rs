//! `debvisor release components` through the real binary: a whole release, and one flaw at a time.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const MANIFEST: &str = r#"
[[component]]
name = "app-*.tar.gz"
kind = "archive"
min = 2
max = 2
max-bytes = 1000

[[component]]
name = "app"
kind = "program"

[[component]]
name = "*.cdx.json"
kind = "sbom"

[[component]]
name = "SHA256SUMS"
kind = "checksums"

[[component]]
name = "docs/**"
min = 0
"#;

/// A release that has everything.
fn whole() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    std::fs::create_dir_all(dir.path().join("release/docs/a")).unwrap();
    write("components.toml", MANIFEST.as_bytes());
    write("release/app-amd64.tar.gz", b"\x1f\x8b\x08packed");
    write("release/app-arm64.tar.gz", b"\x1f\x8b\x08packed");
    write("release/app", b"#!/bin/sh\n");
    write("release/app.cdx.json", br#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}"#);
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    write("release/SHA256SUMS", format!("{hex}  app-amd64.tar.gz\n{hex}  app\n").as_bytes());
    write("release/docs/a/index.html", b"<p>");
    dir
}

fn components(dir: &Path, release: &str) -> (i32, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let arguments = ["release", "components", release, "--manifest", "components.toml", "--format", "json"];
    let output = command.args(arguments).current_dir(dir).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let code = |reason: &Value| {
        let place = reason.get("subject").or_else(|| reason.get("location")).and_then(Value::as_str).unwrap_or("-");
        format!("{} {place}", reason["code"].as_str().unwrap())
    };
    let reasons = report["reasons"].as_array().map(|reasons| reasons.iter().map(code).collect());
    (output.status.code().unwrap(), reasons.unwrap_or_default())
}

#[test]
fn a_whole_release_passes() {
    let dir = whole();
    assert_eq!(components(dir.path(), "release"), (0, vec![]));
}

#[test]
fn each_flaw_is_told_with_its_code() {
    type Flaw<'a> = (&'a str, Option<&'a [u8]>, &'a str);
    let large = [&b"\x1f\x8b"[..], &[0; 1000]].concat();
    let flaws: [Flaw<'_>; 9] = [
        ("app-arm64.tar.gz", None, "component-missing app-*.tar.gz"),
        ("app", None, "component-missing app"),
        ("app-riscv64.tar.gz", Some(b"\x1f\x8b"), "component-extra app-*.tar.gz"),
        ("stray.txt", Some(b"x"), "component-extra stray.txt"),
        ("app", Some(b""), "component-empty app"),
        ("app-arm64.tar.gz", Some(&large), "component-too-large app-arm64.tar.gz"),
        ("app-arm64.tar.gz", Some(b"<html>404</html>"), "component-kind app-arm64.tar.gz"),
        ("app.cdx.json", Some(b"{}"), "component-kind app.cdx.json"),
        ("SHA256SUMS", Some(b"nothing\n"), "component-kind SHA256SUMS"),
    ];
    for (name, bytes, expected) in flaws {
        let dir = whole();
        let path = dir.path().join("release").join(name);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        assert_eq!(components(dir.path(), "release"), (1, vec![expected.to_owned()]), "{name}");
    }
}

#[test]
fn a_release_that_is_not_here_is_judged_as_far_as_its_list_tells() {
    let dir = whole();
    let manifest = "[[component]]\nname = 'app-*'\nmax-bytes = 10\n[[component]]\nname = 'app'\n";
    std::fs::write(dir.path().join("components.toml"), manifest).unwrap();
    let answer = |size: u64| {
        format!(
            r#"{{"tag_name": "v1", "assets": [{{"name": "app", "size": 3}}, {{"name": "app-x", "size": {size}}}]}}"#
        )
    };
    std::fs::write(dir.path().join("release.json"), answer(10)).unwrap();
    assert_eq!(components(dir.path(), "release.json"), (0, vec![]));
    std::fs::write(dir.path().join("release.json"), answer(11)).unwrap();
    assert_eq!(components(dir.path(), "release.json"), (1, vec!["component-too-large app-x".to_owned()]));
    // A list of names has no sizes: an open question, and no yes.
    let told = components(dir.path(), "release/SHA256SUMS");
    assert_eq!(told, (2, vec!["evidence-missing app-amd64.tar.gz".to_owned()]));
    assert_eq!(components(dir.path(), "nothing").0, 2);
}

#[test]
fn a_manifest_in_json_says_the_same_and_a_wrong_one_is_a_wrong_command_line() {
    let dir = whole();
    let write = |text: &str| std::fs::write(dir.path().join("components.toml"), text).unwrap();
    write(r#"{"extra": "allow", "component": [{"name": "app", "kind": "program", "max-bytes": 100}]}"#);
    assert_eq!(components(dir.path(), "release"), (0, vec![]));
    for wrong in [
        "",
        "component = []",
        "[[component]]\nkind = 'file'",
        "[[component]]\nname = 'a'\nkind = 'song'",
        "[[component]]\nname = 'a'\nmin = 2\nmax = 1",
        "[[component]]\nname = 'a'\nmaximum = 1",
    ] {
        write(wrong);
        assert_eq!(components(dir.path(), "release").0, 64, "{wrong}");
    }
}

#[test]
fn a_link_out_of_the_release_is_not_followed() {
    let dir = whole();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("release/docs/link")).unwrap();
    let (exit, reasons) = components(dir.path(), "release");
    assert_eq!(exit, 1);
    assert!(reasons.iter().all(|reason| reason.starts_with("file-unsafe")), "{reasons:?}");
}
