//! rpm's database in its three forms: SQLite by rpm itself, Berkeley DB by its own loader, and ndb, which Debian's rpm
//! does not have, by the layout that its source gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use debvisor::release::collect::sbom::Source;
use debvisor::release::evidence::sbom::model::{LicenseTerm, Sbom};
use debvisor::types::Code;
use tempfile::TempDir;

use super::{ids, needs, refused_by, run, sbom, set, write};

const LIBRARY: &str = "pkg:rpm/fedora/library@1.0-1?arch=noarch&distro=fedora-40&upstream=library-1.0-1.src.rpm";
const TOOL: &str = "pkg:rpm/fedora/tool@2.5-3?arch=noarch&distro=fedora-40&epoch=1&upstream=tool-2.5-3.src.rpm";
const OS: &str = "os:fedora@40";

/// Two packages, built by rpmbuild.
fn packages() -> &'static Path {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let dir = TempDir::new().unwrap();
            write(
                dir.path(),
                "library.spec",
                "Name: library\nVersion: 1.0\nRelease: 1\nSummary: a library\nLicense: MIT\nURL: https://example.com/l\n\
                 Vendor: Example\nBuildArch: noarch\nProvides: library(api) = 1\n%description\nx\n\
                 %install\nmkdir -p %{buildroot}/usr/bin\necho x > %{buildroot}/usr/bin/helper\n%files\n/usr/bin/helper\n",
            );
            write(
                dir.path(),
                "tool.spec",
                "Name: tool\nEpoch: 1\nVersion: 2.5\nRelease: 3\nSummary: a tool\nLicense: GPLv2+ and MIT\nBuildArch: noarch\n\
                 Requires: library(api) >= 1, /usr/bin/helper, nothing-provides-this\n%description\nx\n%files\n",
            );
            let top = format!("_topdir {}", dir.path().display());
            for spec in ["library.spec", "tool.spec"] {
                run("rpmbuild", &["-bb", "--quiet", "--define", &top, "--define", "_build_id_links none", spec], dir.path());
            }
            dir
        })
        .path()
}

/// A root in which rpm installed the packages.
fn root() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    write(&root, "etc/os-release", "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=40\n");
    let built = packages().join("RPMS/noarch");
    let path = "_dbpath /usr/lib/sysimage/rpm";
    let root_flag = format!("--root={}", root.display());
    let (library, tool) = (built.join("library-1.0-1.noarch.rpm"), built.join("tool-2.5-3.noarch.rpm"));
    let install = [
        &root_flag,
        "--define",
        "_db_backend sqlite",
        "--define",
        path,
        "--install",
        "--nodeps",
        "--justdb",
        "--ignoreos",
        "--noscripts",
        library.to_str().unwrap(),
        tool.to_str().unwrap(),
    ];
    run("rpm", &install, dir.path());
    (dir, root)
}

fn check(made: &Sbom) {
    assert_eq!(ids(made), set([LIBRARY, TOOL, OS]));
    assert_eq!(needs(made, TOOL), set([LIBRARY]), "by what it provides, and by a file that is in it");
    assert!(needs(made, LIBRARY).is_empty());
    let library = made.components.iter().find(|one| one.id == LIBRARY).unwrap();
    assert_eq!(library.licenses[0].term, LicenseTerm::Expression("MIT".to_owned()));
    assert_eq!(library.supplier.as_ref().unwrap().name.as_deref(), Some("Example"));
    assert_eq!(
        (library.description.as_deref(), library.reference("website")),
        (Some("a library"), Some("https://example.com/l"))
    );
    let tool = made.components.iter().find(|one| one.id == TOOL).unwrap();
    assert_eq!(tool.version.as_deref(), Some("1:2.5-3"));
    assert_eq!(tool.licenses[0].term, LicenseTerm::Name("GPLv2+ and MIT".to_owned()));
}

#[test]
fn sqlite_as_rpm_writes_it() {
    let (_dir, root) = root();
    assert!(root.join("usr/lib/sysimage/rpm/rpmdb.sqlite").is_file());
    check(&sbom(&Source::RootFilesystem(root)));
}

#[test]
fn ndb_with_its_slots_in_any_order() {
    let (_dir, root) = ndb();
    check(&sbom(&Source::RootFilesystem(root)));
}

/// The same headers in a database of the form ndb (rpm, lib/backend/ndb/rpmpkg.c).
fn ndb() -> (TempDir, PathBuf) {
    let (dir, root) = root();
    let folder = root.join("usr/lib/sysimage/rpm");
    let script = "import sqlite3, struct, sys, zlib\n\
        rows = sqlite3.connect('rpmdb.sqlite').execute('SELECT hnum, blob FROM Packages').fetchall()\n\
        slots, blobs, at = [], b'', 256\n\
        for number, blob in rows:\n\
        \x20   head = struct.pack('<4sIII', b'BlbS', number, 1, len(blob))\n\
        \x20   pad = b'\\0' * (-(len(blob) + 28) % 16)\n\
        \x20   tail = struct.pack('<I', zlib.adler32(head + blob)) + struct.pack('<I4s', len(blob), b'BlbE')\n\
        \x20   whole = head + blob + pad + tail\n\
        \x20   slots.insert(0, struct.pack('<4sIII', b'Slot', number, at, len(whole) // 16))\n\
        \x20   blobs += whole; at += len(whole) // 16\n\
        empty = struct.pack('<4sIII', b'Slot', 0, 0, 0)\n\
        front = struct.pack('<4sIIIIIII', b'RpmP', 0, 1, 1, len(rows) + 1, 0, 0, 0) + empty + b''.join(slots)\n\
        front += empty * ((4096 - len(front)) // 16)\n\
        open('Packages.db', 'wb').write(front + blobs)";
    run("python3", &["-c", script], &folder);
    fs::remove_file(folder.join("rpmdb.sqlite")).unwrap();
    (dir, root)
}

#[test]
fn berkeley_db_of_every_page_size_and_byte_order() {
    for (page_bytes, order) in [("512", "1234"), ("4096", "1234"), ("65536", "1234"), ("4096", "4321")] {
        let (_dir, root) = berkeley(page_bytes, order);
        check(&sbom(&Source::RootFilesystem(root)));
    }
}

/// The same headers in a hash of Berkeley DB's, beside a key's package and the counter of numbers.
fn berkeley(page_bytes: &str, order: &str) -> (TempDir, PathBuf) {
    let (dir, root) = root();
    let folder = root.join("usr/lib/sysimage/rpm");
    let script = "import sqlite3, sys\n\
        print('VERSION=3\\nformat=bytevalue\\ntype=hash\\ndb_pagesize=%s\\ndb_lorder=%s\\nHEADER=END' % tuple(sys.argv[2:]))\n\
        print(' 00000000\\n 07000000')\n\
        for number, blob in sqlite3.connect(sys.argv[1]).execute('SELECT hnum, blob FROM Packages'):\n\
        \x20   print(' ' + number.to_bytes(4, 'little').hex() + '\\n ' + blob.hex())\n\
        print('DATA=END')";
    let dump = Command::new("python3")
        .args(["-c", script, folder.join("rpmdb.sqlite").to_str().unwrap(), page_bytes, order])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let file = dir.path().join("dump");
    fs::write(&file, dump.stdout).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let folder = root.join("var/lib/rpm");
    fs::create_dir_all(&folder).unwrap();
    let loaded = Command::new("db5.3_load")
        .arg("Packages")
        .current_dir(&folder)
        .stdin(Stdio::from(fs::File::open(&file).unwrap()))
        .status()
        .unwrap();
    assert!(loaded.success());
    (dir, root)
}

#[test]
fn what_sqlite_has_not_written_back_yet_is_read_too() {
    let (_dir, root) = root();
    let folder = root.join("usr/lib/sysimage/rpm");
    // A writer that dies leaves its log: the table is empty without it.
    let script = "import os, sqlite3, sys\n\
        source = sqlite3.connect(sys.argv[1])\n\
        rows = source.execute('SELECT hnum, blob FROM Packages').fetchall()\n\
        source.execute('DELETE FROM Packages'); source.commit()\n\
        source.execute('PRAGMA wal_checkpoint(TRUNCATE)'); source.close()\n\
        target = sqlite3.connect(sys.argv[1])\n\
        target.execute('PRAGMA journal_mode=WAL'); target.execute('PRAGMA wal_autocheckpoint=0')\n\
        target.executemany('INSERT INTO Packages VALUES (?, ?)', rows); target.commit()\n\
        os._exit(0)";
    run("python3", &["-c", script, folder.join("rpmdb.sqlite").to_str().unwrap()], &root);
    assert!(folder.join("rpmdb.sqlite-wal").metadata().unwrap().len() > 0);
    check(&sbom(&Source::RootFilesystem(root)));
}

#[test]
fn a_view_in_the_place_of_the_table_is_not_run() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("var/lib/rpm");
    fs::create_dir_all(&folder).unwrap();
    for schema in [
        "CREATE VIEW Packages AS WITH RECURSIVE n(hnum, blob) AS (SELECT 1, x'00' UNION ALL SELECT hnum + 1, blob FROM n) \
         SELECT hnum, blob FROM n",
        "CREATE VIRTUAL TABLE Packages USING fts5(hnum, blob)",
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, x, blob BLOB GENERATED ALWAYS AS (zeroblob(1000000000)))",
        "CREATE TABLE Others (hnum, blob)",
    ] {
        let _ = fs::remove_file(folder.join("rpmdb.sqlite"));
        let script = "import sqlite3, sys; db = sqlite3.connect('rpmdb.sqlite'); db.execute(sys.argv[1]); db.commit()";
        run("python3", &["-c", script, schema], &folder);
        assert_eq!(refused_by(&Source::RootFilesystem(root.path().to_owned())), Code::SbomSourceMalformed, "{schema}");
    }
}

#[test]
fn a_database_that_is_damaged_anywhere_is_a_reason_or_reads_as_before() {
    let (_dir, root) = root();
    damage(&root, &root.join("usr/lib/sysimage/rpm/rpmdb.sqlite"));
    let (_dir, root) = ndb();
    damage(&root, &root.join("usr/lib/sysimage/rpm/Packages.db"));
    let (_dir, root) = berkeley("512", "1234");
    damage(&root, &root.join("var/lib/rpm/Packages"));
}

fn damage(root: &Path, database: &Path) {
    use debvisor::release::collect::sbom::{Options, generate};
    let sound = fs::read(database).unwrap();
    let mut refusals = 0;
    for step in 0..60_usize {
        let mut bytes = sound.clone();
        // Every byte of the first header, then places all over the file.
        let at = if step < 30 { step } else { (step - 30) * sound.len() / 30 };
        bytes[at] ^= 0xff;
        fs::write(database, &bytes).unwrap();
        refusals += usize::from(generate(&Source::RootFilesystem(root.to_owned()), &Options::default()).is_err());
    }
    for length in [0, 1, 16, 100, sound.len() / 2] {
        fs::write(database, &sound[..length]).unwrap();
        refusals += usize::from(generate(&Source::RootFilesystem(root.to_owned()), &Options::default()).is_err());
    }
    assert!(refusals > 5, "{}: {refusals}", database.display());
}
