//! What other people's tools write must pass: a verifier that refuses the honest is soon switched off.

use std::fs;
use std::io::{Cursor, Write as _};
use std::process::Command;

use super::{allowed, judge};
use debvisor::release::evidence::archive::Form;

#[test]
fn every_format_that_gnu_tar_writes_passes() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let deep = tree.join(format!("{}/{}", "d".repeat(120), "e".repeat(120)));
    fs::create_dir_all(&deep).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::write(tree.join("na\u{ef}ve name"), "content").unwrap();
    fs::hard_link(tree.join("file"), tree.join("hard")).unwrap();
    std::os::unix::fs::symlink("file", tree.join("soft")).unwrap();
    fs::write(deep.join("x".repeat(130)), "deep").unwrap();
    // A hole of a megabyte with a word at each end.
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    (&sparse).write_all(b"start").unwrap();
    sparse.set_len(1_048_576).unwrap();

    for format in ["gnu", "oldgnu", "pax", "posix", "ustar"] {
        for flags in [&["--sparse"][..], &[], &["--gzip"]] {
            if format == "ustar" && flags == ["--sparse"] {
                continue;
            }
            // ustar has room for neither the deep name nor a hole.
            let paths: &[&str] = if format == "ustar" { &["tree/file", "tree/hard", "tree/soft"] } else { &["tree"] };
            let output = Command::new("tar")
                .arg("--create")
                .arg(format!("--format={format}"))
                .args(flags)
                .args(paths)
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "tar {format}: {}", String::from_utf8_lossy(&output.stderr));
            let summary = allowed(&output.stdout);
            if format != "ustar" {
                assert_eq!((summary.members, summary.files, summary.directories, summary.links), (10, 6, 3, 1));
                assert!(summary.unpacked_bytes > 1_048_576, "{format} {flags:?}: holes count");
            }
        }
    }
}

#[test]
fn what_the_tar_crate_writes_passes() {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a", &format!("d/{}", "long".repeat(60))] {
        let mut header = tar::Header::new_gnu();
        header.set_size(7);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, b"content".as_slice()).unwrap();
    }
    assert_eq!(allowed(&builder.into_inner().unwrap()).members, 2);
}

#[test]
fn what_the_zip_crate_writes_passes() {
    for (large, is_deflated) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let method = if is_deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        let options = zip::write::SimpleFileOptions::default().compression_method(method).large_file(large);
        // The crate itself writes a directory's large header wrongly: its sizes stay at their largest value.
        writer.add_directory("d/", options.large_file(false)).unwrap();
        writer.start_file("d/a", options).unwrap();
        writer.write_all(b"content, content, content").unwrap();
        writer.add_symlink("d/l", "a", options).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let summary = allowed(&bytes);
        assert_eq!((summary.form, summary.members, summary.links), (Form::Zip, 3, 1), "zip64: {large}");
    }
}

#[test]
fn what_python_writes_passes() {
    let script = r"
import io, sys, tarfile, zipfile
kind = sys.argv[1]
out = io.BytesIO()
if kind == 'zip':
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('d/a', 'content' * 9)
        with z.open('d/b', 'w', force_zip64=True) as f: f.write(b'content')
        z.writestr('caf\u00e9', 'content')
elif kind == 'unseekable':
    class Pipe(io.RawIOBase):
        def writable(self): return True
        def write(self, b): return out.write(b)
    with zipfile.ZipFile(Pipe(), 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('d/a', 'content' * 9)
else:
    with tarfile.open(fileobj=out, mode='w', format=int(kind)) as t:
        for name in ('a', 'd/' + 'long' * 60 if kind != '0' else 'd/b', 'caf\u00e9'):
            i = tarfile.TarInfo(name); i.size = 7
            t.addfile(i, io.BytesIO(b'content'))
sys.stdout.buffer.write(out.getvalue())
";
    for kind in ["zip", "unseekable", "0", "1", "2"] {
        let output = Command::new("python3").args(["-c", script, kind]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if let Err(reasons) = judge(&output.stdout) {
            panic!("python's {kind}: {reasons:?}");
        }
    }
}
