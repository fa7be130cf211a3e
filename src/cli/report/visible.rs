//! Any text in, text that a terminal shows as it is out. File names and certificates are an outsider's words:
//! an escape sequence, a line break or a right-to-left mark in them must not rewrite what a person reads.

use std::borrow::Cow;

/// The text with every character spelled out that would move the cursor, hide, or turn the reading direction.
pub(in crate::cli) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(deceives) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().saturating_add(16));
    for character in text.chars() {
        if deceives(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Controls, line and paragraph separators, zero-width and bidirectional marks, and the invisible tag characters.
fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn an_ordinary_name_is_left_alone() {
        assert_eq!(visible("Grüße/app-1.0.tar.gz"), "Grüße/app-1.0.tar.gz");
    }

    #[test]
    fn escape_sequences_line_breaks_and_direction_marks_are_spelled_out() {
        assert_eq!(visible("a\u{1b}[2Kb\r\nc"), "a\\u{1b}[2Kb\\r\\nc");
        assert_eq!(visible("gnp.\u{202e}exe"), "gnp.\\u{202e}exe");
        assert_eq!(visible("c1\u{9b}31m"), "c1\\u{9b}31m");
    }
}
