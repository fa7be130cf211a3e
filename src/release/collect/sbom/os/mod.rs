//! A root file system in; the operating system and the packages that its own package managers installed out.
//!
//! A database is read as a file. Each package gets the package URL that other generators give it, with the distribution
//! and the source package as qualifiers, and the graph of what needs what as the packages' own metadata has it.
//! Invariant: no package manager runs, and a database that cannot be read is a reason, never an empty answer.

mod apk;
mod copyright;
mod dpkg;
mod release;
mod rpm;

use std::collections::{BTreeMap, BTreeSet};

use packageurl::PackageUrl;

use super::{Found, Scan, View};
use crate::release::evidence::sbom::model::{Component, ComponentKind};

/// Finds the operating system of a root file system and what is installed in it.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Installed {
        return;
    }
    let distribution = found.keep(release::read(scan)).flatten();
    let system = distribution.as_ref().map(|distribution| {
        let component = distribution.component();
        let id = component.id.clone();
        found.add(component);
        found.needed("", &id);
        id
    });
    let distribution = distribution.unwrap_or_default();
    for cataloger in [dpkg::catalog, apk::catalog, rpm::catalog] {
        for id in cataloger(scan, &distribution, found) {
            if let Some(system) = &system {
                found.part(system, &id);
            }
        }
    }
}

/// A package URL with its qualifiers in the order of their names; those without a value are left out.
fn purl(kind: &str, namespace: &str, name: &str, version: &str, qualifiers: &[(&'static str, &str)]) -> Option<String> {
    let mut purl = PackageUrl::new(kind.to_owned(), name.to_owned()).ok()?;
    if !namespace.is_empty() {
        purl.with_namespace(namespace.to_owned()).ok()?;
    }
    if !version.is_empty() {
        purl.with_version(version.to_owned()).ok()?;
    }
    for (key, value) in qualifiers {
        if !value.is_empty() {
            purl.add_qualifier(*key, (*value).to_owned()).ok()?;
        }
    }
    Some(purl.to_string())
}

/// A package as a component. Without a package URL, which needs a name, there is none.
fn package(purl: String, name: &str, version: &str) -> Component {
    let mut component = Component::new(ComponentKind::Library, purl.clone(), name);
    component.version = Some(version.to_owned()).filter(|version| !version.is_empty());
    component.purl = Some(purl);
    component
}

/// Who provides what, and who needs it: names of packages, of what they stand for, or of files.
#[derive(Default)]
struct Graph {
    providers: BTreeMap<String, BTreeSet<String>>,
    /// For each package its needs; each of them is met by any of several names.
    needs: Vec<(String, Vec<Vec<String>>)>,
}

impl Graph {
    fn provide(&mut self, name: &str, id: &str) {
        self.providers.entry(name.to_owned()).or_default().insert(id.to_owned());
    }

    fn need(&mut self, id: &str, needs: Vec<Vec<String>>) {
        self.needs.push((id.to_owned(), needs));
    }

    /// Tells who depends on whom. Of alternatives the first that is there counts, and so does every package that
    /// provides it: which of them does the work is not said anywhere.
    fn tell(self, found: &mut Found) {
        for (id, needs) in &self.needs {
            found.knows_dependencies(id);
            for need in needs {
                let met = need.iter().find_map(|name| self.providers.get(name));
                for provider in met.into_iter().flatten() {
                    found.depends(id, provider);
                }
            }
        }
    }
}
