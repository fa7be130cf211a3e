//! Sources that nobody honest writes: an answer or a reason, and never a panic; nothing outside the source is read.

use std::collections::BTreeMap;

use debvisor::release::attest::sbom::Format;
use debvisor::release::collect::sbom::tree::InMemory;
use debvisor::release::collect::sbom::{Options, Scan, View, describe};
use debvisor::release::evidence::sbom;
use debvisor::release::evidence::sbom::model::{Component, ComponentKind};
use debvisor::types::{Code, limits};
use proptest::prelude::*;

use super::Sources;

/// The names by which files are read; the fuzz target has the same list.
const NAMES: [&str; 15] = [
    "Cargo.lock",
    "Cargo.toml",
    "package-lock.json",
    "package.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "requirements.txt",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "pyproject.toml",
    "a.dist-info/METADATA",
    "go.mod",
    "pom.xml",
    "program",
];

/// A sound file of every kind, the number of its name before it.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let files = [
        "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\"b\"]\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
        "[package]\nname = \"a\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\n[features]\ndefault = [\"dep:b\"]\n[dependencies]\nb = { version = \"1\", optional = true }\n",
        "{\"lockfileVersion\":3,\"packages\":{\"\":{\"name\":\"r\",\"dependencies\":{\"a\":\"1\"}},\"node_modules/a\":{\"version\":\"1.0.0\",\"integrity\":\"sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=\"}}}",
        "{\"name\":\"r\",\"version\":\"1.0.0\",\"author\":\"A <a@b.example>\",\"dependencies\":{\"a\":\"1\"}}",
        "a@^1:\n  version \"1.0.0\"\n  dependencies:\n    b \"2\"\n\nb@2:\n  version \"2.0.0\"\n",
        "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        specifier: '1'\n        version: 1.0.0\npackages:\n  a@1.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\nsnapshots:\n  a@1.0.0: {}\n",
        "a==1.0 --hash=sha256:aa\nb>=2\n",
        "[[package]]\nname = \"a\"\nversion = \"1.0\"\nfiles = [{file = \"a\", hash = \"sha256:aa\"}]\n[package.dependencies]\nb = \"*\"\n",
        "[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = { virtual = \".\" }\ndependencies = [{ name = \"b\" }]\n[[package]]\nname = \"b\"\nversion = \"2\"\n",
        "{\"_meta\":{},\"default\":{\"a\":{\"version\":\"==1.0\",\"hashes\":[\"sha256:aa\"]}}}",
        "[project]\nname = \"a\"\nversion = \"1\"\ndependencies = [\"b>=1\"]\n",
        "Name: a\nVersion: 1.0\nLicense: MIT\nRequires-Dist: b\n\n",
        "module a.example/b\n\nrequire c.example/d v1.0.0 // indirect\n\nreplace c.example/d => ../d\n",
        "<project><groupId>g</groupId><artifactId>a</artifactId><version>1</version><properties><v>2</v></properties><dependencies><dependency><groupId>g</groupId><artifactId>b</artifactId><version>${v}</version></dependency></dependencies></project>",
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        seeds.push([&[u8::try_from(number).unwrap()], file.as_bytes()].concat());
    }
    seeds.push([&[14], super::binary::go_program().as_slice()].concat());
    for seed in &seeds {
        exercise(NAMES[usize::from(seed[0])], &seed[1..]).unwrap();
    }
    seeds
}

/// Makes both documents of one file, and reads them again.
fn exercise(name: &str, bytes: &[u8]) -> Result<usize, Vec<debvisor::types::Reason>> {
    let tree = InMemory::new(BTreeMap::from([(name.to_owned(), bytes.to_vec())]));
    let scan = Scan::new(&tree, View::Source, &[]).unwrap();
    let subject = Component::new(ComponentKind::File, "", "source");
    let made = describe(&scan, subject, &Options::default())?;
    for format in Format::ALL {
        let bytes = format.write(&made);
        let document = sbom::read(&bytes).unwrap();
        assert!(document.findings.errors.is_empty(), "{format} of {name}: {:?}", document.findings.errors);
        assert_eq!(document.sbom.all().count(), made.all().count(), "{format}");
        assert_eq!(format.write(&made), bytes);
    }
    Ok(made.components.len())
}

/// Text that has the look of every format.
fn any_text() -> impl Strategy<Value = String> {
    const WORDS: [&str; 40] = [
        "[[package]]\n",
        "name = \"a\"\n",
        "version = \"1.0.0\"\n",
        "dependencies = [\"a\", \"b 1.0.0\"]\n",
        "{\"",
        "\":",
        "}",
        "[",
        "]",
        "\"a\"",
        "a@1:\n",
        "  version \"1\"\n",
        "  dependencies:\n",
        "    a \"1\"\n",
        "packages",
        "lockfileVersion",
        ": ",
        "\n",
        "  ",
        "'9.0'",
        "a==1.0",
        " --hash=sha256:",
        "\\\n",
        "Name: a\n",
        "Version: 1\n",
        "module a\n",
        "require (\n",
        "a v1\n",
        ")\n",
        "=> ",
        "<project>",
        "</project>",
        "<artifactId>",
        "</artifactId>",
        "${a}",
        "&lt;",
        "__metadata:\n",
        "node_modules/a",
        "\u{0}",
        "é",
    ];
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_file_makes_it_panic_and_what_is_made_is_sound(number in 0..NAMES.len(), text in any_text()) {
        let _ = exercise(NAMES[number], text.as_bytes());
    }

    #[test]
    fn a_sound_file_with_some_bytes_changed_is_an_answer_or_a_reason(
        number in 0..NAMES.len(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()
    ) {
        let seed = &seeds_once()[number];
        let mut bytes = seed[1..].to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let _ = exercise(NAMES[number], &bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = exercise(NAMES[number], &bytes);
    }
}

fn seeds_once() -> &'static [Vec<u8>] {
    static SEEDS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(seeds);
    &SEEDS
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_a_reason_and_can_be_left_out_by_name() {
    for name in [
        "Cargo.lock",
        "Cargo.toml",
        "package-lock.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "poetry.lock",
        "uv.lock",
        "Pipfile.lock",
        "go.mod",
        "pom.xml",
    ] {
        let sources =
            Sources::new(&[(&format!("deep/er/{name}"), "{ this is none of them"), ("requirements.txt", "a==1\n")]);
        assert_eq!(sources.refused(&[]), ["sbom-source-malformed"], "{name}");
        let bill = sources.bill(&["--exclude", "deep"]);
        assert_eq!(bill.components().len(), 1, "{name}");
    }
}

#[test]
fn a_version_that_no_document_has_room_for_is_a_reason() {
    let metadata = |length: usize| format!("Metadata-Version: 2.1\nName: a\nVersion: {}\n", "1".repeat(length));
    let name = "a.dist-info/METADATA";
    assert_eq!(exercise(name, metadata(limits::SBOM_VERSION_CHARS).as_bytes()).unwrap(), 1);
    let reasons = exercise(name, metadata(limits::SBOM_VERSION_CHARS + 1).as_bytes()).unwrap_err();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(reasons[0].code.known(), Some(Code::InputTooLarge));
    assert!(reasons[0].location.as_deref().unwrap().ends_with("METADATA"), "{reasons:?}");
}

#[test]
fn two_lock_files_that_give_one_package_two_digests_are_a_reason() {
    let lock = |digest: &str| {
        format!(
            "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{}\"\n",
            digest.repeat(32)
        )
    };
    let sources = Sources::new(&[("x/Cargo.lock", &lock("ab")), ("y/Cargo.lock", &lock("cd"))]);
    assert_eq!(sources.refused(&[]), ["sbom-hash-conflict"]);
}

#[test]
fn a_licence_of_many_brackets_is_an_answer() {
    let license = format!("{}MIT{}", "(".repeat(200_000), ")".repeat(200_000));
    let manifest = serde_json::json!({"name": "a", "version": "1.0.0", "license": license});
    assert_eq!(exercise("package.json", manifest.to_string().as_bytes()).unwrap(), 0);
    let custom =
        serde_json::json!({"name": "a", "version": "1.0.0", "license": "LicenseRef-Own AND (MIT OR LicenseRef-Other)"});
    assert_eq!(exercise("package.json", custom.to_string().as_bytes()).unwrap(), 0);
}

#[test]
fn a_link_out_of_the_source_is_not_followed() {
    let sources = Sources::new(&[("requirements.txt", "a==1\n")]);
    sources.put("outside/Cargo.lock", b"nonsense that would be a reason");
    std::os::unix::fs::symlink("../outside/Cargo.lock", sources.path("source/Cargo.lock")).unwrap();
    std::os::unix::fs::symlink("../outside", sources.path("source/folder")).unwrap();
    assert_eq!(sources.bill(&[]).components().len(), 1);
}

#[test]
fn a_graph_with_cycles_and_a_deep_chain_end() {
    let mut lock = "version = 4\n".to_owned();
    for number in 0..3000 {
        let next = (number + 1) % 3000;
        lock += &format!(
            "[[package]]\nname = \"p{number}\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\ndependencies = [\"p{next}\"]\n"
        );
    }
    assert_eq!(exercise("Cargo.lock", lock.as_bytes()).unwrap(), 3000);
    let mut text = "a@1:\n  version \"1\"\n".to_owned();
    text += "  dependencies:\n    a \"1\"\n";
    assert_eq!(exercise("yarn.lock", text.as_bytes()).unwrap(), 1);
}

#[test]
fn nesting_and_entities_that_grow_are_reasons() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for (name, text) in [
        ("package-lock.json", format!("{{\"lockfileVersion\":3,\"packages\":{}}}", deep("[", "]"))),
        ("poetry.lock", format!("a = {}", deep("[", "]"))),
        ("pnpm-lock.yaml", format!("a: {}", deep("[", "]"))),
        ("pnpm-lock.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\n".to_owned()),
        (
            "pom.xml",
            "<!DOCTYPE p [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><project>&b;</project>".to_owned(),
        ),
        ("pom.xml", deep("<project>", "</project>")),
    ] {
        let reasons = exercise(name, text.as_bytes()).expect_err(name);
        assert_eq!(reasons[0].code.as_str(), "sbom-source-malformed", "{name}");
    }
}
