//! Work on many things, on all cores.

use rayon::prelude::*;

/// What `work` makes of each item, in the order of the items.
///
/// A single one is worked on where it is: the other cores would be woken for nothing, and look for work until it is done.
pub(super) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    match items {
        [only] => vec![work(only)],
        _ => items.par_iter().map(work).collect(),
    }
}
