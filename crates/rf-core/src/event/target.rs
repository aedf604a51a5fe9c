//! Request targets: taken apart into what scripts see, and put together for the replay.

use std::collections::HashMap;

/// Parameters that are looked through one by one, which is faster than a map while they are few.
const FEW_PARAMS: usize = 16;

/// Decoded parts of a request target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedTarget {
    /// The path, percent-decoded; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Query parameters in order of first appearance, each with its values in order.
    pub params: Vec<(String, Vec<String>)>,
}

impl ParsedTarget {
    /// Takes `path?query` apart.
    pub fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut params = Params::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.push(decode(key, true), decode(value, true));
        }
        Self { path: decode(path, false), params: params.entries }
    }
}

/// Parameters while they are collected. The sender decides how many there are, so finding one must not cost more the
/// more there are.
#[derive(Default)]
struct Params {
    entries: Vec<(String, Vec<String>)>,
    /// Where each name stands in `entries`; empty while these are few.
    places: HashMap<String, usize>,
}

impl Params {
    fn push(&mut self, key: String, value: String) {
        match self.place(&key) {
            Some(place) => self.entries[place].1.push(value),
            None => {
                if !self.places.is_empty() {
                    self.places.insert(key.clone(), self.entries.len());
                }
                self.entries.push((key, vec![value]));
            }
        }
    }

    fn place(&mut self, key: &str) -> Option<usize> {
        if self.entries.len() <= FEW_PARAMS {
            return self.entries.iter().position(|(known, _)| known == key);
        }
        if self.places.is_empty() {
            let places = self.entries.iter().enumerate();
            self.places = places.map(|(place, (known, _))| (known.clone(), place)).collect();
        }
        self.places.get(key).copied()
    }
}

/// Whether the target says more than its decoded path alone: `build_target` would not give it back.
pub(super) fn needs_target(target: &str) -> bool {
    let is_plain = |byte: u8| is_path_byte(byte) && !matches!(byte, b'?' | b'+');
    !target.starts_with('/') || !target.bytes().all(is_plain)
}

/// The target for decoded parts. Sequences that are percent-encoded already stay as they are, as the original's player
/// did; other characters that may not stand in a path are encoded.
pub fn build_target(path: &str, params: &[(String, Vec<String>)]) -> String {
    let mut target = String::with_capacity(path.len() + 16);
    if !path.starts_with('/') {
        target.push('/');
    }
    let bytes = path.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let is_encoded = byte == b'%'
            && bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
            && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit);
        push(&mut target, byte, is_encoded || is_path_byte(byte));
    }
    let mut separator = if path.contains('?') { '&' } else { '?' };
    for (key, values) in params {
        for value in values {
            target.push(separator);
            key.bytes().for_each(|byte| push(&mut target, byte, is_unreserved(byte)));
            target.push('=');
            value.bytes().for_each(|byte| push(&mut target, byte, is_unreserved(byte)));
            separator = '&';
        }
    }
    target
}

fn push(target: &mut String, byte: u8, plain: bool) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    if plain {
        target.push(char::from(byte));
    } else {
        target.push('%');
        target.push(HEX[usize::from(byte >> 4)]);
        target.push(HEX[usize::from(byte & 15)]);
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 `pchar`, the slash, and the question mark of a script that put a query into the path.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/?".contains(&byte)
}

fn decode(text: &str, plus_is_space: bool) -> String {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 2;
            }
            (b'+', ..) if plus_is_space => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parse(target: &str, path: &str, params: &[(&str, &[&str])]) {
        let parsed = ParsedTarget::parse(target);
        let params: Vec<(String, Vec<String>)> = params
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()))
            .collect();
        assert_eq!(parsed, ParsedTarget { path: path.to_owned(), params }, "{target}");
    }

    #[test]
    fn targets_are_decoded_as_scripts_expect() {
        check_parse("/", "/", &[]);
        check_parse("/a%2Fb//c", "/a/b//c", &[]);
        check_parse(
            "/a+b?x=1+2&x=%2B&y&=z&&w=",
            "/a+b",
            &[("x", &["1 2", "+"]), ("y", &[""]), ("", &["z"]), ("w", &[""])],
        );
        check_parse("/%zz%4?q=%", "/%zz%4", &[("q", &["%"])]);
        check_parse("/%FF", "/\u{FFFD}", &[]);
    }

    #[test]
    fn many_names_keep_their_order_and_cost_no_more_each() {
        const NAMES: usize = 200_000;
        let query = |value: &str| {
            let pairs: Vec<String> = (0..NAMES).map(|n| format!("n{n}={value}")).collect();
            pairs.join("&")
        };
        // Twice each. With a look at every known name this would be 40,000,000,000 comparisons.
        let parsed = ParsedTarget::parse(&format!("/?{}&{}", query("a"), query("b")));
        assert_eq!(parsed.params.len(), NAMES);
        for (n, (name, values)) in parsed.params.iter().enumerate() {
            assert_eq!(*name, format!("n{n}"));
            assert_eq!(values[..], ["a", "b"], "{name}");
        }
    }

    #[test]
    fn a_changed_path_becomes_a_valid_target() {
        let check = |path: &str, params: &[(&str, &str)], expected: &str| {
            let params: Vec<_> =
                params.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
            assert_eq!(build_target(path, &params), expected);
        };
        check("/a b/ü", &[], "/a%20b/%C3%BC");
        check("no-slash", &[], "/no-slash");
        check("/a%2Fb%zz", &[], "/a%2Fb%25zz");
        check("/x?y=1", &[("z", "a&b")], "/x?y=1&z=a%26b");
        check("/x", &[("k", ""), ("q", "1 2")], "/x?k=&q=1%202");
    }
}
