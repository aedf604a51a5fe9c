//! An event as a sink reads it that keeps its body: without headers and parameters, which are most of the work.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use uuid::Uuid;

use super::replay::{MalformedEvent, Text, read};
use crate::lenient::lenient;

/// What was called, and with which body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCall {
    /// In upper case; GET where the event names none.
    pub method: String,
    /// Decoded, as scripts see it.
    pub path: String,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// The id set at the source, when there is one.
    pub id: Option<Uuid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    method: Text,
    #[serde(default)]
    path: Text,
    #[serde(default)]
    body: Text,
    #[serde(default, deserialize_with = "lenient")]
    body_encoding: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    event_id: Option<String>,
}

impl StoredCall {
    /// Reads an event's JSON text; what scripts and the original write is read as by
    /// [`ReplayRequest`](super::ReplayRequest).
    ///
    /// # Errors
    /// [`MalformedEvent`]: retrying is of no use.
    pub fn parse(content: &[u8]) -> Result<Self, MalformedEvent> {
        let wire: Wire = read(content)?;
        let body = match wire.body_encoding.as_deref() {
            Some("base64") => STANDARD
                .decode(wire.body.0.as_bytes())
                .map_err(|error| MalformedEvent::Base64(error.to_string()))?,
            _ => wire.body.0.into_bytes(),
        };
        let method = wire.method.0;
        Ok(Self {
            method: if method.is_empty() { "GET".to_owned() } else { method.to_uppercase() },
            path: wire.path.0,
            body,
            id: wire.event_id.and_then(|id| Uuid::parse_str(&id).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ParsedTarget, ReplayRequest};
    use super::*;

    #[test]
    fn it_reads_what_a_replay_reads() {
        for event in [
            "{}",
            r#"{"ip":"1.2.3.4:5","method":"POST","path":"/a","params":{"x":["1"]},"headers":{"A":["b"]},"body":"hi"}"#,
            r#"{"method":"put","path":"/b c","body":{"k":1},"params":[],"headers":[]}"#,
            r#"{"method":"POST","path":"ts_gauge_x_60s","body":null,"eventId":"00000000-0000-0000-0000-000000000007"}"#,
            r#"{"method":"POST","path":"/x","body":"AP8=","bodyEncoding":"base64","eventId":"no id"}"#,
            r#"{"method":"POST","path":"/x","body":"hi","bodyEncoding":7,"eventId":42}"#,
            r#"{"method":"POST","path":"/x","body":"cut \ud83d"}"#,
            r#"{"method":"POST","path":"/\u00fc\n","body":"\"quoted\" \ud83d\ude00"}"#,
        ] {
            let call = StoredCall::parse(event.as_bytes()).expect(event);
            let replay = ReplayRequest::parse(event.as_bytes()).expect(event);
            assert_eq!((&call.method, call.id), (&replay.method, replay.id), "{event}");
            assert_eq!(call.body, replay.body, "{event}");
            let path = ParsedTarget::parse(&replay.target).path;
            assert_eq!(call.path.trim_start_matches('/'), path.trim_start_matches('/'), "{event}");
        }
        assert!(matches!(StoredCall::parse(b"{plain"), Err(MalformedEvent::Json(_))));
        let broken = br#"{"body":"%%","bodyEncoding":"base64"}"#;
        assert!(matches!(StoredCall::parse(broken), Err(MalformedEvent::Base64(_))));
    }
}
