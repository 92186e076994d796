//! Durations as they are written in a spec: a whole number and one unit, for example `90d`.

use std::time::Duration;

/// The form of a duration: a whole number without leading zeros, then `s`, `m`, `h` or `d`.
pub const PATTERN: &str = "^[1-9][0-9]*(s|m|h|d)$";

/// Longest text of a duration, in characters.
pub const MAX_LENGTH: u32 = 10;

/// Reads a duration such as `300s`, `15m`, `24h` or `90d`; a day has 24 hours.
///
/// `None` for anything that does not have exactly this form, and for a number of seconds that does
/// not fit in 64 bits.
pub fn parse(text: &str) -> Option<Duration> {
    let (number, seconds_per_unit) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "s") => (number, 1),
        (number, "m") => (number, 60),
        (number, "h") => (number, 60 * 60),
        (number, "d") => (number, 24 * 60 * 60),
        _ => return None,
    };
    let starts_well = number.starts_with(|first: char| matches!(first, '1'..='9'));
    if !starts_well || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds_per_unit)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, seconds) in [("1s", 1), ("300s", 300), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_every_other_form() {
        for text in [
            "", "s", "5", "05m", "0s", "-5h", "+5h", "5 m", " 5m", "5m ", "1h30m", "1.5h", "5ms", "5M", "5w", "5é",
            "é", "٥m", "5m\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(parse("18446744073709551615s"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(parse("18446744073709551616s"), None);
        assert_eq!(parse("18446744073709551615m"), None);
        assert_eq!(parse("213503982334602d"), None);
    }
}
