//! Headers of disk images.
#![no_main]

use std::io::Cursor;

use debvisor::release::evidence::disk::{Limits, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(header) = inspect(&mut Cursor::new(bytes), &limits) else { return };
    assert_eq!(header.file_bytes, bytes.len() as u64);
    assert!(header.virtual_bytes <= limits.virtual_bytes);
    let names_a_file = header.qcow2.is_some() && bytes[8..16] != [0; 8];
    assert!(!names_a_file, "a backing file got through");
});
