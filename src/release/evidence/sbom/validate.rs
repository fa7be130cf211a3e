//! The neutral model in, what is wrong with it beyond any schema out: hashes, self-dependencies, the number of distinct
//! components, and whether it describes a given artifact.
//!
//! What never happens here: a yes by SHA-1 or MD5, or by a hash that sits on a dependency.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::findings::Findings;
use super::model::{Component, Family, Hash, HashAlgorithm, Sbom};
use super::purl::{self, Purl};
use crate::release::artifact::Artifact;
use crate::types::{Code, Digest, Reason};

/// What holds of every SBOM.
pub(super) fn check(sbom: &Sbom, findings: &mut Findings) {
    hashes(sbom, findings);
    conflicts(sbom, findings);
    loops(sbom, findings);
}

/// Nothing depends on itself or is inside itself. Up to CycloneDX 1.5 the specification's own example says that of a
/// component, so that there it is an error only where `--strict` asks.
fn loops(sbom: &Sbom, findings: &mut Findings) {
    let of_old = sbom.format.as_ref().is_some_and(|format| {
        format.family == Family::CycloneDx && matches!(format.version.as_str(), "1.2" | "1.3" | "1.4" | "1.5")
    });
    for (of, _) in sbom.dependencies.iter().filter(|(of, on)| on.contains(*of)) {
        let message = format!("`{of}` depends on itself");
        if of_old {
            findings.warning(Code::SbomCycleSelf, message, of);
        } else {
            findings.error(Code::SbomCycleSelf, message, of);
        }
    }
    for (outer, _) in sbom.contains.iter().filter(|(outer, inner)| inner.contains(*outer)) {
        findings.error(Code::SbomCycleSelf, format!("`{outer}` contains itself"), outer);
    }
}

/// A hash must be hexadecimal and as long as its algorithm makes it. CycloneDX's schema says so for its own; SPDX's
/// schemas do not, and published SPDX documents break it, so that there it is an error only where `--strict` asks.
fn hashes(sbom: &Sbom, findings: &mut Findings) {
    let is_spdx = sbom.format.as_ref().is_some_and(|format| format.family == Family::Spdx);
    for component in sbom.all() {
        for hash in component.hashes.iter().filter(|hash| !hash.is_well_formed()) {
            let message = format!(
                "{} has a {} of {} characters that is none",
                component.label(),
                hash.algorithm,
                hash.value.len()
            );
            if is_spdx {
                findings.warning(Code::SbomHash, message, &component.id);
            } else {
                findings.error(Code::SbomHash, message, &component.id);
            }
        }
    }
}

/// One package URL, one digest of each algorithm.
fn conflicts(sbom: &Sbom, findings: &mut Findings) {
    let mut known: HashMap<(String, &HashAlgorithm), (&Hash, &Component)> = HashMap::new();
    for component in sbom.all() {
        // A component without a package URL can only contradict itself.
        let name = component.purl.as_deref().and_then(Purl::parse).map(|purl| purl.canonical());
        let name = name.unwrap_or_else(|| format!("#{}", component.id));
        for hash in &component.hashes {
            let (first, at) = *known.entry((name.clone(), &hash.algorithm)).or_insert((hash, component));
            if first != hash {
                let message = format!(
                    "{} has two {} digests: {} in `{}` and {} in `{}`",
                    component.label(),
                    hash.algorithm,
                    first.value,
                    at.id,
                    hash.value,
                    component.id
                );
                findings.error(Code::SbomHashConflict, message, &component.id);
            }
        }
    }
}

/// How many distinct components a document has. Duplicates, letter case, qualifiers, subpaths and encodings of one
/// package URL do not make it more; files do not count; neither does the described artifact, where it is one.
pub fn distinct(sbom: &Sbom) -> usize {
    counted(sbom).map(identity).collect::<Distinct>().count()
}

/// The components that count.
pub(super) fn counted(sbom: &Sbom) -> impl Iterator<Item = &Component> {
    // A document that describes many things is a list of them.
    let many = if sbom.described.len() > 1 { sbom.described.as_slice() } else { &[] };
    many.iter().chain(sbom.packages())
}

struct Identity {
    purl: Option<(String, String)>,
    name: (String, String),
}

fn identity(component: &Component) -> Identity {
    let version = purl::version(component).unwrap_or_default().to_lowercase();
    let of_purl = component.purl.as_deref().and_then(Purl::parse).map(|purl| {
        let own = purl.version.unwrap_or_default().to_lowercase();
        (purl.package.to_lowercase(), own)
    });
    Identity { purl: of_purl, name: (purl::name_key(component), version) }
}

/// Components without a package URL are counted only where none with one has their name and version.
#[derive(Default)]
struct Distinct {
    purls: HashSet<(String, String)>,
    names_of_purls: HashSet<(String, String)>,
    names: HashSet<(String, String)>,
}

impl Distinct {
    fn count(&self) -> usize {
        self.purls.len() + self.names.difference(&self.names_of_purls).count()
    }
}

impl FromIterator<Identity> for Distinct {
    fn from_iter<I: IntoIterator<Item = Identity>>(identities: I) -> Self {
        let mut distinct = Self::default();
        for identity in identities {
            match identity.purl {
                Some(purl) => {
                    distinct.purls.insert(purl);
                    distinct.names_of_purls.insert(identity.name);
                }
                None => _ = distinct.names.insert(identity.name),
            }
        }
        distinct
    }
}

/// Whether the document has at least so many distinct components.
///
/// # Errors
/// `sbom-too-few`.
pub fn at_least(sbom: &Sbom, wanted: usize) -> Result<usize, Reason> {
    let found = distinct(sbom);
    if found >= wanted {
        return Ok(found);
    }
    let entries = counted(sbom).count();
    let message = format!("the document has {found} distinct components in {entries} entries; {wanted} are asked for");
    Err(Reason::new(Code::SbomTooFew, message))
}

/// Whether the document describes this artifact: a described component carries its SHA-256, SHA-384 or SHA-512.
///
/// # Errors
/// `sbom-unbound`, with what is wrong.
pub fn describes(sbom: &Sbom, artifact: &Artifact) -> Result<(), Reason> {
    let mut bound: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
    for component in &sbom.described {
        bound.entry(&component.id).or_default().extend(component.hashes.iter().filter_map(Hash::digest));
    }
    let agrees = |digest: &Digest| artifact.digest(digest.algorithm()).map(|own| own == digest);
    for digests in bound.values() {
        let verdicts: Vec<bool> = digests.iter().filter_map(agrees).collect();
        // One digest that fits beside one that does not is a contradiction, and proves nothing.
        if !verdicts.is_empty() && verdicts.iter().all(|agrees| *agrees) {
            return Ok(());
        }
    }
    Err(Reason::new(Code::SbomUnbound, why_unbound(sbom, artifact, &bound)))
}

fn why_unbound(sbom: &Sbom, artifact: &Artifact, bound: &BTreeMap<&str, Vec<Digest>>) -> String {
    let name = &artifact.name;
    if sbom.described.is_empty() {
        return format!("the document does not say what it describes, so it does not describe {name}");
    }
    if bound.values().all(Vec::is_empty) {
        let weak = sbom.described.iter().flat_map(|component| &component.hashes).any(|hash| hash.is_well_formed());
        let what = if weak { "only digests that bind nothing" } else { "no digest" };
        return format!("what the document describes carries {what}; {name} needs a SHA-256, SHA-384 or SHA-512");
    }
    let on_dependency = sbom.components.iter().find(|component| {
        component
            .hashes
            .iter()
            .filter_map(Hash::digest)
            .any(|digest| artifact.digest(digest.algorithm()) == Some(&digest))
    });
    let aside = on_dependency
        .map(|component| format!("; its digest stands on {}, which is only a part", component.label()))
        .unwrap_or_default();
    format!("the document describes other bytes than {name}{aside}")
}
