//! Texts within limits, and without power over their surroundings.

/// Stands at the end of a text that was cut.
const CUT: &str = "…";

/// As much as a service takes of one message, and how it counts.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) limit: usize,
    pub(crate) measure: fn(char) -> usize,
}

impl Room {
    /// Of a service whose own limit is none for a person.
    pub(crate) const AMPLE: Room = Room { limit: 32 * 1024, measure: char::len_utf8 };

    /// What the text takes of it.
    pub(crate) fn size(self, text: &str) -> usize {
        text.chars().map(self.measure).sum()
    }
}

/// The text, or as much of it as fits into `limit` with a mark at its end.
pub(crate) fn cut(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    if text.chars().map(measure).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub(CUT.chars().map(measure).sum());
    let mut kept = String::new();
    for c in text.chars() {
        let size = measure(c);
        if size > left {
            break;
        }
        left -= size;
        kept.push(c);
    }
    kept.push_str(CUT);
    kept
}

/// A character as it counts in a JSON text, in bytes.
pub(crate) fn json_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0'..='\x1f' => 6,
        other => other.len_utf8(),
    }
}

/// White space and control characters become single blanks.
pub(crate) fn without_breaks(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The same, with at most `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    cut(&without_breaks(text), limit, |_| 1)
}

/// Puts a word joiner behind each `@`, so that no name follows it: for services that look for names in plain text.
pub(crate) fn without_mentions(text: &str) -> String {
    text.replace('@', "@\u{2060}")
}

/// Puts a word joiner between text and address of a link such as `[your bank](https://example.com)`, which so shows where it
/// leads: for services that read Markdown.
pub(crate) fn without_masked_links(text: &str) -> String {
    text.replace("](", "]\u{2060}(")
}

/// What stands within the quotes of a JSON string.
pub(crate) fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_text_says_so_and_fits() {
        let check = |text: &str, limit, measure: fn(char) -> usize, expected: &str| {
            assert_eq!(cut(text, limit, measure), expected);
        };
        check("hello", 5, char::len_utf16, "hello");
        check("hello!", 5, char::len_utf16, "hell…");
        check("🦀🦀🦀", 5, char::len_utf16, "🦀🦀…");
        check("äöü", 5, char::len_utf8, "ä…");
        check("a\"\"b", 5, json_len, "a…");
    }

    proptest! {
        #[test]
        fn no_cut_exceeds_its_limit(text in ".{0,60}", limit in 3_usize..50) {
            for measure in [char::len_utf8, char::len_utf16, json_len] {
                let size: usize = cut(&text, limit, measure).chars().map(measure).sum();
                prop_assert!(size <= limit);
            }
        }

        #[test]
        fn json_len_is_what_serde_json_writes(text in "\\PC{0,20}[\"\\\\\n\r\t\u{1}\u{1f}]{0,5}") {
            prop_assert_eq!(json_escaped(&text).len(), text.chars().map(json_len).sum::<usize>());
        }
    }
}
