//! A text within a text: the value of a parameter, a form field or a JSON string may itself be JSON, XML, a URL or a form.

use super::names::Fields;
use super::{MASK, form, json, xml};

/// Texts within texts that are looked into; deeper ones are masked as a whole when they may hold fields.
const MAX_NESTED: usize = 4;

/// Which names are meant, and how deep to look for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    /// Names of fields.
    pub(super) fields: &'a Fields,
    /// Names of query parameters; they count in forms, too.
    pub(super) query: &'a Fields,
    /// The end of the body is missing, so it may end within anything.
    pub(super) is_cut: bool,
    depth: usize,
}

impl<'a> Look<'a> {
    pub(super) fn new(fields: &'a Fields, query: &'a Fields, is_cut: bool) -> Self {
        Self { fields, query, is_cut, depth: MAX_NESTED }
    }

    /// For a text within the one at hand; `None` when that is deep enough.
    pub(super) fn deeper(self) -> Option<Self> {
        Some(Self { depth: self.depth.checked_sub(1)?, ..self })
    }
}

/// The value with what it holds masked; `None` when there is nothing to mask in it.
pub(super) fn mask(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let first = *text.trim_ascii_start().first()?;
    let Some(look) = look.deeper() else {
        return text.iter().any(|byte| may_hold(*byte)).then(|| MASK.as_bytes().to_vec());
    };
    match first {
        b'{' | b'[' | b'"' if json::is_json(text) => json::mask(text, look),
        b'<' => xml::mask(text, look),
        _ => form::mask_text(text, look),
    }
}

/// Fields, user info and texts that are encoded once more have one of these.
fn may_hold(byte: u8) -> bool {
    matches!(byte, b'"' | b'=' | b'<' | b'@' | b'%')
}
