//! A request becomes an event.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::target::{ParsedTarget, needs_target};

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct CapturedRequest<'a, H> {
    /// Set once here.
    pub id: Uuid,
    /// Microseconds since 1970.
    pub captured_at_us: u64,
    /// The peer.
    pub ip: SocketAddr,
    /// As in the request line.
    pub method: &'a str,
    /// Path and query as in the request line.
    pub target: &'a str,
    /// Names (in any case) and values, repeats as repeats. What must not be kept is already left out.
    pub headers: H,
    /// The bytes.
    pub body: &'a [u8],
}

impl<'a, H> CapturedRequest<'a, H>
where
    H: IntoIterator<Item = (&'a str, &'a [u8])>,
{
    /// The event's JSON text.
    pub fn encode(self) -> Vec<u8> {
        let mut out = self.encode_open();
        out.push(b'}');
        out
    }

    /// The text without its closing brace, for what else is known.
    pub(super) fn encode_open(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + self.body.len() / 8 + 512);
        out.extend_from_slice(b"{\"ip\":\"");
        display(&mut out, peer_address(self.ip));
        out.push(b'"');
        out.extend_from_slice(b",\"method\":");
        string(&mut out, self.method);
        if needs_target(self.target) {
            let parsed = ParsedTarget::parse(self.target);
            out.extend_from_slice(b",\"path\":");
            string(&mut out, &parsed.path);
            out.extend_from_slice(b",\"params\":");
            lists(
                &mut out,
                parsed
                    .params
                    .iter()
                    .map(|(key, values)| (key.as_str(), values.iter().map(String::as_str))),
            );
        } else {
            out.extend_from_slice(b",\"path\":");
            string(&mut out, self.target);
            out.extend_from_slice(b",\"params\":{}");
        }
        out.push(b',');
        let latin1 = headers(&mut out, self.headers);
        out.push(b',');
        body(&mut out, self.body);
        if needs_target(self.target) {
            out.extend_from_slice(b",\"target\":");
            string(&mut out, self.target);
        }
        latin1_headers(&mut out, &latin1);
        out.extend_from_slice(b",\"eventId\":\"");
        out.extend_from_slice(
            self.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(),
        );
        out.extend_from_slice(b"\",\"capturedAtUs\":");
        display(&mut out, self.captured_at_us);
        out
    }
}

/// A peer as `ip` shows it. A listener on `::` sees a client of IPv4 as `::ffff:203.0.113.7`, which is `203.0.113.7` to
/// everybody else, and was to the original.
#[must_use]
pub fn peer_address(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, peer.port()),
        // As it came: an address of one link names its interface, too.
        IpAddr::V6(_) => peer,
    }
}

/// Writes the headers grouped by name in order of first appearance; returns the names whose values are not UTF-8.
pub(super) fn headers<'a>(
    out: &mut Vec<u8>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Vec<String> {
    // Nearly every name comes once: only repeats take memory of their own.
    let mut groups: Vec<(&str, &[u8], Vec<&[u8]>)> = Vec::with_capacity(16);
    for (name, value) in headers {
        match groups.iter_mut().find(|(known, ..)| known.eq_ignore_ascii_case(name)) {
            Some((_, _, repeats)) => repeats.push(value),
            None => groups.push((name, value, Vec::new())),
        }
    }
    let mut latin1 = Vec::new();
    out.extend_from_slice(b"\"headers\":{");
    separated(out, &groups, |out, (name, first, repeats)| {
        let values = || std::iter::once(first).chain(repeats);
        canonical_name(out, name);
        out.extend_from_slice(b":[");
        // One spelling for all values of a name, so that the mark needs no positions.
        let is_text = values().all(|value| std::str::from_utf8(value).is_ok());
        separated(out, values(), |out, value| match std::str::from_utf8(value) {
            Ok(text) if is_text => string(out, text),
            _ => string(out, &value.iter().map(|byte| char::from(*byte)).collect::<String>()),
        });
        out.push(b']');
        if !is_text {
            latin1.push(canonical_header_name(name));
        }
    });
    out.push(b'}');
    latin1
}

/// Writes the names whose values stand for one byte a character, if there are any.
pub(super) fn latin1_headers(out: &mut Vec<u8>, names: &[String]) {
    if !names.is_empty() {
        out.extend_from_slice(b",\"latin1Headers\":[");
        separated(out, names, |out, name: &String| string(out, name));
        out.push(b']');
    }
}

pub(super) fn body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"\"body\":");
    if let Ok(text) = std::str::from_utf8(body) {
        string(out, text);
    } else {
        let mut encoded = vec![0; body.len().div_ceil(3) * 4];
        let length = STANDARD
            .encode_slice(body, &mut encoded)
            .expect("the buffer has base64's exact length");
        out.push(b'"');
        out.extend_from_slice(&encoded[..length]);
        out.extend_from_slice(b"\",\"bodyEncoding\":\"base64\"");
    }
}

/// `content-type` -> `Content-Type`, as Go spells header names and the original's scripts expect them.
fn canonical_header_name(name: &str) -> String {
    let mut after = '-';
    name.chars().map(|c| spelled(&mut after, c)).collect()
}

/// Writes a header name as [`canonical_header_name`] spells it; in the usual case without a text of its own.
fn canonical_name(out: &mut Vec<u8>, name: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if !name.chars().all(is_plain) {
        return string(out, &canonical_header_name(name));
    }
    out.push(b'"');
    let mut after = '-';
    for c in name.chars() {
        let mut bytes = [0; 4];
        out.extend_from_slice(spelled(&mut after, c).encode_utf8(&mut bytes).as_bytes());
    }
    out.push(b'"');
}

/// Letters at the start and after a hyphen are large, all others small.
fn spelled(after: &mut char, c: char) -> char {
    let is_first = std::mem::replace(after, c) == '-';
    if is_first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

/// Numbers and addresses, which need no escapes.
fn display(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing text to memory cannot fail");
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}

fn lists<'a, V: Iterator<Item = &'a str>>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a str, V)>,
) {
    out.push(b'{');
    separated(out, entries, |out, (key, values)| {
        string(out, key);
        out.extend_from_slice(b":[");
        separated(out, values, string);
        out.push(b']');
    });
    out.push(b'}');
}

fn separated<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_ipv4_has_its_own_address_on_a_listener_for_both() {
        let check = |peer: &str, expected: &str| {
            let headers: [(&str, &[u8]); 0] = [];
            let captured = CapturedRequest {
                id: Uuid::nil(),
                captured_at_us: 0,
                ip: peer.parse().expect(peer),
                method: "GET",
                target: "/",
                headers,
                body: b"",
            };
            let text = String::from_utf8(captured.encode()).expect("events are text");
            assert!(text.starts_with(&format!("{{\"ip\":\"{expected}\",")), "{peer}: {text}");
        };
        check("203.0.113.7:51234", "203.0.113.7:51234");
        check("[::ffff:203.0.113.7]:51234", "203.0.113.7:51234");
        check("[2001:db8::1]:51234", "[2001:db8::1]:51234");
        check("[fe80::1%2]:51234", "[fe80::1%2]:51234");
    }
}
