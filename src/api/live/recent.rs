//! The newest events, kept once for everybody who follows: a commit costs one question to the database, however many
//! there are to tell.
//!
//! Invariant: what is kept is whole from a number on. Who is further back reads the table.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Mutex;

use crate::store::{Event, Sight, Store, StoreError};
use crate::types::limits;

/// An event, with the text that everybody is sent.
#[derive(Debug)]
pub(in crate::api) struct Told {
    pub(super) event: Event,
    pub(super) text: Utf8Bytes,
}

impl Told {
    pub(super) fn new(event: Event) -> Self {
        let text = serde_json::to_string(&event).unwrap_or_default().into();
        Self { event, text }
    }
}

/// The newest events.
#[derive(Debug, Default)]
pub(in crate::api) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Every event with a larger number than this is here, up to [`Self::to`].
    from: i64,
    to: i64,
    events: VecDeque<Arc<Told>>,
}

impl Recent {
    /// The events after `cursor`, at most `limit`, where all of them are here. The newest number is `newest` at least.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(super) async fn after(
        &self,
        store: &Store,
        cursor: i64,
        newest: i64,
        limit: u32,
    ) -> Result<Option<Vec<Arc<Told>>>, StoreError> {
        let mut kept = self.0.lock().await;
        kept.fill(store, newest).await?;
        if cursor < kept.from {
            return Ok(None);
        }
        let first = kept.events.partition_point(|told| told.event.id <= cursor);
        Ok(Some(kept.events.iter().skip(first).take(limit as usize).cloned().collect()))
    }
}

impl Kept {
    async fn fill(&mut self, store: &Store, newest: i64) -> Result<(), StoreError> {
        let bound = i64::try_from(limits::LIVE_RECENT_EVENTS).unwrap_or(i64::MAX);
        if newest - self.to > bound {
            // Nobody has asked for long: what lies between is read from the table, by whoever wants it.
            self.events.clear();
            self.from = newest;
            self.to = newest;
        }
        while self.to < newest {
            let found = store.events_after(self.to, "", "", &Sight::All, limits::API_PAGE_ITEMS).await?;
            let full = found.len() >= limits::API_PAGE_ITEMS as usize;
            self.to = found.last().map_or(newest, |last| last.id.max(if full { 0 } else { newest }));
            self.events.extend(found.into_iter().map(|event| Arc::new(Told::new(event))));
            while self.events.len() > limits::LIVE_RECENT_EVENTS {
                self.from = self.events.pop_front().map_or(self.from, |gone| gone.event.id);
            }
        }
        Ok(())
    }
}
