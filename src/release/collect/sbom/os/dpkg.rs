//! dpkg's database: `var/lib/dpkg/status`, and one file a package in `status.d` where an image has no dpkg.

use std::collections::BTreeMap;

use super::release::Distribution;
use super::{Graph, copyright, package, purl};
use crate::release::collect::sbom::package::reference;
use crate::release::collect::sbom::{Found, Scan, malformed, tree};
use crate::release::evidence::sbom::model::{Component, License, Party, PartyKind};
use crate::types::{Reason, limits};

/// Reads what dpkg says is installed; returns the packages' ids.
pub(super) fn catalog(scan: &Scan<'_>, distribution: &Distribution, found: &mut Found) -> Vec<String> {
    let mut files: Vec<&str> = Vec::new();
    files.extend(scan.follow("var/lib/dpkg/status").filter(|entry| entry.is_file()).map(|entry| entry.path.as_str()));
    if let Some(folder) = scan.follow("var/lib/dpkg/status.d") {
        let stanzas = scan.children(&folder.path).filter(|entry| entry.is_file() && !entry.path.ends_with(".md5sums"));
        files.extend(stanzas.map(|entry| entry.path.as_str()));
    }
    let mut graph = Graph::default();
    let mut ids = Vec::new();
    for path in files {
        let Some(text) = found.keep(scan.read(path)) else { continue };
        // Names of maintainers are older than UTF-8 at times; nothing else in a stanza is anything but ASCII.
        let text = String::from_utf8_lossy(&text);
        for stanza in stanzas(&text) {
            match read(&stanza, path, distribution) {
                Ok(Some((component, names))) => {
                    let id = component.id.clone();
                    for name in names {
                        graph.provide(&name, &id);
                    }
                    graph.need(&id, needs(&stanza));
                    let component = with_licenses(component, scan, found);
                    found.add_at(component, path);
                    ids.push(id);
                }
                Ok(None) => {}
                Err(reason) => found.refuse(reason),
            }
        }
    }
    graph.tell(found);
    ids
}

type Stanza<'a> = BTreeMap<String, &'a str>;

/// Paragraphs of fields. A field's value may go on in lines that begin with a blank.
fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(['\n', '\r']);
            if rest.is_empty() {
                return None;
            }
            let end = rest.find("\n\n").unwrap_or(rest.len());
            let (paragraph, after) = rest.split_at(end);
            rest = after;
            let fields = fields(paragraph);
            if !fields.is_empty() {
                return Some(fields);
            }
        }
    })
}

fn fields(paragraph: &str) -> Stanza<'_> {
    let mut fields = BTreeMap::new();
    let mut at = 0;
    while let Some(rest) = paragraph.get(at..).filter(|rest| !rest.is_empty()) {
        // The field ends before a line that does not begin with a blank.
        let mut end = rest.len();
        for (newline, _) in rest.match_indices('\n') {
            if !rest.get(newline + 1..).is_some_and(|next| next.starts_with([' ', '\t'])) {
                end = newline;
                break;
            }
        }
        if let Some((name, value)) = rest.get(..end).and_then(|field| field.split_once(':')) {
            fields.entry(name.trim().to_ascii_lowercase()).or_insert(value.trim());
        }
        at += end + 1;
    }
    fields
}

/// The component of a stanza, and the names under which others need it; nothing for what is not on the disk.
fn read(
    stanza: &Stanza<'_>,
    path: &str,
    distribution: &Distribution,
) -> Result<Option<(Component, Vec<String>)>, Reason> {
    let field = |name: &str| stanza.get(name).copied().unwrap_or_default();
    // `want error state`: what was removed leaves its stanza behind. An image without dpkg has no such field.
    let state = field("status").split_whitespace().nth(2);
    if matches!(state, Some("not-installed" | "config-files")) {
        return Ok(None);
    }
    let (name, version) = (field("package"), field("version"));
    if name.is_empty() || version.is_empty() {
        return Err(malformed(path, "a package has no name or no version"));
    }
    let (source, source_version) = match field("source").split_once('(') {
        Some((source, version)) => (source.trim(), version.trim_end_matches(')').trim()),
        None => (field("source"), ""),
    };
    let upstream = match (source, source_version) {
        ("", _) | (_, "") => source.to_owned(),
        (source, version) => format!("{source}@{version}"),
    };
    let distro = distribution.qualifier();
    let qualifiers = [("arch", field("architecture")), ("distro", distro.as_str()), ("upstream", upstream.as_str())];
    let purl = purl("deb", &distribution.id, name, version, &qualifiers)
        .ok_or_else(|| malformed(path, format!("`{name}` is no package's name")))?;
    let mut component = package(purl, name, version);
    component.description = Some(field("description").lines().next().unwrap_or_default().to_owned())
        .filter(|description| !description.is_empty());
    component.supplier = maintainer(field("maintainer"));
    let home = field("homepage");
    if home.starts_with("http") {
        component.references.extend(reference("website", home));
    }
    let provided = relations(field("provides")).into_iter().flatten();
    let names = std::iter::once(name.to_owned()).chain(provided).collect();
    Ok(Some((component, names)))
}

/// `Name <address>`, of a team or of a person; nobody says which.
fn maintainer(text: &str) -> Option<Party> {
    let (name, email) = match text.split_once('<') {
        Some((name, email)) => (name.trim(), Some(email.trim_end_matches('>').trim().to_owned())),
        None => (text.trim(), None),
    };
    (!name.is_empty()).then(|| Party {
        kind: PartyKind::Organization,
        name: Some(name.trim_matches('"').to_owned()),
        email: email.filter(|email| email.contains('@')),
        url: None,
    })
}

fn needs(stanza: &Stanza<'_>) -> Vec<Vec<String>> {
    ["pre-depends", "depends"].iter().filter_map(|name| stanza.get(*name)).flat_map(|text| relations(text)).collect()
}

/// A list of relations, each of them alternatives, as names without versions and architectures.
fn relations(text: &str) -> Vec<Vec<String>> {
    let name = |alternative: &str| {
        let end = alternative.find(['(', '[', '<', ' ', ':', '\n', '\t']).unwrap_or(alternative.len());
        alternative.get(..end).unwrap_or_default().to_owned()
    };
    text.split(',')
        .map(|group| {
            group.split('|').map(|alternative| name(alternative.trim())).filter(|name| !name.is_empty()).collect()
        })
        .filter(|group: &Vec<String>| !group.is_empty())
        .collect()
}

/// Adds what the package's copyright file says, where a program can read it.
fn with_licenses(mut component: Component, scan: &Scan<'_>, found: &mut Found) -> Component {
    let path = format!("usr/share/doc/{}/copyright", component.name);
    let Some(entry) = scan.follow(&path).filter(|entry| entry.is_file()) else { return component };
    if entry.bytes > limits::SBOM_COPYRIGHT_BYTES {
        return component;
    }
    let Some(bytes) = found.keep(tree::read(scan.tree(), &entry.path, limits::SBOM_COPYRIGHT_BYTES)) else {
        return component;
    };
    if let Some(licenses) = copyright::read(&String::from_utf8_lossy(&bytes)) {
        for (reference, custom) in licenses.custom {
            found.license(&reference, custom);
        }
        component.licenses.push(License::declared(licenses.expression));
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_paragraphs_and_values_go_on_behind_blanks() {
        let text = "\n\nPackage: a\nDescription: one\n two\n .\n three: four\nVersion: 1\n\n\n\nPACKAGE: b\n";
        let all: Vec<Stanza<'_>> = stanzas(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0]["package"], all[0]["version"], all[1]["package"]), ("a", "1", "b"));
        assert_eq!(all[0]["description"], "one\n two\n .\n three: four");
    }

    #[test]
    fn relations_are_names_and_their_alternatives() {
        let all = relations("libc6 (>= 2.36), default-mta | mail-transport-agent, perl:any, x [amd64] <!nocheck>,\n y");
        assert_eq!(
            all,
            [vec!["libc6"], vec!["default-mta", "mail-transport-agent"], vec!["perl"], vec!["x"], vec!["y"]]
        );
        assert!(relations(" , | ").is_empty());
    }
}
