//! What may be offered as a signature file or a keyring, and what may not.

use sequoia_openpgp::armor::Kind;

use super::Question;
use super::maker::{Owner, armored, message, sign, version_6};

#[test]
fn armored_and_binary_say_the_same() {
    let owner = Owner::new("2024-01-01");
    let signature = sign(&owner.key, "2024-06-01");
    for signature in [signature.clone(), armored(Kind::Signature, &signature)] {
        for keyring in [owner.keyring(), armored(Kind::PublicKey, &owner.keyring())] {
            let signer = Question::new(signature.clone(), keyring, owner.fingerprint()).passes();
            assert_eq!(signer["fingerprint"], owner.fingerprint());
            assert_eq!(signer["validity"], "at-signing");
            assert_eq!(signer["valid_now"], true);
        }
    }
}

#[test]
fn blocks_and_packets_that_were_appended_are_all_read() {
    let (one, two) = (Owner::new("2024-01-01"), Owner::new("2024-01-02"));
    let binary = [sign(&one.key, "2024-06-01"), sign(&two.key, "2024-06-02")];
    let blocks = binary.each_ref().map(|bytes| armored(Kind::Signature, bytes)).concat();
    let mut keyring = b"The release keys.\n\n".to_vec();
    keyring.extend(armored(Kind::PublicKey, &one.keyring()));
    keyring.extend(b"\nThe second one:\n");
    keyring.extend(armored(Kind::PublicKey, &two.keyring()));
    for signatures in [binary.concat(), blocks] {
        let question = Question::new(signatures, keyring.clone(), one.fingerprint()).also_pin(two.fingerprint());
        assert_eq!(question.threshold(2).ask().unwrap().len(), 2);
    }
}

#[test]
fn a_cleartext_message_offered_as_detached_is_refused() {
    let owner = Owner::new("2024-01-01");
    let message = message(&owner.key, "2024-06-01", true);
    Question::new(message, owner.keyring(), owner.fingerprint()).fails(&["openpgp-not-detached"]);
}

#[test]
fn an_inline_message_offered_as_detached_is_refused() {
    let owner = Owner::new("2024-01-01");
    let message = message(&owner.key, "2024-06-01", false);
    let armored = armored(Kind::Message, &message);
    // A good signature in front must not make the message acceptable.
    let appended = [sign(&owner.key, "2024-06-01"), message.clone()].concat();
    for message in [message, armored, appended] {
        Question::new(message, owner.keyring(), owner.fingerprint()).fails(&["openpgp-not-detached"]);
    }
}

#[test]
fn a_signature_file_that_is_cut_short_anywhere_is_refused() {
    let owner = Owner::new("2024-01-01");
    let binary = sign(&owner.key, "2024-06-01");
    let text = armored(Kind::Signature, &binary);
    for whole in [&binary[..], text.trim_ascii_end()] {
        for length in 1..whole.len() {
            Question::new(&whole[..length], owner.keyring(), owner.fingerprint()).fails(&["openpgp-malformed"]);
        }
    }
}

#[test]
fn a_signature_file_with_something_beside_is_refused() {
    let owner = Owner::new("2024-01-01");
    let binary = sign(&owner.key, "2024-06-01");
    let text = armored(Kind::Signature, &binary);
    let cases = [
        [&binary[..], &owner.keyring()].concat(),
        [&binary[..], b"trailing"].concat(),
        [&text[..], b"trailing"].concat(),
        [b"leading\n", &text[..]].concat(),
        armored(Kind::PublicKey, &owner.keyring()),
        armored(Kind::Signature, &owner.keyring()),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        println!("case {number}");
        Question::new(case, owner.keyring(), owner.fingerprint()).fails(&["openpgp-malformed"]);
    }
}

#[test]
fn an_empty_signature_file_is_refused() {
    let owner = Owner::new("2024-01-01");
    for empty in [Vec::new(), b"\n".to_vec(), armored(Kind::Signature, b"")] {
        Question::new(empty, owner.keyring(), owner.fingerprint()).fails(&["signature-missing"]);
    }
}

#[test]
fn more_signatures_than_the_limit_are_refused() {
    let owner = Owner::new("2024-01-01");
    let signature = sign(&owner.key, "2024-06-01");
    Question::new(signature.repeat(64), owner.keyring(), owner.fingerprint()).passes();
    for many in [signature.repeat(65), armored(Kind::Signature, &signature).repeat(65), vec![0xff; 1024 * 1024 + 1]] {
        Question::new(many, owner.keyring(), owner.fingerprint()).fails(&["input-too-large"]);
    }
}

#[test]
fn a_keyring_that_is_cut_short_is_unreadable() {
    let owner = Owner::new("2024-01-01");
    let signature = sign(&owner.key, "2024-06-01");
    let keyring = owner.keyring();
    let text = armored(Kind::PublicKey, &keyring);
    let cut = &keyring[..keyring.len() - 1];
    for keyring in [cut, &text[..text.len() / 2], b"", b"no keyring", &owner.secret(), b"\0\0\0\x20\x01\x01\0\0KBXf\0"]
    {
        Question::new(signature.clone(), keyring, owner.fingerprint()).fails(&["openpgp-keyring-unreadable"]);
    }
}

#[test]
fn no_copy_of_a_key_hides_what_another_copy_says() {
    let fresh = Owner::new("2024-01-01");
    let signature = sign(&fresh.key, "2024-06-01");
    let plain = fresh.keyring();
    let pin = fresh.fingerprint();
    let revoked = fresh.revoked("2025-01-01", None, super::maker::PLAIN).keyring();
    for keyring in [[plain.clone(), revoked.clone()].concat(), [revoked, plain].concat()] {
        Question::new(signature.clone(), keyring, pin.clone()).fails(&["openpgp-key-revoked"]);
    }
}

#[test]
fn a_version_6_signature_is_verified_with_its_salt() {
    let owner =
        Owner::unbound(version_6("2024-01-01"), "Six <six@example.org>").certified("2024-01-01", super::maker::PLAIN);
    let mut question = Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint());
    assert_eq!(question.passes()["fingerprint"].as_str().unwrap().len(), 64);
    question.artifact.push(b'!');
    question.fails(&["openpgp-signature-bad"]);
}

#[test]
fn a_revocation_that_stands_by_itself_in_the_keyring_is_not_passed_over() {
    let (owner, other) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let revocation = owner.revocation("2025-01-01", None);
    let block = |bytes: &[u8]| armored(Kind::PublicKey, bytes);
    let keyrings = [
        [owner.keyring(), revocation.clone()].concat(),
        [owner.keyring(), other.keyring(), revocation.clone()].concat(),
        [revocation.clone(), owner.keyring()].concat(),
        [block(&owner.keyring()), block(&other.keyring()), block(&revocation)].concat(),
        [block(&revocation), block(&owner.keyring())].concat(),
    ];
    for keyring in keyrings {
        Question::new(sign(&owner.key, "2024-06-01"), keyring.clone(), owner.fingerprint())
            .fails(&["openpgp-key-revoked"]);
    }
    // One that another key made in its own name revokes nothing of this one's.
    let keyring = [other.keyring(), owner.keyring(), other.revocation("2025-01-01", None)].concat();
    Question::new(sign(&owner.key, "2024-06-01"), keyring.clone(), owner.fingerprint()).passes();
    Question::new(sign(&other.key, "2024-06-01"), keyring, other.fingerprint()).fails(&["openpgp-key-revoked"]);
}
