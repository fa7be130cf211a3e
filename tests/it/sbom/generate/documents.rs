//! The documents themselves: where they go, what they describe, and that the same source makes the same bytes.

use std::path::Path;

use serde_json::{Value, json};

use super::{Sources, run_in, set};

const LOCK: &str = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"1.2.3\"\ndependencies = [\"serde\"]\n\n\
    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
    checksum = \"abababababababababababababababababababababababababababababababab\"\n";
const MANIFEST: &str =
    "[package]\nname = \"app\"\nversion = \"1.2.3\"\nlicense = \"MIT/Apache-2.0\"\n\n[dependencies]\nserde = \"1\"\n";

fn app() -> Sources {
    Sources::new(&[("Cargo.lock", LOCK), ("Cargo.toml", MANIFEST), ("src/main.rs", "")])
}

fn generate(dir: &Path, source: &str, format: &str) -> Vec<u8> {
    let run = run_in(dir, &["generate", source, "--output-format", format]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    run.stdout
}

#[test]
fn the_same_source_makes_the_same_bytes_wherever_it_is_and_however_old_its_files_are() {
    let (one, other) = (app(), app());
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    let file = std::fs::File::options().write(true).open(other.path("source/Cargo.lock")).unwrap();
    file.set_modified(long_ago).unwrap();
    for format in ["cyclonedx-json", "spdx-json"] {
        let first = generate(one.dir.path(), "source", format);
        assert!(first.ends_with(b"}\n"));
        assert_eq!(first, generate(other.dir.path(), "source", format), "{format}");
        assert_eq!(first, generate(&other.path("source"), ".", format), "{format}: by another name");
        assert_eq!(first, generate(Path::new("/"), &format!("dir:{}", one.path("source").display()), format));
        // Another content is another document by name too.
        other.put("source/Cargo.lock", LOCK.replace("1.0.0", "1.0.1").as_bytes());
        let changed: Value = serde_json::from_slice(&generate(other.dir.path(), "source", format)).unwrap();
        let first: Value = serde_json::from_slice(&first).unwrap();
        for name in ["serialNumber", "documentNamespace"] {
            assert!(first[name].is_null() || first[name] != changed[name], "{name}");
        }
        other.put("source/Cargo.lock", LOCK.as_bytes());
    }
}

#[test]
fn the_time_is_the_one_that_source_date_epoch_says() {
    let bill = app().bill(&[]);
    assert_eq!(bill.cyclonedx["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(bill.spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let tool = format!("Tool: debvisor-{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(bill.spdx["creationInfo"]["creators"], json!([tool]));
}

#[test]
fn the_project_at_the_top_is_what_the_document_describes() {
    let bill =
        app().bill(&["--supplier", "Acme <https://acme.example>", "--author", "Release team <release@acme.example>"]);
    let described = bill.described();
    assert_eq!(described["purl"], "pkg:cargo/app@1.2.3");
    assert_eq!(described["type"], "application");
    assert_eq!(described["licenses"], json!([{"expression": "MIT OR Apache-2.0", "acknowledgement": "declared"}]));
    assert_eq!(described["supplier"], json!({"name": "Acme", "url": ["https://acme.example"]}));
    assert_eq!(bill.cyclonedx["metadata"]["manufacturer"]["contact"], json!([{"email": "release@acme.example"}]));
    assert_eq!(bill.listed(), set(&["pkg:cargo/serde@1.0.0 required"]));
    let package = bill.spdx["packages"].as_array().unwrap().iter().find(|package| package["name"] == "app").unwrap();
    assert_eq!(package["supplier"], "Organization: Acme (https://acme.example)");
    assert_eq!(package["licenseDeclared"], "MIT OR Apache-2.0");
    assert!(
        bill.spdx["creationInfo"]["creators"]
            .as_array()
            .unwrap()
            .contains(&json!("Organization: Release team (release@acme.example)"))
    );
}

#[test]
fn a_document_about_an_artifact_carries_its_digests_and_validate_binds_it() {
    let sources = app();
    sources.put("app.bin", b"the artifact");
    let bill = sources.bill(&["--describes", "app.bin"]);
    assert_eq!(bill.described()["name"], "app.bin");
    assert_eq!(bill.listed(), set(&["pkg:cargo/app@1.2.3 -", "pkg:cargo/serde@1.0.0 required"]));
    assert_eq!(bill.edges(), set(&["app.bin -> pkg:cargo/app@1.2.3", "pkg:cargo/app@1.2.3 -> pkg:cargo/serde@1.0.0"]));
    let algorithms: Vec<&str> =
        bill.described()["hashes"].as_array().unwrap().iter().map(|hash| hash["alg"].as_str().unwrap()).collect();
    assert_eq!(algorithms, ["SHA-256", "SHA-512"]);
    for document in ["a.cdx.json", "a.spdx.json"] {
        assert_eq!(sources.run(&["validate", document, "--describes", "app.bin"]).exit, 0);
        sources.put("other.bin", b"another artifact");
        assert_eq!(sources.run(&["validate", document, "--describes", "other.bin"]).exit, 1);
    }
}

#[test]
fn a_name_and_a_version_of_the_users_come_before_the_sources() {
    let bill = app().bill(&["--source-name", "product", "--source-version", "7"]);
    assert_eq!((&bill.described()["name"], &bill.described()["version"]), (&json!("product"), &json!("7")));
    assert_eq!(bill.listed().len(), 2);
    assert!(bill.edges().contains("product -> pkg:cargo/app@1.2.3"));
}

#[test]
fn a_scope_is_told_in_both_formats() {
    let manifest = MANIFEST.replace("[dependencies]", "[dev-dependencies]");
    let sources = Sources::new(&[("Cargo.lock", LOCK), ("Cargo.toml", &manifest)]);
    let bill = sources.bill(&[]);
    assert_eq!(bill.listed(), set(&["pkg:cargo/serde@1.0.0 excluded"]));
    let kinds: Vec<&str> = bill.spdx["relationships"]
        .as_array()
        .unwrap()
        .iter()
        .map(|relationship| relationship["relationshipType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["DESCRIBES", "DEV_DEPENDENCY_OF", "DEPENDS_ON"]);
    // The reader has the same scope again.
    let read = debvisor::release::evidence::sbom::read(bill.spdx.to_string().as_bytes()).unwrap();
    assert_eq!(read.sbom.components[0].scope, Some(debvisor::release::evidence::sbom::model::Scope::Excluded));
}

#[test]
fn a_licence_that_is_no_expression_stays_the_makers_own_words() {
    let manifest = MANIFEST.replace("MIT/Apache-2.0", "Our own, see LICENSE");
    let bill = Sources::new(&[("Cargo.lock", LOCK), ("Cargo.toml", &manifest)]).bill(&[]);
    let licenses = &bill.described()["licenses"];
    assert_eq!(licenses, &json!([{"license": {"name": "Our own, see LICENSE", "acknowledgement": "declared"}}]));
    let info = &bill.spdx["hasExtractedLicensingInfos"][0];
    assert_eq!(info["name"], "Our own, see LICENSE");
    let declared: Vec<&Value> =
        bill.spdx["packages"].as_array().unwrap().iter().map(|package| &package["licenseDeclared"]).collect();
    assert!(declared.contains(&&info["licenseId"]), "{declared:?}");
}

#[test]
fn a_document_goes_to_stdout_to_the_output_or_to_the_file_that_its_format_names() {
    let sources = app();
    let run = sources.run(&["generate", "source"]);
    assert!(run.stdout.starts_with(b"{\n  \"$schema\": \"http://cyclonedx.org/schema/bom-1.6.schema.json\""));
    let run = sources.run(&["generate", "source", "-o", "spdx-json", "--output", "out.json"]);
    assert_eq!((run.exit, run.stdout.len()), (0, 0));
    assert!(run.stderr.contains("wrote out.json: 1 components"), "{}", run.stderr);
    for wrong in [
        &["-o", "cyclonedx-json", "-o", "spdx-json"][..],
        &["-o", "syft-json"],
        &["-o", "spdx-json="],
        &["-o", "spdx-json=no/such/folder/a.json"],
    ] {
        assert_eq!(sources.run(&[&["generate", "source"], wrong].concat()).exit, 64, "{wrong:?}");
    }
}

#[test]
fn a_source_that_is_not_there_is_an_open_question_and_leaves_no_file() {
    let sources = app();
    let run = sources.run(&["generate", "nowhere", "-o", "spdx-json=a.json", "--format", "json"]);
    assert_eq!(run.exit, 2);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["reasons"][0]["code"], "subject-unreadable");
    assert!(!sources.path("a.json").exists());
}

#[test]
fn our_own_lock_file_is_one_component_for_each_of_its_packages() {
    let lock = include_str!("../../../../Cargo.lock");
    let sources = Sources::new(&[("Cargo.lock", lock)]);
    let bill = sources.bill(&[]);
    // The package of the source itself is what is described.
    assert_eq!(bill.components().len(), lock.matches("[[package]]").count() - 1);
    assert_eq!(bill.described()["purl"], concat!("pkg:cargo/debvisor@", env!("CARGO_PKG_VERSION")));
    let with_digest = bill.components().iter().filter(|component| component["hashes"][0]["alg"] == "SHA-256").count();
    assert_eq!(with_digest, lock.matches("\nchecksum = ").count());
    let whole = Sources::new(&[("Cargo.lock", lock), ("Cargo.toml", include_str!("../../../../Cargo.toml"))]).bill(&[]);
    let listed = whole.listed();
    let has = |name: &str, scope: &str| {
        listed.iter().any(|line| line.starts_with(&format!("pkg:cargo/{name}@")) && line.ends_with(scope))
    };
    assert!(has("proptest", " excluded") && has("serde_json", " required") && has("sha2", " required"), "{listed:#?}");
}

#[test]
fn a_file_alone_is_described_by_its_digests() {
    let sources = app();
    let bill = sources.bill_of("file:source/Cargo.lock", &["--source-name", "the lock file"]);
    assert_eq!(bill.described()["type"], "file");
    assert_eq!(bill.listed(), set(&["pkg:cargo/app@1.2.3 -", "pkg:cargo/serde@1.0.0 -"]));
    assert_eq!(sources.run(&["validate", "a.spdx.json", "--describes", "source/Cargo.lock"]).exit, 0);
}

#[test]
fn an_archive_of_sources_says_what_its_tree_says_and_describes_itself() {
    let sources = app();
    let of_tree = sources.bill(&[]).listed();
    for (name, flag) in [("app-1.2.3.crate", "-czf"), ("app-1.2.3.tar", "-cf")] {
        let packed = std::process::Command::new("tar")
            .args([flag, name, "--transform", "s,^source,app-1.2.3,", "source"])
            .current_dir(&sources.dir)
            .status()
            .unwrap();
        assert!(packed.success());
        let bill = sources.bill_of(name, &[]);
        assert!(!bill.listed().is_empty());
        assert!(of_tree.is_subset(&bill.listed()), "{name}: {:?} and {of_tree:?}", bill.listed());
        let digest = debvisor::types::Digest::sha256(&std::fs::read(sources.path(name)).unwrap()).to_hex();
        assert!(bill.described()["hashes"].to_string().contains(&digest), "{name}: {}", bill.described());
    }
}
