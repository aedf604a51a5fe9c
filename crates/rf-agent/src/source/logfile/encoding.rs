//! Bytes become text. Nothing stops it: what is no text in an encoding becomes U+FFFD.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

/// `encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub(crate) enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, the low byte first.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// UTF-16, the high byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// ISO 8859-1: each byte is a character.
    #[serde(rename = "latin-1")]
    Latin1,
}

/// A line's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) text: Cow<'a, str>,
    /// Some bytes were no text.
    pub(super) broken: bool,
}

impl Encoding {
    /// Bytes of the shortest character.
    pub(super) fn unit(self) -> usize {
        match self {
            Self::Utf8 | Self::Latin1 => 1,
            Self::Utf16Le | Self::Utf16Be => 2,
        }
    }

    /// Where the first line in `bytes` ends, without its break; the break is one unit.
    pub(super) fn line_end(self, bytes: &[u8]) -> Option<usize> {
        let wide = |low: usize| {
            memchr::memchr_iter(b'\n', bytes).find_map(|at| {
                let start = at.checked_sub(low)?;
                let unit = bytes.get(start..start + 2)?;
                (start % 2 == 0 && unit[1 - low] == 0).then_some(start)
            })
        };
        match self {
            Self::Utf8 | Self::Latin1 => memchr::memchr(b'\n', bytes),
            Self::Utf16Le => wide(0),
            Self::Utf16Be => wide(1),
        }
    }

    /// The most of `bytes`, up to `max`, that ends with a whole character.
    pub(super) fn cut(self, bytes: &[u8], max: usize) -> usize {
        let max = max.min(bytes.len());
        match self {
            Self::Utf8 => {}
            Self::Latin1 => return max,
            Self::Utf16Le => return cut_wide(bytes, max, u16::from_le_bytes),
            Self::Utf16Be => return cut_wide(bytes, max, u16::from_be_bytes),
        }
        let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        (max.saturating_sub(3)..=max)
            .rev()
            .find(|at| !is_inside(*at))
            .filter(|at| *at > 0)
            .unwrap_or(max)
    }

    /// Without a carriage return at its end and a byte order mark at its beginning.
    pub(super) fn decode(self, bytes: &[u8]) -> Decoded<'_> {
        let mut decoded = match self {
            Self::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => Decoded { text: Cow::Borrowed(text), broken: false },
                Err(_) => Decoded { text: String::from_utf8_lossy(bytes), broken: true },
            },
            Self::Latin1 => Decoded {
                text: bytes.iter().map(|byte| char::from(*byte)).collect(),
                broken: false,
            },
            Self::Utf16Le => decode_wide(bytes, u16::from_le_bytes),
            Self::Utf16Be => decode_wide(bytes, u16::from_be_bytes),
        };
        if decoded.text.ends_with('\r') || decoded.text.starts_with('\u{FEFF}') {
            let strip = |text: &str| -> usize { text.strip_suffix('\r').unwrap_or(text).len() };
            let mark = if decoded.text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
            let end = strip(&decoded.text).max(mark);
            decoded.text = match decoded.text {
                Cow::Borrowed(text) => Cow::Borrowed(text.get(mark..end).unwrap_or_default()),
                Cow::Owned(text) => Cow::Owned(text.get(mark..end).unwrap_or_default().to_owned()),
            };
        }
        decoded
    }
}

/// Between two units, but not between those of one character.
fn cut_wide(bytes: &[u8], max: usize, unit: fn([u8; 2]) -> u16) -> usize {
    let end = max - max % 2;
    let last = bytes.get(..end).and_then(<[u8]>::last_chunk::<2>);
    let is_half = last.is_some_and(|last| (0xD800..0xDC00).contains(&unit(*last)));
    if is_half { end - 2 } else { end }
}

fn decode_wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Decoded<'static> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut broken = !odd.is_empty();
    let characters = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
    let mut text: String = characters
        .map(|character| {
            character.unwrap_or_else(|_lone| {
                broken = true;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    if !odd.is_empty() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    Decoded { text: Cow::Owned(text), broken }
}
