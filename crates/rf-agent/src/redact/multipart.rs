//! Fields of `multipart/form-data`: each part is masked as a whole by its name, or looked into when it is JSON.

use memchr::memmem;

use super::names::Fields;
use super::{MASK, form, json};

/// The body with the parts of `fields` masked; `None` when there are none in it.
pub(super) fn mask(body: &[u8], boundary: &[u8], fields: &[&Fields]) -> Option<Vec<u8>> {
    let delimiter = [b"--", boundary].concat();
    let mut out = Vec::new();
    let mut copied = 0;
    let starts: Vec<usize> = memmem::find_iter(body, &delimiter).collect();
    for (index, start) in starts.iter().enumerate() {
        let part_start = start + delimiter.len();
        // A cut body ends within a part.
        let part_end = starts.get(index + 1).copied().unwrap_or(body.len());
        let Some(part) = body.get(part_start..part_end) else { continue };
        let Some(head_end) = memmem::find(part, b"\r\n\r\n") else { continue };
        let content_start = part_start + head_end + 4;
        let content = &body[content_start..part_end];
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let masked = match name_of(&part[..head_end]) {
            Some(name) if form::is_meant(name, fields) => Some(MASK.as_bytes().to_vec()),
            _ => masked_json(content, fields),
        };
        if let Some(masked) = masked {
            out.extend_from_slice(&body[copied..content_start]);
            out.extend_from_slice(&masked);
            copied = content_start + content.len();
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&body[copied..]);
    Some(out)
}

fn masked_json(content: &[u8], fields: &[&Fields]) -> Option<Vec<u8>> {
    let first = content.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if !matches!(first, b'{' | b'[') {
        return None;
    }
    json::mask(content, fields.first()?)
}

/// `name` of the part's `Content-Disposition`.
fn name_of(head: &[u8]) -> Option<&[u8]> {
    let lower = head.to_ascii_lowercase();
    let line_start = memmem::find(&lower, b"content-disposition:")?;
    let mut from = line_start;
    // Not the end of `filename=`.
    let at = loop {
        let found = from + memmem::find(&lower[from..], b"name=")?;
        if matches!(lower[found - 1], b' ' | b';' | b'\t') {
            break found + 5;
        }
        from = found + 5;
    };
    let rest = &head[at..];
    match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => rest.split(|byte| matches!(byte, b';' | b'\r' | b' ')).next(),
    }
}
