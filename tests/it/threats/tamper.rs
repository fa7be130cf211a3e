//! Every leaf of a bundle carries weight: whichever of them is changed or taken away, the answer is no.
//! What may change without harm is listed here, each with its reason.

use serde_json::{Value, json};

use super::{Case, attestation, blob};
use crate::world::{Draft, Version, World};

/// What may be absent: the bundle (or none for all), and the member.
const OPTIONAL: [(&str, &str); 8] = [
    // A hint for the reader; the artifact's own digest is what is compared.
    ("", "/messageSignature/messageDigest"),
    // A second clock, where a timestamp is the first, and the other way round.
    ("v0.3 with a timestamp", "/verificationMaterial/tlogEntries/0/inclusionPromise"),
    ("v0.3 with a timestamp", "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp"),
    ("v0.3 with a timestamp", "/verificationMaterial/timestampVerificationData"),
    ("v0.3 with a timestamp", "/verificationMaterial/timestampVerificationData/rfc3161Timestamps"),
    // Version 0.1 may rest on the log's promise alone.
    ("v0.1", "/verificationMaterial/tlogEntries/0/inclusionProof"),
    ("v0.1", "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint"),
    ("v0.1", "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope"),
];

fn drafts() -> Vec<(&'static str, Draft<'static>)> {
    let world = World::shared();
    vec![
        ("v0.1", blob().with(|draft| draft.version = Version::V01)),
        ("v0.3", blob()),
        ("v0.3 with a timestamp", blob().stamped(world)),
        ("Rekor v2", blob().rekor2(world)),
        ("attestation", attestation()),
        ("attestation in Rekor v2", attestation().rekor2(world)),
    ]
}

/// The pointers of every leaf (where `leaves`) or of every member of an object.
fn pointers(value: &Value, here: &str, leaves: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = format!("{here}/{name}");
                if !leaves {
                    found.push(inner.clone());
                }
                pointers(member, &inner, leaves, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{here}/{index}"), leaves, found);
            }
        }
        _ if leaves => found.push(here.to_owned()),
        _ => {}
    }
}

/// The text with one letter in its middle replaced by another of the same kind.
fn altered(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    // Not the very middle of a certificate, which may be in a name that only a signature protects: all the better.
    let middle = letters.len() / 2;
    let letter = letters[middle];
    letters[middle] = match letter {
        '0'..='8' => char::from(letter as u8 + 1),
        '9' => '8',
        'A' => 'B',
        _ => 'A',
    };
    letters.into_iter().collect()
}

#[test]
fn every_leaf_that_is_changed_is_noticed() {
    for (name, draft) in drafts() {
        let bundle = draft.bundle();
        let mut leaves = Vec::new();
        pointers(&bundle, "", true, &mut leaves);
        assert!(leaves.len() > 10);
        for pointer in &leaves {
            let mut changed = bundle.clone();
            let leaf = changed.pointer_mut(pointer).unwrap();
            *leaf = json!(altered(leaf.as_str().unwrap()));
            let output = Case::json(&changed).run();
            assert_eq!(output.status.code(), Some(1), "{name}: {pointer}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn every_member_that_is_taken_away_is_missed() {
    for (name, draft) in drafts() {
        let bundle = draft.bundle();
        let mut members = Vec::new();
        pointers(&bundle, "", false, &mut members);
        for pointer in &members {
            if OPTIONAL.iter().any(|(draft, member)| (draft.is_empty() || *draft == name) && member == pointer) {
                continue;
            }
            let (holder, member) = pointer.rsplit_once('/').unwrap();
            let mut changed = bundle.clone();
            changed.pointer_mut(holder).unwrap().as_object_mut().unwrap().remove(member).unwrap();
            let output = Case::json(&changed).run();
            assert_eq!(output.status.code(), Some(1), "{name}: {pointer}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() })]

    // A bundle with nothing optional in it: a member whose name is damaged is as good as taken away.
    #[test]
    fn a_byte_that_is_changed_anywhere_never_passes_for_another_truth(place in 0.0..1.0_f64, byte: u8) {
        static BUNDLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let bundle = BUNDLE.get_or_init(|| serde_json::to_vec(&attestation().bundle()).unwrap());
        let mut case = Case::json(&Value::Null);
        case.bundle = bundle.clone();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "any place will do")]
        let place = (place * bundle.len() as f64) as usize;
        case.bundle[place] = byte;
        let code = case.run().status.code();
        let same: Result<Value, _> = serde_json::from_slice(&case.bundle);
        let unchanged = same.is_ok_and(|same| same == serde_json::from_slice::<Value>(bundle).unwrap());
        proptest::prop_assert!(code == Some(1) || (code == Some(0) && unchanged), "{place}: {code:?}");
    }
}
