//! The tree that an archive would unpack into: names in, and whether they stay inside and apart.
//!
//! Names are compared as the least careful file system would: without letter case, in one Unicode form, without
//! trailing dots and spaces. Links are followed as a kernel would follow them, through each other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::types::{Code, Reason, limits};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Another name for an earlier member, from the archive's root.
    HardLink(&'a [u8]),
    /// A symbolic link with its target.
    SymbolicLink(&'a [u8]),
    /// What no release needs: a device, a pipe or a socket.
    Special(&'static str),
}

/// What is wrong: with this member, or with the whole.
pub(super) enum Fault {
    /// The member is refused; others may be looked at.
    Member(Reason),
    /// There is too much of it to go on.
    Whole(Reason),
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Member(reason)
    }
}

/// Places in the tree by number; the root is 0.
type Place = usize;
const ROOT: Place = 0;

#[derive(Debug)]
struct Node {
    /// The component as the first member spelled it.
    spelling: Box<str>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A directory that only longer names speak of.
    Implied,
    Directory,
    File,
    /// A symbolic link, by its number in [`Tree::links`].
    Link(usize),
}

#[derive(Debug)]
struct Link {
    parent: Place,
    name: Box<str>,
    /// The target with each component as its key.
    target: Box<str>,
}

/// All names so far.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Every place but the root.
    nodes: Vec<Node>,
    children: HashMap<(Place, Box<str>), Place>,
    links: Vec<Link>,
    names_bytes: u64,
    root_is_member: bool,
}

impl Tree {
    /// Puts a member where its name says.
    pub(super) fn add(&mut self, name: &[u8], member: Member<'_>) -> Result<(), Fault> {
        let target = match member {
            Member::HardLink(target) | Member::SymbolicLink(target) => target,
            _ => &[],
        };
        self.names_bytes = self.names_bytes.saturating_add(name.len() as u64).saturating_add(target.len() as u64);
        if self.names_bytes > limits::ARCHIVE_NAMES_BYTES {
            let message = format!("the names have more than {} bytes together", limits::ARCHIVE_NAMES_BYTES);
            return Err(Fault::Whole(Reason::new(Code::InputTooLarge, message)));
        }
        if let Member::Special(kind) = member {
            return Err(Reason::new(Code::ArchiveSpecial, format!("the member is {kind}")).into());
        }
        let components = components(text(name, "name")?)?;
        let Some((last, directories)) = components.split_last() else {
            // `./` is how tar says that it packed a whole directory.
            if member != Member::Directory {
                return Err(malformed("the member has no name").into());
            }
            return if std::mem::replace(&mut self.root_is_member, true) { Err(twice().into()) } else { Ok(()) };
        };
        let mut parent = ROOT;
        for directory in directories {
            parent = self.descend(parent, directory)?;
        }
        let kind = match member {
            Member::Directory => Kind::Directory,
            Member::SymbolicLink(target) => {
                let target = link_target(text(target, "link target")?)?;
                self.links.push(Link { parent, name: text(name, "name")?.into(), target: target.into() });
                Kind::Link(self.links.len() - 1)
            }
            Member::HardLink(target) => {
                self.hard_link(text(target, "link target")?)?;
                Kind::File
            }
            Member::File | Member::Special(_) => Kind::File,
        };
        self.place(parent, last, kind)
    }

    /// The directory of this name below `parent`, which other members may have made.
    fn descend(&mut self, parent: Place, name: &str) -> Result<Place, Fault> {
        let Some(&place) = self.children.get(&(parent, key(name).into())) else {
            return self.grow(parent, name, Kind::Implied);
        };
        let node = self.node(place)?;
        same_spelling(node, name)?;
        match node.kind {
            Kind::Implied | Kind::Directory => Ok(place),
            Kind::Link(_) => {
                let message = format!("the member would be written through the symbolic link `{}`", node.spelling);
                Err(Reason::new(Code::ArchiveEscape, message).into())
            }
            Kind::File => Err(file_and_directory(node).into()),
        }
    }

    fn place(&mut self, parent: Place, name: &str, kind: Kind) -> Result<(), Fault> {
        let Some(&place) = self.children.get(&(parent, key(name).into())) else {
            return self.grow(parent, name, kind).map(drop);
        };
        let node = self.node(place)?;
        same_spelling(node, name)?;
        match (node.kind, kind) {
            (Kind::Implied, Kind::Directory) => {
                if let Some(node) = self.nodes.get_mut(place - 1) {
                    node.kind = kind;
                }
                Ok(())
            }
            (Kind::Implied, Kind::Link(_)) => {
                let message = "other members would be written through this symbolic link";
                Err(Reason::new(Code::ArchiveEscape, message).into())
            }
            (Kind::Implied, _) => Err(file_and_directory(node).into()),
            _ => Err(twice().into()),
        }
    }

    fn grow(&mut self, parent: Place, name: &str, kind: Kind) -> Result<Place, Fault> {
        // A file of a few bytes can name many directories, so places are counted apart from members.
        if self.nodes.len() >= 2 * limits::ARCHIVE_MEMBERS {
            let message = format!("the archive names more than {} places", 2 * limits::ARCHIVE_MEMBERS);
            return Err(Fault::Whole(Reason::new(Code::InputTooLarge, message)));
        }
        self.nodes.push(Node { spelling: name.into(), kind });
        let place = self.nodes.len();
        match self.children.entry((parent, key(name).into())) {
            Entry::Occupied(_) => Err(twice().into()),
            Entry::Vacant(vacant) => Ok(*vacant.insert(place)),
        }
    }

    fn node(&self, place: Place) -> Result<&Node, Fault> {
        place
            .checked_sub(1)
            .and_then(|position| self.nodes.get(position))
            .ok_or_else(|| Fault::Whole(Reason::new(Code::InternalError, "a place of the tree is gone")))
    }

    /// A hard link may only name a regular file that stands earlier in the archive; anything else would bind a file
    /// that was there before.
    fn hard_link(&self, target: &str) -> Result<(), Fault> {
        let mut place = ROOT;
        let mut kind = Kind::Directory;
        for component in components(target)? {
            let next = match kind {
                Kind::Implied | Kind::Directory => self.children.get(&(place, key(component).into())),
                Kind::File | Kind::Link(_) => None,
            };
            let Some(&next) = next else {
                kind = Kind::Implied;
                break;
            };
            let node = self.node(next)?;
            same_spelling(node, component)?;
            (place, kind) = (next, node.kind);
        }
        if kind == Kind::File {
            return Ok(());
        }
        let message =
            format!("the hard link's target {target:?} is no regular file that stands earlier in the archive");
        Err(Reason::new(Code::ArchiveEscape, message).into())
    }

    /// Every symbolic link that leaves the tree, with its name. Only now are all links known that others lead through.
    pub(super) fn links_that_leave(&self) -> Vec<(String, Reason)> {
        let parents = self.parents();
        let mut steps = 0;
        let mut leaving = Vec::new();
        for link in &self.links {
            match self.follow(link, &parents, &mut steps) {
                Ok(()) => {}
                Err(message) if steps > LINK_STEPS => {
                    leaving.push((link.name.to_string(), Reason::new(Code::InputTooLarge, message)));
                    break;
                }
                Err(message) => leaving.push((link.name.to_string(), Reason::new(Code::ArchiveEscape, message))),
            }
        }
        leaving
    }

    fn follow(&self, link: &Link, parents: &HashMap<Place, Place>, steps: &mut u64) -> Result<(), &'static str> {
        // Where the walk stands: places of the tree, and how many unknown names below the last of them.
        let mut place = link.parent;
        let mut unknown = 0_usize;
        let mut expansions = 0;
        let mut rest: Vec<std::str::Split<'_, char>> = vec![link.target.split('/')];
        while let Some(components) = rest.last_mut() {
            let Some(component) = components.next() else {
                rest.pop();
                continue;
            };
            *steps += 1;
            if *steps > LINK_STEPS {
                return Err("there are too many links that lead through links");
            }
            match component {
                "" | "." => {}
                ".." if unknown > 0 => unknown -= 1,
                ".." if place == ROOT => return Err("the symbolic link leaves the directory"),
                ".." => place = parents.get(&place).copied().unwrap_or(ROOT),
                _ if unknown > 0 => unknown += 1,
                key => match self.children.get(&(place, key.into())) {
                    None => unknown = 1,
                    Some(&next) => match self.nodes.get(next - 1).map(|node| node.kind) {
                        Some(Kind::Link(number)) => {
                            expansions += 1;
                            if expansions > EXPANSIONS {
                                return Err("the symbolic link leads through too many others, or around in a circle");
                            }
                            if let Some(link) = self.links.get(number) {
                                rest.push(link.target.split('/'));
                            }
                        }
                        _ => place = next,
                    },
                },
            }
        }
        Ok(())
    }

    fn parents(&self) -> HashMap<Place, Place> {
        if self.links.is_empty() {
            return HashMap::new();
        }
        self.children.iter().map(|((parent, _), child)| (*child, *parent)).collect()
    }
}

/// What Linux allows when it follows one path (path_resolution(7)).
const EXPANSIONS: usize = 40;
/// Steps over all links together: links through links make work that their size does not show.
const LINK_STEPS: u64 = 20_000_000;

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Reason> {
    if bytes.len() > limits::ARCHIVE_NAME_BYTES {
        let message = format!("the {what} has more than {} bytes", limits::ARCHIVE_NAME_BYTES);
        return Err(Reason::new(Code::InputTooLarge, message));
    }
    if bytes.contains(&0) {
        return Err(malformed(format!("the {what} has a NUL: two readers would see two of them")));
    }
    str::from_utf8(bytes).map_err(|_| malformed(format!("the {what} is not UTF-8: two systems would see two of them")))
}

/// The components of a member's name, which must lead downwards.
fn components(name: &str) -> Result<Vec<&str>, Reason> {
    stays_relative(name, "name")?;
    let mut components = Vec::new();
    for component in name.split('/').filter(|component| !matches!(*component, "" | ".")) {
        // Where trailing dots and spaces do not count, `.. ` and `...` are no names either.
        if is_dots(component) {
            return Err(Reason::new(Code::ArchiveEscape, format!("the name has the component {component:?}")));
        }
        components.push(component);
    }
    if components.len() > limits::ARCHIVE_DEPTH {
        let message = format!("the name is nested deeper than {}", limits::ARCHIVE_DEPTH);
        return Err(Reason::new(Code::InputTooDeep, message));
    }
    Ok(components)
}

/// A symbolic link's target with each component as its key; `..` stays what it is.
fn link_target(target: &str) -> Result<String, Reason> {
    if target.is_empty() {
        return Err(malformed("the symbolic link has no target"));
    }
    stays_relative(target, "symbolic link's target")?;
    let keys = target.split('/').map(|component| match component {
        "" | "." | ".." => Ok(component.to_owned()),
        dots if is_dots(dots) => {
            Err(Reason::new(Code::ArchiveEscape, format!("the symbolic link's target has the component {dots:?}")))
        }
        name => Ok(key(name)),
    });
    Ok(keys.collect::<Result<Vec<_>, _>>()?.join("/"))
}

fn stays_relative(path: &str, what: &str) -> Result<(), Reason> {
    let fault = if path.starts_with('/') {
        "is absolute"
    } else if path.contains('\\') {
        "has a backslash, which separates directories elsewhere"
    } else if matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        "has a drive letter"
    } else {
        return Ok(());
    };
    Err(Reason::new(Code::ArchiveEscape, format!("the {what} {path:?} {fault}")))
}

/// What the least careful file system makes of a component: Unicode's full case folding in decomposed form, without
/// characters that HFS+ ignores, and without the trailing dots and spaces that Windows drops.
fn key(component: &str) -> String {
    if component.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return component.to_owned();
    }
    let decompose = icu_normalizer::DecomposingNormalizerBorrowed::new_nfd();
    let folded: String = decompose
        .normalize(component.trim_end_matches(['.', ' ']))
        .chars()
        .filter(|character| !is_ignored(*character))
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    decompose.normalize(&folded).into_owned()
}

/// Apple's Technical Note 1150, Unicode subtleties: code points that HFS+ does not compare.
const fn is_ignored(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// A component of which some file system may leave nothing but dots.
fn is_dots(component: &str) -> bool {
    component.chars().all(|character| matches!(character, '.' | ' ') || is_ignored(character))
}

fn same_spelling(node: &Node, name: &str) -> Result<(), Reason> {
    if &*node.spelling == name {
        return Ok(());
    }
    let message = format!("{name:?} and {:?} are one name to some file systems", node.spelling);
    Err(Reason::new(Code::ArchiveCollision, message))
}

fn file_and_directory(node: &Node) -> Reason {
    let message = format!("`{}` is a file for one member and a directory for another", node.spelling);
    Reason::new(Code::ArchiveCollision, message)
}

fn twice() -> Reason {
    Reason::new(Code::ArchiveCollision, "the member stands twice")
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::ArchiveMalformed, message)
}
