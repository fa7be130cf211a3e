//! `debvisor gate DIR`: what a whole release must have, and every way in which it may not.

use serde_json::{Value, json};

use debvisor::types::Digest;

mod formats;
pub(crate) mod release;
mod sigstore;

use release::{Publisher, Release};

#[test]
fn a_release_with_a_signed_list_of_every_file_is_allowed() {
    let answer = Release::good().gate(&[]);
    answer.allows();
    let app = answer.subject("app.tar.gz");
    assert_eq!(app["decision"], "allow");
    assert_eq!(app["digest"]["sha256"], Digest::sha256(b"the application").to_hex());
    assert_eq!(app.pointer("/facts/checksums/0/signed"), Some(&json!(true)));
    assert_eq!(answer.report["policy"]["name"], "release");
    // The list and its signature speak for others and are no subjects themselves.
    assert_eq!(answer.report["subjects"].as_array().unwrap().len(), 2);
}

#[test]
fn a_changed_byte_is_a_no_for_that_file_alone() {
    let release = Release::good();
    release.write("app.tar.gz", b"the Application");
    let answer = release.gate(&[]);
    answer.denies(&["checksum-mismatch app.tar.gz"]);
    assert_eq!(answer.subject("app.tar.gz")["decision"], "deny");
    assert_eq!(answer.subject("sub/notes.txt")["decision"], "allow");
    assert_eq!(answer.report["reasons"][0]["evidence"], "SHA256SUMS");
    assert_eq!(answer.report["reasons"][0]["location"], "line 1");
}

#[test]
fn a_file_nobody_listed_is_a_no() {
    Release::good().with("extra.bin", b"x").gate(&[]).denies(&["file-unlisted extra.bin"]);
    Release::good().with("sub/.hidden", b"x").gate(&[]).denies(&["file-unlisted sub/.hidden"]);
}

#[test]
fn a_listed_file_that_is_missing_is_a_no() {
    let release = Release::good();
    std::fs::remove_file(release.path("app.tar.gz")).unwrap();
    let answer = release.gate(&[]);
    answer.denies(&["file-missing app.tar.gz"]);
    assert_eq!(answer.subject("app.tar.gz")["decision"], "deny");
}

#[test]
fn a_link_or_special_file_is_a_no() {
    let release = Release::good();
    std::os::unix::fs::symlink("app.tar.gz", release.path("link")).unwrap();
    release.gate(&[]).denies(&["file-unsafe link"]);

    let release = Release::good();
    std::fs::remove_file(release.path("app.tar.gz")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", release.path("app.tar.gz")).unwrap();
    release.gate(&[]).denies(&["file-unsafe app.tar.gz"]);

    let release = Release::good();
    let _socket = std::os::unix::net::UnixListener::bind(release.path("socket")).unwrap();
    release.gate(&[]).denies(&["file-unsafe socket"]);
}

#[test]
fn a_name_that_no_list_can_hold_is_a_no() {
    use std::os::unix::ffi::OsStrExt as _;
    let release = Release::good();
    std::fs::write(release.dir().join(std::ffi::OsStr::from_bytes(b"not\xff-utf8")), b"x").unwrap();
    release.gate(&[]).denies(&["file-unsafe -"]);
}

#[test]
fn a_release_without_a_list_is_a_no() {
    let release = Release::empty().with("app", b"x");
    release.sign("app");
    let answer = release.gate(&[]);
    answer.denies(&["checksum-missing -"]);
    assert_eq!(answer.subject("app")["decision"], "deny", "what speaks against the whole speaks against each file");
    Release::empty().gate(&[]).denies(&["checksum-missing -"]);
}

#[test]
fn nobody_named_is_a_no_even_where_everything_is_signed() {
    let answer = Release::good().gate_as(&[]);
    answer.denies(&["identity-required -"]);
    assert_eq!(answer.report["warnings"][0]["code"], "evidence-unjudged");
    assert_eq!(answer.report["warnings"][0]["evidence"], "SHA256SUMS.sig");
}

#[test]
fn a_list_without_a_signature_vouches_for_nothing() {
    let release = Release::good();
    std::fs::remove_file(release.path("SHA256SUMS.sig")).unwrap();
    release.gate(&[]).denies(&["signature-required app.tar.gz", "signature-required sub/notes.txt"]);
}

#[test]
fn a_list_changed_after_it_was_signed_is_a_no() {
    let release = Release::good();
    release.write("app.tar.gz", b"evil");
    release.list();
    release.gate(&[]).denies(&[
        "openpgp-signature-bad SHA256SUMS",
        "signature-required app.tar.gz",
        "signature-required sub/notes.txt",
    ]);
}

#[test]
fn a_list_signed_by_another_key_is_a_no() {
    let release = Release::good();
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    release.write("SHA256SUMS.sig", &Publisher::new().sign(&list));
    let answer = release.gate(&[]);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"openpgp-key-unknown SHA256SUMS".to_owned()), "{:?}", answer.reasons());
    assert!(answer.reasons().contains(&"signature-required app.tar.gz".to_owned()));
}

#[test]
fn a_key_in_the_ring_that_is_not_pinned_vouches_for_nothing() {
    let release = Release::good();
    let stranger = Publisher::new();
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    release.write("SHA256SUMS.sig", &stranger.sign(&list));
    let other = release.home().join("other.pgp");
    std::fs::write(&other, stranger.keyring()).unwrap();
    let answer = release.gate(&["--openpgp-keyring", other.to_str().unwrap()]);
    assert!(answer.reasons().contains(&"openpgp-key-not-pinned SHA256SUMS".to_owned()), "{:?}", answer.reasons());
    assert_eq!(answer.exit, 1);
}

#[test]
fn two_keyrings_count_as_one_and_a_threshold_needs_two_keys() {
    let release = Release::good();
    let second = Publisher::new();
    let other = release.home().join("second.pgp");
    std::fs::write(&other, second.keyring()).unwrap();
    let fingerprint = second.fingerprint();
    let flags =
        ["--openpgp-keyring", other.to_str().unwrap(), "--openpgp-fingerprint", &fingerprint, "--threshold", "2"];
    assert!(release.gate(&flags).reasons().contains(&"openpgp-threshold SHA256SUMS".to_owned()));
    let list = std::fs::read(release.path("SHA256SUMS")).unwrap();
    release.write("SHA256SUMS.asc", &second.sign(&list));
    release.gate(&flags).allows();
}

#[test]
fn a_damaged_signature_is_a_no() {
    let release = Release::good();
    release.write("SHA256SUMS.sig", b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n");
    let answer = release.gate(&[]);
    assert_eq!(answer.exit, 1);
    assert!(answer.reasons().contains(&"openpgp-malformed SHA256SUMS.sig".to_owned()), "{:?}", answer.reasons());
}

#[test]
fn files_that_are_signed_one_by_one_need_no_signed_list() {
    let release = Release::empty().with("a", b"a").with("b", b"b");
    release.sign("a");
    release.sign("b");
    release.list();
    release.gate(&[]).allows();
    release.gate(&["--require", "signature"]).allows();
    std::fs::remove_file(release.path("b.sig")).unwrap();
    release.list();
    release.gate(&[]).denies(&["signature-required b"]);
}

#[test]
fn a_signature_of_its_own_can_be_asked_of_every_file() {
    let answer = Release::good().gate(&["--require", "signature"]);
    answer.denies(&["signature-required app.tar.gz", "signature-required sub/notes.txt"]);
}

#[test]
fn an_unsigned_list_beside_a_signed_one_vouches_for_nothing() {
    let release = Release::good().with("evil", b"evil");
    let line = format!("{}  evil\n", Digest::sha256(b"evil").to_hex());
    release.write("evil.sha256", line.as_bytes());
    release.gate(&[]).denies(&["file-unlisted evil.sha256", "signature-required evil"]);
    // A signature by nobody who was named changes nothing about that.
    let list = std::fs::read(release.path("evil.sha256")).unwrap();
    release.write("evil.sha256.sig", &Publisher::new().sign(&list));
    let answer = release.gate(&[]);
    for expected in ["file-unlisted evil.sha256", "file-unlisted evil.sha256.sig", "signature-required evil"] {
        assert!(answer.reasons().contains(&expected.to_owned()), "{:?}", answer.reasons());
    }
    assert_eq!(answer.exit, 1);
}

#[test]
fn two_lists_that_disagree_about_a_file_are_a_no() {
    let release = Release::good();
    let line = format!("{}  app.tar.gz\n", Digest::sha256(b"other").to_hex());
    release.write("app.tar.gz.sha256", line.as_bytes());
    release.seal();
    release.gate(&[]).denies(&["checksum-mismatch app.tar.gz"]);
}

#[test]
fn a_list_further_down_is_a_file_like_any_other() {
    let release = Release::good().with("sub/SHA256SUMS", b"nonsense");
    release.gate(&[]).denies(&["file-unlisted sub/SHA256SUMS"]);
    release.seal();
    release.gate(&[]).allows();
}

#[test]
fn two_digests_for_one_name_are_a_no_and_dot_slash_is_the_same_name() {
    let release = Release::empty().with("a", b"a");
    let (good, other) = (Digest::sha256(b"a").to_hex(), Digest::sha256(b"b").to_hex());
    for name in ["a", "./a"] {
        release.seal_as(format!("{good}  a\n{other}  {name}\n"));
        let answer = release.gate(&[]);
        assert!(answer.reasons().contains(&"checksum-conflict SHA256SUMS".to_owned()), "{:?}", answer.reasons());
        assert_eq!(answer.exit, 1);
    }
}

#[test]
fn traversal_absolute_names_and_nul_in_a_list_are_a_no() {
    let release = Release::empty().with("a", b"a");
    let good = Digest::sha256(b"a").to_hex();
    for name in ["../a", "/etc/passwd", "a/../../b", "a\0b", "C:\\a"] {
        release.seal_as(format!("{good}  a\n{good}  {name}\n"));
        let answer = release.gate(&[]);
        assert!(answer.reasons().contains(&"checksum-name-unsafe SHA256SUMS".to_owned()), "{:?}", answer.reasons());
        assert_eq!(answer.exit, 1);
    }
}

#[test]
fn a_wrong_length_a_malformed_line_or_an_empty_list_is_a_no() {
    let release = Release::empty().with("a", b"a");
    let good = Digest::sha256(b"a").to_hex();
    for list in [format!("{}  a\n", &good[..40]), format!("{good} a b\nnonsense\n"), String::new()] {
        release.seal_as(&list);
        let answer = release.gate(&[]);
        assert!(answer.reasons().contains(&"checksum-list-malformed SHA256SUMS".to_owned()), "{:?}", answer.reasons());
        assert_eq!(answer.exit, 1);
    }
}

#[test]
fn star_marks_crlf_bsd_and_escaped_names_pass() {
    let release = Release::empty().with("a", b"a").with("b", b"b").with("c", b"c").with("d\ne", b"d");
    let hex = |text: &str| Digest::sha256(text.as_bytes()).to_hex();
    release.seal_as(format!(
        "{} *a\r\n{}  ./b\nSHA256 (c) = {}\n\\{}  d\\ne\n",
        hex("a"),
        hex("b"),
        hex("c"),
        hex("d")
    ));
    release.gate(&[]).allows();
}

#[test]
fn tampered_evidence_is_a_no_even_where_other_evidence_is_missing() {
    let release = Release::good();
    release.write("app.tar.gz", b"evil");
    std::fs::remove_file(release.path("SHA256SUMS.sig")).unwrap();
    let answer = release.gate(&["--require", "sbom,provenance,vex"]);
    answer.denies(&["checksum-mismatch app.tar.gz", "signature-required sub/notes.txt"]);
}

fn cyclonedx(hashes: &Value) -> Vec<u8> {
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {"type": "application", "name": "app", "hashes": hashes}},
    });
    document.to_string().into_bytes()
}

#[test]
fn an_sbom_is_asked_of_every_artifact_and_found_by_its_digest_or_name() {
    let require = ["--require", "sbom"];
    Release::good().gate(&require).denies(&["sbom-required app.tar.gz", "sbom-required sub/notes.txt"]);

    let release = Release::empty().with("app", b"app");
    let hash = json!([{"alg": "SHA-256", "content": Digest::sha256(b"app").to_hex()}]);
    for (name, document) in
        [("app.cdx.json", cyclonedx(&hash)), ("other.cdx.json", cyclonedx(&hash)), ("bom.json", cyclonedx(&json!([])))]
    {
        release.write(name, &document);
        release.seal();
        let answer = release.gate(&require);
        answer.allows();
        let sbom = answer.subject("app").pointer("/facts/sbom/evidence").unwrap().clone();
        assert_eq!(sbom, name);
        std::fs::remove_file(release.path(name)).unwrap();
    }
}

#[test]
fn an_sbom_bound_to_another_digest_is_a_no() {
    let hash = json!([{"alg": "SHA-256", "content": Digest::sha256(b"other").to_hex()}]);
    let release = Release::empty().with("app", b"app").with("app.cdx.json", &cyclonedx(&hash));
    release.seal();
    release.gate(&[]).denies(&["document-mismatch app"]);

    let release = Release::empty().with("app", b"app").with("bom.json", &cyclonedx(&hash));
    release.seal();
    release.gate(&["--require", "sbom"]).denies(&["sbom-required app"]);
}

#[test]
fn an_sbom_bound_by_sha1_only_is_a_no() {
    let hash = json!([{"alg": "SHA-1", "content": "d2a04d71301a8915217dd5faf81d12cffd6cd958"}]);
    let release = Release::empty().with("app", b"app").with("bom.json", &cyclonedx(&hash));
    release.seal();
    release.gate(&["--require", "sbom"]).denies(&["sbom-required app"]);
}

#[test]
fn an_sbom_that_nobody_vouches_for_says_nothing() {
    let release = Release::empty().with("app", b"app");
    release.seal();
    release.write("bom.json", &cyclonedx(&json!([])));
    release.gate(&["--require", "sbom"]).denies(&["file-unlisted bom.json", "sbom-required app"]);
}

#[test]
fn a_document_that_is_none_is_a_no() {
    let release =
        Release::empty().with("app", b"app").with("bom.json", b"{}").with("x.openvex.json", b"{\"a\":1,\"a\":2}");
    release.seal();
    release.gate(&[]).denies(&["document-malformed bom.json", "duplicate-key x.openvex.json"]);
}

#[test]
fn vex_and_provenance_are_asked_by_the_policy() {
    let release = Release::empty().with("app", b"app");
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "statements": []});
    release.write("app.openvex.json", vex.to_string().as_bytes());
    release.seal();
    release.gate(&["--require", "vex"]).allows();
    release.gate(&["--require", "vex,provenance"]).denies(&["provenance-required app"]);
}

#[test]
fn every_refused_file_of_a_large_release_is_named() {
    let release = Release::empty();
    for index in 0..300 {
        release.write(&format!("files/{index:03}"), format!("content {index}").as_bytes());
    }
    release.seal();
    release.gate(&[]).allows();
    release.write("files/007", b"evil");
    release.write("files/299", b"evil");
    release.gate(&[]).denies(&["checksum-mismatch files/007", "checksum-mismatch files/299"]);
}

#[test]
fn a_release_that_is_not_there_is_undecided() {
    let release = Release::good();
    std::fs::remove_dir_all(release.dir()).unwrap();
    let answer = release.gate(&[]);
    assert_eq!((answer.exit, answer.reasons()), (2, vec!["subject-unreadable -".to_owned()]));
}

#[test]
fn a_keyring_that_cannot_be_read_is_undecided() {
    let release = Release::good();
    std::fs::write(release.home().join("publisher.pgp"), b"nonsense").unwrap();
    let answer = release.gate(&[]);
    assert_eq!((answer.exit, answer.reasons()), (2, vec!["openpgp-keyring-unreadable -".to_owned()]));
}

#[test]
fn other_kinds_of_target_are_usage_errors_that_say_what_is_gated() {
    for target in ["owner/repo@v1.0", "release/app.tar.gz"] {
        let release = Release::good();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_debvisor"))
            .current_dir(release.home())
            .args(["gate", target])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{target}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("director") && stderr.contains("hint:"), "{stderr}");
    }
}

#[test]
fn a_short_fingerprint_or_a_threshold_out_of_reach_is_a_usage_error() {
    let release = Release::good();
    let keyring = release.expected()[1].clone();
    let short = ["--openpgp-keyring".into(), keyring, "--openpgp-fingerprint".into(), "DEADBEEF".into()];
    assert_eq!(release.gate_as(&short).exit, 64);
    assert_eq!(release.gate(&["--threshold", "2"]).exit, 64);
    assert_eq!(release.gate_as(&["--openpgp-fingerprint".into(), release.publisher.fingerprint()]).exit, 64);
}

#[test]
fn evidence_that_changes_between_two_reads_is_no_yes() {
    use debvisor::release::artifact::Artifact;
    use debvisor::release::gate::{Evidence, Member, Question, judge, layout};

    let question = Question {
        openpgp: None,
        sigstore: None,
        unanswered: &[],
        revocations: &Default::default(),
        policy: &|_, _| (Vec::new(), Vec::new()),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let digest = Digest::sha256(b"evil").to_hex();
    let read = |_: &str, _: u64| Ok(format!("{digest}  app\n").into_bytes());
    let evidence = Evidence::read(layout::roles(["app", "SHA256SUMS"]), Vec::new(), &question, &read);
    let member = |name: &str, bytes: &[u8]| Member { artifact: Artifact::from_bytes(name, bytes), openpgp: None };
    // What a signature would be held against is another list than the one that was read.
    let members = [member("app", b"evil"), member("SHA256SUMS", b"the publisher's own list")];
    let report = judge(&evidence, &members, Vec::new(), &question);
    let codes: Vec<&str> = report.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert!(codes.contains(&"evidence-unreadable"), "{codes:?}");
}
