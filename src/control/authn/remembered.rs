//! Credentials that were looked up lately, as the database had them: who asks often is not looked up every time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::types::limits;

/// What is remembered, all of one generation (see [`crate::store::Store::credential_generation`]). What was looked up
/// under an older one is neither found nor kept.
pub(super) struct Remembered<K, V>(Mutex<Known<K, V>>);

struct Known<K, V> {
    generation: u64,
    found: HashMap<K, V>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Known { generation: 0, found: HashMap::new() }))
    }
}

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    /// What is remembered of this generation.
    pub(super) fn find(&self, key: &K, generation: u64) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.found.get(key).filter(|_| known.generation == generation).cloned()
    }

    /// Remembers what was looked up under this generation, which was read before.
    pub(super) fn keep(&self, key: K, value: V, generation: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generation < known.generation {
            return;
        }
        let is_full = known.found.len() >= limits::CREDENTIALS_REMEMBERED && !known.found.contains_key(&key);
        if generation > known.generation || is_full {
            known.found.clear();
        }
        known.generation = generation;
        known.found.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_before_a_change_is_neither_found_nor_kept_after_it() {
        let remembered = Remembered::default();
        remembered.keep("key", "before", 1);
        assert_eq!(remembered.find(&"key", 1), Some("before"));
        assert_eq!(remembered.find(&"key", 2), None);
        remembered.keep("other", "after", 2);
        remembered.keep("key", "before", 1);
        assert_eq!(remembered.find(&"key", 2), None, "it was looked up under the generation before");
        assert_eq!(remembered.find(&"other", 2), Some("after"));
    }

    #[test]
    fn no_more_is_remembered_than_the_limit() {
        let remembered = Remembered::default();
        (0..limits::CREDENTIALS_REMEMBERED + 7).for_each(|key| remembered.keep(key, (), 1));
        assert_eq!(remembered.0.lock().unwrap().found.len(), 7);
        assert!(remembered.find(&limits::CREDENTIALS_REMEMBERED, 1).is_some());
        // What is there already takes no further place.
        let remembered = Remembered::default();
        (0..limits::CREDENTIALS_REMEMBERED).chain([0]).for_each(|key| remembered.keep(key, (), 1));
        assert_eq!(remembered.0.lock().unwrap().found.len(), limits::CREDENTIALS_REMEMBERED);
    }
}
