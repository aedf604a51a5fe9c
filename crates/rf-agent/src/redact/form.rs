//! Parameters of queries and of form bodies: `name=value` pairs, percent-encoded.

use std::borrow::Cow;

use super::MASK;
use super::names::{Fields, normalized};

/// The pairs with the values of the `fields` masked; `None` when there are none among them.
pub(super) fn mask(pairs: &[u8], fields: &[&Fields]) -> Option<Vec<u8>> {
    if !pairs.contains(&b'=') {
        return None;
    }
    let mut out = Vec::new();
    let mut copied = 0;
    let mut start = 0;
    for piece in pairs.split_inclusive(|byte| matches!(byte, b'&' | b';')) {
        let pair = piece.strip_suffix(b"&").or_else(|| piece.strip_suffix(b";")).unwrap_or(piece);
        if let Some(equals) = pair.iter().position(|byte| *byte == b'=')
            && is_meant(&pair[..equals], fields)
        {
            out.extend_from_slice(&pairs[copied..start + equals + 1]);
            out.extend_from_slice(MASK.as_bytes());
            copied = start + pair.len();
        }
        start += piece.len();
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&pairs[copied..]);
    Some(out)
}

/// Masks the query of a URL, and its fragment, which some logins use as one.
pub(super) fn mask_url(url: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    if fields.is_empty() {
        return None;
    }
    let query = memchr::memchr2(b'?', b'#', url)? + 1;
    let (before, query) = url.split_at(query);
    let mut out = before.to_vec();
    let mut is_changed = false;
    for piece in query.split_inclusive(|byte| matches!(byte, b'#' | b'?')) {
        let (pairs, end) = match piece.split_last() {
            Some((end @ (b'#' | b'?'), pairs)) => (pairs, Some(*end)),
            _ => (piece, None),
        };
        match mask(pairs, &[fields]) {
            Some(masked) => {
                is_changed = true;
                out.extend_from_slice(&masked);
            }
            None => out.extend_from_slice(pairs),
        }
        out.extend(end);
    }
    is_changed.then_some(out)
}

/// `user[password]` and `user.password` are the field `password` in `user`, as frameworks read them.
pub(super) fn is_meant(name: &[u8], fields: &[&Fields]) -> bool {
    let name = decoded(name);
    let plain = |byte: &u8| !matches!(byte, b'[' | b']' | b'.');
    if name.iter().all(plain) {
        return fields.iter().any(|fields| fields.matches(&[], &name));
    }
    let steps: Vec<&[u8]> =
        name.split(|byte| !plain(byte)).filter(|step| !step.is_empty()).collect();
    let Some((last, outer)) = steps.split_last() else { return false };
    let outer: Vec<Vec<u8>> = outer.iter().map(|step| normalized(step)).collect();
    // `tokens[0]` is an item of `tokens`.
    let is_index = last.iter().all(u8::is_ascii_digit);
    fields.iter().any(|fields| {
        fields.matches(&outer, last)
            || fields.matches(&[], &name)
            || (is_index
                && outer.split_last().is_some_and(|(name, outer)| fields.matches(outer, name)))
    })
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
