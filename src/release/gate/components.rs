//! What a release must consist of, and what it does consist of, in; what is missing, too much, empty, too large or of
//! another kind out (docs/how-to/components.md).
//!
//! This asks whether a release is whole, before anybody asks whether it is honest: nothing here is proved.
//! Invariant: no I/O. Content is handed in as far as a component's kind asks for it.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use crate::release::evidence::checksums::ChecksumList;
use crate::release::evidence::document::{self, Document};
use crate::release::evidence::openpgp::DetachedSignatures;
use crate::release::evidence::{bundle, json};
use crate::types::{Code, Reason, limits};

/// What a release must consist of.
#[derive(Debug)]
pub struct Manifest {
    components: Vec<Component>,
    extra: Extra,
}

/// What is done about files that no component names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Extra {
    Allow,
    Deny,
}

/// A file or several of one purpose.
#[derive(Debug)]
struct Component {
    written: Written,
    pattern: Regex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "deny")]
    extra: Extra,
    #[serde(rename = "component")]
    components: Vec<Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    /// A file's name; `*` is anything within one part of a path, `**` anything at all, `?` one character.
    name: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default = "one")]
    min: u64,
    max: Option<u64>,
    max_bytes: Option<u64>,
}

/// What a file's content must be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anything that is not empty.
    #[default]
    File,
    /// tar, tar.gz, tar.zst, tar.xz, tar.bz2 or zip, by its first bytes.
    Archive,
    /// An ELF or Windows program, or a script that names its interpreter.
    Program,
    /// CycloneDX or SPDX in JSON.
    Sbom,
    /// OpenVEX, CycloneDX or CSAF in JSON.
    Vex,
    /// Sigstore bundles.
    Bundle,
    /// A list of checksums.
    Checksums,
    /// Detached OpenPGP signatures.
    Signature,
}

const fn deny() -> Extra {
    Extra::Deny
}

const fn one() -> u64 {
    1
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its name, relative to the release.
    pub name: String,
    /// Its length in bytes, where it is known: a list of names does not tell.
    pub bytes: Option<u64>,
}

/// How a file is read: at most so many bytes from its beginning; nothing where there is only its name.
pub type Content<'a> = dyn Fn(&Present, u64) -> Option<Result<Vec<u8>, Reason>> + 'a;

impl Manifest {
    /// Reads a manifest, in JSON where it begins with `{`, else in TOML.
    ///
    /// # Errors
    /// Where it is none, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = if text.trim_start().starts_with('{') {
            json::parse(text.as_bytes(), Code::MalformedJson).map_err(|reason| reason.message)?
        } else {
            toml::from_str(text).map_err(|error| error.message().to_owned())?
        };
        if file.components.is_empty() || file.components.len() > limits::RELEASE_COMPONENTS {
            return Err(format!("it must name 1 to {} components", limits::RELEASE_COMPONENTS));
        }
        let components = file.components.into_iter().map(Component::new).collect::<Result<_, _>>()?;
        Ok(Self { components, extra: file.extra })
    }
}

impl Component {
    fn new(written: Written) -> Result<Self, String> {
        let name = &written.name;
        if name.is_empty() || name.len() > limits::ARCHIVE_NAME_BYTES {
            return Err("a component's name is empty or too long".to_owned());
        }
        if written.max.is_some_and(|max| max < written.min) {
            return Err(format!("of {name} there may be fewer than there must be"));
        }
        let escaped = regex::escape(name)
            .replace(r"\*\*/", "(?:.*/)?")
            .replace(r"\*\*", ".*")
            .replace(r"\*", "[^/]*")
            .replace(r"\?", "[^/]");
        let pattern = Regex::new(&format!("^(?:{escaped})$")).map_err(|_| format!("{name} is no pattern"))?;
        Ok(Self { written, pattern })
    }
}

/// Holds the files that are there against the manifest. A file belongs to the first component that names it.
/// Returned are the reasons, and how many files each component has, by its name.
pub fn check(manifest: &Manifest, files: &[Present], content: &Content<'_>) -> (Vec<Reason>, BTreeMap<String, u64>) {
    let mut reasons = Vec::new();
    let mut counts = vec![0_u64; manifest.components.len()];
    for file in files {
        let found = manifest.components.iter().zip(&mut counts).find(|(one, _)| one.pattern.is_match(&file.name));
        match found {
            Some((component, count)) => {
                *count = count.saturating_add(1);
                reasons.extend(component.judge(file, content).map(|reason| reason.subject(&file.name)));
            }
            None if manifest.extra == Extra::Deny => {
                let message = format!("no component of the manifest is named {}", file.name);
                reasons.push(Reason::new(Code::ComponentExtra, message).subject(&file.name));
            }
            None => {}
        }
    }
    let mut told = BTreeMap::new();
    for (Component { written, .. }, count) in manifest.components.iter().zip(counts) {
        if count < written.min {
            let message = format!("{} {}; there must be {}", written.name, times(count), written.min);
            reasons.push(Reason::new(Code::ComponentMissing, message).location(&written.name));
        }
        if let Some(max) = written.max.filter(|max| count > *max) {
            let message = format!("{} {}; there may be {max}", written.name, times(count));
            reasons.push(Reason::new(Code::ComponentExtra, message).location(&written.name));
        }
        told.insert(written.name.clone(), count);
    }
    (reasons, told)
}

fn times(count: u64) -> String {
    match count {
        0 => "is not there".to_owned(),
        1 => "is there once".to_owned(),
        _ => format!("is there {count} times"),
    }
}

impl Component {
    fn judge(&self, file: &Present, content: &Content<'_>) -> Option<Reason> {
        let Present { name, bytes } = file;
        if *bytes == Some(0) {
            return Some(Reason::new(Code::ComponentEmpty, format!("{name} is empty")));
        }
        match (self.written.max_bytes, bytes) {
            (Some(max), Some(bytes)) if *bytes > max => {
                let message = format!("{name} has {bytes} bytes; it may have {max}");
                return Some(Reason::new(Code::ComponentTooLarge, message));
            }
            (Some(_), None) => return Some(unknown(name, "how large")),
            _ => {}
        }
        let most = match self.written.kind {
            Kind::File => return None,
            Kind::Archive | Kind::Program => HEAD_BYTES,
            Kind::Sbom | Kind::Vex | Kind::Bundle | Kind::Checksums | Kind::Signature => limits::EVIDENCE_BYTES,
        };
        match content(file, most) {
            None => Some(unknown(name, "of what kind")),
            Some(Err(reason)) => Some(reason),
            Some(Ok(bytes)) => self
                .written
                .kind
                .refuses(name, &bytes)
                .map(|why| Reason::new(Code::ComponentKind, format!("{name} is not what the manifest says: {why}"))),
        }
    }
}

fn unknown(name: &str, what: &str) -> Reason {
    Reason::new(Code::EvidenceMissing, format!("nobody can tell {what} {name} is: only its name is known"))
        .hint("name the directory that holds the release, instead of a list")
}

/// Where tar writes that it is tar (POSIX, ustar interchange format).
const TAR_MAGIC_AT: usize = 257;
/// What is read to see whether a file is an archive or a program.
const HEAD_BYTES: u64 = 512;

impl Kind {
    /// Why this content is of another kind.
    fn refuses(self, name: &str, bytes: &[u8]) -> Option<String> {
        let begins = |magics: &[&[u8]]| magics.iter().any(|magic| bytes.starts_with(magic));
        match self {
            Self::File => None,
            Self::Archive => {
                let is_tar = bytes.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
                let packed: [&[u8]; 6] =
                    [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"PK\x03\x04", b"PK\x05\x06", b"\xfd7zXZ\0", b"BZh"];
                (!is_tar && !begins(&packed)).then(|| "it is no archive".to_owned())
            }
            Self::Program => (!begins(&[b"\x7fELF", b"MZ", b"#!"])).then(|| "it is no program".to_owned()),
            Self::Sbom => Document::parse(document::Kind::Sbom, bytes).err().map(|reason| reason.message),
            Self::Vex => Document::parse(document::Kind::Vex, bytes).err().map(|reason| reason.message),
            Self::Bundle => bundle::parse_file(bytes).err().map(|reason| reason.message),
            Self::Checksums => ChecksumList::parse(bytes, name).err().map(|reasons| {
                reasons.into_iter().next().map_or_else(|| "it is no list".to_owned(), |reason| reason.message)
            }),
            Self::Signature => DetachedSignatures::parse(bytes).err().map(|reason| reason.message),
        }
    }
}
