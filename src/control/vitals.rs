//! What the control plane did so far, in figures: passes, steps, decisions. Clones share them.
//! Every label is a word of ours, so that there are never more of them than are written down here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::types::step::{Ended, Outcome};

/// A label and its word.
pub type Label = (&'static str, &'static str);

/// The figures.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// Seconds that each look at the machines took.
    pub looks: Histogram,
    /// Steps that ended, by `step` and `outcome`.
    pub steps: Family<[Label; 2], Counter>,
    /// Decisions of the gate, by `outcome` and the `code` of the first reason.
    pub decisions: Family<[Label; 2], Counter>,
    last_look: Arc<Mutex<Option<Instant>>>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            looks: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            steps: Family::default(),
            decisions: Family::default(),
            last_look: Arc::default(),
        }
    }
}

impl Vitals {
    /// A look at the machines has ended well.
    pub(super) fn looked(&self, took: Duration) {
        self.looks.observe(took.as_secs_f64());
        *self.last_look.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A step has ended.
    pub(super) fn stepped(&self, step: &'static str, ended: &Ended) {
        let outcome = match &ended.outcome {
            Outcome::Done => "done",
            Outcome::Refused { .. } => "refused",
            Outcome::Failed { .. } => "failed",
        };
        self.steps.get_or_create(&[("step", step), ("outcome", outcome)]).inc();
        if let Some(passage) = &ended.passage {
            let first = passage.reasons.first();
            let code = first.map_or("none", |reason| reason.code.known().map_or("other", |code| code.name()));
            let outcome = if first.is_some() { "denied" } else { "allowed" };
            self.decisions.get_or_create(&[("outcome", outcome), ("code", code)]).inc();
        }
    }

    /// How long ago the last look ended that went well.
    pub fn since_look(&self) -> Option<Duration> {
        self.last_look.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }
}
