//! Elements and attributes of XML, by their local names, without parsing it: it may be cut anywhere.
//!
//! Invariant: every `<` that is not masked is looked at as the beginning of a tag, also within a comment, CDATA, a processing
//! instruction or a value. So no quote can hide what stands behind it. An element is masked up to its own end tag: in what
//! is masked, comments and CDATA are passed over, and elements of the same name are counted.

use memchr::memmem;

use super::names::Fields;
use super::rewrite::Rewrite;
use super::value::Look;
use super::{MASK, form};

/// The text with the elements and attributes of fields masked, and what is secret in URLs; `None` when there are none in it.
/// Paths are not followed: only names count.
pub(super) fn mask(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let masked = mask_fields(text, look.fields);
    form::mask_links(masked.as_deref().unwrap_or(text), look).or(masked)
}

fn mask_fields(text: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite::of(text);
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'<', rest)) {
        let tag = at + found + 1;
        let name = &text[tag..tag + name_length(&text[tag..])];
        let mut tag_end = tag + tag_length(&text[tag..]);
        let is_meant = !name.is_empty() && fields.matches(&[], local(name));
        let is_secret = |attribute: &[u8]| {
            fields.matches(&[], local(attribute)) || (is_meant && !is_about_shape(attribute))
        };
        let mut from = tag + name.len();
        loop {
            for (from, to) in attributes(text, from, tag_end, is_secret) {
                rewrite.replace(from..to, MASK.as_bytes());
            }
            if rewrite.done() <= tag_end {
                break;
            }
            // A value with a `<` in it was masked: the tag goes on behind it.
            from = rewrite.done();
            tag_end = from + tag_length(&text[from..]);
        }
        at = tag_end;
        let has_content = if text[tag..tag_end].ends_with(b">") {
            !text[tag..tag_end].ends_with(b"/>")
        } else {
            // A stray `<` ended the tag, or the text is cut.
            tag_end < text.len()
        };
        if is_meant && has_content {
            let end = content_end(text, at, name);
            rewrite.replace(at..end, MASK.as_bytes());
            at = end;
        }
    }
    rewrite.finish()
}

/// Where the content of the element `name` ends that begins at `from`: at its own end tag; a cut text has none.
fn content_end(text: &[u8], from: usize, name: &[u8]) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'<', rest)) {
        let tag = at + found + 1;
        let rest = &text[tag..];
        if let Some(length) = unparsed_length(rest) {
            at = tag + length;
            continue;
        }
        at = tag;
        let end_tag = rest.strip_prefix(b"/");
        let tag_text = end_tag.unwrap_or(rest);
        if tag_text.get(..name_length(tag_text)) != Some(name) {
            continue;
        }
        match (end_tag, depth) {
            (Some(_), 0) => return tag - 1,
            (Some(_), _) => depth -= 1,
            (None, _) if rest[..tag_length(rest)].ends_with(b"/>") => {}
            (None, _) => depth += 1,
        }
    }
    text.len()
}

/// Up to the end of a comment or a CDATA section, which may hold anything that looks like a tag.
fn unparsed_length(tag: &[u8]) -> Option<usize> {
    let end: &[u8] = if tag.starts_with(b"![CDATA[") {
        b"]]>"
    } else if tag.starts_with(b"!--") {
        b"-->"
    } else {
        return None;
    };
    Some(memmem::find(tag, end).map_or(tag.len(), |at| at + end.len()))
}

/// Places of the values of attributes that are secret.
fn attributes(
    text: &[u8],
    from: usize,
    to: usize,
    is_secret: impl Fn(&[u8]) -> bool,
) -> Vec<(usize, usize)> {
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
        if is_secret(name) {
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

/// Attributes that say what an element is, not what it holds: they stay where the element is masked.
fn is_about_shape(attribute: &[u8]) -> bool {
    attribute.starts_with(b"xml") || local(attribute).eq_ignore_ascii_case(b"type")
}

/// Without the prefix of its namespace.
fn local(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b':').next().unwrap_or(name)
}
