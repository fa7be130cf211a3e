//! Services that refuse, are down, are late, or lie: each is an error with a hint, exit 1 where the answer was no and 2
//! where there was none; nothing is written, and what was there stays as it was.

use super::Desk;
use super::keyless::{flags, flags2, joined};
use super::services::{Flaw, JOB_SECRET, Services, claims, token, token_by};
use crate::world::Key;

/// Signing and attesting, one file and several, end so and leave every file as it was.
#[track_caller]
fn leaves_nothing(services: &Services, flags: &[String], token: &str, exit: i32, message: &str) {
    let desk = Desk::new();
    desk.write("notes", b"what is new\n");
    // One bundle from an earlier run is there, one is not.
    desk.write("app.sigstore.json", b"an earlier bundle");
    desk.write("app.att.sigstore.json", b"an earlier bundle");
    let before = desk.files();
    let attest = ["attest", "app", "--predicate", "predicate.json", "--type", "custom"];
    for verb in [&["sign", "app", "notes"][..], &attest] {
        let started = std::time::Instant::now();
        let ran = desk.run(&joined(&[verb, &["--identity-token", token]].concat(), flags));
        assert!(started.elapsed().as_secs() < 30, "it hung");
        assert!(!ran.stderr.contains(token), "the token is repeated: {}", ran.stderr);
        assert!(ran.stderr.contains("not"), "{}", ran.stderr);
        ran.fails(exit, message);
        assert_eq!(desk.files(), before, "{message}: files were touched");
    }
    assert!(!services.asked().contains(&"elsewhere".to_owned()), "a redirect was followed");
}

#[track_caller]
fn flawed(name: &'static str, flaw: Flaw, exit: i32, message: &str) {
    let services = Services::with(&[(name, flaw)]);
    let flags = if matches!(name, "tsa" | "rekor2") { flags2(&services) } else { flags(&services) };
    leaves_nothing(&services, &flags, &token(&claims()), exit, message);
}

#[test]
fn a_token_that_is_forged_or_expired_or_for_another_audience_is_refused() {
    let services = Services::honest();
    let changed = |name: &str, value: serde_json::Value| {
        let mut claims = claims();
        claims[name] = value;
        token(&claims)
    };
    let refused = [
        token_by(&claims(), &Key::ed25519()),
        changed("exp", claims()["iat"].clone()),
        changed("aud", "https://github.com/acme".into()),
        changed("iss", "https://evil.example.net".into()),
    ];
    for token in refused {
        leaves_nothing(&services, &flags(&services), &token, 1, "error processing the identity token");
    }
    assert!(services.asked().iter().all(|asked| asked == "fulcio"), "nothing was logged");
}

#[test]
fn services_that_are_down_or_out_of_order_give_no_answer() {
    for name in ["fulcio", "rekor", "rekor2", "tsa"] {
        flawed(name, Flaw::Down, 2, "cannot reach");
        flawed(name, Flaw::Status(503), 2, "503");
        flawed(name, Flaw::Status(404), 2, "404");
    }
}

#[test]
fn services_that_are_late_or_never_end_are_given_up() {
    for name in ["fulcio", "rekor", "tsa"] {
        flawed(name, Flaw::Broken, 2, "cannot reach");
        flawed(name, Flaw::Endless, 2, "more than");
    }
    // These take their time, so all at once. The bound is on the whole exchange: each byte by itself comes soon enough.
    std::thread::scope(|scope| {
        for name in ["fulcio", "rekor", "tsa"] {
            scope.spawn(move || {
                let services = Services::with(&[(name, Flaw::Trickle)]);
                let mut flags = if name == "tsa" { flags2(&services) } else { flags(&services) };
                flags.extend(["--timeout".to_owned(), "3".to_owned()]);
                leaves_nothing(&services, &flags, &token(&claims()), 2, "cannot reach");
            });
        }
    });
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    for name in ["fulcio", "rekor", "rekor2"] {
        flawed(name, Flaw::Page, 2, "makes no sense");
    }
    flawed("tsa", Flaw::Page, 1, "the timestamp is malformed");
}

#[test]
fn a_redirect_gets_neither_token_nor_signature() {
    for name in ["fulcio", "rekor", "rekor2", "tsa"] {
        flawed(name, Flaw::Redirect, 2, "307");
    }
}

#[test]
fn a_refusal_is_a_no_and_too_many_requests_is_none() {
    for name in ["fulcio", "rekor", "rekor2", "tsa"] {
        flawed(name, Flaw::Status(403), 1, "403");
        flawed(name, Flaw::Status(429), 2, "429");
    }
}

#[test]
fn a_certificate_for_another_key_goes_into_no_log() {
    let services = Services::with(&[("fulcio", Flaw::Another)]);
    leaves_nothing(&services, &flags(&services), &token(&claims()), 1, "certified another key");
    assert_eq!(services.asked(), ["fulcio", "fulcio"]);
}

#[test]
fn a_certificate_that_nobody_would_believe_is_not_written() {
    flawed("fulcio", Flaw::Stranger, 1, "does not verify");
    flawed("fulcio", Flaw::Unlogged, 1, "does not verify");
    flawed("fulcio", Flaw::Clock(3_600), 1, "does not verify");
    flawed("fulcio", Flaw::Clock(-3_600), 1, "does not verify");
}

#[test]
fn a_log_that_lies_is_found_out() {
    for name in ["rekor", "rekor2"] {
        flawed(name, Flaw::Another, 1, "does not verify");
        flawed(name, Flaw::Stranger, 1, "does not verify");
    }
    flawed("rekor", Flaw::Clock(3_600), 1, "does not verify");
    flawed("rekor", Flaw::Clock(-3_600), 1, "does not verify");
}

#[test]
fn a_timestamp_by_a_clock_that_is_off_is_not_written() {
    flawed("tsa", Flaw::Clock(3_600), 1, "does not verify");
    flawed("tsa", Flaw::Clock(-3_600), 1, "does not verify");
    flawed("tsa", Flaw::Stranger, 1, "does not verify");
}

#[test]
fn a_timestamp_that_answers_something_else_goes_into_no_log() {
    for (flaw, message) in [
        (Flaw::Another, "answered another question"),
        (Flaw::OtherNonce, "answered another question"),
        (Flaw::Rejected, "did not grant"),
    ] {
        let services = Services::with(&[("tsa", flaw)]);
        leaves_nothing(&services, &flags2(&services), &token(&claims()), 1, message);
        assert!(!services.asked().contains(&"rekor2".to_owned()), "{flaw:?} was logged");
    }
}

#[test]
fn a_job_without_a_token_is_told_what_to_grant() {
    for (flaw, secret, exit, message) in [
        (None, "another secret", 1, "401"),
        (Some(Flaw::Down), JOB_SECRET, 2, "cannot reach GitHub's token service"),
        (Some(Flaw::Page), JOB_SECRET, 2, "it holds no token"),
        (Some(Flaw::Another), JOB_SECRET, 1, "identity token"),
    ] {
        let services = Services::with(&flaw.map(|flaw| ("github", flaw)).into_iter().collect::<Vec<_>>());
        let desk = Desk::new();
        let before = desk.files();
        let url = format!("{}/token?api-version=2.0", services.github);
        let job = [
            ("GITHUB_ACTIONS", "true"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret),
        ];
        let ran = desk.run_with(&joined(&["sign", "app"], &flags(&services)), &job);
        assert!(!ran.stderr.contains(secret), "{}", ran.stderr);
        ran.fails(exit, message);
        assert_eq!(desk.files(), before);
    }
}

#[test]
fn a_token_leaves_the_machine_by_tls_alone() {
    let (desk, token) = (Desk::new(), token(&claims()));
    let before = desk.files();
    // An address that is set aside for documentation (RFC 5737): nothing is sent there.
    let sign = [
        "sign",
        "app",
        "--identity-token",
        &token,
        "--fulcio-url",
        "http://192.0.2.1",
        "--rekor-url",
        "http://192.0.2.1",
        "--trusted-root",
        "root.json",
    ];
    desk.run(&sign).fails(64, "in the clear");
    let job = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://192.0.2.1/token"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", JOB_SECRET),
    ];
    desk.run_with(&["sign", "app", "--trusted-root", "root.json"], &job).fails(64, "in the clear");
    assert_eq!(desk.files(), before);
}

#[test]
fn services_that_tell_no_time_are_asked_for_nothing() {
    let (desk, services) = (Desk::new(), Services::honest());
    let token = token(&claims());
    let keyless =
        ["sign", "app", "--identity-token", &token, "--trusted-root", "root.json", "--fulcio-url", &services.fulcio];
    desk.run(&keyless).fails(64, "when it was signed");
    let second = ["--rekor-url", &services.rekor2, "--rekor-version", "2"];
    desk.run(&[&keyless[..], &second].concat()).fails(64, "when it was signed");
    desk.run(&[&keyless[..], &["--offline"]].concat()).fails(64, "");
    assert!(services.asked().is_empty());
}

#[test]
fn what_could_not_be_written_is_not_logged_either() {
    let (desk, services) = (Desk::new(), Services::honest());
    std::fs::create_dir(desk.path("folder")).unwrap();
    let (token, flags) = (token(&claims()), flags(&services));
    for target in ["no-such-folder/app.json", "folder", "app/app.json"] {
        let sign = ["sign", "app", "--identity-token", &token, "--bundle", target];
        desk.run(&joined(&sign, &flags)).fails(64, "cannot write");
        let attest = [
            "attest",
            "app",
            "--predicate",
            "predicate.json",
            "--type",
            "custom",
            "--identity-token",
            &token,
            "--bundle",
            target,
        ];
        desk.run(&joined(&attest, &flags)).fails(64, "cannot write");
    }
    let sign = ["sign", "app", "no-such-file", "--identity-token", &token];
    desk.run(&joined(&sign, &flags)).fails(64, "no-such-file");
    assert!(services.asked().is_empty());
}

#[test]
fn without_a_trust_root_nothing_is_asked() {
    let (desk, services) = (Desk::new(), Services::honest());
    desk.write("cut.json", b"{\"mediaType\": ");
    let token = token(&claims());
    for root in ["no-such.json", "cut.json"] {
        let sign = [
            "sign",
            "app",
            "--identity-token",
            &token,
            "--fulcio-url",
            &services.fulcio,
            "--rekor-url",
            &services.rekor,
            "--trusted-root",
            root,
        ];
        desk.run(&sign).fails(2, "cannot use the trust root");
    }
    assert!(services.asked().is_empty());
}

#[test]
fn the_services_of_another_instance_are_found_out() {
    // Without --trusted-root the public-good root counts, and it knows none of these.
    let (desk, services) = (Desk::new(), Services::honest());
    let before = desk.files();
    let token = token(&claims());
    let sign =
        ["sign", "app", "--identity-token", &token, "--fulcio-url", &services.fulcio, "--rekor-url", &services.rekor];
    desk.run(&sign).fails(1, "--trusted-root");
    assert_eq!(desk.files(), before);
}
