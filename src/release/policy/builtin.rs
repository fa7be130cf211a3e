//! The policies that DebVisor ships, embedded at build time and compiled when first asked for.

use std::sync::OnceLock;

use super::engine::Guard;
use super::sources::Sources;
use super::{Compiled, Own, PolicySet};

/// A policy that DebVisor ships.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its name, as `--policy` takes it.
    pub name: &'static str,
    /// What it asks, in a sentence.
    pub summary: &'static str,
    /// The parts that it is made of, by their names in [`PARTS`]; a user may override each.
    pub parts: &'static [&'static str],
}

/// One embedded policy with its data and its tests.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name: `policies/NAME.rego` overrides it.
    pub name: &'static str,
    /// File names with their texts; tests are among them.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! embedded {
    ($($file:literal),*) => {
        &[$(($file, include_str!(concat!("../../../policies/", $file)))),*]
    };
}

/// The policies by name.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "release",
        summary: "an expected signer, what was asked of the evidence, and a trusted builder where no signer was named",
        parts: &["release", "builders", "summary"],
    },
    Builtin {
        name: "builders",
        summary: "release, and a trusted builder must vouch for the artifact even where a signer was named",
        parts: &["builders", "builders-always", "release", "summary"],
    },
    Builtin {
        name: "admission",
        summary: "what may boot: signed by an expected signer, or covered by a passing summary that still holds",
        parts: &["admission", "release", "builders", "summary"],
    },
    Builtin {
        name: "sbom",
        summary: "what an SBOM must tell: versions, identifiers, suppliers, digests, sources and dependencies",
        parts: &["sbom"],
    },
    Builtin {
        name: "licenses",
        summary: "under which licences the components of an SBOM may come",
        parts: &["licenses"],
    },
    Builtin {
        name: "vex",
        summary: "that every finding as bad as it says is explained, and that what was decided still holds",
        parts: &["vex"],
    },
];

/// The embedded files by part.
pub const PARTS: &[Part] = &[
    Part { name: "release", files: embedded!["release.rego", "release_test.rego"] },
    Part { name: "builders", files: embedded!["builders.json", "builders.rego", "builders_test.rego"] },
    Part { name: "builders-always", files: embedded!["builders-always.json"] },
    Part { name: "summary", files: embedded!["summary.rego", "summary_test.rego"] },
    Part { name: "admission", files: embedded!["admission.rego", "admission_test.rego"] },
    Part { name: "sbom", files: embedded!["sbom.json", "sbom.rego", "sbom_test.rego"] },
    Part { name: "licenses", files: embedded!["licenses.json", "licenses.rego", "licenses_test.rego"] },
    Part { name: "vex", files: embedded!["vex.json", "vex.rego", "vex_test.rego"] },
];

/// The files of a part, owned.
pub fn part_files(part: &str) -> Vec<(String, String)> {
    PARTS
        .iter()
        .filter(|known| known.name == part)
        .flat_map(|known| known.files)
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

/// The builtin of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// The builtin of this name, compiled. A test keeps every one of them compiling.
pub(super) fn load(name: &str) -> Option<PolicySet> {
    static RELEASE: OnceLock<Option<PolicySet>> = OnceLock::new();
    static BUILDERS: OnceLock<Option<PolicySet>> = OnceLock::new();
    static ADMISSION: OnceLock<Option<PolicySet>> = OnceLock::new();
    static SBOM: OnceLock<Option<PolicySet>> = OnceLock::new();
    static LICENSES: OnceLock<Option<PolicySet>> = OnceLock::new();
    static VEX: OnceLock<Option<PolicySet>> = OnceLock::new();
    let cell = match name {
        "release" => &RELEASE,
        "builders" => &BUILDERS,
        "admission" => &ADMISSION,
        "sbom" => &SBOM,
        "licenses" => &LICENSES,
        "vex" => &VEX,
        _ => return None,
    };
    cell.get_or_init(|| {
        let sources =
            |parts: &[&str]| Sources::new(name, parts.iter().flat_map(|part| part_files(part)).collect()).ok();
        let plain = match name {
            "release" => Some(Box::new(Compiled::new(name, sources(&["release"])?, Guard::Own, None))),
            _ => None,
        };
        // Only the sets whose whole input is known to the shortcut may take it.
        let own = matches!(name, "release" | "builders" | "admission").then(|| Own { plain, ..Own::default() });
        Some(PolicySet::lazy(name, Compiled::new(name, sources(find(name)?.parts)?, Guard::Own, own)))
    })
    .clone()
}
