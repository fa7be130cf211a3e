//! os-release(5) in, the distribution out.

use crate::release::collect::sbom::package::reference;
use crate::release::collect::sbom::{Scan, malformed, tree};
use crate::release::evidence::sbom::model::{Component, ComponentKind, Identifier};
use crate::types::Reason;

/// The distribution, as far as it says something of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Distribution {
    pub(super) id: String,
    version: String,
    build: String,
    name: String,
    cpe: String,
    home: String,
    bugs: String,
}

/// As long as no honest one is.
const BYTES: u64 = 64 * 1024;

/// Reads the first file of the two places that the manual names.
pub(super) fn read(scan: &Scan<'_>) -> Result<Option<Distribution>, Reason> {
    let places = ["etc/os-release", "usr/lib/os-release"];
    let Some(entry) = places.iter().find_map(|path| scan.follow(path).filter(|entry| entry.is_file())) else {
        return Ok(None);
    };
    let bytes = tree::read(scan.tree(), &entry.path, BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| malformed(&entry.path, "it is not UTF-8 text"))?;
    Ok(Some(parse(&text)).filter(|distribution| !distribution.id.is_empty() || !distribution.name.is_empty()))
}

fn parse(text: &str) -> Distribution {
    let mut distribution = Distribution::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let field = match key {
            "ID" => &mut distribution.id,
            "VERSION_ID" => &mut distribution.version,
            "BUILD_ID" => &mut distribution.build,
            "PRETTY_NAME" => &mut distribution.name,
            "CPE_NAME" => &mut distribution.cpe,
            "HOME_URL" => &mut distribution.home,
            "BUG_REPORT_URL" => &mut distribution.bugs,
            _ => continue,
        };
        *field = unquoted(value);
    }
    distribution
}

/// A value as a shell would read it: quotes go, a backslash keeps the character behind it.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut text = String::new();
    let mut characters = quoted.unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

impl Distribution {
    /// The value of a package URL's qualifier `distro`: `debian-12`.
    pub(super) fn qualifier(&self) -> String {
        let version = if self.version.is_empty() { &self.build } else { &self.version };
        [self.id.as_str(), version].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    }

    /// The operating system as a component.
    pub(super) fn component(&self) -> Component {
        let name = if self.id.is_empty() { &self.name } else { &self.id };
        let version = if self.version.is_empty() { &self.build } else { &self.version };
        let id = if version.is_empty() { format!("os:{name}") } else { format!("os:{name}@{version}") };
        let mut component = Component::new(ComponentKind::OperatingSystem, id, name);
        component.version = Some(version.clone()).filter(|version| !version.is_empty());
        component.description = Some(self.name.clone()).filter(|name| !name.is_empty());
        if !self.cpe.is_empty() {
            component.identifiers.push(Identifier { kind: "cpe".to_owned(), value: self.cpe.clone() });
        }
        for (kind, url) in [("website", &self.home), ("issue-tracker", &self.bugs)] {
            if url.starts_with("http") {
                component.references.extend(reference(kind, url));
            }
        }
        component
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_missing_versions_are_read_as_a_shell_reads_them() {
        let debian = parse("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n# ID=x\nID=debian\n");
        assert_eq!(
            (debian.qualifier().as_str(), debian.name.as_str()),
            ("debian-12", "Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(parse("ID=arch\nBUILD_ID=rolling").qualifier(), "arch-rolling");
        assert_eq!(parse("ID=debian").component().id, "os:debian");
        assert_eq!(unquoted(r#""a \"b\" \$c""#), r#"a "b" $c"#);
        assert_eq!(parse("nonsense\n=\nID").qualifier(), "");
    }
}
