//! A server and its node in one process, as `debvisor up` runs them, with images that a key of the test vouches for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

const PASSWORD: &str = "test";

/// A folder with a key and images that it signed; made once for all tests.
pub(super) fn images() -> &'static Path {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        run(&dir, &["key", "generate", "--out", "builds"]);
        let small = |name: &str, bytes: Vec<u8>| fs::write(dir.join(name), bytes).unwrap();
        small("kernel", vec![1; 70_000]);
        small("initrd", vec![2; 9_000]);
        small("disk.raw", (0..200_000_u32).map(|at| (at % 251) as u8).collect());
        small("other.raw", (0..100_000_u32).map(|at| (at % 241) as u8).collect());
        small("firmware", vec![3; 65_536]);
        small("rom", vec![4; 4_096]);
        let mut iso = vec![0; 40_960];
        iso[32_768..32_774].copy_from_slice(b"\x01CD001");
        small("cd.iso", iso);
        for name in ["kernel", "initrd", "disk.raw", "other.raw", "firmware", "rom", "cd.iso"] {
            sign(&dir, &dir.join(name));
        }
        small("stranger.raw", vec![9; 5_000]);
        dir
    })
}

/// Signs an image with the key of the test; the bundle lies beside it.
pub(super) fn sign(keys: &Path, image: &Path) {
    let bundle = format!("{}.sigstore.json", image.display());
    run(keys, &["sign", image.to_str().unwrap(), "--key", "builds.key", "--bundle", &bundle, "--offline"]);
}

fn run(dir: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
    let output = command.args(args).current_dir(dir).env("DEBVISOR_KEY_PASSWORD", PASSWORD).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A server that is up. It is killed when this is dropped, and what it ran with it.
pub(super) struct Server {
    pub(super) dir: tempfile::TempDir,
    /// What its environment says besides.
    pub(super) environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Server {
    /// A server whose machines are simulated.
    pub(super) fn simulated() -> Self {
        Self::new("kind = \"simulated\"\nboot-id = \"first\"", "")
    }

    /// A server with these lines in `[hypervisor]` and `[admission]`.
    pub(super) fn new(hypervisor: &str, admission: &str) -> Self {
        let mut server = Self::prepared(hypervisor, admission);
        server.up(None);
        server
    }

    /// The same, not up yet.
    pub(super) fn prepared(hypervisor: &str, admission: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let server = Self { dir, environment: Vec::new(), child: None };
        server.configure(hypervisor, admission);
        server
    }

    pub(super) fn configure(&self, hypervisor: &str, admission: &str) {
        let key = images().join("builds.pub");
        let config = format!(
            "node = \"test\"\n[hypervisor]\n{hypervisor}\n[admission]\n{admission}\n\
             [[admission.signers]]\nname = \"builds\"\nkey = {key:?}\n"
        );
        fs::write(self.dir.path().join("config.toml"), config).unwrap();
    }

    /// What a server says that must not come up with this configuration.
    pub(super) fn refuses_to_come_up(&self) -> String {
        let (state, config) = (self.state(), self.dir.path().join("config.toml"));
        let output = self.cli(&["up", "--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(64));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where whoever runs the server has an installed trust bundle.
    pub(super) fn config_home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The certificate of the server's own authority, in PEM.
    pub(super) fn authority(&self) -> String {
        fs::read_to_string(self.state().join("tls/ca.crt")).unwrap()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.state().join("api.sock")
    }

    /// Starts the process and waits until it answers, or has died.
    pub(super) fn up(&mut self, kill_at: Option<&str>) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        command
            .args(["up", "--quiet", "--state-dir"])
            .arg(self.state())
            .arg("--config")
            .arg(self.dir.path().join("config.toml"));
        command.env("DEBVISOR_LOG", "warn").env("XDG_CONFIG_HOME", self.config_home()).stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        command.stderr(log);
        if let Some(point) = kill_at {
            command.env("DEBVISOR_KILL_AT", point);
        }
        let _ = fs::remove_file(self.socket());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(kill_at.is_some(), "up ended with {status}: {}", self.log());
                return false;
            }
            assert!(Instant::now() < until, "up does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        true
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Whether the process has died.
    pub(super) fn has_died(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// As `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// As systemd stops it.
    pub(super) fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(super) fn ended(&mut self) -> Option<i32> {
        self.child.take().unwrap().wait().unwrap().code()
    }

    /// Adds lines to the configuration of a server that is not up yet.
    pub(super) fn configure_more(&self, lines: &str) {
        let path = self.dir.path().join("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{config}{lines}\n")).unwrap();
    }

    pub(super) fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The same as another user of the socket's group.
    pub(super) fn cli_as(&self, uid: u32, args: &[&str]) -> Output {
        // The binary lies where only its builder may look.
        let binary = self.dir.path().join("debvisor");
        if !binary.exists() {
            // By another process: a child that another thread starts meanwhile would inherit our open file, and a
            // program that somebody has open for writing does not start (ETXTBSY).
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_debvisor")).arg(&binary).status().unwrap();
            assert!(copied.success());
        }
        let mut command = Command::new(binary);
        command.args(args).env("DEBVISOR_SOCKET", self.socket()).current_dir("/").uid(uid).gid(0).output().unwrap()
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debvisor"));
        command.args(args).env("DEBVISOR_SOCKET", self.socket()).current_dir(images()).stdin(Stdio::null());
        command
    }

    /// Runs a verb that must succeed.
    pub(super) fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {:?} {told}\n{}", output.status.code(), self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that must be refused with this code.
    pub(super) fn refused(&self, args: &[&str], code: &str) {
        let output = self.cli(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}\n{}", self.log());
        assert!(told.contains(code), "{args:?} is refused, and not with {code}: {told}");
    }

    pub(super) fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// Brings images that the test's key signed.
    pub(super) fn import(&self, names: &[(&str, &str)]) {
        for (name, kind) in names {
            self.ok(&["image", "import", name, "--kind", kind]);
        }
    }

    pub(super) fn vm(&self, name: &str) -> Value {
        self.json(&["vm", "show", name])
    }

    pub(super) fn power(&self, name: &str) -> String {
        self.vm(name)["observed"]["power"].as_str().unwrap_or("stopped").to_owned()
    }

    /// Waits until the machine is in this state.
    pub(super) fn until(&self, name: &str, power: &str, within: Duration) -> Duration {
        let began = Instant::now();
        while self.power(name) != power {
            assert!(began.elapsed() < within, "{name} is {}, not {power}: {}", self.power(name), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        began.elapsed()
    }

    pub(super) fn events(&self, kind: &str) -> Vec<Value> {
        let text = self.ok(&["event", "list", "--kind", kind, "--format", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Where the bytes of an image are.
    pub(super) fn content(&self, image: &str) -> PathBuf {
        let facts = self.json(&["image", "list"]);
        let found = facts.as_array().unwrap().iter().find(|facts| facts["name"] == image).unwrap();
        let hex = found["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        self.state().join("images/sha256").join(&hex[..2]).join(&hex).join("content")
    }

    /// Flips one bit of an image in the store, as somebody with the host's root would.
    pub(super) fn flip(&self, image: &str, at: u64) {
        use std::os::unix::fs::FileExt as _;
        let path = self.content(image);
        let _ = Command::new("chattr").arg("-i").arg(&path).output();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What can no longer be changed can no longer be removed either.
        let _ = Command::new("chattr").args(["-R", "-i"]).arg(self.state().join("images")).output();
    }
}
