//! Events that a source makes itself: shaped like a POST with a JSON body, as the original shapes them.

use rf_core::clock::unix_us;
use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const LOOPBACK: &str = "127.0.0.1";

/// An event on its way to be written as JSON; the keys stand in the order of the event format.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LocalEvent<'a> {
    pub(crate) ip: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) params: Map<String, Value>,
    pub(crate) headers: Map<String, Value>,
    pub(crate) body: Cow<'a, str>,
    pub(crate) event_id: String,
    captured_at_us: u64,
}

/// The body of an event that is a line of text.
#[derive(Debug, Serialize)]
pub(crate) struct LineBody<'a> {
    /// The line.
    pub(crate) content: Cow<'a, str>,
    /// There when the line was longer than allowed, and is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) truncated: bool,
}

impl<'a> LocalEvent<'a> {
    /// A POST to `path` with this body, with an id of its own.
    pub(crate) fn new(path: &'a str, body: Cow<'a, str>) -> Self {
        Self {
            ip: LOOPBACK,
            method: "POST",
            path,
            params: Map::new(),
            headers: Map::from_iter([("Content-Type".to_owned(), json!(["application/json"]))]),
            body,
            event_id: Uuid::now_v7().hyphenated().to_string(),
            captured_at_us: unix_us(),
        }
    }

    /// The event's JSON text.
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers can be written as JSON").into()
    }
}

/// An event whose body is the JSON of `body`.
pub(crate) fn json_event(path: &str, body: &impl Serialize) -> Bytes {
    let body = serde_json::value::to_raw_value(body);
    let text = body.as_deref().map_or("null", RawValue::get);
    LocalEvent::new(path, Cow::Borrowed(text)).encode()
}

/// An event whose body is `{"content": LINE}`.
pub(crate) fn line_event(path: &str, line: &crate::lines::Line) -> Bytes {
    json_event(path, &LineBody { content: line.text(), truncated: line.is_cut })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rf_core::event::ReplayRequest;

    use super::line_event;
    use crate::lines::Line;

    #[test]
    fn a_line_is_an_event_as_the_original_shapes_it() {
        let line = Line { bytes: Bytes::from_static(b"caf\xe9 \"x\""), is_cut: false };
        let content = line_event("/logs", &line);
        let replay = ReplayRequest::parse(&content).expect("an event");
        assert_eq!((replay.method.as_str(), replay.target.as_str()), ("POST", "/logs"));
        assert_eq!(replay.header("Content-Type"), Some(&b"application/json"[..]));
        assert_eq!(replay.body, "{\"content\":\"caf\u{fffd} \\\"x\\\"\"}".as_bytes());
        assert!(replay.id.is_some() && replay.captured_at_us.is_some());
        let text = String::from_utf8(content.to_vec()).expect("text");
        assert!(text.starts_with(r#"{"ip":"127.0.0.1","method":"POST","path":"/logs","params":{},"headers":{"Content-Type":["application/json"]},"#), "{text}");
    }

    #[test]
    fn a_line_that_was_cut_says_so() {
        let line = Line { bytes: Bytes::from_static(b"x"), is_cut: true };
        let replay = ReplayRequest::parse(&line_event("/", &line)).expect("an event");
        assert_eq!(&replay.body[..], br#"{"content":"x","truncated":true}"#);
    }
}
