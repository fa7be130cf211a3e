//! Backups of the state: made while the server works, opened by age itself, restored as a whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::server::Server;

/// A server with a machine that runs, and the keys of whoever keeps its backups.
struct Kept {
    server: Server,
    recipient: String,
}

impl Kept {
    fn new() -> Self {
        let server = Server::simulated();
        server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
        server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw", "--autostart"]);
        server.ok(&["vm", "start", "web"]);
        let recipient = keygen(&server.dir.path().join("backup.key"));
        Self { server, recipient }
    }

    fn path(&self, name: &str) -> String {
        self.server.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn backup(&self, name: &str) -> String {
        let path = self.path(name);
        self.server.ok(&["state", "backup", &path, "--recipient", &self.recipient]);
        path
    }

    fn restore(&self, backup: &str, to: &str) -> Output {
        let identity = self.path("backup.key");
        self.server.cli(&["state", "restore", backup, "--state-dir", &self.path(to), "--identity", &identity])
    }

    /// A restore that is refused with this code and exit code, and leaves nothing.
    #[track_caller]
    fn refused(&self, backup: &str, code: &str, exit: i32) {
        let output = self.restore(backup, "refused");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{told}");
        assert!(told.contains(code), "not with {code}: {told}");
        assert!(!Path::new(&self.path("refused")).exists(), "something is left");
        assert_eq!(self.beside(".debvisor-restore-"), Vec::<String>::new());
    }

    /// Files in the test's folder that begin so.
    fn beside(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.server.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Opens a backup with age, lets Python change the archive, and closes it again with age.
    fn changed(&self, backup: &str, program: &str) -> String {
        let (tar, new, out) = (self.path("plain.tar"), self.path("new.tar"), self.path("changed.age"));
        shell(&format!("age -d -i {} {backup} | zstd -dq > {tar}", self.path("backup.key")));
        let text = format!("{REPACK}\n{program}\nfinish(sys.argv[2])\n");
        let output = Command::new("python3").args(["-c", &text, &tar, &new]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        shell(&format!("zstd -q < {new} | age -r {} > {out}", self.recipient));
        out
    }
}

/// Reads the archive into `files`, which a program changes, and writes it again with a manifest that fits.
const REPACK: &str = r#"
import hashlib, io, json, sqlite3, sys, tarfile, tempfile
files = {}
with tarfile.open(sys.argv[1]) as archive:
    for member in archive:
        files[member.name] = archive.extractfile(member).read()
manifest = json.loads(files.pop("manifest.json"))
fits = True

def finish(to):
    if fits:
        manifest["files"] = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        ]
    with tarfile.open(to, "w") as archive:
        for name, data in [*files.items(), ("manifest.json", json.dumps(manifest).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

def sql(script):
    with tempfile.NamedTemporaryFile() as file:
        file.write(files["state.db"])
        file.flush()
        db = sqlite3.connect(file.name)
        db.executescript(script)
        db.close()
        files["state.db"] = open(file.name, "rb").read()
"#;

fn keygen(path: &Path) -> String {
    let output = Command::new("age-keygen").arg("-o").arg(path).output().unwrap();
    assert!(output.status.success(), "apt-get install age");
    let text = fs::read_to_string(path).unwrap();
    text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
}

fn shell(script: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_backup_of_a_server_that_works_becomes_a_state_in_which_nothing_runs_twice() {
    let mut kept = Kept::new();
    let key = kept.server.ok(&["audit", "key"]).trim().to_owned();
    let note = kept.path("old.note");
    kept.server.ok(&["audit", "checkpoint", "--fresh", "--output", &note]);
    // Somebody works on meanwhile.
    let mut busy = kept.server.command(&["vm", "create", "later", "--disk", "disk.raw"]);
    let mut busy = busy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = kept.path("state.age");
    let identity = kept.path("backup.key");
    let told = kept.server.json(&["state", "backup", &path, "--recipient", &kept.recipient, "--identity", &identity]);
    assert_eq!(told["checked"], "opened", "{told}");
    busy.wait().unwrap();
    assert_eq!(kept.beside(".debvisor-backup-"), Vec::<String>::new());
    let scratch: Vec<_> = fs::read_dir(kept.server.state().join("backup.tmp")).unwrap().collect();
    assert!(scratch.is_empty(), "the copy of the database is gone: {scratch:?}");

    // age and tar see what is in it, and nothing of it is an image.
    let names = shell(&format!("age -d -i {identity} {path} | zstd -dq | tar -t"));
    for name in ["state.db", "audit.key", "server.key", "node.key", "generations.json", "manifest.json"] {
        assert!(names.lines().any(|line| line == name), "{name} is not in it: {names}");
    }
    assert!(
        names.lines().last() == Some("manifest.json") && !names.contains("images/") && !names.contains("machines/")
    );

    // The old host runs on. What is restored starts nothing, although the machine starts with its host.
    let restored = kept.path("restored");
    let done = kept.server.json(&[
        "state",
        "restore",
        &path,
        "--state-dir",
        &restored,
        "--identity",
        &identity,
        "--key",
        &key,
    ]);
    assert!(done["machines_held"].as_u64() >= Some(1), "{done}");
    let before = kept.server.vm("web")["generation"].as_u64().unwrap();
    assert_eq!(kept.server.terminate(), Some(0));
    fs::rename(kept.server.state(), kept.path("lost")).unwrap();
    fs::rename(&restored, kept.server.state()).unwrap();
    // Another host, which has just come up: its machines that start with it would.
    kept.server.configure("kind = \"simulated\"\nboot-id = \"second\"", "");
    kept.server.up(None);
    let web = kept.server.vm("web");
    assert_eq!(web["hold"]["reasons"][0]["code"], "state-restored", "{web}");
    assert!(web["generation"].as_u64().unwrap() > before + 1000, "{web}");
    assert_eq!(kept.server.power("web"), "stopped");
    let machines: Vec<_> = fs::read_dir(kept.server.state().join("machines")).unwrap().collect();
    assert!(machines.is_empty(), "nothing was started: {machines:?}");
    // The audit log goes on where it was, and an auditor sees no break.
    kept.server.ok(&["audit", "verify", "--key", &key, "--checkpoint", &note]);
    let list = kept.server.ok(&["audit", "list", "--action", "state."]);
    assert!(list.contains("state.backup") && list.contains("state.restore"), "{list}");
    // By hand it starts, once its images are there again.
    kept.server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    kept.server.ok(&["vm", "start", "web"]);
    assert_eq!(kept.server.power("web"), "running");
}

#[test]
fn with_images_and_without_a_server_the_folder_itself_is_backed_up() {
    let mut kept = Kept::new();
    assert_eq!(kept.server.terminate(), Some(0));
    let (path, state) = (kept.path("state.age"), kept.server.state());
    let state = state.to_str().unwrap();
    let output = kept.server.cli(&[
        "state",
        "backup",
        &path,
        "--recipient",
        &kept.recipient,
        "--with-images",
        "--state-dir",
        state,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("give --identity"), "it says how it was checked");
    let output = kept.restore(&path, "restored");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let _ = Command::new("chattr").args(["-R", "-i"]).arg(kept.server.state().join("images")).output();
    fs::remove_dir_all(kept.server.state()).unwrap();
    fs::rename(kept.path("restored"), kept.server.state()).unwrap();
    kept.server.up(None);
    kept.server.ok(&["image", "verify", "disk.raw"]);
    kept.server.ok(&["vm", "start", "web"]);
    // While a server is up, its folder is not read behind its back.
    let output = kept.server.cli(&[
        "state",
        "backup",
        &kept.path("two.age"),
        "--recipient",
        &kept.recipient,
        "--state-dir",
        state,
    ]);
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&kept.path("two.age")).exists());
}

#[test]
fn what_the_configuration_names_is_in_it_wherever_that_lies_and_however_it_is_named() {
    let mut kept = Kept::new();
    assert_eq!(kept.server.terminate(), Some(0));
    let dir = kept.server.dir.path().to_owned();
    let signed = rcgen::generate_simple_self_signed(vec!["debvisor.test".to_owned()]).unwrap();
    fs::create_dir_all(dir.join("tls")).unwrap();
    fs::write(dir.join("tls/archive.crt"), signed.cert.pem()).unwrap();
    // As certbot lays them: a link to the newest.
    std::os::unix::fs::symlink("archive.crt", dir.join("tls/server.crt")).unwrap();
    for (name, text) in [("tls/server.key", signed.signing_key.serialize_pem()), ("corp.secret", "s3cret".to_owned())] {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    kept.server.configure_more(
        "[listen]\ncertificate = \"tls/server.crt\"\nkey = \"tls/server.key\"\n\
         [[oidc]]\nname = \"corp\"\nissuer = \"https://id.example\"\nclient-id = \"d\"\n\
         client-secret-file = \"corp.secret\"\nredirect-url = \"https://d.example/v1/oidc/corp/callback\"\n",
    );
    // Named from where somebody stands; the key of the images is named by its whole path.
    let args = ["state", "backup", "here.age", "--recipient", &kept.recipient, "--identity", "backup.key"];
    let args = [&args[..], &["--state-dir", "state", "--config", "config.toml"]].concat();
    let output = kept.server.command(&args).current_dir(&dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = kept.restore(&kept.path("here.age"), "restored");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored = |name: &str| fs::read_to_string(dir.join("restored/from-config").join(name)).unwrap();
    assert_eq!(restored("config.toml"), fs::read_to_string(dir.join("config.toml")).unwrap());
    assert_eq!(restored("tls/server.crt"), signed.cert.pem());
    assert_eq!(restored("corp.secret"), "s3cret");
    assert!(restored("tls/server.key").contains("PRIVATE KEY"));
    let key = super::server::images().join("builds.pub");
    let name = format!("elsewhere/{}", key.strip_prefix("/").unwrap().display());
    assert_eq!(restored(&name), fs::read_to_string(key).unwrap());
}

#[test]
fn what_is_not_a_whole_and_true_backup_becomes_nothing() {
    let kept = Kept::new();
    let whole = kept.backup("state.age");
    let bytes = fs::read(&whole).unwrap();
    let damaged = kept.path("damaged.age");
    for (cut, code) in [
        (bytes.len() - 1, "backup-malformed"),
        (bytes.len() / 2, "backup-malformed"),
        (20, "backup-malformed"),
        (0, "backup-malformed"),
    ] {
        fs::write(&damaged, &bytes[..cut]).unwrap();
        kept.refused(&damaged, code, 1);
    }
    for at in [bytes.len() / 3, bytes.len() - 20] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        fs::write(&damaged, flipped).unwrap();
        kept.refused(&damaged, "backup-malformed", 1);
    }
    // As it went through age once more, untouched, it is good: the reverse of what ours writes and age reads.
    let again = kept.changed(&whole, "");
    let output = kept.restore(&again, "again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Anybody can encrypt to a recipient. What they put in is held against the manifest and the checkpoint.
    for (program, code) in [
        ("fits = False; files['node.key'] = files['node.key'] + b' '", "backup-digest"),
        ("fits = False; del files['node.key']", "backup-malformed"),
        ("fits = False; files['more'] = b'x'", "backup-malformed"),
        ("files['../outside'] = b'x'", "backup-malformed"),
        ("files['/outside'] = b'x'", "backup-malformed"),
        ("manifest['format'] = 2", "backup-malformed"),
        ("files['state.db'] = files['state.db'][:5000] + bytes(3000) + files['state.db'][8000:]", "backup-malformed"),
        (
            "sql(\"DROP TRIGGER audit_is_not_changed; UPDATE audit SET record = replace(record, 'vm.create', 'vm.delete')\")",
            "audit-record-altered",
        ),
        ("sql('DROP TRIGGER audit_is_not_deleted; DELETE FROM audit WHERE seq > 2')", "audit-record-missing"),
        (
            "manifest['checkpoint'] = manifest['checkpoint'].replace('debvisor/test', 'debvisor/best')",
            "checkpoint-invalid",
        ),
    ] {
        let changed = kept.changed(&whole, program);
        kept.refused(&changed, code, 1);
    }
    // Another one's identity, another server's key.
    let stranger = kept.path("stranger.key");
    let other = keygen(Path::new(&stranger));
    let for_others = kept.path("others.age");
    kept.server.ok(&["state", "backup", &for_others, "--recipient", &other]);
    kept.refused(&for_others, "backup-key", 2);
    let key = Server::simulated().ok(&["audit", "key"]).trim().to_owned();
    let identity = kept.path("backup.key");
    let output = kept.server.cli(&[
        "state",
        "restore",
        &whole,
        "--state-dir",
        &kept.path("refused"),
        "--identity",
        &identity,
        "--key",
        &key,
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!Path::new(&kept.path("refused")).exists());
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let kept = Kept::new();
    let path = kept.backup("state.age");
    let before = fs::read(&path).unwrap();
    let output = kept.server.cli(&["state", "backup", &path, "--recipient", &kept.recipient]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::create_dir(kept.path("full")).unwrap();
    fs::write(kept.path("full/mine"), "mine").unwrap();
    assert_eq!(kept.restore(&path, "full").status.code(), Some(64));
    assert_eq!(fs::read_to_string(kept.path("full/mine")).unwrap(), "mine");
    fs::create_dir(kept.path("empty")).unwrap();
    let output = kept.restore(&path, "empty");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for wrong in ["age1nonsense", ""] {
        let output = kept.server.cli(&["state", "backup", &kept.path("x.age"), "--recipient", wrong]);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
    }
    assert!(!Path::new(&kept.path("x.age")).exists());
}

#[test]
fn a_passphrase_opens_what_it_closed_and_no_other_does() {
    let kept = Kept::new();
    let (path, to) = (kept.path("state.age"), kept.path("restored"));
    let run = |passphrase: &str, args: &[&str]| {
        kept.server.command(args).env("DEBVISOR_BACKUP_PASSPHRASE", passphrase).output().unwrap()
    };
    let output = run("correct horse", &["state", "backup", &path, "--passphrase", "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["checked"], "opened", "who knows the passphrase can look: {told}");
    assert!(String::from_utf8_lossy(&fs::read(&path).unwrap()[..60]).contains("-> scrypt "), "as age does it");
    let output = run("battery staple", &["state", "restore", &path, "--passphrase", "--state-dir", &to]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&to).exists());
    assert!(run("correct horse", &["state", "restore", &path, "--passphrase", "--state-dir", &to]).status.success());
    // Nothing of it is told anywhere.
    let list = kept.server.ok(&["audit", "list", "--format", "json"]) + &kept.server.log();
    assert!(!list.contains("correct horse") && !list.contains("battery staple"));
}

#[test]
fn whoever_dies_on_the_way_leaves_nothing_half() {
    let mut kept = Kept::new();
    let path = kept.path("state.age");
    let identity = kept.path("backup.key");
    let backup = ["state", "backup", &path, "--recipient", &kept.recipient, "--identity", &identity];
    for point in ["backup-written", "backup-checked"] {
        let output = kept.server.command(&backup).env("DEBVISOR_KILL_AT", point).output().unwrap();
        assert_eq!(output.status.code(), None, "it did not die at {point}");
        assert!(!Path::new(&path).exists(), "{point}");
    }
    // The server dies: whoever asked has nothing, and the next process clears away what it made.
    assert_eq!(kept.server.terminate(), Some(0));
    kept.server.up(Some("backup-snapshot"));
    assert!(!kept.server.cli(&backup).status.success());
    assert!(!Path::new(&path).exists());
    let scratch = kept.server.state().join("backup.tmp");
    assert!(fs::read_dir(&scratch).unwrap().count() > 0, "it died in between");
    kept.server.kill();
    kept.server.up(None);
    assert!(!scratch.exists());
    assert!(kept.server.cli(&backup).status.success());

    let to = kept.path("restored");
    let restore = ["state", "restore", &path, "--state-dir", &to, "--identity", &identity];
    for point in ["restore-unpacked", "restore-checked", "restore-fenced"] {
        let output = kept.server.command(&restore).env("DEBVISOR_KILL_AT", point).output().unwrap();
        assert_eq!(output.status.code(), None, "it did not die at {point}");
        assert!(!Path::new(&to).exists(), "{point}");
    }
    let output = kept.server.command(&restore).env("DEBVISOR_KILL_AT", "restore-moved").output().unwrap();
    assert_eq!(output.status.code(), None);
    let key = kept.server.ok(&["audit", "key"]).trim().to_owned();
    let database: PathBuf = Path::new(&to).join("state.db");
    kept.server.ok(&["audit", "verify", "--database", database.to_str().unwrap(), "--key", &key]);
}
