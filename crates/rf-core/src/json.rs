//! JSON as other programs write it.
//!
//! JavaScript writes half of a surrogate pair, as is left of an emoji when a text was cut within it, as `\ud83d`: no text can
//! hold that, and `serde_json` refuses it. The original read U+FFFD in its place, and so do we.

use memchr::{memchr, memmem};
use serde::de::DeserializeOwned;

/// What stands for half of a pair; as long as the half, so that all places stay what they were.
const REPLACEMENT: &[u8] = br"\ufffd";

/// Reads a text as `serde_json` does, with halves of surrogate pairs replaced.
///
/// # Errors
/// Where it is not the JSON of a `T`.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| match mended(text) {
        Some(mended) => serde_json::from_slice(&mended),
        None => Err(error),
    })
}

/// The text with U+FFFD for each half of a surrogate pair; `None` where there is none. For who has failed to read it.
#[must_use]
pub fn mended(text: &[u8]) -> Option<Vec<u8>> {
    // Of most texts that cannot be read there is something else wrong.
    if memmem::find(text, br"\ud").is_none() && memmem::find(text, br"\uD").is_none() {
        return None;
    }
    let mut mended = Vec::with_capacity(text.len());
    let (mut rest, mut is_mended) = (text, false);
    while let Some(at) = memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        mended.extend_from_slice(before);
        let (length, is_half) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
            (Some(code), _) => (6, (0xD800..=0xDFFF).contains(&code)),
            (None, _) => (escape.len().min(2), false),
        };
        let (escape, behind) = escape.split_at(length);
        mended.extend_from_slice(if is_half { REPLACEMENT } else { escape });
        is_mended |= is_half;
        rest = behind;
    }
    mended.extend_from_slice(rest);
    is_mended.then_some(mended)
}

/// What `\u` and four digits at the beginning stand for.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let mended = mended(text.as_bytes());
        let mended = mended.as_deref().map(|mended| std::str::from_utf8(mended).unwrap());
        assert_eq!(mended, expected, "{text}");
    }

    #[test]
    fn halves_of_pairs_are_replaced_and_nothing_else() {
        check(r#"{"a":"x\ud83d"}"#, Some(r#"{"a":"x\ufffd"}"#));
        check(r#""\uDE00\ud83d""#, Some(r#""\ufffd\ufffd""#));
        check(r#""\ud83d\ud83d\ude00\u00e9é""#, Some(r#""\ufffd\ud83d\ude00\u00e9é""#));
        check(r#""\\\ud83d\\ude00""#, Some(r#""\\\ufffd\\ude00""#));
        check(r"\ud83d\", Some(r"\ufffd\"));
        for whole in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u0041\n""#, r#""\ud8"#, "", r"\"] {
            check(whole, None);
        }
    }

    #[test]
    fn what_javascript_has_cut_is_read() {
        let read = |text: &str| from_slice::<Value>(text.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(read(r#"["\ud83d!"]"#), Ok(json!(["\u{fffd}!"])));
        assert_eq!(read(r#"["\ud83d\ude00"]"#), Ok(json!(["😀"])));
        let wrong = read(r#"["\ud83d!" x"#).unwrap_err();
        assert!(wrong.ends_with("at line 1 column 12"), "{wrong}");
    }
}
