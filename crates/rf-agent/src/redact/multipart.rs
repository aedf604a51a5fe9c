//! Bodies of parts, such as `multipart/form-data`: each is masked as a whole by its name, or by what it holds.

use std::ops::Range;

use memchr::{memchr_iter, memmem};

use super::rewrite::Rewrite;
use super::value::Look;
use super::{MASK, body, form};

/// What is looked at of the name of a part.
const MAX_NAME_BYTES: usize = 1024;

/// The body with the parts of fields masked; `None` when there are none in it.
///
/// # Errors
/// Why it cannot be looked into, in words for a person.
pub(super) fn mask(
    body: &[u8],
    content_type: &[u8],
    look: Look<'_>,
) -> Result<Option<Vec<u8>>, &'static str> {
    let delimiters = delimiters(body, content_type);
    if delimiters.is_empty() {
        return Err("its parts cannot be told apart");
    }
    let mut rewrite = Rewrite::of(body);
    for (index, delimiter) in delimiters.iter().enumerate() {
        // A cut body ends within a part.
        let part_end = delimiters.get(index + 1).map_or(body.len(), |next| next.start);
        let part = &body[delimiter.end..part_end];
        let Some((head, content)) = split_head(part) else { continue };
        let content_start = part_end - content.len();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if let Some(masked) = mask_part(head, content, look) {
            rewrite.replace(content_start..content_start + content.len(), &masked);
        }
    }
    Ok(rewrite.finish())
}

fn mask_part(head: &[u8], content: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let whole = || Some(MASK.as_bytes().to_vec());
    if is_meant(head, look) {
        return whole();
    }
    if content.is_empty() {
        return None;
    }
    let Some(look) = look.deeper() else { return whole() };
    // What cannot be looked into is not kept unseen.
    body::mask_shape(content, content_type(head), look).unwrap_or_else(|_reason| whole())
}

/// Places of the delimiter that the content type names. Where there are none, of the one that the body begins with.
fn delimiters(body: &[u8], content_type: &[u8]) -> Vec<Range<usize>> {
    let named = boundary(content_type).map(|boundary| places(body, boundary));
    if let Some(places) = named.filter(|places| !places.is_empty()) {
        return places;
    }
    let Some(rest) = body.trim_ascii_start().strip_prefix(b"--") else { return Vec::new() };
    let line = rest.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    match line.trim_ascii_end() {
        b"" => Vec::new(),
        boundary => places(body, boundary),
    }
}

/// A delimiter is a line of its own; line breaks without a carriage return count, too.
fn places(body: &[u8], boundary: &[u8]) -> Vec<Range<usize>> {
    let delimiter = [b"--", boundary].concat();
    let all = memmem::find_iter(body, &delimiter).map(|start| start..start + delimiter.len());
    let is_line = |place: &Range<usize>| {
        let is_start = body[..place.start].last().is_none_or(|byte| *byte == b'\n');
        let rest = &body[place.end..];
        let rest = rest.strip_prefix(b"--").unwrap_or(rest);
        let end = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        is_start && end.is_none_or(|byte| matches!(byte, b'\r' | b'\n'))
    };
    all.filter(is_line).collect()
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(&content_type.to_ascii_lowercase(), b"boundary=")? + 9;
    let rest = &content_type[at..];
    let boundary = match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => rest.split(|byte| matches!(byte, b';' | b',' | b' ')).next(),
    };
    boundary.filter(|boundary| !boundary.is_empty())
}

/// Head and content of a part, with an empty line between them; `None` where the body is cut before.
fn split_head(part: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr_iter(b'\n', part).find_map(|at| {
        let rest = &part[at + 1..];
        let content = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r\n"))?;
        Some((&part[..at], content))
    })
}

/// Whether it has a name that is meant. Servers read an odd head in more than one way, so every `name` in it counts, also one
/// within another value.
fn is_meant(head: &[u8], look: Look<'_>) -> bool {
    let lower = head.to_ascii_lowercase();
    memmem::find_iter(&lower, b"name").any(|at| {
        // Not the end of `filename`.
        let is_word = lower[..at].last().is_none_or(|before| !before.is_ascii_alphanumeric());
        let rest = &head[at + 4..];
        let (rest, is_extended) =
            rest.strip_prefix(b"*").map_or((rest, false), |rest| (rest, true));
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { return false };
        let value = value.trim_ascii_start();
        let value = value.get(..MAX_NAME_BYTES).unwrap_or(value);
        let name = match value.strip_prefix(b"\"") {
            Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
            // Without quotes it ends at a `=`, too: so in `name=name=name=` no byte belongs to more than one name.
            None => value.split(|byte| matches!(byte, b'=' | b';' | b'\r' | b'\n' | b' ')).next(),
        };
        // `name*=utf-8''password` (RFC 8187).
        let name = match name {
            Some(name) if is_extended => name.rsplit(|byte| *byte == b'\'').next(),
            name => name,
        };
        is_word && name.is_some_and(|name| form::is_meant(name, &[look.fields, look.query]))
    })
}

/// `Content-Type` of a part; empty when it has none.
fn content_type(head: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"content-type:";
    let value = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value.trim_ascii())
    });
    value.unwrap_or_default()
}
