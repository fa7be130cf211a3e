//! Bills of materials of operating systems: what real package managers leave in a root file system, and the same root
//! in a tar, in the layers of a container, and on the ext4 of a disk.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use debvisor::release::collect::sbom::{Options, Source, generate};
use debvisor::release::evidence::sbom::model::{ComponentKind, Sbom};
use debvisor::types::{Code, Reason};
use tempfile::TempDir;

mod apk;
mod disk;
mod documents;
mod dpkg;
mod hostile;
mod image;
mod rpm;

/// Runs a program of the system's that must succeed.
#[track_caller]
pub(super) fn run(program: &str, arguments: &[&str], dir: &Path) {
    // Tools for disks stand where only root looks by default.
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).args(arguments).current_dir(dir).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
pub(super) fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The document of a source that must have one.
#[track_caller]
pub(super) fn sbom(source: &Source) -> Sbom {
    generate(source, &Options::default()).unwrap_or_else(|reasons| panic!("{source}: {reasons:#?}"))
}

/// Why there is none of a source that must be refused.
#[track_caller]
pub(super) fn refused(source: &Source) -> Vec<Reason> {
    match generate(source, &Options::default()) {
        Ok(sbom) => panic!("{source}: {:?}", ids(&sbom)),
        Err(reasons) => reasons,
    }
}

#[track_caller]
pub(super) fn refused_by(source: &Source) -> Code {
    refused(source)[0].code.known().unwrap()
}

/// The ids of all components but single files.
pub(super) fn ids(sbom: &Sbom) -> BTreeSet<String> {
    sbom.components.iter().filter(|one| one.kind != ComponentKind::File).map(|one| one.id.clone()).collect()
}

pub(super) fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

/// What a component depends on.
pub(super) fn needs(sbom: &Sbom, id: &str) -> BTreeSet<String> {
    sbom.dependencies.get(id).cloned().unwrap_or_else(|| panic!("nothing is said of {id}"))
}

pub(super) const BASE: &str =
    "pkg:deb/debian/base@1:2.0-1%2Bb1?arch=amd64&distro=debian-12&upstream=base-src%401:2.0-1";
pub(super) const TOOL: &str = "pkg:deb/debian/tool%2B%2B@0.9~rc1-1?arch=all&distro=debian-12";
pub(super) const SYSTEM: &str = "os:debian@12";

/// A Debian root with two packages, put there by dpkg itself, and a third that dpkg removed again.
pub(super) fn debian() -> &'static Path {
    static ROOT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &ROOT.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        for folder in ["usr/lib", "usr/bin", "etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink("usr/lib", root.join("lib")).unwrap();
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        write(&root, "usr/lib/os-release", &format!("{release}HOME_URL=\"https://www.debian.org/\"\n"));
        symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        write(&root, "var/lib/dpkg/status", "");
        let dep5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";
        package(
            dir.path(),
            "base",
            "Version: 1:2.0-1+b1\nArchitecture: amd64\nSource: base-src (1:2.0-1)\nProvides: base-api (= 2)\n\
             Homepage: https://example.com/base",
            &format!("{dep5}\nFiles: *\nLicense: Expat\n\nFiles: gnu/*\nLicense: GPL-2+ or Artistic\n\nLicense: GPL-3\n text\n"),
        );
        package(
            dir.path(),
            "tool++",
            "Version: 0.9~rc1-1\nArchitecture: all\nDepends: missing | base-api (>= 1), base (>= 1:1)",
            "Copyright by somebody. See the licence.\n",
        );
        package(dir.path(), "gone", "Version: 1\nArchitecture: all\nDepends: base", "x\n");
        let dpkg = |arguments: &[&str]| {
            let root = format!("--root={}", root.display());
            let forced = ["--force-not-root", "--force-bad-path", "--force-script-chrootless"];
            run("dpkg", &[&[root.as_str()], forced.as_slice(), arguments].concat(), dir.path());
        };
        dpkg(&["--install", "base.deb", "tool++.deb", "gone.deb"]);
        dpkg(&["--remove", "gone"]);
        (dir, root)
    })
    .1
}

/// Builds `NAME.deb` with a conffile, so that its stanza outlives it.
fn package(dir: &Path, name: &str, fields: &str, copyright: &str) {
    let tree = dir.join(name);
    let control = format!(
        "Package: {name}\n{fields}\nMaintainer: Some Team <team@example.com>\nDescription: the {name}\n more\n"
    );
    write(&tree, "DEBIAN/control", &control);
    write(&tree, "DEBIAN/conffiles", &format!("/etc/{name}.conf\n"));
    write(&tree, &format!("etc/{name}.conf"), "x\n");
    write(&tree, &format!("usr/share/doc/{name}/copyright"), copyright);
    run("dpkg-deb", &["--root-owner-group", "-Znone", "--build", name, &format!("{name}.deb")], dir);
}
