//! Threats, time: a trusted clock says when, and every key was trusted then.

use debvisor::types::Code;
use serde_json::{Value, json};

use super::{Case, blob};
use crate::world::{Draft, Sct, TimestampPlan, World, after, dusk, noon};

/// A signature logged at this time, by a certificate of the usual ten minutes.
fn logged_at(seconds: i64) -> Case {
    Case::of(&blob().entry(|entry| entry.integrated_at = Some(after(seconds))))
}

fn stamped(change: impl FnOnce(&mut TimestampPlan<'static>)) -> Draft<'static> {
    blob().rekor2(World::shared()).with(|draft| change(&mut draft.timestamps[0]))
}

fn window(authority: &mut Value, start: Option<String>, end: Option<String>) {
    let mut valid_for = json!({});
    if let Some(start) = start {
        valid_for["start"] = json!(start);
    }
    if let Some(end) = end {
        valid_for["end"] = json!(end);
    }
    authority["validFor"] = valid_for;
}

#[test]
fn integrated_before_the_certificate_begins() {
    logged_at(-3600).denied(Code::CertificateExpired);
    logged_at(-1).denied(Code::CertificateExpired);
}

#[test]
fn integrated_after_the_certificate_ends() {
    logged_at(601).denied(Code::CertificateExpired);
    logged_at(86_400).denied(Code::CertificateExpired);
}

#[test]
fn the_certificates_own_bounds_are_inclusive() {
    logged_at(0).passes();
    logged_at(600).passes();
}

#[test]
fn integrated_in_the_future() {
    let soon = "2070-01-01T00:00:00Z".parse().unwrap();
    let draft = blob().certificate(|plan| plan.not_after = dusk()).entry(|entry| entry.integrated_at = Some(soon));
    Case::of(&draft).denied(Code::TimeInvalid);
}

#[test]
fn a_log_whose_window_does_not_cover_the_entry() {
    let tlog = |start: i64, end: Option<i64>| {
        Case::of(&blob()).root(|root| {
            let end = end.map(|end| after(end).to_string());
            window(&mut root["tlogs"][0]["publicKey"], Some(after(start).to_string()), end);
        })
    };
    tlog(5, None).denied(Code::AuthorityWindow);
    tlog(-60, Some(3)).denied(Code::AuthorityWindow);
    // The end is inclusive, and so is the start: the entry is of second 4.
    tlog(-60, Some(4)).passes();
    tlog(4, None).passes();
}

#[test]
fn a_rekor_v2_log_whose_window_does_not_cover_the_timestamp() {
    let tlog = |start: i64, end: Option<i64>| {
        Case::of(&stamped(|_| ())).root(|root| {
            let end = end.map(|end| after(end).to_string());
            window(&mut root["tlogs"][1]["publicKey"], Some(after(start).to_string()), end);
        })
    };
    tlog(3600, None).denied(Code::AuthorityWindow);
    tlog(-60, Some(-1)).denied(Code::AuthorityWindow);
    tlog(-60, Some(6)).passes();
}

#[test]
fn a_certificate_authority_whose_window_does_not_cover_the_signing() {
    let authority = |start: i64, end: Option<i64>| {
        Case::of(&blob()).root(|root| {
            let end = end.map(|end| after(end).to_string());
            window(&mut root["certificateAuthorities"][0], Some(after(start).to_string()), end);
        })
    };
    authority(5, None).denied(Code::AuthorityWindow);
    authority(-60, Some(3)).denied(Code::AuthorityWindow);
    authority(-60, Some(4)).passes();
}

#[test]
fn a_ct_log_whose_window_does_not_cover_the_sct() {
    let log = |start: i64, end: Option<i64>| {
        Case::of(&blob()).root(|root| {
            let end = end.map(|end| after(end).to_string());
            window(&mut root["ctlogs"][0]["publicKey"], Some(after(start).to_string()), end);
        })
    };
    log(1, None).denied(Code::AuthorityWindow);
    log(-60, Some(-1)).denied(Code::AuthorityWindow);
    // The SCT is of second 0.
    log(-60, Some(0)).passes();
    // An SCT that claims another time than its certificate: its own is what the window must cover.
    let early = blob().certificate(|plan| plan.scts = vec![Sct::by(&World::shared().ct, after(-7200))]);
    Case::of(&early)
        .root(|root| window(&mut root["ctlogs"][0]["publicKey"], Some(after(-60).to_string()), None))
        .denied(Code::AuthorityWindow);
}

#[test]
fn a_timestamp_authority_whose_window_does_not_cover_the_timestamp() {
    let tsa = |start: i64, end: Option<i64>| {
        Case::of(&stamped(|_| ())).root(|root| {
            let end = end.map(|end| after(end).to_string());
            window(&mut root["timestampAuthorities"][0], Some(after(start).to_string()), end);
        })
    };
    tsa(7, None).denied(Code::AuthorityWindow);
    tsa(-60, Some(5)).denied(Code::AuthorityWindow);
    tsa(-60, Some(6)).passes();
}

/// Where in a trust root a window stands.
type Place = fn(&mut Value) -> &mut Value;

#[test]
fn a_window_without_a_start() {
    let places: [(&str, Place); 4] = [
        ("log", |root| &mut root["tlogs"][0]["publicKey"]),
        ("ct log", |root| &mut root["ctlogs"][0]["publicKey"]),
        ("authority", |root| &mut root["certificateAuthorities"][0]),
        ("timestamp authority", |root| &mut root["timestampAuthorities"][0]),
    ];
    for (name, place) in places {
        println!("{name}");
        let case = Case::of(&blob().stamped(World::shared()));
        case.clone().root(|root| window(place(root), None, None)).denied(Code::AuthorityWindow);
        case.clone().root(|root| window(place(root), None, Some(dusk().to_string()))).denied(Code::AuthorityWindow);
        case.root(|root| drop(place(root).as_object_mut().unwrap().remove("validFor"))).denied(Code::AuthorityWindow);
    }
}

#[test]
fn a_rekor_v2_entry_without_a_timestamp() {
    Case::of(&stamped(|_| ()).with(|draft| draft.timestamps.clear())).denied(Code::TimeMissing);
}

#[test]
fn a_rekor_v2_entry_that_claims_a_time_of_its_own() {
    Case::of(&stamped(|_| ()).with(|draft| draft.timestamps.clear()))
        .edited(|bundle| {
            bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] =
                json!(after(4).as_second().to_string());
        })
        .denied(Code::TimeMissing);
}

#[test]
fn a_timestamp_chain_that_expired_since_passes() {
    Case::of(&stamped(|plan| plan.authority = &World::shared().short_tsa)).passes();
}

#[test]
fn a_timestamp_made_after_the_certificate_ended() {
    Case::of(&stamped(|plan| plan.at = after(601))).denied(Code::CertificateExpired);
    Case::of(&stamped(|plan| plan.at = after(600))).passes();
    Case::of(&stamped(|plan| plan.at = after(-1))).denied(Code::CertificateExpired);
}

#[test]
fn a_timestamp_made_after_its_authoritys_certificate_ended() {
    let draft = stamped(|plan| {
        plan.authority = &World::shared().short_tsa;
        plan.at = after(86_401);
    });
    // The signer's certificate is long enough; the clock's is not.
    Case::of(&draft.certificate(|plan| plan.not_after = dusk())).denied(Code::TimestampUntrusted);
}

#[test]
fn a_good_log_time_does_not_mend_a_timestamp_outside_the_certificate() {
    let late = blob().stamped(World::shared()).with(|draft| draft.timestamps[0].at = after(3600));
    Case::of(&late).denied(Code::CertificateExpired);
}

#[test]
fn the_same_timestamp_twice() {
    Case::of(&stamped(|_| ()))
        .edited(|bundle| {
            let stamps = &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
            let first = stamps[0].clone();
            stamps.as_array_mut().unwrap().push(first);
        })
        .denied(Code::TimestampCount);
}

#[test]
fn two_timestamps_by_two_authorities_pass() {
    let world = World::shared();
    let draft = stamped(|_| ()).with(|draft| draft.timestamps.push(TimestampPlan::by(&world.second_tsa, after(7))));
    Case::of(&draft).passes();
}

#[test]
fn more_than_32_timestamps() {
    let stamps = |count: i64| {
        let world = World::shared();
        let stamps = (0..count).map(|second| TimestampPlan::by(&world.tsa, after(6 + second))).collect();
        Case::of(&stamped(|_| ()).with(|draft| draft.timestamps = stamps))
    };
    stamps(32).passes();
    stamps(33).denied(Code::TimestampCount);
}

#[test]
fn an_untrusted_tsa_certificate_that_the_timestamp_carries_along() {
    let by_stranger = |embedded| {
        stamped(|plan| {
            plan.authority = &World::shared().stranger_tsa;
            plan.embedded = embedded;
        })
    };
    Case::of(&by_stranger(true)).denied(Code::TimestampUntrusted);
    // It has the trusted one's names, so without a certificate it passes for a forgery by the trusted one.
    let output = Case::of(&by_stranger(false)).run();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn an_untrusted_certificate_beside_the_trusted_one_that_signed() {
    let stowaway = stamped(|plan| {
        plan.embedded = true;
        plan.stowaways = vec![World::shared().stranger_tsa.certificate.clone()];
    });
    Case::of(&stowaway).denied(Code::TimestampUntrusted);
}

#[test]
fn a_stranger_who_signs_under_the_trusted_ones_name() {
    let world = World::shared();
    let impostor = |embedded| {
        stamped(|plan| {
            plan.authority = &world.stranger_tsa;
            plan.impersonates = Some(&world.tsa);
            plan.embedded = embedded;
        })
    };
    Case::of(&impostor(false)).denied(Code::TimestampInvalid);
    Case::of(&impostor(true)).denied(Code::TimestampUntrusted);
}

#[test]
fn a_trusted_tsa_certificate_that_the_timestamp_carries_along_passes() {
    Case::of(&stamped(|plan| plan.embedded = true)).passes();
}

#[test]
fn a_bad_timestamp_beside_a_good_one() {
    let world = World::shared();
    let bad = |change: fn(&mut TimestampPlan<'static>)| {
        let mut plan = TimestampPlan::by(&world.second_tsa, after(7));
        change(&mut plan);
        stamped(|_| ()).with(|draft| draft.timestamps.push(plan))
    };
    Case::of(&bad(|plan| plan.forged = true)).denied(Code::TimestampInvalid);
    Case::of(&bad(|plan| plan.foreign = true)).denied(Code::TimestampInvalid);
    Case::of(&bad(|plan| plan.at = after(3600))).denied(Code::CertificateExpired);
}

#[test]
fn a_timestamp_over_another_signature() {
    Case::of(&stamped(|plan| plan.foreign = true)).denied(Code::TimestampInvalid);
}

#[test]
fn a_timestamp_that_is_forged() {
    Case::of(&stamped(|plan| plan.forged = true)).denied(Code::TimestampInvalid);
}

#[test]
fn a_certificate_that_was_not_yet_valid_when_it_was_used() {
    let draft = blob().certificate(|plan| {
        plan.not_before = after(60);
        plan.not_after = after(660);
    });
    Case::of(&draft).denied(Code::CertificateExpired);
    assert!(noon() < after(60));
}
