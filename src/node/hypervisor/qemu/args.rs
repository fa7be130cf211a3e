//! A plan in, QEMU's command line out, and nothing else: no file is looked at, no process started.
//!
//! Invariant: no path of code is ever on it. Kernel, initrd, firmware and option ROMs are `/proc/self/fd/N`; QEMU's own
//! helpers (SeaBIOS, the loader of `-kernel`) are found in a directory that is itself a descriptor and holds links to
//! descriptors; disks are sockets of block servers, their overlays sets of descriptors.
//! Everything has an address that never changes, so that a guest finds its devices where they were.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::node::hypervisor::launch::ImageFormat;
use crate::types::limits::{MACHINE_DISKS, MACHINE_NICS};
use crate::types::vm::{Accelerator, Network, VmId, VmSpec};

/// QEMU's major and minor number.
type Version = (u64, u64);

/// The machine type of new machines, and the QEMU versions that have it. A machine keeps the type of its first start.
const MACHINE_TYPES: &[(&str, Version, Version)] = &[
    // Debian 12's own QEMU is 7.2, that of its backports 10.0; a type outlives its version by about six years.
    ("pc-q35-7.2", (7, 2), (11, 0)),
    ("pc-q35-10.0", (11, 1), (14, 2)),
];

/// What every x86 server of the last fifteen years has (x86-64-v2), so that a machine can move between hosts and
/// between accelerators.
const CPU: &str = "qemu64,+cx16,+lahf-lm,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3";

/// Nothing outdated, no more rights, no other program, no change of what was given.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// How long a guest's read waits for a block server that went away, in seconds: an agent that is updated comes back.
pub const RECONNECT_S: u32 = 300;

/// The set of descriptors of the console's log. Sets of disks are numbered from [`set_of`].
const LOG_SET: u32 = 1;

/// The number of the set of an image of the machine's own, the same at each start.
pub fn set_of(name: &str) -> u32 {
    match name {
        "state" => 2,
        "firmware-vars" => 3,
        slot => 10 + u32::try_from(index_of(slot)).unwrap_or_default(),
    }
}

/// The number at the end of a slot.
pub fn index_of(slot: &str) -> usize {
    slot.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(usize::MAX)
}

/// The machine type for new machines of this QEMU, if it is a version that is known.
pub fn machine_type(version: Version) -> Option<&'static str> {
    MACHINE_TYPES.iter().find(|(_, from, to)| (*from..=*to).contains(&version)).map(|(name, _, _)| *name)
}

/// Everything that a command line is made of.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The machine.
    pub vm: VmId,
    /// Its description.
    pub spec: &'a VmSpec,
    /// Its machine type, pinned.
    pub machine_type: &'a str,
    /// How its processors are run.
    pub accelerator: Accelerator,
    /// The monitor's socket, which listens already.
    pub qmp_fd: i32,
    /// The serial console's, likewise.
    pub serial_fd: i32,
    /// The guest agent's, likewise.
    pub agent_fd: i32,
    /// The file in which the serial console is written down; it is open for appending.
    pub serial_log_fd: i32,
    /// The directory of links to QEMU's own helpers.
    pub roms_fd: i32,
    /// The number of each sealed artifact, by slot.
    pub sealed: Vec<(String, i32)>,
    /// The machine's own copy of the firmware's variables.
    pub vars: Option<Overlay>,
    /// Where memory goes when a snapshot is taken.
    pub state: Overlay,
    /// Disks and ISO images, by slot.
    pub blocks: Vec<BlockPlan>,
    /// The tap device of each card that has one, by index.
    pub taps: Vec<(usize, String)>,
    /// The virtual TPM's socket.
    pub tpm: Option<&'a Path>,
    /// The VNC console's socket.
    pub vnc: &'a Path,
    /// Whether it waits for memory and devices from somewhere.
    pub incoming: bool,
}

/// A file of the machine's own, as a set of descriptors: one to write by, one to read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// The number of the set.
    pub set: u32,
    /// The descriptor for reading and writing.
    pub write_fd: i32,
    /// The descriptor for reading alone.
    pub read_fd: i32,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlan {
    /// Its place.
    pub slot: String,
    /// The socket of its block server.
    pub socket: PathBuf,
    /// What the server serves.
    pub format: ImageFormat,
    /// What writes go to; none is a device that cannot be written.
    pub overlay: Option<Overlay>,
}

/// The command line, without the program's name.
pub fn arguments(plan: &Plan<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    line.flag("-no-user-config").flag("-nodefaults");
    line.pair("-name", &plan.spec.name).pair("-uuid", &plan.vm.to_string());
    line.pair("-sandbox", SANDBOX);
    line.pair("-L", &descriptor(plan.roms_fd));
    machine(plan, &mut line);
    line.pair("-rtc", "base=utc");
    // Started halted: limits are set first. A guest's own reset ends in a halt, because it needs a permit of its own.
    line.flag("-S").pair("-action", "reboot=shutdown,shutdown=pause,panic=pause");
    if plan.incoming {
        line.pair("-incoming", "defer");
    }
    boot(plan, &mut line);
    for overlay in overlays(plan) {
        line.pair("-add-fd", &format!("fd={},set={}", overlay.write_fd, overlay.set));
        line.pair("-add-fd", &format!("fd={},set={}", overlay.read_fd, overlay.set));
    }
    line.pair("-blockdev", &overlay_node("state", plan.state.set, None).to_string());
    fixed_devices(plan, &mut line);
    for block in &plan.blocks {
        for node in block_nodes(block) {
            line.pair("-blockdev", &node.to_string());
        }
        line.pair("-device", &options(&block_device(&block.slot, true)));
    }
    for (index, nic) in plan.spec.nics.iter().enumerate() {
        let tap = plan.taps.iter().find(|(of, _)| *of == index).map(|(_, tap)| tap.as_str());
        line.pair("-netdev", &options(&netdev(index, &nic.network, tap)));
        let rom = plan.sealed.iter().find(|(slot, _)| *slot == format!("nic{index}")).map(|(_, fd)| descriptor(*fd));
        let first = plan.spec.netboot && plan.spec.nics.iter().position(|nic| nic.option_rom.is_some()) == Some(index);
        let mac = nic.mac.clone().unwrap_or_else(|| mac_of(plan.vm, index));
        line.pair("-device", &options(&nic_device(index, &mac, rom.as_deref(), first)));
    }
    line.arguments
}

fn machine(plan: &Plan<'_>, line: &mut Line) {
    let secure = plan.spec.firmware.as_ref().is_some_and(|firmware| firmware.secure_boot);
    let smm = if secure { "on" } else { "off" };
    let pflash = match (&plan.spec.firmware, plan.vars) {
        (Some(_), Some(_)) => ",pflash0=firmware,pflash1=firmware-vars",
        _ => "",
    };
    let accelerator = match plan.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    line.pair("-machine", &format!("{},usb=off,vmport=off,dump-guest-core=off,smm={smm}{pflash}", plan.machine_type));
    line.pair("-accel", accelerator).pair("-cpu", CPU);
    let cpus = plan.spec.cpus;
    line.pair("-smp", &format!("cpus={cpus},sockets=1,cores={cpus},threads=1"));
    line.pair("-m", &format!("size={}M", plan.spec.memory_mib));
    if secure {
        line.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
        line.pair("-global", "ICH9-LPC.disable_s3=1");
    }
}

/// Firmware and a kernel that is loaded directly.
fn boot(plan: &Plan<'_>, line: &mut Line) {
    let fd = |name: &str| plan.sealed.iter().find(|(slot, _)| slot == name).map(|(_, fd)| descriptor(*fd));
    match (fd("firmware"), plan.vars) {
        (Some(code), Some(vars)) => {
            line.pair(
                "-blockdev",
                &json!({ "driver": "file", "node-name": "firmware", "filename": code, "read-only": true }).to_string(),
            );
            line.pair("-blockdev", &overlay_node("firmware-vars", vars.set, None).to_string());
        }
        (Some(code), None) => {
            line.pair("-bios", &code);
        }
        (None, _) => {}
    }
    if let (Some(direct), Some(kernel)) = (&plan.spec.kernel, fd("kernel")) {
        line.pair("-kernel", &kernel);
        if let Some(initrd) = fd("initrd") {
            line.pair("-initrd", &initrd);
        }
        line.pair("-append", &direct.cmdline);
    }
}

/// What every machine has, and where.
fn fixed_devices(plan: &Plan<'_>, line: &mut Line) {
    let listening = |id: &str, fd: i32| format!("socket,id={id},fd={fd},server=on,wait=off");
    line.pair("-chardev", &listening("qmp", plan.qmp_fd)).pair("-mon", "chardev=qmp,mode=control");
    line.pair("-add-fd", &format!("fd={},set={LOG_SET}", plan.serial_log_fd));
    let serial = listening("serial", plan.serial_fd);
    line.pair("-chardev", &format!("{serial},logfile=/dev/fdset/{LOG_SET},logappend=on"));
    line.pair("-device", "isa-serial,chardev=serial");
    line.pair("-vnc", &format!("unix:{}", commas(&plan.vnc.display().to_string())));
    line.pair("-device", "VGA,id=video,bus=pcie.0,addr=0x1,vgamem_mb=16");
    for (slot, count, addr, chassis) in [("disk", MACHINE_DISKS, 2, 1), ("nic", MACHINE_NICS, 3, 33)] {
        for index in 0..count {
            let first = if index == 0 { ",multifunction=on" } else { "" };
            line.pair(
                "-device",
                &format!(
                    "pcie-root-port,id=port-{slot}{index},bus=pcie.0,addr=0x{addr}.0x{index},chassis={}{first},io-reserve=0",
                    chassis + index
                ),
            );
        }
    }
    line.pair("-device", "virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x4");
    line.pair("-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=0x5");
    line.pair("-chardev", &listening("agent", plan.agent_fd));
    line.pair("-device", "virtserialport,bus=ports.0,nr=1,chardev=agent,name=org.qemu.guest_agent.0");
    line.pair("-device", "virtio-balloon-pci,id=balloon,bus=pcie.0,addr=0x6,deflate-on-oom=on");
    line.pair("-object", "rng-builtin,id=random").pair("-device", "virtio-rng-pci,rng=random,bus=pcie.0,addr=0x7");
    line.pair("-device", "pvpanic-pci,bus=pcie.0,addr=0x8");
    if let Some(tpm) = plan.tpm {
        line.pair("-chardev", &format!("socket,id=tpm,path={}", commas(&tpm.display().to_string())));
        line.pair("-tpmdev", "emulator,id=tpm,chardev=tpm").pair("-device", "tpm-crb,tpmdev=tpm");
    }
}

/// The block nodes of a device, the deepest first; the last has the slot's name.
pub fn block_nodes(block: &BlockPlan) -> Vec<Value> {
    let slot = &block.slot;
    let raw = block.format == ImageFormat::Raw && block.overlay.is_none();
    let served = if raw { slot.clone() } else { format!("{slot}-server") };
    let mut nodes = vec![json!({
        "driver": "nbd",
        "node-name": served,
        "server": { "type": "unix", "path": block.socket },
        "read-only": true,
        "reconnect-delay": RECONNECT_S,
    })];
    let image = match (block.format, block.overlay) {
        (ImageFormat::Raw, _) => served,
        (ImageFormat::Qcow2, overlay) => {
            let name = if overlay.is_some() { format!("{slot}-image") } else { slot.clone() };
            nodes.push(json!({
                "driver": "qcow2", "node-name": name, "file": served, "read-only": true, "backing": null,
            }));
            name
        }
    };
    if let Some(overlay) = block.overlay {
        nodes.push(overlay_node(slot, overlay.set, Some(&image)));
    }
    nodes
}

fn overlay_node(name: &str, set: u32, backing: Option<&str>) -> Value {
    json!({
        "driver": "qcow2",
        "node-name": name,
        "file": { "driver": "file", "filename": format!("/dev/fdset/{set}") },
        "discard": "unmap",
        "backing": backing,
    })
}

/// The device of a disk or an ISO image. Disks are tried first, then ISO images; after both, the network.
pub fn block_device(slot: &str, cold: bool) -> Vec<(&'static str, String)> {
    let index = index_of(slot);
    if slot.starts_with("iso") {
        let mut device = vec![
            ("driver", "scsi-cd".to_owned()),
            ("id", slot.to_owned()),
            ("bus", "scsi.0".to_owned()),
            ("channel", "0".to_owned()),
            ("scsi-id", index.to_string()),
            ("lun", "0".to_owned()),
            ("drive", slot.to_owned()),
        ];
        if cold {
            device.push(("bootindex", (20 + index).to_string()));
        }
        return device;
    }
    let mut device = vec![
        ("driver", "virtio-blk-pci".to_owned()),
        ("id", slot.to_owned()),
        ("bus", format!("port-{slot}")),
        ("addr", "0x0".to_owned()),
        ("drive", slot.to_owned()),
        ("serial", slot.to_owned()),
    ];
    // The firmware asks in this order; what is plugged in later is not asked at all.
    if cold {
        device.push(("bootindex", (10 + index).to_string()));
    }
    device
}

/// What a card is plugged into.
pub fn netdev(index: usize, network: &Network, tap: Option<&str>) -> Vec<(&'static str, String)> {
    let id = ("id", format!("nic{index}-net"));
    match (network, tap) {
        (Network::Bridge { .. }, Some(tap)) => vec![
            ("type", "tap".to_owned()),
            id,
            ("ifname", tap.to_owned()),
            ("script", "no".to_owned()),
            ("downscript", "no".to_owned()),
        ],
        _ => vec![("type", "user".to_owned()), id],
    }
}

/// A card. An empty `romfile` switches QEMU's own option ROM off.
pub fn nic_device(index: usize, mac: &str, rom: Option<&str>, boots_first: bool) -> Vec<(&'static str, String)> {
    let mut device = vec![
        ("driver", "virtio-net-pci".to_owned()),
        ("id", format!("nic{index}")),
        ("bus", format!("port-nic{index}")),
        ("addr", "0x0".to_owned()),
        ("netdev", format!("nic{index}-net")),
        ("mac", mac.to_owned()),
        ("romfile", rom.unwrap_or_default().to_owned()),
    ];
    if boots_first {
        device.push(("bootindex", "1".to_owned()));
    }
    device
}

/// A card's address, made from the machine's identity: the same at each start, locally administered (IEEE 802).
pub fn mac_of(vm: VmId, index: usize) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    hasher.update(vm.uuid().as_bytes());
    hasher.update(index.to_be_bytes());
    let [a, b, c, ..]: [u8; 32] = hasher.finalize().into();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Where a descriptor is found by the process that has it.
pub fn descriptor(fd: i32) -> String {
    format!("/proc/self/fd/{fd}")
}

/// Options as QEMU's command line wants them: the first is a bare value.
fn options(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (at, (name, value)) in pairs.iter().enumerate() {
        let value = commas(value);
        text.push_str(&if at == 0 { value } else { format!(",{name}={value}") });
    }
    text
}

/// A comma ends an option; two are one comma.
fn commas(text: &str) -> String {
    text.replace(',', ",,")
}

fn overlays<'a>(plan: &'a Plan<'_>) -> impl Iterator<Item = Overlay> + 'a {
    [Some(plan.state), plan.vars].into_iter().flatten().chain(plan.blocks.iter().filter_map(|block| block.overlay))
}

#[derive(Default)]
struct Line {
    arguments: Vec<OsString>,
}

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.arguments.push(name.into());
        self
    }

    fn pair(&mut self, name: &str, value: &str) -> &mut Self {
        self.flag(name).flag(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;
    use crate::types::vm::{DirectKernel, Firmware, Nic, RestartPolicy};

    fn spec() -> VmSpec {
        let rom = Some(Digest::sha256(b"rom"));
        VmSpec {
            name: "web".to_owned(),
            cpus: 2,
            memory_mib: 512,
            kernel: Some(DirectKernel {
                kernel: Digest::sha256(b"kernel"),
                initrd: Some(Digest::sha256(b"initrd")),
                cmdline: "console=ttyS0 root=/dev/vda1,x".to_owned(),
            }),
            firmware: Some(Firmware {
                code: Digest::sha256(b"code"),
                vars_template: Some(Digest::sha256(b"vars")),
                secure_boot: true,
            }),
            disks: Vec::new(),
            isos: Vec::new(),
            nics: vec![
                Nic { network: Network::User, mac: None, option_rom: None },
                Nic {
                    network: Network::Bridge { bridge: "br0".to_owned() },
                    mac: Some("52:54:00:12:34:56".to_owned()),
                    option_rom: rom,
                },
            ],
            vtpm: true,
            autostart: false,
            restart: RestartPolicy::Never,
            cpu_limit_percent: None,
            netboot: true,
        }
    }

    fn overlay(set: u32) -> Overlay {
        Overlay { set, write_fd: 100 + i32::try_from(set).unwrap(), read_fd: 200 + i32::try_from(set).unwrap() }
    }

    fn block(slot: &str, format: ImageFormat, written: bool) -> BlockPlan {
        let socket = PathBuf::from(format!("/state/blocks/{slot}.sock"));
        BlockPlan { slot: slot.to_owned(), socket, format, overlay: written.then(|| overlay(set_of(slot))) }
    }

    fn line(spec: &VmSpec, accelerator: Accelerator) -> Vec<String> {
        let sealed = ["kernel", "initrd", "firmware", "nic1"];
        let plan = Plan {
            vm: "0198c0de-0000-7000-8000-000000000001".parse().unwrap(),
            spec,
            machine_type: "pc-q35-7.2",
            accelerator,
            qmp_fd: 70,
            serial_fd: 71,
            agent_fd: 72,
            serial_log_fd: 73,
            roms_fd: 69,
            sealed: sealed.iter().zip(80..).map(|(slot, fd)| ((*slot).to_owned(), fd)).collect(),
            vars: Some(overlay(3)),
            state: overlay(2),
            blocks: vec![
                block("disk0", ImageFormat::Qcow2, true),
                block("disk1", ImageFormat::Raw, false),
                block("iso0", ImageFormat::Raw, false),
            ],
            taps: vec![(1, "dv0n1".to_owned())],
            tpm: Some(Path::new("/state/run/tpm.sock")),
            vnc: Path::new("/state/run/vnc.sock"),
            incoming: false,
        };
        arguments(&plan).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_command_line_is_the_golden_one() {
        let words = line(&spec(), Accelerator::Kvm);
        let mut text = String::new();
        for word in &words {
            text.push_str(if word.starts_with('-') { "\n" } else { " " });
            text.push_str(word);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/qmp/command-line.txt");
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_start(), golden.trim_end(), "guests see what changes here: is that wanted?");
    }

    #[test]
    fn no_path_of_code_is_on_the_command_line() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let words = line(&spec(), accelerator);
            let given = |name: &str| {
                let at = words.iter().position(|word| word == name).unwrap();
                words[at + 1].clone()
            };
            assert_eq!(given("-kernel"), "/proc/self/fd/80");
            assert_eq!(given("-initrd"), "/proc/self/fd/81");
            assert_eq!(given("-L"), "/proc/self/fd/69");
            for word in &words {
                // Whatever is a path is a descriptor or a socket, the kernel's own words excepted.
                for part in word.split(['=', ',', '"', ':']).filter(|part| part.starts_with('/')) {
                    let named = part.starts_with("/proc/self/fd/")
                        || part.starts_with("/dev/fdset/")
                        || part.ends_with(".sock")
                        || part == "/dev/vda1";
                    assert!(named, "`{part}` in `{word}`");
                }
            }
            // Every card says which option ROM it has: one by descriptor, or none.
            let cards: Vec<&String> = words.iter().filter(|word| word.starts_with("virtio-net-pci")).collect();
            assert_eq!(cards.len(), 2);
            assert!(cards[0].ends_with(",romfile="), "{}", cards[0]);
            assert!(cards[1].contains(",romfile=/proc/self/fd/83,bootindex=1"), "{}", cards[1]);
        }
    }

    #[test]
    fn nothing_in_a_name_becomes_an_option() {
        assert_eq!(
            options(&[("id", "a".to_owned()), ("ifname", "b,script=/bin/sh".to_owned())]),
            "a,ifname=b,,script=/bin/sh"
        );
        assert_eq!(commas("/a,b"), "/a,,b");
    }

    #[test]
    fn a_qcow2_image_is_opened_without_what_it_may_point_at() {
        let nodes = block_nodes(&block("disk0", ImageFormat::Qcow2, true));
        assert_eq!(nodes.len(), 3);
        assert_eq!((&nodes[1]["backing"], &nodes[1]["read-only"]), (&Value::Null, &json!(true)));
        assert_eq!(nodes[2]["backing"], json!("disk0-image"));
        assert_eq!(nodes[2]["file"]["filename"], json!("/dev/fdset/10"));
        // Without an overlay the device is the image itself, and read-only.
        let nodes = block_nodes(&block("disk1", ImageFormat::Raw, false));
        assert_eq!((nodes.len(), &nodes[0]["node-name"], &nodes[0]["read-only"]), (1, &json!("disk1"), &json!(true)));
    }

    #[test]
    fn machine_types_are_pinned_by_version() {
        assert_eq!(machine_type((7, 2)), Some("pc-q35-7.2"));
        assert_eq!(machine_type((10, 0)), Some("pc-q35-7.2"), "a machine made under either runs under both");
        assert_eq!(machine_type((6, 2)), None);
        assert_eq!(machine_type((99, 0)), None);
    }
}
