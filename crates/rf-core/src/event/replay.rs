//! An event becomes a request again.
//!
//! Written by our proxies, by the original's, or by a script: keys may be missing, a header may be a plain string instead
//! of a list, and values may be numbers. The keys that we add to the original's may be others' with another meaning: of another
//! type than ours they count as missing. What cannot be a request at all is a [`MalformedEvent`].

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::target::{ParsedTarget, build_target};
use crate::json;
use crate::lenient::lenient;

/// A request that can be sent to any host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The method, as captured.
    pub method: String,
    /// Path and query for the request line: as captured, unless a script changed `path` or `params`.
    pub target: String,
    /// Names and value bytes, repeats as repeats.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body's bytes.
    pub body: Bytes,
    /// The id set at the source, when there is one.
    pub id: Option<Uuid>,
    /// Microseconds since 1970, when the event says so.
    pub captured_at_us: Option<u64>,
}

/// Why an event cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEvent {
    /// Something else than a JSON object.
    #[error("the event is not a JSON object")]
    NoObject,
    /// Not a JSON object of the event's form.
    #[error("the event is not a JSON object that describes a request: {0}")]
    Json(String),
    /// The body says base64 and is not.
    #[error("the event's body is marked as base64 but is invalid: {0}")]
    Base64(String),
    /// Only the beginning of the body was kept: the target would take it for the whole.
    #[error(
        "the body was cut when it was captured: raise maxCaptureBytes of the source to replay such requests"
    )]
    Cut,
    /// The body was not kept.
    #[error("the body was left out when it was captured: {0}")]
    Omitted(String),
}

impl ReplayRequest {
    /// Reads an event's JSON text.
    ///
    /// # Errors
    /// [`MalformedEvent`]: retrying is of no use.
    pub fn parse(content: &[u8]) -> Result<Self, MalformedEvent> {
        let wire: Wire = read(content)?;
        if wire.body_truncated {
            return Err(MalformedEvent::Cut);
        }
        if let Some(reason) = wire.body_omitted {
            return Err(MalformedEvent::Omitted(reason));
        }
        let target = wire.target();
        let body = match wire.body_encoding.as_deref() {
            Some("base64") => STANDARD
                .decode(wire.body.0.as_bytes())
                .map_err(|error| MalformedEvent::Base64(error.to_string()))?,
            _ => wire.body.0.into_bytes(),
        };
        let latin1: HashSet<String> =
            wire.latin1_headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        let is_latin1 =
            |name: &str| !latin1.is_empty() && latin1.contains(&name.to_ascii_lowercase());
        let mut headers = Vec::with_capacity(wire.headers.0.len());
        for (name, values) in &wire.headers.0 {
            let latin1 = is_latin1(name);
            headers.extend(values.iter().map(|value| (name.clone(), header_bytes(value, latin1))));
        }
        Ok(Self {
            method: if wire.method.0.is_empty() {
                "GET".to_owned()
            } else {
                wire.method.0.to_uppercase()
            },
            target,
            headers,
            body: body.into(),
            id: wire.event_id.and_then(|id| Uuid::parse_str(&id).ok()),
            captured_at_us: wire.captured_at_us,
        })
    }

    /// The first value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

/// What `T` reads of an event's JSON text. To serde a list would do, too: its elements by their places.
pub(super) fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T, MalformedEvent> {
    if content.trim_ascii_start().first() != Some(&b'{') {
        return Err(MalformedEvent::NoObject);
    }
    json::from_slice(content).map_err(|error| MalformedEvent::Json(error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    method: Text,
    #[serde(default)]
    path: Text,
    #[serde(default)]
    params: Lists,
    #[serde(default)]
    headers: Lists,
    #[serde(default)]
    body: Text,
    #[serde(default, deserialize_with = "lenient")]
    body_encoding: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    target: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    latin1_headers: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    event_id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    captured_at_us: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    body_truncated: bool,
    #[serde(default, deserialize_with = "lenient")]
    body_omitted: Option<String>,
}

impl Wire {
    fn target(&self) -> String {
        if let Some(target) = &self.target {
            let mut captured = ParsedTarget::parse(target);
            captured.params.sort();
            let mut params = self.params.0.clone();
            params.sort();
            let is_sendable =
                target.starts_with('/') && !target.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
            if is_sendable && captured.path == self.path.0 && captured.params == params {
                return target.clone();
            }
        }
        build_target(&self.path.0, &self.params.0)
    }
}

/// Captured bytes above ASCII: one a character. A script may have put other characters in; they go as UTF-8.
fn header_bytes(value: &str, latin1: bool) -> Vec<u8> {
    let bytes: Option<Vec<u8>> =
        latin1.then(|| value.chars().map(|c| u8::try_from(c).ok()).collect()).flatten();
    bytes.unwrap_or_else(|| value.as_bytes().to_vec())
}

/// A text; numbers, booleans, objects and lists as their JSON text, null as nothing.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if raw.starts_with('"') {
            return serde_json::from_str(raw).map(Self).map_err(serde::de::Error::custom);
        }
        Ok(Self(if raw == "null" { String::new() } else { raw.to_owned() }))
    }
}

/// name -> list of texts, or one text; a list, as Lua writes an empty table, is taken as empty.
#[derive(Debug, Default)]
struct Lists(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListsVisitor)
    }
}

struct ListsVisitor;

impl<'de> Visitor<'de> for ListsVisitor {
    type Value = Lists;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of names and lists of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(8));
        while let Some(name) = map.next_key::<String>()? {
            let raw: &RawValue = map.next_value()?;
            let values: Vec<Text> = if raw.get().starts_with('[') {
                serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?
            } else {
                vec![serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?]
            };
            entries.push((name, values.into_iter().map(|text| text.0).collect()));
        }
        Ok(Lists(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lists, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lists::default())
    }

    fn visit_unit<E>(self) -> Result<Lists, E> {
        Ok(Lists::default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CapturedRequest, StoredCall};
    use super::*;

    /// Keys of ours with another meaning.
    const OTHERS_KEYS: &str = r#"{"method":"POST","path":"/x","body":"hi","target":{"host":"a"},"eventId":42,
        "capturedAtUs":1.5,"bodyEncoding":7,"latin1Headers":"X-A","bodyTruncated":"no","bodyOmitted":[]}"#;

    fn roundtrip(
        method: &str,
        target: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> (String, ReplayRequest) {
        let id = Uuid::from_u128(7);
        let ip = "127.0.0.1:5000".parse().expect("address");
        let headers = headers.iter().copied();
        let content =
            CapturedRequest { id, captured_at_us: 12, ip, method, target, headers, body }.encode();
        let replay = ReplayRequest::parse(&content).expect("parse");
        assert_eq!((replay.id, replay.captured_at_us), (Some(id), Some(12)));
        (String::from_utf8(content).expect("events are text"), replay)
    }

    #[test]
    fn an_event_reads_as_the_original_wrote_it() {
        let (text, _) = roundtrip(
            "POST",
            "/a%2Fb?x=1&x=2",
            &[("content-type", b"text/plain"), ("x-a", b"1"), ("X-A", b"2")],
            b"hi\n",
        );
        insta::assert_snapshot!(text, @r#"{"ip":"127.0.0.1:5000","method":"POST","path":"/a/b","params":{"x":["1","2"]},"headers":{"Content-Type":["text/plain"],"X-A":["1","2"]},"body":"hi\n","target":"/a%2Fb?x=1&x=2","eventId":"00000000-0000-0000-0000-000000000007","capturedAtUs":12}"#);
    }

    #[test]
    fn every_byte_comes_back() {
        let body: Vec<u8> = (0..=255).collect();
        for target in [
            "/",
            "//x//",
            "/a%2Fb",
            "/?",
            "/?a&b=&c=1&a=2",
            "/%FF?x=%FF",
            "/a b",
            "/x?y=1+2%20",
            "/a|b^c\"{}",
        ] {
            let (_, replay) = roundtrip(
                "PURGE",
                target,
                &[("X-L", b"caf\xe9"), ("X-L", "é".as_bytes()), ("X-U", "é".as_bytes())],
                &body,
            );
            assert_eq!(replay.target, if target == "/a b" { "/a%20b" } else { target });
            assert_eq!(replay.body, body);
            assert_eq!(replay.method, "PURGE");
            let values: Vec<_> = replay.headers.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(
                values,
                [b"caf\xe9".to_vec(), "é".as_bytes().to_vec(), "é".as_bytes().to_vec()]
            );
        }
    }

    #[test]
    fn what_scripts_and_the_original_write_is_read() {
        let check = |event: &str, method: &str, target: &str, body: &str| {
            let replay = ReplayRequest::parse(event.as_bytes()).expect(event);
            assert_eq!(
                (replay.method.as_str(), replay.target.as_str(), &replay.body[..]),
                (method, target, body.as_bytes())
            );
            replay
        };
        check("{}", "GET", "/", "");
        check(
            r#"{"method":"post","path":"/x","params":[],"headers":[],"body":null}"#,
            "POST",
            "/x",
            "",
        );
        check(
            r#"{"path":"/x","params":{"a":"b c"},"body":{"k":1}}"#,
            "GET",
            "/x?a=b%20c",
            r#"{"k":1}"#,
        );
        check(
            r#"{"path":"/changed","target":"/x?q=1","params":{"q":["1"]}}"#,
            "GET",
            "/changed?q=1",
            "",
        );
        check(OTHERS_KEYS, "POST", "/x", "hi");
        check(r#"{"path":"/x","body":"cut \ud83d"}"#, "GET", "/x", "cut \u{fffd}");
        let replay =
            check(r#"{"headers":{"X-One":"plain","X-Two":["a","b"],"X-N":5}}"#, "GET", "/", "");
        assert_eq!(replay.header("x-one"), Some(&b"plain"[..]));
        assert_eq!(replay.header("X-N"), Some(&b"5"[..]));
    }

    /// Whoever holds a bucket's token decides how many names an event has. If each name were looked for among all others,
    /// either event would take minutes.
    #[test]
    fn an_event_of_many_names_is_read_at_once() {
        const NAMES: usize = 200_000;
        let list = |with: &str| -> Vec<String> {
            (0..NAMES).map(|n| with.replace('N', &n.to_string())).collect()
        };
        let target = format!("/a%20b?{}", list("nN=1").join("&"));
        let params = list(r#""nN":["1"]"#).join(",");
        let event = format!(r#"{{"path":"/a b","params":{{{params}}},"target":"{target}"}}"#);
        assert_eq!(ReplayRequest::parse(event.as_bytes()).expect("an event").target, target);
        let headers = list(r#""X-N":["\u00e9"]"#).join(",");
        let names = list(r#""x-N""#).join(",");
        let event = format!(r#"{{"headers":{{{headers}}},"latin1Headers":[{names}]}}"#);
        let replay = ReplayRequest::parse(event.as_bytes()).expect("an event");
        assert_eq!(replay.headers.len(), NAMES);
        assert!(replay.headers.iter().all(|(_, value)| value == b"\xe9"));
    }

    #[test]
    fn what_is_no_request_is_said_so() {
        for event in ["plain text", "", "7", "[]", r#" ["POST","/x",{},{},"body"]"#] {
            let error = ReplayRequest::parse(event.as_bytes()).expect_err(event);
            assert_eq!(error.to_string(), "the event is not a JSON object", "{event}");
            assert_eq!(StoredCall::parse(event.as_bytes()).expect_err(event), error);
        }
        assert!(matches!(ReplayRequest::parse(b"{plain"), Err(MalformedEvent::Json(_))));
        assert!(matches!(
            ReplayRequest::parse(br#"{"body":"%%","bodyEncoding":"base64"}"#),
            Err(MalformedEvent::Base64(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _outcome = ReplayRequest::parse(&bytes).is_ok();
        }

        #[test]
        fn any_body_and_value_survive(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), value in proptest::collection::vec(0x20u8..=255, 0..40)) {
            let (_, replay) = roundtrip("POST", "/p", &[("X-V", &value)], &body);
            assert_eq!(replay.body, body);
            assert_eq!(replay.headers[0].1, value);
        }
    }
}
