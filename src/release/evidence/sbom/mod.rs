//! Bills of materials: CycloneDX and SPDX documents in, one neutral model and what is wrong with it out.
//!
//! [`read`] is the one way in: strict JSON, then the format by what the document says of itself, then the official
//! schema, then what no schema can say. [`compare`], [`diff`], [`score`] and [`licenses`] work on the [`model`] alone.
//! Invariant: no clock, network or disk; the schemas are embedded.

use serde_json::Value;

use crate::types::{Code, Reason};

pub mod compare;
mod cyclonedx;
pub mod diff;
mod findings;
mod json;
pub mod licenses;

pub mod model;
pub mod purl;
mod schema;
pub mod score;

mod spdx;
pub mod validate;

pub use findings::Findings;
use model::Sbom;
use schema::Dialect;
pub use schema::knows_license;

/// A document as it was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says.
    pub sbom: Sbom,
    /// What the schema and the checks beyond it found.
    pub findings: Findings,
}

/// Reads a CycloneDX 1.2 to 1.7 or SPDX 2.x or 3.0 document in JSON.
///
/// A document with faults is read as far as it can be, so that all of them are reported at once: whoever relies on the
/// model looks at [`Findings::errors`] first.
///
/// # Errors
/// Where it is no strict JSON (`malformed-json`, `duplicate-key`, `input-too-deep`, `input-too-large`) or says of
/// itself nothing that is known (`sbom-unknown-format`).
pub fn read(bytes: &[u8]) -> Result<Document, Reason> {
    let value = super::json::parse_value(bytes)?;
    let dialect = dialect(&value)?;
    let mut findings = Findings::default();
    findings.extend(schema::check(dialect, &value));
    let sbom = match dialect {
        Dialect::CycloneDx(_) => cyclonedx::read(&value, &mut findings),
        Dialect::Spdx22 | Dialect::Spdx23 => spdx::v2::read(&value, &mut findings),
        Dialect::Spdx300 | Dialect::Spdx301 => spdx::v3::read(&value, &mut findings),
    };
    validate::check(&sbom, &mut findings);
    Ok(Document { sbom, findings })
}

/// What a document says that it is. One that says it twice could be read as either, and is neither.
fn dialect(value: &Value) -> Result<Dialect, Reason> {
    let unknown = |message: String| Reason::new(Code::SbomUnknownFormat, message);
    let claims = ["bomFormat", "spdxVersion", "@context"].map(|member| value.get(member));
    match claims {
        [Some(format), None, None] => {
            if format.as_str() != Some("CycloneDX") {
                return Err(unknown("`bomFormat` is not `CycloneDX`".to_owned()).location("/bomFormat"));
            }
            let version = json::text(value, "specVersion").unwrap_or_default();
            let minor = version.strip_prefix("1.").filter(|minor| minor.len() == 1);
            match minor.and_then(|minor| minor.parse().ok()) {
                Some(minor @ 2..=7) => Ok(Dialect::CycloneDx(minor)),
                _ => {
                    Err(unknown(format!("CycloneDX `{}` is none of 1.2 to 1.7", shown(version)))
                        .location("/specVersion"))
                }
            }
        }
        [None, Some(version), None] => match version.as_str().unwrap_or_default() {
            "SPDX-2.0" | "SPDX-2.1" | "SPDX-2.2" => Ok(Dialect::Spdx22),
            "SPDX-2.3" => Ok(Dialect::Spdx23),
            version => {
                Err(unknown(format!("`{}` is none of SPDX-2.0 to SPDX-2.3", shown(version))).location("/spdxVersion"))
            }
        },
        [None, None, Some(context)] => match context.as_str().unwrap_or_default() {
            schema::CONTEXT_300 => Ok(Dialect::Spdx300),
            schema::CONTEXT_301 => Ok(Dialect::Spdx301),
            _ => Err(unknown("the JSON-LD context is not that of SPDX 3.0".to_owned()).location("/@context")),
        },
        [None, None, None] => {
            Err(unknown("there is no `bomFormat`, `spdxVersion` or SPDX `@context`: no SBOM in JSON".to_owned()))
        }
        _ => Err(unknown("the document claims to be of two formats at once".to_owned())),
    }
}

/// An outsider's short text in a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
