//! What is found in one document, bounded: reasons against it, and what is worth saying without deciding anything.

use crate::types::{Code, Reason, limits};

/// The reasons that one document gives.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What makes the document a bad one.
    pub errors: Vec<Reason>,
    /// What a careful reader would mend; errors where `--strict` asks.
    pub warnings: Vec<Reason>,
    left_out: usize,
}

impl Findings {
    /// Adds a reason against the document.
    pub(super) fn error(&mut self, code: Code, message: impl Into<String>, location: impl Into<String>) {
        if self.errors.len() < limits::REASONS_PER_FILE {
            self.errors.push(Reason::new(code, message).location(location));
        } else {
            self.left_out += 1;
        }
    }

    /// Adds what is worth saying.
    pub(super) fn warning(&mut self, code: Code, message: impl Into<String>, location: impl Into<String>) {
        if self.warnings.len() < limits::REASONS_PER_FILE {
            self.warnings.push(Reason::new(code, message).location(location));
        } else {
            self.left_out += 1;
        }
    }

    /// Takes in what the schema says.
    pub(super) fn extend(&mut self, reasons: Vec<Reason>) {
        let room = limits::REASONS_PER_FILE.saturating_sub(self.errors.len());
        self.left_out += reasons.len().saturating_sub(room);
        self.errors.extend(reasons.into_iter().take(room));
    }

    /// How many reasons were found and not kept, since nobody reads so many.
    pub const fn left_out(&self) -> usize {
        self.left_out
    }
}
