//! An image's first bytes and its name in; what it is to a machine out. A guess, for the sake of policies that tell
//! kinds apart: what a machine does with an artifact, its description and its ticket say.

use std::io::{self, Read, Seek, SeekFrom};

use crate::release::evidence::disk::{self, DiskHeader, Format};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Reason};

/// Reads `--kind`.
pub(in crate::cli) fn parse(text: &str) -> Result<ArtifactKind, String> {
    ArtifactKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let names: Vec<&str> = ArtifactKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("`{text}` is none of {}", names.join(", "))
    })
}

/// What this is, and what is said of its header as a disk's.
pub(super) fn of<R: Read + Seek>(image: &mut R, name: &str) -> io::Result<(ArtifactKind, Result<DiskHeader, Reason>)> {
    let mut start = Vec::new();
    image.seek(SeekFrom::Start(0))?;
    image.by_ref().take(START_BYTES).read_to_end(&mut start)?;
    let header = disk::inspect(image, &disk::Limits::default());
    let kind = match &header {
        Ok(DiskHeader { format: Format::Qcow2, .. }) | Err(_) => ArtifactKind::Disk,
        Ok(DiskHeader { format: Format::Iso9660, .. }) => ArtifactKind::Iso,
        Ok(DiskHeader { format: Format::Raw, .. }) => by_start(&start).unwrap_or_else(|| by_name(name)),
    };
    Ok((kind, header))
}

/// Why an image of this kind must not be opened, by its header. What is loaded whole is no disk and has none.
pub(super) fn against_header(kind: ArtifactKind, header: Result<DiskHeader, Reason>) -> Option<Reason> {
    match (kind, header) {
        (kind, _) if !kind.is_block_device() => None,
        (_, Err(reason)) => Some(reason),
        (ArtifactKind::Iso, Ok(DiskHeader { format: Format::Qcow2, .. })) => {
            Some(Reason::new(Code::DiskUnsupported, "an ISO image is read as it stands, and this is a qcow2"))
        }
        _ => None,
    }
}

const START_BYTES: u64 = 1024;

fn by_start(start: &[u8]) -> Option<ArtifactKind> {
    let is_at = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    // Linux, Documentation/arch/x86/boot.rst and arm64/booting.rst.
    if is_at(0x202, b"HdrS") || is_at(0x38, b"ARM\x64") {
        return Some(ArtifactKind::Kernel);
    }
    // cpio, bare or under one of the compressions that Linux unpacks.
    let archives: [&[u8]; 6] =
        [b"070701", b"070702", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x02\x21\x4c\x18"];
    if archives.iter().any(|magic| is_at(0, magic)) {
        return Some(ArtifactKind::Initrd);
    }
    // A firmware volume (UEFI PI, volume 3) names itself behind its reset vector and GUID.
    if is_at(0x28, b"_FVH") {
        return Some(ArtifactKind::Firmware);
    }
    // A PCI expansion ROM (PCI firmware specification).
    is_at(0, &[0x55, 0xaa]).then_some(ArtifactKind::OptionRom)
}

fn by_name(name: &str) -> ArtifactKind {
    let name = name.to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    let ends = |words: &[&str]| words.iter().any(|word| name.ends_with(word));
    if begins(&["vmlinu", "bzimage", "kernel"]) {
        ArtifactKind::Kernel
    } else if begins(&["initr"]) {
        ArtifactKind::Initrd
    } else if begins(&["ovmf", "aavmf", "edk2"]) || ends(&[".fd"]) {
        ArtifactKind::Firmware
    } else if ends(&[".rom", ".efirom"]) {
        ArtifactKind::OptionRom
    } else if ends(&[".iso"]) {
        ArtifactKind::Iso
    } else {
        ArtifactKind::Disk
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn with(at: usize, magic: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 1024];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        bytes
    }

    #[test]
    fn an_image_is_known_by_its_content_and_else_by_its_name() {
        for (bytes, name, kind) in [
            (with(0x202, b"HdrS"), "disk.img", ArtifactKind::Kernel),
            (with(0, b"070701"), "disk.img", ArtifactKind::Initrd),
            (with(0x28, b"_FVH"), "disk.img", ArtifactKind::Firmware),
            (with(0, &[0x55, 0xaa]), "disk.img", ArtifactKind::OptionRom),
            (with(16 * 2048 + 1, b"CD001"), "disk.img", ArtifactKind::Iso),
            (with(510, &[0x55, 0xaa]), "disk.img", ArtifactKind::Disk),
            (with(0, b""), "vmlinuz-6.1", ArtifactKind::Kernel),
            (with(0, b""), "initrd.img", ArtifactKind::Initrd),
            (with(0, b""), "OVMF_CODE.fd", ArtifactKind::Firmware),
            (with(0, b""), "efi-virtio.rom", ArtifactKind::OptionRom),
            (with(0, b""), "disk.raw", ArtifactKind::Disk),
        ] {
            assert_eq!(of(&mut Cursor::new(bytes), name).unwrap().0, kind, "{name}");
        }
    }

    #[test]
    fn every_kind_has_its_word() {
        for kind in ArtifactKind::ALL {
            assert_eq!(parse(kind.name()), Ok(kind));
        }
        assert!(parse("floppy").is_err());
    }
}
