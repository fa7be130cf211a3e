//! tar headers whose checksums are mended first, so that the bytes behind them are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;

const BLOCK_BYTES: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let mut archive = bytes.to_vec();
    archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    let mut position = 0;
    while let Some(block) = archive.get_mut(position..position + BLOCK_BYTES) {
        position += BLOCK_BYTES;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = block[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size = size.fold(0_usize, |size, digit| size.wrapping_mul(8).wrapping_add(usize::from(digit & 7)));
        position = position.saturating_add(size.next_multiple_of(BLOCK_BYTES).min(archive.len()));
    }
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    debvisor_fuzz::judge_archive(&archive);
});
