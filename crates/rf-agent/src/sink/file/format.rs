//! How an event stands in a file.
//!
//! Line formats only grow. A HAR file is one JSON document: its end is written behind every batch and over again with the
//! next, so it can be opened at any time; the good length of a file is that without the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rf_core::event::ReplayRequest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sink::log::LogLevel;

/// `format` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FileFormat {
    /// Each event's JSON on a line of its own.
    #[default]
    Ndjson,
    /// Each event's body; a line break is put behind one that has none.
    Raw,
    /// An HTTP Archive (1.2), for browsers and tools.
    Har,
    /// Time, level and the event's JSON: of the sink `log`.
    #[serde(skip)]
    LogLine(LogLevel),
}

const HAR_START: &str = concat!(
    r#"{"log":{"version":"1.2","creator":{"name":"ReplayForge","version":""#,
    env!("CARGO_PKG_VERSION"),
    "\"},\"entries\":[\n"
);
const HAR_END: &[u8] = b"\n]}}\n";

impl FileFormat {
    /// What stands before the first event.
    pub(super) fn start(self) -> &'static [u8] {
        if self == Self::Har { HAR_START.as_bytes() } else { b"" }
    }

    /// What stands behind the last one.
    pub(super) fn end(self) -> &'static [u8] {
        if self == Self::Har { HAR_END } else { b"" }
    }

    /// What stands between two events.
    pub(super) fn between(self) -> &'static [u8] {
        if self == Self::Har { b",\n" } else { b"" }
    }

    /// Whether a file can be cut behind any line.
    pub(super) fn is_lines(self) -> bool {
        self != Self::Har
    }

    /// Puts the event behind what is already in `out`.
    ///
    /// # Errors
    /// Why it never can stand in a file; `out` is as it was.
    pub(super) fn render(
        self,
        content: &[u8],
        at: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Self::Ndjson => return line(content, out),
            Self::LogLine(level) => {
                log_line(content, at, level, out);
                return Ok(());
            }
            Self::Raw | Self::Har => {}
        }
        let request = ReplayRequest::parse(content).map_err(|error| error.to_string())?;
        if self == Self::Raw {
            out.extend_from_slice(&request.body);
            if !request.body.ends_with(b"\n") {
                out.push(b'\n');
            }
            return Ok(());
        }
        out.extend_from_slice(har_entry(&request, at).to_string().as_bytes());
        Ok(())
    }
}

/// A line break within JSON is white space, so a blank means the same; within anything else it cannot stay.
fn line(content: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let has_breaks = memchr::memchr2(b'\n', b'\r', content).is_some();
    if has_breaks {
        serde_json::from_slice::<serde::de::IgnoredAny>(content).map_err(|error| {
            format!("it has several lines and is not JSON, so it cannot be a line: {error}")
        })?;
    }
    let start = out.len();
    out.extend_from_slice(content);
    if has_breaks {
        let breaks = out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r'));
        breaks.for_each(|byte| *byte = b' ');
    }
    out.push(b'\n');
    Ok(())
}

/// Whatever the event is, it takes one line, and no control character reaches a terminal.
fn log_line(content: &[u8], at: Timestamp, level: LogLevel, out: &mut Vec<u8>) {
    let start = out.len();
    // All times are equally long, so that lines can be sorted as texts.
    out.extend_from_slice(format!("{at:.3} {:>5} ", level.name()).as_bytes());
    out.extend_from_slice(content);
    out.iter_mut().skip(start).filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
    out.push(b'\n');
}

fn har_entry(request: &ReplayRequest, at: Timestamp) -> Value {
    let value = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<Value> = request
        .headers
        .iter()
        .map(|(name, bytes)| json!({ "name": name, "value": value(bytes) }))
        .collect();
    let host = request.header("host").map_or_else(|| "unknown.invalid".to_owned(), value);
    let query = rf_core::event::ParsedTarget::parse(&request.target).params;
    let query: Vec<Value> = query
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let mut told = json!({
        "method": request.method,
        "url": format!("http://{host}{}", request.target),
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": headers,
        "queryString": query,
        "headersSize": -1,
        "bodySize": request.body.len(),
    });
    if !request.body.is_empty() {
        let kind = request.header("content-type").map(value).unwrap_or_default();
        told["postData"] = match std::str::from_utf8(&request.body) {
            Ok(text) => json!({ "mimeType": kind, "params": [], "text": text }),
            Err(_binary) => json!({
                "mimeType": kind, "params": [], "text": STANDARD.encode(&request.body), "_encoding": "base64"
            }),
        };
    }
    json!({
        "startedDateTime": at.to_string(),
        "time": 0,
        "request": told,
        "response": {
            "status": 0, "statusText": "", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "content": { "size": 0, "mimeType": "" }, "redirectURL": "", "headersSize": -1, "bodySize": -1,
        },
        "cache": {},
        "timings": { "send": 0, "wait": 0, "receive": 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: FileFormat, content: &str, expected: Result<&str, &str>) {
        let mut out = Vec::new();
        let rendered = format.render(content.as_bytes(), Timestamp::UNIX_EPOCH, &mut out);
        let text = rendered.map(|()| String::from_utf8(out).unwrap());
        match (text, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
            (text, _) => panic!("{content}: {text:?}"),
        }
    }

    #[test]
    fn an_event_is_one_line_of_ndjson() {
        check(FileFormat::Ndjson, r#"{"body":"a\nb"}"#, Ok("{\"body\":\"a\\nb\"}\n"));
        check(FileFormat::Ndjson, "{\r\n\"a\": 1}", Ok("{  \"a\": 1}\n"));
        check(FileFormat::Ndjson, "plain text", Ok("plain text\n"));
        check(FileFormat::Ndjson, "plain\ntext", Err("is not JSON"));
    }

    #[test]
    fn raw_is_the_body_with_a_line_break() {
        check(FileFormat::Raw, r#"{"body":"a\nb"}"#, Ok("a\nb\n"));
        check(FileFormat::Raw, r#"{"body":"a\n"}"#, Ok("a\n"));
        check(FileFormat::Raw, r#"{"body":"YQ==","bodyEncoding":"base64"}"#, Ok("a\n"));
        check(FileFormat::Raw, "plain", Err("not a JSON object"));
    }

    #[test]
    fn a_log_line_is_one_line_whatever_the_event_is() {
        let expected = "1970-01-01T00:00:00.000Z  WARN a b [31m\n";
        check(FileFormat::LogLine(LogLevel::Warn), "a\nb\u{1b}[31m", Ok(expected));
    }

    #[test]
    fn times_of_log_lines_are_equally_long() {
        for (ms, expected) in [(58_349, "58.349Z"), (58_430, "58.430Z"), (58_000, "58.000Z")] {
            let mut out = Vec::new();
            log_line(b"a", Timestamp::from_millisecond(ms).unwrap(), LogLevel::Info, &mut out);
            let line = String::from_utf8(out).unwrap();
            assert_eq!(line, format!("1970-01-01T00:00:{expected}  INFO a\n"));
        }
    }

    #[test]
    fn a_har_is_a_document_of_the_standard() {
        let event = r#"{"method":"POST","path":"/a","params":{"q":["1","2"]},"headers":{"Host":["h:1"],"Content-Type":["text/plain"]},"body":"hi"}"#;
        let mut entry = Vec::new();
        FileFormat::Har.render(event.as_bytes(), Timestamp::UNIX_EPOCH, &mut entry).unwrap();
        let document = [HAR_START.as_bytes(), &entry, b",\n", &entry, HAR_END].concat();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let entries = document["log"]["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        let request = &entries[0]["request"];
        assert_eq!(request["url"], "http://h:1/a?q=1&q=2");
        assert_eq!(request["postData"]["text"], "hi");
        assert_eq!(request["queryString"][1], json!({ "name": "q", "value": "2" }));
        assert_eq!(entries[0]["startedDateTime"], "1970-01-01T00:00:00Z");
    }
}
