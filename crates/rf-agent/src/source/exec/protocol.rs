//! What a program and the source say to each other: one JSON object a line.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::source::local_event::LocalEvent;

/// The longest id, as it is written.
const MAX_ID_BYTES: usize = 256;

/// Begins what a program is told of a line that is no event.
const NO_OBJECT: &str = "expected an event as a JSON object";

/// What a program calls an event: a text or a number, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id(String);

/// What the program is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The event is stored.
    Ack(Id),
    /// It is not, and never will be.
    Refused {
        /// `None` when it cannot be told.
        id: Option<Id>,
        /// Why.
        reason: String,
    },
}

impl Answer {
    pub(super) fn refused(id: Option<Id>, reason: impl Into<String>) -> Self {
        Self::Refused { id, reason: reason.into() }
    }

    /// As a line.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let line = match self {
            Self::Ack(Id(id)) => format!("{{\"ack\":{id}}}\n"),
            Self::Refused { id, reason } => {
                let id = id.as_ref().map_or("null", |id| &id.0);
                format!("{{\"refused\":{id},\"reason\":{}}}\n", Value::from(reason.as_str()))
            }
        };
        out.extend_from_slice(line.as_bytes());
    }
}

/// A line as the program wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    params: Option<Map<String, Value>>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
}

/// The id alone, where the rest is wrong.
#[derive(Debug, Deserialize)]
struct WithId<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

/// The event of a line, and what the program calls it.
pub(super) fn parse(
    line: &[u8],
    default_path: &str,
) -> Result<(Option<Id>, Bytes), (Option<Id>, String)> {
    // To serde a list would do, too: its elements by their places.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err((None, NO_OBJECT.to_owned()));
    }
    let written: Written<'_> = serde_json::from_slice(line).map_err(|error| {
        let known = serde_json::from_slice::<WithId<'_>>(line).ok();
        let id = known.and_then(|known| id_of(known.id).ok().flatten());
        (id, format!("{NO_OBJECT}: {}", without_text(&error)))
    })?;
    let id = id_of(written.id).map_err(|reason| (None, reason))?;
    match event_of(written, default_path) {
        Ok(event) => Ok((id, event)),
        Err(reason) => Err((id, reason)),
    }
}

/// What is wrong, and where; the error's own words may quote the event, which is not for the log.
fn without_text(error: &serde_json::Error) -> String {
    let column = error.column();
    match error.classify() {
        Category::Eof => "the line ends before the object does".to_owned(),
        Category::Data if error.to_string().starts_with("duplicate field") => {
            format!("a key occurs twice, at column {column}")
        }
        Category::Data => format!("the value before column {column} has a wrong type"),
        Category::Syntax | Category::Io => format!("no JSON at column {column}"),
    }
}

fn id_of(id: Option<&RawValue>) -> Result<Option<Id>, String> {
    let Some(raw) = id.map(RawValue::get).filter(|raw| *raw != "null") else { return Ok(None) };
    let is_simple =
        raw.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
    if is_simple && raw.len() <= MAX_ID_BYTES {
        Ok(Some(Id(raw.to_owned())))
    } else {
        Err(format!("id: expected a text or a number of at most {MAX_ID_BYTES} bytes"))
    }
}

fn event_of(written: Written<'_>, default_path: &str) -> Result<Bytes, String> {
    if let Some(content) = written.content {
        return Ok(content.into());
    }
    let body: String = match written.body.map(RawValue::get) {
        None | Some("null") => String::new(),
        Some(raw) => serde_json::from_str(raw).unwrap_or_else(|_no_text| raw.to_owned()),
    };
    let path = written.path.as_deref().unwrap_or(default_path);
    let mut event = LocalEvent::new(path, body.into());
    if let Some(method) = &written.method {
        event.method = method;
    }
    if let Some(id) = &written.event_id {
        let id = Uuid::try_parse(id).ok().ok_or("eventId: expected a UUID")?;
        event.event_id = id.hyphenated().to_string();
    }
    if let Some(params) = written.params {
        event.params = lists("params", params)?;
    }
    if let Some(headers) = written.headers {
        event.headers = lists("headers", headers)?;
    }
    Ok(event.encode())
}

/// Each value as a list of texts, as events have it.
fn lists(key: &str, mut map: Map<String, Value>) -> Result<Map<String, Value>, String> {
    for value in map.values_mut() {
        if value.is_string() {
            *value = Value::Array(vec![value.take()]);
        }
        if !value.as_array().is_some_and(|list| list.iter().all(Value::is_string)) {
            return Err(format!("{key}: expected texts, or lists of texts"));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use rf_core::event::ReplayRequest;

    use super::*;

    fn told(answer: &Answer) -> String {
        let mut out = BytesMut::new();
        answer.write(&mut out);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn an_event_may_name_all_its_parts_or_none() {
        let check = |line: &str, ack: &str, target: &str, body: &str| {
            let (id, event) = parse(line.as_bytes(), "/default").expect(line);
            let replay = ReplayRequest::parse(&event).expect(line);
            assert_eq!((replay.target.as_str(), &replay.body[..]), (target, body.as_bytes()));
            assert_eq!(id.map(|id| told(&Answer::Ack(id))).unwrap_or_default(), ack);
            replay
        };
        check("{}", "", "/default", "");
        check(r#"{"id":7,"body":"text"}"#, "{\"ack\":7}\n", "/default", "text");
        check(
            r#"{"id":"a\"b","body":{"k":[1]}}"#,
            "{\"ack\":\"a\\\"b\"}\n",
            "/default",
            r#"{"k":[1]}"#,
        );
        let replay = check(
            r#"{"id":1,"method":"PUT","path":"/x","params":{"q":["1","2"]},"headers":{"X-A":"b"},"eventId":"0198F0C2-5b1e-7c43-9d0a-3f1d6c0f7a11"}"#,
            "{\"ack\":1}\n",
            "/x?q=1&q=2",
            "",
        );
        assert_eq!((replay.method.as_str(), replay.header("x-a")), ("PUT", Some(&b"b"[..])));
        assert_eq!(
            replay.id.map(|id| id.to_string()).as_deref(),
            Some("0198f0c2-5b1e-7c43-9d0a-3f1d6c0f7a11")
        );
        let (_, event) = parse(br#"{"content":"as it is"}"#, "/").expect("content");
        assert_eq!(&event[..], b"as it is");
    }

    #[test]
    fn what_is_no_event_is_refused_by_its_id_where_there_is_one() {
        let check = |line: &str, expected: &str| {
            let (id, reason) = parse(line.as_bytes(), "/").expect_err(line);
            let told = told(&Answer::refused(id, reason));
            assert!(told.starts_with(expected), "{line}: {told}");
            assert!(!told.contains("secret"), "{told}");
        };
        for line in ["secret", "[1]", r#" [1,"secret"]"#, "7", "\"secret\"", "null"] {
            check(line, r#"{"refused":null,"reason":"expected an event as a JSON object"}"#);
        }
        for (line, id, why) in [
            (r#"{"id":5,"path":7}"#, "5", "has a wrong type"),
            (r#"{"id":secret}"#, "null", "no JSON at column"),
            (r#"{"id":5,"path":"secret"#, "null", "the line ends before the object does"),
            (r#"{"id":6,"path":"a","path":"secret"}"#, "6", "a key occurs twice, at column"),
        ] {
            let begin =
                format!(r#"{{"refused":{id},"reason":"expected an event as a JSON object: "#);
            check(line, &begin);
            let (_, reason) = parse(line.as_bytes(), "/").expect_err(line);
            assert!(reason.contains(why), "{line}: {reason}");
        }
        check(
            r#"{"id":5,"headers":{"x":{}}}"#,
            r#"{"refused":5,"reason":"headers: expected texts"#,
        );
        check(
            r#"{"id":5,"eventId":"secret"}"#,
            r#"{"refused":5,"reason":"eventId: expected a UUID"#,
        );
        check(r#"{"id":["x"]}"#, r#"{"refused":null,"reason":"id: expected"#);
        check(
            &format!(r#"{{"id":"{}"}}"#, "x".repeat(300)),
            r#"{"refused":null,"reason":"id: expected"#,
        );
    }
}
