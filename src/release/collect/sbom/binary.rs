//! Programs in, what their builds wrote into them about what they are made of out: the section of cargo-auditable, and
//! Go's build information.
//!
//! Programs are looked into by their headers; the rest of a program is read only where one of the two is there.
//! Source: github.com/rust-secure-code/cargo-auditable; go.dev, debug/buildinfo.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use object::read::{Object as _, ObjectSection as _, ObjectSegment as _, ReadCache, ReadRef};
use serde::Deserialize;

use super::package::{Need, add, library};
use super::tree::{Content, Entry, folder_of, read};
use super::{Found, Scan, go, malformed};
use crate::release::evidence::sbom::model::ComponentKind;
use crate::types::{Code, Reason, limits};

/// Looks into every program.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    let is_alone = scan.entries().len() == 1;
    for entry in scan.files() {
        if entry.bytes < LEAST_BYTES || !(entry.executable || is_alone) || !is_program(scan, entry, found) {
            continue;
        }
        match look_into(scan, entry) {
            Ok(Some(told)) => told.tell(&entry.path, found),
            Ok(None) => {}
            Err(reason) => found.refuse(reason),
        }
    }
}

/// No program that holds anything is smaller.
const LEAST_BYTES: u64 = 256;

/// Whether a file begins as ELF, PE or Mach-O does.
fn is_program(scan: &Scan<'_>, entry: &Entry, found: &mut Found) -> bool {
    let mut start = [0; 4];
    let read = scan
        .tree()
        .open(&entry.path)
        .and_then(|mut file| file.read_exact(&mut start).map_err(|error| super::tree::unreadable(&entry.path, &error)));
    found.keep(read).is_some() && begins_as_program(start)
}

const fn begins_as_program(start: [u8; 4]) -> bool {
    matches!(
        start,
        [0x7f, b'E', b'L', b'F'] | [b'M', b'Z', ..] | [0xcf | 0xce, 0xfa, 0xed, 0xfe] | [0xfe, 0xed, 0xfa, 0xce | 0xcf]
    )
}

/// What a program tells of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    audit: Option<Audit>,
    go: Option<go::BuildInfo>,
}

fn look_into(scan: &Scan<'_>, entry: &Entry) -> Result<Option<Told>, Reason> {
    let path = entry.path.as_str();
    let too_large = || {
        let message = format!("the headers of {path} lead to more than {} bytes", limits::SBOM_BINARY_HEADER_BYTES);
        Reason::new(Code::InputTooLarge, message).evidence(path)
    };
    let mut content = Metered { content: scan.tree().open(path)?, left: limits::SBOM_BINARY_HEADER_BYTES };
    let cache = ReadCache::new(&mut content);
    let (has_audit, go) = match sections(&cache) {
        Ok(sections) => sections,
        Err(why) if why == TOO_MUCH => return Err(too_large()),
        // Not everything that begins like a program is one.
        Err(_) => return Ok(None),
    };
    drop(cache);
    if content.left == 0 {
        return Err(too_large());
    }
    let go = go.transpose().map_err(|why| malformed(path, format!("its Go build information is damaged: {why}")))?;
    let audit = if has_audit {
        let bytes = read(scan.tree(), path, limits::SBOM_BINARY_BYTES)?;
        Some(
            audit(&bytes)
                .map_err(|why| malformed(path, format!("its section of cargo-auditable is damaged: {why}")))?,
        )
    } else {
        None
    };
    Ok((audit.is_some() || go.is_some()).then_some(Told { audit, go }))
}

/// Looks into a program that is in memory.
///
/// # Errors
/// Where what it tells is damaged, in a sentence.
pub fn look(bytes: &[u8]) -> Result<Told, String> {
    let Ok((has_audit, go)) = sections(bytes) else { return Ok(Told::default()) };
    Ok(Told { audit: if has_audit { Some(audit(bytes)?) } else { None }, go: go.transpose()? })
}

/// The words by which a reader's end is known from damage.
const TOO_MUCH: &str = "too much";

/// What was seen in a program: whether it has the section of cargo-auditable, and Go's build information.
type Seen = (bool, Option<Result<go::BuildInfo, String>>);

fn sections<'a, R: ReadRef<'a>>(data: R) -> Result<Seen, String> {
    let file = object::File::parse(data).map_err(|error| error.to_string())?;
    if file.sections().take(limits::SBOM_BINARY_SECTIONS + 1).count() > limits::SBOM_BINARY_SECTIONS {
        return Err("it has too many sections".to_owned());
    }
    let mut has_audit = false;
    let mut go = None;
    for section in file.sections() {
        match section.name() {
            Ok(".dep-v0" | "rust-deps-v0") => has_audit = true,
            Ok(".go.buildinfo" | "__go_buildinfo") => go = Some(build_info(&file, &section)),
            // PE has no section for it: it is at the beginning of the data.
            Ok(".data") if file.format() == object::BinaryFormat::Pe && go.is_none() => {
                let start = section.data_range(section.address(), section.size().min(GO_SEARCHED_BYTES));
                if let Ok(Some(start)) = start
                    && start.chunks(GO_ALIGNMENT).any(|chunk| chunk.starts_with(GO_MAGIC))
                {
                    go = Some(build_info(&file, &section));
                }
            }
            _ => {}
        }
    }
    Ok((has_audit, go))
}

const GO_MAGIC: &[u8] = b"\xff Go buildinf:";
const GO_ALIGNMENT: usize = 16;
const GO_HEADER_BYTES: usize = 32;
const GO_SEARCHED_BYTES: u64 = 64 * 1024;

/// Reads the structure that begins with the magic (debug/buildinfo): since Go 1.18 two strings behind the header, before
/// that two addresses of strings in it.
fn build_info<'a, R: ReadRef<'a>>(
    file: &object::File<'a, R>,
    section: &object::Section<'a, '_, R>,
) -> Result<go::BuildInfo, String> {
    let length = section.size().min(limits::GO_BUILD_INFO_BYTES);
    let data = section.data_range(section.address(), length).ok().flatten().ok_or("it cannot be read")?;
    let at = data.chunks(GO_ALIGNMENT).position(|chunk| chunk.starts_with(GO_MAGIC)).ok_or("its mark is missing")?;
    let data = data.get(at * GO_ALIGNMENT..).unwrap_or_default();
    let (pointer_bytes, flags) = match data.get(14..16) {
        Some([pointer_bytes, flags]) => (usize::from(*pointer_bytes), *flags),
        _ => return Err("it is cut short".to_owned()),
    };
    let (go, modules) = if flags & 2 != 0 {
        let mut rest = data.get(GO_HEADER_BYTES..).unwrap_or_default();
        let go = counted(&mut rest).ok_or("its version is cut short")?;
        (go, counted(&mut rest).ok_or("its modules are cut short")?)
    } else {
        if !matches!(pointer_bytes, 4 | 8) {
            return Err("its addresses have no length".to_owned());
        }
        let is_big = flags & 1 != 0;
        let pointer = |at: usize| number(data.get(at..at.checked_add(pointer_bytes)?)?, is_big);
        let string = |at: usize| {
            let header = memory(file, pointer(at)?, 2 * pointer_bytes as u64)?;
            let (start, length) = header.split_at_checked(pointer_bytes)?;
            let length = number(length, is_big)?;
            if length == 0 { Some(&[][..]) } else { memory(file, number(start, is_big)?, length) }
        };
        let go = string(16).ok_or("its version is nowhere")?;
        (go, string(16 + pointer_bytes).unwrap_or_default())
    };
    // The modules stand between two marks of 16 bytes each.
    let modules = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    Ok(go::build_info(&String::from_utf8_lossy(go), &String::from_utf8_lossy(modules)))
}

/// A string with its length before it, in seven bits a byte.
fn counted<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let (text, rest) = data.split_at_checked(length)?;
            *data = rest;
            return Some(text);
        }
    }
    None
}

fn number(bytes: &[u8], is_big: bool) -> Option<u64> {
    let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    match bytes.len() {
        4 | 8 if is_big => Some(bytes.iter().fold(0, fold)),
        4 | 8 => Some(bytes.iter().rev().fold(0, fold)),
        _ => None,
    }
}

/// What is at an address when the program runs.
fn memory<'a, R: ReadRef<'a>>(file: &object::File<'a, R>, address: u64, length: u64) -> Option<&'a [u8]> {
    if length > limits::GO_BUILD_INFO_BYTES {
        return None;
    }
    file.segments().find_map(|segment| segment.data_range(address, length).ok().flatten())
}

/// What cargo-auditable wrote into a program (its `cargo-auditable.schema.json`).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Audit {
    packages: Vec<Crate>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Crate {
    name: String,
    version: String,
    source: String,
    kind: Option<String>,
    dependencies: Vec<usize>,
    root: bool,
}

fn audit(bytes: &[u8]) -> Result<Audit, String> {
    let json = auditable_info::json_from_slice(bytes, limits::AUDIT_DATA_BYTES).map_err(|error| error.to_string())?;
    let audit: Audit = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    let count = audit.packages.len();
    match audit.packages.iter().all(|one| !one.name.is_empty() && one.dependencies.iter().all(|on| *on < count)) {
        true => Ok(audit),
        false => Err("a crate has no name, or depends on one that is not there".to_owned()),
    }
}

impl Told {
    fn tell(&self, path: &str, found: &mut Found) {
        if let Some(info) = &self.go {
            go::program(path, info, found);
        }
        let Some(audit) = &self.audit else { return };
        let ids: Vec<String> = audit
            .packages
            .iter()
            .map(|one| {
                let mut component = library("cargo", None, &one.name, Some(&one.version), &[]);
                if one.source == "local" {
                    component.id = format!("path+{}", component.id);
                }
                let id = component.id.clone();
                if one.root {
                    component.kind = ComponentKind::Application;
                    found.needed(folder_of(path), &id);
                    found.add_at(component, path);
                } else {
                    let is_build = one.kind.as_deref() == Some("build");
                    add(found, component, Some(if is_build { Need::Build } else { Need::Runtime }), path);
                }
                found.knows_dependencies(&id);
                id
            })
            .collect();
        let by_place: BTreeMap<usize, &String> = ids.iter().enumerate().collect();
        for (one, id) in audit.packages.iter().zip(&ids) {
            one.dependencies.iter().filter_map(|on| by_place.get(on)).for_each(|on| found.depends(id, on));
        }
    }
}

/// A reader that ends when too much was read: headers that point everywhere would have everything be kept.
struct Metered<'a> {
    content: Box<dyn Content + 'a>,
    left: u64,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0 { Err(io::Error::other(TOO_MUCH)) } else { Ok(count) }
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}
