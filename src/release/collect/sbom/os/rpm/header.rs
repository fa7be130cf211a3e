//! A package header as rpm's database keeps it: an index of tags, and the store that their values stand in
//! (rpm, docs/manual/format_header.md). No value is copied, and a tag whose value leaves the store is none.

pub(super) const NAME: u32 = 1000;
pub(super) const VERSION: u32 = 1001;
pub(super) const RELEASE: u32 = 1002;
pub(super) const EPOCH: u32 = 1003;
pub(super) const SUMMARY: u32 = 1004;
pub(super) const VENDOR: u32 = 1011;
pub(super) const LICENSE: u32 = 1014;
pub(super) const URL: u32 = 1020;
pub(super) const ARCHITECTURE: u32 = 1022;
pub(super) const SOURCE: u32 = 1044;
pub(super) const PROVIDES: u32 = 1047;
pub(super) const REQUIRES: u32 = 1049;
pub(super) const FOLDER_OF_FILE: u32 = 1116;
pub(super) const FILES: u32 = 1117;
pub(super) const FOLDERS: u32 = 1118;
pub(super) const MODULARITY: u32 = 5096;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const TRANSLATED: u32 = 9;

/// rpm's own bounds of an index and a store (`hdrchkTags`, `hdrchkData`).
const TAGS: u32 = 0xffff;
const STORE_BYTES: u32 = 256 * 1024 * 1024;
const ENTRY_BYTES: usize = 16;

/// A header.
pub(super) struct Header<'a> {
    index: &'a [u8],
    store: &'a [u8],
}

struct Value<'a> {
    kind: u32,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Result<Self, &'static str> {
        let cut = "a package header is cut short";
        let (tags, rest) = blob.split_first_chunk().ok_or(cut)?;
        let (bytes, rest) = rest.split_first_chunk().ok_or(cut)?;
        let (tags, bytes) = (u32::from_be_bytes(*tags), u32::from_be_bytes(*bytes));
        if tags == 0 || tags > TAGS || bytes > STORE_BYTES {
            return Err("a package header claims a size that rpm would not write");
        }
        let (index, store) = rest.split_at_checked(tags as usize * ENTRY_BYTES).ok_or(cut)?;
        let store = store.get(..bytes as usize).ok_or(cut)?;
        Ok(Self { index, store })
    }

    fn value(&self, tag: u32) -> Option<Value<'a>> {
        let (entries, _) = self.index.as_chunks::<ENTRY_BYTES>();
        let number = |entry: &[u8; ENTRY_BYTES], at: usize| {
            entry.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        let entry = entries.iter().find(|entry| number(entry, 0) == tag)?;
        let bytes = self.store.get(number(entry, 8) as usize..)?;
        Some(Value { kind: number(entry, 4), count: number(entry, 12) as usize, bytes })
    }

    /// The first text of a tag; empty where there is none.
    pub(super) fn text(&self, tag: u32) -> &'a str {
        self.texts(tag).first().copied().unwrap_or_default()
    }

    /// Every text of a tag.
    pub(super) fn texts(&self, tag: u32) -> Vec<&'a str> {
        let Some(value) = self.value(tag) else { return Vec::new() };
        let count = match value.kind {
            STRING => 1,
            STRING_ARRAY | TRANSLATED => value.count,
            _ => 0,
        };
        // A text ends at its NUL; bytes without one are no text of a header's.
        let whole = value.bytes.iter().rposition(|byte| *byte == 0).and_then(|end| value.bytes.get(..end));
        let texts = whole.into_iter().flat_map(|bytes| bytes.split(|byte| *byte == 0)).take(count);
        texts.map(|text| str::from_utf8(text).unwrap_or_default()).collect()
    }

    /// The number of a tag.
    pub(super) fn number(&self, tag: u32) -> Option<u32> {
        self.numbers(tag).first().copied()
    }

    /// Every number of a tag.
    pub(super) fn numbers(&self, tag: u32) -> Vec<u32> {
        let Some(value) = self.value(tag).filter(|value| value.kind == INT32) else { return Vec::new() };
        let (numbers, _) = value.bytes.as_chunks::<4>();
        numbers.iter().take(value.count).map(|bytes| u32::from_be_bytes(*bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(tags: &[(u32, u32, u32, u32)], store: &[u8]) -> Vec<u8> {
        let mut blob = u32::try_from(tags.len()).unwrap().to_be_bytes().to_vec();
        blob.extend(u32::try_from(store.len()).unwrap().to_be_bytes());
        for (tag, kind, offset, count) in tags {
            blob.extend([*tag, *kind, *offset, *count].iter().flat_map(|number| number.to_be_bytes()));
        }
        blob.extend(store);
        blob
    }

    #[test]
    fn values_are_read_where_they_are_inside_of_the_store() {
        let blob = header(
            &[(NAME, STRING, 0, 1), (EPOCH, INT32, 4, 1), (FILES, STRING_ARRAY, 8, 2)],
            b"abc\0\0\0\0\x02x\0y\0",
        );
        let header = Header::parse(&blob).unwrap();
        assert_eq!((header.text(NAME), header.number(EPOCH)), ("abc", Some(2)));
        assert_eq!(header.texts(FILES), ["x", "y"]);
        assert_eq!((header.text(VERSION), header.number(NAME)), ("", None));
    }

    #[test]
    fn a_header_that_lies_about_its_sizes_is_no_header_and_a_value_outside_is_none() {
        let blob = header(&[(NAME, STRING, 900, 1), (FILES, STRING_ARRAY, 0, u32::MAX)], b"x\0");
        let parsed = Header::parse(&blob).unwrap();
        assert_eq!((parsed.text(NAME), parsed.texts(FILES)), ("", vec!["x"]));
        for length in 0..blob.len() {
            assert!(Header::parse(&blob[..length]).is_err());
        }
        assert!(Header::parse(&[0xff; 64]).is_err());
    }
}
