//! apk's database: `lib/apk/db/installed`, paragraphs of one-letter fields.

use super::release::Distribution;
use super::{Graph, package, purl};
use crate::release::collect::sbom::package::reference;
use crate::release::collect::sbom::{Found, Scan, malformed};
use crate::release::evidence::sbom::model::{Acknowledgement, Component, License, LicenseTerm, Party, PartyKind};
use crate::types::Reason;

/// Reads what apk says is installed; returns the packages' ids.
pub(super) fn catalog(scan: &Scan<'_>, distribution: &Distribution, found: &mut Found) -> Vec<String> {
    let places = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
    let mut paths: Vec<&str> = places
        .iter()
        .filter_map(|path| scan.follow(path).filter(|entry| entry.is_file()).map(|entry| entry.path.as_str()))
        .collect();
    // Both names are one file where `lib` is a link.
    paths.dedup();
    let mut graph = Graph::default();
    let mut ids = Vec::new();
    for path in paths {
        let Some(text) = found.keep(scan.text(path)) else { continue };
        for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
            let Some(component) = found.keep(read(stanza, path, distribution)) else { continue };
            let id = component.id.clone();
            graph.provide(&component.name, &id);
            for name in field(stanza, 'p').split_whitespace().chain(files(stanza).iter().map(String::as_str)) {
                graph.provide(plain(name), &id);
            }
            // `!name` is a conflict, and not a need.
            let needs = field(stanza, 'D').split_whitespace().filter(|name| !name.starts_with('!'));
            graph.need(&id, needs.map(|name| vec![plain(name).to_owned()]).collect());
            found.add_at(component, path);
            ids.push(id);
        }
    }
    graph.tell(found);
    ids
}

/// The first field of this letter.
fn field(stanza: &str, letter: char) -> &str {
    let value = |line: &'_ str| line.strip_prefix(letter).and_then(|rest| rest.strip_prefix(':')).is_some();
    stanza.lines().find(|line| value(line)).and_then(|line| line.get(2..)).unwrap_or_default().trim()
}

/// The files that a package brings, as others may need them: `/bin/sh`.
fn files(stanza: &str) -> Vec<String> {
    let mut folder = "";
    let mut files = Vec::new();
    for line in stanza.lines() {
        if let Some(name) = line.strip_prefix("F:") {
            folder = name.trim();
        } else if let Some(name) = line.strip_prefix("R:")
            && (folder.ends_with("bin") || folder.is_empty())
        {
            files.push(format!("/{folder}/{}", name.trim()));
        }
    }
    files
}

/// A name without the version that it must have, and without the repository that it must come from.
fn plain(name: &str) -> &str {
    let end = name.find(['=', '<', '>', '~', '@']).unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}

fn read(stanza: &str, path: &str, distribution: &Distribution) -> Result<Component, Reason> {
    let (name, version, origin) = (field(stanza, 'P'), field(stanza, 'V'), field(stanza, 'o'));
    if name.is_empty() || version.is_empty() {
        return Err(malformed(path, "a package has no name or no version"));
    }
    let upstream = if origin == name { "" } else { origin };
    let distro = distribution.qualifier();
    let qualifiers = [("arch", field(stanza, 'A')), ("distro", distro.as_str()), ("upstream", upstream)];
    let namespace = if distribution.id.is_empty() { "alpine" } else { &distribution.id };
    let purl = purl("apk", namespace, name, version, &qualifiers)
        .ok_or_else(|| malformed(path, format!("`{name}` is no package's name")))?;
    let mut component = package(purl, name, version);
    let text = |letter| Some(field(stanza, letter).to_owned()).filter(|text| !text.is_empty());
    component.description = text('T');
    component.supplier = maintainer(field(stanza, 'm'));
    component.licenses.extend(text('L').map(license));
    let home = field(stanza, 'U');
    if home.starts_with("http") {
        component.references.extend(reference("website", home));
    }
    Ok(component)
}

fn maintainer(text: &str) -> Option<Party> {
    let (name, email) = text.split_once('<').map_or((text.trim(), None), |(name, email)| {
        (name.trim(), Some(email.trim_end_matches('>').trim().to_owned()))
    });
    (!name.is_empty()).then(|| Party { kind: PartyKind::Organization, name: Some(name.to_owned()), email, url: None })
}

/// Alpine's licences are SPDX expressions; what is none stays somebody's words.
pub(super) fn license(text: String) -> License {
    match spdx::Expression::parse(&text) {
        Ok(_) => License::declared(text),
        Err(_) => License { acknowledgement: Acknowledgement::Declared, term: LicenseTerm::Name(text) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSYBOX: &str = "C:Q1x=\nP:busybox\nV:1.36.1-r29\nA:x86_64\nL:GPL-2.0-only\no:busybox\nD:so:libc.musl-x86_64.so.1 !x>=2\np:/bin/sh cmd:ash=1.36.1-r29\nF:bin\nR:busybox\nF:etc\nR:securetty\n";

    #[test]
    fn a_paragraph_is_a_package_with_names_that_others_need() {
        let component = read(BUSYBOX, "x", &Distribution::default()).unwrap();
        assert_eq!(component.purl.as_deref(), Some("pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64"));
        assert_eq!(files(BUSYBOX), ["/bin/busybox"]);
        assert_eq!(plain("so:libc.so.1=1"), "so:libc.so.1");
        assert_eq!(field(BUSYBOX, 'D'), "so:libc.musl-x86_64.so.1 !x>=2");
    }
}
