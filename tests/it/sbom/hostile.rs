//! Bytes and trees that nobody honest writes: an answer or a reason, and never a panic.

use debvisor::release::evidence::sbom::{self, Document, compare, diff, licenses, model, purl, score, validate};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::maker::{cyclonedx, spdx, spdx3};

/// Everything that is ever done with a document.
fn exercise(document: &Document) {
    let sbom = &document.sbom;
    let _ = validate::at_least(sbom, 3);
    let _ = score::score(document);
    let _ = licenses::statements(sbom);
    let _ = serde_json::to_value(sbom).unwrap();
    assert!(diff::diff(sbom, sbom).is_empty(), "a document is no different from itself");
    let comparison = compare::compare(sbom, sbom);
    assert!(comparison.reasons.is_empty(), "a document agrees with itself: {:?}", comparison.reasons);
    assert!(comparison.only_first.is_empty() && comparison.only_second.is_empty());
    let mut sorted = sbom.clone();
    model::Sbom::sort(&mut sorted);
    assert!(diff::diff(sbom, &sorted).is_empty());
}

/// Any JSON, with the member names and values that the readers look for.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 34] = [
        "bomFormat",
        "specVersion",
        "components",
        "metadata",
        "component",
        "bom-ref",
        "purl",
        "hashes",
        "alg",
        "content",
        "licenses",
        "license",
        "expression",
        "dependencies",
        "ref",
        "dependsOn",
        "tools",
        "spdxVersion",
        "packages",
        "SPDXID",
        "relationships",
        "spdxElementId",
        "relatedSpdxElement",
        "relationshipType",
        "checksums",
        "@context",
        "@graph",
        "spdxId",
        "type",
        "from",
        "to",
        "rootElement",
        "creationInfo",
        "name",
    ];
    const VALUES: [&str; 16] = [
        "CycloneDX",
        "1.6",
        "SPDX-2.3",
        "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "DEPENDS_ON",
        "DESCRIBES",
        "SPDXRef-DOCUMENT",
        "SpdxDocument",
        "software_Package",
        "Relationship",
        "dependsOn",
        "pkg:cargo/a@1",
        "SHA-256",
        "MIT OR (Zlib",
        "#/components/0",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        proptest::sample::select(&VALUES[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let member = prop_oneof![proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), ".{0,6}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((member, inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts a value in the place that a walk by these numbers leads to.
fn graft(document: &mut Value, path: &[usize], graft: Value) {
    let Some((step, rest)) = path.split_first() else {
        *document = graft;
        return;
    };
    let below = match document {
        Value::Array(array) if !array.is_empty() => {
            let index = step % array.len();
            array.get_mut(index)
        }
        Value::Object(object) if !object.is_empty() => {
            let index = step % object.len();
            object.values_mut().nth(index)
        }
        leaf => {
            *leaf = graft;
            return;
        }
    };
    self::graft(below.unwrap(), rest, graft);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = sbom::read(&bytes);
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(), format in 0..3_usize) {
        let mut document = value;
        if let Some(object) = document.as_object_mut() {
            for name in ["bomFormat", "spdxVersion", "@context"] {
                object.remove(name);
            }
            match format {
                0 => {
                    object.insert("bomFormat".to_owned(), json!("CycloneDX"));
                    object.insert("specVersion".to_owned(), json!("1.6"));
                }
                1 => _ = object.insert("spdxVersion".to_owned(), json!("SPDX-2.3")),
                _ => {
                    let context = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld";
                    object.insert("@context".to_owned(), json!(context));
                }
            }
        }
        if let Ok(document) = sbom::read(document.to_string().as_bytes()) {
            exercise(&document);
        }
    }

    #[test]
    fn a_sound_document_with_anything_in_any_place_is_read_or_refused(
        which in 0..3_usize,
        path in proptest::collection::vec(any::<usize>(), 1..6),
        value in any_json(),
    ) {
        let mut document = vec![cyclonedx(b"a"), spdx(b"a"), spdx3(b"a")].swap_remove(which);
        graft(&mut document, &path, value);
        if let Ok(document) = sbom::read(document.to_string().as_bytes()) {
            exercise(&document);
        }
    }

    #[test]
    fn any_text_is_a_licence_expression_or_none(text in "[A-Za-z0-9 ()+.:/-]{0,60}|.{0,40}") {
        let _ = licenses::alternatives(&text);
    }

    #[test]
    fn any_text_is_a_package_url_or_none(text in "pkg:[a-zA-Z]{0,5}/.{0,40}|.{0,60}") {
        if let Some(parsed) = purl::Purl::parse(&text) {
            let _ = parsed.canonical();
        }
    }

    #[test]
    fn licence_words_in_any_order_are_an_expression_or_none(
        words in proptest::collection::vec(
            proptest::sample::select(
                &["MIT", "Zlib", "GPL-2.0", "AND", "OR", "WITH", "(", ")", "+", "LicenseRef-x", "Classpath-exception-2.0"][..],
            ),
            0..30,
        ),
    ) {
        let _ = licenses::alternatives(&words.join(" "));
    }
}
