//! What catalogers find in, one deterministic set of components and their graph out.
//!
//! A component that several files name is one component: it is joined by its id. Where two of them give it different
//! digests of one algorithm there is no telling which is right, and that is a reason.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use crate::release::evidence::sbom::model::{Component, CustomLicense, Hash, LOCATION, Property, Scope};
use crate::types::{Code, Reason, limits};

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Components by id. A package's id is its package URL.
    components: BTreeMap<String, Component>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
    contains: BTreeMap<String, BTreeSet<String>>,
    custom_licenses: BTreeMap<String, CustomLicense>,
    roots: BTreeSet<Root>,
    edges: usize,
    reasons: Vec<Reason>,
}

/// A component that the described thing is made of or needs by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// The folder whose manifest says so; empty at the top.
    pub folder: String,
    /// The component.
    pub id: String,
    /// Whether it is the project of that folder itself, and not what the project needs.
    pub is_project: bool,
}

impl Found {
    /// Adds a component, or what is new of it where it was found before.
    pub fn add(&mut self, component: Component) {
        if self.components.len() >= limits::SBOM_COMPONENTS && !self.components.contains_key(&component.id) {
            self.full();
            return;
        }
        match self.components.entry(component.id.clone()) {
            Slot::Vacant(slot) => _ = slot.insert(component),
            Slot::Occupied(mut slot) => {
                if let Err(reason) = merge(slot.get_mut(), component) {
                    self.refuse(reason);
                }
            }
        }
    }

    /// Adds a component that was found in a file of the source.
    pub fn add_at(&mut self, mut component: Component, location: &str) {
        component.properties.push(Property { name: LOCATION.to_owned(), value: location.to_owned() });
        self.add(component);
    }

    /// Whether a component of this id was found.
    pub fn has(&self, id: &str) -> bool {
        self.components.contains_key(id)
    }

    /// A component that was found.
    pub fn component_mut(&mut self, id: &str) -> Option<&mut Component> {
        self.components.get_mut(id)
    }

    /// Says that all dependencies of a component are known; without a further word it has none.
    pub fn knows_dependencies(&mut self, of: &str) {
        self.dependencies.entry(of.to_owned()).or_default();
    }

    /// Says that `of` depends on `on`.
    pub fn depends(&mut self, of: &str, on: &str) {
        if of != on && self.count_edge() {
            self.dependencies.entry(of.to_owned()).or_default().insert(on.to_owned());
        }
    }

    /// Says that `inner` is a part of `outer`.
    pub fn part(&mut self, outer: &str, inner: &str) {
        if outer != inner && self.count_edge() {
            self.contains.entry(outer.to_owned()).or_default().insert(inner.to_owned());
        }
    }

    /// Says that a component is the project of a folder.
    pub fn project(&mut self, folder: &str, id: &str) {
        self.roots.insert(Root { folder: folder.to_owned(), id: id.to_owned(), is_project: true });
    }

    /// Says that the described thing itself needs a component, as a folder's manifest has it.
    pub fn needed(&mut self, folder: &str, id: &str) {
        self.roots.insert(Root { folder: folder.to_owned(), id: id.to_owned(), is_project: false });
    }

    /// Defines a licence outside the SPDX list, by its `LicenseRef-…`.
    pub fn license(&mut self, reference: &str, license: CustomLicense) {
        self.custom_licenses.entry(reference.to_owned()).or_insert(license);
    }

    /// Says why no bill of materials can be made.
    pub fn refuse(&mut self, reason: Reason) {
        if self.reasons.len() < limits::REASONS_PER_FILE {
            self.reasons.push(reason);
        }
    }

    /// Keeps what is right and turns what is wrong into a reason.
    pub fn keep<T>(&mut self, outcome: Result<T, Reason>) -> Option<T> {
        outcome.map_err(|reason| self.refuse(reason)).ok()
    }

    /// Everything that was found, or why that is not to be relied on.
    pub(super) fn finish(self) -> Result<Finished, Vec<Reason>> {
        if !self.reasons.is_empty() {
            return Err(self.reasons);
        }
        Ok(Finished {
            components: self.components,
            dependencies: self.dependencies,
            contains: self.contains,
            custom_licenses: self.custom_licenses,
            roots: self.roots,
        })
    }

    fn count_edge(&mut self) -> bool {
        self.edges += 1;
        if self.edges > limits::SBOM_EDGES {
            self.full();
        }
        self.edges <= limits::SBOM_EDGES
    }

    fn full(&mut self) {
        let (components, edges) = (limits::SBOM_COMPONENTS, limits::SBOM_EDGES);
        let message = format!("there are more than {components} components or {edges} relations between them");
        if self.reasons.last().is_none_or(|last| last.message != message) {
            self.refuse(Reason::new(Code::InputTooLarge, message));
        }
    }
}

/// What was found, without a fault.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) components: BTreeMap<String, Component>,
    pub(super) dependencies: BTreeMap<String, BTreeSet<String>>,
    pub(super) contains: BTreeMap<String, BTreeSet<String>>,
    pub(super) custom_licenses: BTreeMap<String, CustomLicense>,
    pub(super) roots: BTreeSet<Root>,
}

/// Adds to a component what another finding of it says.
fn merge(known: &mut Component, other: Component) -> Result<(), Reason> {
    for hash in other.hashes {
        add_hash(known, hash)?;
    }
    extend(&mut known.licenses, other.licenses);
    extend(&mut known.identifiers, other.identifiers);
    extend(&mut known.authors, other.authors);
    extend(&mut known.references, other.references);
    extend(&mut known.properties, other.properties);
    known.scope = wider(known.scope, other.scope);
    known.supplier = known.supplier.take().or(other.supplier);
    known.copyright = known.copyright.take().or(other.copyright);
    known.description = known.description.take().or(other.description);
    Ok(())
}

fn add_hash(known: &mut Component, hash: Hash) -> Result<(), Reason> {
    match known.hashes.iter().find(|own| own.algorithm == hash.algorithm) {
        None => known.hashes.push(hash),
        Some(own) if own.value == hash.value => {}
        Some(own) => {
            let places: Vec<&str> =
                known.properties.iter().filter(|p| p.name == LOCATION).map(|p| p.value.as_str()).collect();
            let message = format!(
                "{} has two {} digests, {} and {}; the first stands in {}",
                known.label(),
                hash.algorithm,
                own.value,
                hash.value,
                places.join(", ")
            );
            return Err(Reason::new(Code::SbomHashConflict, message));
        }
    }
    Ok(())
}

fn extend<T: PartialEq>(known: &mut Vec<T>, others: Vec<T>) {
    for other in others {
        if !known.contains(&other) {
            known.push(other);
        }
    }
}

/// What one place needs when the artifact runs is needed, whatever another place says of it.
fn wider(a: Option<Scope>, b: Option<Scope>) -> Option<Scope> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
