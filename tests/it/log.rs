//! `debvisor log`: Merkle proofs in files, through the real binary.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use debvisor::release::evidence::merkle::{Hash, leaf_hash, node_hash};
use serde_json::{Value, json};

fn run(kind: &str, proof: &Value) -> (i32, Value) {
    run_text(kind, &proof.to_string())
}

fn run_text(kind: &str, text: &str) -> (i32, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proof.json");
    fs::write(&path, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .args(["log", kind, "--format", "json"])
        .arg(path)
        .output()
        .unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[track_caller]
fn refused(kind: &str, proof: &Value, code: &str) {
    let (exit, report) = run(kind, proof);
    assert_eq!((exit, report["reasons"][0]["code"].as_str()), (1, Some(code)), "{proof}");
}

/// Three leaves: `(a b) c`.
fn tree() -> [Hash; 5] {
    let [a, b, c] = [b"a", b"b", b"c"].map(|leaf| leaf_hash(leaf));
    let left = node_hash(&a, &b);
    [a, b, c, left, node_hash(&left, &c)]
}

fn inclusion() -> Value {
    let [a, b, c, _, root] = tree().map(|hash| BASE64.encode(hash));
    json!({"leafIdx": 1, "treeSize": 3, "root": root, "leafHash": b, "proof": [a, c], "desc": "ignored"})
}

fn consistency() -> Value {
    let [_, _, c, left, root] = tree().map(|hash| BASE64.encode(hash));
    json!({"size1": 2, "size2": 3, "root1": left, "root2": root, "proof": [c]})
}

fn with(mut proof: Value, field: &str, value: Value) -> Value {
    proof[field] = value;
    proof
}

#[test]
fn sound_proofs_pass_and_the_report_says_what_was_proved() {
    let (exit, report) = run("inclusion", &inclusion());
    assert_eq!((exit, report["facts"]["inclusion"]["index"].as_u64()), (0, Some(1)));
    let (exit, report) = run("consistency", &consistency());
    assert_eq!((exit, report["facts"]["consistency"]["size2"].as_u64()), (0, Some(3)));
}

#[test]
fn a_tree_of_one_leaf_needs_no_proof_and_may_say_so_in_three_ways() {
    let leaf = BASE64.encode(leaf_hash(b"a"));
    let one = json!({"leafIdx": 0, "treeSize": 1, "root": leaf, "leafHash": leaf});
    let same = json!({"size1": 1, "size2": 1, "root1": leaf, "root2": leaf});
    for (kind, proof) in [("inclusion", one), ("consistency", same)] {
        assert_eq!(run(kind, &proof).0, 0);
        assert_eq!(run(kind, &with(proof.clone(), "proof", Value::Null)).0, 0);
        assert_eq!(run(kind, &with(proof, "proof", json!([]))).0, 0);
    }
}

#[test]
fn a_hash_too_many_or_too_few_is_refused() {
    let [a, _, c, left, root] = tree().map(|hash| BASE64.encode(hash));
    for proof in [json!([]), json!(null), json!([a]), json!([a, c, root])] {
        refused("inclusion", &with(inclusion(), "proof", proof), "inclusion-invalid");
    }
    for proof in [json!([]), json!(null), json!([left, c]), json!([c, root])] {
        refused("consistency", &with(consistency(), "proof", proof), "consistency-invalid");
    }
}

#[test]
fn another_root_leaf_or_proof_is_refused() {
    let other = json!(BASE64.encode(leaf_hash(b"other")));
    for field in ["root", "leafHash"] {
        refused("inclusion", &with(inclusion(), field, other.clone()), "inclusion-invalid");
    }
    for field in ["root1", "root2"] {
        refused("consistency", &with(consistency(), field, other.clone()), "consistency-invalid");
    }
    refused("inclusion", &with(inclusion(), "leafIdx", json!(0)), "inclusion-invalid");
}

#[test]
fn an_index_at_or_past_the_size_a_negative_one_and_size_0_are_refused() {
    for index in [json!(3), json!(4), json!(u64::MAX), json!(-1), json!("1"), json!(1.5), Value::Null] {
        refused("inclusion", &with(inclusion(), "leafIdx", index), "proof-malformed");
    }
    refused("inclusion", &with(inclusion(), "treeSize", json!(0)), "proof-malformed");
    refused("consistency", &with(consistency(), "size1", json!(0)), "proof-malformed");
    refused("consistency", &with(consistency(), "size1", json!(4)), "proof-malformed");
    refused("consistency", &with(consistency(), "size2", json!(-3)), "proof-malformed");
}

#[test]
fn hashes_of_another_length_and_missing_fields_are_refused() {
    for value in [json!(""), json!("AAAA"), json!("!"), json!(7)] {
        for field in ["root", "leafHash"] {
            refused("inclusion", &with(inclusion(), field, value.clone()), "proof-malformed");
        }
        refused("inclusion", &with(inclusion(), "proof", json!([value])), "proof-malformed");
    }
    refused("inclusion", &json!({}), "proof-malformed");
    refused("inclusion", &json!([]), "proof-malformed");
    refused("inclusion", &consistency(), "proof-malformed");
}

#[test]
fn a_member_twice_and_trailing_data_are_refused() {
    let text = inclusion().to_string();
    let twice = text.replacen('{', "{\"leafIdx\":1,", 1);
    assert_eq!(run_text("inclusion", &twice).1["reasons"][0]["code"], "duplicate-key");
    assert_eq!(run_text("inclusion", &(text + "x")).1["reasons"][0]["code"], "malformed-json");
}
