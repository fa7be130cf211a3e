//! A permit and what would enter a machine in, yes or a refusal out: the last look before anything runs.
//!
//! The permit is the proof that somebody decided; this room sees to it that the artifacts at hand are the ones that
//! were decided about, for this machine, on this node, by this path, now.
//! Invariant: nothing is read or written, except that the kernel is asked for a descriptor's seals; no clock, callers
//! pass `now`.

use jiff::Timestamp;

use super::launch::{BlockSource, Launch, SealedArtifact};
use super::observed::Artifact;
use super::{Answer, HypervisorError};
use crate::release::admit::BootPermit;
use crate::types::vm::{ArtifactKind, BootPath, Network, Nic, VmId, VmSpec};
use crate::types::{Code, Digest, limits};

/// The paths by which a whole machine is started.
pub const STARTS: &[BootPath] = &[BootPath::Start, BootPath::Autostart, BootPath::Restart, BootPath::Netboot];

/// Who asks: the node that would run it, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// This node's name.
    pub node: &'a str,
    /// The time at which the permit must hold.
    pub now: Timestamp,
}

impl Gate<'_> {
    /// A whole launch: the description, the artifacts at hand and the permit must name the same things.
    ///
    /// # Errors
    /// A refusal with `boot-permit-mismatch`, `boot-permit-expired`, `boot-incomplete` or `boot-uncovered`.
    pub fn launch(&self, permit: &BootPermit, launch: &Launch, paths: &[BootPath]) -> Answer<Vec<Artifact>> {
        self.permit(permit, launch.vm, paths)?;
        bounded(&launch.spec)?;
        let needed = needed(&launch.spec);
        let has = launch
            .sealed
            .iter()
            .map(|sealed| sealed.slot())
            .chain(launch.blocks.iter().map(|block| block.slot.as_str()));
        let mut seen: Vec<&str> = Vec::new();
        for slot in has {
            if seen.contains(&slot) || !needed.iter().any(|artifact| artifact.slot == slot) {
                return Err(HypervisorError::refused(
                    Code::BootIncomplete,
                    format!("machine {} has no place `{slot}`, or something is in it already", launch.vm),
                ));
            }
            seen.push(slot);
        }
        for artifact in &needed {
            let at_hand = if artifact.kind.is_block_device() {
                launch.block(&artifact.slot).map(|source| (&source.digest, source.kind))
            } else {
                launch.sealed(&artifact.slot).map(|sealed| (sealed.digest(), sealed.kind()))
            };
            match at_hand {
                Some((digest, kind)) if *digest == artifact.digest && kind == artifact.kind => {}
                Some((digest, _)) => {
                    return Err(HypervisorError::refused(
                        Code::BootIncomplete,
                        format!("`{}` is to be {}, and {digest} is at hand", artifact.slot, artifact.digest),
                    ));
                }
                None => {
                    return Err(HypervisorError::refused(
                        Code::BootIncomplete,
                        format!("`{}` is to be {}, and is not at hand", artifact.slot, artifact.digest),
                    ));
                }
            }
        }
        for sealed in &launch.sealed {
            covers_sealed(permit, sealed)?;
        }
        for source in &launch.blocks {
            covers_block(permit, source)?;
        }
        Ok(needed)
    }

    /// What is in a machine already: a reset or a revert runs it again.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn again(&self, permit: &BootPermit, vm: VmId, paths: &[BootPath], inside: &[Artifact]) -> Answer<()> {
        self.permit(permit, vm, paths)?;
        inside
            .iter()
            .try_for_each(|artifact| covers(permit, &artifact.slot, artifact.kind, &artifact.digest).map(|_| ()))
    }

    /// One disk or ISO image that is put into a machine that runs.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn block(&self, permit: &BootPermit, vm: VmId, path: BootPath, source: &BlockSource) -> Answer<()> {
        self.permit(permit, vm, &[path])?;
        covers_block(permit, source)
    }

    /// One card that is plugged into a machine that runs: its option ROM, where it has one.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn nic(&self, permit: &BootPermit, vm: VmId, rom: Option<&SealedArtifact>) -> Answer<()> {
        self.permit(permit, vm, &[BootPath::AttachNic])?;
        rom.map_or(Ok(()), |rom| covers_sealed(permit, rom))
    }

    /// Machine, node, path and time.
    fn permit(&self, permit: &BootPermit, vm: VmId, paths: &[BootPath]) -> Answer<()> {
        let mismatch = |what: String| Err(HypervisorError::refused(Code::BootPermitMismatch, what));
        if permit.vm() != vm {
            return mismatch(format!("the permit is for machine {}, not for {vm}", permit.vm()));
        }
        if permit.node() != self.node {
            return mismatch(format!("the permit is for node {}, and this is {}", permit.node(), self.node));
        }
        if !paths.contains(&permit.path()) {
            return mismatch(format!("the permit is for the path {:?}, and {paths:?} was taken", permit.path()));
        }
        if permit.expires_at() <= self.now {
            return Err(HypervisorError::refused(
                Code::BootPermitExpired,
                format!("the permit for machine {vm} ended at {}", permit.expires_at()),
            ));
        }
        Ok(())
    }
}

/// What a description is made of: each place, what is in it, and its digest.
pub fn needed(spec: &VmSpec) -> Vec<Artifact> {
    let mut found = Vec::new();
    let mut add = |slot: String, kind, digest: &Digest| found.push(Artifact { slot, kind, digest: digest.clone() });
    if let Some(direct) = &spec.kernel {
        add("kernel".to_owned(), ArtifactKind::Kernel, &direct.kernel);
        if let Some(initrd) = &direct.initrd {
            add("initrd".to_owned(), ArtifactKind::Initrd, initrd);
        }
    }
    if let Some(firmware) = &spec.firmware {
        add("firmware".to_owned(), ArtifactKind::Firmware, &firmware.code);
        if let Some(vars) = &firmware.vars_template {
            add("firmware-vars".to_owned(), ArtifactKind::Firmware, vars);
        }
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        add(format!("disk{index}"), ArtifactKind::Disk, &disk.image);
    }
    for (index, iso) in spec.isos.iter().enumerate() {
        add(format!("iso{index}"), ArtifactKind::Iso, &iso.image);
    }
    for (index, nic) in spec.nics.iter().enumerate() {
        if let Some(rom) = &nic.option_rom {
            add(format!("nic{index}"), ArtifactKind::OptionRom, rom);
        }
    }
    found
}

/// The bounds of a description, which decide how many places a machine has.
fn bounded(spec: &VmSpec) -> Answer<()> {
    let too_many = |what: &str, count: u64, limit: u64| {
        Err(HypervisorError::refused(
            Code::InputTooLarge,
            format!("machine `{}` wants {count} {what}, and {limit} is the limit", spec.name),
        ))
    };
    let lists = [
        ("disks", spec.disks.len(), limits::MACHINE_DISKS),
        ("ISO images", spec.isos.len(), limits::MACHINE_ISOS),
        ("network cards", spec.nics.len(), limits::MACHINE_NICS),
        (
            "bytes of kernel command line",
            spec.kernel.as_ref().map_or(0, |direct| direct.cmdline.len()),
            limits::KERNEL_COMMAND_LINE_BYTES,
        ),
    ];
    for (what, count, limit) in lists {
        if count > limit {
            return too_many(what, count as u64, limit as u64);
        }
    }
    if spec.cpus > limits::MACHINE_CPUS {
        return too_many("processors", spec.cpus.into(), limits::MACHINE_CPUS.into());
    }
    if spec.memory_mib > limits::MACHINE_MEMORY_MIB {
        return too_many("MiB of memory", spec.memory_mib, limits::MACHINE_MEMORY_MIB);
    }
    let malformed = |what: &str| Err(HypervisorError::refused(Code::MachineMalformed, what.to_owned()));
    if spec.cpus == 0 || spec.memory_mib == 0 {
        return malformed("a machine has at least one processor and one MiB of memory");
    }
    if spec.kernel.as_ref().is_some_and(|direct| direct.cmdline.contains(['\0', '\n'])) {
        return malformed("a kernel command line is one line");
    }
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if spec.name.is_empty() || spec.name.len() > 63 || !spec.name.bytes().all(label) || spec.name.starts_with('-') {
        return malformed("a machine's name has 1 to 63 lower-case letters, digits and hyphens");
    }
    if spec.netboot && spec.nics.iter().all(|nic| nic.option_rom.is_none()) {
        return malformed("a machine that boots from the network has a card with an option ROM");
    }
    if spec.firmware.as_ref().is_some_and(|firmware| firmware.secure_boot && firmware.vars_template.is_none()) {
        return malformed("Secure Boot needs a template of variables with enrolled keys");
    }
    spec.nics.iter().try_for_each(nic_form)
}

/// The form of a card: what of it becomes a name or an address on the host.
///
/// # Errors
/// A refusal with `machine-malformed`.
pub fn nic_form(nic: &Nic) -> Answer<()> {
    let malformed = |what: String| Err(HypervisorError::refused(Code::MachineMalformed, what));
    if let Some(mac) = &nic.mac {
        let parts: Vec<&str> = mac.split(':').collect();
        let octet = |part: &&str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
        let multicast = |part: &&str| u8::from_str_radix(part, 16).is_ok_and(|first| first & 1 == 1);
        if parts.len() != 6 || !parts.iter().all(octet) || parts.first().is_some_and(multicast) {
            return malformed(format!("`{mac}` is no address of a network card"));
        }
    }
    if let Network::Bridge { bridge } = &nic.network {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if bridge.is_empty() || bridge.len() > 15 || !bridge.bytes().all(fits) || bridge.starts_with(['-', '.']) {
            return malformed(format!("`{bridge}` is no name of a bridge"));
        }
    }
    Ok(())
}

fn covers(permit: &BootPermit, slot: &str, kind: ArtifactKind, digest: &Digest) -> Answer<Option<Digest>> {
    permit.covers(slot, kind, digest).map(|artifact| artifact.tree_root.clone()).ok_or_else(|| {
        HypervisorError::refused(
            Code::BootUncovered,
            format!("the permit does not cover {} {digest} in `{slot}` of machine {}", kind.name(), permit.vm()),
        )
    })
}

fn covers_sealed(permit: &BootPermit, sealed: &SealedArtifact) -> Answer<()> {
    if !sealed.is_sealed() {
        return Err(HypervisorError::refused(
            Code::BootUnsealed,
            format!("`{}` of machine {} is in memory that could still be changed", sealed.slot(), permit.vm()),
        ));
    }
    covers(permit, sealed.slot(), sealed.kind(), sealed.digest()).map(|_| ())
}

/// A block server proves blocks by a tree: it must be the tree of the artifact that was decided about.
fn covers_block(permit: &BootPermit, source: &BlockSource) -> Answer<()> {
    let root = covers(permit, &source.slot, source.kind, &source.digest)?;
    if root != source.tree_root {
        return Err(HypervisorError::refused(
            Code::BootUncovered,
            format!(
                "`{}` of machine {} is read against another Merkle tree than the permit's",
                source.slot,
                permit.vm()
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::node::hypervisor::launch::ImageFormat;
    use crate::release::admit::BootArtifact;
    use crate::types::vm::{DirectKernel, Disk, Firmware, Iso, RestartPolicy};

    const GATE: Gate<'_> = Gate { node: "test", now: Timestamp::UNIX_EPOCH };

    fn vm() -> VmId {
        VmId::new(uuid::Uuid::from_u128(7))
    }

    fn sealed(slot: &str, kind: ArtifactKind) -> SealedArtifact {
        SealedArtifact::copy(slot, kind, slot.as_bytes(), 1024).unwrap()
    }

    fn block(slot: &str, kind: ArtifactKind) -> BlockSource {
        BlockSource {
            slot: slot.to_owned(),
            kind,
            digest: Digest::sha256(slot.as_bytes()),
            tree_root: Some(Digest::sha256(format!("tree of {slot}").as_bytes())),
            bytes: 512,
            virtual_bytes: 512,
            format: ImageFormat::Raw,
            socket: PathBuf::from("/nowhere"),
        }
    }

    /// A machine with one artifact of each kind, and its slots.
    fn launch() -> Launch {
        let sealed = vec![
            sealed("kernel", ArtifactKind::Kernel),
            sealed("initrd", ArtifactKind::Initrd),
            sealed("firmware", ArtifactKind::Firmware),
            sealed("nic0", ArtifactKind::OptionRom),
        ];
        let digest = |slot: &str| Digest::sha256(slot.as_bytes());
        let spec = VmSpec {
            name: "all".to_owned(),
            cpus: 1,
            memory_mib: 64,
            kernel: Some(DirectKernel {
                kernel: digest("kernel"),
                initrd: Some(digest("initrd")),
                cmdline: String::new(),
            }),
            firmware: Some(Firmware { code: digest("firmware"), vars_template: None, secure_boot: false }),
            disks: vec![Disk { image: digest("disk0"), size_bytes: None, read_only: false }],
            isos: vec![Iso { image: digest("iso0") }],
            nics: vec![Nic { network: Network::User, mac: None, option_rom: Some(digest("nic0")) }],
            vtpm: false,
            autostart: false,
            restart: RestartPolicy::Never,
            cpu_limit_percent: None,
            netboot: true,
        };
        let blocks = vec![block("disk0", ArtifactKind::Disk), block("iso0", ArtifactKind::Iso)];
        Launch { vm: vm(), spec, sealed, blocks, paused: false }
    }

    fn covered(launch: &Launch) -> Vec<BootArtifact> {
        let root = |slot: &str| launch.block(slot).and_then(|source| source.tree_root.clone());
        let artifact = |artifact: Artifact| BootArtifact {
            tree_root: root(&artifact.slot),
            slot: artifact.slot,
            kind: artifact.kind,
            digest: artifact.digest,
            bytes: 512,
        };
        needed(&launch.spec).into_iter().map(artifact).collect()
    }

    fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Code {
        answer.unwrap_err().reason().unwrap().code.known().unwrap()
    }

    #[test]
    fn each_kind_of_artifact_is_asked_about_by_each_path() {
        let launch = launch();
        assert_eq!(covered(&launch).len(), ArtifactKind::ALL.len());
        for path in BootPath::ALL {
            let sound = BootPermit::for_tests(vm(), path, covered(&launch));
            GATE.launch(&sound, &launch, &[path]).unwrap();
            for kind in ArtifactKind::ALL {
                // Everything else is covered, and this kind by another digest, or not at all.
                let mut other = covered(&launch);
                let artifact = other.iter_mut().find(|artifact| artifact.kind == kind).unwrap();
                artifact.digest = Digest::sha256(b"tampered");
                let less: Vec<BootArtifact> =
                    covered(&launch).into_iter().filter(|artifact| artifact.kind != kind).collect();
                for artifacts in [other, less] {
                    let permit = BootPermit::for_tests(vm(), path, artifacts);
                    assert_eq!(code(GATE.launch(&permit, &launch, &[path])), Code::BootUncovered, "{path:?} {kind:?}");
                    let inside = needed(&launch.spec);
                    assert_eq!(code(GATE.again(&permit, vm(), &[path], &inside)), Code::BootUncovered);
                }
            }
        }
    }

    #[test]
    fn what_is_at_hand_must_be_what_the_description_names() {
        let sound = launch();
        let permit = || BootPermit::for_tests(vm(), BootPath::Start, covered(&sound));
        let ask = |launch: &Launch| code(GATE.launch(&permit(), launch, STARTS));
        for slot in ["kernel", "initrd", "firmware", "nic0", "disk0", "iso0"] {
            let mut without = launch();
            without.sealed.retain(|sealed| sealed.slot() != slot);
            without.blocks.retain(|block| block.slot != slot);
            assert_eq!(ask(&without), Code::BootIncomplete, "{slot} is missing");
        }
        let mut surplus = launch();
        surplus.sealed.push(sealed("nic1", ArtifactKind::OptionRom));
        assert_eq!(ask(&surplus), Code::BootIncomplete);
        let mut twice = launch();
        twice.sealed.push(sealed("kernel", ArtifactKind::Kernel));
        assert_eq!(ask(&twice), Code::BootIncomplete);
        let mut swapped = launch();
        swapped.sealed[0] = SealedArtifact::copy("kernel", ArtifactKind::Kernel, &b"other"[..], 1024).unwrap();
        assert_eq!(ask(&swapped), Code::BootIncomplete);
        let mut tree = launch();
        tree.blocks[0].tree_root = Some(Digest::sha256(b"a tree over other blocks"));
        assert_eq!(ask(&tree), Code::BootUncovered);
    }

    #[test]
    fn a_permit_of_another_machine_node_path_or_time_is_none() {
        let launch = launch();
        let permit = |path| BootPermit::for_tests(vm(), path, covered(&launch));
        assert_eq!(code(GATE.launch(&permit(BootPath::Create), &launch, STARTS)), Code::BootPermitMismatch);
        let elsewhere = Gate { node: "other", ..GATE };
        assert_eq!(code(elsewhere.launch(&permit(BootPath::Start), &launch, STARTS)), Code::BootPermitMismatch);
        let late = Gate { now: Timestamp::MAX, ..GATE };
        assert_eq!(code(late.launch(&permit(BootPath::Start), &launch, STARTS)), Code::BootPermitExpired);
        let other = Launch { vm: VmId::new(uuid::Uuid::from_u128(8)), ..launch.clone() };
        assert_eq!(code(GATE.launch(&permit(BootPath::Start), &other, STARTS)), Code::BootPermitMismatch);
    }

    #[test]
    fn a_description_that_would_become_an_option_or_a_path_is_refused() {
        let base = launch();
        let permit = BootPermit::for_tests(vm(), BootPath::Start, covered(&base));
        type Change = fn(&mut VmSpec);
        let changes: [(Change, Code); 9] = [
            (|spec| spec.name = "a,b".to_owned(), Code::MachineMalformed),
            (|spec| spec.name = "-a".to_owned(), Code::MachineMalformed),
            (|spec| spec.cpus = 0, Code::MachineMalformed),
            (|spec| spec.cpus = 256, Code::InputTooLarge),
            (|spec| spec.nics[0].mac = Some("01:00:5e:00:00:01".to_owned()), Code::MachineMalformed),
            (|spec| spec.nics[0].mac = Some("52:54:00:12:34:56,x=y".to_owned()), Code::MachineMalformed),
            (|spec| spec.nics[0].network = Network::Bridge { bridge: "../br0".to_owned() }, Code::MachineMalformed),
            (|spec| spec.isos = vec![spec.isos[0].clone(); 5], Code::InputTooLarge),
            (|spec| spec.kernel.as_mut().unwrap().cmdline = "a\nb".to_owned(), Code::MachineMalformed),
        ];
        for (change, expected) in changes {
            let mut launch = launch();
            change(&mut launch.spec);
            assert_eq!(code(GATE.launch(&permit, &launch, STARTS)), expected, "{:?}", launch.spec);
        }
    }
}
