//! Threats, provenance: the certificate's extensions and the predicate tell the same story, and it is the one asked for.

use debvisor::types::Code;
use serde_json::{Value, json};

use super::{ARTIFACT, Case, REPOSITORY, TAG, WORKFLOW, signer};
use crate::world::ca::GITHUB_ISSUER;
use crate::world::statement::{slsa_v1, slsa_v02};
use crate::world::{Identity, Name, World};

const SOURCE: &str = "https://github.com/acme/hyperdeck";
const GENERATOR: &str =
    "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml";

/// Honest provenance of this identity, in both versions, each asked for the right source and tag.
fn built_by(identity: &Identity) -> [Case; 2] {
    built_with(identity, identity, |_| ())
}

/// The certificate is for one identity; the predicate is what an edit makes of another's.
fn built_with(certificate: &Identity, told: &Identity, edit: fn(&mut Value)) -> [Case; 2] {
    [slsa_v1(ARTIFACT, told), slsa_v02(ARTIFACT, told)].map(|mut statement| {
        edit(&mut statement["predicate"]);
        Case::of(&World::shared().attest(&statement, certificate))
            .expecting(&["--certificate-identity", certificate.text(), "--certificate-oidc-issuer", GITHUB_ISSUER])
            .flags(&["--source-uri", "github.com/acme/hyperdeck"])
    })
}

/// The slsa-github-generator workflow at this ref, called from the usual repository.
fn generator(git_ref: &str) -> Identity {
    Identity::builder(&format!("{GENERATOR}@{git_ref}"), REPOSITORY, WORKFLOW, TAG)
}

/// Sets a member of either predicate version: one path of v1, one of v0.2.
fn set(predicate: &mut Value, paths: [&str; 2], value: &str) {
    for path in paths {
        if let Some(member) = predicate.pointer_mut(path) {
            *member = json!(value);
        }
    }
}

const BUILDER_ID: [&str; 2] = ["/runDetails/builder/id", "/builder/id"];

#[test]
fn honest_provenance_passes() {
    for case in built_by(&signer()) {
        let builder = format!("{SOURCE}/.github/workflows/{WORKFLOW}");
        case.clone().flags(&["--source-tag", "v1.4.2"]).passes();
        case.clone().flags(&["--source-tag", "v1.4.2", "--builder-id", &builder]).passes();
        case.flags(&["--source-versioned-tag", "v1.4"]).passes();
    }
}

#[test]
fn provenance_asked_of_a_plain_signature() {
    Case::of(&super::blob()).flags(&["--source-uri", "github.com/acme/hyperdeck"]).denied(Code::ProvenanceMissing);
}

#[test]
fn a_trusted_builder_at_a_release_tag_passes_without_an_identity() {
    for case in built_by(&generator("refs/tags/v2.1.0")) {
        case.clone().expecting(&[]).passes();
        case.clone().expecting(&["--builder-id", GENERATOR]).passes();
        case.expecting(&["--builder-id", &format!("{GENERATOR}@v2.1.0")]).passes();
    }
}

#[test]
fn a_builder_that_is_not_on_the_list_without_an_identity() {
    for case in built_by(&signer()) {
        case.expecting(&[]).denied(Code::BuilderUntrusted);
    }
}

#[test]
fn a_fork_that_is_consistent_in_itself() {
    let fork = Identity::github("evil/hyperdeck", WORKFLOW, TAG);
    for case in built_by(&fork) {
        case.denied(Code::SourceMismatch);
    }
}

#[test]
fn a_fork_that_is_consistent_in_itself_under_a_trusted_builder() {
    let fork = Identity::builder(&format!("{GENERATOR}@refs/tags/v2.1.0"), "evil/hyperdeck", WORKFLOW, TAG);
    for case in built_by(&fork) {
        case.expecting(&[]).denied(Code::SourceMismatch);
    }
}

#[test]
fn the_right_repository_in_the_predicate_where_the_certificate_says_another() {
    let fork = Identity::builder(&format!("{GENERATOR}@refs/tags/v2.1.0"), "evil/hyperdeck", WORKFLOW, TAG);
    for case in built_with(&fork, &generator("refs/tags/v2.1.0"), |_| ()) {
        let output = case.clone().run();
        assert_eq!(output.status.code(), Some(1));
        case.denied(Code::ProvenanceConflict);
    }
}

#[test]
fn the_right_repository_in_the_certificate_where_the_predicate_says_another() {
    let fork = Identity::builder(&format!("{GENERATOR}@refs/tags/v2.1.0"), "evil/hyperdeck", WORKFLOW, TAG);
    for case in built_with(&generator("refs/tags/v2.1.0"), &fork, |_| ()) {
        case.denied(Code::ProvenanceConflict);
    }
}

#[test]
fn a_trusted_reusable_builder_called_from_elsewhere() {
    let signer = "https://github.com/trusted-builders/slsa/.github/workflows/build.yml@refs/tags/v3.0.0";
    let elsewhere = Identity::builder(signer, "acme/elsewhere", WORKFLOW, TAG);
    for case in built_by(&elsewhere) {
        case.denied(Code::SourceMismatch);
    }
    let right = Identity::builder(signer, REPOSITORY, WORKFLOW, TAG);
    for case in built_by(&right) {
        case.flags(&["--source-tag", "v1.4.2"]).passes();
    }
}

#[test]
fn a_branch_named_like_the_tag() {
    for case in built_by(&Identity::github(REPOSITORY, WORKFLOW, "refs/heads/v1.4.2")) {
        case.clone().flags(&["--source-tag", "v1.4.2"]).denied(Code::TagMismatch);
        case.clone().flags(&["--source-versioned-tag", "v1.4.2"]).denied(Code::VersionedTagMismatch);
        case.flags(&["--source-branch", "v1.4.2"]).passes();
    }
}

#[test]
fn a_tag_named_like_the_branch() {
    for case in built_by(&Identity::github(REPOSITORY, WORKFLOW, "refs/tags/main")) {
        case.flags(&["--source-branch", "main"]).denied(Code::BranchMismatch);
    }
}

#[test]
fn a_tag_with_a_release_candidates_suffix() {
    for case in built_by(&Identity::github(REPOSITORY, WORKFLOW, "refs/tags/v1.4.2-rc1")) {
        case.clone().flags(&["--source-tag", "v1.4.2"]).denied(Code::TagMismatch);
        case.clone().flags(&["--source-versioned-tag", "v1.4.2"]).denied(Code::VersionedTagMismatch);
        case.flags(&["--source-versioned-tag", "v1"]).denied(Code::VersionedTagMismatch);
    }
}

#[test]
fn a_tag_that_only_begins_or_ends_alike() {
    for tag in ["v1.4.20", "v1.4", "xv1.4.2", "V1.4.2", "a/v1.4.2", "v1.4.2/a", "refs/tags/v1.4.2"] {
        for case in built_by(&Identity::github(REPOSITORY, WORKFLOW, &format!("refs/tags/{tag}"))) {
            case.flags(&["--source-tag", "v1.4.2"]).denied(Code::TagMismatch);
        }
    }
}

#[test]
fn a_tag_only_in_the_predicate() {
    let branch = Identity::github(REPOSITORY, WORKFLOW, "refs/heads/main");
    for case in built_with(&branch, &branch.clone().claim(14, TAG), |_| ()) {
        case.flags(&["--source-tag", "v1.4.2"]).denied(Code::ProvenanceConflict);
    }
}

#[test]
fn a_builder_at_a_branch() {
    for git_ref in ["refs/heads/main", "refs/heads/v2.1.0", "refs/tags/v2.1.0-rc.1", "refs/tags/v2", TAG_OF_NOTHING] {
        for case in built_by(&generator(git_ref)) {
            println!("{git_ref}");
            case.clone().expecting(&[]).denied(Code::BuilderRef);
            case.expecting(&["--builder-id", GENERATOR]).denied(Code::BuilderRef);
        }
    }
}

const TAG_OF_NOTHING: &str = "b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4";

#[test]
fn another_builder_than_the_one_asked_for() {
    for case in built_by(&generator("refs/tags/v2.1.0")) {
        let other = GENERATOR.replace("generator_generic", "builder_container-based");
        case.clone().expecting(&["--builder-id", &other]).denied(Code::BuilderMismatch);
        case.clone().expecting(&["--builder-id", &format!("{GENERATOR}@v2.0.0")]).denied(Code::BuilderMismatch);
        case.expecting(&["--builder-id", &GENERATOR[..GENERATOR.len() - 4]]).denied(Code::BuilderMismatch);
    }
}

#[test]
fn a_builder_whose_name_begins_like_a_trusted_one() {
    for name in [
        GENERATOR.replace("slsa-framework/", "slsa-framework-evil/"),
        GENERATOR.replace("github.com", "github.com.evil.example"),
        GENERATOR.replace("slsa3.yml", "slsa3.yml.yml"),
        GENERATOR.replace("github.com", "GitHub.com"),
    ] {
        let identity = Identity::builder(&format!("{name}@refs/tags/v2.1.0"), REPOSITORY, WORKFLOW, TAG);
        for case in built_by(&identity) {
            case.expecting(&[]).denied(Code::BuilderUntrusted);
        }
    }
}

#[test]
fn a_builder_id_that_is_missing() {
    for case in built_with(&signer(), &signer(), |predicate| set(predicate, BUILDER_ID, "")) {
        let output = case.run();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let gone: fn(&mut Value) = |predicate| {
        for holder in ["/runDetails", ""] {
            if let Some(holder) = predicate.pointer_mut(holder).and_then(Value::as_object_mut) {
                holder.remove("builder");
            }
        }
    };
    for case in built_with(&signer(), &signer(), gone) {
        case.denied(Code::PredicateMalformed);
    }
}

#[test]
fn a_builder_id_longer_than_the_san() {
    let longer: fn(&mut Value) = |predicate| {
        let id = format!("{}.evil", signer().text());
        set(predicate, BUILDER_ID, &id);
    };
    for case in built_with(&signer(), &signer(), longer) {
        case.denied(Code::BuilderMismatch);
    }
}

#[test]
fn a_builder_id_unlike_the_san() {
    let unlike: fn(&mut Value) = |predicate| {
        set(predicate, BUILDER_ID, &format!("{GENERATOR}@refs/tags/v2.1.0"));
    };
    for case in built_with(&signer(), &signer(), unlike) {
        case.clone().denied(Code::BuilderMismatch);
        // Neither does the name of a trusted builder in the predicate make the signer one.
        case.clone().expecting(&[]).denied(Code::BuilderUntrusted);
        case.expecting(&["--builder-id", GENERATOR]).denied(Code::BuilderMismatch);
    }
}

#[test]
fn a_commit_in_the_predicate_unlike_the_certificates() {
    let other: fn(&mut Value) = |predicate| {
        let commit = "c5".repeat(20);
        set(
            predicate,
            ["/buildDefinition/resolvedDependencies/0/digest/gitCommit", "/invocation/configSource/digest/sha1"],
            &commit,
        );
        set(predicate, ["/none", "/materials/0/digest/sha1"], &commit);
    };
    for case in built_with(&signer(), &signer(), other) {
        case.denied(Code::ProvenanceConflict);
    }
}

#[test]
fn a_self_hosted_runner_where_denied() {
    let hosted = |value: &str| signer().claim(11, value);
    for identity in [hosted("self-hosted"), hosted("github-hosted-evil"), hosted(""), signer().without(11)] {
        for case in built_by(&identity) {
            case.flags(&["--deny-self-hosted-runners"]).denied(Code::SelfHostedRunner);
        }
    }
    for case in built_by(&signer()) {
        case.flags(&["--deny-self-hosted-runners"]).passes();
    }
    for case in built_by(&hosted("self-hosted")) {
        case.passes();
    }
}

#[test]
fn a_self_hosted_runner_where_denied_for_a_plain_signature() {
    let identity = signer().claim(11, "self-hosted");
    Case::of(&World::shared().blob(ARTIFACT, &identity))
        .flags(&["--deny-self-hosted-runners"])
        .denied(Code::SelfHostedRunner);
}

#[test]
fn userinfo_and_prefix_tricks_in_a_source_uri() {
    for source in [
        "https://github.com@evil.example/acme/hyperdeck",
        "https://evil.example/github.com/acme/hyperdeck",
        "https://evil.example@github.com/acme/hyperdeck",
        "https://github.com.evil.example/acme/hyperdeck",
        "https://github.com/acme/hyperdeck-evil",
        "https://github.com/acme/hyperdeck.evil",
        "https://github.com/acme/hyperdeck/../../evil/fork",
        "https://github.com/evil/acme/hyperdeck",
        "https://github.com/acme/hyperdeck?x=/evil",
        "https://github.com/acme/hyperdeck#evil",
        "http://github.com/acme/hyperdeck",
        "https://github.com/Acme/hyperdeck",
        "https://github.com/acme/hyperdeck/",
        "https://github.com/acme/hyper%64eck",
    ] {
        println!("{source}");
        let identity = signer().claim(12, source);
        for case in built_by(&identity) {
            case.denied(Code::SourceMismatch);
        }
    }
}

#[test]
fn a_source_that_was_asked_for_by_a_part_of_it() {
    for asked in ["github.com/acme/hyper", "github.com/acme", "github.com/acme/hyperdeck-evil", "acme/hyperdeck"] {
        for case in built_by(&signer()) {
            let mut case = case;
            case.flags.clear();
            let output = case.flags(&["--source-uri", asked]).run();
            assert!(matches!(output.status.code(), Some(1 | 64)), "{asked}: {:?}", output.status);
        }
    }
}

#[test]
fn a_delegated_build_says_so_by_a_builder_on_the_list() {
    // The delegator signs, and names the builder that it ran for; only the pair on the list is believed.
    let builder = |name: &str| GENERATOR.replace("generator_generic_slsa3", name);
    let delegator = format!("{}@refs/tags/v2.1.0", builder("delegator_generic_slsa3"));
    let maven = format!("{}@refs/tags/v2.1.0", builder("builder_maven_slsa3"));
    let identity = Identity::builder(&delegator, REPOSITORY, WORKFLOW, TAG);
    let telling = |name: &str| identity.clone().named(Name::Uri(name.to_owned()));
    for case in built_with(&identity, &telling(&maven), |_| ()) {
        case.clone().passes();
        case.clone().expecting(&[]).passes();
        case.clone().expecting(&["--builder-id", &builder("builder_maven_slsa3")]).passes();
        case.expecting(&["--builder-id", &builder("builder_gradle_slsa3")]).denied(Code::BuilderMismatch);
    }
    for case in
        built_with(&identity, &telling("https://github.com/evil/b/.github/workflows/b.yml@refs/tags/v1.0.0"), |_| ())
    {
        case.clone().denied(Code::BuilderMismatch);
        case.expecting(&[]).denied(Code::BuilderUntrusted);
    }
    for case in built_with(&identity, &telling(&maven.replace("tags/v2.1.0", "heads/main")), |_| ()) {
        case.clone().denied(Code::BuilderMismatch);
        case.expecting(&[]).denied(Code::BuilderRef);
    }
    // The same claim by a signer who is no delegator.
    for case in built_with(&signer(), &signer().named(Name::Uri(maven)), |_| ()) {
        case.denied(Code::BuilderMismatch);
    }
}
