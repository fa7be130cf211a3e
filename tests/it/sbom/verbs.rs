//! What each verb says of documents that are made here.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::maker::{Desk, component, cyclonedx, package, spdx, spdx3};

const ARTIFACT: &[u8] = b"the artifact";

fn diff(old: &Value, new: &Value) -> Value {
    let desk = Desk::new();
    desk.put("old.json", old);
    desk.put("new.json", new);
    let run = desk.run(&["diff", "old.json", "new.json", "--format", "json"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    run.json()
}

fn counts(diff: &Value) -> (usize, usize, usize) {
    let count = |list: &str| diff[list].as_array().unwrap().len();
    (count("added"), count("removed"), count("changed"))
}

#[test]
fn diff_lists_what_was_added_removed_and_changed() {
    let old = cyclonedx(ARTIFACT);
    let mut new = cyclonedx(ARTIFACT);
    let components = new["components"].as_array_mut().unwrap();
    components.remove(0);
    components[0] = component("tokio", "2.0.0");
    components.push(component("newdep", "9.9.9"));
    new["dependencies"] = json!([]);
    let diff = diff(&old, &new);
    assert_eq!(counts(&diff), (1, 1, 1));
    assert_eq!(diff["added"][0]["name"], "newdep");
    assert_eq!(diff["removed"][0]["name"], "serde");
    let change = &diff["changed"][0];
    assert_eq!((change["name"].as_str(), change["what"].as_str()), (Some("tokio"), Some("version")));
    assert_eq!((change["old"]["version"].as_str(), change["new"]["version"].as_str()), (Some("1.1.0"), Some("2.0.0")));
}

#[test]
fn diff_sees_the_same_version_with_another_hash() {
    let mut new = cyclonedx(ARTIFACT);
    new["components"][3]["hashes"][0]["content"] = json!("ab".repeat(32));
    let diff = diff(&cyclonedx(ARTIFACT), &new);
    assert_eq!(counts(&diff), (0, 0, 1));
    assert_eq!(
        (diff["changed"][0]["name"].as_str(), diff["changed"][0]["what"].as_str()),
        (Some("ring"), Some("hash"))
    );
}

#[test]
fn diff_does_not_mind_order_serial_and_format() {
    let old = cyclonedx(ARTIFACT);
    let mut new = cyclonedx(ARTIFACT);
    new["components"].as_array_mut().unwrap().reverse();
    new["serialNumber"] = json!("urn:uuid:11111111-395b-41f5-a30f-a58921a69b79");
    for other in [new, spdx(ARTIFACT), spdx3(ARTIFACT)] {
        assert_eq!(counts(&diff(&old, &other)), (0, 0, 0));
    }
}

#[test]
fn diff_pairs_the_versions_of_one_package() {
    let with = |versions: &[&str]| {
        let mut document = cyclonedx(ARTIFACT);
        document["components"] = versions.iter().map(|version| component("syn", version)).collect();
        document["dependencies"] = json!([]);
        document
    };
    assert_eq!(counts(&diff(&with(&["1.0.0", "2.0.0"]), &with(&["2.0.0", "3.0.0"]))), (0, 0, 1));
    assert_eq!(counts(&diff(&with(&["1.0.0"]), &with(&["1.0.0", "2.0.0"]))), (1, 0, 0));
    assert_eq!(counts(&diff(&with(&["1.0.0", "2.0.0"]), &with(&["2.0.0"]))), (0, 1, 0));
    assert_eq!(counts(&diff(&with(&["1.0.0"]), &with(&["2.0.0"]))), (0, 0, 1));
}

#[test]
fn diff_is_told_in_a_table_and_escapes_what_would_deceive() {
    let mut new = cyclonedx(ARTIFACT);
    new["components"][0]["name"] = json!("ser\u{1b}[31mde");
    new["components"][0]["purl"] = json!("pkg:cargo/other@1.0.0");
    let desk = Desk::new();
    desk.put("old.json", &cyclonedx(ARTIFACT));
    desk.put("new.json", &new);
    let run = desk.run(&["diff", "old.json", "new.json"]);
    assert_eq!(run.exit, 0);
    assert!(run.stdout.contains("1 added, 1 removed, 0 changed"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "{:?}", run.stdout);
}

fn score(document: &Value) -> Value {
    let desk = Desk::new();
    desk.put("sbom.json", document);
    let run = desk.run(&["score", "sbom.json", "--format", "json"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    run.json()["facts"].clone()
}

fn parts(facts: &Value) -> Vec<(String, Option<f64>)> {
    let parts = facts["parts"].as_array().unwrap();
    parts.iter().map(|part| (part["name"].as_str().unwrap().to_owned(), part["score"].as_f64())).collect()
}

#[test]
fn a_complete_document_scores_a_hundred_and_meets_the_minimum_elements() {
    let facts = score(&cyclonedx(ARTIFACT));
    assert_eq!(facts["score"], json!(100.0), "{facts:#}");
    assert_eq!(facts["profiles"][0]["name"], "ntia");
    assert_eq!(facts["profiles"][0]["met"], true, "{facts:#}");
    // No filenames, no SHA-512 and no contact for each component.
    assert_eq!(
        (facts["profiles"][1]["name"].as_str(), &facts["profiles"][1]["met"]),
        (Some("bsi-tr-03183-2"), &json!(false))
    );
}

#[test]
fn a_single_defect_lowers_exactly_the_part_of_its_name() {
    let sound = parts(&score(&cyclonedx(ARTIFACT)));
    let without = |member: &'static str| {
        move |document: &mut Value| {
            for component in document["components"].as_array_mut().unwrap() {
                component.as_object_mut().unwrap().remove(member);
            }
        }
    };
    let licensed =
        |license: Value| move |document: &mut Value| document["components"][0]["licenses"] = json!([license]);
    type Break = Box<dyn Fn(&mut Value)>;
    let defects: Vec<(&str, Break)> = vec![
        ("schema", Box::new(|document| document["unknown"] = json!(1))),
        ("format", Box::new(|document| document["specVersion"] = json!("1.3"))),
        ("timestamp", Box::new(|document| _ = document["metadata"].as_object_mut().unwrap().remove("timestamp"))),
        ("authors", Box::new(|document| _ = document["metadata"].as_object_mut().unwrap().remove("authors"))),
        ("suppliers", Box::new(without("supplier"))),
        ("identifiers", Box::new(without("purl"))),
        ("checksums", Box::new(without("hashes"))),
        ("licenses", Box::new(without("licenses"))),
        ("dependencies", Box::new(|document| document["dependencies"] = json!([]))),
        (
            "versions",
            Box::new(|document| {
                document["components"][0].as_object_mut().unwrap().remove("version");
                document["components"][0]["purl"] = json!("pkg:cargo/serde");
            }),
        ),
        (
            "strong-checksums",
            Box::new(|document| {
                document["components"][0]["hashes"] = json!([{ "alg": "SHA-1", "content": "ab".repeat(20) }]);
            }),
        ),
        ("license-standard", Box::new(licensed(json!({ "license": { "name": "as is" } })))),
        ("license-current", Box::new(licensed(json!({ "expression": "LGPL-2.1 OR MIT" })))),
        ("license-permissive", Box::new(licensed(json!({ "expression": "GPL-3.0-only" })))),
    ];
    for (name, change) in defects {
        let mut document = cyclonedx(ARTIFACT);
        change(&mut document);
        let lowered: Vec<String> = parts(&score(&document))
            .into_iter()
            .zip(&sound)
            .filter(|((_, now), (_, before))| now.unwrap_or(100.0) < before.unwrap_or(100.0))
            .map(|((name, _), _)| name)
            .collect();
        assert_eq!(lowered, [name]);
    }
}

#[test]
fn a_score_or_a_profile_that_is_asked_for_decides() {
    let desk = Desk::new();
    desk.put("sbom.json", &cyclonedx(ARTIFACT));
    let run = |args: &[&str]| desk.run(&[&["score", "sbom.json", "--format", "json"], args].concat());
    assert_eq!(run(&["--min-score", "100", "--require-profile", "ntia"]).exit, 0);
    assert_eq!(run(&["--require-profile", "bsi-tr-03183-2"]).codes(), ["sbom-quality"]);
    let mut poor = cyclonedx(ARTIFACT);
    poor["dependencies"] = json!([]);
    desk.put("sbom.json", &poor);
    assert_eq!(run(&["--min-score", "99"]).codes(), ["sbom-quality"]);
    for wrong in ["NaN", "-1", "101", "good"] {
        assert_eq!(run(&["--min-score", wrong]).exit, 64, "{wrong}");
    }
}

fn licenses(document: &Value, lists: Option<&Value>) -> (i32, Vec<String>) {
    let desk = Desk::new();
    desk.put("sbom.json", document);
    let mut args = vec!["licenses", "sbom.json", "--format", "json"];
    if let Some(lists) = lists {
        desk.put("lists.json", &json!({ "license_policy": lists }));
        args.extend(["--policy", "lists.json"]);
    }
    let run = desk.run(&args);
    (run.exit, run.codes())
}

#[test]
fn licenses_are_put_to_the_policy() {
    let sound = cyclonedx(ARTIFACT);
    assert_eq!(licenses(&sound, None), (0, vec![]));
    for (license, code) in [
        (json!([{ "expression": "GPL-3.0-only" }]), "license-denied"),
        (json!([{ "license": { "id": "MIT" } }, { "license": { "id": "AGPL-3.0-only" } }]), "license-denied"),
        (json!([{ "license": { "name": "Proprietary License" } }]), "license-proprietary"),
        (json!([{ "expression": "LicenseRef-ACME-Commercial" }]), "license-proprietary"),
        (json!([{ "license": { "name": "as is" } }]), "license-unknown"),
        (json!([]), "license-missing"),
    ] {
        let mut document = sound.clone();
        document["components"][0]["licenses"] = license;
        assert_eq!(licenses(&document, None), (1, vec![code.to_owned()]));
    }
    for document in [spdx(ARTIFACT), spdx3(ARTIFACT)] {
        assert_eq!(licenses(&document, None), (0, vec![]));
    }
    let mut document = spdx(ARTIFACT);
    document["packages"][1]["licenseConcluded"] = json!("GPL-2.0-only");
    assert_eq!(licenses(&document, None), (1, vec!["license-denied".to_owned()]));
}

#[test]
fn lists_of_licenses_of_ones_own_take_the_place_of_the_shipped_ones() {
    let lists = |allow: &[&str], exceptions: Value| {
        json!({
            "allow": allow, "deny": [], "missing": "deny", "unknown": "deny", "proprietary": "deny",
            "ignore_scopes": [], "exceptions": exceptions,
        })
    };
    let sound = cyclonedx(ARTIFACT);
    assert_eq!(licenses(&sound, Some(&lists(&["MIT"], json!([])))), (0, vec![]));
    let zlib = lists(&["Zlib"], json!([]));
    assert_eq!(licenses(&sound, Some(&zlib)), (1, vec!["license-not-allowed".to_owned()]));
    let excepted = lists(&["Zlib"], json!([{ "component": "pkg:cargo/*", "reason": "all of them were read" }]));
    assert_eq!(licenses(&sound, Some(&excepted)), (0, vec![]));
    let expired = lists(
        &["Zlib"],
        json!([{ "component": "pkg:cargo/*", "reason": "all of them were read", "until": "2020-01-01" }]),
    );
    assert_eq!(licenses(&sound, Some(&expired)), (1, vec!["license-not-allowed".to_owned()]));
    let misspelled = json!({ "alow": ["MIT"] });
    assert!(licenses(&sound, Some(&misspelled)).1.contains(&"policy-unreadable".to_owned()));
}

#[test]
fn the_sbom_policy_looks_at_the_model_of_either_format() {
    let desk = Desk::new();
    desk.put("sound.json", &cyclonedx(ARTIFACT));
    let run = |name| desk.run(&["validate", name, "--policy", "sbom", "--format", "json"]);
    let sound = run("sound.json");
    assert_eq!((sound.exit, sound.json()["policy"]["name"].as_str()), (0, Some("sbom")), "{}", sound.stdout);
    let mut bad = cyclonedx(ARTIFACT);
    bad["components"][0]["version"] = json!("1.0.0-SNAPSHOT");
    bad["components"][1].as_object_mut().unwrap().remove("supplier");
    desk.put("bad.json", &bad);
    assert_eq!(run("bad.json").codes(), ["sbom-prerelease", "sbom-supplier-missing"]);
    desk.put("spdx.json", &spdx(ARTIFACT));
    assert_eq!(run("spdx.json").codes(), ["sbom-source-missing"]);
}

#[test]
fn every_version_of_cyclonedx_is_read() {
    for version in ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"] {
        let mut document = json!({
            "bomFormat": "CycloneDX", "specVersion": version, "version": 1,
            "components": [{ "type": "library", "name": "a", "version": "1" }],
        });
        assert!(super::maker::accepted(&document, &["--min-components", "1"]).is_empty());
        document["component"] = json!([]);
        super::maker::refused(&document, &[], &["sbom-schema"]);
    }
}

#[test]
fn nested_components_are_counted_and_compared() {
    let mut nested = cyclonedx(ARTIFACT);
    let inner: Vec<Value> = nested["components"].as_array_mut().unwrap().drain(1..).collect();
    nested["components"][0]["components"] = json!(inner);
    super::maker::accepted(&nested, &["--min-components", "5"]);
    assert_eq!(counts(&diff(&cyclonedx(ARTIFACT), &nested)), (0, 0, 0));
}

#[test]
fn twenty_thousand_components_are_compared_in_linear_time() {
    let large = |shift: usize| {
        let mut document = spdx(ARTIFACT);
        let packages: Vec<Value> =
            (0..20_000).map(|index| package(&format!("p{}", index + shift), &format!("1.{index}.0"))).collect();
        document["packages"] = json!(packages);
        document["relationships"] = json!([]);
        document
    };
    let read =
        |document: &Value| debvisor::release::evidence::sbom::read(document.to_string().as_bytes()).unwrap().sbom;
    let (old, new) = (read(&large(0)), read(&large(10_000)));
    let started = Instant::now();
    let diff = debvisor::release::evidence::sbom::diff::diff(&old, &new);
    assert_eq!((diff.added.len(), diff.removed.len(), diff.changed.len()), (10_000, 10_000, 10_000));
    let comparison = debvisor::release::evidence::sbom::compare::compare(&old, &new);
    assert_eq!(comparison.common, 0);
    // A quadratic one would take minutes; this is a debug build on a busy machine.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
