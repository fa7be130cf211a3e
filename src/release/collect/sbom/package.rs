//! What every ecosystem's packages have in common: names in, package URLs, licences and digests in the model's words out.

use std::collections::{BTreeMap, BTreeSet};

use packageurl::PackageUrl;

use super::Found;
use crate::release::evidence::json::base64_bytes;
use crate::release::evidence::sbom::model::{
    Acknowledgement, Component, ComponentKind, DEPENDENCY, ExternalReference, Hash, HashAlgorithm, License,
    LicenseTerm, Property, Scope,
};

/// A library of an ecosystem; its id is its package URL.
pub fn library(
    kind: &str,
    group: Option<&str>,
    name: &str,
    version: Option<&str>,
    qualifiers: &[(&str, &str)],
) -> Component {
    let purl = purl(kind, group, name, version, qualifiers);
    let id = purl.clone().unwrap_or_else(|| {
        let group = group.map(|group| format!("{group}/")).unwrap_or_default();
        format!("{kind}:{group}{name}@{}", version.unwrap_or_default())
    });
    let mut component = Component::new(ComponentKind::Library, id, name);
    component.group = group.filter(|group| !group.is_empty()).map(str::to_owned);
    component.version = version.filter(|version| !version.is_empty()).map(str::to_owned);
    component.purl = purl;
    component
}

/// A package URL; nothing where the parts make none.
pub fn purl(
    kind: &str,
    group: Option<&str>,
    name: &str,
    version: Option<&str>,
    qualifiers: &[(&str, &str)],
) -> Option<String> {
    let mut purl = PackageUrl::new(kind, name).ok()?;
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        purl.with_namespace(group).ok()?;
    }
    if let Some(version) = version.filter(|version| !version.is_empty()) {
        purl.with_version(version).ok()?;
    }
    for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
        purl.add_qualifier(*key, *value).ok()?;
    }
    Some(purl.to_string())
}

/// A licence as a package's makers state it: an SPDX expression where it is one, else their own words.
pub fn declared(text: &str) -> Option<License> {
    let text = text.trim();
    if text.is_empty() || matches!(text, "UNKNOWN" | "NOASSERTION" | "NONE") {
        return None;
    }
    let term = match spdx::Expression::parse(text) {
        Ok(_) => LicenseTerm::Expression(text.to_owned()),
        Err(_) => LicenseTerm::Name(text.chars().take(NAME_CHARS).collect()),
    };
    Some(License { acknowledgement: Acknowledgement::Declared, term })
}

/// Some packages put the whole text where the name belongs.
const NAME_CHARS: usize = 200;

/// An address that belongs to a component, where it is one: absolute, and of the form that the schema of CycloneDX
/// asks for (RFC 3987), which is stricter than what a browser would still open.
pub fn reference(kind: &str, url: &str) -> Option<ExternalReference> {
    let url = url.trim();
    fluent_uri::Iri::parse(url).ok()?;
    Some(ExternalReference { kind: kind.to_owned(), url: url.to_owned() })
}

/// Something that is said of a component and has no place of its own.
pub fn property(name: &str, value: impl Into<String>) -> Property {
    Property { name: name.to_owned(), value: value.into() }
}

/// Subresource integrity (W3C): `sha512-BASE64`, several with spaces between them; of each algorithm the first.
pub fn integrity(text: &str) -> Vec<Hash> {
    let mut hashes: Vec<Hash> = Vec::new();
    for word in text.split_whitespace() {
        let Some((algorithm, digest)) = word.split_once('-') else { continue };
        let digest = digest.split_once('?').map_or(digest, |(digest, _)| digest);
        let Some(bytes) = base64_bytes::decode(digest) else { continue };
        let hash = Hash::new(HashAlgorithm::from_name(algorithm), &hex::encode(bytes));
        let is_new = hashes.iter().all(|known| known.algorithm != hash.algorithm);
        if is_new && !matches!(hash.algorithm, HashAlgorithm::Other(_)) && hash.is_well_formed() {
            hashes.push(hash);
        }
    }
    hashes
}

/// `sha256:HEX`, as Python's lock files write it.
pub fn tagged_hash(text: &str) -> Option<Hash> {
    let (algorithm, digest) = text.trim().split_once([':', '='])?;
    let hash = Hash::new(HashAlgorithm::from_name(algorithm), digest);
    (hash.is_well_formed() && !matches!(hash.algorithm, HashAlgorithm::Other(_))).then_some(hash)
}

/// Why a component is there, from the weightiest reason to the slightest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// When the artifact runs.
    Runtime,
    /// When it runs with a feature that is not on by default.
    Optional,
    /// When it is built.
    Build,
    /// When it is worked on or tested.
    Development,
}

impl Need {
    /// The scope that it is.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Runtime => Scope::Required,
            Self::Optional => Scope::Optional,
            Self::Build | Self::Development => Scope::Excluded,
        }
    }

    /// Writes it into a component.
    pub fn tell(self, component: &mut Component) {
        let word = match self {
            Self::Runtime => None,
            Self::Optional => Some("optional"),
            Self::Build => Some("build"),
            Self::Development => Some("dev"),
        };
        component.scope = Some(self.scope());
        component.properties.extend(word.map(|word| property(DEPENDENCY, word)));
    }
}

/// Why each component is there: what is needed for a reason needs what it depends on for the same one, and the
/// weightiest reason counts. `starts` are what the project itself asks for.
pub fn needs<'a, N>(
    starts: impl IntoIterator<Item = (N, Need)>,
    below: impl Fn(&N) -> Vec<(N, Need)> + 'a,
) -> BTreeMap<N, Need>
where
    N: Ord + Clone,
{
    let mut needs: BTreeMap<N, Need> = BTreeMap::new();
    let mut open: BTreeMap<Need, BTreeSet<N>> = BTreeMap::new();
    for (node, need) in starts {
        open.entry(need).or_default().insert(node);
    }
    // The weightiest come first, so that what has a need already has the one that counts.
    while let Some((need, nodes)) = open.pop_first() {
        let mut stack: Vec<N> = nodes.into_iter().collect();
        while let Some(node) = stack.pop() {
            if needs.contains_key(&node) {
                continue;
            }
            for (next, of_edge) in below(&node) {
                match need.max(of_edge) {
                    same if same == need => stack.push(next),
                    slighter => _ = open.entry(slighter).or_default().insert(next),
                }
            }
            needs.insert(node, need);
        }
    }
    needs
}

/// Adds a component that is needed for this reason, as far as a reason is known.
pub fn add(found: &mut Found, mut component: Component, need: Option<Need>, location: &str) {
    if let Some(need) = need {
        need.tell(&mut component);
    }
    found.add_at(component, location);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_has_its_parts_encoded_and_its_qualifiers_in_order() {
        let url = purl("npm", Some("@angular"), "core", Some("1.0.0+b"), &[("z", "1"), ("a", "2")]);
        assert_eq!(url.as_deref(), Some("pkg:npm/%40angular/core@1.0.0%2Bb?a=2&z=1"));
        assert_eq!(purl("npm", None, "", Some("1"), &[]), None);
    }

    #[test]
    fn a_licence_is_an_expression_or_the_makers_own_words() {
        assert_eq!(declared("MIT OR Apache-2.0").unwrap().term, LicenseTerm::Expression("MIT OR Apache-2.0".into()));
        assert_eq!(declared("Apache 2").unwrap().term, LicenseTerm::Name("Apache 2".into()));
        assert_eq!(declared(" "), None);
    }

    #[test]
    fn an_address_has_the_form_that_the_schema_asks_for_or_is_left_out() {
        assert_eq!(reference("vcs", " https://example.com/a?b#c ").unwrap().url, "https://example.com/a?b#c");
        for wrong in
            ["", "a/b", "https://example.com/a\u{fffd}b", "https://example.com/a b", "https://a/[b]", "https://a/%zz"]
        {
            assert_eq!(reference("vcs", wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn integrity_is_read_and_what_is_no_digest_is_left_out() {
        let hashes = integrity("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= md9-AAAA sha512-AAAA sha1-AAAA");
        assert_eq!(hashes.len(), 1);
        assert_eq!(hashes[0].value, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }

    #[test]
    fn the_weightiest_need_counts_whatever_the_way_and_cycles_end() {
        let edges = [
            ("a", "b", Need::Runtime),
            ("b", "c", Need::Build),
            ("c", "d", Need::Runtime),
            ("t", "d", Need::Runtime),
            ("t", "e", Need::Runtime),
            ("d", "c", Need::Runtime),
        ];
        let below = |node: &&'static str| {
            edges.iter().filter(|(of, ..)| of == node).map(|(_, on, need)| (*on, *need)).collect()
        };
        let needs = needs([("a", Need::Runtime), ("t", Need::Development)], below);
        let expected = [
            ("a", Need::Runtime),
            ("b", Need::Runtime),
            ("c", Need::Build),
            ("d", Need::Build),
            ("e", Need::Development),
            ("t", Need::Development),
        ];
        assert_eq!(needs, expected.into());
    }
}
