//! Redaction: secrets are masked before the first byte of an event is written anywhere.
//!
//! What is looked at: values of named headers, of named query parameters (also of URLs within other values), user info of
//! URLs, named fields in JSON, form, multipart and XML bodies, and whatever matches a pattern, in targets, header values and
//! bodies.
//!
//! Promises:
//! - it holds for bodies that were cut: nothing here needs the end of a body to find what is in it;
//! - it holds for coded bodies: gzip and zstd are looked into within a bound, and a body that cannot be looked into is
//!   left out and marked rather than kept unseen;
//! - everything that is not masked stays as it was, byte for byte; a text within a text (such as JSON in a parameter) is
//!   written anew where something in it is masked.
//!
//! Must not know: sources, events. Reading order: [`config`] (what a file says), [`names`] (which name is meant),
//! `json`, `form`, `multipart` and `xml` (one shape of body each), `value` (texts within texts), [`body`] (which of them a
//! body is). `rewrite` replaces parts of a text.

mod body;
mod config;
mod form;
mod json;
mod multipart;
mod names;
#[cfg(test)]
mod properties;
mod rewrite;
#[cfg(test)]
mod tests;
mod value;
mod xml;

use std::borrow::Cow;

use regex::bytes::{NoExpand, Regex};

pub(crate) use body::{BodyForm, Redacted, truncate};
pub(crate) use config::{Defaults, RedactConfig};
use names::{Fields, Names};
use value::Look;

/// Stands where a secret was.
pub(crate) const MASK: &str = "***";

/// How far a body must be known behind the place where it is cut, so that a pattern is found that lies across the cut.
pub(crate) const CUT_MARGIN_BYTES: usize = 4 * 1024;

/// So often a text is percent-decoded at the most to find what a pattern matches.
const MAX_DECODED: usize = 3;

/// What is masked, ready to be used.
#[derive(Debug)]
pub(crate) struct Redactor {
    headers: Names,
    query: Fields,
    /// Fields of bodies; forms are also masked by the names of `query`.
    fields: Fields,
    patterns: Vec<Regex>,
}

impl Redactor {
    /// The target of a request line, path and query.
    pub(crate) fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        match self.url(target.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(target),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// A header's value.
    pub(crate) fn header<'a>(&self, name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
        if self.headers.contains(name.as_bytes()) {
            return Cow::Borrowed(MASK.as_bytes());
        }
        self.url(value)
    }

    fn url<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let masked = form::mask_url(text, self.look(false));
        self.patterns_in_encoded(masked.map_or(Cow::Borrowed(text), Cow::Owned))
    }

    fn look(&self, is_cut: bool) -> Look<'_> {
        Look::new(&self.fields, &self.query, is_cut)
    }

    /// Whether bodies have to be looked into.
    fn looks_into_bodies(&self) -> bool {
        !self.fields.is_empty() || !self.query.is_empty() || !self.patterns.is_empty()
    }

    fn patterns_in<'a>(&self, text: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        self.patterns.iter().fold(text, |text, pattern| {
            if !pattern.is_match(&text) {
                return text;
            }
            Cow::Owned(pattern.replace_all(&text, NoExpand(MASK.as_bytes())).into_owned())
        })
    }

    /// Patterns also find what is percent-encoded: a segment or a value is then masked as a whole.
    fn patterns_in_encoded<'a>(&self, url: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        let url = self.patterns_in(url);
        if self.patterns.is_empty() || !url.contains(&b'%') {
            return url;
        }
        let is_hit = |part: &[u8]| {
            let mut decoded = form::decoded(part);
            for _ in 0..MAX_DECODED {
                if self.patterns.iter().any(|pattern| pattern.is_match(&decoded)) {
                    return true;
                }
                let Cow::Owned(again) = form::decoded(&decoded) else { return false };
                decoded = Cow::Owned(again);
            }
            false
        };
        let mut out = Vec::with_capacity(url.len());
        let mut is_changed = false;
        for piece in url.split_inclusive(|byte| matches!(byte, b'/' | b'?' | b'&' | b'=' | b'#')) {
            let (part, end) = match piece.split_last() {
                Some((last, part)) if matches!(last, b'/' | b'?' | b'&' | b'=' | b'#') => {
                    (part, Some(*last))
                }
                _ => (piece, None),
            };
            if part.contains(&b'%') && is_hit(part) {
                out.extend_from_slice(MASK.as_bytes());
                is_changed = true;
            } else {
                out.extend_from_slice(part);
            }
            out.extend(end);
        }
        if is_changed { Cow::Owned(out) } else { url }
    }
}
