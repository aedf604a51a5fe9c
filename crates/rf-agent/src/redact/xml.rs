//! Elements and attributes of XML, by their local names, without parsing it: it may be cut anywhere.
//!
//! Invariant: every `<` that is not masked is looked at as the beginning of a tag, also within a comment, CDATA, a processing
//! instruction or a value. So no quote can hide what stands behind it.

use memchr::memmem;

use super::MASK;
use super::names::Fields;

/// The text with the elements and attributes of `fields` masked; `None` when there are none in it. Paths are not
/// followed: only names count.
pub(super) fn mask(text: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut copied, mut at) = (0, 0);
    let mut replace = |from: usize, to: usize, copied: &mut usize| {
        out.extend_from_slice(&text[*copied..from]);
        out.extend_from_slice(MASK.as_bytes());
        *copied = to;
    };
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'<', rest)) {
        let tag = at + found + 1;
        let name = &text[tag..tag + name_length(&text[tag..])];
        let mut tag_end = tag + tag_length(&text[tag..]);
        let mut from = tag + name.len();
        loop {
            for (from, to) in attributes(text, from, tag_end, fields) {
                replace(from, to, &mut copied);
            }
            if copied <= tag_end {
                break;
            }
            // A value with a `<` in it was masked: the tag goes on behind it.
            from = copied;
            tag_end = copied + tag_length(&text[copied..]);
        }
        at = tag_end;
        let has_content = if text[tag..tag_end].ends_with(b">") {
            !text[tag..tag_end].ends_with(b"/>")
        } else {
            // A stray `<` ended the tag, or the text is cut.
            tag_end < text.len()
        };
        if !name.is_empty() && has_content && fields.matches(&[], local(name)) {
            // Up to its own end tag; a cut text has none.
            let close = [b"</", name].concat();
            let end = memmem::find(&text[at..], &close).map_or(text.len(), |found| at + found);
            replace(at, end, &mut copied);
            at = end;
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(out)
}

/// Places of the values of attributes that are meant.
fn attributes(text: &[u8], from: usize, to: usize, fields: &Fields) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(equals) = text.get(at..to).and_then(|rest| memchr::memchr(b'=', rest)) {
        let equals = at + equals;
        let before = text[at..equals].trim_ascii_end();
        let start = before.iter().rposition(|byte| !is_name(*byte)).map_or(0, |blank| blank + 1);
        let name = &before[start..];
        let value = equals
            + 1
            + text[equals + 1..to].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let Some(quote @ (b'"' | b'\'')) = text.get(value).copied() else {
            at = equals + 1;
            continue;
        };
        let end = memchr::memchr(quote, text.get(value + 1..).unwrap_or_default())
            .map_or(text.len(), |end| value + 1 + end);
        if fields.matches(&[], local(name)) {
            found.push((value + 1, end));
        }
        at = end + 1;
    }
    found
}

/// Up to and with the `>` that ends the tag, which a quoted value may hold, too; or up to the next `<`, which no value may
/// hold. Only behind `=` a quote begins a value: elsewhere, as in a comment, it is an apostrophe.
fn tag_length(tag: &[u8]) -> usize {
    let mut quote = None;
    let mut is_behind_equals = false;
    for (index, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (_, b'<') => return index,
            (None, b'>') => return index + 1,
            (None, b'"' | b'\'') if is_behind_equals => quote = Some(*byte),
            (Some(open), byte) if *byte == open => quote = None,
            _ => {}
        }
        is_behind_equals = *byte == b'=' || (is_behind_equals && byte.is_ascii_whitespace());
    }
    tag.len()
}

fn name_length(tag: &[u8]) -> usize {
    tag.iter().take_while(|byte| is_name(**byte)).count()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.') || byte >= 0x80
}

/// Without the prefix of its namespace.
fn local(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b':').next().unwrap_or(name)
}
