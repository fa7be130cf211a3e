//! Progress bars: on a terminal, for people.

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use crate::release::artifact::Sink;

/// Less than this is done before anybody could read a bar, in bytes.
const WORTH_A_BAR_BYTES: u64 = 32 * 1024 * 1024;

/// A bar over pieces of so many bytes; hidden where nobody looks, and nobody is asked how many there are then, or where
/// there is little to do.
pub(super) fn bytes(context: &Context, pieces: impl IntoIterator<Item = u64>) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let total = pieces.into_iter().sum();
    if total < WORTH_A_BAR_BYTES {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What has gone by, where nobody knows how much there is; hidden where nobody looks.
pub(super) fn flow(context: &Context) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("{spinner} {binary_bytes} {binary_bytes_per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar over so many releases, with the bytes that were fetched; hidden where nobody looks.
pub(super) fn releases(context: &Context, total: u64) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} releases, {msg} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar over so many steps, each named while it is done; hidden where nobody looks.
pub(super) fn steps(context: &Context, total: usize) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Tells a bar of the bytes that go by.
pub(super) struct Seen<'a>(pub(super) &'a ProgressBar);

impl Sink for Seen<'_> {
    fn update(&mut self, bytes: &[u8]) {
        self.0.inc(bytes.len() as u64);
    }
}
