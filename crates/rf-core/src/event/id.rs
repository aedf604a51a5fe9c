//! The id of an event, found without reading the event.

use std::ops::Range;

use memchr::memmem;
use uuid::Uuid;

const KEY: &[u8] = b"\"eventId\":\"";
const ID_LEN: usize = 36;
/// What our sources write last: `"eventId":"..","capturedAtUs":1795478400000123}`.
const TAIL_LEN: usize = KEY.len() + ID_LEN + b"\",\"capturedAtUs\":1795478400000123}".len();

/// The id that an event was given at its source; none in what other programs and scripts made without one.
///
/// Not a parse: the key is searched for as it is written in JSON, where no text can hold it, since its quotes would be
/// escaped there. Events as our sources write them cost one comparison, whatever their size.
#[must_use]
pub fn event_id(content: &[u8]) -> Option<Uuid> {
    event_id_place(content).map(|(id, _place)| id)
}

/// As [`event_id`], with the bytes in `content` that hold it: 36 ASCII characters, without quotes.
#[must_use]
pub fn event_id_place(content: &[u8]) -> Option<(Uuid, Range<usize>)> {
    let tail = content.len().saturating_sub(TAIL_LEN);
    let at = if content[tail..].starts_with(KEY) { tail } else { memmem::rfind(content, KEY)? };
    let place = at + KEY.len()..at + KEY.len() + ID_LEN;
    let id = Uuid::try_parse_ascii(content.get(place.clone())?).ok()?;
    Some((id, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CapturedRequest;

    const ID: Uuid = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);

    fn check(content: &str, expected: Option<Uuid>) {
        assert_eq!(event_id(content.as_bytes()), expected, "{content}");
    }

    #[test]
    fn the_id_is_found_wherever_a_script_has_put_it() {
        check(&format!(r#"{{"eventId":"{ID}","body":"{}"}}"#, "x".repeat(300)), Some(ID));
        check(&format!(r#"{{"body":"x","eventId":"{ID}","response":{{"status":200}}}}"#), Some(ID));
        check(&format!(r#"{{"eventId":"{ID}"}}"#), Some(ID));
    }

    #[test]
    fn the_id_stands_at_its_place() {
        let content = format!(r#"{{"body":"x","eventId":"{ID}","n":1}}"#);
        let (id, place) = event_id_place(content.as_bytes()).expect("an id");
        assert_eq!((id, content.get(place)), (ID, Some(ID.to_string().as_str())));
    }

    #[test]
    fn what_a_body_says_is_not_the_id() {
        let quoted = serde_json::to_string(&format!(r#"{{"eventId":"{ID}"}}"#)).expect("text");
        check(&format!(r#"{{"body":{quoted}}}"#), None);
        check(r#"{"eventId":"not an id, but as long as one would be"}"#, None);
        check(r#"{"eventId":"short"#, None);
        check("a line", None);
        check("", None);
    }

    #[test]
    fn an_event_of_ours_is_not_searched() {
        let content = CapturedRequest {
            id: ID,
            captured_at_us: 1_795_478_400_000_123,
            ip: "127.0.0.1:1".parse().expect("address"),
            method: "POST",
            target: "/",
            headers: [("x-a", &b"1"[..])],
            body: b"hi",
        }
        .encode();
        assert!(content[content.len() - TAIL_LEN..].starts_with(KEY));
        assert_eq!(event_id(&content), Some(ID));
    }
}
