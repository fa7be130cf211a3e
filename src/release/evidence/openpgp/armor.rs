//! ASCII armor: text in, the blocks that it holds out, each with its label and its decoded bytes.
//! A block that is cut short is an error, never a shorter block. The checksum line is read over: RFC 9580,
//! section 6.1, forbids to refuse a block for it, and no signature rests on it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One armored block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What stands after `BEGIN PGP`, as `SIGNATURE`.
    pub(super) label: String,
    /// The bytes inside.
    pub(super) bytes: Vec<u8>,
}

/// What may stand between the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// Blank lines alone.
    Nothing,
    /// Any text: published key files explain their keys there.
    Text,
}

/// The label of a cleartext signed message, which is no armor of bytes and is not decoded.
pub(super) const CLEARTEXT: &str = "SIGNED MESSAGE";

const BEGIN: &[u8] = b"-----BEGIN PGP ";
const END: &[u8] = b"-----END PGP ";
const DASHES: &[u8] = b"-----";

/// Whether this is a binary packet sequence: the first octet of a packet has its highest bit set, text never has.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x80 != 0)
}

/// Every block of a text, in order. A cleartext signed message ends the reading with an empty block of its label.
///
/// # Errors
/// What is wrong, and in which line (the first is 1).
pub(super) fn decode(text: &[u8], between: Between) -> Result<Vec<Block>, (usize, &'static str)> {
    let mut blocks = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(label) = label(line, BEGIN) else {
            if between == Between::Nothing && !line.is_empty() {
                return Err((number, "text outside of an armored block"));
            }
            continue;
        };
        // Labels end up in messages to people: nothing but RFC 9580's own alphabet may.
        if label.len() > 32 || !label.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ') {
            return Err((number, "an armored block of an unknown kind"));
        }
        let label = String::from_utf8_lossy(label).into_owned();
        if label == CLEARTEXT {
            blocks.push(Block { label, bytes: Vec::new() });
            return Ok(blocks);
        }
        let bytes = body(&mut lines, &label, number)?;
        blocks.push(Block { label, bytes });
    }
    Ok(blocks)
}

/// Headers, a blank line, base64, perhaps a checksum, and the end line of the same label.
fn body<'a>(
    lines: &mut impl Iterator<Item = (&'a [u8], usize)>,
    block: &str,
    begin: usize,
) -> Result<Vec<u8>, (usize, &'static str)> {
    loop {
        match lines.next() {
            Some(([], _)) => break,
            Some((header, _)) if header.windows(2).any(|pair| pair == b": ") || header.ends_with(b":") => {}
            Some((_, number)) => return Err((number, "no blank line between an armored block's headers and its data")),
            None => return Err((begin, "an armored block is cut short")),
        }
    }
    let mut base64 = Vec::new();
    loop {
        match lines.next() {
            Some((line, number)) if line.starts_with(DASHES) => {
                if label(line, END) != Some(block.as_bytes()) {
                    return Err((number, "an armored block does not end with its own end line"));
                }
                return STANDARD.decode(&base64).map_err(|_| (begin, "an armored block is not base64"));
            }
            Some((line, _)) if line.starts_with(b"=") => {}
            Some((line, _)) => base64.extend_from_slice(line.trim_ascii_start()),
            None => return Err((begin, "an armored block is cut short")),
        }
    }
}

fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "-----BEGIN PGP SIGNATURE-----\nVersion: x\nComment:\n\naGVs\r\nbG8=\n=abcd\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn several_blocks_are_read_and_text_between_them_only_where_it_may_stand() {
        let one = Block { label: "SIGNATURE".to_owned(), bytes: b"hello".to_vec() };
        assert_eq!(decode(ONE.as_bytes(), Between::Nothing), Ok(vec![one]));
        let two = format!("{ONE}\nand another:\n{ONE}");
        assert_eq!(decode(two.as_bytes(), Between::Text).unwrap().len(), 2);
        assert_eq!(decode(two.as_bytes(), Between::Nothing).unwrap_err().0, 10);
    }

    #[test]
    fn no_prefix_of_a_block_is_a_block() {
        let whole = ONE.trim_end();
        for length in 1..whole.len() {
            let decoded = decode(&whole.as_bytes()[..length], Between::Nothing);
            assert!(decoded.is_err(), "{length} bytes: {decoded:?}");
        }
    }

    #[test]
    fn an_end_line_of_another_label_ends_nothing() {
        let text = ONE.replace("END PGP SIGNATURE", "END PGP MESSAGE");
        assert_eq!(decode(text.as_bytes(), Between::Nothing).unwrap_err().0, 8);
    }
}
