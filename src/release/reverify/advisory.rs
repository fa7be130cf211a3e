//! Advisories: an export of OSV's or RustSec's database in, those that concern a component out.
//!
//! Source: OSV schema 1.7 ("affected" and its evaluation algorithm); RustSec's advisory format (advisory-db).
//! Invariant: a version that this room cannot order is told as such and never taken for unaffected.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use jiff::Timestamp;
use serde::Deserialize;

use crate::release::evidence::json;
use crate::release::evidence::sbom::purl::Purl;
use crate::types::{Code, Reason, limits};

/// The advisories of an export, by the package that they are about.
#[derive(Debug, Default)]
pub struct Advisories {
    by_package: HashMap<(String, String), Vec<Affected>>,
    count: usize,
}

/// One package's part of an advisory.
#[derive(Debug, Clone)]
struct Affected {
    id: String,
    aliases: Vec<String>,
    summary: String,
    published: Option<Timestamp>,
    ecosystem: Ecosystem,
    versions: Vec<String>,
    ranges: Vec<Range>,
    /// RustSec's way: what is not among these is affected.
    fixed: Option<Vec<semver::VersionReq>>,
}

/// An advisory that concerns a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// Its id.
    pub id: String,
    /// Its other names, as `CVE-2024-0001`.
    pub aliases: Vec<String>,
    /// What it says, in a line.
    pub summary: String,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// Whether the version could be held against it; else nobody knows whether the component is affected.
    pub certain: bool,
}

/// How versions are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ecosystem {
    Semver,
    Python,
    Debian,
    /// By the list of versions alone.
    Unordered,
}

#[derive(Debug, Clone)]
struct Range {
    ordered: bool,
    events: Vec<Event>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Event {
    #[serde(default)]
    introduced: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    last_affected: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OsvDocument {
    id: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    published: Option<Timestamp>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    affected: Vec<OsvAffected>,
}

#[derive(Debug, Deserialize)]
struct OsvAffected {
    #[serde(default)]
    package: Option<OsvPackage>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    ranges: Vec<OsvRange>,
}

#[derive(Debug, Deserialize)]
struct OsvPackage {
    ecosystem: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct OsvRange {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct RustsecDocument {
    advisory: RustsecAdvisory,
    #[serde(default)]
    versions: RustsecVersions,
}

#[derive(Debug, Deserialize)]
struct RustsecAdvisory {
    id: String,
    package: String,
    #[serde(default)]
    date: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    withdrawn: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RustsecVersions {
    #[serde(default)]
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

impl Advisories {
    /// How many advisories were taken in, withdrawn ones left out.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none at all.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes in one document of an OSV export.
    ///
    /// # Errors
    /// Where it is none, or one too many.
    pub fn add_osv(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let value = json::parse_value(bytes)?;
        let document: OsvDocument = serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
        if document.withdrawn.is_some() {
            return Ok(());
        }
        self.room()?;
        for affected in document.affected {
            let Some(package) = affected.package else { continue };
            // `Debian:12` is Debian's, of one release.
            let family = package.ecosystem.split(':').next().unwrap_or_default();
            let ecosystem = match family {
                "crates.io" | "npm" | "Go" | "Hex" | "Pub" | "SwiftURL" => Ecosystem::Semver,
                "PyPI" => Ecosystem::Python,
                "Debian" | "Ubuntu" => Ecosystem::Debian,
                _ => Ecosystem::Unordered,
            };
            // Commits are no versions of a component.
            let ranges = affected.ranges.into_iter().filter(|range| range.kind != "GIT").map(|range| Range {
                ordered: range.kind == "SEMVER" || ecosystem != Ecosystem::Unordered,
                events: range.events,
            });
            let entry = Affected {
                id: document.id.clone(),
                aliases: document.aliases.clone(),
                summary: document.summary.clone(),
                published: document.published,
                ecosystem: if ecosystem == Ecosystem::Unordered { Ecosystem::Semver } else { ecosystem },
                versions: affected.versions,
                ranges: ranges.collect(),
                fixed: None,
            };
            let key = (package.ecosystem.clone(), name_in(family, &package.name));
            self.by_package.entry(key).or_default().push(entry);
        }
        Ok(())
    }

    /// Takes in one file of RustSec's database: Markdown with a TOML block in front.
    ///
    /// # Errors
    /// Where it is none, or one too many.
    pub fn add_rustsec(&mut self, text: &str) -> Result<(), Reason> {
        let block = text.trim_start().strip_prefix("```toml").and_then(|rest| rest.split_once("```"));
        let (front, words) = block.ok_or_else(|| malformed("it does not begin with a block of TOML"))?;
        let document: RustsecDocument = toml::from_str(front).map_err(|error| malformed(error.message()))?;
        if document.advisory.withdrawn.is_some() {
            return Ok(());
        }
        self.room()?;
        let mut fixed = Vec::new();
        for requirement in document.versions.patched.iter().chain(&document.versions.unaffected) {
            let parsed = semver::VersionReq::parse(requirement);
            fixed.push(parsed.map_err(|error| malformed(format!("`{requirement}` is no requirement: {error}")))?);
        }
        let title = words.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
        let published = document.advisory.date.and_then(|date| format!("{date}T00:00:00Z").parse().ok());
        let entry = Affected {
            id: document.advisory.id,
            aliases: document.advisory.aliases,
            summary: title.trim().to_owned(),
            published,
            ecosystem: Ecosystem::Semver,
            versions: Vec::new(),
            ranges: Vec::new(),
            fixed: Some(fixed),
        };
        let key = ("crates.io".to_owned(), document.advisory.package);
        self.by_package.entry(key).or_default().push(entry);
        Ok(())
    }

    /// What concerns the component of this package URL: one entry an advisory, sorted.
    pub fn concerning(&self, purl: &str) -> Vec<Concern> {
        let Some(purl) = Purl::parse(purl) else { return Vec::new() };
        let Some((ecosystem, name)) = package_of(&purl) else { return Vec::new() };
        let Some(affected) = self.by_package.get(&(ecosystem, name)) else { return Vec::new() };
        let mut found: BTreeMap<&str, Concern> = BTreeMap::new();
        for entry in affected {
            let concerned = purl.version.as_deref().map_or(Some(true), |version| entry.concerns(version));
            let certain = purl.version.is_some() && concerned.is_some();
            if concerned == Some(false) {
                continue;
            }
            let concern = found.entry(&entry.id).or_insert_with(|| Concern {
                id: entry.id.clone(),
                aliases: entry.aliases.clone(),
                summary: entry.summary.clone(),
                published: entry.published,
                certain,
            });
            concern.certain |= certain;
        }
        found.into_values().collect()
    }

    fn room(&mut self) -> Result<(), Reason> {
        if self.count >= limits::ADVISORIES {
            let message = format!("the export has more than {} advisories", limits::ADVISORIES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl Affected {
    /// Whether this version is concerned; nothing where its order is not known.
    fn concerns(&self, version: &str) -> Option<bool> {
        if self.versions.iter().any(|listed| listed == version) {
            return Some(true);
        }
        if let Some(fixed) = &self.fixed {
            let version = semver::Version::parse(version).ok()?;
            // A requirement without a pre-release matches none of them: a pre-release of a fixed version counts as one.
            let plain = semver::Version::new(version.major, version.minor, version.patch);
            return Some(!fixed.iter().any(|requirement| requirement.matches(&version) || requirement.matches(&plain)));
        }
        let mut certain = true;
        for range in &self.ranges {
            match self.in_range(range, version) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => certain = false,
            }
        }
        // Where only versions are listed, the list is whole (OSV: "versions" must be enumerated without ranges).
        certain.then_some(false)
    }

    /// OSV's own algorithm: the last event at or before the version decides.
    fn in_range(&self, range: &Range, version: &str) -> Option<bool> {
        if !range.ordered {
            return None;
        }
        let mut events = Vec::new();
        for event in &range.events {
            if let Some(introduced) = &event.introduced {
                events.push((introduced, Bound::Introduced));
            } else if let Some(fixed) = &event.fixed {
                events.push((fixed, Bound::Fixed));
            } else if let Some(last) = &event.last_affected {
                events.push((last, Bound::LastAffected));
            }
        }
        let mut state = false;
        let mut newest: Option<&str> = None;
        for (at, bound) in events {
            let reached = at == "0" || {
                let order = self.order(version, at)?;
                order == Ordering::Greater || (order == Ordering::Equal && bound != Bound::LastAffected)
            };
            if !reached {
                continue;
            }
            let later = match newest {
                None => true,
                Some("0") => true,
                Some(_) if at == "0" => false,
                Some(newest) => self.order(at, newest)? != Ordering::Less,
            };
            if later {
                newest = Some(at);
                state = bound == Bound::Introduced;
            }
        }
        Some(state)
    }

    fn order(&self, one: &str, other: &str) -> Option<Ordering> {
        match self.ecosystem {
            Ecosystem::Semver | Ecosystem::Unordered => {
                let parse = |text: &str| semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).ok();
                Some(parse(one)?.cmp_precedence(&parse(other)?))
            }
            Ecosystem::Python => {
                let parse = |text: &str| pep440_rs::Version::from_str(text).ok();
                Some(parse(one)?.cmp(&parse(other)?))
            }
            Ecosystem::Debian => {
                let parse = |text: &str| debversion::Version::from_str(text).ok();
                Some(parse(one)?.cmp(&parse(other)?))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Introduced,
    Fixed,
    LastAffected,
}

/// OSV's ecosystem and name of a package URL; nothing for a type that OSV has no ecosystem for.
fn package_of(purl: &Purl) -> Option<(String, String)> {
    let (kind, path) = purl.package.strip_prefix("pkg:")?.split_once('/')?;
    let path = percent_decoded(path);
    let family = match kind {
        "cargo" => "crates.io",
        "npm" => "npm",
        "pypi" => "PyPI",
        "golang" => "Go",
        "maven" => "Maven",
        "gem" => "RubyGems",
        "nuget" => "NuGet",
        "composer" => "Packagist",
        "hex" => "Hex",
        "pub" => "Pub",
        "deb" | "apk" => {
            let distro = purl.qualifiers.get("distro")?;
            let (name, version) = distro.rsplit_once('-')?;
            // OSV's advisories are about source packages.
            let package = purl
                .qualifiers
                .get("upstream")
                .map(String::as_str)
                .unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default());
            let package = package.split('@').next().unwrap_or_default().to_owned();
            return match (kind, name) {
                ("deb", "debian") => Some((format!("Debian:{}", version.split('.').next()?), package)),
                ("deb", "ubuntu") => Some((format!("Ubuntu:{version}"), package)),
                ("apk", "alpine") => {
                    let mut parts = version.split('.');
                    Some((format!("Alpine:v{}.{}", parts.next()?, parts.next()?), package))
                }
                _ => None,
            };
        }
        _ => return None,
    };
    let name = if family == "Maven" { path.replacen('/', ":", 1) } else { path };
    Some((family.to_owned(), name_in(family, &name)))
}

/// A name as the ecosystem compares names.
fn name_in(family: &str, name: &str) -> String {
    match family {
        "PyPI" => {
            let lower = name.to_ascii_lowercase();
            lower.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
        }
        _ => name.to_owned(),
    }
}

fn percent_decoded(path: &str) -> String {
    path.split('/')
        .map(|part| {
            let part = part.replace('+', "%2B");
            url::form_urlencoded::parse(part.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
        })
        .collect::<Vec<_>>()
        .join("/")
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::AdvisoryMalformed, format!("not an advisory: {}", message.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn osv(ecosystem: &str, name: &str, affected: &serde_json::Value) -> Advisories {
        let mut affected = affected.clone();
        affected["package"] = json!({"ecosystem": ecosystem, "name": name});
        let document = json!({
            "schema_version": "1.7.0", "id": "OSV-1", "modified": "2026-01-02T00:00:00Z",
            "published": "2026-01-01T00:00:00Z", "summary": "bad", "affected": [affected],
        });
        let mut advisories = Advisories::default();
        advisories.add_osv(document.to_string().as_bytes()).unwrap();
        advisories
    }

    fn found(advisories: &Advisories, purl: &str) -> Option<bool> {
        advisories.concerning(purl).first().map(|concern| concern.certain)
    }

    #[test]
    fn the_last_event_at_or_before_the_version_decides() {
        let ranges = json!({"ranges": [{"type": "SEMVER", "events": [
            {"introduced": "0"}, {"fixed": "1.2.0"}, {"introduced": "2.0.0-alpha"}, {"last_affected": "2.3.1"},
        ]}]});
        let advisories = osv("crates.io", "foo", &ranges);
        for version in ["0.1.0", "1.1.9", "1.2.0-rc1", "2.0.0", "2.3.1"] {
            assert_eq!(found(&advisories, &format!("pkg:cargo/foo@{version}")), Some(true), "{version}");
        }
        for version in ["1.2.0", "1.9.0", "2.3.2", "3.0.0"] {
            assert_eq!(found(&advisories, &format!("pkg:cargo/foo@{version}")), None, "{version}");
        }
        assert_eq!(found(&advisories, "pkg:cargo/bar@1.0.0"), None);
        assert_eq!(found(&advisories, "pkg:npm/foo@1.0.0"), None, "another ecosystem");
    }

    #[test]
    fn versions_are_ordered_as_their_ecosystem_orders_them() {
        let before =
            |fixed: &str| json!({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]});
        let python = osv("PyPI", "Foo.Bar", &before("1.10"));
        assert_eq!(found(&python, "pkg:pypi/foo-bar@1.9.post1"), Some(true));
        assert_eq!(found(&python, "pkg:pypi/foo-bar@1.10.0"), None);
        let debian = osv("Debian:12", "bash", &before("5.2.15-2+b8"));
        assert_eq!(found(&debian, "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12"), Some(true));
        assert_eq!(found(&debian, "pkg:deb/debian/bash@5.2.15-2%2Bb8?arch=amd64&distro=debian-12"), None);
        assert_eq!(found(&debian, "pkg:deb/debian/bash@5.2~rc1-1?distro=debian-12.11"), Some(true));
        assert_eq!(found(&debian, "pkg:deb/debian/libbash@5.1?distro=debian-12&upstream=bash"), Some(true));
        assert_eq!(found(&debian, "pkg:deb/debian/bash@5.1?distro=debian-13"), None);
    }

    #[test]
    fn a_version_that_cannot_be_ordered_is_told_and_not_taken_for_sound() {
        let ranges = json!({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]});
        let maven = osv("Maven", "org.example:lib", &ranges);
        assert_eq!(found(&maven, "pkg:maven/org.example/lib@1.0"), Some(false));
        let listed = osv("Maven", "org.example:lib", &json!({"versions": ["1.0", "1.1"]}));
        assert_eq!(found(&listed, "pkg:maven/org.example/lib@1.1"), Some(true));
        assert_eq!(found(&listed, "pkg:maven/org.example/lib@1.2"), None);
        let semver =
            osv("npm", "@scope/lib", &json!({"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}));
        assert_eq!(found(&semver, "pkg:npm/%40scope/lib"), Some(false), "no version: nobody knows");
        assert_eq!(found(&semver, "pkg:npm/%40scope/lib@1.0.0"), Some(true));
    }

    #[test]
    fn rustsec_says_what_is_not_affected() {
        let text = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"foo\"\ndate = \"2026-01-01\"\n\
                    aliases = [\"CVE-2026-1\"]\n[versions]\npatched = [\">= 1.2.3\"]\nunaffected = [\"< 0.9.0\"]\n```\n\n# Bad foo\n\nWords.\n";
        let mut advisories = Advisories::default();
        advisories.add_rustsec(text).unwrap();
        let concern = advisories.concerning("pkg:cargo/foo@1.0.0");
        assert_eq!(
            concern.first().map(|it| (it.id.as_str(), it.summary.as_str())),
            Some(("RUSTSEC-2026-0001", "Bad foo"))
        );
        assert_eq!(found(&advisories, "pkg:cargo/foo@0.8.0"), None);
        assert_eq!(found(&advisories, "pkg:cargo/foo@1.2.3"), None);
        let withdrawn = text.replace("aliases", "withdrawn = \"2026-01-02\"\naliases");
        let mut advisories = Advisories::default();
        advisories.add_rustsec(&withdrawn).unwrap();
        assert!(advisories.is_empty());
    }

    #[test]
    fn what_is_no_advisory_is_refused() {
        let mut advisories = Advisories::default();
        assert_eq!(advisories.add_osv(b"[]").unwrap_err().code.as_str(), "advisory-malformed");
        assert_eq!(advisories.add_rustsec("# no front").unwrap_err().code.as_str(), "advisory-malformed");
    }
}
