//! apk's database, in the places of its older and its newer versions.

use debvisor::release::collect::sbom::Source;
use debvisor::release::evidence::sbom::model::LicenseTerm;
use debvisor::types::Code;
use tempfile::TempDir;

use super::{ids, needs, refused_by, sbom, set, write};

const INSTALLED: &str = "C:Q1aa=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nI:2\nT:the musl c library\nU:https://musl.libc.org/\n\
L:MIT\no:musl\nm:Some One <one@example.com>\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl-x86_64.so.1\n\n\
C:Q1bb=\nP:busybox\nV:1.36.1-r29\nA:x86_64\nL:GPL-2.0-only\no:busybox\nD:so:libc.musl-x86_64.so.1\nF:bin\nR:busybox\n\n\
C:Q1cc=\nP:busybox-binsh\nV:1.36.1-r29\nA:x86_64\nL:custom terms\no:busybox\nD:busybox=1.36.1-r29 !dash\np:/bin/sh cmd:sh=1.36.1-r29\n\n\
C:Q1dd=\nP:apk-tools\nV:2.14.4-r0\nA:x86_64\nL:GPL-2.0-only\no:apk-tools\nD:musl>=1.2 /bin/sh nothing-provides-this\n";

const MUSL: &str = "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.0";
const BUSYBOX: &str = "pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64&distro=alpine-3.20.0";
const BINSH: &str = "pkg:apk/alpine/busybox-binsh@1.36.1-r29?arch=x86_64&distro=alpine-3.20.0&upstream=busybox";
const TOOLS: &str = "pkg:apk/alpine/apk-tools@2.14.4-r0?arch=x86_64&distro=alpine-3.20.0";

#[test]
fn packages_and_who_needs_whom_by_name_by_library_and_by_file() {
    for place in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let root = TempDir::new().unwrap();
        write(root.path(), "etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.0\n");
        write(root.path(), place, INSTALLED);
        let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
        assert_eq!(ids(&made), set([MUSL, BUSYBOX, BINSH, TOOLS, "os:alpine@3.20.0"]));
        assert_eq!(needs(&made, BUSYBOX), set([MUSL]));
        assert_eq!(needs(&made, BINSH), set([BUSYBOX]));
        assert_eq!(needs(&made, TOOLS), set([MUSL, BINSH]));
        assert!(needs(&made, MUSL).is_empty());
        let terms: Vec<&LicenseTerm> = made
            .components
            .iter()
            .filter(|one| one.id == MUSL || one.id == BINSH)
            .map(|one| &one.licenses[0].term)
            .collect();
        assert_eq!(terms, [&LicenseTerm::Name("custom terms".to_owned()), &LicenseTerm::Expression("MIT".to_owned())]);
    }
}

#[test]
fn a_database_that_is_reached_by_two_names_counts_once() {
    let root = TempDir::new().unwrap();
    write(root.path(), "usr/lib/apk/db/installed", INSTALLED);
    std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
    let made = sbom(&Source::RootFilesystem(root.path().to_owned()));
    assert_eq!(ids(&made).len(), 4);
    assert!(made.components.iter().all(|one| one.property("debvisor:location") == Some("usr/lib/apk/db/installed")));
}

#[test]
fn a_paragraph_without_a_name_and_bytes_that_are_no_text_are_reasons() {
    for content in [b"V:1\nA:x86_64\n".as_slice(), b"P:a\nV:\xff\n"] {
        let root = TempDir::new().unwrap();
        write(root.path(), "lib/apk/db/installed", "");
        std::fs::write(root.path().join("lib/apk/db/installed"), content).unwrap();
        assert_eq!(refused_by(&Source::RootFilesystem(root.path().to_owned())), Code::SbomSourceMalformed);
    }
}
