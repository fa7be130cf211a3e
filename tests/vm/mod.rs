//! Machines that really run: Debian's kernel and a busybox root file system in QEMU, by TCG where there is no KVM.
//!
//! `scripts/needs.sh test` installs QEMU and builds the guest. The tests say so when it is not there; they pass over
//! nothing but what needs root on a machine where they are not root, and say that too.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use tokio::time::{sleep, timeout};

use super::{AcceleratorWish, Qemu, Settings};
use crate::node::hypervisor::gate::needed;
use crate::node::hypervisor::{
    Artifact, BlockSource, EventKind, Hypervisor as _, ImageFormat, Launch, MachineEvent, Observed, SealedArtifact,
};
use crate::release::admit::{BootArtifact, BootPermit};
use crate::types::vm::{ArtifactKind, BootPath, DirectKernel, Disk, Iso, Network, Nic, VmId, VmSpec};
use crate::types::{Digest, DigestAlgorithm};

mod crash;
mod devices;
mod firmware;
mod lifecycle;
mod network;
mod state;

/// What a guest says once it obeys.
pub(super) const MARKER: &str = "debvisor-guest-ready";
/// A boot takes 3 to 7 seconds on an idle machine, and many times that on one that compiles meanwhile.
const BOOT: Duration = Duration::from_secs(120);

/// Two guests at a time: the processors are as many, and TCG is all processor.
static ROOM: Semaphore = Semaphore::const_new(2);

/// One host with a node on it.
pub(super) struct Host {
    directory: tempfile::TempDir,
    servers: Vec<(PathBuf, Child)>,
    _room: SemaphorePermit<'static>,
}

impl Host {
    pub(super) async fn new() -> Self {
        let room = ROOM.acquire().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        // Machines run as a user of their own, who must get through to their folders.
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        Self { directory, servers: Vec::new(), _room: room }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            accelerator: AcceleratorWish::Tcg,
            ..Settings::new(self.directory.path().join("node"), "test".to_owned(), || Timestamp::UNIX_EPOCH)
        }
    }

    pub(super) async fn driver(&self) -> Qemu {
        Qemu::open(self.settings()).await.unwrap()
    }

    /// Serves an image where a machine finds it: what the node's own block server does, without the checks.
    pub(super) async fn serve(&mut self, driver: &Qemu, vm: VmId, slot: &str, image: &str) -> BlockSource {
        let kind = if slot.starts_with("iso") { ArtifactKind::Iso } else { ArtifactKind::Disk };
        let socket = driver.socket_dir(vm).await.unwrap().join(format!("{slot}.sock"));
        self.serve_at(&socket, image).await;
        let path = guest(image);
        let format = if image.ends_with("qcow2") { ImageFormat::Qcow2 } else { ImageFormat::Raw };
        let bytes = fs::metadata(&path).unwrap().len();
        let virtual_bytes = if format == ImageFormat::Qcow2 { 16 * 1024 * 1024 } else { bytes };
        let digest = DigestAlgorithm::Sha256.hash(&fs::read(path).unwrap());
        BlockSource { slot: slot.to_owned(), kind, digest, tree_root: None, bytes, virtual_bytes, format, socket }
    }

    pub(super) async fn serve_at(&mut self, socket: &Path, image: &str) {
        // What the image holds is the machine's affair, so the server sees bytes and no format.
        let child = Command::new("qemu-nbd")
            .args(["--read-only", "--format=raw", "--persistent", "--shared=8", "--socket"])
            .args([socket, &guest(image)])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-nbd runs");
        for _ in 0..500 {
            if socket.exists() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
        self.servers.push((socket.to_owned(), child));
    }

    /// The block server of this socket dies, and takes its socket along.
    pub(super) fn stop_serving(&mut self, socket: &Path) {
        for (at, child) in &mut self.servers {
            if at == socket {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        let _ = fs::remove_file(socket);
    }

    /// The folder of a machine.
    pub(super) fn folder(&self, vm: VmId) -> PathBuf {
        self.directory.path().join("node").join(vm.to_string())
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for (_, child) in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
        // No machine outlives its test, whatever became of it.
        for entry in fs::read_dir(self.directory.path().join("node")).into_iter().flatten().flatten() {
            let Some(vm) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            while let Some(process) = super::process::Process::find(vm) {
                let _ = process.kill();
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A file of the guest's.
pub(super) fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest").join(name);
    assert!(path.exists(), "{} is not there: run scripts/needs.sh test", path.display());
    path
}

/// Kernel and initrd, sealed once for all tests.
pub(super) fn kernel() -> [SealedArtifact; 2] {
    static SEALED: OnceLock<[SealedArtifact; 2]> = OnceLock::new();
    let seal =
        |slot: &str, kind, name| SealedArtifact::copy(slot, kind, File::open(guest(name)).unwrap(), 1 << 30).unwrap();
    let sealed = SEALED.get_or_init(|| {
        [seal("kernel", ArtifactKind::Kernel, "vmlinux"), seal("initrd", ArtifactKind::Initrd, "initrd")]
    });
    sealed.clone()
}

pub(super) fn new_vm() -> VmId {
    VmId::new(uuid::Uuid::now_v7())
}

/// A machine that boots the guest and has nothing else.
pub(super) fn launch(vm: VmId) -> Launch {
    let [kernel, initrd] = kernel();
    let direct = DirectKernel {
        kernel: kernel.digest().clone(),
        initrd: Some(initrd.digest().clone()),
        cmdline: "console=ttyS0 quiet panic=10".to_owned(),
    };
    Launch { spec: VmSpec { kernel: Some(direct), ..bare() }, sealed: vec![kernel, initrd], ..empty(vm) }
}

/// A machine that has nothing to boot and therefore comes up at once.
pub(super) fn empty(vm: VmId) -> Launch {
    Launch { vm, spec: bare(), sealed: Vec::new(), blocks: Vec::new(), paused: false }
}

fn bare() -> VmSpec {
    VmSpec {
        name: "guest".to_owned(),
        cpus: 1,
        memory_mib: 192,
        kernel: None,
        firmware: None,
        disks: Vec::new(),
        isos: Vec::new(),
        nics: Vec::new(),
        vtpm: false,
        autostart: false,
        restart: crate::types::vm::RestartPolicy::Never,
        cpu_limit_percent: None,
        netboot: false,
    }
}

/// Adds a block device to a launch.
pub(super) fn with_block(launch: &mut Launch, source: BlockSource) {
    let image = source.digest.clone();
    match source.kind {
        ArtifactKind::Iso => launch.spec.isos.push(Iso { image }),
        _ => launch.spec.disks.push(Disk { image, size_bytes: None, read_only: false }),
    }
    launch.blocks.push(source);
}

pub(super) fn user_nic() -> Nic {
    Nic { network: Network::User, mac: None, option_rom: None }
}

/// A permit for all of a launch.
pub(super) fn permit(launch: &Launch, path: BootPath) -> BootPermit {
    permit_for(launch.vm, path, &needed(&launch.spec))
}

/// A permit for these artifacts.
pub(super) fn permit_for(vm: VmId, path: BootPath, artifacts: &[Artifact]) -> BootPermit {
    let covered = artifacts.iter().map(|artifact| BootArtifact {
        slot: artifact.slot.clone(),
        kind: artifact.kind,
        digest: artifact.digest.clone(),
        tree_root: None,
        bytes: 0,
    });
    BootPermit::for_tests(vm, path, covered.collect())
}

/// Starts the guest and waits until it obeys.
pub(super) async fn boot(driver: &Qemu, launch: Launch) -> Console {
    let vm = launch.vm;
    driver.start(permit(&launch, BootPath::Start), launch).await.unwrap();
    Console::ready(driver, vm).await
}

pub(super) async fn seen(driver: &Qemu, vm: VmId) -> Observed {
    driver.observe().await.unwrap().into_iter().find(|observed| observed.vm == vm).expect("the machine is seen")
}

/// The next event of this kind.
pub(super) async fn event(
    events: &mut broadcast::Receiver<MachineEvent>,
    is: impl Fn(&EventKind) -> bool,
) -> EventKind {
    let next = async {
        loop {
            let event = events.recv().await.unwrap();
            if is(&event.kind) {
                return event.kind;
            }
        }
    };
    timeout(BOOT, next).await.expect("the event comes")
}

/// The code of a refusal.
pub(super) fn code<T: std::fmt::Debug>(answer: crate::node::hypervisor::Answer<T>) -> crate::types::Code {
    let error = answer.unwrap_err();
    error.reason().unwrap_or_else(|| panic!("no refusal: {error:?}")).code.known().unwrap()
}

/// The guest's serial console.
pub(super) struct Console {
    stream: BufReader<UnixStream>,
}

impl Console {
    /// Waits until the guest obeys.
    pub(super) async fn ready(driver: &Qemu, vm: VmId) -> Self {
        Self::ready_times(driver, vm, 1).await
    }

    /// Waits until the guest obeys after it came up so many times.
    pub(super) async fn ready_times(driver: &Qemu, vm: VmId, times: usize) -> Self {
        let log = async {
            loop {
                let log = driver.console_log(vm, 1 << 20).await.unwrap();
                if String::from_utf8_lossy(&log).matches(MARKER).count() >= times {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(BOOT, log).await.is_err() {
            let log = driver.console_log(vm, 4096).await.unwrap();
            panic!("the guest does not come up:\n{}\n{:?}", String::from_utf8_lossy(&log), seen(driver, vm).await);
        }
        Self::connect(driver, vm).await
    }

    pub(super) async fn connect(driver: &Qemu, vm: VmId) -> Self {
        let stream = UnixStream::connect(driver.console(vm).await.unwrap()).await.unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a command without waiting for what it says.
    pub(super) async fn send(&mut self, command: &str) {
        self.stream.get_mut().write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Sends a command and gives its answer, which begins with `word`, without it.
    pub(super) async fn ask(&mut self, command: &str, word: &str) -> String {
        self.send(command).await;
        self.answer(word, BOOT).await.unwrap_or_else(|| panic!("the guest does not answer `{command}`"))
    }

    pub(super) async fn answer(&mut self, word: &str, within: Duration) -> Option<String> {
        let lines = async {
            loop {
                let mut line = String::new();
                if self.stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                    return None;
                }
                if let Some(rest) = line.trim().strip_prefix(word) {
                    return Some(rest.trim().to_owned());
                }
            }
        };
        timeout(within, lines).await.unwrap_or_default()
    }
}

/// Whether this is root. What needs it and does not have it says so.
pub(super) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED, because this is not root: {what}");
    }
    root
}

pub(super) fn digest_of(path: &Path) -> Digest {
    DigestAlgorithm::Sha256.hash(&fs::read(path).unwrap())
}
