//! Instants as they are written in spec and status: UTC, to the second, for example
//! `2027-02-20T00:00:00Z`.
//!
//! One fixed form has two merits: every reader agrees on it (the API server's own `date-time`
//! format lets through years and offsets that no calendar library takes), and the order of the
//! texts is the order of the instants.

use k8s_openapi::jiff::Timestamp;

/// The form of an instant: UTC, to the second, before the year 2200. February 30th fits the pattern
/// and is refused by a rule of the schema, and by [`parse`].
pub const PATTERN: &str =
    "^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$";

/// Length of an instant, in characters.
pub const LENGTH: u32 = 20;

/// Reads an instant such as `2027-02-20T00:00:00Z`.
///
/// `None` for any other form, for a day that the calendar does not have, and outside the years 1900
/// to 2199.
pub fn parse(text: &str) -> Option<Timestamp> {
    let fits = text.len() == LENGTH as usize
        && text.bytes().zip(0..).all(|(byte, at)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            19 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let in_range = matches!(text.get(..2), Some("19" | "20" | "21"));
    // The library takes second 60 for second 59; we have no leap seconds.
    let no_leap_second = text.get(17..19) != Some("60");
    if !fits || !in_range || !no_leap_second {
        return None;
    }
    text.parse().ok()
}

/// Writes an instant in the form that [`parse`] reads; fractions of a second are cut off.
pub fn format(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "1900-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "2027-02-20T00:00:00Z",
            "2028-02-29T23:59:59Z",
            "2199-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
    }

    #[test]
    fn refuses_every_other_form() {
        for text in [
            "",
            "2027-02-20",
            "2027-02-20T00:00Z",
            "2027-02-20T00:00:00",
            "2027-02-20T00:00:00z",
            "2027-02-20t00:00:00Z",
            "2027-02-20 00:00:00Z",
            "2027-02-20T00:00:00.5Z",
            "2027-02-20T00:00:00,5Z",
            "2027-02-20T00:00:00+00:00",
            "2027-02-20T00:00:00+01:00",
            "2027-2-20T00:00:00Z",
            "2027-02-30T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2027-04-31T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-01-00T00:00:00Z",
            "2027-02-20T24:00:00Z",
            "2027-02-20T00:60:00Z",
            "2027-02-20T00:00:60Z",
            "1899-12-31T23:59:59Z",
            "2200-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "+027-02-20T00:00:00Z",
            "2027-02-20T00:00:0éZ",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn cuts_fractions_off() {
        let instant: Timestamp = "2027-02-20T00:00:00.999999999Z".parse().unwrap();
        assert_eq!(format(instant), "2027-02-20T00:00:00Z");
    }

    #[test]
    fn texts_order_as_instants_do() {
        let texts = ["1999-12-31T23:59:59Z", "2027-02-20T00:00:00Z", "2100-01-01T00:00:00Z"];
        assert!(texts.is_sorted());
        assert!(texts.map(|text| parse(text).unwrap()).is_sorted());
    }
}
