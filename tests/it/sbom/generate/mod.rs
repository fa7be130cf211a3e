//! Bills of materials out of sources that are made here, through the real binary: exact sets of components, scopes and
//! edges for every ecosystem; documents that validate, agree and are the same bytes again; and what nobody honest writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

mod binary;
mod documents;
mod ecosystems;
mod hostile;

/// A source tree on disk.
struct Sources {
    dir: tempfile::TempDir,
}

/// How a run ended.
struct Run {
    exit: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Sources {
    /// A tree with these files.
    fn new(files: &[(&str, &str)]) -> Self {
        let sources = Self { dir: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(name, text)| sources.put(&format!("source/{name}"), text.as_bytes()));
        sources
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file down, and the folders that lead to it.
    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs `debvisor sbom …` beside the tree.
    fn run(&self, args: &[&str]) -> Run {
        run_in(self.dir.path(), args)
    }

    /// The bill of materials of the tree: both formats are valid by their schemas and all checks beyond, and say the
    /// same.
    fn bill(&self, args: &[&str]) -> Bill {
        self.bill_of("source", args)
    }

    fn bill_of(&self, source: &str, args: &[&str]) -> Bill {
        let formats = ["--output-format", "cyclonedx-json=a.cdx.json", "--output-format", "spdx-json=a.spdx.json"];
        let run = self.run(&[&["generate", source], &formats[..], args].concat());
        assert_eq!(run.exit, 0, "{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
        for document in ["a.cdx.json", "a.spdx.json"] {
            let run = self.run(&["validate", "--strict", document]);
            assert_eq!(run.exit, 0, "{document}: {}", String::from_utf8_lossy(&run.stdout));
        }
        let run = self.run(&["compare", "a.cdx.json", "a.spdx.json"]);
        assert_eq!(run.exit, 0, "{}", String::from_utf8_lossy(&run.stdout));
        let read = |name: &str| serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap();
        Bill { cyclonedx: read("a.cdx.json"), spdx: read("a.spdx.json") }
    }

    /// The codes for which the tree is refused.
    fn refused(&self, args: &[&str]) -> Vec<String> {
        let run = self.run(&[&["generate", "source", "--format", "json"], args].concat());
        assert_eq!(run.exit, 1, "{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
        let report: Value = serde_json::from_slice(&run.stdout).unwrap();
        report["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    }
}

fn run_in(dir: &Path, args: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_debvisor"))
        .arg("sbom")
        .args(args)
        .current_dir(dir)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Run { exit: output.status.code().unwrap(), stdout: output.stdout, stderr }
}

/// The two documents of one source.
struct Bill {
    cyclonedx: Value,
    spdx: Value,
}

impl Bill {
    /// What is described.
    fn described(&self) -> &Value {
        &self.cyclonedx["metadata"]["component"]
    }

    fn components(&self) -> &[Value] {
        self.cyclonedx["components"].as_array().unwrap()
    }

    /// The component of this package URL, or of this name where it has none.
    fn component(&self, purl: &str) -> &Value {
        let all = self.components().iter().chain([self.described()]);
        all.into_iter().find(|component| label(component) == purl).unwrap_or_else(|| panic!("there is no {purl}"))
    }

    /// Every component as `PURL SCOPE`, the described one apart.
    fn listed(&self) -> BTreeSet<String> {
        self.components()
            .iter()
            .map(|component| format!("{} {}", label(component), component["scope"].as_str().unwrap_or("-")))
            .collect()
    }

    /// Every dependency as `PURL -> PURL`.
    fn edges(&self) -> BTreeSet<String> {
        let all = self.components().iter().chain([self.described()]);
        let labels: BTreeMap<&str, String> =
            all.map(|component| (component["bom-ref"].as_str().unwrap(), label(component))).collect();
        let mut edges = BTreeSet::new();
        for entry in self.cyclonedx["dependencies"].as_array().unwrap() {
            for on in entry["dependsOn"].as_array().into_iter().flatten() {
                let name = |id: &Value| labels[id.as_str().unwrap()].clone();
                edges.insert(format!("{} -> {}", name(&entry["ref"]), name(on)));
            }
        }
        edges
    }
}

fn label(component: &Value) -> String {
    component["purl"].as_str().or(component["name"].as_str()).unwrap().to_owned()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

/// What the fuzz target of sources begins with: its first byte chooses the file that the rest is.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    hostile::seeds()
}
