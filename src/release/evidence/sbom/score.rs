//! A document in, how good it is out: a number from 0 to 100, and what it is made of.
//!
//! Each [`Part`] looks at one property alone, so that a single defect lowers a single part; the whole is their weighted
//! mean over those that apply. Two profiles stand beside it, which are met or not: the NTIA's minimum elements (2021)
//! and the required fields of BSI TR-03183-2, version 2. Weights and rules are told in docs/reference/sbom.md.

use std::collections::HashSet;

use serde::Serialize;

use super::licenses::{self, Statement, Term};
use super::model::{Component, ComponentKind, Family, Format, Hash, HashAlgorithm, Sbom};
use super::{Document, purl};

/// How good a document is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// From 0 to 100: the weighted mean of the parts that apply, rounded down to a tenth.
    pub score: f64,
    /// What it is made of.
    pub parts: Vec<Part>,
    /// The lists of demands that others have made.
    pub profiles: Vec<Profile>,
}

/// One property of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// How much it counts.
    pub weight: u32,
    /// From 0 to 100; nothing where the question does not arise.
    pub score: Option<f64>,
    /// How many components, or the document itself, have the property.
    pub have: usize,
    /// Of how many.
    pub of: usize,
    /// Some that do not have it.
    pub lacking: Vec<String>,
}

/// A list of demands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// `ntia` or `bsi-tr-03183-2`.
    pub name: &'static str,
    /// Where the demands come from.
    pub source: &'static str,
    /// Whether all are met.
    pub met: bool,
    /// Each of them.
    pub demands: Vec<Demand>,
}

/// One demand of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// What is demanded.
    pub name: &'static str,
    /// Whether it is met.
    pub met: bool,
    /// How many components, or the document itself, meet it.
    pub have: usize,
    /// Of how many.
    pub of: usize,
}

/// How many of those that lack a property are named.
const LACKING: usize = 10;

/// Scores a document.
pub fn score(document: &Document) -> Score {
    let sbom = &document.sbom;
    let judged = Judged::new(document);
    let parts = judged.parts();
    let (mut sum, mut weights) = (0.0, 0.0);
    for part in &parts {
        if let Some(score) = part.score {
            sum += score * f64::from(part.weight);
            weights += f64::from(part.weight);
        }
    }
    let score = if weights > 0.0 { (sum / weights * 10.0).floor() / 10.0 } else { 0.0 };
    Score { score, parts, profiles: vec![judged.ntia(), judged.bsi(sbom)] }
}

struct Judged<'a> {
    document: &'a Document,
    sbom: &'a Sbom,
    /// The packages, the described artifact included: files are not asked for suppliers.
    components: Vec<&'a Component>,
    statements: Vec<Statement>,
    /// The ids that the dependency graph names.
    in_graph: HashSet<&'a str>,
}

/// Whether a licence statement has a property.
type Holds = fn(&Statement) -> bool;

/// What a part counts: how many have the property, of how many, and who lacks it.
#[derive(Default)]
struct Count {
    have: f64,
    of: usize,
    lacking: Vec<String>,
}

impl Count {
    fn document(have: bool) -> Self {
        Self { have: if have { 1.0 } else { 0.0 }, of: 1, lacking: Vec::new() }
    }

    fn add(&mut self, have: bool, label: impl FnOnce() -> String) {
        self.of += 1;
        if have {
            self.have += 1.0;
        } else if self.lacking.len() < LACKING {
            self.lacking.push(label());
        }
    }

    fn is_full(&self) -> bool {
        self.of > 0 && self.lacking.is_empty() && self.have >= ratio_of(self.of)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of components, never negative"
    )]
    fn whole(&self) -> usize {
        self.have.floor() as usize
    }
}

#[expect(clippy::cast_precision_loss, reason = "no document has 2^52 components")]
const fn ratio_of(count: usize) -> f64 {
    count as f64
}

impl<'a> Judged<'a> {
    fn new(document: &'a Document) -> Self {
        let sbom = &document.sbom;
        let components = sbom.all().filter(|component| component.kind != ComponentKind::File).collect();
        let edges = sbom.dependencies.iter().chain(&sbom.contains);
        let in_graph = edges.flat_map(|(of, on)| std::iter::once(of).chain(on)).map(String::as_str).collect();
        let statements = licenses::statements(sbom).into_iter().filter(|statement| !statement.file).collect();
        Self { document, sbom, components, statements, in_graph }
    }

    fn each(&self, has: impl Fn(&Component) -> bool) -> Count {
        let mut count = Count::default();
        for component in &self.components {
            count.add(has(component), || component.label());
        }
        count
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![
            part("schema", "does the document follow its schema, without faults beyond it?", 10, self.schema()),
            part("format", "is the version of the format a current one?", 5, self.format()),
            part(
                "timestamp",
                "does it say when it was made?",
                5,
                Count::document(self.sbom.metadata.timestamp.is_some()),
            ),
            part("authors", "does it say who made it? Half for a tool alone", 10, self.authors()),
            part("subject", "does it say what it describes?", 5, Count::document(!self.sbom.described.is_empty())),
            part("names", "has every component a name?", 5, self.each(has_name)),
            part("versions", "has every component a version?", 10, self.each(has_version)),
            part("identifiers", "has every component a package URL, CPE or the like?", 10, self.each(has_identifier)),
            part("suppliers", "has every component a supplier?", 10, self.each(has_supplier)),
            part("dependencies", "does the dependency graph name every component?", 10, self.dependencies()),
            part("checksums", "has every component a digest?", 10, self.each(has_hash)),
            part("strong-checksums", "where there is a digest, is one of a strong algorithm?", 5, self.strong()),
            part(
                "licenses",
                "has every component a licence?",
                10,
                self.each(|component| !component.licenses.is_empty()),
            ),
        ];
        let of_licenses: [(&str, &str, u32, Holds); 3] = [
            ("license-standard", "where there is a licence, is it an expression of the SPDX list?", 5, is_standard),
            ("license-current", "is no identifier in it a deprecated one?", 2, |statement| {
                !any_term(statement, |term| term.deprecated)
            }),
            ("license-permissive", "can it be fulfilled without copyleft?", 1, |statement| {
                !every_way_has(statement, |term| term.copyleft)
            }),
        ];
        for (name, question, weight, holds) in of_licenses {
            let mut count = Count::default();
            for statement in self.statements.iter().filter(|statement| !statement.stated.is_empty()) {
                count.add(holds(statement), || statement.component.clone());
            }
            parts.push(part(name, question, weight, count));
        }
        parts.push(part("signature", "where it carries a signature inside, is it complete?", 2, self.signature()));
        parts
    }

    fn schema(&self) -> Count {
        let mut count = Count::document(self.document.findings.errors.is_empty());
        count.lacking = self.document.findings.errors.iter().take(LACKING).map(ToString::to_string).collect();
        count
    }

    fn format(&self) -> Count {
        Count::document(self.sbom.format.as_ref().is_some_and(|format| at_least(format, (1, 4), (2, 3))))
    }

    fn authors(&self) -> Count {
        let metadata = &self.sbom.metadata;
        let have = if !metadata.authors.is_empty() {
            1.0
        } else if !metadata.tools.is_empty() {
            0.5
        } else {
            0.0
        };
        Count { have, of: 1, lacking: Vec::new() }
    }

    /// A document of one component has no graph to show.
    fn dependencies(&self) -> Count {
        if self.components.len() < 2 {
            return Count::default();
        }
        self.each(|component| self.in_graph.contains(component.id.as_str()))
    }

    fn strong(&self) -> Count {
        let mut count = Count::default();
        for component in self.components.iter().filter(|component| has_hash(component)) {
            count.add(has_strong_hash(component), || component.label());
        }
        count
    }

    fn signature(&self) -> Count {
        let Some(signature) = &self.sbom.signature else { return Count::default() };
        let mut count = Count { have: 0.0, of: signature.signatures, lacking: Vec::new() };
        // Half for a value, half for the means to check it; without a value there is nothing to check.
        let checkable = signature.with_key.min(signature.with_value);
        count.have = (ratio_of(signature.with_value) + ratio_of(checkable)) / 2.0;
        count
    }

    fn ntia(&self) -> Profile {
        let metadata = &self.sbom.metadata;
        let author = !metadata.authors.is_empty() || !metadata.tools.is_empty();
        profile(
            "ntia",
            "NTIA, The Minimum Elements For a Software Bill of Materials, 2021",
            vec![
                demand("supplier name", &self.each(has_supplier)),
                demand("component name", &self.each(has_name)),
                demand("version of the component", &self.each(has_version)),
                demand("other unique identifiers", &self.each(has_identifier)),
                demand("dependency relationship", &self.relationship()),
                demand("author of SBOM data", &Count::document(author)),
                demand("timestamp", &Count::document(metadata.timestamp.is_some())),
            ],
        )
    }

    /// The NTIA asks for the graph as far as it is known; a document of one component has none.
    fn relationship(&self) -> Count {
        Count::document(self.components.len() < 2 || !self.in_graph.is_empty())
    }

    fn bsi(&self, sbom: &Sbom) -> Profile {
        let current = sbom.format.as_ref().is_some_and(|format| at_least(format, (1, 6), (3, 0)));
        let contactable = |party: &super::model::Party| party.email.is_some() || party.url.is_some();
        let metadata = &sbom.metadata;
        let creator = metadata.authors.iter().chain(&metadata.supplier).any(contactable);
        let property = |name: &'static str| move |component: &Component| component.property(name).is_some();
        let sha512 = |component: &Component| {
            component.hashes.iter().any(|hash| hash.algorithm == HashAlgorithm::Sha512 && hash.is_well_formed())
        };
        let component_creator =
            |component: &Component| component.authors.iter().chain(&component.supplier).any(contactable);
        let mut licensed = Count::default();
        for statement in &self.statements {
            licensed.add(is_standard(statement), || statement.component.clone());
        }
        profile(
            "bsi-tr-03183-2",
            "BSI TR-03183 part 2, version 2.0, required data fields",
            vec![
                demand("CycloneDX 1.6 or SPDX 3.0.1, or higher", &Count::document(current)),
                demand("creator of the SBOM, with email or URL", &Count::document(creator)),
                demand("timestamp", &Count::document(metadata.timestamp.is_some())),
                demand("component creator, with email or URL", &self.each(component_creator)),
                demand("component name", &self.each(has_name)),
                demand("component version", &self.each(has_version)),
                demand("filename of the component", &self.each(property("bsi:component:filename"))),
                demand("dependencies on other components", &self.dependencies_stated()),
                demand("distribution licences, as SPDX expressions", &licensed),
                demand("SHA-512 of the deployable component", &self.each(sha512)),
                demand("executable property", &self.each(property("bsi:component:executable"))),
                demand("archive property", &self.each(property("bsi:component:archive"))),
                demand("structured property", &self.each(property("bsi:component:structured"))),
            ],
        )
    }

    /// Every component must say what it depends on, be it on nothing.
    fn dependencies_stated(&self) -> Count {
        self.each(|component| self.sbom.dependencies.contains_key(&component.id))
    }
}

fn part(name: &'static str, question: &'static str, weight: u32, count: Count) -> Part {
    let score = (count.of > 0).then(|| (count.have / ratio_of(count.of) * 1000.0).floor() / 10.0);
    Part { name, question, weight, score, have: count.whole(), of: count.of, lacking: count.lacking }
}

fn profile(name: &'static str, source: &'static str, demands: Vec<Demand>) -> Profile {
    Profile { name, source, met: demands.iter().all(|demand| demand.met), demands }
}

fn demand(name: &'static str, count: &Count) -> Demand {
    Demand { name, met: count.is_full(), have: count.whole(), of: count.of }
}

/// Whether a format is at least of this version, of CycloneDX or of SPDX.
fn at_least(format: &Format, cyclonedx: (u32, u32), spdx: (u32, u32)) -> bool {
    let mut numbers = format.version.split('.').map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= if format.family == Family::CycloneDx { cyclonedx } else { spdx }
}

fn has_name(component: &Component) -> bool {
    !component.name.trim().is_empty()
}

fn has_version(component: &Component) -> bool {
    purl::version(component).is_some()
}

fn has_identifier(component: &Component) -> bool {
    component.purl.as_deref().and_then(purl::Purl::parse).is_some() || !component.identifiers.is_empty()
}

fn has_supplier(component: &Component) -> bool {
    component.supplier.as_ref().is_some_and(super::model::Party::is_told)
}

fn has_hash(component: &Component) -> bool {
    component.hashes.iter().any(Hash::is_well_formed)
}

fn has_strong_hash(component: &Component) -> bool {
    component.hashes.iter().any(|hash| hash.algorithm.is_strong() && hash.is_well_formed())
}

fn is_standard(statement: &Statement) -> bool {
    statement.unknown.is_empty() && !statement.alternatives.is_empty() && !any_term(statement, |term| !term.listed)
}

fn any_term(statement: &Statement, holds: impl Fn(&Term) -> bool) -> bool {
    statement.alternatives.iter().flatten().any(holds)
}

fn every_way_has(statement: &Statement, holds: impl Fn(&Term) -> bool) -> bool {
    !statement.alternatives.is_empty() && statement.alternatives.iter().all(|way| way.iter().any(&holds))
}
