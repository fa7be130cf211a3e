//! An old and a new document in, what was added, removed and changed out. Nothing is judged.
//!
//! Components are joined by package: the package URL without version and qualifiers, else namespace and name. Within a
//! package, equal versions are put beside each other first; the versions left over on both sides are a change of
//! version. A version that stayed while its digest did not is a change too. Time is linear but for a sort.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Component, Hash, Sbom};
use super::purl::{self, Purl};
use super::validate::counted;

/// What is different between two documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Components that are new.
    pub added: Vec<Entry>,
    /// Components that are gone.
    pub removed: Vec<Entry>,
    /// Components that are there in another version, or in the same with other bytes.
    pub changed: Vec<Change>,
}

impl Diff {
    /// Whether nothing is different.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// A component in a list of differences.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Its package URL.
    pub purl: Option<String>,
}

/// A component that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// As it was.
    pub old: Side,
    /// As it is.
    pub new: Side,
    /// What of it is different.
    pub what: What,
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Side {
    /// The version.
    pub version: Option<String>,
    /// The package URL.
    pub purl: Option<String>,
    /// The digests.
    pub hashes: Vec<Hash>,
}

/// What of a component is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The version.
    Version,
    /// A digest, of the same version.
    Hash,
}

/// One entry of a package: its version, then what tells entries of one version apart.
struct Instance<'a> {
    component: &'a Component,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
}

/// What changed from `old` to `new`.
pub fn diff(old: &Sbom, new: &Sbom) -> Diff {
    let (mut before, after) = (index(old), index(new));
    let mut diff = Diff::default();
    for (package, instances) in after {
        diff.package(before.remove(&package).unwrap_or_default(), instances);
    }
    for instances in before.into_values() {
        diff.package(instances, Vec::new());
    }
    diff.added.sort();
    diff.removed.sort();
    diff.changed.sort();
    diff
}

fn index(sbom: &Sbom) -> BTreeMap<String, Vec<Instance<'_>>> {
    let mut packages: BTreeMap<String, Vec<Instance<'_>>> = BTreeMap::new();
    for component in counted(sbom) {
        let qualifiers =
            component.purl.as_deref().and_then(Purl::parse).map(|purl| purl.qualifiers).unwrap_or_default();
        let instance = Instance { component, version: purl::version(component), qualifiers };
        packages.entry(purl::package_key(component)).or_default().push(instance);
    }
    for instances in packages.values_mut() {
        instances.sort_by(|a, b| {
            let key = |instance: &Instance<'_>| (instance.version.clone(), instance.qualifiers.clone());
            key(a).cmp(&key(b)).then_with(|| a.component.hashes.cmp(&b.component.hashes))
        });
        // A component that is listed twice, all alike, is one.
        instances.dedup_by(|a, b| {
            a.version == b.version && a.qualifiers == b.qualifiers && a.component.hashes == b.component.hashes
        });
    }
    packages
}

impl Diff {
    fn package<'a>(&mut self, old: Vec<Instance<'a>>, new: Vec<Instance<'a>>) {
        // Three rounds, from what is surely the same to what is probably its successor.
        let (old, new) = self.round(old, new, |instance| (instance.version.clone(), instance.qualifiers.clone()));
        let (old, new) = self.round(old, new, |instance| instance.version.clone());
        let mut pairs = old.len().min(new.len());
        let (mut old, mut new) = (old.into_iter(), new.into_iter());
        while pairs > 0
            && let (Some(a), Some(b)) = (old.next(), new.next())
        {
            pairs -= 1;
            self.changed.push(change(&a, &b, What::Version));
        }
        self.removed.extend(old.map(|instance| entry(&instance)));
        self.added.extend(new.map(|instance| entry(&instance)));
    }

    /// Pairs instances with equal keys, files those whose digests differ, and gives back what found no partner.
    fn round<'a, K: Ord>(
        &mut self,
        old: Vec<Instance<'a>>,
        new: Vec<Instance<'a>>,
        key: impl Fn(&Instance<'a>) -> K,
    ) -> (Vec<Instance<'a>>, Vec<Instance<'a>>) {
        let mut by_key: BTreeMap<K, Vec<Instance<'a>>> = BTreeMap::new();
        for instance in old.into_iter().rev() {
            by_key.entry(key(&instance)).or_default().push(instance);
        }
        let mut left_over = Vec::new();
        for instance in new {
            match by_key.get_mut(&key(&instance)).and_then(Vec::pop) {
                None => left_over.push(instance),
                Some(before) if contradict(before.component, instance.component) => {
                    self.changed.push(change(&before, &instance, What::Hash));
                }
                Some(_) => {}
            }
        }
        let mut rest: Vec<Instance<'a>> = Vec::new();
        for mut instances in by_key.into_values() {
            instances.reverse();
            rest.append(&mut instances);
        }
        (rest, left_over)
    }
}

/// Whether some algorithm has two answers.
fn contradict(a: &Component, b: &Component) -> bool {
    a.hashes.iter().any(|hash| {
        let mut same = b.hashes.iter().filter(|other| other.algorithm == hash.algorithm).peekable();
        same.peek().is_some() && !same.any(|other| other.value == hash.value)
    })
}

fn change(a: &Instance<'_>, b: &Instance<'_>, what: What) -> Change {
    let side = |instance: &Instance<'_>| Side {
        version: instance.version.clone(),
        purl: instance.component.purl.clone(),
        hashes: instance.component.hashes.clone(),
    };
    Change { name: full_name(b.component), old: side(a), new: side(b), what }
}

fn entry(instance: &Instance<'_>) -> Entry {
    let component = instance.component;
    Entry { name: full_name(component), version: instance.version.clone(), purl: component.purl.clone() }
}

fn full_name(component: &Component) -> String {
    let group = component.group.as_deref().map(|group| format!("{group}/")).unwrap_or_default();
    format!("{group}{}", component.name)
}
