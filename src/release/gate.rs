//! A whole release in one run: every file accounted for, and one decision.
