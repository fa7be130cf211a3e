//! `POST /v1/admissions`: the gate's answer without anything being started.

use serde_json::json;

use super::super::server::{Server, images};
use super::ask;

fn digest_of(name: &str) -> String {
    let bytes = std::fs::read(images().join(name)).unwrap();
    debvisor::types::Digest::sha256(&bytes).to_string()
}

fn evidence_of(name: &str) -> serde_json::Value {
    use base64::Engine as _;
    let name = format!("{name}.sigstore.json");
    let bytes = std::fs::read(images().join(&name)).unwrap();
    json!({ "name": name, "base64": base64::engine::general_purpose::STANDARD.encode(bytes) })
}

#[test]
fn images_are_decided_about_by_digest_whether_they_are_there_or_not() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    let answer = ask(
        &server,
        "POST",
        "/v1/admissions",
        &[],
        Some(&json!({ "images": [
            { "digest": digest_of("kernel"), "kind": "kernel" },
            { "digest": digest_of("disk.raw"), "kind": "disk", "evidence": [evidence_of("disk.raw")] },
        ] })),
    );
    assert_eq!(answer.status, 200, "{}", answer.json());
    let answer = answer.json();
    assert_eq!(answer["decision"], "allow", "{answer}");
    for image in answer["images"].as_array().unwrap() {
        let summary: serde_json::Value = serde_json::from_str(image["summary"].as_str().unwrap()).unwrap();
        assert!(summary["dsseEnvelope"]["payload"].is_string(), "{summary}");
        assert!(image["signers"][0].as_str().unwrap().contains("sha256:"), "{image}");
    }
    // The summary is one that the verb believes, by the server's own key.
    let lists = server.json(&["image", "list"]);
    assert_eq!(lists.as_array().unwrap().len(), 1, "nothing was imported by asking");
    assert_eq!(server.json(&["vm", "list"]), json!([]), "and nothing was made");
}

#[test]
fn what_nobody_vouches_for_is_denied_and_written_down_and_one_no_outweighs_a_yes() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    let question = json!({ "images": [
        { "digest": digest_of("kernel"), "kind": "kernel" },
        { "digest": digest_of("stranger.raw"), "kind": "disk" },
        { "digest": digest_of("disk.raw"), "kind": "disk", "evidence": [evidence_of("kernel")] },
        { "digest": digest_of("kernel"), "kind": "disk" },
    ] });
    let answer = ask(&server, "POST", "/v1/admissions", &[], Some(&question)).json();
    assert_ne!(answer["decision"], "allow", "{answer}");
    let decisions: Vec<&str> =
        answer["images"].as_array().unwrap().iter().map(|image| image["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions[0], "allow");
    assert!(decisions[1..].iter().all(|decision| *decision != "allow"), "{answer}");
    assert_eq!(answer["images"][1]["reasons"][0]["code"], "evidence-missing");
    assert_eq!(answer["images"][3]["reasons"][0]["code"], "image-kind");
    assert!(answer["images"][1].get("summary").is_none(), "only a yes is signed");
    assert_eq!(server.events("admission.refused").len(), 3);
}

#[test]
fn what_is_in_quarantine_is_denied_whoever_vouches_for_it() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    server.ok(&["quarantine", "add", &digest_of("kernel"), "--reason", "looks wrong"]);
    let question = json!({ "images": [{ "digest": digest_of("kernel"), "kind": "kernel" }] });
    let answer = ask(&server, "POST", "/v1/admissions", &[], Some(&question)).json();
    assert_eq!(answer["decision"], "deny", "{answer}");
}

#[test]
fn a_machine_is_decided_about_by_its_description_with_a_ticket_and_none_is_made() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("stranger.raw", "disk")]);
    let sound = json!({ "vm": {
        "name": "web", "memory_mib": 64, "kernel": { "kernel": digest_of("kernel"), "cmdline": "" },
    } });
    let answer = ask(&server, "POST", "/v1/admissions", &[], Some(&sound)).json();
    assert_eq!(answer["decision"], "allow", "{answer}");
    assert!(answer["ticket"].as_str().unwrap().contains("dsseEnvelope"), "{answer}");
    let strange = json!({ "vm": {
        "name": "web", "memory_mib": 64, "disks": [{ "image": digest_of("stranger.raw") }],
    } });
    let answer = ask(&server, "POST", "/v1/admissions", &[], Some(&strange)).json();
    let codes: Vec<&str> =
        answer["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["image-unadmitted", "evidence-missing"], "{answer}");
    assert!(answer.get("ticket").is_none());
    assert_eq!(server.json(&["vm", "list"]), json!([]));
    for none in [json!({}), json!({ "images": [] }), json!({ "images": [], "vm": {} }), json!({ "machine": 1 })] {
        ask(&server, "POST", "/v1/admissions", &[], Some(&none)).is(422, "request-malformed");
    }
}
