//! Container images: layouts of two layers, with what a layer may hide of the one below.

use std::fs;
use std::path::Path;

use debvisor::release::collect::sbom::Source;
use debvisor::release::evidence::sbom::model::ComponentKind;
use debvisor::types::Code;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{BASE, SYSTEM, TOOL, debian, ids, needs, refused, refused_by, run, sbom, set};
use crate::archive::make::{TarMember, gzip, tar, zstd};

pub(super) fn hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// An image layout.
pub(super) struct Layout {
    pub(super) dir: TempDir,
    pub(super) manifest: String,
}

impl Layout {
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn source(&self) -> Source {
        Source::of_path(self.path()).unwrap()
    }

    /// The layout in a tar, as `skopeo copy … oci-archive:` packs it.
    fn archive(&self) -> std::path::PathBuf {
        run("tar", &["cf", "image.tar", "oci-layout", "index.json", "blobs"], self.path());
        self.path().join("image.tar")
    }
}

fn blob(dir: &Path, bytes: &[u8]) -> String {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("blobs/sha256").join(hex(bytes)), bytes).unwrap();
    format!("sha256:{}", hex(bytes))
}

/// A layout of layers, each as it is stored and as the tar that it is.
pub(super) fn layout(layers: &[(Vec<u8>, &[u8])]) -> Layout {
    layout_with(layers, |_| ())
}

fn layout_with(layers: &[(Vec<u8>, &[u8])], change: impl FnOnce(&mut Value)) -> Layout {
    let dir = TempDir::new().unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|(_, tar)| format!("sha256:{}", hex(tar))).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let descriptor =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": blob(dir.path(), bytes), "size": bytes.len()});
    let stored: Vec<Value> =
        layers.iter().map(|(stored, _)| descriptor("application/vnd.oci.image.layer.v1.tar", stored)).collect();
    let manifest = json!({"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", &config), "layers": stored});
    let manifest = manifest.to_string().into_bytes();
    let mut one = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    one["annotations"] = json!({"org.opencontainers.image.ref.name": "registry.example/team/app:1.2"});
    let mut index = json!({"schemaVersion": 2, "manifests": [one]});
    change(&mut index);
    fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Layout { dir, manifest: hex(&manifest) }
}

/// The root that dpkg made, as a tar.
fn debian_tar() -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let root = debian().display().to_string();
    run(
        "tar",
        &["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", &root, "-cf", "root.tar", "."],
        dir.path(),
    );
    fs::read(dir.path().join("root.tar")).unwrap()
}

const RELEASE: &[u8] = b"ID=debian\nVERSION_ID=12\n";

fn stanza(name: &str) -> Vec<u8> {
    format!("Package: {name}\nVersion: 1\nArchitecture: all\n").into_bytes()
}

fn id(name: &str) -> String {
    format!("pkg:deb/debian/{name}@1?arch=all&distro=debian-12")
}

/// The packages that are left when a second layer was put on a first one with `a`, `b` and `c`.
fn left(second: &[TarMember]) -> Vec<String> {
    let first = tar(&[
        TarMember::directory("etc/"),
        TarMember::file("etc/os-release", RELEASE),
        TarMember::directory("var/lib/dpkg/status.d/"),
        TarMember::file("var/lib/dpkg/status.d/a", &stanza("a")),
        TarMember::file("var/lib/dpkg/status.d/b", &stanza("b")),
        TarMember::file("var/lib/dpkg/status.d/c", &stanza("c")),
        TarMember::symbolic_link("link", "var/lib/dpkg"),
    ]);
    let second = tar(second);
    let made = sbom(&layout(&[(gzip(&first), &first), (zstd(&second), &second)]).source());
    ["a", "b", "c", "d"].into_iter().filter(|name| ids(&made).contains(&id(name))).map(str::to_owned).collect()
}

#[test]
fn layers_in_every_compression_make_the_root_that_they_were_made_of() {
    let root = debian_tar();
    for stored in [root.clone(), gzip(&root), zstd(&root)] {
        let image = layout(&[(stored, &root)]);
        let made = sbom(&image.source());
        assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
        assert_eq!(needs(&made, TOOL), set([BASE]));
        let described = &made.described[0];
        assert_eq!((described.kind, described.name.as_str()), (ComponentKind::Container, "registry.example/team/app"));
        assert_eq!(described.version.as_deref(), Some("1.2"));
        assert_eq!(described.hashes[0].value, image.manifest);
        let purl = format!("pkg:oci/app@sha256%3A{}?arch=amd64&tag=1.2", image.manifest);
        assert_eq!(described.purl.as_deref(), Some(purl.as_str()));
    }
}

#[test]
fn an_image_in_a_tar_is_the_same_image_and_the_document_names_the_tar() {
    let root = debian_tar();
    let image = layout(&[(gzip(&root), &root)]);
    let archive = image.archive();
    let made = sbom(&Source::of_path(&archive).unwrap());
    assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
    assert_eq!(made.described[0].hashes[0].value, hex(&fs::read(&archive).unwrap()));
    let manifest = made.described[0].property("debvisor:image:manifest").unwrap();
    assert_eq!(manifest, format!("sha256:{}", image.manifest));
}

#[test]
fn what_docker_saved_before_there_was_a_layout_is_read() {
    let dir = TempDir::new().unwrap();
    let root = debian_tar();
    let config =
        json!({"architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&root))]}});
    let config = config.to_string();
    let name = format!("{}.json", hex(config.as_bytes()));
    fs::create_dir(dir.path().join("aaaa")).unwrap();
    fs::create_dir(dir.path().join("bbbb")).unwrap();
    fs::write(dir.path().join("aaaa/layer.tar"), &root).unwrap();
    // Layers that images share are links.
    std::os::unix::fs::symlink("../aaaa/layer.tar", dir.path().join("bbbb/layer.tar")).unwrap();
    fs::write(dir.path().join(&name), &config).unwrap();
    let manifest = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["bbbb/layer.tar"]}]);
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    run("tar", &["cf", "image.tar", "manifest.json", &name, "aaaa", "bbbb"], dir.path());
    let made = sbom(&Source::of_path(&dir.path().join("image.tar")).unwrap());
    assert_eq!(ids(&made), set([BASE, TOOL, SYSTEM]));
    assert_eq!((made.described[0].name.as_str(), made.described[0].version.as_deref()), ("app", Some("1")));
}

#[test]
fn a_root_in_a_tar_is_read_as_it_is_and_a_whiteouts_name_is_a_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("root.tar");
    fs::write(&path, debian_tar()).unwrap();
    assert_eq!(ids(&sbom(&Source::of_path(&path).unwrap())), set([BASE, TOOL, SYSTEM]));
    let with_whiteout = tar(&[
        TarMember::file("etc/os-release", RELEASE),
        TarMember::file("var/lib/dpkg/status.d/a", &stanza("a")),
        TarMember::file("var/lib/dpkg/status.d/.wh.a", b""),
        TarMember::new(b'3', "dev/null", b""),
        TarMember::symbolic_link("var/run", "/run"),
    ]);
    fs::write(&path, gzip(&with_whiteout)).unwrap();
    // The whiteout's file is a stanza's file without a stanza in it.
    assert_eq!(ids(&sbom(&Source::Archive(path))), [id("a"), SYSTEM.to_owned()].into());
}

#[test]
fn a_whiteout_hides_what_is_below_it_and_nothing_else() {
    let file = |name: &str, content: &[u8]| TarMember::file(&format!("var/lib/dpkg/status.d/{name}"), content);
    assert_eq!(left(&[]), ["a", "b", "c"]);
    assert_eq!(left(&[file(".wh.b", b"")]), ["a", "c"]);
    assert_eq!(left(&[file("b", b"Package: d\nVersion: 1\nArchitecture: all\n")]), ["a", "c", "d"]);
    // In one layer a file and the whiteout of its name: the one below goes, and this one stays, in any order.
    assert_eq!(left(&[file("d", &stanza("d")), file(".wh..wh..opq", b"")]), ["d"]);
    assert_eq!(left(&[file(".wh..wh..opq", b""), file("d", &stanza("d"))]), ["d"]);
    assert_eq!(left(&[TarMember::file("var/lib/.wh.dpkg", b"")]), [""; 0]);
    assert_eq!(left(&[TarMember::file("var/lib/dpkg/status.d", b"")]), [""; 0], "a file in a directory's place");
    // What overlay drivers of old kept for themselves hides nothing.
    assert_eq!(left(&[file(".wh..wh.plnk", b"")]), ["a", "b", "c"]);
    // A whiteout of nothing, and one whose way leads out of the root.
    assert_eq!(left(&[file(".wh.nobody", b"")]), ["a", "b", "c"]);
}

#[test]
fn what_is_written_through_a_link_lands_where_it_leads() {
    assert_eq!(left(&[TarMember::file("link/status.d/d", &stanza("d"))]), ["a", "b", "c", "d"]);
    assert_eq!(left(&[TarMember::file("link/status.d/.wh.a", b"")]), ["b", "c"]);
    let hard = TarMember::hard_link("var/lib/dpkg/status.d/d", "other");
    assert_eq!(left(&[TarMember::file("other", &stanza("d")), hard]), ["a", "b", "c", "d"]);
    // A directory in a link's place is a directory of its own.
    let own = [TarMember::directory("link/"), TarMember::file("link/status.d/d", &stanza("d"))];
    assert_eq!(left(&own), ["a", "b", "c"]);
}

#[test]
fn an_exchanged_part_is_refused() {
    let root = tar(&[TarMember::file("etc/os-release", RELEASE)]);
    let other = tar(&[TarMember::file("etc/os-release", b"ID=other\n")]);
    // A layer under the right digest that the configuration does not name.
    assert_eq!(refused_by(&layout(&[(gzip(&other), &root)]).source()), Code::ImageDigest);
    // A blob whose bytes are not what its name says: layer, configuration, manifest.
    let image = layout(&[(root.clone(), &root)]);
    let mut blobs: Vec<_> =
        fs::read_dir(image.path().join("blobs/sha256")).unwrap().map(|one| one.unwrap().path()).collect();
    blobs.sort();
    assert_eq!(blobs.len(), 3);
    for path in blobs {
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let at = bytes.len() - 1;
        if bytes[at] == b'}' {
            bytes.insert(at, b' ')
        } else {
            bytes.push(0)
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(refused_by(&image.source()), Code::ImageDigest, "{}", path.display());
        fs::remove_file(&path).unwrap();
        assert_eq!(refused_by(&image.source()), Code::SubjectUnreadable);
        fs::write(&path, sound).unwrap();
    }
    sbom(&image.source());
}

#[test]
fn the_image_for_the_usual_platform_is_chosen_and_several_without_one_are_refused() {
    let root = tar(&[TarMember::file("etc/os-release", RELEASE)]);
    let with_platforms = |platforms: &[&str]| {
        layout_with(&[(root.clone(), &root)], |index| {
            let one = index["manifests"][0].clone();
            let all = platforms.iter().map(|architecture| {
                let mut one = one.clone();
                one["platform"] = json!({"os": if *architecture == "unknown" { "unknown" } else { "linux" }, "architecture": architecture});
                one
            });
            index["manifests"] = all.collect();
        })
    };
    for platforms in [["arm64", "amd64"].as_slice(), &["amd64", "unknown"], &["arm64"]] {
        sbom(&with_platforms(platforms).source());
    }
    for platforms in [["arm64", "riscv64"].as_slice(), &["amd64", "amd64"], &["unknown"], &[]] {
        assert_eq!(refused_by(&with_platforms(platforms).source()), Code::SbomUnsupported, "{platforms:?}");
    }
}

#[test]
fn digests_and_paths_in_a_layout_cannot_lead_out_of_it() {
    let root = tar(&[TarMember::file("etc/os-release", RELEASE)]);
    for digest in
        ["sha256:../../../../etc/passwd", "sha256:", "md5:00", "/etc/passwd", &format!("sha256:{}", "Z".repeat(64))]
    {
        let image = layout_with(&[(root.clone(), &root)], |index| index["manifests"][0]["digest"] = json!(digest));
        assert_eq!(refused(&image.source())[0].code.known(), Some(Code::SbomSourceMalformed), "{digest}");
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("manifest.json"), json!([{"Config": "../../etc/passwd", "Layers": []}]).to_string())
        .unwrap();
    assert_eq!(refused_by(&Source::OciDirectory(dir.path().to_owned())), Code::SubjectUnreadable);
}
