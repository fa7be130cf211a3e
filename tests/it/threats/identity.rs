//! Threats, identity: who signed is compared byte by byte, and a regexp must match all of it.

use debvisor::types::Code;

use super::{Case, REPOSITORY, TAG, WORKFLOW, blob, signer};
use crate::world::ca::GITHUB_ISSUER;
use crate::world::{Identity, Name, World};

const EXPECTED: &str = "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/v1.4.2";

/// A signature by a workflow of this name, where [`EXPECTED`] is asked for.
fn signed_as(name: &str) -> Case {
    let identity = signer().named(Name::Uri(name.to_owned()));
    Case::of(&World::shared().blob(super::ARTIFACT, &identity))
}

fn issued_by(issuer: &str) -> Case {
    let identity = signer().claim(1, issuer).claim(8, issuer);
    Case::of(&World::shared().blob(super::ARTIFACT, &identity))
}

fn matching(case: Case, pattern: &str) -> Case {
    case.expecting(&["--certificate-identity-regexp", pattern, "--certificate-oidc-issuer", GITHUB_ISSUER])
}

#[test]
fn the_expected_identity_passes() {
    signed_as(EXPECTED).passes();
    matching(
        signed_as(EXPECTED),
        r"https://github\.com/acme/hyperdeck/\.github/workflows/release\.yml@refs/tags/v[0-9.]+",
    )
    .passes();
    matching(signed_as(EXPECTED), r"^https://github\.com/acme/hyperdeck/.*$").passes();
}

#[test]
fn an_email_identity_passes_and_is_case_sensitive() {
    let identity = Identity::email("release@acme.example", "https://accounts.google.com");
    let case = Case::of(&World::shared().blob(super::ARTIFACT, &identity));
    let expecting = |address| {
        let flags = ["--certificate-identity", address, "--certificate-oidc-issuer", "https://accounts.google.com"];
        case.clone().expecting(&flags)
    };
    expecting("release@acme.example").passes();
    expecting("release@acme.Example").denied(Code::IdentityMismatch);
    expecting("release@acme.example.test").denied(Code::IdentityMismatch);
}

#[test]
fn a_regexp_that_matches_a_part_of_the_san() {
    for pattern in [
        r"https://github\.com/acme/hyperdeck/",
        r"release\.yml@refs/tags/v1\.4\.2",
        r"hyperdeck",
        r"^https://github\.com/acme/hyperdeck/\.github/workflows/release\.yml@refs/tags/v1",
        r"release\.yml@refs/tags/v1\.4\.2$",
        // An alternative must not carry the anchors away.
        r"https://github\.com/acme/hyperdeck/|nothing",
        r"nothing|v1\.4\.2",
        // Nor may a flag: in multi-line mode the anchors would match at every line.
        r"(?m)^https://github\.com/acme/hyperdeck/$",
    ] {
        println!("{pattern}");
        matching(signed_as(EXPECTED), pattern).denied(Code::IdentityMismatch);
    }
}

#[test]
fn a_regexp_over_several_lines_does_not_match_one_of_them() {
    let case = signed_as(&format!("https://evil.example/\n{EXPECTED}"));
    matching(case.clone(), r"(?m)^https://github\.com/acme/hyperdeck/\.github/workflows/.*$")
        .denied(Code::IdentityMismatch);
    case.denied(Code::IdentityMismatch);
}

#[test]
fn an_unescaped_dot_that_lets_another_host_in() {
    let evil = EXPECTED.replace("github.com", "github-com");
    matching(signed_as(&evil), "https://github.com/acme/hyperdeck/.github/workflows/release.yml@refs/tags/.*")
        .denied(Code::IdentityMismatch);
}

#[test]
fn a_suffix_around_the_expected_identity() {
    for suffix in ["-evil", ".evil.example", "/", "@refs/heads/main", "\0", " ", "\n"] {
        signed_as(&format!("{EXPECTED}{suffix}")).denied(Code::IdentityMismatch);
    }
}

#[test]
fn a_prefix_around_the_expected_identity() {
    for prefix in ["https://evil.example/", "evil+", " ", "view-source:"] {
        signed_as(&format!("{prefix}{EXPECTED}")).denied(Code::IdentityMismatch);
    }
}

#[test]
fn a_query_string_around_the_expected_identity() {
    signed_as(&format!("{EXPECTED}?x=1")).denied(Code::IdentityMismatch);
    signed_as(&format!("{EXPECTED}#x")).denied(Code::IdentityMismatch);
    signed_as(&format!("https://evil.example/?{EXPECTED}")).denied(Code::IdentityMismatch);
}

#[test]
fn another_letter_case() {
    signed_as(&EXPECTED.replace("acme", "Acme")).denied(Code::IdentityMismatch);
    signed_as(&EXPECTED.replace("https", "HTTPS")).denied(Code::IdentityMismatch);
    signed_as(&EXPECTED.replace("github.com", "GitHub.com")).denied(Code::IdentityMismatch);
}

#[test]
fn percent_encoding_is_not_decoded() {
    signed_as(&EXPECTED.replace("acme", "%61cme")).denied(Code::IdentityMismatch);
    signed_as(&EXPECTED.replace("hyperdeck/", "hyperdeck%2F")).denied(Code::IdentityMismatch);
    signed_as(&EXPECTED.replace("/acme/", "/acme/./")).denied(Code::IdentityMismatch);
}

#[test]
fn a_homograph_of_the_expected_identity() {
    // A Cyrillic letter; a URI is ASCII, so either refusal will do, but never a yes.
    let case = signed_as(&EXPECTED.replace("acme", "\u{430}cme"));
    assert_eq!(case.run().status.code(), Some(1));
}

#[test]
fn an_issuer_with_a_trailing_slash() {
    issued_by(&format!("{GITHUB_ISSUER}/")).denied(Code::IssuerMismatch);
}

#[test]
fn an_enterprise_slug_where_plain_github_was_asked_for() {
    issued_by(&format!("{GITHUB_ISSUER}/acme")).denied(Code::IssuerMismatch);
}

#[test]
fn plain_github_where_an_enterprise_slug_was_asked_for() {
    let issuer = format!("{GITHUB_ISSUER}/acme");
    Case::of(&blob())
        .expecting(&["--certificate-identity", EXPECTED, "--certificate-oidc-issuer", &issuer])
        .denied(Code::IssuerMismatch);
}

#[test]
fn an_issuer_regexp_that_matches_a_part() {
    let expecting =
        |pattern| ["--certificate-identity", EXPECTED, "--certificate-oidc-issuer-regexp", pattern].map(str::to_owned);
    for (pattern, passes) in [
        (r"https://token\.actions\.githubusercontent\.com", true),
        (r"https://token\.actions\.githubusercontent\.com.*", true),
        (r"https://token\.actions", false),
        (r"githubusercontent\.com", false),
    ] {
        let flags = expecting(pattern);
        let case = Case::of(&blob()).expecting(&flags.each_ref().map(String::as_str));
        if passes { case.passes() } else { case.denied(Code::IssuerMismatch) }
    }
}

#[test]
fn the_issuer_in_oid_1_unlike_the_one_in_oid_8() {
    let evil = "https://token.evil.example";
    for identity in [signer().claim(1, evil), signer().claim(8, evil)] {
        Case::of(&World::shared().blob(super::ARTIFACT, &identity)).denied(Code::IssuerConflict);
    }
}

#[test]
fn the_issuer_in_one_of_the_two_alone_passes() {
    for arc in [1, 8] {
        Case::of(&World::shared().blob(super::ARTIFACT, &signer().without(arc))).passes();
    }
}

#[test]
fn no_issuer_at_all() {
    Case::of(&World::shared().blob(super::ARTIFACT, &signer().without(1).without(8))).denied(Code::IssuerMismatch);
}

#[test]
fn nobody_said_who_was_expected() {
    Case::of(&blob()).expecting(&[]).denied(Code::IdentityRequired);
}

#[test]
fn a_certificate_with_two_names_of_which_one_is_right() {
    let mut identity = Identity::github(REPOSITORY, WORKFLOW, TAG);
    identity.names.push(Name::Uri("https://github.com/evil/fork/.github/workflows/x.yml@refs/heads/main".to_owned()));
    Case::of(&World::shared().blob(super::ARTIFACT, &identity)).denied(Code::CertificateProfile);
    identity.names.reverse();
    Case::of(&World::shared().blob(super::ARTIFACT, &identity)).denied(Code::CertificateProfile);
}

#[test]
fn a_certificate_without_a_name() {
    let mut identity = signer();
    identity.names.clear();
    Case::of(&World::shared().blob(super::ARTIFACT, &identity)).denied(Code::CertificateProfile);
}

#[test]
fn a_host_name_where_an_identity_belongs() {
    let identity = signer().named(Name::Dns("github.com".to_owned()));
    Case::of(&World::shared().blob(super::ARTIFACT, &identity))
        .expecting(&["--certificate-identity", "github.com", "--certificate-oidc-issuer", GITHUB_ISSUER])
        .denied(Code::CertificateProfile);
}
