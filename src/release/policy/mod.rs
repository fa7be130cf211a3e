//! Facts in, verdicts out: evaluates the Rego set over verified evidence.
//! Invariant: no clock, network or disk at evaluation. Callers pass `now`.
