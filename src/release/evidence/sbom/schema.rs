//! A document and its dialect in, what the official JSON Schema has against it out.
//! The schemas are embedded; one is compiled when the first document of its version comes. Nothing is ever fetched.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use jsonschema::{Registry, Validator};
use serde_json::Value;

use crate::types::{Code, Reason, limits};

/// A version of a format for which there is a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// CycloneDX, by its minor version: 2 to 7.
    CycloneDx(u8),
    /// SPDX 2.2, and the older ones, which no schema of their own describes.
    Spdx22,
    /// SPDX 2.3.
    Spdx23,
    /// SPDX 3.0.0: the schema of 3.0.1 with the other context.
    Spdx300,
    /// SPDX 3.0.1.
    Spdx301,
}

macro_rules! embedded {
    ($file:literal) => {
        include_str!(concat!("schemas/", $file))
    };
}

/// What the CycloneDX schemas refer to, by the address under which they do.
const SHARED: [(&str, &str); 3] = [
    ("http://cyclonedx.org/schema/spdx.schema.json", embedded!("spdx.schema.json")),
    ("http://cyclonedx.org/schema/jsf-0.82.schema.json", embedded!("jsf-0.82.schema.json")),
    ("http://cyclonedx.org/schema/cryptography-defs.schema.json", embedded!("cryptography-defs.schema.json")),
];

/// Whether CycloneDX's schemas know the licence by this identifier. Their list is older than SPDX's own: a licence that
/// is on the newer one alone is written as a name.
pub fn knows_license(identifier: &str) -> bool {
    static KNOWN: OnceLock<BTreeSet<String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let [(_, spdx), ..] = SHARED;
        let schema: Value = serde_json::from_str(spdx).unwrap_or_default();
        let listed = schema.get("enum").and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    });
    known.contains(identifier)
}

/// The context that an SPDX 3.0.0 document names.
pub(super) const CONTEXT_300: &str = "https://spdx.org/rdf/3.0.0/spdx-context.jsonld";
/// The context that an SPDX 3.0.1 document names.
pub(super) const CONTEXT_301: &str = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld";

impl Dialect {
    fn text(self) -> &'static str {
        match self {
            Self::CycloneDx(2) => embedded!("bom-1.2-strict.schema.json"),
            Self::CycloneDx(3) => embedded!("bom-1.3-strict.schema.json"),
            Self::CycloneDx(4) => embedded!("bom-1.4.schema.json"),
            Self::CycloneDx(5) => embedded!("bom-1.5.schema.json"),
            Self::CycloneDx(6) => embedded!("bom-1.6.schema.json"),
            Self::CycloneDx(_) => embedded!("bom-1.7.schema.json"),
            Self::Spdx22 => embedded!("spdx-2.2.2.schema.json"),
            Self::Spdx23 => embedded!("spdx-2.3.schema.json"),
            Self::Spdx300 | Self::Spdx301 => embedded!("spdx-3.0.1.schema.json"),
        }
    }

    /// The compiled schema. A test keeps every one of them compiling.
    fn validator(self) -> Result<&'static Validator, Reason> {
        static VALIDATORS: [OnceLock<Result<Validator, String>>; 10] = [const { OnceLock::new() }; 10];
        let place = match self {
            Self::CycloneDx(minor) => usize::from(minor.clamp(2, 7)) - 2,
            Self::Spdx22 => 6,
            Self::Spdx23 => 7,
            Self::Spdx300 => 8,
            Self::Spdx301 => 9,
        };
        let broken = |error: &str| Reason::new(Code::InternalError, format!("an embedded schema: {error}"));
        let cell = VALIDATORS.get(place).ok_or_else(|| broken("there is none"))?;
        cell.get_or_init(|| self.compile()).as_ref().map_err(|error| broken(error))
    }

    fn compile(self) -> Result<Validator, String> {
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
        let mut schema = parse(self.text())?;
        if self == Self::Spdx300
            && let Some(context) = schema.pointer_mut("/properties/@context/const")
        {
            *context = Value::from(CONTEXT_300);
        }
        let mut options = jsonschema::options().should_validate_formats(true);
        if !matches!(self, Self::CycloneDx(_)) {
            return options.build(&schema).map_err(|error| error.to_string());
        }
        let mut registry = Registry::new();
        for (address, text) in SHARED {
            registry = registry.add(address, parse(text)?).map_err(|error| error.to_string())?;
        }
        let registry = registry.prepare().map_err(|error| error.to_string())?;
        options = options.with_registry(&registry);
        options.build(&schema).map_err(|error| error.to_string())
    }
}

/// What the schema of this dialect has against the document; nothing where it is valid.
pub(super) fn check(dialect: Dialect, document: &Value) -> Vec<Reason> {
    let validator = match dialect.validator() {
        Ok(validator) => validator,
        Err(reason) => return vec![reason],
    };
    validator
        .iter_errors(document)
        .take(limits::REASONS_PER_FILE)
        .map(|error| {
            let place = error.instance_path().to_string();
            let location = if place.is_empty() { "/".to_owned() } else { place };
            // The value itself may be a whole document; the location says where it stands.
            Reason::new(Code::SbomSchema, shortened(&error.masked().to_string())).location(location)
        })
        .collect()
}

/// Long enough to act on, short enough for a line: the enumerations of licence identifiers have hundreds of members.
fn shortened(text: &str) -> String {
    const CHARS: usize = 240;
    match text.char_indices().nth(CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_schema_compiles_without_fetching_anything() {
        let dialects = (2..=7).map(Dialect::CycloneDx);
        let spdx = [Dialect::Spdx22, Dialect::Spdx23, Dialect::Spdx300, Dialect::Spdx301];
        for dialect in dialects.chain(spdx) {
            assert!(dialect.validator().is_ok(), "{dialect:?}: {:?}", dialect.validator().err());
            assert!(!check(dialect, &Value::Null).is_empty(), "{dialect:?}");
        }
    }
}
