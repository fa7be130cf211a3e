//! The lines of the threat model's section "SBOM", each with its reason code.

use serde_json::{Value, json};

use super::maker::{Desk, accepted, component, cyclonedx, package, refused, relationship, sha256, spdx, spdx3};

const ARTIFACT: &[u8] = b"the artifact";

fn digest() -> String {
    sha256("the artifact")
}

#[test]
fn a_sound_document_is_accepted_in_every_format() {
    let describes = format!("sha256:{}", digest());
    for document in [cyclonedx(ARTIFACT), spdx(ARTIFACT), spdx3(ARTIFACT)] {
        let warnings = accepted(&document, &["--strict", "--min-components", "5", "--describes", &describes]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn an_sbom_bound_to_another_digest_is_refused() {
    let describes = format!("sha256:{}", digest());
    for document in [cyclonedx(b"another"), spdx(b"another"), spdx3(b"another")] {
        refused(&document, &["--describes", &describes], &["sbom-unbound"]);
    }
}

#[test]
fn an_sbom_bound_to_a_file_is_bound_to_its_bytes() {
    let desk = Desk::new();
    desk.put("sbom.json", &cyclonedx(ARTIFACT));
    desk.bytes("artifact", ARTIFACT);
    desk.bytes("changed", b"the artifacT");
    let run = |name| desk.run(&["validate", "sbom.json", "--describes", name, "--format", "json"]);
    assert_eq!(run("artifact").exit, 0);
    assert_eq!(run("changed").codes(), ["sbom-unbound"]);
    let missing = run("missing");
    assert_eq!((missing.exit, missing.codes()), (2, vec!["subject-unreadable".to_owned()]));
}

#[test]
fn an_sbom_bound_by_sha_1_only_is_refused() {
    let mut document = cyclonedx(ARTIFACT);
    // The true SHA-1 of the artifact, and it still proves nothing.
    document["metadata"]["component"]["hashes"] =
        json!([{ "alg": "SHA-1", "content": "1d2fd4f8aa5fc1ff3f1b3ae94e1e5f20c9c4a7ad" }]);
    refused(&document, &["--describes", &format!("sha256:{}", digest())], &["sbom-unbound"]);
}

#[test]
fn an_sbom_bound_by_a_hash_on_a_dependency_is_refused() {
    let mut document = cyclonedx(b"another");
    document["components"][0]["hashes"][0]["content"] = json!(digest());
    refused(&document, &["--describes", &format!("sha256:{}", digest())], &["sbom-unbound"]);
    document["metadata"]["component"].as_object_mut().unwrap().remove("hashes");
    refused(&document, &["--describes", &format!("sha256:{}", digest())], &["sbom-unbound"]);
    let mut document = spdx(b"another");
    document["packages"][1]["checksums"][0]["checksumValue"] = json!(digest());
    refused(&document, &["--describes", &format!("sha256:{}", digest())], &["sbom-unbound"]);
}

#[test]
fn an_sbom_with_one_right_and_one_wrong_digest_of_the_artifact_is_refused() {
    let mut document = cyclonedx(ARTIFACT);
    let hashes = document["metadata"]["component"]["hashes"].as_array_mut().unwrap();
    hashes.push(json!({ "alg": "SHA-512", "content": "ab".repeat(64) }));
    let desk = Desk::new();
    desk.put("sbom.json", &document);
    desk.bytes("artifact", ARTIFACT);
    let run = desk.run(&["validate", "sbom.json", "--describes", "artifact", "--format", "json"]);
    assert_eq!(run.codes(), ["sbom-unbound"]);
}

fn padded(entries: &[(&str, Option<&str>)]) -> Value {
    let mut document = cyclonedx(ARTIFACT);
    let list: Vec<Value> = entries
        .iter()
        .enumerate()
        .map(|(index, (name, purl))| {
            let mut entry =
                json!({ "type": "library", "bom-ref": format!("r{index}"), "name": name, "version": "1.0+1" });
            if let Some(purl) = purl {
                entry["purl"] = json!(purl);
            }
            entry
        })
        .collect();
    document["components"] = json!(list);
    document["dependencies"] = json!([]);
    document
}

#[test]
fn a_count_padded_with_duplicates_case_qualifier_or_encoding_variants_of_one_purl_is_refused() {
    let document = padded(&[
        ("serde", Some("pkg:cargo/serde@1.0%2B1")),
        ("serde", Some("pkg:cargo/serde@1.0+1")),
        ("Serde", Some("pkg:cargo/Serde@1.0+1")),
        ("serde", Some("pkg:Cargo/serde@1.0+1")),
        ("serde", Some("pkg:cargo/serde@1.0+1?a=1")),
        ("serde", Some("pkg:cargo/serde@1.0+1?a=2")),
        ("serde", Some("pkg:cargo/serde@1.0+1#sub/path")),
        ("serde", Some("pkg://cargo/%73erde@1.0+1")),
        ("SERDE", None),
        (" serde", None),
    ]);
    accepted(&document, &["--min-components", "1"]);
    refused(&document, &["--min-components", "2"], &["sbom-too-few"]);
}

#[test]
fn the_described_artifact_and_single_files_do_not_count() {
    let mut document = padded(&[]);
    document["components"] = json!([{ "type": "file", "name": "a" }, { "type": "file", "name": "b" }]);
    refused(&document, &["--min-components", "1"], &["sbom-too-few"]);
}

#[test]
fn one_purl_with_two_hashes_is_refused() {
    let mut document = cyclonedx(ARTIFACT);
    let mut twin = component("serde", "1.0.0");
    twin["bom-ref"] = json!("twin");
    twin["hashes"][0]["content"] = json!(sha256("other"));
    document["components"].as_array_mut().unwrap().push(twin);
    refused(&document, &[], &["sbom-hash-conflict"]);

    let mut document = spdx(ARTIFACT);
    let mut twin = package("serde", "1.0.0");
    twin["SPDXID"] = json!("SPDXRef-twin");
    twin["checksums"][0]["checksumValue"] = json!(sha256("other"));
    document["packages"].as_array_mut().unwrap().push(twin);
    refused(&document, &[], &["sbom-hash-conflict"]);
}

#[test]
fn one_package_for_two_architectures_may_have_two_hashes() {
    let mut document = cyclonedx(ARTIFACT);
    for (index, arch) in ["amd64", "arm64"].into_iter().enumerate() {
        document["components"][index]["purl"] = json!(format!("pkg:deb/debian/libc6@2.36?arch={arch}"));
    }
    accepted(&document, &[]);
}

#[test]
fn cyclonedx_and_spdx_that_disagree_are_refused() {
    let compare = |a: &Value, b: &Value| {
        let desk = Desk::new();
        desk.put("a.json", a);
        desk.put("b.json", b);
        desk.run(&["compare", "a.json", "b.json", "--format", "json"])
    };
    let agreeing = [cyclonedx(ARTIFACT), spdx(ARTIFACT), spdx3(ARTIFACT)];
    for a in &agreeing {
        for b in &agreeing {
            let run = compare(a, b);
            assert_eq!(run.exit, 0, "{}", run.stdout);
        }
    }
    let breaks: [fn(&mut Value); 5] = [
        |document| document["packages"][2]["checksums"][0]["checksumValue"] = json!(sha256("other")),
        |document| {
            document["packages"][2]["versionInfo"] = json!("9.9.9");
            document["packages"][2]["externalRefs"][0]["referenceLocator"] = json!("pkg:cargo/tokio@9.9.9");
        },
        |document| document["packages"][0]["checksums"][0]["checksumValue"] = json!(sha256("another artifact")),
        |document| document["packages"].as_array_mut().unwrap().push(package("extra", "1.0.0")),
        |document| {
            document["packages"].as_array_mut().unwrap().pop();
            document["relationships"].as_array_mut().unwrap().pop();
        },
    ];
    for change in breaks {
        let mut other = spdx(ARTIFACT);
        change(&mut other);
        for (a, b) in [(&agreeing[0], &other), (&other, &agreeing[0])] {
            let run = compare(a, b);
            assert_eq!((run.exit, run.codes()), (1, vec!["sbom-inconsistent".to_owned()]), "{}", run.stdout);
        }
    }
}

#[test]
fn references_to_nothing_are_refused() {
    let mut document = cyclonedx(ARTIFACT);
    document["dependencies"][0]["dependsOn"].as_array_mut().unwrap().push(json!("no-such-ref"));
    refused(&document, &[], &["sbom-reference"]);
    let mut document = cyclonedx(ARTIFACT);
    document["dependencies"].as_array_mut().unwrap().push(json!({ "ref": "no-such-ref" }));
    refused(&document, &[], &["sbom-reference"]);
    let mut document = cyclonedx(ARTIFACT);
    document["compositions"] = json!([{ "aggregate": "complete", "assemblies": ["no-such-ref"] }]);
    refused(&document, &[], &["sbom-reference"]);

    let mut document = spdx(ARTIFACT);
    document["relationships"].as_array_mut().unwrap().push(relationship("SPDXRef-root", "DEPENDS_ON", "SPDXRef-no"));
    refused(&document, &[], &["sbom-reference"]);
    let mut document = spdx(ARTIFACT);
    document["documentDescribes"] = json!(["SPDXRef-no"]);
    refused(&document, &[], &["sbom-reference"]);
    let mut document = spdx(ARTIFACT);
    document["relationships"].as_array_mut().unwrap().push(relationship("SPDXRef-no", "CONTAINS", "SPDXRef-serde"));
    assert_eq!(accepted(&document, &[]), ["sbom-reference"]);
    refused(&document, &["--strict"], &["sbom-reference"]);

    let mut document = spdx3(ARTIFACT);
    let graph = document["@graph"].as_array_mut().unwrap();
    graph.last_mut().unwrap()["to"].as_array_mut().unwrap().push(json!("https://acme.example/sbom/no"));
    refused(&document, &[], &["sbom-reference"]);
}

#[test]
fn a_reference_into_another_document_that_is_named_is_no_reference_to_nothing() {
    let mut document = cyclonedx(ARTIFACT);
    let link = "urn:cdx:f08a6ccd-4dce-4759-bd84-c626675d60a7/1#lib";
    document["dependencies"][0]["dependsOn"].as_array_mut().unwrap().push(json!(link));
    accepted(&document, &[]);
}

#[test]
fn an_id_that_two_elements_have_is_refused() {
    let mut document = cyclonedx(ARTIFACT);
    document["components"][1]["bom-ref"] = document["components"][0]["bom-ref"].clone();
    refused(&document, &[], &["sbom-duplicate", "sbom-reference"]);
    let mut document = spdx(ARTIFACT);
    let twin = package("serde", "1.0.0");
    document["packages"].as_array_mut().unwrap().push(twin);
    refused(&document, &[], &["sbom-duplicate"]);
}

#[test]
fn a_component_that_depends_on_itself_is_refused() {
    let mut document = cyclonedx(ARTIFACT);
    document["dependencies"][1]["dependsOn"] = json!(["pkg:cargo/serde@1.0.0"]);
    refused(&document, &[], &["sbom-cycle-self"]);
    // Up to 1.5 the specification's own example has one.
    document["specVersion"] = json!("1.5");
    assert_eq!(accepted(&document, &[]), ["sbom-cycle-self"]);
    refused(&document, &["--strict"], &["sbom-cycle-self"]);

    for relation in ["DEPENDS_ON", "DEPENDENCY_OF", "CONTAINS"] {
        let mut document = spdx(ARTIFACT);
        let relationships = document["relationships"].as_array_mut().unwrap();
        relationships.push(relationship("SPDXRef-serde", relation, "SPDXRef-serde"));
        refused(&document, &[], &["sbom-cycle-self"]);
    }
    let mut document = spdx3(ARTIFACT);
    let graph = document["@graph"].as_array_mut().unwrap();
    graph.last_mut().unwrap()["to"].as_array_mut().unwrap().push(json!("https://acme.example/sbom/root"));
    refused(&document, &[], &["sbom-cycle-self"]);
}

#[test]
fn a_hash_of_another_length_or_alphabet_is_refused() {
    for (algorithm, value) in [("SHA-256", "ab".repeat(20)), ("SHA-1", "ab".repeat(32)), ("SHA-512", "ab".repeat(48))] {
        let mut document = cyclonedx(ARTIFACT);
        document["components"][0]["hashes"] = json!([{ "alg": algorithm, "content": value }]);
        refused(&document, &[], &["sbom-hash"]);
    }
    let mut document = cyclonedx(ARTIFACT);
    document["components"][0]["hashes"][0]["content"] = json!("xy".repeat(32));
    refused(&document, &[], &["sbom-hash", "sbom-schema"]);
    // The SPDX schemas say nothing of it, and published documents are full of it.
    let mut document = spdx(ARTIFACT);
    document["packages"][1]["checksums"][0]["checksumValue"] = json!("ab".repeat(33));
    assert_eq!(accepted(&document, &[]), ["sbom-hash"]);
    refused(&document, &["--strict"], &["sbom-hash"]);
}

#[test]
fn three_thousand_levels_of_nesting_are_an_error_and_not_a_crash() {
    let open = r#"{"type":"library","name":"x","components":["#;
    let text = format!(
        r#"{{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{}{}]}}"#,
        open.repeat(3000),
        "]}".repeat(3000)
    );
    let desk = Desk::new();
    desk.bytes("deep.json", text.as_bytes());
    for verb in [&["validate", "deep.json"][..], &["score", "deep.json"], &["licenses", "deep.json"]] {
        let run = desk.run(&[verb, &["--format", "json"]].concat());
        assert_eq!((run.exit, run.codes()), (1, vec!["input-too-deep".to_owned()]));
    }
    for verb in ["compare", "diff"] {
        let run = desk.run(&[verb, "deep.json", "deep.json", "--format", "json"]);
        assert_eq!((run.exit, run.codes()), (1, vec!["input-too-deep".to_owned()]));
    }
}

#[test]
fn the_deepest_nesting_that_is_read_is_read_without_a_crash() {
    let open = r#"{"type":"library","name":"x","components":["#;
    // Two levels of JSON for each, below two of the document; 128 are allowed.
    let text = format!(
        r#"{{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{}{}]}}"#,
        open.repeat(60),
        "]}".repeat(60)
    );
    let desk = Desk::new();
    desk.bytes("deep.json", text.as_bytes());
    let run = desk.run(&["validate", "deep.json", "--format", "json"]);
    assert_eq!(run.exit, 0, "{}", run.stdout);
}

#[test]
fn a_member_twice_or_two_formats_at_once_are_refused() {
    let desk = Desk::new();
    let text = cyclonedx(ARTIFACT).to_string().replacen('{', "{\"bomFormat\":\"CycloneDX\",", 1);
    desk.bytes("twice.json", text.as_bytes());
    assert_eq!(desk.run(&["validate", "twice.json", "--format", "json"]).codes(), ["duplicate-key"]);

    let mut both = cyclonedx(ARTIFACT);
    both["spdxVersion"] = json!("SPDX-2.3");
    refused(&both, &[], &["sbom-unknown-format"]);
    for (member, value) in
        [("specVersion", json!("1.8")), ("specVersion", json!("1.06")), ("bomFormat", json!("cyclonedx"))]
    {
        let mut document = cyclonedx(ARTIFACT);
        document[member] = value;
        refused(&document, &[], &["sbom-unknown-format"]);
    }
    for document in [json!({}), json!([]), json!("SPDX-2.3"), json!({ "spdxVersion": "SPDX-4.0" })] {
        refused(&document, &[], &["sbom-unknown-format"]);
    }
}
