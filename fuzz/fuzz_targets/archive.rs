//! Archives of every form. What is called safe is read alike by another reader, and stays inside.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| debvisor_fuzz::judge_archive(bytes));
