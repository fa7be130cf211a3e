//! Package URLs: as a document writes them in, in forms that can be compared out.
//!
//! Two texts are the same package where their canonical forms are equal: percent-encoding, the order of qualifiers and
//! the letter case of what the type ignores do not matter. Counting is stricter still, so that nobody pads a list.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use packageurl::PackageUrl;

use super::model::Component;

/// A package URL taken apart and normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purl {
    /// Type, namespace and name in canonical form: `pkg:npm/%40angular/core`.
    pub package: String,
    /// The version, decoded.
    pub version: Option<String>,
    /// The qualifiers, decoded.
    pub qualifiers: BTreeMap<String, String>,
    /// The subpath.
    pub subpath: Option<String>,
}

/// Longer ones are no package's name.
const LENGTH_BYTES: usize = 4096;

impl Purl {
    /// Parses a package URL; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LENGTH_BYTES {
            return None;
        }
        let mut purl = PackageUrl::from_str(text.trim()).ok()?;
        let qualifiers = purl.qualifiers().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let version = purl.version().filter(|version| !version.is_empty()).map(str::to_owned);
        let subpath = purl.subpath().map(str::to_owned);
        let package = purl.without_version().without_subpath().clear_qualifiers().to_string();
        Some(Self { package, version, qualifiers, subpath })
    }

    /// The whole of it in one text that is equal for equal package URLs.
    pub fn canonical(&self) -> String {
        use std::fmt::Write as _;
        let mut text = self.package.clone();
        if let Some(version) = &self.version {
            let _ = write!(text, "@{version}");
        }
        for (key, value) in &self.qualifiers {
            let _ = write!(text, "?{key}={value}");
        }
        if let Some(subpath) = &self.subpath {
            let _ = write!(text, "#{subpath}");
        }
        text
    }
}

/// What a component is, whatever its version, qualifiers and letter case: what two documents are joined by.
pub fn package_key(component: &Component) -> String {
    match component.purl.as_deref().and_then(Purl::parse) {
        Some(purl) => purl.package.to_lowercase(),
        None => name_key(component),
    }
}

/// The version by which a component is compared: its own, else the one in its package URL.
pub fn version(component: &Component) -> Option<String> {
    let own = component.version.as_deref().map(str::trim).filter(|version| !version.is_empty());
    own.map(str::to_owned).or_else(|| component.purl.as_deref().and_then(Purl::parse)?.version)
}

/// The namespace and name of a component in lower case, for one without a package URL.
pub fn name_key(component: &Component) -> String {
    let group = component.group.as_deref().map(|group| format!("{}/", group.trim())).unwrap_or_default();
    format!("{group}{}", component.name.trim()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_package_url_are_one() {
        let canonical = |text: &str| Purl::parse(text).unwrap().canonical();
        for (a, b) in [
            (
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
                "pkg:deb/debian/libstdc++6@12.2.0-14+deb12u1?arch=amd64",
            ),
            ("pkg:PYPI/Django_Rest@1.0", "pkg:pypi/django-rest@1.0"),
            ("pkg:npm/%40angular/core@1.0", "pkg:npm/@angular/core@1.0"),
            ("pkg:deb/debian/x@1?b=2&a=1", "pkg:deb/debian/x@1?a=1&b=2"),
            ("pkg://cargo/serde@1.0.0", "pkg:cargo/serde@1.0.0"),
        ] {
            assert_eq!(canonical(a), canonical(b));
        }
    }

    #[test]
    fn what_is_no_package_url_is_none() {
        for text in ["", "serde", "pkg:", "pkg:cargo", "pkg:cargo/", "http://x/y", &"pkg:a/".repeat(2000)] {
            assert_eq!(Purl::parse(text), None, "{text}");
        }
    }
}
