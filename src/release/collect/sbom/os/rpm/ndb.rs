//! ndb, rpm's own database (`lib/backend/ndb/rpmpkg.c`): pages of slots in front, blobs behind them.

use super::Database;
use crate::types::{Code, Reason, limits};

const MAGIC: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT_MAGIC: u32 = u32::from_le_bytes(*b"Slot");
const BLOB_MAGIC: u32 = u32::from_le_bytes(*b"BlbS");
const PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
/// The header takes the place of the first two slots.
const HEADER_SLOTS: usize = 2;
/// Blobs stand at multiples of this.
const BLOCK_BYTES: u64 = 16;
/// rpm's own bound.
const SLOT_PAGES: u32 = 2048;

/// Shows every blob.
pub(super) fn read(
    database: &mut Database<'_>,
    show: &mut dyn FnMut(&[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut header = [0; 16];
    database.read_at(0, &mut header)?;
    if number(&header, 0) != MAGIC || number(&header, 4) != 0 {
        return Err(database.malformed("it is no database of rpm's form ndb, version 0"));
    }
    let pages = number(&header, 12);
    if pages == 0 || pages > SLOT_PAGES {
        return Err(database.malformed("it has a number of slot pages that rpm would not write"));
    }
    let mut slots = vec![0; pages as usize * PAGE_BYTES];
    database.read_at(0, &mut slots)?;
    let (slots, _) = slots.as_chunks::<SLOT_BYTES>();
    let mut packages = 0;
    for slot in slots.iter().skip(HEADER_SLOTS) {
        if number(slot, 0) != SLOT_MAGIC {
            return Err(database.malformed("a slot has no magic"));
        }
        let package = number(slot, 4);
        if package == 0 {
            continue;
        }
        packages += 1;
        if packages > limits::SBOM_COMPONENTS {
            return Err(Reason::new(Code::InputTooLarge, "the database has too many packages").evidence(database.path));
        }
        show(&blob(database, package, u64::from(number(slot, 8)) * BLOCK_BYTES)?)?;
    }
    Ok(())
}

fn blob(database: &mut Database<'_>, package: u32, at: u64) -> Result<Vec<u8>, Reason> {
    let mut header = [0; 16];
    database.read_at(at, &mut header)?;
    if number(&header, 0) != BLOB_MAGIC || number(&header, 4) != package {
        return Err(database.malformed("a slot leads to no blob of its package"));
    }
    let bytes = u64::from(number(&header, 12));
    if bytes > limits::SBOM_RPM_HEADER_BYTES || bytes > database.bytes {
        return Err(database.malformed("a package header is larger than any"));
    }
    let mut blob = vec![0; usize::try_from(bytes).unwrap_or_default()];
    database.read_at(at + 16, &mut blob)?;
    Ok(blob)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
