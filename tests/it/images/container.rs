//! Container images turned into root disks: every file with its owner and mode, none outside.

use std::fs;
use std::path::{Path, PathBuf};

use debvisor::types::Code;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Place, files_below, ran, refused};

/// What stands in a layer: name, what it is, mode, owner.
type Member<'a> = (&'a str, Kind<'a>, u32, u64);

enum Kind<'a> {
    Directory,
    File(&'a [u8]),
    Link(&'a str),
}

fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, mode, owner) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner + 1);
        header.set_size(0);
        match kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, name, &[][..]).unwrap();
            }
            Kind::File(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, *bytes).unwrap();
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// An image of these layers, as `docker save` writes it.
fn image(place: &Place, layers: &[Vec<u8>]) -> PathBuf {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } });
    let config = config.to_string().into_bytes();
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let config_name = format!("{}.json", digest(&config));
    let manifest = json!([{ "Config": config_name, "RepoTags": ["test:1"], "Layers": names }]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", manifest.as_bytes()), (&config_name, &config)];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice)));
    let members: Vec<Member<'_>> = files.into_iter().map(|(name, bytes)| (name, Kind::File(bytes), 0o644, 0)).collect();
    let path = place.path().join("image.tar");
    fs::write(&path, layer(&members)).unwrap();
    path
}

/// What debugfs says of a path on a disk.
fn stat(disk: &Path, path: &str) -> String {
    ran("/sbin/debugfs", &["-R", &format!("stat \"{path}\""), &disk.display().to_string()])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_container_image_becomes_a_root_disk_with_its_owners_and_modes() {
    let place = Place::new();
    let store = place.open();
    let long = vec![b'x'; 100_000];
    let lower = layer(&[
        ("etc", Kind::Directory, 0o755, 0),
        ("etc/shadow", Kind::File(b"root:*::"), 0o640, 0),
        ("etc/gone", Kind::File(b"old"), 0o644, 0),
        ("bin", Kind::Directory, 0o755, 0),
        ("bin/su", Kind::File(&long), 0o4755, 0),
        ("home", Kind::Directory, 0o755, 0),
        ("home/a user", Kind::Directory, 0o700, 100_000),
    ]);
    let upper = layer(&[
        ("etc/.wh.gone", Kind::File(b""), 0o644, 0),
        ("sbin", Kind::Link("/bin"), 0o777, 0),
        ("tmp", Kind::Directory, 0o1777, 0),
        ("home/a user/file", Kind::File(b"mine"), 0o600, 100_000),
    ]);
    let source = image(&place, &[lower, upper]);
    let imported = store.import_container(&source, None, "test:1", Timestamp::UNIX_EPOCH).unwrap();
    let record = imported.record;
    store.verify(&record.digest, &|_| ()).unwrap();
    assert!(fs::read_dir(store.root().join("uploads")).unwrap().next().is_none());

    let disk = place.image_file(&record.digest, "content");
    ran("/sbin/e2fsck", &["-f", "-n", &disk.display().to_string()]);
    for (path, words) in [
        ("/", &["Type: directory", "Mode: 0755", "User: 0"][..]),
        ("/etc/shadow", &["Mode: 0640", "User: 0 Group: 1", "Size: 8"]),
        ("/bin/su", &["Mode: 04755", "Size: 100000"]),
        ("/tmp", &["Type: directory", "Mode: 01777"]),
        ("/home/a user", &["Mode: 0700", "User: 100000 Group: 100001"]),
        ("/home/a user/file", &["Mode: 0600", "User: 100000 Group: 100001", "Size: 4"]),
        ("/sbin", &["Type: symlink", "Fast link dest: \"/bin\""]),
    ] {
        let said = stat(&disk, path);
        for word in words {
            assert!(said.contains(word), "{path}: no `{word}` in {said}");
        }
    }
    let etc = ran("/sbin/debugfs", &["-R", "ls -p /etc", &disk.display().to_string()]);
    assert!(etc.contains("/shadow/") && !etc.contains("gone"), "{etc}");
    let read = ran("/sbin/debugfs", &["-R", "cat \"/home/a user/file\"", &disk.display().to_string()]);
    assert_eq!(read, "mine");
}

#[test]
fn an_image_that_lies_about_its_layers_or_does_not_fit_is_no_disk() {
    let place = Place::new();
    let store = place.open();
    let make = |source: &Path, bytes| store.import_container(source, bytes, "test", Timestamp::UNIX_EPOCH);
    let big = vec![7; 9 << 20];
    let source = image(&place, &[layer(&[("big", Kind::File(&big), 0o644, 0)])]);
    assert_eq!(refused(make(&source, Some(8 << 20))), Code::ImageKind);
    make(&source, Some(32 << 20)).unwrap();

    let mut other = fs::read(&source).unwrap();
    let at = other.windows(64).position(|bytes| bytes.iter().all(|byte| *byte == 7)).unwrap();
    other[at + 100] = 8;
    fs::write(&source, other).unwrap();
    assert_eq!(refused(make(&source, None)), Code::ImageDigest);

    // A name through which a script for the disk would be continued.
    let source = image(&place, &[layer(&[("a\" mode 0\nrm /b", Kind::File(b""), 0o644, 0)])]);
    assert_eq!(refused(make(&source, None)), Code::ImageKind);
    fs::write(&source, "neither").unwrap();
    assert_eq!(refused(make(&source, None)), Code::SbomSourceMalformed);
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(files_below(&store.root().join("uploads")).is_empty());
}
