//! Bodies on the receiving side: read within a bound, events counted without building them.

use std::io::Read;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Largest body that a bare counterpart takes, compressed or not; our batches stay under 5 MiB.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a whole body of at most [`MAX_BODY_BYTES`].
pub(crate) async fn read(mut body: Incoming) -> anyhow::Result<Bytes> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        anyhow::ensure!(
            (whole.len() + data.len()) as u64 <= MAX_BODY_BYTES,
            "body of over {MAX_BODY_BYTES} bytes"
        );
        // Most bodies come in one frame: those are not copied.
        if first.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// How many strings a body holds that is a JSON array of strings, plain or zstd; 0 of any other body.
pub(crate) fn count_events(body: &[u8], zstd: bool) -> anyhow::Result<u64> {
    if !zstd {
        return Ok(count_strings(body));
    }
    let mut plain = Vec::new();
    zstd::Decoder::new(body)?.take(MAX_BODY_BYTES).read_to_end(&mut plain).context("zstd body")?;
    Ok(count_strings(&plain))
}

/// Counts the closing quotes: all that is needed of an array of strings, at memory speed.
fn count_strings(json: &[u8]) -> u64 {
    if json.first() != Some(&b'[') {
        return 0;
    }
    let mut count = 0;
    let mut inside = false;
    let mut rest = json.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                count += u64::from(inside);
                inside = !inside;
            }
            // The escaped byte is never a quote that counts; the digits of \uXXXX are none either.
            b'\\' if inside => drop(rest.next()),
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: u64) {
        assert_eq!(count_events(json.as_bytes(), false).unwrap(), expected, "{json}");
        let compressed = zstd::encode_all(json.as_bytes(), 1).unwrap();
        assert_eq!(count_events(&compressed, true).unwrap(), expected, "{json} as zstd");
    }

    #[test]
    fn strings_of_an_array_are_counted() {
        check("[]", 0);
        check(r#"["a"]"#, 1);
        check(r#"["a", "", "c"]"#, 3);
        check(r#"["{\"k\":\"v\"}","\\","\\\"","\u0022"]"#, 4);
        check(r#"{"not":"an array"}"#, 0);
        check("", 0);
    }
}
