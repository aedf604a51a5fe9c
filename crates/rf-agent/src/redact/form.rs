//! Parameters of queries and of form bodies: `name=value` pairs, percent-encoded; and URLs.
//!
//! Invariant: a masked value runs to the next `&`, or to a line break with a pair behind it; in a URL within a text, to the
//! end of that. Servers differ in what else ends a value, and a rest of a secret must not stand behind its mask.

use std::borrow::Cow;

use memchr::{memchr, memmem, memrchr};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::names::{Fields, normalized};
use super::rewrite::Rewrite;
use super::value::{self, Look};
use super::{MASK, json};

/// What is escaped in a value that is written anew.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

/// User info of URLs is masked where a parameter of this name is.
const USER_INFO: &[u8] = b"password";

/// Which pairs are masked.
#[derive(Clone, Copy)]
struct Pairs<'a> {
    /// Names that count outside of queries and fragments.
    outside: &'a [&'a Fields],
    /// Names that count in a query or a fragment.
    in_query: &'a [&'a Fields],
    /// There may be other text around URLs and pairs.
    is_text: bool,
}

/// A form, with the values of fields and query parameters masked; `None` when there are none in it.
pub(super) fn mask_form(form: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let names = [look.fields, look.query];
    mask(form, Pairs { outside: &names, in_query: &names, is_text: false }, look)
}

/// A URL, or a header that may hold one: masks user info, the query, and the fragment, which some logins use as a query.
pub(super) fn mask_url(url: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    mask(url, Pairs { outside: &[], in_query: &[look.query], is_text: false }, look)
}

/// A text with URLs and pairs in it.
pub(super) fn mask_text(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let names = [look.fields, look.query];
    mask(text, Pairs { outside: &names[..1], in_query: &names, is_text: true }, look)
}

/// The URLs in a document whose fields have another shape.
pub(super) fn mask_links(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let pairs = Pairs { outside: &[], in_query: &[look.query], is_text: true };
    let masked = mask_user_info(text, look);
    mask_pairs(masked.as_deref().unwrap_or(text), pairs, look).or(masked)
}

fn mask(text: &[u8], pairs: Pairs<'_>, look: Look<'_>) -> Option<Vec<u8>> {
    let masked = mask_user_info(text, look);
    let masked = mask_pairs(masked.as_deref().unwrap_or(text), pairs, look).or(masked);
    let rest = masked.as_deref().unwrap_or(text);
    // JSON that is not percent-encoded: the pairs of a form may cut through it, so it is looked at as a whole.
    if memchr(b'"', rest).is_some() { json::mask(rest, look).or(masked) } else { masked }
}

fn mask_pairs(text: &[u8], pairs: Pairs<'_>, look: Look<'_>) -> Option<Vec<u8>> {
    memchr(b'=', text)?;
    let mut rewrite = Rewrite::of(text);
    let mut start = 0;
    let (mut is_masked, mut is_query, mut separator) = (false, false, b'&');
    let is_separator = |byte: &u8| begins_pair(*byte) || (pairs.is_text && ends_url(*byte));
    for piece in text.split_inclusive(is_separator) {
        let (pair, end) = match piece.split_last() {
            Some((end, pair)) if is_separator(end) => (pair, *end),
            _ => (piece, b'&'),
        };
        let pair_end = start + pair.len();
        let names = if is_query { pairs.in_query } else { pairs.outside };
        if is_masked && continues(separator, pair) {
            if !pair.is_empty() {
                rewrite.extend_to(pair_end);
            }
        } else if let Some(equals) = memchr(b'=', pair).filter(|_| !names.is_empty()) {
            is_masked = is_meant(&pair[..equals], names);
            let value = &pair[equals + 1..];
            let masked =
                if is_masked { Some(MASK.as_bytes().to_vec()) } else { mask_encoded(value, look) };
            if let Some(masked) = masked {
                rewrite.replace(start + equals + 1..pair_end, &masked);
            }
        } else {
            is_masked = false;
        }
        if is_query && pairs.is_text && ends_url(end) {
            (is_query, is_masked) = (false, false);
        } else if matches!(end, b'?' | b'#') && !is_masked {
            is_query = true;
        }
        separator = end;
        start += piece.len();
    }
    rewrite.finish()
}

fn begins_pair(separator: u8) -> bool {
    matches!(separator, b'&' | b';' | b'?' | b'#' | b'\n' | b'\r')
}

/// No URL goes on behind it.
fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'<' | b'>')
}

/// Whether what stands behind a masked value and a separator may still be a part of that value.
fn continues(separator: u8, pair: &[u8]) -> bool {
    match separator {
        b'&' => false,
        b'\n' | b'\r' => {
            // Lines of a key in base64 may end with `=`, too.
            let equals = memchr(b'=', pair);
            equals.is_none_or(|equals| equals == 0 || matches!(&pair[equals + 1..], b"" | b"="))
        }
        _ => true,
    }
}

/// A value that is no secret by its name, but may hold one. What is not encoded is found where it stands.
fn mask_encoded(value: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    match decoded(value) {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => {
            // It may have been encoded twice.
            let again = || mask_encoded(&text, look.deeper()?);
            let masked = value::mask(&text, look).or_else(again)?;
            Some(percent_encode(&masked, ESCAPED).to_string().into_bytes())
        }
    }
}

/// `user:password@` of every URL in the text. Where a text is cut, the `@` may be missing.
fn mask_user_info(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    if !look.query.has_name(USER_INFO) {
        return None;
    }
    let mut rewrite = Rewrite::of(text);
    for found in memmem::find_iter(text, b"://") {
        let start = found + 3;
        let rest = &text[start..];
        let length = rest.iter().position(|byte| ends_authority(*byte)).unwrap_or(rest.len());
        let authority = &rest[..length];
        let end = match memrchr(b'@', authority) {
            Some(end) => end,
            None if look.is_cut && length == rest.len() && !is_host(authority) => length,
            None => continue,
        };
        if end > 0 && start >= rewrite.done() {
            rewrite.replace(start..start + end, MASK.as_bytes());
        }
    }
    rewrite.finish()
}

fn ends_authority(byte: u8) -> bool {
    ends_url(byte) || matches!(byte, b'/' | b'?' | b'#' | b'\\')
}

/// A host, with a port or without; not a user and the beginning of a password.
fn is_host(authority: &[u8]) -> bool {
    let Some(colon) = memchr(b':', authority) else { return true };
    authority.starts_with(b"[") || authority[colon + 1..].iter().all(u8::is_ascii_digit)
}

/// `user[password]` and `user.password` are the field `password` in `user`, as frameworks read them; `credentials[pin]` is a
/// part of `credentials`.
pub(super) fn is_meant(name: &[u8], fields: &[&Fields]) -> bool {
    let name = decoded(name);
    let name = name.trim_ascii();
    let is_plain = |byte: &u8| !matches!(byte, b'[' | b']' | b'.');
    if fields.iter().any(|fields| fields.matches(&[], name)) {
        return true;
    }
    if name.iter().all(is_plain) {
        return false;
    }
    let mut outer: Vec<Vec<u8>> = Vec::new();
    // Lists are passed through, so an index is no step.
    let is_step = |step: &&[u8]| !step.iter().all(u8::is_ascii_digit);
    for step in name.split(|byte| !is_plain(byte)).filter(is_step) {
        if fields.iter().any(|fields| fields.matches(&outer, step)) {
            return true;
        }
        outer.push(normalized(step));
    }
    false
}

/// Percent-decoded, `+` as a blank; what is no valid escape stays.
pub(super) fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match (byte, hex(text.get(at)), hex(text.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    Cow::Owned(out)
}
