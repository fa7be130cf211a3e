//! The kernel's own proofs of reads, in a machine whose kernel has them: Debian's, booted by TCG from a disk that holds
//! our own binary. It imports an image, serves it, and overwrites a block of it beneath the file system.
//! What is done inside stands in tests/vm/verity/act.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::content;

/// So long may such a machine take, on a host that compiles meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn fs_verity_proves_reads_where_the_file_system_has_it() {
    let told = Machine::new("verity").run();
    let says = |line: &str| assert!(told.contains(line), "{line:?} is not said:\n{told}");
    says("NODE reads        fs-verity, block-server");
    says("NODE              not by dm-verity: fs-verity is there and needs no device");
    says("IMAGE reads     fs-verity\n");
    says("read by fs-verity");
    says("READ whole");
    says("AGAIN whole");
    says("MAPPED 0");
    altered(&told, "fs-verity");
}

#[test]
fn dm_verity_proves_reads_where_the_file_system_cannot() {
    let told = Machine::new("^verity").run();
    let says = |line: &str| assert!(told.contains(line), "{line:?} is not said:\n{told}");
    says("NODE reads        dm-verity, block-server");
    says("NODE              not by fs-verity: a file of the store cannot be sealed");
    says("IMAGE reads     dm-verity: a file of the store cannot be sealed");
    says("read by dm-verity");
    says("READ whole");
    says("MAPPED 1");
    // What a dead process left is taken away, and a device of its own is there for the next.
    says("LEFT 1");
    says("AGAIN whole");
    says("REMAPPED 1");
    altered(&told, "dm-verity");
    says("CLOSED 0");
    says("LOOPS 0");
}

/// What is the same by whatever tier: no byte of an altered block, an alarm, and nothing starts from it any more.
fn altered(told: &str, tier: &str) {
    let says = |line: &str| assert!(told.contains(line), "{line:?} is not said:\n{told}");
    assert!(!told.contains("FAILED"), "{told}");
    let eio = told.lines().find(|line| line.starts_with("EIO ")).unwrap_or_default();
    assert!(eio.contains("Input/output error"), "{eio:?}:\n{told}");
    let events = told.lines().filter(|line| line.starts_with("EVENT ") && line.contains("image.altered")).count();
    assert!(events >= 1, "no event:\n{told}");
    // Block 321 of 4 KiB is in block 80 of 16 KiB.
    says(&format!("the kernel refuses to read it ({tier})"));
    says("block 80 at byte 1310720");
    assert!(told.lines().any(|line| line.starts_with("AFTER ") && line.contains("image-quarantined")), "{told}");
    assert!(told.lines().any(|line| line.starts_with("REFUSED ") && line.contains("image-quarantined")), "{told}");
    assert!(told.lines().any(|line| line.starts_with("KERNEL ")), "the kernel itself says nothing:\n{told}");
    says("DONE");
}

/// A machine with a disk of its own.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// Makes the disk, with this feature of ext4, and what is to boot from it.
    fn new(feature: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        let root = machine.path("root");
        for folder in ["bin", "sbin", "usr/bin", "usr/sbin", "dev", "proc", "sys", "tmp", "root", "run", "etc", "case"]
        {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        // Line numbers are of no use in there, and they are most of it.
        let ours = root.join("usr/bin/debvisor");
        machine.ran("objcopy", &["--strip-debug", env!("CARGO_BIN_EXE_debvisor"), ours.to_str().unwrap()]);
        for name in ["busybox", "fsverity", "veritysetup", "losetup", "nbdcopy", "debugfs"] {
            add_program(&root, name);
        }
        // There are no authorities of TLS in there: at the socket, a client asks none.
        copy_all(&guest("modules"), &root.join("modules"));
        let verity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/verity");
        fs::copy(verity.join("act"), root.join("case/act")).unwrap();

        let work = root.join("case");
        let image = work.join("disk.raw");
        fs::write(&image, content(4 << 20)).unwrap();
        let key = work.join("builds.key");
        let debvisor = env!("CARGO_BIN_EXE_debvisor");
        machine.ran(debvisor, &["key", "generate", "--out", work.join("builds").to_str().unwrap()]);
        let bundle = work.join("disk.raw.sigstore.json");
        let signed = ["--key", key.to_str().unwrap(), "--bundle", bundle.to_str().unwrap(), "--offline"];
        machine.ran(debvisor, &[&["sign", image.to_str().unwrap()], &signed[..]].concat());
        fs::write(
            work.join("config.toml"),
            "node = \"test\"\n[hypervisor]\nkind = \"simulated\"\nboot-id = \"first\"\n[admission]\n\
             [[admission.signers]]\nname = \"builds\"\nkey = \"/case/builds.pub\"\n",
        )
        .unwrap();

        let (disk, features) = (machine.path("disk.img"), format!("{feature},^has_journal"));
        fs::File::create(&disk).unwrap().set_len(700 << 20).unwrap();
        let made = ["-q", "-F", "-t", "ext4", "-b", "4096", "-O", &features, "-d", root.to_str().unwrap()];
        machine.ran("/sbin/mke2fs", &[&made[..], &[disk.to_str().unwrap()]].concat());
        fs::remove_dir_all(&root).unwrap();

        // The guest's own root file system, with another first process behind it.
        let folder = machine.path("first");
        fs::create_dir(&folder).unwrap();
        fs::copy(verity.join("init"), folder.join("init")).unwrap();
        fs::set_permissions(folder.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
        let initrd = machine.path("initrd");
        let pack =
            "cp \"$0\" \"$1\" && cd \"$2\" && echo init | cpio --quiet --create --format=newc | gzip -1 >>\"$1\"";
        let from = guest("initrd");
        let words = ["-c", pack, from.to_str().unwrap(), initrd.to_str().unwrap(), folder.to_str().unwrap()];
        machine.ran("sh", &words);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ran(&self, program: &str, args: &[&str]) {
        let output = Command::new(program)
            .args(args)
            .env("DEBVISOR_KEY_PASSWORD", "test")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Boots it and waits until it has switched itself off. Returns what it said.
    fn run(&self) -> String {
        let log = self.path("console");
        let drive = format!("file={},format=raw,if=virtio,cache=unsafe", self.path("disk.img").display());
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-kernel"])
            .arg(guest("vmlinux"))
            .arg("-initrd")
            .arg(self.path("initrd"))
            .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init", "-drive", &drive, "-serial"])
            .arg(format!("file:{}", log.display()))
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 runs");
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the machine does not end:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        String::from_utf8_lossy(&fs::read(&log).unwrap()).replace('\r', "")
    }
}

fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest").join(name);
    assert!(path.exists(), "{} is not there: run scripts/needs.sh test", path.display());
    path
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Puts a program and the libraries that it names where they are on this machine.
fn add_program(root: &Path, name: &str) {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let program = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let program = program.unwrap_or_else(|| panic!("{name} is not there: run scripts/needs.sh test"));
    let place = if name == "busybox" { "bin" } else { "usr/bin" };
    let place = if matches!(name, "veritysetup" | "losetup") { "usr/sbin" } else { place };
    fs::copy(&program, root.join(place).join(name)).unwrap();
    let listed = Command::new("ldd").arg(&program).output().unwrap();
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let library = root.join(word.trim_start_matches('/'));
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::copy(word, library).unwrap();
    }
}
