//! The answer of `GET /first-batch`: an array of events with their ids.

use std::fmt;
use std::io::{self, Write};

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::WireError;
use super::batch::write_string;
use super::content::{Contents, parse_contents};

/// The largest answer that a player reads, as it comes and decoded.
pub const MAX_PULLED_BYTES: usize = 64 * 1024 * 1024;
/// The largest content of an event in such an answer, as the JSON text that stands there: the rest is for what stands
/// around it, and for a coding that makes nothing smaller.
pub const MAX_PULLED_EVENT_BYTES: usize = MAX_PULLED_BYTES - 1024 * 1024;
/// What an item costs besides its content, at most: names, quotes and numbers.
const ITEM_OVERHEAD_BYTES: usize = 64;
/// What a byte of a content may become: `\u0000`.
const LONGEST_ESCAPE_BYTES: usize = 6;

/// An event of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledEvent {
    /// Its place in the bucket: ids grow and are never used again.
    pub id: u64,
    /// What was recorded.
    pub content: Bytes,
    /// How often it was leased before and not acknowledged.
    pub attempts: u32,
}

/// The answer for `events`; attempts are only told when there were some.
#[must_use]
pub fn encode_pulled(events: &[PulledEvent]) -> Vec<u8> {
    let contents: usize =
        events.iter().map(|event| event.content.len() + ITEM_OVERHEAD_BYTES).sum();
    // An eighth for the escapes: most contents are JSON, where every quote needs one.
    let mut body = Vec::with_capacity(contents + contents / 8);
    body.push(b'[');
    for event in events {
        if body.len() > 1 {
            body.push(b',');
        }
        encode_one(&mut body, event);
    }
    body.push(b']');
    body
}

/// Whether the answer with this event alone is one that a player reads.
#[must_use]
pub fn can_be_pulled(content: &[u8]) -> bool {
    is_written_within(content, MAX_PULLED_EVENT_BYTES)
}

fn is_written_within(content: &[u8], max_bytes: usize) -> bool {
    // Nearly all events are so small that there is nothing to count.
    let longest = content.len().saturating_mul(LONGEST_ESCAPE_BYTES).saturating_add(2);
    longest <= max_bytes || {
        let mut length = Length(0);
        write_string(&mut length, content);
        length.0 <= max_bytes
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encode_one(body: &mut Vec<u8>, event: &PulledEvent) {
    body.extend_from_slice(b"{\"id\":");
    write_number(body, event.id);
    body.extend_from_slice(b",\"content\":");
    write_string(body, &event.content);
    if event.attempts > 0 {
        body.extend_from_slice(b",\"attempts\":");
        write_number(body, u64::from(event.attempts));
    }
    body.push(b'}');
}

fn write_number(body: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(body, &number).expect("writing a number into memory cannot fail");
}

/// The events of an answer, at most `max_events`. Unknown members are skipped.
///
/// # Errors
/// See [`WireError`].
pub fn parse_pulled(body: &Bytes, max_events: usize) -> Result<Vec<PulledEvent>, WireError> {
    parse_contents(body, |contents| {
        let mut parser = serde_json::Deserializer::from_slice(contents.body());
        let mut answer = Answer { contents, heads: Vec::new(), max_events };
        let parsed = parser.deserialize_seq(&mut answer).and_then(|()| parser.end());
        if answer.heads.len() > max_events {
            return Err(WireError::TooMany { limit: max_events });
        }
        parsed?;
        let event = |(head, content): (Head, Bytes)| PulledEvent {
            id: head.id,
            content,
            attempts: head.attempts,
        };
        Ok(answer.heads.into_iter().zip(answer.contents.finish()).map(event).collect())
    })
}

/// Invariant: there are as many heads as contents, in the same order.
struct Answer<'a> {
    contents: Contents<'a>,
    heads: Vec<Head>,
    max_events: usize,
}

struct Head {
    id: u64,
    attempts: u32,
}

impl<'de> Visitor<'de> for &mut Answer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(head) = items.next_element_seed(Item { contents: &mut self.contents })? {
            self.heads.push(head);
            if self.heads.len() > self.max_events {
                return Err(A::Error::custom("too many events"));
            }
        }
        Ok(())
    }
}

struct Item<'a, 'b> {
    contents: &'a mut Contents<'b>,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with id and content")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head, A::Error> {
        let contents_before = self.contents.len();
        let mut id = None;
        let mut attempts = 0;
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "id" => id = Some(members.next_value()?),
                "attempts" => attempts = members.next_value()?,
                "content" if self.contents.len() > contents_before => {
                    return Err(A::Error::duplicate_field("content"));
                }
                "content" => members.next_value_seed(&mut *self.contents)?,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        if self.contents.len() == contents_before {
            return Err(A::Error::missing_field("content"));
        }
        Ok(Head { id: id.ok_or_else(|| A::Error::missing_field("id"))?, attempts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64, content: &'static str, attempts: u32) -> PulledEvent {
        PulledEvent { id, content: Bytes::from_static(content.as_bytes()), attempts }
    }

    #[test]
    fn the_answer_is_that_of_the_original() {
        assert_eq!(encode_pulled(&[]), b"[]");
        assert_eq!(encode_pulled(&[event(12, "...", 0)]), br#"[{"id":12,"content":"..."}]"#);
        let two = encode_pulled(&[event(1, "{\"a\":\"é\"}", 0), event(u64::MAX, "\n\0", 3)]);
        let text = r#"[{"id":1,"content":"{\"a\":\"é\"}"},{"id":18446744073709551615,"content":"\n\u0000","attempts":3}]"#;
        assert_eq!(String::from_utf8(two).unwrap(), text);
    }

    #[test]
    fn a_stored_event_that_is_no_text_is_replaced() {
        let stored = PulledEvent { id: 1, content: Bytes::from_static(b"a\xff"), attempts: 0 };
        assert_eq!(encode_pulled(&[stored]), "[{\"id\":1,\"content\":\"a\u{FFFD}\"}]".as_bytes());
    }

    #[test]
    fn what_an_event_is_in_an_answer_is_counted_as_it_is_written() {
        let cases: [(&[u8], usize); 6] = [
            (b"", 2),
            (b"abc", 5),
            (b"\"\\\n", 8),
            (b"\0\x01", 14),
            (b"a\xff", 6),
            ("é\u{7f}".as_bytes(), 5),
        ];
        for (content, length) in cases {
            assert!(is_written_within(content, length), "{content:?}");
            assert!(!is_written_within(content, length - 1), "{content:?}");
            let written =
                PulledEvent { id: 1, content: Bytes::copy_from_slice(content), attempts: 0 };
            assert_eq!(encode_pulled(&[written]).len(), length + r#"[{"id":1,"content":}]"#.len());
        }
    }

    #[test]
    fn the_largest_event_that_is_taken_leaves_room_for_the_answer_around_it() {
        let largest = vec![b'x'; MAX_PULLED_EVENT_BYTES - 2];
        assert!(can_be_pulled(&largest));
        let event = PulledEvent { id: u64::MAX, content: largest.into(), attempts: u32::MAX };
        assert!(encode_pulled(&[event]).len() < MAX_PULLED_BYTES);
        assert!(!can_be_pulled(&vec![0; MAX_PULLED_EVENT_BYTES / 6]));
    }

    fn check(body: &str, expected: Result<&[PulledEvent], &str>) {
        let parsed = parse_pulled(&Bytes::copy_from_slice(body.as_bytes()), 2)
            .map_err(|error| error.to_string());
        assert_eq!(parsed, expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn answers_are_parsed() {
        check("[]", Ok(&[]));
        check(r#"[{"id": 12, "content": "..."}]"#, Ok(&[event(12, "...", 0)]));
        check(
            r#"[{"attempts":2,"content":"\"x\"","new":{"a":[1]},"id":3},{"id":4,"content":"y"}]"#,
            Ok(&[event(3, "\"x\"", 2), event(4, "y", 0)]),
        );
    }

    #[test]
    fn other_answers_are_refused() {
        check("<html>", Err("expected value at line 1 column 1"));
        check(r#"[{"content":"x"}]"#, Err("missing field `id` at line 1 column 16"));
        check(r#"[{"id":1}]"#, Err("missing field `content` at line 1 column 9"));
        check(
            r#"[{"id":1,"content":"x","content":"y"}]"#,
            Err("duplicate field `content` at line 1 column 32"),
        );
        check(
            r#"[{"id":-1,"content":"x"}]"#,
            Err("invalid value: integer `-1`, expected u64 at line 1 column 9"),
        );
        let three = r#"[{"id":1,"content":""},{"id":2,"content":""},{"id":3,"content":""}]"#;
        check(three, Err("more than 2 entries"));
    }
}
