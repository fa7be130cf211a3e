//! A Debian copyright file in; one SPDX expression out, where the file is of the machine-readable form.
//!
//! A package is under all licences that its files are under. Debian's short names are SPDX's in part; those that are
//! not become a `LicenseRef-…` of the document, so that nothing is left out and nothing is claimed.

use std::collections::BTreeMap;

use crate::release::evidence::sbom::model::CustomLicense;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Licenses {
    pub(super) expression: String,
    pub(super) custom: BTreeMap<String, CustomLicense>,
}

/// More of them in one package are no statement any more.
const LICENSES: usize = 200;

/// Reads a file; nothing where it is prose.
pub(super) fn read(text: &str) -> Option<Licenses> {
    let format = text.lines().map(str::trim_end).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let format = format.strip_prefix("Format:").or_else(|| format.strip_prefix("Format-Specification:"))?;
    if !format.contains("copyright-format") && !format.contains("dep5") && !format.contains("DEP5") {
        return None;
    }
    let mut terms = Vec::new();
    let mut custom = BTreeMap::new();
    // A paragraph of files says which licence they are under; one that begins with `License:` gives a licence's text.
    let mut is_about_files = true;
    for line in text.lines() {
        if line.trim().is_empty() {
            is_about_files = false;
        } else if line.starts_with("Files:") || line.starts_with("Format") {
            is_about_files = true;
        } else if let Some(name) = line.strip_prefix("License:").filter(|_| is_about_files) {
            let Some(term) = expression(name.trim(), &mut custom) else { continue };
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
    }
    if terms.is_empty() || terms.len() > LICENSES {
        return None;
    }
    terms.sort();
    let expression = match terms.as_slice() {
        [one] => one.clone(),
        many => many
            .iter()
            .map(|term| if term.contains(" OR ") { format!("({term})") } else { term.clone() })
            .collect::<Vec<_>>()
            .join(" AND "),
    };
    Some(Licenses { expression, custom })
}

/// A short name, or several joined by `and` and `or`; a comma in front of `and` makes it bind less than `or`
/// (DEP 5, syntax of the License field).
fn expression(text: &str, custom: &mut BTreeMap<String, CustomLicense>) -> Option<String> {
    let groups: Vec<String> = text
        .split(", and ")
        .filter_map(|group| {
            let either: Vec<String> = split(group, "or")
                .iter()
                .filter_map(|all| {
                    let all: Vec<String> = split(all, "and").iter().filter_map(|name| term(name, custom)).collect();
                    (!all.is_empty()).then(|| all.join(" AND "))
                })
                .collect();
            (!either.is_empty()).then(|| either.join(" OR "))
        })
        .collect();
    match groups.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => {
            let wrapped =
                many.iter().map(|group| if group.contains(" OR ") { format!("({group})") } else { group.clone() });
            Some(wrapped.collect::<Vec<_>>().join(" AND "))
        }
    }
}

/// Splits at a word, in whatever letter case.
fn split(text: &str, word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for token in text.split_whitespace() {
        if token.eq_ignore_ascii_case(word) {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            if !part.is_empty() {
                part.push(' ');
            }
            part.push_str(token.trim_end_matches(','));
        }
    }
    parts
}

fn term(name: &str, custom: &mut BTreeMap<String, CustomLicense>) -> Option<String> {
    let name = name.trim();
    if name.is_empty() {
        return None;
    }
    if let Some(known) = spdx_name(name) {
        return Some(known);
    }
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
    let reference = format!("LicenseRef-Debian-{plain}");
    custom.entry(reference.clone()).or_insert_with(|| CustomLicense { name: Some(name.to_owned()), text: None });
    Some(reference)
}

/// Debian's short names that SPDX calls otherwise (DEP 5, short names; SPDX licence list).
const RENAMED: &[(&str, &str)] = &[
    ("Expat", "MIT"),
    ("Apache-1", "Apache-1.0"),
    ("Apache-2", "Apache-2.0"),
    ("Artistic", "Artistic-1.0-Perl"),
    ("Artistic-1", "Artistic-1.0"),
    ("Artistic-2", "Artistic-2.0"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
    ("BSL-1", "BSL-1.0"),
    ("CC0", "CC0-1.0"),
    ("CC0-1", "CC0-1.0"),
    ("CPL", "CPL-1.0"),
    ("EPL-1", "EPL-1.0"),
    ("MPL-1", "MPL-1.0"),
    ("MPL-2", "MPL-2.0"),
    ("Perl", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
    ("Python", "Python-2.0"),
    ("QPL", "QPL-1.0"),
    ("ZLIB", "Zlib"),
    ("zlib", "Zlib"),
];

/// The SPDX name of a short name, where there is one.
fn spdx_name(name: &str) -> Option<String> {
    let (base, exception) = match name.split_once(" with ") {
        Some((base, exception)) => (base.trim(), Some(exception.trim())),
        None => (name, None),
    };
    let exception = match exception {
        None => String::new(),
        Some(text) => format!(" WITH {}", exception_name(text)?),
    };
    let renamed =
        RENAMED.iter().find(|(debian, _)| debian.eq_ignore_ascii_case(base)).map(|(_, spdx)| (*spdx).to_owned());
    let known = match renamed {
        Some(renamed) if exception.is_empty() => return Some(renamed),
        Some(renamed) => renamed,
        None => gnu(base).or_else(|| spdx::license_id(base).map(|id| id.name.to_owned()))?,
    };
    Some(format!("{known}{exception}"))
}

fn exception_name(text: &str) -> Option<&'static str> {
    let name = text.strip_suffix(" exception").or_else(|| text.strip_suffix(" Exception")).unwrap_or(text);
    match name.to_ascii_lowercase().as_str() {
        "autoconf" => Some("Autoconf-exception-2.0"),
        "bison" => Some("Bison-exception-2.2"),
        "classpath" => Some("Classpath-exception-2.0"),
        "font" => Some("Font-exception-2.0"),
        "gcc" => Some("GCC-exception-3.1"),
        "libtool" => Some("Libtool-exception"),
        _ => spdx::exception_id(name).map(|id| id.name),
    }
}

/// `GPL-2+`, `LGPL-2.1`, `GFDL-NIV-1.3+` and the like: `+` is "or later", a missing part of the version is zero.
fn gnu(name: &str) -> Option<String> {
    let (name, suffix) = match name.strip_suffix('+') {
        Some(name) => (name, "or-later"),
        None => (name, "only"),
    };
    let (family, version) = name.rsplit_once('-')?;
    let family = match family.to_ascii_uppercase().as_str() {
        "GPL" => "GPL",
        "LGPL" => "LGPL",
        "AGPL" => "AGPL",
        "GFDL" => "GFDL",
        "GFDL-NIV" => "GFDL",
        _ => return None,
    };
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let version = if family == "GFDL" && version == "1.0" { "1.1".to_owned() } else { version };
    let full = format!("{family}-{version}-{suffix}");
    spdx::license_id(&full).map(|id| id.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(licenses: &[&str]) -> Option<String> {
        let files: String =
            licenses.iter().map(|name| format!("Files: *\nCopyright: x\nLicense: {name}\n text\n\n")).collect();
        let text = format!("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n{files}");
        read(&text).map(|licenses| licenses.expression)
    }

    #[test]
    fn short_names_become_spdx_names_and_others_stay_apart() {
        for (debian, spdx) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-3", "GPL-3.0-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("Expat", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("GPL-2+ or Artistic", "GPL-2.0-or-later OR Artistic-1.0-Perl"),
            ("GPL-2+ and LGPL-2.1+", "GPL-2.0-or-later AND LGPL-2.1-or-later"),
            ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
            ("public-domain", "LicenseRef-Debian-public-domain"),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-Debian-GPL-2--with-OpenSSL-exception"),
            ("GPL-2 or MPL-1.1, and Expat", "(GPL-2.0-only OR MPL-1.1) AND MIT"),
        ] {
            let expression = read_as(&[debian]).unwrap();
            assert_eq!(expression, spdx);
            spdx::Expression::parse(&expression).unwrap();
        }
        assert_eq!(read_as(&["Expat", "GPL-2 or Expat", "Expat"]).unwrap(), "(GPL-2.0-only OR MIT) AND MIT");
    }

    #[test]
    fn prose_says_nothing_to_a_program_and_a_licences_own_text_is_no_statement() {
        assert_eq!(read("This package was debianized by somebody.\nLicense: GPL\n"), None);
        assert_eq!(read(""), None);
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n\nLicense: GPL-2\n text\n";
        assert_eq!(read(text).unwrap().expression, "MIT");
    }
}
