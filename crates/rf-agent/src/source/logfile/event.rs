//! A text becomes an event: the original's keys with the line as JSON inside of the body, and ours behind them.
//!
//! Most of an event is the same for every line, so it is put together from pieces that were made once.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rf_core::event::{ParsedTarget, build_target};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::lines::Piece;

/// What is the same in all events of a source.
#[derive(Debug, Clone)]
pub(super) struct EventTemplate {
    /// Up to the line's text.
    head: Vec<u8>,
    /// From the body's end to the file; empty for most paths.
    target: Vec<u8>,
}

impl EventTemplate {
    pub(super) fn new(path: &str) -> Self {
        let parsed = ParsedTarget::parse(path);
        let params: Map<String, Value> =
            parsed.params.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
        let mut head = b"{\"ip\":\"127.0.0.1\",\"method\":\"POST\",\"path\":".to_vec();
        head.extend_from_slice(json!(parsed.path).to_string().as_bytes());
        head.extend_from_slice(b",\"params\":");
        head.extend_from_slice(Value::Object(params).to_string().as_bytes());
        head.extend_from_slice(b",\"headers\":{\"Content-Type\":[\"application/json\"]}");
        head.extend_from_slice(b",\"body\":\"{\\\"content\\\":\\\"");
        let needs_target =
            build_target(&parsed.path, &parsed.params) != path || !parsed.params.is_empty();
        let target =
            if needs_target { format!(",\"target\":{}", json!(path)) } else { String::new() };
        Self { head, target: target.into_bytes() }
    }

    /// What is the same in all events of a file.
    pub(super) fn file(&self, path: &Path) -> Vec<u8> {
        let file = format!(",\"file\":{},\"eventId\":\"", json!(path.to_string_lossy()));
        [self.target.as_slice(), file.as_bytes()].concat()
    }

    /// Writes an event; `file` is [`Self::file`] of its file.
    pub(super) fn write(&self, out: &mut Vec<u8>, piece: &Piece<'_>, file: &[u8], now_us: &[u8]) {
        out.extend_from_slice(&self.head);
        escape_twice(out, piece.text.as_bytes());
        out.extend_from_slice(b"\\\"");
        if let Some(bytes) = piece.broken {
            out.extend_from_slice(b",\\\"contentBase64\\\":\\\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\\\"");
        }
        let marks = [
            (piece.partial, &b"partial"[..]),
            (piece.continued, b"continued"),
            (piece.truncated, b"truncated"),
        ];
        for (_, mark) in marks.iter().filter(|(is_set, _)| *is_set) {
            out.extend_from_slice(b",\\\"");
            out.extend_from_slice(mark);
            out.extend_from_slice(b"\\\":true");
        }
        out.extend_from_slice(b"}\"");
        out.extend_from_slice(file);
        let id = Uuid::now_v7();
        out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        out.extend_from_slice(b"\",\"capturedAtUs\":");
        out.extend_from_slice(now_us);
        out.push(b'}');
    }
}

/// Bytes that stand for themselves in a JSON text.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Writes text as it stands in a JSON string that itself stands in a JSON string.
fn escape_twice(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if PLAIN[usize::from(byte)] {
            continue;
        }
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\\\\\""),
            b'\\' => out.extend_from_slice(b"\\\\\\\\"),
            b'\n' => out.extend_from_slice(b"\\\\n"),
            b'\r' => out.extend_from_slice(b"\\\\r"),
            b'\t' => out.extend_from_slice(b"\\\\t"),
            _ => {
                out.extend_from_slice(b"\\\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn event(path: &str, piece: &Piece<'_>) -> Value {
        let template = EventTemplate::new(path);
        let mut out = Vec::new();
        template.write(&mut out, piece, &template.file(Path::new("/var/log/a \"b\".log")), b"17");
        let mut event: Value = serde_json::from_slice(&out).unwrap();
        let id = event.as_object_mut().unwrap().remove("eventId").unwrap();
        assert_eq!(Uuid::parse_str(id.as_str().unwrap()).unwrap().get_version_num(), 7);
        event
    }

    fn check_content(text: &str) {
        let event = event("/", &Piece::of(Cow::Borrowed(text)));
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        assert_eq!(body, json!({ "content": text }));
    }

    #[test]
    fn the_event_is_the_originals_with_our_keys() {
        let found = event("/logs", &Piece::of(Cow::Borrowed("a \"line\"")));
        let expected = json!({
            "ip": "127.0.0.1", "method": "POST", "path": "/logs", "params": {},
            "headers": { "Content-Type": ["application/json"] },
            "body": "{\"content\":\"a \\\"line\\\"\"}",
            "file": "/var/log/a \"b\".log", "capturedAtUs": 17,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn every_text_comes_back() {
        check_content("");
        check_content("plain");
        check_content("\\ \\\\ \" \\\" \u{0}\u{1}\u{1f}\u{7f}\t\r\n\u{8}\u{c} é 漢字 😀 \u{2028}");
        check_content(&(0..0x300_u32).filter_map(char::from_u32).collect::<String>());
    }

    #[test]
    fn marks_stand_in_the_body() {
        let piece = Piece {
            partial: true,
            continued: true,
            truncated: true,
            broken: Some(b"\xff"),
            ..Piece::of("x".into())
        };
        let found = event("/", &piece);
        let body: Value = serde_json::from_str(found["body"].as_str().unwrap()).unwrap();
        let expected = json!({
            "content": "x", "contentBase64": "/w==", "partial": true, "continued": true, "truncated": true,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_path_with_a_query_is_replayed_as_it_stands() {
        for path in ["/a?x=1&x=2", "/a%2Fb", "logs", "/"] {
            let text = event(path, &Piece::of("x".into())).to_string();
            let replay = rf_core::event::ReplayRequest::parse(text.as_bytes()).unwrap();
            let expected = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            assert_eq!(replay.target.trim_start_matches('/'), expected.trim_start_matches('/'));
        }
    }
}
