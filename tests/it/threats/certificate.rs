//! Threats, certificate: only a logged code-signing leaf of a trusted authority signs.

use debvisor::types::Code;

use super::{Case, blob};
use crate::world::ca::{SERVER_AUTH, TIME_STAMPING, fulcio_extension};
use crate::world::{CertificatePlan, Sct, Version, World, asn1, noon};

fn certified(change: impl FnOnce(&mut CertificatePlan<'static>)) -> Case {
    Case::of(&blob().certificate(change))
}

#[test]
fn no_sct() {
    certified(|plan| plan.scts.clear()).denied(Code::SctMissing);
}

#[test]
fn an_sct_from_an_unknown_log() {
    certified(|plan| plan.scts = vec![Sct::by(&World::shared().stranger_ct, noon())]).denied(Code::SctUntrusted);
}

#[test]
fn an_sct_that_is_forged() {
    certified(|plan| plan.scts[0].forged = true).denied(Code::SctInvalid);
    // By another key under the right log's id.
    certified(|plan| {
        let world = World::shared();
        plan.scts[0] = Sct { log_id: world.ct.id(), ..Sct::by(&world.stranger_ct, noon()) };
    })
    .denied(Code::SctInvalid);
}

#[test]
fn an_sct_for_another_certificate() {
    certified(|plan| plan.scts[0].foreign = true).denied(Code::SctInvalid);
}

#[test]
fn an_sct_signed_by_a_rekor_key() {
    let world = World::shared();
    // Under its own id the log is no CT log; under the CT log's id the signature is wrong.
    certified(|plan| plan.scts = vec![Sct::by(&world.rekor.key, noon())]).denied(Code::SctUntrusted);
    certified(|plan| plan.scts = vec![Sct { log_id: world.ct.id(), ..Sct::by(&world.rekor.key, noon()) }])
        .denied(Code::SctInvalid);
}

#[test]
fn a_good_sct_beside_one_from_an_unknown_log_passes() {
    let world = World::shared();
    certified(|plan| plan.scts.push(Sct::by(&world.stranger_ct, noon()))).passes();
    certified(|plan| plan.scts.insert(0, Sct::by(&world.stranger_ct, noon()))).passes();
}

#[test]
fn a_forged_sct_of_a_known_log_beside_a_good_one() {
    let world = World::shared();
    certified(|plan| plan.scts.push(Sct { forged: true, ..Sct::by(&world.ct, noon()) })).denied(Code::SctInvalid);
}

#[test]
fn a_wrong_extended_key_usage() {
    certified(|plan| plan.purposes = vec![SERVER_AUTH]).denied(Code::CertificateUsage);
    certified(|plan| plan.purposes = vec![TIME_STAMPING]).denied(Code::CertificateUsage);
}

#[test]
fn no_extended_key_usage() {
    certified(|plan| plan.purposes.clear()).denied(Code::CertificateUsage);
}

#[test]
fn the_extended_key_usage_any() {
    certified(|plan| plan.purposes = vec!["2.5.29.37.0"]).denied(Code::CertificateUsage);
}

#[test]
fn a_leaf_that_is_an_authority() {
    certified(|plan| plan.is_authority = true).denied(Code::CertificateUsage);
}

#[test]
fn an_issuer_with_the_right_name_and_another_key() {
    certified(|plan| plan.authority = &World::shared().lookalike).denied(Code::CertificateUntrusted);
}

#[test]
fn an_issuer_with_the_right_name_and_another_key_that_the_bundle_brings_along() {
    let world = World::shared();
    let draft = blob().certificate(|plan| plan.authority = &world.lookalike).with(|draft| {
        draft.version = Version::V01;
        draft.chain = vec![world.lookalike.intermediate.clone()];
    });
    Case::of(&draft).denied(Code::CertificateUntrusted);
}

#[test]
fn the_root_inside_the_bundles_chain() {
    let world = World::shared();
    for version in [Version::V01, Version::V02] {
        let draft = blob().with(|draft| {
            draft.version = version;
            draft.chain = vec![world.authority.intermediate.clone(), world.authority.root.clone()];
        });
        Case::of(&draft).denied(Code::BundleRootCertificate);
    }
}

#[test]
fn a_chain_in_a_bundle_of_version_0_3() {
    let chain = Case::of(&blob()).edited(|bundle| {
        let certificate = bundle["verificationMaterial"]["certificate"].take();
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        material.remove("certificate");
        material.insert("x509CertificateChain".to_owned(), serde_json::json!({ "certificates": [certificate] }));
    });
    chain.denied(Code::MalformedBundle);
}

#[test]
fn an_extension_twice() {
    certified(|plan| plan.extra_extensions.push(fulcio_extension(12, "https://github.com/evil/fork")))
        .denied(Code::CertificateMalformed);
}

#[test]
fn an_unknown_critical_extension() {
    let case = certified(|plan| {
        plan.extra_extensions.push(asn1::extension("1.3.6.1.4.1.99999.1", true, &asn1::null()));
    });
    let output = case.run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}
