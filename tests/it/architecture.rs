//! The sources in, a list of broken rules out: keeps the import table of `docs/ARCHITECTURE.md`, which a workspace
//! of many packages would have kept. It reads tokens, not text: comments, strings and test modules are no imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Which room may import which. The same table stands in `docs/ARCHITECTURE.md`.
///
/// Reading it downwards is reading the data flow: a room names only what stands above it.
const TABLE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("kill", &[]),
    ("config", &["types"]),
    ("clients", &["types"]),
    ("release::artifact", &["types"]),
    ("release::evidence", &["types", "release::artifact"]),
    ("release::trust", &["types", "release::artifact", "release::evidence"]),
    ("release::collect", &["types", "clients", "release::artifact", "release::evidence", "release::trust"]),
    ("release::attest", &["types", "clients", "release::artifact", "release::evidence", "release::trust"]),
    ("release::verify", &["types", "release::artifact", "release::evidence", "release::trust"]),
    ("release::policy", &["types", "release::artifact", "release::evidence", "release::trust", "release::verify"]),
    (
        "release::decision",
        &["types", "release::artifact", "release::evidence", "release::trust", "release::verify", "release::policy"],
    ),
    (
        "release::gate",
        &[
            "types",
            "release::artifact",
            "release::evidence",
            "release::trust",
            "release::verify",
            "release::policy",
            "release::decision",
        ],
    ),
    (
        "release::admit",
        &[
            "types",
            "release::artifact",
            "release::evidence",
            "release::trust",
            "release::verify",
            "release::policy",
            "release::decision",
            "release::attest",
        ],
    ),
    ("store", &["types", "kill", "release::evidence", "release::decision"]),
    ("release::reverify", &["types", "release::artifact", "release::evidence", "release::policy", "release::decision"]),
    ("release::notify", &["types"]),
    ("backup", &["types", "kill", "store", "release::evidence"]),
    (
        "control",
        &[
            "types",
            "kill",
            "store",
            "backup",
            "clients",
            "release::evidence",
            "release::trust",
            "release::attest",
            "release::decision",
            "release::admit",
        ],
    ),
    (
        "node",
        &[
            "types",
            "kill",
            "clients",
            "release::artifact",
            "release::evidence",
            "release::trust",
            "release::collect",
            "release::attest",
            "release::verify",
            "release::policy",
            "release::decision",
            "release::admit",
        ],
    ),
    ("api", &["types", "store", "backup", "control", "release::evidence"]),
    ("cli", &["everything"]),
];

/// Rooms that compute and nothing else: no clock, network, process or disk.
const PURE: &[&str] = &[
    "types",
    "release::evidence",
    "release::verify",
    "release::decision",
    "release::admit",
    "release::reverify",
    "release::notify",
];

/// What a pure room may not name, as paths begin. The clock's `now` is banned by `clippy.toml` already.
const IMPURE: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "env"],
    &["fs"],
    &["env"],
    &["reqwest"],
    &["tokio"],
    &["tempfile"],
];

/// A file that is longer reads as two stories.
const LINES: usize = 900;

#[test]
fn imports_follow_the_table() {
    let mut broken = BTreeSet::new();
    for file in sources() {
        let Some(room) = room_of(&file.module) else { continue };
        let Some((_, may)) = TABLE.iter().find(|(name, _)| *name == room) else {
            broken.insert(format!("{}: the room `{room}` is not in the table", file.name));
            continue;
        };
        for path in file.paths() {
            let Some(target) = path.within.as_deref().and_then(room_of) else { continue };
            if target != room && !may.contains(&"everything") && !may.contains(&target.as_str()) {
                broken.insert(format!("{}:{}: `{room}` may not import `{target}`", file.name, path.line));
            }
        }
    }
    assert!(broken.is_empty(), "arrows that the table does not have:\n{}", lines(&broken));
}

#[test]
fn pure_rooms_do_no_input_or_output() {
    let mut broken = BTreeSet::new();
    for file in sources() {
        let Some(room) = room_of(&file.module).filter(|room| PURE.contains(&room.as_str())) else { continue };
        for path in file.paths().iter().filter(|path| path.within.is_none()) {
            if IMPURE.iter().any(|impure| path.begins_with(impure)) {
                broken.insert(format!("{}:{}: `{room}` names `{}`", file.name, path.line, path.segments.join("::")));
            }
        }
    }
    assert!(broken.is_empty(), "input or output in a room without any:\n{}", lines(&broken));
}

#[test]
fn architecture_document_has_the_same_table() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let written: BTreeMap<String, BTreeSet<String>> = document
        .lines()
        .skip_while(|line| !line.starts_with("| room | may import |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(code_words);
            let room = cells.next().unwrap_or_default().into_iter().next().unwrap_or_default();
            (room, cells.next().unwrap_or_default().into_iter().collect())
        })
        .collect();
    let kept: BTreeMap<String, BTreeSet<String>> = TABLE
        .iter()
        .map(|(room, may)| ((*room).to_owned(), may.iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(written, kept, "docs/ARCHITECTURE.md and TABLE differ: change both, and say why in the document");
}

#[test]
fn every_file_says_what_it_is_and_is_finished() {
    let mut broken = BTreeSet::new();
    for file in sources() {
        if !file.text.starts_with("//! ") {
            broken.insert(format!(
                "{}: does not open with what comes in, what goes out and what never happens",
                file.name
            ));
        }
        let count = file.text.lines().count();
        if count > LINES {
            broken.insert(format!("{}: {count} lines; past {LINES} a file reads as two stories", file.name));
        }
        if file.macros().iter().any(|name| name == "todo" || name == "unimplemented")
            || file.text.starts_with("//! Placeholder")
        {
            broken.insert(format!("{}: is not finished", file.name));
        }
    }
    assert!(broken.is_empty(), "{}", lines(&broken));
}

#[test]
fn scanner_sees_what_it_must() {
    let file = Source {
        name: "sample".to_owned(),
        module: vec!["release".to_owned(), "verify".to_owned(), "facts".to_owned()],
        text: r#"
            //! crate::cli::no
            use super::{inner, super::gate::{self, Gate}};
            use crate::{types::Digest, release::policy as p};
            pub(crate) fn f() { println!("crate::cli::no {}", crate::config::x()); std::fs::read("crate::cli"); }
            mod nested { use super::super::super::decision::Decision; }
            #[cfg(test)] mod tests { use crate::cli::no; }
            #[cfg(test)] use crate::cli::no;
            fn g() { self::h() }
        "#
        .to_owned(),
    };
    let seen: BTreeSet<String> =
        file.paths().into_iter().filter_map(|path| path.within.as_deref().and_then(room_of)).collect();
    let expected = ["config", "release::decision", "release::gate", "release::policy", "release::verify", "types"];
    assert_eq!(seen, expected.map(str::to_owned).into());
    assert!(file.paths().iter().any(|path| path.within.is_none() && path.segments == ["std", "fs", "read"]));
}

/// One file below `src/`.
struct Source {
    /// Its path from the root of the package.
    name: String,
    /// The module that it is, as segments below the crate.
    module: Vec<String>,
    text: String,
}

/// One path that a file names outside its tests.
struct Named {
    /// As it is written, without a leading `crate`, `self` or `super`.
    segments: Vec<String>,
    /// From the root of the crate, where the path is one of ours.
    within: Option<Vec<String>>,
    line: usize,
}

impl Named {
    fn begins_with(&self, words: &[&str]) -> bool {
        self.segments.len() >= words.len() && self.segments.iter().zip(words).all(|(segment, word)| segment == word)
    }
}

impl Source {
    fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        scan(self.tokens(), &self.module, &mut found);
        found
    }

    fn macros(&self) -> Vec<String> {
        fn walk(tokens: TokenStream, found: &mut Vec<String>) {
            let tokens: Vec<TokenTree> = tokens.into_iter().collect();
            for (at, token) in tokens.iter().enumerate() {
                if let TokenTree::Ident(name) = token
                    && tokens.get(at + 1).is_some_and(|next| is_punct(next, '!'))
                {
                    found.push(name.to_string());
                }
                if let TokenTree::Group(group) = token {
                    walk(group.stream(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.tokens(), &mut found);
        found
    }
}

/// Collects every path in `tokens`, which stand in `module`.
fn scan(tokens: TokenStream, module: &[String], found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(hash) if hash.as_char() == '#' && is_test_attribute(tokens.get(at)) => {
                at = after_item(&tokens, at + 1);
            }
            TokenTree::Ident(word) if word == "mod" => {
                let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) = (tokens.get(at), tokens.get(at + 1))
                else {
                    continue;
                };
                let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
                scan(body.stream(), &inner, found);
                at += 2;
            }
            TokenTree::Ident(_) => at = path(&tokens, at - 1, &Prefix::default(), module, found),
            TokenTree::Group(group) => scan(group.stream(), module, found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// What stands before the braces of a `use` tree.
#[derive(Default, Clone)]
struct Prefix {
    segments: Vec<String>,
    within: Option<Vec<String>>,
}

/// Reads the path that begins at `at`, with the branches of a `use` tree, and says where it ends.
fn path(tokens: &[TokenTree], mut at: usize, prefix: &Prefix, module: &[String], found: &mut Vec<Named>) -> usize {
    let mut here = prefix.clone();
    let line = tokens.get(at).map_or(0, |token| token.span().start().line);
    let mut count = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                let ours = count == 0 && prefix.segments.is_empty();
                match word.to_string().as_str() {
                    "crate" if ours => here.within = Some(Vec::new()),
                    // The binary names the library so.
                    "debvisor" if ours && module.is_empty() => here.within = Some(Vec::new()),
                    "self" if ours && here.within.is_none() => here.within = Some(module.to_vec()),
                    "self" => {}
                    "super" => {
                        let mut from = here.within.unwrap_or_else(|| module.to_vec());
                        from.pop();
                        here.within = Some(from);
                    }
                    name => {
                        here.segments.push(name.to_owned());
                        if let Some(within) = &mut here.within {
                            within.push(name.to_owned());
                        }
                    }
                }
                count += 1;
                at += 1;
            }
            Some(TokenTree::Group(group)) if count > 0 && group.delimiter() == Delimiter::Brace => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut inner = 0;
                while let Some(token) = branches.get(inner) {
                    inner = match token {
                        // The new name of a branch is no path.
                        TokenTree::Ident(word) if word == "as" => inner + 2,
                        TokenTree::Ident(_) => path(&branches, inner, &here, module, found).max(inner + 1),
                        _ => inner + 1,
                    };
                }
                return at + 1;
            }
            // `*`, a turbofish or the end of a macro's pattern.
            _ => break,
        }
        let joined = tokens.get(at).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'));
        if !joined {
            break;
        }
        at += 2;
    }
    // A word alone is a name of this file, not an import; in a `use` tree it is one.
    if here.within.is_some() || count > 1 || !prefix.segments.is_empty() {
        found.push(Named { segments: here.segments, within: here.within, line });
    }
    at
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// Whether the group after `#` is `[cfg(test)]`.
fn is_test_attribute(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The position after the item that begins at `at`: past its braces or its semicolon.
fn after_item(tokens: &[TokenTree], mut at: usize) -> usize {
    let is_use = matches!(tokens.get(at), Some(TokenTree::Ident(word)) if word == "use");
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => break,
            _ => {}
        }
    }
    at
}

/// The room of a module: its first segment, and the second too in the houses that have rooms.
fn room_of(module: impl AsRef<[String]>) -> Option<String> {
    let module = module.as_ref();
    match module.first()?.as_str() {
        "release" => module.get(1).map(|room| format!("release::{room}")),
        room => Some(room.to_owned()),
    }
}

fn sources() -> Vec<Source> {
    let source_root = root().join("src");
    let mut found = Vec::new();
    let mut folders = vec![source_root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&source_root, &path));
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn source(source_root: &Path, path: &Path) -> Source {
    let relative = path.strip_prefix(source_root).unwrap();
    let mut module: Vec<String> =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        module.pop();
    }
    let name = Path::new("src").join(relative).display().to_string();
    Source { name, module, text: fs::read_to_string(path).unwrap() }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The words between backticks.
fn code_words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn lines(broken: &BTreeSet<String>) -> String {
    broken.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
