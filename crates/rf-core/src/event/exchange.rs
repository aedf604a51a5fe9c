//! A request that was forwarded, with what came back: further keys behind those of every event, where they say something.
//!
//! | key | when | meaning |
//! | --- | --- | --- |
//! | `bodyBytes` | the body is not kept whole | its true length, as far as it came |
//! | `bodyTruncated` | the same | true: `body` is its beginning |
//! | `bodyDecoded` | it had to be looked into | the coding that was taken off `body` |
//! | `bodyOmitted` | it could not be looked into | why `body` is empty |
//! | `response` | asked for | `status`, `headers`, `body` and the keys above, of the answer |
//! | `timings` | asked for | microseconds from the head of the request |

use super::capture::{CapturedRequest, body, headers, latin1_headers};

/// What has to be said of a body besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyNotes<'a> {
    /// Its true length, when it is not kept whole.
    pub truncated_from: Option<u64>,
    /// The coding that was taken off.
    pub decoded_from: Option<&'a str>,
    /// Why it is not kept at all.
    pub omitted: Option<&'a str>,
}

/// The answer to a captured request.
#[derive(Debug, Clone)]
pub struct CapturedAnswer<'a, H> {
    /// Status code.
    pub status: u16,
    /// Names and values, as those of a request.
    pub headers: H,
    /// The bytes.
    pub body: &'a [u8],
    /// About the body.
    pub notes: BodyNotes<'a>,
    /// Made here, since the upstream gave none.
    pub is_generated: bool,
}

/// When things happened, counted from the head of the request.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Microseconds to the head of the answer.
    pub head_us: u64,
    /// Microseconds to the end of request and answer.
    pub total_us: u64,
}

/// The JSON text of a forwarded request.
pub fn encode_exchange<'a, H>(
    request: CapturedRequest<'a, H>,
    notes: BodyNotes<'_>,
    answer: Option<(CapturedAnswer<'a, H>, Timings)>,
) -> Vec<u8>
where
    H: IntoIterator<Item = (&'a str, &'a [u8])>,
{
    let mut out = request.encode_open();
    write_notes(&mut out, notes);
    if let Some((answer, timings)) = answer {
        out.extend_from_slice(b",\"response\":{\"status\":");
        out.extend_from_slice(answer.status.to_string().as_bytes());
        out.push(b',');
        let latin1 = headers(&mut out, answer.headers);
        out.push(b',');
        body(&mut out, answer.body);
        latin1_headers(&mut out, &latin1);
        write_notes(&mut out, answer.notes);
        if answer.is_generated {
            out.extend_from_slice(b",\"generated\":true");
        }
        let timings = format!(
            "}},\"timings\":{{\"headUs\":{},\"totalUs\":{}}}",
            timings.head_us, timings.total_us
        );
        out.extend_from_slice(timings.as_bytes());
    }
    out.push(b'}');
    out
}

fn write_notes(out: &mut Vec<u8>, notes: BodyNotes<'_>) {
    if let Some(bytes) = notes.truncated_from {
        out.extend_from_slice(format!(",\"bodyBytes\":{bytes},\"bodyTruncated\":true").as_bytes());
    }
    for (key, text) in [("bodyDecoded", notes.decoded_from), ("bodyOmitted", notes.omitted)] {
        if let Some(text) = text {
            out.extend_from_slice(format!(",\"{key}\":").as_bytes());
            serde_json::to_writer(&mut *out, text).expect("writing text to memory cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::event::ReplayRequest;

    #[test]
    fn what_is_known_of_the_answer_stands_behind_the_request() {
        let request = |body| CapturedRequest {
            id: Uuid::nil(),
            captured_at_us: 7,
            ip: "127.0.0.1:1".parse().unwrap(),
            method: "POST",
            target: "/a?b=c",
            headers: [("x-a", &b"1"[..])],
            body,
        };
        let answer = CapturedAnswer {
            status: 201,
            headers: [("x-b", &b"\xff"[..])],
            body: b"\xff",
            notes: BodyNotes { truncated_from: Some(9), ..BodyNotes::default() },
            is_generated: false,
        };
        let notes = BodyNotes { decoded_from: Some("gzip"), ..BodyNotes::default() };
        let timings = Timings { head_us: 1, total_us: 2 };
        let text = encode_exchange(request(b"hi"), notes, Some((answer, timings)));
        let event: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(event["bodyDecoded"], "gzip");
        assert_eq!(
            event["response"],
            json!({
                "status": 201, "headers": {"X-B": ["\u{ff}"]}, "body": "/w==", "bodyEncoding": "base64",
                "latin1Headers": ["X-B"], "bodyBytes": 9, "bodyTruncated": true,
            })
        );
        assert_eq!(event["timings"], json!({"headUs": 1, "totalUs": 2}));
        assert_eq!(ReplayRequest::parse(&text).unwrap().target, "/a?b=c");
        let plain = encode_exchange(request(b"hi"), BodyNotes::default(), None);
        assert_eq!(plain, request(b"hi").encode());
    }

    #[test]
    fn a_body_that_is_not_whole_is_not_replayed() {
        let request = CapturedRequest {
            id: Uuid::nil(),
            captured_at_us: 7,
            ip: "127.0.0.1:1".parse().unwrap(),
            method: "POST",
            target: "/",
            headers: [("x-a", &b"1"[..])],
            body: b"hi",
        };
        let check = |notes: BodyNotes<'_>, expected: &str| {
            let text = encode_exchange(request.clone(), notes, None);
            assert_eq!(ReplayRequest::parse(&text).unwrap_err().to_string(), expected);
        };
        check(
            BodyNotes { truncated_from: Some(9), ..BodyNotes::default() },
            "the body was cut when it was captured: raise maxCaptureBytes of the source to replay such requests",
        );
        check(
            BodyNotes { omitted: Some("why"), ..BodyNotes::default() },
            "the body was left out when it was captured: why",
        );
    }
}
