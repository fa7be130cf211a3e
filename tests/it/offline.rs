//! A run of the real binary in, its network system calls out: proving opens no socket, under `--offline` or without.
//! strace watches, not the program's own word. A control shows that a socket would have been seen.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::gate::release::Release;
use crate::world::{Identity, World};

const DEBVISOR: &str = env!("CARGO_BIN_EXE_debvisor");
const ARTIFACT: &[u8] = b"what was built\n";

#[test]
fn the_trace_sees_a_socket_where_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let script = "import socket; socket.socket().close()";
    let traced = trace(directory.path(), "python3", ["-c", script]);
    assert_eq!(traced.exit_code, 0);
    assert!(traced.network_calls.iter().any(|call| call.contains("socket(")), "{:?}", traced.network_calls);
}

#[test]
fn verify_opens_no_socket_offline_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2");
    let world = World::shared();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("app.bin"), ARTIFACT).unwrap();
    fs::write(at("other.bin"), b"something else\n").unwrap();
    fs::write(at("trusted_root.json"), world.trusted_root().to_string()).unwrap();
    fs::write(at("app.sigstore.json"), world.blob(ARTIFACT, &identity).bundle().to_string()).unwrap();

    // A yes, a no, and an open question: none of them is asked of anybody else.
    for (artifact, bundle, exit_code) in [
        ("app.bin", "app.sigstore.json", 0),
        ("other.bin", "app.sigstore.json", 1),
        ("app.bin", "missing.sigstore.json", 2),
    ] {
        for offline in [true, false] {
            let (artifact, bundle, root) = (at(artifact), at(bundle), at("trusted_root.json"));
            let mut arguments: Vec<&OsStr> = vec![
                "verify".as_ref(),
                artifact.as_ref(),
                "--bundle".as_ref(),
                bundle.as_ref(),
                "--trusted-root".as_ref(),
                root.as_ref(),
                "--certificate-identity".as_ref(),
                identity.text().as_ref(),
                "--certificate-oidc-issuer".as_ref(),
                "https://token.actions.githubusercontent.com".as_ref(),
            ];
            arguments.extend(offline.then_some::<&OsStr>("--offline".as_ref()));
            let traced = trace(directory.path(), DEBVISOR, &arguments);
            assert_eq!(traced.exit_code, exit_code, "{arguments:?}");
            assert_eq!(traced.network_calls, [""; 0], "{arguments:?}");
        }
    }
}

#[test]
fn gate_opens_no_socket_offline_or_not() {
    let release = Release::good();
    let (keyring, fingerprint) = (release.home().join("publisher.pgp"), release.publisher.fingerprint());
    let mut arguments: Vec<&OsStr> = vec!["gate".as_ref()];
    let directory = release.dir();
    arguments.extend::<[&OsStr; 5]>([
        directory.as_ref(),
        "--openpgp-keyring".as_ref(),
        keyring.as_ref(),
        "--openpgp-fingerprint".as_ref(),
        fingerprint.as_ref(),
    ]);
    for exit_code in [0, 1] {
        let traced = trace(release.home(), DEBVISOR, &arguments);
        assert_eq!((traced.exit_code, traced.network_calls.as_slice()), (exit_code, &[] as &[String]));
        let traced = trace(release.home(), DEBVISOR, arguments.iter().copied().chain(["--offline".as_ref()]));
        assert_eq!((traced.exit_code, traced.network_calls.as_slice()), (exit_code, &[] as &[String]));
        release.write("app.tar.gz", b"the Application");
    }
}

#[test]
fn admit_opens_no_socket_offline_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::email("images@example.org", "https://accounts.example.org");
    let world = World::shared();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("disk.img"), ARTIFACT).unwrap();
    fs::write(at("disk.img.sigstore.json"), world.blob(ARTIFACT, &identity).bundle().to_string()).unwrap();
    fs::write(at("root.json"), world.trusted_root().to_string()).unwrap();
    let table = "[admission]\ntrusted-root = \"root.json\"\n[[admission.signers]]\nname = \"ours\"\n\
                 certificate-identity = \"images@example.org\"\n\
                 certificate-oidc-issuer = \"https://accounts.example.org\"\n";
    fs::write(at("debvisor.toml"), table).unwrap();
    let (image, config) = (at("disk.img"), at("debvisor.toml"));
    let arguments: [&OsStr; 4] = ["admit".as_ref(), image.as_ref(), "--config".as_ref(), config.as_ref()];
    for exit_code in [0, 1] {
        for offline in [&[][..], &["--offline".as_ref()]] {
            let traced = trace(directory.path(), DEBVISOR, arguments.iter().chain(offline));
            assert_eq!((traced.exit_code, traced.network_calls.as_slice()), (exit_code, &[] as &[String]));
        }
        fs::write(at("disk.img"), b"something else").unwrap();
    }
}

#[test]
fn checksums_and_log_proofs_open_no_socket() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("app.bin"), ARTIFACT).unwrap();
    let list = directory.path().join("SHA256SUMS");
    let made = Command::new(DEBVISOR).args(["checksum", "create", "app.bin"]).current_dir(&files).output().unwrap();
    assert!(made.status.success());
    fs::write(&list, made.stdout).unwrap();
    let arguments: [&OsStr; 6] = [
        "checksum".as_ref(),
        "verify".as_ref(),
        list.as_ref(),
        "--dir".as_ref(),
        files.as_ref(),
        "--no-unlisted".as_ref(),
    ];
    let traced = trace(directory.path(), DEBVISOR, arguments);
    assert_eq!((traced.exit_code, traced.network_calls.len()), (0, 0), "{:?}", traced.network_calls);

    let proof = directory.path().join("proof.json");
    fs::write(&proof, r#"{"leafIdx":0,"treeSize":0,"root":"","leafHash":"","proof":[]}"#).unwrap();
    let arguments: [&OsStr; 3] = ["log".as_ref(), "inclusion".as_ref(), proof.as_ref()];
    let traced = trace(directory.path(), DEBVISOR, arguments);
    assert_eq!((traced.exit_code, traced.network_calls.len()), (1, 0), "{:?}", traced.network_calls);
}

/// How a traced program ended and what it asked of the network.
pub(crate) struct Traced {
    pub(crate) exit_code: i32,
    pub(crate) network_calls: Vec<String>,
}

/// Runs a program with all its threads and children under strace.
pub(crate) fn trace(scratch: &Path, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Traced {
    let log = scratch.join("trace");
    let output = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "--signal=none", "--trace=%network", "--output"])
        .arg(&log)
        .arg("--")
        .arg(program)
        .args(arguments)
        .output()
        .expect("strace is needed; `make test` installs it");
    // A thread that ends while it is being followed leaves `???( <detached ...>`: no call at all.
    let is_call = |line: &&str| line.contains('(') && !line.ends_with(" ???( <detached ...>");
    let network_calls: Vec<String> =
        fs::read_to_string(&log).unwrap().lines().filter(is_call).map(str::to_owned).collect();
    Traced { exit_code: output.status.code().unwrap_or(-1), network_calls }
}
