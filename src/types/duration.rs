//! Spans of time as people write them: a whole number with its unit in, seconds out.

use jiff::SignedDuration;

/// Reads `90s`, `15m`, `12h`, `30d` or `8w`. Nothing is no time, and neither is what reaches beyond the calendar.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no time: write a whole number with s, m, h, d or w, as 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: i64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds) if seconds > 0 => Ok(SignedDuration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [("1s", 1), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("8w", 4_838_400)] {
            assert_eq!(parse(text).unwrap().as_secs(), seconds);
        }
        for text in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "+1d",
            "1.5d",
            "30 d",
            "30D",
            "1y",
            "99999999999999999999d",
            "9223372036854775807w",
            "3é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
