//! The workflows for users and the action, each from its first step to its last, and once with what it must refuse.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Runner;
use crate::watch::github::Github;

const BINARY: &str = env!("CARGO_BIN_EXE_debvisor");

/// The program that workflows install: ours, with a managed key where a workflow has an identity of GitHub's, for which
/// there is no authority here. Everything else goes through as it was written.
fn with_key(key: &Path) -> String {
    let (key, public) = (key.with_extension("key"), key.with_extension("pub"));
    format!(
        r#"#!/bin/bash
export DEBVISOR_KEY_PASSWORD=x
verb=$1
words=()
while (($#)); do
    case $1 in
        --certificate-identity | --certificate-identity-regexp | --certificate-oidc-issuer | --source-uri | --source-tag)
            shift 2 ;;
        *) words+=("$1"); shift ;;
    esac
done
case $verb in
    seal) exec {BINARY} "${{words[@]}}" --key {key} ;;
    gate | admit | reverify | verify) exec {BINARY} "${{words[@]}}" --key {public} ;;
    *) exec {BINARY} "${{words[@]}}" ;;
esac
"#,
        key = key.display(),
        public = public.display(),
    )
}

fn runner() -> Runner {
    let mut runner = Runner::new();
    let made = Command::new(BINARY)
        .args(["key", "generate", "--out", "signer"])
        .env("DEBVISOR_KEY_PASSWORD", "x")
        .current_dir(runner.home.path())
        .output()
        .unwrap();
    assert!(made.status.success());
    let program = with_key(&runner.path("signer"));
    runner.release_of_debvisor(&program);
    runner
}

/// The steps of a workflow's own last job, against a GitHub that keeps issues.
fn tells(runner: &mut Runner, path: &str, needs: &[(&str, &str)], opened: &[&str]) {
    let github = Github::start();
    runner.environment.insert("GITHUB_API_URL".to_owned(), github.url());
    for (job, result) in needs {
        runner.set(&format!("needs.{job}.result"), result);
    }
    runner.job(path, "notify", &[]).succeeds();
    assert_eq!(github.open_issues(), opened);
}

/// A release as `seal-and-release` leaves it on GitHub.
fn released() -> Runner {
    let mut runner = runner();
    runner.write("work/dist/app.tar.gz", b"what was built");
    runner.write("work/README.md", b"sources");
    runner.set("inputs.artifact", "dist");
    let path = "workflows/seal-and-release.yml";
    runner.job(path, "seal", &[]).succeeds();
    assert_eq!(runner.ran, ["Install debvisor", "Seal", "Gate what will be published", "Publish"]);
    assert_eq!(runner.expressions["steps.gate.outputs.decision"], "allow");
    runner
}

#[test]
fn a_build_is_sealed_gated_and_published_and_gated_again_as_its_users_see_it() {
    let mut runner = released();
    let published = runner.path("releases/o/r/v1.2.3");
    for name in ["app.tar.gz", "app.tar.gz.cdx.json", "app.tar.gz.attestations.jsonl", "SHA256SUMS"] {
        assert!(published.join(name).exists(), "{name}");
    }
    tells(&mut runner, "workflows/seal-and-release.yml", &[("seal", "success")], &[]);
    tells(&mut runner, "workflows/seal-and-release.yml", &[("seal", "failure")], &["failed: seal-and-release"]);

    let path = "workflows/release-gate.yml";
    runner.write("work/smoke.sh", "test -s \"$1/app.tar.gz\" && echo tried out");
    for (name, value) in [
        ("inputs.tag", "v1.2.3"),
        ("inputs.certificate-identity", "https://github.com/o/r/.github/workflows/release.yml@refs/tags/v1.2.3"),
        ("inputs.certificate-oidc-issuer", "https://token.actions.githubusercontent.com"),
        ("inputs.smoke-test", "smoke.sh"),
    ] {
        runner.set(name, value);
    }
    let ended = runner.job(path, "gate", &[]).succeeds();
    assert!(ended.stdout.contains("tried out"));
    assert!(runner.read("summary").contains("DebVisor: allow"));

    // One byte of what is published is changed: the gate says no, and nothing of it is tried out.
    fs::write(published.join("app.tar.gz"), b"what was builT").unwrap();
    fs::remove_dir_all(runner.path("work/published")).unwrap();
    runner.ran.clear();
    let ended = runner.job(path, "gate", &[]).fails(1);
    assert!(ended.stdout.contains("::error"), "{}", ended.stdout);
    assert!(!runner.ran.contains(&"Try it out".to_owned()));
    assert!(runner.expressions["steps.gate.outputs.codes"].contains("checksum-mismatch"));
}

#[test]
fn a_binary_with_another_digest_is_not_run() {
    let mut runner = runner();
    runner.set("inputs.debvisor-sha256", &"0".repeat(64));
    runner.write("work/dist/app", b"x");
    runner.set("inputs.artifact", "dist");
    let ended = runner.job("workflows/seal-and-release.yml", "seal", &[]);
    assert_ne!(ended.code, 0);
    assert_eq!(runner.ran, ["Install debvisor"]);
}

#[test]
fn what_is_published_is_reverified_and_told_of() {
    let mut runner = released();
    let github = Github::start();
    let files = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect::<Vec<_>>()
    };
    github.publish("o/r", "v1.2.3", &files(&runner.path("releases/o/r/v1.2.3")));
    runner.environment.insert("GITHUB_API_URL".to_owned(), github.url());
    runner.set("vars.RELEASE_IDENTITY_REGEXP", ".*");
    runner.set("vars.DEBVISOR_VERSION", "");
    let public = runner.path("signer.pub");
    let home = runner.home.path().to_owned();
    let recorded = Command::new(BINARY)
        .args(["reverify", "o/r", "--key"])
        .arg(&public)
        .args(["--write-baseline", "baseline.jsonl", "--baseline-signing-key", "signer.key"])
        .env("DEBVISOR_KEY_PASSWORD", "x")
        .env("GITHUB_API_URL", github.url())
        .env("HOME", runner.path("home"))
        .current_dir(&home)
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    runner.write("work/.debvisor/baseline.jsonl", fs::read(home.join("baseline.jsonl")).unwrap());
    runner.write("work/.debvisor/watch.pub", fs::read(public).unwrap());
    let path = "workflows/reverify.yml";
    runner.job(path, "reverify", &[]).succeeds();
    assert!(github.open_issues().is_empty());
    github.hub().release("o/r", "v1.2.3").commit = "f".repeat(40);
    runner.job(path, "reverify", &[]).fails(1);
    assert_eq!(github.open_issues(), ["tag-moved: o/r@v1.2.3"]);
    assert_eq!(runner.ran.last().map(String::as_str), Some("A finding is a failure"));
}

#[test]
fn any_workflow_can_tell_by_one_job() {
    let mut runner = runner();
    let github = Github::start();
    runner.environment.insert("GITHUB_API_URL".to_owned(), github.url());
    for (name, value) in [("name", "build"), ("status", "failure"), ("details", "it $(broke)"), ("severity", "high")] {
        runner.set(&format!("inputs.{name}"), value);
    }
    runner.job("workflows/notify.yml", "notify", &[]).succeeds();
    assert_eq!(github.open_issues(), ["failed: build"]);
    assert!(github.hub().issues[0]["body"].as_str().unwrap().contains("it $(broke)"));
    runner.set("inputs.status", "success");
    runner.job("workflows/notify.yml", "notify", &[]).succeeds();
    assert!(github.open_issues().is_empty());
}

#[test]
fn a_change_is_held_against_the_licence_policy() {
    let mut runner = runner();
    runner.set("vars.DEBVISOR_VERSION", "");
    runner.set("vars.DEBVISOR_SHA256", "");
    let work = runner.path("work");
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(words).current_dir(&work).env("HOME", &work);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.org");
        }
        assert!(command.output().unwrap().status.success(), "{words:?}");
    };
    let lock = |license: &str, version: &str| {
        let package = serde_json::json!({"version": version, "resolved": "https://registry.example/a.tgz", "license": license,
            "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="});
        serde_json::json!({"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
            "packages": {"": {"name": "app", "version": "1.0.0", "dependencies": {"a": "^1"}}, "node_modules/a": package}})
        .to_string()
    };
    git(&["init", "--quiet"]);
    runner.write("work/package-lock.json", lock("MIT", "1.0.0"));
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    runner.write("work/package-lock.json", lock("MIT", "1.1.0"));
    git(&["commit", "--quiet", "-a", "-m", "two"]);
    runner.job("workflows/sbom-policy.yml", "sbom", &[]).succeeds();
    assert!(runner.read("summary").contains("1.1.0"), "{}", runner.read("summary"));
    let sarif: Value = serde_json::from_str(&runner.read("work/licenses.sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    runner.write("work/package-lock.json", lock("AGPL-3.0-only", "1.1.0"));
    let ended = runner.job("workflows/sbom-policy.yml", "sbom", &[]).fails(1);
    assert!(ended.stdout.contains("::error"), "{}", ended.stdout);
}

#[test]
fn findings_become_a_vex_document_and_what_nobody_explained_fails() {
    let mut runner = runner();
    let trivy = serde_json::json!({"SchemaVersion": 2, "Results": [{"Target": "app", "Vulnerabilities": [
        {"VulnerabilityID": "CVE-2026-1", "PkgName": "tar", "InstalledVersion": "1.34", "Severity": "CRITICAL",
         "PkgIdentifier": {"PURL": "pkg:deb/debian/tar@1.34"}}]}]});
    runner.write("work/results/trivy.json", trivy.to_string());
    let decision = "[[decision]]\nvulnerability = \"CVE-2026-1\"\nstatus = \"not_affected\"\n\
                    justification = \"vulnerable_code_not_in_execute_path\"\nimpact = \"nothing here unpacks\"\n";
    runner.write("work/.debvisor/triage.toml", decision);
    for (name, value) in [
        ("results", "scan"),
        ("file", "trivy.json"),
        ("triage", ".debvisor/triage.toml"),
        ("product", "pkg:generic/app@1.0"),
    ] {
        runner.set(&format!("inputs.{name}"), value);
    }
    runner.job("workflows/vex-generate.yml", "vex", &[]).succeeds();
    let document: Value = serde_json::from_str(&runner.read("work/app.openvex.json")).unwrap();
    assert_eq!(document["statements"][0]["status"], "not_affected");
    runner.write("work/.debvisor/triage.toml", "");
    runner.job("workflows/vex-generate.yml", "vex", &[]).fails(1);
    tells(&mut runner, "workflows/vex-generate.yml", &[("vex", "failure")], &["failed: vex"]);
}

#[test]
fn provenance_is_verified_by_slsa_verifiers_flags() {
    use crate::world::{Identity, World, statement};
    let mut runner = Runner::new();
    let builder = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml@refs/tags/v2.1.0";
    let identity = Identity::builder(builder, "o/r", "release.yml", "refs/tags/v1.2.3");
    let bundle = World::shared().attest(&statement::slsa_v1(b"what was built", &identity), &identity).bundle();
    runner.write("root.json", World::shared().trusted_root().to_string());
    let program = format!("#!/bin/bash\nexec {BINARY} \"$@\" --trusted-root {}\n", runner.path("root.json").display());
    runner.release_of_debvisor(&program);
    runner.write("releases/o/r/v1.2.3/app", b"what was built");
    runner.write("releases/o/r/v1.2.3/multiple.intoto.jsonl", bundle.to_string());
    for (name, value) in [
        ("repository", "o/r"),
        ("tag", "v1.2.3"),
        ("artifact", "app"),
        ("provenance", "multiple.intoto.jsonl"),
        ("builder-id", ""),
    ] {
        runner.set(&format!("inputs.{name}"), value);
    }
    runner.job("workflows/slsa-verify.yml", "verify", &[]).succeeds();
    runner.set("inputs.repository", "o/fork");
    fs::create_dir_all(runner.path("releases/o/fork")).unwrap();
    fs::rename(runner.path("releases/o/r/v1.2.3"), runner.path("releases/o/fork/v1.2.3")).unwrap();
    let ended = runner.job("workflows/slsa-verify.yml", "verify", &[]).fails(1);
    assert!(ended.stdout.contains("source-mismatch"), "{}", ended.stdout);
}

#[test]
fn an_image_is_admitted_deployed_and_rolled_back_where_it_is_not_healthy() {
    let mut runner = runner();
    let path = "workflows/image-admission.yml";
    // An image of a disk stands for one of a registry: the step hands on what it is given.
    runner.write("work/disk.img", b"an image");
    let signed = Command::new(BINARY)
        .args(["sign", "work/disk.img", "--key", "signer.key"])
        .env("DEBVISOR_KEY_PASSWORD", "x")
        .current_dir(runner.home.path())
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    runner.write("work/deploy.sh", "echo \"deploys $1\" >> log");
    runner.write("work/rollback.sh", "echo \"goes back from $1\" >> log");
    runner.write("work/healthy.sh", "true");
    runner.program("bin/sleep", "#!/bin/bash\n");
    for (name, value) in [
        ("image", "disk.img"),
        ("certificate-identity", "x"),
        ("certificate-oidc-issuer", "y"),
        ("deploy", "deploy.sh"),
        ("health-check", "healthy.sh"),
        ("rollback", "rollback.sh"),
    ] {
        runner.set(&format!("inputs.{name}"), value);
    }
    runner.job(path, "deploy", &["Roll back"]).succeeds();
    assert_eq!(runner.read("work/log"), "deploys disk.img\n");
    runner.write("work/healthy.sh", "false");
    runner.job(path, "deploy", &["Roll back"]).fails(1);
    runner.only(path, "deploy", "Roll back").succeeds();
    assert_eq!(runner.read("work/log"), "deploys disk.img\ndeploys disk.img\ngoes back from disk.img\n");
    runner.write("work/disk.img", b"an imagE");
    runner.ran.clear();
    runner.job(path, "deploy", &["Roll back"]).fails(1);
    assert_eq!(runner.ran.last().map(String::as_str), Some("May it run?"));
    tells(&mut runner, path, &[("deploy", "failure")], &["failed: image-admission"]);
}

#[test]
fn the_action_gates_a_release_and_leaves_what_later_steps_read() {
    let mut runner = released();
    let action = |runner: &mut Runner, dir: &str, arguments: &str| {
        for (name, value) in [("command", "gate"), ("target", dir), ("args", arguments), ("version", "v0.1.0")] {
            runner.set(&format!("inputs.{name}"), value);
        }
        let digest = runner.expressions["inputs.debvisor-sha256"].clone();
        runner.set("inputs.sha256", &digest);
        fs::write(runner.path("summary"), "").unwrap();
        runner.job("action.yml", "action", &[])
    };
    action(&mut runner, "dist", "--require\nsignature,sbom,provenance,vex\n").succeeds();
    assert_eq!(runner.expressions["steps.run.outputs.decision"], "allow");
    assert_eq!(runner.expressions["steps.run.outputs.reason-count"], "0");
    assert!(runner.read("summary").contains("| ✅ allow | app&#46;tar&#46;gz |"), "{}", runner.read("summary"));
    runner.write("work/dist/app.tar.gz", b"what was builT");
    let ended = action(&mut runner, "dist", "").fails(1);
    assert!(ended.stdout.starts_with("::error file="), "{}", ended.stdout);
    assert_eq!(runner.expressions["steps.run.outputs.decision"], "deny");
    let reasons: Value = serde_json::from_str(&runner.expressions["steps.run.outputs.reasons"]).unwrap();
    assert!(reasons.as_array().unwrap().iter().any(|reason| reason["code"] == "checksum-mismatch"));
    // Nothing of an argument is read by a shell.
    let ended = action(&mut runner, "$(touch escaped)", "");
    assert_ne!(ended.code, 0);
    assert!(!runner.path("work/escaped").exists());
    // A version without its digest is not run.
    runner.set("inputs.sha256", "");
    runner.only("action.yml", "action", "Install debvisor").fails(64);
}

#[test]
fn a_green_patch_update_is_merged() {
    let mut runner = Runner::new();
    runner.set("github.event.pull_request.html_url", "https://github.com/o/r/pull/9");
    runner.only(".github/workflows/dependencies.yml", "merge", "Merge when the checks are green").succeeds();
    assert_eq!(runner.read("releases/merged"), "merged https://github.com/o/r/pull/9\n");
}
