//! The world against a verifier that is not ours: what we call honest, `sigstore-verify` must accept, and a sample of
//! what we call flawed it must refuse. So a test that fails elsewhere tells of our verifier, not of this world.

use serde_json::Value;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{Bundle, DerPublicKey};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, verify};

use super::rekor::Kind;
use super::statement::{slsa_v1, slsa_v02};
use super::*;

const ARTIFACT: &[u8] = b"what was built\n";

fn identity() -> Identity {
    Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2")
}

fn judge(root: &Value, bundle: &Value, policy: &dyn sigstore_verify::Policy) -> Result<(), String> {
    let root = TrustedRoot::from_json(&root.to_string()).map_err(|error| format!("root: {error}"))?;
    let bundle = Bundle::from_json(&bundle.to_string()).map_err(|error| format!("bundle: {error}"))?;
    let verifier = sigstore_verify::Verifier::new(&root).map_err(|error| format!("verifier: {error}"))?;
    verifier.verify(ARTIFACT, &bundle, policy).map(drop).map_err(|error| format!("verdict: {error}"))
}

fn keyless(draft: &Draft<'_>) -> Result<(), String> {
    let identity = identity();
    let policy = VerificationPolicy::new(identity.text(), ca::GITHUB_ISSUER);
    judge(&World::shared().trusted_root(), &draft.bundle(), &policy)
}

#[test]
fn honest_keyless_bundles_satisfy_another_verifier() {
    let world = World::shared();
    let blob = || world.blob(ARTIFACT, &identity());
    let attest = || world.attest(&slsa_v1(ARTIFACT, &identity()), &identity());
    let cases = [
        ("blob, v0.3", blob()),
        ("blob, v0.2", blob().with(|draft| draft.version = Version::V02)),
        ("blob, v0.1", blob().with(|draft| draft.version = Version::V01)),
        (
            "blob, v0.1 with its intermediate",
            blob().with(|draft| {
                draft.version = Version::V01;
                draft.chain = vec![world.authority.intermediate.clone()];
            }),
        ),
        ("blob with a timestamp besides", blob().stamped(world)),
        ("blob, size one", blob().entry(|entry| (entry.index, entry.tree_size) = (0, 1))),
        ("blob, witnesses before and after", {
            blob().entry(|entry| {
                entry.checkpoint.witnesses_before = vec!["witness.example".to_owned()];
                entry.checkpoint.witnesses_after = vec!["other.witness.example".to_owned()];
            })
        }),
        ("blob, Rekor v2", blob().rekor2(world)),
        ("blob, Rekor v2, embedded", blob().rekor2(world).with(|draft| draft.timestamps[0].embedded = true)),
        (
            "blob, Rekor v2, a TSA that expired since",
            blob().rekor2(world).with(|draft| draft.timestamps[0].authority = &world.short_tsa),
        ),
        ("attestation, dsse 0.0.1", attest()),
        ("attestation, SLSA v0.2", world.attest(&slsa_v02(ARTIFACT, &identity()), &identity())),
        ("attestation, intoto 0.0.2", attest().entry(|entry| entry.kind = Kind::Intoto002)),
        ("attestation, Rekor v2", attest().rekor2(world)),
    ];
    for (name, draft) in cases {
        assert_eq!(keyless(&draft), Ok(()), "{name}");
    }
}

#[test]
fn honest_managed_keys_satisfy_another_verifier() {
    let world = World::shared();
    let keys = [("P-256", Key::p256()), ("P-384", Key::p384()), ("Ed25519", Key::ed25519()), ("RSA", Key::rsa())];
    for (name, key) in &keys {
        let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki().to_vec()));
        let judge = |bundle: &Value| judge(&world.trusted_root(), bundle, &policy);
        // It knows no key but P-256 for a hashedrekord: others must fail there, and there only.
        let blob = judge(&world.key_blob(ARTIFACT, key).bundle());
        if *name == "P-256" {
            assert_eq!(blob, Ok(()), "{name} over a blob");
        }
        let attestation = world.key_attest(&slsa_v1(ARTIFACT, &identity()), key).bundle();
        assert_eq!(judge(&attestation), Ok(()), "{name} over a statement");
    }
}

#[test]
fn a_private_instance_without_logs_satisfies_another_verifier() {
    let world = World::shared();
    let draft = private_blob(world, ARTIFACT, &identity());
    let policy = VerificationPolicy::new(identity().text(), ca::GITHUB_ISSUER).skip_tlog_unsafe().skip_sct();
    assert_eq!(judge(&world.private_root(), &draft.bundle(), &policy), Ok(()));
}

#[test]
fn flaws_are_seen_by_another_verifier() {
    let world = World::shared();
    let blob = || world.blob(ARTIFACT, &identity());
    let cases = [
        ("no SCT", blob().certificate(|plan| plan.scts.clear())),
        ("forged SCT", blob().certificate(|plan| plan.scts[0].forged = true)),
        ("foreign SCT", blob().certificate(|plan| plan.scts[0].foreign = true)),
        ("lookalike authority", blob().certificate(|plan| plan.authority = &world.lookalike)),
        ("stranger's log", blob().entry(|entry| entry.log = &world.stranger_rekor)),
        ("stranger's checkpoint", blob().entry(|entry| entry.checkpoint.key = Some(&world.stranger_rekor.key))),
        ("forged timestamp", blob().rekor2(world).with(|draft| draft.timestamps[0].forged = true)),
        ("foreign timestamp", blob().rekor2(world).with(|draft| draft.timestamps[0].foreign = true)),
    ];
    for (name, draft) in cases {
        let verdict = keyless(&draft).unwrap_err();
        assert!(verdict.starts_with("verdict: "), "{name}: {verdict}");
    }
    assert!(
        verify(
            ARTIFACT,
            &Bundle::from_json(&blob().bundle().to_string()).unwrap(),
            &VerificationPolicy::new("https://example.test/somebody-else", ca::GITHUB_ISSUER),
            &TrustedRoot::from_json(&world.trusted_root().to_string()).unwrap()
        )
        .is_err()
    );
}
