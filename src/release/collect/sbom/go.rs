//! Go: `go.mod` with `go.sum`, and the build information that Go puts into its programs, in, modules out.
//!
//! A `go.mod` names the modules that a build may use, the direct ones apart; which module needs which other is told by
//! no file of the source. A program's build information is the list of what is in it.
//! The `h1:` sums are digests over a list of a module's files, and no digest of anything that can be downloaded: they
//! are told as properties.
//! Source: go.dev/ref/mod; runtime/debug, BuildInfo; debug/buildinfo.

use std::collections::{BTreeMap, BTreeSet};

use super::package::{library, property, reference};
use super::tree::{folder_of, join};
use super::{Found, Scan, View, malformed};
use crate::release::evidence::sbom::model::{Component, ComponentKind};

/// Finds every `go.mod` of a source tree.
pub(super) fn catalog(scan: &Scan<'_>, found: &mut Found) {
    if scan.view != View::Source {
        return;
    }
    for entry in scan.files().filter(|entry| entry.name() == "go.mod") {
        let path = entry.path.as_str();
        let read = scan.text(path).and_then(|text| parse(&text).map_err(|why| malformed(path, why)));
        let Some(module) = found.keep(read) else { continue };
        let sums_path = join(folder_of(path), "go.sum");
        let sums = match scan.entry(&sums_path).filter(|entry| entry.is_file()) {
            Some(_) => found.keep(scan.text(&sums_path)).map(|text| sums_of(&text)).unwrap_or_default(),
            None => BTreeMap::new(),
        };
        project(path, &module, &sums, found);
    }
}

/// What a `go.mod` says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Module {
    /// The module's path.
    pub path: String,
    /// Path, version, and whether the module itself does not import it.
    pub requires: Vec<(String, String, bool)>,
    /// What takes the place of what: a path with or without a version, by a path with a version or a folder.
    pub replaces: Vec<(String, Option<String>, String, Option<String>)>,
}

/// Reads a `go.mod`.
///
/// # Errors
/// Where it is none, in a sentence.
pub fn parse(text: &str) -> Result<Module, String> {
    let mut module = Module::default();
    let mut block: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        let (line, comment) = line.split_once("//").unwrap_or((line, ""));
        let words: Vec<&str> = line.split_whitespace().map(unquoted).collect();
        let (directive, rest) = match (block, words.as_slice()) {
            (_, []) => continue,
            (Some(_), [")"]) => {
                block = None;
                continue;
            }
            (Some(directive), rest) => (directive, rest),
            (None, [directive, "("]) => {
                block = Some(directive);
                continue;
            }
            (None, [directive, rest @ ..]) => (*directive, rest),
        };
        match (directive, rest) {
            ("module", [path]) => module.path = (*path).to_owned(),
            ("require", [path, version]) => {
                let is_indirect = comment.trim() == "indirect" || comment.trim().starts_with("indirect;");
                module.requires.push(((*path).to_owned(), (*version).to_owned(), is_indirect));
            }
            ("replace", words) => {
                let at = words.iter().position(|word| *word == "=>").ok_or_else(|| wrong("a replace has no arrow"))?;
                let (from, to) = words.split_at(at);
                let side = |words: &[&str]| {
                    words.first().map(|path| ((*path).to_owned(), words.get(1).map(|version| (*version).to_owned())))
                };
                let (Some((from, of)), Some((to, version))) = (side(from), side(to.get(1..).unwrap_or_default()))
                else {
                    return Err(wrong("a replace has one side only"));
                };
                module.replaces.push((from, of, to, version));
            }
            ("module" | "require", _) => return Err(wrong("a directive has too few or too many words")),
            _ => {}
        }
    }
    if module.path.is_empty() { Err("it names no module".to_owned()) } else { Ok(module) }
}

fn unquoted(word: &str) -> &str {
    let inner = |sign: char| word.strip_prefix(sign).and_then(|word| word.strip_suffix(sign));
    inner('"').or_else(|| inner('`')).unwrap_or(word)
}

/// Module and version to the `h1:` sum of the module's files.
fn sums_of(text: &str) -> BTreeMap<(String, String), String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (path, version, sum) = (words.next()?, words.next()?, words.next()?);
            // The sum of a module's go.mod alone is of no component.
            (!version.ends_with("/go.mod")).then(|| ((path.to_owned(), version.to_owned()), sum.to_owned()))
        })
        .collect()
}

fn project(path: &str, module: &Module, sums: &BTreeMap<(String, String), String>, found: &mut Found) {
    let mut own = component(&module.path, None);
    own.kind = ComponentKind::Application;
    let id = own.id.clone();
    found.project(folder_of(path), &id);
    found.add_at(own, path);
    found.knows_dependencies(&id);
    for (required, version, is_indirect) in &module.requires {
        let replaced = module
            .replaces
            .iter()
            .find(|(from, of, ..)| from == required && of.as_ref().is_none_or(|of| of == version));
        let mut component = match replaced {
            None => component(required, Some(version)),
            Some((.., to, Some(version))) => component(to, Some(version)),
            Some((.., to, None)) => {
                let mut component = component(required, None);
                component.properties.push(property("debvisor:go:replaced-by", to));
                component
            }
        };
        let key = match replaced {
            Some((.., to, Some(version))) => (to.clone(), version.clone()),
            _ => (required.clone(), version.clone()),
        };
        component.properties.extend(sums.get(&key).map(|sum| property("debvisor:go:h1", sum)));
        if *is_indirect {
            component.properties.push(property("debvisor:go:indirect", "true"));
        } else {
            found.depends(&id, &component.id);
        }
        found.add_at(component, path);
    }
}

/// A module, its last part the name and what is before it the namespace.
pub(super) fn component(path: &str, version: Option<&str>) -> Component {
    let (group, name) = match path.rsplit_once('/') {
        Some((group, name)) => (Some(group), name),
        None => (None, path),
    };
    let mut component = library("golang", group, name, version, &[]);
    // People and Go know a module by its whole path.
    component.name = path.to_owned();
    component.group = None;
    let host = path.split('/').next().unwrap_or_default();
    if matches!(host, "github.com" | "gitlab.com" | "bitbucket.org") {
        let repository: Vec<&str> = path.split('/').take(3).collect();
        component.references.extend(reference("vcs", &format!("https://{}", repository.join("/"))));
    }
    component
}

/// What a program says of how Go built it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// The toolchain: `go1.22.1`.
    pub go: String,
    /// The package of the program.
    pub path: String,
    /// The module that it is in.
    pub main: Option<Built>,
    /// The modules that are in it.
    pub dependencies: Vec<Built>,
    /// How it was built: `vcs.revision`, `GOOS`, `-tags` and the like.
    pub settings: Vec<(String, String)>,
}

/// A module as it was built.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Built {
    /// The module's path.
    pub path: String,
    /// The version; `(devel)` where it was built out of a working copy.
    pub version: String,
    /// The `h1:` sum.
    pub sum: Option<String>,
}

/// Reads the lines of build information: `path`, `mod`, `dep`, `=>` and `build`, with tabs between their parts.
pub fn build_info(go: &str, text: &str) -> BuildInfo {
    let mut info = BuildInfo { go: go.to_owned(), ..BuildInfo::default() };
    let mut last_is_main = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let built = |path: &&str, version: Option<&&str>, sum: Option<&&str>| Built {
            path: (*path).to_owned(),
            version: version.map(|version| (*version).to_owned()).unwrap_or_default(),
            sum: sum.filter(|sum| !sum.is_empty()).map(|sum| (*sum).to_owned()),
        };
        match words.as_slice() {
            ["path", path] => info.path = (*path).to_owned(),
            ["mod", path, rest @ ..] => {
                info.main = Some(built(path, rest.first(), rest.get(1)));
                last_is_main = true;
            }
            ["dep", path, rest @ ..] => {
                info.dependencies.push(built(path, rest.first(), rest.get(1)));
                last_is_main = false;
            }
            // What stands here was built in place of what stands above.
            ["=>", path, rest @ ..] => {
                let replacement = built(path, rest.first(), rest.get(1));
                let is_folder = path.starts_with(['.', '/']);
                let replaced = if last_is_main { info.main.as_mut() } else { info.dependencies.last_mut() };
                if let Some(replaced) = replaced.filter(|_| !is_folder) {
                    *replaced = replacement;
                }
            }
            ["build", setting] => {
                if let Some((name, value)) = setting.split_once('=') {
                    info.settings.push((unquoted(name).to_owned(), unquoted(value).to_owned()));
                }
            }
            _ => {}
        }
    }
    info
}

/// Adds what a program is made of.
pub(super) fn program(path: &str, info: &BuildInfo, found: &mut Found) {
    let version =
        |version: &str| Some(version.to_owned()).filter(|version| version != "(devel)" && !version.is_empty());
    // A program without modules is known by its package.
    let (name, main_version) = match &info.main {
        Some(main) => (main.path.as_str(), version(&main.version)),
        None => (info.path.as_str(), None),
    };
    let mut main = component(if name.is_empty() { path } else { name }, main_version.as_deref());
    main.kind = ComponentKind::Application;
    let told: BTreeSet<&str> = ["vcs.revision", "vcs.time", "vcs.modified", "GOOS", "GOARCH", "CGO_ENABLED"].into();
    for (name, value) in info.settings.iter().filter(|(name, _)| told.contains(name.as_str())) {
        main.properties.push(property(&format!("debvisor:go:{name}"), value));
    }
    let id = main.id.clone();
    found.needed(folder_of(path), &id);
    found.add_at(main, path);
    found.knows_dependencies(&id);
    let mut parts: Vec<Component> = info
        .dependencies
        .iter()
        .map(|built| {
            let mut component = component(&built.path, version(&built.version).as_deref());
            component.properties.extend(built.sum.as_ref().map(|sum| property("debvisor:go:h1", sum)));
            component
        })
        .collect();
    // The standard library is in every program, at the toolchain's version.
    let release = info.go.split_whitespace().next().and_then(|go| go.strip_prefix("go"));
    parts.extend(release.map(|release| library("golang", None, "stdlib", Some(release), &[])));
    for part in parts {
        found.depends(&id, &part.id);
        found.add_at(part, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_file_is_read_in_both_of_its_forms() {
        let text = "module example.com/m // why\n\ngo 1.22\nrequire a.example/b v1.0.0\nrequire (\n\tc.example/d v2.0.0 // indirect\n\t\"e.example/f\" v0.1.0\n)\nreplace a.example/b => ../b\nreplace (\n\tc.example/d v2.0.0 => g.example/h v3.0.0\n)\n";
        let module = parse(text).unwrap();
        assert_eq!(module.path, "example.com/m");
        assert_eq!(module.requires.len(), 3);
        assert!(module.requires[1].2 && !module.requires[2].2);
        assert_eq!(module.replaces[0].2, "../b");
        assert_eq!(parse("require x\n").unwrap_err(), "line 1: a directive has too few or too many words");
        assert_eq!(parse("go 1.22\n").unwrap_err(), "it names no module");
    }

    #[test]
    fn a_replaced_module_is_the_one_that_was_built() {
        let text = "path\tx/cmd\nmod\tx\t(devel)\t\ndep\ta\tv1\th1:aa\n=>\tb\tv2\th1:bb\ndep\tc\tv3\n=>\t./c\t(devel)\nbuild\tvcs.revision=abc\n";
        let info = build_info("go1.22.1", text);
        assert_eq!(info.main.unwrap().version, "(devel)");
        let names: Vec<&str> = info.dependencies.iter().map(|built| built.path.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(info.settings, [("vcs.revision".to_owned(), "abc".to_owned())]);
    }
}
