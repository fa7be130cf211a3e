//! Which keys may speak for a publisher, and until when.

use sequoia_openpgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, RevocationKey, SignatureType};

use super::Question;
use super::maker::{Change, Owner, PLAIN, day, ed25519, rsa, sign, sign_oddly};

/// Sets an expiry on a self-signature of the primary key.
fn expiring(owner: Owner, certified: &str, expires: &'static str) -> Owner {
    let created = owner.key.creation_time();
    let period = day(expires).duration_since(created).unwrap();
    owner.certified(certified, &|builder| builder.set_key_validity_period(period).unwrap())
}

fn uncertified(created: &str) -> Owner {
    Owner::unbound(ed25519(created), "Release <release@example.org>")
}

#[test]
fn key_expired_at_signing_is_refused() {
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2024-06-01");
    let question = Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint());
    let reasons = question.fails(&["openpgp-key-expired"]);
    assert!(reasons[0].message.contains("when it signed"), "{reasons:?}");
    question.now().fails(&["openpgp-key-expired"]);
}

#[test]
fn key_expired_since_depends_on_the_validity_and_the_report_says_which() {
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2024-06-01");
    let question = Question::new(sign(&owner.key, "2024-05-31"), owner.keyring(), owner.fingerprint());
    let signer = question.passes();
    assert_eq!((&signer["validity"], &signer["valid_now"]), (&"at-signing".into(), &false.into()));
    let reasons = question.now().fails(&["openpgp-key-expired"]);
    assert!(reasons[0].message.contains("since it signed"), "{reasons:?}");
}

#[test]
fn key_that_is_still_valid_passes_under_both_validities() {
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2027-01-01");
    let question = Question::new(sign(&owner.key, "2024-05-31"), owner.keyring(), owner.fingerprint());
    assert_eq!(question.passes()["valid_now"], true);
    let signer = question.now().passes();
    assert_eq!((&signer["validity"], &signer["valid_now"]), (&"now".into(), &true.into()));
}

#[test]
fn key_that_was_extended_after_it_signed_was_still_expired_then() {
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2024-06-01");
    let owner = expiring(owner, "2024-07-01", "2027-01-01");
    let signature = |at| Question::new(sign(&owner.key, at), owner.keyring(), owner.fingerprint());
    signature("2024-06-15").fails(&["openpgp-key-expired"]);
    signature("2024-05-15").now().passes();
    signature("2024-07-15").now().passes();
}

#[test]
fn key_whose_newest_self_signature_moves_the_expiry_before_the_signature_is_refused() {
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2027-01-01");
    let owner = expiring(owner, "2024-07-01", "2024-05-01");
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-expired"]);
}

#[test]
fn key_of_which_only_the_newest_self_signature_is_left_is_held_to_it() {
    let owner = expiring(uncertified("2024-01-01"), "2025-01-01", "2024-06-01");
    Question::new(sign(&owner.key, "2024-05-31"), owner.keyring(), owner.fingerprint()).passes();
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-expired"]);
    // A self-signature from the future binds nothing yet.
    let owner = uncertified("2024-01-01").certified("2026-02-01", PLAIN);
    Question::new(sign(&owner.key, "2024-05-31"), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-key-unusable"]);
}

#[test]
fn subkey_expired_at_signing_is_refused_and_expired_since_depends_on_the_validity() {
    let subkey = ed25519("2024-01-01");
    let period = day("2024-06-01").duration_since(day("2024-01-01")).unwrap();
    let owner = Owner::new("2024-01-01")
        .with_odd_subkey(&subkey, "2024-01-01", true, &|builder| builder.set_key_validity_period(period).unwrap());
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-expired"]);
    let question = Question::new(sign(&subkey, "2024-05-31"), owner.keyring(), owner.fingerprint());
    assert_eq!(question.passes()["valid_now"], false);
    question.now().fails(&["openpgp-key-expired"]);
}

#[test]
fn primary_key_that_expired_takes_its_subkeys_along() {
    let subkey = ed25519("2024-01-01");
    let owner = expiring(uncertified("2024-01-01"), "2024-01-01", "2024-06-01").with_subkey(&subkey, "2024-01-01");
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-expired"]);
}

#[test]
fn revoked_as_compromised_is_void_whatever_the_date() {
    // Without a reason, or with one that nobody knows, it counts as the worst.
    for reason in [
        Some(ReasonForRevocation::KeyCompromised),
        Some(ReasonForRevocation::Unspecified),
        Some(ReasonForRevocation::Unknown(99)),
        None,
    ] {
        let owner = Owner::new("2024-01-01").revoked("2025-01-01", reason, PLAIN);
        let question = Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint());
        question.fails(&["openpgp-key-revoked"]);
        question.now().fails(&["openpgp-key-revoked"]);
    }
}

#[test]
fn revocation_over_a_weak_digest_is_still_a_revocation() {
    for algorithm in [HashAlgorithm::SHA1, HashAlgorithm::MD5] {
        let weak: Change<'_> = &|builder| builder.set_hash_algo(algorithm);
        let owner = Owner::new("2024-01-01").revoked("2025-01-01", Some(ReasonForRevocation::KeyCompromised), weak);
        Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint())
            .fails(&["openpgp-key-revoked"]);
    }
}

#[test]
fn superseded_or_retired_counts_by_date() {
    for reason in [ReasonForRevocation::KeySuperseded, ReasonForRevocation::KeyRetired] {
        let owner = Owner::new("2024-01-01").revoked("2025-01-01", Some(reason), PLAIN);
        let before = Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint());
        assert_eq!(before.passes()["valid_now"], false);
        before.now().fails(&["openpgp-key-revoked"]);
        Question::new(sign(&owner.key, "2025-01-01"), owner.keyring(), owner.fingerprint())
            .fails(&["openpgp-key-revoked"]);
        // No later self-signature lifts it.
        let owner = owner.certified("2025-02-01", PLAIN);
        Question::new(sign(&owner.key, "2025-03-01"), owner.keyring(), owner.fingerprint())
            .fails(&["openpgp-key-revoked"]);
    }
}

#[test]
fn revoked_subkey_is_refused_and_its_primary_key_still_signs() {
    let subkey = ed25519("2024-01-01");
    let owner = Owner::new("2024-01-01").with_subkey(&subkey, "2024-01-01").subkey_revoked(
        &subkey,
        "2025-01-01",
        Some(ReasonForRevocation::KeyCompromised),
    );
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-revoked"]);
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).now().passes();
}

#[test]
fn revoked_primary_key_takes_its_subkeys_along() {
    let subkey = ed25519("2024-01-01");
    let owner = Owner::new("2024-01-01").with_subkey(&subkey, "2024-01-01").revoked("2025-01-01", None, PLAIN);
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-revoked"]);
}

#[test]
fn revocation_by_a_designated_revoker_counts_and_by_anyone_else_does_not() {
    let (revoker, stranger) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let name = RevocationKey::new(revoker.key.pk_algo(), revoker.key.fingerprint(), false);
    let owner =
        uncertified("2024-01-01").certified("2024-01-01", &|builder| builder.set_revocation_key(name.clone()).unwrap());
    let signature = sign(&owner.key, "2024-06-01");
    let pin = owner.fingerprint();

    let owner = owner.revoked_by(&stranger, "2025-01-01", None);
    let keyring = [owner.keyring(), stranger.keyring(), revoker.keyring()].concat();
    Question::new(signature.clone(), keyring, pin.clone()).passes();

    let owner = owner.revoked_by(&revoker, "2025-01-01", None);
    let confirmed = [owner.keyring(), revoker.keyring()].concat();
    Question::new(signature.clone(), confirmed, pin.clone()).fails(&["openpgp-key-revoked"]);
    // Where the revoker's key is not at hand, his word is taken.
    let reasons = Question::new(signature, owner.keyring(), pin).fails(&["openpgp-key-revoked"]);
    assert!(reasons[0].hint.as_deref().unwrap().contains("designated revoker"));
}

#[test]
fn same_user_id_under_another_fingerprint_is_refused() {
    let (owner, impostor) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let keyring = [owner.keyring(), impostor.keyring()].concat();
    let reasons = Question::new(sign(&impostor.key, "2024-06-01"), keyring, owner.fingerprint())
        .fails(&["openpgp-key-not-pinned"]);
    assert!(reasons[0].message.contains(&impostor.fingerprint()));
}

#[test]
fn key_in_the_ring_that_is_not_pinned_is_refused_and_so_is_any_key_without_a_pin() {
    let (owner, other) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    let keyring = [owner.keyring(), other.keyring()].concat();
    let mut question = Question::new(sign(&other.key, "2024-06-01"), keyring, owner.fingerprint());
    question.fails(&["openpgp-key-not-pinned"]);
    question.pins.clear();
    let reasons = question.fails(&["openpgp-key-not-pinned"]);
    assert!(reasons[0].hint.as_deref().unwrap().contains(&other.fingerprint()));
}

#[test]
fn key_that_is_not_in_the_ring_is_unknown() {
    let (owner, other) = (Owner::new("2024-01-01"), Owner::new("2024-01-01"));
    Question::new(sign(&other.key, "2024-06-01"), owner.keyring(), other.fingerprint()).fails(&["openpgp-key-unknown"]);
}

#[test]
fn pinned_subkey_is_no_pin_and_the_hint_says_what_is() {
    let subkey = ed25519("2024-01-01");
    let owner = Owner::new("2024-01-01").with_subkey(&subkey, "2024-01-01");
    let reasons = Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), subkey.fingerprint().to_hex())
        .fails(&["openpgp-key-not-pinned"]);
    assert!(reasons[0].hint.as_deref().unwrap().contains(&owner.fingerprint()));
    let signer = Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).passes();
    assert_eq!(signer["fingerprint"], owner.fingerprint());
    assert_eq!(signer["signing_key"], subkey.fingerprint().to_hex());
}

#[test]
fn rsa_under_2048_bits_is_refused_as_primary_key_and_as_subkey() {
    let weak = rsa(1024, "2024-01-01");
    let owner = Owner::unbound(weak.clone(), "Weak <weak@example.org>").certified("2024-01-01", PLAIN);
    let reasons = Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-algorithm"]);
    assert!(reasons[0].message.contains("1024"));
    let strong = ed25519("2024-01-01");
    let owner = owner.with_subkey(&strong, "2024-01-01");
    Question::new(sign(&strong, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-algorithm"]);
    let owner = Owner::new("2024-01-01").with_subkey(&weak, "2024-01-01");
    Question::new(sign(&weak, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-algorithm"]);
}

#[test]
fn rsa_of_2048_bits_passes() {
    let owner = Owner::unbound(rsa(2048, "2024-01-01"), "Rsa <rsa@example.org>").certified("2024-01-01", PLAIN);
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).passes();
}

#[test]
fn self_signature_over_a_weak_digest_binds_nothing() {
    let owner =
        uncertified("2024-01-01").certified("2024-01-01", &|builder| builder.set_hash_algo(HashAlgorithm::SHA1));
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-algorithm"]);
    // The owner's later and stronger word heals it.
    let owner = owner.certified("2024-09-01", PLAIN);
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint()).passes();
}

#[test]
fn key_without_a_self_signature_is_unusable() {
    let owner = uncertified("2024-01-01");
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-key-unusable"]);
}

#[test]
fn key_without_the_signing_capability_is_refused() {
    let owner = uncertified("2024-01-01")
        .certified("2024-01-01", &|builder| builder.set_key_flags(KeyFlags::empty().set_certification()).unwrap());
    Question::new(sign(&owner.key, "2024-06-01"), owner.keyring(), owner.fingerprint())
        .fails(&["openpgp-key-unusable"]);
    let subkey = ed25519("2024-01-01");
    let owner = Owner::new("2024-01-01").with_odd_subkey(&subkey, "2024-01-01", true, &|builder| {
        builder.set_key_flags(KeyFlags::empty().set_authentication()).unwrap()
    });
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-unusable"]);
}

#[test]
fn subkey_without_a_back_signature_is_adopted_by_nobody() {
    let (subkey, owner) = (ed25519("2024-01-01"), Owner::new("2024-01-01"));
    let owner = owner.with_odd_subkey(&subkey, "2024-01-01", false, PLAIN);
    Question::new(sign(&subkey, "2024-06-01"), owner.keyring(), owner.fingerprint()).fails(&["openpgp-key-unusable"]);
}

#[test]
fn adopting_the_subkey_of_another_does_not_take_over_its_signatures() {
    let subkey = ed25519("2024-01-01");
    let publisher = Owner::new("2024-01-01").with_subkey(&subkey, "2024-01-01");
    let thief = Owner::new("2024-01-01").with_odd_subkey(&subkey, "2024-01-01", false, PLAIN);
    let keyring = [publisher.keyring(), thief.keyring()].concat();
    let signature = sign(&subkey, "2024-06-01");
    Question::new(signature.clone(), keyring.clone(), thief.fingerprint()).fails(&["openpgp-key-unusable"]);
    Question::new(signature, keyring, publisher.fingerprint()).passes();
}

#[test]
fn threshold_of_two_is_not_met_by_two_subkeys_of_one_key() {
    let (one, two, other) = (ed25519("2024-01-01"), ed25519("2024-01-01"), Owner::new("2024-01-01"));
    let owner = Owner::new("2024-01-01").with_subkey(&one, "2024-01-01").with_subkey(&two, "2024-01-01");
    let keyring = [owner.keyring(), other.keyring()].concat();
    let both = [sign(&one, "2024-06-01"), sign(&two, "2024-06-01")];
    let mut question =
        Question::new(both.concat(), keyring, owner.fingerprint()).also_pin(other.fingerprint()).threshold(2);
    let reasons = question.fails(&["openpgp-threshold"]);
    assert!(reasons[0].message.starts_with("1 of the pinned keys signed"), "{reasons:?}");
    // The same key pinned twice is one key as well.
    question.pins = vec![owner.fingerprint(), owner.fingerprint().to_lowercase()];
    question.fails(&["openpgp-threshold"]);
    // A second file by a second key meets it.
    question.pins.push(other.fingerprint());
    question.signatures.push(sign(&other.key, "2024-06-01"));
    assert_eq!(question.ask().unwrap().len(), 3);
}

#[test]
fn certification_is_no_signature_over_a_file() {
    let owner = Owner::new("2024-01-01");
    let signature = sign_oddly(&owner.key, "2024-06-01", SignatureType::Unknown(0x55), PLAIN);
    Question::new(signature, owner.keyring(), owner.fingerprint()).fails(&["openpgp-signature-type"]);
}
