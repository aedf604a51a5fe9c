//! A body: decoded when it has to be, masked by its shape, then by patterns.

use std::borrow::Cow;

use rf_net::encoding::{Coding, decode_prefix};

use super::{CUT_MARGIN_BYTES, Redactor, form, json, multipart, xml};

/// What the headers say of a body, and how much of it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyForm<'a> {
    /// `Content-Type`; empty when there is none.
    pub(crate) content_type: &'a [u8],
    /// `Content-Encoding`, all values; empty when there is none.
    pub(crate) content_encoding: &'a [u8],
    /// Some of it is missing at its end.
    pub(crate) is_cut: bool,
    /// Bytes that are kept at the most.
    pub(crate) max_bytes: usize,
}

/// A body that may be written.
#[derive(Debug, PartialEq)]
pub(crate) enum Redacted<'a> {
    /// As it came, perhaps masked.
    Body {
        /// Its bytes.
        bytes: Cow<'a, [u8]>,
        /// Some of it is missing at its end.
        is_cut: bool,
        /// The coding that was taken off; the bytes are what it held.
        decoded_from: Option<&'static str>,
    },
    /// It could not be looked into, so it is not kept. Why, in words for a person.
    Omitted(&'static str),
}

impl Redactor {
    /// The body as it may be written.
    pub(crate) fn body<'a>(&self, body: &'a [u8], form: BodyForm<'_>) -> Redacted<'a> {
        let as_it_came =
            |is_cut| Redacted::Body { bytes: Cow::Borrowed(body), is_cut, decoded_from: None };
        if body.is_empty() || !self.looks_into_bodies() {
            return self.truncated(as_it_came(form.is_cut), form.max_bytes);
        }
        let Some(coding) = Coding::parse(form.content_encoding) else {
            return Redacted::Omitted("its content encoding cannot be looked into");
        };
        if coding == Coding::Identity {
            return match self.masked(body, form.content_type) {
                Err(reason) => Redacted::Omitted(reason),
                Ok(masked) => {
                    let bytes = masked.map_or(Cow::Borrowed(body), Cow::Owned);
                    let redacted =
                        Redacted::Body { bytes, is_cut: form.is_cut, decoded_from: None };
                    self.truncated(redacted, form.max_bytes)
                }
            };
        }
        let (decoded, is_whole) = decode_prefix(coding, body, form.max_bytes + CUT_MARGIN_BYTES);
        if decoded.is_empty() && !is_whole {
            return Redacted::Omitted("it is not what its content encoding says");
        }
        let is_cut = form.is_cut || !is_whole;
        match self.masked(&decoded, form.content_type) {
            Err(reason) => Redacted::Omitted(reason),
            // Nothing to hide: the bytes as they came are the better copy.
            Ok(None) if !is_cut && body.len() <= form.max_bytes => as_it_came(false),
            Ok(masked) => {
                let bytes = Cow::Owned(masked.unwrap_or(decoded));
                let redacted = Redacted::Body { bytes, is_cut, decoded_from: Some(coding.name()) };
                self.truncated(redacted, form.max_bytes)
            }
        }
    }

    /// At most `max_bytes` of it. What a pattern would have matched may lie across the end of a cut body: its last bytes
    /// are not kept then.
    fn truncated<'a>(&self, redacted: Redacted<'a>, max_bytes: usize) -> Redacted<'a> {
        let Redacted::Body { bytes, is_cut, decoded_from } = redacted else { return redacted };
        let unsure = if is_cut && !self.patterns.is_empty() { CUT_MARGIN_BYTES } else { 0 };
        let max_bytes = max_bytes.min(bytes.len().saturating_sub(unsure));
        if bytes.len() <= max_bytes {
            return Redacted::Body { bytes, is_cut, decoded_from };
        }
        let bytes = match bytes {
            Cow::Borrowed(all) => Cow::Borrowed(truncate(all, max_bytes)),
            Cow::Owned(mut all) => {
                all.truncate(truncate(&all, max_bytes).len());
                Cow::Owned(all)
            }
        };
        Redacted::Body { bytes, is_cut: true, decoded_from }
    }

    /// `None` when there is nothing to mask.
    fn masked(&self, body: &[u8], content_type: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        let kind = content_type.to_ascii_lowercase();
        let is = |word: &[u8]| memchr::memmem::find(&kind, word).is_some();
        let body_text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let first = body_text.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        let names = [&self.fields, &self.query];
        let is_json = is(b"json") || is(b"javascript") || is(b"event-stream");
        let is_text = is_json || is(b"form") || is(b"xml") || is(b"text/");
        // UTF-16 and UTF-32: names would not be found in them.
        let is_wide =
            body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff") || body.contains(&0);
        if is_text && is_wide && !is(b"multipart/") {
            return Err("its characters cannot be looked into");
        }
        let shaped = if is(b"multipart/") {
            boundary(content_type).and_then(|boundary| multipart::mask(body, boundary, &names))
        } else if matches!(first, Some(b'{' | b'['))
            || (is_json && first != Some(b'<') && body.contains(&b'"'))
        {
            // It may begin with anything: `)]}',`, `while(1);`, the name of a function, `data:`, a comment, a quote.
            self.masked_json(body)
        } else if is(b"xml") || (first == Some(b'<') && !is(b"html")) {
            xml::mask(body, &self.fields)
        } else if kind.is_empty()
            || is(b"x-www-form-urlencoded")
            || is(b"text/plain")
            || is(b"json")
        {
            let form = form::mask(body, &names);
            self.masked_json(form.as_deref().unwrap_or(body)).or(form)
        } else {
            None
        };
        let before = shaped.as_deref().unwrap_or(body);
        Ok(match self.patterns_in(Cow::Borrowed(before)) {
            Cow::Owned(masked) => Some(masked),
            Cow::Borrowed(_) => shaped,
        })
    }

    /// Fields of text that is JSON, or has JSON somewhere in it.
    fn masked_json(&self, text: &[u8]) -> Option<Vec<u8>> {
        let masked = json::mask(text, &self.fields);
        json::mask_names(masked.as_deref().unwrap_or(text), &self.fields).or(masked)
    }
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(&content_type.to_ascii_lowercase(), b"boundary=")? + 9;
    let rest = &content_type[at..];
    let boundary = match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => rest.split(|byte| matches!(byte, b';' | b' ')).next(),
    };
    boundary.filter(|boundary| !boundary.is_empty())
}

/// At most `max_bytes` from the start; text is not cut within a character, so that it stays text.
pub(crate) fn truncate(bytes: &[u8], max_bytes: usize) -> &[u8] {
    let cut = bytes.get(..max_bytes).unwrap_or(bytes);
    match std::str::from_utf8(cut) {
        // Less than a character is missing at the end.
        Err(error) if error.error_len().is_none() && cut.len() < bytes.len() => {
            cut.get(..error.valid_up_to()).unwrap_or(cut)
        }
        _ => cut,
    }
}
