//! Contents of events inside JSON: parsed without a copy where the text has no escapes, and with one where it has.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::WireError;

/// Texts that had escapes are put together in blocks of this size: few allocations, and none so large that the
/// allocator asks the system for fresh pages each time.
const BLOCK_BYTES: usize = 64 * 1024;

/// What strings may hold.
#[derive(Copy, Clone)]
enum Texts {
    /// Unicode as JSON wants it; the parser is fastest so.
    Strict,
    /// Anything; what is no text is replaced.
    Mended,
}

/// Parses a body with `parse`: strictly first, and only when that fails, so that strings have to be mended.
pub(super) fn parse_contents<T>(
    body: &Bytes,
    parse: impl Fn(Contents<'_>) -> Result<T, WireError>,
) -> Result<T, WireError> {
    match parse(Contents::new(body, Texts::Strict)) {
        Err(WireError::Malformed(_)) => parse(Contents::new(body, Texts::Mended)),
        outcome => outcome,
    }
}

/// Collects the contents of one body.
pub(super) struct Contents<'a> {
    body: &'a Bytes,
    texts: Texts,
    /// The block that is being filled, and where in `found` its first content is.
    block: Vec<u8>,
    in_block: Vec<(usize, Range<usize>)>,
    found: Vec<Bytes>,
}

impl<'a> Contents<'a> {
    fn new(body: &'a Bytes, texts: Texts) -> Contents<'a> {
        Contents { body, texts, block: Vec::new(), in_block: Vec::new(), found: Vec::new() }
    }

    pub(super) fn body(&self) -> &'a Bytes {
        self.body
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// The contents in the order in which they were found.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.close_block();
        self.found
    }

    fn push_unescaped(&mut self, text: &[u8]) {
        if self.block.capacity() - self.block.len() < text.len() {
            self.close_block();
            // A text is no longer than it was in the body, so that a small body needs no whole block.
            self.block.reserve(BLOCK_BYTES.min(self.body.len()).max(text.len()));
        }
        let start = self.block.len();
        self.block.extend_from_slice(text);
        self.in_block.push((self.found.len(), start..self.block.len()));
        // Holds the place until the block is closed.
        self.found.push(Bytes::new());
    }

    fn close_block(&mut self) {
        let block = Bytes::from(std::mem::take(&mut self.block));
        for (place, range) in self.in_block.drain(..) {
            self.found[place] = block.slice(range);
        }
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

/// Takes one JSON string into the collection; a null is an empty one, as for the original.
impl<'de> DeserializeSeed<'de> for &mut Contents<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for &mut Contents<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.found.push(Bytes::new());
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.texts {
            Texts::Strict => deserializer.deserialize_str(self),
            // Asked for bytes, the parser does not refuse halves of surrogate pairs.
            Texts::Mended => deserializer.deserialize_bytes(self),
        }
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.found.push(self.body.slice_ref(text.as_bytes()));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.push_unescaped(text.as_bytes());
        Ok(())
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        self.push_unescaped(&as_text(text));
        Ok(())
    }
}
