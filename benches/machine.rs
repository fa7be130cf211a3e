//! Starts of a machine by our driver, beside the same machine started by hand over QMP, turn about.
//! Both boot the same kernel with the same devices by TCG, and count as started when QEMU says that it runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use debvisor::node::hypervisor::qemu::{AcceleratorWish, Qemu, Settings};
use debvisor::node::hypervisor::{Hypervisor as _, Launch, SealedArtifact};
use debvisor::release::admit::ticket::TicketTerms;
use debvisor::release::admit::{
    AdmissionTrust, BootArtifact, BootPermit, BootRequest, Evidence, EvidenceFile, Judged, Measured, Presented,
    QuarantineList, SignedTicket, Standing, issue, judge, permit,
};
use debvisor::release::artifact::Artifact;
use debvisor::release::attest::key::{self, PrivateKey};
use debvisor::release::trust::revocation::Revocations;
use debvisor::types::vm::{ArtifactKind, BootPath, DirectKernel, VmId, VmSpec};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::{Identity, World, after};

const MEMORY_MIB: u64 = 256;
const CMDLINE: &str = "console=ttyS0 quiet";
/// What our driver asks for too: node/hypervisor/qemu/args.rs.
const MACHINE: &str = "pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off,smm=off";
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Median milliseconds of each act, for each of the two.
pub(crate) fn machine(kernel: &Path, initrd: &Path, rounds: usize) -> Value {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let settings = Settings {
        accelerator: AcceleratorWish::Tcg,
        ..Settings::new(directory.path().join("node"), "node-a".to_owned(), now)
    };
    let driver = runtime.block_on(Qemu::open(settings)).unwrap();
    let images = [(ArtifactKind::Kernel, fs::read(kernel).unwrap()), (ArtifactKind::Initrd, fs::read(initrd).unwrap())];
    let admission = Admission::new(&images);
    let mut times: [Vec<[f64; 3]>; 2] = [Vec::new(), Vec::new()];
    let (mut sealing, mut permits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        let launch = launch(&images);
        sealing.push(milliseconds(begin));
        let begin = Instant::now();
        let permit = admission.permit(launch.vm);
        permits.push(milliseconds(begin));
        times[0].push(runtime.block_on(ours(&driver, permit, launch)));
        times[1].push(by_hand(directory.path(), kernel, initrd));
    }
    let median = |times: &[[f64; 3]], act: usize| crate::median(times.iter().map(|time| time[act]).collect());
    let acts = |times: &[[f64; 3]]| json!({ "start_ms": median(times, 0), "pause_resume_ms": median(times, 1), "destroy_ms": median(times, 2) });
    json!({
        "debvisor": acts(&times[0]),
        "raw QMP": acts(&times[1]),
        "seal_ms": crate::median(sealing),
        "permit_ms": crate::median(permits),
        "rounds": rounds,
    })
}

fn now() -> Timestamp {
    after(3600)
}

fn launch(images: &[(ArtifactKind, Vec<u8>)]) -> Launch {
    let seal = |(kind, bytes): &(ArtifactKind, Vec<u8>)| {
        SealedArtifact::copy(kind.name(), *kind, bytes.as_slice(), 1 << 30).unwrap()
    };
    let sealed: Vec<SealedArtifact> = images.iter().map(seal).collect();
    let direct = DirectKernel {
        kernel: sealed[0].digest().clone(),
        initrd: Some(sealed[1].digest().clone()),
        cmdline: CMDLINE.to_owned(),
    };
    let spec: VmSpec =
        serde_json::from_value(json!({ "name": "bench", "memory_mib": MEMORY_MIB, "kernel": direct })).unwrap();
    Launch { vm: VmId::new(uuid::Uuid::now_v7()), spec, sealed, blocks: Vec::new(), paused: false }
}

async fn ours(driver: &Qemu, permit: BootPermit, launch: Launch) -> [f64; 3] {
    let vm = launch.vm;
    let begin = Instant::now();
    driver.start(permit, launch).await.unwrap();
    let start = milliseconds(begin);
    settle();
    let begin = Instant::now();
    driver.pause(vm).await.unwrap();
    driver.resume(vm).await.unwrap();
    let pause = milliseconds(begin);
    let begin = Instant::now();
    driver.stop(vm, Duration::ZERO).await.unwrap();
    let destroy = milliseconds(begin);
    driver.forget(vm).await.unwrap();
    [start, pause, destroy]
}

/// The least that anybody could do: one process, one socket, four commands.
fn by_hand(directory: &Path, kernel: &Path, initrd: &Path) -> [f64; 3] {
    let socket = directory.join("raw.sock");
    let agent = directory.join("raw-agent.sock");
    let _ = fs::remove_file(&socket);
    let _ = fs::remove_file(&agent);
    let begin = Instant::now();
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-no-user-config", "-nodefaults", "-S", "-machine", MACHINE, "-accel", "tcg", "-sandbox", SANDBOX]);
    command.args(["-cpu", "qemu64,+cx16,+lahf-lm,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3", "-display", "none"]);
    command.args(["-m", &format!("{MEMORY_MIB}M"), "-append", CMDLINE]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
    command.arg("-serial").arg(format!("file:{}", directory.join("raw.log").display()));
    command.arg("-vnc").arg(format!("unix:{}", directory.join("raw-vnc.sock").display()));
    command.args(["-device", "VGA,addr=0x1,vgamem_mb=16", "-device", "virtio-scsi-pci,addr=0x4"]);
    command.args(["-device", "virtio-serial-pci,id=ports,addr=0x5", "-device", "virtio-balloon-pci,addr=0x6"]);
    command.arg("-chardev").arg(format!("socket,id=agent,path={},server=on,wait=off", agent.display()));
    command.args(["-device", "virtserialport,bus=ports.0,nr=1,chardev=agent,name=org.qemu.guest_agent.0"]);
    command.args(["-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,rng=random,addr=0x7"]);
    command.args(["-device", "pvpanic-pci,addr=0x8"]);
    for (slot, addr, chassis) in [("disk", 2, 1), ("nic", 3, 33)] {
        for index in 0..8 {
            let first = if index == 0 { ",multifunction=on" } else { "" };
            let id = format!("id={slot}{index},addr=0x{addr}.0x{index},chassis={}", chassis + index);
            command.arg("-device").arg(format!("pcie-root-port,{id},io-reserve=0{first}"));
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let mut ask = |command: &str| loop_until_answered(&mut lines, command);
    ask("qmp_capabilities");
    ask("cont");
    assert!(ask("query-status").contains("\"running\": true"));
    let start = milliseconds(begin);
    settle();
    let begin = Instant::now();
    ask("stop");
    ask("cont");
    let pause = milliseconds(begin);
    let begin = Instant::now();
    ask("quit");
    child.wait().unwrap();
    [start, pause, milliseconds(begin)]
}

fn loop_until_answered(lines: &mut BufReader<UnixStream>, command: &str) -> String {
    lines.get_mut().write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes()).unwrap();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(!line.contains("\"error\""), "{line}");
        if line.contains("\"return\"") {
            return line;
        }
    }
}

/// Lets the guest get going, so that what is halted is at work.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1000.0
}

/// A server and a publisher, and what they signed: permits here are had as everywhere, by proof.
struct Admission {
    trust: AdmissionTrust,
    server: PrivateKey,
    judged: Vec<Judged>,
    artifacts: Vec<BootArtifact>,
    quarantine: QuarantineList,
}

impl Admission {
    fn new(images: &[(ArtifactKind, Vec<u8>)]) -> Self {
        let identity = Identity::github("acme/images", "release.yml", "refs/tags/v1");
        let files = key::generate(b"").unwrap();
        let root = World::shared().trusted_root().to_string();
        let text = "[admission]\ntrusted-root = \"root.json\"\nticket-keys = [\"server.pub\"]\n\
                    [[admission.signers]]\nname = \"ours\"\n\
                    certificate-identity = \"https://github.com/acme/images/.github/workflows/release.yml@refs/tags/v1\"\n\
                    certificate-oidc-issuer = \"https://token.actions.githubusercontent.com\"\n";
        let read =
            |name: &str, _: u64| Ok(if name == "root.json" { root.clone() } else { files.public_pem.clone() }.into());
        let trust = AdmissionTrust::parse(text, &read).unwrap();
        let mut judged = Vec::new();
        let mut artifacts = Vec::new();
        for (kind, bytes) in images {
            let artifact = Artifact::from_bytes(kind.name(), bytes);
            let bundle = World::shared().blob(bytes, &identity).bundle().to_string().into_bytes();
            let file = EvidenceFile { name: format!("{}.sigstore.json", kind.name()), bytes: bundle };
            let presented = Presented { artifact: &artifact, kind: *kind, openpgp: None };
            judged.push(judge(presented, &Evidence::parse(&[file]), &trust, &Revocations::default(), now()));
            artifacts.push(BootArtifact {
                slot: kind.name().to_owned(),
                kind: *kind,
                digest: debvisor::types::Digest::sha256(bytes),
                tree_root: None,
                bytes: bytes.len() as u64,
            });
        }
        let server = PrivateKey::load(files.private_pem.as_bytes(), Some(b"")).unwrap();
        Self { trust, server, judged, artifacts, quarantine: QuarantineList::default() }
    }

    fn permit(&self, vm: VmId) -> BootPermit {
        let measured: Vec<Measured> = self
            .artifacts
            .iter()
            .map(|artifact| Measured {
                digest: artifact.digest.clone(),
                others: Vec::new(),
                tree_root: None,
                bytes: artifact.bytes,
            })
            .collect();
        let standing = Standing {
            trust: &self.trust,
            judged: &self.judged,
            measured: &measured,
            quarantine: &self.quarantine,
            overrides: &[],
            now: now(),
        };
        let terms = TicketTerms {
            vm,
            node: "node-a".to_owned(),
            artifacts: self.artifacts.clone(),
            policy: self.trust.policy_digest().unwrap(),
            trust_root: self.trust.trust_root_digest().cloned(),
            issued_at: now(),
            expires_at: now() + SignedDuration::from_hours(1),
            generation: 1,
            nonce: uuid::Uuid::now_v7(),
        };
        let ticket = issue(&terms, &self.server, &standing).unwrap();
        let ticket = SignedTicket::parse(&ticket).unwrap().verify(&self.trust, now()).unwrap();
        let request = BootRequest {
            vm,
            node: terms.node,
            path: BootPath::Start,
            artifacts: self.artifacts.clone(),
            seen_generation: 1,
        };
        permit(&request, Some(&ticket), &standing).unwrap()
    }
}
