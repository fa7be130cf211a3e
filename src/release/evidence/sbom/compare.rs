//! Two documents in, of either format each, and what they disagree about out.
//!
//! They say the same where they name the same packages at the same versions, no digest of one contradicts the other,
//! and they describe the same artifact. Silence is no contradiction: what only one of them says is a warning, except
//! for a component, which must stand in both. Time is linear in their lengths.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::model::{Component, Hash, HashAlgorithm, Sbom};
use super::purl::{self, Purl};
use super::validate::counted;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// What two documents have in common and what not.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// Components that stand in both.
    pub common: usize,
    /// Components of the first alone.
    pub only_first: Vec<String>,
    /// Components of the second alone.
    pub only_second: Vec<String>,
    /// Why the documents do not say the same.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
    /// What only one of them says.
    #[serde(skip)]
    pub warnings: Vec<Reason>,
}

/// Compares two documents by content.
pub fn compare(first: &Sbom, second: &Sbom) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.described(first, second);
    let (mut left, mut right) = (index(first), index(second));
    let keys: Vec<Key> = left.keys().filter(|key| right.contains_key(*key)).cloned().collect();
    for key in keys {
        if let (Some(a), Some(b)) = (left.remove(&key), right.remove(&key)) {
            comparison.pair(&a, &b);
        }
    }
    comparison.by_name(&mut left, &mut right);
    comparison.only_first = left.into_values().map(|group| group.label).collect();
    comparison.only_second = right.into_values().map(|group| group.label).collect();
    comparison.missing();
    comparison
}

/// Package and version.
type Key = (String, String);

/// The entries of one package at one version.
struct Group<'a> {
    label: String,
    has_purl: bool,
    name: Key,
    hashes: BTreeMap<&'a HashAlgorithm, HashSet<&'a Hash>>,
}

fn index(sbom: &Sbom) -> BTreeMap<Key, Group<'_>> {
    let mut groups: BTreeMap<Key, Group<'_>> = BTreeMap::new();
    for component in counted(sbom) {
        let version = purl::version(component).unwrap_or_default();
        let key = (purl::package_key(component), version.clone());
        let group = groups.entry(key).or_insert_with(|| Group {
            label: component.label(),
            has_purl: component.purl.as_deref().and_then(Purl::parse).is_some(),
            name: (purl::name_key(component), version),
            hashes: BTreeMap::new(),
        });
        for hash in &component.hashes {
            group.hashes.entry(&hash.algorithm).or_default().insert(hash);
        }
    }
    groups
}

impl Comparison {
    /// What has a package URL in one document and none in the other is the same by name and version.
    fn by_name<'a>(&mut self, left: &mut BTreeMap<Key, Group<'a>>, right: &mut BTreeMap<Key, Group<'a>>) {
        // Of one name and version there is at most one group without a package URL, since the name is its key.
        let (mut nameless, mut named): (HashMap<Key, Key>, HashMap<Key, Vec<Key>>) = Default::default();
        for (key, group) in right.iter() {
            if group.has_purl {
                named.entry(group.name.clone()).or_default().push(key.clone());
            } else {
                nameless.insert(group.name.clone(), key.clone());
            }
        }
        let rest: Vec<Key> = left.keys().cloned().collect();
        for key in rest {
            let Some(group) = left.get(&key) else { continue };
            let other = if group.has_purl {
                nameless.remove(&group.name)
            } else {
                named.get_mut(&group.name).and_then(Vec::pop)
            };
            if let Some(other) = other
                && let (Some(a), Some(b)) = (left.remove(&key), right.remove(&other))
            {
                self.pair(&a, &b);
            }
        }
    }

    fn pair(&mut self, a: &Group<'_>, b: &Group<'_>) {
        self.common += 1;
        let mut common = false;
        for (algorithm, hashes) in &a.hashes {
            let Some(others) = b.hashes.get(algorithm) else { continue };
            common = true;
            if hashes != others {
                let list = |hashes: &HashSet<&Hash>| {
                    let mut values: Vec<&str> = hashes.iter().map(|hash| hash.value.as_str()).collect();
                    values.sort_unstable();
                    values.join(", ")
                };
                self.no(format!(
                    "{} has {algorithm} {} in the first and {} in the second",
                    a.label,
                    list(hashes),
                    list(others)
                ));
            }
        }
        if !common && a.hashes.is_empty() != b.hashes.is_empty() {
            let which = if a.hashes.is_empty() { "second" } else { "first" };
            self.aside(format!("only the {which} document has a digest of {}", a.label));
        } else if !common && !a.hashes.is_empty() {
            self.aside(format!("the digests of {} are of different algorithms and cannot be compared", a.label));
        }
    }

    fn missing(&mut self) {
        let missing = |list: &[String], which: &str| -> Vec<String> {
            list.iter().map(|label| format!("{label} is in the {which} document alone")).collect()
        };
        for message in missing(&self.only_first, "first").into_iter().chain(missing(&self.only_second, "second")) {
            self.no(message);
        }
    }

    /// Both must be about the same thing, where both say what they are about.
    fn described(&mut self, first: &Sbom, second: &Sbom) {
        let ([a], [b]) = (first.described.as_slice(), second.described.as_slice()) else {
            if first.described.is_empty() != second.described.is_empty() {
                self.aside("only one of the documents says what it describes".to_owned());
            }
            return;
        };
        let digests = |component: &Component| {
            let mut by_algorithm: BTreeMap<DigestAlgorithm, BTreeSet<Digest>> = BTreeMap::new();
            for digest in component.hashes.iter().filter_map(Hash::digest) {
                by_algorithm.entry(digest.algorithm()).or_default().insert(digest);
            }
            by_algorithm
        };
        let mut agreed = false;
        let others = digests(b);
        for (algorithm, digests) in digests(a) {
            let Some(others) = others.get(&algorithm) else { continue };
            if digests != *others {
                self.no(format!("the two describe artifacts of different {algorithm}: {}, {}", a.label(), b.label()));
                return;
            }
            agreed = true;
        }
        let name = |component: &Component| component.name.trim().to_lowercase();
        let version = |component: &Component| purl::version(component);
        // The same bytes are the same artifact, by whatever name.
        if agreed {
            return;
        }
        // A package URL has the namespace in it, which one format keeps apart from the name and the other does not.
        let package = |component: &Component| {
            component.purl.as_deref().and_then(Purl::parse).map(|purl| (purl.package.to_lowercase(), purl.version))
        };
        if package(a).is_some() && package(a) == package(b) {
            return;
        }
        let versions_differ = version(a).zip(version(b)).is_some_and(|(a, b)| a != b);
        if name(a) != name(b) || versions_differ {
            self.no(format!("the first describes {}, the second {}", a.label(), b.label()));
        }
    }

    fn no(&mut self, message: String) {
        if self.reasons.len() < limits::REASONS_PER_FILE {
            self.reasons.push(Reason::new(Code::SbomInconsistent, message));
        }
    }

    fn aside(&mut self, message: String) {
        if self.warnings.len() < limits::REASONS_PER_FILE {
            self.warnings.push(Reason::new(Code::SbomInconsistent, message));
        }
    }
}
