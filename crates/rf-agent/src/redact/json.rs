//! Fields of JSON text, found without parsing it: a body may be cut anywhere, be several values in a row, or be broken,
//! and what is not masked has to stay as it is.
//!
//! A string that holds another text, such as JSON (as webhooks like to send) or a URL, is looked into as well.

use memchr::{memchr, memchr2, memchr3, memchr3_iter, memmem};
use serde::de::IgnoredAny;

use super::MASK;
use super::names::{Fields, normalized};
use super::rewrite::Rewrite;
use super::value::{self, Look};

/// The text, which is JSON or has JSON somewhere in it, with the values of fields masked; `None` when there are none in it.
pub(super) fn mask(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let masked = mask_fields(text, look);
    mask_names(masked.as_deref().unwrap_or(text), look.fields).or(masked)
}

/// Whether all of it is JSON: one value or several in a row.
pub(super) fn is_json(text: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.all(|value| value.is_ok())
}

/// The text with the values of `fields` masked behind everything that looks like their name; `None` when there are none in
/// it. In JSON with other text around it (a prefix against hijacking, comments, a call) a single quotation mark makes names
/// of the texts between them, and [`Masker`] passes over the true ones. Paths are not followed.
pub(super) fn mask_names(text: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    let mask = format!("\"{MASK}\"");
    let mut rewrite = Rewrite::of(text);
    let mut colons = Colons::of(text);
    let is_meant = |name: &[u8]| fields.has_name(unescaped(name).as_deref().unwrap_or(name));
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr(b'"', rest)) {
        let start = at + found;
        at = start + 1;
        // What is escaped begins no name. So no part of the text is looked at more than twice.
        if start > 0 && text[start - 1] == b'\\' {
            continue;
        }
        let end = string_end(text, start);
        let name = inner(text, start, end);
        let colon = match colons.behind(end) {
            Behind::Colon(colon) => colon,
            Behind::Unknown if is_meant(name) => {
                rewrite.replace(end..text.len(), format!(":{mask}").as_bytes());
                break;
            }
            Behind::Unknown | Behind::Other => continue,
        };
        let value = skip_blanks(text, colon + 1);
        if value == text.len() || text[value..].starts_with(mask.as_bytes()) || !is_meant(name) {
            continue;
        }
        at = value_end(text, value);
        rewrite.replace(value..at, mask.as_bytes());
    }
    rewrite.finish()
}

fn mask_fields(text: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let (masked, has_comments) = Masker::of(text, look, true).run();
    if !has_comments {
        return masked;
    }
    // Once more as if there were none: a comment may hold all of a secret, and what looks like one may be a URL.
    let (again, _) = Masker::of(masked.as_deref().unwrap_or(text), look, false).run();
    again.or(masked)
}

/// What the place that is looked at lies in.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    List,
    /// An object whose next name has not come yet.
    Name,
    /// The value of a name; true: the name lies on `outer`.
    Value(bool),
}

struct Masker<'a> {
    text: &'a [u8],
    colons: Colons<'a>,
    look: Look<'a>,
    at: usize,
    levels: Vec<Level>,
    /// Names of the objects around, outermost first; only when paths are asked for.
    outer: Vec<Vec<u8>>,
    rewrite: Rewrite<'a>,
    /// What stands in comments is passed over: it is no part of a path.
    skips_comments: bool,
    has_comments: bool,
}

impl<'a> Masker<'a> {
    fn of(text: &'a [u8], look: Look<'a>, skips_comments: bool) -> Self {
        Self {
            text,
            colons: Colons::of(text),
            look,
            at: 0,
            levels: Vec::new(),
            outer: Vec::new(),
            rewrite: Rewrite::of(text),
            skips_comments,
            has_comments: false,
        }
    }

    /// The text with masks, if there is anything to mask, and whether it has comments.
    fn run(mut self) -> (Option<Vec<u8>>, bool) {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                // Behind a colon it is a URL without quotes.
                b'/' if self.text[..self.at].last() != Some(&b':') => {
                    let at = self.at;
                    self.pass_comments();
                    self.at = self.at.max(at + 1);
                }
                b'{' => self.open(Level::Name),
                b'[' => self.open(Level::List),
                b'}' | b']' => self.close(),
                b',' => self.next_item(),
                b'"' => self.string(),
                _ => self.at += 1,
            }
        }
        (self.rewrite.finish(), self.has_comments)
    }

    /// Goes behind the comments that begin here, if that is wanted. Only then their end is looked for: else a text of comments
    /// would be looked through for each of them.
    fn pass_comments(&mut self) {
        if !is_comment(self.text, self.at) {
            return;
        }
        self.has_comments = true;
        if self.skips_comments {
            self.at = behind_comments(self.text, self.at);
        }
    }

    fn open(&mut self, level: Level) {
        self.levels.push(level);
        self.at += 1;
    }

    fn close(&mut self) {
        self.forget_name();
        self.levels.pop();
        self.at += 1;
    }

    fn next_item(&mut self) {
        self.forget_name();
        if let Some(level @ Level::Value(_)) = self.levels.last_mut() {
            *level = Level::Name;
        }
        self.at += 1;
    }

    fn forget_name(&mut self) {
        if let Some(Level::Value(true)) = self.levels.last() {
            self.outer.pop();
        }
    }

    fn string(&mut self) {
        let start = self.at;
        self.at = string_end(self.text, start);
        // A colon makes a name, also where the text is no valid JSON: better one name too many than a secret.
        match self.colons.behind(self.at) {
            Behind::Colon(colon) => self.name(start, colon),
            Behind::Unknown if self.is_meant(start) => {
                self.replace(self.text.len(), format!(":\"{MASK}\"").as_bytes());
            }
            Behind::Unknown | Behind::Other => self.look_into(start),
        }
    }

    /// Whether the string from `start` to here is the name of a field that is meant.
    fn is_meant(&self, start: usize) -> bool {
        let name = inner(self.text, start, self.at);
        self.look.fields.matches(&self.outer, unescaped(name).as_deref().unwrap_or(name))
    }

    /// A name has been read: its value is masked, or remembered for the paths below it.
    fn name(&mut self, start: usize, colon: usize) {
        self.forget_name();
        let name = inner(self.text, start, self.at);
        let unescaped = unescaped(name);
        let name = unescaped.as_deref().unwrap_or(name);
        let is_hit = self.look.fields.matches(&self.outer, name);
        let keeps_name = !is_hit && self.look.fields.has_paths();
        if keeps_name {
            self.outer.push(normalized(name));
        }
        match self.levels.last_mut() {
            Some(level) => *level = Level::Value(keeps_name),
            None => self.levels.push(Level::Value(keeps_name)),
        }
        self.at = skip_blanks(self.text, colon + 1);
        if is_hit && self.at < self.text.len() {
            let end = value_end(self.text, self.at);
            self.replace(end, format!("\"{MASK}\"").as_bytes());
        } else {
            self.pass_comments();
        }
    }

    /// A value that is a string from `start` to here: it may hold another text.
    fn look_into(&mut self, start: usize) {
        let value = inner(self.text, start, self.at);
        // Most strings hold none of what a text with fields needs: a quote (which is escaped), a tag, a pair, user info.
        let is_end = self.look.is_cut && self.at == self.text.len();
        if !is_end && memchr3(b'\\', b'<', b'=', value).is_none() && memchr(b'@', value).is_none() {
            return;
        }
        let unescaped = unescaped(value);
        let Some(masked) = value::mask(unescaped.as_deref().unwrap_or(value), self.look) else {
            return;
        };
        let text = String::from_utf8_lossy(&masked);
        let escaped = serde_json::to_vec(&text).expect("writing text to memory cannot fail");
        let end = self.at;
        self.at = start;
        self.replace(end, &escaped);
    }

    /// Puts `with` in the place of what lies between here and `end`.
    fn replace(&mut self, end: usize, with: &[u8]) {
        self.rewrite.replace(self.at..end, with);
        self.at = end;
    }
}

/// What stands behind a string.
enum Behind {
    /// The colon that makes it a name, at this place.
    Colon(usize),
    Other,
    /// Comments up to the end of the text, or more of them than are looked through.
    Unknown,
}

/// Finds the colons behind names, through blanks and comments.
struct Colons<'a> {
    text: &'a [u8],
    /// So many bytes of comments are still looked through. A comment may hold strings with comments behind them, which
    /// reach as far as itself: without a bound, a text of these would take quadratic time.
    left: usize,
}

impl<'a> Colons<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, left: text.len().saturating_mul(2) }
    }

    /// What stands behind the string that ends at `end`.
    fn behind(&mut self, end: usize) -> Behind {
        let start = skip_blanks(self.text, end);
        let at = if self.left > 0 { behind_comments(self.text, start) } else { start };
        self.left = self.left.saturating_sub(at - start);
        match self.text.get(at) {
            Some(b':') => Behind::Colon(at),
            Some(b'/') if self.left == 0 => Behind::Unknown,
            None if at > start => Behind::Unknown,
            _ => Behind::Other,
        }
    }
}

/// Behind the string that begins at `start`; the end of the text when it is cut.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// What lies between the quotes; the closing one may be missing.
fn inner(text: &[u8], start: usize, end: usize) -> &[u8] {
    let whole = text.get(start + 1..end).unwrap_or_default();
    // A quote that is escaped does not close: then the string was cut.
    let escapes = whole.iter().rev().skip(1).take_while(|byte| **byte == b'\\').count();
    match whole.split_last() {
        Some((b'"', rest)) if escapes % 2 == 0 => rest,
        _ => whole,
    }
}

/// The text that an escaped one stands for; `None` when there is no escape in it. A broken end is left out.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    memchr(b'\\', text)?;
    let mut end = text.len();
    loop {
        let quoted = [b"\"", &text[..end], b"\""].concat();
        if let Ok(whole) = serde_json::from_slice::<String>(&quoted) {
            return Some(whole.into_bytes());
        }
        // A cut string may end within an escape; that is at most `\uXXXX\uXXX`. Others are not JSON.
        if end == 0 || text.len() - end >= 12 {
            return Some(plain_unescaped(text));
        }
        end -= 1;
    }
}

/// For strings that are no JSON strings (a raw line break, broken UTF-8): every escape by itself.
fn plain_unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'u') => {
                let digits: Vec<u8> = bytes.by_ref().take(4).collect();
                let code = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok());
                let c = code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Behind blanks, as JSON5 has them (5.3, of which ours are the usual ones).
fn skip_blanks(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(rest) = text.get(at..) {
        at += match rest {
            [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c', ..] => 1,
            // A no-break space, a mark of the byte order, and the line and paragraph separators.
            [0xc2, 0xa0, ..] => 2,
            [0xef, 0xbb, 0xbf, ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
            _ => return at,
        };
    }
    at
}

/// Behind the value that begins at `start` and the comments beside it. Where that is no JSON (another kind of quotes, a
/// quote within a string) it runs on to what must stand behind a value.
fn value_end(text: &[u8], start: usize) -> usize {
    let mut at = behind_comments(text, start);
    if text.get(at) == Some(&b'\'') {
        at = quoted_end(text, at);
    }
    while let Some(byte) = text.get(at) {
        match byte {
            b',' | b'}' | b']' | b'\n' => break,
            b'"' => at = string_end(text, at),
            b'{' | b'[' => at = container_end(text, at),
            // Behind a colon it is a URL without quotes.
            b'/' if text[..at].last() != Some(&b':') => {
                at = comment_end(text, at).unwrap_or(at + 1);
            }
            _ => at += 1,
        }
    }
    let value = text.get(start..at).unwrap_or_default();
    start + value.trim_ascii_end().len()
}

/// Behind the comments that begin at `start`, as JSON5 has them, and the blanks behind each.
fn behind_comments(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(end) = comment_end(text, at) {
        at = skip_blanks(text, end);
    }
    at
}

fn is_comment(text: &[u8], at: usize) -> bool {
    matches!(text.get(at..), Some([b'/', b'/' | b'*', ..]))
}

/// Behind the comment that begins at `start`, where one does; the end of the text when it is cut.
fn comment_end(text: &[u8], start: usize) -> Option<usize> {
    let rest = text.get(start..).unwrap_or_default();
    let length = match rest {
        [b'/', b'*', inner @ ..] => memmem::find(inner, b"*/").map(|length| 2 + length + 2),
        [b'/', b'/', ..] => line_end(rest),
        _ => return None,
    };
    Some(length.map_or(text.len(), |length| start + length))
}

/// Where the line ends, also as JSON5 has it: at a line or paragraph separator.
fn line_end(text: &[u8]) -> Option<usize> {
    let is_separator = |at: usize| matches!(text.get(at + 1..), Some([0x80, 0xa8 | 0xa9, ..]));
    memchr3_iter(b'\n', b'\r', 0xe2, text).find(|at| text[*at] != 0xe2 || is_separator(*at))
}

/// Behind a string in single quotes; the end of the text when it is cut.
fn quoted_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'\'', b'\\', rest)) {
        at += found;
        if text[at] == b'\'' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Behind the object or the list that begins at `start`; the end of the text when it is cut.
fn container_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    // Where a value or a name may begin, a single quote begins it; elsewhere it is an apostrophe.
    let mut may_begin = false;
    while let Some(byte) = text.get(at) {
        let behind = if may_begin { skip_blanks(text, at) } else { at };
        if behind > at {
            at = behind;
            continue;
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at = match byte {
            b'"' => string_end(text, at),
            b'\'' if may_begin => quoted_end(text, at),
            b'/' => comment_end(text, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if depth == 0 {
            return at;
        }
        may_begin = match byte {
            b'{' | b'[' | b',' | b':' => true,
            b'/' => may_begin,
            _ => false,
        };
    }
    text.len()
}
