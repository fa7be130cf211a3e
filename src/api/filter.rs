//! What narrows a list, and a page of what is left: rows in, as many as fit out, and where to go on.
//! Invariant: the cursor is the last row that was looked at, kept or not, so that filters leave nothing out and tell
//! nothing twice; and a request looks at so many rows and no more, however few of them fit.

use serde::Deserialize;
use utoipa::IntoParams;

use super::Page;
use crate::store::OperationState;
use crate::types::limits;
use crate::types::vm::{ArtifactKind, ObservedPower};

/// Which machines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct VmFilter {
    /// Those whose name begins so.
    #[serde(default)]
    #[param(max_length = 63)]
    pub(super) name: Option<String>,
    /// Those that were seen so last; what was never seen is stopped.
    #[serde(default)]
    pub(super) power: Option<ObservedPower>,
    /// Those of this node.
    #[serde(default)]
    #[param(max_length = 253)]
    pub(super) node: Option<String>,
}

/// Which images.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImageFilter {
    /// Those that are this to a machine.
    #[serde(default)]
    pub(super) kind: Option<ArtifactKind>,
    /// Those about which the node decides so now: `allow`, `deny` or `undecided`.
    #[serde(default)]
    #[param(pattern = "^(allow|deny|undecided)$")]
    pub(super) decision: Option<String>,
}

/// Which operations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OperationFilter {
    /// Those that stand so.
    #[serde(default)]
    pub(super) state: Option<OperationState>,
}

/// Which quarantines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct QuarantineFilter {
    /// Those whose target begins so: `sha256:`, `identity:`.
    #[serde(default)]
    #[param(max_length = 1_024)]
    pub(super) target: Option<String>,
    /// Those that hold now, or those that do not.
    #[serde(default)]
    pub(super) in_force: Option<bool>,
}

/// Whether a text begins as is wanted, where something is.
pub(super) fn begins(text: &str, wanted: Option<&String>) -> bool {
    wanted.is_none_or(|wanted| text.starts_with(wanted))
}

/// Whether a value is the wanted one, where one is.
pub(super) fn is<T: PartialEq>(value: &T, wanted: Option<&T>) -> bool {
    wanted.is_none_or(|wanted| wanted == value)
}

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Filling<T> {
    limit: usize,
    looked: u32,
    items: Vec<T>,
    /// Where the next rows begin: after this one.
    pub(super) after: String,
}

impl<T> Filling<T> {
    /// An empty one, from this cursor on.
    pub(super) fn new(after: String, limit: u32) -> Self {
        Self { limit: limit as usize, looked: 0, items: Vec::new(), after }
    }

    /// Takes rows of which `asked` were asked for; the page, once it is done.
    pub(super) fn take<R>(
        &mut self,
        rows: Vec<R>,
        asked: u32,
        cursor: impl Fn(&R) -> String,
        keep: impl Fn(R) -> Option<T>,
    ) -> Option<Page<T>> {
        let were_all = rows.len() < asked as usize;
        let mut left = rows.len();
        for row in rows {
            self.looked += 1;
            left -= 1;
            // The page ends at no other row than these, so no other needs to be written as a cursor.
            if left == 0 || self.items.len() + 1 == self.limit {
                self.after = cursor(&row);
            }
            self.items.extend(keep(row));
            if self.items.len() == self.limit {
                return Some(self.done(false));
            }
        }
        let enough = self.looked >= limits::API_LOOKED_THROUGH;
        (were_all || enough).then(|| self.done(were_all))
    }

    fn done(&mut self, ended: bool) -> Page<T> {
        let next = (!ended).then(|| self.after.clone());
        Page { items: std::mem::take(&mut self.items), next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All pages of the numbers below `count` that `keep` keeps, in rows of `asked`.
    fn pages(count: u32, asked: u32, limit: u32, keep: impl Fn(u32) -> bool) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut filling = Filling::new(after.clone(), limit);
            let page = loop {
                let from = filling.after.parse::<u32>().map_or(0, |last| last + 1);
                let rows: Vec<u32> = (from..count.min(from + asked)).collect();
                let page = filling.take(rows, asked, u32::to_string, |row| keep(row).then_some(row));
                if let Some(page) = page {
                    break page;
                }
            };
            all.push(page.items);
            match page.next {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    proptest! {
        #[test]
        fn a_filter_leaves_nothing_out_and_tells_nothing_twice(
            count in 0_u32..200, asked in 1_u32..20, limit in 1_u32..20, every in 1_u32..30,
        ) {
            let found = pages(count, asked, limit, |row| row % every == 0);
            prop_assert!(found.iter().all(|page| page.len() <= limit as usize));
            let found: Vec<u32> = found.into_iter().flatten().collect();
            prop_assert_eq!(found, (0..count).filter(|row| row % every == 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_hardly_anything_fits_ends_after_so_many_rows_with_a_cursor() {
        let found = pages(limits::API_LOOKED_THROUGH * 2 + 5, 1_000, 10, |row| row == limits::API_LOOKED_THROUGH + 7);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found.concat(), [limits::API_LOOKED_THROUGH + 7]);
    }
}
