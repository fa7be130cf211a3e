//! What several fuzz targets share: the second opinion about archives that were called safe.

use std::io::{Cursor, Read};
use std::path::{Component, Path};

use debvisor::release::evidence::archive::{Form, Limits, check};

/// Small enough that a bomb costs no time, large enough for every seed.
const UNPACKED_BYTES: u64 = 4 * 1024 * 1024;

/// Checks an archive; where it is called safe, another reader must find the same members, all of them inside.
pub fn judge_archive(bytes: &[u8]) {
    let Ok(summary) = check(Cursor::new(bytes), &Limits { unpacked_bytes: UNPACKED_BYTES }) else { return };
    assert!(summary.unpacked_bytes <= UNPACKED_BYTES);
    assert!(summary.files + summary.directories + summary.links <= summary.members);
    let names = match summary.form {
        Form::Tar => tar_names(bytes),
        Form::TarGzip => tar_names(flate2::bufread::MultiGzDecoder::new(bytes)),
        Form::TarZstd => return,
        Form::Zip => zip_names(bytes),
    };
    assert_eq!(names.len() as u64, summary.members, "two readers see two archives");
    for name in names {
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        assert!(Path::new(&name).components().all(inside), "{name:?} leaves the directory");
    }
}

fn tar_names(reader: impl Read) -> Vec<String> {
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().expect("another reader opens it");
    entries
        .map(|entry| entry.expect("another reader reads it"))
        .filter(|entry| !entry.header().entry_type().is_pax_global_extensions())
        .map(|mut entry| {
            // Where GNU's sparse files have a placeholder for a name, the name stands beside it.
            let name = sparse_name(&mut entry).unwrap_or_else(|| entry.path_bytes().into_owned());
            String::from_utf8(name).expect("names are UTF-8")
        })
        .collect()
}

fn sparse_name(entry: &mut tar::Entry<'_, impl Read>) -> Option<Vec<u8>> {
    let mut records = entry.pax_extensions().ok()??.filter_map(Result::ok);
    records.find(|record| record.key_bytes() == b"GNU.sparse.name").map(|record| record.value_bytes().to_vec())
}

fn zip_names(bytes: &[u8]) -> Vec<String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("another reader opens it");
    (0..archive.len())
        .map(|position| {
            let member = archive.by_index_raw(position).expect("another reader reads it");
            String::from_utf8(member.name_raw().to_vec()).expect("names are UTF-8")
        })
        .collect()
}

/// Lets a panic that our own code catches pass for what it is: an answer. libFuzzer's hook would end the process at
/// once; a panic that nobody catches still does.
pub fn survive_caught_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| ())));
}
