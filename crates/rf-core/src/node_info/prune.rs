//! What is kept of a message that is larger than is kept: all but its oldest log lines.
//!
//! Agents of the original send a hundred lines of each of their sources and sinks within `statuszInfo`. The text goes from
//! the parser to the result piece by piece: as a tree it would take many times its length.

use std::collections::VecDeque;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MAX_LOG_LINES, MAX_NODE_INFO_BYTES};

/// Lines of each list of them that are kept, the first number of these with which the message fits.
const LINES: [usize; 4] = [MAX_LOG_LINES, 5, 1, 0];

/// The message with fewer log lines, else without `statuszInfo`; `None` where that is not enough.
///
/// # Errors
/// When it is not JSON.
pub(super) fn pruned(body: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let with_status = LINES.map(|lines| Keep { lines, status: true });
    for keep in with_status.into_iter().chain([Keep { lines: 0, status: false }]) {
        let text = copy(body, keep)?;
        if text.len() <= MAX_NODE_INFO_BYTES {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn copy(body: &[u8], keep: Keep) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(body);
    Copied { text: &mut text, keep, place: Place::Root }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(text)
}

/// What is not left out.
#[derive(Clone, Copy)]
struct Keep {
    /// The newest lines of each list of them.
    lines: usize,
    /// `statuszInfo`.
    status: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    /// The value of a key `recentLogs`.
    Logs,
    Within,
}

/// Appends one value to a text.
struct Copied<'a> {
    text: &'a mut Vec<u8>,
    keep: Keep,
    place: Place,
}

impl Copied<'_> {
    fn write<E: Error>(self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.text, value).map_err(E::custom)
    }

    /// The newest of the lines, in their order.
    fn write_lines<'de, A: SeqAccess<'de>>(self, mut lines: A) -> Result<(), A::Error> {
        let mut newest = VecDeque::new();
        loop {
            let mut line = Vec::new();
            let within = Copied { text: &mut line, keep: self.keep, place: Place::Within };
            if lines.next_element_seed(within)?.is_none() {
                break;
            }
            newest.push_back(line);
            if newest.len() > self.keep.lines {
                newest.pop_front();
            }
        }
        self.text.push(b'[');
        self.text.extend(Vec::from(newest).join(&b','));
        self.text.push(b']');
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Copied<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copied<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write(&())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.write(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.place == Place::Logs {
            return self.write_lines(items);
        }
        let Copied { text, keep, .. } = self;
        text.push(b'[');
        let empty = text.len();
        while let Some(()) =
            items.next_element_seed(Copied { text: &mut *text, keep, place: Place::Within })?
        {
            text.push(b',');
        }
        close(text, empty, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Copied { text, keep, place } = self;
        text.push(b'{');
        let empty = text.len();
        while let Some(key) = members.next_key::<String>()? {
            if place == Place::Root && !keep.status && key.eq_ignore_ascii_case("statuszInfo") {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            serde_json::to_writer(&mut *text, &key).map_err(A::Error::custom)?;
            text.push(b':');
            let is_logs = key.eq_ignore_ascii_case("recentLogs");
            let place = if is_logs { Place::Logs } else { Place::Within };
            members.next_value_seed(Copied { text: &mut *text, keep, place })?;
            text.push(b',');
        }
        close(text, empty, b'}');
        Ok(())
    }
}

/// Ends a list or an object, each of whose parts has a comma behind it.
fn close(text: &mut Vec<u8>, empty: usize, end: u8) {
    if text.len() > empty {
        text.pop();
    }
    text.push(end);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: &Value, lines: usize, expected: &Value) {
        let text = copy(body.to_string().as_bytes(), Keep { lines, status: true }).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), *expected);
    }

    #[test]
    fn all_but_the_oldest_lines_is_kept_as_it_is() {
        let any = json!({
            "a": [1, -2, 1.5, 1e300, u64::MAX, "é\n\"", null, true, [], {}, [[]]],
            "b": { "": { "c": [{}] } },
        });
        check(&any, 0, &any);
        let lines = |lines: &[Value]| json!({ "x": 1, "s": { "recentLogs": lines, "recentLog": [1, 2, 3] } });
        let (a, b, c) = (json!("a"), json!({ "recentLogs": [1, 2, 3], "n": 2 }), json!(3));
        check(
            &lines(&[a.clone(), b.clone(), c.clone()]),
            9,
            &lines(&[a, json!({ "recentLogs": [1, 2, 3], "n": 2 }), c.clone()]),
        );
        let newest = json!({ "recentLogs": [2, 3], "n": 2 });
        check(&lines(&[json!("a"), b, c.clone()]), 2, &lines(&[newest, c]));
        check(&lines(&[json!(1), json!(2)]), 0, &lines(&[]));
        check(&json!({ "RecentLogs": 7 }), 0, &json!({ "RecentLogs": 7 }));
    }

    #[test]
    fn what_is_no_json_is_told() {
        for body in ["", "{\"a\":", "{} {}", "[1,]"] {
            assert!(pruned(body.as_bytes()).is_err(), "{body}");
        }
    }
}
