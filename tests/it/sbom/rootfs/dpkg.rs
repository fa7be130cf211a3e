//! dpkg's database as dpkg writes it, and as images without dpkg have it.

use std::fs;
use std::os::unix::fs::symlink;

use debvisor::release::collect::sbom::Source;
use debvisor::release::evidence::sbom::model::LicenseTerm;
use debvisor::types::Code;
use tempfile::TempDir;

use super::{BASE, SYSTEM, TOOL, debian, ids, needs, refused, sbom, set, write};

#[test]
fn a_root_that_dpkg_made_has_what_dpkg_says_is_installed() {
    let made = sbom(&Source::RootFilesystem(debian().to_owned()));
    assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
    assert_eq!(needs(&made, TOOL), set([BASE]), "by what it provides, and by its own name");
    assert!(needs(&made, BASE).is_empty());
    assert_eq!(made.contains[SYSTEM], set([BASE, TOOL]));

    let base = made.components.iter().find(|one| one.id == BASE).unwrap();
    assert_eq!((base.name.as_str(), base.version.as_deref()), ("base", Some("1:2.0-1+b1")));
    assert_eq!(base.description.as_deref(), Some("the base"));
    assert_eq!(base.supplier.as_ref().unwrap().email.as_deref(), Some("team@example.com"));
    assert_eq!(base.reference("website"), Some("https://example.com/base"));
    let expression = LicenseTerm::Expression("(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT".to_owned());
    assert_eq!(base.licenses.iter().map(|license| &license.term).collect::<Vec<_>>(), [&expression]);
    let tool = made.components.iter().find(|one| one.id == TOOL).unwrap();
    assert!(tool.licenses.is_empty(), "prose is no statement");

    let system = made.components.iter().find(|one| one.id == SYSTEM).unwrap();
    assert_eq!(system.reference("website"), Some("https://www.debian.org/"));
}

#[test]
fn a_directory_with_an_operating_system_in_it_is_seen_as_one() {
    assert_eq!(ids(&sbom(&Source::of_path(debian()).unwrap())), set([BASE, TOOL, SYSTEM]));
}

#[test]
fn the_same_root_makes_the_same_document_elsewhere() {
    let copy = TempDir::new().unwrap();
    let root = copy.path().join("root");
    super::run("cp", &["-a", &debian().display().to_string(), "root"], copy.path());
    let (a, b) = (sbom(&Source::RootFilesystem(debian().to_owned())), sbom(&Source::RootFilesystem(root)));
    assert_eq!(serde_json::to_vec(&a).unwrap(), serde_json::to_vec(&b).unwrap());
}

#[test]
fn an_image_without_dpkg_has_one_file_a_package() {
    let root = TempDir::new().unwrap();
    write(root.path(), "etc/os-release", "ID=debian\nVERSION_ID=12\n");
    write(root.path(), "var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n");
    write(root.path(), "var/lib/dpkg/status.d/base.md5sums", "00 etc/x\n");
    write(
        root.path(),
        "var/lib/dpkg/status.d/tz",
        "Package: tzdata\nVersion: 2024a-0\nArchitecture: all\nDepends: base-files\n",
    );
    let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
    let (base, tz) = (
        "pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12",
        "pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12",
    );
    assert_eq!(ids(&made), set([base, tz, SYSTEM]));
    assert_eq!(needs(&made, tz), set([base]));
}

#[test]
fn a_copyright_file_behind_links_is_read_where_they_stay_in_the_root() {
    let root = TempDir::new().unwrap();
    write(root.path(), "etc/os-release", "ID=debian\nVERSION_ID=12\n");
    write(
        root.path(),
        "var/lib/dpkg/status",
        "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n\
         Package: b\nStatus: install ok half-configured\nVersion: 1\nArchitecture: all\n\n\
         Package: c\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n",
    );
    let dep5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n";
    write(root.path(), "usr/share/doc/real/copyright", dep5);
    symlink("real", root.path().join("usr/share/doc/a")).unwrap();
    fs::create_dir_all(root.path().join("usr/share/doc/b")).unwrap();
    // Above the root, the way back into it leads by its own name: `..` at the root stays there.
    symlink("/../../usr/share/doc/a/copyright", root.path().join("usr/share/doc/b/copyright")).unwrap();
    let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
    let isc = LicenseTerm::Expression("ISC".to_owned());
    let licensed: Vec<&str> = made
        .components
        .iter()
        .filter(|one| one.licenses.iter().any(|license| license.term == isc))
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(licensed, ["a", "b"]);
    assert_eq!(ids(&made).len(), 3, "what is removed is not there: {:?}", ids(&made));
}

#[test]
fn a_stanza_without_a_version_is_a_reason() {
    let root = TempDir::new().unwrap();
    write(root.path(), "var/lib/dpkg/status", "Package: a\nStatus: install ok installed\n");
    let reasons = refused(&Source::RootFilesystem(root.path().to_owned()));
    assert_eq!(reasons[0].code.known(), Some(Code::SbomSourceMalformed));
    assert_eq!(reasons[0].evidence.as_deref(), Some("var/lib/dpkg/status"));
}
