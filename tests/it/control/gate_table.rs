//! The gate: every way into a machine × everything that a machine is made of, each cell tampered with, each refused;
//! against a real QEMU, through the real binary. The rows and columns are the code's own lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use debvisor::types::vm::{ArtifactKind, BootPath};
use serde_json::Value;

use super::server::{Server, images, sign};

/// What is done to an artifact in the store.
#[derive(Debug, Clone, Copy)]
enum Tamper {
    /// A bit of what the gate reads is another one: of the bytes of what is copied into memory, of the receipt of what
    /// is read block by block. (The blocks themselves are held against the receipt's tree while the machine runs: see
    /// `an_altered_block_is_an_error_to_the_guest_and_stills_the_machine`.)
    Bytes,
    /// What vouched for it is gone.
    Evidence,
}

impl Tamper {
    const fn code(self, kind: ArtifactKind) -> &'static str {
        match self {
            Self::Bytes if kind.is_block_device() => "image-receipt-invalid",
            Self::Bytes => "image-changed",
            Self::Evidence => "evidence-missing",
        }
    }
}

/// The six things that the machine is made of, by the names of their files.
const MADE_OF: [(&str, ArtifactKind); 6] = [
    ("vmlinux", ArtifactKind::Kernel),
    ("initrd", ArtifactKind::Initrd),
    ("disk.raw", ArtifactKind::Disk),
    ("cd.iso", ArtifactKind::Iso),
    ("bios", ArtifactKind::Firmware),
    ("rom", ArtifactKind::OptionRom),
];

#[test]
fn every_path_refuses_every_artifact_that_was_tampered_with() {
    let Some(mut host) = Host::new() else { return };
    let mut cells = 0;
    for path in BootPath::ALL {
        host.prepare(path);
        for kind in ArtifactKind::ALL {
            for tamper in [Tamper::Bytes, Tamper::Evidence] {
                let restore = host.tamper(kind, tamper);
                let told = host.attempt(path);
                let code = tamper.code(kind);
                assert!(told.contains(code), "{path:?} × {kind:?}, {tamper:?}: {told}\n{}", host.server.log());
                restore();
                host.recover(path);
                cells += 1;
            }
        }
    }
    assert_eq!(cells, BootPath::ALL.len() * ArtifactKind::ALL.len() * 2);
    // What was put right again starts: it was the tampering that was refused.
    host.settle();
    host.server.ok(&["vm", "start", "all"]);
}

#[test]
fn an_altered_block_is_an_error_to_the_guest_and_stills_the_machine() {
    let Some(host) = Host::new() else { return };
    let server = &host.server;
    let made = ["--memory", "256M", "--kernel", "vmlinux", "--initrd", "initrd", "--cmdline", "console=ttyS0 quiet"];
    server.ok(&[&["vm", "create", "guest", "--disk", "disk.raw"][..], &made].concat());
    server.ok(&["vm", "create", "other", "--kernel", "vmlinux", "--disk", "disk.raw"]);
    server.ok(&["vm", "start", "guest"]);
    let until = Instant::now() + Duration::from_secs(120);
    while !server.ok(&["vm", "console", "guest", "--log"]).contains("debvisor-guest-ready") {
        assert!(Instant::now() < until, "the guest does not come up: {}", server.log());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(say(server, "read vda 100").contains("read sector 00000100"));
    server.flip("disk.raw", 20_000 * 512 + 3);
    let heard = std::thread::scope(|scope| {
        let reading = scope.spawn(|| say(server, "read vda 20000"));
        server.until("guest", "paused", Duration::from_secs(30));
        assert_eq!(server.events("image.altered").len(), 1);
        assert_eq!(server.events("quarantine.added").len(), 1);
        server.refused(&["vm", "resume", "guest"], "image-quarantined");
        server.refused(&["vm", "start", "other"], "image-quarantined");
        // It was stilled before the guest could say what it saw: two people let it.
        let id = server.json(&["quarantine", "list"])["quarantines"][0]["id"].as_str().unwrap().to_owned();
        let asked = server.json(&["quarantine", "release", &id, "--reason", "to look at it", "--hours", "1"]);
        let given = server.cli_as(4711, &["quarantine", "approve", asked["id"].as_str().unwrap()]);
        assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
        reading.join().unwrap()
    });
    assert!(heard.contains("read-error") && heard.contains("Input/output error"), "{heard}");
}

#[test]
fn an_isolated_machine_runs_on_and_reaches_nobody_until_two_people_release_it() {
    let Some(mut host) = Host::new() else { return };
    // The same node, which isolates.
    host.server.kill();
    let hypervisor = "kind = \"qemu\"\naccelerator = \"tcg\"\nboot-id = \"0\"";
    host.server.configure(hypervisor, "on-quarantine = \"isolate\"");
    host.server.up(None);
    let server = &host.server;
    let made = ["--memory", "256M", "--kernel", "vmlinux", "--initrd", "initrd", "--cmdline", "console=ttyS0 quiet"];
    server.ok(&[&["vm", "create", "guest", "--disk", "disk.raw", "--nic", "user"][..], &made].concat());
    server.ok(&["vm", "start", "guest"]);
    let until = Instant::now() + Duration::from_secs(120);
    while !server.ok(&["vm", "console", "guest", "--log"]).contains("debvisor-guest-ready") {
        assert!(Instant::now() < until, "the guest does not come up: {}", server.log());
        std::thread::sleep(Duration::from_millis(300));
    }
    let pid = server.vm("guest")["observed"]["pid"].clone();
    assert!(ask(server, "up eth0 10.0.2.15/24", "up").contains("up eth0"));
    // The gateway of QEMU's own network answers.
    assert!(ask(server, "ping 10.0.2.2", "ping").contains("ping yes"));
    let isolated = |is: bool| {
        let until = Instant::now() + Duration::from_secs(10);
        while server.vm("guest")["observed"]["isolated"].as_bool().unwrap_or_default() != is {
            assert!(Instant::now() < until, "{}\n{}", server.vm("guest"), server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    server.ok(&["image", "quarantine", "disk.raw", "--reason", "a backdoor"]);
    isolated(true);
    // It runs on, the very same process, and reads its disk; its card has no link.
    assert_eq!(server.power("guest"), "running");
    assert_eq!(server.vm("guest")["observed"]["pid"], pid);
    assert!(ask(server, "ping 10.0.2.2", "ping").contains("ping no"));
    assert!(say(server, "read vda 100").contains("read sector 00000100"));
    let id = server.json(&["quarantine", "list"])["quarantines"][0]["id"].as_str().unwrap().to_owned();
    let asked = server.json(&["quarantine", "release", &id, "--reason", "to look at it", "--hours", "1"]);
    let given = server.cli_as(4711, &["quarantine", "approve", asked["id"].as_str().unwrap()]);
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    isolated(false);
    assert!(ask(server, "ping 10.0.2.2", "ping").contains("ping yes"));
    assert_eq!(server.vm("guest")["observed"]["pid"], pid);
}

#[test]
fn machines_run_on_while_the_process_dies_and_are_taken_up_again() {
    let Some(mut host) = Host::new() else { return };
    host.server.ok(&["vm", "start", "all"]);
    let pid = host.server.vm("all")["observed"]["pid"].clone();
    assert!(pid.is_u64(), "{}", host.server.vm("all"));
    host.server.kill();
    host.server.up(None);
    let again = host.server.vm("all");
    assert_eq!((&again["observed"]["power"], &again["observed"]["pid"]), (&Value::from("running"), &pid));
    host.server.ok(&["vm", "stop", "all", "--force"]);
    assert_eq!(host.server.power("all"), "stopped");
}

/// Has the guest read, and reads until it has answered.
fn say(server: &Server, line: &str) -> String {
    ask(server, line, "read")
}

/// Types a line into the console and reads until the guest has answered with this word.
fn ask(server: &Server, line: &str, word: &str) -> String {
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;
    let mut console = server.command(&["vm", "console", "guest"]);
    let mut child = console.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (heard, hearing) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = stdout.read(&mut piece) {
            if heard.send(piece[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut all = String::new();
    let until = Instant::now() + Duration::from_secs(60);
    while !all.lines().any(|line| line.starts_with(word) && all.ends_with('\n')) && Instant::now() < until {
        if let Ok(piece) = hearing.recv_timeout(Duration::from_secs(1)) {
            all.push_str(&String::from_utf8_lossy(&piece));
        }
    }
    drop(stdin);
    let _ = child.kill();
    child.wait().unwrap();
    all
}

/// A node with a real QEMU, and a machine that is made of one of each kind.
struct Host {
    server: Server,
    boots: u32,
}

impl Host {
    fn new() -> Option<Self> {
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest");
        if !guest.join("vmlinux").exists() {
            panic!("there is no guest in target/guest: scripts/needs.sh test builds it");
        }
        if !rustix::process::geteuid().is_root() {
            println!("passed over: only root can alter what the image store froze");
            return None;
        }
        let server = Server::new("kind = \"qemu\"\naccelerator = \"tcg\"\nboot-id = \"0\"", "");
        let parts = [
            (guest.join("vmlinux"), "vmlinux"),
            (guest.join("initrd"), "initrd"),
            (guest.join("disk.raw"), "disk.raw"),
            (guest.join("cd.iso"), "cd.iso"),
            (PathBuf::from("/usr/share/seabios/bios-256k.bin"), "bios"),
            (PathBuf::from("/usr/lib/ipxe/qemu/efi-virtio.rom"), "rom"),
        ];
        for (from, name) in parts {
            let image = server.dir.path().join(name);
            fs::copy(&from, &image).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            sign(images(), &image);
            let kind = MADE_OF.iter().find(|(made, _)| *made == name).unwrap().1.name();
            server.ok(&["image", "import", image.to_str().unwrap(), "--kind", kind]);
        }
        let host = Self { server, boots: 0 };
        host.create("all", &[]);
        Some(host)
    }

    fn create(&self, name: &str, more: &[&str]) -> std::process::Output {
        let made = [
            "vm",
            "create",
            name,
            "--memory",
            "256M",
            "--kernel",
            "vmlinux",
            "--initrd",
            "initrd",
            "--cmdline",
            "console=ttyS0 quiet",
            "--disk",
            "disk.raw",
            "--iso",
            "cd.iso",
            "--firmware",
            "bios",
            "--nic",
            "user,rom=rom",
        ];
        self.server.cli(&[&made[..], more].concat())
    }

    /// Brings the machine into the state from which the path is taken.
    fn prepare(&mut self, path: BootPath) {
        self.settle();
        let server = &self.server;
        match path {
            BootPath::Create | BootPath::Start | BootPath::IncomingMigration => {}
            BootPath::Netboot | BootPath::Autostart | BootPath::Restart => {
                server.ok(&["vm", "delete", "all"]);
                let more: &[&str] = match path {
                    BootPath::Netboot => &["--netboot"],
                    BootPath::Autostart => &["--autostart"],
                    _ => &["--restart", "always"],
                };
                assert!(self.create("all", more).status.success());
                if path == BootPath::Restart {
                    self.server.ok(&["vm", "start", "all"]);
                }
            }
            BootPath::Restore => {
                server.ok(&["vm", "start", "all"]);
                server.ok(&["vm", "save", "all"]);
            }
            BootPath::RevertSnapshot => {
                server.ok(&["vm", "start", "all"]);
                server.ok(&["vm", "snapshot", "create", "all", "before"]);
            }
            BootPath::Reset | BootPath::AttachIso | BootPath::AttachDisk | BootPath::AttachNic => {
                server.ok(&["vm", "start", "all"]);
            }
        }
    }

    /// Takes the path, which must end in a refusal; what was told.
    fn attempt(&mut self, path: BootPath) -> String {
        let args: &[&str] = match path {
            BootPath::Create => {
                let output = self.create("another", &[]);
                assert_eq!(output.status.code(), Some(1), "it was created");
                return String::from_utf8_lossy(&output.stderr).into_owned();
            }
            BootPath::Start | BootPath::Netboot | BootPath::Restore => &["vm", "start", "all"],
            BootPath::IncomingMigration => &["vm", "receive", "all"],
            BootPath::Reset => &["vm", "reset", "all"],
            BootPath::AttachIso => &["vm", "attach", "all", "--iso", &self.digest("cd.iso")],
            BootPath::AttachDisk => &["vm", "attach", "all", "--disk", &self.digest("disk.raw")],
            BootPath::AttachNic => &["vm", "attach", "all", "--nic", &format!("user,rom={}", self.digest("rom"))],
            BootPath::RevertSnapshot => &["vm", "snapshot", "revert", "all", "before"],
            BootPath::Autostart => {
                self.boots += 1;
                self.server.kill();
                let hypervisor = format!("kind = \"qemu\"\naccelerator = \"tcg\"\nboot-id = \"{}\"", self.boots);
                self.server.configure(&hypervisor, "");
                self.server.up(None);
                return self.held();
            }
            BootPath::Restart => {
                let pid = self.server.vm("all")["observed"]["pid"].to_string();
                assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
                return self.held();
            }
        };
        let output = self.server.cli(args);
        assert_eq!(output.status.code(), Some(1), "{path:?} was taken: {}", String::from_utf8_lossy(&output.stderr));
        // By this path and no other.
        let refused = self.server.events("vm.refused");
        assert!(!refused.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Waits until the machine is held back, and says why; it must not run.
    fn held(&self) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let all = self.server.vm("all");
            if all["hold"].is_object() {
                assert_ne!(all["observed"]["power"], "running", "{all}");
                return all["hold"].to_string();
            }
            assert!(Instant::now() < until, "it is not held back: {all}\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// After a refusal, ready for the next.
    fn recover(&self, path: BootPath) {
        if path == BootPath::Restart {
            self.server.ok(&["vm", "start", "all"]);
        }
    }

    /// The machine is off, and nothing of the last row is left.
    fn settle(&self) {
        self.server.ok(&["vm", "stop", "all", "--force"]);
        self.server.ok(&["vm", "delete", "all"]);
        let output = self.create("all", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn digest(&self, name: &str) -> String {
        let list = self.server.json(&["image", "list"]);
        let found = list.as_array().unwrap().iter().find(|image| image["name"] == name).unwrap();
        found["digest"].as_str().unwrap().to_owned()
    }

    /// Alters the store as somebody with the host's root would; the answer puts it right again.
    fn tamper(&self, kind: ArtifactKind, tamper: Tamper) -> impl FnOnce() + use<> {
        let name = MADE_OF.iter().find(|(_, made)| *made == kind).unwrap().0;
        let folder = self.server.content(name).parent().unwrap().to_owned();
        let _ = Command::new("chattr").args(["-R", "-i"]).arg(&folder).status();
        let file = match tamper {
            Tamper::Bytes if kind.is_block_device() => folder.join("receipt.json"),
            _ => folder.join("content"),
        };
        let (evidence, aside) = (folder.join("evidence"), folder.join("aside"));
        match tamper {
            Tamper::Bytes => flip(&file),
            Tamper::Evidence => fs::rename(&evidence, &aside).unwrap(),
        }
        move || {
            match tamper {
                Tamper::Bytes => flip(&file),
                Tamper::Evidence => {
                    let _ = fs::remove_dir_all(&evidence);
                    fs::rename(&aside, &evidence).unwrap();
                }
            }
            // The store marks what it found altered.
            let _ = fs::remove_file(folder.join("quarantined"));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // No machine outlives its test.
        if self.server.has_died() {
            self.server.up(None);
        }
        for vm in self.server.json(&["vm", "list"]).as_array().into_iter().flatten() {
            let name = vm["name"].as_str().unwrap().to_owned();
            self.server.cli(&["vm", "delete", &name]);
        }
    }
}

/// Flips a bit in the middle of a file; twice is none.
fn flip(path: &Path) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt};
    let _ = Command::new("chattr").arg("-i").arg(path).status();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}
