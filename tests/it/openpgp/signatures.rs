//! Which signatures count, and what stands beside them.

use sequoia_openpgp::packet::signature::subpacket::{NotationDataFlags, Subpacket, SubpacketTag, SubpacketValue};
use sequoia_openpgp::types::{HashAlgorithm, SignatureType};

use super::Question;
use super::maker::{Change, Owner, PLAIN, day, ed25519, rsa, sign, sign_as, sign_oddly};

fn changed(owner: &Owner, change: Change<'_>) -> Question {
    let signature = sign_oddly(&owner.key, "2024-06-01", SignatureType::Binary, change);
    Question::new(signature, owner.keyring(), owner.fingerprint())
}

#[test]
fn changed_artifact_is_refused() {
    let owner = Owner::new("2024-01-01");
    let mut question = changed(&owner, PLAIN);
    question.passes();
    question.artifact[0] ^= 1;
    question.fails(&["openpgp-signature-bad"]);
    question.artifact.clear();
    question.fails(&["openpgp-signature-bad"]);
}

#[test]
fn the_signers_clock_is_told_with_the_signature() {
    let owner = Owner::new("2024-01-01");
    let facts = changed(&owner, PLAIN).ask().unwrap();
    assert_eq!(facts[0]["times"], serde_json::json!([{"at": "2024-06-01T00:00:00Z", "clock": "signer"}]));
    assert_eq!(facts[0]["evidence"], "artifact.asc");
}

#[test]
fn signature_older_than_its_key_or_subkey_is_refused() {
    let owner = Owner::new("2024-01-01");
    Question::new(sign(&owner.key, "2023-12-31"), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-signature-time"]);
    let subkey = ed25519("2024-03-01");
    let owner = owner.with_subkey(&subkey, "2024-03-01");
    Question::new(sign(&subkey, "2024-02-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-time"]);
    let old = ed25519("2023-01-01");
    let owner = Owner::new("2024-01-01").with_subkey(&old, "2024-01-01");
    Question::new(sign(&old, "2023-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-time"]);
}

#[test]
fn signature_from_the_future_is_refused_without_tolerance() {
    let owner = Owner::new("2024-01-01");
    Question::new(sign(&owner.key, "2026-01-01"), owner.keyring(), owner.fingerprint()).passes();
    let second = std::time::Duration::from_secs(1);
    let signature = sign_oddly(&owner.key, "2026-01-01", SignatureType::Binary, &|builder| {
        builder.set_signature_creation_time(day("2026-01-01") + second).unwrap()
    });
    Question::new(signature, owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-time"]);
}

#[test]
fn signature_that_expired_is_refused_under_both_validities() {
    let owner = Owner::new("2024-01-01");
    let until = |expires: &str| {
        let period = day(expires).duration_since(day("2024-06-01")).unwrap();
        changed(&owner, &|builder| builder.set_signature_validity_period(period).unwrap())
    };
    until("2026-01-02").now().passes();
    until("2026-01-01").fails(&["openpgp-signature-expired"]);
    until("2026-01-01").now().fails(&["openpgp-signature-expired"]);
}

#[test]
fn sha1_and_md5_and_other_weak_digests_are_refused() {
    let owner = Owner::unbound(rsa(2048, "2024-01-01"), "Rsa <rsa@example.org>").certified("2024-01-01", PLAIN);
    for algorithm in [HashAlgorithm::SHA1, HashAlgorithm::MD5, HashAlgorithm::RipeMD, HashAlgorithm::SHA224] {
        changed(&owner, &|builder| builder.set_hash_algo(algorithm)).fails(&["openpgp-algorithm"]);
    }
    let owner = Owner::new("2024-01-01");
    for algorithm in [
        HashAlgorithm::SHA256,
        HashAlgorithm::SHA384,
        HashAlgorithm::SHA512,
        HashAlgorithm::SHA3_256,
        HashAlgorithm::SHA3_512,
    ] {
        changed(&owner, &|builder| builder.set_hash_algo(algorithm)).passes();
    }
}

#[test]
fn text_mode_is_refused() {
    let owner = Owner::new("2024-01-01");
    let signature = sign_oddly(&owner.key, "2024-06-01", SignatureType::Text, PLAIN);
    Question::new(signature, owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-type"]);
}

#[test]
fn unknown_critical_notation_or_subpacket_is_refused_and_an_uncritical_one_passes() {
    let owner = Owner::new("2024-01-01");
    let notation = |critical| {
        let owner = &owner;
        changed(owner, &move |builder| {
            let flags = NotationDataFlags::empty().set_human_readable();
            builder.set_notation("scope@example.org", b"testing only", flags, critical).unwrap()
        })
    };
    notation(true).fails(&["openpgp-notation"]);
    notation(false).passes();
    let subpacket = |critical| {
        let owner = &owner;
        changed(owner, &move |builder| {
            let value = SubpacketValue::Unknown { tag: SubpacketTag::Private(100), body: b"?".to_vec() };
            builder.modify_hashed_area(|mut area| area.add(Subpacket::new(value, critical)?).map(|()| area)).unwrap()
        })
    };
    subpacket(true).fails(&["openpgp-notation"]);
    subpacket(false).passes();
}

#[test]
fn good_signature_beside_one_by_an_unknown_key_passes_in_any_order() {
    let (owner, stranger, ringed) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let good = sign(&owner.key, "2024-06-01");
    let keyring = [owner.keyring(), ringed.keyring()].concat();
    for other in [sign(&stranger.key, "2024-06-01"), sign(&ringed.key, "2024-06-01")] {
        for file in [[&good[..], &other], [&other, &good]] {
            Question::new(file.concat(), keyring.clone(), owner.fingerprint()).passes();
        }
    }
}

#[test]
fn good_signature_beside_an_expired_or_weak_one_by_the_same_key_passes() {
    let owner = Owner::new("2024-01-01");
    let good = sign(&owner.key, "2024-06-01");
    let day = std::time::Duration::from_secs(86_400);
    let expired = sign_oddly(&owner.key, "2024-02-01", SignatureType::Binary, &|builder| {
        builder.set_signature_validity_period(day).unwrap()
    });
    let weak = sign_oddly(&owner.key, "2024-06-01", SignatureType::Binary, &|builder| {
        builder.set_hash_algo(HashAlgorithm::SHA1)
    });
    Question::new([good, expired.clone(), weak.clone()].concat(), owner.keyring(), owner.fingerprint()).passes();
    let reasons = Question::new([expired, weak].concat(), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-signature-expired", "openpgp-algorithm"]);
    assert_eq!(reasons[1].location.as_deref(), Some("signature 2 of 2"));
}

#[test]
fn bad_signature_by_a_pinned_key_is_a_no_even_beside_a_good_one() {
    let (owner, forger, ringed) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let good = sign(&owner.key, "2024-06-01");
    let bad = sign_as(&forger.key, &owner.key, "2024-06-01");
    for file in [[&good[..], &bad], [&bad, &good]] {
        Question::new(file.concat(), owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-bad"]);
    }
    // In the name of a key that nobody asked about, it proves and harms nothing.
    let keyring = [owner.keyring(), ringed.keyring()].concat();
    let bad = sign_as(&forger.key, &ringed.key, "2024-06-01");
    Question::new([good, bad].concat(), keyring, owner.fingerprint()).passes();
}

#[test]
fn signature_that_names_two_keys_is_by_neither() {
    let (owner, other) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let (fingerprint, key_id) = (owner.key.fingerprint(), other.key.keyid());
    let signature = sign_oddly(&owner.key, "2024-06-01", SignatureType::Binary, &|builder| {
        builder.set_issuer_fingerprint(fingerprint.clone()).unwrap().set_issuer(key_id.clone()).unwrap()
    });
    let keyring = [owner.keyring(), other.keyring()].concat();
    Question::new(signature, keyring, owner.fingerprint())
        .also_pin(other.fingerprint())
        .fails(&["openpgp-key-unknown"]);
}

#[test]
fn digest_alone_cannot_be_checked_against_a_signature() {
    use debvisor::release::evidence::openpgp::{DetachedSignatures, Keyring};
    use debvisor::release::verify::openpgp::{OpenpgpExpectations, SignatureFile, Validity, judge};

    let owner = Owner::new("2024-01-01");
    let signatures = DetachedSignatures::parse(&sign(&owner.key, "2024-06-01")).unwrap();
    let expected = OpenpgpExpectations {
        pins: vec![owner.fingerprint().parse().unwrap()],
        threshold: std::num::NonZeroUsize::MIN,
        validity: Validity::AtSigning,
        now: day("2026-01-01").try_into().unwrap(),
    };
    let file = SignatureFile { evidence: "artifact.asc", signatures: &signatures };
    let (facts, reasons) = judge(&[file], None, &Keyring::parse(&owner.keyring()).unwrap(), &expected);
    assert!(facts.is_empty());
    assert_eq!(reasons[0].code.as_str(), "artifact-bytes-required");
}

#[test]
fn plain_digest_is_a_by_product_of_hashing_for_the_signatures() {
    use debvisor::release::artifact::Sink as _;
    use debvisor::release::evidence::openpgp::{ArtifactHasher, DetachedSignatures};
    use debvisor::types::DigestAlgorithm;

    let owner = Owner::new("2024-01-01");
    let signatures = DetachedSignatures::parse(&sign(&owner.key, "2024-06-01")).unwrap();
    assert_eq!(signatures.digest_algorithms(), ["SHA512"]);
    let mut hasher = ArtifactHasher::new([&signatures]);
    hasher.update(super::maker::ARTIFACT);
    let hashes = hasher.finish();
    assert_eq!(hashes.digest(DigestAlgorithm::Sha512), Some(DigestAlgorithm::Sha512.hash(super::maker::ARTIFACT)));
    assert_eq!(hashes.digest(DigestAlgorithm::Sha256), None);
}
