//! in-toto statements, and the predicates that we read.
#![no_main]

use debvisor::release::evidence::provenance::{Claims, SummaryClaims};
use debvisor::release::evidence::statement::Statement;
use debvisor::types::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(statement) = Statement::parse(bytes) else { return };
    assert!((1..=limits::STATEMENT_SUBJECTS).contains(&statement.subjects.len()));
    assert!(statement.subjects.iter().all(|subject| !subject.digests.is_empty()), "a subject without a digest");
    let _ = Claims::parse(&statement.predicate_type, &statement.predicate);
    let _ = SummaryClaims::parse(&statement.predicate_type, &statement.predicate);
});
