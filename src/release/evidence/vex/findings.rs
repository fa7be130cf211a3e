//! What scanners found: their results in JSON in, one list of findings out.
//!
//! Formats: Trivy (`--format json`), Grype (`-o json`), cargo-audit (`--json`), OSV-Scanner (`--format json`), and
//! SARIF 2.1.0 of any of them. Which one it is, its members tell.

use serde::Serialize;
use serde_json::Value;

use crate::release::evidence::json;
use crate::types::{Code, Reason};

/// One vulnerability in one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The vulnerability's main name.
    pub vulnerability: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// The component's package URL where the scanner gives one, else its name and version.
    pub component: String,
    /// How bad it is.
    pub severity: Severity,
    /// The version that mends it.
    pub fixed_in: Option<String>,
    /// What it is, in a sentence.
    pub description: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The scanner does not say.
    #[default]
    Unknown,
    /// Of no consequence by itself.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity that a scanner's word stands for.
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "critical" => Self::Critical,
            "high" | "error" => Self::High,
            "medium" | "moderate" | "warning" => Self::Medium,
            "low" | "note" => Self::Low,
            "negligible" | "none" | "informational" => Self::Negligible,
            _ => Self::Unknown,
        }
    }

    /// The severity of a CVSS base score (FIRST, CVSS v3.1 section 5).
    fn from_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Medium,
            score if score > 0.0 => Self::Low,
            _ => Self::Negligible,
        }
    }
}

/// Reads a scanner's results.
///
/// # Errors
/// What strict JSON refuses; `malformed-json` where it is no format of those above, or a finding has no name: a finding
/// that was passed over would read as none.
pub fn parse(bytes: &[u8]) -> Result<Vec<Finding>, Reason> {
    let value = json::parse_value(bytes)?;
    let mut findings = if value.get("runs").is_some() {
        sarif(&value)?
    } else if value.get("Results").is_some() || value.get("SchemaVersion").is_some() {
        trivy(&value)?
    } else if value.get("matches").is_some() {
        grype(&value)?
    } else if value.get("vulnerabilities").and_then(|found| found.get("list")).is_some() {
        cargo_audit(&value)?
    } else if value.get("results").is_some() {
        osv(&value)?
    } else {
        return Err(Reason::new(
            Code::MalformedJson,
            "the results are of none of Trivy, Grype, cargo-audit, OSV-Scanner and SARIF",
        ));
    };
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A member that a finding cannot be without.
fn needed(value: &Value, pointer: &str) -> Result<String, Reason> {
    text(value, pointer).ok_or_else(|| {
        Reason::new(
            Code::MalformedJson,
            format!("a finding has no {}", pointer.trim_start_matches('/').replace('/', ".")),
        )
    })
}

fn named(name: Option<String>, version: Option<String>) -> String {
    match (name, version) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        (name, _) => name.unwrap_or_default(),
    }
}

fn trivy(value: &Value) -> Result<Vec<Finding>, Reason> {
    list(value, "/Results")
        .flat_map(|result| list(result, "/Vulnerabilities"))
        .map(|found| {
            Ok(Finding {
                vulnerability: needed(found, "/VulnerabilityID")?,
                aliases: texts(found, "/VendorIDs"),
                component: text(found, "/PkgIdentifier/PURL")
                    .unwrap_or_else(|| named(text(found, "/PkgName"), text(found, "/InstalledVersion"))),
                severity: text(found, "/Severity").map_or(Severity::Unknown, |word| Severity::from_word(&word)),
                fixed_in: text(found, "/FixedVersion"),
                description: text(found, "/Title"),
            })
        })
        .collect()
}

fn grype(value: &Value) -> Result<Vec<Finding>, Reason> {
    list(value, "/matches")
        .map(|found| {
            Ok(Finding {
                vulnerability: needed(found, "/vulnerability/id")?,
                aliases: list(found, "/relatedVulnerabilities").filter_map(|other| text(other, "/id")).collect(),
                component: text(found, "/artifact/purl")
                    .unwrap_or_else(|| named(text(found, "/artifact/name"), text(found, "/artifact/version"))),
                severity: text(found, "/vulnerability/severity")
                    .map_or(Severity::Unknown, |word| Severity::from_word(&word)),
                fixed_in: texts(found, "/vulnerability/fix/versions").into_iter().next(),
                description: text(found, "/vulnerability/description"),
            })
        })
        .collect()
}

fn cargo_audit(value: &Value) -> Result<Vec<Finding>, Reason> {
    list(value, "/vulnerabilities/list")
        .map(|found| {
            let name = needed(found, "/package/name")?;
            let version = needed(found, "/package/version")?;
            // RustSec gives a CVSS vector and no word; without a library's help the vector is not guessed at.
            let severity = text(found, "/advisory/severity").map(|word| Severity::from_word(&word));
            Ok(Finding {
                vulnerability: needed(found, "/advisory/id")?,
                aliases: texts(found, "/advisory/aliases"),
                component: format!("pkg:cargo/{name}@{version}"),
                severity: severity.unwrap_or_default(),
                fixed_in: texts(found, "/versions/patched").into_iter().next(),
                description: text(found, "/advisory/title"),
            })
        })
        .collect()
}

fn osv(value: &Value) -> Result<Vec<Finding>, Reason> {
    let packages = list(value, "/results").flat_map(|result| list(result, "/packages"));
    let mut findings = Vec::new();
    for package in packages {
        let component = component_of_osv(package);
        for found in list(package, "/vulnerabilities") {
            let vulnerability = needed(found, "/id")?;
            let score = list(package, "/groups")
                .find(|group| texts(group, "/ids").contains(&vulnerability))
                .and_then(|group| text(group, "/max_severity"))
                .and_then(|score| score.parse().ok());
            let word = text(found, "/database_specific/severity");
            findings.push(Finding {
                aliases: texts(found, "/aliases"),
                component: component.clone(),
                severity: word
                    .map(|word| Severity::from_word(&word))
                    .or_else(|| score.map(Severity::from_score))
                    .unwrap_or_default(),
                fixed_in: list(found, "/affected")
                    .flat_map(|affected| list(affected, "/ranges"))
                    .flat_map(|range| list(range, "/events"))
                    .find_map(|event| text(event, "/fixed")),
                description: text(found, "/summary"),
                vulnerability,
            });
        }
    }
    Ok(findings)
}

fn component_of_osv(package: &Value) -> String {
    let name = text(package, "/package/name");
    let version = text(package, "/package/version");
    let kind = match text(package, "/package/ecosystem").as_deref() {
        Some("crates.io") => Some("cargo"),
        Some("npm") => Some("npm"),
        Some("PyPI") => Some("pypi"),
        Some("Go") => Some("golang"),
        _ => None,
    };
    match (kind, &name, &version) {
        (Some(kind), Some(name), Some(version)) => {
            format!("pkg:{kind}/{}@{version}", name.replace('@', "%40"))
        }
        _ => named(name, version),
    }
}

fn sarif(value: &Value) -> Result<Vec<Finding>, Reason> {
    let mut findings = Vec::new();
    for run in list(value, "/runs") {
        for result in list(run, "/results") {
            // A rule is named by `ruleId`, or by the reference beside it (SARIF 2.1.0 section 3.27.5).
            let rule = text(result, "/ruleId").map_or_else(|| needed(result, "/rule/id"), Ok)?;
            let described = list(run, "/tool/driver/rules").find(|known| text(known, "/id").as_deref() == Some(&rule));
            let score = described
                .and_then(|rule| text(rule, "/properties/security-severity"))
                .and_then(|score| score.parse().ok());
            let level = text(result, "/level").map(|word| Severity::from_word(&word));
            let component = list(result, "/locations")
                .find_map(|location| {
                    text(location, "/message/text").or_else(|| text(location, "/physicalLocation/artifactLocation/uri"))
                })
                .unwrap_or_default();
            findings.push(Finding {
                vulnerability: vulnerability_of_rule(&rule).to_owned(),
                aliases: Vec::new(),
                component,
                severity: score.map(Severity::from_score).or(level).unwrap_or_default(),
                fixed_in: None,
                description: described.and_then(|rule| text(rule, "/shortDescription/text")),
            });
        }
    }
    Ok(findings)
}

/// The vulnerability that a SARIF rule is about: Grype appends the package to the CVE's name.
pub fn vulnerability_of_rule(rule: &str) -> &str {
    let rule = rule.trim();
    let Some(rest) = rule.strip_prefix("CVE-") else { return rule };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let year = digits(rest);
    match rest.get(year..).and_then(|tail| tail.strip_prefix('-')) {
        Some(number) if year > 0 && digits(number) > 0 => {
            rule.get(.."CVE-".len() + year + 1 + digits(number)).unwrap_or(rule)
        }
        _ => rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scanner_is_recognised() {
        let trivy = br#"{"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{"VulnerabilityID": "CVE-2026-1",
            "PkgName": "a", "InstalledVersion": "1", "PkgIdentifier": {"PURL": "pkg:deb/debian/a@1"},
            "Severity": "CRITICAL", "FixedVersion": "2"}]}]}"#;
        let grype = br#"{"matches": [{"vulnerability": {"id": "CVE-2026-1", "severity": "Critical",
            "fix": {"versions": ["2"]}}, "artifact": {"name": "a", "version": "1", "purl": "pkg:deb/debian/a@1"}}]}"#;
        for results in [&trivy[..], &grype[..]] {
            let found = parse(results).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].vulnerability, "CVE-2026-1");
            assert_eq!(found[0].component, "pkg:deb/debian/a@1");
            assert_eq!(found[0].severity, Severity::Critical);
            assert_eq!(found[0].fixed_in.as_deref(), Some("2"));
        }
        let audit = br#"{"vulnerabilities": {"found": true, "list": [{"advisory": {"id": "RUSTSEC-2026-0001",
            "aliases": ["CVE-2026-1"], "title": "t"}, "package": {"name": "a", "version": "1.0.0"},
            "versions": {"patched": [">=1.0.1"]}}]}}"#;
        assert_eq!(parse(audit).unwrap()[0].component, "pkg:cargo/a@1.0.0");
        let osv = br#"{"results": [{"packages": [{"package": {"name": "a", "version": "1.0.0", "ecosystem": "npm"},
            "groups": [{"ids": ["GHSA-1"], "max_severity": "9.8"}], "vulnerabilities": [{"id": "GHSA-1"}]}]}]}"#;
        let found = parse(osv).unwrap();
        assert_eq!((found[0].component.as_str(), found[0].severity), ("pkg:npm/a@1.0.0", Severity::Critical));
        assert!(parse(b"{}").is_err());
        assert!(parse(b"[1]").is_err());
    }

    #[test]
    fn the_package_behind_a_cve_is_cut_off() {
        assert_eq!(vulnerability_of_rule("CVE-2005-2541-tar"), "CVE-2005-2541");
        assert_eq!(vulnerability_of_rule(" CVE-2005-2541 "), "CVE-2005-2541");
        assert_eq!(vulnerability_of_rule("GHSA-xxxx-yyyy"), "GHSA-xxxx-yyyy");
        assert_eq!(vulnerability_of_rule("CVE-2005"), "CVE-2005");
        assert_eq!(vulnerability_of_rule("CVE-"), "CVE-");
    }
}
