//! Symbolic links of a tree: a path in, the path that it leads to out.
//! Invariant: nothing leaves the root. `..` above it stays there, and an absolute target begins there.

use super::tree::EntryKind;
use super::{Entry, Scan};
use crate::types::limits;

/// As many as the kernel follows.
const LINKS: usize = 40;

/// Follows the links in a path, and the one at its end where `last` says so. Parts that are not there stay as they are.
/// Nothing where the links form a loop or lead too deep. `target` says what a path is a link to.
pub(super) fn follow(path: &str, last: bool, target: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut ahead: Vec<String> = parts(path);
    let mut here = String::new();
    let mut depth = 0_usize;
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                here.truncate(here.rfind('/').unwrap_or(0));
                depth = depth.saturating_sub(1);
                continue;
            }
            _ => {}
        }
        let parent = here.len();
        if parent > 0 {
            here.push('/');
        }
        here.push_str(&part);
        depth += 1;
        if depth > limits::ARCHIVE_DEPTH {
            return None;
        }
        if (last || !ahead.is_empty())
            && let Some(target) = target(&here)
        {
            links += 1;
            if links > LINKS {
                return None;
            }
            here.truncate(if target.starts_with('/') { 0 } else { parent });
            depth = here.split('/').filter(|part| !part.is_empty()).count();
            ahead.extend(parts(&target));
        }
    }
    Some(here)
}

/// The parts of a path, the first one last.
fn parts(path: &str) -> Vec<String> {
    path.rsplit('/').map(str::to_owned).collect()
}

impl Scan<'_> {
    /// The entry to which a path leads, through links that stay in the tree.
    pub fn follow(&self, path: &str) -> Option<&Entry> {
        if let Some(entry) = self.entry(path).filter(|entry| !matches!(entry.kind, EntryKind::Link(_))) {
            return Some(entry);
        }
        let target = |path: &str| match &self.entry(path)?.kind {
            EntryKind::Link(target) => Some(target.clone()),
            _ => None,
        };
        self.entry(&follow(path, true, &target)?)
    }

    /// What is directly in a directory, in order of names.
    pub fn children(&self, folder: &str) -> impl Iterator<Item = &Entry> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let start = self.entries().partition_point(|entry| entry.path.as_str() < prefix.as_str());
        let below = self.entries().get(start..).unwrap_or_default();
        let length = prefix.len();
        below
            .iter()
            .take_while(move |entry| entry.path.starts_with(&prefix))
            .filter(move |entry| entry.path.get(length..).is_some_and(|name| !name.contains('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(path: &str, links: &[(&str, &str)]) -> Option<String> {
        follow(path, true, &|path| links.iter().find(|(link, _)| *link == path).map(|(_, to)| (*to).to_owned()))
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let merged = [("lib", "usr/lib"), ("usr/lib/x", "../../lib/y"), ("abs", "/usr"), ("up", "../../../../etc")];
        assert_eq!(led("lib/x", &merged).as_deref(), Some("usr/lib/y"));
        assert_eq!(led("abs/lib/x", &merged).as_deref(), Some("usr/lib/y"));
        assert_eq!(led("up/passwd", &merged).as_deref(), Some("etc/passwd"));
        assert_eq!(led("./a//b/../c", &merged).as_deref(), Some("a/c"));
        assert_eq!(follow("a/b", false, &|path| (path == "a/b").then(|| "c".to_owned())).as_deref(), Some("a/b"));
    }

    #[test]
    fn loops_and_links_that_grow_come_to_an_end() {
        assert_eq!(led("a", &[("a", "b"), ("b", "a")]), None);
        assert_eq!(led("a", &[("a", "a/a")]), None);
        assert_eq!(led(&"x/".repeat(400), &[]), None);
    }
}
