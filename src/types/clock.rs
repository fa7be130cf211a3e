//! The time, handed over: whoever needs it more than once is given a clock, and tests give one of their own.

use std::fmt;

use jiff::Timestamp;

/// A source of the time.
#[derive(Clone, Copy)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// The clock that answers so.
    pub const fn new(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// The time.
    pub fn now(self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
