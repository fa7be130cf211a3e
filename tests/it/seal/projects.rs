//! Small projects of two languages, sealed as their maintainers would: what their lock files say is in the SBOMs, in the
//! provenance's materials and, where a scanner finds something in it, in the VEX document of the one artifact that has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{ALL, Desk};

const CARGO_LOCK: &str = r#"version = 4

[[package]]
name = "app"
version = "1.0.0"
dependencies = ["itoa"]

[[package]]
name = "itoa"
version = "1.0.15"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "4a5f13b858c8d314ee3e8f639011f7ccefe71f97f96e50151fb991f267928e2c"
"#;

const PACKAGE_LOCK: &str = r#"{"name": "web", "version": "2.0.0", "lockfileVersion": 3, "packages": {
  "": {"name": "web", "version": "2.0.0", "dependencies": {"left-pad": "1.3.0"}},
  "node_modules/left-pad": {"version": "1.3.0", "license": "WTFPL",
    "resolved": "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz",
    "integrity": "sha512-XI5MPzVNApjAyhQzphX8BkmKsKUxD4LdyK24iZeQGinBN9yTQT3bFlCBy/aVx2HrNcqQGsdot8ghrjyrvMCoEA=="}}}"#;

/// The predicate of this type among an artifact's attestations.
#[track_caller]
fn predicate(desk: &Desk, artifact: &str, predicate_type: &str) -> Value {
    let lines = String::from_utf8(desk.read(&format!("work/release/{artifact}.attestations.jsonl"))).unwrap();
    let statements = lines.lines().map(|line| {
        let bundle: Value = serde_json::from_str(line).unwrap();
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&payload).unwrap()
    });
    let mut wanted = statements.filter(|statement| statement["predicateType"] == predicate_type);
    wanted.next().unwrap_or_else(|| panic!("no {predicate_type}"))["predicate"].clone()
}

fn purls(sbom: &Value) -> Vec<&str> {
    sbom["components"].as_array().unwrap().iter().filter_map(|component| component["purl"].as_str()).collect()
}

#[test]
fn a_crate_with_its_lock_file() {
    let desk = Desk::new();
    desk.write(
        "work/Cargo.toml",
        b"[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[dependencies]\nitoa = \"1\"\n",
    );
    desk.write("work/Cargo.lock", CARGO_LOCK.as_bytes());
    desk.write("work/src/main.rs", b"fn main() {}\n");
    desk.write("work/release/app-1.0.0.crate", b"what cargo packed\n");
    // The repository that the release's directory is in is its source.
    desk.write("work/.git/HEAD", b"ref: refs/heads/main\n");
    let build = ["--source-uri", "https://github.com/acme/app", "--source-ref", "refs/tags/v1.0.0"];
    desk.seal(&[&["--version", "1.0.0", "--author", "Acme"], &build[..]].concat()).succeeds();
    desk.is_sealed();
    let sbom = desk.json("work/release/app-1.0.0.crate.cdx.json");
    assert!(purls(&sbom).contains(&"pkg:cargo/itoa@1.0.15"), "{:?}", purls(&sbom));
    assert_eq!(predicate(&desk, "app-1.0.0.crate", "https://cyclonedx.org/bom"), sbom);
    let built = predicate(&desk, "app-1.0.0.crate", "https://slsa.dev/provenance/v1");
    let materials = built["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let checksum = json!({"sha256": "4a5f13b858c8d314ee3e8f639011f7ccefe71f97f96e50151fb991f267928e2c"});
    assert!(materials.contains(&json!({"uri": "pkg:cargo/itoa@1.0.15", "digest": checksum})), "{materials:?}");
    assert_eq!(materials[0]["uri"], "git+https://github.com/acme/app@refs/tags/v1.0.0");
    let source = ["--source-uri", "https://github.com/acme/app"];
    let verify =
        ["verify", "work/release/app-1.0.0.crate", "--bundle", "work/release/app-1.0.0.crate.attestations.jsonl"];
    desk.run(&[&verify[..], &["--key", "release.pub"], &source].concat()).succeeds();

    // A lock file that has changed since makes other documents.
    let before = desk.files();
    desk.write("work/Cargo.lock", CARGO_LOCK.replace("1.0.15", "1.0.16").as_bytes());
    desk.seal(&[&["--version", "1.0.0", "--author", "Acme"], &build[..]].concat()).succeeds();
    desk.is_sealed();
    assert_ne!(before, desk.files());
    assert!(purls(&desk.json("work/release/app-1.0.0.crate.cdx.json")).contains(&"pkg:cargo/itoa@1.0.16"));
    desk.write("work/Cargo.lock", b"[[package]]\nname = 1\n");
    let before = desk.files();
    desk.seal(&[]).fails(1, "Cargo.lock");
    assert_eq!(desk.files(), before);
}

#[test]
fn a_package_of_npm_with_its_lock_file() {
    let desk = Desk::new();
    desk.write(
        "source/package.json",
        b"{\"name\": \"web\", \"version\": \"2.0.0\", \"dependencies\": {\"left-pad\": \"1.3.0\"}}",
    );
    desk.write("source/package-lock.json", PACKAGE_LOCK.as_bytes());
    desk.write("work/release/web-2.0.0.tgz", b"what npm packed\n");
    desk.seal(&["--source", "source", "--name", "web", "--version", "2.0.0"]).succeeds();
    desk.is_sealed();
    let sbom = desk.json("work/release/web-2.0.0.tgz.cdx.json");
    assert!(purls(&sbom).contains(&"pkg:npm/left-pad@1.3.0"), "{:?}", purls(&sbom));
    assert_eq!(sbom["metadata"]["component"]["version"], "2.0.0");
}

#[test]
fn a_finding_goes_to_the_artifact_that_has_the_component() {
    let desk = Desk::new();
    desk.write("source/package-lock.json", PACKAGE_LOCK.as_bytes());
    desk.write("source/package.json", b"{\"name\": \"web\", \"version\": \"2.0.0\"}");
    desk.write("work/release/web.tgz", b"what npm packed\n");
    desk.write("work/release/other.bin", b"something else\n");
    let other = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": {
        "type": "file", "name": "other.bin",
        "hashes": [{"alg": "SHA-256", "content": debvisor::types::Digest::sha256(b"something else\n").to_hex()}]}},
        "components": []});
    desk.write("work/release/other.bin.cdx.json", other.to_string().as_bytes());
    let finding = |name: &str, package: &str| {
        json!({"vulnerability": {"id": name, "severity": "Critical"},
        "artifact": {"name": package, "version": "1.3.0", "purl": format!("pkg:npm/{package}@1.3.0?arch=any")}})
    };
    let results = json!({"matches": [finding("CVE-2026-1", "left-pad"), finding("CVE-2026-2", "nowhere")]});
    desk.write("results.json", results.to_string().as_bytes());
    desk.seal(&["--source", "source", "--vex-results", "results.json"]).succeeds();
    desk.gate(&["--require", ALL]).succeeds();
    let told = |artifact: &str| {
        let document = desk.json(&format!("work/release/{artifact}.openvex.json"));
        let statements = document["statements"].as_array().unwrap();
        statements.iter().map(|one| one["vulnerability"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // What no SBOM lists is told of all.
    assert_eq!(told("web.tgz"), ["CVE-2026-1", "CVE-2026-2"]);
    assert_eq!(told("other.bin"), ["CVE-2026-2"]);
}
