//! Contents of events inside JSON: parsed without a copy where the text has no escapes, and with one where it has.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

/// Collects the contents of one body.
pub(super) struct Contents<'a> {
    body: &'a Bytes,
    /// All texts that had escapes, one after another; reserved once, since none is longer than it was in the body.
    unescaped: Vec<u8>,
    found: Vec<Content>,
}

enum Content {
    InBody(Bytes),
    Unescaped(Range<usize>),
}

impl<'a> Contents<'a> {
    pub(super) fn new(body: &'a Bytes) -> Contents<'a> {
        Contents { body, unescaped: Vec::new(), found: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// The contents in the order in which they were found.
    pub(super) fn finish(self) -> Vec<Bytes> {
        let unescaped = Bytes::from(self.unescaped);
        let bytes_of = |content| match content {
            Content::InBody(bytes) => bytes,
            Content::Unescaped(range) => unescaped.slice(range),
        };
        self.found.into_iter().map(bytes_of).collect()
    }

    fn push_unescaped(&mut self, text: &[u8]) {
        if self.unescaped.is_empty() {
            self.unescaped.reserve(self.body.len());
        }
        let start = self.unescaped.len();
        self.unescaped.extend_from_slice(&as_text(text));
        self.found.push(Content::Unescaped(start..self.unescaped.len()));
    }
}

/// The text as UTF-8; what is not is replaced by U+FFFD, once for each half of a surrogate pair.
pub(super) fn as_text(bytes: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(bytes).is_ok() {
        return Cow::Borrowed(bytes);
    }
    let mut mended = bytes.to_vec();
    // The JSON parser hands over a lone `\ud800` as the three bytes that UTF-8 would have for it.
    for at in 0..mended.len().saturating_sub(2) {
        if matches!(mended[at..at + 3], [0xED, 0xA0..=0xBF, 0x80..=0xBF]) {
            mended[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
    }
    Cow::Owned(String::from_utf8_lossy(&mended).into_owned().into_bytes())
}

/// Takes one JSON string into the collection.
impl<'de> DeserializeSeed<'de> for &mut Contents<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Asked for bytes, the parser does not refuse halves of surrogate pairs.
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for &mut Contents<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, text: &'de [u8]) -> Result<(), E> {
        if std::str::from_utf8(text).is_ok() {
            self.found.push(Content::InBody(self.body.slice_ref(text)));
        } else {
            self.push_unescaped(text);
        }
        Ok(())
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        self.push_unescaped(text);
        Ok(())
    }
}
