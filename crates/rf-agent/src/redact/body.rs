//! A body: decoded when it has to be, masked by its shape, then by patterns.

use std::borrow::Cow;

use memchr::memmem;
use rf_net::encoding::{Coding, decode_prefix};

use super::value::Look;
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
            return Redacted::Omitted("its content encoding cannot be searched");
        };
        if coding == Coding::Identity {
            return match self.masked(body, form.content_type, form.is_cut) {
                Err(reason) => Redacted::Omitted(reason),
                Ok(masked) => {
                    let bytes = masked.map_or(Cow::Borrowed(body), Cow::Owned);
                    let redacted =
                        Redacted::Body { bytes, is_cut: form.is_cut, decoded_from: None };
                    self.truncated(redacted, form.max_bytes)
                }
            };
        }
        let most = form.max_bytes.saturating_add(CUT_MARGIN_BYTES);
        let (decoded, is_whole) = decode_prefix(coding, body, most);
        if decoded.is_empty() && !is_whole {
            return Redacted::Omitted("it does not match its content encoding");
        }
        let is_cut = form.is_cut || !is_whole;
        match self.masked(&decoded, form.content_type, is_cut) {
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
    fn masked(
        &self,
        body: &[u8],
        content_type: &[u8],
        is_cut: bool,
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let shaped = mask_shape(body, content_type, self.look(is_cut))?;
        let before = Cow::Borrowed(shaped.as_deref().unwrap_or(body));
        let found = if Kind::of(content_type).may_be_encoded() {
            self.patterns_in_encoded(before)
        } else {
            self.patterns_in(before)
        };
        let masked = match found {
            Cow::Owned(masked) => Some(masked),
            Cow::Borrowed(_) => None,
        };
        Ok(masked.or(shaped))
    }
}

/// What a content type says.
struct Kind(Vec<u8>);

impl Kind {
    fn of(content_type: &[u8]) -> Self {
        Self(content_type.to_ascii_lowercase())
    }

    fn is(&self, word: &[u8]) -> bool {
        memmem::find(&self.0, word).is_some()
    }

    fn is_json(&self) -> bool {
        self.is(b"json") || self.is(b"javascript") || self.is(b"event-stream")
    }

    fn is_xml(&self) -> bool {
        // Documents of office programs are archives.
        self.is(b"xml") && !self.is(b"openxml")
    }

    fn is_text(&self) -> bool {
        self.is_json() || self.is_xml() || self.is(b"x-www-form-urlencoded") || self.is(b"text/")
    }

    /// It says nothing of what the bytes are.
    fn is_unknown(&self) -> bool {
        self.0.is_empty() || self.is(b"octet-stream")
    }

    fn may_be_encoded(&self) -> bool {
        self.0.is_empty() || self.is(b"x-www-form-urlencoded")
    }

    fn may_be_pairs(&self) -> bool {
        self.may_be_encoded() || self.is(b"text/plain") || self.is(b"json")
    }
}

/// The body with its fields masked, by its shape; `None` when there are none in it.
///
/// # Errors
/// Why it cannot be looked into, in words for a person.
pub(super) fn mask_shape(
    body: &[u8],
    content_type: &[u8],
    look: Look<'_>,
) -> Result<Option<Vec<u8>>, &'static str> {
    let kind = Kind::of(content_type);
    if kind.is(b"multipart/") {
        return multipart::mask(body, content_type, look);
    }
    if is_wide(body, &kind) {
        return Err("its character encoding cannot be searched");
    }
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = text.trim_ascii_start().first();
    Ok(if matches!(first, Some(b'{' | b'[')) {
        // A form may begin so, too.
        let is_pairs = kind.may_be_pairs() && !kind.is_json() && !json::is_json(text);
        if is_pairs { form::mask_form(body, look) } else { json::mask(body, look) }
    } else if kind.is_json() && first != Some(&b'<') && body.contains(&b'"') {
        // It may begin with anything: `)]}',`, `while(1);`, the name of a function, `data:`, a comment, a quote; and links may
        // stand outside of the JSON.
        let masked = form::mask_links(body, look);
        json::mask(masked.as_deref().unwrap_or(body), look).or(masked)
    } else if kind.is_xml() || (first == Some(&b'<') && !kind.is(b"html")) {
        let masked = xml::mask(body, look);
        json::mask_names(masked.as_deref().unwrap_or(body), look.fields).or(masked)
    } else if kind.may_be_pairs() {
        let masked = form::mask_form(body, look);
        if kind.may_be_encoded() {
            masked
        } else {
            form::mask_text(masked.as_deref().unwrap_or(body), look).or(masked)
        }
    } else if kind.is_text() {
        // Such as a page with JSON in a script.
        let masked = form::mask_links(body, look);
        json::mask_names(masked.as_deref().unwrap_or(body), look.fields).or(masked)
    } else {
        None
    })
}

/// UTF-16 and UTF-32: names would not be found in them.
fn is_wide(body: &[u8], kind: &Kind) -> bool {
    let is_marked = body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff");
    let begins = matches!(body, [b'{' | b'[' | b'<', 0, ..] | [0, b'{' | b'[' | b'<', ..]);
    if kind.is_text() {
        is_marked || body.contains(&0)
    } else {
        begins || (is_marked && kind.is_unknown())
    }
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
