//! Bills of materials, written: the neutral model in, a document of either format out.
//!
//! A writer is a function of the model alone, so that equal models are equal bytes. Both formats say the same, as far
//! as each can; `sbom compare` agrees.

use std::fmt;
use std::str::FromStr;

use crate::release::evidence::sbom::model::{Component, License, LicenseTerm, Party, PartyKind, Sbom};

pub mod cyclonedx;
pub mod spdx;

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// CycloneDX 1.6 in JSON.
    CycloneDxJson,
    /// SPDX 2.3 in JSON.
    SpdxJson,
}

impl Format {
    /// Every format, in the order in which they are named.
    pub const ALL: [Self; 2] = [Self::CycloneDxJson, Self::SpdxJson];

    /// The name on the command line, which is syft's too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CycloneDxJson => "cyclonedx-json",
            Self::SpdxJson => "spdx-json",
        }
    }

    /// The document, with a line feed at its end.
    pub fn write(self, sbom: &Sbom) -> Vec<u8> {
        match self {
            Self::CycloneDxJson => cyclonedx::write(sbom),
            Self::SpdxJson => spdx::write(sbom),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| format!("`{text}` is no format"))
    }
}

/// The document's bytes of a value that always has a JSON form.
fn to_json(document: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// What a licence is called where only names and expressions are told apart: an expression that does not parse is a
/// name.
fn term_of(license: &License) -> LicenseTerm {
    match &license.term {
        LicenseTerm::Expression(text) if ::spdx::Expression::parse(text).is_err() => LicenseTerm::Name(text.clone()),
        term => term.clone(),
    }
}

/// The first person or organisation of this kind.
fn first_of(parties: &[Party], kind: PartyKind) -> Option<&Party> {
    parties.iter().find(|party| party.kind == kind && party.is_told())
}

/// The first address of these kinds that is an address.
fn address<'a>(component: &'a Component, kinds: &[&str]) -> Option<&'a str> {
    kinds.iter().find_map(|kind| component.reference(kind)).filter(|text| url::Url::parse(text).is_ok())
}
