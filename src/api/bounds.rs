//! The bounds of status fields, and functions that make a text or a list fit them.
//!
//! The API server refuses a status that is too long, and would refuse it for ever: what an identity
//! provider says goes through these functions before it is written.

/// Most entries of a list in a status.
pub const LIST: usize = 128;

/// Longest entry of a list in a status, in characters.
pub const ENTRY: usize = 512;

/// Longest short text in a status, such as a column or a version, in characters.
pub const SHORT: usize = 320;

/// Most findings of shared credentials in a status.
pub const FINDINGS: usize = 20;

/// Longest condition message that the operator writes, in characters.
pub const MESSAGE: usize = 200;

/// Cuts a text to at most `most` characters; what was cut ends in `…`.
pub fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    if most > 0 {
        cut.push('…');
    }
    cut
}

/// Makes a list for a status: sorted, each entry once, at most [`LIST`] entries of at most
/// [`ENTRY`] characters. Where entries are left out, the last one says how many: `+12 more`.
pub fn fit_list<I>(entries: I) -> Vec<String>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let mut list: Vec<String> = entries.into_iter().map(|entry| fit(entry.as_ref(), ENTRY)).collect();
    list.sort_unstable();
    list.dedup();
    if list.len() > LIST {
        let left_out = list.len() - (LIST - 1);
        list.truncate(LIST - 1);
        list.push(format!("+{left_out} more"));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_stays() {
        assert_eq!(fit("", 3), "");
        assert_eq!(fit("äöü", 3), "äöü");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(fit("äöüß", 3), "äö…");
        assert_eq!(fit("äöüß", 1), "…");
        assert_eq!(fit("äöüß", 0), "");
    }

    #[test]
    fn a_list_is_sorted_and_has_each_entry_once() {
        assert_eq!(fit_list(["b", "a", "b"]), ["a", "b"]);
    }

    #[test]
    fn a_long_list_says_how_many_are_left_out() {
        let list = fit_list((0..200).map(|n| format!("{n:03}")));
        assert_eq!(list.len(), LIST);
        assert_eq!(list[LIST - 2], "126");
        assert_eq!(list[LIST - 1], "+73 more");
        assert_eq!(fit_list((0..128).map(|n| format!("{n:03}")))[127], "127");
    }
}
