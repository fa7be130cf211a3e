//! Roots that somebody made to mislead: ways out of the root, loops, sizes, and tars that lie.

use std::fs;
use std::os::unix::fs::symlink;

use debvisor::release::collect::sbom::Source;
use debvisor::types::Code;
use proptest::prelude::*;
use tempfile::TempDir;

use super::image::layout;
use super::{ids, refused_by, sbom, write};
use crate::archive::make::{TarMember, gzip, pax_records, tar};

#[test]
fn no_link_of_a_root_leads_to_the_hosts_files() {
    let outside = TempDir::new().unwrap();
    write(outside.path(), "status", "Package: outside\nVersion: 1\n");
    write(outside.path(), "os-release", "ID=outside\n");
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    symlink(outside.path().join("status"), root.path().join("var/lib/dpkg/status")).unwrap();
    symlink(outside.path().join("os-release"), root.path().join("etc/os-release")).unwrap();
    symlink("../".repeat(20) + &outside.path().display().to_string(), root.path().join("usr")).unwrap();
    let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
    assert!(ids(&made).is_empty(), "{:?}", ids(&made));
}

#[test]
fn loops_of_links_come_to_an_end() {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
    symlink("status", root.path().join("var/lib/dpkg/status")).unwrap();
    symlink("etc", root.path().join("etc")).unwrap();
    symlink("lib/lib", root.path().join("lib")).unwrap();
    symlink(".", root.path().join("usr")).unwrap();
    assert!(ids(&sbom(&Source::RootFilesystem(root.path().to_owned()))).is_empty());
}

#[test]
fn a_database_of_a_size_that_costs_its_maker_nothing_is_refused() {
    for (path, bytes) in
        [("var/lib/dpkg/status", 1 << 40), ("lib/apk/db/installed", 1 << 40), ("var/lib/rpm/Packages", 1 << 42)]
    {
        let root = TempDir::new().unwrap();
        write(root.path(), path, "");
        fs::File::options().write(true).open(root.path().join(path)).unwrap().set_len(bytes).unwrap();
        assert_eq!(refused_by(&Source::RootFilesystem(root.path().to_owned())), Code::InputTooLarge, "{path}");
    }
}

#[test]
fn a_berkeley_database_that_is_encrypted_is_refused_by_name() {
    let root = TempDir::new().unwrap();
    let mut bytes = vec![0_u8; 4096];
    bytes[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    bytes[24] = 1;
    write(root.path(), "var/lib/rpm/Packages", "");
    fs::write(root.path().join("var/lib/rpm/Packages"), bytes).unwrap();
    assert_eq!(refused_by(&Source::RootFilesystem(root.path().to_owned())), Code::SbomUnsupported);
}

#[test]
fn a_layer_whose_names_leave_the_root_is_refused() {
    for name in ["../etc/os-release", "a/../../b", "/../x", ".."] {
        let layer = tar(&[TarMember::file(name, b"ID=outside\n")]);
        assert_eq!(refused_by(&layout(&[(layer.clone(), &layer)]).source()), Code::ArchiveEscape, "{name}");
    }
}

#[test]
fn links_of_a_layer_stay_in_the_image() {
    let outside = TempDir::new().unwrap();
    write(outside.path(), "os-release", "ID=outside\n");
    let target = outside.path().join("os-release").display().to_string();
    let layer = tar(&[
        TarMember::symbolic_link("etc/os-release", &target),
        TarMember::symbolic_link("loop", "loop/loop"),
        TarMember::symbolic_link("up", "../../../../../../"),
        TarMember::file("up/lib/apk/db/installed", b"P:inside\nV:1\nA:x\n"),
    ]);
    let made = sbom(&layout(&[(layer.clone(), &layer)]).source());
    assert_eq!(ids(&made), ["pkg:apk/alpine/inside@1?arch=x".to_owned()].into());
    let through_a_loop = tar(&[TarMember::symbolic_link("loop", "loop/loop"), TarMember::file("loop/x", b"")]);
    assert_eq!(refused_by(&layout(&[(through_a_loop.clone(), &through_a_loop)]).source()), Code::ArchiveMalformed);
    let dangling = tar(&[TarMember::hard_link("x", "nothing")]);
    assert_eq!(refused_by(&layout(&[(dangling.clone(), &dangling)]).source()), Code::ArchiveMalformed);
}

#[test]
fn a_layer_that_two_readers_would_read_differently_is_refused() {
    let two_sizes = tar(&[TarMember::new(b'x', "p", &pax_records(&[("size", "3")])), TarMember::file("a", b"content")]);
    assert_eq!(refused_by(&layout(&[(two_sizes.clone(), &two_sizes)]).source()), Code::ArchiveMalformed);
    let mut trailing = tar(&[TarMember::file("a", b"content")]);
    trailing.extend_from_slice(&[1; 512]);
    assert_eq!(refused_by(&layout(&[(trailing.clone(), &trailing)]).source()), Code::ArchiveMalformed);
    let cut = gzip(&tar(&[TarMember::file("a", b"content")]));
    assert_eq!(refused_by(&layout(&[(cut[..cut.len() / 2].to_vec(), b"")]).source()), Code::ArchiveMalformed);
    assert_eq!(refused_by(&layout(&[(b"\xfd7zXZ\0 whatever".to_vec(), b"")]).source()), Code::ArchiveMalformed);
}

#[test]
fn a_release_file_that_lies_about_itself_cannot_break_a_package_url() {
    let root = TempDir::new().unwrap();
    write(root.path(), "etc/os-release", "ID=\"de/bi?an&x=y#\"\nVERSION_ID=\"1&arch=z\"\n");
    write(root.path(), "var/lib/dpkg/status.d/a", "Package: a/../b?c@d\nVersion: 1&x\nArchitecture: all\n");
    let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
    let package = made.components.iter().find(|one| one.purl.is_some()).unwrap();
    let purl = debvisor::release::evidence::sbom::purl::Purl::parse(package.purl.as_deref().unwrap()).unwrap();
    assert_eq!(purl.version.as_deref(), Some("1&x"));
    assert_eq!(purl.qualifiers.keys().collect::<Vec<_>>(), ["arch", "distro"]);
    assert_eq!(purl.qualifiers["arch"], "all");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_database_panics(
        dpkg in "(Package|Version|Depends|Status|Source|[a-z]{0,3})?:?[ -~\n]{0,200}",
        apk in "[PVAoDpFRm]:[ -~\n]{0,200}",
        copyright in "Format: copyright-format\n\nFiles: [*]\nLicense: [ -~\n]{0,100}",
        rpm in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let root = TempDir::new().unwrap();
        write(root.path(), "var/lib/dpkg/status", &format!("Package: p\nVersion: 1\n\n{dpkg}"));
        write(root.path(), "usr/share/doc/p/copyright", &copyright);
        write(root.path(), "lib/apk/db/installed", &apk);
        for (name, magic) in [("Packages.db", b"RpmP\0\0\0\0".as_slice()), ("Packages", b"")] {
            let path = root.path().join("var/lib/rpm").join(name);
            write(root.path(), &format!("var/lib/rpm/{name}"), "");
            fs::write(&path, [magic, &rpm].concat()).unwrap();
            let source = Source::RootFilesystem(root.path().to_owned());
            let _ = debvisor::release::collect::sbom::generate(&source, &Default::default());
            fs::remove_file(&path).unwrap();
        }
    }
}
