//! Berkeley DB's hash form (`Packages`), which rpm wrote until 2020: pages of keys and values, large values in chains of
//! overflow pages (Berkeley DB 5.3, `dbinc/db_page.h`). Nothing is looked up: every page is visited once.

use super::Database;
use crate::types::{Code, Reason, limits};

const MAGIC: u32 = 0x0006_1561;
const HASH_META: u8 = 8;
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
const PAGE_HEADER_BYTES: usize = 26;
/// Kinds of an item on a hash page.
const KEY_OR_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;
/// The record whose key is 0 holds the number of the next package.
const COUNTER_KEY: &[u8] = &[0; 4];

/// Shows every blob.
pub(super) fn read(
    database: &mut Database<'_>,
    show: &mut dyn FnMut(&[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut meta = [0; 72];
    database.read_at(0, &mut meta)?;
    let order = match (u32_of(&meta, 12, Order::Little), u32_of(&meta, 12, Order::Big)) {
        (MAGIC, _) => Order::Little,
        (_, MAGIC) => Order::Big,
        _ => return Err(database.malformed("it is no hash of Berkeley DB's")),
    };
    if meta.get(24) != Some(&0) {
        let message = format!("{} is encrypted", database.path);
        return Err(Reason::new(Code::SbomUnsupported, message).evidence(database.path));
    }
    if meta.get(25) != Some(&HASH_META) {
        return Err(database.malformed("its first page is not that of a hash"));
    }
    let page_bytes = u32_of(&meta, 20, order);
    if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
        return Err(database.malformed("its pages have a size that Berkeley DB would not write"));
    }
    let pages = database.bytes / u64::from(page_bytes);
    let mut reader = Pages { order, page_bytes: page_bytes as usize, pages, read_bytes: 0 };
    let mut packages = 0;
    for number in 1..pages {
        let page = reader.page(database, number)?;
        if !matches!(page.get(25), Some(&(HASH | HASH_UNSORTED))) {
            continue;
        }
        for (key, data) in reader.pairs(&page, database)? {
            if key == COUNTER_KEY {
                continue;
            }
            packages += 1;
            if packages > limits::SBOM_COMPONENTS {
                let message = "the database has too many packages";
                return Err(Reason::new(Code::InputTooLarge, message).evidence(database.path));
            }
            show(&reader.value(database, &data)?)?;
        }
    }
    Ok(())
}

/// In which order a number's bytes stand: the order of the machine that wrote the file.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

/// A key, and the item that is its data.
type Pair = (Vec<u8>, Vec<u8>);

struct Pages {
    order: Order,
    page_bytes: usize,
    pages: u64,
    /// Chains may share pages; what is read of them all together may not be more than a few times the file.
    read_bytes: u64,
}

impl Pages {
    fn page(&self, database: &mut Database<'_>, number: u64) -> Result<Vec<u8>, Reason> {
        let mut page = vec![0; self.page_bytes];
        database.read_at(number * self.page_bytes as u64, &mut page)?;
        Ok(page)
    }

    /// Keys with their data, each item with its kind in front of it.
    fn pairs(&self, page: &[u8], database: &Database<'_>) -> Result<Vec<Pair>, Reason> {
        let entries = usize::from(u16_of(page, 20, self.order));
        let mut items = Vec::new();
        // Items fill the page from its end; each one ends where the one before it begins.
        let mut end = page.len();
        for entry in 0..entries {
            let start = usize::from(u16_of(page, PAGE_HEADER_BYTES + 2 * entry, self.order));
            let item = page.get(start..end).filter(|item| !item.is_empty());
            let item = item.ok_or_else(|| database.malformed("an item lies outside of its page"))?;
            items.push(item.to_vec());
            end = start;
        }
        let (pairs, _) = items.as_chunks::<2>();
        Ok(pairs.iter().map(|[key, data]| (key.get(1..).unwrap_or_default().to_vec(), data.clone())).collect())
    }

    fn value(&mut self, database: &mut Database<'_>, item: &[u8]) -> Result<Vec<u8>, Reason> {
        match item.first() {
            Some(&KEY_OR_DATA) => Ok(item.get(1..).unwrap_or_default().to_vec()),
            Some(&OFF_PAGE) => {
                let (first, bytes) = (u32_of(item, 4, self.order), u32_of(item, 8, self.order));
                self.chain(database, first, bytes)
            }
            _ => Err(database.malformed("an item is of an unknown kind")),
        }
    }

    fn chain(&mut self, database: &mut Database<'_>, first: u32, bytes: u32) -> Result<Vec<u8>, Reason> {
        if u64::from(bytes) > limits::SBOM_RPM_HEADER_BYTES || u64::from(bytes) > database.bytes {
            return Err(database.malformed("a package header is larger than any"));
        }
        let mut value = Vec::new();
        let mut number = first;
        while value.len() < bytes as usize {
            self.read_bytes += self.page_bytes as u64;
            let is_inside = number != 0 && u64::from(number) < self.pages;
            if !is_inside || self.read_bytes > database.bytes.saturating_mul(2) {
                return Err(database.malformed("a chain of pages leads nowhere, or goes round"));
            }
            let page = self.page(database, u64::from(number))?;
            if page.get(25) != Some(&OVERFLOW) {
                return Err(database.malformed("a chain leads to a page of another kind"));
            }
            let here = usize::from(u16_of(&page, 22, self.order));
            let content = page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + here);
            value.extend(content.ok_or_else(|| database.malformed("a page holds more than it can"))?);
            number = u32_of(&page, 16, self.order);
        }
        value.truncate(bytes as usize);
        Ok(value)
    }
}

fn u16_of(bytes: &[u8], at: usize, order: Order) -> u16 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    match order {
        Order::Little => u16::from_le_bytes(bytes),
        Order::Big => u16::from_be_bytes(bytes),
    }
}

fn u32_of(bytes: &[u8], at: usize, order: Order) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    match order {
        Order::Little => u32::from_le_bytes(bytes),
        Order::Big => u32::from_be_bytes(bytes),
    }
}
