//! rpm's databases: SQLite (`rpmdb.sqlite`), ndb (`Packages.db`) and Berkeley DB (`Packages`). Each is a way to keep
//! package headers; what a header says is the same in all of them.

mod bdb;
mod header;
mod ndb;
mod sqlite;

use std::io::{Read as _, Seek, SeekFrom};

use super::release::Distribution;
use super::{Graph, apk, package, purl};
use crate::release::collect::sbom::package::reference;
use crate::release::collect::sbom::tree::{Content, unreadable};
use crate::release::collect::sbom::{Found, Scan, malformed};
use crate::release::evidence::sbom::model::{Component, Party, Property};
use crate::types::{Code, Reason, limits};
use header::Header;

/// Where distributions keep the database (rpm's macro `_dbpath` over the years).
const FOLDERS: [&str; 3] = ["usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"];

/// A file's name, and how it is read. Where several are there the first is in use: the others were left behind when
/// the database was rebuilt in a newer form.
const FORMS: [(&str, Form); 3] = [("rpmdb.sqlite", sqlite::read), ("Packages.db", ndb::read), ("Packages", bdb::read)];

/// Reads the header blobs of a database and shows each.
type Form = fn(&mut Database<'_>, &mut dyn FnMut(&[u8]) -> Result<(), Reason>) -> Result<(), Reason>;

/// A package that holds a key of the database's owner, and no software.
const KEY: &str = "gpg-pubkey";

/// Reads what rpm says is installed; returns the packages' ids.
pub(super) fn catalog(scan: &Scan<'_>, distribution: &Distribution, found: &mut Found) -> Vec<String> {
    let mut graph = Graph::default();
    let mut ids = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for folder in FOLDERS {
        let form = FORMS.iter().find_map(|(name, form)| {
            let entry = scan.follow(&format!("{folder}/{name}")).filter(|entry| entry.is_file())?;
            Some((entry.path.clone(), *form))
        });
        let Some((path, form)) = form.filter(|(path, _)| !seen.contains(path)) else { continue };
        let read = Database::open(scan, &path).and_then(|mut database| {
            // What SQLite has not written into the database yet stands beside it.
            if let Some(log) = scan.entry(&format!("{path}-wal")).filter(|log| log.is_file() && log.bytes > 0) {
                database.log = Some(scan.tree().open(&log.path)?);
            }
            form(&mut database, &mut |blob| {
                let header = Header::parse(blob).map_err(|why| malformed(&path, why))?;
                if header.text(header::NAME) == KEY {
                    return Ok(());
                }
                let component = component(&header, &path, distribution)?;
                let id = component.id.clone();
                relate(&header, &id, &mut graph);
                found.add_at(component, &path);
                ids.push(id);
                Ok(())
            })
        });
        found.keep(read);
        seen.push(path);
    }
    graph.tell(found);
    ids
}

/// A database's bytes.
struct Database<'a> {
    path: &'a str,
    bytes: u64,
    content: Box<dyn Content + 'a>,
    log: Option<Box<dyn Content + 'a>>,
}

impl<'a> Database<'a> {
    fn open(scan: &Scan<'a>, path: &'a str) -> Result<Self, Reason> {
        let mut content = scan.tree().open(path)?;
        let bytes = content.seek(SeekFrom::End(0)).map_err(|error| unreadable(path, &error))?;
        if bytes > limits::SBOM_RPM_DATABASE_BYTES {
            let message = format!("{path} is larger than {} bytes", limits::SBOM_RPM_DATABASE_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message).evidence(path));
        }
        Ok(Self { path, bytes, content, log: None })
    }

    /// Exactly these bytes.
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Reason> {
        let path = self.path;
        self.content.seek(SeekFrom::Start(at)).map_err(|error| unreadable(path, &error))?;
        self.content.read_exact(buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => malformed(path, "the database is cut short"),
            _ => unreadable(path, &error),
        })
    }

    fn malformed(&self, why: &str) -> Reason {
        malformed(self.path, why)
    }
}

fn component(header: &Header<'_>, path: &str, distribution: &Distribution) -> Result<Component, Reason> {
    let (name, version, release) =
        (header.text(header::NAME), header.text(header::VERSION), header.text(header::RELEASE));
    if name.is_empty() || version.is_empty() {
        return Err(malformed(path, "a package has no name or no version"));
    }
    let full = if release.is_empty() { version.to_owned() } else { format!("{version}-{release}") };
    let epoch = header.number(header::EPOCH).map(|epoch| epoch.to_string());
    let epoch = epoch.unwrap_or_default();
    let distro = distribution.qualifier();
    let qualifiers = [
        ("arch", header.text(header::ARCHITECTURE)),
        ("distro", distro.as_str()),
        ("epoch", epoch.as_str()),
        ("upstream", header.text(header::SOURCE)),
    ];
    let namespace = match distribution.id.as_str() {
        "rhel" => "redhat",
        id if id.starts_with("opensuse") => "opensuse",
        id => id,
    };
    let purl = purl("rpm", namespace, name, &full, &qualifiers)
        .ok_or_else(|| malformed(path, format!("`{name}` is no package's name")))?;
    let shown = if epoch.is_empty() { full } else { format!("{epoch}:{full}") };
    let mut component = package(purl, name, &shown);
    let text = |tag| Some(header.text(tag).to_owned()).filter(|text| !text.is_empty());
    component.description = text(header::SUMMARY);
    component.supplier = text(header::VENDOR).map(Party::organization);
    component.licenses.extend(text(header::LICENSE).map(apk::license));
    let home = header.text(header::URL);
    if home.starts_with("http") {
        component.references.extend(reference("website", home));
    }
    if let Some(module) = text(header::MODULARITY) {
        component.properties.push(Property { name: "debvisor:rpm:module".to_owned(), value: module });
    }
    Ok(component)
}

/// What a package provides, its files included, and what it needs.
fn relate(header: &Header<'_>, id: &str, graph: &mut Graph) {
    graph.provide(header.text(header::NAME), id);
    for name in header.texts(header::PROVIDES) {
        graph.provide(name, id);
    }
    let folders = header.texts(header::FOLDERS);
    for (name, folder) in header.texts(header::FILES).iter().zip(header.numbers(header::FOLDER_OF_FILE)) {
        if let Some(folder) = usize::try_from(folder).ok().and_then(|at| folders.get(at))
            && (folder.contains("bin") || folder.starts_with("/etc"))
        {
            graph.provide(&format!("{folder}{name}"), id);
        }
    }
    // `rpmlib(…)` is a feature of rpm's own.
    let needs = header.texts(header::REQUIRES).into_iter().filter(|name| !name.starts_with("rpmlib("));
    graph.need(id, needs.map(|name| vec![name.to_owned()]).collect());
}
