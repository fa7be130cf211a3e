//! The neutral model of a bill of materials: what CycloneDX and SPDX both say, in one form.
//!
//! Readers (`cyclonedx`, `spdx`) produce it and generators fill it; comparing, scoring, counting and
//! policies work on it alone. Policies see its JSON form as `input.sbom` (docs/reference/sbom.md), so a field's
//! name is a promise. What never happens here: parsing, and any judgment whether a document is a good one.
//!
//! To generate: fill [`Sbom::described`] with the artifact, [`Sbom::components`] with everything inside it, give every
//! component an [`Component::id`] of its own, and say in [`Sbom::dependencies`] who needs whom. The maps and sets are
//! ordered, so a writer that walks them in order is deterministic; [`Sbom::sort`] brings the lists into an order that
//! depends on their content alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::types::{Digest, DigestAlgorithm};

/// A bill of materials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sbom {
    /// The format that it was read from; nothing for one that was just made.
    pub format: Option<Format>,
    /// What names this document among all: CycloneDX's `serialNumber`, SPDX 2's `documentNamespace`, SPDX 3's IRI.
    pub serial: Option<String>,
    /// The document's revision, where the format counts them (CycloneDX `version`).
    pub revision: Option<u64>,
    /// The document's own name (SPDX `name`).
    pub name: Option<String>,
    /// Who made the document, when and with what.
    pub metadata: Metadata,
    /// What the document is about: CycloneDX's `metadata.component`, SPDX's described packages. Mostly one.
    pub described: Vec<Component>,
    /// Everything else, flat: nesting is told by [`Sbom::contains`].
    pub components: Vec<Component>,
    /// Who depends on whom, by [`Component::id`]. An entry with an empty set says that nothing is depended on;
    /// a component without an entry says nothing about it.
    pub dependencies: BTreeMap<String, BTreeSet<String>>,
    /// What is inside what, by [`Component::id`]: nested components, SPDX's CONTAINS.
    pub contains: BTreeMap<String, BTreeSet<String>>,
    /// Licences outside the SPDX list that the document defines itself, by their `LicenseRef-…`.
    pub custom_licenses: BTreeMap<String, CustomLicense>,
    /// The signature that the document carries inside (CycloneDX, JSF). Nobody has verified it.
    pub signature: Option<EnvelopedSignature>,
}

impl Sbom {
    /// The described components, then all others.
    pub fn all(&self) -> impl Iterator<Item = &Component> {
        self.described.iter().chain(&self.components)
    }

    /// The components without those that are single files: what counts and what is compared.
    pub fn packages(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|component| component.kind != ComponentKind::File)
    }

    /// Says that `of` depends on `on`.
    pub fn add_dependency(&mut self, of: &str, on: &str) {
        self.dependencies.entry(of.to_owned()).or_default().insert(on.to_owned());
    }

    /// Says that `inner` is a part of `outer`.
    pub fn add_part(&mut self, outer: &str, inner: &str) {
        self.contains.entry(outer.to_owned()).or_default().insert(inner.to_owned());
    }

    /// Brings every list into an order that depends on its content alone, so that equal documents are equal bytes.
    pub fn sort(&mut self) {
        for component in self.described.iter_mut().chain(&mut self.components) {
            component.hashes.sort();
            component.hashes.dedup();
            component.licenses.sort();
            component.licenses.dedup();
            component.references.sort();
            component.references.dedup();
            component.identifiers.sort();
            component.identifiers.dedup();
            component.properties.sort();
        }
        let order = |a: &Component, b: &Component| {
            (&a.purl, &a.group, &a.name, &a.version, &a.id).cmp(&(&b.purl, &b.group, &b.name, &b.version, &b.id))
        };
        self.described.sort_by(order);
        self.components.sort_by(order);
        self.metadata.tools.sort();
        self.metadata.authors.sort();
    }
}

/// A document's format and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Format {
    /// Which of the two.
    pub family: Family,
    /// The version as the document states it: `1.6`, `2.3`, `3.0.1`.
    pub version: String,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::CycloneDx => "CycloneDX",
            Family::Spdx => "SPDX",
        };
        write!(f, "{family} {}", self.version)
    }
}

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// CycloneDX (ECMA-424).
    CycloneDx,
    /// SPDX (ISO/IEC 5962).
    Spdx,
}

/// Who made a document, when and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// When the document was made; nothing where it does not say, or says no time that exists.
    pub timestamp: Option<Timestamp>,
    /// The people and organisations that made it.
    pub authors: Vec<Party>,
    /// The programs that made it.
    pub tools: Vec<Tool>,
    /// Who supplies what the document describes.
    pub supplier: Option<Party>,
    /// The licence of the document itself, as an expression (SPDX `dataLicense`).
    pub data_license: Option<String>,
    /// At which points of its life the artifact was looked at: `build`, `pre-build`, …
    pub lifecycles: Vec<String>,
}

/// A person or an organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Party {
    /// Which of the two, where that is known.
    pub kind: PartyKind,
    /// The name.
    pub name: Option<String>,
    /// An email address.
    pub email: Option<String>,
    /// A web address.
    pub url: Option<String>,
}

impl Party {
    /// An organisation of this name.
    pub fn organization(name: impl Into<String>) -> Self {
        Self { kind: PartyKind::Organization, name: Some(name.into()), ..Self::default() }
    }

    /// A person of this name.
    pub fn person(name: impl Into<String>) -> Self {
        Self { kind: PartyKind::Person, name: Some(name.into()), ..Self::default() }
    }

    /// Whether it says anything at all: a name or a way to reach them.
    pub const fn is_told(&self) -> bool {
        self.name.is_some() || self.email.is_some() || self.url.is_some()
    }
}

/// What a [`Party`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartyKind {
    /// A company, a project, a foundation.
    #[default]
    Organization,
    /// One human being.
    Person,
}

/// A program that made a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Tool {
    /// Who makes the program.
    pub vendor: Option<String>,
    /// Its name.
    pub name: String,
    /// Its version; SPDX 2 runs name and version together, and then both are in the name.
    pub version: Option<String>,
}

/// One component, package or file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Component {
    /// What names it inside the document, and nowhere else: CycloneDX's `bom-ref`, SPDX's id.
    /// A reader gives a component without one an id that starts with `#`, which no reference can name.
    pub id: String,
    /// What it is.
    pub kind: ComponentKind,
    /// The namespace: a Maven group, an npm scope.
    pub group: Option<String>,
    /// The name.
    pub name: String,
    /// The version.
    pub version: Option<String>,
    /// The package URL as it was written; `sbom::purl` normalises.
    pub purl: Option<String>,
    /// CPEs, SWID tags, further package URLs and the like.
    pub identifiers: Vec<Identifier>,
    /// Digests of the component as it was delivered.
    pub hashes: Vec<Hash>,
    /// The licences. Several that stand beside each other all hold.
    pub licenses: Vec<License>,
    /// Who supplies it.
    pub supplier: Option<Party>,
    /// Who made it: manufacturer, authors, publisher, originator.
    pub authors: Vec<Party>,
    /// The copyright notice.
    pub copyright: Option<String>,
    /// What it is for, in a sentence.
    pub description: Option<String>,
    /// Whether it is there when the artifact runs.
    pub scope: Option<Scope>,
    /// Addresses: where it is downloaded from, its repository, its pages.
    pub references: Vec<ExternalReference>,
    /// Whatever else is said, as names and values.
    pub properties: Vec<Property>,
}

impl Component {
    /// A component of this kind, id and name.
    pub fn new(kind: ComponentKind, id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), kind, name: name.into(), ..Self::default() }
    }

    /// The first address of this kind.
    pub fn reference(&self, kind: &str) -> Option<&str> {
        self.references.iter().find(|reference| reference.kind == kind).map(|reference| reference.url.as_str())
    }

    /// The first property of this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|property| property.name == name).map(|property| property.value.as_str())
    }

    /// `group/name@version` as far as it is known, for messages.
    pub fn label(&self) -> String {
        if let Some(purl) = &self.purl {
            return purl.clone();
        }
        let group = self.group.as_deref().map(|group| format!("{group}/")).unwrap_or_default();
        let version = self.version.as_deref().map(|version| format!("@{version}")).unwrap_or_default();
        format!("{group}{}{version}", self.name)
    }
}

/// What a component is, by CycloneDX's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// A program.
    Application,
    /// A framework.
    Framework,
    /// A library; also what SPDX calls a package without saying more.
    #[default]
    Library,
    /// A container image.
    Container,
    /// A runtime or an emulator.
    Platform,
    /// An operating system.
    OperatingSystem,
    /// A hardware device.
    Device,
    /// A device driver.
    DeviceDriver,
    /// Firmware.
    Firmware,
    /// A single file.
    File,
    /// A machine-learning model.
    MachineLearningModel,
    /// A data set, a configuration.
    Data,
    /// An algorithm, a key, a certificate.
    CryptographicAsset,
}

impl ComponentKind {
    /// CycloneDX's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Framework => "framework",
            Self::Library => "library",
            Self::Container => "container",
            Self::Platform => "platform",
            Self::OperatingSystem => "operating-system",
            Self::Device => "device",
            Self::DeviceDriver => "device-driver",
            Self::Firmware => "firmware",
            Self::File => "file",
            Self::MachineLearningModel => "machine-learning-model",
            Self::Data => "data",
            Self::CryptographicAsset => "cryptographic-asset",
        }
    }

    /// The kind with this CycloneDX word.
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [ComponentKind; 13] = [
            ComponentKind::Application,
            ComponentKind::Framework,
            ComponentKind::Library,
            ComponentKind::Container,
            ComponentKind::Platform,
            ComponentKind::OperatingSystem,
            ComponentKind::Device,
            ComponentKind::DeviceDriver,
            ComponentKind::Firmware,
            ComponentKind::File,
            ComponentKind::MachineLearningModel,
            ComponentKind::Data,
            ComponentKind::CryptographicAsset,
        ];
        ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Another name of a component, in somebody's scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Identifier {
    /// The scheme: `cpe`, `swid`, `purl`, `gitoid`, `swhid`, or what the document calls it.
    pub kind: String,
    /// The name in it.
    pub value: String,
}

/// A digest of a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hash {
    /// The algorithm.
    pub algorithm: HashAlgorithm,
    /// Hexadecimal in lower case. A reader keeps what it finds, well-formed or not: [`Hash::is_well_formed`].
    pub value: String,
}

impl Hash {
    /// A hash as a document writes it; upper-case digits become lower-case ones.
    pub fn new(algorithm: HashAlgorithm, value: &str) -> Self {
        Self { algorithm, value: value.to_ascii_lowercase() }
    }

    /// Whether it is hexadecimal and as long as its algorithm makes it.
    pub fn is_well_formed(&self) -> bool {
        let length_fits = self.algorithm.length_bytes().is_none_or(|bytes| self.value.len() == 2 * bytes);
        length_fits && !self.value.is_empty() && self.value.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// The digest, where the algorithm is one that may bind an artifact (SHA-256, SHA-384, SHA-512).
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(self.algorithm.binding()?, &self.value).ok()
    }
}

impl From<&Digest> for Hash {
    fn from(digest: &Digest) -> Self {
        let algorithm = match digest.algorithm() {
            DigestAlgorithm::Sha256 => HashAlgorithm::Sha256,
            DigestAlgorithm::Sha384 => HashAlgorithm::Sha384,
            DigestAlgorithm::Sha512 => HashAlgorithm::Sha512,
        };
        Self { algorithm, value: digest.to_hex() }
    }
}

/// The algorithms that the formats know. Few of them bind: [`HashAlgorithm::binding`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// MD2 to MD6 and Adler-32: checksums against accidents.
    Weak(&'static str, Option<usize>),
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-3, BLAKE and Streebog: strong, and not among those that bind an artifact here.
    Strong(&'static str, Option<usize>),
    /// A name that neither format knows.
    Other(String),
}

/// CycloneDX's name, SPDX 2's name, length in bytes, strength.
const ALGORITHMS: &[(&str, &str, Option<usize>, Strength)] = &[
    ("Adler-32", "ADLER32", Some(4), Strength::Weak),
    ("MD2", "MD2", Some(16), Strength::Weak),
    ("MD4", "MD4", Some(16), Strength::Weak),
    ("MD5", "MD5", Some(16), Strength::Weak),
    ("MD6", "MD6", None, Strength::Weak),
    ("SHA3-224", "SHA3-224", Some(28), Strength::Strong),
    ("SHA3-256", "SHA3-256", Some(32), Strength::Strong),
    ("SHA3-384", "SHA3-384", Some(48), Strength::Strong),
    ("SHA3-512", "SHA3-512", Some(64), Strength::Strong),
    ("BLAKE2b-256", "BLAKE2b-256", Some(32), Strength::Strong),
    ("BLAKE2b-384", "BLAKE2b-384", Some(48), Strength::Strong),
    ("BLAKE2b-512", "BLAKE2b-512", Some(64), Strength::Strong),
    ("BLAKE3", "BLAKE3", None, Strength::Strong),
    ("Streebog-256", "STREEBOG256", Some(32), Strength::Strong),
    ("Streebog-512", "STREEBOG512", Some(64), Strength::Strong),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Weak,
    Strong,
}

impl HashAlgorithm {
    /// The algorithm with this name, as CycloneDX (`SHA-256`), SPDX 2 (`SHA256`) or SPDX 3 (`sha256`, `blake2b256`)
    /// writes it; letter case, hyphens and underscores do not matter.
    pub fn from_name(name: &str) -> Self {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = plain(name);
        match wanted.as_str() {
            "sha1" => return Self::Sha1,
            "sha224" => return Self::Sha224,
            "sha256" => return Self::Sha256,
            "sha384" => return Self::Sha384,
            "sha512" => return Self::Sha512,
            _ => {}
        }
        ALGORITHMS.iter().find(|(name, ..)| plain(name) == wanted).map_or_else(
            || Self::Other(name.to_owned()),
            |(name, _, length, strength)| match strength {
                Strength::Weak => Self::Weak(name, *length),
                Strength::Strong => Self::Strong(name, *length),
            },
        )
    }

    /// CycloneDX's name: `SHA-256`.
    pub fn name(&self) -> &str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Weak(name, _) | Self::Strong(name, _) => name,
            Self::Other(name) => name,
        }
    }

    /// SPDX 2's name: `SHA256`.
    pub fn spdx_name(&self) -> &str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Weak(name, _) | Self::Strong(name, _) => {
                ALGORITHMS.iter().find(|(known, ..)| known == name).map_or(name, |(_, spdx, ..)| spdx)
            }
            Self::Other(name) => name,
        }
    }

    /// How long its digests are, in bytes, where that is fixed.
    pub const fn length_bytes(&self) -> Option<usize> {
        match self {
            Self::Sha1 => Some(20),
            Self::Sha224 => Some(28),
            Self::Sha256 => Some(32),
            Self::Sha384 => Some(48),
            Self::Sha512 => Some(64),
            Self::Weak(_, length) | Self::Strong(_, length) => *length,
            Self::Other(_) => None,
        }
    }

    /// Whether nobody can make two files with the same digest.
    pub const fn is_strong(&self) -> bool {
        matches!(self, Self::Sha224 | Self::Sha256 | Self::Sha384 | Self::Sha512 | Self::Strong(..))
    }

    /// The same algorithm among those by which an artifact may be named. SHA-1 and MD5 are never among them.
    pub const fn binding(&self) -> Option<DigestAlgorithm> {
        match self {
            Self::Sha256 => Some(DigestAlgorithm::Sha256),
            Self::Sha384 => Some(DigestAlgorithm::Sha384),
            Self::Sha512 => Some(DigestAlgorithm::Sha512),
            _ => None,
        }
    }
}

impl Serialize for HashAlgorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One licence statement about a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct License {
    /// Whether the component's makers say so, or somebody who looked.
    pub acknowledgement: Acknowledgement,
    /// What is said.
    #[serde(flatten)]
    pub term: LicenseTerm,
}

impl License {
    /// What the component's makers say, as an SPDX expression.
    pub fn declared(expression: impl Into<String>) -> Self {
        Self { acknowledgement: Acknowledgement::Declared, term: LicenseTerm::Expression(expression.into()) }
    }
}

/// Whose word a licence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledgement {
    /// The makers' own.
    Declared,
    /// An analyst's.
    Concluded,
    /// The document does not say.
    Unstated,
}

/// What a licence statement says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenseTerm {
    /// An SPDX expression, or a single identifier. It need not parse.
    Expression(String),
    /// A name in somebody's own words.
    Name(String),
}

/// A licence outside the SPDX list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CustomLicense {
    /// Its name.
    pub name: Option<String>,
    /// Its text.
    pub text: Option<String>,
}

/// Whether a component is there when the artifact runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// It is.
    Required,
    /// It may be.
    Optional,
    /// It is not: a test, a build tool.
    Excluded,
}

/// An address that belongs to a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ExternalReference {
    /// CycloneDX's word: `distribution`, `vcs`, `website`, …
    pub kind: String,
    /// The address.
    pub url: String,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Property {
    /// The name, as `bsi:component:filename`.
    pub name: String,
    /// The value.
    pub value: String,
}

/// The property by which generators tell in which file of the source a component was found.
pub const LOCATION: &str = "debvisor:location";
/// The property by which they tell why it need not be there when the artifact runs: `build`, `dev`, `optional`, `peer`.
pub const DEPENDENCY: &str = "debvisor:dependency";

/// What is seen of a signature inside a document. Its cryptography is not looked at: a signature that proves something
/// is a detached one, made over the file's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EnvelopedSignature {
    /// How many signatures.
    pub signatures: usize,
    /// How many of them name an algorithm and carry a value.
    pub with_value: usize,
    /// How many of them bring a key or certificate by which they could be checked.
    pub with_key: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_known_by_its_name_in_every_format() {
        for (names, canonical) in [
            (["SHA-256", "SHA256", "sha256"], "SHA-256"),
            (["BLAKE2b-256", "blake2b256", "BLAKE2B_256"], "BLAKE2b-256"),
            (["SHA3-512", "sha3_512", "SHA3-512"], "SHA3-512"),
            (["Streebog-256", "STREEBOG256", "streebog256"], "Streebog-256"),
        ] {
            for name in names {
                assert_eq!(HashAlgorithm::from_name(name).name(), canonical);
            }
        }
        assert_eq!(HashAlgorithm::from_name("rot13"), HashAlgorithm::Other("rot13".to_owned()));
    }

    #[test]
    fn only_the_sha_2_family_binds_and_a_hash_must_be_as_long_as_its_algorithm() {
        assert!(Hash::new(HashAlgorithm::Sha1, &"ab".repeat(20)).digest().is_none());
        assert!(Hash::new(HashAlgorithm::Sha256, &"AB".repeat(32)).digest().is_some());
        assert!(!Hash::new(HashAlgorithm::Sha256, &"ab".repeat(33)).is_well_formed());
        assert!(!Hash::new(HashAlgorithm::Sha256, &"xy".repeat(32)).is_well_formed());
        assert!(!Hash::new(HashAlgorithm::from_name("BLAKE3"), "").is_well_formed());
    }
}
