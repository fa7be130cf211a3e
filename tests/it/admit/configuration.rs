//! The `[admission]` table: what it says, and what is wrong with it.

use debvisor::release::admit::{AdmissionTrust, QuarantineAction, TrustFault};
use debvisor::types::{Code, Reason};

use super::{Folder, image, publisher, stranger};
use crate::gate::release::Publisher;
use crate::world::{Key, World};

fn parse(text: &str) -> Result<AdmissionTrust, Vec<TrustFault>> {
    let key = Key::p256().pem();
    let read = |name: &str, _: u64| match name {
        "a.pub" | "b.pub" => Ok(key.clone().into()),
        "c.pub" => Ok(Key::p384().pem().into()),
        "ring.pgp" => Ok(Publisher::new().keyring()),
        _ => Err(Reason::new(Code::EvidenceUnreadable, format!("{name} is not there"))),
    };
    AdmissionTrust::parse(text, &read)
}

#[test]
fn without_the_table_nobody_is_believed() {
    let trust = parse("[server]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    assert!(trust.ticket_keys().is_empty());
    assert_eq!(trust.on_quarantine(), QuarantineAction::Pause);
    let folder = Folder::signed();
    folder.write("debvisor.toml", "");
    folder.admit("disk.img --config debvisor.toml").says(1, &["identity-required"]);
}

#[test]
fn what_the_table_says_is_read() {
    let trust = parse(
        "[admission]\non-quarantine = \"stop\"\nmax-validity = \"12h\"\nbreak-glass-validity = \"15m\"\n\
         release-validity = \"2w\"\nticket-keys = [\"a.pub\", \"c.pub\"]\n",
    )
    .unwrap();
    assert_eq!(trust.on_quarantine(), QuarantineAction::Stop);
    assert_eq!(trust.max_validity().as_hours(), 12);
    assert_eq!(trust.break_glass_validity().as_mins(), 15);
    assert_eq!(trust.release_validity().as_hours(), 14 * 24);
    assert_eq!(trust.ticket_keys().len(), 2);
}

#[test]
fn each_fault_is_told_with_its_line() {
    let lines = |text: &str| parse(text).unwrap_err().iter().map(|fault| fault.line).collect::<Vec<_>>();
    let signer = |text: &str| format!("[admission]\n[[admission.signers]]\nname = \"a\"\n{text}\n");
    for (text, line) in [
        ("[admission]\npolcy = \"x\"\n".to_owned(), 2),
        ("[admission]\nkinds = [\"disk\", \"floppy\"]\n".to_owned(), 2),
        ("[admission]\nrequire = [\"prayer\"]\n".to_owned(), 2),
        ("[admission]\non-quarantine = \"shrug\"\n".to_owned(), 2),
        ("[admission]\n\nmax-validity = \"soon\"\n".to_owned(), 3),
        ("[admission]\nticket-keys = [\n  \"a.pub\",\n  \"none.pub\",\n]\n".to_owned(), 4),
        ("[admission]\n[[admission.break-glass]]\nperson = \"a b\"\nkey = \"a.pub\"\n".to_owned(), 3),
        ("[admission\n".to_owned(), 1),
        (signer(""), 2),
        (signer("key = \"none.pub\""), 4),
        (signer("certificate-identity = \"a\""), 2),
        (signer("certificate-identity-regexp = \"(\"\ncertificate-oidc-issuer = \"i\""), 4),
        (
            signer(
                "certificate-identity = \"a\"\ncertificate-identity-regexp = \"a\"\ncertificate-oidc-issuer = \"i\"",
            ),
            5,
        ),
        (signer("key = \"a.pub\"\ncertificate-identity = \"a\"\ncertificate-oidc-issuer = \"i\""), 2),
        (signer("openpgp-keyring = \"ring.pgp\""), 4),
        (signer("openpgp-keyring = \"ring.pgp\"\nopenpgp-fingerprints = [\"AAAA\"]"), 5),
        (
            signer(&format!(
                "openpgp-keyring = \"ring.pgp\"\nopenpgp-fingerprints = [\"{}\"]\nthreshold = 2",
                "A".repeat(40)
            )),
            6,
        ),
        (signer("threshold = 2\nkey = \"a.pub\""), 2),
        (signer("key = \"a.pub\"\npolicy-digest = \"md5:00\""), 5),
    ] {
        assert!(lines(&text).contains(&line), "{text}: {:?}", parse(&text).unwrap_err());
    }
}

#[test]
fn several_faults_are_told_together_in_their_order() {
    let text = "[admission]\nmax-validity = \"x\"\nrelease-validity = \"y\"\nticket-keys = [\"none.pub\"]\n";
    let lines: Vec<usize> = parse(text).unwrap_err().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 4]);
}

#[test]
fn one_key_is_not_two_people() {
    let glass =
        |person: &str, key: &str| format!("[[admission.break-glass]]\nperson = \"{person}\"\nkey = \"{key}\"\n");
    let faults = parse(&[glass("alice", "a.pub"), glass("bob", "b.pub")].concat()).unwrap_err();
    assert_eq!(faults[0].line, 6);
    assert!(parse(&[glass("alice", "a.pub"), glass("bob", "c.pub")].concat()).is_ok());
}

#[test]
fn a_faulty_configuration_is_no_answer_and_names_its_line() {
    let folder = Folder::signed();
    folder.write("debvisor.toml", "[admission]\nmax-validity = \"soon\"\n");
    let output = folder.debvisor("admit disk.img --config debvisor.toml");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 2"), "{output:?}");
}

const IDENTITY: &str = "[[admission.signers]]\nname = \"ours\"\ncertificate-identity = \"images@example.org\"\n\
                        certificate-oidc-issuer = \"https://accounts.example.org\"\n";

#[test]
fn an_image_is_admitted_by_any_one_of_the_signers() {
    let folder = Folder::new();
    let keys = format!(
        "[admission]\ntrusted-root = \"root.json\"\n{IDENTITY}[[admission.signers]]\nname = \"first\"\nkey = \"first.pub\"\n\
         [[admission.signers]]\nname = \"second\"\nkey = \"second.pub\"\n"
    );
    folder.write("debvisor.toml", keys);
    folder.write("first.pub", Key::p256().pem());
    folder.write("second.pub", Key::p256().pem());
    folder.write("disk.img", image(1));
    for key in ["first.pub", "second.pub"] {
        let own = Key::p256();
        folder.sign_by("disk.img", &own, key);
        folder.admit("disk.img --config debvisor.toml").allows();
        folder.write(key, Key::p256().pem());
    }
    folder.sign("disk.img", &publisher());
    folder.admit("disk.img --config debvisor.toml").allows();
    folder.sign("disk.img", &stranger());
    assert_eq!(folder.admit("disk.img --config debvisor.toml").exit, 1);
    folder.sign_by("disk.img", &Key::p256(), "third.pub");
    assert_eq!(folder.admit("disk.img --config debvisor.toml").exit, 1);
}

#[test]
fn what_is_asked_of_one_signer_is_asked_of_that_one() {
    let folder = Folder::signed();
    let with = |more: &str| format!("[admission]\ntrusted-root = \"root.json\"\n{IDENTITY}{more}");
    folder.write("debvisor.toml", with("require = [\"sbom\"]\n"));
    folder.admit("disk.img --config debvisor.toml").says(1, &["sbom-required"]);
    folder.write("debvisor.toml", with("source-uri = \"github.com/acme/images\"\n"));
    folder.admit("disk.img --config debvisor.toml").says(1, &["provenance-missing"]);
}

#[test]
fn kinds_are_told_apart() {
    let folder = Folder::signed();
    let with = |table: &str| format!("[admission]\ntrusted-root = \"root.json\"\n{table}\n{IDENTITY}");
    folder.write("debvisor.toml", with("kinds = [\"disk\"]"));
    folder.admit("disk.img --config debvisor.toml").allows();
    folder.admit("disk.img --config debvisor.toml --kind firmware").says(1, &["kind-not-admitted"]);
    folder.write("debvisor.toml", with("[admission.require-of]\nkernel = [\"provenance\"]"));
    folder.admit("disk.img --config debvisor.toml").allows();
    folder.admit("disk.img --config debvisor.toml --kind kernel").says(1, &["provenance-required"]);
}

#[test]
fn a_trust_root_that_cannot_be_read_admits_nothing() {
    let folder = Folder::signed();
    for root in ["missing.json", "disk.img"] {
        folder.write("debvisor.toml", format!("[admission]\ntrusted-root = \"{root}\"\n{IDENTITY}"));
        folder.admit("disk.img --config debvisor.toml").says(2, &["trust-root-unreadable"]);
    }
}

#[test]
fn a_policy_that_is_missing_empty_or_fails_admits_nothing() {
    let folder = Folder::signed();
    folder.write("empty.rego", "package empty\nimport rego.v1\n");
    folder.write("broken.rego", "package broken\ndeny contains {");
    folder.write("fails.rego", "package fails\nimport rego.v1\ndeny contains \"x\" if to_number(\"no number\") == 1\n");
    folder.write("silent.rego", "package silent\nimport rego.v1\nallow if input.subject.name == \"nobody\"\n");
    for (policy, code) in [
        ("missing.rego", "policy-unreadable"),
        ("nobody", "policy-unreadable"),
        ("broken.rego", "policy-unreadable"),
        ("empty.rego", "policy-unmatched"),
        ("silent.rego", "policy-denied"),
        ("fails.rego", "policy-failed"),
    ] {
        let text = format!("[admission]\ntrusted-root = \"root.json\"\npolicy = \"{policy}\"\n{IDENTITY}");
        folder.write("debvisor.toml", text);
        let answer = folder.admit("disk.img --config debvisor.toml");
        assert_ne!(answer.exit, 0, "{policy}");
        assert!(
            answer.codes().contains(&code) || (policy == "silent.rego" && answer.codes() == ["policy-unmatched"]),
            "{policy}: {:?}",
            answer.codes()
        );
    }
}

#[test]
fn a_policy_file_comes_on_top_of_admission() {
    let folder = Folder::new();
    folder.write("disk.img", image(1));
    folder.write("yes.rego", "package yes\nimport rego.v1\nallow := true\n");
    let text = format!("[admission]\ntrusted-root = \"root.json\"\npolicy = \"yes.rego\"\n{IDENTITY}");
    folder.write("debvisor.toml", text);
    folder.admit("disk.img --config debvisor.toml").says(2, &["evidence-missing"]);
    let attested = World::shared().attest(
        &crate::world::statement::statement(
            crate::world::statement::STATEMENT_V1,
            &[crate::world::statement::subject("disk.img", &image(1))],
            crate::world::statement::CYCLONEDX,
            &serde_json::json!({}),
        ),
        &publisher(),
    );
    folder.write("disk.img.att.sigstore.json", attested.bundle().to_string());
    folder.admit("disk.img --config debvisor.toml").says(1, &["signature-required"]);
}
