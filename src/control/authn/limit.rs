//! How often something was done in, a yes or a time to wait out: sliding windows and growing pauses, in tables of a
//! fixed size.
//! Invariant: no clock; callers pass `now_ms`. A time that goes back is taken for the latest one that was seen.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of a window. One more is kept, so that what is counted covers the whole window at every moment.
const PARTS: u64 = 10;
const KEPT: usize = 11;

/// So many in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At most, in any stretch of time as long as the window.
    pub limit: u32,
    /// The window's length.
    pub window_ms: u64,
}

/// How somebody stands after they asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether this one is allowed.
    pub allowed: bool,
    /// The rate that was applied.
    pub rate: Rate,
    /// How many more are allowed now.
    pub remaining: u32,
    /// After this time there is room again: for one where none is left, else for more.
    pub reset_ms: u64,
}

/// Sliding windows, one for each key.
///
/// A window is counted in ten parts, and eleven are summed up: what has just fallen out by a part is still counted, so
/// that no stretch of time as long as the window ever holds more than the limit.
#[derive(Debug)]
pub struct Windows<K> {
    rate: Rate,
    capacity: usize,
    table: Mutex<HashMap<K, Window>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// The number of the newest part since the beginning of time.
    newest: u64,
    /// How many there were in each part; part `n` is at `n % KEPT`.
    counts: [u32; KEPT],
}

impl<K: Hash + Eq + Clone> Windows<K> {
    /// No windows yet; never more than `capacity`.
    pub fn new(rate: Rate, capacity: usize) -> Self {
        let rate = Rate { limit: rate.limit.max(1), window_ms: rate.window_ms.max(PARTS) };
        Self { rate, capacity: capacity.max(2), table: Mutex::default() }
    }

    /// One more; where there is no room for it, it is not counted.
    pub fn take(&self, key: &K, now_ms: u64) -> Standing {
        let part_ms = self.rate.window_ms.div_ceil(PARTS);
        let mut table = lock(&self.table);
        make_room(&mut table, key, self.capacity, |window| window.newest);
        let window = table.entry(key.clone()).or_default();
        window.move_to(now_ms / part_ms);
        let used = window.sum();
        let allowed = used < self.rate.limit;
        if allowed {
            window.count();
        }
        let remaining = self.rate.limit.saturating_sub(window.sum());
        let now_ms = now_ms.max(window.newest * part_ms);
        Standing { allowed, rate: self.rate, remaining, reset_ms: window.opens_at(part_ms).saturating_sub(now_ms) }
    }

    /// How many there were within the window.
    pub fn seen(&self, key: &K, now_ms: u64) -> u32 {
        let part_ms = self.rate.window_ms.div_ceil(PARTS);
        let mut table = lock(&self.table);
        table.get_mut(key).map_or(0, |window| {
            window.move_to(now_ms / part_ms);
            window.sum()
        })
    }

    /// How many keys there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.table).len()
    }
}

impl Window {
    fn move_to(&mut self, part: u64) {
        let passed = part.saturating_sub(self.newest);
        if passed > PARTS {
            self.counts = [0; KEPT];
        } else {
            for fallen in 1..=passed {
                if let Some(count) = self.counts.get_mut(place(self.newest + fallen)) {
                    *count = 0;
                }
            }
        }
        self.newest = self.newest.max(part);
    }

    fn count(&mut self) {
        if let Some(count) = self.counts.get_mut(place(self.newest)) {
            *count = count.saturating_add(1);
        }
    }

    fn sum(&self) -> u32 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// When the oldest part that holds anything falls out.
    fn opens_at(&self, part_ms: u64) -> u64 {
        let oldest = (0..=PARTS).rev().map(|back| self.newest.saturating_sub(back));
        let held = oldest.into_iter().find(|part| self.counts.get(place(*part)).is_some_and(|count| *count > 0));
        held.map_or(0, |part| (part + PARTS + 1) * part_ms)
    }
}

fn place(part: u64) -> usize {
    usize::try_from(part % (PARTS + 1)).unwrap_or(0)
}

/// Pauses that grow with each failure, one for each key.
#[derive(Debug)]
pub struct Pauses<K> {
    capacity: usize,
    table: Mutex<HashMap<K, Pause>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until_ms: u64,
    last_ms: u64,
}

/// Failures that cost nothing: people mistype.
const FREE: u32 = 3;
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 15 * 60 * 1_000;
/// After so long without a failure the next one counts as the first.
const FORGOTTEN_MS: u64 = 60 * 60 * 1_000;

impl<K: Hash + Eq + Clone> Pauses<K> {
    /// Nobody has failed yet; never more than `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(2), table: Mutex::default() }
    }

    /// Somebody tries. It counts as a failure until [`Self::succeeded`] says otherwise, so that many at once gain
    /// nothing.
    ///
    /// # Errors
    /// How long to wait, in milliseconds, where the pause has not ended; such an attempt does not make it longer.
    pub fn begin(&self, key: &K, now_ms: u64) -> Result<(), u64> {
        let mut table = lock(&self.table);
        make_room(&mut table, key, self.capacity, |pause| pause.last_ms);
        let pause = table.entry(key.clone()).or_default();
        let now_ms = now_ms.max(pause.last_ms);
        if now_ms < pause.until_ms {
            return Err(pause.until_ms - now_ms);
        }
        if now_ms - pause.last_ms >= FORGOTTEN_MS {
            *pause = Pause::default();
        }
        pause.failures = pause.failures.saturating_add(1);
        pause.last_ms = now_ms;
        pause.until_ms = now_ms + pause_ms(pause.failures);
        Ok(())
    }

    /// The attempt was no failure; those before it are forgotten too.
    pub fn succeeded(&self, key: &K) {
        lock(&self.table).remove(key);
    }
}

/// How long to wait after so many failures in a row.
fn pause_ms(failures: u32) -> u64 {
    match failures.checked_sub(FREE) {
        None => 0,
        Some(beyond) => FIRST_PAUSE_MS.checked_shl(beyond.min(20)).unwrap_or(LONGEST_PAUSE_MS).min(LONGEST_PAUSE_MS),
    }
}

/// Forgets the older half where a new key would make the table too large.
fn make_room<K: Hash + Eq + Clone, V>(table: &mut HashMap<K, V>, key: &K, capacity: usize, used: impl Fn(&V) -> u64) {
    if table.len() < capacity || table.contains_key(key) {
        return;
    }
    let mut ages: Vec<u64> = table.values().map(&used).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    table.retain(|_, value| used(value) > median);
    // All of one age: nobody can be told from another.
    if table.len() >= capacity {
        table.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole at every moment: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const START_MS: u64 = 1_790_000_000_000;

    proptest! {
        #[test]
        fn no_stretch_of_the_windows_length_holds_more_than_the_limit(
            limit in 1..20_u32,
            window_ms in 10..5_000_u64,
            gaps in prop::collection::vec(0..700_u64, 1..300),
        ) {
            let windows = Windows::new(Rate { limit, window_ms }, 10);
            let mut now = START_MS;
            let mut taken = Vec::new();
            for gap in gaps {
                now += gap;
                let standing = windows.take(&1, now);
                if standing.allowed {
                    taken.push(now);
                }
                prop_assert!(standing.remaining < limit);
                let within = taken.iter().filter(|at| **at + window_ms > now).count();
                prop_assert!(within <= limit as usize, "{within} of {limit} in {window_ms} ms");
            }
        }

        #[test]
        fn who_waits_as_long_as_is_said_is_let_in_and_not_much_longer_than_the_window(
            limit in 1..20_u32,
            window_ms in 10..5_000_u64,
            gaps in prop::collection::vec(0..100_u64, 1..100),
        ) {
            let windows = Windows::new(Rate { limit, window_ms }, 10);
            let mut now = START_MS;
            for gap in gaps {
                now += gap;
                let standing = windows.take(&1, now);
                if !standing.allowed {
                    prop_assert!(standing.reset_ms <= window_ms.div_ceil(PARTS) * (PARTS + 1));
                    prop_assert!(windows.take(&1, now + standing.reset_ms).allowed);
                    now += standing.reset_ms;
                }
            }
        }

        #[test]
        fn who_slows_down_to_the_limit_is_never_refused_for_what_others_do(
            others in prop::collection::vec(2..50_u32, 0..500),
        ) {
            let windows = Windows::new(Rate { limit: 5, window_ms: 1_000 }, 1_000);
            for other in others {
                windows.take(&other, START_MS);
            }
            prop_assert!(windows.take(&1, START_MS).allowed);
        }

        #[test]
        fn pauses_never_shrink_while_somebody_fails_and_have_an_end(failures in 1..200_u32) {
            prop_assert!(pause_ms(failures) <= pause_ms(failures + 1));
            prop_assert!(pause_ms(failures) <= LONGEST_PAUSE_MS);
        }
    }

    #[test]
    fn the_first_failures_are_free_and_then_each_pause_doubles() {
        let pauses = Pauses::new(10);
        let mut now = START_MS;
        let mut waits = Vec::new();
        for _ in 0..14 {
            if let Err(wait) = pauses.begin(&"a", now) {
                waits.push(wait);
                assert_eq!(
                    pauses.begin(&"a", now + wait - 1),
                    Err(1),
                    "asking again makes it neither longer nor shorter"
                );
                now += wait;
                pauses.begin(&"a", now).unwrap();
            }
        }
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits.last(), Some(&900_000), "{waits:?}");
    }

    #[test]
    fn a_success_forgets_and_so_does_an_hour() {
        let pauses = Pauses::new(10);
        for _ in 0..3 {
            pauses.begin(&"a", START_MS).unwrap();
        }
        assert!(pauses.begin(&"a", START_MS).is_err());
        assert_eq!(pauses.begin(&"b", START_MS), Ok(()), "somebody else is not concerned");
        pauses.succeeded(&"a");
        assert_eq!(pauses.begin(&"a", START_MS), Ok(()));
        for _ in 0..2 {
            pauses.begin(&"a", START_MS).unwrap();
        }
        let later = START_MS + FORGOTTEN_MS;
        for _ in 0..3 {
            pauses.begin(&"a", later).unwrap();
        }
    }

    #[test]
    fn many_at_once_are_counted_before_any_of_them_has_failed() {
        let pauses = Pauses::new(10);
        let begun = (0..100).filter(|_| pauses.begin(&"a", START_MS).is_ok()).count();
        assert_eq!(begun, 3);
    }

    #[test]
    fn a_clock_that_goes_back_opens_nothing_and_closes_nothing() {
        let windows = Windows::new(Rate { limit: 2, window_ms: 1_000 }, 10);
        assert!(windows.take(&1, START_MS).allowed);
        assert!(windows.take(&1, START_MS - 60_000).allowed);
        assert!(!windows.take(&1, START_MS - 60_000).allowed);
        assert!(windows.take(&1, START_MS + 1_100).allowed);
    }

    #[test]
    fn the_tables_stay_within_their_size_and_keep_who_was_there_last() {
        let windows = Windows::new(Rate { limit: 1, window_ms: 1_000 }, 100);
        for key in 0..10_000_u64 {
            windows.take(&key, START_MS + key * 100);
            assert!(windows.len() <= 100);
        }
        assert!(!windows.take(&9_999, START_MS + 9_999 * 100).allowed);
        let pauses = Pauses::new(100);
        let keys: BTreeSet<u64> = (0..10_000).collect();
        for key in keys {
            pauses.begin(&key, START_MS + key).unwrap();
        }
        assert!(lock(&pauses.table).len() <= 100);
    }
}
