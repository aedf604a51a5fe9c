//! The body of `POST /record-batch`: an array of strings. A null in place of a string or of the array is an empty one, as for
//! the original's decoder.

use std::fmt;
use std::io::Write;

use bytes::Bytes;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::WireError;
use super::content::{Contents, as_text, parse_contents};

/// The events of a batch, at most `max_events`.
///
/// # Errors
/// See [`WireError`].
pub fn parse_batch(body: &Bytes, max_events: usize) -> Result<Vec<Bytes>, WireError> {
    parse_contents(body, |contents| {
        let mut parser = serde_json::Deserializer::from_slice(contents.body());
        let mut batch = Batch { contents, max_events };
        let parsed = parser.deserialize_option(&mut batch).and_then(|()| parser.end());
        if batch.contents.len() > max_events {
            return Err(WireError::TooMany { limit: max_events });
        }
        parsed?;
        Ok(batch.contents.finish())
    })
}

/// The body for a batch of events.
pub fn encode_batch<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = vec![b'['];
    for event in events {
        if body.len() > 1 {
            body.push(b',');
        }
        write_string(&mut body, event);
    }
    body.push(b']');
    body
}

/// Appends `text` as a JSON string to something in memory.
pub(super) fn write_string(to: &mut impl Write, text: &[u8]) {
    let text = as_text(text);
    let text = std::str::from_utf8(&text).expect("as_text gives UTF-8");
    serde_json::to_writer(to, text).expect("writing a string into memory cannot fail");
}

struct Batch<'a> {
    contents: Contents<'a>,
    max_events: usize,
}

impl<'de> Visitor<'de> for &mut Batch<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while events.next_element_seed(&mut self.contents)?.is_some() {
            if self.contents.len() > self.max_events {
                return Err(A::Error::custom("too many events"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(body: &str, expected: Result<&[&str], &str>) {
        check_bytes(body.as_bytes(), expected);
    }

    fn check_bytes(body: &[u8], expected: Result<&[&str], &str>) {
        let parsed = parse_batch(&Bytes::copy_from_slice(body), 3);
        let parsed = parsed.map_err(|error| error.to_string());
        let expected = expected.map(|events| {
            events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes())).collect()
        });
        assert_eq!(parsed, expected.map_err(str::to_owned));
    }

    #[test]
    fn arrays_of_strings() {
        check("[]", Ok(&[]));
        check(" [ \"a\" , \"\" ]\n", Ok(&["a", ""]));
        check(r#"["{\"a\":1}", "plain", "\u00e9\n\\"]"#, Ok(&["{\"a\":1}", "plain", "é\n\\"]));
        check(r#"["\u0000", "\ud83d\ude00", "😀"]"#, Ok(&["\0", "😀", "😀"]));
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        check(r#"["a\ud800b", "\udc00", "ok"]"#, Ok(&["a\u{FFFD}b", "\u{FFFD}", "ok"]));
        check(r#"["\ud800\ud800", "\ud800é"]"#, Ok(&["\u{FFFD}\u{FFFD}", "\u{FFFD}é"]));
        check_bytes(b"[\"a\xffb\", \"\\n\xff\"]", Ok(&["a\u{FFFD}b", "\n\u{FFFD}"]));
        check_bytes(b"[\"\xed\xa0A\"]", Ok(&["\u{FFFD}\u{FFFD}A"]));
    }

    #[test]
    fn nulls_are_empty() {
        check("null", Ok(&[]));
        check(" null ", Ok(&[]));
        check(r#"["a", null, "\n"]"#, Ok(&["a", "", "\n"]));
        check(r#"[null, "\ud800"]"#, Ok(&["", "\u{FFFD}"]));
        check("[null, null, null, null]", Err("more than 3 entries"));
        check("nulx", Err("expected ident at line 1 column 4"));
        check("null []", Err("trailing characters at line 1 column 6"));
    }

    #[test]
    fn errors_say_where() {
        check("", Err("EOF while parsing a value at line 1 column 0"));
        check("{}", Err("invalid type: map, expected an array of strings at line 1 column 0"));
        check(
            "[\"a\",\n 12]",
            Err("invalid type: integer `12`, expected a string at line 2 column 3"),
        );
        check("[\"a\"", Err("EOF while parsing a list at line 1 column 4"));
        check(
            "[\"a\", [\"b\"]]",
            Err("invalid type: sequence, expected a string at line 1 column 7"),
        );
        check("[\"a\"] x", Err("trailing characters at line 1 column 7"));
        check(r#"["\x"]"#, Err("invalid escape at line 1 column 4"));
        check(r#"["a","a","a","a"]"#, Err("more than 3 entries"));
    }

    #[test]
    fn a_text_without_escapes_is_not_copied() {
        let body = Bytes::from_static(br#"["plain"]"#);
        assert_eq!(parse_batch(&body, 1).unwrap()[0].as_ptr(), body[2..].as_ptr());
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(events in prop::collection::vec(any::<String>(), 0..20)) {
            let body = Bytes::from(encode_batch(events.iter().map(String::as_bytes)));
            let as_serde_json = serde_json::to_vec(&events).unwrap();
            prop_assert_eq!(&body, &as_serde_json);
            let parsed = parse_batch(&body, 20).unwrap();
            prop_assert_eq!(parsed, events.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn noise_never_panics_and_events_are_always_text(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            let quoted = [b"[\"", &noise[..], b"\"]"].concat();
            for body in [noise, quoted] {
                for event in parse_batch(&Bytes::from(body), 9).unwrap_or_default() {
                    prop_assert!(std::str::from_utf8(&event).is_ok());
                }
            }
        }
    }
}
